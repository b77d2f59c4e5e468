//! The AWS front: where the SDK clients of the functions call DynamoDB, Step Functions and
//! Secrets Manager.
//!
//! Who calls is told by the access key id in the SigV4 header. The signature is not verified: what makes a caller is
//! knowing its key id, which holds a secret of this cloud. The functions of a `cargo lambda watch` share one environment
//! and so one key id; they say in `x-amz-user-agent` which of them calls.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::dynamodb::Database;
use crate::iam::{self, Access, Iam};
use crate::loopback;
use crate::random;
use crate::secrets::Secrets;
use crate::template::{Machine, Table};

/// What DynamoDB takes, in bytes.
const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// The identity in the key id of every function of a `cargo lambda watch`.
pub(crate) const WATCHED: &str = "watched";

/// Everything behind the AWS front.
pub(crate) struct Aws {
    pub(crate) iam: Arc<Iam>,
    /// The logical ids of the functions, by the names of their binaries.
    pub(crate) binaries: BTreeMap<String, String>,
    pub(crate) tables: Vec<Table>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) secret: String,
    pub(crate) port: u16,
    pub(crate) services: RwLock<Option<Services>>,
}

/// The services themselves. Taken away when the cloud ends: connections outlive it a little, and what a function that
/// is still running wants must not be done any more.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) database: Arc<Database>,
    pub(crate) states: Router,
}

/// The access key id of an identity.
pub(crate) fn access_key(identity: &str, secret: &str) -> String {
    format!("{identity}-{secret}")
}

impl Aws {
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(handle).with_state(Arc::clone(self))
    }

    /// Does nothing any more from now on.
    pub(crate) fn close(&self) {
        self.services
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Whose access key a request is signed with.
    fn caller(&self, headers: &HeaderMap) -> Result<String, Refusal> {
        let missing = Refusal(
            "MissingAuthenticationTokenException",
            "Request is missing Authentication Token".to_owned(),
        );
        let header = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .ok_or(missing)?;
        let key = header
            .split_once("Credential=")
            .and_then(|(_, rest)| rest.split('/').next())
            .unwrap_or_default();
        let identity = match key.rsplit_once('-') {
            Some((WATCHED, secret)) if secret == self.secret => self.watched(headers),
            Some((identity, secret)) if secret == self.secret => Some(identity),
            _ => None,
        };
        match identity.filter(|identity| self.iam.knows(identity)) {
            Some(identity) => Ok(identity.to_owned()),
            None => {
                let message = "The security token included in the request is invalid.".to_owned();
                Err(Refusal("UnrecognizedClientException", message))
            }
        }
    }

    /// Which of the functions of a `cargo lambda watch` calls: it names its binary as its application (`app/advance`).
    fn watched(&self, headers: &HeaderMap) -> Option<&str> {
        let agent = headers.get("x-amz-user-agent")?.to_str().ok()?;
        let mut parts = agent.split(' ');
        let binary = parts.find_map(|part| part.strip_prefix("app/"))?;
        self.binaries.get(binary).map(String::as_str)
    }

    fn dynamodb(
        &self,
        services: &Services,
        caller: &str,
        operation: &str,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let text = std::str::from_utf8(body).map_err(|_| no_json())?;
        let request: Value = serde_json::from_str(text).map_err(|_| no_json())?;
        for access in iam::dynamodb::accesses(operation, &request, &self.tables) {
            self.iam.check(caller, &access).map_err(denied)?;
        }
        let (status, answer) = services.database.call(operation, text);
        Ok(json_response(
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            answer,
        ))
    }

    fn secrets(&self, caller: &str, operation: &str, body: &[u8]) -> Result<Response, Refusal> {
        let request: Value = serde_json::from_slice(body).map_err(|_| no_json())?;
        let id = request
            .get("SecretId")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let resource = self.secrets.find(id).map_or(id, |secret| &secret.arn);
        self.iam
            .check(
                caller,
                &Access::new(format!("secretsmanager:{operation}"), resource),
            )
            .map_err(denied)?;
        if operation != "GetSecretValue" {
            let message =
                format!("the local cloud does not know the Secrets Manager operation {operation}");
            return Err(Refusal("UnknownOperationException", message));
        }
        let missing = || {
            Refusal(
                "ResourceNotFoundException",
                "Secrets Manager can't find the specified secret.".to_owned(),
            )
        };
        Ok(json_response(
            StatusCode::OK,
            self.secrets.answer(id).ok_or_else(missing)?.to_string(),
        ))
    }

    async fn states(
        &self,
        services: Services,
        caller: &str,
        operation: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response, Refusal> {
        let request: Value = serde_json::from_slice(&body).map_err(|_| no_json())?;
        self.iam
            .check(
                caller,
                &iam::states::access(operation, &request, &self.machines),
            )
            .map_err(denied)?;
        let mut forwarded = Request::new(Body::from(body));
        *forwarded.method_mut() = http::Method::POST;
        *forwarded.headers_mut() = headers;
        match services.states.oneshot(forwarded).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }
}

async fn handle(State(aws): State<Arc<Aws>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    if !loopback::is_ours(&parts.headers, aws.port) {
        return Refusal(
            "AccessDeniedException",
            "Only programs of this machine are answered.".to_owned(),
        )
        .response(403);
    }
    let Ok(body) = to_bytes(body, BODY_LIMIT).await else {
        return Refusal(
            "RequestEntityTooLargeException",
            "The request is too large.".to_owned(),
        )
        .response(413);
    };
    let services = aws
        .services
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let Some(services) = services else {
        return Refusal(
            "ServiceUnavailable",
            "The local cloud is shutting down.".to_owned(),
        )
        .response(503);
    };
    let target = parts
        .headers
        .get("x-amz-target")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let answered = match (aws.caller(&parts.headers), target.split_once('.')) {
        (Err(refusal), _) => Err(refusal),
        (Ok(caller), Some(("DynamoDB_20120810", operation))) => {
            aws.dynamodb(&services, &caller, operation, &body)
        }
        (Ok(caller), Some(("AWSStepFunctions", operation))) => {
            aws.states(
                services,
                &caller,
                operation,
                parts.headers.clone(),
                body.to_vec(),
            )
            .await
        }
        (Ok(caller), Some(("secretsmanager", operation))) => aws.secrets(&caller, operation, &body),
        (Ok(_), _) => {
            let what = if target.is_empty() {
                parts.uri.path()
            } else {
                target
            };
            let message = format!(
                "the local cloud has DynamoDB, Step Functions and Secrets Manager, not what {what} belongs to"
            );
            Err(Refusal("UnknownOperationException", message))
        }
    };
    answered.unwrap_or_else(|refusal| refusal.response(400))
}

/// An error of the front itself: its AWS name, and what it says.
struct Refusal(&'static str, String);

impl Refusal {
    fn response(self, status: u16) -> Response {
        let Self(name, message) = self;
        // `Message` is how AWS writes it for errors of this layer; clients read either.
        let body =
            json!({ "__type": format!("com.amazon.coral.service#{name}"), "Message": message })
                .to_string();
        json_response(
            StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST),
            body,
        )
    }
}

fn denied(message: String) -> Refusal {
    tracing::warn!(message, "access denied");
    Refusal("AccessDeniedException", message)
}

fn no_json() -> Refusal {
    Refusal(
        "SerializationException",
        "The request is no JSON.".to_owned(),
    )
}

fn json_response(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-amz-json-1.0"),
    );
    if let Ok(id) = HeaderValue::from_str(&random::request_id()) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}
