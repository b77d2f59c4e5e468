//! The supervisor: the process that takes one job, sees it through, and writes down how it ended.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use towpath_runtime::{Answer, JobSnapshot, JobStatus, error_class};

use crate::checkout::WorkingCopy;
use crate::error::{ANSWER_REFUSED, Error, Failure};
use crate::folder::{Durable, Folder, Lock, State, make_dir, write_json};
use crate::group::{self, Ended, Group, Launch, LaunchError};
use crate::job::{Order, inherited};
use crate::output::last_words;

/// What a supervisor says when it has taken the job: from then on it is known, whatever happens.
pub(crate) const TAKEN: &str = "taken";
/// What it says when the job was taken before.
pub(crate) const KNOWN: &str = "known";

/// The largest answer, in bytes.
const ANSWER_MAX: u64 = 4 * 1024 * 1024;
/// How much of the end of the standard error goes into a message, in bytes.
pub(crate) const WORDS_MAX: usize = 2 * 1024;
/// How often the request to stop is looked for. A file that stays cannot be missed, as a signal can.
const STOP_LOOK: Duration = Duration::from_millis(200);
/// How long what a command left running may tidy up once the command itself has ended.
const LEFTOVER_GRACE: Duration = Duration::from_secs(5);

/// Supervises the job whose folder is `dir`: reads its specification from standard input, says on standard output
/// whether it took the job, and returns when the job is over. The program calls this for `supervise --dir DIR`.
pub fn supervise(dir: &Path) -> ExitCode {
    if group::is_launcher() {
        return group::launcher();
    }
    // Away from the terminal and the caller's group, whose Ctrl-C is not for us. Fails only for the leader of a group,
    // which is out of reach already.
    let _ = rustix::process::setsid();
    let folder = Folder::new(dir.to_owned());
    let (word, taken) = match read_order()
        .and_then(|order| Ok(take(folder, &order)?.map(|taken| (taken, order))))
    {
        Ok(Some(taken)) => (TAKEN.to_owned(), Some(taken)),
        Ok(None) => (KNOWN.to_owned(), None),
        Err(error) => (error.to_string(), None),
    };
    let refused = word != TAKEN && word != KNOWN;
    // The caller may be gone by now; the job is ours all the same.
    let _ = writeln!(io::stdout(), "{word}");
    match taken {
        Some((supervisor, order)) => supervisor.see_through(order),
        None if refused => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    }
}

fn read_order() -> Result<Order, Error> {
    let mut bytes = Vec::new();
    let read = io::stdin().read_to_end(&mut bytes);
    read.map_err(Error::file("read", Path::new("the standard input")))?;
    // The parser's words might quote a secret.
    serde_json::from_slice(&bytes).map_err(|_| Error::BrokenOrder)
}

/// Takes the job if nobody ever did. When this returns a supervisor, the job is on disk as taken.
fn take(folder: Folder, order: &Order) -> Result<Option<Supervisor>, Error> {
    let lock = loop {
        if let Some(lock) = folder.try_lock()? {
            break lock;
        }
        if folder.accepted() {
            return Ok(None);
        }
        // Another supervisor is about to take it, or someone looks at the folder. Either is a matter of moments.
        std::thread::sleep(Duration::from_millis(5));
    };
    if folder.accepted() {
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
    Ok(Some(Supervisor {
        folder,
        _lock: lock,
        state,
        grace: order.grace,
        max_run: order.max_run,
        deadline: Instant::now().checked_add(order.max_run),
    }))
}

/// One job, taken.
pub(crate) struct Supervisor {
    pub(crate) folder: Folder,
    /// Held until this process ends, however it does.
    _lock: Lock,
    state: State,
    grace: Duration,
    max_run: Duration,
    /// `None`: too far away to be told.
    deadline: Option<Instant>,
}

impl Supervisor {
    fn see_through(mut self, order: Order) -> ExitCode {
        let end = self.conduct(&order).unwrap_or_else(Failure::snapshot);
        match self.folder.end(&end) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Into the supervisor's log. The job will read as evicted, which is what it comes to.
                complain(&format!("the job's end is lost: {error}"));
                ExitCode::FAILURE
            }
        }
    }

    fn conduct(&mut self, order: &Order) -> Result<JobSnapshot, Failure> {
        let Some((program, args)) = order.command.split_first() else {
            return Err(Failure::new(
                error_class::START_FAILED,
                "the job has no command",
            ));
        };
        let unprepared = |error: Error| Failure::new(error_class::START_FAILED, error.to_string());
        make_dir(&self.folder.work()).map_err(unprepared)?;
        write_json(&self.folder.context(), &order.context, Durable::No).map_err(unprepared)?;

        let mut env = inherited(&[]);
        // A git that finds no repository in its directory must not go up and find the user's own around the folder.
        env.insert(
            "GIT_CEILING_DIRECTORIES".to_owned(),
            text(self.folder.path())?,
        );
        env.extend(order.env.clone());
        env.insert("TOWPATH_CONTEXT".to_owned(), text(&self.folder.context())?);
        env.insert("TOWPATH_OUTPUT".to_owned(), text(&self.folder.output())?);
        env.insert("TOWPATH_JOB_ID".to_owned(), order.job.to_string());
        env.insert("TOWPATH_RUN_ID".to_owned(), order.job.run().to_string());
        let copy = match &order.checkout {
            Some(checkout) => Some(WorkingCopy::make(self, checkout, order)?),
            None => None,
        };
        if let Some(copy) = &copy {
            env.extend(copy.env());
        }

        self.state.running = true;
        let launch = Launch {
            program: program.clone(),
            args: args.to_vec(),
            env,
            dir: self.folder.work(),
        };
        let (stdout, stderr) = (self.folder.stdout(), self.folder.stderr());
        let ended = self.attend(&launch, Some((&stdout, &stderr)))?;
        let exit_code = ended.status.and_then(|status| status.code());
        let end = match self.judge(&ended) {
            Ok(answer) => {
                let published = match copy {
                    Some(copy) => copy.publish(self, order),
                    None => Ok(()),
                };
                let end = published.map_or_else(Failure::snapshot, |()| {
                    JobSnapshot::of(JobStatus::Terminated)
                });
                JobSnapshot {
                    answer: Some(answer),
                    ..end
                }
            }
            Err(failure) => {
                if let Some(copy) = copy {
                    copy.note_head(self);
                }
                // A command that failed may still have said why.
                JobSnapshot {
                    answer: answer(&self.folder).ok(),
                    ..failure.snapshot()
                }
            }
        };
        Ok(JobSnapshot { exit_code, ..end })
    }

    /// What the command's end means: its answer, or why it failed.
    fn judge(&self, ended: &Ended) -> Result<Answer, Failure> {
        let said = last_words(&ended.stderr, WORDS_MAX);
        let said = if said.is_empty() {
            said
        } else {
            format!(": {said}")
        };
        let Some(status) = ended.status else {
            return Err(Failure::new(
                error_class::SIGNAL,
                "the command could not be killed; it is stuck in the kernel",
            ));
        };
        match (status.code(), status.signal()) {
            (Some(0), _) => answer(&self.folder),
            (Some(code), _) => Err(Failure::new(
                error_class::EXIT_CODE,
                format!("the command ended with exit code {code}{said}"),
            )),
            (None, signal) => {
                let signal =
                    signal.map_or("a signal".to_owned(), |number| format!("signal {number}"));
                Err(Failure::new(
                    error_class::SIGNAL,
                    format!("the command was ended by {signal}{said}"),
                ))
            }
        }
    }

    /// Runs one process group to its end, or to the job's, and leaves nobody of it alive.
    pub(crate) fn attend(
        &mut self,
        launch: &Launch,
        logs: Option<(&Path, &Path)>,
    ) -> Result<Ended, Failure> {
        if let Some((failure, _)) = self.interruption() {
            return Err(failure);
        }
        let started = Group::start(launch, logs, |identity| {
            self.state.group = Some(identity.clone());
            self.folder.note(&self.state)
        });
        let group = started.map_err(|error| {
            let message = match error {
                LaunchError::Program(why) => format!(
                    "the command {:?} could not be started: {why}",
                    launch.program
                ),
                LaunchError::Other(error) => {
                    format!("the command {:?} was not started: {error}", launch.program)
                }
            };
            Failure::new(error_class::START_FAILED, message)
        })?;
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
        if let Err(error) = self.folder.note(&self.state) {
            complain(&error.to_string());
        }
        interruption.map_or(Ok(ended), |(failure, _)| Err(failure))
    }

    /// Why the job must end now, and how long it may take to.
    fn interruption(&self) -> Option<(Failure, Duration)> {
        match self.folder.stop_asked() {
            Ok(Some(stop)) => return Some((Failure::stopped(), stop.grace)),
            Ok(None) => {}
            // Somebody wrote something there: it is a request to stop, whatever else it says.
            Err(Error::Record { .. }) => return Some((Failure::stopped(), self.grace)),
            // The next look will tell.
            Err(_) => {}
        }
        let late = self.deadline.is_some_and(|at| at <= Instant::now());
        late.then(|| {
            let message = format!("it ran longer than the {:?} it may", self.max_run);
            (Failure::new(error_class::TIMED_OUT, message), self.grace)
        })
    }
}

/// Says something in the supervisor's log. Where that is impossible (the disk is full) the job goes on all the same.
fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// A path as it goes into an environment.
fn text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let message = format!(
            "the path {} is not UTF-8; choose another folder for jobs",
            path.display()
        );
        Failure::new(error_class::START_FAILED, message)
    })
}

fn answer(folder: &Folder) -> Result<Answer, Failure> {
    let path = folder.output();
    let refused = |why: &str| {
        Failure::new(
            ANSWER_REFUSED,
            format!("the answer file $TOWPATH_OUTPUT {why}"),
        )
    };
    match fs::metadata(&path) {
        // Asked before opening: opening a pipe would wait for a writer.
        Ok(meta) if !meta.is_file() => return Err(refused("is not a file")),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Answer::Stdout(printed(folder)));
        }
        Err(error) => return Err(refused(&format!("cannot be read: {error}"))),
    }
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(ANSWER_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| refused(&format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > ANSWER_MAX {
        return Err(refused(
            "is larger than 4 MiB; answer with a reference to what is large",
        ));
    }
    String::from_utf8(bytes)
        .map(Answer::File)
        .map_err(|_| refused("is not UTF-8"))
}

/// All that the command printed, or nothing if that is more than an answer may be: the log has it, and an output that
/// was cut would look like one that was not.
fn printed(folder: &Folder) -> String {
    let log = folder.stdout();
    let fits = fs::metadata(&log).is_ok_and(|log| log.len() <= ANSWER_MAX);
    let bytes = if fits {
        fs::read(&log).unwrap_or_default()
    } else {
        Vec::new()
    };
    String::from_utf8_lossy(&bytes).into_owned()
}
