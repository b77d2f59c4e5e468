//! Writes: what is changed, and on which conditions.

use aws_sdk_dynamodb::types::AttributeValue;

use crate::{Item, Key};

/// One write of one item.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The key of the item.
    pub key: Key,
    /// The change of the item.
    pub change: Change,
    /// Conditions on the item as it was; all of them must hold.
    pub conditions: Vec<Condition>,
    /// The reason that a failed condition refuses the write for good. `None`: it tells of a lost race.
    pub refusal: Option<&'static str>,
}

/// A change of one item.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The item is these attributes and no others, whatever it was.
    Put(Item),
    /// Some attributes of the item change, and the others stay. An item that does not exist is made.
    Update(Update),
    /// There is no item any more.
    Delete,
}

/// Changes of some attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// Attributes and their new values.
    pub set: Vec<(String, AttributeValue)>,
    /// Attributes that the item has no longer.
    pub remove: Vec<String>,
    /// Numbers that are raised, by how much. A number that is not there counts as 0.
    pub add: Vec<(String, u64)>,
    /// Sets of texts and what is put into them. A set that is not there counts as empty.
    pub insert: Vec<(String, String)>,
    /// Sets of texts and what is taken out of them.
    pub discard: Vec<(String, String)>,
}

/// A condition on an item as it was.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// There is no item.
    Absent,
    /// There is an item.
    Present,
    /// The attribute has this value.
    Equals(&'static str, AttributeValue),
    /// There is no item, or its attribute has this value.
    AbsentOrEquals(&'static str, AttributeValue),
    /// There is no item, or its attribute is a number of at most this.
    AbsentOrAtMost(&'static str, u64),
    /// The item has no such attribute.
    Lacks(&'static str),
    /// The attribute is a set of fewer texts than this, or is not there.
    FewerThan(&'static str, u64),
    /// The attribute is a set that holds this text.
    Holds(&'static str, String),
    /// The attribute has one of these values.
    OneOf(&'static str, Vec<AttributeValue>),
}

impl Write {
    fn new(key: Key, change: Change) -> Self {
        Self {
            key,
            change,
            conditions: Vec::new(),
            refusal: None,
        }
    }

    /// Writes an item whole. Its key is added to its attributes.
    pub fn put(key: Key, mut item: Item) -> Self {
        item.extend(key.attributes());
        Self::new(key, Change::Put(item))
    }

    /// Changes some attributes of an item.
    pub fn update(key: Key, update: Update) -> Self {
        Self::new(key, Change::Update(update))
    }

    /// Deletes an item.
    pub fn delete(key: Key) -> Self {
        Self::new(key, Change::Delete)
    }

    /// Adds a condition to the write.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// The same write, refused for this reason if a condition does not hold.
    #[must_use]
    pub fn or_refuse(mut self, reason: &'static str) -> Self {
        self.refusal = Some(reason);
        self
    }
}

impl Update {
    /// Sets an attribute.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: AttributeValue) -> Self {
        self.set.push((name.into(), value));
        self
    }

    /// Removes an attribute.
    #[must_use]
    pub fn remove(mut self, name: impl Into<String>) -> Self {
        self.remove.push(name.into());
        self
    }

    /// Raises a number.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, by: u64) -> Self {
        self.add.push((name.into(), by));
        self
    }

    /// Puts a text into a set.
    #[must_use]
    pub fn insert(mut self, set: impl Into<String>, text: impl Into<String>) -> Self {
        self.insert.push((set.into(), text.into()));
        self
    }

    /// Takes a text out of a set.
    #[must_use]
    pub fn discard(mut self, set: impl Into<String>, text: impl Into<String>) -> Self {
        self.discard.push((set.into(), text.into()));
        self
    }
}
