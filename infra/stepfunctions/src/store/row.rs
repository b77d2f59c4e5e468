//! Rows as records, and records as rows.

use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::execution::{Execution, Position, Status};

/// The columns [`execution`] reads, in order.
pub(super) const COLUMNS: &str = "seq, arn, machine_arn, machine_name, name, definition, status, started, stopped, \
     input, output, failure, position, transitions, invocations, last_event";

pub(super) fn execution(row: &Row<'_>) -> Result<Execution, Error> {
    let status: String = row.get(6)?;
    let failure: Option<String> = row.get(11)?;
    let position: String = row.get(12)?;
    Ok(Execution {
        seq: row.get(0)?,
        arn: row.get(1)?,
        machine_arn: row.get(2)?,
        machine_name: row.get(3)?,
        name: row.get(4)?,
        definition: row.get(5)?,
        status: Status::parse(&status)
            .ok_or_else(|| Error::Corrupt(format!("the status {status:?}")))?,
        started_ms: number(row, 7)?,
        stopped_ms: maybe(row, 8)?,
        input: row.get(9)?,
        output: row.get(10)?,
        failure: failure.as_deref().map(from_json).transpose()?,
        position: if position.is_empty() {
            Position::closed()
        } else {
            from_json(&position)?
        },
        transitions: number(row, 13)?,
        invocations: number(row, 14)?,
        last_event: number(row, 15)?,
    })
}

pub(super) fn number(row: &Row<'_>, column: usize) -> Result<u64, Error> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| Error::Corrupt(format!("the number {number}")))
}

fn maybe(row: &Row<'_>, column: usize) -> Result<Option<u64>, Error> {
    let number: Option<i64> = row.get(column)?;
    number
        .map(|number| {
            u64::try_from(number).map_err(|_| Error::Corrupt(format!("the number {number}")))
        })
        .transpose()
}

pub(super) fn integer(number: u64) -> Result<i64, Error> {
    i64::try_from(number).map_err(|_| Error::Corrupt(format!("the number {number} is too large")))
}

pub(super) fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Corrupt(error.to_string()))
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Corrupt(error.to_string()))
}
