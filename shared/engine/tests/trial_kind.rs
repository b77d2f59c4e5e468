//! A kind of a user's own: one file, and one line in the list of kinds. It grades what was made two steps before and
//! sends it back until it is good; where there is nothing to grade it leaves itself out.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;
use towpath_engine::{
    Action, CallResult, Context, Effect, Event, FailureKind, Instructions, Kind, Outcome,
    OutputRef, Revision, Role, Run, Status, Step, StepIndex, StepSpec, ValidationErrors, Work,
    advance, kinds::BUILT_IN, poll, start,
};

use crate::support::{at, calling, done, job, new_run, plan_of};

#[derive(Debug)]
struct Grader;

#[derive(Default, Serialize, Deserialize)]
struct Grades {
    given: u32,
}

impl Kind for Grader {
    fn name(&self) -> &'static str {
        "grader"
    }

    fn claims(&self, spec: &StepSpec) -> bool {
        spec.agent_kind.as_str() == "grader"
    }

    fn check(&self, spec: &StepSpec, path: &str, errors: &mut ValidationErrors) {
        if spec.runtime.is_none() {
            errors.add(path, "a grader needs a runtime");
        }
    }

    fn work<'a>(&self, spec: &'a StepSpec, _role: Role) -> Option<Work<'a>> {
        spec.runtime.as_ref().map(|runtime| runtime.work())
    }

    fn on_event(&self, cx: &mut Context<'_>, event: Event<'_>) -> Action {
        if cx.step.index.0 < 2 {
            let why = "there is nothing to grade".to_owned();
            return Action::Skip { why };
        }
        let Event::Called(_, result) = event else {
            let deadline = cx.now.plus(cx.spec.budgets.job());
            return Action::Call {
                role: Role::Main,
                deadline,
            };
        };
        let mut grades: Grades = cx.state();
        grades.given += 1;
        cx.set_state(&grades);
        match result {
            CallResult::Done(answer) if answer.output == "good" => Action::Finish(answer.clone()),
            CallResult::Done(_) if grades.given < 4 => Action::GoBack {
                to: StepIndex(cx.step.index.0 - 2),
                revision: Some(Revision {
                    previous: OutputRef {
                        number: 2,
                        bytes: 4,
                        run: None,
                        artifacts: Vec::new(),
                    },
                    feedback: Some("again".to_owned()),
                    comments: Vec::new(),
                }),
            },
            _ => Action::Fail {
                kind: FailureKind::CompanionRejected,
                message: format!("not good after {} grades", grades.given),
                detail: None,
            },
        }
    }

    fn instructions(&self, spec: &StepSpec, _step: &Step, _role: Role) -> Instructions {
        Instructions {
            agent_kind: spec.agent_kind.clone(),
            findings: None,
        }
    }

    fn describe(&self, _spec: &StepSpec, _step: &Step) -> String {
        "grades".to_owned()
    }
}

/// The kinds of a deployment with a grader.
pub(crate) static KINDS: &[&dyn Kind] = &[&Grader, BUILT_IN[0], BUILT_IN[1]];

/// A run with the records of the steps it left, as a store keeps them.
struct Kept {
    run: Run,
    left: Vec<Step>,
}

impl Kept {
    /// Repeats an action with the records it needs, and keeps what it leaves.
    fn act(&mut self, action: impl Fn(&mut Run) -> Outcome) -> Outcome {
        let mut run = self.run.clone();
        for _ in 0..3 {
            let mut tried = run.clone();
            let outcome = action(&mut tried);
            let Outcome::NeedsRecord { step } = outcome else {
                self.run = tried;
                for effect in std::mem::take(&mut self.run.effects) {
                    if let Effect::StepLeft(step) = effect {
                        self.left.retain(|kept| kept.index != step.index);
                        self.left.push(*step);
                    }
                }
                return outcome;
            };
            let record = self.left.iter().find(|kept| kept.index == step).cloned();
            run = run.with_record(step, record);
        }
        panic!("the record was added, and is needed still")
    }

    /// Does the present step's job, which answers this.
    fn work(&mut self, output: &str) -> String {
        self.act(|run| advance(run, at(0)).unwrap());
        let (id, _) = calling(&self.run);
        self.act(|run| poll(run, done(output), at(1)).unwrap());
        id.to_string()
    }
}

#[test]
fn a_grader_that_sends_the_work_back_two_steps_meets_no_old_answer() {
    let plan = plan_of(json!([job("coder"), job("writer"), job("grader")]), KINDS);
    let run = start(new_run(3), plan, at(0)).unwrap();
    let mut kept = Kept {
        run,
        left: Vec::new(),
    };
    let mut ids = BTreeSet::new();
    for grade in ["bad", "worse", "good"] {
        for (step, answer) in ["made", "written", grade].into_iter().enumerate() {
            assert_eq!(kept.run.head.current.0, u16::try_from(step).unwrap());
            assert!(
                kept.run.step.output.is_none(),
                "an output of an older round"
            );
            assert!(ids.insert(kept.work(answer)), "an id was used twice");
        }
        let revision = kept.run.step.revision.as_ref();
        let sent_back = revision.and_then(|revision| revision.feedback.as_deref());
        assert_eq!(sent_back, (grade != "good").then_some("again"));
    }
    assert_eq!(
        (kept.run.head.status, kept.run.head.epoch),
        (Status::Done, 2)
    );
    assert_eq!(
        kept.run.step.attempt, 3,
        "a loop keeps the number of attempts"
    );
}

#[test]
fn a_kind_s_budget_is_its_own() {
    let plan = plan_of(json!([job("coder"), job("writer"), job("grader")]), KINDS);
    let mut kept = Kept {
        run: start(new_run(3), plan, at(0)).unwrap(),
        left: Vec::new(),
    };
    for _ in 0..12 {
        kept.work("bad");
    }
    let failure = kept.run.head.failure.unwrap();
    assert_eq!(failure.message, "not good after 4 grades");
}

#[test]
fn a_step_that_leaves_itself_out_is_done_and_says_why() {
    let mut grader = job("grader");
    grader["requiresApproval"] = json!(true);
    let plan = plan_of(json!([grader, job("writer")]), KINDS);
    let mut run = start(new_run(2), plan, at(0)).unwrap();
    assert_eq!(advance(&mut run, at(1)), Ok(Outcome::Continue));
    let [Effect::Output(output), Effect::StepLeft(left)] = &run.effects[..] else {
        panic!("{:?}", run.effects)
    };
    assert_eq!(output.text, "Skipped: there is nothing to grade");
    assert_eq!(
        left.output.as_ref().unwrap().bytes,
        output.text.len() as u64
    );
    assert!(left.skipped && left.approval.is_none());
    assert_eq!(
        (left.started_at, left.finished_at),
        (Some(at(1)), Some(at(1)))
    );
    assert_eq!(
        (run.head.current, run.head.status),
        (StepIndex(1), Status::Running)
    );
}
