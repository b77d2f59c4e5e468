//! The meter against a real API: what each operation is counted as, beside what the embedded DynamoDB reports. Its
//! figures were themselves measured on the real one, so where the two differ the test says why.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking, and clippy takes only the test functions themselves for tests"
)]

mod common;

use aws_sdk_dynamodb::types::{
    ConditionCheck, Delete, KeysAndAttributes, Put, PutRequest, ReturnValue, TransactWriteItem,
    Update, WriteRequest,
};
use common::{Fake, Instrumented, TABLE, connect, row, s, table};
use serde_json::json;
use towpath_instruments::Units;

/// What was used since the last time. Shown, so that `--nocapture` gives a table of both counts.
struct Since<'c> {
    clients: &'c Instrumented,
    seen: Units,
}

impl<'c> Since<'c> {
    fn now(clients: &'c Instrumented) -> Self {
        Self {
            clients,
            seen: clients.meter.units(),
        }
    }

    fn used(&mut self, what: &str) -> Units {
        let now = self.clients.meter.units();
        let used = now - std::mem::replace(&mut self.seen, now);
        #[expect(
            clippy::print_stdout,
            reason = "both counts side by side are what the reader of this test wants"
        )]
        {
            println!(
                "{what:<44} requests {} write {:>4} computed {:>4} reported, read {:>4} computed {:>4} reported",
                used.requests,
                used.write_computed,
                used.write_reported,
                used.read_computed,
                used.read_reported
            );
        }
        used
    }
}

fn writes(computed: f64, reported: f64) -> Units {
    Units {
        requests: 1,
        write_computed: computed,
        write_reported: reported,
        ..Units::default()
    }
}

fn reads(computed: f64, reported: f64) -> Units {
    Units {
        requests: 1,
        read_computed: computed,
        read_reported: reported,
        ..Units::default()
    }
}

#[tokio::test]
async fn single_writes_count_by_the_size_of_the_row_and_by_their_index_entries() {
    let clients = table("").await;
    let db = &clients.dynamodb;
    let mut since = Since::now(&clients);

    let small = row(&[("pk", "run_1"), ("sk", "head"), ("note", "hello")]);
    db.put_item()
        .table_name(TABLE)
        .set_item(Some(small))
        .send()
        .await
        .unwrap();
    assert_eq!(since.used("put of 25 bytes"), writes(1.0, 1.0));

    let large = row(&[("pk", "run_2"), ("sk", "head"), ("note", &"x".repeat(2500))]);
    db.put_item()
        .table_name(TABLE)
        .set_item(Some(large))
        .send()
        .await
        .unwrap();
    assert_eq!(since.used("put of 2.5 KB"), writes(3.0, 3.0));

    let due = row(&[
        ("pk", "run_3"),
        ("sk", "head"),
        ("due_shard", "7"),
        ("due_at", "1"),
        ("note", &"x".repeat(1500)),
    ]);
    db.put_item()
        .table_name(TABLE)
        .set_item(Some(due))
        .send()
        .await
        .unwrap();
    assert_eq!(
        since.used("put of 1.5 KB, in the index"),
        writes(2.0 + 2.0, 4.0)
    );

    let update = db
        .update_item()
        .table_name(TABLE)
        .set_key(Some(row(&[("pk", "run_1"), ("sk", "head")])));
    update
        .clone()
        .update_expression("SET note = :n")
        .expression_attribute_values(":n", s("bye"))
        .send()
        .await
        .unwrap();
    assert_eq!(since.used("update of one attribute"), writes(1.0, 1.0));

    let enter = update
        .clone()
        .update_expression("SET #s = :s, due_at = :a")
        .expression_attribute_names("#s", "due_shard");
    let enter = enter
        .expression_attribute_values(":s", s("7"))
        .expression_attribute_values(":a", s("2"));
    enter.send().await.unwrap();
    assert_eq!(
        since.used("update that enters the index"),
        writes(1.0 + 1.0, 2.0)
    );

    update
        .update_expression("REMOVE due_shard, due_at")
        .send()
        .await
        .unwrap();
    assert_eq!(
        since.used("update that leaves the index"),
        writes(1.0 + 1.0, 2.0)
    );

    let delete = |pk: &str| {
        db.delete_item()
            .table_name(TABLE)
            .set_key(Some(row(&[("pk", pk), ("sk", "head")])))
    };
    delete("run_1").send().await.unwrap();
    assert_eq!(since.used("delete of a small row"), writes(1.0, 1.0));
    delete("run_2").send().await.unwrap();
    assert_eq!(
        since.used("delete of 2.5 KB, unseen"),
        writes(1.0, 3.0),
        "only the service knows the row's size"
    );
    delete("run_3")
        .return_values(ReturnValue::AllOld)
        .send()
        .await
        .unwrap();
    assert_eq!(
        since.used("delete of 1.5 KB in the index, seen"),
        writes(2.0 + 2.0, 4.0)
    );
}

#[tokio::test]
async fn a_failed_condition_uses_what_the_write_would_have() {
    let clients = table("").await;
    let mut since = Since::now(&clients);
    let put = clients
        .dynamodb
        .put_item()
        .table_name(TABLE)
        .set_item(Some(row(&[("pk", "run_1"), ("sk", "head")])));
    put.condition_expression("attribute_exists(pk)")
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        since.used("put whose condition fails"),
        writes(1.0, 0.0),
        "errors report no capacity"
    );
}

#[tokio::test]
async fn a_transaction_counts_its_tables_twice_and_its_indexes_once() {
    let clients = table("").await;
    let db = &clients.dynamodb;
    let key = |pk: &str| row(&[("pk", pk), ("sk", "head")]);
    for pk in ["old", "checked", "updated"] {
        db.put_item()
            .table_name(TABLE)
            .set_item(Some(key(pk)))
            .send()
            .await
            .unwrap();
    }
    let due = row(&[
        ("pk", "new"),
        ("sk", "head"),
        ("due_shard", "7"),
        ("due_at", "1"),
        ("note", &"x".repeat(1500)),
    ]);
    let put = Put::builder()
        .table_name(TABLE)
        .set_item(Some(due))
        .build()
        .unwrap();
    let update = Update::builder()
        .table_name(TABLE)
        .set_key(Some(key("updated")));
    let update = update
        .update_expression("SET n = :n")
        .expression_attribute_values(":n", s("1"))
        .build()
        .unwrap();
    let delete = Delete::builder()
        .table_name(TABLE)
        .set_key(Some(key("old")))
        .build()
        .unwrap();
    let check = ConditionCheck::builder()
        .table_name(TABLE)
        .set_key(Some(key("checked")));
    let check = check
        .condition_expression("attribute_exists(pk)")
        .build()
        .unwrap();
    let transaction = db
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().put(put).build())
        .transact_items(TransactWriteItem::builder().update(update).build())
        .transact_items(TransactWriteItem::builder().delete(delete).build())
        .transact_items(TransactWriteItem::builder().condition_check(check).build());

    let mut since = Since::now(&clients);
    let transaction = transaction.client_request_token("once");
    transaction.clone().send().await.unwrap();
    let used = 2.0 * 2.0 + 2.0 + 3.0 * 2.0;
    assert_eq!(
        since.used("transaction of four, one in the index"),
        writes(used, used)
    );

    transaction.send().await.unwrap();
    let again = since.used("the same again, by its token");
    assert_eq!(
        (again.write_computed, again.write_reported),
        (used, 0.0),
        "the service only reads the second time"
    );
    assert!(again.read_reported > 0.0);
}

#[tokio::test]
async fn reads_count_by_what_came_back() {
    let clients = table("").await;
    let db = &clients.dynamodb;
    for (pk, length) in [("run_1", 10), ("run_2", 5000)] {
        for sk in ["a", "b", "c"] {
            let note = "x".repeat(length);
            let item = row(&[
                ("pk", pk),
                ("sk", sk),
                ("due_shard", "7"),
                ("due_at", sk),
                ("note", &note),
            ]);
            db.put_item()
                .table_name(TABLE)
                .set_item(Some(item))
                .send()
                .await
                .unwrap();
        }
    }
    let mut since = Since::now(&clients);

    let get = |pk: &str| {
        db.get_item()
            .table_name(TABLE)
            .set_key(Some(row(&[("pk", pk), ("sk", "a")])))
    };
    get("run_1").consistent_read(true).send().await.unwrap();
    assert_eq!(since.used("get, consistent"), reads(1.0, 1.0));
    get("run_1").send().await.unwrap();
    assert_eq!(since.used("get, eventual"), reads(0.5, 0.5));
    get("run_2").consistent_read(true).send().await.unwrap();
    assert_eq!(since.used("get of 5 KB, consistent"), reads(2.0, 2.0));
    get("nobody").send().await.unwrap();
    assert_eq!(since.used("get of nothing"), reads(0.5, 0.5));

    let query = |pk: &str| {
        let query = db
            .query()
            .table_name(TABLE)
            .key_condition_expression("pk = :pk");
        query.expression_attribute_values(":pk", s(pk))
    };
    query("run_1").consistent_read(true).send().await.unwrap();
    assert_eq!(since.used("query of three small rows"), reads(1.0, 1.0));
    query("run_2").send().await.unwrap();
    assert_eq!(since.used("query of 15 KB, eventual"), reads(2.0, 2.0));
    query("nobody").send().await.unwrap();
    assert_eq!(since.used("query of nothing"), reads(0.5, 0.5));

    let due = db
        .query()
        .table_name(TABLE)
        .index_name("due")
        .key_condition_expression("due_shard = :s AND due_at < :at");
    let due = due
        .expression_attribute_values(":s", s("7"))
        .expression_attribute_values(":at", s("b"));
    due.send().await.unwrap();
    assert_eq!(since.used("query of the index, 5 KB"), reads(1.0, 1.0));

    let keys = ["run_1", "run_2", "nobody"]
        .map(|pk| row(&[("pk", pk), ("sk", "a")]))
        .to_vec();
    let keys = KeysAndAttributes::builder()
        .set_keys(Some(keys))
        .consistent_read(true)
        .build()
        .unwrap();
    db.batch_get_item()
        .request_items(TABLE, keys)
        .send()
        .await
        .unwrap();
    assert_eq!(
        since.used("batch of three, one missing"),
        reads(1.0 + 2.0 + 1.0, 4.0)
    );
}

#[tokio::test]
async fn the_sums_are_kept_by_operation() {
    let clients = table("").await;
    let put = |pk: &str| {
        PutRequest::builder()
            .set_item(Some(row(&[("pk", pk), ("sk", "head")])))
            .build()
            .unwrap()
    };
    let requests = ["run_1", "run_2"]
        .map(|pk| WriteRequest::builder().put_request(put(pk)).build())
        .to_vec();
    clients
        .dynamodb
        .batch_write_item()
        .request_items(TABLE, requests)
        .send()
        .await
        .unwrap();
    let get = clients.dynamodb.get_item().table_name(TABLE);
    let get = get.key("pk", s("warm")).key("sk", s("warm"));
    get.send().await.unwrap();

    let by_operation = clients.meter.by_operation();
    assert_eq!(by_operation["BatchWriteItem"], writes(2.0, 2.0));
    assert_eq!(by_operation["GetItem"], reads(0.5, 0.5));
    assert_eq!(by_operation["other"].requests, 1, "the making of the table");
    let all: Units = by_operation.into_values().sum();
    assert_eq!(all, clients.meter.units());
}

#[tokio::test]
async fn every_attempt_is_a_request_but_a_throttled_one_uses_nothing() {
    let throttled = (
        400,
        json!({ "__type": "ProvisionedThroughputExceededException", "message": "slow down" }),
    );
    let done = (
        200,
        json!({ "ConsumedCapacity": { "TableName": TABLE, "CapacityUnits": 1.0 } }),
    );
    let (fake, address) = Fake::start([throttled.clone(), throttled, done]).await;
    let clients = connect(address, "");
    let put = clients
        .dynamodb
        .put_item()
        .table_name(TABLE)
        .set_item(Some(row(&[("pk", "run_1"), ("sk", "head")])));
    put.send().await.unwrap();
    assert_eq!(
        clients.meter.units(),
        Units {
            requests: 3,
            ..writes(1.0, 1.0)
        }
    );
    let asked = fake.asked();
    assert_eq!(asked.len(), 3);
    assert!(
        asked
            .iter()
            .all(|(_, body)| body["ReturnConsumedCapacity"] == "INDEXES"),
        "{asked:?}"
    );
}
