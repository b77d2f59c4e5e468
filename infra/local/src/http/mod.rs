//! The HTTP API: API Gateway's events in, its responses out, under its limits.

pub(crate) mod answer;
mod event;
mod front;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use towpath_clock::Clock;

use crate::lambda::{Kind, Lambda};
use crate::loopback::{self, Unread};
use crate::template::{FunctionSpec, Trigger};
pub(crate) use event::query_pairs;
pub(crate) use front::{Front, Origins};
use routes::Routes;
pub(crate) use routes::decoded;

/// The largest body of a request that API Gateway takes, in bytes.
const BODY_LIMIT: usize = 10 * 1024 * 1024;
/// The time for which API Gateway waits for a function.
const PATIENCE: Duration = Duration::from_secs(30);

/// The gateway of the HTTP API.
pub(crate) struct Gateway {
    routes: Routes,
    lambda: Arc<Lambda>,
    clock: Clock,
    port: u16,
}

impl Gateway {
    /// The gateway of these functions, on this port.
    pub(crate) fn router(
        functions: &[FunctionSpec],
        lambda: Arc<Lambda>,
        clock: Clock,
        port: u16,
    ) -> Router {
        let mut routes = Routes::default();
        for function in functions {
            for trigger in &function.triggers {
                if let Trigger::Http { method, path } = trigger {
                    routes.add(method, path.as_deref(), &function.id);
                }
            }
        }
        Router::new().fallback(handle).with_state(Arc::new(Self {
            routes,
            lambda,
            clock,
            port,
        }))
    }
}

/// A body that reaches no function: API Gateway takes 10 MB, Lambda 6 MB.
fn too_large() -> Response {
    let message = "Request Entity Too Large";
    answer::refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
}

async fn handle(State(front): State<Arc<Gateway>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    if !loopback::is_ours(&parts.headers, front.port) {
        let why = "Forbidden: the local cloud only answers programs of this machine that call it by its own name";
        return answer::refusal(StatusCode::FORBIDDEN, "forbidden", why);
    }
    let Some(found) = front.routes.find(parts.method.as_str(), parts.uri.path()) else {
        return answer::message(StatusCode::NOT_FOUND, "Not Found");
    };
    let body = match loopback::read(body, BODY_LIMIT).await {
        Ok(body) => body,
        Err(Unread::TooSlow) => {
            return answer::message(StatusCode::REQUEST_TIMEOUT, "Request Timeout");
        }
        Err(Unread::TooLarge) => {
            return too_large();
        }
    };
    let event = event::event(&parts, &body, &found, front.clock.now_ms());
    // The function goes on after the gateway has given up, as it does on AWS.
    let (lambda, target) = (Arc::clone(&front.lambda), found.target.clone());
    let invocation =
        tokio::spawn(async move { lambda.invoke(&target, event, Kind::Synchronous).await });
    let failed = || answer::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
    match tokio::time::timeout(PATIENCE, invocation).await {
        Err(_) => answer::message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
        Ok(Ok(Ok(answered))) => answer::response(&answered).unwrap_or_else(|| {
            tracing::error!(
                function = found.target,
                "the answer is no response of format 2.0"
            );
            failed()
        }),
        Ok(Ok(Err(failure))) if failure.error == "Lambda.RequestTooLargeException" => too_large(),
        Ok(Ok(Err(failure))) => {
            tracing::error!(
                function = found.target,
                error = failure.error,
                cause = failure.cause,
                "a function failed"
            );
            failed()
        }
        Ok(Err(_)) => failed(),
    }
}
