//! The record of a step: what the step does or did, and how often it was tried.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AgentKind, Artifact, Call, JobId, Phase, RunId, StepIndex, Timestamp, Usage};

/// The record of one step of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The step's place in the run.
    pub index: StepIndex,
    /// The kind of agent that the step names.
    pub agent_kind: AgentKind,
    /// The epoch of the run in which the step was last written.
    pub epoch: u32,
    /// The number of calls made for the step, whatever their role.
    pub attempt: u32,
    /// The phase of the step.
    pub phase: Phase,
    /// Whether the step was left out, by its kind's decision.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// The time work on the step began, set once per round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The time the step stopped working and began to wait for a human.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// The time the step's work was done. A human's time to decide does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The step's output, which is stored apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputRef>,
    /// The confidence of the agent in its output, from 0 to 1. Reaches the block with the step's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// The agent's questions and their answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
    /// The approval of the step's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// The changes that the next attempt is to make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// The state of the step's kind; nothing else reads or writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Value>,
    /// The number of times the step's jobs lost their place.
    #[serde(default, skip_serializing_if = "Evictions::is_zero")]
    pub evictions: Evictions,
    /// The looks in a row in which the job's status could not be read.
    #[serde(default, skip_serializing_if = "Unreadable::is_zero")]
    pub unreadable: Unreadable,
    /// Jobs that must be gone before the step's next job starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<JobRef>,
    /// The model that did the work, as far as the agent named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What all calls of the step used together, as far as that is known. Each call counts once, with its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The id of the latest call that the step has left: the job whose log tells what happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_job: Option<JobId>,
}

/// A job and the runtime that has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRef {
    /// The job's id.
    pub job: JobId,
    /// The kind of the runtime that was given the job.
    pub runtime: String,
}

/// The state of a step as clients read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Work has not begun.
    Pending,
    /// Work is under way.
    Working,
    /// The step waits for a human.
    WaitingDecision,
    /// The step is over.
    Done,
}

/// A reference to an output, which is stored under its run, its step and this number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputRef {
    /// The number of the output within its run.
    pub number: u32,
    /// The size of the output in bytes.
    pub bytes: u64,
    /// The run that holds the output, if it is not the run of the record: a retry refers to what the failed run made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The files that the agent left besides the output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
}

/// A question of an agent, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The decision's id within the run.
    pub id: String,
    /// The question.
    pub question: String,
    /// The answers to choose from.
    pub options: Vec<String>,
    /// Whether an answer outside the options is accepted.
    #[serde(default)]
    pub free_text: bool,
    /// The answer that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// The call that asks, where it goes on with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<AskedBy>,
}

/// The call that asks a question, and the question's name there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AskedBy {
    /// The job of the call.
    pub job: JobId,
    /// The id of the question, by which the job's runtime knows it.
    pub question: String,
}

/// A human's verdict on a step's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// The approval's id within the run.
    pub id: String,
    /// The verdict.
    pub status: ApprovalStatus,
    /// The output to be approved; an edited proposal is a newer output.
    pub proposal: OutputRef,
    /// The changes the human asked for, or the reason for the rejection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<String>,
    /// Remarks on parts of the result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<Comment>,
}

/// The verdict of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// No verdict yet.
    Pending,
    /// The result is accepted.
    Approved,
    /// The result is to be made again, with changes.
    ChangesRequested,
    /// The result is refused, and the run ends.
    Rejected,
}

/// A remark on a part of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Comment {
    /// The words that the remark is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quoted_source: Option<String>,
    /// The offset of the first of these words, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_start: Option<u64>,
    /// The offset behind the last of these words, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_end: Option<u64>,
    /// A position in the renderer's own terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor_id: Option<String>,
    /// The remark itself.
    pub body: String,
}

/// The changes that an attempt is to make to the result before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// The output that was sent back.
    pub previous: OutputRef,
    /// The changes in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<String>,
    /// Remarks on parts of the result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<Comment>,
}

/// Counts of the jobs of a step that lost their place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Evictions {
    /// Losses by a crash of what ran the job.
    pub crashes: u32,
    /// Losses that the infrastructure announced.
    pub transient: u32,
}

impl Evictions {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// Looks in a row, a minute or more apart, in which a job's status could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Unreadable {
    /// The number of looks.
    pub looks: u32,
    /// The time of the last look that was counted.
    pub last: Timestamp,
}

impl Unreadable {
    fn is_zero(&self) -> bool {
        self.looks == 0
    }
}

impl Step {
    /// Makes a step that nothing has happened to.
    pub fn pending(index: StepIndex, agent_kind: AgentKind, epoch: u32) -> Self {
        Self {
            index,
            agent_kind,
            epoch,
            attempt: 0,
            phase: Phase::Pending,
            skipped: false,
            started_at: None,
            paused_at: None,
            finished_at: None,
            output: None,
            confidence: None,
            decisions: Vec::new(),
            approval: None,
            revision: None,
            state: None,
            evictions: Evictions::default(),
            unreadable: Unreadable::default(),
            replaces: Vec::new(),
            model: None,
            usage: None,
            last_job: None,
        }
    }

    /// Enters a phase, and remembers the call that it was at.
    pub(crate) fn enter(&mut self, phase: Phase) {
        if let Phase::Calling(call) = std::mem::replace(&mut self.phase, phase) {
            self.last_job = Some(call.id);
        }
    }

    /// Resets the step for another round within its run: a loop keeps the decisions, the eviction counts, the number of
    /// attempts, the usage and the kind's state, and clears everything else.
    #[must_use]
    pub fn again(self, epoch: u32) -> Self {
        Self {
            attempt: self.attempt,
            decisions: self.decisions,
            evictions: self.evictions,
            state: self.state,
            replaces: self.replaces,
            usage: self.usage,
            ..Self::pending(self.index, self.agent_kind, epoch)
        }
    }

    /// Adds what a call of the step used.
    pub(crate) fn meter(&mut self, used: Option<Usage>) {
        if let Some(used) = used {
            self.usage = Some(self.usage.unwrap_or_default().plus(used));
        }
    }

    /// The state of the step as clients read it.
    pub fn state(&self) -> StepState {
        match self.phase {
            Phase::Pending => StepState::Pending,
            Phase::Calling(_) | Phase::Resting(_) => StepState::Working,
            Phase::Asking(_) => StepState::WaitingDecision,
            Phase::Done => StepState::Done,
        }
    }

    /// The call that is under way, or about to start.
    pub fn call(&self) -> Option<&Call> {
        match &self.phase {
            Phase::Calling(call) => Some(call),
            _ => None,
        }
    }

    /// The call that has asked a human, and goes on with the answer.
    pub fn asking_call(&self) -> Option<&Call> {
        match &self.phase {
            Phase::Asking(asked) => asked.call.as_ref(),
            _ => None,
        }
    }

    /// The answer to a question of a job, if a human has given one.
    pub fn answer_to(&self, job: &JobId, question: &str) -> Option<&str> {
        let asked = self.decisions.iter().find(|decision| {
            let by = decision.asked_by.as_ref();
            by.is_some_and(|by| by.job == *job && by.question == question)
        });
        asked?.chosen.as_deref()
    }

    /// Every job that may still be at work for the step, each once: that of the present call, and those that it replaces.
    pub fn live_jobs(&self) -> impl Iterator<Item = JobRef> + '_ {
        let current = self.call().or(self.asking_call()).map(Call::job_ref);
        // A call that was given up, and with it the run, stands in both places.
        let current = current.filter(|job| !self.replaces.contains(job));
        current.into_iter().chain(self.replaces.iter().cloned())
    }

    /// Starts the step's clock, once per round, and ends a pause.
    pub(crate) fn start_clock(&mut self, now: Timestamp) {
        self.started_at.get_or_insert(now);
        self.paused_at = None;
    }

    /// Stops the step's clock while a human is asked.
    pub(crate) fn pause_clock(&mut self, now: Timestamp) {
        self.paused_at.get_or_insert(now);
    }

    /// Ends the step. Time spent waiting for a human does not count.
    pub(crate) fn finish(&mut self, now: Timestamp) {
        self.finished_at
            .get_or_insert(self.paused_at.unwrap_or(now));
        self.paused_at = None;
        self.enter(Phase::Done);
    }
}
