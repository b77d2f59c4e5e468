//! The messages over HTTP.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::object::only_from_objects;
use crate::{
    Capability, Count, EventEnvelope, ExecutorId, Instant, Integer, MissionId, MissionState,
    SpecVersion,
};

/// The body of `POST /api/v1/executors/register`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "register_payload")]
pub struct RegisterPayload {
    /// The identity of the executor.
    pub executor_id: ExecutorId,
    /// The name of the executor, for people.
    #[schemars(length(min = 1, max = 128))]
    #[serde(deserialize_with = "bounded::<128, _>")]
    pub name: String,
    /// The version of the executor's software.
    #[schemars(length(min = 1, max = 64))]
    #[serde(deserialize_with = "bounded::<64, _>")]
    pub version: String,
    /// The version of the contract that the executor speaks.
    pub spec_version: SpecVersion,
    /// The addresses of the executor. They are dialled only where the operator allows it.
    pub transport_endpoints: TransportEndpoints,
    /// The capabilities of the executor.
    #[serde(deserialize_with = "unique")]
    pub capabilities: BTreeSet<Capability>,
    /// The identity of the executor among agents that speak to each other, passed over here.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub a2a_instance_id: Option<String>,
}

/// The addresses of an executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "transport_endpoints")]
pub struct TransportEndpoints {
    /// The base URL of its HTTP API.
    pub rest: String,
    /// The URL of its WebSocket.
    pub ws: String,
    /// The address of its gRPC service, which is not used.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub grpc: Option<String>,
}

/// The answer to a registration.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "register_response")]
pub struct RegisterResponse {
    /// The identity of the executor.
    pub executor_id: ExecutorId,
    /// The token by which the executor is known from now on.
    #[schemars(length(min = 1))]
    pub token: String,
    /// The time of the registration.
    pub registered_at: Instant,
}

/// An executor in `GET /api/v1/executors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "executor_status")]
pub struct ExecutorStatus {
    /// The identity of the executor.
    pub executor_id: ExecutorId,
    /// The name of the executor, for people.
    pub name: String,
    /// The version of the executor's software.
    pub version: String,
    /// The version of the contract that the executor speaks.
    pub spec_version: SpecVersion,
    /// The addresses of the executor.
    pub transport_endpoints: TransportEndpoints,
    /// The capabilities of the executor.
    pub capabilities: BTreeSet<Capability>,
    /// Whether the executor's WebSocket is open.
    pub connected: bool,
    /// The time of the last event of the executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_ts: Option<Instant>,
    /// The number of missions that the executor works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_mission_count: Option<Count>,
    /// The time of the registration.
    pub registered_at: Instant,
    /// The time at which the WebSocket was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnected_at: Option<Instant>,
}

/// The answer to `GET /api/v1/executors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "executors_list_response")]
pub struct ExecutorsListResponse {
    /// The executors of the workspace.
    pub executors: Vec<ExecutorStatus>,
}

/// The demands on the executor of a mission.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "executor_filter")]
pub struct ExecutorFilter {
    /// The executor that alone may have the mission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_id: Option<ExecutorId>,
    /// The capabilities that the executor must have, all of them.
    #[serde(
        default,
        deserialize_with = "unique",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub capabilities: BTreeSet<Capability>,
}

/// The body of `POST /api/v1/sessions/{id}/dispatch`, and what an executor is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "dispatch_payload")]
pub struct DispatchPayload {
    /// The identity of the mission. The same body again is answered as before; another body is refused.
    pub mission_id: MissionId,
    /// The objective of the mission, in words.
    #[schemars(length(min = 1))]
    #[serde(deserialize_with = "bounded::<TEXT, _>")]
    pub objective: String,
    /// The condition under which the mission is completed.
    #[schemars(length(min = 1))]
    #[serde(deserialize_with = "bounded::<TEXT, _>")]
    pub completion: String,
    /// Whether only an executor that is `resumable` may have the mission.
    #[serde(default)]
    pub long_running: bool,
    /// The demands on the executor.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub executor_filter: Option<ExecutorFilter>,
    /// What the caller passes on to the executor.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

/// The answer to a dispatch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "dispatch_response")]
pub struct DispatchResponse {
    /// The identity of the mission.
    pub mission_id: MissionId,
    /// The executor that has the mission; the nil UUID while it is `queued`.
    pub executor_id: ExecutorId,
    /// The state of the mission: `assigned`, or `queued` while no executor fits.
    pub status: MissionState,
    /// The time at which the executor means to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_start: Option<Instant>,
    /// The reasons for the choice of the executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
}

/// The reasons for the choice of an executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "selection")]
pub struct Selection {
    /// The reason for the one that was chosen.
    pub reason: String,
    /// The executors that were not chosen.
    pub rejected: Vec<RejectedExecutor>,
}

/// An executor that was not chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "rejected_executor")]
pub struct RejectedExecutor {
    /// The identity of the executor.
    pub executor_id: ExecutorId,
    /// The reason against the executor, for people.
    pub reason: String,
}

/// The answer to `GET /api/v1/missions/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "mission_status_response")]
pub struct MissionStatusResponse {
    /// The identity of the mission.
    pub mission_id: MissionId,
    /// The executor that has the mission; the nil UUID while it is `queued`.
    pub executor_id: ExecutorId,
    /// The state of the mission.
    pub state: MissionState,
    /// The time at which the mission was made.
    pub created_at: Instant,
    /// The time of the last change.
    pub updated_at: Instant,
    /// The time at which the mission ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Instant>,
    /// The last events of the mission, the oldest first: 50 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_events: Vec<EventEnvelope>,
    /// The terminal in which the executor works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pty_session_ref: Option<String>,
    /// The exit code of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<Integer>,
    /// The reason of a failure, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The reasons for the choice of the executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
}

/// The body of `POST /api/v1/missions/{id}/hitl_response`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "hitl_response_payload")]
pub struct HitlResponsePayload {
    /// The question that is answered.
    #[schemars(length(min = 1))]
    #[serde(deserialize_with = "bounded::<256, _>")]
    pub hitl_id: String,
    /// The answer of the human.
    #[schemars(length(min = 1))]
    #[serde(deserialize_with = "bounded::<TEXT, _>")]
    pub response: String,
}

only_from_objects!(
    RegisterPayload,
    TransportEndpoints,
    RegisterResponse,
    ExecutorStatus,
    ExecutorsListResponse,
    ExecutorFilter,
    DispatchPayload,
    DispatchResponse,
    Selection,
    RejectedExecutor,
    MissionStatusResponse,
    HitlResponsePayload
);

/// The most characters of a text for people.
pub(crate) const TEXT: usize = 256 * 1024;

/// Reads a text of 1 to `MAX` characters.
pub(crate) fn bounded<'de, const MAX: usize, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match (1..=MAX).contains(&text.chars().count()) {
        true => Ok(text),
        false => Err(serde::de::Error::custom(format!(
            "the text has {} characters; from 1 to {MAX} are allowed",
            text.chars().count()
        ))),
    }
}

/// Reads a list without repetitions.
pub(crate) fn unique<'de, T, D>(deserializer: D) -> Result<BTreeSet<T>, D::Error>
where
    T: Deserialize<'de> + Ord,
    D: serde::Deserializer<'de>,
{
    let list = Vec::<T>::deserialize(deserializer)?;
    let count = list.len();
    let set: BTreeSet<T> = list.into_iter().collect();
    match set.len() == count {
        true => Ok(set),
        false => Err(serde::de::Error::custom("an entry of the list is repeated")),
    }
}

/// Reads a field that is there: `null` is not the same as nothing.
pub(crate) fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
