//! A table that fails, and that tells of every change.

use std::collections::BTreeMap;

use async_trait::async_trait;
use towpath_table::{Error, Found, Item, Key, MemoryTable, Search, Table, Write};

use crate::chance::Chance;
use crate::trace::Trace;

/// A table in memory whose calls fail, are lost, or meet others.
#[derive(Clone, Debug)]
pub(crate) struct FaultyTable {
    inner: MemoryTable,
    chance: Chance,
    trace: Trace,
    rule: Rule,
}

/// What must hold of each change of one item.
pub(crate) type Rule = fn(&Key, Option<&Item>, Option<&Item>) -> Result<(), String>;

/// A call fails once in so many.
const FAULTS: u64 = 60;

impl FaultyTable {
    /// An empty table, of whose changes this must hold.
    pub(crate) fn new(chance: Chance, trace: Trace, rule: Rule) -> Self {
        Self {
            inner: MemoryTable::default(),
            chance,
            trace,
            rule,
        }
    }

    /// Looks at every item, past all faults.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&BTreeMap<Key, Item>) -> T) -> T {
        self.inner.look(look)
    }

    async fn before(&self) -> Result<(), Error> {
        self.chance.turn().await;
        match self.chance.fault(FAULTS) {
            true => Err(self.chance.pick(&[Error::Throttled, Error::Unavailable])),
            false => Ok(()),
        }
    }

    async fn after<T>(&self, made: Result<T, Error>) -> Result<T, Error> {
        self.chance.turn().await;
        match self.chance.fault(FAULTS) {
            // The reply is lost: nobody knows whether it was done.
            true => Err(Error::Unavailable),
            false => made,
        }
    }
}

#[async_trait]
impl Table for FaultyTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        self.before().await?;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, Error> {
        self.before().await?;
        self.inner.get_many(keys).await
    }

    async fn query(&self, pk: &str, prefix: &str) -> Result<Vec<Item>, Error> {
        self.before().await?;
        // Each item is read by itself, and others write in between.
        let keys = self.inner.query(pk, prefix).await?;
        let mut items = Vec::new();
        for key in keys.iter().map(Key::of) {
            if self.chance.one_in(4) {
                self.chance.turn().await;
            }
            items.extend(self.inner.get(&key).await?);
        }
        Ok(items)
    }

    async fn latest(
        &self,
        pk: &str,
        between: (&str, &str),
        limit: i32,
    ) -> Result<Vec<Item>, Error> {
        self.before().await?;
        self.inner.latest(pk, between, limit).await
    }

    async fn earliest(
        &self,
        pk: &str,
        between: (&str, &str),
        limit: i32,
    ) -> Result<Vec<Item>, Error> {
        self.before().await?;
        self.inner.earliest(pk, between, limit).await
    }

    async fn search(&self, search: &Search) -> Result<Found, Error> {
        self.before().await?;
        let mut found = self.inner.search(search).await?;
        // An index lags behind.
        let chance = &self.chance;
        found.items.retain(|_| !chance.fault(40));
        Ok(found)
    }

    async fn write(&self, write: Write) -> Result<(), Error> {
        self.transact(vec![write]).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), Error> {
        self.before().await?;
        if self.chance.fault(FAULTS) {
            // Another transaction is at work on one of the items.
            return Err(Error::Conflict);
        }
        let keys: Vec<Key> = writes.iter().map(|write| write.key.clone()).collect();
        let before = self.inner.get_many(&keys).await?;
        let made = self.inner.transact(writes).await;
        if made.is_ok() {
            let after = self.inner.get_many(&keys).await?;
            let names: Vec<_> = keys.iter().map(|key| key.sk.as_str()).collect();
            let pk = keys.first().map(|key| key.pk.as_str());
            self.trace.note(format!(
                "write {} {}",
                pk.unwrap_or_default(),
                names.join(" ")
            ));
            for ((key, before), after) in keys.iter().zip(&before).zip(&after) {
                if let Err(what) = (self.rule)(key, before.as_ref(), after.as_ref()) {
                    self.trace.violated(format!("{key}: {what}"));
                }
            }
        }
        self.after(made).await
    }
}
