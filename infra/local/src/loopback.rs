//! Listening on loopback, for programs of this machine only.
//!
//! A browser can be made to send requests to loopback: by a page that posts across origins, or by a name that resolves
//! to it (DNS rebinding). Both tell on themselves in the `Origin` and `Host` headers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use http::{HeaderMap, header};
use tokio::net::TcpListener;

use crate::error::Error;
use crate::tasks::Tasks;

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
        tasks.spawn(async move {
            if let Err(error) = axum::serve(self.listener, router).await {
                tracing::error!(%error, "a front of the local cloud ended");
            }
        });
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
