//! What a pipeline may be, and what its author is told.

use serde_json::{Value, json};
use towpath_engine::{AgentKind, MAX_STEPS, Pipeline, Plan, Probe, StepIndex, StepSpec};

fn pipeline(steps: Value) -> Pipeline {
    serde_json::from_value(json!({"id": "p", "steps": steps})).unwrap()
}

/// The errors in the pipeline of these steps: path and problem.
fn errors(steps: Value) -> Vec<(String, String)> {
    let errors = pipeline(steps).errors();
    errors
        .into_iter()
        .map(|error| (error.path, error.problem))
        .collect()
}

fn simulated() -> Value {
    json!({"kind": "simulated", "output": "x"})
}

fn process(words: &[&str]) -> Value {
    json!({"kind": "process", "command": words})
}

fn runs(runtime: Value) -> Value {
    json!({"agentKind": "coder", "runtime": runtime})
}

fn with_env(name: &str) -> Value {
    runs(json!({"kind": "process", "command": ["a"], "env": {name: "x"}}))
}

fn asking(asks: Value) -> Value {
    runs(json!({"kind": "simulated", "asks": asks}))
}

fn budget(minutes: u32) -> Value {
    json!({"agentKind": "coder", "runtime": simulated(), "budgets": {"jobMinutes": minutes}})
}

fn gate(more: Value) -> Value {
    let mut gate = json!({"probe": {"kind": "command", "command": ["look"]}});
    gate.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"agentKind": "ci", "gate": gate})
}

fn helped(runtime: Value) -> Value {
    gate(json!({"helper": {"agentKind": "fixer", "runtime": runtime}}))
}

#[test]
fn a_good_pipeline_has_no_errors() {
    let steps = json!([
        {"agentKind": "coder", "requiresApproval": true, "runtime": process(&["make"])},
        budget(1),
        budget(10080),
        with_env("PATH"),
        helped(process(&["fix"])),
        gate(json!({"probe": {"kind": "command", "command": ["x"], "checkout": "read"}})),
        gate(json!({"attempts": 100, "budgetMinutes": 10080, "intervalMinutes": 1440})),
        gate(json!({"attempts": 0, "budgetMinutes": 1, "intervalMinutes": 1})),
        asking(json!({"question": "Go?", "options": ["yes", "no"]})),
        asking(json!({"question": "Go?", "freeText": true})),
    ]);
    assert_eq!(errors(steps), []);
}

#[test]
fn each_error_is_told_with_its_place_and_what_is_allowed() {
    for (step, path, words) in [
        (
            json!({"agentKind": "coder"}),
            "",
            "no runtime is known for the agent kind `coder`",
        ),
        (
            json!({"agentKind": "ci"}),
            "",
            "the gate `ci` needs a `gate`",
        ),
        (
            json!({"agentKind": "conflicts"}),
            "",
            "the gate `conflicts` needs a `gate`",
        ),
        (
            json!({"agentKind": "post-release-health"}),
            "",
            "needs a `gate` with a `probe`",
        ),
        (
            json!({"agentKind": "ci", "runtime": simulated(), "gate": gate(json!({}))["gate"]}),
            "",
            "not both",
        ),
        (runs(process(&[])), ".runtime.command", "needs a program"),
        (
            runs(process(&["", "x"])),
            ".runtime.command",
            "needs a program",
        ),
        (
            runs(process(&["a", "b\0"])),
            ".runtime.command[1]",
            "no NUL",
        ),
        (
            with_env("TOWPATH_RUN"),
            ".runtime.env.TOWPATH_RUN",
            "the engine's own",
        ),
        (with_env("A=B"), ".runtime.env", "no `=`"),
        (with_env("A\0"), ".runtime.env", "no NUL"),
        (with_env(""), ".runtime.env", "not empty"),
        (
            asking(json!({"question": "?"})),
            ".runtime.asks.options",
            "at least one option",
        ),
        (
            asking(json!({"question": "?", "options": ["a", "b", "a"]})),
            ".runtime.asks.options",
            "stands once",
        ),
        (
            budget(0),
            ".budgets.jobMinutes",
            "from 1 minute to 7 days (10080)",
        ),
        (
            budget(10081),
            ".budgets.jobMinutes",
            "from 1 minute to 7 days (10080)",
        ),
        (
            gate(json!({"probe": {"kind": "command", "command": ["a"], "checkout": "write"}})),
            ".gate.probe.checkout",
            "changes nothing",
        ),
        (
            gate(json!({"probe": {"kind": "command", "command": []}})),
            ".gate.probe.command",
            "a program",
        ),
        (
            helped(simulated()),
            ".gate.helper.runtime",
            "kind `command`",
        ),
        (
            helped(process(&[])),
            ".gate.helper.runtime.command",
            "a program",
        ),
        (
            gate(json!({"attempts": 101})),
            ".gate.attempts",
            "at most 100",
        ),
        (
            gate(json!({"budgetMinutes": 0})),
            ".gate.budgetMinutes",
            "from 1 minute to 7 days (10080)",
        ),
        (
            gate(json!({"budgetMinutes": 10081})),
            ".gate.budgetMinutes",
            "from 1 minute to 7 days (10080)",
        ),
        (
            gate(json!({"intervalMinutes": 0})),
            ".gate.intervalMinutes",
            "from 1 minute to 1 day (1440)",
        ),
        (
            gate(json!({"intervalMinutes": 1441})),
            ".gate.intervalMinutes",
            "from 1 minute to 1 day (1440)",
        ),
    ] {
        let found = errors(json!([runs(simulated()), step]));
        let [(at, problem)] = &found[..] else {
            panic!("{step}: {found:?}")
        };
        assert_eq!(*at, format!("steps[1]{path}"), "{step}");
        assert!(problem.contains(words), "{step}: {problem}");
    }
}

#[test]
fn all_errors_are_told_at_once() {
    let bad = json!({"agentKind": "coder"});
    let found = errors(json!([bad, runs(simulated()), bad]));
    let places: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(places, ["steps[0]", "steps[2]"]);
}

#[test]
fn a_pipeline_has_from_one_to_five_hundred_steps() {
    let step = runs(simulated());
    let off = json!({"agentKind": "a", "enabled": false, "runtime": simulated()});
    assert_eq!(errors(json!([]))[0].0, "steps");
    let none = errors(json!([off]));
    assert!(none[0].1.contains("at least one enabled step"));
    assert_eq!(errors(json!(vec![step.clone(); 500])), []);
    let many = errors(json!(vec![step; 501]));
    assert_eq!(many[0].0, "steps");
    assert!(
        many[0].1.contains("at most 500 steps, this one has 501"),
        "{many:?}"
    );
}

#[test]
fn a_plan_has_from_one_to_five_hundred_steps() {
    let step: StepSpec = serde_json::from_value(runs(simulated())).unwrap();
    assert_eq!(Plan::new(Vec::new()), None);
    assert_eq!(Plan::new(vec![step.clone(); MAX_STEPS + 1]), None);
    let plan = Plan::new(vec![step.clone(); MAX_STEPS]).unwrap();
    assert_eq!((plan.len(), plan.is_empty()), (500, false));
    assert_ne!(plan, Plan::new(vec![step; 1]).unwrap());
}

#[test]
fn a_step_that_is_not_enabled_is_part_of_no_run() {
    let step =
        |kind, enabled| json!({"agentKind": kind, "enabled": enabled, "runtime": simulated()});
    let pipeline = pipeline(json!([step("a", true), step("b", false), step("c", true)]));
    let plan = Plan::new(pipeline.enabled()).unwrap();
    let kinds: Vec<_> = plan
        .iter()
        .map(|(index, spec)| (index.0, spec.agent_kind.as_str()))
        .collect();
    assert_eq!(kinds, [(0, "a"), (1, "c")]);
    assert!(!plan.is_final(StepIndex(0)) && plan.is_final(StepIndex(1)));
    assert_eq!(plan.step(StepIndex(2)), None);
}

#[test]
fn a_command_says_where_it_runs_in_what_and_is_read_under_its_old_name() {
    let pinned = format!("registry.example/team/agent@sha256:{}", "0a".repeat(32));
    let full = json!({
        "kind": "command", "command": ["x"], "checkout": "none", "events": "goose", "image": pinned,
        "resources": {"cpus": 4, "memoryMb": 8192}, "on": {"executor": ["x-git"]},
    });
    let read = pipeline(json!([runs(full.clone())]));
    assert_eq!(read.errors(), []);
    assert_eq!(
        serde_json::to_value(&read).unwrap()["steps"][0]["runtime"],
        full
    );
    let old = serde_json::to_value(pipeline(json!([runs(process(&["x"]))]))).unwrap();
    assert_eq!(
        old["steps"][0]["runtime"],
        json!({"kind": "command", "command": ["x"], "checkout": "none"})
    );
    let wrong = |more: Value| {
        let mut runtime = json!({"kind": "command", "command": ["x"]});
        runtime
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let pipeline: Pipeline =
            serde_json::from_value(json!({"id": "p", "steps": [runs(runtime)]})).unwrap();
        pipeline
            .errors()
            .into_iter()
            .map(|error| error.path)
            .collect::<Vec<_>>()
    };
    for image in ["alpine", "alpine:3", "@sha256:00", "alpine@sha256:00"] {
        assert_eq!(
            wrong(json!({"image": image})),
            ["steps[0].runtime.image"],
            "{image}"
        );
    }
    let tiny = json!({"resources": {"cpus": 0, "memoryMb": 1}});
    assert_eq!(
        wrong(tiny),
        [
            "steps[0].runtime.resources.cpus",
            "steps[0].runtime.resources.memoryMb"
        ]
    );
    assert_eq!(
        wrong(json!({"on": {"executor": []}})),
        ["steps[0].runtime.on.executor"]
    );
    assert_eq!(
        wrong(json!({"on": {"executor": ["resumable", "git", "x-gpu", "X"]}})),
        [
            "steps[0].runtime.on.executor[1]",
            "steps[0].runtime.on.executor[3]"
        ]
    );
    assert_eq!(
        wrong(json!({"longRunning": true, "completion": " "})),
        ["steps[0].runtime.on", "steps[0].runtime.completion"]
    );
    for on in [
        json!(7),
        json!({}),
        json!({"executor": ["a"], "x": 1}),
        json!({"place": "x"}),
    ] {
        let runtime = json!({"kind": "command", "command": ["x"], "on": on});
        let read = serde_json::from_value::<Pipeline>(json!({"id": "p", "steps": [runs(runtime)]}));
        assert!(read.is_err(), "{on}");
    }
}

#[test]
fn a_plan_says_which_runtimes_it_needs_and_which_kind_decides() {
    let needs = |steps: Value| {
        let plan = Plan::new(pipeline(steps).steps).unwrap();
        let needs = plan.needs().into_iter().map(str::to_owned);
        needs.collect::<Vec<_>>()
    };
    assert_eq!(needs(json!([runs(simulated())])), ["simulated"]);
    assert_eq!(
        needs(json!([runs(json!({"kind": "model", "model": "m"}))])),
        ["model"]
    );
    assert_eq!(needs(json!([gate(json!({}))])), ["command"]);
    let both = json!([runs(simulated()), helped(process(&["x"]))]);
    assert_eq!(needs(both.clone()), ["command", "simulated"]);
    let placed = |on: Value| json!([runs(json!({"kind": "command", "command": ["x"], "on": on}))]);
    assert_eq!(needs(placed(json!("codebuild"))), ["codebuild"]);
    let dialled_in = json!({"executor": ["git"]});
    assert_eq!(needs(placed(dialled_in)), ["executor"]);
    let plan = Plan::new(pipeline(both).steps).unwrap();
    let names: Vec<_> = (0..3)
        .filter_map(|index| plan.kind(StepIndex(index)))
        .map(towpath_engine::Kind::name)
        .collect();
    assert_eq!(names, ["agent", "gate"]);
    let unclaimed = Plan::new(pipeline(json!([{"agentKind": "coder"}])).steps).unwrap();
    assert!(unclaimed.kind(StepIndex(0)).is_none() && unclaimed.needs().is_empty());
}

#[test]
fn what_is_not_said_is_as_documented() {
    let pipeline = pipeline(json!([runs(process(&["x"])), gate(json!({}))]));
    assert!(!pipeline.archived && pipeline.labels.is_empty());
    let [step, gate] = &pipeline.steps[..] else {
        panic!()
    };
    assert!(step.enabled && !step.requires_approval);
    assert_eq!(step.budgets.job().as_secs(), 70 * 60);
    let gate = gate.gate.as_ref().unwrap();
    assert_eq!(gate.budget().as_secs(), 60 * 60);
    let attempts = |kind: &str| gate.attempts_of(&kind.parse::<AgentKind>().unwrap());
    let kinds = ["ci", "conflicts", "post-release-health", "lint"];
    assert_eq!(kinds.map(attempts), [10, 3, 1, 3]);
    let Probe::Command(probe) = &gate.probe;
    assert_eq!(probe.checkout, towpath_engine::CheckoutMode::None);
}

#[test]
fn what_a_model_is_asked_has_bounds() {
    let model = |more: Value| {
        let mut model = json!({"kind": "model", "model": "large"});
        let Value::Object(more) = more else { panic!() };
        model.as_object_mut().unwrap().extend(more);
        json!([runs(model)])
    };
    let text = |bytes: usize| "x".repeat(bytes);
    for fits in [
        json!({}),
        json!({"temperature": 0, "maxTokens": 1}),
        json!({"temperature": 2.0, "maxTokens": 1_000_000}),
        json!({"system": text(32 * 1024), "prompt": text(32 * 1024), "model": text(256)}),
    ] {
        assert_eq!(errors(model(fits.clone())), [], "{fits}");
    }
    for (wrong, field) in [
        (json!({"model": ""}), "model"),
        (json!({"model": text(257)}), "model"),
        (json!({"model": "a\nb"}), "model"),
        (json!({"system": text(32 * 1024 + 1)}), "system"),
        (json!({"prompt": text(32 * 1024 + 1)}), "prompt"),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"maxTokens": 0}), "maxTokens"),
        (json!({"maxTokens": 1_000_001}), "maxTokens"),
    ] {
        let found = errors(model(wrong));
        let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, [format!("steps[0].runtime.{field}")], "{found:?}");
    }
}

#[test]
fn a_misspelt_field_is_refused_and_not_ignored() {
    for (step, name) in [
        (
            json!({"agentKind": "a", "requireApproval": true}),
            "requireApproval",
        ),
        (
            json!({"agentKind": "a", "budgets": {"minutes": 1}}),
            "minutes",
        ),
        (gate(json!({"pause": 1})), "pause"),
        (runs(json!({"kind": "simulated", "says": "x"})), "says"),
        (
            runs(json!({"kind": "model", "model": "m", "topP": 1})),
            "topP",
        ),
        (runs(json!({"kind": "model"})), "model"),
        (
            runs(json!({"kind": "model", "model": "m", "command": ["x"]})),
            "command",
        ),
        (
            runs(json!({"kind": "model", "model": "m", "output": "x"})),
            "output",
        ),
        (
            runs(json!({"kind": "simulated", "maxTokens": 1})),
            "maxTokens",
        ),
        (
            runs(json!({"kind": "command", "command": ["x"], "prompt": "y"})),
            "prompt",
        ),
    ] {
        let error = serde_json::from_value::<StepSpec>(step).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_pipeline_reads_back_as_it_was_written() {
    let steps = json!([
        {"agentKind": "a", "runtime": {"kind": "simulated", "fails": "no"}},
        {"agentKind": "m", "runtime": {"kind": "model", "model": "m", "system": "s", "prompt": "p", "temperature": 0.5, "maxTokens": 9}},
        {"agentKind": "b", "enabled": false, "requiresApproval": true, "runtime": process(&["x", "y"])},
        budget(3),
        gate(json!({"attempts": 2, "intervalMinutes": 9})),
        asking(json!({"question": "Go?", "options": ["yes"]})),
    ]);
    let written = pipeline(steps);
    let json = serde_json::to_value(&written).unwrap();
    assert!(
        json["steps"][0].get("budgets").is_none(),
        "a default takes no room"
    );
    assert_eq!(json["steps"][3]["budgets"], json!({"jobMinutes": 3}));
    assert_eq!(serde_json::from_value::<Pipeline>(json).unwrap(), written);
}
