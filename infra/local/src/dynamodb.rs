//! DynamoDB: the template's tables in an embedded database.

use std::path::Path;

use dynoxide::DynoxideError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::data;
use crate::error::Error;
use crate::template::Table;

/// The tables.
pub(crate) struct Database(dynoxide::Database);

impl Database {
    /// Opens the database, in memory or in a file, and makes the tables that are not there yet.
    pub(crate) fn open(file: Option<&Path>, tables: &[Table]) -> Result<Self, Error> {
        let failed = |error: DynoxideError| Error::Database(error.to_string());
        let database = match file {
            None => dynoxide::Database::memory(),
            Some(file) => {
                let made = data::make_file(file);
                made.map_err(|error| Error::io(format!("cannot use {}", file.display()), error))?;
                let file = file
                    .to_str()
                    .ok_or_else(|| Error::Database(format!("{} is no UTF-8", file.display())))?;
                dynoxide::Database::new(file)
            }
        };
        let database = Self(database.map_err(failed)?);
        for table in tables {
            database.make(table)?;
        }
        Ok(database)
    }

    fn make(&self, table: &Table) -> Result<(), Error> {
        let (status, there) = self.call(
            "DescribeTable",
            &json!({ "TableName": table.name }).to_string(),
        );
        if status == 200 {
            return self.update(table, &there);
        }
        self.demand("CreateTable", &table.create)?;
        if let Some(attribute) = &table.ttl {
            let specification = json!({ "AttributeName": attribute, "Enabled": true });
            let request =
                json!({ "TableName": table.name, "TimeToLiveSpecification": specification });
            self.demand("UpdateTimeToLive", &request)?;
        }
        Ok(())
    }

    /// Brings a table that an earlier template made to the shape of this one, as a deployment would: indexes are added.
    /// Any other difference is refused here, rather than at the first query.
    fn update(&self, table: &Table, described: &str) -> Result<(), Error> {
        let described: Value =
            serde_json::from_str(described).map_err(|error| Error::Database(error.to_string()))?;
        let there = described.get("Table").unwrap_or(&Value::Null);
        let (had, wanted) = (indexes(there), indexes(&table.create));
        let kept = had.iter().all(|index| wanted.contains(index));
        if there.get("KeySchema") != table.create.get("KeySchema") || !kept {
            return Err(Error::Database(format!(
                "the table {} was made with other keys or indexes than the template has now; start with a new data directory",
                table.name
            )));
        }
        // One at a time is what UpdateTable takes.
        for index in wanted.iter().filter(|index| !had.contains(index)) {
            let request = json!({
                "TableName": table.name,
                "AttributeDefinitions": table.create.get("AttributeDefinitions"),
                "GlobalSecondaryIndexUpdates": [{ "Create": index }],
            });
            self.demand("UpdateTable", &request)?;
        }
        Ok(())
    }

    fn demand(&self, operation: &str, request: &Value) -> Result<(), Error> {
        match self.call(operation, &request.to_string()) {
            (200, _) => Ok(()),
            (_, refusal) => Err(Error::Database(format!("{operation} {request}: {refusal}"))),
        }
    }

    /// Does one operation of the API: the HTTP status and body of its answer.
    ///
    /// Calls the database itself rather than the HTTP server it comes with: that one would be a second port to guard
    /// (it answers browsers of any origin), and a second hop on every call.
    pub(crate) fn call(&self, operation: &str, body: &str) -> (u16, String) {
        let db = &self.0;
        match operation {
            "BatchGetItem" => answer(body, |request| db.batch_get_item(request)),
            "BatchWriteItem" => answer(body, |request| db.batch_write_item(request)),
            "CreateTable" => answer(body, |request| db.create_table(request)),
            "DeleteItem" => answer(body, |request| db.delete_item(request)),
            "DeleteTable" => answer(body, |request| db.delete_table(request)),
            "DescribeTable" => answer(body, |request| db.describe_table(request)),
            "DescribeTimeToLive" => answer(body, |request| db.describe_time_to_live(request)),
            "GetItem" => answer(body, |request| db.get_item(request)),
            "ListTables" => answer(body, |request| db.list_tables(request)),
            "PutItem" => answer(body, |request| db.put_item(request)),
            "Query" => answer(body, |request| db.query(request)),
            "Scan" => answer(body, |request| db.scan(request)),
            "TransactGetItems" => answer(body, |request| db.transact_get_items(request)),
            "TransactWriteItems" => answer(body, |request| db.transact_write_items(request)),
            "UpdateItem" => answer(body, |request| db.update_item(request)),
            "UpdateTable" => answer(body, |request| db.update_table(request)),
            "UpdateTimeToLive" => answer(body, |request| db.update_time_to_live(request)),
            _ => {
                let message =
                    format!("the local cloud does not know the DynamoDB operation {operation}");
                (400, json!({ "__type": "com.amazon.coral.service#UnknownOperationException", "message": message }).to_string())
            }
        }
    }

    /// Removes the items whose time to live is over by the system's clock.
    pub(crate) fn sweep(&self) {
        match self.0.sweep_ttl() {
            Ok(removed) => tracing::debug!(removed, "expired items were removed"),
            Err(error) => tracing::error!(%error, "expired items could not be removed"),
        }
    }
}

fn answer<Q: DeserializeOwned, A: Serialize>(
    body: &str,
    call: impl FnOnce(Q) -> Result<A, DynoxideError>,
) -> (u16, String) {
    let result = serde_json::from_str(body)
        .map_err(|error| unreadable(&error.to_string()))
        .and_then(call);
    let written = result.and_then(|answer| {
        serde_json::to_string(&answer)
            .map_err(|error| DynoxideError::InternalServerError(error.to_string()))
    });
    match written {
        Ok(answer) => (200, answer),
        Err(error) => (error.status_code(), error.to_json()),
    }
}

/// The error of a request that cannot be read. The database's own reader marks with a prefix what DynamoDB calls a
/// validation error; what is only ill-formed JSON for the type is a serialization error.
fn unreadable(message: &str) -> DynoxideError {
    let without_position = message
        .rsplit_once(" at line ")
        .map_or(message, |(text, _)| text);
    match without_position.split_once(':') {
        Some((marker, text)) if marker.starts_with("VALIDATION") => {
            DynoxideError::ValidationException(text.to_owned())
        }
        Some((marker, text)) if marker.starts_with("SERIALIZATION") => {
            DynoxideError::SerializationException(text.to_owned())
        }
        _ if without_position.contains("missing field") => {
            DynoxideError::ValidationException(without_position.to_owned())
        }
        _ => DynoxideError::SerializationException(without_position.to_owned()),
    }
}

/// The indexes of a table, as far as a template says what they are.
fn indexes(table: &Value) -> Vec<Value> {
    let list = table.get("GlobalSecondaryIndexes");
    let list = list.and_then(Value::as_array).into_iter().flatten();
    let said = |index: &Value| -> Value {
        let parts = ["IndexName", "KeySchema", "Projection"];
        let said = parts.map(|part| (part, index.get(part).cloned().unwrap_or_default()));
        said.into_iter().collect()
    };
    list.map(said).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn table(index: &str) -> Table {
        Table {
            name: "tab".to_owned(),
            arn: String::new(),
            create: json!({
                "TableName": "tab", "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [
                    {"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "due", "AttributeType": "N"},
                ],
                "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                "GlobalSecondaryIndexes": [{
                    "IndexName": index, "KeySchema": [{"AttributeName": "due", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }],
            }),
            ttl: Some("ttl".to_owned()),
            partition: "pk".to_owned(),
            indexes: BTreeMap::new(),
        }
    }

    #[test]
    fn tables_are_made_once_and_keep_their_items() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tables.db");
        let first = Database::open(Some(&file), &[table("due")]).unwrap();
        assert_eq!(
            first
                .call(
                    "PutItem",
                    r#"{"TableName":"tab","Item":{"pk":{"S":"a"},"n":{"N":"1"}}}"#
                )
                .0,
            200
        );
        drop(first);
        let second = Database::open(Some(&file), &[table("due")]).unwrap();
        let (status, body) =
            second.call("GetItem", r#"{"TableName":"tab","Key":{"pk":{"S":"a"}}}"#);
        assert_eq!(status, 200);
        assert_eq!(
            serde_json::from_str::<Value>(&body).unwrap()["Item"]["n"],
            json!({"N": "1"})
        );
        let (_, ttl) = second.call("DescribeTimeToLive", r#"{"TableName":"tab"}"#);
        assert!(ttl.contains("ENABLED"), "{ttl}");
        drop(second);
        let mut more = table("due");
        let index = json!({
            "IndexName": "more", "KeySchema": [{"AttributeName": "n", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        });
        let list = |table: &mut Table, name: &str, value: Value| {
            table.create[name].as_array_mut().unwrap().push(value);
        };
        list(&mut more, "GlobalSecondaryIndexes", index);
        let attribute = json!({"AttributeName": "n", "AttributeType": "N"});
        list(&mut more, "AttributeDefinitions", attribute);
        let third = Database::open(Some(&file), &[more]).unwrap();
        let query = r#"{"TableName":"tab","IndexName":"more","KeyConditionExpression":"n = :n",
            "ExpressionAttributeValues":{":n":{"N":"1"}}}"#;
        let (status, body) = third.call("Query", query);
        assert!(status == 200 && body.contains(r#""Count":1"#), "{body}");
        drop(third);
        let other = Database::open(Some(&file), &[table("overdue")])
            .err()
            .unwrap()
            .to_string();
        assert!(other.contains("new data directory"), "{other}");
    }

    #[test]
    fn refusals_have_the_names_that_clients_know() {
        let database = Database::open(None, &[table("due")]).unwrap();
        let put = r#"{"TableName":"tab","Item":{"pk":{"S":"a"}},"ConditionExpression":"attribute_not_exists(pk)"}"#;
        assert_eq!(database.call("PutItem", put).0, 200);
        for (operation, body, name) in [
            ("PutItem", put, "ConditionalCheckFailedException"),
            (
                "PutItem",
                r#"{"TableName":"tab","Item":{"x":{"S":"a"}}}"#,
                "ValidationException",
            ),
            ("PutItem", r#"{"TableName":"tab"}"#, "ValidationException"),
            (
                "PutItem",
                r#"{"TableName":"tab","Item":[]}"#,
                "SerializationException",
            ),
            (
                "GetItem",
                r#"{"TableName":"other","Key":{"pk":{"S":"a"}}}"#,
                "ResourceNotFoundException",
            ),
            ("ExecuteStatement", "{}", "UnknownOperationException"),
        ] {
            let (status, answer) = database.call(operation, body);
            assert_eq!(status, 400);
            assert!(answer.contains(name), "{operation} {body}: {answer}");
        }
    }
}
