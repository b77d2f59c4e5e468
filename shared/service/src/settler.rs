//! Settler: the driver of a run has died.

use std::time::Duration;

use towpath_engine::{Died, Timestamp, Wait, driver_died};

use crate::outbox::Outbox;
use crate::stops::Stops;
use crate::{Error, Settle};

/// Replaces drivers that died.
#[derive(Clone)]
pub struct Settler {
    outbox: Outbox,
    stops: Stops,
}

impl Settler {
    pub(crate) fn new(outbox: Outbox, stops: Stops) -> Self {
        Self { outbox, stops }
    }

    /// Gives a run whose driver died its next one, or fails the run when too many died without progress. A driver that
    /// is not the run's, or no longer, is none of its business: the same death may be told many times.
    ///
    /// # Errors
    /// If the records or the service cannot be reached; the machine's Retry, the event's, or the tick try again.
    #[tracing::instrument(skip_all, fields(run = %dead.run, generation = dead.generation))]
    pub async fn settle(&self, dead: &Settle) -> Result<(), Error> {
        let mut races = self.outbox.races();
        loop {
            let settled = self.settle_once(dead).await;
            if !races.again(&settled).await {
                return settled;
            }
        }
    }

    async fn settle_once(&self, dead: &Settle) -> Result<(), Error> {
        let Some(loaded) = self.outbox.ports.store.load(&dead.run).await? else {
            return Ok(());
        };
        let head = &loaded.run.head;
        if head.generation != dead.generation || head.status.is_terminal() {
            return Ok(());
        }
        if head.stop.is_some() {
            return self.stops.end_marked(&dead.run).await;
        }
        let (mut run, now) = (loaded.run.clone(), self.outbox.now());
        let died = driver_died(&mut run, &dead.error, waited(&loaded.wait, now), now);
        let failed = died == Died::Failed;
        tracing::error!(run = %dead.run, generation = dead.generation, error = dead.error, failed, "a driver died");
        // Its execution is over, so its token is dead with it.
        let wait = loaded.wait.without_driver();
        let wait = match died {
            Died::Replaced { after } => wait.hand_over(run.head.generation, after, now),
            Died::Failed | Died::Noop => wait.over(now),
        };
        let committed = self.outbox.commit(&loaded, run, wait).await?;
        self.outbox.try_deliver(&dead.run, committed.wait).await;
        Ok(())
    }
}

/// The time for which the driver that died had waited for what the run waits for. A driver before it may have waited for
/// the same.
fn waited(wait: &Wait, now: Timestamp) -> Duration {
    match (&wait.token, wait.fence) {
        (Some(_), Some(fence)) => now.since(wait.since.max(fence.entered)),
        _ => Duration::ZERO,
    }
}
