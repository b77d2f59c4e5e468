//! The tables.

use rusqlite::Connection;

use crate::error::Error;

/// Raised whenever the tables change: a file of another version is refused rather than misread.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS definitions (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS machines (
    arn TEXT PRIMARY KEY, name TEXT NOT NULL, definition INTEGER NOT NULL, created INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS executions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    arn TEXT NOT NULL UNIQUE,
    machine_arn TEXT NOT NULL,
    machine_name TEXT NOT NULL,
    name TEXT NOT NULL,
    definition INTEGER NOT NULL,
    status TEXT NOT NULL,
    started INTEGER NOT NULL,
    stopped INTEGER,
    input TEXT NOT NULL,
    output TEXT,
    failure TEXT,
    timeout INTEGER,
    position TEXT NOT NULL,
    transitions INTEGER NOT NULL,
    invocations INTEGER NOT NULL,
    last_event INTEGER NOT NULL,
    due INTEGER
);
CREATE INDEX IF NOT EXISTS executions_due ON executions (due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS executions_machine ON executions (machine_arn, seq);
CREATE TABLE IF NOT EXISTS events (
    execution INTEGER NOT NULL, id INTEGER NOT NULL, previous INTEGER NOT NULL, at INTEGER NOT NULL,
    kind TEXT NOT NULL, member TEXT, details TEXT,
    PRIMARY KEY (execution, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notices (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
";

pub(super) fn prepare(connection: &Connection) -> Result<(), Error> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.set_prepared_statement_cache_capacity(64);
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version != 0 && version != VERSION {
        return Err(Error::Corrupt(format!(
            "its version is {version}, this program's is {VERSION}"
        )));
    }
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    Ok(())
}
