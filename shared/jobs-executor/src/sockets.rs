//! The open sockets of executors, as a port.

use async_trait::async_trait;
use towpath_jobs::Unreadable;

/// The outcome of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The message is on its way.
    Sent,
    /// The socket is closed.
    Gone,
    /// The message is larger than a socket takes.
    TooLarge,
}

/// The open sockets of executors.
#[async_trait]
pub trait Sockets: Send + Sync {
    /// Sends a message over a socket.
    ///
    /// # Errors
    /// If whatever holds the sockets does not answer. The message may have been sent.
    async fn push(&self, connection: &str, text: &str) -> Result<Pushed, Unreadable>;

    /// Whether a socket is open.
    ///
    /// # Errors
    /// If whatever holds the sockets does not answer.
    async fn is_open(&self, connection: &str) -> Result<bool, Unreadable>;

    /// Closes a socket. One that is closed is no error.
    ///
    /// # Errors
    /// If whatever holds the sockets does not answer.
    async fn close(&self, connection: &str) -> Result<(), Unreadable>;
}

/// The sockets of a deployment that has none: executors poll.
#[derive(Clone, Copy, Debug)]
pub struct NoSockets;

#[async_trait]
impl Sockets for NoSockets {
    async fn push(&self, _: &str, _: &str) -> Result<Pushed, Unreadable> {
        Ok(Pushed::Gone)
    }

    async fn is_open(&self, _: &str) -> Result<bool, Unreadable> {
        Ok(false)
    }

    async fn close(&self, _: &str) -> Result<(), Unreadable> {
        Ok(())
    }
}
