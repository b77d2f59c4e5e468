//! A table of DynamoDB.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, KeysAndAttributes, Put, TransactWriteItem, Update as SdkUpdate,
};
use towpath_aws::cancellation;

use crate::{
    Change, Condition, Error, Found, Item, Key, Range, Scan, Search, TRANSACTION_LIMIT, Table,
    Update, Write,
};

/// A table of DynamoDB. Its keys are `pk` and `sk`, both texts.
#[derive(Clone, Debug)]
pub struct DynamoTable {
    client: Client,
    name: String,
}

/// The number of times a batch is asked for what it left out.
const BATCHES: u32 = 8;

impl DynamoTable {
    /// The table of this name.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self {
            client,
            name: name.into(),
        }
    }

    async fn batch(&self, keys: Vec<Item>) -> Result<(Vec<Item>, Vec<Item>), Error> {
        let ask = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(true)
            .build()
            .map_err(broken)?;
        let batch = self.client.batch_get_item().request_items(&self.name, ask);
        let answer = batch.send().await.map_err(|e| Error::from_sdk(&e))?;
        let mut found = answer.responses.unwrap_or_default();
        let mut left = answer.unprocessed_keys.unwrap_or_default();
        let left = left.remove(&self.name).map(|left| left.keys);
        Ok((
            found.remove(&self.name).unwrap_or_default(),
            left.unwrap_or_default(),
        ))
    }
}

fn broken(error: BuildError) -> Error {
    Error::Broken(error.to_string())
}

impl DynamoTable {
    /// One page of a partition, from either end.
    async fn page(
        &self,
        pk: &str,
        between: (&str, &str),
        limit: i32,
        ascending: bool,
    ) -> Result<Vec<Item>, Error> {
        let query = self.client.query().table_name(&self.name);
        let query = query
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":pk", crate::string(pk))
            .expression_attribute_values(":first", crate::string(between.0))
            .expression_attribute_values(":last", crate::string(between.1))
            .consistent_read(true)
            .scan_index_forward(ascending)
            .limit(limit);
        let page = query.send().await.map_err(|e| Error::from_sdk(&e))?;
        Ok(page.items.unwrap_or_default())
    }
}

#[async_trait]
impl Table for DynamoTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        let get = self.client.get_item().table_name(&self.name);
        let get = get.set_key(Some(key.attributes().into()));
        let answer = get.consistent_read(true).send().await;
        Ok(answer.map_err(|e| Error::from_sdk(&e))?.item)
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, Error> {
        let mut found: HashMap<Key, Item> = HashMap::new();
        let mut wanted: Vec<Item> = keys.iter().map(|key| key.attributes().into()).collect();
        for _ in 0..BATCHES {
            if wanted.is_empty() {
                return Ok(keys.iter().map(|key| found.remove(key)).collect());
            }
            let (items, left) = self.batch(wanted).await?;
            found.extend(items.into_iter().map(|item| (Key::of(&item), item)));
            wanted = left;
        }
        Err(Error::Throttled)
    }

    async fn query(&self, pk: &str, prefix: &str) -> Result<Vec<Item>, Error> {
        let (mut items, mut from) = (Vec::new(), None);
        loop {
            let query = self.client.query().table_name(&self.name);
            let query = query
                .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                .expression_attribute_values(":pk", crate::string(pk))
                .expression_attribute_values(":prefix", crate::string(prefix))
                .consistent_read(true)
                .set_exclusive_start_key(from);
            let page = query.send().await.map_err(|e| Error::from_sdk(&e))?;
            items.extend(page.items.unwrap_or_default());
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(items);
            }
        }
    }

    async fn latest(
        &self,
        pk: &str,
        between: (&str, &str),
        limit: i32,
    ) -> Result<Vec<Item>, Error> {
        self.page(pk, between, limit, false).await
    }

    async fn earliest(
        &self,
        pk: &str,
        between: (&str, &str),
        limit: i32,
    ) -> Result<Vec<Item>, Error> {
        self.page(pk, between, limit, true).await
    }

    async fn search(&self, search: &Search) -> Result<Found, Error> {
        let (condition, bound) = match &search.range {
            Range::All => ("#partition = :partition", None),
            Range::Above(bound) => ("#partition = :partition AND #sort > :bound", Some(bound)),
            Range::Below(bound) => ("#partition = :partition AND #sort < :bound", Some(bound)),
            Range::UpTo(bound) => ("#partition = :partition AND #sort <= :bound", Some(bound)),
        };
        let (partition, value) = &search.partition;
        let mut query = self
            .client
            .query()
            .table_name(&self.name)
            .index_name(search.index)
            .key_condition_expression(condition)
            .expression_attribute_names("#partition", *partition)
            .expression_attribute_values(":partition", crate::string(value))
            .scan_index_forward(search.ascending)
            .limit(search.limit);
        if let Some(bound) = bound {
            query = query
                .expression_attribute_names("#sort", search.sort)
                .expression_attribute_values(":bound", bound.clone());
        }
        let answer = query.send().await.map_err(|e| Error::from_sdk(&e))?;
        Ok(Found {
            more: answer.last_evaluated_key.is_some(),
            items: answer.items.unwrap_or_default(),
        })
    }

    async fn write(&self, write: Write) -> Result<(), Error> {
        let refusal = write.refusal;
        let made = self.write_one(write).await;
        match (made, refusal) {
            (Err(Error::Conflict), Some(reason)) => Err(Error::Refused(reason)),
            (made, _) => made,
        }
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), Error> {
        if writes.len() > TRANSACTION_LIMIT {
            let count = writes.len();
            return Err(Error::Broken(format!(
                "a transaction of {count} writes, where {TRANSACTION_LIMIT} are allowed"
            )));
        }
        let refusals: Vec<_> = writes.iter().map(|write| write.refusal).collect();
        let items: Result<Vec<_>, _> = writes
            .into_iter()
            .map(|write| transact_item(write, &self.name))
            .collect();
        // The SDK gives each call a request token of its own and keeps it over its retries, so a transaction whose
        // answer is lost is not made twice and does not conflict with itself.
        let transact = self.client.transact_write_items();
        let made = transact.set_transact_items(Some(items?)).send().await;
        let Err(error) = made else { return Ok(()) };
        let failed = cancellation(&error).unwrap_or_default();
        let failed: Vec<_> = failed
            .iter()
            .zip(refusals)
            .filter(|(reason, _)| reason.code != "None")
            .map(|(reason, refusal)| refusal.filter(|_| reason.condition_failed()))
            .collect();
        // One lost race makes it a conflict, whatever else failed.
        match failed.first() {
            Some(Some(reason)) if failed.iter().all(Option::is_some) => Err(Error::Refused(reason)),
            _ => Err(Error::from_sdk(&error)),
        }
    }
}

#[async_trait]
impl Scan for DynamoTable {
    async fn scan(&self, prefixes: &[&str]) -> Result<Vec<Item>, Error> {
        let filter: Vec<_> = (0..prefixes.len())
            .map(|index| format!("begins_with(sk, :p{index})"))
            .collect();
        let (mut items, mut from) = (Vec::new(), None);
        loop {
            let scan = self.client.scan().table_name(&self.name);
            let scan = scan.consistent_read(true).set_exclusive_start_key(from);
            let scan = scan.filter_expression(filter.join(" OR "));
            let scan = prefixes.iter().enumerate().fold(scan, |scan, (at, value)| {
                scan.expression_attribute_values(format!(":p{at}"), crate::string(value))
            });
            let page = scan.send().await.map_err(|e| Error::from_sdk(&e))?;
            items.extend(page.items.unwrap_or_default());
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(items);
            }
        }
    }
}

impl DynamoTable {
    async fn write_one(&self, write: Write) -> Result<(), Error> {
        let mut expression = Expression::default();
        let condition = expression.condition(&write.conditions);
        let key = Some(write.key.attributes().into());
        match write.change {
            Change::Put(item) => {
                let put = self.client.put_item().table_name(&self.name);
                let put = put
                    .set_item(Some(item))
                    .set_condition_expression(condition)
                    .set_expression_attribute_names(expression.names())
                    .set_expression_attribute_values(expression.values());
                put.send().await.map_err(|e| Error::from_sdk(&e))?;
            }
            Change::Update(update) => {
                let text = expression.update(update);
                let update = self.client.update_item().table_name(&self.name);
                let update = update
                    .set_key(key)
                    .update_expression(text)
                    .set_condition_expression(condition)
                    .set_expression_attribute_names(expression.names())
                    .set_expression_attribute_values(expression.values());
                update.send().await.map_err(|e| Error::from_sdk(&e))?;
            }
            Change::Delete => {
                let delete = self.client.delete_item().table_name(&self.name);
                let delete = delete
                    .set_key(key)
                    .set_condition_expression(condition)
                    .set_expression_attribute_names(expression.names())
                    .set_expression_attribute_values(expression.values());
                delete.send().await.map_err(|e| Error::from_sdk(&e))?;
            }
        }
        Ok(())
    }
}

fn transact_item(write: Write, table: &str) -> Result<TransactWriteItem, Error> {
    let mut expression = Expression::default();
    let condition = expression.condition(&write.conditions);
    let key = Some(write.key.attributes().into());
    let item = TransactWriteItem::builder();
    Ok(match write.change {
        Change::Put(attributes) => item.put(
            Put::builder()
                .table_name(table)
                .set_item(Some(attributes))
                .set_condition_expression(condition)
                .set_expression_attribute_names(expression.names())
                .set_expression_attribute_values(expression.values())
                .build()
                .map_err(broken)?,
        ),
        Change::Update(update) => item.update(
            SdkUpdate::builder()
                .table_name(table)
                .set_key(key)
                .update_expression(expression.update(update))
                .set_condition_expression(condition)
                .set_expression_attribute_names(expression.names())
                .set_expression_attribute_values(expression.values())
                .build()
                .map_err(broken)?,
        ),
        Change::Delete => item.delete(
            Delete::builder()
                .table_name(table)
                .set_key(key)
                .set_condition_expression(condition)
                .set_expression_attribute_names(expression.names())
                .set_expression_attribute_values(expression.values())
                .build()
                .map_err(broken)?,
        ),
    }
    .build())
}

/// The names and values that an expression stands for. Every name is an alias, since many words are reserved.
#[derive(Default)]
struct Expression {
    names: Vec<String>,
    values: Vec<AttributeValue>,
}

impl Expression {
    fn name(&mut self, name: &str) -> String {
        let known = self.names.iter().position(|known| known == name);
        let index = known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        format!("#n{index}")
    }

    fn value(&mut self, value: AttributeValue) -> String {
        self.values.push(value);
        format!(":v{}", self.values.len() - 1)
    }

    fn condition(&mut self, conditions: &[Condition]) -> Option<String> {
        let all: Vec<_> = conditions.iter().map(|one| self.one(one)).collect();
        (!all.is_empty()).then(|| all.join(" AND "))
    }

    fn one(&mut self, condition: &Condition) -> String {
        match condition {
            Condition::Absent => "attribute_not_exists(pk)".to_owned(),
            Condition::Present => "attribute_exists(pk)".to_owned(),
            Condition::Lacks(name) => format!("attribute_not_exists({})", self.name(name)),
            Condition::Equals(name, value) => {
                format!("{} = {}", self.name(name), self.value(value.clone()))
            }
            Condition::AbsentOrEquals(name, value) => format!(
                "(attribute_not_exists(pk) OR {} = {})",
                self.name(name),
                self.value(value.clone())
            ),
            Condition::AbsentOrAtMost(name, most) => format!(
                "(attribute_not_exists(pk) OR {} <= {})",
                self.name(name),
                self.value(crate::number(most))
            ),
            Condition::FewerThan(name, count) => {
                let (name, count) = (self.name(name), self.value(crate::number(count)));
                format!("(attribute_not_exists({name}) OR size({name}) < {count})")
            }
            Condition::Holds(name, text) => {
                format!(
                    "contains({}, {})",
                    self.name(name),
                    self.value(crate::string(text))
                )
            }
            Condition::OneOf(name, values) => {
                let name = self.name(name);
                let values = values.iter().map(|value| self.value(value.clone()));
                format!("{name} IN ({})", values.collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn update(&mut self, update: Update) -> String {
        let set = update.set.into_iter();
        let set: Vec<_> = set
            .map(|(name, value)| format!("{} = {}", self.name(&name), self.value(value)))
            .collect();
        let add = update.add.into_iter();
        let mut add: Vec<_> = add
            .map(|(name, by)| format!("{} {}", self.name(&name), self.value(crate::number(by))))
            .collect();
        let mut sets = |all: Vec<(String, String)>| -> Vec<String> {
            let all = all.into_iter();
            all.map(|(name, text)| {
                let one = AttributeValue::Ss(vec![text]);
                format!("{} {}", self.name(&name), self.value(one))
            })
            .collect()
        };
        add.extend(sets(update.insert));
        let delete = sets(update.discard);
        let remove: Vec<_> = update.remove.iter().map(|name| self.name(name)).collect();
        let clauses = [
            ("SET", set),
            ("REMOVE", remove),
            ("ADD", add),
            ("DELETE", delete),
        ];
        let clauses = clauses.into_iter().filter(|(_, parts)| !parts.is_empty());
        let clauses = clauses.map(|(verb, parts)| format!("{verb} {}", parts.join(", ")));
        clauses.collect::<Vec<_>>().join(" ")
    }

    fn names(&self) -> Option<HashMap<String, String>> {
        let names = self.names.iter().enumerate();
        let names: HashMap<_, _> = names
            .map(|(index, name)| (format!("#n{index}"), name.clone()))
            .collect();
        (!names.is_empty()).then_some(names)
    }

    fn values(&self) -> Option<HashMap<String, AttributeValue>> {
        let values = self.values.iter().enumerate();
        let values: HashMap<_, _> = values
            .map(|(index, value)| (format!(":v{index}"), value.clone()))
            .collect();
        (!values.is_empty()).then_some(values)
    }
}
