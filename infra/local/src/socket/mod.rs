//! The WebSocket API: API Gateway's events of connections in, what functions push out, under its limits.
//!
//! | part | does |
//! | --- | --- |
//! | [`Sockets`] | admits clients by the route `$connect`, and knows the connections that are open |
//! | `connection` | one connection: its messages, its limits, its end |
//! | `event` | the events that functions are given |
//! | `manage` | the API by which functions send over connections and close them |

mod connection;
mod event;
mod manage;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use towpath_clock::Clock;
use towpath_stepfunctions::InvokeError;

use crate::http::answer;
use crate::iam;
use crate::lambda::{Kind, Lambda};
use crate::random;
use crate::tasks::Tasks;
use crate::template::{PermissionSpec, SocketSpec};
use connection::{Activity, End, Orders};
use event::Facts;
pub(crate) use manage::refusal as managed_refusal;

/// The time for which API Gateway waits for a function.
const PATIENCE: Duration = Duration::from_secs(29);
/// The time that an admitted client has to take the answer to its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The most messages that wait for one client.
const QUEUE: usize = 64;

/// API Gateway's words for a function that took too long.
const TIMED_OUT: &str = "Endpoint request timed out";
/// The error of a function whose policy does not let the API invoke it.
const NOT_PERMITTED: &str = "Lambda.AccessDeniedException";
/// The name of the answer header by which a function chooses a subprotocol.
const SUBPROTOCOL: &str = "sec-websocket-protocol";

/// The WebSocket API of a template.
pub(crate) struct Sockets {
    spec: SocketSpec,
    permissions: Vec<PermissionSpec>,
    lambda: Arc<Lambda>,
    clock: Clock,
    tasks: Arc<Tasks>,
    /// The port that the API is served at by itself.
    port: u16,
    /// The open connections by their ids. `None`: the cloud is shut down.
    open: Mutex<Option<HashMap<String, Open>>>,
}

/// An open connection, as others see it. Dropping it closes the connection.
struct Open {
    queue: mpsc::Sender<Bytes>,
    _deleted: oneshot::Sender<()>,
    facts: Facts,
    activity: Activity,
}

/// The functions that a WebSocket API calls, and the time.
pub(crate) struct Behind {
    /// Who may invoke what.
    pub(crate) permissions: Vec<PermissionSpec>,
    pub(crate) lambda: Arc<Lambda>,
    pub(crate) clock: Clock,
    pub(crate) tasks: Arc<Tasks>,
}

impl Sockets {
    /// The API, which is served by itself on a port of AWS's services.
    pub(crate) fn new(spec: SocketSpec, behind: Behind, port: u16) -> Self {
        Self {
            spec,
            permissions: behind.permissions,
            lambda: behind.lambda,
            clock: behind.clock,
            tasks: behind.tasks,
            port,
            open: Mutex::new(Some(HashMap::new())),
        }
    }

    /// Whether the API is the one of this id, and its stage has this path.
    pub(crate) fn is(&self, api: &str, path: &str) -> bool {
        self.spec.api == api && path.strip_prefix('/') == Some(&self.spec.stage)
    }

    /// Whether a request is one of a client for this API by itself.
    pub(crate) fn is_for(&self, request: &http::request::Parts) -> bool {
        let path = request.uri.path().trim_end_matches('/');
        path.strip_prefix('/') == Some(&self.spec.stage)
            && request.headers.contains_key(header::UPGRADE)
    }

    /// Closes every connection and accepts no more. No `$disconnect` event is sent: the cloud shuts down.
    pub(crate) fn close(&self) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    fn is_closed(&self) -> bool {
        let all = self.open.lock();
        all.unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Answers the handshake of a client.
    pub(crate) async fn handshake(self: &Arc<Self>, mut request: Request<Body>) -> Response {
        if self.is_closed() {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable", "");
        }
        let upgrade = hyper::upgrade::on(&mut request);
        let request = request.map(|_| ());
        let accepted = match create_response(&request) {
            Ok(accepted) => accepted.map(|()| Body::empty()),
            Err(error) => return not_a_handshake(&request, &error.to_string()),
        };
        let (answer, answered) = oneshot::channel();
        let client = Client {
            sockets: Arc::clone(self),
            upgrade,
            accepted,
            answer,
        };
        // A client that goes away ends what waits for it, and the function has to be told of that.
        self.tasks.spawn(client.serve(request.into_parts().0));
        answered
            .await
            .unwrap_or_else(|_| refusal(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable", ""))
    }

    /// Invokes the function of a route. `None`: there is no such route.
    async fn invoke(&self, route: &str, event: Value) -> Option<Result<Value, InvokeError>> {
        let function = self.spec.routes.get(route)?;
        let source = self.spec.arn(route);
        let permitted = self.permissions.iter().any(|it| {
            let named = self.lambda.find(&it.function);
            named.is_some_and(|spec| spec.arn == *function)
                && it.action == "lambda:InvokeFunction"
                && it.principal == "apigateway.amazonaws.com"
                && it.source.as_deref().is_none_or(|of| iam::like(of, &source))
        });
        if !permitted {
            let message = format!("no AWS::Lambda::Permission lets {source} invoke {function}");
            let error = NOT_PERMITTED.to_owned();
            return Some(Err(InvokeError {
                error,
                cause: message,
            }));
        }
        let id = self.lambda.find(function)?.id.clone();
        // The function goes on after the gateway has given up, as it does on AWS.
        let lambda = Arc::clone(&self.lambda);
        let invocation =
            tokio::spawn(async move { lambda.invoke(&id, event, Kind::Synchronous).await });
        let gave_up = |error: &str, cause: &str| InvokeError {
            error: error.to_owned(),
            cause: cause.to_owned(),
        };
        Some(match tokio::time::timeout(PATIENCE, invocation).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => Err(gave_up("Lambda.Unknown", "the invocation was cut off")),
            Err(_) => Err(gave_up(TIMED_OUT, "no answer within 29 seconds")),
        })
    }

    /// Asks `$connect` whether a client is admitted, and to which subprotocol.
    ///
    /// # Errors
    /// The status and the message of the refusal.
    async fn admit(&self, event: Value) -> Result<Option<HeaderValue>, (StatusCode, &'static str)> {
        const BROKEN: &str = "Internal server error";
        let failure = match self.invoke("$connect", event).await {
            // A template without the route admits everybody.
            None => return Ok(None),
            Some(Ok(answer)) => {
                return match status(&answer) {
                    Some(status) if status.is_success() => Ok(subprotocol(&answer)),
                    Some(status) => Err((status, status.canonical_reason().unwrap_or("Refused"))),
                    None => Err((StatusCode::BAD_GATEWAY, BROKEN)),
                };
            }
            Some(Err(failure)) => failure,
        };
        failed("$connect", &failure);
        Err(match failure.error.as_str() {
            TIMED_OUT => (StatusCode::GATEWAY_TIMEOUT, TIMED_OUT),
            NOT_PERMITTED => (StatusCode::INTERNAL_SERVER_ERROR, BROKEN),
            _ => (StatusCode::BAD_GATEWAY, BROKEN),
        })
    }

    /// Makes a connection known. `None`: the cloud is shut down.
    fn add(&self, facts: &Facts) -> Option<(Orders, Activity)> {
        let (queue, orders) = mpsc::channel(QUEUE);
        let (sender, deleted) = oneshot::channel();
        let activity = Activity::at(self.clock.now_ms());
        let open = Open {
            queue,
            _deleted: sender,
            facts: facts.clone(),
            activity: activity.clone(),
        };
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        all.as_mut()?.insert(facts.id.clone(), open);
        let orders = Orders {
            queue: orders,
            deleted,
        };
        Some((orders, activity))
    }

    /// Forgets a connection, which closes it if it is open.
    fn forget(&self, id: &str) -> bool {
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        all.as_mut().and_then(|all| all.remove(id)).is_some()
    }

    /// Handles a message. If that fails the client is told, as API Gateway does; what a function answers goes nowhere,
    /// since the route has no route response.
    async fn message(&self, facts: &Facts, text: &str) {
        let (event, request) = facts.message(text, self.clock.now_ms());
        if let Some(Err(failure)) = self.invoke("$default", event).await {
            failed("$default", &failure);
            let told = json!({ "message": "Internal server error", "connectionId": facts.id, "requestId": request });
            let _ = self.send(&facts.id, Bytes::from(told.to_string()));
        }
    }
}

/// A client whose handshake is being answered.
struct Client {
    sockets: Arc<Sockets>,
    upgrade: OnUpgrade,
    accepted: Response,
    answer: oneshot::Sender<Response>,
}

impl Client {
    /// Admits the client and serves its connection to the end.
    async fn serve(self, parts: http::request::Parts) {
        let sockets = self.sockets;
        // Sixteen characters, as API Gateway makes them.
        let id = random::text(15).map(|id| id + "=").unwrap_or_default();
        let facts = Facts {
            id,
            connected_at: sockets.clock.now_ms(),
            user_agent: event::user_agent(&parts),
            domain: format!("127.0.0.1:{}", sockets.port),
            api: sockets.spec.api.clone(),
            stage: sockets.spec.stage.clone(),
        };
        let connect = facts.connect(&parts, sockets.clock.now_ms());
        let mut accepted = self.accepted;
        match sockets.admit(connect).await {
            Err((status, message)) => {
                let _ = self.answer.send(refusal(status, message, &facts.id));
                return;
            }
            Ok(None) => {}
            Ok(Some(protocol)) => {
                accepted.headers_mut().insert(SUBPROTOCOL, protocol);
            }
        }
        let Some((orders, activity)) = sockets.add(&facts) else {
            return;
        };
        let upgraded = match self.answer.send(accepted) {
            Ok(()) => tokio::time::timeout(HANDSHAKE, self.upgrade).await.ok(),
            // The client has gone away while the function was asked.
            Err(_) => None,
        };
        let (end, socket) = match upgraded {
            Some(Ok(upgraded)) => {
                let handle = |text: String, permit| {
                    let (sockets, facts) = (Arc::clone(&sockets), facts.clone());
                    Arc::clone(&sockets.tasks).spawn(async move {
                        sockets.message(&facts, &text).await;
                        drop(permit);
                    });
                };
                connection::serve(upgraded, orders, activity, &sockets.clock, handle).await
            }
            _ => (End::lost(), None),
        };
        sockets.forget(&facts.id);
        let event = facts.disconnect(end.code, &end.reason, sockets.clock.now_ms());
        let told = async {
            if let Some(Err(failure)) = sockets.invoke("$disconnect", event).await {
                failed("$disconnect", &failure);
            }
        };
        // A client that does not close its end does not hold up the news.
        tokio::join!(told, connection::close(socket, &end));
    }
}

fn failed(route: &str, failure: &InvokeError) {
    let InvokeError { error, cause } = failure;
    tracing::error!(
        route,
        error,
        cause,
        "a function of the WebSocket API failed"
    );
}

/// The status of a function's answer.
fn status(answer: &Value) -> Option<StatusCode> {
    let status = answer.get("statusCode")?.as_u64()?;
    StatusCode::from_u16(u16::try_from(status).ok()?).ok()
}

/// The subprotocol that a function chose: the one header of its answer that the client sees.
fn subprotocol(answer: &Value) -> Option<HeaderValue> {
    let mut headers = answer.get("headers")?.as_object()?.iter();
    let (_, protocol) = headers.find(|(name, _)| name.eq_ignore_ascii_case(SUBPROTOCOL))?;
    HeaderValue::from_str(protocol.as_str()?).ok()
}

/// The answer to a client that is not admitted.
fn refusal(status: StatusCode, message: &str, connection: &str) -> Response {
    let id = random::request_id();
    answer::json(
        status,
        &json!({ "message": message, "connectionId": connection, "requestId": id }),
    )
}

/// The answer to a request that is no handshake, or a broken one.
fn not_a_handshake(request: &http::Request<()>, why: &str) -> Response {
    if request.headers().contains_key(header::UPGRADE) {
        return answer::message(StatusCode::BAD_REQUEST, why);
    }
    let why = "This path takes WebSocket connections only.";
    let mut response = answer::message(StatusCode::UPGRADE_REQUIRED, why);
    let websocket = HeaderValue::from_static("websocket");
    response.headers_mut().insert(header::UPGRADE, websocket);
    response
}
