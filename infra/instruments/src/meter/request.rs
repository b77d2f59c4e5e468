//! What a request will use, as far as the request tells.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemInput;
use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemInput;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemInput;
use aws_sdk_dynamodb::operation::get_item::GetItemInput;
use aws_sdk_dynamodb::operation::put_item::PutItemInput;
use aws_sdk_dynamodb::operation::query::QueryInput;
use aws_sdk_dynamodb::operation::scan::ScanInput;
use aws_sdk_dynamodb::operation::transact_get_items::TransactGetItemsInput;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsInput;
use aws_sdk_dynamodb::operation::update_item::UpdateItemInput;
use aws_sdk_dynamodb::types::{
    AttributeValue, KeysAndAttributes, ReturnConsumedCapacity, ReturnValue, TransactWriteItem,
    WriteRequest,
};
use aws_smithy_runtime_api::client::interceptors::context::Input;
use aws_smithy_types::config_bag::{Storable, StoreReplace};

use super::Index;
use crate::size::{Item, item_size, value_size};

/// What a transaction multiplies a table's units with: each item is prepared, then written or read.
pub(super) const TRANSACTION: f64 = 2.0;

/// A request on its way. Kept by the SDK until the call is over, through all its attempts.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) operation: &'static str,
    pub(super) work: Work,
}

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

/// The work that a request asks for, as far as it is metered.
#[derive(Debug)]
pub(super) enum Work {
    /// One write. `whole`: it asks for the row as it was or will be.
    Write { write: Write, whole: bool },
    /// Several writes, and the units they use by what was sent.
    Writes { units: f64 },
    /// Rows of one table.
    Read { consistent: bool },
    /// Rows by their keys: of each table how many, and whether consistently.
    BatchRead(HashMap<String, (usize, bool)>),
    /// Rows by their keys, in a transaction.
    TransactRead,
    /// Nothing the meter can count.
    Unknown,
}

/// One row to be written.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) table: String,
    pub(super) bytes: usize,
    pub(super) index_units: f64,
}

impl Sent {
    /// Reads the request, and makes it ask for the units it consumes unless it says otherwise itself.
    pub(super) fn read(input: &mut Input, indexes: &[Index]) -> Self {
        let (operation, work) = single_writes(input, indexes)
            .or_else(|| several_writes(input, indexes))
            .or_else(|| reads(input))
            .unwrap_or(("other", Work::Unknown));
        Self { operation, work }
    }
}

fn ask(capacity: &mut Option<ReturnConsumedCapacity>) {
    capacity.get_or_insert(ReturnConsumedCapacity::Indexes);
}

fn single_writes(input: &mut Input, indexes: &[Index]) -> Option<(&'static str, Work)> {
    let whole = |asked: &Option<ReturnValue>| {
        matches!(asked, Some(ReturnValue::AllOld | ReturnValue::AllNew))
    };
    if let Some(put) = input.downcast_mut::<PutItemInput>() {
        ask(&mut put.return_consumed_capacity);
        let write = Write::put(name(&put.table_name), put.item.as_ref()?, indexes);
        Some((
            "PutItem",
            Work::Write {
                write,
                whole: whole(&put.return_values),
            },
        ))
    } else if let Some(update) = input.downcast_mut::<UpdateItemInput>() {
        ask(&mut update.return_consumed_capacity);
        let change = Change {
            key: update.key.as_ref()?,
            expression: update.update_expression.as_deref().unwrap_or_default(),
            names: update.expression_attribute_names.as_ref(),
            values: update.expression_attribute_values.as_ref(),
        };
        let write = Write::update(name(&update.table_name), &change, indexes);
        Some((
            "UpdateItem",
            Work::Write {
                write,
                whole: whole(&update.return_values),
            },
        ))
    } else if let Some(delete) = input.downcast_mut::<DeleteItemInput>() {
        ask(&mut delete.return_consumed_capacity);
        let write = Write::of_key(name(&delete.table_name), delete.key.as_ref()?);
        Some((
            "DeleteItem",
            Work::Write {
                write,
                whole: whole(&delete.return_values),
            },
        ))
    } else {
        None
    }
}

fn several_writes(input: &mut Input, indexes: &[Index]) -> Option<(&'static str, Work)> {
    if let Some(transaction) = input.downcast_mut::<TransactWriteItemsInput>() {
        ask(&mut transaction.return_consumed_capacity);
        let actions = transaction.transact_items.iter().flatten();
        let units = actions
            .filter_map(|action| Write::action(action, indexes))
            .map(|write| write.units(TRANSACTION));
        Some(("TransactWriteItems", Work::Writes { units: units.sum() }))
    } else if let Some(batch) = input.downcast_mut::<BatchWriteItemInput>() {
        ask(&mut batch.return_consumed_capacity);
        let units = batch
            .request_items
            .as_ref()
            .map_or(0.0, |requests| batch_units(requests, indexes));
        Some(("BatchWriteItem", Work::Writes { units }))
    } else {
        None
    }
}

fn reads(input: &mut Input) -> Option<(&'static str, Work)> {
    let read = |consistent: Option<bool>| Work::Read {
        consistent: consistent.unwrap_or_default(),
    };
    if let Some(get) = input.downcast_mut::<GetItemInput>() {
        ask(&mut get.return_consumed_capacity);
        Some(("GetItem", read(get.consistent_read)))
    } else if let Some(query) = input.downcast_mut::<QueryInput>() {
        ask(&mut query.return_consumed_capacity);
        Some(("Query", read(query.consistent_read)))
    } else if let Some(scan) = input.downcast_mut::<ScanInput>() {
        ask(&mut scan.return_consumed_capacity);
        Some(("Scan", read(scan.consistent_read)))
    } else if let Some(batch) = input.downcast_mut::<BatchGetItemInput>() {
        ask(&mut batch.return_consumed_capacity);
        Some((
            "BatchGetItem",
            Work::BatchRead(
                batch
                    .request_items
                    .as_ref()
                    .map(asked_for)
                    .unwrap_or_default(),
            ),
        ))
    } else if let Some(transaction) = input.downcast_mut::<TransactGetItemsInput>() {
        ask(&mut transaction.return_consumed_capacity);
        Some(("TransactGetItems", Work::TransactRead))
    } else {
        None
    }
}

/// Of each table how many rows, and whether consistently.
pub(super) fn asked_for(
    keys: &HashMap<String, KeysAndAttributes>,
) -> HashMap<String, (usize, bool)> {
    let asked =
        |keys: &KeysAndAttributes| (keys.keys.len(), keys.consistent_read.unwrap_or_default());
    keys.iter()
        .map(|(table, keys)| (table.clone(), asked(keys)))
        .collect()
}

/// Units of the requests of a batch, or of those that it left undone.
pub(super) fn batch_units(requests: &HashMap<String, Vec<WriteRequest>>, indexes: &[Index]) -> f64 {
    let writes = requests
        .iter()
        .flat_map(|(table, requests)| requests.iter().map(move |request| (table, request)));
    let units = writes.map(|(table, request)| match &request.put_request {
        Some(put) => Write::put(table, &put.item, indexes).units(1.0),
        None => 1.0,
    });
    units.sum()
}

/// Write units of a row: one for each KB begun, at least one.
pub(super) fn write_units(bytes: usize) -> f64 {
    whole_blocks(bytes, 1024)
}

/// Read units of that many bytes: one for each 4 KB begun, at least one, half as much if not consistent.
pub(super) fn read_units(bytes: usize, consistent: bool) -> f64 {
    whole_blocks(bytes, 4096) * if consistent { 1.0 } else { 0.5 }
}

fn whole_blocks(bytes: usize, block: usize) -> f64 {
    // No request or answer comes near 2³² blocks.
    f64::from(u32::try_from(bytes.div_ceil(block).max(1)).unwrap_or(u32::MAX))
}

/// Units of the writes to the indexes that this row is in.
pub(super) fn index_units(table: &str, row: &Item, indexes: &[Index]) -> f64 {
    let of_table = indexes.iter().filter(|index| index.table == table);
    let holding = of_table.filter(|index| index.keys.iter().all(|key| row.contains_key(key)));
    let copied = |index: &Index| match &index.copies {
        None => item_size(row),
        Some(names) => {
            let copies = names
                .iter()
                .filter_map(|name| row.get(name).map(|value| name.len() + value_size(value)));
            copies.sum()
        }
    };
    holding.map(|index| write_units(copied(index))).sum()
}

fn name(table: &Option<String>) -> &str {
    table.as_deref().unwrap_or_default()
}

/// The attributes that an update changes.
struct Change<'r> {
    key: &'r Item,
    expression: &'r str,
    names: Option<&'r HashMap<String, String>>,
    values: Option<&'r HashMap<String, AttributeValue>>,
}

impl Write {
    /// Units on the table, times `factor`, and on its indexes.
    pub(super) fn units(&self, factor: f64) -> f64 {
        write_units(self.bytes) * factor + self.index_units
    }

    fn put(table: &str, row: &Item, indexes: &[Index]) -> Self {
        Self {
            table: table.to_owned(),
            bytes: item_size(row),
            index_units: index_units(table, row, indexes),
        }
    }

    fn of_key(table: &str, key: &Item) -> Self {
        Self {
            table: table.to_owned(),
            bytes: item_size(key),
            index_units: 0.0,
        }
    }

    fn update(table: &str, change: &Change<'_>, indexes: &[Index]) -> Self {
        let mentioned = change.mentioned();
        let names: usize = mentioned.iter().map(|name| name.len()).sum();
        let bytes = item_size(change.key) + names + change.new_values();
        let moved = indexes
            .iter()
            .filter(|index| index.table == table && change.touches(index, &mentioned));
        let index_units = moved.map(|_| write_units(bytes)).sum();
        Self {
            table: table.to_owned(),
            bytes,
            index_units,
        }
    }

    fn action(action: &TransactWriteItem, indexes: &[Index]) -> Option<Self> {
        if let Some(put) = &action.put {
            Some(Self::put(&put.table_name, &put.item, indexes))
        } else if let Some(update) = &action.update {
            let change = Change {
                key: &update.key,
                expression: &update.update_expression,
                names: update.expression_attribute_names.as_ref(),
                values: update.expression_attribute_values.as_ref(),
            };
            Some(Self::update(&update.table_name, &change, indexes))
        } else if let Some(delete) = &action.delete {
            Some(Self::of_key(&delete.table_name, &delete.key))
        } else {
            action
                .condition_check
                .as_ref()
                .map(|check| Self::of_key(&check.table_name, &check.key))
        }
    }
}

impl<'r> Change<'r> {
    fn tokens(&self) -> impl Iterator<Item = &'r str> {
        let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '#' | ':');
        self.expression
            .split(move |c| !part(c))
            .filter(|token| !token.is_empty())
    }

    /// The attributes that the expression names, its parameters resolved and its own words left out.
    fn mentioned(&self) -> BTreeSet<&'r str> {
        const WORDS: [&str; 6] = [
            "set",
            "remove",
            "add",
            "delete",
            "if_not_exists",
            "list_append",
        ];
        let attributes = self
            .tokens()
            .filter(|token| !token.starts_with(|c: char| c == ':' || c.is_ascii_digit()));
        let attributes =
            attributes.filter(|token| !WORDS.iter().any(|word| word.eq_ignore_ascii_case(token)));
        attributes
            .map(|token| {
                self.names
                    .and_then(|names| names.get(token))
                    .map_or(token, String::as_str)
            })
            .collect()
    }

    /// Bytes of the values that the expression uses. (Those of the condition come in the same map.)
    fn new_values(&self) -> usize {
        let values: BTreeSet<&str> = self
            .tokens()
            .filter(|token| token.starts_with(':'))
            .collect();
        let values = values
            .into_iter()
            .filter_map(|token| self.values.and_then(|values| values.get(token)));
        values.map(value_size).sum()
    }

    fn touches(&self, index: &Index, mentioned: &BTreeSet<&str>) -> bool {
        let mentions = |name: &String| mentioned.contains(name.as_str());
        let of_table_key = index.keys.iter().all(|key| self.key.contains_key(key));
        let copies = index
            .copies
            .as_ref()
            .is_none_or(|copies| copies.iter().any(mentions));
        index.keys.iter().any(mentions) || (of_table_key && copies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> AttributeValue {
        AttributeValue::S(value.to_owned())
    }

    fn index(keys: &[&str], copies: Option<&[&str]>) -> Index {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Index {
            table: "runs".to_owned(),
            keys: owned(keys),
            copies: copies.map(owned),
        }
    }

    fn update(expression: &str, indexes: &[Index]) -> Write {
        let key = Item::from([("pk".to_owned(), text("run_1"))]);
        let names = HashMap::from([("#s".to_owned(), "status".to_owned())]);
        let values = HashMap::from([
            (":s".to_owned(), text("done")),
            (":rev".to_owned(), text("condition")),
        ]);
        let change = Change {
            key: &key,
            expression,
            names: Some(&names),
            values: Some(&values),
        };
        Write::update("runs", &change, indexes)
    }

    #[test]
    fn an_update_is_as_large_as_its_key_and_what_it_sets() {
        // pk run_1, status done; neither the words of the language nor the condition's value.
        assert_eq!(
            update("SET #s = if_not_exists(#s, :s)", &[]).bytes,
            2 + 5 + 6 + 4
        );
        assert_eq!(update("REMOVE a.b[0], c", &[]).bytes, 2 + 5 + 1 + 1 + 1);
    }

    #[test]
    fn an_update_counts_an_index_when_it_touches_its_key() {
        let by_status = [index(&["status"], None)];
        assert!(update("SET #s = :s", &by_status).index_units > 0.0);
        assert!(update("REMOVE #s", &by_status).index_units > 0.0);
        assert_eq!(update("SET note = :s", &by_status).index_units, 0.0);
        assert_eq!(update("SET status2 = :s", &by_status).index_units, 0.0);
    }

    #[test]
    fn an_index_on_the_tables_own_key_counts_when_what_it_copies_changes() {
        assert!(update("SET note = :s", &[index(&["pk"], None)]).index_units > 0.0);
        assert!(
            update("SET note = :s", &[index(&["pk"], Some(&["pk", "note"]))]).index_units > 0.0
        );
        assert_eq!(
            update("SET note = :s", &[index(&["pk"], Some(&["pk"]))]).index_units,
            0.0
        );
    }

    #[test]
    fn an_index_counts_what_it_copies() {
        let row = Item::from([
            ("pk".to_owned(), text("run_1")),
            ("body".to_owned(), text(&"x".repeat(3000))),
        ]);
        assert_eq!(index_units("runs", &row, &[index(&["pk"], None)]), 3.0);
        assert_eq!(
            index_units("runs", &row, &[index(&["pk"], Some(&["pk"]))]),
            1.0
        );
        assert_eq!(
            index_units("runs", &row, &[index(&["pk", "due"], None)]),
            0.0
        );
        assert_eq!(index_units("executors", &row, &[index(&["pk"], None)]), 0.0);
    }

    #[test]
    fn units_are_blocks_begun() {
        assert_eq!([0, 1, 1024, 1025].map(write_units), [1.0, 1.0, 1.0, 2.0]);
        assert_eq!(
            [0, 4096, 4097].map(|bytes| read_units(bytes, true)),
            [1.0, 1.0, 2.0]
        );
        assert_eq!(read_units(4097, false), 1.0);
    }
}
