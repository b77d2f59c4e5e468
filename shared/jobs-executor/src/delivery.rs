//! Messages for executors. Each was put with the change that it tells of; here copies of it are brought to the executor,
//! until it acknowledges.

use std::time::Duration;

use serde_json::{Value, json};
use towpath_engine::{Timestamp, WorkspaceId};
use towpath_executors::{
    Count, DispatchData, DispatchMessage, ExecutorId, SaysDispatch, SocketMessage, SocketWord,
};
use towpath_store::{Error, ExecutorRecord, Message, MissionRecord};

use crate::view::instant;
use crate::{Ports, Pushed};

/// The most messages that are brought at once.
const BATCH: i32 = 25;
/// The largest message that is pushed whole, in bytes: a frame of a socket takes 32 KB.
const PUSHED_WHOLE: usize = 30 * 1024;
/// The time after which a message that was not acknowledged is pushed again.
const AGAIN: Duration = Duration::from_secs(30);

/// Brings messages to executors.
#[derive(Clone)]
pub struct Delivery {
    ports: Ports,
}

/// The answer to a poll.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claimed {
    /// The messages that wait for the executor, in order.
    pub messages: Vec<Value>,
}

impl Delivery {
    pub(crate) fn new(ports: Ports) -> Self {
        Self { ports }
    }

    /// Pushes a message over the executor's socket, if it has one. Whatever comes of it, the message stays until it is
    /// acknowledged, so nothing is lost.
    pub(crate) async fn push(&self, to: &ExecutorRecord, message: &Message) {
        let Some(connection) = &to.connection else {
            return;
        };
        let text = match message.text.len() > PUSHED_WHOLE {
            true => shortened(&message.text),
            false => message.text.clone(),
        };
        match self.ports.sockets.push(connection, &text).await {
            Ok(Pushed::Sent) => {}
            Ok(Pushed::TooLarge) => {
                tracing::warn!(executor = %to.executor, "a message is too large for a socket");
            }
            Ok(Pushed::Gone) => {
                let now = self.ports.now();
                if let Err(error) = self.ports.executors.disconnect(connection, now).await {
                    tracing::warn!(executor = %to.executor, "a closed socket could not be noted: {error}");
                }
            }
            Err(error) => {
                tracing::warn!(executor = %to.executor, "a message could not be pushed: {error}");
            }
        }
    }

    /// Sends a text over a socket: an acknowledgement, or a refusal. Nobody waits for it.
    pub async fn say(&self, connection: &str, text: &str) {
        if let Err(error) = self.ports.sockets.push(connection, text).await {
            tracing::warn!(connection, "an answer could not be pushed: {error}");
        }
    }

    /// Pushes everything that waits for an executor and was put before `older_than`.
    ///
    /// # Errors
    /// If the messages cannot be read.
    pub async fn push_all(&self, to: &ExecutorRecord, older_than: Timestamp) -> Result<(), Error> {
        if to.connection.is_none() {
            return Ok(());
        }
        let waiting = self.waiting(&to.workspace, &to.executor).await?;
        for message in waiting.iter().filter(|it| it.at <= older_than) {
            self.push(to, message).await;
        }
        Ok(())
    }

    /// The time before which a message must have been put to be pushed again.
    pub(crate) fn overdue(now: Timestamp) -> Timestamp {
        let again = u64::try_from(AGAIN.as_millis()).unwrap_or(u64::MAX);
        Timestamp(now.0.saturating_sub(again))
    }

    async fn waiting(
        &self,
        workspace: &WorkspaceId,
        id: &ExecutorId,
    ) -> Result<Vec<Message>, Error> {
        self.ports.executors.messages(workspace, id, BATCH).await
    }

    /// The messages that wait for an executor, as its poll gets them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn claim(&self, of: &ExecutorRecord) -> Result<Claimed, Error> {
        let waiting = self.waiting(&of.workspace, &of.executor).await?;
        let read = |message: &Message| serde_json::from_str(&message.text).ok();
        Ok(Claimed {
            messages: waiting.iter().filter_map(read).collect(),
        })
    }

    /// Forgets the messages that an executor has acknowledged by their ids.
    ///
    /// # Errors
    /// If they cannot be deleted.
    pub async fn acknowledge(
        &self,
        workspace: &WorkspaceId,
        id: &ExecutorId,
        ids: &[String],
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut waiting = self.waiting(workspace, id).await?;
        waiting.retain(|it| ids.contains(&it.id));
        self.ports
            .executors
            .acknowledge(workspace, id, &waiting)
            .await
    }
}

/// The message by which an executor is given a mission. `checkpoint`: it had it before.
pub(crate) fn dispatch_message(
    mission: &MissionRecord,
    to: &ExecutorId,
    checkpoint: Option<String>,
    now: Timestamp,
) -> Message {
    let id = format!("{}.dispatch.{}", mission.mission, mission.rev);
    let message = DispatchMessage {
        event: SaysDispatch::Dispatch,
        id: id.clone(),
        seq: Count::of(now.0),
        executor_id: to.clone(),
        mission_id: mission.mission.clone(),
        ts: instant(now),
        data: DispatchData {
            dispatch: Some(mission.dispatch.clone()),
            checkpoint_id: checkpoint,
        },
    };
    Message {
        id,
        at: now,
        text: serde_json::to_string(&message).unwrap_or_default(),
    }
}

/// A message that tells an executor of an event of its mission.
pub(crate) fn event_message(
    mission: &MissionRecord,
    to: &ExecutorId,
    event: &str,
    name: &str,
    data: Value,
    now: Timestamp,
) -> Message {
    let id = format!("{}.{name}", mission.mission);
    let message = json!({
        "event": event,
        "id": id,
        "seq": now.0,
        "executor_id": to,
        "mission_id": mission.mission,
        "ts": instant(now),
        "data": data,
    });
    Message {
        id,
        at: now,
        text: message.to_string(),
    }
}

/// The acknowledgement of a message of an executor.
pub(crate) fn acknowledgement(to: &ExecutorId, id: &str) -> String {
    let message = SocketMessage {
        event: SocketWord::Ack,
        executor_id: to.clone(),
        ids: vec![id.to_owned()],
        id: None,
    };
    serde_json::to_string(&message).unwrap_or_default()
}

/// A dispatch without its body, which the executor then asks for.
fn shortened(text: &str) -> String {
    let mut message: Value = serde_json::from_str(text).unwrap_or_default();
    if let Some(data) = message.get_mut("data").and_then(Value::as_object_mut) {
        data.remove("dispatch");
    }
    message.to_string()
}
