//! What executors tell.
//!
//! An event counts if it is one of the contract, of the executor itself, about a mission that it has, and legal in the
//! mission's state. The events of one socket may be handled side by side and in any order: an older one that makes a mission
//! pause or go on never undoes a newer one, and an event that is told again changes nothing.

use serde_json::Value;
use sha2::{Digest, Sha256};
use towpath_engine::Timestamp;
use towpath_executors::{
    ErrorMessage, EventData, EventEnvelope, EventType, ExecutorId, ExecutorResync,
    MissionCompleted, MissionFailed, MissionState, SaysError, SocketMessage, SocketWord,
};
use towpath_jobs::{JobSnapshot, JobStatus, error_class};
use towpath_store::{Change, Error, ExecutorRecord, Message, MissionRecord, OpenQuestion};

use crate::delivery::{Delivery, acknowledgement, dispatch_message, event_message};
use crate::missions::Missions;
use crate::operate::{answer_hash, answer_message};
use crate::view::is_resumable;
use crate::{Ports, RACES, Refused};

/// Takes what executors tell.
#[derive(Clone)]
pub struct Events {
    ports: Ports,
    missions: Missions,
    delivery: Delivery,
}

/// The answer to a message of an executor: to be sent to it, if there is something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The message was taken, and had no id to acknowledge.
    Nothing,
    /// The message was taken.
    Ack(String),
    /// The message was refused.
    Error(String),
}

impl Events {
    pub(crate) fn new(ports: Ports, missions: Missions, delivery: Delivery) -> Self {
        Self {
            ports,
            missions,
            delivery,
        }
    }

    /// Takes a message that came over an executor's socket.
    ///
    /// # Errors
    /// If the records cannot be reached: the executor tells it again.
    pub async fn message(&self, of: &ExecutorRecord, text: &str) -> Result<Reply, Error> {
        let message: Value = match serde_json::from_str(text) {
            Ok(message) => message,
            Err(error) => {
                let why = format!("the message is not JSON: {error}");
                return Ok(refusal(None, "invalid_json", why));
            }
        };
        let id = message.get("id").and_then(Value::as_str);
        let id = id.filter(|id| id.len() <= 256).map(str::to_owned);
        match self.take(of, &message).await {
            Ok(()) => Ok(match id {
                Some(id) => Reply::Ack(acknowledgement(&of.executor, &id)),
                None => Reply::Nothing,
            }),
            Err(Refused::Failed(error)) => Err(error),
            Err(refused) => Ok(refusal(id, refused.code(), refused.to_string())),
        }
    }

    /// Takes a message of an executor.
    ///
    /// # Errors
    /// The reason it does not count.
    pub async fn take(&self, of: &ExecutorRecord, message: &Value) -> Result<(), Refused> {
        let now = self.ports.now();
        let (workspace, id) = (&of.workspace, &of.executor);
        self.ports
            .executors
            .heard(workspace, id, false, now)
            .await?;
        let word = message.get("event").and_then(Value::as_str);
        if matches!(word, Some("executor.ack" | "executor.ping")) {
            return self.about_the_socket(of, message).await;
        }
        let (event, data) = EventEnvelope::read(message).map_err(Refused::Invalid)?;
        if event.executor_id != of.executor {
            return Err(Refused::AnotherExecutor);
        }
        match data {
            EventData::ExecutorResync(resync) => self.resync(of, &resync).await,
            EventData::ExecutorRegistered(_)
            | EventData::ExecutorDeregistered(_)
            | EventData::MissionHitlResponded(_) => Err(Refused::Invalid(format!(
                "event: {} is told by the deployment, not by an executor",
                event.event.as_str()
            ))),
            data => self.of_mission(of, &event, &data).await,
        }
    }

    async fn about_the_socket(&self, of: &ExecutorRecord, message: &Value) -> Result<(), Refused> {
        let read = serde_json::from_value::<SocketMessage>(message.clone());
        let read = read.map_err(|error| Refused::Invalid(error.to_string()))?;
        if read.executor_id != of.executor {
            return Err(Refused::AnotherExecutor);
        }
        match read.event {
            SocketWord::Ping => Ok(()),
            SocketWord::Ack => {
                let acknowledged =
                    self.delivery
                        .acknowledge(&of.workspace, &of.executor, &read.ids);
                Ok(acknowledged.await?)
            }
        }
    }

    /// Takes an event of a mission.
    async fn of_mission(
        &self,
        of: &ExecutorRecord,
        event: &EventEnvelope,
        data: &EventData,
    ) -> Result<(), Refused> {
        let hash = identity(event);
        // Another's mission is told from none by nothing.
        let unknown = || {
            let id = event.mission_id.as_ref().map(ToString::to_string);
            Refused::NotFound(format!(
                "the executor has no mission {}",
                id.unwrap_or_default()
            ))
        };
        for _ in 0..RACES {
            let id = event.mission_id.as_ref().ok_or_else(unknown)?;
            let found = self.ports.missions.get(&of.workspace, id).await?;
            let owned = found.filter(|it| it.executor.as_ref() == Some(&of.executor));
            let mission = owned.ok_or_else(unknown)?;
            let resumable = is_resumable(of);
            let after = mission.state.after(event.event, resumable);
            let after = after.map_err(|illegal| Refused::WrongState(illegal.to_string()))?;
            if mission.state.is_terminal() {
                return Ok(());
            }
            if self
                .ports
                .missions
                .has_event(&mission, event, &hash)
                .await?
            {
                return Ok(());
            }
            let state = match is_stale(&mission, event) {
                true => mission.state,
                false => after,
            };
            if state.is_terminal() {
                self.record_end(&mission, data).await?;
            }
            let mut after = self.changed(&mission, event, data, state);
            let mut change = Change {
                event: Some((event, &hash)),
                ..Change::default()
            };
            if let EventData::MissionHitlRequired(said) = data
                && let Some(message) = self.answered(&mission, &of.executor, &said.hitl_id).await?
            {
                // It asks again what was answered, so the answer is lost: it is sent once more.
                after.state = mission.state;
                after.question.clone_from(&mission.question);
                change.messages.push(message);
            }
            let committed = self.ports.missions.commit(Some(&mission), &after, &change);
            if !committed.await? {
                continue;
            }
            for message in &change.messages {
                self.delivery.push(of, message).await;
            }
            if after.question != mission.question && !state.is_terminal() {
                // A human is asked, or need not answer any more.
                self.missions.tell_run(&mission).await;
            }
            if state.is_terminal() {
                let served = self.missions.serve_queue(of).await;
                // The executor is free now, also for what its run does next.
                self.missions.tell_run(&mission).await;
                served?;
            }
            return Ok(());
        }
        Err(Refused::Busy)
    }

    /// The message with the answer to a question that was answered before.
    async fn answered(
        &self,
        mission: &MissionRecord,
        to: &ExecutorId,
        hitl_id: &str,
    ) -> Result<Option<Message>, Error> {
        let hash = answer_hash(hitl_id);
        let answer = self.ports.missions.answer(mission, &hash).await?;
        let now = self.ports.now();
        Ok(answer.map(|response| answer_message(mission, to, hitl_id, &response, now)))
    }

    /// The mission after an event.
    fn changed(
        &self,
        mission: &MissionRecord,
        event: &EventEnvelope,
        data: &EventData,
        state: MissionState,
    ) -> MissionRecord {
        let now = self.ports.now();
        let ordered = is_ordered(event.event);
        let told_at = match (ordered, mission.told_at) {
            (true, told) => Some(told.unwrap_or_default().max(Timestamp(event.ts.as_ms()))),
            (false, told) => told,
        };
        let mut after = MissionRecord {
            state,
            told_at,
            rev: mission.rev + 1,
            updated_at: now,
            completed_at: state.is_terminal().then_some(now),
            ..mission.clone()
        };
        match data {
            EventData::MissionStarted(said) => {
                after.pty = said.pty_session_id.clone().or(after.pty);
            }
            EventData::MissionProgress(said) => {
                after.percent = said.pct_complete.map(Into::into).or(after.percent);
            }
            EventData::MissionHitlRequired(said) if state == MissionState::HitlRequired => {
                after.question = Some(OpenQuestion {
                    hitl_id: said.hitl_id.clone(),
                    prompt: said.prompt.clone(),
                    context: said.context.clone(),
                    until: said.expires_at.as_ref().map(|it| Timestamp(it.as_ms())),
                });
            }
            EventData::MissionSuspended(said) => {
                after.checkpoint = Some(said.checkpoint_id.clone());
            }
            EventData::MissionCompleted(said) => {
                after.exit_code = said.exit_code.map(Into::into);
            }
            EventData::MissionFailed(said) => {
                after.exit_code = said.exit_code.map(Into::into);
                after.error = Some(failure(said));
            }
            EventData::MissionAborted(said) => after.error = said.reason.clone(),
            _ => {}
        }
        // An executor that was away is still to be answered; one that goes on by itself is not.
        let goes_on = matches!(
            data,
            EventData::MissionStarted(_) | EventData::MissionResumed(_)
        );
        if state.is_terminal() || (goes_on && state != mission.state) {
            after.question = None;
        }
        after
    }

    /// Records the end of the mission's job, as the executor tells it.
    async fn record_end(&self, mission: &MissionRecord, data: &EventData) -> Result<(), Error> {
        let Some(job) = &mission.job else {
            return Ok(());
        };
        let end = match data {
            EventData::MissionCompleted(said) => {
                let record = self.ports.jobs.get(job).await?;
                let open = record.is_some_and(|it| it.answer.is_none() && it.end.is_none());
                if open {
                    let text = output(said);
                    self.ports.jobs.keep_answer(job, &text, true).await?;
                }
                JobSnapshot {
                    exit_code: said.exit_code.and_then(|it| i32::try_from(it.get()).ok()),
                    ..JobSnapshot::of(JobStatus::Terminated)
                }
            }
            EventData::MissionFailed(said) => {
                let class = match &*said.reason {
                    "timeout" => error_class::TIMED_OUT,
                    _ => error_class::AGENT_ERROR,
                };
                JobSnapshot {
                    exit_code: said.exit_code.and_then(|it| i32::try_from(it.get()).ok()),
                    ..JobSnapshot::ended_badly(class, failure(said))
                }
            }
            EventData::MissionAborted(said) => {
                let reason = said.reason.clone();
                let reason = reason.unwrap_or_else(|| "the mission was ended".to_owned());
                JobSnapshot::ended_badly(error_class::STOPPED, reason)
            }
            _ => return Ok(()),
        };
        self.missions.record_end(mission, &end).await
    }

    /// Holds what an executor has against what it should have: it is sent what it missed, and what it lost is lost.
    async fn resync(&self, of: &ExecutorRecord, said: &ExecutorResync) -> Result<(), Refused> {
        let mut record = of.clone();
        let found = self
            .ports
            .executors
            .get(&of.workspace, &of.executor)
            .await?;
        if let Some(found) = found {
            record = found;
        }
        // What was put before and not acknowledged is on its way to it anyway.
        self.delivery.push_all(&record, self.ports.now()).await?;
        let waiting = self.delivery.claim(&record).await?.messages;
        let dispatched = |id: &str| {
            waiting.iter().any(|message| {
                message.get("event").and_then(Value::as_str) == Some("mission.dispatch")
                    && message.get("mission_id").and_then(Value::as_str) == Some(id)
            })
        };
        let owned: Vec<&str> = said
            .owned_mission_ids
            .iter()
            .map(|it| it.as_str())
            .collect();
        for id in &record.missions {
            if !owned.contains(&id.as_str()) && !dispatched(id) {
                self.missed(&record, id).await?;
            }
        }
        for id in owned.iter().filter(|id| !record.missions.contains(**id)) {
            self.not_its_own(&record, id).await?;
        }
        Ok(self.missions.serve_queue(&record).await?)
    }

    /// An executor that keeps its missions is given one again that it does not have; another has lost it.
    async fn missed(&self, of: &ExecutorRecord, id: &str) -> Result<(), Refused> {
        let Ok(mut mission) = self.missions.get(&of.workspace, id).await else {
            return Ok(());
        };
        if !is_resumable(of) {
            let why = "its executor came back without it";
            return Ok(self.missions.lose(&mission, why).await?);
        }
        for _ in 0..RACES {
            if mission.state.is_terminal() {
                return Ok(());
            }
            let now = self.ports.now();
            let mut after = MissionRecord {
                state: MissionState::Assigned,
                question: None,
                rev: mission.rev + 1,
                updated_at: now,
                ..mission.clone()
            };
            let checkpoint = mission.checkpoint.clone();
            let message = dispatch_message(&after, &of.executor, checkpoint, now);
            after.dispatched_as = Some(message.key());
            let change = Change {
                messages: vec![message.clone()],
                ..Change::default()
            };
            let committed = self.ports.missions.commit(Some(&mission), &after, &change);
            if committed.await? {
                self.delivery.push(of, &message).await;
                return Ok(());
            }
            mission = self.missions.again(&mission).await?;
        }
        Err(Refused::Busy)
    }

    /// An executor is told to end a mission that is over, or never was its own.
    async fn not_its_own(&self, of: &ExecutorRecord, id: &str) -> Result<(), Refused> {
        let Some(connection) = &of.connection else {
            return Ok(());
        };
        let found = self.missions.get(&of.workspace, id).await;
        let told = match &found {
            Ok(mission) if mission.executor.as_ref() == Some(&of.executor) => mission.clone(),
            _ => return Ok(()),
        };
        let data = serde_json::json!({
            "state": "aborted", "aborted_by": "system", "reason": "the mission is over",
        });
        let now = self.ports.now();
        let message = event_message(&told, &of.executor, "mission.aborted", "over", data, now);
        self.delivery.say(connection, &message.text).await;
        Ok(())
    }
}

/// Whether an event of this type makes a mission pause or go on, so that its place among the others matters.
fn is_ordered(event: EventType) -> bool {
    matches!(
        event,
        EventType::MissionStarted
            | EventType::MissionHitlRequired
            | EventType::MissionPaused
            | EventType::MissionResumed
            | EventType::MissionSuspended
            | EventType::MissionReconnected
    )
}

/// Whether a newer event than this one has made the mission pause or go on.
fn is_stale(mission: &MissionRecord, event: &EventEnvelope) -> bool {
    let told = mission.told_at.unwrap_or_default();
    is_ordered(event.event) && Timestamp(event.ts.as_ms()) < told
}

/// The identity of an event: what its sender says, or the hash of all that it says.
fn identity(event: &EventEnvelope) -> String {
    let text = match &event.id {
        Some(id) => format!("id:{id}"),
        // The fields of an object are in the order of their names.
        None => serde_json::to_value(event).unwrap_or_default().to_string(),
    };
    let hash = Sha256::digest(text.as_bytes());
    hash.iter().take(16).map(|it| format!("{it:02x}")).collect()
}

/// The output of a mission that was completed: what it says of itself, with the files that it lists.
fn output(said: &MissionCompleted) -> String {
    let mut text = said.summary.clone().unwrap_or_default();
    let files = said.artifacts.iter().flatten();
    let files: Vec<_> = files
        .map(|it| match &it.description {
            Some(description) => format!("- {}: {description}", it.path),
            None => format!("- {}", it.path),
        })
        .collect();
    if !files.is_empty() {
        let gap = if text.is_empty() { "" } else { "\n\n" };
        text = format!("{text}{gap}Files:\n{}", files.join("\n"));
    }
    text
}

/// A failure in words for people.
fn failure(said: &MissionFailed) -> String {
    let text = match &said.error {
        Some(error) => format!("{error} ({})", said.reason),
        None => format!("the executor says: {}", said.reason),
    };
    towpath_jobs::last_lines(text.as_bytes(), 4 * 1024)
}

fn refusal(id: Option<String>, code: &str, message: String) -> Reply {
    let message = ErrorMessage {
        event: SaysError::Error,
        id,
        code: code.to_owned(),
        message,
    };
    Reply::Error(serde_json::to_string(&message).unwrap_or_default())
}
