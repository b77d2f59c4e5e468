//! Ending a run whose records cannot be read: by the attributes that stay the same in all forms, and no others.

use std::collections::BTreeMap;

use towpath_engine::{
    Audit, AuditAction, BlockStatus, Failure, FailureKind, JobId, JobRef, REDELIVERY, RunId,
    Status, StopMark, Timestamp,
};
use towpath_table::{Condition, Item, Key, Update, Write, integer, number, string, text};

use crate::commit::reap_row;
use crate::form::{attributes, put, record};
use crate::{Error, Store, keys, stop};

impl Store {
    /// Ends a live run that is marked as to be stopped, though its step or its mailbox has a form that this release does
    /// not know, or is damaged. The job at work is told to end as far as it can be read; the block is let go.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the run was written meanwhile, is over, or carries no mark.
    pub async fn end_by_force(&self, run: &RunId, now: Timestamp) -> Result<(), Error> {
        let Some(items) = self.now(run).await? else {
            return Ok(());
        };
        let head = &items.head;
        let rev = integer(head, "rev").ok_or_else(|| Error::damaged(&Key::of(head), "no rev"))?;
        let mark: Option<StopMark> = read(head, "stop");
        let Some(mark) = mark else {
            return Err(Error::Conflict);
        };
        let mut writes = vec![end(head, rev, &mark, now)?];
        writes.extend(over(&items.wait, now));
        if let Some(job) = job_of(&items.step) {
            writes.push(reap_row(&job, now.plus(REDELIVERY))?);
        }
        let audit = Audit {
            at: mark.at,
            actor: mark.actor.clone(),
            action: AuditAction::Stop,
            subject: run.to_string(),
            reason: mark.reason.clone(),
            digest: None,
        };
        writes.push(put(keys::audit(run, run.as_str()), &audit)?);
        let (workspace, block) = (text(head, "workspace").parse(), text(head, "block").parse());
        let (Ok(workspace), Ok(block)) = (workspace, block) else {
            return Err(Error::damaged(&Key::of(head), "its block has no id"));
        };
        let lock = Write::delete(keys::lock(&workspace, &block));
        writes.push(lock.when(Condition::AbsentOrEquals("run", string(run))));
        let key = keys::block(&workspace, &block);
        if let Some(held) = self.runs.get(&key).await?
            && text(&held, "runId") == run.as_str()
        {
            let blocked = attributes(&key, &BTreeMap::from([("status", BlockStatus::Blocked)]))?;
            let blocked = blocked.get("status").cloned().unwrap_or_else(|| string(""));
            let update = Update::default().set("status", blocked).add("rev", 1);
            let write = Write::update(key, update);
            writes.push(write.when(Condition::Equals("runId", string(run))));
        }
        Ok(self.runs.transact(writes).await?)
    }
}

/// The end of the head.
fn end(head: &Item, rev: u64, mark: &StopMark, now: Timestamp) -> Result<Write, Error> {
    let key = Key::of(head);
    let failure = Failure {
        kind: FailureKind::Cancelled,
        message: mark
            .reason
            .clone()
            .unwrap_or("stopped on request".to_owned()),
        detail: None,
        hint: FailureKind::Cancelled.hint().to_owned(),
        occurred_at: now,
    };
    let failure = attributes(&key, &BTreeMap::from([("failure", failure)]))?;
    let failure = failure
        .get("failure")
        .cloned()
        .unwrap_or_else(|| string(""));
    let update = Update::default()
        .set("status", string(Status::Failed))
        .set("failure", failure)
        .set("finishedAt", number(now.0))
        .set("rev", number(rev + 1))
        .remove("stop")
        .remove("live");
    let pk = key.pk.clone();
    let write = Write::update(key, keys::due(update, &pk, None));
    Ok(write
        .when(Condition::Equals("rev", number(rev)))
        .when(stop::is_live()))
}

/// The end of the wait: a driver that waits is let go.
fn over(wait: &Item, now: Timestamp) -> Option<Write> {
    let (key, seq) = (Key::of(wait), integer(wait, "seq")?);
    let waits = wait.contains_key("token");
    let update = Update::default().set("seq", number(seq + 1));
    let update = match waits {
        true => update.set("wake", string("over")),
        false => update,
    };
    let reason = std::collections::HashMap::from([("for".to_owned(), string("nothing"))]);
    let update = update
        .set("reason", aws_sdk_dynamodb::types::AttributeValue::M(reason))
        .remove("driveAt")
        .remove("entered")
        .remove("retrying");
    let due = waits.then(|| now.plus(REDELIVERY));
    let update = match due {
        Some(due) => update.set("due", number(due.0)),
        None => update.remove("due"),
    };
    let pk = key.pk.clone();
    let write = Write::update(key, keys::due(update, &pk, due));
    Some(write.when(Condition::Equals("seq", number(seq))))
}

/// The job that a step waits for, as far as its record can be read.
fn job_of(step: &Item) -> Option<JobRef> {
    let call = step.get("phase")?.as_m().ok()?;
    let job: JobId = text(call, "id").parse().ok()?;
    Some(JobRef {
        job,
        runtime: text(call, "runtime"),
    })
}

/// An attribute of an item, if it can be read.
fn read<T: serde::de::DeserializeOwned>(item: &Item, name: &str) -> Option<T> {
    let value = item.get(name)?.as_m().ok()?;
    record(value.clone()).ok()
}
