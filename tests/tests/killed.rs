//! `towpath dev`, killed without warning again and again: every run ends right.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use towpath_api_types::{List, RunSummary, RunView};
use towpath_client::Client;
use towpath_clock::Clock;
use towpath_engine::{FailureKind, RunId, Status};
use towpath_tests::Worlds;
use towpath_tests::killed::{Chance, Dev, Reach};

const PROGRAM: &str = env!("CARGO_BIN_EXE_towpath-under-test");

/// What a run must come to: its end, and what its jobs have written.
struct Kind {
    yaml: &'static str,
    status: Status,
    failure: Option<(FailureKind, &'static str)>,
    log: &'static str,
}

const KINDS: [Kind; 5] = [
    Kind {
        yaml: "
id: inline
steps:
  - { agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
",
        status: Status::Done,
        failure: None,
        log: "",
    },
    Kind {
        yaml: "
id: long
steps:
  - agentKind: coder
    runtime: { kind: process, command: [sh, -c, 'echo began >> @DIR@/$TOWPATH_BLOCK; sleep 2; echo ended >> @DIR@/$TOWPATH_BLOCK'] }
  - { agentKind: printer, runtime: { kind: process, command: [sh, -c, 'echo printed >> @DIR@/$TOWPATH_BLOCK'] } }
",
        status: Status::Done,
        failure: None,
        log: "began\nended\nprinted\n",
    },
    Kind {
        yaml: "
id: failing
steps:
  - agentKind: coder
    runtime: { kind: process, command: [sh, -c, 'echo tried >> @DIR@/$TOWPATH_BLOCK; sleep 1; exit 7'] }
",
        status: Status::Failed,
        failure: Some((FailureKind::JobFailed, "7")),
        log: "tried\n",
    },
    Kind {
        yaml: "
id: gated
steps:
  - agentKind: ci
    requiresApproval: true
    gate:
      attempts: 2
      probe: { kind: command, command: [sh, -c, 'echo looked >> @DIR@/$TOWPATH_BLOCK; test -e @DIR@/$TOWPATH_BLOCK.fixed'] }
      helper:
        agentKind: ci-fixer
        runtime: { kind: process, command: [sh, -c, 'echo mended >> @DIR@/$TOWPATH_BLOCK; sleep 1; touch @DIR@/$TOWPATH_BLOCK.fixed'] }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
",
        status: Status::Done,
        failure: None,
        log: "looked\nmended\nlooked\n",
    },
    Kind {
        yaml: "
id: approved
steps:
  - { agentKind: writer, requiresApproval: true, runtime: { kind: process, command: [sh, -c, 'echo wrote >> @DIR@/$TOWPATH_BLOCK'] } }
  - { agentKind: printer, runtime: { kind: process, command: [sh, -c, 'echo printed >> @DIR@/$TOWPATH_BLOCK'] } }
",
        status: Status::Done,
        failure: None,
        log: "wrote\nprinted\n",
    },
];

const RUNS: usize = 50;
const KILLS: u32 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_runs_end_right_however_often_the_program_is_killed() {
    let seed = std::env::var("TOWPATH_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    eprintln!("TOWPATH_TEST_SEED={seed}");
    let mut chance = Chance(seed);
    let (data, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());

    let mut dev = Dev::new(PROGRAM, data.path());
    let people = tokio::spawn(people(dev.reach(), work.path().to_owned()));
    let mut survived = BTreeSet::new();
    for kill in 0..KILLS {
        dev.start();
        // Most while it works, some while it gets up.
        if kill % 4 != 3 {
            dev.is_up().await;
        }
        tokio::time::sleep(Duration::from_millis(chance.between(20, 900))).await;
        dev.kill().await;
        survived.extend(jobs_at_work(data.path()));
    }
    dev.start();
    let runs = people.await.unwrap();
    dev.kill().await;
    let jobs = survived.len();
    eprintln!("{KILLS} kills; {jobs} jobs were at work when their cloud was killed");
    assert!(jobs >= 5, "hardly a job was at work when it was killed");

    // What the last kills left is found by the minute tick, whose minutes need not be waited for: the world goes on from
    // here by a clock of the test's.
    let worlds = Worlds::new(PROGRAM).on(data.path());
    let now = Clock::manual(Clock::system().now_ms());
    let world = worlds.since(now).start().await;
    for (run, kind) in &runs {
        let asking =
            |view: &RunView| view.summary.status.is_terminal() || subject(&view.summary).is_some();
        let view = world.until(run, asking).await;
        if let Some(subject) = subject(&view.summary) {
            world.approve(run, &subject).await;
        }
        let view = world.end(run).await;
        let block = &view.summary.block_id;
        let log = std::fs::read_to_string(work.path().join(block)).unwrap_or_default();
        let failure = view.summary.failure.as_ref();
        assert_eq!(
            (view.summary.status, log.as_str()),
            (kind.status, kind.log),
            "{view:#?}"
        );
        assert_eq!(
            failure.map(|f| f.kind),
            kind.failure.map(|f| f.0),
            "{view:#?}"
        );
        if let (Some(failure), Some((_, exit))) = (failure, kind.failure) {
            let said = format!("{failure:?}");
            assert!(said.contains(exit), "{said}");
        }
    }
    world.judge().await;
    world.standing.stop().await;
}

/// The jobs that a supervisor holds the lock of, and that have not ended.
fn jobs_at_work(data: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(data.join("jobs")).into_iter().flatten();
    let at_work = folders.flatten().filter(|folder| {
        let path = folder.path();
        path.join("state.json").exists() && !path.join("exit.json").exists()
    });
    at_work
        .map(|folder| folder.file_name().to_string_lossy().into_owned())
        .collect()
}

/// People who start fifty runs and answer what they are asked, as well as they can reach what is killed again and again.
async fn people(mut reach: Reach, work: PathBuf) -> Vec<(RunId, &'static Kind)> {
    for kind in &KINDS {
        let yaml = kind.yaml.replace("@DIR@", work.to_str().unwrap());
        let pipeline = towpath_tests::pipeline(&yaml);
        let body = serde_json::to_value(&pipeline).unwrap();
        insist(
            &mut reach,
            Method::PUT,
            &format!("/pipelines/{}", pipeline.id),
            &body,
            "",
        )
        .await;
    }
    let mut runs = Vec::new();
    for number in 0..RUNS {
        let kind = &KINDS[number % KINDS.len()];
        let pipeline = towpath_tests::pipeline(kind.yaml).id;
        let block = format!("b{number}");
        let body = json!({ "title": block });
        insist(
            &mut reach,
            Method::PUT,
            &format!("/blocks/{block}"),
            &body,
            "",
        )
        .await;
        let body = json!({ "blockId": block, "pipelineId": pipeline });
        let run = insist(&mut reach, Method::POST, "/runs", &body, &block).await;
        runs.push((run["id"].as_str().unwrap().parse().unwrap(), kind));
        answer_all(&mut reach).await;
    }
    // A while to be asked in; what is asked later is answered later.
    for _ in 0..20 {
        if answer_all(&mut reach).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    runs
}

/// Approves whatever is asked, and says whether every run is over.
async fn answer_all(reach: &mut Reach) -> bool {
    let list = insist(reach, Method::GET, "/runs", &Value::Null, "").await;
    let list: List<RunSummary> = serde_json::from_value(list).unwrap();
    for run in &list.items {
        if let Some(subject) = subject(run) {
            let path = format!("/runs/{}/approvals/{subject}/approve", run.id);
            insist(reach, Method::POST, &path, &json!({}), "").await;
        }
    }
    list.items.iter().all(|run| run.status.is_terminal())
}

fn subject(run: &RunSummary) -> Option<String> {
    let waits = run.waits_for.as_ref()?;
    (waits.reason == "human").then(|| waits.subject.clone())?
}

/// Asks until there is an answer.
async fn insist(reach: &mut Reach, method: Method, path: &str, body: &Value, name: &str) -> Value {
    let headers = [("idempotency-key", name)];
    let headers = if name.is_empty() {
        &[][..]
    } else {
        &headers[..]
    };
    loop {
        let client: Client = reach.client().await;
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into(),
        };
        match client.raw(method.clone(), path, headers, body).await {
            Ok((status, bytes)) if status.is_success() => {
                return serde_json::from_slice(&bytes).unwrap();
            }
            Ok((status, bytes)) => {
                let text = String::from_utf8_lossy(&bytes);
                let later = status.is_server_error() || status == 429 || text.contains("\"busy\"");
                assert!(later, "{method} {path}: {status} {text}");
            }
            // It was killed.
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
