//! Our own machine, `statemachines/run.asl.json`, driven as the engine's functions drive it.

use serde_json::{Value, json};

use super::{Call, NOW, World, output};
use crate::time;

const DAY_MS: u64 = 86_400_000;

/// The history of one wait that was answered.
const WAIT: [&str; 6] = [
    "TaskStateEntered",
    "TaskScheduled",
    "TaskStarted",
    "TaskSubmitted",
    "TaskSucceeded",
    "TaskStateExited",
];

pub(super) fn machine() -> Value {
    let text = include_str!("../../../../statemachines/run.asl.json")
        .replace("${AdvanceFunction}", "advance")
        .replace("${PollJobFunction}", "poll-job")
        .replace("${PollGateFunction}", "poll-gate")
        .replace("${SettleFunction}", "settle");
    serde_json::from_str(&text).unwrap()
}

async fn begin() -> (World, String) {
    begin_with(json!({ "run": "run_1", "generation": 1 })).await
}

async fn begin_with(input: Value) -> (World, String) {
    let world = World::with(machine());
    let execution = world.start("run_1-1", input).await;
    (world, execution)
}

impl World {
    /// Lets a called function return, and gives the token that its wait is ended with.
    async fn park(&self, execution: &str, call: Call, waits: usize) -> String {
        let token = call.token();
        call.returns(Value::Null);
        self.until_event(execution, "TaskSubmitted", waits).await;
        token
    }

    async fn end(&self, token: &str, error: &str) {
        let failure = json!({ "taskToken": token, "error": error, "cause": "" });
        self.api("SendTaskFailure", failure).await;
    }

    /// Lets `settle` answer, and describes the execution after that.
    async fn settled(&mut self, execution: &str, error: &str) -> Value {
        let settle = self.call().await;
        assert_eq!(settle.function, "settle");
        assert_eq!(
            settle.payload,
            json!({ "run": "run_1", "generation": 1, "error": error })
        );
        settle.returns(json!({}));
        let done = self.closed(execution).await;
        assert_eq!(
            (&done["status"], &done["error"]),
            (&json!("FAILED"), &json!("Towpath.DriverFailed"))
        );
        let cause = done["cause"].as_str().unwrap();
        assert!(cause.contains(error), "{cause}");
        done
    }
}

#[tokio::test]
async fn a_run_goes_from_wait_to_wait_and_ends() {
    let (mut world, execution) = begin().await;
    let mut call = world.call().await;
    let expected = json!({
        "form": 2, "run": "run_1", "generation": 1, "token": call.token(), "entered": time::iso(NOW), "retry": 0,
        "next": "advance",
    });
    assert_eq!(call.payload, expected);
    for (wait, next) in ["poll-job", "poll-gate", "advance"].into_iter().enumerate() {
        let token = world.park(&execution, call, wait + 1).await;
        world.succeed(&token, json!({ "next": next })).await;
        call = world.call().await;
        assert_eq!(
            (call.function.as_str(), &call.payload["next"]),
            (next, &json!(next))
        );
    }
    let token = world.park(&execution, call, 4).await;
    world.end(&token, "Towpath.Over").await;
    assert_eq!(output(&world.closed(&execution).await), json!("ended"));
}

#[tokio::test]
async fn a_wait_is_one_transition_and_six_events_however_long_it_takes() {
    let (mut world, execution) = begin().await;
    assert_eq!(
        world.sfn.transitions_of(&execution),
        2,
        "the start and the first state"
    );
    let mut events = vec!["ExecutionStarted"];
    for wait in 1..=5 {
        let call = world.call().await;
        let token = world.park(&execution, call, wait).await;
        world.advance_ms(DAY_MS - 1);
        world.succeed(&token, json!({ "next": "poll-job" })).await;
        assert_eq!(world.sfn.transitions_of(&execution), 2 + wait as u64);
        events.extend(WAIT);
    }
    events.extend(["TaskStateEntered", "TaskScheduled", "TaskStarted"]);
    assert_eq!(world.events(&execution).await, events);
}

#[tokio::test]
async fn an_execution_that_ends_is_its_last_wait_and_one_state_more() {
    for (error, ending) in [
        ("Towpath.Over", "ended"),
        ("Towpath.Handover", "handed over"),
    ] {
        let (mut world, execution) = begin().await;
        let call = world.call().await;
        let token = world.park(&execution, call, 1).await;
        world.end(&token, error).await;
        assert_eq!(output(&world.closed(&execution).await), json!(ending));
        assert_eq!(
            world.sfn.transitions_of(&execution),
            3,
            "the start and two states"
        );
        let expected = [
            "ExecutionStarted",
            "TaskStateEntered",
            "TaskScheduled",
            "TaskStarted",
            "TaskSubmitted",
            "TaskFailed",
            "TaskStateExited",
            "SucceedStateEntered",
            "SucceedStateExited",
            "ExecutionSucceeded",
        ];
        assert_eq!(world.events(&execution).await, expected);
        assert!(
            world.calls.try_recv().is_err(),
            "an ending calls no function"
        );
    }
}

#[tokio::test]
async fn a_day_without_an_answer_calls_advance_with_a_new_token() {
    let (mut world, execution) = begin().await;
    let call = world.call().await;
    let token = world.park(&execution, call, 1).await;
    world.succeed(&token, json!({ "next": "poll-gate" })).await;
    let call = world.call().await;
    let old = world.park(&execution, call, 2).await;
    world.advance_ms(DAY_MS);
    let call = world.call().await;
    assert_eq!(
        (
            call.function.as_str(),
            &call.payload["next"],
            &call.payload["retry"]
        ),
        ("advance", &json!("advance"), &json!(0))
    );
    assert_ne!(call.token(), old);
    assert_eq!(
        world.sfn.transitions_of(&execution),
        4,
        "the start and three waits"
    );
    let late = json!({ "taskToken": old, "output": r#"{"next":"advance"}"# });
    assert_eq!(world.refused("SendTaskSuccess", late).await, "TaskTimedOut");
    world.end(&call.token(), "Towpath.Over").await;
    assert_eq!(output(&world.closed(&execution).await), json!("ended"));
}

#[tokio::test]
async fn an_execution_may_begin_with_any_function() {
    for (input, function) in [
        (
            json!({ "run": "run_1", "generation": 1, "next": "poll-job" }),
            "poll-job",
        ),
        (
            json!({ "run": "run_1", "generation": 1, "next": "poll-gate" }),
            "poll-gate",
        ),
        (json!({ "run": "run_1", "generation": 1 }), "advance"),
    ] {
        let (mut world, _) = begin_with(input).await;
        let call = world.call().await;
        assert_eq!(
            (call.function.as_str(), &call.payload["next"]),
            (function, &json!(function))
        );
    }
}

#[tokio::test]
async fn two_entries_of_a_state_are_told_apart_though_no_time_passes() {
    let (mut world, _) = begin().await;
    let first = world.call().await;
    world
        .succeed(&first.token(), json!({ "next": "advance" }))
        .await;
    let second = world.call().await;
    assert!(first.payload["entered"].as_str() < second.payload["entered"].as_str());
}

#[tokio::test]
async fn a_function_that_fails_for_now_is_called_eight_times_more() {
    for error in [
        "Towpath.Throttled",
        "Towpath.Unavailable",
        "Towpath.Newer",
        "Lambda.TooManyRequestsException",
        "Sandbox.Timedout",
    ] {
        let (mut world, execution) = begin().await;
        for attempt in 0..8 {
            let call = world.call().await;
            assert_eq!(call.payload["retry"], json!(attempt));
            call.fails(error);
            world
                .until_event(&execution, "TaskFailed", attempt + 1)
                .await;
            world.advance_ms(60_000);
        }
        world.call().await.fails(error);
        world.settled(&execution, error).await;
        // The start, the wait, eight retries, `Settle`, `Fail`.
        assert_eq!(world.sfn.transitions_of(&execution), 12);
        let events = world.events(&execution).await;
        let wait = 2 + 9 * 3;
        assert_eq!(events.len(), 1 + wait + 5 + 2, "{events:?}");
    }
}

#[tokio::test]
async fn an_engine_error_is_settled_and_fails_the_execution_under_a_fixed_name() {
    let (mut world, execution) = begin().await;
    world.call().await.fails("Towpath.Corrupt");
    world.settled(&execution, "Towpath.Corrupt").await;
}

#[tokio::test]
async fn an_execution_fails_under_the_same_name_when_settle_fails_too() {
    let (mut world, execution) = begin().await;
    world.call().await.fails("Towpath.Corrupt");
    for attempt in 1..=7 {
        world.call().await.fails("Towpath.Unavailable");
        world
            .until_event(&execution, "TaskFailed", attempt + 1)
            .await;
        world.advance_ms(60_000);
    }
    let done = world.closed(&execution).await;
    assert_eq!(done["error"], "Towpath.DriverFailed");
    assert!(
        done["cause"].as_str().unwrap().contains("Towpath.Corrupt"),
        "the first error is the one told"
    );
}

#[tokio::test]
async fn a_next_that_names_no_function_is_settled() {
    for next in [
        json!("Advance"),
        json!("settle"),
        json!(""),
        json!(5),
        json!(null),
        json!(["advance"]),
    ] {
        let (mut world, execution) = begin().await;
        let call = world.call().await;
        world.succeed(&call.token(), json!({ "next": next })).await;
        world
            .settled(&execution, "States.QueryEvaluationError")
            .await;
    }
}

#[tokio::test]
async fn an_answer_without_a_next_is_settled() {
    for answer in [json!({}), json!("advance"), json!(null)] {
        let (mut world, execution) = begin().await;
        let call = world.call().await;
        world.succeed(&call.token(), answer).await;
        world
            .settled(&execution, "States.QueryEvaluationError")
            .await;
    }
}

/// The numbers that the README of the machine calculates with.
#[tokio::test]
async fn a_wait_with_every_retry_is_at_most_38_events() {
    let (mut world, execution) = begin().await;
    for attempt in 1..=8 {
        let call = world.call().await;
        let token = world.park(&execution, call, attempt).await;
        world.end(&token, "Towpath.Unavailable").await;
        world.advance_ms(60_000);
    }
    let call = world.call().await;
    let token = world.park(&execution, call, 9).await;
    world.succeed(&token, json!({ "next": "advance" })).await;
    let events = world.events(&execution).await;
    let wait = events
        .iter()
        .skip(1)
        .position(|event| event == "TaskStateExited");
    assert_eq!(wait, Some(37));
}
