//! The states language: what each state and field does.

use serde_json::{Value, json};

use super::{NOW, World, output, states};

#[tokio::test]
async fn input_passes_through_states_that_say_no_output() {
    let done = World::result(
        states(json!({ "A": { "Type": "Pass", "Next": "B" }, "B": { "Type": "Succeed" } })),
        json!({ "run": 7, "rate": 0.5, "list": [1], "none": null }),
    )
    .await;
    assert_eq!(
        output(&done),
        json!({ "run": 7, "rate": 0.5, "list": [1], "none": null })
    );
    assert_eq!(
        done["output"].as_str().unwrap().matches("7.0").count(),
        0,
        "whole numbers stay whole"
    );
}

#[tokio::test]
async fn assignments_are_made_from_the_old_values_all_at_once() {
    let machine = states(json!({
        "A": { "Type": "Pass", "Assign": { "x": 1, "y": 2 }, "Next": "B" },
        "B": { "Type": "Pass", "Assign": { "x": "{% $y %}", "y": "{% $x %}" }, "Output": "{% [$x, $y] %}", "Next": "C" },
        "C": { "Type": "Succeed", "Output": { "now": ["{% $x %}", "{% $y %}"], "then": "{% $states.input %}" } },
    }));
    let done = World::result(machine, json!({})).await;
    assert_eq!(output(&done), json!({ "now": [2, 1], "then": [1, 2] }));
}

#[tokio::test]
async fn a_choice_takes_its_first_rule_that_holds_with_that_rules_assignments() {
    let machine = states(json!({
        "A": { "Type": "Choice", "Default": "End", "Assign": { "by": "default" }, "Choices": [
            { "Condition": "{% $states.input.n > 10 %}", "Next": "End", "Assign": { "by": "first" }, "Output": "big" },
            { "Condition": "{% $states.input.n > 5 %}", "Next": "End", "Assign": { "by": "second" } },
        ] },
        "End": { "Type": "Succeed", "Output": ["{% $by %}", "{% $states.input %}"] },
    }));
    for (n, expected) in [
        (11, json!(["first", "big"])),
        (6, json!(["second", { "n": 6 }])),
        (1, json!(["default", { "n": 1 }])),
    ] {
        assert_eq!(
            output(&World::result(machine.clone(), json!({ "n": n })).await),
            expected
        );
    }
}

#[tokio::test]
async fn a_choice_without_a_match_or_a_default_fails() {
    let machine = states(json!({
        "A": { "Type": "Choice", "Choices": [{ "Condition": "{% $states.input.go %}", "Next": "B" }] },
        "B": { "Type": "Succeed" },
    }));
    let done = World::result(machine.clone(), json!({ "go": false })).await;
    assert_eq!(
        (&done["status"], &done["error"]),
        (&json!("FAILED"), &json!("States.NoChoiceMatched"))
    );
    let done = World::result(machine, json!({ "go": "yes" })).await;
    assert_eq!(
        done["error"], "States.QueryEvaluationError",
        "a condition must be a boolean"
    );
}

#[tokio::test]
async fn an_expression_that_fails_or_has_no_value_fails_the_state() {
    for expression in [
        "{% $states.input.nothing %}",
        "{% $unset %}",
        "{% 1 + 'x' %}",
        "{% $uppercase %}",
        "{% $error('no') %}",
    ] {
        let machine = states(
            json!({ "A": { "Type": "Pass", "Output": { "deep": [expression] }, "End": true } }),
        );
        let done = World::result(machine, json!({})).await;
        assert_eq!(
            done["error"], "States.QueryEvaluationError",
            "{expression}: {done}"
        );
        assert!(
            done["cause"].as_str().unwrap().contains("Output/deep/0"),
            "{done}"
        );
    }
}

#[tokio::test]
async fn a_fail_state_gives_the_execution_its_error_and_cause() {
    let machine = states(
        json!({ "A": { "Type": "Fail", "Error": "{% $states.input.error %}", "Cause": "plain" } }),
    );
    let done = World::result(machine.clone(), json!({ "error": "Towpath.Broken" })).await;
    assert_eq!(
        (&done["status"], &done["error"], &done["cause"]),
        (&json!("FAILED"), &json!("Towpath.Broken"), &json!("plain"))
    );
    let done = World::result(machine, json!({ "error": 5 })).await;
    assert_eq!(done["error"], "States.QueryEvaluationError");
    let done = World::result(states(json!({ "A": { "Type": "Fail" } })), json!({})).await;
    assert_eq!(
        (&done["error"], &done["cause"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn the_context_tells_of_execution_state_and_machine() {
    let machine = states(json!({
        "A": { "Type": "Pass", "Output": "{% $states.context %}", "End": true },
    }));
    let context = output(&World::result(machine, json!({ "run": "r" })).await);
    let execution = "arn:aws:states:eu-central-1:123456789012:execution:m:e";
    assert_eq!(context["Execution"]["Id"], execution);
    assert_eq!(context["Execution"]["Name"], "e");
    assert_eq!(context["Execution"]["Input"], json!({ "run": "r" }));
    assert_eq!(
        context["Execution"]["StartTime"],
        "2023-11-14T22:13:20.000Z"
    );
    assert!(
        context["Execution"]["RoleArn"]
            .as_str()
            .unwrap()
            .starts_with("arn:aws:iam::123456789012:role/")
    );
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
async fn time_in_expressions_is_the_clocks() {
    let machine = states(
        json!({ "A": { "Type": "Pass", "Output": ["{% $millis() %}", "{% $now() %}"], "End": true } }),
    );
    let done = World::result(machine, json!({})).await;
    assert_eq!(output(&done), json!([NOW, "2023-11-14T22:13:20.000Z"]));
}

#[tokio::test]
async fn a_wait_lasts_as_long_as_it_says() {
    for (field, value) in [
        ("Seconds", json!(60)),
        ("Seconds", json!("{% $states.input.seconds %}")),
        ("Timestamp", json!("2023-11-14T22:14:20Z")),
        ("Timestamp", json!("{% $states.input.until %}")),
    ] {
        let machine = states(json!({ "A": { "Type": "Wait", field: value, "End": true } }));
        let mut world = World::with(machine);
        let input = json!({ "seconds": 60, "until": "2023-11-14T23:14:20+01:00" });
        let execution = world.start("e", input).await;
        world.advance_ms(59_999);
        tokio::task::yield_now().await;
        assert_eq!(world.describe(&execution).await["status"], "RUNNING");
        world.advance_ms(1);
        let done = world.closed(&execution).await;
        assert_eq!(done["stopDate"], json!((NOW + 60_000) as f64 / 1_000.0));
    }
}

#[tokio::test]
async fn a_wait_for_what_is_past_does_not_wait() {
    let machine = states(
        json!({ "A": { "Type": "Wait", "Timestamp": "2000-01-01T00:00:00Z", "End": true } }),
    );
    assert_eq!(
        World::result(machine, json!({})).await["status"],
        "SUCCEEDED"
    );
}

#[tokio::test]
async fn an_output_above_256_kib_ends_the_execution() {
    let machine = states(json!({
        "A": { "Type": "Pass", "Output": "{% $pad('', 262200, 'x') %}", "End": true },
    }));
    assert_eq!(
        World::result(machine, json!({})).await["error"],
        "States.DataLimitExceeded"
    );
}

#[tokio::test]
async fn an_execution_ends_before_its_history_passes_25_000_events() {
    let machine = states(json!({
        "A": { "Type": "Choice", "Choices": [{ "Condition": "{% false %}", "Next": "B" }], "Default": "A" },
        "B": { "Type": "Succeed" },
    }));
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
async fn an_execution_runs_as_long_as_its_machine_allows_and_never_more_than_a_year() {
    for (limit, seconds) in [
        (Some(90), 90),
        (None, 365 * 86_400),
        (Some(99_999_999), 365 * 86_400),
    ] {
        let mut machine =
            states(json!({ "A": { "Type": "Wait", "Seconds": 99_999_999, "End": true } }));
        if let Some(limit) = limit {
            machine["TimeoutSeconds"] = json!(limit);
        }
        let mut world = World::with(machine);
        let execution = world.start("e", json!({})).await;
        world.advance_ms(seconds * 1_000 - 1);
        tokio::task::yield_now().await;
        assert_eq!(world.describe(&execution).await["status"], "RUNNING");
        world.advance_ms(1);
        assert_eq!(world.closed(&execution).await["status"], "TIMED_OUT");
        assert_eq!(
            world.events(&execution).await.last().unwrap(),
            "ExecutionTimedOut"
        );
    }
}

#[tokio::test]
async fn history_has_aws_events_in_order() {
    let mut world = World::with(states(
        json!({ "A": { "Type": "Pass", "Next": "B" }, "B": { "Type": "Succeed" } }),
    ));
    let execution = world.start("e", json!({ "a": 1 })).await;
    world.closed(&execution).await;
    let history = world
        .api("GetExecutionHistory", json!({ "executionArn": execution }))
        .await;
    let events: Vec<(u64, u64, &str)> = history["events"]
        .as_array()
        .unwrap()
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
        events,
        [
            (1, 0, "ExecutionStarted"),
            (2, 0, "PassStateEntered"),
            (3, 2, "PassStateExited"),
            (4, 3, "SucceedStateEntered"),
            (5, 4, "SucceedStateExited"),
            (6, 5, "ExecutionSucceeded"),
        ]
    );
    assert_eq!(
        history["events"][1]["stateEnteredEventDetails"]["input"],
        r#"{"a":1}"#
    );
    assert_eq!(
        history["events"][5]["executionSucceededEventDetails"]["output"],
        r#"{"a":1}"#
    );
}
