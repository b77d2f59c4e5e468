//! The survey: every run's head and mailbox, every lock and every job that must be gone. It reads the whole table, so it
//! is for an operator's eye, never for a request.

use towpath_engine::{BlockId, Head, JobRef, RunId, Timestamp, Wait, WorkspaceId};
use towpath_table::{Condition, Item, Key, Scan, Write, integer, string};

use crate::create::Lock;
use crate::form::{put, record};
use crate::read::job_ref;
use crate::{Error, Store, keys, old_form};

/// The findings of a look at the whole table.
#[derive(Debug, Default)]
pub struct Survey {
    /// The head of each run.
    pub heads: Vec<Head>,
    /// The mailbox of each run.
    pub waits: Vec<(RunId, Wait)>,
    /// The lock of each block that has one.
    pub locks: Vec<(WorkspaceId, BlockId, RunId)>,
    /// The jobs that must be gone, and when somebody looks at each next.
    pub reaps: Vec<(JobRef, Timestamp)>,
    /// The items that this release cannot read, with the reason.
    pub unreadable: Vec<String>,
}

impl Store {
    /// Surveys everything in the runs table. A thousand items cost about 128 read units.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn survey(&self, table: &dyn Scan) -> Result<Survey, Error> {
        let [head, wait] = old_form::SORT_KEYS;
        let old = table.scan(&[head, wait]).await?;
        for item in old.iter().filter(|item| !old_form::moved(item)) {
            if let Ok(run) = Key::of(item).pk.parse() {
                self.migrate(&run).await?;
            }
        }
        let mut survey = Survey::default();
        let wanted = [keys::HEAD, keys::WAIT, keys::LOCK, keys::REAPS];
        for item in table.scan(&wanted).await? {
            if let Err(error) = survey.add(item) {
                survey.unreadable.push(error.to_string());
            }
        }
        Ok(survey)
    }

    /// Lets a block go whose lock names a run that is over.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the lock names another run by now.
    pub async fn release(
        &self,
        workspace: &WorkspaceId,
        block: &BlockId,
        run: &RunId,
    ) -> Result<(), Error> {
        let delete = Write::delete(keys::lock(workspace, block));
        let delete = delete.when(Condition::Equals("run", string(run)));
        Ok(self.runs.write(delete).await?)
    }

    /// Gives a live run the lock of its block back, if the lock was lost.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the block has a lock by now.
    pub async fn lock_again(&self, head: &Head) -> Result<(), Error> {
        let lock = Lock {
            run: head.id.clone(),
        };
        let lock = put(keys::lock(&head.workspace, &head.block), &lock)?;
        Ok(self.runs.write(lock.when(Condition::Absent)).await?)
    }
}

impl Survey {
    fn add(&mut self, item: Item) -> Result<(), Error> {
        let key = Key::of(&item);
        let due = integer(&item, "dueAt").map_or(Timestamp(0), Timestamp);
        match key.sk.as_str() {
            keys::HEAD => self.heads.push(record(item)?),
            keys::WAIT => {
                let run = key.pk.parse().map_err(|e| Error::damaged(&key, e))?;
                self.waits.push((run, record(item)?));
            }
            keys::LOCK => {
                let broken = || Error::damaged(&key, "it is no block's");
                let (workspace, block) = key.pk.split_once("#block#").ok_or_else(broken)?;
                let parsed = workspace.parse().ok().zip(block.parse().ok());
                let (workspace, block) = parsed.ok_or_else(broken)?;
                self.locks
                    .push((workspace, block, record::<Lock>(item)?.run));
            }
            _ => self.reaps.push((job_ref(item)?, due)),
        }
        Ok(())
    }
}
