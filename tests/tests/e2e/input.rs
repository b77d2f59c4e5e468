//! Bad input: each refusal says what is wrong, and changes nothing.

use http::Method;
use serde_json::{Value, json};
use towpath_auth::Key;
use towpath_client::Client;
use towpath_store::Scope;
use towpath_tests::{Answer, World, ask};

use crate::jobs::job;
use crate::world;

/// Everything that a caller can see of a workspace.
async fn everything(world: &World) -> Vec<Value> {
    let mut seen = Vec::new();
    for path in ["/pipelines", "/blocks", "/runs"] {
        let list: Value = world.client.get(path).await.unwrap();
        for run in list["items"].as_array().unwrap() {
            if path == "/runs" {
                let path = format!("/runs/{}", run["id"].as_str().unwrap());
                seen.push(world.client.get(&path).await.unwrap());
            }
        }
        seen.push(list);
    }
    seen
}

type Request<'a> = (Method, &'a str, &'a str);

async fn send(client: &Client, request: &Request<'_>) -> Answer {
    let (method, path, body) = request.clone();
    ask(client, method, path, &[], body.into()).await
}

fn no(status: u16, code: &str, field: Option<&str>) -> (u16, String, Option<String>) {
    (status, code.to_owned(), field.map(str::to_owned))
}

/// A world in which a run waits for an approval, and every route with a request that would be taken.
async fn busy() -> (World, String, String) {
    let world = world().await;
    let yaml = job("true").replace(
        "steps: [",
        "steps: [{ agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }, ",
    );
    let run = world.run(&yaml).await;
    let subject = world.asked_soon(&run).await;
    (world, run.to_string(), subject)
}

/// Every route, with the scope it needs and a request that would be taken.
fn routes(run: &str, subject: &str) -> Vec<(Scope, Method, String, Value)> {
    let (get, put, post) = (|| Method::GET, || Method::PUT, || Method::POST);
    let pipeline = json!({ "id": "work", "steps": [{ "agentKind": "a", "runtime": { "kind": "simulated" } }] });
    let start = json!({ "blockId": "work", "pipelineId": "work", "replace": true });
    let approval = |verb: &str| format!("/runs/{run}/approvals/{subject}/{verb}");
    let feedback = json!({ "feedback": "no" });
    let nothing = || json!({});
    vec![
        (Scope::Read, get(), "/pipelines".into(), nothing()),
        (Scope::Read, get(), "/pipelines/work".into(), nothing()),
        (Scope::Admin, put(), "/pipelines/work".into(), pipeline),
        (Scope::Read, get(), "/blocks".into(), nothing()),
        (Scope::Read, get(), "/blocks/work".into(), nothing()),
        (
            Scope::Admin,
            put(),
            "/blocks/work".into(),
            json!({ "title": "mine" }),
        ),
        (Scope::Read, get(), "/runs".into(), nothing()),
        (Scope::Start, post(), "/runs".into(), start),
        (Scope::Read, get(), format!("/runs/{run}"), nothing()),
        (
            Scope::Read,
            get(),
            format!("/runs/{run}/steps/0/output"),
            nothing(),
        ),
        (
            Scope::Decide,
            post(),
            format!("/runs/{run}/stop"),
            nothing(),
        ),
        (
            Scope::Decide,
            post(),
            format!("/runs/{run}/retry"),
            nothing(),
        ),
        (
            Scope::Decide,
            post(),
            format!("/runs/{run}/restart"),
            json!({ "fromStep": 0 }),
        ),
        (
            Scope::Decide,
            post(),
            format!("/runs/{run}/decisions/{subject}"),
            json!({ "choice": "a" }),
        ),
        (Scope::Decide, post(), approval("approve"), nothing()),
        (Scope::Decide, post(), approval("request-changes"), feedback),
        (Scope::Decide, post(), approval("reject"), nothing()),
        (
            Scope::Admin,
            Method::DELETE,
            "/pipelines/work".into(),
            nothing(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_or_makes_no_sense_is_refused_and_said_why() {
    let (world, run, subject) = busy().await;
    world.block("idle").await;
    let before = everything(&world).await;
    let (post, put) = (|| Method::POST, || Method::PUT);
    let large = json!({ "title": "x".repeat(1024 * 1024) }).to_string();
    let approve = format!("/runs/{run}/approvals/{subject}/approve");
    let restart = format!("/runs/{run}/restart");
    let other = "run_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let cases = [
        // Not there.
        (
            (
                post(),
                "/runs",
                r#"{"blockId": "none", "pipelineId": "work"}"#,
            ),
            no(404, "not_found", Some("blockId")),
        ),
        (
            (
                post(),
                "/runs",
                r#"{"blockId": "idle", "pipelineId": "none"}"#,
            ),
            no(404, "not_found", Some("pipelineId")),
        ),
        (
            (Method::GET, "/blocks/none", ""),
            no(404, "not_found", None),
        ),
        (
            (Method::GET, "/pipelines/none", ""),
            no(404, "not_found", None),
        ),
        (
            (Method::GET, &format!("/runs/{other}"), ""),
            no(404, "not_found", None),
        ),
        (
            (Method::GET, "/runs/nonsense", ""),
            no(404, "not_found", None),
        ),
        (
            (Method::GET, &format!("/runs/{run}/steps/1/output"), ""),
            no(404, "not_found", None),
        ),
        (
            (Method::GET, &format!("/runs/{run}/steps/99/output"), ""),
            no(404, "not_found", None),
        ),
        (
            (Method::GET, &format!("/runs/{run}/steps/-1/output"), ""),
            no(404, "not_found", None),
        ),
        (
            (post(), &format!("/runs/{other}/stop"), "{}"),
            no(404, "not_found", None),
        ),
        (
            (post(), &format!("/runs/{other}/retry"), "{}"),
            no(404, "not_found", None),
        ),
        (
            (post(), &format!("/runs/{other}/approvals/a/approve"), "{}"),
            no(404, "not_found", None),
        ),
        (
            (
                post(),
                &format!("/runs/{run}/approvals/{subject}/bless"),
                "{}",
            ),
            no(404, "not_found", None),
        ),
        // In the way.
        (
            (
                post(),
                "/runs",
                r#"{"blockId": "work", "pipelineId": "work"}"#,
            ),
            no(409, "run_is_live", None),
        ),
        // Too large.
        ((put(), "/blocks/large", &large), no(413, "too_large", None)),
        ((post(), "/runs", &large), no(413, "too_large", None)),
        ((post(), &approve, &large), no(413, "too_large", None)),
        // Not JSON.
        ((post(), "/runs", "{"), no(400, "invalid_json", None)),
        (
            (
                post(),
                "/runs",
                r#"{"blockId": "idle", "pipelineId": "work"} and more"#,
            ),
            no(400, "invalid_json", None),
        ),
        (
            (put(), "/blocks/idle", "title: yaml"),
            no(400, "invalid_json", None),
        ),
        ((post(), &approve, "yes"), no(400, "invalid_json", None)),
        ((post(), &restart, "[1,"), no(400, "invalid_json", None)),
        // JSON of another shape.
        ((post(), "/runs", "[]"), no(422, "invalid_request", None)),
        (
            (post(), "/runs", r#"["idle", "work"]"#),
            no(422, "invalid_request", None),
        ),
        (
            (post(), "/runs", r#"{"pipelineId": "work"}"#),
            no(422, "invalid_request", Some("blockId")),
        ),
        (
            (post(), "/runs", r#"{"blockId": 7, "pipelineId": "work"}"#),
            no(422, "invalid_request", Some("blockId")),
        ),
        (
            (
                post(),
                "/runs",
                r#"{"blockId": "Not A Name", "pipelineId": "work"}"#,
            ),
            no(422, "invalid_request", Some("blockId")),
        ),
        (
            (
                post(),
                "/runs",
                r#"{"blockId": "idle", "pipelineId": "work", "replce": true}"#,
            ),
            no(422, "invalid_request", Some("replce")),
        ),
        (
            (
                put(),
                "/blocks/idle",
                r#"{"title": "t", "repository": {"url": 1}}"#,
            ),
            no(422, "invalid_request", Some("repository.url")),
        ),
        (
            (put(), "/blocks/idle", r#"{"title": "t", "status": "done"}"#),
            no(422, "invalid_request", Some("status")),
        ),
        (
            (post(), &approve, r#"{"proposal": ["a"]}"#),
            no(422, "invalid_request", Some("proposal")),
        ),
        (
            (post(), &restart, "{}"),
            no(422, "invalid_request", Some("fromStep")),
        ),
        (
            (post(), &restart, r#"{"fromStep": -1}"#),
            no(422, "invalid_request", Some("fromStep")),
        ),
        (
            (post(), &restart, r#"{"fromStep": 70000}"#),
            no(422, "invalid_request", Some("fromStep")),
        ),
        (
            (put(), "/pipelines/work", r#"{"id": "other", "steps": []}"#),
            no(422, "invalid_request", Some("id")),
        ),
        (
            (
                put(),
                "/pipelines/work",
                r#"{"id": "work", "steps": [{"agentKind": "Über"}]}"#,
            ),
            no(422, "invalid_request", Some("steps[0].agentKind")),
        ),
        // No such path, no such method.
        ((Method::GET, "/runs/", ""), no(404, "not_found", None)),
        ((post(), "/rums", "{}"), no(404, "not_found", None)),
        (
            (Method::DELETE, &format!("/runs/{run}"), ""),
            no(405, "method_not_allowed", None),
        ),
        (
            (Method::GET, &approve, ""),
            no(405, "method_not_allowed", None),
        ),
        ((put(), "/runs", "{}"), no(405, "method_not_allowed", None)),
    ];
    for (request, expected) in &cases {
        let answer = send(&world.client, request).await;
        let shown = &request.2[..request.2.len().min(80)];
        assert_eq!(
            &answer.no(),
            expected,
            "{} {} {shown}: {answer:?}",
            request.0,
            request.1
        );
    }
    let again = json!({ "blockId": "work", "pipelineId": "work" });
    let live = world.post("/runs", &again);
    assert_eq!(live.await.problem().run.unwrap().as_str(), run);
    let name = "x".repeat(129);
    let named = json!({ "blockId": "idle", "pipelineId": "work" });
    for name in ["", "two words", &name] {
        let answer = world.post_once("/runs", name, &named).await;
        assert_eq!(
            answer.no(),
            no(422, "invalid_request", Some("Idempotency-Key")),
            "{name:?}"
        );
    }
    assert_eq!(everything(&world).await, before, "nothing was changed");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_cannot_run_is_told_everything_that_is_wrong_with_it() {
    let world = world().await;
    let before = everything(&world).await;
    let pipeline = json!({ "id": "bad", "steps": [
        { "agentKind": "coder" },
        { "agentKind": "ci" },
        { "agentKind": "coder", "runtime": { "kind": "process", "command": [] } },
        { "agentKind": "coder", "runtime": { "kind": "process", "command": ["true"], "env": { "TOWPATH_X": "1" } } },
        { "agentKind": "asker", "runtime": { "kind": "simulated", "asks": { "question": "?" } } },
    ] });
    let answer = world.ask(Method::PUT, "/pipelines/bad", &pipeline).await;
    assert_eq!(answer.no(), no(422, "invalid_pipeline", None));
    let flaws = answer.problem().errors;
    let places: Vec<_> = flaws.iter().map(|flaw| flaw.path.as_str()).collect();
    let expected = [
        "steps[0]",
        "steps[1]",
        "steps[2].runtime.command",
        "steps[3].runtime.env.TOWPATH_X",
        "steps[4].runtime.asks.options",
    ];
    assert_eq!(places, expected);
    let none = json!({ "id": "bad", "steps": [] });
    let none = world.ask(Method::PUT, "/pipelines/bad", &none).await;
    assert_eq!(none.no(), no(422, "invalid_pipeline", None));
    assert_eq!(everything(&world).await, before);

    // A runtime that other deployments have: nothing is wrong with the pipeline itself.
    let elsewhere = json!({ "id": "bad", "steps": [
        { "agentKind": "coder", "runtime": { "kind": "command", "command": ["true"], "on": "fly" } },
    ] });
    let elsewhere = world.ask(Method::PUT, "/pipelines/bad", &elsewhere).await;
    assert_eq!(elsewhere.no(), no(409, "runtime_not_implemented", None));
    let problem = elsewhere.problem();
    assert_eq!(problem.provider.as_deref(), Some("fly"));
    assert_eq!(problem.errors[0].path, "steps[0]");
    assert_eq!(everything(&world).await, before);

    let archived = job("true").replace("id: work", "id: work, archived: true");
    world.put(&archived).await;
    world.block("work").await;
    let start = json!({ "blockId": "work", "pipelineId": "work" });
    let answer = world.post("/runs", &start).await;
    assert_eq!(answer.no(), no(422, "invalid_pipeline", Some("pipelineId")));
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_key_there_is_nothing_to_see_and_nothing_to_do() {
    let (world, run, subject) = busy().await;
    let before = everything(&world).await;
    let url = world.standing.cloud.url();
    let unknown = Client::new(url, Some(Key::generate().unwrap()));
    for (_, method, path, body) in routes(&run, &subject) {
        let body = body.to_string();
        let request = (method, &path[..], &body[..]);
        let expected = no(401, "unauthorized", None);
        for client in [&Client::new(url, None), &unknown] {
            assert_eq!(send(client, &request).await.no(), expected, "{request:?}");
        }
        for header in ["Bearer twk_short", "Basic dG93OnBhdGg=", "twk_", ""] {
            let keyless = Client::new(url, None);
            let headers = [("authorization", header)];
            let answer = ask(
                &keyless,
                request.0.clone(),
                &path,
                &headers,
                body.clone().into(),
            )
            .await;
            assert_eq!(answer.no(), expected, "{header} {request:?}");
        }
    }
    assert_eq!(everything(&world).await, before);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_workspaces_runs_are_not_there() {
    let (world, run, subject) = busy().await;
    let before = everything(&world).await;
    let stranger = world.client_of("elsewhere", "stranger", Scope::Admin).await;
    for (_, method, path, body) in routes(&run, &subject) {
        let body = body.to_string();
        let request = (method.clone(), &path[..], &body[..]);
        // A list is empty, and a definition of the same name is another one: see below.
        match path.as_str() {
            "/pipelines" | "/blocks" | "/runs" if method == Method::GET => {
                let list = send(&stranger, &request).await.done();
                assert_eq!(list["items"], json!([]), "{path}");
            }
            _ if method == Method::PUT => {}
            _ => {
                let answer = send(&stranger, &request).await;
                assert_eq!(
                    (answer.status, &answer.no().1[..]),
                    (404, "not_found"),
                    "{request:?}"
                );
                assert_eq!(answer.problem().run, None);
            }
        }
    }
    for (_, method, path, body) in routes(&run, &subject) {
        if method == Method::PUT {
            let body = body.to_string();
            send(&stranger, &(method, &path, &body)).await.done();
        }
    }
    let start = r#"{"blockId": "work", "pipelineId": "work"}"#;
    let own = send(&stranger, &(Method::POST, "/runs", start)).await;
    assert_eq!(
        own.status, 201,
        "its own block of that name has no live run"
    );
    let unseen = world
        .ask(Method::GET, &format!("/runs/{}", own.run()), &Value::Null)
        .await;
    assert_eq!(unseen.no().1, "not_found");
    assert_eq!(everything(&world).await, before);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_do_what_its_scope_says_and_no_more() {
    let (world, run, subject) = busy().await;
    let before = everything(&world).await;
    for scope in [Scope::Read, Scope::Start, Scope::Decide] {
        let client = world.client_of("local", "limited", scope).await;
        for (needed, method, path, body) in routes(&run, &subject) {
            let body = body.to_string();
            let request = (method.clone(), &path[..], &body[..]);
            if needed > scope {
                let answer = send(&client, &request).await;
                assert_eq!(
                    answer.no(),
                    no(403, "forbidden", None),
                    "{scope:?} {request:?}"
                );
            } else if method == Method::GET {
                assert_eq!(
                    send(&client, &request).await.status,
                    200,
                    "{scope:?} {request:?}"
                );
            }
        }
    }
    assert_eq!(everything(&world).await, before);
    // The smallest scope that may do each thing does it.
    let decider = world.client_of("local", "decider", Scope::Decide).await;
    let path = format!("/runs/{run}/approvals/{subject}/approve");
    assert_eq!(
        send(&decider, &(Method::POST, &path, "{}")).await.status,
        200
    );
    world.end_soon(&run.parse().unwrap()).await;
    let starter = world.client_of("local", "starter", Scope::Start).await;
    let start = r#"{"blockId": "work", "pipelineId": "work"}"#;
    let started = send(&starter, &(Method::POST, "/runs", start)).await;
    assert_eq!(
        (started.status, &started.body["initiatedBy"]),
        (201, &json!("starter"))
    );
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_could_use_is_refused_before_it_is_kept() {
    let world = world().await;
    let put = async |path: &str, body: Value| world.ask(Method::PUT, path, &body).await;
    let invalid = |field| no(422, "invalid_request", Some(field));
    let secret =
        json!({ "title": "t", "repository": { "url": "https://bot:hunter2@example.com/a.git" } });
    let refused = put("/blocks/b", secret).await;
    assert_eq!(refused.no(), invalid("repository.url"));
    let message = refused.problem().message;
    assert!(
        message.contains("credential helper") && !message.contains("hunter2"),
        "{message}"
    );
    for (body, field) in [
        (json!({ "title": " " }), "title"),
        (json!({ "title": "a\0b" }), "title"),
        (json!({ "title": "t", "description": "\0" }), "description"),
    ] {
        assert_eq!(put("/blocks/b", body).await.no(), invalid(field));
    }
    let step = json!({ "agentKind": "a", "runtime": { "kind": "process", "command": ["a\0b"] } });
    let nul = put("/pipelines/p", json!({ "id": "p", "steps": [step] })).await;
    assert_eq!(nul.problem().errors[0].path, "steps[0].runtime.command[0]");
    let number = json!({ "agentKind": "a", "runtime": { "kind": "simulated" }, "budgets": { "jobMinutes": -1 } });
    let typed = put("/pipelines/p", json!({ "id": "p", "steps": [number] })).await;
    let message = typed.problem().message;
    assert!(
        message.contains("a whole number") && !message.contains("u32"),
        "{message}"
    );
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_needs_a_repository_does_not_start_without_one() {
    let world = world().await;
    world
        .put(&job("true").replace("kind: process", "kind: process, checkout: write"))
        .await;
    world.block("work").await;
    let ask = json!({ "blockId": "work", "pipelineId": "work" });
    let refused = world.post("/runs", &ask).await;
    assert_eq!(refused.no(), no(422, "invalid_request", Some("blockId")));
    let errors = refused.problem().errors;
    assert_eq!(errors[0].path, "steps[0].runtime.checkout");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_gone_and_can_be_put_again() {
    let world = world().await;
    let asks = "{ id: asks, steps: [{ agentKind: a, requiresApproval: true, runtime: { kind: simulated } }] }";
    let run = world.run(asks).await;
    let subject = world.asked(&run).await;
    let ask = async |method: Method, path: &str| world.ask(method, path, &Value::Null).await;

    let held = ask(Method::DELETE, "/blocks/asks").await;
    assert_eq!(
        (held.no().1.as_str(), held.problem().run),
        ("run_is_live", Some(run.clone()))
    );
    assert_eq!(ask(Method::DELETE, "/pipelines/asks").await.status, 204);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(
            ask(method, "/pipelines/asks").await.no(),
            no(404, "not_found", None)
        );
    }
    let list: Value = world.client.get("/pipelines").await.unwrap();
    assert_eq!(list["items"], json!([]));
    let start = json!({ "blockId": "asks", "pipelineId": "asks", "replace": true });
    assert_eq!(world.post("/runs", &start).await.no().0, 404);
    // The run goes on with the version that it pinned.
    world.approve(&run, &subject).await;
    assert!(world.end(&run).await.summary.failure.is_none());

    assert_eq!(ask(Method::DELETE, "/blocks/asks").await.status, 204);
    assert_eq!(
        ask(Method::DELETE, "/blocks/asks").await.no(),
        no(404, "not_found", None)
    );
    world.put(asks).await;
    let again: Value = world.client.get("/pipelines/asks").await.unwrap();
    assert_eq!(again["version"], 2, "versions are never used twice");
    world.block("asks").await;
    let again = world.start("asks", "asks").await;
    world.stop(&again).await.done();
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_told_once_and_revoked_by_others() {
    let world = world().await;
    let make = json!({ "name": "second", "scope": "admin" });
    let made = world.post("/keys", &make).await;
    assert_eq!(made.status, 201, "{made:?}");
    let key = Key::parse(made.body["key"].as_str().unwrap()).unwrap();
    let second = Client::new(world.standing.cloud.url(), Some(key));
    let list: Value = second.get("/keys").await.unwrap();
    let keys = list["items"].as_array().unwrap();
    assert!(
        keys.len() == 2 && keys.iter().all(|it| it.get("key").is_none()),
        "{list}"
    );
    let named = |name: &str| {
        let key = keys.iter().find(|it| it["name"] == name).unwrap();
        format!("/keys/{}", key["id"].as_str().unwrap())
    };
    let (first, own) = (named("local"), named("second"));
    let delete =
        async |client: &Client, path: &str| send(client, &(Method::DELETE, path, "")).await;
    assert_eq!(
        delete(&second, &own).await.no(),
        no(409, "wrong_state", None)
    );
    // Each asks for the other's end at once: one of them stays.
    let (one, other) = tokio::join!(delete(&second, &first), delete(&world.client, &own));
    let (one, other) = (one.status, other.status);
    assert!((one == 204) != (other == 204), "{one} {other}");
    let left = match one == 204 {
        true => &second,
        false => &world.client,
    };
    let gone = match one == 204 {
        true => &world.client,
        false => &second,
    };
    assert_eq!(send(gone, &(Method::GET, "/runs", "")).await.status, 401);
    let list: Value = left.get("/keys").await.unwrap();
    let keys = list["items"].as_array().unwrap();
    assert_eq!(
        keys.iter()
            .filter(|it| it.get("revokedAt").is_some())
            .count(),
        1
    );
    for (body, field) in [
        (json!({ "name": " ", "scope": "read" }), "name"),
        (json!({ "name": "n", "scope": "all" }), "scope"),
    ] {
        let refused = send(left, &(Method::POST, "/keys", &body.to_string())).await;
        assert_eq!(refused.no(), no(422, "invalid_request", Some(field)));
    }
    world.standing.stop().await;
}
