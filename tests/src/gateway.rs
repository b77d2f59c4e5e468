//! A gateway of the chat completions API on this machine, which does what a test wants.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use towpath::standing::Models;
use towpath_auth::Secret;

/// What the gateway does with a call.
#[derive(Clone, Debug)]
pub enum Said {
    /// Answers with this status, and says after how many seconds to try again.
    Status(u16, u64),
    /// Streams this text, which has a cost of 11 and 5 tokens.
    Text(String),
    /// Begins to stream a text, and then says nothing more.
    Nothing(String),
}

/// A call that the gateway got.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The headers of the request, with their names in lower case.
    pub headers: Vec<String>,
    /// The body of the request.
    pub body: Value,
}

impl Asked {
    /// The text of the user's message.
    pub fn message(&self) -> &str {
        self.body["messages"][1]["content"]
            .as_str()
            .unwrap_or_default()
    }
}

type Answers = dyn Fn(usize, &Asked) -> Said + Send + Sync;

struct Shared {
    asked: Mutex<Vec<Asked>>,
    answers: Box<Answers>,
    hung_up: Notify,
}

/// The gateway, until it is dropped.
pub struct Gateway {
    base: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// The key of the gateway.
pub const KEY: &str = "sk-swordfish-0123";

impl Gateway {
    /// Begins to serve. `answers` is told how many calls came before, and the call.
    ///
    /// # Panics
    /// If no port can be had.
    pub async fn start(
        answers: impl Fn(usize, &Asked) -> Said + Send + Sync + 'static,
    ) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            asked: Mutex::default(),
            answers: Box::new(answers),
            hung_up: Notify::new(),
        });
        let (mut tasks, serving) = (JoinSet::new(), Arc::clone(&shared));
        tasks.spawn(async move {
            let mut calls = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                calls.spawn(async move { shared.serve(stream).await.unwrap_or_default() });
            }
        });
        Arc::new(Self {
            base,
            shared,
            _tasks: tasks,
        })
    }

    /// The gateway, as a deployment names it.
    pub fn models(&self) -> Models {
        Models {
            base: self.base.clone(),
            key: Some(Secret::new(KEY)),
        }
    }

    /// The calls so far.
    ///
    /// # Panics
    /// If serving one has.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Returns when a caller has hung up on a call that was never answered.
    pub async fn hung_up(&self) {
        self.shared.hung_up.notified().await;
    }
}

impl Shared {
    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            match line.trim_end() {
                "" => break,
                line => headers.push(line.to_ascii_lowercase()),
            }
        }
        let length = headers
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.and_then(|it| it.parse().ok()).unwrap_or_default()];
        stream.read_exact(&mut body).await?;
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let asked = Asked { headers, body };
        let said = {
            let mut all = self.asked.lock().unwrap();
            let said = (self.answers)(all.len(), &asked);
            all.push(asked);
            said
        };
        let events =
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n";
        match said {
            Said::Status(status, seconds) => {
                let text = format!(
                    "HTTP/1.1 {status} No\r\nconnection: close\r\ncontent-length: 0\r\nretry-after: {seconds}\r\n\r\n"
                );
                stream.write_all(text.as_bytes()).await?;
            }
            Said::Text(text) => {
                let text = [events.to_owned(), delta(&text), end()].concat();
                stream.write_all(text.as_bytes()).await?;
            }
            Said::Nothing(text) => {
                let text = [events.to_owned(), delta(&text)].concat();
                stream.write_all(text.as_bytes()).await?;
                // Nothing more is sent, so that this ends with the caller.
                stream.read_to_end(&mut Vec::new()).await?;
                self.hung_up.notify_one();
            }
        }
        stream.flush().await
    }
}

fn delta(text: &str) -> String {
    let choice = json!({ "index": 0, "delta": { "content": text } });
    format!(
        "data: {}\n\n",
        json!({ "model": "large-1", "choices": [choice] })
    )
}

fn end() -> String {
    let usage = json!({ "prompt_tokens": 11, "completion_tokens": 5 });
    let choice = json!({ "index": 0, "delta": {}, "finish_reason": "stop" });
    let end = json!({ "choices": [choice], "usage": usage });
    format!("data: {end}\n\ndata: [DONE]\n\n")
}
