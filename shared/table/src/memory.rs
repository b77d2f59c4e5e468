//! A table in memory, for tests and the simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::{
    Change, Condition, Error, Found, Item, Key, Range, Scan, Search, TRANSACTION_LIMIT, Table,
    Update, Write, integer, number,
};

/// A table in memory. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub struct MemoryTable(Arc<Mutex<BTreeMap<Key, Item>>>);

type Items<'a> = MutexGuard<'a, BTreeMap<Key, Item>>;

impl MemoryTable {
    /// Looks at every item, by key. Nothing is read or written meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&BTreeMap<Key, Item>) -> T) -> T {
        look(&self.lock())
    }

    fn lock(&self) -> Items<'_> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Table for MemoryTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        Ok(self.lock().get(key).cloned())
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, Error> {
        let items = self.lock();
        Ok(keys.iter().map(|key| items.get(key).cloned()).collect())
    }

    async fn query(&self, pk: &str, prefix: &str) -> Result<Vec<Item>, Error> {
        let items = self.lock();
        let wanted = |key: &Key| key.pk == pk && key.sk.starts_with(prefix);
        let found = items.range(Key::new(pk, prefix)..);
        Ok(found
            .take_while(|(key, _)| wanted(key))
            .map(|(_, item)| item.clone())
            .collect())
    }

    async fn latest(
        &self,
        pk: &str,
        between: (&str, &str),
        limit: i32,
    ) -> Result<Vec<Item>, Error> {
        let items = self.lock();
        let wanted = Key::new(pk, between.0)..=Key::new(pk, between.1);
        let found = items.range(wanted).rev().map(|(_, item)| item.clone());
        Ok(found.take(usize::try_from(limit).unwrap_or(0)).collect())
    }

    async fn earliest(
        &self,
        pk: &str,
        between: (&str, &str),
        limit: i32,
    ) -> Result<Vec<Item>, Error> {
        let items = self.lock();
        let wanted = Key::new(pk, between.0)..=Key::new(pk, between.1);
        let found = items.range(wanted).map(|(_, item)| item.clone());
        Ok(found.take(usize::try_from(limit).unwrap_or(0)).collect())
    }

    async fn search(&self, search: &Search) -> Result<Found, Error> {
        let items = self.lock();
        let (partition, value) = &search.partition;
        let mut found: Vec<Item> = items
            .values()
            .filter(|item| {
                let held = item.get(*partition).and_then(|held| held.as_s().ok());
                held == Some(value)
            })
            .filter(|item| within(item.get(search.sort), &search.range))
            .cloned()
            .collect();
        found.sort_by_key(|item| (order(item.get(search.sort)), Key::of(item)));
        if !search.ascending {
            found.reverse();
        }
        let limit = usize::try_from(search.limit).unwrap_or(0);
        let more = found.len() > limit;
        found.truncate(limit);
        Ok(Found { items: found, more })
    }

    async fn write(&self, write: Write) -> Result<(), Error> {
        self.transact(vec![write]).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), Error> {
        if writes.len() > TRANSACTION_LIMIT {
            let count = writes.len();
            return Err(Error::Broken(format!("a transaction of {count} writes")));
        }
        let mut keys: Vec<&Key> = writes.iter().map(|write| &write.key).collect();
        keys.sort();
        if let Some(twice) = keys.windows(2).find(|pair| pair.first() == pair.last()) {
            return Err(Error::Broken(format!(
                "a transaction writes {twice:?} twice"
            )));
        }
        let mut items = self.lock();
        let failed: Vec<_> = writes
            .iter()
            .filter(|write| {
                let item = items.get(&write.key);
                !write.conditions.iter().all(|it| holds(it, item))
            })
            .map(|write| write.refusal)
            .collect();
        match failed.first() {
            None => {}
            Some(Some(reason)) if failed.iter().all(Option::is_some) => {
                return Err(Error::Refused(reason));
            }
            Some(_) => return Err(Error::Conflict),
        }
        for write in writes {
            apply(&mut items, write);
        }
        Ok(())
    }
}

#[async_trait]
impl Scan for MemoryTable {
    async fn scan(&self, prefixes: &[&str]) -> Result<Vec<Item>, Error> {
        let items = self.lock();
        let wanted = |key: &Key| prefixes.iter().any(|prefix| key.sk.starts_with(prefix));
        Ok(items
            .iter()
            .filter(|(key, _)| wanted(key))
            .map(|(_, item)| item.clone())
            .collect())
    }
}

fn holds(condition: &Condition, item: Option<&Item>) -> bool {
    let has = |name: &str, value: &AttributeValue| {
        item.and_then(|item| item.get(name))
            .is_some_and(|held| held == value)
    };
    match condition {
        Condition::Absent => item.is_none(),
        Condition::Present => item.is_some(),
        Condition::Equals(name, value) => has(name, value),
        Condition::AbsentOrEquals(name, value) => item.is_none() || has(name, value),
        Condition::AbsentOrAtMost(name, most) => {
            item.is_none_or(|item| integer(item, name).is_some_and(|number| number <= *most))
        }
        Condition::Lacks(name) => item.is_none_or(|item| !item.contains_key(*name)),
        Condition::FewerThan(name, count) => {
            item.is_none_or(|item| (members(item, name).len() as u64) < *count)
        }
        Condition::Holds(name, text) => item.is_some_and(|item| members(item, name).contains(text)),
        Condition::OneOf(name, values) => values.iter().any(|value| has(name, value)),
    }
}

/// The texts of an attribute that is a set of them.
fn members(item: &Item, name: &str) -> BTreeSet<String> {
    let held = item.get(name).and_then(|value| value.as_ss().ok());
    held.into_iter().flatten().cloned().collect()
}

fn apply(items: &mut Items<'_>, write: Write) {
    let Write { key, change, .. } = write;
    match change {
        Change::Put(item) => {
            items.insert(key, item);
        }
        Change::Delete => {
            items.remove(&key);
        }
        Change::Update(Update {
            set,
            remove,
            add,
            insert,
            discard,
        }) => {
            let item = items
                .entry(key)
                .or_insert_with_key(|key| key.attributes().into());
            item.extend(set);
            for name in remove {
                item.remove(&name);
            }
            for (name, by) in add {
                let sum = integer(item, &name).unwrap_or(0) + by;
                item.insert(name, number(sum));
            }
            for (name, text) in insert {
                let mut held = members(item, &name);
                held.insert(text);
                item.insert(name, AttributeValue::Ss(held.into_iter().collect()));
            }
            for (name, text) in discard {
                let mut held = members(item, &name);
                held.remove(&text);
                // As in DynamoDB, there is no empty set.
                match held.is_empty() {
                    true => item.remove(&name),
                    false => item.insert(name, AttributeValue::Ss(held.into_iter().collect())),
                };
            }
        }
    }
}

/// The sort order of an attribute: numbers as numbers, texts as texts.
fn order(value: Option<&AttributeValue>) -> (u64, String) {
    match value {
        Some(AttributeValue::N(text)) => (text.parse().unwrap_or(u64::MAX), String::new()),
        Some(AttributeValue::S(text)) => (0, text.clone()),
        _ => (0, String::new()),
    }
}

fn within(value: Option<&AttributeValue>, range: &Range) -> bool {
    let Some(value) = value else { return false };
    let value = order(Some(value));
    match range {
        Range::All => true,
        Range::Above(bound) => value > order(Some(bound)),
        Range::Below(bound) => value < order(Some(bound)),
        Range::UpTo(bound) => value <= order(Some(bound)),
    }
}
