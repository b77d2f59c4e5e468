//! Functions that `cargo lambda watch` runs, instead of this process.
#![allow(clippy::unwrap_used)] // Clippy does not see that the helpers are tests, too.

mod support;

use axum::Router;
use axum::extract::Path;
use axum::routing::post;
use http::StatusCode;
use serde_json::json;
use support::{functions, options, real_template};
use towpath_local::Cloud;

/// What answers like `cargo lambda watch`, and its URL.
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
