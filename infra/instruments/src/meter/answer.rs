//! What a request has used, now that it was answered.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemOutput;
use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemOutput;
use aws_sdk_dynamodb::operation::delete_item::{DeleteItemError, DeleteItemOutput};
use aws_sdk_dynamodb::operation::get_item::GetItemOutput;
use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemOutput};
use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::scan::ScanOutput;
use aws_sdk_dynamodb::operation::transact_get_items::TransactGetItemsOutput;
use aws_sdk_dynamodb::operation::transact_write_items::{
    TransactWriteItemsError, TransactWriteItemsOutput,
};
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::ConsumedCapacity;
use aws_smithy_runtime_api::client::interceptors::context::{Error, Output};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;

use super::request::{
    Sent, TRANSACTION, Work, Write, asked_for, batch_units, index_units, read_units,
};
use super::{Index, Units};
use crate::size::{Item, item_size};

/// Units of a request that was granted.
pub(super) fn units(sent: &Sent, output: &Output, indexes: &[Index]) -> Units {
    match &sent.work {
        Work::Write { write, whole } => one_write(write, *whole, output, indexes),
        Work::Writes { units } => writes(*units, output, indexes),
        Work::Read { consistent } => read(*consistent, output),
        Work::BatchRead(asked) => batch_read(asked, output),
        Work::TransactRead => transact_read(output),
        Work::Unknown => Units::default(),
    }
}

/// Units of a request that was not granted, or to which no answer came.
pub(super) fn units_of_failure(sent: &Sent, error: &OrchestratorError<Error>) -> Units {
    let lost = error.is_timeout_error()
        || error.is_response_error()
        || error
            .as_connector_error()
            .is_some_and(|error| !error.is_user());
    if !lost && !error.as_operation_error().is_some_and(was_tried) {
        return Units::default();
    }
    let write_computed = match &sent.work {
        Work::Write { write, .. } => write.units(1.0),
        Work::Writes { units } => *units,
        _ => 0.0,
    };
    Units {
        write_computed,
        ..Units::default()
    }
}

/// Whether the service looked at the rows before it refused.
fn was_tried(error: &Error) -> bool {
    error
        .downcast_ref()
        .is_some_and(PutItemError::is_conditional_check_failed_exception)
        || error
            .downcast_ref()
            .is_some_and(UpdateItemError::is_conditional_check_failed_exception)
        || error
            .downcast_ref()
            .is_some_and(DeleteItemError::is_conditional_check_failed_exception)
        || error
            .downcast_ref()
            .is_some_and(TransactWriteItemsError::is_transaction_canceled_exception)
}

fn one_write(write: &Write, whole: bool, output: &Output, indexes: &[Index]) -> Units {
    let put = output
        .downcast_ref::<PutItemOutput>()
        .map(|put| (put.attributes(), put.consumed_capacity()));
    let update = || {
        output
            .downcast_ref::<UpdateItemOutput>()
            .map(|done| (done.attributes(), done.consumed_capacity()))
    };
    let delete = output.downcast_ref::<DeleteItemOutput>();
    let (row, capacity) = put
        .or_else(update)
        .or_else(|| delete.map(|done| (done.attributes(), done.consumed_capacity())))
        .unwrap_or_default();
    let row = row.filter(|_| whole);
    let bytes = row.map_or(0, item_size).max(write.bytes);
    // Which indexes a deleted row leaves, only the row can tell.
    let left = row
        .filter(|_| delete.is_some())
        .map_or(0.0, |row| index_units(&write.table, row, indexes));
    let write = Write {
        table: String::new(),
        bytes,
        index_units: write.index_units + left,
    };
    Units {
        write_computed: write.units(1.0),
        write_reported: total(capacity),
        ..Units::default()
    }
}

fn writes(sent: f64, output: &Output, indexes: &[Index]) -> Units {
    if let Some(done) = output.downcast_ref::<TransactWriteItemsOutput>() {
        // A transaction that had been done before, by its token, is answered by reading.
        let read_reported = done
            .consumed_capacity()
            .iter()
            .filter_map(ConsumedCapacity::read_capacity_units)
            .sum();
        let all: f64 = total(done.consumed_capacity());
        return Units {
            write_computed: sent,
            write_reported: all - read_reported,
            read_reported,
            ..Units::default()
        };
    }
    let Some(done) = output.downcast_ref::<BatchWriteItemOutput>() else {
        return Units::default();
    };
    let undone = done
        .unprocessed_items()
        .map_or(0.0, |requests| batch_units(requests, indexes));
    Units {
        write_computed: sent - undone,
        write_reported: total(done.consumed_capacity()),
        ..Units::default()
    }
}

fn read(consistent: bool, output: &Output) -> Units {
    let rows = |rows: &[Item]| rows.iter().map(item_size).sum();
    let (bytes, capacity) = if let Some(got) = output.downcast_ref::<GetItemOutput>() {
        (got.item().map_or(0, item_size), got.consumed_capacity())
    } else if let Some(found) = output.downcast_ref::<QueryOutput>() {
        (rows(found.items()), found.consumed_capacity())
    } else if let Some(found) = output.downcast_ref::<ScanOutput>() {
        (rows(found.items()), found.consumed_capacity())
    } else {
        return Units::default();
    };
    reads(read_units(bytes, consistent), total(capacity))
}

fn batch_read(asked: &HashMap<String, (usize, bool)>, output: &Output) -> Units {
    let Some(done) = output.downcast_ref::<BatchGetItemOutput>() else {
        return Units::default();
    };
    let undone = done.unprocessed_keys().map(asked_for).unwrap_or_default();
    let of_table = |table: &String, asked: usize, consistent: bool| {
        let rows = done
            .responses()
            .and_then(|rows| rows.get(table))
            .map(Vec::as_slice)
            .unwrap_or_default();
        let missed =
            asked.saturating_sub(rows.len() + undone.get(table).map_or(0, |undone| undone.0));
        let misses = std::iter::repeat_n(0, missed);
        rows.iter()
            .map(item_size)
            .chain(misses)
            .map(|bytes| read_units(bytes, consistent))
            .sum::<f64>()
    };
    let computed = asked
        .iter()
        .map(|(table, (asked, consistent))| of_table(table, *asked, *consistent))
        .sum();
    reads(computed, total(done.consumed_capacity()))
}

fn transact_read(output: &Output) -> Units {
    let Some(done) = output.downcast_ref::<TransactGetItemsOutput>() else {
        return Units::default();
    };
    let rows = done
        .responses()
        .iter()
        .map(|row| read_units(row.item().map_or(0, item_size), true) * TRANSACTION);
    reads(rows.sum(), total(done.consumed_capacity()))
}

fn reads(read_computed: f64, read_reported: f64) -> Units {
    Units {
        read_computed,
        read_reported,
        ..Units::default()
    }
}

fn total<'c>(capacity: impl IntoIterator<Item = &'c ConsumedCapacity>) -> f64 {
    capacity
        .into_iter()
        .filter_map(ConsumedCapacity::capacity_units)
        .sum()
}
