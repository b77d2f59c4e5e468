//! Tasks: calls, tokens, retries, catchers and time limits.

use serde_json::{Value, json};

use super::{NOW, World, output, work};
use crate::time;

const TOKEN: &str = "invoke.waitForTaskToken";

fn caught(errors: Value) -> Value {
    json!([{ "ErrorEquals": errors, "Next": "Caught" }])
}

/// `Work`, and a state `Caught` that gives what it is handed.
fn work_or_caught(resource: &str, fields: Value) -> Value {
    let mut machine = work(resource, fields);
    machine["States"]["Caught"] =
        json!({ "Type": "Succeed", "Output": { "caught": "{% $states.input %}" } });
    machine
}

#[tokio::test]
async fn a_function_gives_its_task_the_result_of_the_lambda_integration() {
    let mut world = World::with(work("invoke", json!({ "Output": "{% $states.result %}" })));
    let execution = world.start("e", json!({})).await;
    let call = world.call().await;
    assert_eq!(call.function, "work");
    call.returns(json!({ "answer": 42 }));
    let result = output(&world.closed(&execution).await);
    assert_eq!(
        (&result["Payload"], &result["StatusCode"]),
        (&json!({ "answer": 42 }), &json!(200))
    );
    assert_eq!(
        world.events(&execution).await,
        [
            "ExecutionStarted",
            "TaskStateEntered",
            "TaskScheduled",
            "TaskStarted",
            "TaskSucceeded",
            "TaskStateExited",
            "ExecutionSucceeded"
        ]
    );
}

#[tokio::test]
async fn a_parked_task_ends_by_its_token_whatever_the_function_returned() {
    let mut world = World::with(work(TOKEN, json!({})));
    let execution = world.start("e", json!({})).await;
    let call = world.call().await;
    let token = call.token();
    call.returns(json!("ignored"));
    world.until_event(&execution, "TaskSubmitted", 1).await;
    assert_eq!(world.describe(&execution).await["status"], "RUNNING");
    world.succeed(&token, json!({ "x": 1 })).await;
    assert_eq!(output(&world.closed(&execution).await), json!({ "x": 1 }));
}

#[tokio::test]
async fn a_token_may_be_answered_before_the_function_returns() {
    let mut world = World::with(work(TOKEN, json!({})));
    let execution = world.start("e", json!({})).await;
    let call = world.call().await;
    world.succeed(&call.token(), json!("early")).await;
    call.fails("Late.Error");
    let done = world.closed(&execution).await;
    assert_eq!(output(&done), json!("early"));
    assert!(
        !world
            .events(&execution)
            .await
            .contains(&"TaskFailed".to_owned())
    );
}

#[tokio::test]
async fn a_token_is_answered_once() {
    let mut world = World::with(work(TOKEN, json!({})));
    let execution = world.start("e", json!({})).await;
    let call = world.call().await;
    let answer = json!({ "taskToken": call.token(), "output": "1" });
    world.api("SendTaskSuccess", answer.clone()).await;
    assert_eq!(
        world.refused("SendTaskSuccess", answer).await,
        "TaskTimedOut"
    );
    let failure = json!({ "taskToken": call.token(), "error": "E" });
    assert_eq!(
        world.refused("SendTaskFailure", failure).await,
        "TaskTimedOut"
    );
    assert_eq!(
        world
            .refused("SendTaskHeartbeat", json!({ "taskToken": call.token() }))
            .await,
        "TaskTimedOut"
    );
    assert_eq!(output(&world.closed(&execution).await), json!(1));
}

#[tokio::test]
async fn a_token_of_nothing_is_refused() {
    let mut world = World::with(work(TOKEN, json!({})));
    let mut other = World::with(work(TOKEN, json!({})));
    world.start("e", json!({})).await;
    other.start("e", json!({})).await;
    let (_here, elsewhere) = (world.call().await, other.call().await);
    let answer = |token: &str| json!({ "taskToken": token, "output": "1" });
    assert_eq!(
        world.refused("SendTaskSuccess", answer("nonsense")).await,
        "InvalidToken"
    );
    for operation in ["SendTaskSuccess", "SendTaskFailure", "SendTaskHeartbeat"] {
        assert_eq!(
            world.refused(operation, answer(&elsewhere.token())).await,
            "TaskDoesNotExist",
            "{operation}"
        );
    }
}

#[tokio::test]
async fn a_failed_token_fails_the_task_with_its_error() {
    let mut world = World::with(work_or_caught(
        TOKEN,
        json!({ "Catch": caught(json!(["Towpath.No"])) }),
    ));
    let execution = world.start("e", json!({})).await;
    let call = world.call().await;
    let failure = json!({ "taskToken": call.token(), "error": "Towpath.No", "cause": "because" });
    world.api("SendTaskFailure", failure).await;
    let done = output(&world.closed(&execution).await);
    assert_eq!(
        done,
        json!({ "caught": { "Error": "Towpath.No", "Cause": "because" } })
    );
}

#[tokio::test]
async fn an_error_that_nothing_takes_fails_the_execution() {
    let mut world = World::with(work(
        "invoke",
        json!({ "Retry": [{ "ErrorEquals": ["Other"] }] }),
    ));
    let execution = world.start("e", json!({})).await;
    world.call().await.fails("Towpath.Broken");
    let done = world.closed(&execution).await;
    assert_eq!(
        (&done["status"], &done["error"], &done["cause"]),
        (
            &json!("FAILED"),
            &json!("Towpath.Broken"),
            &json!("on purpose")
        )
    );
}

#[tokio::test]
async fn an_error_of_the_call_fails_a_task_that_waits_for_its_token() {
    let mut world = World::with(work(TOKEN, json!({})));
    let execution = world.start("e", json!({})).await;
    let call = world.call().await;
    let token = call.token();
    call.fails("Runtime.ExitError");
    assert_eq!(world.closed(&execution).await["error"], "Runtime.ExitError");
    let answer = json!({ "taskToken": token, "output": "1" });
    assert_eq!(
        world.refused("SendTaskSuccess", answer).await,
        "TaskTimedOut"
    );
}

#[tokio::test]
async fn retries_back_off_up_to_the_cap_and_each_has_a_new_token() {
    let retry = json!([{ "ErrorEquals": ["Busy"], "IntervalSeconds": 10, "BackoffRate": 2, "MaxDelaySeconds": 30, "MaxAttempts": 3 }]);
    let mut world = World::with(work(TOKEN, json!({ "Retry": retry })));
    let execution = world.start("e", json!({})).await;
    let mut tokens = Vec::new();
    for (retry, delay) in [10_000, 20_000, 30_000].into_iter().enumerate() {
        let call = world.call().await;
        assert_eq!(call.payload["retry"], json!(retry));
        assert_eq!(
            call.payload["entered"],
            json!(time::iso(NOW)),
            "a retry is no new entry"
        );
        tokens.push(call.token());
        call.fails("Busy");
        world.until_event(&execution, "TaskFailed", retry + 1).await;
        world.advance_ms(delay - 1);
        tokio::task::yield_now().await;
        assert!(world.calls.try_recv().is_err(), "too early");
        world.advance_ms(1);
    }
    let last = world.call().await;
    tokens.push(last.token());
    last.fails("Busy");
    assert_eq!(
        world.closed(&execution).await["error"],
        "Busy",
        "three retries, no more"
    );
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 4);
    // The start, the state, three retries.
    assert_eq!(world.sfn.transitions_of(&execution), 5);
    assert_eq!(world.sfn.counts().invocations, 4);
}

#[tokio::test]
async fn full_jitter_waits_no_longer_than_the_delay() {
    let retry = json!([{ "ErrorEquals": ["Busy"], "IntervalSeconds": 10, "JitterStrategy": "FULL", "MaxAttempts": 1 }]);
    let mut world = World::with(work("invoke", json!({ "Retry": retry })));
    let execution = world.start("e", json!({})).await;
    world.call().await.fails("Busy");
    world.until_event(&execution, "TaskFailed", 1).await;
    world.advance_ms(10_000);
    world.call().await.returns(json!(1));
    assert_eq!(world.closed(&execution).await["status"], "SUCCEEDED");
}

#[tokio::test]
async fn each_retrier_counts_its_own_attempts() {
    let retry = json!([
        { "ErrorEquals": ["Busy"], "IntervalSeconds": 1, "MaxAttempts": 1 },
        { "ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 1 },
    ]);
    let mut world = World::with(work_or_caught(
        "invoke",
        json!({ "Retry": retry, "Catch": caught(json!(["States.ALL"])) }),
    ));
    let execution = world.start("e", json!({})).await;
    for (i, error) in ["Busy", "Broken"].into_iter().enumerate() {
        world.call().await.fails(error);
        world.until_event(&execution, "TaskFailed", i + 1).await;
        world.advance_ms(2_000);
    }
    // The first retrier takes it, has no attempt left, and the second is not asked.
    world.call().await.fails("Busy");
    assert_eq!(
        output(&world.closed(&execution).await)["caught"]["Error"],
        "Busy"
    );
}

#[tokio::test]
async fn a_catcher_leads_on_with_the_error_or_its_output() {
    let catch = json!([
        { "ErrorEquals": ["Other"], "Next": "Work" },
        { "ErrorEquals": ["Plain"], "Next": "Caught" },
        { "ErrorEquals": ["States.TaskFailed"], "Next": "Caught",
          "Output": { "cause": "{% $states.errorOutput.Cause %}", "was": "{% $states.input.n %}" } },
    ]);
    for (error, expected) in [
        ("Plain", json!({ "Error": "Plain", "Cause": "on purpose" })),
        ("Broken", json!({ "cause": "on purpose", "was": 1 })),
    ] {
        let mut world = World::with(work_or_caught("invoke", json!({ "Catch": catch })));
        let execution = world.start("e", json!({ "n": 1 })).await;
        world.call().await.fails(error);
        let done = output(&world.closed(&execution).await);
        assert_eq!(done, json!({ "caught": expected }));
    }
}

#[tokio::test]
async fn a_catcher_that_fails_is_not_caught_by_its_own_state() {
    let catch = json!([{ "ErrorEquals": ["States.ALL"], "Next": "Caught", "Output": "{% $states.errorOutput.Nothing %}" }]);
    let mut world = World::with(work_or_caught("invoke", json!({ "Catch": catch })));
    let execution = world.start("e", json!({})).await;
    world.call().await.fails("Broken");
    let done = world.closed(&execution).await;
    assert_eq!(
        (&done["status"], &done["error"]),
        (&json!("FAILED"), &json!("States.QueryEvaluationError"))
    );
}

#[tokio::test]
async fn an_expression_of_a_task_that_fails_can_be_caught() {
    for fields in [
        json!({ "Output": "{% $states.result.Payload.nothing %}" }),
        json!({ "Arguments": { "FunctionName": "work", "Payload": "{% $states.input.nothing %}" } }),
        json!({ "Arguments": { "FunctionName": "{% $lookup({ 'a': 'b' }, 'c') %}" } }),
    ] {
        let mut fields = fields;
        fields["Catch"] = caught(json!(["States.QueryEvaluationError"]));
        let mut world = World::with(work_or_caught("invoke", fields));
        let execution = world.start("e", json!({})).await;
        if world.sfn.counts().invocations > 0 {
            world.call().await.returns(json!({}));
        }
        let done = output(&world.closed(&execution).await);
        assert_eq!(done["caught"]["Error"], "States.QueryEvaluationError");
        assert!(
            world
                .events(&execution)
                .await
                .contains(&"EvaluationFailed".to_owned())
        );
    }
}

#[tokio::test]
async fn terminal_errors_are_not_caught_by_states_all() {
    let catch = caught(json!(["States.ALL"]));
    let arguments = json!({ "FunctionName": "{% $states.input.function %}" });
    let mut world = World::with(work_or_caught(
        "invoke",
        json!({ "Arguments": arguments, "Catch": catch }),
    ));
    let execution = world.start("runtime", json!({ "function": 5 })).await;
    assert_eq!(world.closed(&execution).await["error"], "States.Runtime");
    let execution = world.start("limit", json!({ "function": "f" })).await;
    world.call().await.returns(json!("x".repeat(262_144)));
    assert_eq!(
        world.closed(&execution).await["error"],
        "States.DataLimitExceeded"
    );
}

#[tokio::test]
async fn a_task_that_takes_too_long_times_out_though_its_function_still_runs() {
    let mut world = World::with(work("invoke", json!({ "TimeoutSeconds": 30 })));
    let execution = world.start("e", json!({})).await;
    let call = world.call().await;
    world.advance_ms(30_000);
    let done = world.closed(&execution).await;
    assert_eq!(
        (&done["status"], &done["error"]),
        (&json!("FAILED"), &json!("States.Timeout"))
    );
    call.returns(json!("too late"));
    assert!(
        world
            .events(&execution)
            .await
            .contains(&"TaskTimedOut".to_owned())
    );
}

#[tokio::test]
async fn an_answer_that_comes_when_time_is_up_comes_too_late() {
    let mut world = World::with(work(TOKEN, json!({ "TimeoutSeconds": 30 })));
    let execution = world.start("e", json!({})).await;
    let call = world.call().await;
    world.advance_ms(30_000);
    // No one has let the timer run yet.
    let answer = json!({ "taskToken": call.token(), "output": "1" });
    assert_eq!(
        world.refused("SendTaskSuccess", answer).await,
        "TaskTimedOut"
    );
    assert_eq!(world.describe(&execution).await["error"], "States.Timeout");
}

#[tokio::test]
async fn a_heartbeat_tells_whether_a_token_is_alive_and_changes_nothing() {
    let mut world = World::with(work(TOKEN, json!({ "TimeoutSeconds": 100 })));
    let execution = world.start("e", json!({})).await;
    let call = world.call().await;
    let beat = json!({ "taskToken": call.token() });
    for _ in 0..3 {
        world.advance_ms(33_000);
        let answer = world.api("SendTaskHeartbeat", beat.clone()).await;
        assert_eq!(answer, json!({}));
    }
    assert_eq!(
        world.events(&execution).await.len(),
        4,
        "no event is written"
    );
    world.advance_ms(1_000);
    assert_eq!(
        world.refused("SendTaskHeartbeat", beat).await,
        "TaskTimedOut",
        "the timeout is that of the task"
    );
    assert_eq!(
        world.closed(&execution).await["error"],
        json!("States.Timeout")
    );
}

#[tokio::test]
async fn a_function_that_panics_has_crashed() {
    struct Panics;
    #[async_trait::async_trait]
    impl crate::Invoke for Panics {
        async fn invoke(&self, _: &str, _: Value) -> Result<Value, crate::InvokeError> {
            panic!("on purpose")
        }
    }
    let mut world = World::with(work_or_caught(
        "invoke",
        json!({ "Catch": caught(json!(["Lambda.Unknown"])) }),
    ));
    let (change, changes) = tokio::sync::mpsc::unbounded_channel();
    world.changes = changes;
    world.sfn = crate::StepFunctions::open(crate::Options {
        file: None,
        clock: world.clock.clone(),
        invoker: std::sync::Arc::new(Panics),
        listener: std::sync::Arc::new(super::Listener(change)),
        region: "eu-central-1".to_owned(),
        account: "123456789012".to_owned(),
    })
    .unwrap();
    world.define(work_or_caught(
        "invoke",
        json!({ "Catch": caught(json!(["Lambda.Unknown"])) }),
    ));
    let execution = world.start("e", json!({})).await;
    assert_eq!(
        output(&world.closed(&execution).await)["caught"]["Error"],
        "Lambda.Unknown"
    );
}
