//! What a DynamoDB request wants to do: actions, resources and condition keys as AWS derives them.
//!
//! A transaction is authorised as its single operations, an index is a resource of its own.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Access;
use crate::template::{Table, arn};

/// The accesses a request needs, all of them.
pub(crate) fn accesses(operation: &str, request: &Value, tables: &[Table]) -> Vec<Access> {
    let transaction = |list: &str, kinds: &[(&str, &str, &str)]| {
        let mut needed = Vec::new();
        for action in request
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            for (member, name, key) in kinds {
                if let Some(single) = action.get(*member) {
                    let mut access = of_item(name, single, key, tables);
                    access
                        .context
                        .insert("dynamodb:EnclosingOperation", vec![operation.to_owned()]);
                    needed.push(access);
                }
            }
        }
        needed
    };
    match operation {
        "GetItem" | "UpdateItem" | "DeleteItem" => vec![of_item(operation, request, "Key", tables)],
        "PutItem" => vec![of_item(operation, request, "Item", tables)],
        "Query" | "Scan" => vec![of_query(operation, request, tables)],
        "TransactWriteItems" => transaction(
            "TransactItems",
            &[
                ("ConditionCheck", "ConditionCheckItem", "Key"),
                ("Put", "PutItem", "Item"),
                ("Update", "UpdateItem", "Key"),
                ("Delete", "DeleteItem", "Key"),
            ],
        ),
        "TransactGetItems" => transaction("TransactItems", &[("Get", "GetItem", "Key")]),
        "BatchGetItem" | "BatchWriteItem" => {
            let by_table = request
                .get("RequestItems")
                .and_then(Value::as_object)
                .into_iter()
                .flatten();
            by_table
                .map(|(table, members)| of_batch(operation, table, members, tables))
                .collect()
        }
        "ListTables" => vec![Access::new("dynamodb:ListTables", "*")],
        _ => {
            let table = request
                .get("TableName")
                .or_else(|| request.get("ResourceArn"))
                .and_then(Value::as_str);
            let resource = table.map_or("*".to_owned(), |table| resource_of(table, tables));
            vec![Access::new(format!("dynamodb:{operation}"), resource)]
        }
    }
}

/// The ARN of a table that a request names, by name or ARN. It need not exist.
fn resource_of(table: &str, tables: &[Table]) -> String {
    match tables.iter().find(|known| known.name == table) {
        Some(known) => known.arn.clone(),
        None if table.starts_with("arn:") => table.to_owned(),
        None => arn("dynamodb", &format!("table/{table}")),
    }
}

fn table<'t>(request: &Value, tables: &'t [Table]) -> (String, Option<&'t Table>) {
    let name = request
        .get("TableName")
        .and_then(Value::as_str)
        .unwrap_or_default();
    (
        resource_of(name, tables),
        tables
            .iter()
            .find(|table| table.name == name || table.arn == name),
    )
}

fn of_item(operation: &str, request: &Value, key: &str, tables: &[Table]) -> Access {
    let (resource, table) = table(request, tables);
    let mut access = Access::new(format!("dynamodb:{operation}"), resource);
    let item = request.get(key);
    let leading = table.and_then(|table| scalar(item?.get(&table.partition)?));
    access
        .context
        .insert("dynamodb:LeadingKeys", leading.into_iter().collect());
    let mut attributes = names_in(request);
    attributes.extend(
        item.and_then(Value::as_object)
            .into_iter()
            .flat_map(|item| item.keys().cloned()),
    );
    access
        .context
        .insert("dynamodb:Attributes", attributes.into_iter().collect());
    if operation == "GetItem" {
        access
            .context
            .insert("dynamodb:Select", vec![selection(request)]);
    } else if let Some(values) = request.get("ReturnValues").and_then(Value::as_str) {
        access
            .context
            .insert("dynamodb:ReturnValues", vec![values.to_owned()]);
    }
    access
}

fn of_query(operation: &str, request: &Value, tables: &[Table]) -> Access {
    let (table_arn, table) = table(request, tables);
    let index = request.get("IndexName").and_then(Value::as_str);
    let resource = index.map_or(table_arn.clone(), |index| {
        format!("{table_arn}/index/{index}")
    });
    let partition = table.and_then(|table| match index {
        Some(index) => table.indexes.get(index),
        None => Some(&table.partition),
    });
    let mut access = Access::new(format!("dynamodb:{operation}"), resource);
    let leading = partition.and_then(|partition| leading_key(request, partition));
    if operation == "Query" {
        access
            .context
            .insert("dynamodb:LeadingKeys", leading.into_iter().collect());
    }
    access.context.insert(
        "dynamodb:Attributes",
        names_in(request).into_iter().collect(),
    );
    access
        .context
        .insert("dynamodb:Select", vec![selection(request)]);
    access
}

fn of_batch(operation: &str, name: &str, members: &Value, tables: &[Table]) -> Access {
    let known = tables
        .iter()
        .find(|table| table.name == name || table.arn == name);
    let mut access = Access::new(format!("dynamodb:{operation}"), resource_of(name, tables));
    let written = |write: &Value| {
        let put = write.get("PutRequest").and_then(|put| put.get("Item"));
        put.or_else(|| {
            write
                .get("DeleteRequest")
                .and_then(|delete| delete.get("Key"))
        })
        .cloned()
    };
    let items: Vec<Value> = match members {
        Value::Array(writes) => writes.iter().filter_map(written).collect(),
        reads => reads
            .get("Keys")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default(),
    };
    let leading = items
        .iter()
        .filter_map(|item| scalar(item.get(&known?.partition)?));
    access.context.insert(
        "dynamodb:LeadingKeys",
        leading.collect::<BTreeSet<_>>().into_iter().collect(),
    );
    let mut attributes = names_in(members);
    attributes.extend(
        items
            .iter()
            .filter_map(Value::as_object)
            .flat_map(|item| item.keys().cloned()),
    );
    access
        .context
        .insert("dynamodb:Attributes", attributes.into_iter().collect());
    if operation == "BatchGetItem" {
        access
            .context
            .insert("dynamodb:Select", vec![selection(members)]);
    }
    access
}

fn selection(request: &Value) -> String {
    let projects = ["ProjectionExpression", "AttributesToGet"]
        .iter()
        .any(|key| request.get(*key).is_some());
    let otherwise = if projects {
        "SPECIFIC_ATTRIBUTES"
    } else {
        "ALL_ATTRIBUTES"
    };
    request
        .get("Select")
        .and_then(Value::as_str)
        .unwrap_or(otherwise)
        .to_owned()
}

/// The text of a key: `{"S": "x"}`.
fn scalar(value: &Value) -> Option<String> {
    value
        .as_object()?
        .values()
        .next()?
        .as_str()
        .map(str::to_owned)
}

/// The partition key's value in a query: `#pk = :pk`, either way round.
fn leading_key(request: &Value, partition: &str) -> Option<String> {
    let expression = request.get("KeyConditionExpression")?.as_str()?;
    let words = words(expression);
    words.windows(3).find_map(|three| match three {
        [left, equals, right] if equals == "=" => {
            let value = if resolved(request, left) == partition {
                right
            } else if resolved(request, right) == partition {
                left
            } else {
                return None;
            };
            scalar(request.get("ExpressionAttributeValues")?.get(value)?)
        }
        _ => None,
    })
}

/// The top-level attributes that a request's expressions name.
fn names_in(request: &Value) -> BTreeSet<String> {
    let expressions = [
        "ProjectionExpression",
        "ConditionExpression",
        "UpdateExpression",
        "FilterExpression",
        "KeyConditionExpression",
    ];
    let mut names = BTreeSet::new();
    for expression in expressions
        .iter()
        .filter_map(|key| request.get(*key)?.as_str())
    {
        for word in words(expression) {
            let first = word.split(['.', '[']).next().unwrap_or_default();
            let is_name =
                first.starts_with(|c: char| c.is_ascii_alphabetic() || c == '#' || c == '_');
            if is_name && !NO_NAMES.contains(&first.to_ascii_lowercase().as_str()) {
                names.insert(resolved(request, first).to_owned());
            }
        }
    }
    let listed = request
        .get("AttributesToGet")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    names.extend(listed.filter_map(|name| name.as_str().map(str::to_owned)));
    names
}

/// Words of the expression language that are no attributes. (All but the functions are reserved.)
const NO_NAMES: [&str; 17] = [
    "add",
    "and",
    "attribute_exists",
    "attribute_not_exists",
    "attribute_type",
    "begins_with",
    "between",
    "contains",
    "delete",
    "if_not_exists",
    "in",
    "list_append",
    "not",
    "or",
    "remove",
    "set",
    "size",
];

fn resolved<'r>(request: &'r Value, name: &'r str) -> &'r str {
    let names = request.get("ExpressionAttributeNames");
    names
        .and_then(|names| names.get(name)?.as_str())
        .unwrap_or(name)
}

/// An expression's words and signs.
fn words(expression: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut in_word = false;
    for character in expression.chars() {
        let belongs = character.is_alphanumeric() || "_#:.[]-".contains(character);
        match words.last_mut().filter(|_| belongs && in_word) {
            Some(word) => word.push(character),
            None if character.is_whitespace() => {}
            None => words.push(character.to_string()),
        }
        in_word = belongs;
    }
    words
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    const T: &str = "arn:aws:dynamodb:us-east-1:000000000000:table/t";

    fn needed(operation: &str, request: &Value) -> Vec<(String, String)> {
        let all = accesses(operation, request, &tables());
        all.into_iter()
            .map(|access| (access.action, access.resource))
            .collect()
    }

    fn tables() -> Vec<Table> {
        vec![Table {
            name: "t".to_owned(),
            arn: T.to_owned(),
            create: json!({}),
            ttl: None,
            partition: "pk".to_owned(),
            indexes: BTreeMap::from([("due".to_owned(), "dueShard".to_owned())]),
        }]
    }

    #[test]
    fn a_transaction_needs_each_of_its_operations() {
        let request = json!({"TransactItems": [
            {"ConditionCheck": {"TableName": "t", "Key": {"pk": {"S": "a"}}}},
            {"Put": {"TableName": "t", "Item": {"pk": {"S": "a"}}}},
            {"Update": {"TableName": T, "Key": {"pk": {"S": "a"}}}},
            {"Delete": {"TableName": "t", "Key": {"pk": {"S": "a"}}}},
        ]});
        let actions: Vec<String> = needed("TransactWriteItems", &request)
            .into_iter()
            .map(|(action, _)| action)
            .collect();
        assert_eq!(
            actions,
            [
                "dynamodb:ConditionCheckItem",
                "dynamodb:PutItem",
                "dynamodb:UpdateItem",
                "dynamodb:DeleteItem"
            ]
        );
        assert!(
            needed("TransactWriteItems", &request)
                .iter()
                .all(|(_, resource)| resource == T)
        );
    }

    #[test]
    fn a_query_of_an_index_is_of_the_index_alone() {
        let request = json!({
            "TableName": "t", "IndexName": "due", "KeyConditionExpression": "(#s = :s) AND dueAt <= :now",
            "ExpressionAttributeNames": {"#s": "dueShard"},
            "ExpressionAttributeValues": {":s": {"S": "7"}, ":now": {"N": "1"}},
        });
        assert_eq!(
            needed("Query", &request),
            [("dynamodb:Query".to_owned(), format!("{T}/index/due"))]
        );
        let access = accesses("Query", &request, &tables()).remove(0);
        assert_eq!(access.context["dynamodb:LeadingKeys"], ["7"]);
        assert_eq!(access.context["dynamodb:Attributes"], ["dueAt", "dueShard"]);
        assert_eq!(access.context["dynamodb:Select"], ["ALL_ATTRIBUTES"]);
    }

    #[test]
    fn a_write_tells_its_key_and_its_attributes() {
        let request = json!({
            "TableName": "t", "Key": {"pk": {"S": "RUN#1"}, "sk": {"S": "HEAD"}},
            "UpdateExpression": "SET #r = #r + :one, wait.token = if_not_exists(first, :t) REMOVE list[0]",
            "ConditionExpression": "attribute_exists(pk) AND #r = :rev",
            "ExpressionAttributeNames": {"#r": "rev"}, "ReturnValues": "ALL_NEW",
        });
        let access = accesses("UpdateItem", &request, &tables()).remove(0);
        assert_eq!(access.context["dynamodb:LeadingKeys"], ["RUN#1"]);
        assert_eq!(
            access.context["dynamodb:Attributes"],
            ["first", "list", "pk", "rev", "sk", "wait"]
        );
        assert_eq!(access.context["dynamodb:ReturnValues"], ["ALL_NEW"]);
    }

    #[test]
    fn a_batch_is_one_action_for_each_table() {
        let request = json!({"RequestItems": {
            "t": {"Keys": [{"pk": {"S": "a"}}, {"pk": {"S": "b"}}]},
            "other": {"Keys": []},
        }});
        let mut all = needed("BatchGetItem", &request);
        all.sort();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1], ("dynamodb:BatchGetItem".to_owned(), T.to_owned()));
        let access = accesses("BatchGetItem", &request, &tables());
        assert!(
            access
                .iter()
                .any(|access| access.context["dynamodb:LeadingKeys"] == ["a", "b"])
        );
    }
}
