//! The model gateway: where it is, how it is reached, and one call of it.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tower::ServiceExt;
use towpath_auth::Secret;
use towpath_clock::Clock;

use crate::heard::Heard;
use crate::reply::Reply;
use crate::sse::Decoder;
use crate::trouble::{Trouble, said};

/// The most bytes of an answer that is one document.
const DOCUMENT_MAX: usize = 4 * 1024 * 1024;
/// The most bytes of a stream. Each of its pieces brings a few characters of the text and a few hundred bytes besides.
const STREAM_MAX: usize = 16 * DOCUMENT_MAX;
/// The most bytes that are read of the answer to a call that failed.
const ERROR_MAX: usize = 64 * 1024;

/// The base URL of a gateway, below which `/chat/completions` is: `https`, or `http` on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The scheme and the host, for connecting.
    origin: Uri,
    host: HeaderValue,
    /// The path of the chat completions API.
    path: String,
}

/// A text that is no base URL of a gateway. The text is not told: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the base URL of the model gateway is https://HOST/PATH (or http:// on this machine), without a user, a query or a fragment, for example https://gateway.example.com/v1"
)]
pub struct NotABase;

impl Base {
    /// Reads a base URL.
    ///
    /// # Errors
    /// If it is none that may be called.
    pub fn parse(text: &str) -> Result<Self, NotABase> {
        let uri = text.trim().parse::<Uri>().map_err(|_| NotABase)?;
        let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or(NotABase)?;
        let encrypted_or_here = match scheme {
            "https" => true,
            "http" => is_loopback(authority.host()),
            _ => false,
        };
        let plain = !authority.as_str().contains('@') && !text.contains(['?', '#']);
        if !encrypted_or_here || !plain || authority.host().is_empty() {
            return Err(NotABase);
        }
        let origin = format!("{scheme}://{authority}/");
        Ok(Self {
            origin: origin.parse().map_err(|_| NotABase)?,
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| NotABase)?,
            path: format!("{}/chat/completions", uri.path().trim_end_matches('/')),
        })
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|it| it.is_loopback())
}

/// A connection to a gateway.
pub trait Connection: Read + Write + Send + Unpin {}

impl<T: Read + Write + Send + Unpin> Connection for T {}

/// Makes connections to one gateway.
#[async_trait]
pub trait Connect: Send + Sync {
    /// Makes a connection.
    ///
    /// # Errors
    /// If the gateway cannot be reached.
    async fn connect(&self) -> io::Result<Box<dyn Connection>>;
}

/// Makes connections over TCP, and TLS where the base says so.
struct Network {
    origin: Uri,
    /// Made when it is first needed: most functions never call a model, and reading certificates takes a while.
    connector: OnceLock<towpath_client::Connector>,
}

#[async_trait]
impl Connect for Network {
    async fn connect(&self) -> io::Result<Box<dyn Connection>> {
        let made = || towpath_client::connector(&self.origin.to_string());
        let connector = self.connector.get_or_init(made).clone();
        let connected = connector.oneshot(self.origin.clone()).await;
        connected
            .map(|it| Box::new(it) as Box<dyn Connection>)
            .map_err(io::Error::other)
    }
}

/// The time-outs of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timeouts {
    /// The time that connecting may take, TLS included.
    connect: Duration,
    /// The time from the call to the first byte of its answer's body.
    first_byte: Duration,
    /// The time between two pieces of the body.
    idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(120),
            idle: Duration::from_secs(60),
        }
    }
}

/// A gateway that is called.
#[derive(Clone)]
pub(crate) struct Gateway {
    base: Base,
    pub(crate) connect: Arc<dyn Connect>,
    timeouts: Timeouts,
    clock: Clock,
}

impl Gateway {
    pub(crate) fn new(base: Base, clock: Clock) -> Self {
        let network = Network {
            origin: base.origin.clone(),
            connector: OnceLock::new(),
        };
        Self {
            connect: Arc::new(network),
            base,
            timeouts: Timeouts::default(),
            clock,
        }
    }

    /// Makes one call, on a connection of its own: a function may have been frozen for hours since the last one, and a
    /// connection that was kept would be dead.
    pub(crate) async fn call(
        &self,
        body: Bytes,
        key: Option<&Secret>,
        heard: &Heard,
    ) -> Result<Reply, Trouble> {
        let request = self.request(body, key)?;
        let first_byte = Instant::now() + self.timeouts.first_byte;
        let connected = timeout_at(
            Instant::now() + self.timeouts.connect,
            self.connect.connect(),
        );
        let connection = match connected.await {
            Err(_) => return Err(Trouble::down("the model gateway cannot be reached in time")),
            Ok(Err(error)) => {
                return Err(Trouble::down(format!(
                    "the model gateway cannot be reached: {error}"
                )));
            }
            Ok(Ok(connection)) => connection,
        };
        let lost = |error: hyper::Error| {
            Trouble::down(format!("the model gateway lost the call: {error}"))
        };
        let (mut sender, driver) = http1::handshake(connection).await.map_err(lost)?;
        // Whoever drops this call ends its connection with it.
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        heard.sent();
        let response = timeout_at(first_byte, sender.send_request(request)).await;
        let response = response.map_err(|_| silent())?.map_err(lost)?;
        let body = Body {
            response,
            until: first_byte,
            idle: self.timeouts.idle,
            left: 0,
        };
        self.answer(body, heard).await
    }

    fn request(&self, body: Bytes, key: Option<&Secret>) -> Result<Request<Full<Bytes>>, Trouble> {
        let mut request = Request::post(self.base.path.as_str())
            .header(HOST, self.base.host.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream, application/json");
        if let Some(key) = key {
            let value = HeaderValue::from_str(&format!("Bearer {}", key.expose()));
            let mut value = value.map_err(|_| {
                Trouble::Refused(
                    "the key of the model gateway holds characters that no HTTP header can carry"
                        .to_owned(),
                )
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let made = request.body(Full::new(body));
        made.map_err(|error| Trouble::Refused(format!("the call cannot be written: {error}")))
    }

    async fn answer(&self, mut body: Body, heard: &Heard) -> Result<Reply, Trouble> {
        let status = body.response.status();
        if !status.is_success() {
            heard.refused();
            let after = self.retry_after(body.response.headers());
            // The status says enough, where what goes with it cannot be read.
            let said = said(&body.beginning(ERROR_MAX).await);
            return Err(Trouble::of_status(status.as_u16().into(), said, after));
        }
        let sort = body.response.headers().get(CONTENT_TYPE);
        let sort = sort.and_then(|it| it.to_str().ok()).unwrap_or_default();
        let sort = sort.split(';').next().unwrap_or_default().trim();
        let sort = sort.to_ascii_lowercase();
        match sort.as_str() {
            "text/event-stream" => streamed(body, heard).await?,
            "application/json" => Reply::whole(&body.whole(DOCUMENT_MAX).await?)?,
            other => {
                let sort = if other.is_empty() { "of no type" } else { other };
                return Err(Trouble::unusable(&format!(
                    "it is {sort}, and neither JSON nor a stream of events; is the base URL the right one?"
                )));
            }
        }
        .checked()
    }

    /// The time after which the gateway wants to be asked again: a number of seconds, or a date.
    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = httpdate::parse_http_date(text).ok()?;
        let date = date.duration_since(std::time::UNIX_EPOCH).ok()?;
        let now = Duration::from_millis(self.clock.now_ms());
        Some(date.saturating_sub(now))
    }
}

async fn streamed(mut body: Body, heard: &Heard) -> Result<Reply, Trouble> {
    body.left = STREAM_MAX;
    let (mut reply, mut decoder) = (Reply::default(), Decoder::default());
    loop {
        let piece = match body.next().await {
            Ok(Some(piece)) => piece,
            // What is missing then is no part of the text.
            Ok(None) | Err(Trouble::Down { .. }) if reply.is_complete() => return Ok(reply),
            Ok(None) => return Err(Trouble::down("the model gateway ended its answer midway")),
            Err(trouble) => return Err(trouble),
        };
        let events = decoder.take(&piece);
        for data in events.map_err(|error| Trouble::unusable(&error.to_string()))? {
            let before = reply.text.len();
            let over = reply.take(&data)?;
            heard.add(reply.text.get(before..).unwrap_or_default());
            if over {
                return Ok(reply);
            }
        }
    }
}

fn silent() -> Trouble {
    Trouble::down("the model gateway was silent for too long")
}

/// The body of an answer, whose pieces have to come in time.
struct Body {
    response: Response<Incoming>,
    /// The time by which the next piece has to come.
    until: Instant,
    idle: Duration,
    /// The number of bytes that may still come.
    left: usize,
}

impl Body {
    /// The next piece. `None`: that was all.
    async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        loop {
            let frame = timeout_at(self.until, self.response.frame()).await;
            let Some(frame) = frame.map_err(|_| silent())? else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| {
                Trouble::down(format!("the model gateway lost the call midway: {error}"))
            })?;
            self.until = Instant::now() + self.idle;
            // Trailers say nothing.
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            let Some(left) = self.left.checked_sub(piece.len()) else {
                return Err(Trouble::unusable("it is too long"));
            };
            self.left = left;
            return Ok(Some(piece));
        }
    }

    /// All of it, of at most `limit` bytes.
    async fn whole(&mut self, limit: usize) -> Result<Bytes, Trouble> {
        self.left = limit;
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// What can be read of the first `limit` bytes.
    async fn beginning(&mut self, limit: usize) -> Bytes {
        self.left = limit;
        let mut all = BytesMut::new();
        while let Ok(Some(piece)) = self.next().await {
            all.extend_from_slice(&piece);
        }
        all.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_encrypted_or_on_this_machine_and_holds_no_credentials() {
        for (text, path) in [
            ("https://gateway.example.com/v1", "/v1/chat/completions"),
            ("https://gateway.example.com", "/chat/completions"),
            (
                " https://gateway.example.com:8443/a/b/ ",
                "/a/b/chat/completions",
            ),
            ("http://127.0.0.1:4000/v1", "/v1/chat/completions"),
            ("http://[::1]:4000", "/chat/completions"),
            ("http://localhost", "/chat/completions"),
        ] {
            assert_eq!(Base::parse(text).unwrap().path, path, "{text}");
        }
        for text in [
            "",
            "gateway.example.com",
            "/v1",
            "http://gateway.example.com/v1",
            "http://127.0.0.1.example.com",
            "http://10.0.0.1",
            "ftp://gateway.example.com",
            "https://user:hush@gateway.example.com",
            "https://gateway.example.com/v1?key=hush",
            "https://gateway.example.com/v1#x",
            "https:///v1",
        ] {
            assert_eq!(Base::parse(text), Err(NotABase), "{text}");
        }
        assert!(!NotABase.to_string().contains("hush"));
    }
}
