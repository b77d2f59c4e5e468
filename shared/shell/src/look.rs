//! Look: a job or a gate may have something to say. The run is woken only if it has, so looking in vain moves no
//! machine.

use towpath_engine::{
    Activity, FailureKind, GateAnswer, JobAnswer, JobId, Next, Outcome, Run, RunId, Status, Wait,
    begin_probe, poll_gate, poll_job,
};
use towpath_runtime::{Fate, SubstrateError, gate_answer, job_answer};
use towpath_store::Loaded;

use crate::fold::{Mailbox, reason};
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
    pub async fn look(&self, id: &RunId, about: Option<&JobId>) -> Result<(), Error> {
        for conflicts in 1.. {
            let Some(loaded) = self.store.load(id).await? else {
                return Ok(());
            };
            // Of a run that is over, or whose driver is at work, there is nothing to tell anybody.
            let parked = loaded.wait.token.is_some() && loaded.wait.wake.is_none();
            let stale = about.is_some_and(|job| loaded.run.step.live_job() != Some(job));
            if loaded.run.head.status != Status::Running || !parked || stale {
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
        match self.find(&loaded.run, heard).await? {
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
    async fn find(&self, run: &Run, heard: bool) -> Result<Found, Error> {
        let now = self.now();
        let mut after = run.clone();
        Ok(match &run.step.activity {
            Activity::Job(job) => match self.substrates.fate(run.spec()?, &job.id).await {
                Fate::NeverStarted => Found::NeverStarted,
                Fate::Unreadable(error) => {
                    match poll_job(&mut after, JobAnswer::Unreadable(error), now)? {
                        Outcome::AwaitingJob { .. } => Found::Changed(Box::new(after)),
                        _ => Found::Wake(Next::PollJob),
                    }
                }
                Fate::Known(snapshot) => match job_answer(snapshot) {
                    JobAnswer::Running if now < job.deadline => Found::Nothing,
                    _ => Found::Wake(Next::PollJob),
                },
            },
            Activity::Checking(checking) => match &checking.probe {
                // Another probe begins when it is time, not when something is heard of the last one.
                None if heard => Found::Nothing,
                None => {
                    begin_probe(&mut after)?;
                    Found::Changed(Box::new(after))
                }
                Some(probe) => match self.substrates.fate(run.spec()?, probe).await {
                    Fate::NeverStarted => Found::NeverStarted,
                    Fate::Unreadable(_) => Found::Nothing,
                    Fate::Known(snapshot) => {
                        let answer = gate_answer(snapshot);
                        let looks_on = matches!(
                            answer,
                            GateAnswer::Looking | GateAnswer::Pending | GateAnswer::Lost(_)
                        );
                        match poll_gate(&mut after, answer, now)? {
                            Outcome::AwaitingGate { .. } if looks_on && after == *run => {
                                Found::Nothing
                            }
                            Outcome::AwaitingGate { .. } if looks_on => {
                                Found::Changed(Box::new(after))
                            }
                            _ => Found::Wake(Next::PollGate),
                        }
                    }
                },
            },
            _ => Found::Nothing,
        })
    }

    /// Starts what the run is committed to and no driver is there to start.
    async fn start_late(&self, loaded: Loaded) -> Result<(), Error> {
        match self.start_work(&loaded.run).await? {
            Ok(()) => Ok(()),
            Err(SubstrateError::Unavailable(why)) => {
                tracing::warn!(run = %loaded.run.head.id, "a job could not be started yet: {why}");
                Ok(())
            }
            Err(SubstrateError::Refused(error)) => {
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
