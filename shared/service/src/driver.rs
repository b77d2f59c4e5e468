//! Driver: what the actions of the state machine do. One invocation goes from action to action, each committed before
//! the next, until the run waits or ends.

use std::time::Duration;

use tokio::time::Instant;
use towpath_engine::{
    CallStatus, Next, Phase, Reason, Run, Stale, Status, Wait, advance, due, hand_over, hold, poll,
    reason, started, stop,
};
use towpath_store::Loaded;

use crate::jobs::{Jobs, Tried};
use crate::outbox::Outbox;
use crate::transition::{apply, begin_next, differ, has_new_call};
use crate::{Entry, Error};

/// Moves runs on, for the executions that drive them.
#[derive(Clone)]
pub struct Driver {
    outbox: Outbox,
    jobs: Jobs,
    entries_limit: u32,
    fold: Duration,
}

/// The way in which an action leaves its invocation.
enum Turn {
    /// There is more to do, on the run as it now is.
    Again(Box<Loaded>),
    /// The run waits, and whoever ends the wait has the token.
    Parked,
    /// The invocation's own token is to be answered.
    Release(Next),
}

/// The number of races that an invocation loses before it leaves the contention to the machine's retry.
const RACES: u32 = 40;

impl Driver {
    pub(crate) fn new(outbox: Outbox, jobs: Jobs, entries_limit: u32, fold: Duration) -> Self {
        Self {
            outbox,
            jobs,
            entries_limit,
            fold,
        }
    }

    /// Drives a run on for the execution that asks, until it waits, ends, or time is short.
    ///
    /// # Errors
    /// An error that is worth another invocation has a name that the machine's Retry knows; any other is caught, and
    /// handed to [`Settler`](crate::Settler).
    #[tracing::instrument(skip_all, fields(run = %entry.run, generation = entry.generation))]
    pub async fn drive(&self, entry: &Entry) -> Result<(), Error> {
        let until = Instant::now() + self.fold;
        let mut races = self.outbox.ports.random.races(RACES);
        let mut loaded: Option<Box<Loaded>> = None;
        loop {
            let turn = match loaded.take() {
                None => self.enter(entry).await,
                Some(_) if Instant::now() >= until => Ok(Turn::Release(Next::Advance)),
                Some(loaded) => self.turn(entry, *loaded).await,
            };
            if races.again(&turn).await {
                continue;
            }
            match turn? {
                Turn::Again(next) => loaded = Some(next),
                Turn::Parked => return Ok(()),
                Turn::Release(next) => {
                    // Gone means that the machine has moved on without us, which is as good.
                    let (token, form) = (entry.token.as_str(), entry.form);
                    self.outbox.ports.machine.answer(token, form, next).await?;
                    return Ok(());
                }
            }
        }
    }

    /// Loads the run and sees whether this invocation still has anything to say.
    async fn enter(&self, entry: &Entry) -> Result<Turn, Error> {
        let ports = &self.outbox.ports;
        let Some(loaded) = ports.store.load(&entry.run).await? else {
            return Ok(Turn::Release(Next::Over));
        };
        let (head, wait, token) = (&loaded.run.head, &loaded.wait, entry.token.as_str());
        if wait.is_older(entry.fence(), token) {
            // By its time a later entry of this execution has the run. Then our token is dead; if it is not, the clock
            // that gave the times went back, and we are the driver.
            if !ports.machine.is_live(token).await? {
                return Ok(Turn::Parked);
            }
            tracing::warn!(run = %entry.run, "the clock of the machine went back");
        }
        if head.generation != entry.generation || head.status.is_terminal() {
            return Ok(Turn::Release(Next::Over));
        }
        let entered_before = wait.fence == Some(entry.fence());
        if head.stop.is_none() && wait.entries >= self.entries_limit && !entered_before {
            return self.give_over(&loaded).await;
        }
        let retried = entry.retry > 0 && !wait.retrying && wait.token.as_deref() != Some(token);
        if head.stop.is_none() && retried {
            // The invocation before this one failed, so the token it may have stored is dead.
            let noted = wait.retried(self.outbox.now());
            ports.store.put_wait(&entry.run, &noted).await?;
            let mut loaded = loaded;
            loaded.wait = noted;
            return self.turn(entry, loaded).await;
        }
        self.turn(entry, loaded).await
    }

    /// Hands the run to its next execution, long before this one is full.
    async fn give_over(&self, loaded: &Loaded) -> Result<Turn, Error> {
        let mut run = loaded.run.clone();
        hand_over(&mut run);
        let wait = loaded.wait.without_driver();
        let wait = wait.hand_over(run.head.generation, Duration::ZERO, self.outbox.now());
        let committed = self.outbox.commit(loaded, run, wait).await?;
        let id = &committed.run.head.id;
        self.outbox.try_deliver(id, committed.wait).await;
        Ok(Turn::Release(Next::Handover))
    }

    /// One action.
    async fn turn(&self, entry: &Entry, loaded: Loaded) -> Result<Turn, Error> {
        let (run, now) = (&loaded.run, self.outbox.now());
        if let Some(mark) = &run.head.stop {
            let mut stopped = run.clone();
            stop(&mut stopped, mark, now);
            return self.end(&loaded, stopped).await;
        }
        let store = &self.outbox.ports.store;
        let after = match (run.head.status, &run.step.phase) {
            (Status::Done | Status::Failed, _) => return Ok(Turn::Release(Next::Over)),
            (Status::Blocked, Phase::Asking(asked)) if asked.call.is_some() => {
                let status = self.jobs.look_at_asking(run).await;
                let status = self.jobs.keep_artifacts(run, status).await?;
                self.polled(run, status).await?
            }
            (Status::Blocked | Status::Paused, _) => return self.park(entry, &loaded).await,
            (Status::Running, Phase::Calling(_)) => return self.call(entry, loaded, false).await,
            (Status::Running, Phase::Resting(_)) => {
                apply(store, run, |run| {
                    let outcome = due(run, now)?;
                    begin_next(run, outcome, now)
                })
                .await?
            }
            (Status::Running, Phase::Pending | Phase::Asking(_) | Phase::Done) => {
                apply(store, run, |run| {
                    let outcome = advance(run, now)?;
                    begin_next(run, outcome, now)
                })
                .await?
            }
        };
        self.fold(entry, loaded, after).await
    }

    /// Moves the run's call on: starts it, or folds in what became of it. `fresh` says that it was not started before.
    async fn call(&self, entry: &Entry, loaded: Loaded, fresh: bool) -> Result<Turn, Error> {
        let now = self.outbox.now();
        if let Some(call) = loaded.run.step.call()
            && call.held.as_ref().is_some_and(|held| now < held.until)
            && !self.jobs.is_known(call).await
        {
            return self.park(entry, &loaded).await;
        }
        let mut run = loaded.run.clone();
        let after = match self.jobs.try_call(&mut run, fresh).await? {
            Tried::Started => {
                started(&mut run);
                run
            }
            Tried::Held { pause, why } => {
                hold(&mut run, pause, &why, now)?;
                run
            }
            Tried::Is(status) => {
                let status = self.jobs.keep_artifacts(&run, status).await?;
                self.polled(&run, status).await?
            }
        };
        self.fold(entry, loaded, after).await
    }

    async fn polled(&self, run: &Run, status: CallStatus) -> Result<Run, Error> {
        let now = self.outbox.now();
        apply(&self.outbox.ports.store, run, |run| {
            let outcome = poll(run, status.clone(), now)?;
            begin_next(run, outcome, now)
        })
        .await
    }

    /// Commits what an action made of the run, and goes on from there.
    async fn fold(&self, entry: &Entry, before: Loaded, after: Run) -> Result<Turn, Error> {
        if !differ(&before.run, &after) {
            return self.park(entry, &before).await;
        }
        if after.head.status.is_terminal() {
            return self.end(&before, after).await;
        }
        let new_call = has_new_call(&before.run, &after);
        let goes_on = new_call && self.jobs.is_inline(&after);
        let Some(reason) = reason(&after).filter(|_| !goes_on) else {
            let wait = before.wait.driven_on(self.outbox.now());
            let committed = self.outbox.commit(&before, after, wait).await?;
            return Ok(Turn::Again(Box::new(committed)));
        };
        let wait = match self.begin(entry, &before, reason).await? {
            Ok(wait) => wait,
            Err(stale) => return Ok(left(stale)),
        };
        // The token is durable before the job exists, so the job's end always finds somebody to wake.
        let committed = self.outbox.commit(&before, after, wait).await?;
        match new_call {
            // One call leads to another only when the first has been made: this ends when a call is waited for.
            true => Box::pin(self.call(entry, committed, true)).await,
            false => Ok(Turn::Parked),
        }
    }

    /// Commits the end of the run.
    async fn end(&self, before: &Loaded, after: Run) -> Result<Turn, Error> {
        // The driver is this very invocation, and if it dies the machine's retry will find the run over.
        let wait = before.wait.without_driver().over(self.outbox.now());
        self.outbox.commit(before, after, wait).await?;
        Ok(Turn::Release(Next::Over))
    }

    /// The mailbox of a run that begins to wait for this. An entry that is older by its time may begin the wait all the
    /// same, if its token is live.
    async fn begin(
        &self,
        entry: &Entry,
        loaded: &Loaded,
        reason: Reason,
    ) -> Result<Result<Wait, Stale>, Error> {
        let (wait, token, now) = (&loaded.wait, entry.token.as_str(), self.outbox.now());
        let (fence, form) = (entry.fence(), entry.form);
        match wait.begin(fence, token, form, reason.clone(), now) {
            Err(Stale::Superseded) if self.outbox.ports.machine.is_live(token).await? => {
                Ok(wait.begin_proven(fence, token, form, reason, now))
            }
            begun => Ok(begun),
        }
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
                let store = &self.outbox.ports.store;
                store.put_wait(&loaded.run.head.id, &wait).await?;
                Ok(Turn::Parked)
            }
            Err(stale) => Ok(left(stale)),
        }
    }
}

/// The way in which an invocation ends that is not the driver any more.
fn left(stale: Stale) -> Turn {
    match stale {
        Stale::Superseded => Turn::Parked,
        Stale::OtherGeneration => Turn::Release(Next::Over),
    }
}
