//! Committing a transition: one transaction under the head's `rev` and the mailbox's `seq`. Effects become writes here
//! and nowhere else.

use std::collections::BTreeMap;

use towpath_engine::{
    Audit, Block, BlockChange, Effect, Head, JobRef, Output, REDELIVERY, Run, RunId, Step,
    Timestamp, Wait,
};
use towpath_table::{Condition, Item, Update, Write, number, string};

use crate::form::{attributes, put, record, update};
use crate::{Error, Loaded, Store, keys};

/// In the items of step and mailbox: the `rev` of the head they were written with, so that a load knows one that is newer
/// than its head.
pub(crate) const HEAD_REV: &str = "headRev";

/// The claim of a run on its block.
const LOCK: &str = "the block's lock is another run's";

/// A commit: the run that was loaded, and what a transition made of it.
#[derive(Clone, Copy)]
pub struct Commit<'a> {
    /// The run as it was loaded.
    pub before: &'a Loaded,
    /// The run as it is to be, with the effects that the transition wants. Its `rev` is set by the commit.
    pub after: &'a Run,
    /// The mailbox as it is to be, written in place of the one before, whose `seq` was one less. Every commit raises it:
    /// whoever has loaded the run as it was begins no wait for what is over, and moves nothing.
    pub wait: &'a Wait,
    /// The time of the commit.
    pub now: Timestamp,
}

/// The changes of the block that a transaction makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockWrites {
    /// Those that the commit wants.
    Own,
    /// None: another part of the transaction writes the block.
    None,
}

impl Store {
    /// Writes the commit, whole or not at all, and returns the run as it then is on record. Until this returns, nothing
    /// of it has happened; once it has, all of it has, and a later load sees it.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the run or its mailbox was written since it was loaded. After [`Error::Unavailable`] the
    /// commit may have happened: load again.
    pub async fn commit(&self, commit: Commit<'_>) -> Result<Loaded, Error> {
        let writes = self.writes(commit, BlockWrites::Own).await?;
        let head = &commit.after.head;
        if !head.status.is_terminal() {
            self.runs.transact(writes).await?;
            return Ok(commit.committed());
        }
        // A terminal run lets its block go. A lock that was lost, or is another run's by now, keeps nobody from ending.
        let lock = Write::delete(keys::lock(&head.workspace, &head.block))
            .when(Condition::AbsentOrEquals("run", string(&head.id)))
            .or_refuse(LOCK);
        let with_lock = writes.iter().cloned().chain([lock]).collect();
        match self.runs.transact(with_lock).await.map_err(Error::from) {
            Err(Error::Refused(_)) => self.runs.transact(writes).await?,
            other => other?,
        }
        Ok(commit.committed())
    }

    /// The writes of a commit, but for the lock of the block.
    pub(crate) async fn writes(
        &self,
        commit: Commit<'_>,
        block: BlockWrites,
    ) -> Result<Vec<Write>, Error> {
        let (before, after, now) = (commit.before, commit.after, commit.now);
        let (id, rev) = (&after.head.id, before.run.head.rev);
        let mut writes = vec![head_update(&after.head, rev)?];
        let effects = Effects::of(&after.effects);
        writes.extend(step_writes(commit, effects.left)?);
        writes.extend(self.keep(id, &effects.outputs).await?);
        for audit in effects.audits {
            let audited = put(keys::audit(id, &audit.subject), audit)?;
            writes.push(audited.when(Condition::Absent));
        }
        for job in effects.reaps {
            writes.push(reap_row(job, now.plus(REDELIVERY))?);
        }
        let mailbox = wait_update(id, commit.wait)?;
        writes.push(Write {
            change: match mailbox.change {
                towpath_table::Change::Update(update) => {
                    towpath_table::Change::Update(update.set(HEAD_REV, number(rev + 1)))
                }
                other => other,
            },
            ..mailbox
        });
        if block == BlockWrites::Own && !effects.block.is_empty() {
            writes.extend(self.block_write(&after.head, &effects.block).await?);
        }
        Ok(writes)
    }

    /// The write of what the block takes over. A block that is gone takes nothing.
    async fn block_write(
        &self,
        head: &Head,
        changes: &[&BlockChange],
    ) -> Result<Option<Write>, Error> {
        let key = keys::block(&head.workspace, &head.block);
        let Some(item) = self.runs.get(&key).await? else {
            return Ok(None);
        };
        let block: Block = record(item)?;
        let mut values = Item::new();
        for change in changes {
            let (name, value) = match change {
                // A newer run has the block: what becomes of this one says nothing about it.
                BlockChange::Ended(_) if block.run_id.as_ref() != Some(&head.id) => continue,
                BlockChange::Ended(ended) => ("status", serde_json::to_value(block.after(*ended))),
                BlockChange::PullRequest(request) => ("pullRequest", serde_json::to_value(request)),
                BlockChange::Confidence(confidence) => {
                    ("confidence", serde_json::to_value(confidence))
                }
            };
            let value = value.map_err(|e| Error::damaged(&key, e))?;
            values.extend(attributes(&key, &BTreeMap::from([(name, value)]))?);
        }
        if values.is_empty() {
            return Ok(None);
        }
        let update = Update {
            set: values.into_iter().collect(),
            ..Update::default()
        };
        let write = Write::update(key, update.add("rev", 1));
        Ok(Some(
            write.when(Condition::Equals("rev", number(block.rev))),
        ))
    }

    /// Writes the mailbox alone, in place of the one whose `seq` was one less.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was written since, perhaps by this very call in an attempt whose answer was lost: load
    /// it and look.
    pub async fn put_wait(&self, run: &RunId, wait: &Wait) -> Result<(), Error> {
        Ok(self.runs.write(wait_update(run, wait)?).await?)
    }
}

impl Commit<'_> {
    /// The run as it is on record after the commit.
    fn committed(&self) -> Loaded {
        let mut run = self.after.clone();
        run.head.rev = self.before.run.head.rev + 1;
        run.effects.clear();
        let moved = self.moved();
        Loaded {
            run,
            wait: self.wait.clone(),
            unknown: match moved {
                true => Item::new(),
                false => self.before.unknown.clone(),
            },
        }
    }

    /// Whether the run left the step it was at.
    fn moved(&self) -> bool {
        let left = |effect: &Effect| matches!(effect, Effect::StepLeft(_));
        self.after.effects.iter().any(left)
    }
}

/// The effects of a transition, by what they write.
#[derive(Default)]
struct Effects<'a> {
    left: Vec<&'a Step>,
    outputs: Vec<&'a Output>,
    audits: Vec<&'a Audit>,
    reaps: Vec<&'a JobRef>,
    block: Vec<&'a BlockChange>,
}

impl<'a> Effects<'a> {
    fn of(effects: &'a [Effect]) -> Self {
        let mut sorted = Self::default();
        for effect in effects {
            match effect {
                Effect::StepLeft(step) => sorted.left.push(step),
                Effect::Output(output) => sorted.outputs.push(output),
                Effect::Audit(audit) => sorted.audits.push(audit),
                Effect::Reap(job) => sorted.reaps.push(job),
                Effect::Block(change) => sorted.block.push(change),
            }
        }
        sorted
    }
}

/// The writes of the steps that the run left, and of the one that it is at, if it was touched.
fn step_writes(commit: Commit<'_>, left: Vec<&Step>) -> Result<Vec<Write>, Error> {
    let Commit { before, after, .. } = commit;
    let id = &after.head.id;
    let rev = number(before.run.head.rev + 1);
    let key = keys::present_step(id);
    if left.is_empty() {
        if after.step == before.run.step {
            return Ok(Vec::new());
        }
        let update = update(&key, &after.step)?.set(HEAD_REV, rev);
        return Ok(vec![Write::update(key, update)]);
    }
    // A loop may leave a step twice: the last record of it counts.
    let left: BTreeMap<_, _> = left.into_iter().map(|step| (step.index, step)).collect();
    let mut writes = Vec::new();
    for (index, step) in left {
        let key = keys::step(id, index);
        let mut item = attributes(&key, step)?;
        if index == before.run.step.index {
            // What another release wrote into the step goes with it.
            for (name, value) in &before.unknown {
                item.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        writes.push(Write::put(key, item));
    }
    let mut item = attributes(&key, &after.step)?;
    item.insert(HEAD_REV.to_owned(), rev);
    writes.push(Write::put(key, item));
    Ok(writes)
}

fn head_update(head: &Head, before: u64) -> Result<Write, Error> {
    let key = keys::head(&head.id);
    let head = &Head {
        rev: before + 1,
        ..head.clone()
    };
    // A run that is to be stopped stays in the index of what is due, whoever writes its head.
    let due = head.stop.as_ref().map(|mark| mark.at);
    let update = keys::due(update(&key, head)?, &key.pk, due);
    // The end of a run takes it out of the listing of live ones.
    let update = match head.status.is_terminal() {
        true => update.remove("live"),
        false => update,
    };
    let write = Write::update(key, update);
    Ok(write.when(Condition::Equals("rev", number(before))))
}

/// The write of a mailbox in place of the one whose `seq` was one less. It is due while anything is still to happen.
fn wait_update(run: &RunId, wait: &Wait) -> Result<Write, Error> {
    let key = keys::wait(run);
    let update = keys::due(update(&key, wait)?, &key.pk, wait.due);
    let before = number(wait.seq.saturating_sub(1));
    Ok(Write::update(key, update).when(Condition::Equals("seq", before)))
}

/// The row of a job that must be gone, due at `at`.
pub(crate) fn reap_row(job: &JobRef, at: Timestamp) -> Result<Write, Error> {
    let key = keys::reap(&job.job);
    let set: Vec<_> = attributes(&key, job)?.into_iter().collect();
    let update = Update {
        set,
        ..Update::default()
    };
    let pk = key.pk.clone();
    Ok(Write::update(key, keys::due(update, &pk, Some(at))))
}
