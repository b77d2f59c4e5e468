//! What a pipeline may be, and what its author is told.

use serde_json::{Value, json};
use towpath_engine::*;

fn pipeline(steps: Value) -> Pipeline {
    serde_json::from_value(json!({ "id": "p", "steps": steps })).unwrap()
}

/// What is wrong with the pipeline of these steps: path and problem.
fn flaws(steps: Value) -> Vec<(String, String)> {
    let flaws = pipeline(steps).flaws();
    flaws
        .into_iter()
        .map(|flaw| (flaw.path, flaw.problem))
        .collect()
}

fn simulated() -> Value {
    json!({ "kind": "simulated", "output": "x" })
}

fn command(words: &[&str]) -> Value {
    json!({ "kind": "process", "command": words })
}

#[test]
fn a_good_pipeline_has_no_flaws() {
    let steps = json!([
        { "agentKind": "coder", "requiresApproval": true, "runtime": command(&["make"]), "budgets": { "jobMinutes": 10080 } },
        { "agentKind": "ci", "gate": {
            "probe": { "kind": "command", "command": ["make", "test"], "checkout": "read" },
            "helper": { "agentKind": "ci-fixer", "runtime": command(&["fix"]) },
            "attempts": 100, "budgetMinutes": 10080,
        } },
        { "agentKind": "writer", "runtime": { "kind": "simulated", "asks": { "question": "Go?", "options": ["yes", "no"] } } },
    ]);
    assert_eq!(flaws(steps), []);
}

#[test]
fn each_flaw_is_told_with_its_place() {
    let gate = |extra: Value| {
        let mut gate = json!({ "probe": { "kind": "command", "command": ["look"] } });
        gate.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({ "agentKind": "ci", "gate": gate })
    };
    let runs = |runtime: Value| json!({ "agentKind": "coder", "runtime": runtime });
    for (step, path, words) in [
        (
            json!({ "agentKind": "coder" }),
            "steps[0]",
            "no runtime is known for the agent kind `coder`",
        ),
        (
            json!({ "agentKind": "ci" }),
            "steps[0]",
            "the gate `ci` needs a `gate`",
        ),
        (
            json!({ "agentKind": "ci", "runtime": simulated(), "gate": gate(json!({}))["gate"] }),
            "steps[0]",
            "not both",
        ),
        (
            runs(command(&[])),
            "steps[0].runtime.command",
            "needs a program",
        ),
        (
            runs(command(&[""])),
            "steps[0].runtime.command",
            "needs a program",
        ),
        (runs(command(&["a\0b"])), "steps[0].runtime.command", "NUL"),
        (
            runs(json!({ "kind": "process", "command": ["a"], "env": { "TOWPATH_RUN": "x" } })),
            "steps[0].runtime.env.TOWPATH_RUN",
            "the engine's own",
        ),
        (
            runs(json!({ "kind": "process", "command": ["a"], "env": { "A=B": "x" } })),
            "steps[0].runtime.env",
            "no `=`",
        ),
        (
            runs(json!({ "kind": "simulated", "asks": { "question": "?" } })),
            "steps[0].runtime.asks.options",
            "at least one option",
        ),
        (
            runs(
                json!({ "kind": "simulated", "asks": { "question": "?", "options": ["a", "a"] } }),
            ),
            "steps[0].runtime.asks.options",
            "stands once",
        ),
        (
            json!({ "agentKind": "coder", "runtime": simulated(), "budgets": { "jobMinutes": 0 } }),
            "steps[0].budgets.jobMinutes",
            "from 1 minute",
        ),
        (
            json!({ "agentKind": "coder", "runtime": simulated(), "budgets": { "jobMinutes": 10081 } }),
            "steps[0].budgets.jobMinutes",
            "to 7 days",
        ),
        (
            gate(json!({ "probe": { "kind": "command", "command": ["a"], "checkout": "write" } })),
            "steps[0].gate.probe.checkout",
            "changes nothing",
        ),
        (
            gate(json!({ "probe": { "kind": "command", "command": [] } })),
            "steps[0].gate.probe.command",
            "a program",
        ),
        (
            gate(json!({ "helper": { "agentKind": "fixer", "runtime": simulated() } })),
            "steps[0].gate.helper.runtime",
            "kind `process`",
        ),
        (
            gate(json!({ "attempts": 101 })),
            "steps[0].gate.attempts",
            "at most 100",
        ),
        (
            gate(json!({ "budgetMinutes": 0 })),
            "steps[0].gate.budgetMinutes",
            "from 1 minute",
        ),
        (
            gate(json!({ "budgetMinutes": 10081 })),
            "steps[0].gate.budgetMinutes",
            "to 7 days",
        ),
    ] {
        let found = flaws(json!([step]));
        let [(at, problem)] = &found[..] else {
            panic!("{step}: {found:?}")
        };
        assert_eq!(at, path, "{step}");
        assert!(problem.contains(words), "{step}: {problem}");
    }
}

#[test]
fn all_flaws_are_told_at_once() {
    let bad = json!({ "agentKind": "coder" });
    let found = flaws(json!([bad, { "agentKind": "a", "runtime": simulated() }, bad]));
    let places: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(places, ["steps[0]", "steps[2]"]);
}

#[test]
fn a_pipeline_has_from_one_to_five_hundred_steps() {
    let step = json!({ "agentKind": "a", "runtime": simulated() });
    let off = json!({ "agentKind": "a", "enabled": false, "runtime": simulated() });
    assert_eq!(flaws(json!([]))[0].0, "steps");
    assert!(
        flaws(json!([off]))[0]
            .1
            .contains("at least one enabled step")
    );
    assert_eq!(flaws(json!(vec![step.clone(); 500])), []);
    assert!(flaws(json!(vec![step; 501]))[0].1.contains("at most 500"));
}

#[test]
fn a_step_that_is_not_enabled_is_part_of_no_run() {
    let step =
        |kind, enabled| json!({ "agentKind": kind, "enabled": enabled, "runtime": simulated() });
    let pipeline = pipeline(json!([step("a", true), step("b", false), step("c", true)]));
    let kinds: Vec<_> = pipeline
        .enabled()
        .iter()
        .map(|step| step.agent_kind.to_string())
        .collect();
    assert_eq!(kinds, ["a", "c"]);
    let plan = Plan::new(pipeline.enabled()).unwrap();
    assert_eq!(plan.len(), 2);
    assert!(!plan.is_final(StepIndex(0)) && plan.is_final(StepIndex(1)));
}

#[test]
fn what_is_not_said_is_as_documented() {
    let steps = json!([
        { "agentKind": "a", "runtime": simulated() },
        { "agentKind": "ci", "gate": { "probe": { "kind": "command", "command": ["x"] } } },
    ]);
    let pipeline = pipeline(steps);
    let [step, gate] = &pipeline.steps[..] else {
        panic!()
    };
    assert!(step.enabled && !step.requires_approval);
    assert_eq!(step.budgets.job().as_secs(), 70 * 60);
    let gate = gate.gate.as_ref().unwrap();
    assert_eq!((gate.attempts, gate.budget().as_secs()), (None, 60 * 60));
}

#[test]
fn a_misspelt_field_is_refused_and_not_ignored() {
    let step = json!({ "agentKind": "a", "requireApproval": true, "runtime": simulated() });
    let error = serde_json::from_value::<StepSpec>(step).unwrap_err();
    assert!(error.to_string().contains("requireApproval"), "{error}");
}

#[test]
fn a_pipeline_reads_back_as_it_was_written() {
    let steps = json!([
        { "agentKind": "a", "runtime": { "kind": "simulated", "fails": "no" } },
        { "agentKind": "b", "enabled": false, "requiresApproval": true, "runtime": command(&["x", "y"]), "budgets": { "jobMinutes": 3 } },
        { "agentKind": "ci", "gate": { "probe": { "kind": "command", "command": ["x"] }, "attempts": 2 } },
    ]);
    let written = pipeline(steps);
    let read: Pipeline = serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap();
    assert_eq!(read, written);
}
