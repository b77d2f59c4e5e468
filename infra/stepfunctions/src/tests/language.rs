//! The states language: what each state and field does.

use serde_json::{Value, json};

use super::{NOW, World, output, states, work};

/// A machine that ends at once with this output.
fn giving(output: Value) -> Value {
    states(json!({ "A": { "Type": "Succeed", "Output": output } }))
}

#[tokio::test]
async fn input_passes_through_states_without_an_output() {
    let input = json!({ "run": 7, "rate": 0.5, "list": [1], "none": null });
    let machine = states(json!({ "A": { "Type": "Succeed" } }));
    let done = World::result(machine, input.clone()).await;
    assert_eq!(output(&done), input);
    assert_eq!(
        done["output"].as_str().unwrap().matches("7.0").count(),
        0,
        "whole numbers stay whole"
    );
}

#[tokio::test]
async fn an_expression_has_the_value_that_jsonata_gives_it() {
    let input = json!({ "key": "b", "n": 5, "none": null, "deep": { "list": [1, 2] } });
    for (expression, expected) in [
        ("$states.input.deep.list", json!([1, 2])),
        ("$lookup({ 'a': 1, 'b': 2 }, $states.input.key)", json!(2)),
        ("$lookup($states.input, 'n')", json!(5)),
        ("$exists($states.input.n) ? 'yes' : 'no'", json!("yes")),
        ("$exists($states.input.m) ? 'yes' : 'no'", json!("no")),
        ("$exists($states.input.none) ? 'yes' : 'no'", json!("yes")),
        (
            "'key ' & $states.input.key & $states.input.m",
            json!("key b"),
        ),
        (
            "{ 'n': $states.input.n, 't': true, 'z': null }",
            json!({ "n": 5, "t": true, "z": null }),
        ),
    ] {
        let machine = giving(json!({ "value": format!("{{% {expression} %}}") }));
        let done = output(&World::result(machine, input.clone()).await);
        assert_eq!(done["value"], expected, "{expression}");
    }
}

#[tokio::test]
async fn an_expression_that_fails_or_has_no_value_fails_the_state() {
    for expression in [
        "{% $states.input.nothing %}",
        "{% $states.input.n.deeper %}",
        "{% $lookup({ 'a': 1 }, 'b') %}",
        "{% $lookup({ 'a': 1 }, $states.input.n) %}",
    ] {
        let machine = giving(json!({ "deep": [expression] }));
        let done = World::result(machine, json!({ "n": 5 })).await;
        assert_eq!(
            (&done["status"], &done["error"]),
            (&json!("FAILED"), &json!("States.QueryEvaluationError")),
            "{expression}: {done}"
        );
        assert!(
            done["cause"].as_str().unwrap().contains("Output/deep/0"),
            "{done}"
        );
    }
}

#[tokio::test]
async fn a_fail_state_gives_the_execution_its_error_and_its_cause() {
    let fail = |fields: Value| {
        let mut state = json!({ "Type": "Fail" });
        state
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        World::result(
            states(json!({ "A": state })),
            json!({ "why": "rain", "n": 5 }),
        )
    };
    let cause = "{% 'because of ' & $states.input.why %}";
    let done = fail(json!({ "Error": "Towpath.Broken", "Cause": cause })).await;
    assert_eq!(
        (&done["status"], &done["error"], &done["cause"]),
        (
            &json!("FAILED"),
            &json!("Towpath.Broken"),
            &json!("because of rain")
        )
    );
    let done = fail(json!({ "Error": "Towpath.Broken", "Cause": "{% $states.input.n %}" })).await;
    assert_eq!(
        done["error"], "States.QueryEvaluationError",
        "a cause is a text"
    );
    let done = fail(json!({})).await;
    assert_eq!(
        (&done["status"], &done["error"], &done["cause"]),
        (&json!("FAILED"), &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn the_context_tells_of_execution_state_and_machine() {
    let context = output(
        &World::result(
            giving(json!("{% $states.context %}")),
            json!({ "run": "r" }),
        )
        .await,
    );
    let execution = "arn:aws:states:eu-central-1:123456789012:execution:m:e";
    assert_eq!(context["Execution"]["Id"], execution);
    assert_eq!(context["Execution"]["Name"], "e");
    assert_eq!(context["Execution"]["Input"], json!({ "run": "r" }));
    assert_eq!(
        context["Execution"]["StartTime"],
        "2023-11-14T22:13:20.000Z"
    );
    let role = context["Execution"]["RoleArn"].as_str().unwrap();
    assert!(role.starts_with("arn:aws:iam::123456789012:role/"));
    assert_eq!(
        context["State"],
        json!({ "EnteredTime": "2023-11-14T22:13:20.000Z", "Name": "A", "RetryCount": 0 })
    );
    assert_eq!(
        context["StateMachine"],
        json!({ "Id": super::MACHINE, "Name": "m" })
    );
    assert_eq!(context.get("Task"), None);
}

#[tokio::test]
async fn an_output_above_256_kib_ends_the_execution() {
    let twice = giving(json!(["{% $states.input %}", "{% $states.input %}"]));
    let done = World::result(twice, json!("x".repeat(200_000))).await;
    assert_eq!(done["error"], "States.DataLimitExceeded");
}

#[tokio::test]
async fn an_execution_ends_before_its_history_passes_25_000_events() {
    let mut machine = work(
        "invoke",
        json!({
            "Arguments": { "FunctionName": "{% $states.input.nothing %}" },
            "Catch": [{ "ErrorEquals": ["States.ALL"], "Next": "Work" }],
        }),
    );
    machine["Comment"] = json!("goes round for ever, without waiting for anything");
    let mut world = World::with(machine);
    let execution = world.start("e", json!({})).await;
    let done = world.closed(&execution).await;
    assert_eq!(
        (&done["status"], &done["error"]),
        (&json!("FAILED"), &json!("States.Runtime"))
    );
    assert!(done["cause"].as_str().unwrap().contains("25000"), "{done}");
    let last = json!({ "executionArn": execution, "reverseOrder": true, "maxResults": 1 });
    let last = world.api("GetExecutionHistory", last).await;
    assert_eq!(
        (&last["events"][0]["id"], &last["events"][0]["type"]),
        (&json!(25_000), &json!("ExecutionFailed"))
    );
}

#[tokio::test]
async fn an_execution_lasts_a_year_at_most() {
    let mut world = World::with(work("invoke.waitForTaskToken", json!({})));
    let execution = world.start("e", json!({})).await;
    world.advance_ms(365 * 86_400_000 - 1);
    tokio::task::yield_now().await;
    assert_eq!(world.describe(&execution).await["status"], "RUNNING");
    world.advance_ms(1);
    let done = world.closed(&execution).await;
    assert_eq!(
        (&done["status"], &done["stopDate"]),
        (
            &json!("TIMED_OUT"),
            &json!((NOW + 365 * 86_400_000) as f64 / 1_000.0)
        )
    );
    assert_eq!(
        world.events(&execution).await.last().unwrap(),
        "ExecutionTimedOut"
    );
}

#[tokio::test]
async fn history_has_aws_events_in_order() {
    let mut machine = work(
        "invoke",
        json!({ "Next": "Done", "Output": "{% $states.result.Payload %}" }),
    );
    machine["States"]["Done"] = json!({ "Type": "Succeed" });
    let mut world = World::with(machine);
    let execution = world.start("e", json!({ "a": 1 })).await;
    world.call().await.returns(json!({ "b": 2 }));
    world.closed(&execution).await;
    let history = world
        .api("GetExecutionHistory", json!({ "executionArn": execution }))
        .await;
    let events = history["events"].as_array().unwrap();
    let shown: Vec<(u64, u64, &str)> = events
        .iter()
        .map(|event| {
            let number = |member: &str| event[member].as_u64().unwrap();
            (
                number("id"),
                number("previousEventId"),
                event["type"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            (1, 0, "ExecutionStarted"),
            (2, 0, "TaskStateEntered"),
            (3, 2, "TaskScheduled"),
            (4, 3, "TaskStarted"),
            (5, 4, "TaskSucceeded"),
            (6, 5, "TaskStateExited"),
            (7, 6, "SucceedStateEntered"),
            (8, 7, "SucceedStateExited"),
            (9, 8, "ExecutionSucceeded"),
        ]
    );
    let detail = |event: usize, member: &str, field: &str| events[event][member][field].clone();
    assert_eq!(detail(1, "stateEnteredEventDetails", "input"), r#"{"a":1}"#);
    assert_eq!(detail(5, "stateExitedEventDetails", "output"), r#"{"b":2}"#);
    assert_eq!(
        detail(8, "executionSucceededEventDetails", "output"),
        r#"{"b":2}"#
    );
}
