//! A server of the chat completions API that plays a script for each connection.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use towpath_jobs_model::{Connect, Connection};
use towpath_store::JobRecords;

/// One thing that the server does.
#[derive(Clone)]
pub(crate) enum Play {
    /// Sends these bytes as they are.
    Raw(Vec<u8>),
    /// Sends these bytes as a chunk of a body.
    Chunk(Vec<u8>),
    /// Sends this chunk again and again until nobody reads it any more.
    Endless(Vec<u8>),
    /// Lets this time pass.
    Pause(Duration),
    /// Does nothing more, and keeps the connection open.
    Hang,
}

/// What the server does with one connection.
pub(crate) type Script = Vec<Play>;

/// A request as the server got it.
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) head: String,
    pub(crate) body: Value,
}

/// The server: what it plays for the connections to come, and what it was asked.
#[derive(Clone)]
pub(crate) struct Server {
    /// The records of the jobs of which it is asked.
    pub(crate) records: JobRecords,
    scripts: Arc<Mutex<VecDeque<Script>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// What is played for a request, instead of scripts.
    answers: Option<fn(&Value) -> Script>,
}

impl Server {
    fn new() -> Self {
        Self {
            records: crate::records(),
            scripts: Arc::default(),
            seen: Arc::default(),
            answers: None,
        }
    }

    /// A server that plays these scripts, one for each connection, and the last of them for all that follow.
    pub(crate) fn playing(scripts: impl IntoIterator<Item = Script>) -> Arc<Self> {
        Arc::new(Self {
            scripts: Arc::new(Mutex::new(scripts.into_iter().collect())),
            ..Self::new()
        })
    }

    /// A server that answers each request by what it says.
    pub(crate) fn answering(answers: fn(&Value) -> Script) -> Arc<Self> {
        Arc::new(Self {
            answers: Some(answers),
            ..Self::new()
        })
    }

    /// The number of requests so far.
    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The time from each request to the next.
    pub(crate) fn pauses(&self) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap();
        seen.windows(2).map(|two| two[1].at - two[0].at).collect()
    }

    /// Looks at a request.
    pub(crate) fn look<T>(&self, number: usize, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.seen.lock().unwrap()[number])
    }

    fn next(&self) -> Script {
        let mut scripts = self.scripts.lock().unwrap();
        match scripts.len() {
            1 => scripts.front().cloned().unwrap(),
            _ => scripts
                .pop_front()
                .expect("a server plays at least one script"),
        }
    }

    /// Plays the next script for a connection.
    pub(crate) async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Ok((head, body)) = read(&mut stream).await else {
            return;
        };
        let script = match self.answers {
            Some(answers) => answers(&body),
            None => self.next(),
        };
        self.seen.lock().unwrap().push(Seen {
            at: Instant::now(),
            head,
            body,
        });
        for play in script {
            // Whoever does not want to hear more goes away.
            if play.out(&mut stream).await.is_err() {
                return;
            }
        }
    }
}

impl Play {
    async fn out(self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        match self {
            Self::Raw(bytes) => stream.write_all(&bytes).await,
            Self::Chunk(bytes) => stream.write_all(&chunk(&bytes)).await,
            Self::Endless(bytes) => loop {
                stream.write_all(&chunk(&bytes)).await?;
            },
            Self::Pause(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Self::Hang => std::future::pending().await,
        }
    }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(String, Value)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let named = name.eq_ignore_ascii_case("content-length");
        named.then(|| value.trim().parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap()];
    stream.read_exact(&mut body).await?;
    Ok((head, serde_json::from_slice(&body).unwrap()))
}

/// Connections in memory: what one end writes the other has at once, so that time stands still meanwhile.
#[async_trait]
impl Connect for Server {
    async fn connect(&self) -> io::Result<Box<dyn Connection>> {
        let unreachable = matches!(self.scripts.lock().unwrap().front(), Some(it) if it.is_empty());
        if unreachable {
            self.next();
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let served = self.clone();
        tokio::spawn(async move { served.serve(theirs).await });
        Ok(Box::new(TokioIo::new(ours)))
    }
}

/// Makes no connection.
pub(crate) fn unreachable() -> Script {
    Vec::new()
}

/// The head of an answer, and headers besides.
pub(crate) fn head(status: &str, headers: &str) -> Play {
    let head = format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n{headers}\r\n");
    Play::Raw(head.into_bytes())
}

/// A whole answer with this status and body.
pub(crate) fn whole(status: &str, headers: &str, body: &str) -> Script {
    let mut script = vec![head(status, headers)];
    if !body.is_empty() {
        script.push(Play::Chunk(body.as_bytes().to_vec()));
    }
    script.push(Play::Raw(b"0\r\n\r\n".to_vec()));
    script
}

pub(crate) fn json_whole(status: &str, body: &Value) -> Script {
    whole(
        status,
        "content-type: application/json\r\n",
        &body.to_string(),
    )
}

/// The head of a stream.
pub(crate) fn stream_head() -> Play {
    head(
        "200 OK",
        "content-type: text/event-stream; charset=utf-8\r\n",
    )
}

/// An event of a stream.
pub(crate) fn event(data: &Value) -> Play {
    Play::Chunk(format!("data: {data}\n\n").into_bytes())
}

/// An event that brings a piece of the text.
pub(crate) fn piece(text: &str) -> Play {
    event(
        &json!({"id": "c1", "object": "chat.completion.chunk", "model": "large-1",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}),
    )
}

/// The end of a stream, with this reason.
pub(crate) fn finish(reason: &str) -> Script {
    vec![
        event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})),
        event(
            &json!({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 4}}}),
        ),
        Play::Chunk(b"data: [DONE]\n\n".to_vec()),
        Play::Raw(b"0\r\n\r\n".to_vec()),
    ]
}

/// A stream of these pieces that ends well.
pub(crate) fn streamed(pieces: &[&str]) -> Script {
    let begun = [stream_head()];
    let pieces = pieces.iter().map(|text| piece(text));
    begun
        .into_iter()
        .chain(pieces)
        .chain(finish("stop"))
        .collect()
}
