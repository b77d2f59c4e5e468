//! Answers of humans: to a decision, to an approval.

use serde::Serialize;

use super::record::finish;
use super::{Illegal, Run, end};
use crate::{
    Activity, ApprovalStatus, Audit, Comment, Decision, FailureKind, Outcome, Output, OutputRef,
    Revision, Say, Status, Step, Timestamp,
};

/// What a human says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Reply {
    /// The choice in a decision.
    Choice(String),
    /// The result is good, perhaps in the human's own wording.
    Approve {
        /// The edited proposal.
        proposal: Option<String>,
    },
    /// The result must change.
    RequestChanges {
        /// How.
        feedback: Option<String>,
        /// The same, place by place.
        comments: Vec<Comment>,
    },
    /// The result must not be: the run ends.
    Reject {
        /// Why.
        reason: Option<String>,
    },
}

impl Reply {
    /// What is said, without the words.
    pub fn say(&self) -> Say {
        match self {
            Reply::Choice(_) => Say::Decide,
            Reply::Approve { .. } => Say::Approve,
            Reply::RequestChanges { .. } => Say::RequestChanges,
            Reply::Reject { .. } => Say::Reject,
        }
    }

    /// The words, as the audit shows them. The text of an edited proposal is an output, and kept as such.
    fn words(&self) -> Option<String> {
        let words = match self {
            Reply::Choice(choice) => Some(choice.clone()),
            Reply::Approve { .. } => None,
            Reply::RequestChanges { feedback, comments } => {
                let remarks = comments.iter().map(|comment| comment.body.as_str());
                let words: Vec<_> = feedback.as_deref().into_iter().chain(remarks).collect();
                (!words.is_empty()).then(|| words.join("\n"))
            }
            Reply::Reject { reason } => reason.clone(),
        };
        words.map(|words| crate::run::shorten(&words, 1024))
    }
}

/// Why an answer was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The run waits for something else, or for nothing.
    #[error("the run does not wait for {0}")]
    NotAsked(String),
    /// The answer is not one of those there are.
    #[error("{choice:?} is none of the options: {}", options.join(", "))]
    NotAnOption {
        /// What was chosen.
        choice: String,
        /// What there is to choose from.
        options: Vec<String>,
    },
    /// The answer does not fit the question.
    #[error("{0}")]
    WrongKind(&'static str),
    /// The records contradict each other.
    #[error(transparent)]
    Illegal(#[from] Illegal),
}

/// Takes a human's answer to what the run waits for. Whether this subject was answered before is for the caller to
/// look up in the audit, since the record of a settled question may be gone from the run.
///
/// # Errors
/// If the run does not wait for this answer; nothing has changed then.
pub fn answer(
    run: &mut Run,
    subject: &str,
    reply: &Reply,
    actor: &str,
    now: Timestamp,
) -> Result<Outcome, Refused> {
    let not_asked = || Refused::NotAsked(subject.to_owned());
    if run.head.status != Status::Blocked {
        return Err(not_asked());
    }
    let outcome = match (&run.step.activity, reply) {
        (Activity::Deciding { decision }, _) if decision != subject => return Err(not_asked()),
        (Activity::Approving { approval }, _) if approval != subject => return Err(not_asked()),
        (Activity::Deciding { .. }, Reply::Choice(choice)) => decide(run, subject, choice)?,
        (Activity::Approving { .. }, Reply::Approve { proposal }) => {
            approve(run, proposal.as_deref(), now)?
        }
        (Activity::Approving { .. }, Reply::RequestChanges { feedback, comments }) => {
            request_changes(run, feedback.clone(), comments.clone())?
        }
        (Activity::Approving { .. }, Reply::Reject { reason }) => {
            reject(run, reason.as_deref(), now)
        }
        (Activity::Deciding { .. }, _) => {
            return Err(Refused::WrongKind(
                "this is a decision: answer it with a choice",
            ));
        }
        (Activity::Approving { .. }, _) => {
            return Err(Refused::WrongKind(
                "this is an approval: approve, request changes or reject",
            ));
        }
        _ => return Err(not_asked()),
    };
    run.changes.audit = Some(Audit {
        at: now,
        actor: actor.to_owned(),
        action: reply.say(),
        subject: subject.to_owned(),
        reason: reply.words(),
        digest: None,
    });
    Ok(outcome)
}

/// The step runs again, with the answer.
fn decide(run: &mut Run, subject: &str, choice: &str) -> Result<Outcome, Refused> {
    let asked = |decision: &&mut Decision| decision.id == subject;
    let Some(decision) = run.step.decisions.iter_mut().find(asked) else {
        return Err(run
            .illegal(
                "take an answer",
                "the decision it waits for is not on record",
            )
            .into());
    };
    if !decision.free_text && !decision.options.iter().any(|option| option == choice) {
        return Err(Refused::NotAnOption {
            choice: choice.to_owned(),
            options: decision.options.clone(),
        });
    }
    decision.chosen = Some(choice.to_owned());
    run.step.activity = Activity::Pending;
    run.head.status = Status::Running;
    run.head.deaths = 0;
    Ok(Outcome::Continue)
}

fn approve(run: &mut Run, proposal: Option<&str>, now: Timestamp) -> Result<Outcome, Illegal> {
    settle(run, ApprovalStatus::Approved, None);
    if let Some(text) = proposal {
        run.step.attempt += 1;
        let output = OutputRef {
            attempt: run.step.attempt,
            bytes: text.len() as u64,
        };
        run.changes.outputs.push(Output {
            step: run.head.current,
            attempt: output.attempt,
            text: text.to_owned(),
        });
        run.step.output = Some(output);
    }
    finish(run, now)
}

fn request_changes(
    run: &mut Run,
    feedback: Option<String>,
    comments: Vec<Comment>,
) -> Result<Outcome, Illegal> {
    let previous = run
        .step
        .output
        .clone()
        .ok_or_else(|| run.illegal("take an answer", "what is to be approved has an output"))?;
    run.head.epoch += 1;
    let revision = Some(Revision {
        previous,
        feedback,
        comments,
    });
    run.step = Step {
        revision,
        ..run.step.clone().again(run.head.epoch)
    };
    run.head.status = Status::Running;
    run.head.deaths = 0;
    Ok(Outcome::Continue)
}

fn reject(run: &mut Run, reason: Option<&str>, now: Timestamp) -> Outcome {
    settle(run, ApprovalStatus::Rejected, reason);
    let message = format!("the result of {} was rejected", run.step.agent_kind);
    end::fail(run, FailureKind::Rejected, &message, reason, now)
}

fn settle(run: &mut Run, status: ApprovalStatus, feedback: Option<&str>) {
    if let Some(approval) = run.step.approval.as_mut() {
        approval.status = status;
        approval.feedback = feedback.map(str::to_owned);
    }
}
