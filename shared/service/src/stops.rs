//! Stops: a mark that nothing gets past, and the end of the run that carries it.

use towpath_engine::{REDELIVERY, RunId, StopMark, stop};
use towpath_store::Error as StoreError;

use crate::Error;
use crate::outbox::Outbox;

/// Marks runs as to be stopped, and ends those that are marked.
#[derive(Clone)]
pub(crate) struct Stops {
    outbox: Outbox,
}

/// The outcome of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The run is marked, and over or about to be.
    Now,
    /// The stop is kept, and marked by the tick within minutes.
    Soon,
}

/// The number of times a mark is tried against the transactions of a busy run.
const MARKS: u32 = 60;

impl Stops {
    pub(crate) fn new(outbox: Outbox) -> Self {
        Self { outbox }
    }

    /// Marks a run as to be stopped, unless it is over or marked already. From then on the run cannot go on, whatever it
    /// was doing.
    ///
    /// # Errors
    /// A conflict if the run is so busy that the mark did not get through.
    pub(crate) async fn mark(&self, id: &RunId, mark: &StopMark) -> Result<(), Error> {
        let mut races = self.outbox.ports.random.races(MARKS);
        let store = &self.outbox.ports.store;
        loop {
            let due = self.outbox.now().plus(REDELIVERY);
            let marked = store.mark_stop(id, mark, due).await.map_err(Error::from);
            if let Err(Error::Store(StoreError::Conflict)) = marked {
                let head = store.head(id).await?;
                if head.is_none_or(|head| head.status.is_terminal() || head.stop.is_some()) {
                    return Ok(());
                }
            }
            if !races.again(&marked).await {
                return marked;
            }
        }
    }

    /// Stops a run, however busy it is: if its mark does not get through, the stop is kept, and the tick sees to it.
    ///
    /// # Errors
    /// If the records or the services cannot be reached.
    pub(crate) async fn stop(&self, id: &RunId, mark: &StopMark) -> Result<Stopped, Error> {
        match self.mark(id, mark).await {
            Ok(()) => {
                self.end_marked(id).await?;
                Ok(Stopped::Now)
            }
            Err(Error::Store(StoreError::Conflict)) => {
                let due = self.outbox.now().plus(REDELIVERY);
                self.outbox.ports.store.request_stop(id, mark, due).await?;
                tracing::warn!(run = %id, "too busy to be stopped at once: the tick stops it");
                Ok(Stopped::Soon)
            }
            Err(other) => Err(other),
        }
    }

    /// Sees to a stop that was kept.
    ///
    /// # Errors
    /// If the records or the services cannot be reached, or a conflict if the mark does not get through yet; the stop is
    /// kept.
    pub(crate) async fn see_to_request(&self, id: &RunId) -> Result<(), Error> {
        let store = &self.outbox.ports.store;
        let Some(mark) = store.stop_request(id).await? else {
            return Ok(());
        };
        self.mark(id, &mark).await?;
        self.end_marked(id).await?;
        Ok(store.forget_stop_request(id).await?)
    }

    /// Ends a run that is marked as to be stopped. Whoever finds the mark may do so; under contention it is left to the
    /// others that have found it, the tick among them.
    ///
    /// # Errors
    /// If the records or the services cannot be reached; the mark stays, and the tick ends the run.
    pub(crate) async fn end_marked(&self, id: &RunId) -> Result<(), Error> {
        let mut races = self.outbox.races();
        loop {
            let ended = self.end_once(id).await;
            match &ended {
                Err(Error::Store(StoreError::Newer(why) | StoreError::Broken(why))) => {
                    tracing::error!(run = %id, "ended by force, since it cannot be read: {why}");
                    let now = self.outbox.now();
                    let forced = self.outbox.ports.store.end_by_force(id, now).await;
                    let forced = forced.map_err(Error::from);
                    if !races.again(&forced).await {
                        forced?;
                        return self.deliver_and_reap(id).await;
                    }
                }
                _ if races.again(&ended).await => {}
                Err(Error::Store(StoreError::Conflict)) => return Ok(()),
                _ => return ended,
            }
        }
    }

    async fn end_once(&self, id: &RunId) -> Result<(), Error> {
        let Some(loaded) = self.outbox.ports.store.load(id).await? else {
            return Ok(());
        };
        let (mut run, now) = (loaded.run.clone(), self.outbox.now());
        let Some(mark) = loaded.run.head.stop.as_ref() else {
            return Ok(());
        };
        if run.head.status.is_terminal() {
            return Ok(());
        }
        stop(&mut run, mark, now);
        let wait = loaded.wait.over(now);
        let committed = self.outbox.commit(&loaded, run, wait).await?;
        self.outbox.try_deliver(id, committed.wait).await;
        Ok(())
    }

    /// Does what follows an end by force, as far as the records can be read.
    async fn deliver_and_reap(&self, id: &RunId) -> Result<(), Error> {
        for job in self.outbox.ports.store.reaps(id).await? {
            self.outbox.reap(&job).await;
        }
        match self.outbox.ports.store.wait(id).await {
            Ok(Some(wait)) => self.outbox.try_deliver(id, wait).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(run = %id, "its driver is left to time out: {error}"),
        }
        Ok(())
    }
}
