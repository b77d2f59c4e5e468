//! Items: a record and the keys it is found by.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem, Update};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use towpath_engine::{Block, JobId, RunId, Segment, StepIndex, Timestamp, Wait};

use crate::Error;
use crate::keys::{Key, shard, shard_name};

pub(crate) type Item = HashMap<String, AttributeValue>;

/// What a run was started with. Written once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The block as it was.
    pub block: Block,
    /// Where the records of the steps before the run's first one are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<Segment>,
}

impl Input {
    /// The run that holds the record of this step: another one, for steps that were done before this run.
    pub fn holder<'a>(&'a self, run: &'a RunId, step: StepIndex) -> &'a RunId {
        self.lineage
            .iter()
            .find(|segment| step < segment.upto)
            .map_or(run, |segment| &segment.run)
    }

    /// The lineage of a run that begins at `from` and keeps what `run`, whose inputs these are, did before.
    pub fn lineage_at(&self, run: &RunId, from: StepIndex) -> Vec<Segment> {
        let mut lineage: Vec<Segment> = Vec::new();
        for segment in self.lineage.iter().cloned().chain([Segment {
            upto: StepIndex(u16::MAX),
            run: run.clone(),
        }]) {
            let upto = segment.upto.min(from);
            if lineage.last().map_or(StepIndex(0), |last| last.upto) < upto {
                lineage.push(Segment { upto, ..segment });
            }
        }
        lineage
    }
}

/// Who may have a live run on a block.
#[derive(Serialize, Deserialize)]
pub(crate) struct Lock {
    pub(crate) run: RunId,
}

/// A job that must be gone.
#[derive(Serialize, Deserialize)]
pub(crate) struct Reap {
    pub(crate) job: JobId,
}

/// An item of `record` under `key`.
pub(crate) fn item<T: Serialize>(key: &Key, record: &T) -> Result<Item, Error> {
    let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(record)
        .map_err(|e| Error::damaged(&key.sk, e))?;
    item.extend(
        key.attributes()
            .map(|(name, value)| (name.to_owned(), value)),
    );
    Ok(item)
}

/// The record of an item.
pub(crate) fn record<T: DeserializeOwned>(item: Item) -> Result<T, Error> {
    let key = item
        .get("sk")
        .and_then(|sk| sk.as_s().ok())
        .cloned()
        .unwrap_or_default();
    serde_dynamo::aws_sdk_dynamodb_1::from_item(item).map_err(|e| Error::damaged(&key, e))
}

/// Puts an item into the index of what is due.
pub(crate) fn due(item: &mut Item, pk: &str, at: Timestamp) {
    item.insert(
        "dueShard".to_owned(),
        AttributeValue::S(shard_name(shard(pk))),
    );
    item.insert("dueAt".to_owned(), AttributeValue::N(at.0.to_string()));
}

/// Puts an item into the listing of a workspace.
pub(crate) fn listed(item: &mut Item, listing: String, at: String) {
    item.insert("listing".to_owned(), AttributeValue::S(listing));
    item.insert("listedAt".to_owned(), AttributeValue::S(at));
}

/// The item of a mailbox: due while anything is still to happen.
pub(crate) fn wait_item(run: &RunId, wait: &Wait) -> Result<Item, Error> {
    let key = Key::wait(run);
    let mut item = item(&key, wait)?;
    if let Some(at) = wait.due {
        due(&mut item, &key.pk, at);
    }
    Ok(item)
}

/// One write of a transaction, with its condition.
pub(crate) enum Write {
    /// A new item: there is none of this key yet.
    New(Item),
    /// An item, whatever was there.
    Over(Item),
    /// An item in place of the one whose `name` is `value`.
    Replace(Item, &'static str, AttributeValue),
    /// No item any more; if there was one, it had `name` as `value`.
    Remove(Key, &'static str, AttributeValue),
    /// Some attributes of an item that exists.
    Set(Key, Vec<(&'static str, AttributeValue)>),
}

impl Write {
    pub(crate) fn into_item(self, table: &str) -> Result<TransactWriteItem, Error> {
        const ABSENT: &str = "attribute_not_exists(pk)";
        let broken = |e: aws_sdk_dynamodb::error::BuildError| Error::Broken(e.to_string());
        let put = |item: Item| Put::builder().table_name(table).set_item(Some(item));
        let builder = TransactWriteItem::builder();
        Ok(match self {
            Write::New(item) => builder.put(
                put(item)
                    .condition_expression(ABSENT)
                    .build()
                    .map_err(broken)?,
            ),
            Write::Over(item) => builder.put(put(item).build().map_err(broken)?),
            Write::Replace(item, name, value) => builder.put(
                put(item)
                    .condition_expression("#held = :held")
                    .expression_attribute_names("#held", name)
                    .expression_attribute_values(":held", value)
                    .build()
                    .map_err(broken)?,
            ),
            Write::Remove(key, name, value) => builder.delete(
                Delete::builder()
                    .table_name(table)
                    .set_key(Some(key_map(&key)))
                    // A lock that was lost keeps nobody from ending.
                    .condition_expression("#held = :held OR attribute_not_exists(pk)")
                    .expression_attribute_names("#held", name)
                    .expression_attribute_values(":held", value)
                    .build()
                    .map_err(broken)?,
            ),
            Write::Set(key, values) => {
                let mut update = Update::builder()
                    .table_name(table)
                    .set_key(Some(key_map(&key)))
                    .condition_expression("attribute_exists(pk)")
                    .expression_attribute_names("#rev", "rev")
                    .expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
                let mut expression = "SET #rev = #rev + :one".to_owned();
                for (index, (name, value)) in values.into_iter().enumerate() {
                    expression.push_str(&format!(", #n{index} = :v{index}"));
                    update = update
                        .expression_attribute_names(format!("#n{index}"), name)
                        .expression_attribute_values(format!(":v{index}"), value);
                }
                builder.update(
                    update
                        .update_expression(expression)
                        .build()
                        .map_err(broken)?,
                )
            }
        }
        .build())
    }
}

pub(crate) fn key_map(key: &Key) -> Item {
    key.attributes()
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(crate) fn string(value: impl ToString) -> AttributeValue {
    AttributeValue::S(value.to_string())
}

pub(crate) fn attribute<T: Serialize>(name: &str, value: &T) -> Result<AttributeValue, Error> {
    serde_dynamo::aws_sdk_dynamodb_1::to_attribute_value(value).map_err(|e| Error::damaged(name, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n: u8) -> RunId {
        RunId::from_ulid(&format!("{n:026}")).unwrap()
    }

    fn input(lineage: &[(u16, u8)]) -> Input {
        let lineage = lineage
            .iter()
            .map(|(upto, n)| Segment {
                upto: StepIndex(*upto),
                run: run(*n),
            })
            .collect();
        let block = serde_json::json!({"id": "b", "workspace": "w", "title": ""});
        Input {
            block: serde_json::from_value(block).unwrap(),
            lineage,
        }
    }

    #[test]
    fn a_retry_of_a_retry_finds_every_step_where_it_was_done() {
        let first = input(&[]);
        assert_eq!(first.lineage_at(&run(1), StepIndex(0)), []);
        let second = Input {
            lineage: first.lineage_at(&run(1), StepIndex(3)),
            ..first
        };
        let third = Input {
            lineage: second.lineage_at(&run(2), StepIndex(5)),
            ..second.clone()
        };
        let here = run(3);
        let holders: Vec<_> = (0..6)
            .map(|step| third.holder(&here, StepIndex(step)).clone())
            .collect();
        assert_eq!(holders, [run(1), run(1), run(1), run(2), run(2), run(3)]);
        // Restarting the second run before its own first step leads back to the first alone.
        let fourth = Input {
            lineage: second.lineage_at(&run(2), StepIndex(2)),
            ..second
        };
        assert_eq!(fourth.holder(&here, StepIndex(1)), &run(1));
        assert_eq!(fourth.holder(&here, StepIndex(2)), &run(3));
    }
}
