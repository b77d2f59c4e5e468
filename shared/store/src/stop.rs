//! Marks of stops, and the rows of jobs that must be gone.

use towpath_engine::{JobId, RunId, Status, StopMark, Timestamp};
use towpath_table::{Condition, Item, Update, Write, number, string};

use crate::form::{attributes, record, whole};
use crate::{Error, Store, keys};

/// The statuses of a run that is not over.
pub(crate) const LIVE: [Status; 3] = [Status::Running, Status::Blocked, Status::Paused];

/// The condition that a run is not over.
pub(crate) fn is_live() -> Condition {
    Condition::OneOf("status", LIVE.map(string).into())
}

impl Store {
    /// Marks a live run as to be stopped. The mark raises the head's `rev`, so that no commit which began before it
    /// succeeds; it is in the index of what is due from `due_at` on, so that the tick ends the run if nobody else does.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the run is terminal, carries a mark already, or is being written: load the head and look.
    pub async fn mark_stop(
        &self,
        run: &RunId,
        mark: &StopMark,
        due_at: Timestamp,
    ) -> Result<(), Error> {
        let key = keys::head(run);
        let mut mark: Item = attributes(&key, &std::collections::BTreeMap::from([("stop", mark)]))?;
        mark.remove("v");
        let update = Update {
            set: mark.into_iter().collect(),
            ..Update::default()
        };
        let pk = key.pk.clone();
        let update = keys::due(update.add("rev", 1), &pk, Some(due_at));
        let write = Write::update(key, update);
        let write = write.when(Condition::Lacks("stop")).when(is_live());
        Ok(self.runs.write(write).await?)
    }

    /// Keeps a stop whose mark did not get through, for the tick to mark from `due_at` on. Of several, the first stays.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn request_stop(
        &self,
        run: &RunId,
        mark: &StopMark,
        due_at: Timestamp,
    ) -> Result<(), Error> {
        let key = keys::stop_request(run);
        let update = Update {
            set: attributes(&key, mark)?.into_iter().collect(),
            ..Update::default()
        };
        let write = whole(key, keys::due(update, run.as_str(), Some(due_at)));
        match self.runs.write(write.when(Condition::Absent)).await {
            Ok(()) | Err(towpath_table::Error::Conflict) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    /// The stop of a run that has not been marked yet.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn stop_request(&self, run: &RunId) -> Result<Option<StopMark>, Error> {
        let item = self.runs.get(&keys::stop_request(run)).await?;
        item.map(record).transpose()
    }

    /// Forgets a stop that is marked now.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub async fn forget_stop_request(&self, run: &RunId) -> Result<(), Error> {
        Ok(self
            .runs
            .write(Write::delete(keys::stop_request(run)))
            .await?)
    }

    /// Forgets a job that is gone.
    ///
    /// # Errors
    /// If its row cannot be deleted.
    pub async fn reaped(&self, job: &JobId) -> Result<(), Error> {
        Ok(self.runs.write(Write::delete(keys::reap(job))).await?)
    }

    /// Looks at a job that must be gone again at `at`. A row that was deleted meanwhile stays away.
    ///
    /// # Errors
    /// If its row cannot be written.
    pub async fn reap_later(&self, job: &JobId, at: Timestamp) -> Result<(), Error> {
        let write = Write::update(
            keys::reap(job),
            Update::default().set("dueAt", number(at.0)),
        );
        match self.runs.write(write.when(Condition::Present)).await {
            Ok(()) | Err(towpath_table::Error::Conflict) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }
}
