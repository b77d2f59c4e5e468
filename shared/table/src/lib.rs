//! A key-value table with conditional writes and transactions, as the records need it.
//!
//! [`Table`] is the port. [`DynamoTable`] is DynamoDB behind it, and `MemoryTable`, behind the feature `memory`, keeps
//! everything in the process for tests and the simulator. What a write changes and on which condition is data
//! ([`Write`]), so both tables are given the same, and a test can look at it.

mod dynamo;
mod error;
#[cfg(feature = "memory")]
mod memory;
mod write;

use std::collections::HashMap;
use std::fmt;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;

pub use dynamo::DynamoTable;
pub use error::Error;
#[cfg(feature = "memory")]
pub use memory::MemoryTable;
pub use write::{Change, Condition, Update, Write};

/// The attributes of an item by name, keys included.
pub type Item = HashMap<String, AttributeValue>;

/// The most writes that one transaction may have.
pub const TRANSACTION_LIMIT: usize = 100;

/// The primary key of an item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The partition key, attribute `pk`.
    pub pk: String,
    /// The sort key, attribute `sk`.
    pub sk: String,
}

impl Key {
    /// Makes a key of its two parts.
    pub fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self {
            pk: pk.into(),
            sk: sk.into(),
        }
    }

    /// The key of an item; parts that are missing are empty.
    pub fn of(item: &Item) -> Self {
        Self::new(text(item, "pk"), text(item, "sk"))
    }

    /// The key as attributes of its item.
    pub fn attributes(&self) -> [(String, AttributeValue); 2] {
        [
            ("pk".to_owned(), string(&self.pk)),
            ("sk".to_owned(), string(&self.sk)),
        ]
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pk, self.sk)
    }
}

/// The text of an attribute; empty if there is none.
pub fn text(item: &Item, name: &str) -> String {
    let value = item.get(name).and_then(|value| value.as_s().ok());
    value.cloned().unwrap_or_default()
}

/// The number of an attribute, if there is one.
pub fn integer(item: &Item, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// An attribute that is a text.
pub fn string(value: impl ToString) -> AttributeValue {
    AttributeValue::S(value.to_string())
}

/// An attribute that is a number.
pub fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A search in one partition of an index that holds keys only.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// The index's name.
    pub index: &'static str,
    /// The attribute that partitions the index, and the partition.
    pub partition: (&'static str, String),
    /// The attribute that the index is sorted by.
    pub sort: &'static str,
    /// The part of the partition that is wanted.
    pub range: Range,
    /// Whether the smallest come first.
    pub ascending: bool,
    /// The most items wanted.
    pub limit: i32,
}

/// A part of an index's partition.
#[derive(Clone, Debug, PartialEq)]
pub enum Range {
    /// All of it.
    All,
    /// Items that sort behind this value.
    Above(AttributeValue),
    /// Items that sort before this value.
    Below(AttributeValue),
    /// Items that sort before this value, or at it.
    UpTo(AttributeValue),
}

/// The findings of a search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The items, as far as the index holds them: their keys and the keys of the index.
    pub items: Vec<Item>,
    /// Whether there is more than the search wanted.
    pub more: bool,
}

/// A table. Reads by key are consistent; an index may lag behind.
#[async_trait]
pub trait Table: fmt::Debug + Send + Sync {
    /// Reads an item.
    ///
    /// # Errors
    /// If the table does not answer.
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error>;

    /// Reads items, in the order of their keys. At most 100.
    ///
    /// # Errors
    /// If the table does not answer.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, Error>;

    /// Reads the items of a partition whose sort key begins with `prefix`, in the order of their sort keys. Each is
    /// read consistently, but not all at one moment.
    ///
    /// # Errors
    /// If the table does not answer.
    async fn query(&self, pk: &str, prefix: &str) -> Result<Vec<Item>, Error>;

    /// Reads the last items of a partition whose sort keys lie between two, the last first: at most `limit`, and no more
    /// than one page of DynamoDB, which is 1 MB.
    ///
    /// # Errors
    /// If the table does not answer.
    async fn latest(&self, pk: &str, between: (&str, &str), limit: i32)
    -> Result<Vec<Item>, Error>;

    /// Reads the first items of a partition whose sort keys lie between two, in their order: at most `limit`, and no more
    /// than one page of DynamoDB, which is 1 MB.
    ///
    /// # Errors
    /// If the table does not answer.
    async fn earliest(
        &self,
        pk: &str,
        between: (&str, &str),
        limit: i32,
    ) -> Result<Vec<Item>, Error>;

    /// Searches an index.
    ///
    /// # Errors
    /// If the table does not answer.
    async fn search(&self, search: &Search) -> Result<Found, Error>;

    /// Makes one write, if its conditions hold.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::Refused`] if a condition does not hold. After [`Error::Unavailable`] the write
    /// may have been made.
    async fn write(&self, write: Write) -> Result<(), Error>;

    /// Makes all of these writes or none, if all their conditions hold.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a condition that tells of a race does not hold, or another transaction is under way on
    /// one of the items; else [`Error::Refused`] if a condition that refuses does not hold. After
    /// [`Error::Unavailable`] the writes may have been made.
    async fn transact(&self, writes: Vec<Write>) -> Result<(), Error>;
}

/// A table that can be read whole: a port of its own, since no function has it.
#[async_trait]
pub trait Scan: fmt::Debug + Send + Sync {
    /// Reads every item whose sort key begins with one of these. It costs as much as the whole table: for an operator,
    /// never for a request.
    ///
    /// # Errors
    /// If the table does not answer.
    async fn scan(&self, prefixes: &[&str]) -> Result<Vec<Item>, Error>;
}
