//! The kind `gate`: a command looks, a helper fixes what it finds, the command looks again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Context, Findings, Instructions, Kind, Work, in_minutes, read};
use crate::kernel::head::shorten;
use crate::policy::gate_pause;
use crate::{
    Action, CallFailure, CallResult, Event, FailureKind, GateSpec, JobId, Phase, Probe, Role, Step,
    StepSpec, Timestamp, ValidationErrors,
};

/// The exit code by which a probe says that it is too early to say: `EX_TEMPFAIL` of `sysexits.h`.
const TOO_EARLY: i32 = 75;

/// The most bytes of a probe's findings that a step's record keeps.
const FINDINGS_LIMIT: usize = 300;

/// Polls a command until it passes, within a budget of time and of helpers.
#[derive(Debug)]
pub(crate) struct CommandGate;

/// A gate's counters and findings: the state of the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gate {
    /// The number of times its helper was sent.
    pub attempts: u32,
    /// The number of times its helper may be sent.
    pub max_attempts: u32,
    /// The number of looks that came too early, since the gate last had something to wait for.
    pub polls: u32,
    /// The time its polling budget began: when the gate did, or when its helper was last at work.
    pub since: Timestamp,
    /// The failure that the last probe found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// The names of the checks that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failing_checks: Vec<String>,
    /// The job of the probe that found it, whose log has all that it printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<JobId>,
}

/// The gate of a step's record, if the step is one and has begun.
pub fn state(step: &Step) -> Option<Gate> {
    step.state.as_ref().map(|state| read(Some(state)))
}

impl Kind for CommandGate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn claims(&self, spec: &StepSpec) -> bool {
        spec.gate.is_some()
    }

    fn check(&self, spec: &StepSpec, path: &str, errors: &mut ValidationErrors) {
        if let Some(gate) = &spec.gate {
            gate.check(&format!("{path}.gate"), errors);
        }
    }

    fn work<'a>(&self, spec: &'a StepSpec, role: Role) -> Option<Work<'a>> {
        let gate = spec.gate.as_ref()?;
        match role {
            Role::Main => None,
            Role::Probe => {
                let Probe::Command(command) = &gate.probe;
                Some(Work::Command(command))
            }
            Role::Helper => gate.helper.as_ref().map(|helper| helper.runtime.work()),
        }
    }

    fn on_event(&self, cx: &mut Context<'_>, event: Event<'_>) -> Action {
        let Some(spec) = &cx.spec.gate else {
            return broken("the step has no gate");
        };
        let mut gate: Gate = cx.state();
        let action = match event {
            Event::Begin | Event::Answered(_) => begin(cx, spec, &mut gate),
            Event::Called(Role::Probe, result) => looked(cx, spec, &mut gate, result),
            // The helper's own result is ignored: the probe says whether it helped. What it changed must be looked at
            // from the start, and its time was not the gate's, so the polling budget begins anew.
            Event::Called(_, _) => {
                gate.since = cx.now;
                look(spec, &gate)
            }
            Event::Due if spent(spec, &gate, cx.now) => budget_spent(cx, spec, &gate),
            Event::Due => look(spec, &gate),
        };
        cx.set_state(&gate);
        action
    }

    fn instructions(&self, spec: &StepSpec, step: &Step, role: Role) -> Instructions {
        let helper = spec.gate.as_ref().and_then(|gate| gate.helper.as_ref());
        let helper = helper.filter(|_| role == Role::Helper);
        let gate: Gate = read(step.state.as_ref());
        Instructions {
            agent_kind: helper
                .map_or(&spec.agent_kind, |helper| &helper.agent_kind)
                .clone(),
            findings: helper.map(|_| Findings {
                summary: gate.last_failure,
                failing: gate.failing_checks,
                probe: gate.probe,
            }),
        }
    }

    fn describe(&self, spec: &StepSpec, step: &Step) -> String {
        match &step.phase {
            Phase::Calling(call) if call.role == Role::Helper => {
                let helper = spec.gate.as_ref().and_then(|gate| gate.helper.as_ref());
                let kind = helper.map_or("the helper", |helper| helper.agent_kind.as_str());
                let gate: Gate = read(step.state.as_ref());
                format!(
                    "{kind} fixes it, attempt {} of {}",
                    gate.attempts, gate.max_attempts
                )
            }
            Phase::Calling(_) => "its probe looks".to_owned(),
            _ => "waits to look again".to_owned(),
        }
    }
}

fn begin(cx: &Context<'_>, spec: &GateSpec, gate: &mut Gate) -> Action {
    *gate = Gate {
        max_attempts: match spec.helper {
            Some(_) => spec.attempts_of(&cx.spec.agent_kind),
            None => 0,
        },
        since: cx.now,
        ..Gate::default()
    };
    if cx.step.revision.is_some() && spec.helper.is_some() {
        // A human sent the gate's result back: whoever can fix it is the helper, at no cost to its attempts.
        return call_helper(cx);
    }
    look(spec, gate)
}

fn call_helper(cx: &Context<'_>) -> Action {
    Action::Call {
        role: Role::Helper,
        deadline: cx.now.plus(cx.spec.budgets.job()),
    }
}

/// Looks, for as long as the polling budget lasts.
fn look(spec: &GateSpec, gate: &Gate) -> Action {
    Action::Call {
        role: Role::Probe,
        deadline: gate.since.plus(spec.budget()),
    }
}

fn spent(spec: &GateSpec, gate: &Gate, now: Timestamp) -> bool {
    now >= gate.since.plus(spec.budget())
}

fn looked(cx: &Context<'_>, spec: &GateSpec, gate: &mut Gate, result: &CallResult) -> Action {
    match result {
        // A probe's output is a line of a log: its line end is no part of the result.
        CallResult::Done(answer) => Action::Finish(answer.of_probe()),
        CallResult::Failed(failure) if failure.exit_code == Some(TOO_EARLY) => {
            look_later(cx, spec, gate, "it is too early to say")
        }
        CallResult::Failed(failure) if failure.kind == FailureKind::Dispatch => Action::Fail {
            kind: FailureKind::Dispatch,
            message: format!("the probe of the gate {} cannot be run", cx.spec.agent_kind),
            detail: failure.detail.clone().or(Some(failure.message.clone())),
        },
        CallResult::Failed(failure) => fix(cx, gate, failure),
        // The probe could not look; another one may.
        CallResult::Lost(_) => look_later(cx, spec, gate, "the last probe could not look"),
    }
}

/// Rests until the next look, or until the budget ends if that is sooner.
fn look_later(cx: &Context<'_>, spec: &GateSpec, gate: &mut Gate, why: &str) -> Action {
    if spent(spec, gate, cx.now) {
        return budget_spent(cx, spec, gate);
    }
    gate.polls += 1;
    let left = gate.since.plus(spec.budget()).since(cx.now);
    Action::Rest {
        pause: spec.pause(gate.polls).min(left),
        why: format!("{why}; the gate {} looks again", cx.spec.agent_kind),
    }
}

/// Sends the helper, while it has attempts left.
fn fix(cx: &Context<'_>, gate: &mut Gate, failure: &CallFailure) -> Action {
    let printed = failure
        .printed
        .clone()
        .filter(|text| !text.trim().is_empty());
    let summary = printed
        .or_else(|| failure.detail.clone())
        .unwrap_or_else(|| failure.message.clone());
    gate.last_failure = Some(shorten(&summary, FINDINGS_LIMIT));
    gate.failing_checks = Vec::new();
    gate.probe = cx.step.call().map(|call| call.id.clone());
    if gate.attempts < gate.max_attempts {
        gate.attempts += 1;
        gate.polls = 0;
        return call_helper(cx);
    }
    let kind = &cx.spec.agent_kind;
    Action::Fail {
        kind: FailureKind::JobFailed,
        message: match (gate.attempts, gate.max_attempts) {
            (0, 0) => format!("the gate {kind} did not pass, and it has no helper to fix it"),
            (1, _) => format!("the gate {kind} did not pass after 1 attempt of its helper"),
            (n, _) => format!("the gate {kind} did not pass after {n} attempts of its helper"),
        },
        detail: Some(summary),
    }
}

fn budget_spent(cx: &Context<'_>, spec: &GateSpec, gate: &Gate) -> Action {
    Action::Fail {
        kind: FailureKind::Timeout,
        message: format!(
            "the gate {} came to no verdict within its {}",
            cx.spec.agent_kind,
            in_minutes(spec.budget().as_secs() / 60)
        ),
        detail: gate.last_failure.clone(),
    }
}

fn broken(why: &str) -> Action {
    Action::Fail {
        kind: FailureKind::Unknown,
        message: why.to_owned(),
        detail: None,
    }
}

impl GateSpec {
    /// The pause after look number `looks` (from 1): the pipeline's own interval, else from 1 to 5 minutes.
    fn pause(&self, looks: u32) -> Duration {
        match self.interval_minutes {
            Some(minutes) => crate::kernel::minutes(minutes),
            None => gate_pause(looks),
        }
    }
}
