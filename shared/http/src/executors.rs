//! The executor contract over HTTP: for executors, which have tokens of their own, and for those who give them missions.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use towpath_api_types::{Code, Problem};
use towpath_auth::Key;
use towpath_executors::{
    DeregisterReason, DispatchPayload, DispatchResponse, ExecutorStatus, ExecutorsListResponse,
    HitlResponsePayload, MissionStatusResponse, Operation, RegisterPayload, RegisterResponse,
};
use towpath_jobs_executor::{Identity, Proof, Refused};
use towpath_service::App;
use towpath_store::Scope;

use crate::access::{DECIDE, Holder, READ, START, bearer};
use crate::parts::{Path, Query};
use crate::problem::No;

/// The longest poll, in seconds.
const LONGEST_POLL: u64 = 20;
/// The pause between two looks for messages during a poll.
const LOOK: Duration = Duration::from_millis(1000);
/// The most messages of one request of an executor.
const MESSAGES: usize = 100;

type Shared = State<Arc<App>>;
type Answer<T> = Result<Json<T>, No>;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/executors", get(list))
        .route("/api/v1/executors/schema", get(schema))
        .route("/api/v1/executors/register", post(register))
        .route("/api/v1/executors/{executor}", get(executor).delete(remove))
        .route("/api/v1/executors/{executor}/token/rotate", post(rotate))
        .route("/api/v1/executors/{executor}/events", post(events))
        .route("/api/v1/sessions/{session}/dispatch", post(dispatch))
        .route("/api/v1/missions/{mission}", get(mission))
        .route(
            "/api/v1/missions/{mission}/hitl_response",
            post(hitl_response),
        )
        .route("/api/v1/missions/{mission}/{operation}", post(operate))
}

/// The one route that waits, in a function of its own.
pub(crate) fn poll_routes() -> Router<Arc<App>> {
    Router::new().route("/api/v1/executors/{executor}/claim", post(claim))
}

impl From<Refused> for No {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        let code = match &refused {
            Refused::NoToken => Code::Unauthorized,
            Refused::AnotherExecutor => Code::Forbidden,
            Refused::NotFound(_) => Code::NotFound,
            Refused::Invalid(_) => return invalid(&message),
            Refused::WrongState(_) => Code::WrongState,
            Refused::MissionMismatch(_) => Code::IdempotencyMismatch,
            Refused::NobodyFits {
                only_resumable_missing: true,
                ..
            } => Code::NoResumableExecutorAvailable,
            Refused::NobodyFits { .. } => Code::NoExecutorAvailable,
            Refused::Busy => Code::Busy,
            Refused::Failed(_) => {
                let Refused::Failed(error) = refused else {
                    return Self::new(Code::Internal, message);
                };
                return error.into();
            }
        };
        Self::new(code, message)
    }
}

/// The refusal of a message of another shape, which is led by the field.
fn invalid(message: &str) -> No {
    let problem = Problem::new(Code::InvalidPayload, message);
    No(match message.split_once(": ") {
        Some((field, _)) if !field.contains(' ') => problem.at(field),
        _ => problem,
    })
}

/// Reads a message of the contract: what is not of its shape is refused with the name of the field.
fn message<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, No> {
    let read: Value = match serde_json::from_slice(body) {
        Ok(read) => read,
        Err(error) => {
            let message = format!("the body is not JSON: {error}");
            return Err(No::new(Code::InvalidJson, message));
        }
    };
    towpath_executors::read_message(&read).map_err(|error| invalid(&error))
}

/// The executor of the path, proved by its token.
async fn of_token(app: &App, id: &str, headers: &HeaderMap) -> Result<Identity, No> {
    let token = bearer(headers).ok_or(Refused::NoToken)?;
    let registrar = &app.executors.registrar;
    Ok(registrar.authenticate_as(id, token).await?)
}

/// Tells an executor that it speaks a newer version than the deployment.
const VERSION_WARNING: (HeaderName, HeaderValue) = (
    HeaderName::from_static("warning"),
    HeaderValue::from_static(
        "299 - \"this deployment speaks version 1.0.0 of the executor contract\"",
    ),
);

async fn register(
    State(app): Shared,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, HeaderMap, Json<RegisterResponse>), No> {
    let proof = bearer(&headers).ok_or_else(no_enrolment)?;
    let registrar = &app.executors.registrar;
    let registered = match proof.starts_with("twx_") {
        true => {
            let said: RegisterPayload = message(&body)?;
            registrar.register(Proof::Token(proof), &said).await?
        }
        false => {
            let key = Key::parse(proof).map_err(|_| no_enrolment())?;
            let found = app.access.api_key(&key).await?;
            let found = found.ok_or_else(no_enrolment)?;
            if !matches!(found.scope, Scope::Enrol | Scope::Admin) {
                let message = "executors are enrolled with a key of scope enrol or admin";
                return Err(No::new(Code::Forbidden, message));
            }
            let said: RegisterPayload = message(&body)?;
            let enrolment = Proof::Enrolment(&found.workspace);
            registrar.register(enrolment, &said).await?
        }
    };
    let mut warning = HeaderMap::new();
    if registered.is_newer {
        let (name, value) = VERSION_WARNING;
        warning.insert(name, value);
    }
    Ok((StatusCode::CREATED, warning, Json(registered.response)))
}

fn no_enrolment() -> No {
    No::new(
        Code::Unauthorized,
        "send a key that enrols executors, or the executor's own token: Authorization: Bearer twk_… or twx_…",
    )
}

async fn list(
    State(app): Shared,
    Holder { caller, .. }: Holder<READ>,
) -> Answer<ExecutorsListResponse> {
    Ok(Json(app.executors.registrar.list(&caller.workspace).await?))
}

async fn schema() -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/schema+json")];
    (kind, towpath_executors::SCHEMA)
}

async fn executor(
    State(app): Shared,
    Holder { caller, .. }: Holder<READ>,
    Path(id): Path<String>,
) -> Answer<ExecutorStatus> {
    let registrar = &app.executors.registrar;
    Ok(Json(registrar.status(&caller.workspace, &id).await?))
}

/// By the executor itself, or by an administrator.
async fn remove(
    State(app): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, No> {
    let registrar = &app.executors.registrar;
    let (workspace, reason) = match own(&headers) {
        true => {
            let identity = of_token(&app, &id, &headers).await?;
            let reason = DeregisterReason::GracefulShutdown;
            (identity.record.workspace, reason)
        }
        false => {
            let workspace = administrator(&app, &headers).await?;
            (workspace, DeregisterReason::OperatorDeleted)
        }
    };
    registrar.deregister(&workspace, &id, reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// By the executor itself, or by an administrator.
async fn rotate(
    State(app): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<RegisterResponse> {
    let workspace = match own(&headers) {
        true => of_token(&app, &id, &headers).await?.record.workspace,
        false => administrator(&app, &headers).await?,
    };
    let registrar = &app.executors.registrar;
    Ok(Json(registrar.rotate(&workspace, &id).await?))
}

/// Whether a request brings an executor's token.
fn own(headers: &HeaderMap) -> bool {
    bearer(headers).is_some_and(|token| token.starts_with("twx_"))
}

async fn administrator(app: &App, headers: &HeaderMap) -> Result<towpath_engine::WorkspaceId, No> {
    let unknown = || {
        let message = "send the executor's own token, or an API key of scope admin";
        No::new(Code::Unauthorized, message)
    };
    let key = bearer(headers).and_then(|it| Key::parse(it).ok());
    let found = app.access.api_key(&key.ok_or_else(unknown)?).await?;
    let found = found.ok_or_else(unknown)?;
    match found.scope {
        Scope::Admin => Ok(found.workspace),
        _ => Err(No::new(Code::Forbidden, "this needs a key of scope admin")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Messages {
    /// The events, and acknowledgements, as they would be sent over a socket.
    messages: Vec<Value>,
}

/// The refusal of one message of several.
#[derive(Serialize)]
struct RefusedMessage {
    /// The place of the message among those of the request, from 0.
    index: usize,
    code: &'static str,
    message: String,
}

/// Takes the messages of an executor that has no socket, in order.
async fn events(
    State(app): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Value> {
    let identity = of_token(&app, &id, &headers).await?;
    let Messages { messages } = crate::body::parse(&body)?;
    if messages.len() > MESSAGES {
        let message = format!("messages: at most {MESSAGES} at once");
        return Err(invalid(&message));
    }
    let mut refused = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        match app.executors.events.take(&identity.record, message).await {
            Ok(()) => {}
            // All are told again: those before have been taken, and then change nothing.
            Err(error @ (Refused::Failed(_) | Refused::Busy)) => return Err(error.into()),
            Err(error) => refused.push(RefusedMessage {
                index,
                code: error.code(),
                message: error.to_string(),
            }),
        }
    }
    let taken = messages.len() - refused.len();
    Ok(Json(json!({ "taken": taken, "refused": refused })))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Claim {
    /// The messages that the executor has from an earlier poll.
    ack: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimQuery {
    /// The time to wait for a message if there is none, in seconds.
    wait: Option<u64>,
}

/// Answers with the messages that wait for an executor, as soon as there are some.
async fn claim(
    State(app): Shared,
    Path(id): Path<String>,
    Query(ClaimQuery { wait }): Query<ClaimQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Value> {
    let identity = of_token(&app, &id, &headers).await?;
    let Claim { ack } = crate::body::parse(&body)?;
    if ack.len() > MESSAGES {
        let message = format!("ack: at most {MESSAGES} at once");
        return Err(invalid(&message));
    }
    let registrar = &app.executors.registrar;
    registrar.polled(&identity, &ack).await?;
    let mut left = Duration::from_secs(wait.unwrap_or(0).min(LONGEST_POLL));
    loop {
        let messages = registrar.messages(&identity).await?;
        if !messages.is_empty() || left.is_zero() {
            return Ok(Json(json!({ "messages": messages })));
        }
        let pause = left.min(LOOK);
        tokio::time::sleep(pause).await;
        left = left.saturating_sub(pause);
    }
}

async fn dispatch(
    State(app): Shared,
    Holder { caller, .. }: Holder<START>,
    Path(session): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<DispatchResponse>), No> {
    let wanted: DispatchPayload = message(&body)?;
    if session.is_empty() || session.len() > 128 || session.starts_with("run_") {
        let message = "session: a label of 1 to 128 characters that does not begin with run_";
        return Err(invalid(message));
    }
    let missions = &app.executors.missions;
    let dispatched = missions
        .dispatch(&caller.workspace, &session, wanted)
        .await?;
    Ok((StatusCode::ACCEPTED, Json(dispatched)))
}

async fn mission(
    State(app): Shared,
    Holder { caller, .. }: Holder<READ>,
    Path(id): Path<String>,
) -> Answer<MissionStatusResponse> {
    let missions = &app.executors.missions;
    Ok(Json(missions.status(&caller.workspace, &id).await?))
}

async fn hitl_response(
    State(app): Shared,
    Holder { caller, .. }: Holder<DECIDE>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, No> {
    let answer: HitlResponsePayload = message(&body)?;
    let operator = &app.executors.operator;
    let state = operator.answer(&caller.workspace, &id, &answer).await?;
    Ok(accepted(&id, state.as_str()))
}

async fn operate(
    State(app): Shared,
    Holder { caller, .. }: Holder<DECIDE>,
    Path((id, word)): Path<(String, String)>,
) -> Result<Response, No> {
    let operation = match &*word {
        "pause" => Operation::Pause,
        "resume" => Operation::Resume,
        "abort" => Operation::Abort,
        other => {
            let message = format!("{other} is nothing to ask of a mission: pause, resume or abort");
            return Err(No::new(Code::NotFound, message));
        }
    };
    let operator = &app.executors.operator;
    let state = operator
        .operate(&caller.workspace, &id, operation, &caller.name)
        .await?;
    Ok(accepted(&id, state.as_str()))
}

fn accepted(mission: &str, state: &str) -> Response {
    let body = json!({ "mission_id": mission, "state": state });
    (StatusCode::ACCEPTED, Json(body)).into_response()
}
