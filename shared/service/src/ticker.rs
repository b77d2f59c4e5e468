//! Ticker: once a minute somebody looks at what is due. The net under everything that should have happened by itself.

use std::time::Duration;

use towpath_engine::{REDELIVERY, Reason, RunId, Wait};
use towpath_jobs_executor::Silence;
use towpath_store::{Due, DueRow, Error as StoreError};

use crate::outbox::Outbox;
use crate::stops::Stops;
use crate::{Error, Poll, Settle, Settler};

/// Sees to what is due.
#[derive(Clone)]
pub struct Ticker {
    pub(crate) outbox: Outbox,
    poll: Poll,
    settler: Settler,
    stops: Stops,
    silence: Silence,
}

/// The findings of a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// The number of rows that were due.
    pub due: usize,
    /// The number of deliveries that were overdue.
    pub redelivered: usize,
    /// The number of live runs without a driver.
    pub driverless: usize,
    /// The number of rows that could not be seen to.
    pub failed: usize,
    /// The time that the oldest of the overdue deliveries had been waiting.
    pub outbox_age: Duration,
    /// The time that the run that has waited longest for a human has waited, among those looked at: each is once an hour.
    pub human_wait: Duration,
}

/// The number of rows of a shard that one tick takes on. What is left is due at the next.
const BATCH: i32 = 200;

impl Ticker {
    pub(crate) fn new(
        outbox: Outbox,
        poll: Poll,
        settler: Settler,
        stops: Stops,
        silence: Silence,
    ) -> Self {
        Self {
            outbox,
            poll,
            settler,
            stops,
            silence,
        }
    }

    /// Sees to what is due in these shards, deliveries first. One row's trouble is not another's.
    ///
    /// # Errors
    /// If a shard cannot be read at all.
    pub async fn tick(&self, shards: &[u16]) -> Result<Ticked, Error> {
        let mut ticked = Ticked::default();
        let mut later = Vec::new();
        for shard in shards {
            let store = &self.outbox.ports.store;
            for row in store.due(*shard, self.outbox.now(), BATCH).await? {
                ticked.due += 1;
                match &row.due {
                    Due::Wait(run) => match self.deliver_due(run, &mut ticked).await {
                        Ok(None) => {}
                        Ok(wait) => later.push((row, wait)),
                        Err(error) => self.failed(&row, error, &mut ticked).await,
                    },
                    _ => later.push((row, None)),
                }
            }
        }
        for (row, wait) in later {
            let seen = match &row.due {
                Due::Wait(run) => self.see_to_wait(run, wait, &mut ticked).await,
                Due::Reap(job) => self.outbox.see_to_job(job).await,
                Due::Stop(run) => self.stops.end_marked(run).await,
                Due::StopRequest(run) => self.stops.see_to_request(run).await,
                Due::Executor(workspace, id) => {
                    let looked = self.silence.look(workspace, id).await;
                    looked.map_err(Error::from)
                }
                Due::Mission(workspace, id) => {
                    let expired = self.silence.expire(workspace, id.as_str()).await;
                    expired.map_err(Error::from)
                }
                Due::Unknown => Err(StoreError::Newer(row.key.to_string()).into()),
            };
            if let Err(error) = seen {
                self.failed(&row, error, &mut ticked).await;
            }
        }
        Ok(ticked)
    }

    /// Pushes a row back that could not be seen to: whatever is wrong with it, the rows behind it have their turn.
    async fn failed(&self, row: &DueRow, error: Error, ticked: &mut Ticked) {
        let key = &row.key;
        if let Error::Store(StoreError::Conflict) = error {
            return;
        }
        ticked.failed += 1;
        let name = error.name();
        tracing::error!(
            pk = key.pk,
            sk = key.sk,
            error = name,
            "could not be seen to: {error}"
        );
        let deferred = self.outbox.ports.store.defer(row, self.outbox.now());
        if let Err(error) = deferred.await {
            tracing::warn!(pk = key.pk, "could not be pushed back: {error}");
        }
    }

    /// Delivers what is overdue in a run's mailbox. Returns the mailbox if there was nothing to be delivered.
    async fn deliver_due(&self, run: &RunId, ticked: &mut Ticked) -> Result<Option<Wait>, Error> {
        let Some(wait) = self.due_wait(run).await? else {
            return Ok(None);
        };
        if wait.wake.is_none() && wait.drive_at.is_none() {
            return Ok(Some(wait));
        }
        ticked.redelivered += 1;
        let now = self.outbox.now();
        let since = wait.due.map_or(Duration::ZERO, |due| now.since(due));
        ticked.outbox_age = ticked.outbox_age.max(since + REDELIVERY);
        self.outbox.deliver(run, wait, true).await?;
        Ok(None)
    }

    /// A run's mailbox, if it is due. The index lags behind; only the record itself says whether something is.
    async fn due_wait(&self, run: &RunId) -> Result<Option<Wait>, Error> {
        let (wait, now) = (self.outbox.ports.store.wait(run).await?, self.outbox.now());
        Ok(wait.filter(|wait| wait.due.is_some_and(|due| due <= now)))
    }

    /// Sees to a run that waits, or whose driver is at work, and has not been looked at when it was time.
    pub(crate) async fn see_to_run(&self, run: &RunId, ticked: &mut Ticked) -> Result<(), Error> {
        let wait = self.due_wait(run).await?;
        self.see_to_wait(run, wait, ticked).await
    }

    /// Sees to what a run waits for, by the mailbox that was found due.
    async fn see_to_wait(
        &self,
        run: &RunId,
        wait: Option<Wait>,
        ticked: &mut Ticked,
    ) -> Result<(), Error> {
        let Some(wait) = wait else {
            return Ok(());
        };
        let (ports, now) = (&self.outbox.ports, self.outbox.now());
        if wait.reason == Reason::Nothing {
            return Ok(ports.store.put_wait(run, &wait.delivered(now)).await?);
        }
        let death = ports.machine.end_of(run, wait.generation).await?;
        let lost = || "the driver gave no sign of life".to_owned();
        if let Some(error) = death.or_else(|| wait.is_lost(now).then(lost)) {
            ticked.driverless += 1;
            let dead = Settle {
                run: run.clone(),
                generation: wait.generation,
                error,
            };
            return self.settler.settle(&dead).await;
        }
        if let Reason::Human { .. } = wait.reason {
            ticked.human_wait = ticked.human_wait.max(now.since(wait.since));
        }
        match wait.token {
            Some(_) => self.poll.look(run, None).await,
            None => Ok(ports.store.put_wait(run, &wait.looked(now)).await?),
        }
    }
}
