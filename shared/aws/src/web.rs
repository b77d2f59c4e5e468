//! A service that is not AWS's and speaks JSON over HTTP, with the connections and time-outs of the other clients. What an
//! answer means, and whether to ask again, is the caller's business.

use std::time::Duration;

use aws_sdk_dynamodb::config::BehaviorVersion;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::timeout::TimeoutConfig;
use serde_json::Value;
use towpath_auth::Secret;

use crate::bucket::{Refused, Setup};

/// The time-out of a call: a machine is placed while its caller waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// A service that is not AWS's. Cheap to clone; all clones share connections.
#[derive(Clone, Debug)]
pub struct Web {
    name: &'static str,
    operation: Operation<Call, WebAnswer, Refused>,
}

/// The answer of a service, whatever its status.
#[derive(Clone, Debug, PartialEq)]
pub struct WebAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The time after which to ask again, if the service says so in seconds.
    pub retry_after: Option<Duration>,
    /// The body; null if it is no JSON.
    pub body: Value,
}

/// There was no answer. What was asked for may or may not have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} did not answer")]
pub struct NoAnswer(pub &'static str);

/// A request. It does not print its token.
#[derive(Debug)]
struct Call {
    method: http::Method,
    path: String,
    token: Secret,
    body: Option<Value>,
}

impl WebAnswer {
    /// Whether the service did what it was asked for.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Web {
    pub(crate) fn new(name: &'static str, url: &str, setup: &Setup) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            .operation_timeout(PATIENCE)
            .build();
        let operation = Operation::builder()
            .service_name(name)
            .operation_name("Call")
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(url.trim_end_matches('/'))
            .http_client(setup.http.clone())
            .no_auth()
            .no_retry()
            .timeout_config(timeouts)
            .serializer(request)
            .deserializer(answered);
        Self {
            name,
            operation: operation.build(),
        }
    }

    /// Sends a request once, with a bearer token. `path` is of characters that stand for themselves in a URL.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn call(
        &self,
        method: http::Method,
        path: String,
        token: &Secret,
        body: Option<Value>,
    ) -> Result<WebAnswer, NoAnswer> {
        let call = Call {
            method,
            path,
            token: token.clone(),
            body,
        };
        let answer = self.operation.invoke(call).await;
        answer.map_err(|_| NoAnswer(self.name))
    }
}

fn request(call: Call) -> Result<HttpRequest, BoxError> {
    let mut token = http::HeaderValue::try_from(format!("Bearer {}", call.token.expose()))?;
    token.set_sensitive(true);
    let request = http::Request::builder()
        .method(call.method)
        .uri(call.path)
        .header("authorization", token)
        .header("accept", "application/json");
    let request = match call.body {
        None => request.body(SdkBody::empty())?,
        Some(body) => request
            .header("content-type", "application/json")
            .body(SdkBody::from(body.to_string()))?,
    };
    Ok(HttpRequest::try_from(request)?)
}

fn answered(response: &HttpResponse) -> Result<WebAnswer, OrchestratorError<Refused>> {
    let seconds = response.headers().get("retry-after");
    let seconds = seconds.and_then(|text| text.trim().parse().ok());
    Ok(WebAnswer {
        status: response.status().as_u16(),
        retry_after: seconds.map(Duration::from_secs),
        body: serde_json::from_slice(response.body().bytes().unwrap_or_default())
            .unwrap_or_default(),
    })
}
