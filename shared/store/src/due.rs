//! What must be looked at, and when.

use towpath_engine::{JobId, RunId, Timestamp, WorkspaceId};
use towpath_executors::{ExecutorId, MissionId};
use towpath_table::{Condition, Key, Range, Search, Update, Write, integer, number};

use crate::{Error, Store, index, keys, old_form};

/// The number of shards of the due index: writes of one minute are spread over as many partitions.
pub const DUE_SHARDS: u16 = 16;
/// The most rows of a shard that are listed.
const ALL: i32 = 10_000;

/// Something that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// A run's mailbox.
    Wait(RunId),
    /// A job that must be gone.
    Reap(JobId),
    /// A run that is to be stopped.
    Stop(RunId),
    /// A stop that has not been marked yet.
    StopRequest(RunId),
    /// An executor that may be silent.
    Executor(WorkspaceId, ExecutorId),
    /// A mission whose question was not answered in time.
    Mission(WorkspaceId, MissionId),
    /// A row that this release does not know.
    Unknown,
}

/// A row of the index of what is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRow {
    /// The key of the item.
    pub key: Key,
    /// The record that is due.
    pub due: Due,
}

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

impl Store {
    /// The executors of every workspace. Each is looked at now and then, so the index of what is due has them all.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn all_executors(&self) -> Result<Vec<(WorkspaceId, ExecutorId)>, Error> {
        let mut all = Vec::new();
        for shard in 0..DUE_SHARDS {
            let search = Search {
                index: index::DUE,
                partition: ("dueShard", keys::shard_name(shard)),
                sort: "dueAt",
                range: Range::All,
                ascending: true,
                limit: ALL,
            };
            for item in &self.executors.search(&search).await?.items {
                if let Due::Executor(workspace, id) = DueRow::of_executors(Key::of(item)).due {
                    all.push((workspace, id));
                }
            }
        }
        Ok(all)
    }

    /// What is due in a shard at `now`, the longest overdue first. The index may lag behind: whoever
    /// acts on a row reads it first, and claims it by its condition. Of each table at most `limit`.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn due(&self, shard: u16, now: Timestamp, limit: i32) -> Result<Vec<DueRow>, Error> {
        let search = Search {
            index: index::DUE,
            partition: ("dueShard", keys::shard_name(shard)),
            sort: "dueAt",
            range: Range::UpTo(number(now.0)),
            ascending: true,
            limit,
        };
        let runs = self.runs.search(&search).await?;
        let executors = self.executors.search(&search).await?;
        let runs = runs.items.iter().map(|it| DueRow::of_runs(Key::of(it)));
        let executors = executors.items.iter();
        let executors = executors.map(|it| DueRow::of_executors(Key::of(it)));
        Ok(runs.chain(executors).collect())
    }

    /// Pushes a row back that could not be seen to, so that the rows behind it have their turn: 1 minute, doubling with
    /// each time to 1 hour. A row that was written meanwhile, or is not due any more, stays as it is.
    ///
    /// # Errors
    /// If the row cannot be read or written.
    pub async fn defer(&self, row: &DueRow, now: Timestamp) -> Result<(), Error> {
        let (key, table) = match row.due {
            Due::Executor(..) | Due::Mission(..) => (&row.key, &self.executors),
            _ => (&row.key, &self.runs),
        };
        let Some(item) = table.get(key).await? else {
            return Ok(());
        };
        let Some(at) = integer(&item, "dueAt").filter(|at| *at <= now.0) else {
            return Ok(());
        };
        let tries = integer(&item, "dueTries").unwrap_or(0);
        let pause = (MINUTE << tries.min(6)).min(HOUR);
        let later = Update::default()
            .set("dueAt", number(now.0.saturating_add(pause)))
            .add("dueTries", 1);
        let write = Write::update(key.clone(), later);
        let write = write.when(Condition::Equals("dueAt", number(at)));
        match table.write(write).await {
            Ok(()) | Err(towpath_table::Error::Conflict) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }
}

impl DueRow {
    fn of_runs(key: Key) -> Self {
        let due = match (key.sk.strip_prefix(keys::REAPS), key.sk.as_str()) {
            (Some(job), _) => job.parse().ok().map(Due::Reap),
            (None, keys::HEAD) => key.pk.parse().ok().map(Due::Stop),
            (None, keys::STOP) => key.pk.parse().ok().map(Due::StopRequest),
            (None, keys::WAIT) => key.pk.parse().ok().map(Due::Wait),
            (None, sk) if old_form::SORT_KEYS.contains(&sk) => key.pk.parse().ok().map(Due::Wait),
            _ => None,
        };
        Self {
            due: due.unwrap_or(Due::Unknown),
            key,
        }
    }

    fn of_executors(key: Key) -> Self {
        let due = match (key.pk.split_once("#mission#"), key.sk.as_str()) {
            (Some((workspace, mission)), keys::MISSION) => {
                let both = (workspace.parse().ok(), mission.parse().ok());
                both.0.zip(both.1).map(|(ws, id)| Due::Mission(ws, id))
            }
            (None, executor) => {
                let workspace = key.pk.strip_suffix("#executors");
                let workspace = workspace.and_then(|it| it.parse().ok());
                let both = workspace.zip(executor.parse().ok());
                both.map(|(ws, id)| Due::Executor(ws, id))
            }
            _ => None,
        };
        Self {
            due: due.unwrap_or(Due::Unknown),
            key,
        }
    }
}
