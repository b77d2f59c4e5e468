//! Executors by hand: programs that register, ask for their missions and tell how they go, over HTTP.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use towpath_engine::{FailureKind, RunId, Status};
use towpath_tests::World;
use towpath_tests::executors::{Executor, ask};

use crate::{done, failure, world};

const STEP: &str = "
id: work
name: Work
steps:
  - agentKind: coder
    runtime: { kind: command, command: [ 'true' ], on: { executor: [ x-test ] } }
";

/// A run of one step that an executor does.
async fn run(world: &World) -> RunId {
    world.run(STEP).await
}

#[tokio::test]
async fn a_step_is_a_mission_of_the_executor_that_fits() {
    let world = world().await;
    let other = Executor::register(&world, 1, &["x-other"]).await;
    let executor = Executor::register(&world, 2, &["x-test", "isolation:container"]).await;
    assert_eq!(executor.claim(&world, &[]).await, [] as [Value; 0]);
    assert_eq!(other.claim(&world, &[]).await, [] as [Value; 0]);
    let run = run(&world).await;
    let message = executor.dispatched(&world).await;
    let mission = message["mission_id"].as_str().unwrap();
    let told = &message["data"]["dispatch"];
    assert_eq!(told["metadata"]["towpath"]["run"], run.to_string());
    assert_eq!(mission, towpath_engine::JobId::derive(&run, 1).as_str());
    let events = [
        ("mission.assigned", json!({ "state": "assigned" })),
        ("mission.started", json!({ "state": "running" })),
        ("mission.progress", json!({ "pct_complete": 50 })),
        (
            "mission.completed",
            json!({ "state": "done", "summary": "All is well.", "exit_code": 0 }),
        ),
    ];
    for (event, data) in events {
        assert_eq!(executor.tell(&world, event, mission, data).await, None);
    }
    let view = world.end(&run).await;
    done(&view);
    let href = view.steps[0].output.as_ref().unwrap().href.clone();
    let output = world.client.output(&href).await.unwrap();
    assert_eq!(output, "All is well.");
    // What was acknowledged is not told again, and the end is told late.
    let id = message["id"].as_str().unwrap();
    assert_eq!(executor.claim(&world, &[id]).await, [] as [Value; 0]);
    let key = world.standing.key.reveal().to_owned();
    let path = format!("/api/v1/missions/{mission}");
    let (status, shown) = ask(&world, Method::GET, &path, &key, &Value::Null).await;
    assert_eq!((status, &shown["state"]), (200, &json!("done")), "{shown}");
    assert_eq!(shown["recent_events"].as_array().unwrap().len(), 4);
    let late = json!({ "state": "running" });
    assert_eq!(
        executor
            .tell(&world, "mission.started", mission, late)
            .await,
        None
    );
    let (_, after) = ask(&world, Method::GET, &path, &key, &Value::Null).await;
    assert_eq!(after["state"], "done");
}

#[tokio::test]
async fn a_run_that_no_executor_fits_rests_and_says_whom_it_waits_for() {
    let world = world().await;
    let other = Executor::register(&world, 1, &["x-other"]).await;
    other.claim(&world, &[]).await;
    let run = run(&world).await;
    let waits = |view: &towpath_api_types::RunView| {
        let activity = view.steps[0].activity.clone();
        activity.contains("it lacks x-test")
    };
    world.until(&run, waits).await;
    let executor = Executor::register(&world, 2, &["x-test"]).await;
    let message = executor.dispatched(&world).await;
    let mission = message["mission_id"].as_str().unwrap();
    let failed =
        json!({ "state": "failed", "reason": "completion_not_met", "error": "It does not work." });
    executor
        .tell(&world, "mission.failed", mission, failed)
        .await;
    let (kind, message) = failure(&world.end(&run).await);
    assert_eq!(kind, FailureKind::Agent);
    assert!(
        message.contains("It does not work. (completion_not_met)"),
        "{message}"
    );
}

#[tokio::test]
async fn a_mission_of_a_silent_executor_is_given_to_another() {
    let world = world().await;
    let silent = Executor::register(&world, 1, &["x-test", "isolation:vm"]).await;
    silent.claim(&world, &[]).await;
    let run = run(&world).await;
    let first = silent.dispatched(&world).await;
    let other = Executor::register(&world, 2, &["x-test"]).await;
    let second = loop {
        let messages = other.claim(&world, &[]).await;
        if let Some(message) = messages.into_iter().next() {
            break message;
        }
        world.pass(Duration::from_secs(10)).await;
    };
    assert_ne!(first["mission_id"], second["mission_id"]);
    let done_with = json!({ "state": "done", "summary": "by the other" });
    // The one that was silent is too late.
    let late = first["mission_id"].as_str().unwrap();
    assert_eq!(
        silent
            .tell(&world, "mission.completed", late, done_with.clone())
            .await,
        None
    );
    let mission = second["mission_id"].as_str().unwrap();
    other
        .tell(&world, "mission.completed", mission, done_with)
        .await;
    let view = world.end(&run).await;
    done(&view);
    let href = view.steps[0].output.as_ref().unwrap().href.clone();
    assert_eq!(world.client.output(&href).await.unwrap(), "by the other");
}

#[tokio::test]
async fn a_stopped_run_ends_its_mission() {
    let world = world().await;
    let executor = Executor::register(&world, 1, &["x-test"]).await;
    executor.claim(&world, &[]).await;
    let run = run(&world).await;
    let message = executor.dispatched(&world).await;
    let mission = message["mission_id"].as_str().unwrap();
    let started = json!({ "state": "running" });
    executor
        .tell(&world, "mission.started", mission, started)
        .await;
    let path = format!("/runs/{run}/stop");
    let _: Value = world.client.post(&path, &json!({})).await.unwrap();
    let view = world.end(&run).await;
    assert_eq!(view.summary.status, Status::Failed);
    let abort = loop {
        let messages = executor.claim(&world, &[]).await;
        let abort = messages
            .into_iter()
            .find(|it| it["event"] == "mission.aborted");
        match abort {
            Some(abort) => break abort,
            None => world.pass(Duration::from_secs(1)).await,
        }
    };
    assert_eq!(abort["mission_id"], mission);
    let aborted = json!({ "state": "aborted", "aborted_by": "operator" });
    assert_eq!(
        executor
            .tell(&world, "mission.aborted", mission, aborted)
            .await,
        None
    );
}
