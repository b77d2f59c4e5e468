//! Answers of humans: to an agent's question, to an approval, to whether a run may begin.

use serde::Serialize;

use super::end;
use super::record::{finish, keep};
use super::transition::deliver;
use crate::{
    About, ApprovalStatus, Asked, Audit, AuditAction, Comment, Decision, Effect, Event,
    FailureKind, Illegal, Outcome, Phase, Revision, Run, Status, Step, Timestamp,
};

/// The answer of a human.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Answer {
    /// A choice in a decision.
    Choice(String),
    /// The acceptance of a result, perhaps in the human's own wording.
    Approve {
        /// The edited result.
        proposal: Option<String>,
    },
    /// A request to make the result again, with changes.
    RequestChanges {
        /// The changes in words.
        feedback: Option<String>,
        /// Remarks on parts of the result.
        comments: Vec<Comment>,
    },
    /// The refusal of a result, which ends the run.
    Reject {
        /// The reason.
        reason: Option<String>,
    },
}

impl Answer {
    /// The action that the answer is in the audit.
    pub fn action(&self) -> AuditAction {
        match self {
            Answer::Choice(_) => AuditAction::Decide,
            Answer::Approve { .. } => AuditAction::Approve,
            Answer::RequestChanges { .. } => AuditAction::RequestChanges,
            Answer::Reject { .. } => AuditAction::Reject,
        }
    }

    /// The words as the audit shows them. The text of an edited proposal is an output, and stored as such.
    fn words(&self) -> Option<String> {
        let words = match self {
            Answer::Choice(choice) => Some(choice.clone()),
            Answer::Approve { .. } => None,
            Answer::RequestChanges { feedback, comments } => {
                let remarks = comments.iter().map(|comment| comment.body.as_str());
                let words: Vec<_> = feedback.as_deref().into_iter().chain(remarks).collect();
                (!words.is_empty()).then(|| words.join("\n"))
            }
            Answer::Reject { reason } => reason.clone(),
        };
        words.map(|words| super::head::shorten(&words, 1024))
    }
}

/// The reason an answer was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The run waits for something else, or for nothing.
    #[error("the run does not wait for {0}")]
    NotAsked(String),
    /// The answer is not one of the options.
    #[error("{choice:?} is none of the options: {}", options.join(", "))]
    NotAnOption {
        /// The choice that was made.
        choice: String,
        /// The options there are.
        options: Vec<String>,
    },
    /// The answer does not fit the question.
    #[error("{0}")]
    WrongKind(&'static str),
    /// The records contradict each other.
    #[error(transparent)]
    Illegal(#[from] Illegal),
}

/// Takes a human's answer to what the run waits for. Whether this subject was answered before is for the caller to look
/// up in the audit, since the record of a settled question may be gone from the run.
///
/// # Errors
/// If the run does not wait for this answer. The run is to be dropped then, as after [`Outcome::NeedsRecord`].
pub fn answer(
    run: &mut Run,
    subject: &str,
    answer: &Answer,
    actor: &str,
    now: Timestamp,
) -> Result<Outcome, AnswerError> {
    let not_asked = || AnswerError::NotAsked(subject.to_owned());
    let Asked {
        about, call, since, ..
    } = match (run.head.status, &run.step.phase) {
        (Status::Blocked, Phase::Asking(asked)) if asked.subject == subject => asked.clone(),
        _ => return Err(not_asked()),
    };
    let outcome = match (about, answer) {
        (About::Decision, Answer::Choice(choice)) if let Some(call) = call => {
            choose(run, subject, choice)?;
            run.go_on(call, since, now)
        }
        (About::Decision, Answer::Choice(choice)) => {
            choose(run, subject, choice)?;
            run.step.paused_at = None;
            run.enter(Phase::Pending);
            deliver(run, Event::Answered(answer), now)?
        }
        (About::Approval, Answer::Approve { proposal }) => approve(run, proposal.as_deref(), now)?,
        (About::Approval, Answer::RequestChanges { feedback, comments }) => {
            request_changes(run, feedback.clone(), comments.clone())?
        }
        (About::Start, Answer::Approve { proposal: None }) => {
            choose(run, subject, "approve")?;
            run.step.paused_at = None;
            run.enter(Phase::Pending);
            Outcome::Continue
        }
        (About::Approval | About::Start, Answer::Reject { reason }) => {
            reject(run, about, reason.as_deref(), now)
        }
        (About::Decision, _) => {
            return Err(AnswerError::WrongKind(
                "this is a decision: answer it with a choice",
            ));
        }
        (About::Approval, _) => {
            return Err(AnswerError::WrongKind(
                "this is an approval: approve, request changes or reject",
            ));
        }
        (About::Start, _) => {
            return Err(AnswerError::WrongKind(
                "the run has not begun: approve it, without a proposal, or reject it",
            ));
        }
    };
    run.effects.push(Effect::Audit(Audit {
        at: now,
        actor: actor.to_owned(),
        action: answer.action(),
        subject: subject.to_owned(),
        reason: answer.words(),
        digest: None,
    }));
    Ok(outcome)
}

/// Notes the choice in the decision it answers.
fn choose(run: &mut Run, subject: &str, choice: &str) -> Result<(), AnswerError> {
    let asked = |decision: &&mut Decision| decision.id == subject;
    let Some(decision) = run.step.decisions.iter_mut().find(asked) else {
        let expected = "the decision it waits for is not on record";
        return Err(run.illegal("take an answer", expected).into());
    };
    if !decision.free_text && !decision.options.iter().any(|option| option == choice) {
        return Err(AnswerError::NotAnOption {
            choice: choice.to_owned(),
            options: decision.options.clone(),
        });
    }
    decision.chosen = Some(choice.to_owned());
    Ok(())
}

fn approve(run: &mut Run, proposal: Option<&str>, now: Timestamp) -> Result<Outcome, Illegal> {
    settle(run, ApprovalStatus::Approved, None);
    if let Some(text) = proposal {
        // The text is the human's; the files are as the agent left them.
        let artifacts = run.step.output.take().map(|it| it.artifacts);
        let output = keep(run, text.to_owned(), artifacts.unwrap_or_default());
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
    run.enter(Phase::Pending);
    Ok(Outcome::Continue)
}

fn reject(run: &mut Run, about: About, reason: Option<&str>, now: Timestamp) -> Outcome {
    settle(run, ApprovalStatus::Rejected, reason);
    let message = match about {
        About::Start => "the start of the run was rejected".to_owned(),
        _ => format!("the result of {} was rejected", run.step.agent_kind),
    };
    end::fail(run, FailureKind::Rejected, &message, reason, now)
}

fn settle(run: &mut Run, status: ApprovalStatus, feedback: Option<&str>) {
    if let Some(approval) = run.step.approval.as_mut() {
        approval.status = status;
        approval.feedback = feedback.map(str::to_owned);
    }
}
