//! What errors mean that the embedded DynamoDB does not give, told by a fake, and one it does.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking, and clippy takes only the test functions themselves for tests"
)]

mod common;

use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use common::{Fake, TABLE, connect, row, s, table};
use serde_json::{Value, json};
use towpath_aws::{Trouble, cancellation, classify};

async fn get_answered(status: u16, answer: Value) -> Trouble {
    let (_, address) = Fake::start([(status, answer)]).await;
    let clients = connect(address);
    let get = clients
        .dynamodb
        .get_item()
        .table_name(TABLE)
        .set_key(Some(row(&[("pk", "run_1"), ("sk", "head")])));
    classify(&get.send().await.unwrap_err())
}

#[tokio::test]
async fn a_missing_permission_is_named_in_the_services_own_words() {
    let message =
        "User: arn:aws:sts::1:assumed-role/x is not authorized to perform: dynamodb:GetItem";
    let answer =
        json!({ "__type": "com.amazon.coral.service#AccessDeniedException", "Message": message });
    assert_eq!(
        get_answered(400, answer).await,
        Trouble::AccessDenied {
            message: message.to_owned()
        }
    );
}

#[tokio::test]
async fn what_only_the_caller_can_judge_is_other() {
    let answer = json!({ "__type": "ResourceNotFoundException", "message": "no such table" });
    assert_eq!(get_answered(400, answer).await, Trouble::Other);
    let (_, address) =
        Fake::start([(400, json!({ "__type": "TaskTimedOut", "message": "gone" }))]).await;
    let error = connect(address)
        .sfn
        .send_task_success()
        .task_token("t")
        .output("{}")
        .send()
        .await
        .unwrap_err();
    assert_eq!(classify(&error), Trouble::Other);
    assert!(error.into_service_error().is_task_timed_out());
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unavailable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let clients = connect(address);
    let get = clients
        .dynamodb
        .get_item()
        .table_name(TABLE)
        .set_key(Some(row(&[("pk", "run_1"), ("sk", "head")])));
    assert_eq!(
        classify(&get.send().await.unwrap_err()),
        Trouble::Unavailable
    );
}

#[tokio::test]
async fn a_cancelled_transaction_tells_which_action_failed_and_shows_the_row() {
    let clients = table().await;
    let there = row(&[("pk", "run_1"), ("sk", "head"), ("rev", "7")]);
    clients
        .dynamodb
        .put_item()
        .table_name(TABLE)
        .set_item(Some(there.clone()))
        .send()
        .await
        .unwrap();
    let put = |pk: &str| {
        let put = Put::builder()
            .table_name(TABLE)
            .set_item(Some(row(&[("pk", pk), ("sk", "head")])));
        let put = put.condition_expression("attribute_not_exists(pk)");
        let put = put
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        TransactWriteItem::builder()
            .put(put.build().unwrap())
            .build()
    };
    let transaction = clients
        .dynamodb
        .transact_write_items()
        .transact_items(put("run_2"))
        .transact_items(put("run_1"));
    let error = transaction.send().await.unwrap_err();
    assert_eq!(classify(&error), Trouble::ConditionFailed);
    let reasons = cancellation(&error).unwrap();
    assert_eq!(
        reasons
            .iter()
            .map(|reason| reason.condition_failed())
            .collect::<Vec<_>>(),
        [false, true]
    );
    assert_eq!(reasons[1].item.as_ref(), Some(&there));
    assert_eq!(there["rev"], s("7"));
}

#[tokio::test]
async fn a_mixed_cancellation_is_a_failed_condition() {
    let reasons = json!([{ "Code": "TransactionConflict" }, { "Code": "ConditionalCheckFailed" }, { "Code": "None" }]);
    let answer =
        json!({ "__type": "TransactionCanceledException", "CancellationReasons": reasons });
    let (_, address) = Fake::start([(400, answer)]).await;
    let put = Put::builder()
        .table_name(TABLE)
        .set_item(Some(row(&[("pk", "a"), ("sk", "b")])))
        .build()
        .unwrap();
    let transaction = connect(address).dynamodb.transact_write_items();
    let transaction = transaction.transact_items(TransactWriteItem::builder().put(put).build());
    let error = transaction.send().await.unwrap_err();
    assert_eq!(classify(&error), Trouble::ConditionFailed);
    assert_eq!(cancellation(&error).unwrap().len(), 3);
}
