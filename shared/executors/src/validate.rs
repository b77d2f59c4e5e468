//! The validators of the contract: a message is valid if and only if the deployment can read it.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{DispatchPayload, EventData, EventEnvelope, RegisterPayload};

/// The judgement on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Whether the message is one.
    pub valid: bool,
    /// What is wrong with it, led by the field. Empty if nothing is.
    pub errors: Vec<String>,
}

impl Validity {
    fn of<T>(read: Result<T, String>) -> Self {
        let errors: Vec<String> = read.err().into_iter().collect();
        Self {
            valid: errors.is_empty(),
            errors,
        }
    }
}

/// Judges the body of a registration.
pub fn validate_register_payload(message: &Value) -> Validity {
    Validity::of(read::<RegisterPayload>(message, ""))
}

/// Judges a dispatch.
pub fn validate_dispatch_payload(message: &Value) -> Validity {
    Validity::of(read::<DispatchPayload>(message, ""))
}

/// Judges an event, with its data.
pub fn validate_event_envelope(message: &Value) -> Validity {
    Validity::of(EventEnvelope::read(message))
}

impl EventEnvelope {
    /// Reads an event with its data.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub fn read(message: &Value) -> Result<(Self, EventData), String> {
        let envelope: Self = read(message, "")?;
        let of_mission = envelope.event.is_of_mission();
        match (&envelope.mission_id, of_mission) {
            (None, true) => return Err("mission_id: an event of a mission names it".to_owned()),
            (Some(_), false) => {
                return Err("mission_id: an event of an executor names none".to_owned());
            }
            _ => {}
        }
        // What may be left out as a whole is as if nothing in it were said.
        let data = match &envelope.data {
            Some(data) => EventData::read(envelope.event, data)?,
            None => EventData::read(envelope.event, &envelope.event.least())?,
        };
        Ok((envelope, data))
    }
}

impl crate::EventType {
    /// The data of an event that says no more than its type does.
    fn least(self) -> Value {
        let state = match self {
            Self::MissionAssigned => "assigned",
            Self::MissionStarted | Self::MissionResumed => "running",
            Self::MissionPaused => "paused",
            Self::MissionCompleted => "done",
            Self::MissionAborted => "aborted",
            _ => return serde_json::json!({}),
        };
        serde_json::json!({ "state": state })
    }
}

/// Reads a message of the contract.
///
/// # Errors
/// The field that is wrong, and why.
pub fn read_message<T: DeserializeOwned>(message: &Value) -> Result<T, String> {
    read(message, "")
}

/// Reads a message, or the part of one at the path `within`. The error is led by the path of the field that is wrong.
pub(crate) fn read<T: DeserializeOwned>(message: &Value, within: &str) -> Result<T, String> {
    serde_path_to_error::deserialize(message).map_err(|error| {
        let below = error.path().to_string();
        // The path of the whole is a dot.
        let parts = [within, below.trim_matches('.')];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        match &parts[..] {
            [] => error.inner().to_string(),
            parts => format!("{}: {}", parts.join("."), error.inner()),
        }
    })
}
