//! The management API, by which functions send over connections and close them: `/{stage}/@connections/{id}`.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc::error::TrySendError;

use super::Sockets;
use super::connection::MESSAGE_LIMIT;
use crate::http::{answer, decoded};
use crate::iam::Access;

/// The reason why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The connection is closed.
    Gone,
    /// The client does not take what was sent to it before.
    Full,
}

impl Sockets {
    /// The id of the connection that a request of the management API is about.
    pub(crate) fn managed(&self, parts: &Parts) -> Option<String> {
        let stage = parts.uri.path().strip_prefix('/')?;
        let path = stage.strip_prefix(self.spec.stage.as_str())?;
        let id = decoded(path).strip_prefix("/@connections/")?.to_owned();
        Some(id).filter(|id| !id.is_empty() && !id.contains('/'))
    }

    /// What a request of the management API wants to do.
    pub(crate) fn access(&self, method: &Method, id: &str) -> Access {
        let resource = self.spec.arn(&format!("{method}/@connections/{id}"));
        Access::new("execute-api:ManageConnections", resource)
    }

    /// Answers a request of the management API that its caller may make.
    pub(crate) fn manage(&self, method: &Method, id: &str, body: Bytes) -> Response {
        match *method {
            Method::POST if body.len() > MESSAGE_LIMIT => {
                let message = "The message is larger than 128 KB.";
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                refusal(status, "PayloadTooLargeException", message)
            }
            Method::POST => match self.send(id, body) {
                Ok(()) => empty(StatusCode::OK),
                Err(Unsent::Gone) => gone(),
                Err(Unsent::Full) => {
                    let message = "The client does not take what was sent to it before.";
                    let status = StatusCode::TOO_MANY_REQUESTS;
                    refusal(status, "LimitExceededException", message)
                }
            },
            Method::GET => self
                .describe(id)
                .map_or_else(gone, |found| answer::json(StatusCode::OK, &found)),
            Method::DELETE if self.forget(id) => empty(StatusCode::NO_CONTENT),
            Method::DELETE => gone(),
            _ => {
                let status = StatusCode::FORBIDDEN;
                refusal(status, "ForbiddenException", "Forbidden")
            }
        }
    }

    /// Sends a message over a connection. It is on its way then, and may be lost with the connection.
    pub(super) fn send(&self, id: &str, message: Bytes) -> Result<(), Unsent> {
        let all = self.open.lock();
        let all = all.unwrap_or_else(std::sync::PoisonError::into_inner);
        let open = all.as_ref().and_then(|all| all.get(id));
        let open = open.ok_or(Unsent::Gone)?;
        open.queue.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => Unsent::Full,
            TrySendError::Closed(_) => Unsent::Gone,
        })
    }

    fn describe(&self, id: &str) -> Option<Value> {
        let all = self.open.lock();
        let all = all.unwrap_or_else(std::sync::PoisonError::into_inner);
        let open = all.as_ref()?.get(id)?;
        Some(json!({
            "connectedAt": iso(open.facts.connected_at),
            "identity": { "sourceIp": "127.0.0.1", "userAgent": open.facts.user_agent },
            "lastActiveAt": iso(open.activity.last()),
        }))
    }
}

fn iso(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    let time = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
    format!("{time:.3}")
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn gone() -> Response {
    refusal(
        StatusCode::GONE,
        "GoneException",
        "The connection is closed.",
    )
}

/// An error in the form of AWS's services with REST and JSON.
pub(crate) fn refusal(status: StatusCode, name: &'static str, message: &str) -> Response {
    let mut response = answer::message(status, message);
    let headers = response.headers_mut();
    headers.insert("x-amzn-errortype", HeaderValue::from_static(name));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
