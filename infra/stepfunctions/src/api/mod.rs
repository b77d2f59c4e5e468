//! The AWS JSON 1.0 API: what the SDKs speak.

mod executions;
mod history;
mod machines;
mod refusal;
mod request;
mod tasks;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use ulid::Ulid;

use crate::drive::Driver;
use refusal::Refusal;
use request::Request;

/// The API at `POST /`.
pub(crate) fn router(driver: Arc<Driver>) -> Router {
    Router::new().route("/", post(serve)).with_state(driver)
}

async fn serve(State(driver): State<Arc<Driver>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers
        .get("x-amz-target")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (status, body) = match answer(&driver, target, &body) {
        Ok(answer) => (StatusCode::OK, answer),
        Err(refusal) => (
            refusal.status,
            json!({ "__type": refusal.kind, "message": refusal.message }),
        ),
    };
    let headers = [
        (
            header::CONTENT_TYPE.as_str(),
            "application/x-amz-json-1.0".to_owned(),
        ),
        ("x-amzn-requestid", Ulid::new().to_string()),
    ];
    (status, headers, body.to_string()).into_response()
}

/// Performs an operation. Those in the second half drive executions, and are refused until executions are driven.
fn answer(driver: &Arc<Driver>, target: &str, body: &[u8]) -> Result<Value, Refusal> {
    let unknown = || {
        Refusal::new(
            "UnknownOperationException",
            format!("{target:?} is not supported here"),
        )
    };
    let operation = target
        .strip_prefix("AWSStepFunctions.")
        .ok_or_else(unknown)?;
    let request = Request::read(body)?;
    match operation {
        "DescribeExecution" => return executions::describe(driver, &request),
        "ListExecutions" => return executions::list(driver, &request),
        "GetExecutionHistory" => return history::get(driver, &request),
        "DescribeStateMachine" => return machines::describe(driver, &request),
        "ListStateMachines" => return machines::list(driver, &request),
        "StartExecution" | "StopExecution" | "SendTaskSuccess" | "SendTaskFailure"
        | "SendTaskHeartbeat" => {}
        _ => return Err(unknown()),
    }
    if !driver.is_ready() {
        return Err(Refusal::unavailable());
    }
    match operation {
        "StartExecution" => executions::start(driver, &request),
        "StopExecution" => executions::stop(driver, &request),
        "SendTaskSuccess" => tasks::success(driver, &request),
        "SendTaskFailure" => tasks::failure(driver, &request),
        _ => tasks::heartbeat(driver, &request),
    }
}
