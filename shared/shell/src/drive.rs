//! Drive: what the actions of the state machine do. One invocation goes from action to action, each committed before
//! the next, until the run waits or ends.

use std::time::Duration;

use tokio::time::Instant;
use towpath_engine::{
    Activity, Checking, FailureKind, Next, Outcome, Reason, Run, Stale, Status, Wait, advance,
    begin_probe, hand_over, record, stop_marked,
};
use towpath_jobs::StartError;
use towpath_store::Loaded;

use crate::fold::{Mailbox, reason};
use crate::work::Observed;
use crate::{App, Entry, Error, simulated};

/// Where an action leaves its invocation.
enum Turn {
    /// There is more to do, on the run as it now is.
    Again(Box<Loaded>),
    /// The run waits, and whoever ends the wait has the token.
    Parked,
    /// The invocation's own token is to be sent.
    Release(Next),
}

/// How often an invocation loads again before it leaves the contention to the machine's retry.
const CONFLICTS: u32 = 40;

impl App {
    /// Drives a run on for the execution that asks, until it waits, ends, or time is short.
    ///
    /// # Errors
    /// Whatever is worth another invocation, by a name the machine's Retry knows; or a fault of our own, which its
    /// Catch hands to [`App::settle`].
    #[tracing::instrument(skip_all, fields(run = %entry.run, generation = entry.generation))]
    pub async fn drive(&self, entry: &Entry) -> Result<(), Error> {
        let until = Instant::now() + self.fold;
        let (mut loaded, mut conflicts): (Option<Box<Loaded>>, u32) = (None, 0);
        loop {
            let turn = match loaded.take() {
                None => self.enter(entry).await,
                Some(_) if Instant::now() >= until => Ok(Turn::Release(Next::Advance)),
                Some(loaded) => self.turn(entry, *loaded).await,
            };
            match turn {
                Ok(Turn::Again(next)) => loaded = Some(next),
                Ok(Turn::Parked) => return Ok(()),
                Ok(Turn::Release(next)) => {
                    // Gone means that the machine has moved on without us, which is as good.
                    self.send(entry.token.as_str(), entry.form, next).await?;
                    return Ok(());
                }
                Err(Error::Store(towpath_store::Error::Conflict)) if conflicts < CONFLICTS => {
                    conflicts += 1;
                    pause(conflicts).await;
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Loads the run and sees whether this invocation still has anything to say.
    async fn enter(&self, entry: &Entry) -> Result<Turn, Error> {
        let Some(loaded) = self.store.load(&entry.run).await? else {
            return Ok(Turn::Release(Next::Succeed));
        };
        let newer = loaded.wait.fence.is_some_and(|held| held > entry.fence());
        let own = loaded.wait.token.as_deref() == Some(entry.token.as_str());
        if loaded.run.head.generation == entry.generation && newer && !own {
            // By its time a later entry of this execution has the run. Then our token is dead; if it is not, the clock
            // that gave the times went back, and we are the driver.
            if !self.is_live(entry.token.as_str()).await? {
                return Ok(Turn::Parked);
            }
            tracing::warn!(run = %entry.run, "the clock of the machine went back");
        }
        if loaded.run.head.generation != entry.generation || loaded.run.head.status.is_terminal() {
            return Ok(Turn::Release(Next::Succeed));
        }
        if loaded.run.head.stop.is_some() {
            return self.turn(entry, loaded).await;
        }
        let entered_before = loaded.wait.fence == Some(entry.fence());
        if loaded.wait.entries >= self.entries_limit && !entered_before {
            return self.give_over(&loaded).await;
        }
        self.turn(entry, loaded).await
    }

    /// Hands the run to its next execution, long before this one is full.
    async fn give_over(&self, loaded: &Loaded) -> Result<Turn, Error> {
        let mut run = loaded.run.clone();
        hand_over(&mut run);
        let wait = loaded
            .wait
            .without_driver()
            .hand_over(run.head.generation, self.now());
        let committed = self.commit(loaded, run, Mailbox::Becomes(wait)).await?;
        self.try_deliver(&committed.run.head.id, committed.wait)
            .await;
        Ok(Turn::Release(Next::Handover))
    }

    /// One action.
    async fn turn(&self, entry: &Entry, loaded: Loaded) -> Result<Turn, Error> {
        let now = self.now();
        let mut run = loaded.run.clone();
        if run.head.stop.is_some() {
            stop_marked(&mut run, now);
            return self.end(&loaded, run).await;
        }
        let outcome = match (run.head.status, run.step.activity.clone()) {
            (Status::Done | Status::Failed, _) => return Ok(Turn::Release(Next::Succeed)),
            (Status::Blocked | Status::Paused, _) => return self.park(entry, &loaded).await,
            (Status::Running, Activity::Inline) => match simulated::agent(&run)? {
                Ok(answer) => record(&mut run, answer, now)?,
                Err(error) => Outcome::JobFailed {
                    kind: FailureKind::Agent,
                    error,
                    detail: None,
                },
            },
            (Status::Running, Activity::Checking(Checking { probe: None })) => {
                begin_probe(&mut run)?
            }
            (Status::Running, Activity::Job(_) | Activity::Checking(_)) => {
                match self.observe(&mut run).await? {
                    Observed::NeverStarted => return self.start(entry, loaded).await,
                    Observed::Said(outcome) => outcome,
                }
            }
            (
                Status::Running,
                Activity::Pending
                | Activity::Done
                | Activity::Deciding { .. }
                | Activity::Approving { .. },
            ) => advance(&mut run, now)?,
        };
        self.funnel(&mut run, outcome);
        if run.head.status == Status::Running && run.step.activity == Activity::Pending {
            // A step's end and the intent of the next are one commit: half the writes, and one crash less to think of.
            advance(&mut run, now)?;
        }
        self.fold(entry, loaded, run).await
    }

    /// Commits what an action made of the run, and goes on from there.
    async fn fold(&self, entry: &Entry, before: Loaded, run: Run) -> Result<Turn, Error> {
        if run == before.run {
            return self.park(entry, &before).await;
        }
        if run.head.status.is_terminal() {
            return self.end(&before, run).await;
        }
        let Some(reason) = reason(&run) else {
            let committed = self.commit(&before, run, Mailbox::Stays).await?;
            return Ok(Turn::Again(Box::new(committed)));
        };
        let wait = match self.begin(entry, &before, reason).await? {
            Ok(wait) => wait,
            Err(Stale::Superseded) => return Ok(Turn::Parked),
            Err(Stale::OtherGeneration) => return Ok(Turn::Release(Next::Succeed)),
        };
        let dispatched =
            run.step.live_job() != before.run.step.live_job() && run.step.live_job().is_some();
        // The token is durable before the job exists, so the job's end always finds somebody to wake.
        let committed = self.commit(&before, run, Mailbox::Becomes(wait)).await?;
        match dispatched {
            true => self.start(entry, committed).await,
            false => Ok(Turn::Parked),
        }
    }

    /// Starts the job or probe that the run is committed to, and parks.
    async fn start(&self, entry: &Entry, loaded: Loaded) -> Result<Turn, Error> {
        match self.start_work(&loaded.run).await? {
            Ok(()) => self.park(entry, &loaded).await,
            // It waits for the job all the same: each look at it finds that it was never started, and tries again.
            Err(StartError::NoRoom(why)) => {
                tracing::warn!(run = %loaded.run.head.id, "there is no room for a job yet: {why}");
                self.park(entry, &loaded).await
            }
            Err(StartError::Unavailable(why)) => {
                tracing::warn!(run = %loaded.run.head.id, "a job could not be started yet: {why}");
                Err(Error::Unavailable("the job's runtime"))
            }
            Err(StartError::Refused(error)) => {
                let mut run = loaded.run.clone();
                self.funnel(
                    &mut run,
                    Outcome::JobFailed {
                        kind: FailureKind::Dispatch,
                        error,
                        detail: None,
                    },
                );
                self.end(&loaded, run).await
            }
        }
    }

    /// Commits the end of the run.
    async fn end(&self, before: &Loaded, run: Run) -> Result<Turn, Error> {
        // The driver is this very invocation, and if it dies the machine's retry will find the run over.
        let wait = before.wait.without_driver().over(self.now());
        self.commit(before, run, Mailbox::Becomes(wait)).await?;
        Ok(Turn::Release(Next::Succeed))
    }

    /// The mailbox of a run that begins to wait for this. An entry that is older by its time may begin the wait all the
    /// same, if its token is live.
    async fn begin(
        &self,
        entry: &Entry,
        loaded: &Loaded,
        reason: Reason,
    ) -> Result<Result<Wait, Stale>, Error> {
        let (wait, token, now) = (&loaded.wait, entry.token.as_str(), self.now());
        let begun = match wait.begin(entry.fence(), token, reason.clone(), now) {
            Err(Stale::Superseded) if self.is_live(token).await? => {
                wait.begin_proven(entry.fence(), token, reason, now)
            }
            other => other,
        };
        Ok(begun.map(|wait| Wait {
            form: entry.form,
            ..wait
        }))
    }

    /// Begins the wait that the run is in, unless this entry has done so already.
    async fn park(&self, entry: &Entry, loaded: &Loaded) -> Result<Turn, Error> {
        let Some(reason) = reason(&loaded.run) else {
            return Ok(Turn::Again(Box::new(loaded.clone())));
        };
        let stored = loaded.wait.token.as_deref() == Some(entry.token.as_str());
        if stored && loaded.wait.reason == reason && loaded.wait.wake.is_none() {
            return Ok(Turn::Parked);
        }
        match self.begin(entry, loaded, reason).await? {
            Ok(wait) => {
                self.store.put_wait(&loaded.run.head.id, &wait).await?;
                Ok(Turn::Parked)
            }
            Err(Stale::Superseded) => Ok(Turn::Parked),
            Err(Stale::OtherGeneration) => Ok(Turn::Release(Next::Succeed)),
        }
    }
}

/// A little longer after each conflict, and never the same for two who met.
pub(crate) async fn pause(conflicts: u32) {
    let spread = ulid::Ulid::new().random() % u128::from(4 * conflicts.min(16) + 1);
    tokio::time::sleep(Duration::from_millis(u64::try_from(spread).unwrap_or(4))).await;
}
