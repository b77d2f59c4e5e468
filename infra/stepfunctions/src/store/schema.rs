//! The tables.

use rusqlite::Connection;

use crate::error::Error;

/// The version of the tables. A file of a version that is not known is refused rather than misread.
const VERSION: i64 = 2;
/// The version of the release 0.1.0. Its tables have one column more, which was always null and is not used any more.
const VERSION_0_1_0: i64 = 1;

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
    if ![0, VERSION_0_1_0, VERSION].contains(&version) {
        return Err(Error::Corrupt(format!(
            "the version of the file is {version}, and this program reads {VERSION_0_1_0} and {VERSION}; use the release that wrote it"
        )));
    }
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    Ok(())
}
