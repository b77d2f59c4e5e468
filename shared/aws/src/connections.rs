//! The sockets of a WebSocket API of API Gateway: messages are sent over them, and they are closed. Made as
//! [`crate::Bucket`] is, and for the same reason.

use aws_sdk_dynamodb::error::{ErrorMetadata, ProvideErrorMetadata, SdkError};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::bucket::{Refused, Setup, hex};
use crate::trouble::{Trouble, classify};

/// The sockets of one stage of a WebSocket API. Cheap to clone; all clones share connections.
#[derive(Clone, Debug)]
pub struct Connections(Operation<Call, (), Refused>);

/// The outcome of a message that was sent over a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// The message is on its way. It is lost if the socket closes before it arrives.
    Sent,
    /// The socket is closed.
    Gone,
}

/// A reason for which nothing is known to have been sent or closed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionsError {
    /// The message is larger than the 128 KB that a socket takes.
    #[error("the message is larger than 128 KB; send it in parts, or a reference to it")]
    TooLarge,
    /// API Gateway does not take the request as it is.
    #[error("{0}")]
    Refused(String),
    /// There was no usable answer, or there were too many calls, or the client does not read what it is sent. It may or
    /// may not have been done.
    #[error("{0}")]
    Unavailable(String),
}

#[derive(Debug)]
struct Call {
    method: http::Method,
    connection: String,
    body: Bytes,
}

impl Connections {
    /// The sockets behind the URL of a stage's management API.
    pub(crate) fn new(url: &str, setup: &Setup) -> Self {
        let caller = setup.function.clone();
        let operation = setup
            .operation(
                "API Gateway",
                "execute-api",
                Some(url.trim_end_matches('/')),
            )
            .serializer(move |call: Call| request(call, caller.as_deref()))
            .deserializer(answered);
        Self(operation.build())
    }

    /// Sends a message over a socket. A message may arrive twice: it is sent again if the answer is lost.
    ///
    /// # Errors
    /// [`ConnectionsError::TooLarge`] if a socket never takes it; else, if API Gateway does not answer or refuses.
    pub async fn post(&self, connection: &str, text: &str) -> Result<Posted, ConnectionsError> {
        let body = Bytes::copy_from_slice(text.as_bytes());
        let posted = self.call(http::Method::POST, connection, body).await?;
        Ok(if posted { Posted::Sent } else { Posted::Gone })
    }

    /// Whether a socket is open.
    ///
    /// # Errors
    /// If API Gateway does not answer or refuses.
    pub async fn is_open(&self, connection: &str) -> Result<bool, ConnectionsError> {
        self.call(http::Method::GET, connection, Bytes::new()).await
    }

    /// Closes a socket. One that is closed stays so.
    ///
    /// # Errors
    /// If API Gateway does not answer or refuses.
    pub async fn close(&self, connection: &str) -> Result<(), ConnectionsError> {
        let closed = self.call(http::Method::DELETE, connection, Bytes::new());
        closed.await.map(|_| ())
    }

    /// Makes a call, and returns whether there was such a socket.
    async fn call(
        &self,
        method: http::Method,
        connection: &str,
        body: Bytes,
    ) -> Result<bool, ConnectionsError> {
        let connection = connection.to_owned();
        let call = Call {
            method,
            connection,
            body,
        };
        let Err(error) = self.0.invoke(call).await else {
            return Ok(true);
        };
        let refused = error.as_service_error();
        match refused.and_then(ProvideErrorMetadata::code) {
            Some("GoneException") => Ok(false),
            Some("PayloadTooLargeException") => Err(ConnectionsError::TooLarge),
            _ => Err(failed(&error)),
        }
    }
}

fn failed(error: &SdkError<Refused, HttpResponse>) -> ConnectionsError {
    let refused = error.as_service_error();
    let message = refused.map_or_else(
        || "API Gateway did not answer".to_owned(),
        |it| format!("API Gateway: {it}"),
    );
    match classify(error) {
        Trouble::Other | Trouble::AccessDenied { .. } if refused.is_some() => {
            ConnectionsError::Refused(message)
        }
        _ => ConnectionsError::Unavailable(message),
    }
}

fn request(call: Call, caller: Option<&str>) -> Result<HttpRequest, BoxError> {
    let path = format!("/@connections/{}", encoded(&call.connection));
    let mut request = http::Request::builder()
        .method(call.method)
        .uri(path)
        .header("x-amz-content-sha256", hex(&Sha256::digest(&call.body)));
    if let Some(function) = caller {
        request = request.header("x-amz-user-agent", format!("app/{function}"));
    }
    Ok(HttpRequest::try_from(
        request.body(SdkBody::from(call.body))?,
    )?)
}

/// A connection's id as a segment of a path: such ids end with `=`, and may have a `/` in them.
fn encoded(id: &str) -> String {
    let mut path = String::with_capacity(id.len() + 2);
    for byte in id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte));
            }
            byte => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

fn answered(response: &HttpResponse) -> Result<(), OrchestratorError<Refused>> {
    if response.status().is_success() {
        return Ok(());
    }
    let status = response.status().as_u16();
    // `Name:http://…` is how some services write it.
    let named = response.headers().get("x-amzn-errortype");
    let named = named.and_then(|name| name.split(':').next());
    let code = match (status, named) {
        // Whatever stands between the function and the service may have dropped the header.
        (410, _) => "GoneException",
        (413, _) => "PayloadTooLargeException",
        (_, Some(name)) => name,
        (403, None) => "AccessDeniedException",
        (_, None) => "Unknown",
    };
    let body = response.body().bytes().unwrap_or_default();
    let answer = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let message = answer.get("message").or_else(|| answer.get("Message"));
    let message = message.and_then(Value::as_str).unwrap_or("no reason given");
    let meta = ErrorMetadata::builder().code(code).message(message).build();
    Err(OrchestratorError::operation(Refused(meta)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_one_segment_of_a_path() {
        assert_eq!(encoded("L0SM9cOFvHcCIhw="), "L0SM9cOFvHcCIhw%3D");
        assert_eq!(encoded("a/b+c?d"), "a%2Fb%2Bc%3Fd");
    }
}
