//! What a runtime says of a job.

use serde::{Deserialize, Serialize};
use towpath_engine::{Artifact, CallQuestion, Usage};

/// The state of a job. Most jobs walk through the states in this order; `Terminated` and `Failed` are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// The job was accepted, and nothing is reserved for it yet.
    Queued,
    /// The place of the job is being prepared.
    Provisioning,
    /// The command runs.
    Running,
    /// The job was asked to stop and has not ended yet.
    Stopping,
    /// The job ended. Without an error class it did what it was asked to do.
    Terminated,
    /// The job could not be run, or its command failed.
    Failed,
}

impl JobStatus {
    /// Whether the job is over.
    pub fn is_final(self) -> bool {
        matches!(self, JobStatus::Terminated | JobStatus::Failed)
    }
}

/// One look at a job. The last one, with a final status, says how the job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSnapshot {
    /// The state of the job.
    pub status: JobStatus,
    /// One of the words in [`error_class`], if the job did not end well.
    pub terminal_error_class: Option<String>,
    /// The error class in a sentence for people.
    pub terminal_error_message: Option<String>,
    /// The exit code of the command, if it ran to its end.
    pub exit_code: Option<i32>,
    /// The answer of the command, if the job ended well.
    pub answer: Option<Answer>,
    /// The files that the answer names, if the job ended well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// The end of what the command printed, if it failed: whole lines, several KB at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub printed: Option<String>,
    /// What the job used of models, if it has ended and that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Measurements of a live job, where the runtime has any.
    pub resource_stats: Option<ResourceStats>,
    /// The reason a job is queued, for people, where there is more to say than that its runtime has no room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<Box<str>>,
    /// A question that a live job asks a human. It goes on with the answer, which [`Runtime::answer`] brings.
    ///
    /// [`Runtime::answer`]: crate::Runtime::answer
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Box<CallQuestion>>,
}

impl JobSnapshot {
    /// A snapshot with nothing but a status.
    pub fn of(status: JobStatus) -> Self {
        Self {
            status,
            terminal_error_class: None,
            terminal_error_message: None,
            exit_code: None,
            answer: None,
            artifacts: Vec::new(),
            printed: None,
            usage: None,
            resource_stats: None,
            waits_for: None,
            question: None,
        }
    }

    /// The last snapshot of a job that ended otherwise than well. `class` is one of the words in [`error_class`].
    pub fn ended_badly(class: &str, message: impl Into<String>) -> Self {
        let status = if class == error_class::STOPPED {
            JobStatus::Terminated
        } else {
            JobStatus::Failed
        };
        Self {
            terminal_error_class: Some(class.to_owned()),
            terminal_error_message: Some(message.into()),
            ..Self::of(status)
        }
    }
}

/// The answer of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The text of the file named by `$TOWPATH_OUTPUT`: an agent answer if it is a JSON object, else an output.
    File(String),
    /// All that a command printed that wrote no file. Empty if that was more than an answer may be.
    Stdout(String),
}

/// Measurements of a running job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceStats {
    /// Processor use, in percent of one processor.
    pub cpu_percent: Option<u32>,
    /// Resident memory, in MiB.
    pub memory_mb: Option<u64>,
    /// Bytes received over the network.
    pub network_rx_bytes: Option<u64>,
    /// Bytes sent over the network.
    pub network_tx_bytes: Option<u64>,
}

/// The stable words in [`JobSnapshot::terminal_error_class`]. A runtime uses these and no others.
pub mod error_class {
    /// Every class there is.
    pub const ALL: [&str; 11] = [
        EXIT_CODE,
        SIGNAL,
        START_FAILED,
        CHECKOUT_FAILED,
        PUSH_FAILED,
        ANSWER_REFUSED,
        AGENT_ERROR,
        TIMED_OUT,
        STOPPED,
        EVICTED,
        RECLAIMED,
    ];
    /// The command ran to its end with another exit code than 0.
    pub const EXIT_CODE: &str = "exit_code";
    /// The command was ended by a signal that the runtime did not send.
    pub const SIGNAL: &str = "signal";
    /// The command could not be started at all.
    pub const START_FAILED: &str = "start_failed";
    /// The working copy could not be made. The previous release also used this word for [`PUSH_FAILED`].
    pub const CHECKOUT_FAILED: &str = "checkout_failed";
    /// The command ended well, but what it changed could not be committed or pushed.
    pub const PUSH_FAILED: &str = "push_failed";
    /// The command ended well, but its answer file cannot be used: too large, not UTF-8, not a file.
    pub const ANSWER_REFUSED: &str = "answer_refused";
    /// The agent itself answered with an error.
    pub const AGENT_ERROR: &str = "agent_error";
    /// The job ran longer than it may.
    pub const TIMED_OUT: &str = "timed_out";
    /// The job was stopped on request.
    pub const STOPPED: &str = "stopped";
    /// What ran the job ended without a word: it was killed, or its machine restarted.
    pub const EVICTED: &str = "evicted";
    /// The infrastructure announced that it takes the job's machine back, and then did.
    pub const RECLAIMED: &str = "reclaimed";
}
