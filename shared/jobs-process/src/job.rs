//! A job that a supervisor has accepted: its folder and lock, and the process groups that work for it.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use towpath_jobs::{JobSnapshot, error_class};

use crate::error::{Error, Failure};
use crate::folder::{Folder, Found, Lock, State};
use crate::group::{Ended, Group, Launch, LaunchError};
use crate::mask::Masks;
use crate::order::Order;
use crate::owner::Owner;

/// How often the request to stop is looked for. A file that stays cannot be missed, as a signal can.
const STOP_LOOK: Duration = Duration::from_millis(200);
/// The longest pause between two tries to record an end.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long what a command left running may tidy up once the command itself has ended.
const LEFTOVER_GRACE: Duration = Duration::from_secs(5);

/// A job that this process supervises.
pub(crate) struct Job {
    pub(crate) folder: Folder,
    /// Held until this process ends, however it does.
    _lock: Lock,
    state: State,
    /// What nothing that is kept may show.
    pub(crate) masks: Masks,
    grace: Duration,
    max_run: Duration,
    /// `None`: the deadline is further away than an `Instant` can tell.
    deadline: Option<Instant>,
    /// The process that the job ends with, if it does not outlive the cloud it was started in.
    owner: Option<Owner>,
}

impl Job {
    /// Accepts the job, unless it was accepted or stopped before. Once this has returned a job, it is on disk as
    /// accepted.
    pub(crate) fn accept(folder: Folder, order: &Order) -> Result<Option<Self>, Error> {
        let lock = loop {
            if let Some(lock) = folder.try_lock()? {
                break lock;
            }
            if folder.accepted() {
                return Ok(None);
            }
            // Another supervisor is about to accept it, or someone looks at the folder. Either takes a moment.
            std::thread::sleep(Duration::from_millis(5));
        };
        // The second question is for a tombstone that whoever wrote it has not made an end of yet.
        if folder.accepted() || !matches!(folder.settle(&lock)?, Found::Nothing) {
            return Ok(None);
        }
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let state = State {
            supervisor: std::process::id(),
            accepted_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
            running: false,
            group: None,
        };
        folder.accept(&state)?;
        Ok(Some(Self {
            owner: Owner::of(folder.path()),
            folder,
            _lock: lock,
            state,
            masks: Masks::of(&order.secrets),
            grace: order.grace,
            max_run: order.max_run,
            deadline: Instant::now().checked_add(order.max_run),
        }))
    }

    /// Notes that the next process group is the command itself.
    pub(crate) fn prepared(&mut self) {
        self.state.running = true;
    }

    /// Runs one process group to its end, or to the end of the job, and leaves no process of the group alive.
    pub(crate) fn run(
        &mut self,
        launch: &Launch,
        logs: Option<(&Path, &Path)>,
    ) -> Result<Ended, Failure> {
        if let Some((failure, _)) = self.interruption() {
            return Err(failure);
        }
        let group = self.start(launch, logs)?;
        let interruption = loop {
            let left = self
                .deadline
                .map_or(STOP_LOOK, |at| at.saturating_duration_since(Instant::now()));
            if group.exited_within(left.min(STOP_LOOK)) {
                break None;
            }
            if let Some(interruption) = self.interruption() {
                break Some(interruption);
            }
        };
        let grace = interruption
            .as_ref()
            .map_or(self.grace.min(LEFTOVER_GRACE), |(_, grace)| *grace);
        let ended = group.end(grace);
        self.state.group = None;
        if !self.folder.has_records() {
            return Err(robbed());
        }
        if let Err(error) = self.folder.note(&self.state) {
            complain(&error.to_string());
        }
        interruption.map_or(Ok(ended), |(failure, _)| Err(failure))
    }

    fn start(&mut self, launch: &Launch, logs: Option<(&Path, &Path)>) -> Result<Group, Failure> {
        let started = Group::start(launch, logs, &self.masks, |identity| {
            self.state.group = Some(identity.clone());
            self.folder.note(&self.state)
        });
        started.map_err(|error| {
            let program = &launch.program;
            Failure::start(match error {
                LaunchError::Program(why) => {
                    format!("the command {program:?} could not be started: {why}")
                }
                LaunchError::Other(error) => {
                    format!("the command {program:?} was not started: {error}")
                }
            })
        })
    }

    /// The failure by which the job must end now, and the grace it is given.
    fn interruption(&self) -> Option<(Failure, Duration)> {
        if !self.folder.has_records() {
            return Some((robbed(), Duration::ZERO));
        }
        if self.owner.as_ref().is_some_and(Owner::is_gone) {
            return Some((Failure::stopped(), self.grace.min(LEFTOVER_GRACE)));
        }
        match self.folder.stop_asked() {
            Ok(Some(stop)) => return Some((Failure::stopped(), stop.grace)),
            Ok(None) => {}
            // Whatever stands in the file, it is a request to stop.
            Err(Error::Record { .. }) => return Some((Failure::stopped(), self.grace)),
            // The next look will tell.
            Err(_) => {}
        }
        let late = self.deadline.is_some_and(|at| at <= Instant::now());
        late.then(|| {
            let message = format!(
                "the job ran longer than the {:?} that it may run",
                self.max_run
            );
            (Failure::new(error_class::TIMED_OUT, message), self.grace)
        })
    }

    /// Records the end of the job, however long it takes until that is possible: an end that is not on record would be
    /// taken for an eviction, and its work be done again. Returns an error if there is no place for it any more.
    pub(crate) fn end(&self, snapshot: &JobSnapshot) -> Result<(), Error> {
        let mut pause = STOP_LOOK;
        loop {
            let Err(error) = self.folder.end(snapshot) else {
                return Ok(());
            };
            if !self.folder.has_root() || self.owner.as_ref().is_some_and(Owner::is_gone) {
                return Err(error);
            }
            complain(&format!(
                "the end of the job cannot be recorded yet: {error}"
            ));
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Removes the folder of a job whose owner is gone: nobody will.
    pub(crate) fn leave(&self) {
        if let Some(owner) = self.owner.as_ref().filter(|owner| owner.is_gone()) {
            let _ = std::fs::remove_dir_all(self.folder.path());
            let _ = std::fs::remove_file(self.folder.sign());
            owner.clear();
        }
    }
}

/// The failure of a job whose command has deleted the job's records.
fn robbed() -> Failure {
    Failure::new(
        error_class::ANSWER_REFUSED,
        "the command deleted the folder of its own job; it may change what is in its work directory",
    )
}

/// Writes a line into the supervisor's log. If that is impossible (the disk is full), the job goes on all the same.
pub(crate) fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}
