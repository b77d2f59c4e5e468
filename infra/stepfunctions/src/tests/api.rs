//! The API: what it answers, and what it refuses in AWS's words.

use serde_json::{Value, json};

use super::{MACHINE, NOW, World, output, states, work};

const DAY_MS: u64 = 86_400_000;

fn instant() -> Value {
    states(json!({ "A": { "Type": "Succeed" } }))
}

fn waiting() -> Value {
    work("invoke.waitForTaskToken", json!({}))
}

fn start(name: &str, input: &str) -> Value {
    json!({ "stateMachineArn": MACHINE, "name": name, "input": input })
}

#[tokio::test]
async fn starting_the_same_execution_again_while_it_runs_is_one_execution() {
    let world = World::with(waiting());
    let first = world.api("StartExecution", start("e", r#"{"a":1}"#)).await;
    world.advance_ms(1_000);
    assert_eq!(
        world.api("StartExecution", start("e", r#"{"a":1}"#)).await,
        first
    );
    assert_eq!(
        world
            .refused("StartExecution", start("e", r#"{"a":2}"#))
            .await,
        "ExecutionAlreadyExists"
    );
    assert_eq!(world.sfn.counts().executions, 1);
}

#[tokio::test]
async fn a_closed_executions_name_can_be_used_again_after_90_days() {
    let mut world = World::with(instant());
    let execution = world.start("e", json!({})).await;
    world.closed(&execution).await;
    assert_eq!(
        world.refused("StartExecution", start("e", "{}")).await,
        "ExecutionAlreadyExists"
    );
    world.advance_ms(90 * DAY_MS);
    assert_eq!(
        world.refused("StartExecution", start("e", "{}")).await,
        "ExecutionAlreadyExists"
    );
    world.advance_ms(1);
    world.api("StartExecution", start("e", "{}")).await;
    assert_eq!(world.sfn.counts().executions, 1, "the old one is forgotten");
}

#[tokio::test]
async fn an_execution_without_a_name_or_an_input_gets_them() {
    let mut world = World::with(instant());
    let started = world
        .api("StartExecution", json!({ "stateMachineArn": MACHINE }))
        .await;
    let execution = started["executionArn"].as_str().unwrap();
    assert!(execution.starts_with("arn:aws:states:eu-central-1:123456789012:execution:m:"));
    assert_eq!(started["startDate"], json!(NOW as f64 / 1_000.0));
    assert_eq!(output(&world.closed(execution).await), json!({}));
}

const NOWHERE: &str = "arn:aws:states:eu-central-1:123456789012:stateMachine:other";
const NONE: &str = "arn:aws:states:eu-central-1:123456789012:execution:m:none";

/// Makes requests that are to be refused, each with the `__type` of its refusal.
async fn refuses(requests: Vec<(&str, Value, &str)>) {
    let world = World::with(instant());
    for (operation, body, expected) in requests {
        let shown: String = body.to_string().chars().take(100).collect();
        let refused = world.refused(operation, body).await;
        assert_eq!(refused, expected, "{operation} {shown}");
    }
    assert_eq!(world.sfn.counts().executions, 0);
}

fn large() -> Value {
    json!(json!("x".repeat(262_144)).to_string())
}

#[tokio::test]
async fn a_start_that_breaks_aws_rules_is_refused_as_aws_does() {
    let op = "StartExecution";
    let of = |machine: &str| json!({ "stateMachineArn": machine });
    let large = large();
    refuses(vec![
        (op, json!({}), "ValidationException"),
        (op, of("m"), "InvalidArn"),
        (op, of(NONE), "InvalidArn"),
        (op, of(NOWHERE), "StateMachineDoesNotExist"),
        (op, start("a b", "{}"), "InvalidName"),
        (op, start("a:b", "{}"), "InvalidName"),
        (op, start("a\u{7f}", "{}"), "InvalidName"),
        (op, start(&"x".repeat(81), "{}"), "ValidationException"),
        (op, start("", "{}"), "ValidationException"),
        (op, start("e", "{"), "InvalidExecutionInput"),
        (
            op,
            start("e", large.as_str().unwrap()),
            "ValidationException",
        ),
        (op, json!([]), "SerializationException"),
    ])
    .await;
}

#[tokio::test]
async fn a_look_that_breaks_aws_rules_is_refused_as_aws_does() {
    let execution = |arn: &str| json!({ "executionArn": arn });
    let machine = |arn: &str| json!({ "stateMachineArn": arn });
    let listed = |field: &str, value: Value| json!({ "stateMachineArn": MACHINE, field: value });
    refuses(vec![
        (
            "DescribeExecution",
            execution(NONE),
            "ExecutionDoesNotExist",
        ),
        ("DescribeExecution", execution(MACHINE), "InvalidArn"),
        ("StopExecution", execution(NONE), "ExecutionDoesNotExist"),
        (
            "GetExecutionHistory",
            execution(NONE),
            "ExecutionDoesNotExist",
        ),
        (
            "ListExecutions",
            machine(NOWHERE),
            "StateMachineDoesNotExist",
        ),
        (
            "ListExecutions",
            listed("statusFilter", json!("DONE")),
            "ValidationException",
        ),
        (
            "ListExecutions",
            listed("maxResults", json!(1001)),
            "ValidationException",
        ),
        (
            "ListExecutions",
            listed("nextToken", json!("x")),
            "InvalidToken",
        ),
        (
            "DescribeStateMachine",
            machine(NOWHERE),
            "StateMachineDoesNotExist",
        ),
        (
            "CreateActivity",
            json!({ "name": "x" }),
            "UnknownOperationException",
        ),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_that_breaks_aws_rules_is_refused_as_aws_does() {
    let success = |output: Value| json!({ "taskToken": "x", "output": output });
    let no_token = json!({ "taskToken": "", "output": "1" });
    let long_error = json!({ "taskToken": "x", "error": "e".repeat(257) });
    let token = json!({ "taskToken": "x" });
    refuses(vec![
        ("SendTaskSuccess", token.clone(), "ValidationException"),
        ("SendTaskSuccess", success(json!("{")), "InvalidOutput"),
        ("SendTaskSuccess", success(large()), "ValidationException"),
        ("SendTaskSuccess", no_token, "ValidationException"),
        ("SendTaskFailure", long_error, "ValidationException"),
        ("SendTaskFailure", token.clone(), "InvalidToken"),
        ("SendTaskHeartbeat", token, "InvalidToken"),
    ])
    .await;
}

#[tokio::test]
async fn a_machine_needs_a_name_that_aws_takes() {
    let world = World::new();
    for name in ["", "a b", "ä", &"x".repeat(81)] {
        assert!(
            matches!(
                world.sfn.create_state_machine(name, &instant()),
                Err(crate::Error::Name(_))
            ),
            "{name}"
        );
    }
    let refused = world.sfn.create_state_machine("m", &json!({}));
    assert!(matches!(refused, Err(crate::Error::Definition(_))));
}

#[tokio::test]
async fn stopping_an_execution_ends_it_and_its_token() {
    let mut world = World::with(work("invoke.waitForTaskToken", json!({})));
    let execution = world.start("e", json!({})).await;
    let call = world.call().await;
    let stop = json!({ "executionArn": execution, "error": "Operator", "cause": "enough" });
    let stopped = world.api("StopExecution", stop.clone()).await;
    let done = world.closed(&execution).await;
    assert_eq!(
        (&done["status"], &done["error"], &done["cause"]),
        (&json!("ABORTED"), &json!("Operator"), &json!("enough"))
    );
    assert_eq!(done["stopDate"], stopped["stopDate"]);
    world.advance_ms(5_000);
    assert_eq!(
        world.api("StopExecution", stop).await,
        stopped,
        "a second stop changes nothing"
    );
    let answer = json!({ "taskToken": call.token(), "output": "1" });
    assert_eq!(
        world.refused("SendTaskSuccess", answer).await,
        "TaskTimedOut"
    );
}

#[tokio::test]
async fn executions_are_listed_newest_first_by_status_and_page() {
    let mut world = World::with(waiting());
    let mut arns = Vec::new();
    for i in 0..5 {
        arns.push(world.start(&format!("e{i}"), json!({})).await);
    }
    world
        .api("StopExecution", json!({ "executionArn": arns[2] }))
        .await;
    world.closed(&arns[2]).await;
    let names = |listed: &Value| -> Vec<String> {
        listed["executions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let running = json!({ "stateMachineArn": MACHINE, "statusFilter": "RUNNING" });
    assert_eq!(
        names(&world.api("ListExecutions", running).await),
        ["e4", "e3", "e1", "e0"]
    );
    let mut request = json!({ "stateMachineArn": MACHINE, "maxResults": 2 });
    let mut all = Vec::new();
    loop {
        let page = world.api("ListExecutions", request.clone()).await;
        all.extend(names(&page));
        match page.get("nextToken") {
            Some(token) => request["nextToken"] = token.clone(),
            None => break,
        }
    }
    assert_eq!(all, ["e4", "e3", "e2", "e1", "e0"]);
}

#[tokio::test]
async fn history_comes_in_pages_both_ways_and_without_data_if_asked() {
    let mut world = World::with(instant());
    let execution = world.start("e", json!({ "secret": 1 })).await;
    world.closed(&execution).await;
    let ids = |page: &Value| -> Vec<u64> {
        page["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["id"].as_u64().unwrap())
            .collect()
    };
    for (reverse, expected) in [(false, [1, 2, 3, 4]), (true, [4, 3, 2, 1])] {
        let mut request =
            json!({ "executionArn": execution, "maxResults": 3, "reverseOrder": reverse });
        let first = world.api("GetExecutionHistory", request.clone()).await;
        request["nextToken"] = first["nextToken"].clone();
        let second = world.api("GetExecutionHistory", request).await;
        assert_eq!([ids(&first), ids(&second)].concat(), expected);
        assert_eq!(second.get("nextToken"), None);
    }
    let bare = json!({ "executionArn": execution, "includeExecutionData": false });
    assert!(
        !world
            .api("GetExecutionHistory", bare)
            .await
            .to_string()
            .contains("secret")
    );
}

#[tokio::test]
async fn machines_can_be_looked_at() {
    let world = World::with(instant());
    world.sfn.create_state_machine("other", &waiting()).unwrap();
    let listed = world
        .api("ListStateMachines", json!({ "maxResults": 1 }))
        .await;
    assert_eq!(listed["stateMachines"][0]["stateMachineArn"], MACHINE);
    let rest = world
        .api(
            "ListStateMachines",
            json!({ "nextToken": listed["nextToken"] }),
        )
        .await;
    assert_eq!(
        (&rest["stateMachines"][0]["name"], rest.get("nextToken")),
        (&json!("other"), None)
    );
    let machine = world
        .api(
            "DescribeStateMachine",
            json!({ "stateMachineArn": MACHINE }),
        )
        .await;
    let definition: Value = serde_json::from_str(machine["definition"].as_str().unwrap()).unwrap();
    assert_eq!(
        (definition, &machine["type"]),
        (instant(), &json!("STANDARD"))
    );
}

#[tokio::test]
async fn the_listener_hears_of_running_and_of_the_end_in_order() {
    let mut world = World::with(instant());
    let execution = world.start("e", json!({ "a": 1 })).await;
    let first = world.changes.recv().await.unwrap();
    let second = world.changes.recv().await.unwrap();
    assert_eq!(
        (first.status.as_str(), second.status.as_str()),
        ("RUNNING", "SUCCEEDED")
    );
    assert_eq!((first.stop_date_ms, first.output), (None, None));
    assert_eq!(
        (
            second.execution_arn.as_str(),
            second.state_machine_arn.as_str()
        ),
        (execution.as_str(), MACHINE)
    );
    assert_eq!(
        (second.name.as_str(), second.input.as_str()),
        ("e", r#"{"a":1}"#)
    );
    assert_eq!(
        (second.start_date_ms, second.stop_date_ms),
        (NOW, Some(NOW))
    );
    assert_eq!(second.output.as_deref(), Some(r#"{"a":1}"#));
}

#[tokio::test]
async fn after_a_shutdown_requests_are_put_off() {
    let world = World::with(waiting());
    world.start("e", json!({})).await;
    world.sfn.shutdown().await;
    let (status, answer) = world.ask("StartExecution", start("f", "{}")).await;
    assert_eq!(
        (status, &answer["__type"]),
        (503, &json!("ServiceUnavailable"))
    );
}
