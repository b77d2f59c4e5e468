//! Functions that `cargo lambda watch` runs, instead of this process.
#![allow(clippy::unwrap_used)] // Clippy does not see that the helpers are tests, too.

mod support;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::AttributeValue;
use axum::Router;
use axum::extract::Path;
use axum::routing::post;
use http::StatusCode;
use serde_json::json;
use support::{dynamodb, functions, options, real_template};
use towpath_local::Cloud;

/// Starts a server that answers like `cargo lambda watch`; returns its URL.
async fn watch() -> String {
    let invoke = async |Path(function): Path<String>, body: String| match function.as_str() {
        "advance" => (StatusCode::OK, json!({ "heard": body }).to_string()),
        "settle" => {
            let error = json!({"errorType": "Towpath.Throttled", "errorMessage": "slow down"});
            (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
        _ => (StatusCode::NOT_FOUND, "no such function".to_owned()),
    };
    let router = Router::new().route("/2015-03-31/functions/{function}/invocations", post(invoke));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn functions_that_are_not_here_are_called_there() {
    let mut options = options(&real_template(), functions([]));
    options.lambda_url = Some(watch().await);
    let cloud = Cloud::start(options).await.unwrap();
    let answer = cloud
        .invoke("AdvanceFunction", json!({"run": "r"}))
        .await
        .unwrap();
    assert_eq!(answer, json!({"heard": r#"{"run":"r"}"#}));
    let failure = cloud.invoke("SettleFunction", json!({})).await.unwrap_err();
    assert_eq!(failure.error, "Towpath.Throttled");
    assert_eq!(
        failure.cause,
        r#"{"errorMessage":"slow down","errorType":"Towpath.Throttled"}"#
    );
    let failure = cloud.invoke("TickFunction", json!({})).await.unwrap_err();
    assert_eq!(failure.error, "Lambda.ServiceException");
}

#[tokio::test]
async fn a_watch_that_does_not_run_is_a_lost_connection() {
    let mut options = options(&real_template(), functions([]));
    // A port that was free a moment ago, and is ours no longer.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    options.lambda_url = Some(format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let cloud = Cloud::start(options).await.unwrap();
    let failure = cloud
        .invoke("AdvanceFunction", json!({}))
        .await
        .unwrap_err();
    assert_eq!(failure.error, "Lambda.SdkClientException");
}

/// A DynamoDB client as a function of the watch has it: everybody's key, and a name of its own.
fn client(cloud: &Cloud, binary: Option<&str>) -> aws_sdk_dynamodb::Client {
    let name = |name: &str| aws_sdk_dynamodb::config::AppName::new(name.to_owned()).unwrap();
    let mut config = dynamodb(cloud.watch_environment()).config().to_builder();
    config.set_app_name(binary.map(name));
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

#[tokio::test]
async fn functions_of_a_watch_are_told_apart_by_name_and_have_their_own_permissions() {
    let mut options = options(&real_template(), functions([]));
    options.lambda_url = Some(watch().await);
    let cloud = Cloud::start(options).await.unwrap();
    let environment = cloud.watch_environment();
    let read = async |binary: Option<&str>, table: &str| {
        let read = client(&cloud, binary)
            .get_item()
            .table_name(&environment[table]);
        let key = |name: &str| (name.to_owned(), AttributeValue::S("none".to_owned()));
        let key = [key("pk"), key("sk")].into();
        match read.set_key(Some(key)).send().await {
            Ok(_) => "allowed".to_owned(),
            Err(error) => error.code().unwrap_or_default().to_owned(),
        }
    };
    assert_eq!(read(Some("advance"), "RUNS_TABLE").await, "allowed");
    assert_eq!(read(Some("api"), "EXECUTORS_TABLE").await, "allowed");
    let denied = "AccessDeniedException";
    assert_eq!(read(Some("advance"), "EXECUTORS_TABLE").await, denied);
    let unknown = "UnrecognizedClientException";
    assert_eq!(read(Some("nobody"), "RUNS_TABLE").await, unknown);
    assert_eq!(read(None, "RUNS_TABLE").await, unknown);
    // What only one of them is told stays with it.
    assert!(!environment.contains_key("FIRST_KEY_SECRET_ARN"));
}
