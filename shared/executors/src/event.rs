//! Events: what executors and the deployment tell each other over the WebSocket.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::messages::{TEXT, bounded, present, unique};
use crate::object::only_from_objects;
use crate::validate::read;
use crate::words::words;
use crate::{
    Capability, Count, ExecutorId, Instant, Integer, MissionId, Percent, TransportEndpoints,
};

/// An event with what identifies it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "event_envelope")]
pub struct EventEnvelope {
    /// The type of the event.
    pub event: EventType,
    /// The executor that tells it or is told.
    pub executor_id: ExecutorId,
    /// The id of the mission. Absent from events about executors.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub mission_id: Option<MissionId>,
    /// The time of the event, by the sender's clock.
    pub ts: Instant,
    /// The data of the event, by its type.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub data: Option<Value>,
    /// The identity of the event: the same event told again has the same.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub id: Option<String>,
    /// The number of the event among those of its executor, rising.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub seq: Option<Count>,
}

only_from_objects!(EventEnvelope);

/// Defines the types of events with the data of each.
macro_rules! events {
    ($($(#[$doc:meta])* $name:ident, $word:literal, $data:ident;)*) => {
        words! {
            /// The type of an event.
            #[schemars(rename = "event_type")]
            EventType {
                $($(#[$doc])* $name = $word,)*
            }
        }

        /// The data of an event, by its type.
        #[derive(Clone, Debug, PartialEq)]
        pub enum EventData {
            $($(#[$doc])* $name($data),)*
        }

        impl EventData {
            /// Reads the data of an event of this type.
            ///
            /// # Errors
            /// The field that is wrong, and why.
            pub(crate) fn read(event: EventType, data: &Value) -> Result<Self, String> {
                Ok(match event {
                    $(EventType::$name => Self::$name(read(data, "data")?),)*
                })
            }
        }

        /// Adds the schema of the data of each type of event.
        pub(crate) fn data_schemas(generator: &mut schemars::SchemaGenerator) {
            $(generator.subschema_for::<$data>();)*
        }
    };
}

events! {
    /// An executor has registered.
    ExecutorRegistered, "executor.registered", ExecutorRegistered;
    /// An executor is no longer registered.
    ExecutorDeregistered, "executor.deregistered", ExecutorDeregistered;
    /// An executor has connected, and tells which missions it has.
    ExecutorResync, "executor.resync", ExecutorResync;
    /// The executor has accepted the mission.
    MissionAssigned, "mission.assigned", MissionAssigned;
    /// The executor has begun with the mission.
    MissionStarted, "mission.started", MissionStarted;
    /// The executor tells how far the mission is.
    MissionProgress, "mission.progress", MissionProgress;
    /// The mission needs a human's answer.
    MissionHitlRequired, "mission.hitl_required", MissionHitlRequired;
    /// A human has answered.
    MissionHitlResponded, "mission.hitl_responded", MissionHitlResponded;
    /// The mission has paused.
    MissionPaused, "mission.paused", MissionPaused;
    /// The mission goes on.
    MissionResumed, "mission.resumed", MissionResumed;
    /// The mission has been laid down, to be taken up again.
    MissionSuspended, "mission.suspended", MissionSuspended;
    /// The mission has been taken up again after a restart of its executor.
    MissionReconnected, "mission.reconnected", MissionReconnected;
    /// The mission has ended well.
    MissionCompleted, "mission.completed", MissionCompleted;
    /// The mission has failed.
    MissionFailed, "mission.failed", MissionFailed;
    /// The mission has been ended.
    MissionAborted, "mission.aborted", MissionAborted;
}

impl EventType {
    /// Whether the event is about a mission, and not about an executor.
    pub fn is_of_mission(self) -> bool {
        !matches!(
            self,
            Self::ExecutorRegistered | Self::ExecutorDeregistered | Self::ExecutorResync
        )
    }
}

/// Defines the data of a type of event. Fields in brackets may be left out.
macro_rules! data {
    ($(#[$doc:meta])* $name:ident, $def:literal { $($(#[$attr:meta])* $field:ident: $type:ty,)* } [ $($(#[$oattr:meta])* $optional:ident: $otype:ty,)* ]) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(remote = "Self", deny_unknown_fields)]
        #[schemars(rename = $def)]
        pub struct $name {
            $($(#[$attr])* pub $field: $type,)*
            $(
                $(#[$oattr])*
                #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
                pub $optional: Option<$otype>,
            )*
        }

        only_from_objects!($name);
    };
}

words! {
    /// The one word of `state` in [`MissionAssigned`].
    SaysAssigned {
        /// The mission is `assigned` after the event.
        Assigned = "assigned",
    }
}
words! {
    /// The one word of `state` in [`MissionStarted`] and [`MissionResumed`].
    SaysRunning {
        /// The mission is `running` after the event.
        Running = "running",
    }
}
words! {
    /// The one word of `state` in [`MissionPaused`].
    SaysPaused {
        /// The mission is `paused` after the event.
        Paused = "paused",
    }
}
words! {
    /// The one word of `state` in [`MissionSuspended`].
    SaysSuspended {
        /// The mission is `suspended` after the event.
        Suspended = "suspended",
    }
}
words! {
    /// The one word of `state` in [`MissionCompleted`].
    SaysDone {
        /// The mission is `done` after the event.
        Done = "done",
    }
}
words! {
    /// The one word of `state` in [`MissionFailed`].
    SaysFailed {
        /// The mission is `failed` after the event.
        Failed = "failed",
    }
}
words! {
    /// The one word of `state` in [`MissionAborted`].
    SaysAborted {
        /// The mission is `aborted` after the event.
        Aborted = "aborted",
    }
}
words! {
    /// The reason for which an executor is no longer registered.
    DeregisterReason {
        /// The executor said so.
        GracefulShutdown = "graceful_shutdown",
        /// An operator removed the executor.
        OperatorDeleted = "operator_deleted",
        /// Nothing was heard of the executor for a day.
        Timeout = "timeout",
    }
}
words! {
    /// The state from which a mission goes on.
    ResumedFrom {
        /// The mission was paused by an operator.
        Paused = "paused",
        /// The mission's executor was away.
        Suspended = "suspended",
    }
}
words! {
    /// Who ended a mission.
    AbortedBy {
        /// The mission was ended by an operator.
        Operator = "operator",
        /// The mission was ended by the executor or the deployment.
        System = "system",
    }
}

data! {
    /// The data of `executor.registered`.
    ExecutorRegistered, "data_executor_registered" {
        /// The name of the executor.
        name: String,
        /// The capabilities of the executor.
        #[serde(deserialize_with = "unique")] capabilities: BTreeSet<Capability>,
    } [
        /// The addresses of the executor.
        transport_endpoints: TransportEndpoints,
    ]
}
data! {
    /// The data of `executor.deregistered`.
    ExecutorDeregistered, "data_executor_deregistered" {
        /// The reason for which the executor is no longer registered.
        reason: DeregisterReason,
    } []
}
data! {
    /// The data of `executor.resync`.
    ExecutorResync, "data_executor_resync" {
        /// The missions that the executor has, all that are not over.
        #[serde(deserialize_with = "unique")] owned_mission_ids: BTreeSet<MissionId>,
    } [
        /// The version of the contract that the executor speaks.
        protocol_version: String,
    ]
}
data! {
    /// The data of `mission.assigned`.
    MissionAssigned, "data_mission_assigned" {
        /// The state of the mission after the event.
        state: SaysAssigned,
    } [
        /// The time at which the executor means to begin.
        estimated_start: Instant,
    ]
}
data! {
    /// The data of `mission.started`.
    MissionStarted, "data_mission_started" {
        /// The state of the mission after the event.
        state: SaysRunning,
    } [
        /// The program that does the work.
        agent_runtime: String,
        /// The terminal in which the executor works.
        pty_session_id: String,
    ]
}
data! {
    /// The data of `mission.progress`.
    MissionProgress, "data_mission_progress" {} [
        /// The phase of the work, in a word.
        phase: String,
        /// The round of an agent that works in rounds.
        iteration: Count,
        /// The tokens that were used up to now.
        tokens_used: Count,
        /// The progress, for people.
        summary: String,
        /// The part that is done, in percent.
        pct_complete: Percent,
    ]
}
data! {
    /// The data of `mission.hitl_required`.
    MissionHitlRequired, "data_mission_hitl_required" {
        /// The identity of the question within its mission.
        #[serde(deserialize_with = "bounded::<256, _>")] #[schemars(length(min = 1))] hitl_id: String,
        /// The question, for people.
        #[serde(deserialize_with = "bounded::<TEXT, _>")] #[schemars(length(min = 1))] prompt: String,
    } [
        /// Text that helps a human to answer the question.
        context: String,
        /// The time until which an answer is awaited; then the mission fails.
        expires_at: Instant,
    ]
}
data! {
    /// The data of `mission.hitl_responded`.
    MissionHitlResponded, "data_mission_hitl_responded" {
        /// The identity of the question within its mission.
        #[serde(deserialize_with = "bounded::<256, _>")] #[schemars(length(min = 1))] hitl_id: String,
        /// The answer of the human.
        #[serde(deserialize_with = "bounded::<TEXT, _>")] #[schemars(length(min = 1))] response: String,
    } [
        /// The time of the answer.
        responded_at: Instant,
    ]
}
data! {
    /// The data of `mission.paused`.
    MissionPaused, "data_mission_paused" {
        /// The state of the mission after the event.
        state: SaysPaused,
    } [
        /// The reason for the event, for people.
        reason: String,
    ]
}
data! {
    /// The data of `mission.resumed`.
    MissionResumed, "data_mission_resumed" {
        /// The state of the mission after the event.
        state: SaysRunning,
    } [
        /// The state of the mission before the event.
        resumed_from: ResumedFrom,
        /// The place from which the executor is to go on: told by the deployment.
        checkpoint_id: String,
    ]
}
data! {
    /// The data of `mission.suspended`.
    MissionSuspended, "data_mission_suspended" {
        /// The state of the mission after the event.
        state: SaysSuspended,
        /// The place from which the executor will go on.
        #[serde(deserialize_with = "bounded::<1024, _>")] #[schemars(length(min = 1))] checkpoint_id: String,
    } [
        /// The reason for the event, for people.
        reason: String,
    ]
}
data! {
    /// The data of `mission.reconnected`.
    MissionReconnected, "data_mission_reconnected" {
        /// The place from which the executor goes on.
        checkpoint_id: String,
    } []
}
data! {
    /// The data of `mission.completed`.
    MissionCompleted, "data_mission_completed" {
        /// The state of the mission after the event.
        state: SaysDone,
    } [
        /// The exit code of the agent.
        exit_code: Integer,
        /// The tokens that were used.
        tokens_total: Count,
        /// The result, for people.
        summary: String,
        /// The files that the mission made.
        artifacts: Vec<MissionArtifact>,
    ]
}
data! {
    /// A file that a mission made.
    MissionArtifact, "mission_artifact" {
        /// The path of the file, or another reference to it.
        path: String,
    } [
        /// A description of the file, for people.
        description: String,
    ]
}
data! {
    /// The data of `mission.failed`.
    MissionFailed, "data_mission_failed" {
        /// The state of the mission after the event.
        state: SaysFailed,
        /// The reason, in a word: `timeout`, `exit_nonzero`, `crash` and others.
        #[serde(deserialize_with = "bounded::<256, _>")] #[schemars(length(min = 1))] reason: String,
    } [
        /// The reason, for people.
        error: String,
        /// The exit code of the agent.
        exit_code: Integer,
        /// The tokens that were used.
        tokens_total: Count,
    ]
}
data! {
    /// The data of `mission.aborted`.
    MissionAborted, "data_mission_aborted" {
        /// The state of the mission after the event.
        state: SaysAborted,
    } [
        /// Whoever ended the mission.
        aborted_by: AbortedBy,
        /// The reason for the event, for people.
        reason: String,
    ]
}
