//! What must be looked at, and when.

use aws_sdk_dynamodb::types::AttributeValue;
use towpath_engine::{JobId, RunId, Timestamp};

use crate::keys::{Key, shard_name};
use crate::{Error, Store, index};

/// How many shards the due index has: writes of one minute are spread over as many partitions.
pub const DUE_SHARDS: u16 = 16;

/// Something that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// A run's mailbox.
    Wait(RunId),
    /// A job that must be gone.
    Reap(JobId),
}

impl Store {
    /// What is due in a shard at `now`, the longest overdue first, at most `limit`. The index may lag behind: whoever
    /// acts on a row reads it first, and claims it by its condition.
    pub async fn due(&self, shard: u16, now: Timestamp, limit: i32) -> Result<Vec<Due>, Error> {
        let query = self
            .db
            .query()
            .table_name(&self.runs)
            .index_name(index::DUE)
            .key_condition_expression("dueShard = :shard AND dueAt <= :now")
            .expression_attribute_values(":shard", AttributeValue::S(shard_name(shard)))
            .expression_attribute_values(":now", AttributeValue::N(now.0.to_string()))
            .limit(limit);
        let items = query
            .send()
            .await
            .map_err(Error::from_sdk)?
            .items
            .unwrap_or_default();
        let text = |item: &crate::rows::Item, name: &str| {
            item.get(name).and_then(|v| v.as_s().ok()).cloned()
        };
        Ok(items
            .iter()
            .filter_map(|item| {
                let (pk, sk) = (text(item, "pk")?, text(item, "sk")?);
                match sk.strip_prefix(Key::REAPS) {
                    Some(job) => job.parse().ok().map(Due::Reap),
                    None => pk.parse().ok().map(Due::Wait),
                }
            })
            .collect())
    }
}
