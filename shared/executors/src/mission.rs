//! The states of a mission, and which events it takes in which of them.

use crate::EventType;
use crate::words::words;

words! {
    /// The state of a mission, in the order of a mission's life. The last three are terminal.
    #[schemars(rename = "mission_state")]
    MissionState {
        /// No executor fits yet.
        Queued = "queued",
        /// An executor has been given the mission.
        Assigned = "assigned",
        /// The executor works on the mission.
        Running = "running",
        /// An operator made the mission pause.
        Paused = "paused",
        /// The mission waits for a human's answer.
        HitlRequired = "hitl-required",
        /// The executor is away and will go on with the mission.
        Suspended = "suspended",
        /// The mission ended well.
        Done = "done",
        /// The mission failed.
        Failed = "failed",
        /// An operator or the system ended the mission.
        Aborted = "aborted",
    }
}

/// What an operator asks of a mission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A pause.
    Pause,
    /// A resumption after a pause or while the executor was away.
    Resume,
    /// An end, whatever state the mission is in.
    Abort,
}

/// An event or operation that the mission does not take in its state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a mission that is {state} does not take {what}")]
pub struct IllegalTransition {
    /// The state of the mission.
    pub state: MissionState,
    /// The event or operation.
    pub what: &'static str,
}

impl std::fmt::Display for MissionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl MissionState {
    /// Whether the mission is over.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Aborted)
    }

    /// The state after an event of the mission's executor. A repeated event, and any that comes after the end, changes
    /// nothing. `resumable`: the executor keeps missions over its restarts.
    ///
    /// # Errors
    /// If the event is not one that the mission takes in this state.
    pub fn after(self, event: EventType, resumable: bool) -> Result<Self, IllegalTransition> {
        use MissionState::{Assigned, HitlRequired, Paused, Queued, Running, Suspended};
        let illegal = IllegalTransition {
            state: self,
            what: event.as_str(),
        };
        if self.is_terminal() {
            // Late, not wrong: whatever an executor still says, the mission has ended.
            return match event.is_of_mission() {
                true => Ok(self),
                false => Err(illegal),
            };
        }
        Ok(match (event, self) {
            (EventType::MissionAssigned, Queued | Assigned) => Assigned,
            // Said again after it had begun.
            (EventType::MissionAssigned, state) => state,
            (EventType::MissionStarted, Assigned | Running) => Running,
            (EventType::MissionStarted, state @ (Paused | HitlRequired)) => state,
            (EventType::MissionProgress, Assigned) => Running,
            (EventType::MissionProgress, state @ (Running | Paused | HitlRequired)) => state,
            // Events of one socket may be handled side by side: a question may be quicker than the word that work began.
            (EventType::MissionHitlRequired, Assigned | Running | HitlRequired) => HitlRequired,
            (EventType::MissionHitlResponded, HitlRequired) => Running,
            (EventType::MissionPaused, Assigned | Running | Paused) => Paused,
            (EventType::MissionResumed, Running | Paused) => Running,
            (EventType::MissionResumed | EventType::MissionReconnected, Suspended) => Running,
            (EventType::MissionReconnected, Running) => Running,
            (EventType::MissionSuspended, state) if resumable && state != Queued => Suspended,
            // An end is taken from any live state: an executor may be quicker than what it says of itself.
            (EventType::MissionCompleted, _) => Self::Done,
            (EventType::MissionFailed, _) => Self::Failed,
            (EventType::MissionAborted, _) => Self::Aborted,
            _ => return Err(illegal),
        })
    }

    /// Whether an operator may ask this of the mission.
    ///
    /// # Errors
    /// If the operation makes no sense in this state.
    pub fn allows(self, operation: Operation) -> Result<(), IllegalTransition> {
        use MissionState::{Assigned, HitlRequired, Paused, Running, Suspended};
        let (what, allowed) = match operation {
            Operation::Pause => (
                "a pause",
                matches!(self, Assigned | Running | HitlRequired | Paused),
            ),
            Operation::Resume => ("a resumption", matches!(self, Paused | Suspended | Running)),
            Operation::Abort => ("an end", !self.is_terminal()),
        };
        match allowed {
            true => Ok(()),
            false => Err(IllegalTransition { state: self, what }),
        }
    }
}
