//! The socket to the deployment: messages for the worker come in, its own go out, and each of these is answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::StatusCode;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use towpath_client::{Client, Switched};
use towpath_executors::EXTENSION;

use crate::link::Verdict;

/// The time after which a message that has no answer is told in another way.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time between two signs of life: after 90 s without any the worker is taken for silent.
const PING: Duration = Duration::from_secs(45);
/// The most messages that wait for the worker, or for the socket. What is left out is sent again.
const QUEUE: usize = 256;
/// The longest message that a socket takes for sure: a frame of API Gateway holds 32 KB.
const LIMIT: usize = 30 * 1024;

/// Where sockets are opened.
#[derive(Clone)]
pub(crate) struct Address {
    client: Client,
    /// The path, up to the identity of the executor.
    path: String,
}

impl Address {
    /// The sockets behind this URL, to whose end the identity is added; those of the deployment when there is none.
    pub(crate) fn of(server: &str, url: Option<&str>) -> Self {
        let server = server.trim_end_matches('/');
        let url = match url {
            None => format!("{server}/ws/executors/"),
            Some(url) => match url.strip_prefix("ws") {
                Some(rest) => format!("http{rest}"),
                None => url.to_owned(),
            },
        };
        let host = url
            .find("://")
            .and_then(|at| url.get(at + 3..)?.find('/').map(|slash| at + 3 + slash));
        let (base, path) = url.split_at(host.unwrap_or(url.len()));
        Self {
            client: Client::new(base, None),
            path: path.to_owned(),
        }
    }
}

/// The reason a socket was not opened.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// The token is good no more.
    NoToken,
    /// There are no sockets at this address.
    NoSockets(StatusCode),
    /// It may be opened later.
    Later(String),
}

/// An open socket. Dropping it closes it.
pub(crate) struct Socket {
    messages: mpsc::Receiver<Value>,
    line: Line,
    pump: JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// What speaks over an open socket. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Line {
    out: mpsc::Sender<String>,
    /// The messages without an answer, by their ids.
    open: Arc<Mutex<HashMap<String, oneshot::Sender<Value>>>>,
}

impl Line {
    /// Sends a message and waits for what becomes of it. `None`: nobody knows; it has to be told in another way.
    pub(crate) async fn tell(&self, id: &str, message: &Value) -> Option<Verdict> {
        let text = message.to_string();
        if text.len() > LIMIT {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        self.open().insert(id.to_owned(), answer);
        let answered = async {
            self.out.send(text).await.ok()?;
            answered.await.ok()
        };
        let answered = tokio::time::timeout(PATIENCE, answered).await;
        self.open().remove(id);
        let answer = answered.ok().flatten()?;
        if answer.get("event").and_then(Value::as_str) == Some("executor.ack") {
            return Some(Verdict::Taken);
        }
        let word = |name: &str| answer.get(name).and_then(Value::as_str);
        match word("code") {
            Some("busy" | "unavailable") => None,
            _ => Some(Verdict::Refused(
                word("message").unwrap_or_default().to_owned(),
            )),
        }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Value>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an answer to whoever waits for it. A message that is no answer comes back.
    fn answer(&self, message: Value) -> Option<Value> {
        let event = message.get("event").and_then(Value::as_str);
        let ids: Vec<String> = match event {
            Some("executor.ack") => {
                let ids = message.get("ids").and_then(Value::as_array);
                let ids = ids.into_iter().flatten();
                ids.filter_map(Value::as_str).map(str::to_owned).collect()
            }
            Some("executor.error") => {
                let id = message.get("id").and_then(Value::as_str);
                id.map(str::to_owned).into_iter().collect()
            }
            _ => return Some(message),
        };
        for id in ids {
            if let Some(waiting) = self.open().remove(&id) {
                let _ = waiting.send(message.clone());
            }
        }
        None
    }
}

impl Socket {
    /// Opens a socket.
    pub(crate) async fn open(
        address: &Address,
        executor: &str,
        token: &str,
    ) -> Result<Self, Unopened> {
        let opened = tokio::time::timeout(PATIENCE, handshake(address, executor, token)).await;
        let late = |_| Unopened::Later("the socket was not opened in time".to_owned());
        let stream = opened.map_err(late)??;
        let (out, outgoing) = mpsc::channel(QUEUE);
        let (deliver, messages) = mpsc::channel(QUEUE);
        let line = Line {
            out,
            open: Arc::default(),
        };
        let pump = tokio::spawn(pump(
            stream,
            executor.to_owned(),
            line.clone(),
            outgoing,
            deliver,
        ));
        Ok(Self {
            messages,
            line,
            pump,
        })
    }

    /// What speaks over this socket.
    pub(crate) fn line(&self) -> Line {
        self.line.clone()
    }

    /// The next message. `None`: the socket is closed.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        self.messages.recv().await
    }
}

async fn handshake(
    address: &Address,
    executor: &str,
    token: &str,
) -> Result<WebSocketStream<TokioIo<Upgraded>>, Unopened> {
    let join = if address.path.contains('?') { '&' } else { '?' };
    let path = format!("{}{executor}{join}extensions={EXTENSION}", address.path);
    let (key, bearer) = (generate_key(), format!("Bearer {token}"));
    let headers = [
        ("authorization", &*bearer),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", &*key),
    ];
    let switched = address.client.upgrade(&path, &headers).await;
    let (headers, upgraded) = match switched.map_err(|error| Unopened::Later(error.to_string()))? {
        Switched::Upgraded(headers, upgraded) => (headers, upgraded),
        Switched::Refused(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            return Err(Unopened::NoToken);
        }
        Switched::Refused(status)
            if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS =>
        {
            return Err(Unopened::Later(format!("the socket: {status}")));
        }
        Switched::Refused(status) => return Err(Unopened::NoSockets(status)),
    };
    let accepted = headers.get("sec-websocket-accept");
    if accepted.map(http::HeaderValue::as_bytes)
        != Some(derive_accept_key(key.as_bytes()).as_bytes())
    {
        return Err(Unopened::NoSockets(StatusCode::SWITCHING_PROTOCOLS));
    }
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
}

/// Moves messages until the socket is closed, or its other end gives no sign of life.
async fn pump(
    stream: WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>,
    executor: String,
    line: Line,
    mut outgoing: mpsc::Receiver<String>,
    deliver: mpsc::Sender<Value>,
) {
    let (mut sink, mut stream) = stream.split();
    let send = async {
        while let Some(text) = outgoing.recv().await {
            if sink.send(Message::text(text)).await.is_err() {
                return;
            }
        }
    };
    let receive = async {
        while let Some(Ok(message)) = stream.next().await {
            let text = match message {
                Message::Text(text) => text,
                // What comes after it is nothing but the end of the connection, which may take its time.
                Message::Close(_) => return,
                _ => continue,
            };
            // What is not JSON is the gateway's own word on a message that failed; who waits for it tells it in another way.
            let Ok(message) = serde_json::from_str::<Value>(&text) else {
                continue;
            };
            if let Some(message) = line.answer(message) {
                let _ = deliver.try_send(message);
            }
        }
    };
    let alive = async {
        let mut number = 0_u64;
        loop {
            tokio::time::sleep(PING).await;
            number += 1;
            let id = format!("ping-{number}");
            let ping = json!({ "event": "executor.ping", "executor_id": executor, "id": id });
            if line.tell(&id, &ping).await.is_none() {
                return;
            }
        }
    };
    tokio::select! {
        () = send => {}
        () = receive => {}
        () = alive => {}
    }
    // Whoever still waits for an answer is not to wait out the time.
    line.open().clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_socket_ends_with_the_word_that_closes_it_though_its_connection_stays() {
        let (near, far) = tokio::io::duplex(1024);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let mut far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let (out, outgoing) = mpsc::channel(QUEUE);
        let (deliver, mut messages) = mpsc::channel(QUEUE);
        let line = Line {
            out,
            open: Arc::default(),
        };
        let began = tokio::time::Instant::now();
        let pumped = tokio::spawn(pump(near, "e".to_owned(), line, outgoing, deliver));
        far.send(Message::text(r#"{"event":"mission.paused"}"#))
            .await
            .unwrap();
        far.send(Message::Close(None)).await.unwrap();
        assert_eq!(messages.recv().await.unwrap()["event"], "mission.paused");
        assert_eq!(messages.recv().await, None);
        pumped.await.unwrap();
        // Time stands still here unless everybody waits: nobody has waited for a sign of life.
        assert!(began.elapsed() < PING);
        drop(far);
    }

    #[test]
    fn sockets_are_where_the_deployment_is_or_where_it_is_said() {
        for (url, expected) in [
            (None, "/ws/executors/"),
            (Some("wss://x.example/live?executor="), "/live?executor="),
            (Some("ws://127.0.0.1:1/a/"), "/a/"),
            (Some("wss://x.example"), ""),
        ] {
            assert_eq!(Address::of("http://server/", url).path, expected);
        }
    }
}
