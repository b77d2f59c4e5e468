//! What the outside reads: lists, and a run's steps and audit.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::de::DeserializeOwned;
use towpath_engine::{Audit, RunId, Step, WorkspaceId};

use crate::keys::Key;
use crate::rows::{Item, key_map, record};
use crate::{Error, Store, index};

/// What a workspace can list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runs, by id: the newest first.
    Run,
    /// Blocks, by name.
    Block,
    /// Pipelines, by name.
    Pipeline,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The records.
    pub items: Vec<T>,
    /// Where the next part begins, if there is one.
    pub next: Option<String>,
}

impl Store {
    /// A part of what a workspace has: at most 50 records, after the one named `after`. `T` is [`towpath_engine::Head`],
    /// [`towpath_engine::Block`] or [`crate::StoredPipeline`].
    pub async fn list<T: DeserializeOwned>(
        &self,
        workspace: &WorkspaceId,
        kind: Kind,
        after: Option<&str>,
    ) -> Result<Page<T>, Error> {
        let (listing, forward, compare) = match kind {
            Kind::Run => (format!("{workspace}#run"), false, "<"),
            Kind::Block => (format!("{workspace}#block"), true, ">"),
            Kind::Pipeline => (format!("{workspace}#pipeline"), true, ">"),
        };
        let condition = match after {
            Some(_) => format!("listing = :listing AND listedAt {compare} :after"),
            None => "listing = :listing".to_owned(),
        };
        let mut query = self
            .db
            .query()
            .table_name(&self.runs)
            .index_name(index::LISTING)
            .key_condition_expression(condition)
            .expression_attribute_values(":listing", AttributeValue::S(listing))
            .scan_index_forward(forward)
            .limit(50);
        if let Some(after) = after {
            query =
                query.expression_attribute_values(":after", AttributeValue::S(after.to_owned()));
        }
        let answer = query.send().await.map_err(Error::from_sdk)?;
        let more = answer.last_evaluated_key.is_some();
        let found = answer.items.unwrap_or_default();
        let text = |item: &Item, name: &str| {
            item.get(name)
                .and_then(|v| v.as_s().ok())
                .cloned()
                .unwrap_or_default()
        };
        let keys: Vec<Key> = found
            .iter()
            .map(|item| Key {
                pk: text(item, "pk"),
                sk: text(item, "sk"),
            })
            .collect();
        let next = found
            .last()
            .filter(|_| more)
            .map(|item| text(item, "listedAt"));
        let items = if keys.is_empty() {
            Vec::new()
        } else {
            self.get_many(&keys).await?
        };
        let items = items
            .into_iter()
            .flatten()
            .map(record)
            .collect::<Result<_, _>>()?;
        Ok(Page { items, next })
    }

    /// Every step record of a run, in order. Steps that nothing has happened to have none.
    pub async fn steps(&self, run: &RunId) -> Result<Vec<Step>, Error> {
        self.all(run, Key::STEPS).await
    }

    /// Every answer a human gave to a run.
    pub async fn audits(&self, run: &RunId) -> Result<Vec<Audit>, Error> {
        self.all(run, Key::AUDITS).await
    }

    /// The answer that settled a subject.
    pub async fn audit(&self, run: &RunId, subject: &str) -> Result<Option<Audit>, Error> {
        self.get(&Key::audit(run, subject))
            .await?
            .map(record)
            .transpose()
    }

    async fn all<T: DeserializeOwned>(&self, run: &RunId, prefix: &str) -> Result<Vec<T>, Error> {
        let mut records = Vec::new();
        let mut from: Option<Item> = None;
        loop {
            let query = self
                .db
                .query()
                .table_name(&self.runs)
                .key_condition_expression("pk = :run AND begins_with(sk, :prefix)")
                .expression_attribute_values(":run", AttributeValue::S(run.to_string()))
                .expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned()))
                .consistent_read(true)
                .set_exclusive_start_key(from);
            let answer = query.send().await.map_err(Error::from_sdk)?;
            for item in answer.items.unwrap_or_default() {
                records.push(record(item)?);
            }
            from = answer.last_evaluated_key;
            if from.is_none() {
                return Ok(records);
            }
        }
    }

    /// Reads the head of a run that cannot be: the cheapest call there is, to open the connection before it is needed.
    pub async fn warm(&self) {
        let key = Key {
            pk: "warm".to_owned(),
            sk: "HEAD".to_owned(),
        };
        let _ = self
            .db
            .get_item()
            .table_name(&self.runs)
            .set_key(Some(key_map(&key)))
            .send()
            .await;
    }
}
