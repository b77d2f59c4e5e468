//! Listening on loopback, for programs of this machine only.
//!
//! A browser can be made to send requests to loopback: by a page that posts across origins, or by a name that resolves
//! to it (DNS rebinding). Both tell on themselves in the `Origin` and `Host` headers.
//!
//! A client that falls silent in the middle of a request is given up after a while, so that its connection does not stay
//! for as long as the cloud is up.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::tasks::Tasks;

/// How long a client may take to send the head of its next request, the pause after its last request included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The time that a client has to send the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The most that the head of a request may have, in bytes. API Gateway takes 10,240.
const HEAD_LIMIT: usize = 16 * 1024;
/// How long to wait after a connection could not be accepted: too many open files are not fewer at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port of ours that nobody is served on yet.
pub(crate) struct Door {
    listener: TcpListener,
    pub(crate) port: u16,
}

impl Door {
    /// Opens a port; 0 is any.
    pub(crate) async fn open(port: u16) -> Result<Self, Error> {
        let what = || format!("cannot listen on 127.0.0.1:{port}");
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
        let listener = listener.map_err(|error| Error::io(what(), error))?;
        let port = listener
            .local_addr()
            .map_err(|error| Error::io(what(), error))?
            .port();
        Ok(Self { listener, port })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Serves from now on, until the tasks are stopped.
    pub(crate) fn serve(self, router: Router, tasks: &Arc<Tasks>) {
        let router = router.layer(middleware::from_fn(refuse_other_targets));
        tasks.spawn(accept(self.listener, router));
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_LIMIT);
    // They end with the front: who is connected would else be served on by what no longer stands.
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "a front of the local cloud cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
}

/// Refuses a request whose target is no absolute path, such as `*` or a whole URL: functions are given URLs that are made
/// of host and path, and none can be made of these.
async fn refuse_other_targets(request: Request, next: Next) -> Response {
    let uri = request.uri();
    if uri.authority().is_none() && uri.path().starts_with('/') {
        return next.run(request).await;
    }
    let message =
        format!("the target of the request is {uri}; it must be a path that begins with /");
    let body = json!({ "code": "invalid_request", "message": message });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The reason why the body of a request was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// The body has more bytes than the limit, or its client has gone away.
    TooLarge,
    /// The client took longer than [`BODY_TIMEOUT`].
    TooSlow,
}

/// Reads the body of a request of at most `limit` bytes.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Bytes, Unread> {
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Unread::TooLarge),
        Err(_) => Err(Unread::TooSlow),
    }
}

/// Whether a request is addressed to us by a name of loopback, and comes from no other site.
pub(crate) fn is_ours(headers: &HeaderMap, port: u16) -> bool {
    let named = |authority: &str| {
        ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| {
            authority
                .strip_prefix(name)
                .is_some_and(|rest| rest == format!(":{port}"))
        })
    };
    let mut hosts = headers.get_all(header::HOST).iter();
    let host_is_ours = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host
            .to_str()
            .is_ok_and(|host| named(&host.to_ascii_lowercase())),
        _ => false,
    };
    let same = |origin: &http::HeaderValue| {
        origin.to_str().is_ok_and(|origin| {
            origin
                .to_ascii_lowercase()
                .strip_prefix("http://")
                .is_some_and(named)
        })
    };
    host_is_ours && headers.get_all(header::ORIGIN).iter().all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_this_machine_gets_in() {
        for (host, origin, ours) in [
            ("127.0.0.1:80", None, true),
            ("LocalHost:80", None, true),
            ("[::1]:80", Some("http://localhost:80"), true),
            ("127.0.0.1:81", None, false),
            ("127.0.0.1", None, false),
            ("evil.example:80", None, false),
            ("localhost.evil.example:80", None, false),
            ("127.0.0.1:80", Some("http://evil.example"), false),
            ("127.0.0.1:80", Some("https://127.0.0.1:80"), false),
            ("127.0.0.1:80", Some("null"), false),
            ("127.0.0.1:80", Some("http://127.0.0.1:8080"), false),
        ] {
            assert_eq!(
                is_ours(&request(host, origin), 80),
                ours,
                "{host} {origin:?}"
            );
        }
        assert!(!is_ours(&HeaderMap::new(), 80));
    }
}
