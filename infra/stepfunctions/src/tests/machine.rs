//! Our own machine, `statemachines/run.asl.json`, driven as the engine's functions drive it.

use serde_json::{Value, json};

use super::{NOW, World, output};
use crate::time;

const DAY_MS: u64 = 86_400_000;

pub(super) fn machine() -> Value {
    let text = include_str!("../../../../statemachines/run.asl.json")
        .replace("${AdvanceFunction}", "advance")
        .replace("${PollJobFunction}", "poll-job")
        .replace("${PollGateFunction}", "poll-gate")
        .replace("${SettleFunction}", "settle");
    serde_json::from_str(&text).unwrap()
}

async fn begin() -> (World, String) {
    let world = World::with(machine());
    let execution = world
        .start("run_1-1", json!({ "run": "run_1", "generation": 1 }))
        .await;
    (world, execution)
}

#[tokio::test]
async fn a_run_goes_from_wait_to_wait_and_ends() {
    let (mut world, execution) = begin().await;
    let call = world.call().await;
    assert_eq!(call.function, "advance");
    let expected = json!({
        "run": "run_1", "generation": 1, "token": call.token(), "entered": time::iso(NOW), "retry": 0,
    });
    assert_eq!(call.payload, expected);
    let mut token = call.token();
    call.returns(Value::Null);
    for function in ["poll-job", "poll-gate", "advance"] {
        let next = match function {
            "poll-job" => "PollJob",
            "poll-gate" => "PollGate",
            _ => "Advance",
        };
        world.succeed(&token, json!({ "next": next })).await;
        let call = world.call().await;
        assert_eq!(call.function, function);
        token = call.token();
        call.returns(Value::Null);
    }
    world.succeed(&token, json!({ "next": "Succeed" })).await;
    assert_eq!(output(&world.closed(&execution).await), json!("ended"));
}

#[tokio::test]
async fn a_wait_costs_two_transitions_however_long_it_takes() {
    let (mut world, execution) = begin().await;
    assert_eq!(
        world.sfn.transitions_of(&execution),
        2,
        "the start and the first state"
    );
    for wait in 1..=5 {
        let call = world.call().await;
        let token = call.token();
        call.returns(Value::Null);
        world.advance_ms(DAY_MS - 1);
        world.succeed(&token, json!({ "next": "PollJob" })).await;
        assert_eq!(world.sfn.transitions_of(&execution), 2 + 2 * wait);
    }
}

#[tokio::test]
async fn a_day_without_an_answer_enters_advance_again_with_a_new_token() {
    let (mut world, execution) = begin().await;
    let first = world.call().await;
    let old = first.token();
    first.returns(Value::Null);
    world.until_event(&execution, "TaskSubmitted", 1).await;
    world.advance_ms(DAY_MS);
    let second = world.call().await;
    assert_eq!(second.function, "advance");
    assert_eq!(second.payload["entered"], json!(time::iso(NOW + DAY_MS)));
    assert_ne!(second.token(), old);
    let late = json!({ "taskToken": old, "output": r#"{"next":"Succeed"}"# });
    assert_eq!(world.refused("SendTaskSuccess", late).await, "TaskTimedOut");
    world
        .succeed(&second.token(), json!({ "next": "Handover" }))
        .await;
    assert_eq!(
        output(&world.closed(&execution).await),
        json!("handed over")
    );
}

#[tokio::test]
async fn two_entries_of_a_state_are_told_apart_though_no_time_passes() {
    let (mut world, _) = begin().await;
    let first = world.call().await;
    world
        .succeed(&first.token(), json!({ "next": "Advance" }))
        .await;
    let second = world.call().await;
    assert!(first.payload["entered"].as_str() < second.payload["entered"].as_str());
}

#[tokio::test]
async fn a_throttled_function_is_called_again() {
    let (mut world, execution) = begin().await;
    for attempt in 0..8 {
        let call = world.call().await;
        assert_eq!(call.payload["retry"], json!(attempt));
        call.fails("Towpath.Throttled");
        world
            .until_event(&execution, "TaskFailed", attempt + 1)
            .await;
        world.advance_ms(60_000);
    }
    world.call().await.fails("Towpath.Throttled");
    let settle = world.call().await;
    assert_eq!(
        (settle.function.as_str(), &settle.payload["error"]),
        ("settle", &json!("Towpath.Throttled"))
    );
}

#[tokio::test]
async fn an_engine_error_is_settled_and_fails_the_execution() {
    let (mut world, execution) = begin().await;
    world.call().await.fails("Towpath.Corrupt");
    let settle = world.call().await;
    assert_eq!(
        settle.payload,
        json!({ "run": "run_1", "generation": 1, "error": "Towpath.Corrupt" })
    );
    settle.returns(json!({}));
    let done = world.closed(&execution).await;
    assert_eq!(
        (&done["status"], &done["error"]),
        (&json!("FAILED"), &json!("Towpath.Corrupt"))
    );
}

#[tokio::test]
async fn a_next_state_that_nobody_knows_is_settled() {
    let (mut world, _) = begin().await;
    let call = world.call().await;
    world
        .succeed(&call.token(), json!({ "next": "Elsewhere" }))
        .await;
    let settle = world.call().await;
    assert_eq!(settle.payload["error"], "Towpath.UnknownNextState");
}
