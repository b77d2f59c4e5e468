//! The AWS front: every call is checked against the template's policies.
#![allow(clippy::unwrap_used)] // Clippy does not see that the helpers are tests, too.

mod support;

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, Put, ReturnConsumedCapacity, TransactWriteItem,
};
use support::{
    SMALL, cloud_of, dynamodb, functions, options, real_template, send, signed, signed_at, states,
};
use towpath_local::Cloud;

const TABLE: &str = "towpath-Table";

async fn cloud() -> Cloud {
    cloud_of(SMALL, functions([])).await.unwrap()
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn check(key: &str) -> TransactWriteItem {
    let check = ConditionCheck::builder()
        .table_name(TABLE)
        .key("pk", text(key));
    let check = check
        .condition_expression("attribute_not_exists(pk)")
        .build()
        .unwrap();
    TransactWriteItem::builder().condition_check(check).build()
}

fn put(key: &str) -> TransactWriteItem {
    let put = Put::builder()
        .table_name(TABLE)
        .item("pk", text(key))
        .build()
        .unwrap();
    TransactWriteItem::builder().put(put).build()
}

fn delete(key: &str) -> TransactWriteItem {
    let delete = Delete::builder()
        .table_name(TABLE)
        .key("pk", text(key))
        .build()
        .unwrap();
    TransactWriteItem::builder().delete(delete).build()
}

async fn query(client: &Client, index: Option<&str>) -> Result<(), (String, String)> {
    let key = if index.is_some() { "due" } else { "pk" };
    let query = client
        .query()
        .table_name(TABLE)
        .set_index_name(index.map(str::to_owned));
    let query = query
        .key_condition_expression(format!("{key} = :k"))
        .expression_attribute_values(":k", text("x"));
    query
        .send()
        .await
        .map(|_| ())
        .map_err(|error| named(&error))
}

/// The name and message of a refusal.
fn named<E, R>(error: &aws_sdk_dynamodb::error::SdkError<E, R>) -> (String, String)
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let text = |text: Option<&str>| text.unwrap_or("nothing").to_owned();
    assert!(error.code().is_some(), "{}", DisplayErrorContext(error));
    (text(error.code()), text(error.message()))
}

#[tokio::test]
async fn a_function_may_do_what_its_policy_allows_and_no_more() {
    let cloud = cloud().await;
    let client = dynamodb(&cloud.aws_environment("First"));
    let written = client.put_item().table_name(TABLE).item("pk", text("a"));
    let written = written
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await
        .unwrap();
    assert_eq!(
        written.consumed_capacity().unwrap().capacity_units(),
        Some(1.0)
    );

    let read = client
        .get_item()
        .table_name(TABLE)
        .key("pk", text("a"))
        .send()
        .await
        .unwrap_err();
    let (name, message) = named(&read);
    assert_eq!(name, "AccessDeniedException");
    assert_eq!(
        message,
        "User: arn:aws:sts::000000000000:assumed-role/towpath-FirstRole/towpath-First is not authorized to perform: \
         dynamodb:GetItem on resource: arn:aws:dynamodb:us-east-1:000000000000:table/towpath-Table because no \
         identity-based policy allows the dynamodb:GetItem action"
    );
    let other = dynamodb(&cloud.aws_environment("Second"))
        .put_item()
        .table_name(TABLE)
        .item("pk", text("b"));
    assert_eq!(
        named(&other.send().await.unwrap_err()).0,
        "AccessDeniedException"
    );
    let operator = dynamodb(&cloud.aws_environment("operator"));
    let read = operator
        .get_item()
        .table_name(TABLE)
        .key("pk", text("a"))
        .send()
        .await
        .unwrap();
    assert!(read.item().is_some());
}

#[tokio::test]
async fn a_transaction_needs_what_its_operations_need() {
    let cloud = cloud().await;
    let client = dynamodb(&cloud.aws_environment("First"));
    client
        .transact_write_items()
        .transact_items(check("a"))
        .transact_items(put("b"))
        .send()
        .await
        .unwrap();
    let refused = client
        .transact_write_items()
        .transact_items(put("c"))
        .transact_items(delete("b"))
        .send()
        .await;
    let (name, message) = named(&refused.unwrap_err());
    assert_eq!(name, "AccessDeniedException");
    assert!(message.contains("dynamodb:DeleteItem"), "{message}");
    let operator = dynamodb(&cloud.aws_environment("operator"));
    let all = operator.scan().table_name(TABLE).send().await.unwrap();
    assert_eq!(all.count(), 1, "nothing of a refused transaction is done");
}

#[tokio::test]
async fn an_index_is_a_resource_of_its_own() {
    let cloud = cloud().await;
    let client = dynamodb(&cloud.aws_environment("First"));
    query(&client, Some("due")).await.unwrap();
    assert_eq!(
        query(&client, None).await.unwrap_err().0,
        "AccessDeniedException"
    );
}

#[tokio::test]
async fn who_has_no_key_of_this_cloud_is_nobody() {
    let cloud = cloud().await;
    let mut environment = cloud.aws_environment("operator");
    for key in ["operator", "operator-0123", "AKIAIOSFODNN7EXAMPLE", ""] {
        environment.insert("AWS_ACCESS_KEY_ID".to_owned(), key.to_owned());
        assert_eq!(
            query(&dynamodb(&environment), None).await.unwrap_err().0,
            "UnrecognizedClientException",
            "{key:?}"
        );
    }
    let nobody = dynamodb(&cloud.aws_environment("Third"));
    assert_eq!(
        query(&nobody, None).await.unwrap_err().0,
        "UnrecognizedClientException"
    );
}

#[tokio::test]
async fn a_test_can_tell_which_permissions_are_needed() {
    let cloud = cloud().await;
    let client = dynamodb(&cloud.aws_environment("First"));
    query(&client, Some("due")).await.unwrap();
    let used = cloud.statements_used();
    assert_eq!(
        used.iter()
            .map(|used| (used.policy.as_str(), used.index))
            .collect::<Vec<_>>(),
        [("First", 1)]
    );
    assert_eq!(cloud.statements().len(), 2);
    assert!(cloud.remove_statement("First", 1, None));
    assert!(query(&client, Some("due")).await.is_err());
}

#[tokio::test]
async fn a_browser_gets_nothing_here_either() {
    let cloud = cloud().await;
    let environment = cloud.aws_environment("operator");
    let request = |origin: Option<&str>| {
        let target = "DynamoDB_20120810.ListTables";
        let mut request = signed(&environment, "dynamodb", target, "{}");
        if let Some(origin) = origin {
            let headers = request.headers_mut();
            headers.insert("origin", origin.parse().unwrap());
        }
        send(request)
    };
    assert_eq!(request(None).await.status(), 200);
    assert_eq!(request(Some("http://evil.example")).await.status(), 403);
}

#[tokio::test]
async fn a_secret_is_read_by_those_who_may() {
    let cloud = Cloud::start(options(&real_template(), functions([])))
        .await
        .unwrap();
    let arn = cloud.output("FirstKeySecretArn").unwrap();
    let read = async |identity: &str| {
        let environment = cloud.aws_environment(identity);
        let body = serde_json::json!({ "SecretId": arn }).to_string();
        let target = "secretsmanager.GetSecretValue";
        let answer = send(signed(&environment, "secretsmanager", target, &body)).await;
        serde_json::from_slice::<serde_json::Value>(answer.body()).unwrap()
    };
    let value = read("ApiFunction").await["SecretString"]
        .as_str()
        .map(str::to_owned);
    assert_eq!(value, cloud.secret("FirstKey"));
    assert_eq!(value.map(|value| value.len()), Some(43));
    let refused = read("TickFunction").await;
    assert_eq!(
        refused["__type"],
        "com.amazon.coral.service#AccessDeniedException"
    );
}

/// Key ids are shown in presigned URLs.
#[tokio::test]
async fn knowing_a_key_id_is_not_enough() {
    let cloud = cloud().await;
    let mut environment = cloud.aws_environment("First");
    let target = "DynamoDB_20120810.ListTables";
    let answer = async |environment: &support::Environment, change: &str| {
        let mut request = signed(environment, "dynamodb", target, "{}");
        request.body_mut().extend_from_slice(change.as_bytes());
        let answer = send(request).await;
        String::from_utf8(answer.into_body()).unwrap()
    };
    let denied = answer(&environment, "").await;
    assert!(denied.contains("AccessDeniedException"), "{denied}");
    let changed = answer(&environment, " ").await;
    assert!(changed.contains("InvalidSignatureException"), "{changed}");
    let secret = "AWS_SECRET_ACCESS_KEY".to_owned();
    let guess = environment["AWS_ACCESS_KEY_ID"].clone();
    environment.insert(secret, guess);
    let guessed = answer(&environment, "").await;
    assert!(guessed.contains("InvalidSignatureException"), "{guessed}");
}

#[tokio::test]
async fn a_signature_is_good_for_a_quarter_of_an_hour() {
    let cloud = cloud().await;
    let environment = cloud.aws_environment("operator");
    let answer = async |time: SystemTime| {
        let target = "DynamoDB_20120810.ListTables";
        let answer = send(signed_at(&environment, "dynamodb", target, "{}", time)).await;
        let status = answer.status().as_u16();
        (status, String::from_utf8(answer.into_body()).unwrap())
    };
    let (now, minute) = (SystemTime::now(), Duration::from_secs(60));
    for time in [now - 14 * minute, now + 14 * minute] {
        assert_eq!(answer(time).await.0, 200);
    }
    for (time, why) in [
        (now - 16 * minute, "Signature expired"),
        (now + 16 * minute, "Signature not yet current"),
    ] {
        let (status, said) = answer(time).await;
        assert_eq!(status, 400, "{said}");
        assert!(said.contains("#InvalidSignatureException"), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[tokio::test]
async fn step_functions_asks_too() {
    let cloud = Cloud::start(options(&real_template(), functions([])))
        .await
        .unwrap();
    let machine = cloud.output("StateMachineArn").unwrap();
    let start = |identity: &str, name: &str| {
        let start = states(&cloud.aws_environment(identity)).start_execution();
        start
            .state_machine_arn(&machine)
            .name(name)
            .input(r#"{"run":"r","generation":1}"#)
            .send()
    };
    let execution = start("AdvanceFunction", "a").await.unwrap().execution_arn;
    let describe = |identity: &str| {
        states(&cloud.aws_environment(identity))
            .describe_execution()
            .execution_arn(&execution)
            .send()
    };
    describe("TickFunction").await.unwrap();
    let refused = describe("AdvanceFunction").await.unwrap_err();
    let message = refused.message().unwrap_or_default();
    assert_eq!(refused.code(), Some("AccessDeniedException"));
    assert!(
        message.contains(&format!(
            "states:DescribeExecution on resource: {execution}"
        )),
        "{message}"
    );
    let token = states(&cloud.aws_environment("AdvanceFunction"))
        .send_task_success()
        .task_token("none")
        .output("{}");
    assert_eq!(
        token.send().await.unwrap_err().code(),
        Some("InvalidToken"),
        "allowed, but there is no such token"
    );
}
