//! One connection: its messages in and out, its limits, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError};
use towpath_clock::Clock;

/// The most bytes in a frame, of those that come and of those that go.
pub(super) const FRAME_LIMIT: usize = 32 * 1024;
/// The most bytes in a message.
pub(super) const MESSAGE_LIMIT: usize = 128 * 1024;
/// The time after which a connection is closed that nothing was sent over.
const IDLE: Duration = Duration::from_secs(600);
/// The longest that a connection may be open.
const AGE: Duration = Duration::from_secs(7_200);
/// The time that a client has to take what was sent to it before its connection is closed, and then to close its end.
const GRACE: Duration = Duration::from_secs(10);
/// The most bytes of a client that are thrown away after its connection was closed from here.
const REST_LIMIT: u64 = 1024 * 1024;
/// The most messages of one connection that are handled at the same time. More wait in the client.
const AT_ONCE: usize = 100;

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The time at which something was last sent over a connection, either way. Milliseconds since the epoch.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<AtomicU64>);

impl Activity {
    pub(super) fn at(now_ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now_ms)))
    }

    pub(super) fn last(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn now(&self, clock: &Clock) {
        self.0.fetch_max(clock.now_ms(), Ordering::Relaxed);
    }
}

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The code, as `$disconnect` is told it.
    pub(super) code: u16,
    pub(super) reason: String,
    /// Whether the client is told the code: the end was decided here.
    ours: bool,
}

impl End {
    fn ours(code: CloseCode, reason: &str) -> Self {
        Self {
            code: code.into(),
            reason: reason.to_owned(),
            ours: true,
        }
    }

    /// The client is gone without a word.
    pub(super) fn lost() -> Self {
        Self {
            code: CloseCode::Abnormal.into(),
            reason: "Connection Closed Abnormally".to_owned(),
            ours: false,
        }
    }

    fn by_client(frame: Option<CloseFrame>) -> Self {
        let (code, reason) = match frame {
            Some(frame) => (frame.code.into(), frame.reason.to_string()),
            None => (
                CloseCode::Status.into(),
                "Client-side close frame status not set".to_owned(),
            ),
        };
        Self {
            code,
            reason,
            ours: false,
        }
    }

    /// The end that an error of the protocol or of the network means.
    fn of(error: &Error) -> Self {
        match error {
            Error::Capacity(_) => Self::ours(CloseCode::Size, "Message Too Long"),
            Error::Utf8(_) => Self::ours(CloseCode::Invalid, "Invalid Frame Payload Data"),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::lost(),
            Error::Protocol(_) => Self::ours(CloseCode::Protocol, "Protocol Error"),
            _ => Self::lost(),
        }
    }
}

/// The ends of the channels by which a connection is told what to do. Closing the queue closes the connection, after what
/// is in the queue was sent.
pub(super) struct Orders {
    pub(super) queue: mpsc::Receiver<Bytes>,
    /// Resolves when the connection was deleted.
    pub(super) deleted: oneshot::Receiver<()>,
}

/// Serves a connection until it ends, and returns how, and what is to be closed. `handle` begins to handle a message; the permit is given back when
/// that is done.
pub(super) async fn serve(
    upgraded: Upgraded,
    mut orders: Orders,
    activity: Activity,
    clock: &Clock,
    handle: impl Fn(String, OwnedSemaphorePermit),
) -> (End, Option<Socket>) {
    let config = WebSocketConfig::default()
        .max_frame_size(Some(FRAME_LIMIT))
        .max_message_size(Some(MESSAGE_LIMIT));
    let socket = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
    let (mut sink, mut stream) = socket.split();
    let deleted = async {
        // Its other end is never used: that it is dropped is the news.
        let _ = (&mut orders.deleted).await;
        // A client that takes nothing must not stay connected by that.
        tokio::time::sleep(GRACE).await;
    };
    let end = tokio::select! {
        end = receive(&mut stream, &activity, clock, handle) => end,
        end = send(&mut sink, &mut orders.queue, &activity, clock) => end,
        end = expire(&activity, clock) => end,
        () = deleted => deleted_end(),
    };
    (end, sink.reunite(stream).ok())
}

fn deleted_end() -> End {
    End::ours(CloseCode::Normal, "Connection Closed Normally")
}

async fn receive(
    stream: &mut SplitStream<Socket>,
    activity: &Activity,
    clock: &Clock,
    handle: impl Fn(String, OwnedSemaphorePermit),
) -> End {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return End::lost();
        };
        let text = loop {
            match stream.next().await {
                Some(Ok(Message::Text(text))) => break text,
                Some(Ok(Message::Binary(_))) => {
                    return End::ours(CloseCode::Unsupported, "Binary frames are not supported");
                }
                Some(Ok(Message::Close(frame))) => return End::by_client(frame),
                // A ping is answered by the library, and keeps no connection open.
                Some(Ok(_)) => {}
                Some(Err(error)) => return End::of(&error),
                None => return End::lost(),
            }
        };
        activity.now(clock);
        handle(text.to_string(), permit);
    }
}

async fn send(
    sink: &mut SplitSink<Socket, Message>,
    queue: &mut mpsc::Receiver<Bytes>,
    activity: &Activity,
    clock: &Clock,
) -> End {
    while let Some(message) = queue.recv().await {
        // Before it is sent: whoever has received it may rely on it.
        activity.now(clock);
        for frame in frames(&message) {
            if let Err(error) = sink.send(Message::Frame(frame)).await {
                return End::of(&error);
            }
        }
    }
    deleted_end()
}

/// A message as frames of at most [`FRAME_LIMIT`] bytes.
fn frames(message: &Bytes) -> Vec<Frame> {
    let first = match std::str::from_utf8(message) {
        Ok(_) => Data::Text,
        Err(_) => Data::Binary,
    };
    let mut frames = Vec::new();
    let mut rest = message.clone();
    loop {
        let part = rest.split_to(rest.len().min(FRAME_LIMIT));
        let kind = if frames.is_empty() {
            first
        } else {
            Data::Continue
        };
        frames.push(Frame::message(part, OpCode::Data(kind), rest.is_empty()));
        if rest.is_empty() {
            return frames;
        }
    }
}

/// Returns when the connection has been idle, or open, for too long.
async fn expire(activity: &Activity, clock: &Clock) -> End {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let oldest = clock.now_ms().saturating_add(millis(AGE));
    loop {
        let due = activity.last().saturating_add(millis(IDLE)).min(oldest);
        if clock.now_ms() >= due {
            return End::ours(CloseCode::Away, "Going away");
        }
        clock.sleep_until(due).await;
    }
}

/// Closes a connection that has ended, and waits a little for the client to do the same.
pub(super) async fn close(socket: Option<Socket>, end: &End) {
    if let Some(socket) = socket {
        let _ = tokio::time::timeout(GRACE, shake_hands(socket, end)).await;
    }
}

/// Makes the closing handshake. What the client still sends is read and thrown away: closing a socket with unread bytes
/// resets it, and the client might never see the code.
async fn shake_hands(mut socket: Socket, end: &End) {
    if !end.ours {
        // The library answers the client's close when it is asked for more.
        while let Some(Ok(_)) = socket.next().await {}
        return;
    }
    let frame = CloseFrame {
        code: end.code.into(),
        reason: end.reason.clone().into(),
    };
    if socket.close(Some(frame)).await.is_ok() {
        let mut rest = socket.get_mut().take(REST_LIMIT);
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_is_cut_into_frames_that_a_client_takes() {
        for (length, expected) in [
            (0, vec![0]),
            (FRAME_LIMIT, vec![FRAME_LIMIT]),
            (FRAME_LIMIT + 1, vec![FRAME_LIMIT, 1]),
            (MESSAGE_LIMIT, vec![FRAME_LIMIT; 4]),
        ] {
            let frames = frames(&Bytes::from(vec![b'x'; length]));
            let lengths: Vec<usize> = frames.iter().map(|frame| frame.payload().len()).collect();
            assert_eq!(lengths, expected);
            let opcodes: Vec<_> = frames.iter().map(|frame| frame.header().opcode).collect();
            assert_eq!(opcodes[0], OpCode::Data(Data::Text));
            assert!(
                opcodes[1..]
                    .iter()
                    .all(|it| *it == OpCode::Data(Data::Continue))
            );
            let finals = frames.iter().filter(|frame| frame.header().is_final);
            assert_eq!(finals.count(), 1);
        }
    }
}
