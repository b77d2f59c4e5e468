//! Creating a run: one transaction that takes the block's lock.

use serde::{Deserialize, Serialize};
use towpath_engine::{BlockId, BlockStatus, Run, RunId, Timestamp, Wait, WorkspaceId};
use towpath_table::{Condition, Update, Write, string};

use crate::commit::BlockWrites;
use crate::form::{put, record, update, whole};
use crate::{Commit, Error, Input, Store, keys};

/// A run to be created.
pub struct Creation<'a> {
    /// The run at its first step.
    pub run: &'a Run,
    /// The run's mailbox, in which its first driver is to be started.
    pub wait: &'a Wait,
    /// The run's inputs.
    pub input: &'a Input,
    /// The caller's name for this start.
    pub idempotency: Option<&'a Idempotency>,
    /// The run that the block had last, as the caller knows it.
    pub previous: Option<&'a RunId>,
    /// The live run that this one takes the block's lock from.
    pub takeover: Option<Takeover<'a>>,
    /// The time of the start.
    pub now: Timestamp,
}

/// A live run that ends in the same transaction.
pub struct Takeover<'a> {
    /// The end of the live run, as any other commit.
    pub commit: Commit<'a>,
}

/// A caller's name for one start, so that the start can be repeated safely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The name.
    pub key: String,
    /// A hash of the request, to tell a repetition from another request under the same name.
    pub hash: String,
}

/// The start that a name was first used for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The run that the start made.
    pub run: RunId,
    /// A hash of the request.
    pub hash: String,
    /// The time at which the name can be used anew, in seconds since the epoch. DynamoDB deletes the row some time after
    /// it. Rows of 0.1.0 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
}

/// The lock of a block: the run that may be live on it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Lock {
    pub(crate) run: RunId,
}

/// The time for which a name stands for its first start: 7 days, in seconds.
const NAME_VALID: u64 = 7 * 24 * 3600;

/// The claim of a start on its name.
const NAME: &str = "the name of this start was used before";

impl Store {
    /// Creates the run. Until this returns, the run does not exist; once it has, it will be driven.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the block has another live run, had another run since, or the live run that this one
    /// replaces was written meanwhile; [`Error::Refused`] if the name of this start is taken.
    pub async fn create(&self, creation: Creation<'_>) -> Result<(), Error> {
        let head = &creation.run.head;
        let (workspace, block) = (&head.workspace, &head.block);
        let mut writes = first_writes(&creation)?;
        let lock = Lock {
            run: head.id.clone(),
        };
        let lock = put(keys::lock(workspace, block), &lock)?;
        match &creation.takeover {
            None => writes.push(lock.when(Condition::Absent)),
            Some(Takeover { commit }) => {
                let old = string(&commit.after.head.id);
                writes.push(lock.when(Condition::AbsentOrEquals("run", old)));
                // The block is written once, for the run that begins.
                writes.extend(self.writes(*commit, BlockWrites::None).await?);
            }
        }
        let status = serde_json::to_value(BlockStatus::InProgress).unwrap_or_default();
        let changes = Update::default()
            .set("status", string(status.as_str().unwrap_or_default()))
            .set("runId", string(&head.id))
            .add("rev", 1);
        let changed = Write::update(keys::block(workspace, block), changes);
        let as_known = match creation.previous {
            Some(previous) => Condition::Equals("runId", string(previous)),
            None => Condition::Lacks("runId"),
        };
        writes.push(changed.when(Condition::Present).when(as_known));
        if let Some(name) = creation.idempotency {
            let seconds = creation.now.0 / 1000;
            let created = Created {
                run: head.id.clone(),
                hash: name.hash.clone(),
                ttl: Some(seconds + NAME_VALID),
            };
            let named = put(keys::idempotency(workspace, &name.key), &created)?;
            let named = named.when(Condition::AbsentOrAtMost("ttl", seconds));
            writes.push(named.or_refuse(NAME));
        }
        Ok(self.runs.transact(writes).await?)
    }

    /// The run that holds the lock of a block.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn live_run(
        &self,
        workspace: &WorkspaceId,
        block: &BlockId,
    ) -> Result<Option<RunId>, Error> {
        let item = self.runs.get(&keys::lock(workspace, block)).await?;
        Ok(item.map(record::<Lock>).transpose()?.map(|lock| lock.run))
    }

    /// The start that a name was first used for, as long as the name stands for it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn created(
        &self,
        workspace: &WorkspaceId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Created>, Error> {
        let item = self.runs.get(&keys::idempotency(workspace, key)).await?;
        let created: Option<Created> = item.map(record).transpose()?;
        Ok(created.filter(|created| created.ttl.is_none_or(|ttl| ttl > now.0 / 1000)))
    }
}

/// The writes of the run's own first items.
fn first_writes(creation: &Creation<'_>) -> Result<Vec<Write>, Error> {
    let Creation {
        run, wait, input, ..
    } = creation;
    let id = &run.head.id;
    let key = keys::head(id);
    let head = keys::head_listed(update(&key, &run.head)?, &run.head);
    let head = whole(key, head).when(Condition::Absent);
    let key = keys::present_step(id);
    let step = whole(key.clone(), update(&key, &run.step)?);
    let key = keys::wait(id);
    let mailbox = keys::due(update(&key, *wait)?, &key.pk, wait.due);
    let mailbox = whole(key, mailbox);
    Ok(vec![head, step, mailbox, put(keys::input(id), input)?])
}
