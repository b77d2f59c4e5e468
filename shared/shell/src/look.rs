//! Look: a job or a gate may have something to say. The run is woken only if it has, so looking in vain moves no
//! machine.

use towpath_engine::{
    Activity, Checking, FailureKind, JobId, Next, Outcome, Run, RunId, Wait, begin_probe,
};
use towpath_jobs::StartError;
use towpath_store::Loaded;

use crate::fold::{Mailbox, reason};
use crate::work::Observed;
use crate::{App, Error};

/// What a look found.
enum Found {
    /// Nothing that the run need know.
    Nothing,
    /// The run's own driver is to take it from here.
    Wake(Next),
    /// The run changes, but waits on.
    Changed(Box<Run>),
    /// The work that the run waits for was never started.
    NeverStarted,
}

impl App {
    /// Looks at what the run waits for. `about` is the job that something was heard of; without one it is simply time.
    ///
    /// # Errors
    /// If the records or the services cannot be reached; the tick looks again.
    #[tracing::instrument(skip_all, fields(run = %id))]
    pub async fn look(&self, id: &RunId, about: Option<&JobId>) -> Result<(), Error> {
        for conflicts in 1.. {
            let Some(loaded) = self.store.load(id).await? else {
                return Ok(());
            };
            // Of a run whose driver is at work there is nothing to tell anybody.
            let parked = loaded.wait.token.is_some() && loaded.wait.wake.is_none();
            let stale = about.is_some_and(|job| loaded.run.step.live_job() != Some(job));
            if !parked || stale {
                return Ok(());
            }
            match self.look_once(loaded, about.is_some()).await {
                Err(Error::Store(towpath_store::Error::Conflict)) if conflicts < 20 => {
                    crate::drive::pause(conflicts).await;
                }
                other => return other,
            }
        }
        Ok(())
    }

    async fn look_once(&self, loaded: Loaded, heard: bool) -> Result<(), Error> {
        let (id, now) = (loaded.run.head.id.clone(), self.now());
        if loaded.run.head.status.is_terminal() {
            let wait = loaded.wait.over(now);
            self.store.put_wait(&id, &wait).await?;
            return self.deliver(&id, wait, false).await;
        }
        if loaded.run.head.stop.is_some() {
            return self.end_marked(&id).await;
        }
        match self.find(&loaded, heard).await? {
            Found::Nothing if heard => Ok(()),
            Found::Nothing => Ok(self.store.put_wait(&id, &loaded.wait.looked(now)).await?),
            Found::Wake(next) => {
                let wait = loaded.wait.wake(next, now);
                self.store.put_wait(&id, &wait).await?;
                self.deliver(&id, wait, false).await
            }
            Found::Changed(run) => {
                let wait = waits_on(&loaded.wait, &run, now);
                let begun = run.step.live_job() != loaded.run.step.live_job();
                let committed = self.commit(&loaded, *run, Mailbox::Becomes(wait)).await?;
                match begun {
                    true => self.start_late(committed).await,
                    false => Ok(()),
                }
            }
            Found::NeverStarted => self.start_late(loaded).await,
        }
    }

    /// What there is to say.
    async fn find(&self, loaded: &Loaded, heard: bool) -> Result<Found, Error> {
        let run = &loaded.run;
        if reason(run).as_ref() != Some(&loaded.wait.reason) {
            // The run has moved and its driver has not heard of it. That should not happen, and so it must not last.
            tracing::warn!(run = %run.head.id, reason = ?loaded.wait.reason, "the driver waits for something else");
            return Ok(Found::Wake(Next::Advance));
        }
        let mut after = run.clone();
        if let Activity::Checking(Checking { probe: None }) = run.step.activity {
            // Another probe begins when it is time, not when something is heard of the last one.
            if heard {
                return Ok(Found::Nothing);
            }
            begin_probe(&mut after)?;
            return Ok(Found::Changed(Box::new(after)));
        }
        let outcome = match self.observe(&mut after).await? {
            Observed::NeverStarted => return Ok(Found::NeverStarted),
            Observed::Said(outcome) => outcome,
        };
        Ok(match (outcome, &run.step.activity) {
            (same, _) if same == run.outcome() && after == *run => Found::Nothing,
            (Outcome::AwaitingJob { job, .. }, _) if run.step.live_job() == Some(&job) => {
                Found::Changed(Box::new(after))
            }
            (Outcome::AwaitingGate { .. }, _) => Found::Changed(Box::new(after)),
            (_, Activity::Checking(_)) => Found::Wake(Next::PollGate),
            _ => Found::Wake(Next::PollJob),
        })
    }

    /// Starts what the run is committed to and no driver is there to start.
    async fn start_late(&self, loaded: Loaded) -> Result<(), Error> {
        match self.start_work(&loaded.run).await? {
            Ok(()) => Ok(()),
            Err(StartError::NoRoom(why) | StartError::Unavailable(why)) => {
                tracing::warn!(run = %loaded.run.head.id, "a job could not be started yet: {why}");
                Ok(())
            }
            Err(StartError::Refused(error)) => {
                let (mut run, id) = (loaded.run.clone(), loaded.run.head.id.clone());
                self.funnel(
                    &mut run,
                    Outcome::JobFailed {
                        kind: FailureKind::Dispatch,
                        error,
                        detail: None,
                    },
                );
                let wait = loaded.wait.over(self.now());
                let committed = self.commit(&loaded, run, Mailbox::Becomes(wait)).await?;
                self.deliver(&id, committed.wait, false).await
            }
        }
    }
}

/// The same wait, for the run as it now is.
fn waits_on(wait: &Wait, run: &Run, now: towpath_engine::Timestamp) -> Wait {
    let reason = reason(run).unwrap_or_else(|| wait.reason.clone());
    Wait {
        reason,
        ..wait.clone()
    }
    .looked(now)
}
