//! A table, as its creation request.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Resource, arn};
use crate::error::Error;

/// A DynamoDB table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) arn: String,
    /// The request that makes it.
    pub(crate) create: Value,
    /// The attribute that says when an item may be removed.
    pub(crate) ttl: Option<String>,
    /// The name of its partition key.
    pub(crate) partition: String,
    /// The name of the partition key of each index.
    pub(crate) indexes: BTreeMap<String, String>,
}

impl Table {
    pub(crate) fn read(at: &Resource<'_>) -> Result<Self, Error> {
        let properties = at.properties()?;
        let understood = [
            "TableName",
            "BillingMode",
            "AttributeDefinitions",
            "KeySchema",
            "GlobalSecondaryIndexes",
            "TimeToLiveSpecification",
        ];
        let harmless = [
            "DeletionProtectionEnabled",
            "SSESpecification",
            "PointInTimeRecoverySpecification",
            "Tags",
        ];
        at.only(&properties, &understood, &harmless)?;
        let name = at.scope.name(at.id, &at.place("TableName"))?;
        let mut create = Map::from_iter([("TableName".to_owned(), name.clone().into())]);
        for key in [
            "BillingMode",
            "AttributeDefinitions",
            "KeySchema",
            "GlobalSecondaryIndexes",
        ] {
            if let Some(value) = properties.get(key) {
                create.insert(key.to_owned(), value.clone());
            }
        }
        let partition = partition(&properties, &at.place("KeySchema"))?;
        let mut indexes = BTreeMap::new();
        for index in create
            .get("GlobalSecondaryIndexes")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let place = at.place("GlobalSecondaryIndexes");
            let index = super::object(index, &place)?;
            let name = index.get("IndexName").and_then(Value::as_str);
            let name = name.ok_or_else(|| Error::template(&place, "an index has no IndexName"))?;
            indexes.insert(name.to_owned(), self::partition(index, &place)?);
        }
        let ttl = properties
            .get("TimeToLiveSpecification")
            .filter(|ttl| ttl.get("Enabled") == Some(&json!(true)));
        let ttl = ttl.and_then(|ttl| Some(ttl.get("AttributeName")?.as_str()?.to_owned()));
        let arn = arn("dynamodb", &format!("table/{name}"));
        Ok(Self {
            name,
            arn,
            create: create.into(),
            ttl,
            partition,
            indexes,
        })
    }
}

/// The partition key of a `KeySchema`.
fn partition(holder: &Map<String, Value>, place: &str) -> Result<String, Error> {
    let keys = holder
        .get("KeySchema")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    keys.filter(|key| key.get("KeyType") == Some(&json!("HASH")))
        .find_map(|key| Some(key.get("AttributeName")?.as_str()?.to_owned()))
        .ok_or_else(|| Error::template(place, "there is no key of type HASH in its KeySchema"))
}
