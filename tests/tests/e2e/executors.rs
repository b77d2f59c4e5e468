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

/// What a run asks a human for: the id of the decision, once there is one.
async fn decision(world: &World, run: &RunId) -> String {
    let asks = |view: &towpath_api_types::RunView| {
        let open = view.steps[0].decisions.iter().any(|it| it.chosen.is_none());
        open && view.summary.status == Status::Blocked
    };
    let view = world.soon(run, asks).await;
    let waits = view.summary.waits_for.unwrap();
    assert_eq!(waits.reason, "human");
    waits.subject.unwrap()
}

async fn decide(world: &World, run: &RunId, decision: &str, choice: &str) {
    let path = format!("/runs/{run}/decisions/{decision}");
    let said = json!({ "choice": choice });
    let _: Value = world.client.post(&path, &said).await.unwrap();
}

/// The answers that an executor was sent, once there is one.
async fn answers(world: &World, executor: &Executor) -> Vec<Value> {
    for _ in 0..2000 {
        let mut messages = executor.claim(world, &[]).await;
        messages.retain(|it| it["event"] == "mission.hitl_responded");
        if !messages.is_empty() {
            return messages;
        }
        world.pass(Duration::from_millis(1)).await;
    }
    panic!("no answer came");
}

#[tokio::test]
async fn a_question_of_a_mission_is_a_decision_of_its_run_and_the_answer_goes_back() {
    let world = world().await;
    let executor = Executor::register(&world, 1, &["x-test", "hitl"]).await;
    executor.claim(&world, &[]).await;
    let run = run(&world).await;
    let message = executor.dispatched(&world).await;
    let mission = message["mission_id"].as_str().unwrap();
    let running = json!({ "state": "running" });
    executor
        .tell(&world, "mission.started", mission, running)
        .await;
    let asked = json!({
        "hitl_id": "q-1", "prompt": "Which port?", "context": "The usual one is taken.",
    });
    let refused = executor
        .tell(&world, "mission.hitl_required", mission, asked.clone())
        .await;
    assert_eq!(refused, None);
    let first = decision(&world, &run).await;
    let view = world.view(&run).await;
    let shown = &view.steps[0].decisions[0];
    assert!(shown.question.contains("Which port?") && shown.question.contains("taken"));
    assert!(shown.free_text);
    // A day goes by, in which the executor says nothing: it is suspended, and the question stays.
    world.pass(Duration::from_secs(60)).await;
    decide(&world, &run, &first, "8080").await;
    let told = answers(&world, &executor).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["data"]["hitl_id"], "q-1");
    assert_eq!(told[0]["data"]["response"], "8080");
    let view = world
        .soon(&run, |view| view.summary.status == Status::Running)
        .await;
    assert_eq!(
        view.steps[0].attempt, 1,
        "the job goes on, and is not another"
    );
    // Acknowledged, it is told no more; asked for again, it is told again.
    let id = told[0]["id"].as_str().unwrap();
    let after = executor.claim(&world, &[id]).await;
    assert!(
        after
            .iter()
            .all(|it| it["event"] != "mission.hitl_responded"),
        "{after:?}"
    );
    world.pass(Duration::from_millis(5)).await;
    executor
        .tell(&world, "mission.hitl_required", mission, asked)
        .await;
    let told = answers(&world, &executor).await;
    assert_eq!(told[0]["data"]["response"], "8080");
    assert_eq!(world.view(&run).await.summary.status, Status::Running);
    // Another question, which somebody answers at the mission itself: the run asks no more.
    let asked = json!({ "hitl_id": "q-2", "prompt": "Sure?" });
    executor
        .tell(&world, "mission.hitl_required", mission, asked)
        .await;
    decision(&world, &run).await;
    let key = world.standing.key.reveal().to_owned();
    let path = format!("/api/v1/missions/{mission}/hitl_response");
    let said = json!({ "hitl_id": "q-2", "response": "Yes." });
    let (status, answer) = ask(&world, Method::POST, &path, &key, &said).await;
    assert_eq!(status, 202, "{answer}");
    let view = world
        .soon(&run, |view| view.summary.status == Status::Running)
        .await;
    assert_eq!(view.steps[0].decisions.len(), 1);
    world.pass(Duration::from_millis(5)).await;
    // And one that its mission ends with.
    let asked = json!({ "hitl_id": "q-3", "prompt": "Really?" });
    executor
        .tell(&world, "mission.hitl_required", mission, asked)
        .await;
    decision(&world, &run).await;
    let end = json!({ "state": "done", "summary": "It runs at 8080." });
    assert_eq!(
        executor
            .tell(&world, "mission.completed", mission, end)
            .await,
        None
    );
    let view = world.end_soon(&run).await;
    done(&view);
    assert_eq!(world.output(&run, 0).await, "It runs at 8080.");
}

#[tokio::test]
async fn an_answer_waits_for_an_executor_that_is_away_and_a_stop_ends_a_mission_that_asks() {
    let world = world().await;
    let executor = Executor::register(&world, 1, &["x-test", "resumable"]).await;
    executor.claim(&world, &[]).await;
    let run_id = run(&world).await;
    let message = executor.dispatched(&world).await;
    let mission = message["mission_id"].as_str().unwrap();
    let id = message["id"].as_str().unwrap();
    executor.claim(&world, &[id]).await;
    let asked = json!({ "hitl_id": "q-1", "prompt": "Which port?" });
    let running = json!({ "state": "running" });
    executor
        .tell(&world, "mission.started", mission, running)
        .await;
    executor
        .tell(&world, "mission.hitl_required", mission, asked)
        .await;
    let first = decision(&world, &run_id).await;
    // Ten minutes without a word: the mission is suspended, and the run asks on.
    for _ in 0..20 {
        world.pass(Duration::from_secs(30)).await;
    }
    let key = world.standing.key.reveal().to_owned();
    let path = format!("/api/v1/missions/{mission}");
    let (_, shown) = ask(&world, Method::GET, &path, &key, &Value::Null).await;
    assert_eq!(shown["state"], "suspended", "{shown}");
    assert_eq!(decision(&world, &run_id).await, first);
    decide(&world, &run_id, &first, "8080").await;
    for _ in 0..10 {
        world.pass(Duration::from_secs(30)).await;
    }
    let back = json!({ "owned_mission_ids": [mission] });
    let resync = json!({
        "event": "executor.resync", "executor_id": executor.id, "data": back,
        "ts": towpath_executors::Instant::of_ms(world.clock.now_ms()),
    });
    assert_eq!(executor.send(&world, &resync).await, None);
    let told = answers(&world, &executor).await;
    assert_eq!(told[0]["data"]["response"], "8080");
    let reconnected = json!({ "checkpoint_id": "c-1" });
    assert_eq!(
        executor
            .tell(&world, "mission.reconnected", mission, reconnected)
            .await,
        None
    );
    world.pass(Duration::from_millis(5)).await;
    let asked = json!({ "hitl_id": "q-2", "prompt": "And now?" });
    assert_eq!(
        executor
            .tell(&world, "mission.hitl_required", mission, asked)
            .await,
        None
    );
    decision(&world, &run_id).await;
    world.stop(&run_id).await.done();
    let (kind, _) = failure(&world.end(&run_id).await);
    assert_eq!(kind, FailureKind::Cancelled);
    let messages = executor.claim(&world, &[]).await;
    let aborted = messages.iter().any(|it| it["event"] == "mission.aborted");
    assert!(aborted, "{messages:?}");
}
