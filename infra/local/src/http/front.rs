//! The front of everything: CloudFront, which leads each path to its origin.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tower::ServiceExt;
use towpath_clock::Clock;

use super::answer;
use super::event;
use super::routes::Found;
use crate::lambda::Lambda;
use crate::loopback;
use crate::template::{FrontSpec, PermissionSpec};

/// The headers that the front alone sets.
const MOVED: HeaderName = HeaderName::from_static("x-towpath-authorization");
const ADDRESS: HeaderName = HeaderName::from_static("x-towpath-host");

/// The distribution of a template, in front of its HTTP API.
pub(crate) struct Front {
    spec: FrontSpec,
    permissions: Vec<PermissionSpec>,
    api: Router,
    lambda: Arc<Lambda>,
    clock: Clock,
    port: u16,
}

impl Front {
    /// The front of this API.
    pub(crate) fn router(
        spec: FrontSpec,
        permissions: Vec<PermissionSpec>,
        api: Router,
        lambda: Arc<Lambda>,
        clock: Clock,
        port: u16,
    ) -> Router {
        Router::new().fallback(handle).with_state(Arc::new(Self {
            spec,
            permissions,
            api,
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

/// What the template's function does to each request, before its origin is chosen. The tests hold the two against each
/// other.
pub(crate) fn first_of_all<T>(request: &mut http::Request<T>) {
    let is_stream = is_stream(request.uri().path());
    let headers = request.headers_mut();
    headers.remove(MOVED);
    let host = headers.get(HOST).cloned();
    headers.insert(ADDRESS, host.unwrap_or(HeaderValue::from_static("")));
    // The front signs what it sends to a function URL in this header.
    if is_stream && let Some(key) = headers.remove(AUTHORIZATION) {
        headers.insert(MOVED, key);
    }
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
    first_of_all(&mut request);
    let path = request.uri().path().to_owned();
    let Some(function) = front.spec.stream(&path).map(str::to_owned) else {
        return match front.api.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let why = "This path takes GET only.";
        return answer::refusal(StatusCode::FORBIDDEN, "forbidden", why);
    }
    if !front.may_invoke(&function) {
        return answer::message(StatusCode::FORBIDDEN, "Forbidden");
    }
    let (parts, _) = request.into_parts();
    let found = Found {
        key: "$default".to_owned(),
        target: function.clone(),
        parameters: Default::default(),
    };
    let event = event::event(&parts, b"", &found, front.clock.now_ms());
    match front.lambda.stream(&function, event).await {
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
            first_of_all(&mut request);
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
}
