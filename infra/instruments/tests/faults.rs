//! Each fault does what it says, to real calls against a real API.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking, and clippy takes only the test functions themselves for tests"
)]

mod common;

use aws_sdk_dynamodb::types::{Put, TransactWriteItem, Update};
use common::{Fake, Instrumented, TABLE, connect, row, s, table};
use serde_json::json;
use towpath_aws::{Trouble, cancellation, classify};
use towpath_instruments::{Fault, Item};

fn head(pk: &str) -> Item {
    row(&[("pk", pk), ("sk", "head")])
}

async fn exists(clients: &Instrumented, pk: &str) -> bool {
    let get = clients
        .dynamodb
        .get_item()
        .table_name(TABLE)
        .set_key(Some(head(pk)))
        .consistent_read(true);
    get.send().await.unwrap().item.is_some()
}

/// A transaction that makes a row that must not exist, and counts on another.
fn transaction(
    clients: &Instrumented,
) -> aws_sdk_dynamodb::operation::transact_write_items::builders::TransactWriteItemsFluentBuilder {
    let put = Put::builder().table_name(TABLE).set_item(Some(head("new")));
    let put = put
        .condition_expression("attribute_not_exists(pk)")
        .build()
        .unwrap();
    let count = Update::builder()
        .table_name(TABLE)
        .set_key(Some(head("counter")))
        .update_expression("ADD n :one");
    let count = count.expression_attribute_values(
        ":one",
        aws_sdk_dynamodb::types::AttributeValue::N("1".to_owned()),
    );
    clients
        .dynamodb
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().put(put).build())
        .transact_items(
            TransactWriteItem::builder()
                .update(count.build().unwrap())
                .build(),
        )
}

async fn counted(clients: &Instrumented) -> Option<String> {
    let get = clients
        .dynamodb
        .get_item()
        .table_name(TABLE)
        .set_key(Some(head("counter")))
        .consistent_read(true);
    get.send()
        .await
        .unwrap()
        .item?
        .get("n")?
        .as_n()
        .ok()
        .cloned()
}

#[tokio::test]
async fn a_transaction_survives_the_loss_of_its_reply_and_is_done_once() {
    let clients = table("lost=1,only=TransactWriteItems,limit=2").await;
    transaction(&clients).send().await.unwrap();
    assert_eq!(clients.injected.count(Fault::LostReply), 2);
    assert_eq!(
        clients.meter.by_operation()["TransactWriteItems"].requests,
        3
    );
    assert_eq!(counted(&clients).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn all_attempts_of_a_transaction_carry_the_same_token() {
    let (fake, address) = Fake::start([
        (500, json!({ "__type": "InternalServerError" })),
        (200, json!({})),
    ])
    .await;
    let clients = connect(address, "throttle=1,limit=1");
    transaction(&clients).send().await.unwrap();
    transaction(&clients).send().await.unwrap();
    let tokens: Vec<_> = fake
        .asked()
        .into_iter()
        .map(|(_, body)| body["ClientRequestToken"].clone())
        .collect();
    assert_eq!(
        tokens.len(),
        3,
        "one transaction was tried twice there, the other once"
    );
    assert!(
        tokens[0].is_string() && tokens[0] == tokens[1] && tokens[1] != tokens[2],
        "{tokens:?}"
    );
}

#[tokio::test]
async fn a_conditional_put_whose_reply_is_lost_meets_its_own_row() {
    let clients = table("lost=1,only=PutItem,limit=1").await;
    let put = clients
        .dynamodb
        .put_item()
        .table_name(TABLE)
        .set_item(Some(head("run_1")));
    let error = put
        .condition_expression("attribute_not_exists(pk)")
        .send()
        .await
        .unwrap_err();
    assert_eq!(classify(&error), Trouble::ConditionFailed);
    assert!(exists(&clients, "run_1").await);
}

#[tokio::test]
async fn throttling_and_server_errors_pass_if_they_do_not_last() {
    for (spec, fault) in [
        ("throttle=1,limit=3", Fault::Throttle),
        ("error=1,limit=3", Fault::ServerError),
    ] {
        let clients = table(spec).await;
        clients
            .dynamodb
            .put_item()
            .table_name(TABLE)
            .set_item(Some(head("run_1")))
            .send()
            .await
            .unwrap();
        assert_eq!(
            (clients.injected.count(fault), clients.injected.total()),
            (3, 3),
            "{spec}"
        );
        assert!(exists(&clients, "run_1").await, "{spec}");
    }
}

#[tokio::test]
async fn faults_that_last_come_to_the_caller_as_what_they_are() {
    for (spec, trouble) in [
        ("throttle=1,only=PutItem", Trouble::Throttled),
        ("error=1,only=PutItem", Trouble::Unavailable),
        ("lost=1,only=PutItem", Trouble::Unavailable),
    ] {
        let clients = table(spec).await;
        let put = clients
            .dynamodb
            .put_item()
            .table_name(TABLE)
            .set_item(Some(head("run_1")));
        let error = put.send().await.unwrap_err();
        assert_eq!(classify(&error), trouble, "{spec}");
        assert_eq!(
            clients.injected.total(),
            5,
            "{spec}: as many as there are attempts"
        );
        assert_eq!(
            exists(&clients, "run_1").await,
            spec.starts_with("lost"),
            "{spec}"
        );
    }
}

#[tokio::test]
async fn a_conflict_is_told_at_once_and_nothing_is_written() {
    let clients = table("conflict=1,limit=2").await;
    let error = transaction(&clients).send().await.unwrap_err();
    assert_eq!(classify(&error), Trouble::TransactionConflict);
    let reasons = cancellation(&error).unwrap();
    let mut codes: Vec<_> = reasons.iter().map(|reason| reason.code.as_str()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["None", "TransactionConflict"]);

    let error = clients
        .dynamodb
        .delete_item()
        .table_name(TABLE)
        .set_key(Some(head("x")))
        .send()
        .await
        .unwrap_err();
    assert_eq!(classify(&error), Trouble::TransactionConflict);
    assert_eq!(
        clients.injected.count(Fault::Conflict),
        2,
        "the SDK does not try again by itself"
    );
    assert!(!exists(&clients, "new").await);
}

#[tokio::test]
async fn an_index_answers_as_it_did_before_or_lacks_a_row() {
    let clients = table("stale=1").await;
    let due = async |before: &str| {
        let query = clients.dynamodb.query().table_name(TABLE).index_name("due");
        let query = query.key_condition_expression("due_shard = :s AND due_at < :at");
        let query = query
            .expression_attribute_values(":s", s("7"))
            .expression_attribute_values(":at", s(before));
        query.send().await.unwrap().count
    };
    let add = async |pk: &str| {
        let item = row(&[
            ("pk", pk),
            ("sk", "head"),
            ("due_shard", "7"),
            ("due_at", "1"),
        ]);
        clients
            .dynamodb
            .put_item()
            .table_name(TABLE)
            .set_item(Some(item))
            .send()
            .await
            .unwrap();
    };
    add("run_1").await;
    assert_eq!(
        due("5").await,
        0,
        "asked for the first time, and left without a row"
    );
    add("run_2").await;
    assert_eq!(due("5").await, 1, "as before");
    assert_eq!(due("5").await, 2, "and now it has caught up");
}

#[tokio::test]
async fn step_functions_is_throttled_too_and_fails_too() {
    let (fake, address) = Fake::start([(200, json!({}))]).await;
    let clients = connect(
        address,
        "seed=3,throttle=0.3,error=0.3,only=SendTaskSuccess,limit=3",
    );
    for _ in 0..20 {
        clients
            .clients
            .sfn
            .send_task_success()
            .task_token("token")
            .output("{}")
            .send()
            .await
            .unwrap();
    }
    assert_eq!(
        fake.asked().len(),
        20,
        "what is injected does not reach the service"
    );
    assert_eq!(clients.injected.total(), 3);

    let clients = connect(address, "throttle=1");
    let error = clients
        .clients
        .sfn
        .send_task_success()
        .task_token("token")
        .output("{}")
        .send()
        .await
        .unwrap_err();
    assert_eq!(classify(&error), Trouble::Throttled);
}

/// The faults that each of a hundred puts meets.
async fn story(spec: &str) -> Vec<[u64; Fault::ALL.len()]> {
    let (_, address) = Fake::start([(200, json!({}))]).await;
    let clients = connect(address, spec);
    let mut story = Vec::new();
    for _ in 0..100 {
        // Whether it comes through is part of the story only in so far as the counts are.
        let _ = clients
            .dynamodb
            .put_item()
            .table_name(TABLE)
            .set_item(Some(head("run_1")))
            .send()
            .await;
        story.push(Fault::ALL.map(|fault| clients.injected.count(fault)));
    }
    story
}

#[tokio::test]
async fn the_same_seed_tells_the_same_story() {
    let first = story("seed=42,rate=0.05").await;
    assert!(first.last().unwrap().iter().sum::<u64>() > 5, "{first:?}");
    assert_eq!(story("seed=42,rate=0.05").await, first);
    assert_ne!(story("seed=43,rate=0.05").await, first);
}
