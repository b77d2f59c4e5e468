//! Record: what an agent answered becomes the step's result. The same for inline agents, jobs and passed gates.

use serde::{Deserialize, Serialize};

use super::{Illegal, Run};
use crate::{
    Activity, Approval, ApprovalStatus, Checking, Decision, Ended, FailureKind, Outcome, Output,
    OutputRef, PullRequest, Question, Role, Status, Timestamp,
};

/// What an agent answers. Everything but the output is optional, and nothing of it is trusted further than it is used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentAnswer {
    /// What it made, as text.
    pub output: String,
    /// What it must ask a human before it can go on. The output is then dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Question>,
    /// The pull request it opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequest>,
    /// How sure it is, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// The model that did the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// What of an answer goes into the run's records is bounded, in bytes, so that no answer can break them.
const SHORT: usize = 256;
const LONG: usize = 4096;
const OPTIONS: usize = 20;

impl AgentAnswer {
    /// The answer, if the records can hold it.
    ///
    /// # Errors
    /// What is too much of it.
    pub fn checked(mut self) -> Result<Self, String> {
        let fits = |what: &str, text: &str, limit: usize| match text.len() {
            bytes if bytes <= limit => Ok(()),
            bytes => Err(format!(
                "the answer's {what} is {bytes} bytes, and at most {limit} are kept"
            )),
        };
        if let Some(asked) = &self.decision {
            fits("question", &asked.question, LONG)?;
            asked
                .options
                .iter()
                .try_for_each(|option| fits("option", option, SHORT))?;
            if asked.options.len() > OPTIONS {
                return Err(format!(
                    "the answer's question has more than {OPTIONS} options"
                ));
            }
        }
        if let Some(request) = &self.pull_request {
            fits("pull request's URL", &request.url, LONG)?;
            fits(
                "pull request's branch",
                request.branch.as_deref().unwrap_or_default(),
                SHORT,
            )?;
        }
        fits("model", self.model.as_deref().unwrap_or_default(), SHORT)?;
        // Numbers beyond what a table can hold are none.
        self.confidence = self.confidence.filter(|c| c.is_finite());
        self.confidence = self
            .confidence
            .map(|c| if c < 1e-6 { 0.0 } else { c.min(1.0) });
        Ok(self)
    }
}

/// How often one step may ask before it is said to go round in circles.
const QUESTIONS: usize = 20;

/// Records the answer of the present step's agent. To a terminal run it comes too late.
///
/// # Errors
/// If no agent is at work on the step.
pub fn record(run: &mut Run, answer: AgentAnswer, now: Timestamp) -> Result<Outcome, Illegal> {
    match (run.head.status, &run.step.activity) {
        (Status::Done | Status::Failed, _) => return Ok(Outcome::Noop),
        (Status::Running, Activity::Inline | Activity::Checking(Checking { probe: Some(_) })) => {}
        // A helper's answer is not the step's.
        (Status::Running, Activity::Job(job)) if job.role == Role::Main => {}
        _ => return Err(run.illegal("record a result", "nobody is at work on one")),
    }
    let approve = run.spec()?.requires_approval && !run.plan.is_final(run.head.current);
    run.step.model = answer.model.or(run.step.model.take());
    if answer.decision.is_some() && run.step.decisions.len() >= QUESTIONS {
        return Ok(Outcome::JobFailed {
            kind: FailureKind::Agent,
            error: format!("the agent asked more than {QUESTIONS} questions"),
            detail: None,
        });
    }
    if let Some(question) = answer.decision {
        return Ok(ask(run, question, now));
    }
    let output = OutputRef {
        attempt: run.step.attempt,
        bytes: answer.output.len() as u64,
    };
    run.changes.outputs.push(Output {
        step: run.head.current,
        attempt: output.attempt,
        text: answer.output,
    });
    run.step.output = Some(output.clone());
    run.step.revision = None;
    run.changes.block.pull_request = answer.pull_request;
    run.step.confidence = answer
        .confidence
        .map(|confidence| confidence.clamp(0.0, 1.0));
    if approve {
        return Ok(propose(run, output, now));
    }
    finish(run, now)
}

/// Parks the run on its agent's question.
fn ask(run: &mut Run, question: Question, now: Timestamp) -> Outcome {
    let Question {
        question,
        options,
        free_text,
    } = question;
    let id = format!("dec-{}-{}", run.head.current, run.step.attempt);
    // An agent that offers nothing to choose from can only be answered in words.
    let free_text = free_text || options.is_empty();
    run.step.decisions.push(Decision {
        id: id.clone(),
        question,
        options,
        free_text,
        chosen: None,
    });
    run.step.activity = Activity::Deciding { decision: id };
    run.step.pause_clock(now);
    run.head.status = Status::Blocked;
    run.head.deaths = 0;
    run.outcome()
}

/// Parks the run on a human's approval of the result.
fn propose(run: &mut Run, proposal: OutputRef, now: Timestamp) -> Outcome {
    let id = format!("apr-{}-{}", run.head.current, run.step.attempt);
    run.step.approval = Some(Approval {
        id: id.clone(),
        status: ApprovalStatus::Pending,
        proposal,
        feedback: None,
        comments: Vec::new(),
    });
    run.step.activity = Activity::Approving { approval: id };
    run.step.pause_clock(now);
    run.head.status = Status::Blocked;
    run.head.deaths = 0;
    run.outcome()
}

/// Ends the step, and with the last one the run.
pub(super) fn finish(run: &mut Run, now: Timestamp) -> Result<Outcome, Illegal> {
    run.step.finish(now);
    // Only now: a result that a human sends back says nothing about the block.
    run.changes.block.confidence = run.step.confidence;
    if !run.plan.is_final(run.head.current) {
        run.head.status = Status::Running;
        run.move_on()?;
        return Ok(Outcome::Continue);
    }
    run.head.status = Status::Done;
    run.head.stop = None;
    run.head.finished_at = Some(now);
    run.changes.block.ended = Some(Ended::Done);
    Ok(Outcome::Done)
}
