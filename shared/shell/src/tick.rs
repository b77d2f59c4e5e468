//! Tick: once a minute somebody looks at what is due. The net under everything that should have happened by itself.

use std::time::Duration;

use towpath_engine::{REDELIVERY, Reason, RunId};
use towpath_store::{Due, DueRow};

use crate::{App, Error, Settle};

/// What a tick found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Rows that were due.
    pub due: usize,
    /// Deliveries that were overdue.
    pub redelivered: usize,
    /// Live runs without a driver.
    pub driverless: usize,
    /// Rows that could not be seen to.
    pub failed: usize,
    /// How long the oldest of the overdue deliveries had been waiting.
    pub outbox_age: Duration,
    /// How long the run that has waited longest for a human has waited, among those looked at: each is once an hour.
    pub human_wait: Duration,
}

/// How many rows of a shard one tick takes on. What is left is due at the next.
const BATCH: i32 = 200;

impl App {
    /// Sees to what is due in these shards. One row's trouble is not another's.
    ///
    /// # Errors
    /// If a shard cannot be read at all.
    pub async fn tick(&self, shards: &[u16]) -> Result<Ticked, Error> {
        let mut ticked = Ticked::default();
        for shard in shards {
            for DueRow { key, due } in self.store.due(*shard, self.now(), BATCH).await? {
                ticked.due += 1;
                let seen = match &due {
                    Due::Wait(run) => self.see_to_run(run, &mut ticked).await,
                    Due::Reap(job) => self.see_to_job(job).await,
                    Due::Stop(run) => self.end_marked(run).await,
                    Due::Unknown => Err(Error::Newer(format!("the row {} {}", key.pk, key.sk))),
                };
                match seen {
                    Ok(()) | Err(Error::Store(towpath_store::Error::Conflict)) => {}
                    Err(error) => {
                        ticked.failed += 1;
                        tracing::error!(
                            pk = key.pk,
                            sk = key.sk,
                            error = error.name(),
                            "could not be seen to: {error}"
                        );
                        // Whatever is wrong with it, the rows behind it have their turn.
                        if let Err(error) = self.store.defer(&key, self.now()).await {
                            tracing::warn!(pk = key.pk, "could not be pushed back: {error}");
                        }
                    }
                }
            }
        }
        Ok(ticked)
    }

    pub(crate) async fn see_to_run(&self, run: &RunId, ticked: &mut Ticked) -> Result<(), Error> {
        let Some(wait) = self.store.wait(run).await? else {
            return Ok(());
        };
        // The index lags behind; only the record itself says whether something is due.
        if wait.due.is_none_or(|due| due > self.now()) {
            return Ok(());
        }
        if wait.wake.is_some() || wait.drive {
            ticked.redelivered += 1;
            let since = wait
                .due
                .map_or(Duration::ZERO, |due| self.now().since(due) + REDELIVERY);
            ticked.outbox_age = ticked.outbox_age.max(since);
            return self.deliver(run, wait, true).await;
        }
        if wait.reason == Reason::Nothing {
            return Ok(());
        }
        if let Some(error) = self.driver_death(run, wait.generation).await? {
            ticked.driverless += 1;
            return self
                .settle(&Settle {
                    run: run.clone(),
                    generation: wait.generation,
                    error,
                })
                .await;
        }
        if let Reason::Human { .. } = wait.reason {
            ticked.human_wait = ticked.human_wait.max(self.now().since(wait.since));
        }
        match wait.token {
            Some(_) => self.look(run, None).await,
            None => Ok(self.store.put_wait(run, &wait.looked(self.now())).await?),
        }
    }

    pub(crate) async fn see_to_job(&self, job: &towpath_engine::JobId) -> Result<(), Error> {
        let Some(head) = self.store.head(&job.run()).await? else {
            return Ok(self.store.reaped(job).await?);
        };
        let plan = self
            .store
            .plan(&head.workspace, &head.pipeline.id, head.pipeline.version)
            .await?;
        self.store
            .reap_later(job, self.now().plus(REDELIVERY))
            .await?;
        self.reap(&plan, job).await;
        Ok(())
    }
}
