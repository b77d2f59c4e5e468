//! Where messages for the worker come from: its socket, and polls while it has none.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::link::{Link, Lost};
use crate::note;
use crate::socket::{Address, Socket, Unopened};

/// The time without an answer after which the deployment may have taken the worker for silent.
const SILENT: Duration = Duration::from_secs(60);
/// The pause before something that failed is tried again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The time for which the worker waits for its next socket instead of polling.
const SOON: Duration = Duration::from_secs(2);
/// The time after which a deployment without sockets is asked for one again.
const SELDOM: Duration = Duration::from_secs(600);

/// The messages for the worker.
pub(crate) struct Inbox {
    link: Link,
    /// Where sockets are opened. `None`: the worker only polls.
    address: Option<Address>,
    socket: Option<Socket>,
    /// The time before which no socket is opened.
    closed_until: Option<Instant>,
    socket_pause: Pause,
    /// The messages that the worker has, and of which the deployment does not know that yet.
    kept: Vec<String>,
    /// Whether the deployment has to be told what the worker has.
    missed: bool,
    answered: Instant,
    poll_pause: Pause,
}

/// What came in.
#[derive(Default)]
pub(crate) struct Inbound {
    /// Whether the deployment may have missed the worker, and does not know what it has.
    pub(crate) returned: bool,
    /// The messages, in order.
    pub(crate) messages: Vec<Value>,
}

impl Inbox {
    pub(crate) fn new(link: Link, address: Option<Address>) -> Self {
        Self {
            link,
            address,
            socket: None,
            closed_until: None,
            socket_pause: Pause::default(),
            kept: Vec::new(),
            missed: true,
            answered: Instant::now(),
            poll_pause: Pause::default(),
        }
    }

    /// Notes that the worker keeps the messages of these ids, so that they need not be sent again.
    pub(crate) fn keep(&mut self, ids: impl IntoIterator<Item = String>) {
        self.kept.extend(ids);
    }

    /// The next that comes in. Failures are tried again for as long as it takes.
    ///
    /// # Errors
    /// The reason the worker is not admitted any more.
    pub(crate) async fn next(&mut self) -> Result<Inbound, String> {
        loop {
            let came = if self.socket.is_some() {
                self.by_socket().await?
            } else if self.open().await? {
                self.missed = false;
                Some(Inbound {
                    returned: true,
                    ..Inbound::default()
                })
            } else {
                self.by_poll().await?
            };
            if let Some(came) = came {
                return Ok(came);
            }
        }
    }

    /// Opens a socket, if it is time to. Returns whether there is one.
    async fn open(&mut self) -> Result<bool, String> {
        let Some(address) = &self.address else {
            return Ok(false);
        };
        if self
            .closed_until
            .is_some_and(|until| Instant::now() < until)
        {
            return Ok(false);
        }
        let token = self.link.token();
        let wait = match Socket::open(address, self.link.executor(), token.expose()).await {
            Ok(socket) => {
                self.link.set_line(Some(socket.line()));
                self.socket = Some(socket);
                self.socket_pause = Pause::default();
                note("its socket is open");
                return Ok(true);
            }
            Err(Unopened::NoToken) => {
                return Err("the token of the worker is good no more; enrol it again".to_owned());
            }
            Err(Unopened::NoSockets(status)) => {
                note(&format!(
                    "there are no sockets ({status}); it polls instead"
                ));
                SELDOM
            }
            Err(Unopened::Later(why)) => {
                note(&format!("{why}; it polls until there is a socket"));
                self.socket_pause.next()
            }
        };
        self.closed_until = Some(Instant::now() + wait);
        Ok(false)
    }

    async fn by_socket(&mut self) -> Result<Option<Inbound>, String> {
        self.acknowledge().await?;
        let Some(socket) = &mut self.socket else {
            return Ok(None);
        };
        match socket.next().await {
            // Too large for a socket: the answer of a poll holds it whole.
            Some(message) if is_shortened(&message) => self.claim(0).await,
            Some(message) => Ok(Some(Inbound {
                messages: vec![message],
                ..Inbound::default()
            })),
            None => {
                self.link.set_line(None);
                self.socket = None;
                // Not all workers at once, after a deployment closed them all.
                self.closed_until = Some(Instant::now() + self.socket_pause.next());
                note("its socket was closed");
                Ok(None)
            }
        }
    }

    /// Says over the socket what the worker keeps, or else by a poll that does not wait.
    async fn acknowledge(&mut self) -> Result<(), String> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let mut message = self.link.message("executor.ack");
        message.insert("ids".to_owned(), json!(self.kept));
        if self.link.say(&Value::Object(message)).await.is_some() {
            self.kept.clear();
            return Ok(());
        }
        match self.link.claim(&self.kept, 0).await {
            Ok(_) => {
                self.kept.clear();
                Ok(())
            }
            Err(Lost::Refused(why)) => Err(why),
            // They come again, and are acknowledged again.
            Err(Lost::NoAnswer(_)) => Ok(()),
        }
    }

    async fn by_poll(&mut self) -> Result<Option<Inbound>, String> {
        let until = self.closed_until.filter(|_| self.address.is_some());
        let wait = until.map(|until| until.saturating_duration_since(Instant::now()));
        match wait {
            // It is not worth a poll before the socket is tried again.
            Some(wait) if wait < SOON => {
                tokio::time::sleep(wait).await;
                Ok(None)
            }
            wait => {
                self.claim(wait.map_or(u64::MAX, |wait| wait.as_secs()))
                    .await
            }
        }
    }

    async fn claim(&mut self, wait: u64) -> Result<Option<Inbound>, String> {
        match self.link.claim(&self.kept, wait).await {
            Ok(messages) => {
                self.kept.clear();
                self.poll_pause = Pause::default();
                self.missed |= self.socket.is_none() && self.answered.elapsed() > SILENT;
                let returned = std::mem::take(&mut self.missed);
                self.answered = Instant::now();
                Ok(Some(Inbound { returned, messages }))
            }
            Err(Lost::Refused(why)) => Err(why),
            Err(Lost::NoAnswer(why)) => {
                note(&format!("{why}; it is tried again"));
                tokio::time::sleep(self.poll_pause.next()).await;
                Ok(None)
            }
        }
    }
}

fn is_shortened(message: &Value) -> bool {
    message.get("event").and_then(Value::as_str) == Some("mission.dispatch")
        && message.pointer("/data/dispatch").is_none()
}

/// Pauses that grow, with a random part.
pub(crate) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(PAUSE)
    }
}

impl Pause {
    /// The next pause: between a half and the whole of what it has grown to.
    pub(crate) fn next(&mut self) -> Duration {
        let mut bits = [0_u8; 1];
        let share = getrandom::fill(&mut bits).map_or(255, |()| u32::from(bits[0]));
        let pause = self.0 / 2 + self.0 / 512 * share;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        pause
    }
}
