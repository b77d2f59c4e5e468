//! Executors dial in and out: for the permissions that this takes.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use towpath_engine::{RunId, Status};
use towpath_tests::World;
use towpath_tests::executors::{Executor, ask, payload};

fn pipeline(id: &str, capability: &str) -> String {
    let step = format!(
        "{{ agentKind: coder, runtime: {{ kind: command, command: [ 'true' ], on: {{ executor: [ {capability} ] }} }} }}"
    );
    format!("{{ id: {id}, steps: [ {step} ] }}")
}

async fn run(world: &World, id: &str, capability: &str) -> RunId {
    world.run(&pipeline(id, capability)).await
}

async fn api(world: &World, method: Method, path: &str, body: &Value) -> Value {
    let key = world.standing.key.reveal().to_owned();
    let (status, answer) = ask(world, method, path, &key, body).await;
    assert!((200..300).contains(&status), "{path}: {status} {answer}");
    answer
}

fn id_of(message: &Value) -> &str {
    message["mission_id"].as_str().unwrap()
}

fn completed() -> Value {
    json!({ "state": "done", "summary": "done" })
}

/// Does all that executors, operators and silence do.
pub(crate) async fn dial(world: &World) {
    let secret = world.standing.cloud.secret("EnrolmentKey").unwrap();
    let enrolment = format!("twk_{secret}");
    // The deployment's own enrolment key is of a workspace of its own.
    for number in [90, 91] {
        let stranger = Executor::register_with(world, &enrolment, number, &["x-a"]).await;
        assert_eq!(stranger.claim(world, &[]).await, [] as [Value; 0]);
    }
    let one = Executor::register(world, 1, &["x-a"]).await;
    one.claim(world, &[]).await;
    told_and_claimed(world, &one).await;
    asked_and_answered(world, &one).await;
    waited_for(world).await;
    let path = format!("/api/v1/executors/{}", one.id);
    api(
        world,
        Method::POST,
        &format!("{path}/token/rotate"),
        &Value::Null,
    )
    .await;
    let (status, _) = ask(
        world,
        Method::POST,
        "/api/v1/executors/register",
        &one.token,
        &payload(&one.id, &["x-a"]),
    )
    .await;
    assert_eq!(status, 201);
    api(world, Method::GET, "/api/v1/executors", &Value::Null).await;
    removed(world, &one).await;
    silent(world).await;
    by_socket(world).await;
}

/// An executor that dials in by a socket: it is pushed missions of runs and of callers, an answer, an end and what it did
/// not acknowledge, and its socket is closed when another is opened and when it is removed.
async fn by_socket(world: &World) {
    let executor = Executor::register(world, 4, &["x-d"]).await;
    let mut before = executor.connect(world).await.unwrap();
    let mut socket = executor.connect(world).await.unwrap();
    assert_eq!(before.next().await, None);
    let none = json!({ "owned_mission_ids": [] });
    socket.tell(world, "executor.resync", None, none).await;
    let told = run(world, "pushed", "x-d").await;
    let message = socket.heard("mission.dispatch").await;
    let mission = id_of(&message).to_owned();
    // Not acknowledged, it is pushed again.
    for _ in 0..4 {
        world.pass(Duration::from_secs(30)).await;
        let ping = json!({ "event": "executor.ping", "executor_id": executor.id });
        socket.say(&ping.to_string()).await;
    }
    socket.heard("mission.dispatch").await;
    let question = json!({ "hitl_id": "q", "prompt": "which?" });
    socket
        .tell(world, "mission.hitl_required", Some(&mission), question)
        .await;
    let subject = world.asked(&told).await;
    let path = format!("/runs/{told}/decisions/{subject}");
    api(world, Method::POST, &path, &json!({ "choice": "that" })).await;
    socket.heard("mission.hitl_responded").await;
    world.stop(&told).await.done();
    socket.heard("mission.aborted").await;
    let aborted = json!({ "state": "aborted" });
    socket
        .tell(world, "mission.aborted", Some(&mission), aborted)
        .await;
    world.end(&told).await;
    let body = json!({ "mission_id": "m-3", "objective": "o", "completion": "c" });
    api(world, Method::POST, "/api/v1/sessions/mine/dispatch", &body).await;
    socket.heard("mission.dispatch").await;
    // A job's end over the socket, told to its run; and its answer, stored.
    socket
        .tell(world, "mission.completed", Some("m-3"), completed())
        .await;
    let done = run(world, "by-socket", "x-d").await;
    let message = socket.heard("mission.dispatch").await;
    let mission = id_of(&message).to_owned();
    socket
        .tell(world, "mission.completed", Some(&mission), completed())
        .await;
    assert_eq!(world.end(&done).await.summary.status, Status::Done);
    let path = format!("/api/v1/executors/{}", executor.id);
    api(world, Method::DELETE, &path, &Value::Null).await;
    assert_eq!(socket.next().await, None);
}

/// A mission whose job is claimed as a runner claims it, and whose executor says itself how it ended.
async fn told_and_claimed(world: &World, executor: &Executor) {
    let told = run(world, "told", "x-a").await;
    let message = executor.dispatched(world).await;
    let mission = id_of(&message);
    let claim = json!({ "by": "worker", "token": "0123456789abcdef0123456789abcdef" });
    let path = format!("/jobs/{mission}/claim");
    let (status, answer) = ask(world, Method::POST, &path, &executor.token, &claim).await;
    assert_eq!(status, 200, "{answer}");
    executor
        .tell(world, "mission.completed", mission, completed())
        .await;
    assert_eq!(world.end(&told).await.summary.status, Status::Done);
    let id = message["id"].as_str().unwrap();
    executor.claim(world, &[id]).await;
}

/// Missions that ask: one is answered, and one is not.
async fn asked_and_answered(world: &World, executor: &Executor) {
    let dispatch = |id: &str| json!({ "mission_id": id, "objective": "o", "completion": "c" });
    for id in ["m-1", "m-2"] {
        let path = "/api/v1/sessions/mine/dispatch";
        api(world, Method::POST, path, &dispatch(id)).await;
        let until = towpath_executors::Instant::of_ms(world.clock.now_ms() + 60_000);
        let question = json!({ "hitl_id": "q", "prompt": "which?", "expires_at": until });
        executor
            .tell(world, "mission.hitl_required", id, question)
            .await;
    }
    let answer = json!({ "hitl_id": "q", "response": "that" });
    let path = "/api/v1/missions/m-1/hitl_response";
    api(world, Method::POST, path, &answer).await;
    let expired = async || {
        executor.claim(world, &[]).await;
        let shown = api(world, Method::GET, "/api/v1/missions/m-2", &Value::Null).await;
        shown["state"] == "failed"
    };
    world.when(Duration::from_secs(10), expired).await;
    executor
        .tell(world, "mission.completed", "m-1", completed())
        .await;
}

/// A run that waits for an executor, and one that is stopped meanwhile.
async fn waited_for(world: &World) {
    let waits = |view: &towpath_api_types::RunView| view.steps[0].activity.contains("it lacks x-b");
    let stopped = run(world, "stopped", "x-b").await;
    world.until(&stopped, waits).await;
    world.stop(&stopped).await.done();
    world.end(&stopped).await;
    let waiting = run(world, "waiting", "x-b").await;
    world.until(&waiting, waits).await;
    let other = Executor::register(world, 2, &["x-b"]).await;
    let message = other.dispatched(world).await;
    let failed = json!({ "state": "failed", "reason": "crash" });
    other
        .tell(world, "mission.failed", id_of(&message), failed)
        .await;
    assert_eq!(world.end(&waiting).await.summary.status, Status::Failed);
    let path = format!("/api/v1/executors/{}", other.id);
    let (status, _) = ask(world, Method::DELETE, &path, &other.token, &Value::Null).await;
    assert_eq!(status, 204);
}

/// An executor that is removed with a mission, whose run then waits for another.
async fn removed(world: &World, executor: &Executor) {
    let left = run(world, "left", "x-a").await;
    let path = format!("/api/v1/executors/{}", executor.id);
    let has_one = async || {
        let shown = api(world, Method::GET, &path, &Value::Null).await;
        shown["active_mission_count"] == 1
    };
    world.when(Duration::from_millis(1), has_one).await;
    api(world, Method::DELETE, &path, &Value::Null).await;
    let waits = |view: &towpath_api_types::RunView| view.steps[0].activity.contains("executor");
    world.until(&left, waits).await;
    world.stop(&left).await.done();
    world.end(&left).await;
}

/// An executor of which nothing is heard any more: its mission is lost, and a day later it is removed.
async fn silent(world: &World) {
    let executor = Executor::register(world, 3, &["x-c"]).await;
    executor.claim(world, &[]).await;
    let lost = run(world, "lost", "x-c").await;
    executor.dispatched(world).await;
    let waits =
        |view: &towpath_api_types::RunView| view.steps[0].activity.contains("it is not connected");
    world.until(&lost, waits).await;
    world.stop(&lost).await.done();
    world.end(&lost).await;
    let gone = async || {
        let shown = api(world, Method::GET, "/api/v1/executors", &Value::Null).await;
        shown["executors"] == json!([])
    };
    world.when(Duration::from_secs(1800), gone).await;
}
