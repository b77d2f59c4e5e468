//! Committing a transition: one transaction under the head's `rev` and the mailbox's `seq`.

use towpath_engine::{Block, Changes, Head, JobId, RunId, Status, Step, StopMark, Timestamp, Wait};

use crate::keys::{Key, shard, shard_name};
use crate::rows::{
    Item, Reap, Write, attribute, due, item, listed, number, record, string, wait_item,
};
use crate::{Error, Store};

/// In a step's item: the `rev` of the head it was written with, so that a load knows one that is newer than its head.
pub(crate) const HEAD_REV: &str = "headRev";

/// What a transition made of a run.
pub struct Commit<'a> {
    /// The head as it was loaded; its `rev` is the condition.
    pub before: &'a Head,
    /// The head as it is to be. Its `rev` is set here.
    pub head: &'a Head,
    /// The step the run is at, if it was touched.
    pub step: Option<&'a Step>,
    /// What else is wanted.
    pub changes: &'a Changes,
    /// The mailbox as it is to be, written in place of the one before, whose `seq` was one less. Every commit raises it:
    /// whoever has loaded the run as it was begins no wait for what is over, and moves nothing.
    pub wait: &'a Wait,
    /// When jobs that must be gone are looked at again.
    pub reap_at: Timestamp,
}

impl Store {
    /// Writes the commit, whole or not at all. Until this returns, nothing of it has happened; once it has, all of it
    /// has, and a later load sees it.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the run or its mailbox was written since it was loaded. After [`Error::Unavailable`] the
    /// commit may have happened: load again.
    pub async fn commit(&self, commit: &Commit<'_>) -> Result<(), Error> {
        let mut writes = self.writes(commit).await?;
        // A terminal run lets its block go. The lock is its own as long as it lives, so this cannot fail for another's.
        if commit.head.status.is_terminal() {
            let lock = Key::lock(&commit.head.workspace, &commit.head.block);
            writes.push(Write::Remove(lock, "run", string(&commit.head.id)));
        }
        self.transact(writes).await
    }

    /// The writes of a commit, but for the subject lock.
    pub(crate) async fn writes(&self, commit: &Commit<'_>) -> Result<Vec<Write>, Error> {
        let id = &commit.head.id;
        let mut writes = vec![Write::Replace(
            head_item(&Head {
                rev: commit.before.rev + 1,
                ..commit.head.clone()
            })?,
            "rev",
            number(commit.before.rev),
        )];
        for step in commit.changes.left.iter().chain(commit.step) {
            let mut step = item(&Key::step(id, step.index), step)?;
            step.insert(HEAD_REV.to_owned(), number(commit.before.rev + 1));
            writes.push(Write::Over(step));
        }
        writes.extend(self.keep(id, &commit.changes.outputs).await?);
        if let Some(audit) = &commit.changes.audit {
            writes.push(Write::New(item(&Key::audit(id, &audit.subject), audit)?));
        }
        for job in &commit.changes.reap {
            writes.push(Write::Over(reap_item(job, commit.reap_at)?));
        }
        let wait = wait_item(id, commit.wait)?;
        writes.push(Write::Replace(wait, "seq", number(commit.wait.seq - 1)));
        if !commit.changes.block.is_empty() {
            writes.extend(self.block_change(commit).await?);
        }
        Ok(writes)
    }

    /// What the block takes over. A block that is gone takes nothing.
    async fn block_change(&self, commit: &Commit<'_>) -> Result<Option<Write>, Error> {
        let key = Key::block(&commit.head.workspace, &commit.head.block);
        let change = &commit.changes.block;
        let Some(block) = self.get(&key).await?.map(record::<Block>).transpose()? else {
            return Ok(None);
        };
        let mut values = Vec::new();
        if let Some(pull_request) = &change.pull_request {
            values.push(("pullRequest", attribute("pullRequest", pull_request)?));
        }
        if let Some(confidence) = change.confidence {
            values.push(("confidence", attribute("confidence", &confidence)?));
        }
        if let Some(ended) = change.ended {
            values.push(("status", attribute("status", &block.after(ended))?));
        }
        Ok(Some(Write::Set(key, values)))
    }

    /// Writes the mailbox alone, in place of the one whose `seq` was one less.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was written since, perhaps by this very call in an attempt whose answer was lost: load
    /// it and look.
    pub async fn put_wait(&self, run: &RunId, wait: &Wait) -> Result<(), Error> {
        let request = self
            .db
            .put_item()
            .table_name(&self.runs)
            .set_item(Some(wait_item(run, wait)?))
            .condition_expression("#seq = :before")
            .expression_attribute_names("#seq", "seq")
            .expression_attribute_values(":before", number(wait.seq - 1));
        request.send().await.map_err(Error::from_sdk)?;
        Ok(())
    }

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
        let key = Key::head(run);
        let update = self
            .db
            .update_item()
            .table_name(&self.runs)
            .set_key(Some(crate::rows::key_map(&key)))
            .update_expression(
                "SET #stop = :mark, #rev = #rev + :one, dueShard = :shard, dueAt = :due",
            )
            .condition_expression(
                "attribute_not_exists(#stop) AND #status IN (:running, :blocked, :paused)",
            )
            .expression_attribute_names("#stop", "stop")
            .expression_attribute_names("#rev", "rev")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":mark", attribute("stop", mark)?)
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":shard", string(shard_name(shard(&key.pk))))
            .expression_attribute_values(":due", number(due_at.0));
        let update = [Status::Running, Status::Blocked, Status::Paused]
            .iter()
            .fold(update, |update, status| {
                update.expression_attribute_values(format!(":{status}"), string(status))
            });
        update.send().await.map_err(Error::from_sdk)?;
        Ok(())
    }

    /// Forgets a job that is gone.
    pub async fn reaped(&self, job: &JobId) -> Result<(), Error> {
        let key = crate::rows::key_map(&Key::reap(job));
        self.db
            .delete_item()
            .table_name(&self.runs)
            .set_key(Some(key))
            .send()
            .await
            .map_err(Error::from_sdk)?;
        Ok(())
    }

    /// Looks at a job that must be gone again at `at`. A row that was reaped meanwhile stays away.
    pub async fn reap_later(&self, job: &JobId, at: Timestamp) -> Result<(), Error> {
        let request = self
            .db
            .put_item()
            .table_name(&self.runs)
            .set_item(Some(reap_item(job, at)?))
            .condition_expression("attribute_exists(pk)");
        match request.send().await.map_err(Error::from_sdk) {
            Ok(_) | Err(Error::Conflict) => Ok(()),
            Err(other) => Err(other),
        }
    }

    pub(crate) async fn transact(&self, writes: Vec<Write>) -> Result<(), Error> {
        let items: Result<Vec<_>, _> = writes
            .into_iter()
            .map(|write| write.into_item(&self.runs))
            .collect();
        // The SDK gives each call a request token of its own and keeps it over its retries, so a transaction whose
        // answer is lost is not done twice and does not conflict with itself.
        self.db
            .transact_write_items()
            .set_transact_items(Some(items?))
            .send()
            .await
            .map_err(Error::from_sdk)?;
        Ok(())
    }
}

pub(crate) fn head_item(head: &Head) -> Result<Item, Error> {
    let mut item = item(&Key::head(&head.id), head)?;
    listed(
        &mut item,
        format!("{}#run", head.workspace),
        head.id.to_string(),
    );
    // A run that is to be stopped stays in the index of what is due, whoever writes its head.
    if let Some(mark) = &head.stop {
        due(&mut item, head.id.as_str(), mark.at);
    }
    Ok(item)
}

fn reap_item(job: &JobId, at: Timestamp) -> Result<Item, Error> {
    let key = Key::reap(job);
    let mut item = item(&key, &Reap { job: job.clone() })?;
    due(&mut item, &key.pk, at);
    Ok(item)
}
