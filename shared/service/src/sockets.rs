//! The sockets of executors, as a WebSocket API of API Gateway holds them.

use async_trait::async_trait;
use towpath_aws::{Connections, ConnectionsError, Posted};
use towpath_jobs::Unreadable;
use towpath_jobs_executor::{Pushed, Sockets};

/// The sockets that a WebSocket API holds.
pub(crate) struct ApiSockets(pub(crate) Connections);

#[async_trait]
impl Sockets for ApiSockets {
    async fn push(&self, connection: &str, text: &str) -> Result<Pushed, Unreadable> {
        match self.0.post(connection, text).await {
            Ok(Posted::Sent) => Ok(Pushed::Sent),
            Ok(Posted::Gone) => Ok(Pushed::Gone),
            Err(ConnectionsError::TooLarge) => Ok(Pushed::TooLarge),
            Err(other) => Err(Unreadable(other.to_string())),
        }
    }

    async fn is_open(&self, connection: &str) -> Result<bool, Unreadable> {
        let open = self.0.is_open(connection).await;
        open.map_err(|error| Unreadable(error.to_string()))
    }

    async fn close(&self, connection: &str) -> Result<(), Unreadable> {
        let closed = self.0.close(connection).await;
        closed.map_err(|error| Unreadable(error.to_string()))
    }
}
