//! What must be looked at, and when.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use towpath_engine::{JobId, RunId, Timestamp};

use crate::keys::{Key, shard_name};
use crate::rows::{key_map, number};
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
    /// A run that is to be stopped.
    Stop(RunId),
    /// A row that this release does not know.
    Unknown,
}

/// A row of the index of what is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRow {
    /// The key of the item.
    pub key: Key,
    /// What is due.
    pub due: Due,
}

impl Store {
    /// What is due in a shard at `now`, the longest overdue first, at most `limit`. The index may lag behind: whoever
    /// acts on a row reads it first, and claims it by its condition.
    pub async fn due(&self, shard: u16, now: Timestamp, limit: i32) -> Result<Vec<DueRow>, Error> {
        let query = self
            .db
            .query()
            .table_name(&self.runs)
            .index_name(index::DUE)
            .key_condition_expression("dueShard = :shard AND dueAt <= :now")
            .expression_attribute_values(":shard", AttributeValue::S(shard_name(shard)))
            .expression_attribute_values(":now", AttributeValue::N(now.0.to_string()))
            .limit(limit);
        let answer = query.send().await.map_err(Error::from_sdk)?;
        let items = answer.items.unwrap_or_default();
        let text = |item: &crate::rows::Item, name: &str| {
            let value = item.get(name).and_then(|v| v.as_s().ok());
            value.cloned().unwrap_or_default()
        };
        let rows = items.iter().map(|item| Key {
            pk: text(item, "pk"),
            sk: text(item, "sk"),
        });
        Ok(rows.map(DueRow::of).collect())
    }

    /// Pushes a row back that could not be seen to, so that the rows behind it have their turn: 1 minute, doubling with
    /// each time to 1 hour. A row that was written meanwhile, or is not due any more, stays as it is.
    pub async fn defer(&self, key: &Key, now: Timestamp) -> Result<(), Error> {
        let mut pause = MINUTE;
        // The number of times is known only from the first write.
        for _ in 0..2 {
            let Some(times) = self.push_back(key, now, pause).await? else {
                return Ok(());
            };
            let wanted = MINUTE << times.saturating_sub(1).min(6);
            if wanted.min(HOUR) == pause {
                return Ok(());
            }
            pause = wanted.min(HOUR);
        }
        Ok(())
    }

    async fn push_back(&self, key: &Key, now: Timestamp, pause: u64) -> Result<Option<u32>, Error> {
        let first = pause == MINUTE;
        let update = self
            .db
            .update_item()
            .table_name(&self.runs)
            .set_key(Some(key_map(key)))
            .update_expression(
                "SET dueAt = :later, dueTries = if_not_exists(dueTries, :zero) + :add",
            )
            .condition_expression("dueAt <= :until")
            .expression_attribute_values(":later", number(now.0.saturating_add(pause)))
            .expression_attribute_values(":zero", number(0))
            .expression_attribute_values(":add", number(u8::from(first)))
            .expression_attribute_values(
                ":until",
                number(now.0.saturating_add(if first { 0 } else { MINUTE })),
            )
            .return_values(ReturnValue::UpdatedNew);
        match update.send().await.map_err(Error::from_sdk) {
            Ok(answer) => {
                let updated = answer.attributes.unwrap_or_default();
                let tries = updated.get("dueTries").and_then(|v| v.as_n().ok());
                Ok(tries.and_then(|tries| tries.parse().ok()))
            }
            Err(Error::Conflict) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

impl DueRow {
    fn of(key: Key) -> Self {
        let due = match key.sk.strip_prefix(Key::REAPS) {
            Some(job) => job.parse().ok().map(Due::Reap),
            None if key == Key::head_of(&key.pk) => key.pk.parse().ok().map(Due::Stop),
            None if key == Key::wait_of(&key.pk) => key.pk.parse().ok().map(Due::Wait),
            None => None,
        };
        Self {
            due: due.unwrap_or(Due::Unknown),
            key,
        }
    }
}
