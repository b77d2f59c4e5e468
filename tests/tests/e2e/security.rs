//! What executors may not do: a test for each way in that another executor, a stranger or an old token might try.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use towpath_engine::WorkspaceId;
use towpath_store::Scope;
use towpath_tests::World;
use towpath_tests::executors::{Executor, ask, enrolment, payload, uuid};
use towpath_tests::sockets::connect;

use crate::world;

const REGISTER: &str = "/api/v1/executors/register";

async fn post(world: &World, path: &str, bearer: &str, body: &Value) -> (u16, Value) {
    ask(world, Method::POST, path, bearer, body).await
}

/// A key of this scope, of the world's own workspace or of another.
async fn key(world: &World, workspace: Option<&str>, scope: Scope) -> String {
    let own = world.standing.caller.workspace.clone();
    let workspace = workspace.map_or(own, |name| name.parse::<WorkspaceId>().unwrap());
    let access = &world.standing.operator.access;
    let made = access.make_key(&workspace, "a key", scope).await;
    made.unwrap().0.reveal().to_owned()
}

/// A caller's own mission that this executor has.
async fn mission(world: &World, of: &Executor, id: &str) {
    let body = json!({
        "mission_id": id, "objective": "o", "completion": "c",
        "executor_filter": { "executor_id": of.id },
    });
    let key = world.standing.key.reveal().to_owned();
    let (status, answer) = post(world, "/api/v1/sessions/s/dispatch", &key, &body).await;
    assert_eq!(status, 202, "{answer}");
}

async fn state(world: &World, id: &str) -> Value {
    let key = world.standing.key.reveal().to_owned();
    let path = format!("/api/v1/missions/{id}");
    ask(world, Method::GET, &path, &key, &Value::Null).await.1["state"].clone()
}

#[tokio::test]
async fn nobody_registers_without_a_key_that_enrols() {
    let world = world().await;
    let said = payload(&uuid(1), &["x-a"]);
    for (bearer, expected) in [
        (String::new(), 401),
        ("twk_nobody".to_owned(), 401),
        ("twx_nobody".to_owned(), 401),
        (key(&world, None, Scope::Read).await, 403),
        (key(&world, None, Scope::Start).await, 403),
        (key(&world, None, Scope::Decide).await, 403),
        (enrolment(&world).await, 201),
    ] {
        let (status, answer) = post(&world, REGISTER, &bearer, &said).await;
        assert_eq!(status, expected, "{answer}");
        let is_told = answer["token"]
            .as_str()
            .is_some_and(|it| it.starts_with("twx_"));
        assert_eq!(is_told, expected == 201, "{answer}");
    }
    // A key that enrols opens nothing else.
    let enrols = enrolment(&world).await;
    for (method, path) in [
        (Method::GET, "/api/v1/executors"),
        (Method::GET, "/runs"),
        (Method::POST, "/api/v1/sessions/s/dispatch"),
        (Method::POST, "/api/v1/missions/m/abort"),
    ] {
        let (status, _) = ask(&world, method, path, &enrols, &json!({})).await;
        assert_eq!(status, 403, "{path}");
    }
}

#[tokio::test]
async fn a_known_id_is_given_to_nobody_who_only_knows_it() {
    let world = world().await;
    let executor = Executor::register(&world, 1, &["x-a"]).await;
    let other = Executor::register(&world, 2, &["x-a"]).await;
    let said = payload(&executor.id, &["x-taken"]);
    for (bearer, expected) in [
        (enrolment(&world).await, 409),
        (other.token.clone(), 403),
        (executor.token.clone(), 201),
    ] {
        let (status, answer) = post(&world, REGISTER, &bearer, &said).await;
        assert_eq!(status, expected, "{answer}");
        let text = answer.to_string();
        assert_eq!(text.contains(&executor.token), expected == 201, "{text}");
    }
}

#[tokio::test]
async fn an_executor_serves_its_own_workspace_and_sees_no_other() {
    let world = world().await;
    let enrols = key(&world, Some("theirs"), Scope::Enrol).await;
    let theirs = Executor::register_with(&world, &enrols, 1, &["x-test"]).await;
    theirs.claim(&world, &[]).await;
    let ours = Executor::register(&world, 2, &["x-test"]).await;
    ours.claim(&world, &[]).await;
    mission(&world, &ours, "m-1").await;
    // Nobody of ours has the id of theirs, and a mission cannot be pinned to it.
    let body = json!({
        "mission_id": "m-2", "objective": "o", "completion": "c",
        "executor_filter": { "executor_id": theirs.id },
    });
    let own = world.standing.key.reveal().to_owned();
    let (status, _) = post(&world, "/api/v1/sessions/s/dispatch", &own, &body).await;
    assert_eq!(status, 503);
    let path = format!("/api/v1/executors/{}", theirs.id);
    for method in [Method::GET, Method::DELETE] {
        let (status, _) = ask(&world, method, &path, &own, &Value::Null).await;
        assert_eq!(status, 404);
    }
    let reads = key(&world, Some("theirs"), Scope::Admin).await;
    let path = "/api/v1/missions/m-1";
    assert_eq!(
        ask(&world, Method::GET, path, &reads, &Value::Null).await.0,
        404
    );
    let (_, list) = ask(
        &world,
        Method::GET,
        "/api/v1/executors",
        &reads,
        &Value::Null,
    )
    .await;
    assert_eq!(list["executors"].as_array().unwrap().len(), 1);
    assert_eq!(theirs.claim(&world, &[]).await, [] as [Value; 0]);
    let end = json!({ "state": "done" });
    let refused = theirs.tell(&world, "mission.completed", "m-1", end).await;
    assert_eq!(refused.as_deref(), Some("not_found"));
}

#[tokio::test]
async fn nobody_tells_of_anothers_mission_or_in_anothers_name() {
    let world = world().await;
    let owner = Executor::register(&world, 1, &["x-a"]).await;
    owner.claim(&world, &[]).await;
    let liar = Executor::register(&world, 2, &["x-a"]).await;
    liar.claim(&world, &[]).await;
    mission(&world, &owner, "m-1").await;
    let end = json!({ "state": "done", "summary": "lies" });
    let refused = liar
        .tell(&world, "mission.completed", "m-1", end.clone())
        .await;
    assert_eq!(refused.as_deref(), Some("not_found"));
    let message = json!({
        "event": "mission.completed", "executor_id": owner.id, "mission_id": "m-1", "data": end,
        "ts": towpath_executors::Instant::of_ms(world.clock.now_ms()),
    });
    assert_eq!(
        liar.send(&world, &message).await.as_deref(),
        Some("forbidden")
    );
    for path in ["claim", "events", "token/rotate"] {
        let path = format!("/api/v1/executors/{}/{path}", owner.id);
        let (status, _) = post(&world, &path, &liar.token, &json!({ "messages": [] })).await;
        assert_eq!(status, 403, "{path}");
    }
    let path = format!("/api/v1/executors/{}", owner.id);
    let (status, _) = ask(&world, Method::DELETE, &path, &liar.token, &Value::Null).await;
    assert_eq!(status, 403);
    assert_eq!(
        connect(&world, &owner.id, &liar.token).await.err(),
        Some(403)
    );
    // Nor over a socket of its own.
    let mut socket = liar.connect(&world).await.unwrap();
    let answer = socket
        .tell(
            &world,
            "mission.completed",
            Some("m-1"),
            json!({ "state": "done" }),
        )
        .await;
    assert_eq!(answer["code"], "not_found", "{answer}");
    socket.say(&message.to_string()).await;
    assert_eq!(socket.next().await.unwrap()["code"], "forbidden");
    assert_eq!(state(&world, "m-1").await, "assigned");
    // What makes no sense in its state counts for its owner neither.
    let resumed = json!({ "state": "running", "resumed_from": "paused" });
    let refused = owner.tell(&world, "mission.resumed", "m-1", resumed).await;
    assert_eq!(refused.as_deref(), Some("wrong_state"));
    let words = [
        "executor.registered",
        "executor.deregistered",
        "mission.hitl_responded",
    ];
    for word in words {
        let refused = owner.tell(&world, word, "m-1", json!({})).await;
        assert_eq!(refused.as_deref(), Some("invalid_payload"), "{word}");
    }
}

#[tokio::test]
async fn a_rotated_token_is_good_for_ten_minutes_and_a_revoked_one_for_no_moment() {
    let world = world().await;
    let executor = Executor::register(&world, 1, &["x-a"]).await;
    let path = format!("/api/v1/executors/{}", executor.id);
    let rotate = format!("{path}/token/rotate");
    let (status, answer) = post(&world, &rotate, &executor.token, &json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let second = answer["token"].as_str().unwrap().to_owned();
    assert_ne!(second, executor.token);
    let claim = format!("{path}/claim");
    let good = async |token: &str| post(&world, &claim, token, &json!({})).await.0 == 200;
    assert!(good(&executor.token).await && good(&second).await);
    for _ in 0..11 {
        world.pass(Duration::from_secs(60)).await;
    }
    assert!(!good(&executor.token).await && good(&second).await);
    // Removed, with its socket open: the socket is closed, and neither it nor a token opens anything.
    let mut socket = connect(&world, &executor.id, &second).await.unwrap();
    let own = world.standing.key.reveal().to_owned();
    let (status, _) = ask(&world, Method::DELETE, &path, &own, &Value::Null).await;
    assert_eq!(status, 204);
    assert_eq!(socket.next().await, None);
    assert!(!good(&second).await);
    assert_eq!(
        connect(&world, &executor.id, &second).await.err(),
        Some(401)
    );
    assert_eq!(connect(&world, &executor.id, "").await.err(), Some(401));
    let (status, _) = post(&world, REGISTER, &second, &payload(&executor.id, &["x-a"])).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn whoever_copied_a_token_is_left_behind_when_its_owner_registers_from_elsewhere() {
    let world = world().await;
    let executor = Executor::register(&world, 1, &["x-a"]).await;
    let mut moved = payload(&executor.id, &["x-a"]);
    moved["transport_endpoints"]["rest"] = json!("http://127.0.0.1:2/");
    let (status, answer) = post(&world, REGISTER, &executor.token, &moved).await;
    assert_eq!(status, 201, "{answer}");
    let token = answer["token"].as_str().unwrap();
    assert_ne!(token, executor.token);
    for _ in 0..11 {
        world.pass(Duration::from_secs(60)).await;
    }
    let claim = format!("/api/v1/executors/{}/claim", executor.id);
    assert_eq!(
        post(&world, &claim, &executor.token, &json!({})).await.0,
        401
    );
    assert_eq!(post(&world, &claim, token, &json!({})).await.0, 200);
}

#[tokio::test]
async fn the_newest_socket_counts_and_the_end_of_the_one_before_changes_nothing() {
    let world = world().await;
    let executor = Executor::register(&world, 1, &["x-a"]).await;
    let mut first = executor.connect(&world).await.unwrap();
    let mut second = executor.connect(&world).await.unwrap();
    assert_eq!(first.next().await, None, "the one before is closed");
    let none = json!({ "owned_mission_ids": [] });
    let answer = second.tell(&world, "executor.resync", None, none).await;
    assert_eq!(answer["event"], "executor.ack", "{answer}");
    mission(&world, &executor, "m-1").await;
    let message = second.heard("mission.dispatch").await;
    assert_eq!(message["mission_id"], "m-1");
    // What is no JSON, and what is none of the contract, is answered, and the socket stays.
    second.say("no JSON").await;
    assert_eq!(second.next().await.unwrap()["code"], "invalid_json");
    second.say("{}").await;
    assert_eq!(second.next().await.unwrap()["code"], "invalid_payload");
    let running = json!({ "state": "running" });
    let answer = second
        .tell(&world, "mission.started", Some("m-1"), running)
        .await;
    assert_eq!(answer["event"], "executor.ack");
    assert_eq!(state(&world, "m-1").await, "running");
    second.close().await;
}

#[tokio::test]
async fn no_token_is_in_a_record() {
    let world = world().await;
    let executor = Executor::register(&world, 1, &["x-a"]).await;
    let _socket = executor.connect(&world).await.unwrap();
    let secret = executor.token.trim_start_matches("twx_");
    let rows = world.executor_rows().await;
    assert!(
        rows.contains(&executor.id),
        "the rows are those of executors"
    );
    assert!(!rows.contains(secret), "a token is stored in the clear");
}
