//! Executors by hand: programs that register, ask for their missions and tell how they go, over HTTP.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use towpath_engine::{FailureKind, RunId, Status};
use towpath_store::Scope;
use towpath_tests::World;

use crate::{done, failure, world};

/// An executor that dialled in.
pub(crate) struct Executor {
    pub(crate) id: String,
    pub(crate) token: String,
}

/// A number for each executor, so that none is another.
pub(crate) fn uuid(number: u32) -> String {
    format!("6f1e2a52-6d0a-4f0e-9a53-{number:012}")
}

/// What an executor says of itself.
pub(crate) fn payload(id: &str, capabilities: &[&str]) -> Value {
    json!({
        "executor_id": id, "name": format!("executor {id}"), "version": "1.2.3", "spec_version": "1.0.0",
        "transport_endpoints": { "rest": "http://127.0.0.1:1/", "ws": "ws://127.0.0.1:1/" },
        "capabilities": capabilities,
    })
}

/// Asks with a bearer: the status, and what came back.
pub(crate) async fn ask(
    world: &World,
    method: Method,
    path: &str,
    bearer: &str,
    body: &Value,
) -> (u16, Value) {
    let bearer = format!("Bearer {bearer}");
    let headers = [
        ("authorization", &*bearer),
        ("content-type", "application/json"),
    ];
    let client = towpath_client::Client::new(world.standing.cloud.url(), None);
    let body = match body {
        Value::Null => Vec::new(),
        body => serde_json::to_vec(body).unwrap(),
    };
    let (status, bytes) = client.raw(method, path, &headers, body).await.unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let read = serde_json::from_slice(&bytes).unwrap_or(Value::String(text));
    (status.as_u16(), read)
}

/// The key of a workspace that enrols executors.
pub(crate) async fn enrolment(world: &World) -> String {
    let access = &world.standing.operator.access;
    let made = access.make_key(&world.standing.caller.workspace, "enrols", Scope::Enrol);
    made.await.unwrap().0.reveal().to_owned()
}

impl Executor {
    /// Registers one.
    pub(crate) async fn register(world: &World, number: u32, capabilities: &[&str]) -> Self {
        let (key, id) = (enrolment(world).await, uuid(number));
        let said = payload(&id, capabilities);
        let path = "/api/v1/executors/register";
        let (status, answer) = ask(world, Method::POST, path, &key, &said).await;
        assert_eq!(status, 201, "{answer}");
        let token = answer["token"].as_str().unwrap().to_owned();
        Self { id, token }
    }

    /// Asks for the messages that wait, and acknowledges those before.
    pub(crate) async fn claim(&self, world: &World, ack: &[&str]) -> Vec<Value> {
        let path = format!("/api/v1/executors/{}/claim", self.id);
        let body = json!({ "ack": ack });
        let (status, answer) = ask(world, Method::POST, &path, &self.token, &body).await;
        assert_eq!(status, 200, "{answer}");
        answer["messages"].as_array().unwrap().clone()
    }

    /// Tells an event; returns why it was refused.
    pub(crate) async fn tell(
        &self,
        world: &World,
        event: &str,
        mission: &str,
        data: Value,
    ) -> Option<String> {
        let now = world.clock.now_ms();
        let ts = format!("2026-01-01T00:00:00.{:03}Z", now % 1000);
        let message = json!({
            "event": event, "executor_id": self.id, "mission_id": mission, "ts": ts, "data": data,
        });
        self.send(world, &message).await
    }

    /// Sends a message; returns why it was refused.
    pub(crate) async fn send(&self, world: &World, message: &Value) -> Option<String> {
        let path = format!("/api/v1/executors/{}/events", self.id);
        let body = json!({ "messages": [message] });
        let (status, answer) = ask(world, Method::POST, &path, &self.token, &body).await;
        assert_eq!(status, 200, "{answer}");
        let refused = answer["refused"][0]["code"].as_str();
        refused.map(str::to_owned)
    }

    /// Waits until a mission is dispatched to it.
    pub(crate) async fn dispatched(&self, world: &World) -> Value {
        loop {
            let mut messages = self.claim(world, &[]).await;
            messages.retain(|it| it["event"] == "mission.dispatch");
            if let Some(message) = messages.pop() {
                return message;
            }
            world.pass(Duration::from_secs(1)).await;
        }
    }
}

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
        executor.tell(&world, "mission.started", mission, late).await,
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
    let failed = json!({ "state": "failed", "reason": "completion_not_met", "error": "It does not work." });
    executor.tell(&world, "mission.failed", mission, failed).await;
    let (kind, message) = failure(&world.end(&run).await);
    assert_eq!(kind, FailureKind::Agent);
    assert!(message.contains("It does not work. (completion_not_met)"), "{message}");
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
    assert_eq!(silent.tell(&world, "mission.completed", late, done_with.clone()).await, None);
    let mission = second["mission_id"].as_str().unwrap();
    other.tell(&world, "mission.completed", mission, done_with).await;
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
    executor.tell(&world, "mission.started", mission, started).await;
    let path = format!("/runs/{run}/stop");
    let _: Value = world.client.post(&path, &json!({})).await.unwrap();
    let view = world.end(&run).await;
    assert_eq!(view.summary.status, Status::Failed);
    let abort = loop {
        let messages = executor.claim(&world, &[]).await;
        let abort = messages.into_iter().find(|it| it["event"] == "mission.aborted");
        match abort {
            Some(abort) => break abort,
            None => world.pass(Duration::from_secs(1)).await,
        }
    };
    assert_eq!(abort["mission_id"], mission);
    let aborted = json!({ "state": "aborted", "aborted_by": "operator" });
    assert_eq!(executor.tell(&world, "mission.aborted", mission, aborted).await, None);
}
