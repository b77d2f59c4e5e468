//! Settle: the driver of a run has died.

use towpath_engine::{Outcome, driver_died};

use crate::fold::Mailbox;
use crate::{App, Error, Settle};

impl App {
    /// Gives a run whose driver died its next one, or fails the run when too many died without progress. A driver that
    /// is not the run's, or no longer, is none of its business: the same death may be told many times.
    ///
    /// # Errors
    /// If the records or the service cannot be reached; the machine's Retry, the event's, or the tick try again.
    #[tracing::instrument(skip_all, fields(run = %dead.run, generation = dead.generation))]
    pub async fn settle(&self, dead: &Settle) -> Result<(), Error> {
        for conflicts in 1.. {
            let Some(loaded) = self.store.load(&dead.run).await? else {
                return Ok(());
            };
            if loaded.run.head.generation != dead.generation || loaded.run.head.status.is_terminal()
            {
                return Ok(());
            }
            if loaded.run.head.stop.is_some() {
                return self.end_marked(&dead.run).await;
            }
            let (mut run, now) = (loaded.run.clone(), self.now());
            let outcome = driver_died(&mut run, &dead.error, now);
            tracing::error!(
                run = %dead.run, generation = dead.generation, error = dead.error,
                deaths = run.head.deaths, failed = outcome != Outcome::Continue, "a driver died"
            );
            // Its execution is over, so its token is dead with it.
            let wait = loaded.wait.without_driver();
            let wait = match run.head.status.is_terminal() {
                true => wait.over(now),
                false => wait.hand_over(run.head.generation, now),
            };
            match self.commit(&loaded, run, Mailbox::Becomes(wait)).await {
                Ok(committed) => {
                    self.try_deliver(&dead.run, committed.wait).await;
                    return Ok(());
                }
                Err(Error::Store(towpath_store::Error::Conflict)) if conflicts < 20 => {
                    crate::drive::pause(conflicts).await;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }
}
