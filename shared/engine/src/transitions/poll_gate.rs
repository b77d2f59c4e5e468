//! Poll gate: look, let the helper mend, look again.

use std::time::Duration;

use super::{AgentAnswer, Illegal, Run, record};
use crate::{Activity, Checking, FailureKind, Gate, Outcome, Role, Status, Timestamp};

/// What a gate's probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateAnswer {
    /// All is well.
    Passed(String),
    /// The probe is still looking.
    Looking,
    /// It looked, and it is too early to say: look again later.
    Pending,
    /// Something is wrong.
    Failed {
        /// What, in short.
        summary: String,
        /// The names of the checks that failed.
        failing: Vec<String>,
    },
    /// The probe could not look, and another probe may.
    Lost(String),
    /// The probe cannot look, and no other of its kind can.
    Broken(String),
}

/// Begins a probe, if the gate looks and none is under way. The probe is started once this is durable.
///
/// # Errors
/// If the run is at no gate that looks.
pub fn begin_probe(run: &mut Run) -> Result<Outcome, Illegal> {
    match (run.head.status, &run.step.activity) {
        (Status::Done | Status::Failed, _) => Ok(Outcome::Noop),
        (Status::Running, Activity::Checking(Checking { probe: None })) => Ok(run.look()),
        (Status::Running, Activity::Checking(_)) => Ok(run.outcome()),
        _ => Err(run.illegal("begin a probe", "it is at no gate that looks")),
    }
}

/// When a gate looks again: a fallback for gates that nothing wakes, from 1 to 5 minutes apart.
pub fn next_probe(polls: u32, now: Timestamp) -> Timestamp {
    now.plus(Duration::from_secs(60 * u64::from(polls.clamp(1, 5))))
}

/// Folds what the probe found into the run. To a terminal run it comes too late.
///
/// # Errors
/// If the run is at no gate whose probe is under way.
pub fn poll_gate(run: &mut Run, answer: GateAnswer, now: Timestamp) -> Result<Outcome, Illegal> {
    let probe = match (run.head.status, &run.step.activity) {
        (Status::Done | Status::Failed, _) => return Ok(Outcome::Noop),
        (Status::Running, Activity::Checking(Checking { probe: Some(probe) })) => probe.clone(),
        _ => return Err(run.illegal("poll its gate", "no probe is under way")),
    };
    let spent = now.since(gate(run)?.since)
        >= run
            .spec()?
            .gate
            .as_ref()
            .map_or(Duration::ZERO, |gate| gate.budget());
    match answer {
        GateAnswer::Passed(summary) => record(
            run,
            AgentAnswer {
                output: summary,
                ..AgentAnswer::default()
            },
            now,
        ),
        GateAnswer::Failed { summary, failing } => failed(run, summary, failing, now),
        GateAnswer::Broken(why) => Ok(Outcome::JobFailed {
            kind: FailureKind::Dispatch,
            error: format!(
                "the probe of the gate {} cannot be run",
                run.step.agent_kind
            ),
            detail: Some(why),
        }),
        GateAnswer::Looking | GateAnswer::Pending | GateAnswer::Lost(_) if spent => {
            Ok(budget_spent(run))
        }
        GateAnswer::Looking => Ok(run.outcome()),
        GateAnswer::Pending | GateAnswer::Lost(_) => {
            // A lost probe's place may still be taken: see that it is gone before another looks.
            if matches!(answer, GateAnswer::Lost(_)) {
                run.changes.reap.push(probe);
            }
            gate(run)?.polls += 1;
            run.step.activity = Activity::Checking(Checking { probe: None });
            Ok(run.outcome())
        }
    }
}

fn gate(run: &mut Run) -> Result<&mut Gate, Illegal> {
    if run.step.gate.is_none() {
        return Err(run.illegal("poll its gate", "a gate that looks has its counters"));
    }
    Ok(run.step.gate.get_or_insert_default())
}

fn failed(
    run: &mut Run,
    summary: String,
    failing: Vec<String>,
    now: Timestamp,
) -> Result<Outcome, Illegal> {
    let gate = gate(run)?;
    gate.last_failure = Some(crate::run::shorten(&summary, 300));
    gate.failing_checks = failing;
    if gate.attempts < gate.max_attempts {
        gate.attempts += 1;
        gate.polls = 0;
        return run.dispatch(Role::Helper, now);
    }
    let attempts = gate.attempts;
    let kind = &run.step.agent_kind;
    Ok(Outcome::JobFailed {
        kind: FailureKind::JobFailed,
        error: match attempts {
            0 => format!("the gate {kind} did not pass, and it has no helper that could mend it"),
            1 => format!("the gate {kind} did not pass after 1 attempt of its helper"),
            n => format!("the gate {kind} did not pass after {n} attempts of its helper"),
        },
        detail: Some(summary),
    })
}

fn budget_spent(run: &Run) -> Outcome {
    let minutes = run
        .spec()
        .ok()
        .and_then(|spec| spec.gate.as_ref())
        .map_or(0, |gate| gate.budget_minutes);
    Outcome::JobFailed {
        kind: FailureKind::Timeout,
        error: format!(
            "the gate {} came to no verdict within its {minutes} minutes",
            run.step.agent_kind
        ),
        detail: run
            .step
            .gate
            .as_ref()
            .and_then(|gate| gate.last_failure.clone()),
    }
}
