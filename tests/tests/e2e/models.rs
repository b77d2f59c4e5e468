//! Steps that a language model answers, at a gateway on this machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use towpath_engine::{FailureKind, Usage};
use towpath_instruments::{Deaths, Moment};
use towpath_tests::gateway::{Asked, Gateway, KEY, Said};
use towpath_tests::story::Story;
use towpath_tests::{World, watch};

use crate::{done, failure, world, worlds};

const SUMMARY: &str = "
id: summary
steps:
  - { agentKind: reader, runtime: { kind: simulated, output: The letters are lost. } }
  - { agentKind: summariser, runtime: { kind: model, model: large, prompt: Say it in a word., maxTokens: 100 } }
";

async fn world_of(gateway: &Arc<Gateway>) -> World {
    worlds().calling(gateway).start().await
}

fn says(text: &str) -> Said {
    Said::Text(text.to_owned())
}

fn used(calls: u64) -> Usage {
    Usage {
        prompt_tokens: 11 * calls,
        completion_tokens: 5 * calls,
        ..Usage::default()
    }
}

/// The events of a run.
async fn events(world: &World, run: &towpath_engine::RunId) -> Vec<Value> {
    let path = format!("/runs/{run}/events");
    let page = world.ask(Method::GET, &path, &Value::Null).await.done();
    page["events"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_throttled_twice_answers_a_step() {
    let gateway = Gateway::start(|before, _: &Asked| match before {
        0 | 1 => Said::Status(429, 0),
        _ => says("Lost.\n"),
    });
    let gateway = gateway.await;
    let world = world_of(&gateway).await;
    let run = world.run(SUMMARY).await;
    let view = world.end(&run).await;
    done(&view);
    assert_eq!(world.output(&run, 1).await, "Lost.\n");
    assert_eq!(view.steps[1].model.as_deref(), Some("large-1"));
    assert_eq!(view.steps[1].usage, Some(used(1)));
    // As people see it.
    let path = format!("/runs/{run}");
    let shown = world.ask(Method::GET, &path, &Value::Null).await.done();
    let usage = json!({ "promptTokens": 11, "completionTokens": 5 });
    assert_eq!(shown["steps"][1]["usage"], usage);
    assert_eq!(shown["steps"][0].get("usage"), None);

    let asked = gateway.asked();
    assert_eq!(asked.len(), 3);
    let message = asked[2].message();
    assert!(message.starts_with("Say it in a word."), "{message}");
    assert!(message.contains("The letters are lost."), "{message}");
    assert_eq!(asked[2].body["max_tokens"], 100);
    // Functions that are processes of their own are told of no secret.
    if !watch::wanted() {
        let header = format!("authorization: bearer {KEY}");
        assert!(asked[2].headers.contains(&header), "{:?}", asked[2]);
    }

    let events = events(&world, &run).await;
    let kinds: Vec<_> = events
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "runtime_started",
            "stream_error",
            "stream_error",
            "assistant_text",
            "runtime_terminal"
        ]
    );
    let told = serde_json::to_string(&events).unwrap();
    assert!(!told.contains(KEY) && !told.contains("Say it in"), "{told}");
    let path = format!("/runs/{run}/steps/1/log");
    let log = world.ask(Method::GET, &path, &Value::Null).await.done();
    assert_eq!(log["parts"][0]["text"], "Lost.\n", "{log}");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_hangs_up_on_its_model() {
    let gateway = Gateway::start(|_, _: &Asked| Said::Nothing("Let me think".to_owned())).await;
    let world = world_of(&gateway).await;
    let run = world.run(SUMMARY).await;
    let calling = async || !gateway.asked().is_empty();
    world.when(Duration::from_millis(1), calling).await;
    world.stop(&run).await.done();
    let (kind, _) = failure(&world.end_soon(&run).await);
    assert_eq!(kind, FailureKind::Cancelled);
    gateway.hung_up().await;
    // Whoever comes later begins no other call.
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(gateway.asked().len(), 1);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_rests_for_as_long_as_the_gateway_wants() {
    let gateway = Gateway::start(|before, _: &Asked| match before {
        0 => Said::Status(503, 90),
        _ => says("Lost."),
    });
    let gateway = gateway.await;
    // The gateway's time is the system's where the functions are processes: then nobody waits for so long.
    if watch::wanted() {
        return;
    }
    let world = world_of(&gateway).await;
    let run = world.run(SUMMARY).await;
    let rests = |view: &towpath_api_types::RunView| view.steps[1].activity.contains("503");
    world.soon(&run, rests).await;
    let begun = world.clock.now_ms();
    done(&world.end(&run).await);
    assert!(
        world.clock.now_ms() - begun >= 89_000,
        "it came back too soon"
    );
    assert_eq!(gateway.asked().len(), 2);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_used_is_added_up_over_the_rounds_of_a_step() {
    let gateway = Gateway::start(|before, asked: &Asked| match before {
        0 => says("A draft."),
        _ if asked.message().contains("A draft.") && asked.message().contains("Shorter.") => {
            says("Draft.")
        }
        _ => says("What draft?"),
    });
    let gateway = gateway.await;
    let world = world_of(&gateway).await;
    let pipeline = SUMMARY.replace(
        "agentKind: summariser,",
        "agentKind: summariser, requiresApproval: true,",
    );
    let run = world.run(&pipeline).await;
    let subject = world.asked(&run).await;
    let changes = json!({ "feedback": "Shorter." });
    world
        .say(&run, &subject, "request-changes", &changes)
        .await
        .done();
    let again = |view: &towpath_api_types::RunView| {
        let waits = view.summary.waits_for.as_ref();
        let subject_now = waits.and_then(|waits| waits.subject.clone());
        waits.is_some_and(|it| it.reason == "human") && subject_now.as_ref() != Some(&subject)
    };
    world.until(&run, again).await;
    let subject = world.asked(&run).await;
    world.approve(&run, &subject).await;
    let view = world.end(&run).await;
    done(&view);
    assert_eq!(world.output(&run, 1).await, "Draft.");
    assert_eq!(view.steps[1].usage, Some(used(2)));
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_refused_fails_the_run_with_the_reason() {
    let gateway = Gateway::start(|_, _: &Asked| Said::Status(404, 0)).await;
    let world = world_of(&gateway).await;
    let run = world.run(SUMMARY).await;
    let (kind, message) = failure(&world.end(&run).await);
    assert_eq!(kind, FailureKind::Dispatch);
    assert!(message.contains("404"), "{message}");
    assert_eq!(gateway.asked().len(), 1);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_without_a_gateway_takes_no_such_pipeline() {
    let world = world().await;
    let step = json!({ "agentKind": "a", "runtime": { "kind": "model", "model": "m" } });
    let pipeline = json!({ "id": "p", "steps": [step] });
    let put = world.ask(Method::PUT, "/pipelines/p", &pipeline).await;
    assert_eq!(put.no(), (409, "runtime_not_implemented".to_owned(), None));
    assert_eq!(put.problem().provider.as_deref(), Some("model"));
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_the_gateway_is_nowhere_but_in_its_secret() {
    let gateway = Gateway::start(|_, _: &Asked| says("Lost.")).await;
    let data = tempfile::tempdir().unwrap();
    let world = worlds().on(data.path()).calling(&gateway).start().await;
    let run = world.run(SUMMARY).await;
    done(&world.end(&run).await);
    world.standing.stop().await;
    let mut folders = vec![data.path().to_owned()];
    let mut files = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => _ = files.insert(path.clone(), std::fs::read(path).unwrap()),
            }
        }
    }
    let holds =
        |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|it| it == text.as_bytes());
    assert!(
        files.values().any(|bytes| holds(bytes, "large-1")),
        "the records are among the files"
    );
    for (path, bytes) in &files {
        assert!(!holds(bytes, KEY), "{}", path.display());
    }
}

/// The number of calls to AWS at which invocations die, before and behind the one that keeps the answer of a model.
const DEATHS: usize = 8;

/// Tells the story of a run while an invocation dies. Returns how often the model was called, and the calls to AWS.
async fn told(death: Option<(usize, Moment)>) -> (usize, Vec<String>) {
    let gateway = Gateway::start(|_, _: &Asked| says("Lost.")).await;
    let deaths = Deaths::default();
    let recipe = worlds().calling(&gateway).mortal(deaths.clone());
    let world = recipe.start().await;
    let story = Story {
        yaml: SUMMARY,
        acts: &[],
        entries_limit: None,
    };
    let dir = tempfile::tempdir().unwrap();
    let mut telling = story.prepare(&world, dir.path()).await;
    deaths.arm(death);
    story.tell(&world, &mut telling).await;
    let calls = deaths.calls();
    world.judge().await;
    let view = world.view(&telling.runs[0]).await;
    done(&view);
    let asked = gateway.asked().len();
    let usage = view.steps[1].usage.unwrap();
    // What the answer that counts used is told, and that there may have been another.
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (11, 5));
    let unmetered = usage.unmetered_calls;
    assert!(
        unmetered + 1 >= asked as u64,
        "{death:?}: {asked} calls, {unmetered} of them unmetered"
    );
    world.standing.stop().await;
    (asked, calls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_called_twice_at_most_whoever_dies_and_once_where_its_answer_was_kept() {
    if watch::wanted() {
        return;
    }
    let (asked, calls) = told(None).await;
    assert_eq!(asked, 1);
    let object = |calls: &[String]| calls.iter().position(|call| call == "PutObject").unwrap();
    let kept_at = object(&calls);
    let (mut twice, mut kept) = (0, 0);
    for number in kept_at.saturating_sub(DEATHS)..kept_at + DEATHS {
        let death = (number, Moment::After);
        let (asked, calls) = told(Some(death)).await;
        assert!((1..=2).contains(&asked), "{death:?}: {asked} calls");
        twice += usize::from(asked == 2);
        // The answer is the one object of this run; the transaction behind it is the end of the job.
        let behind = calls.iter().enumerate().skip(object(&calls));
        let mut ends = behind.filter(|(_, call)| *call == "TransactWriteItems");
        if ends.next().is_some_and(|(end, _)| end <= death.0) {
            assert_eq!(asked, 1, "{death:?}: the answer was paid for twice");
            kept += 1;
        }
    }
    eprintln!("{twice} with a second call, {kept} behind the answer");
    assert!(
        twice > 0 && kept > 0,
        "{twice} were called twice, {kept} kept"
    );
}
