//! The sockets of executors, from their own end.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::World;
use crate::executors::Executor;

/// The time after which something that a socket should bring is said never to come. No test measures anything by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open socket of an executor.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    executor: String,
}

impl Executor {
    /// Opens the executor's socket, and speaks the extension on it; or returns the status of the refusal.
    pub async fn connect(&self, world: &World) -> Result<Socket, u16> {
        connect(world, &self.id, &self.token).await
    }
}

/// Opens a socket as this executor, with this token.
pub async fn connect(world: &World, executor: &str, token: &str) -> Result<Socket, u16> {
    let url = world.standing.cloud.url().replacen("http", "ws", 1);
    let url = format!("{url}/ws/executors/{executor}?extensions=towpath.1");
    let mut request = url.into_client_request().unwrap();
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let host = request.uri().authority().unwrap().to_string();
    let stream = TcpStream::connect(host).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((stream, _)) => Ok(Socket {
            stream,
            executor: executor.to_owned(),
        }),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

impl Socket {
    /// Sends a text as it is.
    pub async fn say(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    /// Sends an event, and returns what it is answered with: an acknowledgement, or an error.
    pub async fn tell(
        &mut self,
        world: &World,
        event: &str,
        mission: Option<&str>,
        data: Value,
    ) -> Value {
        let ts = towpath_executors::Instant::of_ms(world.clock.now_ms());
        let id = format!("{event}-{}", world.clock.now_ms());
        let mut message = json!({
            "event": event, "executor_id": self.executor, "id": id, "ts": ts, "data": data,
        });
        if let Some(mission) = mission {
            message["mission_id"] = json!(mission);
        }
        self.say(&message.to_string()).await;
        world.pass(Duration::from_millis(1)).await;
        loop {
            let answer = self.next().await.expect("the socket is open");
            let word = answer["event"].as_str().unwrap_or_default();
            if word == "executor.ack" || word == "executor.error" {
                return answer;
            }
        }
    }

    /// The next message. `None`: the socket is closed.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            let came = tokio::time::timeout(PATIENCE, self.stream.next()).await;
            match came.expect("nothing comes over the socket") {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The next message with this event.
    pub async fn heard(&mut self, event: &str) -> Value {
        loop {
            let message = self.next().await.expect("the socket is open");
            if message["event"] == event {
                return message;
            }
        }
    }

    /// Closes the socket.
    pub async fn close(mut self) {
        let _ = self.stream.close(None).await;
    }
}
