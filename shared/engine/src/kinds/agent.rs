//! The kind `agent`: one call, whose answer is the step's result.

use super::{Context, Instructions, Kind, Work, in_minutes};
use crate::{
    Action, Binding, CallFailure, CallResult, Event, FailureKind, Loss, LossCause, Role, Step,
    StepSpec, ValidationErrors,
};

/// Runs the step's agent, and runs it again with the answer after it asked a human.
#[derive(Debug)]
pub(crate) struct Agent;

impl Kind for Agent {
    fn name(&self) -> &'static str {
        "agent"
    }

    fn claims(&self, spec: &StepSpec) -> bool {
        spec.runtime.is_some()
    }

    fn check(&self, spec: &StepSpec, path: &str, errors: &mut ValidationErrors) {
        if let Some(runtime) = &spec.runtime {
            runtime.check(&format!("{path}.runtime"), errors);
        }
    }

    fn work<'a>(&self, spec: &'a StepSpec, role: Role) -> Option<Work<'a>> {
        match (role, &spec.runtime) {
            (Role::Main, Some(runtime)) => Some(runtime.work()),
            _ => None,
        }
    }

    fn on_event(&self, cx: &mut Context<'_>, event: Event<'_>) -> Action {
        match event {
            Event::Begin | Event::Answered(_) | Event::Due => Action::Call {
                role: Role::Main,
                deadline: cx.now.plus(cx.spec.budgets.job()),
            },
            Event::Called(_, CallResult::Done(answer)) => match &answer.decision {
                Some(question) => Action::Ask(question.clone()),
                None => Action::Finish(answer.clone()),
            },
            Event::Called(_, CallResult::Failed(failure)) => failed(failure),
            Event::Called(_, CallResult::Lost(loss)) => lost(cx.spec, loss),
        }
    }

    fn instructions(&self, spec: &StepSpec, _step: &Step, _role: Role) -> Instructions {
        Instructions {
            agent_kind: spec.agent_kind.clone(),
            findings: None,
        }
    }

    fn describe(&self, spec: &StepSpec, _step: &Step) -> String {
        match &spec.runtime {
            Some(Binding::Simulated(_)) => "working".to_owned(),
            Some(Binding::Model(it)) => format!("the model {} works on it", it.model),
            _ => "a job works on it".to_owned(),
        }
    }
}

fn failed(failure: &CallFailure) -> Action {
    Action::Fail {
        kind: failure.kind,
        message: failure.message.clone(),
        detail: failure.detail.clone(),
    }
}

fn lost(spec: &StepSpec, loss: &Loss) -> Action {
    let budget = in_minutes(spec.budgets.job().as_secs() / 60);
    let (kind, message, detail) = match loss.cause {
        LossCause::Crashed | LossCause::Reclaimed => {
            (FailureKind::Evicted, loss.message.clone(), None)
        }
        LossCause::TimedOut => (
            FailureKind::Timeout,
            format!("the job did not end within its {budget} and was stopped"),
            Some(loss.message.clone()),
        ),
        LossCause::Unreadable => (FailureKind::Timeout, loss.message.clone(), None),
        LossCause::Killed | LossCause::Checkout => {
            (FailureKind::JobFailed, loss.message.clone(), None)
        }
    };
    Action::Fail {
        kind,
        message,
        detail,
    }
}
