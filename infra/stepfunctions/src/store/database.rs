//! Opening and writing the database.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, named_params,
    params,
};
use ulid::Ulid;

#[cfg(test)]
use super::fuse;
use super::row::{integer, json};
use super::{lock, schema};
use crate::error::Error;
use crate::execution::Execution;
use crate::interpreter::HistoryEvent;
use crate::listener::StatusChange;

/// How long AWS keeps a closed execution, and its name from being used again: 90 days.
pub(crate) const RETENTION_MS: u64 = 90 * 24 * 60 * 60 * 1_000;

/// The database.
#[derive(Debug)]
pub(crate) struct Store {
    pub(super) connection: Connection,
    id: String,
    /// The path of the file; `None` for a database in memory.
    file: Option<PathBuf>,
    /// Held while this drives what is in the file.
    lock: Option<File>,
    #[cfg(test)]
    pub(crate) fuse: Option<fuse::Fuse>,
    #[cfg(test)]
    pub(super) disk_is_full: bool,
}

impl Store {
    /// Opens the file, or a database in memory.
    pub(crate) fn open(file: Option<&Path>) -> Result<Self, Error> {
        let lock = file.map(lock::take).transpose()?;
        let connection = match file {
            Some(file) => {
                // SQLite gives its other files the mode of this one.
                lock::make(file)?;
                Connection::open(file)?
            }
            None => Connection::open_in_memory()?,
        };
        schema::prepare(&connection)?;
        let fresh = Ulid::new().to_string();
        connection.execute(
            "INSERT OR IGNORE INTO meta (key, value) VALUES ('id', ?1)",
            [fresh],
        )?;
        Ok(Self {
            id: id_of(&connection)?,
            connection,
            file: file.map(Path::to_owned),
            lock,
            #[cfg(test)]
            fuse: None,
            #[cfg(test)]
            disk_is_full: false,
        })
    }

    /// Opens the file again, after a write that failed: what that write has left there is known only to a connection
    /// that reads the file anew. Preparing the tables writes to the file, so a disk without any room is found out here.
    /// The lock stays taken. A database in memory has rolled the write back, and is as it was before.
    ///
    /// # Errors
    /// If the file cannot be opened or written, or is another store by now.
    pub(crate) fn reopen(&mut self) -> Result<(), Error> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        // Without the flag that makes a file: an empty store in place of one that was removed would lose every execution.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)?;
        schema::prepare(&connection)?;
        if id_of(&connection)? != self.id {
            let message = format!("{} was replaced while it was in use", file.display());
            return Err(Error::Corrupt(message));
        }
        self.connection = connection;
        #[cfg(test)]
        self.limit_pages()?;
        Ok(())
    }

    /// Lets another process open the file.
    pub(crate) fn release(&mut self) {
        self.lock = None;
    }

    /// The id of this store: a token of another store is not known here.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Does something in one transaction. Until this returns, nothing of it has happened.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        #[cfg(test)]
        fuse::Fuse::before(&mut self.fuse)?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        #[cfg(test)]
        fuse::Fuse::after(&mut self.fuse)?;
        Ok(value)
    }

    /// Gives a state machine its definition. Executions that run keep the one they started with; one that nobody uses
    /// any more is forgotten.
    pub(crate) fn put_machine(
        &mut self,
        arn: &str,
        name: &str,
        definition: &str,
        now_ms: u64,
    ) -> Result<(), Error> {
        let now = integer(now_ms)?;
        self.write(|tx| {
            let current: Option<String> = tx
                .query_row(
                    "SELECT d.text FROM machines m JOIN definitions d ON d.id = m.definition WHERE m.arn = ?1",
                    [arn],
                    |row| row.get(0),
                )
                .optional()?;
            if current.as_deref() == Some(definition) {
                return Ok(());
            }
            tx.execute("INSERT INTO definitions (text) VALUES (?1)", [definition])?;
            tx.execute(
                "INSERT INTO machines (arn, name, definition, created) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (arn) DO UPDATE SET definition = excluded.definition",
                params![arn, name, tx.last_insert_rowid(), now],
            )?;
            tx.execute(
                "DELETE FROM definitions WHERE id NOT IN (SELECT definition FROM machines)
                 AND id NOT IN (SELECT definition FROM executions WHERE status = 'RUNNING')",
                [],
            )?;
            Ok(())
        })
    }

    /// Writes a new execution with its first turn, and gives it its number. The turn is taken inside, since tokens name
    /// the number.
    pub(crate) fn insert(
        &mut self,
        execution: &mut Execution,
        turn: impl FnOnce(&mut Execution) -> (Vec<HistoryEvent>, Option<StatusChange>),
        now_ms: u64,
    ) -> Result<(), Error> {
        let expired = integer(now_ms.saturating_sub(RETENTION_MS))?;
        self.write(|tx| {
            forget(tx, "arn = :arn AND status <> 'RUNNING' AND stopped < :expired", &execution.arn, expired)?;
            let started = integer(execution.started_ms)?;
            tx.prepare_cached(
                "INSERT INTO executions (arn, machine_arn, machine_name, name, definition, status, started, input,
                                         position, transitions, invocations, last_event)
                 VALUES (?1, ?2, ?3, ?4, ?5, 'RUNNING', ?6, ?7, '', 0, 0, 0)",
            )?
            .execute(params![
                execution.arn,
                execution.machine_arn,
                execution.machine_name,
                execution.name,
                execution.definition,
                started,
                execution.input,
            ])?;
            execution.seq = tx.last_insert_rowid();
            // An execution that runs has a status to tell of at its start, and perhaps another at its end.
            let running = StatusChange::of(execution);
            let (events, closed) = turn(execution);
            put(tx, execution, &events)?;
            put_notice(tx, &running)?;
            closed.map_or(Ok(()), |change| put_notice(tx, &change))
        })
    }

    /// Writes a turn: the execution as it is now, what is new in its history, and its status if that changed.
    pub(crate) fn commit(
        &mut self,
        execution: &Execution,
        events: &[HistoryEvent],
        notice: Option<&StatusChange>,
    ) -> Result<(), Error> {
        self.write(|tx| {
            put(tx, execution, events)?;
            notice.map_or(Ok(()), |change| put_notice(tx, change))
        })
    }

    /// Forgets a notice that was given.
    pub(crate) fn drop_notice(&mut self, id: i64) -> Result<(), Error> {
        self.write(|tx| {
            tx.prepare_cached("DELETE FROM notices WHERE id = ?1")?
                .execute([id])?;
            Ok(())
        })
    }

    /// Forgets what AWS would have forgotten.
    pub(crate) fn forget_expired(&mut self, now_ms: u64) -> Result<(), Error> {
        let expired = integer(now_ms.saturating_sub(RETENTION_MS))?;
        self.write(|tx| {
            forget(
                tx,
                "status <> 'RUNNING' AND stopped < :expired AND :arn = ''",
                "",
                expired,
            )
        })
    }
}

fn id_of(connection: &Connection) -> Result<String, Error> {
    let query = "SELECT value FROM meta WHERE key = 'id'";
    Ok(connection.query_row(query, [], |row| row.get(0))?)
}

fn forget(tx: &Transaction<'_>, which: &str, arn: &str, expired: i64) -> Result<(), Error> {
    let values = named_params! { ":arn": arn, ":expired": expired };
    tx.prepare_cached(&format!(
        "DELETE FROM events WHERE execution IN (SELECT seq FROM executions WHERE {which})"
    ))?
    .execute(values)?;
    tx.prepare_cached(&format!("DELETE FROM executions WHERE {which}"))?
        .execute(values)?;
    Ok(())
}

fn put(tx: &Transaction<'_>, execution: &Execution, events: &[HistoryEvent]) -> Result<(), Error> {
    let failure = execution.failure.as_ref().map(json).transpose()?;
    tx.prepare_cached(
        "UPDATE executions SET status = ?2, stopped = ?3, output = ?4, failure = ?5, position = ?6, transitions = ?7,
                               invocations = ?8, last_event = ?9, due = ?10
         WHERE seq = ?1",
    )?
    .execute(params![
        execution.seq,
        execution.status.as_str(),
        execution.stopped_ms.map(integer).transpose()?,
        execution.output,
        failure,
        // Where a closed execution was last is in its history.
        if execution.is_running() { json(&execution.position)? } else { String::new() },
        integer(execution.transitions)?,
        integer(execution.invocations)?,
        integer(execution.last_event)?,
        execution.due_ms().map(integer).transpose()?,
    ])?;
    let mut insert = tx.prepare_cached(
        "INSERT INTO events (execution, id, previous, at, kind, member, details) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for event in events {
        let (member, details) = event
            .details
            .as_ref()
            .map(|(member, details)| (member, details.to_string()))
            .unzip();
        let (id, previous, at) = (
            integer(event.id)?,
            integer(event.previous)?,
            integer(event.at_ms)?,
        );
        insert.execute(params![
            execution.seq,
            id,
            previous,
            at,
            event.kind,
            member,
            details
        ])?;
    }
    Ok(())
}

fn put_notice(tx: &Transaction<'_>, change: &StatusChange) -> Result<(), Error> {
    tx.prepare_cached("INSERT INTO notices (body) VALUES (?1)")?
        .execute([json(change)?])?;
    Ok(())
}
