//! The outbox: what must follow a commit. It is in the commit, done at once, and done again by the tick if it was not.

use std::time::Duration;

use towpath_engine::{Effect, JobId, JobRef, REDELIVERY, Reason, Run, RunId, Timestamp, Wait};
use towpath_jobs::{Reaped, Unreadable};
use towpath_machine::Sent;
use towpath_store::{Commit, Error as StoreError, Loaded};

use crate::random::{RACES, Races};
use crate::{Error, Ports};

/// Commits, and what follows them: deliveries to drivers, and jobs that must be gone.
#[derive(Clone)]
pub(crate) struct Outbox {
    pub(crate) ports: Ports,
}

/// The longest time that the end of a job may hold up whoever wants it. The tick goes on where this ends.
const REAP: Duration = Duration::from_secs(3);

impl Outbox {
    pub(crate) fn new(ports: Ports) -> Self {
        Self { ports }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ports.now()
    }

    pub(crate) fn races(&self) -> Races {
        self.ports.random.races(RACES)
    }

    /// Commits `after`, which a transition made of `before`, together with its mailbox. Jobs that it wants gone are asked
    /// to end. Returns the run as it now is on record.
    ///
    /// # Errors
    /// A conflict means that nothing was written and the caller is to load and decide again.
    pub(crate) async fn commit(
        &self,
        before: &Loaded,
        mut after: Run,
        wait: Wait,
    ) -> Result<Loaded, Error> {
        after.place_call(self.ports.runtimes.commands());
        let commit = Commit {
            before,
            after: &after,
            wait: &wait,
            now: self.now(),
        };
        let committed = self.ports.store.commit(commit).await?;
        for effect in &after.effects {
            if let Effect::Reap(job) = effect {
                self.reap(job).await;
            }
        }
        Ok(committed)
    }

    /// Delivers what the mailbox holds, and leaves what fails to the tick.
    pub(crate) async fn try_deliver(&self, run: &RunId, wait: Wait) {
        if let Err(error) = self.deliver(run, wait, false).await {
            tracing::warn!(%run, error = error.name(), "a delivery is left to the tick: {error}");
        }
    }

    /// Delivers what the mailbox holds: first the waiting driver is let go, then the next execution is started, if it is
    /// time. `again`: this is not the first time.
    pub(crate) async fn deliver(
        &self,
        run: &RunId,
        mut wait: Wait,
        again: bool,
    ) -> Result<(), Error> {
        let mut gone = false;
        while let (Some(next), Some(token)) = (wait.wake, &wait.token) {
            let sent = self.ports.machine.answer(token, wait.form, next).await?;
            gone = sent == Sent::Gone;
            if !gone {
                break;
            }
            // Gone counts as delivered only while the token that was sent is the one on record.
            match self.ports.store.wait(run).await? {
                Some(stored) if stored.token == wait.token => {
                    wait = stored;
                    break;
                }
                Some(stored) => wait = stored,
                None => return Ok(()),
            }
        }
        let now = self.now();
        if let Some(at) = wait.drive_at {
            if at > now {
                return Ok(());
            }
            self.ports.machine.start(run, wait.generation).await?;
        }
        // A driver that was woken writes the mailbox next. Only where none will, it is on us to say that all is done.
        let held = wait.wake.is_some() || wait.drive_at.is_some();
        if held && (gone || again || wait.reason == Reason::Nothing) {
            match self.ports.store.put_wait(run, &wait.delivered(now)).await {
                Ok(()) | Err(StoreError::Conflict) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Ok(())
    }

    /// Asks a job to end. What does not succeed in a moment is tried again by the tick, until the job is gone.
    pub(crate) async fn reap(&self, job: &JobRef) {
        match self.end(job).await {
            Ok(Reaped::Gone) => {
                if let Err(error) = self.ports.store.reaped(&job.job).await {
                    tracing::warn!(job = %job.job, "the job is gone, but its row is not: {error}");
                }
            }
            Ok(Reaped::Ending) => {}
            Err(Unreadable(why)) => {
                tracing::warn!(job = %job.job, "the job could not be stopped yet: {why}");
            }
        }
    }

    /// Asks a job to end, and says whether it has.
    pub(crate) async fn end(&self, job: &JobRef) -> Result<Reaped, Unreadable> {
        let reap = self.ports.runtimes.reap(&job.runtime, &job.job);
        let slow = |_| Unreadable("its runtime takes long to answer".to_owned());
        tokio::time::timeout(REAP, reap).await.map_err(slow)?
    }

    /// Sees that a job which must be gone is, if its row says so.
    pub(crate) async fn see_to_job(&self, job: &JobId) -> Result<(), Error> {
        let store = &self.ports.store;
        let Some(wanted) = store.reap(job).await? else {
            return Ok(());
        };
        store.reap_later(job, self.now().plus(REDELIVERY)).await?;
        self.reap(&wanted).await;
        Ok(())
    }
}
