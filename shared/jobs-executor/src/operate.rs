//! What operators ask of missions: a pause, a resumption, an end, an answer.
//!
//! A pause and a resumption are requests: the state of the mission changes when its executor says that it did so. An answer
//! counts when it is stored; it is brought to the executor as soon as it can be reached.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use towpath_engine::{Timestamp, WorkspaceId};
use towpath_executors::{
    EventEnvelope, EventType, ExecutorId, HitlResponsePayload, MissionState, Operation,
};
use towpath_store::{Change, Message, MissionRecord};

use crate::delivery::{Delivery, event_message};
use crate::missions::Missions;
use crate::view::instant;
use crate::{Ports, RACES, Refused};

/// The time that a mission has to tidy up when an operator ends it.
const GRACE: Duration = Duration::from_secs(10);

/// Lets operators pause, resume, end and answer missions.
#[derive(Clone)]
pub struct Operator {
    ports: Ports,
    missions: Missions,
    delivery: Delivery,
}

impl Operator {
    pub(crate) fn new(ports: Ports, missions: Missions, delivery: Delivery) -> Self {
        Self {
            ports,
            missions,
            delivery,
        }
    }

    /// Asks for a pause, a resumption or an end of a mission. Returns its state.
    ///
    /// # Errors
    /// [`Refused::WrongState`] if it makes no sense in the mission's state.
    pub async fn operate(
        &self,
        workspace: &WorkspaceId,
        id: &str,
        operation: Operation,
        by: &str,
    ) -> Result<MissionState, Refused> {
        let mission = self.missions.get(workspace, id).await?;
        let allowed = mission.state.allows(operation);
        allowed.map_err(|illegal| Refused::WrongState(illegal.to_string()))?;
        let reason = format!("asked for by {by}");
        let (event, name, data) = match operation {
            Operation::Abort => {
                let ended = self.missions.ask_end(mission, "operator", &reason, GRACE);
                return Ok(ended.await?.state);
            }
            Operation::Pause => (
                "mission.paused",
                "pause",
                json!({ "state": "paused", "reason": reason }),
            ),
            Operation::Resume => {
                let from = match mission.state {
                    MissionState::Suspended => "suspended",
                    _ => "paused",
                };
                let mut data = json!({ "state": "running", "resumed_from": from });
                if let (Some(data), Some(at)) = (data.as_object_mut(), &mission.checkpoint) {
                    data.insert("checkpoint_id".to_owned(), json!(at));
                }
                ("mission.resumed", "resume", data)
            }
        };
        let state = mission.state;
        let told = self.tell(mission, |mission, to| {
            let name = format!("{name}.{}", mission.rev);
            event_message(mission, to, event, &name, data.clone(), self.ports.now())
        });
        told.await?;
        Ok(state)
    }

    /// Puts a message for the mission's executor, and pushes it.
    async fn tell(
        &self,
        mut mission: MissionRecord,
        message: impl Fn(&MissionRecord, &towpath_executors::ExecutorId) -> Message,
    ) -> Result<(), Refused> {
        for _ in 0..RACES {
            let Some(executor) = mission.executor.clone() else {
                let why = "the mission waits for an executor";
                return Err(Refused::WrongState(why.to_owned()));
            };
            let message = message(&mission, &executor);
            let after = MissionRecord {
                rev: mission.rev + 1,
                updated_at: self.ports.now(),
                ..mission.clone()
            };
            let change = Change {
                messages: vec![message.clone()],
                ..Change::default()
            };
            let committed = self.ports.missions.commit(Some(&mission), &after, &change);
            if committed.await? {
                let executor = self
                    .ports
                    .executors
                    .get(&after.workspace, &executor)
                    .await?;
                if let Some(executor) = executor {
                    self.delivery.push(&executor, &message).await;
                }
                return Ok(());
            }
            mission = self.missions.again(&mission).await?;
        }
        Err(Refused::Busy)
    }

    /// Takes a human's answer to a mission's question. The same again is answered as before.
    ///
    /// # Errors
    /// [`Refused::WrongState`] if the mission does not ask this, or was answered differently.
    pub async fn answer(
        &self,
        workspace: &WorkspaceId,
        id: &str,
        answer: &HitlResponsePayload,
    ) -> Result<MissionState, Refused> {
        let mission = self.store_answer(workspace, id, answer).await?;
        // Its run need not ask any more.
        self.missions.tell_run(&mission).await;
        Ok(mission.state)
    }

    /// Takes the answer, and brings it to the executor. Returns the mission as it then is.
    pub(crate) async fn store_answer(
        &self,
        workspace: &WorkspaceId,
        id: &str,
        answer: &HitlResponsePayload,
    ) -> Result<MissionRecord, Refused> {
        let mut mission = self.missions.get(workspace, id).await?;
        for _ in 0..RACES {
            let hash = answer_hash(&answer.hitl_id);
            if let Some(stored) = self.ports.missions.answer(&mission, &hash).await? {
                return match stored == answer.response {
                    true => Ok(mission),
                    false => Err(Refused::WrongState(format!(
                        "the question {} was answered differently before",
                        answer.hitl_id
                    ))),
                };
            }
            let asks = mission.question.as_ref();
            let asks = asks.is_some_and(|it| it.hitl_id == answer.hitl_id);
            let (Some(executor), true) = (mission.executor.clone(), asks) else {
                return Err(Refused::WrongState(format!(
                    "the mission {id} is {} and does not ask {}",
                    mission.state, answer.hitl_id
                )));
            };
            let now = self.ports.now();
            let data = answer_data(&answer.hitl_id, &answer.response, now);
            let event = EventEnvelope {
                event: EventType::MissionHitlResponded,
                executor_id: executor.clone(),
                mission_id: Some(mission.mission.clone()),
                ts: instant(now),
                data: Some(data),
                id: None,
                seq: None,
            };
            let message =
                answer_message(&mission, &executor, &answer.hitl_id, &answer.response, now);
            let state = match mission.state {
                MissionState::HitlRequired => MissionState::Running,
                other => other,
            };
            let after = MissionRecord {
                state,
                question: None,
                rev: mission.rev + 1,
                updated_at: now,
                ..mission.clone()
            };
            let change = Change {
                event: Some((&event, &hash)),
                answer: Some((&hash, &answer.response)),
                messages: vec![message.clone()],
                ..Change::default()
            };
            let committed = self.ports.missions.commit(Some(&mission), &after, &change);
            if committed.await? {
                let executor = self.ports.executors.get(workspace, &executor).await?;
                if let Some(executor) = executor {
                    self.delivery.push(&executor, &message).await;
                }
                return Ok(after);
            }
            mission = self.missions.again(&mission).await?;
        }
        Err(Refused::Busy)
    }
}

/// The message that brings an executor the answer to a question of its mission. The same answer is the same message.
pub(crate) fn answer_message(
    mission: &MissionRecord,
    to: &ExecutorId,
    hitl_id: &str,
    response: &str,
    now: Timestamp,
) -> Message {
    let data = answer_data(hitl_id, response, now);
    let word = EventType::MissionHitlResponded.as_str();
    event_message(mission, to, word, &answer_hash(hitl_id), data, now)
}

fn answer_data(hitl_id: &str, response: &str, now: Timestamp) -> Value {
    json!({ "hitl_id": hitl_id, "response": response, "responded_at": instant(now) })
}

/// The hash under which the answer to a question is stored: a question is answered once.
pub(crate) fn answer_hash(hitl_id: &str) -> String {
    let hash = Sha256::digest(hitl_id.as_bytes());
    hash.iter().take(8).map(|it| format!("{it:02x}")).collect()
}
