//! Rules and schedules.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Clippy does not see that the helpers are tests, too.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use support::{
    SMALL, answering, cloud_of, failing, functions, options, real_template, states, telling,
};
use tokio::sync::mpsc::UnboundedReceiver;
use towpath_clock::Clock;
use towpath_local::{Cloud, Duplicates};

/// A cloud whose schedules run by its clock, and what they tell its function.
async fn scheduled() -> (Cloud, Clock, UnboundedReceiver<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("template.yaml");
    std::fs::write(&template, SMALL).unwrap();
    let (second, told) = telling();
    let clock = Clock::manual(0);
    let mut options = options(&template, functions([("Second", second)]));
    options.clock = clock.clone();
    options.schedules = true;
    (Cloud::start(options).await.unwrap(), clock, told)
}

/// Takes the events of the schedule of every minute and of every hour, in whichever order, and returns the latter.
async fn both(told: &mut UnboundedReceiver<Value>) -> Value {
    let both = [told.recv().await.unwrap(), told.recv().await.unwrap()];
    assert!(both.contains(&json!({"shards": [1]})), "{both:?}");
    let mut scheduled = both
        .into_iter()
        .filter(|event| event["source"] == "aws.events");
    scheduled.next().unwrap()
}

#[tokio::test]
async fn schedules_fire_once_when_the_cloud_starts() {
    let (_cloud, _clock, mut told) = scheduled().await;
    let hourly = both(&mut told).await;
    assert_eq!(hourly["time"], "1970-01-01T00:00:00Z");
    tokio::task::yield_now().await;
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn schedules_fire_by_the_clock() {
    let (_cloud, clock, mut told) = scheduled().await;
    both(&mut told).await;
    for minute in 1..60_u64 {
        clock.advance(Duration::from_secs(60));
        assert_eq!(
            told.recv().await.unwrap(),
            json!({"shards": [1]}),
            "minute {minute}"
        );
    }
    clock.advance(Duration::from_secs(60));
    let hourly = both(&mut told).await;
    assert_eq!(hourly["detail-type"], "Scheduled Event");
    assert_eq!(hourly["time"], "1970-01-01T01:00:00Z");
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn schedules_fire_by_hand() {
    let (second, mut told) = telling();
    let cloud = cloud_of(SMALL, functions([("Second", second)]))
        .await
        .unwrap();
    assert_eq!(cloud.counts().invocations, 0);
    cloud.fire_schedules().await;
    assert_eq!(cloud.counts().invocations, 2);
    assert!(told.try_recv().is_ok() && told.try_recv().is_ok());
}

#[tokio::test]
async fn an_event_reaches_the_functions_of_its_rules() {
    let (second, mut told) = telling();
    let cloud = cloud_of(SMALL, functions([("Second", second)]))
        .await
        .unwrap();
    let bus = cloud.event_bus();
    for (source, state) in [("shop", "sold"), ("port", "shipped"), ("shop", "shipping")] {
        bus.put(json!({"source": source, "detail-type": "Order", "detail": {"state": state}}))
            .await;
    }
    let event = told.try_recv().unwrap();
    assert_eq!(event["detail"]["state"], "shipping");
    assert_eq!(
        (&event["account"], &event["region"]),
        (&json!("000000000000"), &json!("us-east-1"))
    );
    assert_eq!(event["time"], "2023-11-14T22:13:20Z");
    assert!(told.try_recv().is_err(), "the others match no rule");
}

#[tokio::test]
async fn an_event_that_fails_is_tried_twice_more() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("template.yaml");
    std::fs::write(&template, SMALL).unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let second = answering(move |_| {
        tell.send(()).unwrap();
        Err(failing("Towpath.Broken"))
    });
    let options = options(&template, functions([("Second", second)]));
    let clock = options.clock.clone();
    let cloud = Cloud::start(options).await.unwrap();
    cloud
        .put_event(json!({"source": "shop", "detail": {"state": "shipped"}}))
        .await;
    told.try_recv().unwrap();
    // The pause begins some moment after the failure, so step until it is over.
    for _ in 0..2 {
        while told.try_recv().is_err() {
            clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    }
    for _ in 0..1_000 {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert!(told.try_recv().is_err(), "then it is given up");
    assert_eq!(cloud.counts().invocations, 3);
}

#[tokio::test]
async fn on_request_every_event_comes_twice() {
    let (second, mut told) = telling();
    let cloud = cloud_of(SMALL, functions([("Second", second)]))
        .await
        .unwrap();
    cloud.duplicate_invocations(Some(Duplicates { seed: 1, one_in: 1 }));
    cloud
        .put_event(json!({"source": "shop", "detail": {"state": "shipped"}}))
        .await;
    assert_eq!(told.recv().await, told.recv().await);
    cloud.duplicate_invocations(None);
    cloud
        .put_event(json!({"source": "shop", "detail": {"state": "shipped"}}))
        .await;
    assert_eq!(cloud.counts().invocations, 3);
}

#[tokio::test]
async fn the_death_of_a_driver_reaches_settle() {
    let (settle, mut told) = telling();
    let tries = Arc::new(AtomicU32::new(0));
    let advance = answering({
        let tries = Arc::clone(&tries);
        move |_| {
            tries.fetch_add(1, Ordering::Relaxed);
            Err(failing("Towpath.Corrupt"))
        }
    });
    let options = options(
        &real_template(),
        functions([("AdvanceFunction", advance), ("SettleFunction", settle)]),
    );
    let cloud = Cloud::start(options).await.unwrap();
    let machine = cloud.output("StateMachineArn").unwrap();
    let started = states(&cloud.aws_environment("TickFunction"))
        .start_execution()
        .state_machine_arn(&machine);
    started
        .name("run_1-1")
        .input(r#"{"run":"run_1","generation":1}"#)
        .send()
        .await
        .unwrap();

    // First the machine's own Settle state, then, when the execution has failed, the rule.
    assert_eq!(
        told.recv().await.unwrap(),
        json!({"run": "run_1", "generation": 1, "error": "Towpath.Corrupt"})
    );
    let event = told.recv().await.unwrap();
    assert_eq!(
        (&event["source"], &event["detail"]["status"]),
        (&json!("aws.states"), &json!("FAILED"))
    );
    assert_eq!(
        event["detail-type"],
        "Step Functions Execution Status Change"
    );
    assert_eq!(event["detail"]["stateMachineArn"], machine.as_str());
    assert_eq!(
        event["detail"]["input"],
        r#"{"run":"run_1","generation":1}"#
    );
    assert_eq!(
        tries.load(Ordering::Relaxed),
        1,
        "no Retry names this error"
    );
    assert!(cloud.counts().transitions > 0);
}

#[tokio::test]
async fn the_machine_may_invoke_only_what_its_role_allows() {
    let (advance, mut told) = telling();
    let (settle, mut settled) = telling();
    let options = options(
        &real_template(),
        functions([("AdvanceFunction", advance), ("SettleFunction", settle)]),
    );
    let clock = options.clock.clone();
    let cloud = Cloud::start(options).await.unwrap();
    assert!(cloud.remove_statement("RunStateMachine", 0, None));
    let machine = cloud.output("StateMachineArn").unwrap();
    let started = states(&cloud.aws_environment("operator"))
        .start_execution()
        .state_machine_arn(&machine);
    started
        .name("run_1-1")
        .input(r#"{"run":"run_1","generation":1}"#)
        .send()
        .await
        .unwrap();
    // Step Functions tries again, and again; the clock takes it to the end.
    let event = loop {
        match settled.try_recv() {
            Ok(event) => break event,
            Err(_) => clock.advance(Duration::from_secs(60)),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(
        event["detail"]["status"], "FAILED",
        "settle heard of it by the rule alone"
    );
    assert!(told.try_recv().is_err());
}
