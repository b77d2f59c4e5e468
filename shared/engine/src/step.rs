//! A step's record: what it does or did, and how often it was tried.

use serde::{Deserialize, Serialize};

use crate::{AgentKind, JobId, Role, StepIndex, Timestamp};

/// One step of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its place.
    pub index: StepIndex,
    /// What its agent is for.
    pub agent_kind: AgentKind,
    /// The epoch of the run in which it was last written.
    pub epoch: u32,
    /// Raised by each dispatch, whoever it is to; never reset, so that no job id is ever used twice.
    pub attempt: u32,
    /// What it is at.
    pub activity: Activity,
    /// When this attempt at it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it stopped working and began to wait for a human.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// When its work was done: the time of a human's decision does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Its output, kept apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputRef>,
    /// The confidence of the agent in its output, from 0 to 1. Reaches the block when the step ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// What its agent asked, and what was answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
    /// The approval of its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What the next attempt is to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// A gate's counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// How often its jobs were taken away.
    #[serde(default, skip_serializing_if = "Evictions::is_zero")]
    pub evictions: Evictions,
    /// How often in a row its job's status could not be read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: u32,
    /// The model that did the work, as far as it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What a step is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Activity {
    /// Nothing yet.
    Pending,
    /// Its inline agent was asked.
    Inline,
    /// A job works for it.
    Job(Job),
    /// A gate looks, or waits to look again.
    Checking(Checking),
    /// Its agent asked a human.
    Deciding {
        /// What the answer is to.
        decision: String,
    },
    /// A human looks at its result.
    Approving {
        /// What the answer is to.
        approval: String,
    },
    /// It is over.
    Done,
}

impl Activity {
    /// The activity in one word, as it stands in the records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Inline => "inline",
            Self::Job(_) => "job",
            Self::Checking(_) => "checking",
            Self::Deciding { .. } => "deciding",
            Self::Approving { .. } => "approving",
            Self::Done => "done",
        }
    }
}

/// A dispatched job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its identity.
    pub id: JobId,
    /// Who it works for.
    pub role: Role,
    /// When its time is up.
    pub deadline: Timestamp,
}

/// A gate that looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checking {
    /// The probe that is under way; none: it is too early to say, and the next begins when the wait is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<JobId>,
}

/// The state of a step as the outside reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Under way.
    Working,
    /// Waiting for a human.
    WaitingDecision,
    /// Over.
    Done,
}

/// Where an output is kept: under its run, step and this attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputRef {
    /// The attempt that made it.
    pub attempt: u32,
    /// Its size.
    pub bytes: u64,
}

/// A question of an agent, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Its identity within the run.
    pub id: String,
    /// The question.
    pub question: String,
    /// The answers there are.
    pub options: Vec<String>,
    /// Whether an answer outside the options is one too.
    #[serde(default)]
    pub free_text: bool,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
}

/// A human's say on a step's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Its identity within the run.
    pub id: String,
    /// What was said.
    pub status: ApprovalStatus,
    /// The output that is to be approved; an edited proposal is a newer one.
    pub proposal: OutputRef,
    /// What the human asked to be changed, or why it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<String>,
    /// The same, place by place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<Comment>,
}

/// What a human said of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// Nothing yet.
    Pending,
    /// Go on.
    Approved,
    /// Do it again.
    ChangesRequested,
    /// Stop.
    Rejected,
}

/// A remark on a part of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Comment {
    /// The words remarked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quoted_source: Option<String>,
    /// Where they begin, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_start: Option<u64>,
    /// Where they end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_end: Option<u64>,
    /// A place of the renderer's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor_id: Option<String>,
    /// The remark.
    pub body: String,
}

/// What an attempt is to change of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// The output that was sent back.
    pub previous: OutputRef,
    /// What is to be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<String>,
    /// The same, place by place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<Comment>,
}

/// A gate's counters and findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gate {
    /// How often its helper was sent.
    pub attempts: u32,
    /// How often it may be.
    pub max_attempts: u32,
    /// How often it has looked since it last had something to wait for.
    pub polls: u32,
    /// When its polling budget began: when the gate did, or when its helper was last at work.
    pub since: Timestamp,
    /// What the last probe found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// The checks that failed, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failing_checks: Vec<String>,
}

/// How often a step's jobs were taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Evictions {
    /// By a crash of what ran them.
    pub crashes: u32,
    /// By an infrastructure that said so.
    pub transient: u32,
}

impl Evictions {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl Step {
    /// A step that nothing has happened to.
    pub fn pending(index: StepIndex, agent_kind: AgentKind, epoch: u32) -> Self {
        Self {
            index,
            agent_kind,
            epoch,
            attempt: 0,
            activity: Activity::Pending,
            started_at: None,
            paused_at: None,
            finished_at: None,
            output: None,
            confidence: None,
            decisions: Vec::new(),
            approval: None,
            revision: None,
            gate: None,
            evictions: Evictions::default(),
            unreadable: 0,
            model: None,
        }
    }

    /// The same step, to be done again within its run: a loop keeps decisions, eviction counters and the attempt, and
    /// clears everything else.
    #[must_use]
    pub fn again(self, epoch: u32) -> Self {
        Self {
            attempt: self.attempt,
            decisions: self.decisions,
            evictions: self.evictions,
            ..Self::pending(self.index, self.agent_kind, epoch)
        }
    }

    /// The state as the outside reads it.
    pub fn state(&self) -> StepState {
        match self.activity {
            Activity::Pending => StepState::Pending,
            Activity::Inline | Activity::Job(_) | Activity::Checking(_) => StepState::Working,
            Activity::Deciding { .. } | Activity::Approving { .. } => StepState::WaitingDecision,
            Activity::Done => StepState::Done,
        }
    }

    /// Every job that may be at work for the step.
    pub fn live_job(&self) -> Option<&JobId> {
        match &self.activity {
            Activity::Job(job) => Some(&job.id),
            Activity::Checking(checking) => checking.probe.as_ref(),
            _ => None,
        }
    }

    /// Begins the step's clock, once per attempt, and ends a pause.
    pub(crate) fn start_clock(&mut self, now: Timestamp) {
        self.started_at.get_or_insert(now);
        self.paused_at = None;
    }

    /// Stops the clock while a human is asked.
    pub(crate) fn pause_clock(&mut self, now: Timestamp) {
        self.paused_at.get_or_insert(now);
    }

    /// Ends the step. Time spent waiting for a human is not its own.
    pub(crate) fn finish(&mut self, now: Timestamp) {
        self.finished_at
            .get_or_insert(self.paused_at.unwrap_or(now));
        self.paused_at = None;
        self.activity = Activity::Done;
    }
}
