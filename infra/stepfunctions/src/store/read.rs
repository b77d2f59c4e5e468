//! Reading the database.

use rusqlite::{OptionalExtension as _, Params};

use super::database::Store;
use super::row::{COLUMNS, execution, from_json, integer, number};
use crate::error::Error;
use crate::execution::{Execution, Status};
use crate::interpreter::HistoryEvent;
use crate::listener::StatusChange;

/// The numbers of what was done since the store was made (closed executions count for 90 days).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Executions started.
    pub executions: u64,
    /// State transitions as AWS bills them: one for the start, one for each state entered, one for each retry.
    pub transitions: u64,
    /// Functions called.
    pub invocations: u64,
}

/// A state machine and its current definition.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) definition: i64,
    pub(crate) text: String,
    pub(crate) created_ms: u64,
}

/// A part of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// The last item that the caller already has, if any.
    pub(crate) after: Option<u64>,
    pub(crate) limit: u64,
    /// Highest first.
    pub(crate) reverse: bool,
}

impl Store {
    fn executions(&self, rest: &str, values: impl Params) -> Result<Vec<Execution>, Error> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM executions WHERE {rest}"))?;
        let rows = statement.query_and_then(values, execution)?;
        rows.collect()
    }

    pub(crate) fn execution(&self, seq: i64) -> Result<Option<Execution>, Error> {
        Ok(self.executions("seq = ?1", [seq])?.pop())
    }

    pub(crate) fn execution_by_arn(&self, arn: &str) -> Result<Option<Execution>, Error> {
        Ok(self.executions("arn = ?1", [arn])?.pop())
    }

    /// Executions of a machine, newest first.
    pub(crate) fn list(
        &self,
        machine: &str,
        status: Option<Status>,
        page: Page,
    ) -> Result<Vec<Execution>, Error> {
        let before = page.after.map_or(Ok(i64::MAX), integer)?;
        let limit = integer(page.limit)?;
        let status = status.map(Status::as_str);
        self.executions(
            "machine_arn = ?1 AND seq < ?2 AND (?3 IS NULL OR status = ?3) ORDER BY seq DESC LIMIT ?4",
            rusqlite::params![machine, before, status, limit],
        )
    }

    pub(crate) fn machine(&self, arn: &str) -> Result<Option<Machine>, Error> {
        Ok(self.machines_where("m.arn = ?1", [arn])?.pop())
    }

    pub(crate) fn machines(&self) -> Result<Vec<Machine>, Error> {
        self.machines_where("TRUE ORDER BY m.name", [])
    }

    fn machines_where(&self, rest: &str, values: impl Params) -> Result<Vec<Machine>, Error> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT m.arn, m.name, m.definition, d.text, m.created
             FROM machines m JOIN definitions d ON d.id = m.definition WHERE {rest}"
        ))?;
        let rows = statement.query_and_then(values, |row| {
            Ok(Machine {
                arn: row.get(0)?,
                name: row.get(1)?,
                definition: row.get(2)?,
                text: row.get(3)?,
                created_ms: number(row, 4)?,
            })
        })?;
        rows.collect()
    }

    pub(crate) fn definition(&self, id: i64) -> Result<Option<String>, Error> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT text FROM definitions WHERE id = ?1")?;
        Ok(statement.query_row([id], |row| row.get(0)).optional()?)
    }

    /// The numbers of the executions that run.
    pub(crate) fn running(&self) -> Result<Vec<i64>, Error> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT seq FROM executions WHERE status = 'RUNNING'")?;
        Ok(statement
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?)
    }

    /// The execution that is due first, and when.
    pub(crate) fn next_due(&self) -> Result<Option<(u64, i64)>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT due, seq FROM executions WHERE due IS NOT NULL ORDER BY due LIMIT 1",
        )?;
        let mut rows =
            statement.query_and_then([], |row| Ok::<_, Error>((number(row, 0)?, row.get(1)?)))?;
        rows.next().transpose()
    }

    pub(crate) fn events(&self, execution: i64, page: Page) -> Result<Vec<HistoryEvent>, Error> {
        let (range, order) = if page.reverse {
            ("id < ?2", "DESC")
        } else {
            ("id > ?2", "ASC")
        };
        let from = match page.after {
            Some(id) => integer(id)?,
            None if page.reverse => i64::MAX,
            None => 0,
        };
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT id, previous, at, kind, member, details FROM events
             WHERE execution = ?1 AND {range} ORDER BY id {order} LIMIT ?3"
        ))?;
        let rows = statement.query_and_then([execution, from, integer(page.limit)?], |row| {
            let (member, details): (Option<String>, Option<String>) = (row.get(4)?, row.get(5)?);
            Ok(HistoryEvent {
                id: number(row, 0)?,
                previous: number(row, 1)?,
                at_ms: number(row, 2)?,
                kind: row.get(3)?,
                details: member
                    .zip(details)
                    .map(|(member, details)| Ok::<_, Error>((member, from_json(&details)?)))
                    .transpose()?,
            })
        })?;
        rows.collect()
    }

    /// The oldest status change that the listener was not yet told of.
    pub(crate) fn next_notice(&self) -> Result<Option<(i64, StatusChange)>, Error> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id, body FROM notices ORDER BY id LIMIT 1")?;
        let mut rows = statement.query_and_then([], |row| {
            let body: String = row.get(1)?;
            Ok::<_, Error>((row.get(0)?, from_json(&body)?))
        })?;
        rows.next().transpose()
    }

    pub(crate) fn counts(&self) -> Result<Counts, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT COUNT(*), COALESCE(SUM(transitions), 0), COALESCE(SUM(invocations), 0) FROM executions",
        )?;
        let mut rows = statement.query_and_then([], |row| {
            Ok(Counts {
                executions: number(row, 0)?,
                transitions: number(row, 1)?,
                invocations: number(row, 2)?,
            })
        })?;
        rows.next().unwrap_or_else(|| Ok(Counts::default()))
    }
}
