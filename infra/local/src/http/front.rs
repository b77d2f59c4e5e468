//! The front of everything: CloudFront, which leads each path to its origin.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{AUTHORIZATION, HOST};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use tower::ServiceExt;
use towpath_clock::Clock;

use super::answer;
use super::event;
use super::routes::{Found, decoded};
use crate::lambda::Lambda;
use crate::loopback;
use crate::socket::Sockets;
use crate::template::{FrontSpec, Origin, PermissionSpec};

/// The headers that the front alone sets.
const MOVED: HeaderName = HeaderName::from_static("x-towpath-authorization");
const ADDRESS: HeaderName = HeaderName::from_static("x-towpath-host");
/// The path of executors, before their ids.
const EXECUTORS: &str = "/ws/executors/";

/// The distribution of a template, in front of its HTTP API.
pub(crate) struct Front {
    spec: FrontSpec,
    permissions: Vec<PermissionSpec>,
    origins: Origins,
    lambda: Arc<Lambda>,
    clock: Clock,
    port: u16,
}

/// What is behind a front, besides functions.
pub(crate) struct Origins {
    /// The HTTP API.
    pub(crate) api: Router,
    /// The WebSocket API.
    pub(crate) sockets: Option<Arc<Sockets>>,
}

impl Front {
    /// The front of these origins.
    pub(crate) fn router(
        spec: FrontSpec,
        permissions: Vec<PermissionSpec>,
        origins: Origins,
        lambda: Arc<Lambda>,
        clock: Clock,
        port: u16,
    ) -> Router {
        Router::new().fallback(handle).with_state(Arc::new(Self {
            spec,
            permissions,
            origins,
            lambda,
            clock,
            port,
        }))
    }

    /// Whether the function's policy lets the distribution invoke it by its URL: since October 2025 that takes both.
    fn may_invoke(&self, function: &str) -> bool {
        ["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"]
            .iter()
            .all(|action| {
                self.permissions.iter().any(|it| {
                    self.lambda
                        .find(&it.function)
                        .is_some_and(|spec| spec.id == function)
                        && it.action == *action
                        && it.principal == "cloudfront.amazonaws.com"
                        && it.source.as_deref() == Some(&*self.spec.arn)
                })
            })
    }
}

/// Whether a path is none that an executor could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NoSuchPath;

/// What the template's function does to each request. The path that chooses the origin is the one before that. The tests
/// hold the two against each other.
fn first_of_all<T>(request: &mut http::Request<T>) -> Result<(), NoSuchPath> {
    let is_stream = is_stream(request.uri().path());
    let headers = request.headers_mut();
    headers.remove(MOVED);
    let host = headers.get(HOST).cloned();
    headers.insert(ADDRESS, host.unwrap_or(HeaderValue::from_static("")));
    // The front signs what it sends to a function URL in this header.
    if is_stream && let Some(key) = headers.remove(AUTHORIZATION) {
        headers.insert(MOVED, key);
    }
    let executor = request.uri().path().strip_prefix(EXECUTORS);
    if let Some(executor) = executor {
        let query = request.uri().query().unwrap_or_default();
        *request.uri_mut() = of_executor(executor, query).ok_or(NoSuchPath)?;
    }
    Ok(())
}

/// The target by which the WebSocket API knows an executor: it has no paths. A client's own `executor` is dropped.
fn of_executor(executor: &str, query: &str) -> Option<Uri> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.~-".contains(c);
    if executor.is_empty() || !executor.chars().all(plain) {
        return None;
    }
    let name = |pair: &&str| decoded(pair.split('=').next().unwrap_or_default()) != "executor";
    let kept = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .filter(name);
    let parameter = format!("executor={executor}");
    let query: Vec<&str> = kept.chain([parameter.as_str()]).collect();
    let target: PathAndQuery = format!("/?{}", query.join("&")).parse().ok()?;
    Some(Uri::from(target))
}

fn is_stream(path: &str) -> bool {
    let run = path.strip_prefix("/runs/");
    let run = run.and_then(|rest| rest.strip_suffix("/events/stream"));
    run.is_some_and(|run| !run.is_empty() && !run.contains('/'))
}

async fn handle(State(front): State<Arc<Front>>, mut request: Request<Body>) -> Response {
    // The API's own front looks too; a stream does not come there.
    if !loopback::is_ours(request.headers(), front.port) {
        let why = "Forbidden: the local cloud only answers programs of this machine that call it by its own name";
        return answer::refusal(StatusCode::FORBIDDEN, "forbidden", why);
    }
    let origin = front.spec.origin(request.uri().path()).cloned();
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    if origin.is_some() && !is_get {
        let why = "This path takes GET only.";
        return answer::refusal(StatusCode::FORBIDDEN, "forbidden", why);
    }
    if first_of_all(&mut request).is_err() {
        return answer::message(StatusCode::NOT_FOUND, "Not Found");
    }
    match origin {
        None => match front.origins.api.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        Some(Origin::Stream(function)) => stream(&front, &function, request).await,
        Some(Origin::Sockets { api, path }) => {
            let sockets = front.origins.sockets.as_ref();
            match sockets.filter(|it| it.is(&api, &path) && request.uri().path() == "/") {
                Some(sockets) => sockets.handshake(request).await,
                None => answer::message(StatusCode::FORBIDDEN, "Forbidden"),
            }
        }
    }
}

async fn stream(front: &Front, function: &str, request: Request<Body>) -> Response {
    if !front.may_invoke(function) {
        return answer::message(StatusCode::FORBIDDEN, "Forbidden");
    }
    let (parts, _) = request.into_parts();
    let found = Found {
        key: "$default".to_owned(),
        target: function.to_owned(),
        parameters: Default::default(),
    };
    let event = event::event(&parts, b"", &found, front.clock.now_ms());
    match front.lambda.stream(function, event).await {
        Ok(response) => response,
        Err(failure) => {
            tracing::error!(
                function,
                error = failure.error,
                cause = failure.cause,
                "a stream failed"
            );
            answer::message(StatusCode::BAD_GATEWAY, "Internal Server Error")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_stream_moves_and_what_only_the_front_sets_is_dropped() {
        let request = |path: &str| {
            let mut request = http::Request::get(path)
                .header("host", "towpath.example")
                .header("authorization", "Bearer twk_1")
                .header("x-towpath-authorization", "Bearer twk_forged")
                .header("x-towpath-host", "forged.example")
                .body(())
                .unwrap();
            first_of_all(&mut request).unwrap();
            let of = |name: &str| {
                let value = request.headers().get(name);
                value.map(|value| value.to_str().unwrap().to_owned())
            };
            assert_eq!(of("x-towpath-host").as_deref(), Some("towpath.example"));
            (of("authorization"), of("x-towpath-authorization"))
        };
        let key = Some("Bearer twk_1".to_owned());
        assert_eq!(request("/runs/run_1/events/stream"), (None, key.clone()));
        assert_eq!(request("/runs/run_1/events"), (key.clone(), None));
        assert_eq!(request("/runs//events/stream"), (key.clone(), None));
        assert_eq!(request("/runs/a/b/events/stream"), (key, None));
    }

    /// The requests of `tests/lambda/front.mjs`.
    #[test]
    fn the_web_socket_api_gets_the_executor_of_the_path_and_no_other() {
        let made = |target: &str| {
            let mut request = http::Request::get(target).body(()).unwrap();
            let made = first_of_all(&mut request);
            made.map(|()| request.uri().to_string())
        };
        for (target, expected) in [
            (
                "/ws/executors/e-1?token=twx_1",
                "/?token=twx_1&executor=e-1",
            ),
            ("/ws/executors/e-1", "/?executor=e-1"),
            (
                "/ws/executors/e-1?executor=e-2&executor=e-3&%65xecuto%72=e-4&%=twx_1",
                "/?%=twx_1&executor=e-1",
            ),
            ("/ws/executors?executor=x", "/ws/executors?executor=x"),
            (
                "/api/ws/executors/e-1?token=x",
                "/api/ws/executors/e-1?token=x",
            ),
        ] {
            assert_eq!(made(target).as_deref(), Ok(expected), "{target}");
        }
        for id in ["", "a/b", "a&token=b", "a%26token=b", "a%20b", "%C3%A4"] {
            assert_eq!(
                made(&format!("/ws/executors/{id}?token=x")),
                Err(NoSuchPath),
                "{id}"
            );
        }
    }
}
