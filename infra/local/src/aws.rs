//! The AWS front: the clients of the functions call DynamoDB, S3, Step Functions, CodeBuild, EventBridge, Secrets Manager
//! and the management API of sockets here. A WebSocket API is served here by itself, too.
//!
//! The access key id names the caller, and the signature proves it. The functions of a `cargo lambda watch` share one
//! environment and so one key id; `x-amz-user-agent` says which of them calls.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use crate::account;
use crate::codebuild::CodeBuild;
use crate::dynamodb::Database;
use crate::events::Events;
use crate::iam::{self, Access, Iam};
use crate::loopback::{self, Unread};
use crate::random;
use crate::s3::{self, Objects};
use crate::secrets::Secrets;
use crate::signature::{Authorization, Refused};
use crate::socket::{self, Sockets};
use crate::tasks::Tasks;
use crate::template::{Machine, Table, arn};

/// DynamoDB's limit on the body of a request, in bytes.
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

/// The services themselves. They are taken away when the cloud ends: connections outlive it a little, and what a
/// function that is still running asks for must not be done any more.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) database: Arc<Database>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) states: Router,
    pub(crate) codebuild: Arc<CodeBuild>,
    pub(crate) events: Arc<Events>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) sockets: Option<Arc<Sockets>>,
}

/// The access key id of an identity. It is no secret, but differs from cloud to cloud, so that nobody calls the wrong
/// one.
pub(crate) fn access_key(identity: &str, secret: &str) -> String {
    let hash = Sha256::digest(format!("key id {secret}"));
    let tag: String = hash
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .take(8)
        .collect();
    format!("{identity}-{tag}")
}

impl Aws {
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(handle).with_state(Arc::clone(self))
    }

    /// Refuses every request from now on.
    pub(crate) fn close(&self) {
        let services = self.services.write();
        let services = services.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sockets) = services.and_then(|services| services.sockets) {
            sockets.close();
        }
    }

    /// The WebSocket API, as long as the cloud stands.
    pub(crate) fn sockets(&self) -> Option<Arc<Sockets>> {
        let services = self.services.read();
        let services = services.unwrap_or_else(PoisonError::into_inner);
        services.as_ref()?.sockets.clone()
    }

    /// The identity that signed a request.
    fn caller(&self, parts: &Parts, body: &[u8]) -> Result<String, Refusal> {
        let missing = Refusal(
            "MissingAuthenticationTokenException",
            "Request is missing Authentication Token".to_owned(),
        );
        let authorization = Authorization::read(parts).ok_or(missing)?;
        let Some(caller) = self.holder(authorization.key, application(parts)) else {
            let message = "The security token included in the request is invalid.".to_owned();
            return Err(Refusal("UnrecognizedClientException", message));
        };
        let verified = authorization.verify(&self.secret, parts, body, SystemTime::now());
        let message = match verified {
            Ok(()) => return Ok(caller),
            Err(Refused::Expired) => "Signature expired: it was made more than 15 minutes ago.",
            Err(Refused::NotYetCurrent) => {
                "Signature not yet current: it was made more than 15 minutes in the future."
            }
            Err(Refused::Mismatch) => {
                "The request signature we calculated does not match the signature you provided."
            }
        };
        // The services with JSON bodies have this one name for all three.
        Err(Refusal("InvalidSignatureException", message.to_owned()))
    }

    /// The identity that an access key belongs to. The functions of a `cargo lambda watch` share one key, and each names
    /// its binary as its application.
    fn holder(&self, key: &str, application: Option<&str>) -> Option<String> {
        let (identity, _) = key.rsplit_once('-')?;
        if key != access_key(identity, &self.secret) {
            return None;
        }
        let identity = match identity {
            WATCHED => self.binaries.get(application?)?,
            identity => identity,
        };
        Some(identity.to_owned()).filter(|identity| self.iam.knows(identity))
    }

    async fn objects(&self, services: &Services, parts: Parts, body: Bytes) -> Response {
        let key = match Authorization::read(&parts) {
            Some(authorization) => Some(authorization.key),
            None => parameter(&parts, "X-Amz-Credential")
                .and_then(|scope| scope.split(['/', '%']).next()),
        };
        // The service behind checks the signature.
        match key.and_then(|key| self.holder(key, application(&parts))) {
            Some(caller) => {
                let request = http::Request::from_parts(parts, body);
                services.objects.call(caller, request).await
            }
            None => {
                let message = "The AWS Access Key Id you provided does not exist in our records.";
                s3::refusal(StatusCode::FORBIDDEN, "InvalidAccessKeyId", message)
            }
        }
    }

    /// Answers a call of the management API of the WebSocket API.
    fn connections(&self, sockets: &Sockets, parts: &Parts, body: Bytes) -> Response {
        let refuse =
            |Refusal(name, message)| socket::managed_refusal(StatusCode::FORBIDDEN, name, &message);
        let caller = match self.caller(parts, &body) {
            Ok(caller) => caller,
            Err(refusal) => return refuse(refusal),
        };
        let Some(id) = sockets.managed(parts) else {
            let message = "Forbidden".to_owned();
            return refuse(Refusal("ForbiddenException", message));
        };
        match self.permit(&caller, &sockets.access(&parts.method, &id)) {
            Ok(()) => sockets.manage(&parts.method, &id, body),
            Err(refusal) => refuse(refusal),
        }
    }

    /// Refuses an access that the caller's role does not allow.
    fn permit(&self, caller: &str, access: &Access) -> Result<(), Refusal> {
        self.iam.check(caller, access).map_err(denied)
    }

    fn dynamodb(
        &self,
        services: &Services,
        caller: &str,
        operation: &str,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let text = std::str::from_utf8(body).map_err(|_| not_json())?;
        let request: Value = serde_json::from_str(text).map_err(|_| not_json())?;
        for access in iam::dynamodb::accesses(operation, &request, &self.tables) {
            self.permit(caller, &access)?;
        }
        let (status, answer) = services.database.call(operation, text);
        Ok(json_response(
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            answer,
        ))
    }

    fn secrets(&self, caller: &str, operation: &str, body: &[u8]) -> Result<Response, Refusal> {
        let request = json_body(body)?;
        let id = request
            .get("SecretId")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let resource = self.secrets.find(id).map_or(id, |secret| &secret.arn);
        let access = Access::new(format!("secretsmanager:{operation}"), resource);
        self.permit(caller, &access)?;
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

    /// Performs an operation of a service with JSON bodies: `DynamoDB_20120810.GetItem`.
    async fn operation(
        &self,
        services: Services,
        target: &str,
        parts: &Parts,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let caller = self.caller(parts, body)?;
        let service = Authorization::read(parts).map(|authorization| authorization.service);
        if let Some(service) = service.filter(|it| account::SERVICES.contains(it)) {
            let text = String::from_utf8_lossy(body);
            let (status, answer) = account::answer(service, &caller, &text);
            return Ok(json_response(status, answer.to_string()));
        }
        match target.split_once('.') {
            Some(("DynamoDB_20120810", operation)) => {
                self.dynamodb(&services, &caller, operation, body)
            }
            Some(("AWSStepFunctions", operation)) => {
                let (headers, body) = (parts.headers.clone(), body.to_vec());
                self.states(services, &caller, operation, headers, body)
                    .await
            }
            Some(("secretsmanager", operation)) => self.secrets(&caller, operation, body),
            Some(("CodeBuild_20161006", operation)) => {
                self.codebuild(&services, &caller, operation, body).await
            }
            Some(("AWSEvents", operation)) => self.events(&services, &caller, operation, body),
            _ => {
                let what = if target.is_empty() {
                    parts.uri.path()
                } else {
                    target
                };
                let message = format!(
                    "the local cloud has DynamoDB, S3, Step Functions, CodeBuild, EventBridge and Secrets Manager; {what} belongs to none of them"
                );
                Err(Refusal("UnknownOperationException", message))
            }
        }
    }

    async fn codebuild(
        &self,
        services: &Services,
        caller: &str,
        operation: &str,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let request = json_body(body)?;
        let codebuild = &services.codebuild;
        self.permit(caller, &codebuild.access(operation))?;
        let answer = codebuild.call(operation, &request).await;
        let answer = answer.map_err(|(name, message)| Refusal(name, message))?;
        Ok(json_response(StatusCode::OK, answer.to_string()))
    }

    /// Puts events on the default bus. The rules' targets hear of them after the answer.
    fn events(
        &self,
        services: &Services,
        caller: &str,
        operation: &str,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let request = json_body(body)?;
        let bus = arn("events", "event-bus/default");
        self.permit(caller, &Access::new(format!("events:{operation}"), bus))?;
        let entries = request.get("Entries").and_then(Value::as_array);
        let Some(entries) = entries.filter(|_| operation == "PutEvents") else {
            let message = format!("the local cloud does not know {operation} of EventBridge");
            return Err(Refusal("UnknownOperationException", message));
        };
        let mut ids = Vec::new();
        for entry in entries {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
            let Ok(detail) = serde_json::from_str::<Value>(text("Detail")) else {
                ids.push(json!({ "ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed." }));
                continue;
            };
            let id = random::request_id();
            let event = json!({
                "id": id, "source": text("Source"), "detail-type": text("DetailType"), "detail": detail,
            });
            let events = Arc::clone(&services.events);
            services.tasks.spawn(async move { events.put(event).await });
            ids.push(json!({ "EventId": id }));
        }
        let failed = ids
            .iter()
            .filter(|it| it.get("ErrorCode").is_some())
            .count();
        let answer = json!({ "FailedEntryCount": failed, "Entries": ids });
        Ok(json_response(StatusCode::OK, answer.to_string()))
    }

    async fn states(
        &self,
        services: Services,
        caller: &str,
        operation: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response, Refusal> {
        let request = json_body(&body)?;
        let access = iam::states::access(operation, &request, &self.machines);
        self.permit(caller, &access)?;
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
    if !loopback::is_ours(request.headers(), aws.port) {
        let message = "Only programs of this machine are answered.".to_owned();
        return Refusal("AccessDeniedException", message).response(403);
    }
    let (parts, body) = request.into_parts();
    if let Some(sockets) = aws.sockets().filter(|sockets| sockets.is_for(&parts)) {
        return sockets.handshake(Request::from_parts(parts, body)).await;
    }
    let body = match loopback::read(body, BODY_LIMIT).await {
        Ok(body) => body,
        Err(Unread::TooSlow) => {
            let message = "The body of the request did not arrive in time.".to_owned();
            return Refusal("RequestTimeoutException", message).response(400);
        }
        Err(Unread::TooLarge) => {
            let message = "The request is too large.".to_owned();
            return Refusal("RequestEntityTooLargeException", message).response(413);
        }
    };
    let services = aws.services.read();
    let services = services.unwrap_or_else(PoisonError::into_inner).clone();
    let Some(services) = services else {
        let message = "The local cloud is shutting down.".to_owned();
        return Refusal("ServiceUnavailable", message).response(503);
    };
    let target = parts.headers.get("x-amz-target");
    let target = target
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    match target {
        None if is_for_s3(&parts) => aws.objects(&services, parts, body).await,
        None if is_for(&parts, "execute-api") => match &services.sockets {
            Some(sockets) => aws.connections(sockets, &parts, body),
            None => {
                socket::managed_refusal(StatusCode::FORBIDDEN, "ForbiddenException", "Forbidden")
            }
        },
        target => aws
            .operation(
                services,
                target.as_deref().unwrap_or_default(),
                &parts,
                &body,
            )
            .await
            .unwrap_or_else(|refusal| refusal.response(400)),
    }
}

/// Whether a request is for S3, which has no header that names the operation, and whose URLs may be signed instead of its
/// requests.
fn is_for_s3(parts: &Parts) -> bool {
    is_for(parts, "s3")
        || Authorization::read(parts).is_none() && parameter(parts, "X-Amz-Signature").is_some()
}

/// Whether a request is signed for this service.
fn is_for(parts: &Parts, service: &str) -> bool {
    Authorization::read(parts).is_some_and(|authorization| authorization.service == service)
}

/// The name that a caller gives itself: `app/advance` in its `x-amz-user-agent`, or `x-app=advance` in a signed URL.
fn application(parts: &Parts) -> Option<&str> {
    let agent = parts.headers.get("x-amz-user-agent");
    let mut words = agent
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default()
        .split(' ');
    words
        .find_map(|word| word.strip_prefix("app/"))
        .or_else(|| parameter(parts, "x-app"))
}

/// A parameter of the query, still percent-encoded.
fn parameter<'p>(parts: &'p Parts, name: &str) -> Option<&'p str> {
    let mut parameters = parts.uri.query()?.split('&');
    parameters.find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('='))
}

/// An error of the front itself: its AWS name and its message.
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

fn json_body(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|_| not_json())
}

fn not_json() -> Refusal {
    Refusal(
        "SerializationException",
        "The body of the request is not JSON.".to_owned(),
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
