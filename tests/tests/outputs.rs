//! Outputs too large for a row: whole or absent, wherever something breaks in between.

use http::Method;
use serde_json::{Value, json};
use towpath_api_types::{OutputText, RunView};
use towpath_engine::{RunId, Status, StepIndex};
use towpath_instruments::{Deaths, Moment};
use towpath_store::{IN_ROW, Scope, StoredOutput};
use towpath_tests::{World, Worlds, ask};

fn worlds() -> Worlds {
    Worlds::new(env!("CARGO_BIN_EXE_towpath-under-test"))
}

const MEGABYTE: usize = 1024 * 1024;

/// What `seq` prints, up to a size: text of which no part is like another.
fn text(size: usize) -> String {
    let mut text = String::with_capacity(size + 16);
    for number in 1.. {
        if text.len() >= size {
            break;
        }
        text.push_str(&format!("{number}\n"));
    }
    text.truncate(size);
    text
}

/// A pipeline that asks for an approval.
const DRAFT: &str = "
id: draft
steps:
  - { agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }
  - { agentKind: printer, runtime: { kind: simulated } }
";

/// A pipeline of one job, whose output is [`text`] of this size.
fn job(size: usize) -> String {
    let script = format!("seq 1 1000000 | head -c {size} > \"$TOWPATH_OUTPUT\"");
    let command = serde_json::to_string(&["sh", "-c", &script]).unwrap();
    format!(
        "{{ id: large, steps: [{{ agentKind: writer, runtime: {{ kind: process, command: {command} }} }}] }}"
    )
}

/// The output of the run's first step, as a reader of the API gets it.
async fn read(world: &World, view: &RunView) -> String {
    let link = view.steps[0].output.as_ref().unwrap();
    let text = world.client.output(&link.href).await.unwrap();
    assert_eq!(text.len() as u64, link.bytes);
    text
}

/// The API's view of the output of the run's first step.
async fn told(world: &World, run: &RunId) -> OutputText {
    let path = format!("/runs/{run}/steps/0/output");
    world.client.get(&path).await.unwrap()
}

/// Fetches a URL as a stranger does, and returns the status and the text.
async fn fetch(method: Method, url: &str) -> (u16, String) {
    let stranger = towpath_client::Client::new(url, None);
    let (status, body) = stranger.raw(method, "", &[], Vec::new()).await.unwrap();
    (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
}

/// The objects there are, under a data directory.
fn objects(data: &std::path::Path) -> Vec<std::path::PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![data.join("objects")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let hidden = path.file_name().unwrap().to_str().unwrap().starts_with('.');
            match path.is_dir() {
                // The program of runners, which is there from the start.
                true if path.ends_with("runners") => {}
                true => folders.push(path),
                // The backend's own notes are hidden files.
                false if hidden => {}
                false => found.push(path),
            }
        }
    }
    found
}

fn used(world: &World, identity: &str, action: &str) -> bool {
    let used = world.standing.cloud.statements_used();
    used.iter()
        .any(|used| used.identity == identity && used.action == action)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_goes_from_a_job_to_its_reader_whole() {
    let world = worlds().start().await;
    let run = world.run(&job(MEGABYTE)).await;
    let view = world.end_soon(&run).await;
    assert_eq!(view.summary.status, Status::Done, "{view:#?}");
    assert!(read(&world, &view).await == text(MEGABYTE));

    // Neither the row nor the API's answer holds it.
    let store = &world.standing.operator.store;
    let kept = store.output(&run, StepIndex(0), 2).await.unwrap();
    let Some(StoredOutput::Object { object, bytes, .. }) = kept else {
        panic!("{kept:?}")
    };
    assert!(object.starts_with(&format!("runs/{run}/0000/00002/")));
    assert_eq!(bytes, MEGABYTE as u64);
    let OutputText::Elsewhere { url, bytes, .. } = told(&world, &run).await else {
        panic!("it came inline")
    };
    assert_eq!(bytes, MEGABYTE as u64);

    // The URL is for this object and for reading only.
    assert_eq!(fetch(Method::GET, &url).await, (200, text(MEGABYTE)));
    let other = url.replacen("/00002/", "/00001/", 1);
    assert_ne!(other, url);
    assert_eq!(fetch(Method::GET, &other).await.0, 403);
    assert_eq!(fetch(Method::PUT, &url).await.0, 403);
    let longer = url.replacen("X-Amz-Expires=900", "X-Amz-Expires=9000", 1);
    assert_ne!(longer, url);
    assert_eq!(fetch(Method::GET, &longer).await.0, 403);
    let unsigned = url.split_once('?').unwrap().0;
    assert_ne!(fetch(Method::GET, unsigned).await.0, 200);

    assert!(used(&world, "ApiFunction", "s3:GetObject"));
    assert!(!used(&world, "ApiFunction", "s3:PutObject"));
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn up_to_200_kb_stay_in_the_row() {
    let world = worlds().start().await;
    for (size, inline) in [(IN_ROW, true), (IN_ROW + 1, false)] {
        let run = world.run(&job(size)).await;
        let view = world.end_soon(&run).await;
        assert!(read(&world, &view).await == text(size), "{size}");
        let here = matches!(told(&world, &run).await, OutputText::Here { .. });
        assert_eq!(here, inline, "{size}");
    }
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_workspace_cannot_have_it() {
    let world = worlds().start().await;
    let run = world.run(&job(MEGABYTE)).await;
    world.end_soon(&run).await;
    let stranger = world.client_of("elsewhere", "stranger", Scope::Admin).await;
    let path = format!("/runs/{run}/steps/0/output");
    for path in [format!("{path}?number=2"), path] {
        let answer = ask(&stranger, Method::GET, &path, &[], Vec::new()).await;
        assert_eq!(answer.no(), (404, "not_found".to_owned(), None));
        assert!(!answer.body.to_string().contains("X-Amz-Signature"));
    }
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approver_may_go_on_with_a_large_text_of_their_own() {
    let world = worlds().start().await;
    let run = world.run(DRAFT).await;
    let subject = world.asked(&run).await;
    // In JSON, the ends of its lines are two bytes.
    let own = text(700_000);
    let approve = async |text: &str| {
        let body = json!({ "proposal": text });
        world.say(&run, &subject, "approve", &body).await
    };
    let first = approve(&own).await.done();
    let view = world.end_soon(&run).await;
    assert_eq!(view.summary.status, Status::Done, "{view:#?}");
    assert!(read(&world, &view).await == own);
    assert!(used(&world, "ResolveDecisionFunction", "s3:PutObject"));

    // The same answer again is the same success, and another one is not; the audit does not hold the text once more.
    assert_eq!(approve(&own).await.done(), first);
    let other = own.replacen('1', "2", 1);
    assert_eq!(approve(&other).await.no().1, "already_answered");
    assert!(read(&world, &view).await == own);
    assert!(first.to_string().len() < 1000, "{first}");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_approve_different_texts_at_once_one_has_their_text_kept_whole() {
    let world = worlds().start().await;
    let run = world.run(DRAFT).await;
    let subject = world.asked(&run).await;
    let texts = [text(700_000), text(700_000).replacen('1', "2", 1)];
    let approve = async |text: &str| {
        let body = json!({ "proposal": text });
        world.say(&run, &subject, "approve", &body).await
    };
    let (one, other) = tokio::join!(approve(&texts[0]), approve(&texts[1]));
    let taken = [one.status == 200, other.status == 200];
    assert!(taken[0] != taken[1], "{one:?} {other:?}");
    let view = world.end_soon(&run).await;
    let kept = if taken[0] { &texts[0] } else { &texts[1] };
    assert!(read(&world, &view).await == *kept);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_may_fail_longer_than_a_function_tries() {
    let deaths = Deaths::default();
    // More faults than one invocation makes attempts, so that the machine has to try again too.
    let faults = "seed=3,throttle=0.4,lost=0.3,error=0.3,only=PutObject,limit=7";
    let world = worlds()
        .with_faults(faults)
        .mortal(deaths.clone())
        .start()
        .await;
    deaths.arm(None);
    let run = world.run(&job(MEGABYTE)).await;
    let view = world.end(&run).await;
    assert_eq!(view.summary.status, Status::Done, "{view:#?}");
    assert!(read(&world, &view).await == text(MEGABYTE));
    let puts = deaths.calls().iter().filter(|call| *call == PUT).count();
    assert_eq!(puts, 8);
    world.standing.stop().await;
}

const PUT: &str = "PutObject";

/// A run whose functions make these calls, one of which is the last of its invocation.
async fn killed(plan: Option<(usize, Moment)>) -> Vec<String> {
    let data = tempfile::tempdir().unwrap();
    let deaths = Deaths::default();
    let world = worlds()
        .on(data.path())
        .mortal(deaths.clone())
        .start()
        .await;
    world.put(&job(MEGABYTE)).await;
    world.block("large").await;
    deaths.arm(plan);
    let run = world.start("large", "large").await;
    let view = world.end(&run).await;
    assert_eq!(view.summary.status, Status::Done, "{plan:?}: {view:#?}");
    let calls = deaths.calls();
    deaths.arm(None);
    assert!(read(&world, &view).await == text(MEGABYTE), "{plan:?}");
    // What was put twice is one object.
    assert_eq!(objects(data.path()).len(), 1, "{plan:?}");
    world.standing.stop().await;
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_killed_around_the_put_leaves_the_run_right() {
    let mut calls = killed(None).await;
    // The put, and the commit that follows it.
    for call in [PUT, "TransactWriteItems"] {
        for moment in [Moment::Before, Moment::After] {
            // Which number the call has can differ a little from run to run.
            let mut hit = false;
            for _ in 0..8 {
                let put = calls.iter().position(|made| made == PUT).unwrap();
                let later = calls[put..].iter().position(|made| made == call);
                let at = put + later.unwrap();
                calls = killed(Some((at, moment))).await;
                hit = calls.get(at).is_some_and(|made| made == call)
                    && calls[..=at].iter().any(|made| made == PUT);
                if hit {
                    break;
                }
            }
            assert!(hit, "nobody could be killed {moment:?} {call}: {calls:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_not_the_one_that_was_put_is_not_taken_for_it() {
    let data = tempfile::tempdir().unwrap();
    let world = worlds().on(data.path()).start().await;
    let run = world.run(&job(MEGABYTE)).await;
    let view = world.end_soon(&run).await;
    let [object] = objects(data.path()).try_into().unwrap();
    let href = &view.steps[0].output.as_ref().unwrap().href;
    for damaged in [text(MEGABYTE - 1), text(MEGABYTE).replacen('1', "2", 1)] {
        std::fs::write(&object, damaged).unwrap();
        let refused = world.client.output(href).await.unwrap_err().to_string();
        assert!(refused.contains("are not the 1048576 bytes"), "{refused}");
    }
    std::fs::remove_file(&object).unwrap();
    let absent = world.client.output(href).await.unwrap_err().to_string();
    assert!(absent.contains("404"), "{absent}");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_there_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let worlds = worlds().on(data.path());
    let world = worlds.start().await;
    let run = world.run(&job(MEGABYTE)).await;
    let view = world.end_soon(&run).await;
    world.standing.stop().await;
    let world = worlds.start().await;
    assert!(read(&world, &view).await == text(MEGABYTE));
    let answer: Value = world.client.get(&format!("/runs/{run}")).await.unwrap();
    assert!(answer["steps"][0]["output"]["bytes"] == MEGABYTE);
    world.standing.stop().await;
}
