//! Records of missions: what an executor is asked for, who has it, how it stands.
//!
//! Every change of a mission is one transaction, which [`MissionRecords::commit`] makes of the record before and the
//! record after: with the mission go the place that it takes at its executor, its place in the queue, the message that
//! tells the executor, and the event that brought the change. A mission of a run is bound to its job's record: one that is
//! to stop, or over, gets no mission.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use towpath_engine::{JobId, Timestamp, WorkspaceId};
use towpath_executors::{
    DispatchPayload, EventEnvelope, ExecutorId, MissionId, MissionState, Selection,
};
use towpath_table::{Condition, Key, Table, Update, Write, number, string};

use crate::executor_records::{as_json, due_of, message_put};
use crate::form::{Record, put, record, update};
use crate::job_records::{as_text, held};
use crate::{Error, Message, Store, keys};

/// The records of missions. Cheap to clone.
#[derive(Clone)]
pub struct MissionRecords {
    table: Arc<dyn Table>,
}

/// The record of a mission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MissionRecord {
    /// The identity of the mission.
    pub mission: MissionId,
    /// The workspace that owns the mission.
    pub workspace: WorkspaceId,
    /// The number of changes. A change is made under the condition that nobody else has made one.
    pub rev: u64,
    /// The state of the mission.
    pub state: MissionState,
    /// The session that the mission was dispatched in: a run, or a label of the caller's.
    pub session: String,
    /// What the executor is asked for.
    #[serde(with = "as_json")]
    pub dispatch: DispatchPayload,
    /// The job of a run that the mission is. `None`: the mission is a caller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// The executor that has the mission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<ExecutorId>,
    /// The reasons for the choice of the executor.
    #[serde(default, with = "as_text", skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
    /// The sort key of the message that dispatches the mission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatched_as: Option<String>,
    /// The time at which the mission was made.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub updated_at: Timestamp,
    /// The time at which the mission ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// The time of the newest event that made the mission pause or go on, by the executor's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Timestamp>,
    /// The place from which the executor can go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// The terminal in which the executor works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pty: Option<String>,
    /// The exit code of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The reason of a failure, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The part that is done, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// The question to a human that has no answer yet.
    #[serde(default, with = "as_text", skip_serializing_if = "Option::is_none")]
    pub question: Option<OpenQuestion>,
}

impl Record for MissionRecord {
    const OPTIONAL: &'static [&'static str] = &[
        "job",
        "executor",
        "selection",
        "dispatchedAs",
        "completedAt",
        "toldAt",
        "checkpoint",
        "pty",
        "exitCode",
        "error",
        "percent",
        "question",
    ];
}

/// A question of a mission to a human.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenQuestion {
    /// The identity of the question within its mission.
    pub hitl_id: String,
    /// The question, for people.
    pub prompt: String,
    /// Text that helps to answer it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The time until which an answer is awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What goes with a change of a mission.
#[derive(Clone, Debug, Default)]
pub struct Change<'a> {
    /// The event that brought the change. One that is stored already makes the change none.
    pub event: Option<(&'a EventEnvelope, &'a str)>,
    /// The answer to a question of the mission: the hash of the question's id, and the text. A question that has one makes
    /// the change none.
    pub answer: Option<(&'a str, &'a str)>,
    /// The messages for the mission's executor.
    pub messages: Vec<Message>,
    /// The most missions that the executor takes, where the mission is given to it.
    pub most: u64,
}

impl Store {
    /// The records of missions.
    pub fn mission_records(&self) -> MissionRecords {
        MissionRecords {
            table: Arc::clone(&self.executors),
        }
    }
}

impl MissionRecord {
    fn key(&self) -> Key {
        keys::mission(&self.workspace, &self.mission)
    }

    fn queue_key(&self) -> Key {
        let sk = format!("{:013}#{}", self.created_at.0, self.mission);
        Key::new(keys::queue(&self.workspace), sk)
    }

    fn due(&self) -> Option<Timestamp> {
        let question = self.question.as_ref();
        question
            .and_then(|it| it.until)
            .filter(|_| !self.state.is_terminal())
    }
}

/// A row of the queue.
#[derive(Serialize, Deserialize)]
struct Queued {
    mission: MissionId,
}

impl MissionRecords {
    /// A mission of a workspace.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub async fn get(
        &self,
        workspace: &WorkspaceId,
        id: &MissionId,
    ) -> Result<Option<MissionRecord>, Error> {
        let item = self.table.get(&keys::mission(workspace, id)).await?;
        item.map(record).transpose()
    }

    /// The missions of a workspace that wait for an executor, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn queued(
        &self,
        workspace: &WorkspaceId,
        limit: i32,
    ) -> Result<Vec<MissionId>, Error> {
        let queue = keys::queue(workspace);
        let items = self.table.earliest(&queue, ("0", "~"), limit).await?;
        let row = |item| record::<Queued>(item).map(|row| row.mission);
        items.into_iter().map(row).collect()
    }

    /// The last events of a mission, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn events(
        &self,
        mission: &MissionRecord,
        limit: i32,
    ) -> Result<Vec<EventEnvelope>, Error> {
        let key = mission.key();
        let (first, last) = (keys::MISSION_EVENTS, format!("{}~", keys::MISSION_EVENTS));
        let items = self.table.latest(&key.pk, (first, &last), limit).await?;
        let event = |item| record::<StoredEvent>(item).map(|row| row.event);
        let mut events: Vec<_> = items.into_iter().map(event).collect::<Result<_, _>>()?;
        events.reverse();
        Ok(events)
    }

    /// Makes a change of a mission, with all that goes with it. False: the mission, its executor, its job or the queue are
    /// not any more as they were, or the event is stored already: load again and look.
    ///
    /// # Errors
    /// If the records cannot be written.
    pub async fn commit(
        &self,
        before: Option<&MissionRecord>,
        after: &MissionRecord,
        change: &Change<'_>,
    ) -> Result<bool, Error> {
        let mut writes = vec![mission_write(before, after)?];
        let had = before.and_then(|it| it.executor.as_ref());
        match (had, &after.executor) {
            (None, Some(executor)) => {
                let key = keys::executor(&after.workspace, executor);
                let taken = Update::default().insert("missions", after.mission.as_str());
                let room = Condition::FewerThan("missions", change.most);
                let taken = Write::update(key, taken).when(Condition::Present);
                writes.push(taken.when(room));
            }
            (Some(executor), _) if after.state.is_terminal() => {
                let key = keys::executor(&after.workspace, executor);
                let left = Update::default().discard("missions", after.mission.as_str());
                let held = Condition::Holds("missions", after.mission.to_string());
                writes.push(Write::update(key, left).when(held));
            }
            _ => {}
        }
        let waits = |it: &MissionRecord| it.state == MissionState::Queued;
        match (before.is_some_and(waits), waits(after)) {
            (false, true) => {
                let mission = after.mission.clone();
                writes.push(put(after.queue_key(), &Queued { mission })?);
            }
            (true, false) => writes.push(Write::delete(after.queue_key())),
            _ => {}
        }
        if before.is_none()
            && let Some(job) = &after.job
        {
            let bound = Update::default().set("handle", string(&after.mission));
            let mut bound = Write::update(keys::job(job)?, bound).when(Condition::Present);
            for unless in ["stop", "end", "handle"] {
                bound = bound.when(Condition::Lacks(unless));
            }
            writes.push(bound);
        }
        if let Some(executor) = &after.executor {
            for message in &change.messages {
                writes.push(message_put(&after.workspace, executor, message)?);
            }
            // What was never fetched is not begun any more.
            if let Some(sk) = after
                .dispatched_as
                .as_ref()
                .filter(|_| after.state.is_terminal())
            {
                let pk = keys::messages(&after.workspace, executor);
                writes.push(Write::delete(Key::new(pk, sk)));
            }
        }
        if let Some((hash, text)) = change.answer {
            let answer = StoredAnswer {
                answer: text.to_owned(),
            };
            let key = answer_key(after, hash);
            writes.push(put(key, &answer)?.when(Condition::Absent));
        }
        if let Some((event, hash)) = change.event {
            let sk = format!("{}{:013}#{hash}", keys::MISSION_EVENTS, event.ts.as_ms());
            let stored = StoredEvent {
                event: event.clone(),
            };
            writes.push(put(Key::new(after.key().pk, sk), &stored)?.when(Condition::Absent));
        }
        held(self.table.transact(writes).await)
    }

    /// The answer to a question of a mission, by the hash of the question's id.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub async fn answer(
        &self,
        mission: &MissionRecord,
        hash: &str,
    ) -> Result<Option<String>, Error> {
        let item = self.table.get(&answer_key(mission, hash)).await?;
        item.map(|item| record::<StoredAnswer>(item).map(|it| it.answer))
            .transpose()
    }

    /// Whether an event of a mission is stored.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub async fn has_event(
        &self,
        mission: &MissionRecord,
        event: &EventEnvelope,
        hash: &str,
    ) -> Result<bool, Error> {
        let sk = format!("{}{:013}#{hash}", keys::MISSION_EVENTS, event.ts.as_ms());
        let found = self.table.get(&Key::new(mission.key().pk, sk)).await?;
        Ok(found.is_some())
    }
}

#[derive(Serialize, Deserialize)]
struct StoredEvent {
    #[serde(with = "as_json")]
    event: EventEnvelope,
}

#[derive(Serialize, Deserialize)]
struct StoredAnswer {
    answer: String,
}

fn answer_key(mission: &MissionRecord, hash: &str) -> Key {
    Key::new(mission.key().pk, format!("ANSWER#{hash}"))
}

fn mission_write(before: Option<&MissionRecord>, after: &MissionRecord) -> Result<Write, Error> {
    let key = after.key();
    let Some(before) = before else {
        return Ok(put(key, after)?.when(Condition::Absent));
    };
    let changed = update(&key, after)?;
    let changed = match after.due() {
        Some(at) => {
            let Update { set, .. } = due_of(&key, at);
            let set = changed
                .set
                .into_iter()
                .filter(|(name, _)| name != "v")
                .chain(set);
            Update {
                set: set.collect(),
                ..changed
            }
        }
        None => keys::due(changed, &key.pk, None),
    };
    Ok(Write::update(key, changed).when(Condition::Equals("rev", number(before.rev))))
}
