//! The extension of the contract: how an executor gets its missions without being dialled, and how each side knows what the
//! other has.
//!
//! An executor asks for it when it opens its socket, by the query parameter `extensions=towpath.1`. From then on
//!
//! - it is sent `mission.dispatch`, and every message for it has an `id`;
//! - it acknowledges what it has kept, with `executor.ack`; what it has not acknowledged it is sent again, by the same id,
//!   when it connects the next time;
//! - what it sends with an `id` is acknowledged in the same way, or refused with `executor.error`;
//! - it says `executor.ping` at least every 60 seconds while it has nothing else to say.
//!
//! The same messages, except those about sockets, are the answer of `POST /api/v1/executors/{id}/claim`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::messages::present;
use crate::object::only_from_objects;
use crate::words::words;
use crate::{Count, DispatchPayload, ExecutorId, Instant, MissionId};

/// The name of the extension, as it stands in `extensions=`.
pub const EXTENSION: &str = "towpath.1";

words! {
    /// The one word of `event` in [`DispatchMessage`].
    SaysDispatch {
        /// The executor is given a mission.
        Dispatch = "mission.dispatch",
    }
}
words! {
    /// The word of `event` in [`SocketMessage`].
    SocketWord {
        /// The sender has these messages, and they need not be sent again.
        Ack = "executor.ack",
        /// The sender is there.
        Ping = "executor.ping",
    }
}
words! {
    /// The one word of `event` in [`ErrorMessage`].
    SaysError {
        /// A message was refused.
        Error = "executor.error",
    }
}

/// A message by which an executor is given a mission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "dispatch_message")]
pub struct DispatchMessage {
    /// `mission.dispatch`.
    pub event: SaysDispatch,
    /// The identity of the message, to be acknowledged.
    pub id: String,
    /// The number of the message, which rises from one message for the executor to the next.
    pub seq: Count,
    /// The executor that is given the mission.
    pub executor_id: ExecutorId,
    /// The mission.
    pub mission_id: MissionId,
    /// The time of the message.
    pub ts: Instant,
    /// What the executor is asked for.
    pub data: DispatchData,
}

/// What an executor is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "dispatch_data")]
pub struct DispatchData {
    /// The dispatch. Absent from a message over a socket that would be larger than one may be: it is then in the answer of
    /// `POST /api/v1/executors/{id}/claim`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub dispatch: Option<DispatchPayload>,
    /// The place from which the executor is to go on, if it has had the mission before.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub checkpoint_id: Option<String>,
}

/// A message about the socket itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "socket_message")]
pub struct SocketMessage {
    /// `executor.ack` or `executor.ping`.
    pub event: SocketWord,
    /// The executor at the end of the socket.
    pub executor_id: ExecutorId,
    /// The identities of the messages that are acknowledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// The identity of the message: a ping that has one is acknowledged.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub id: Option<String>,
}

/// A message that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "error_message")]
pub struct ErrorMessage {
    /// `executor.error`.
    pub event: SaysError,
    /// The identity of the message that was refused, if it had one.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub id: Option<String>,
    /// The class of the error, a stable word.
    pub code: String,
    /// The error, for people.
    pub message: String,
}

only_from_objects!(DispatchMessage, DispatchData, SocketMessage, ErrorMessage);
