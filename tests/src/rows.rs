//! The rows of the runs table, raw: for tests of what other releases, or nobody, would write.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use towpath_aws::{Clients, Settings};

use crate::World;

/// The runs table of a world, past everything that guards its records.
pub struct Rows {
    db: aws_sdk_dynamodb::Client,
    table: String,
}

impl World {
    /// Everything that is stored of executors, as text.
    pub async fn executor_rows(&self) -> String {
        let table = self.standing.cloud.output("ExecutorsTable").unwrap();
        let scan = self.rows().db.scan().table_name(table);
        format!("{:?}", scan.send().await.unwrap().items())
    }

    /// The runs table.
    pub fn rows(&self) -> Rows {
        let environment = self.standing.cloud.aws_environment("operator");
        let settings = Settings::from_lookup(|name| environment.get(name).cloned()).unwrap();
        Rows {
            db: Clients::connect(&settings, None).dynamodb,
            table: self.standing.cloud.output("RunsTable").unwrap(),
        }
    }
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

impl Rows {
    /// An item, if there is one.
    pub async fn get(&self, pk: &str, sk: &str) -> Option<HashMap<String, AttributeValue>> {
        let get = self.db.get_item().table_name(&self.table);
        let get = get.key("pk", text(pk)).key("sk", text(sk));
        get.consistent_read(true).send().await.unwrap().item
    }

    /// Sets an attribute of an item that exists.
    pub async fn set(&self, pk: &str, sk: &str, name: &str, value: AttributeValue) {
        let update = self.db.update_item().table_name(&self.table);
        let update = update.key("pk", text(pk)).key("sk", text(sk));
        let update = update
            .update_expression("SET #name = :value")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_names("#name", name)
            .expression_attribute_values(":value", value);
        update.send().await.unwrap();
    }

    /// Takes an attribute away from an item that exists.
    pub async fn unset(&self, pk: &str, sk: &str, name: &str) {
        let update = self.db.update_item().table_name(&self.table);
        let update = update.key("pk", text(pk)).key("sk", text(sk));
        let update = update
            .update_expression("REMOVE #name")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_names("#name", name);
        update.send().await.unwrap();
    }

    /// Deletes an item.
    pub async fn delete(&self, pk: &str, sk: &str) {
        let delete = self.db.delete_item().table_name(&self.table);
        let delete = delete.key("pk", text(pk)).key("sk", text(sk));
        delete.send().await.unwrap();
    }
}
