//! Recording a result: what an agent answered becomes the step's result. The same for inline agents, jobs and gates.

use serde::{Deserialize, Serialize};

use super::end::{end_well, fail};
use crate::{
    About, Approval, ApprovalStatus, Artifact, Asked, AskedBy, BlockChange, Call, CallQuestion,
    Decision, Effect, FailureKind, Illegal, Outcome, Output, OutputRef, Phase, PullRequest,
    Question, Run, Timestamp, Usage, resolvers,
};

/// The answer of an agent. Everything but the output is optional, and nothing in it is trusted before it is checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentAnswer {
    /// The text that the agent made.
    pub output: String,
    /// A question that a human must answer before the agent can go on. The output is then dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Question>,
    /// The pull request that the agent opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequest>,
    /// The agent's confidence in its output, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// The model that did the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The files that the agent left besides its output, as paths below its work directory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
}

/// An agent's answer that the records can hold. Only [`AgentAnswer::checked`] makes one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckedAnswer {
    answer: Box<AgentAnswer>,
    /// The artifacts that the answer names, as they were kept.
    kept: Vec<Artifact>,
    usage: Option<Usage>,
}

impl std::ops::Deref for CheckedAnswer {
    type Target = AgentAnswer;
    fn deref(&self) -> &AgentAnswer {
        &self.answer
    }
}

/// Limits, in bytes, on what of an answer goes into the run's records, so that no answer can break them.
const SHORT: usize = 256;
const LONG: usize = 4096;
const OPTIONS: usize = 20;

impl AgentAnswer {
    /// Checks that the records can hold the answer. A confidence outside 0 to 1 is moved to the nearer end, one that is
    /// no number is dropped.
    ///
    /// # Errors
    /// If a part of the answer is too large, or it names artifacts; the text says which.
    pub fn checked(self) -> Result<CheckedAnswer, String> {
        self.checked_with(Vec::new())
    }

    /// Checks that the records can hold the answer, and that the artifacts it names were kept.
    ///
    /// # Errors
    /// If a part of the answer is too large, or an artifact was not kept; the text says which.
    pub fn checked_with(mut self, kept: Vec<Artifact>) -> Result<CheckedAnswer, String> {
        let fits = |what: &str, text: &str, limit: usize| match text.len() {
            bytes if bytes <= limit => Ok(()),
            bytes => Err(format!(
                "the answer's {what} is {bytes} bytes long; at most {limit} are allowed"
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
                    "the answer's question has {} options; at most {OPTIONS} are allowed",
                    asked.options.len()
                ));
            }
        }
        if let Some(request) = &self.pull_request {
            fits("pull request's URL", &request.url, LONG)?;
            let branch = request.branch.as_deref().unwrap_or_default();
            fits("pull request's branch", branch, SHORT)?;
        }
        fits("model", self.model.as_deref().unwrap_or_default(), SHORT)?;
        Artifact::check_all(&kept)?;
        let is_kept = |name: &String| kept.iter().any(|it| it.name == *name);
        if let Some(missing) = self.artifacts.iter().find(|name| !is_kept(name)) {
            let name: String = missing.chars().take(SHORT).collect();
            return Err(format!("the answer's artifact {name:?} was not kept"));
        }
        // A table holds no infinite numbers, and none as small as a double can be.
        self.confidence = self.confidence.filter(|c| !c.is_nan());
        self.confidence = self
            .confidence
            .map(|c| if c < 1e-6 { 0.0 } else { c.min(1.0) });
        Ok(CheckedAnswer {
            answer: Box::new(self),
            kept,
            usage: None,
        })
    }
}

impl CheckedAnswer {
    /// Makes an answer of an output alone.
    pub fn of_output(output: impl Into<String>) -> Self {
        Self {
            answer: Box::new(AgentAnswer {
                output: output.into(),
                ..AgentAnswer::default()
            }),
            kept: Vec::new(),
            usage: None,
        }
    }

    /// The same answer, with what it took to make it.
    #[must_use]
    pub fn with_usage(self, usage: Option<Usage>) -> Self {
        Self { usage, ..self }
    }

    /// What it took to make the answer, where that is known.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The artifacts that the answer names, as they were kept.
    pub fn kept(&self) -> &[Artifact] {
        &self.kept
    }

    /// The answer of a probe: its output, without the end of its last line, and its artifacts.
    pub(crate) fn of_probe(&self) -> Self {
        Self {
            kept: self.kept.clone(),
            ..Self::of_output(self.output.trim_end())
        }
    }
}

/// The number of questions that one step may ask.
const QUESTIONS: usize = 20;

/// Records the result of the present step, and parks the run for its approval where the step says so.
pub(crate) fn record(
    run: &mut Run,
    answer: CheckedAnswer,
    now: Timestamp,
) -> Result<Outcome, Illegal> {
    let AgentAnswer {
        output,
        pull_request,
        confidence,
        model,
        ..
    } = *answer.answer;
    let approve = run.spec()?.requires_approval;
    run.step.model = model.or(run.step.model.take());
    let output = keep(run, output, answer.kept);
    run.step.output = Some(output.clone());
    run.step.revision = None;
    run.step.confidence = confidence;
    if let Some(pull_request) = pull_request {
        run.effects
            .push(Effect::Block(BlockChange::PullRequest(pull_request)));
    }
    if approve {
        return Ok(propose(run, output, now));
    }
    finish(run, now)
}

/// Stores a text, and the files that go with it, as an output of the present step.
pub(crate) fn keep(run: &mut Run, text: String, artifacts: Vec<Artifact>) -> OutputRef {
    let output = OutputRef {
        number: run.head.next_number(),
        bytes: text.len() as u64,
        run: None,
        artifacts: artifacts.clone(),
    };
    run.effects.push(Effect::Output(Output {
        step: run.head.current,
        number: output.number,
        text,
        artifacts,
    }));
    output
}

/// Parks the run on a question of its agent, whose answer leads to another call.
pub(crate) fn ask(run: &mut Run, question: Question, now: Timestamp) -> Result<Outcome, Illegal> {
    ask_for(run, question, None, now)
}

/// Parks the run on a question of a call, which goes on with the answer.
pub(crate) fn ask_for_call(
    run: &mut Run,
    call: Call,
    asked: CallQuestion,
    now: Timestamp,
) -> Result<Outcome, Illegal> {
    let question = Question {
        question: super::head::shorten(&asked.question, LONG),
        options: Vec::new(),
        free_text: true,
    };
    let by = AskedBy {
        job: call.id.clone(),
        question: asked.id,
    };
    ask_for(run, question, Some((call, by)), now)
}

fn ask_for(
    run: &mut Run,
    question: Question,
    by: Option<(Call, AskedBy)>,
    now: Timestamp,
) -> Result<Outcome, Illegal> {
    let (call, asked_by) = by.unzip();
    if run.step.decisions.len() >= QUESTIONS {
        let error = format!("the agent asked more than {QUESTIONS} questions");
        fail(run, FailureKind::Agent, &error, None, now);
        return Ok(Outcome::JobFailed {
            kind: FailureKind::Agent,
            error,
        });
    }
    let Question {
        question,
        options,
        free_text,
    } = question;
    let id = format!("dec-{}", run.head.next_number());
    // An agent that offers nothing to choose from can only be answered in words.
    let free_text = free_text || options.is_empty();
    run.step.decisions.push(Decision {
        id: id.clone(),
        question,
        options,
        free_text,
        chosen: None,
        asked_by,
    });
    Ok(park_for(run, id, About::Decision, call, now))
}

/// Parks the run on a human's approval of the result.
fn propose(run: &mut Run, proposal: OutputRef, now: Timestamp) -> Outcome {
    let id = format!("apr-{}", run.head.next_number());
    run.step.approval = Some(Approval {
        id: id.clone(),
        status: ApprovalStatus::Pending,
        // The step's own reference has the artifacts.
        proposal: OutputRef {
            artifacts: Vec::new(),
            ..proposal
        },
        feedback: None,
        comments: Vec::new(),
    });
    park(run, id, About::Approval, now)
}

pub(crate) fn park(run: &mut Run, subject: String, about: About, now: Timestamp) -> Outcome {
    park_for(run, subject, about, None, now)
}

fn park_for(
    run: &mut Run,
    subject: String,
    about: About,
    call: Option<Call>,
    now: Timestamp,
) -> Outcome {
    run.step.pause_clock(now);
    run.enter(Phase::Asking(Asked {
        subject,
        about,
        since: now,
        call,
    }));
    run.outcome()
}

/// Ends the step, and with the last one the run.
pub(crate) fn finish(run: &mut Run, now: Timestamp) -> Result<Outcome, Illegal> {
    run.step.finish(now);
    let changes = resolvers::after(&run.step);
    run.effects.extend(changes.into_iter().map(Effect::Block));
    leave(run, now)
}

/// Leaves the step out: it is done, with an empty output and no approval.
pub(crate) fn skip(run: &mut Run, why: &str, now: Timestamp) -> Result<Outcome, Illegal> {
    let output = keep(run, format!("Skipped: {why}"), Vec::new());
    run.step.output = Some(output);
    run.step.finish(now);
    leave(run, now)
}

fn leave(run: &mut Run, now: Timestamp) -> Result<Outcome, Illegal> {
    if run.plan.is_final(run.head.current) {
        return Ok(end_well(run, now));
    }
    run.move_on()
}
