//! Poll: what a run waits for may have something to say. The run is woken only if its driver is needed, so looking in
//! vain moves no machine.

use towpath_engine::{
    Head, JobId, Next, Phase, Run, RunId, Status, Timestamp, Wait, due, hold, poll, reason, started,
};
use towpath_store::Loaded;

use crate::Error;
use crate::jobs::{Jobs, Tried};
use crate::outbox::Outbox;
use crate::stops::Stops;
use crate::transition::{apply, begin_next, differ, has_new_call};

/// Looks at what runs wait for.
#[derive(Clone)]
pub struct Poll {
    outbox: Outbox,
    jobs: Jobs,
    stops: Stops,
}

/// The outcome of a look.
enum Found {
    /// Nothing that the run need know.
    Nothing,
    /// The run's own driver is to take it from here.
    Wake(Next),
    /// The run changes, and waits on.
    Changed(Box<Run>),
}

/// The number of calls that one look moves on, one after the other.
const CALLS: u32 = 4;

impl Poll {
    pub(crate) fn new(outbox: Outbox, jobs: Jobs, stops: Stops) -> Self {
        Self {
            outbox,
            jobs,
            stops,
        }
    }

    /// Looks at what the run waits for. `about` is the job that something was heard of; without one it is simply time.
    ///
    /// # Errors
    /// If the records or the services cannot be reached; the tick looks again.
    #[tracing::instrument(skip_all, fields(run = %id))]
    pub async fn look(&self, id: &RunId, about: Option<&JobId>) -> Result<(), Error> {
        let mut races = self.outbox.races();
        loop {
            let looked = self.look_once(id, about, races.lost() > 0).await;
            if !races.again(&looked).await {
                return looked;
            }
        }
    }

    /// `again`: a write of this very look may have got through, its answer lost.
    async fn look_once(&self, id: &RunId, about: Option<&JobId>, again: bool) -> Result<(), Error> {
        let Some(loaded) = self.outbox.ports.store.load(id).await? else {
            return Ok(());
        };
        let run = &loaded.run;
        if let Some(job) = about
            && !concerns(run, job)
        {
            return self.look_for_others(&run.head, job, again).await;
        }
        if loaded.wait.wake.is_some() {
            return match again {
                true => self.outbox.deliver(id, loaded.wait, true).await,
                false => Ok(()),
            };
        }
        if run.head.status.is_terminal() {
            return self.let_go(id, &loaded.wait).await;
        }
        if run.head.stop.is_some() {
            return self.stops.end_marked(id).await;
        }
        if loaded.wait.token.is_none() {
            return self.tell_at_work(id, &loaded.wait, about).await;
        }
        self.look_at(loaded, about.is_some()).await
    }

    /// Sees to a job that its own run does not wait for. Perhaps it must be gone, and is by now; perhaps the run that took
    /// its run's place waits for just that.
    async fn look_for_others(&self, head: &Head, job: &JobId, again: bool) -> Result<(), Error> {
        self.outbox.see_to_job(job).await?;
        let store = &self.outbox.ports.store;
        match store.live_run(&head.workspace, &head.block).await? {
            Some(live) if live != head.id => {
                Box::pin(self.look_once(&live, Some(job), again)).await
            }
            _ => Ok(()),
        }
    }

    /// Lets the driver of a run go that is over.
    async fn let_go(&self, id: &RunId, wait: &Wait) -> Result<(), Error> {
        if wait.token.is_none() {
            return Ok(());
        }
        let wait = wait.over(self.outbox.now());
        self.outbox.ports.store.put_wait(id, &wait).await?;
        self.outbox.deliver(id, wait, false).await
    }

    /// Nobody waits: the driver is at work, or on its way. Whether it has looked at the job before or after what was heard
    /// is not known, so it is made to look again before it begins a wait.
    async fn tell_at_work(
        &self,
        id: &RunId,
        wait: &Wait,
        about: Option<&JobId>,
    ) -> Result<(), Error> {
        if about.is_none() {
            return Ok(());
        }
        let told = wait.wake(Next::PollJob, self.outbox.now());
        self.outbox.ports.store.put_wait(id, &told).await?;
        self.outbox.deliver(id, told, false).await
    }

    /// Looks at a run whose driver waits.
    async fn look_at(&self, mut loaded: Loaded, heard: bool) -> Result<(), Error> {
        let id = loaded.run.head.id.clone();
        let store = &self.outbox.ports.store;
        let mut fresh = false;
        for _ in 0..CALLS {
            let now = self.outbox.now();
            match self.find(&loaded, heard, fresh).await? {
                Found::Nothing if heard || fresh => return Ok(()),
                Found::Nothing => {
                    return Ok(store.put_wait(&id, &loaded.wait.looked(now)).await?);
                }
                Found::Wake(next) => {
                    let wait = loaded.wait.wake(next, now);
                    store.put_wait(&id, &wait).await?;
                    return self.outbox.deliver(&id, wait, false).await;
                }
                Found::Changed(run) => {
                    fresh = has_new_call(&loaded.run, &run);
                    let wait = waits_on(&loaded.wait, &run, now);
                    loaded = self.outbox.commit(&loaded, *run, wait).await?;
                    if !fresh {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks at what the run waits for, and decides what the run must know.
    async fn find(&self, loaded: &Loaded, heard: bool, fresh: bool) -> Result<Found, Error> {
        let (run, now) = (&loaded.run, self.outbox.now());
        if reason(run).as_ref() != Some(&loaded.wait.reason) {
            // The run has moved and its driver has not heard of it. That should not happen, and so it must not last.
            tracing::warn!(run = %run.head.id, reason = ?loaded.wait.reason, "the driver waits for something else");
            return Ok(Found::Wake(Next::Advance));
        }
        let after = match &run.step.phase {
            Phase::Calling(call) => {
                let early = call.held.as_ref().is_some_and(|held| now < held.until);
                // An inline call is for the driver to make, which records the answer: it costs what it costs each time.
                let inline = self.jobs.is_inline(run);
                if early && (!heard || inline) {
                    return Ok(Found::Nothing);
                }
                if inline {
                    return Ok(Found::Wake(Next::PollJob));
                }
                self.tried(run, fresh).await?
            }
            Phase::Resting(_) => {
                apply(&self.outbox.ports.store, run, |run| {
                    let outcome = due(run, now)?;
                    begin_next(run, outcome, now)
                })
                .await?
            }
            Phase::Asking(asked) if asked.call.is_some() => {
                let status = self.jobs.look_at_asking(run).await;
                apply(&self.outbox.ports.store, run, |run| {
                    poll(run, status.clone(), now)
                })
                .await?
            }
            Phase::Pending | Phase::Asking(_) | Phase::Done => return Ok(Found::Nothing),
        };
        if !differ(run, &after) {
            return Ok(Found::Nothing);
        }
        // As long as the step waits on, its driver need not move.
        let waits = match after.head.status {
            Status::Running => reason(&after).is_some(),
            Status::Blocked => after.step.asking_call().is_some(),
            _ => false,
        };
        let stays = waits && after.head.current == run.head.current;
        Ok(match (stays, &run.step.phase) {
            (true, _) => Found::Changed(Box::new(after)),
            (false, Phase::Resting(_)) => Found::Wake(Next::PollGate),
            (false, _) => Found::Wake(Next::PollJob),
        })
    }

    /// Moves the run's call on.
    async fn tried(&self, run: &Run, fresh: bool) -> Result<Run, Error> {
        let now = self.outbox.now();
        let mut after = run.clone();
        Ok(match self.jobs.try_call(&mut after, fresh).await? {
            Tried::Started => {
                started(&mut after);
                after
            }
            Tried::Held { pause, why } => {
                hold(&mut after, pause, &why, now)?;
                after
            }
            Tried::Is(status) => {
                apply(&self.outbox.ports.store, &after, |run| {
                    let outcome = poll(run, status.clone(), now)?;
                    begin_next(run, outcome, now)
                })
                .await?
            }
        })
    }
}

/// Whether the news of a job is news for the run: the job is at work for it, or keeps it from going on.
fn concerns(run: &Run, job: &JobId) -> bool {
    !run.head.status.is_terminal() && run.step.live_jobs().any(|live| live.job == *job)
}

/// The present wait, for the run as it now is.
fn waits_on(wait: &Wait, run: &Run, now: Timestamp) -> Wait {
    let reason = reason(run).unwrap_or_else(|| wait.reason.clone());
    wait.waits_for(reason, now)
}
