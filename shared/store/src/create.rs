//! Creating a run: one transaction that takes the block's lock.

use serde::{Deserialize, Serialize};
use towpath_engine::{Run, RunId, Wait};

use crate::commit::{Commit, head_item};
use crate::keys::Key;
use crate::rows::{Input, Lock, Write, attribute, item, record, string, wait_item};
use crate::{Error, Store};

/// A run to be created.
pub struct Creation<'a> {
    /// The run at its first step.
    pub run: &'a Run,
    /// Its mailbox, in which its first driver is to be started.
    pub wait: &'a Wait,
    /// What it is started with.
    pub input: &'a Input,
    /// The caller's name for this start.
    pub idempotency: Option<&'a Idempotency>,
    /// The live run that this one takes the block's lock from.
    pub takeover: Option<Takeover<'a>>,
}

/// A live run that ends in the same transaction.
pub struct Takeover<'a> {
    /// Its end, as any other commit.
    pub commit: Commit<'a>,
}

/// A caller's name for one start, so that it can be repeated safely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The name.
    pub key: String,
    /// A hash of what was asked, to tell a repetition from another request under the same name.
    pub hash: String,
}

/// The start that a name was first used for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The run it made.
    pub run: RunId,
    /// A hash of what was asked.
    pub hash: String,
}

impl Store {
    /// Creates the run. Until this returns, the run does not exist; once it has, it will be driven.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the block has another live run, or the name of this start is taken.
    pub async fn create(&self, creation: &Creation<'_>) -> Result<(), Error> {
        let head = &creation.run.head;
        let (workspace, block) = (&head.workspace, &head.block);
        let lock = item(
            &Key::lock(workspace, block),
            &Lock {
                run: head.id.clone(),
            },
        )?;
        let mut writes = vec![
            Write::New(head_item(head)?),
            Write::New(item(&Key::input(&head.id), creation.input)?),
            Write::New(wait_item(&head.id, creation.wait)?),
        ];
        match &creation.takeover {
            None => writes.push(Write::New(lock)),
            Some(takeover) => {
                writes.push(Write::Replace(
                    lock,
                    "run",
                    string(&takeover.commit.head.id),
                ));
                // The block is written once, for the run that begins.
                let changes = towpath_engine::Changes {
                    block: towpath_engine::BlockChange::default(),
                    ..takeover.commit.changes.clone()
                };
                writes.extend(
                    self.writes(&Commit {
                        changes: &changes,
                        ..takeover.commit
                    })
                    .await?,
                );
            }
        }
        let in_progress = attribute("status", &towpath_engine::BlockStatus::InProgress)?;
        let values = vec![("status", in_progress), ("runId", string(&head.id))];
        writes.push(Write::Set(Key::block(workspace, block), values));
        if let Some(name) = creation.idempotency {
            let created = Created {
                run: head.id.clone(),
                hash: name.hash.clone(),
            };
            writes.push(Write::New(item(
                &Key::idempotency(workspace, &name.key),
                &created,
            )?));
        }
        self.transact(writes).await
    }

    /// The live run of a block.
    pub async fn live_run(
        &self,
        workspace: &towpath_engine::WorkspaceId,
        block: &towpath_engine::BlockId,
    ) -> Result<Option<RunId>, Error> {
        let item = self.get(&Key::lock(workspace, block)).await?;
        Ok(item.map(record::<Lock>).transpose()?.map(|lock| lock.run))
    }

    /// What a name was first used for.
    pub async fn created(
        &self,
        workspace: &towpath_engine::WorkspaceId,
        key: &str,
    ) -> Result<Option<Created>, Error> {
        self.get(&Key::idempotency(workspace, key))
            .await?
            .map(record)
            .transpose()
    }
}
