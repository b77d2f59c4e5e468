//! Steps whose jobs are builds: CodeBuild's, as the local cloud has it, with a `towpath runner` in each.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use towpath_api_types::RunView;
use towpath_aws::{Clients, CodeBuildError, Settings, StartBuild};
use towpath_engine::{FailureKind, JobId, RunId, Status};
use towpath_local::BuildWeather;
use towpath_tests::{World, Worlds};

use crate::jobs::job;
use crate::{done, failure, lines, worlds};

fn on_builds() -> Worlds {
    worlds().on_builds()
}

/// The processes that are runners of a job.
fn runners(job: &JobId) -> Vec<u32> {
    let wanted = format!("TOWPATH_RUN_ID={job}");
    let holds = |dir: &Path| {
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
        let (environ, cmdline) = (read("environ"), read("cmdline"));
        let words: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
        words.get(1) == Some(&b"runner".as_slice())
            && environ
                .split(|byte| *byte == 0)
                .any(|it| it == wanted.as_bytes())
    };
    let dirs = std::fs::read_dir("/proc").unwrap().flatten();
    dirs.filter(|entry| holds(&entry.path()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn kill(pid: u32) {
    let killed = Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
}

/// The job that the run waits for.
fn waited(view: &RunView) -> Option<JobId> {
    let waits = view.summary.waits_for.as_ref();
    let waits = waits.filter(|waits| waits.reason == "job")?;
    waits.subject.as_ref()?.parse().ok()
}

/// Waits until the command of the run's job has written this file.
async fn begun(world: &World, run: &RunId, file: &Path) -> JobId {
    let job = world.soon(run, |view| waited(view).is_some()).await;
    world
        .when(Duration::from_millis(1), async || file.exists())
        .await;
    waited(&job).unwrap()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Every event of a run, page by page.
async fn events(world: &World, run: &RunId) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/runs/{run}/events?after={after}");
        let page: Value = world.client.get(&path).await.unwrap();
        all.extend(page["events"].as_array().unwrap().iter().cloned());
        after = page["next"].as_str().unwrap().to_owned();
        if page["over"] == true {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_runs_in_builds_as_it_does_in_processes() {
    let world = on_builds().start().await;
    let secret = json!({ "value": "swordfish" });
    world
        .ask(Method::PUT, "/secrets/token", &secret)
        .await
        .done();
    let yaml = r#"
id: outputs
steps:
  - { agentKind: printer, runtime: { kind: command, command: [sh, -c, 'echo printed; echo aside >&2'] } }
  - { agentKind: writer, runtime: { kind: command, command: [sh, -c, 'echo noise; printf written > "$TOWPATH_OUTPUT"'] } }
  - agentKind: reader
    runtime:
      kind: process
      env: { WHO: me, TOKEN: { secret: token } }
      command: [sh, -c, 'cat "$TOWPATH_INPUTS/output-1.txt"; echo " $WHO $TOKEN $TOWPATH_TITLE ${TOWPATH_START_CODE:-none}"']
"#;
    let run = world.run(yaml).await;
    let view = world.end_soon(&run).await;
    done(&view);
    assert_eq!(world.output(&run, 0).await.trim(), "printed");
    assert_eq!(world.output(&run, 1).await, "written");
    assert_eq!(
        world.output(&run, 2).await.trim(),
        "written me *** outputs none"
    );

    let log = format!("/runs/{run}/steps/0/log");
    let page: Value = world.client.get(&log).await.unwrap();
    let text = |stream: &str| -> String {
        let parts = page["parts"].as_array().unwrap().iter();
        parts
            .filter(|part| part["stream"] == stream)
            .map(|part| part["text"].as_str().unwrap())
            .collect()
    };
    assert_eq!(
        (text("stdout"), text("stderr")),
        ("printed\n".into(), "aside\n".into())
    );
    assert_eq!(page.get("next"), None, "the job is over");
    let console = page["console"].as_str().unwrap();
    assert!(
        console.contains("/projects/towpath-jobs/build/towpath-jobs%3A"),
        "{console}"
    );

    let told = events(&world, &run).await;
    let of_step = |step: u64| -> Vec<&str> {
        let of = told.iter().filter(|event| event["step"] == step);
        of.map(|event| event["kind"].as_str().unwrap()).collect()
    };
    for step in 0..3 {
        let kinds = of_step(step);
        assert_eq!(kinds.first(), Some(&"runtime_started"), "{kinds:?}");
        assert_eq!(kinds.last(), Some(&"runtime_terminal"), "{kinds:?}");
        let terminal = kinds.iter().filter(|kind| **kind == "runtime_terminal");
        assert_eq!(terminal.count(), 1);
    }
    let order: Vec<_> = told
        .iter()
        .map(|event| event["step"].as_u64().unwrap())
        .collect();
    assert!(order.is_sorted(), "the jobs of a run come in their order");
    assert!(!Value::from(told).to_string().contains("swordfish"));
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_killed_is_an_eviction_and_its_command_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (pids, first) = (dir.path().join("pids"), dir.path().join("first"));
    let script = format!(
        "echo $$ >> {0}; if [ -e {1} ]; then echo done; else touch {1}; sleep 1000; fi",
        pids.display(),
        first.display()
    );
    let world = on_builds().start().await;
    let run = world.run(&job(&script)).await;
    let killed = begun(&world, &run, &first).await;
    let pid = runners(&killed);
    assert_eq!(pid.len(), 1, "one build, one runner");
    kill(pid[0]);
    let view = world.end_soon(&run).await;
    done(&view);
    assert_eq!(lines(&pids), 2);
    let text = std::fs::read_to_string(&pids).unwrap();
    let command = text.lines().next().unwrap();
    assert!(
        !Path::new("/proc").join(command).exists(),
        "the first command lives on"
    );
    assert_eq!(view.steps[0].evictions.crashes, 1);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_runners_of_one_job_one_works_and_the_other_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (trace, go) = (dir.path().join("trace"), dir.path().join("go"));
    let script = format!(
        "echo begun >> {}; until [ -e {} ]; do sleep 0.1; done",
        trace.display(),
        go.display()
    );
    let world = on_builds().start().await;
    let run = world.run(&job(&script)).await;
    let job = begun(&world, &run, &trace).await;
    let first = runners(&job)[0];
    let environ = std::fs::read(format!("/proc/{first}/environ")).unwrap();
    let variables = environ.split(|byte| *byte == 0).filter_map(|it| {
        let (name, value) = std::str::from_utf8(it).ok()?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let mut second = Command::new(env!("CARGO_BIN_EXE_towpath-under-test"));
    second.arg("runner").env_clear().envs(variables);
    let second = tokio::task::spawn_blocking(move || second.output().unwrap());
    let second = second.await.unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        second.status.success() && said.contains("another runner works"),
        "{said}"
    );
    std::fs::write(&go, "").unwrap();
    done(&world.end_soon(&run).await);
    assert_eq!(lines(&trace), 1);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_gives_the_command_its_grace_and_ends_the_build() {
    let dir = tempfile::tempdir().unwrap();
    let (trace, tidied) = (dir.path().join("trace"), dir.path().join("tidied"));
    let script = format!(
        "trap 'echo tidied > {1}; exit 0' TERM; echo $$ > {0}; while :; do sleep 0.1; done",
        trace.display(),
        tidied.display()
    );
    let world = on_builds().start().await;
    let run = world.run(&job(&script)).await;
    let job = begun(&world, &run, &trace).await;
    world.stop(&run).await.done();
    // The runner asks when it has nothing to tell for a while.
    let gone = async || runners(&job).is_empty();
    world.when(Duration::from_millis(1), gone).await;
    assert!(tidied.exists());
    let view = world.view(&run).await;
    assert_eq!(view.summary.status, Status::Failed);
    world
        .when(Duration::from_secs(1), async || {
            world.doctor().await.is_empty()
        })
        .await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_while_codebuild_has_no_room_and_says_so() {
    for (weather, said) in [
        (
            BuildWeather {
                refuse: Some("ThrottlingException"),
                ..BuildWeather::default()
            },
            "did not answer",
        ),
        (
            BuildWeather {
                concurrent: 0,
                queue: 0,
                ..BuildWeather::default()
            },
            "builds in queue",
        ),
        (
            BuildWeather {
                concurrent: 0,
                ..BuildWeather::default()
            },
            "no room for it yet",
        ),
    ] {
        let world = on_builds().start().await;
        world.standing.cloud.set_build_weather(weather);
        let run = world.run(&job("echo done")).await;
        let told = |view: &RunView| view.steps[0].activity.contains(said);
        let view = world.until(&run, told).await;
        assert!(!view.summary.status.is_terminal());
        world
            .standing
            .cloud
            .set_build_weather(BuildWeather::default());
        // A pause of at most some minutes, and then a build takes its time.
        let view = world.watch_slowly(&run).await;
        done(&view);
        world.standing.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_lost_before_it_begins_is_replaced() {
    let world = on_builds().start().await;
    let lost = BuildWeather {
        lose_machines: true,
        ..BuildWeather::default()
    };
    world.standing.cloud.set_build_weather(lost);
    let run = world.run(&job("echo done")).await;
    let evicted = |view: &RunView| view.steps[0].evictions.transient >= 1;
    world.until(&run, evicted).await;
    world
        .standing
        .cloud
        .set_build_weather(BuildWeather::default());
    done(&world.watch_slowly(&run).await);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_codebuild_never_takes_fails_the_run_with_its_words() {
    let world = on_builds().start().await;
    let refused = BuildWeather {
        refuse: Some("InvalidInputException"),
        ..BuildWeather::default()
    };
    world.standing.cloud.set_build_weather(refused);
    let run = world.run(&job("echo done")).await;
    let (kind, message) = failure(&world.end_soon(&run).await);
    assert_eq!(kind, FailureKind::Dispatch);
    assert!(message.contains("InvalidInputException"), "{message}");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_are_lost_start_no_second_build() {
    // Some, which one start gets over; and all those of several, while what is left of the step's time grows less: CodeBuild
    // would refuse the same token with another time-out.
    for limit in [2, 16] {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join("trace");
        let faults = format!("lost=1,only=StartBuild,limit={limit}");
        let world = on_builds().with_faults(&faults).start().await;
        let run = world
            .run(&job(&format!("echo begun >> {}", trace.display())))
            .await;
        done(&world.watch_slowly(&run).await);
        assert_eq!(lines(&trace), 1);
        world.standing.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_outlives_the_cloud_and_its_runner_goes_on_when_that_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let (data, trace, go) = (
        dir.path().join("data"),
        dir.path().join("trace"),
        dir.path().join("go"),
    );
    let script = format!(
        "echo begun >> {}; until [ -e {} ]; do sleep 0.1; done; echo told",
        trace.display(),
        go.display()
    );
    // The same address before and after: builds know no other.
    let worlds = on_builds().on(&data).at(free_port());
    let world = worlds.start().await;
    let run = world.run(&job(&script)).await;
    let job = begun(&world, &run, &trace).await;
    world.standing.stop().await;
    // While nothing answers, the command ends, and its runner has its end to tell.
    std::fs::write(&go, "").unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(runners(&job).len(), 1, "it waits for somebody to tell");
    let world = worlds.start().await;
    done(&world.watch_slowly(&run).await);
    assert_eq!(
        (world.output(&run, 0).await.trim(), lines(&trace)),
        ("told", 1)
    );
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_come_back_without_their_executions_are_driven_on() {
    let dir = tempfile::tempdir().unwrap();
    let (data, go) = (dir.path().join("data"), dir.path().join("go"));
    let waits = format!(
        "until [ -e {} ]; do sleep 0.1; done; echo worked",
        go.display()
    );
    let asks = "{ id: asks, steps: [{ agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }] }";
    let worlds = on_builds().on(&data).at(free_port());
    let world = worlds.start().await;
    let asking = world.run(asks).await;
    let question = world.asked_soon(&asking).await;
    let working = world.run(&job(&waits)).await;
    world.soon(&working, |view| waited(view).is_some()).await;
    world.standing.stop().await;
    // As after a restore from a backup: the tables, and nothing of Step Functions; the builds have gone meanwhile.
    for entry in std::fs::read_dir(&data).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("executions.db") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    std::fs::write(&go, "").unwrap();
    let world = worlds.start().await;
    assert_eq!(world.executions().await, []);
    let driven = async || world.executions().await.len() == 2;
    world.when(Duration::from_secs(1), driven).await;
    world.approve(&asking, &question).await;
    done(&world.end(&asking).await);
    done(&world.watch_slowly(&working).await);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_works_for_nobody_is_found_by_the_doctor() {
    let world = on_builds().start().await;
    let slow = BuildWeather {
        provisioning: Duration::from_secs(1 << 40),
        ..BuildWeather::default()
    };
    world.standing.cloud.set_build_weather(slow);
    let environment = world.standing.cloud.aws_environment("operator");
    let settings = Settings::from_lookup(|name| environment.get(name).cloned()).unwrap();
    let codebuild = Clients::connect(&settings, None).codebuild;
    let job = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-1";
    let build = StartBuild {
        project: world.standing.cloud.output("JobsProject").unwrap(),
        token: job.to_owned(),
        variables: [("TOWPATH_RUN_ID".to_owned(), job.to_owned())].into(),
        image: None,
        compute_type: None,
        timeout_minutes: 5,
        queued_timeout_minutes: 5,
    };
    let id = codebuild.start(&build).await.unwrap();
    // The same token with other parameters is no repetition.
    let other = StartBuild {
        timeout_minutes: 6,
        ..build.clone()
    };
    let refused = codebuild.start(&other).await.unwrap_err();
    assert!(matches!(refused, CodeBuildError::Refused(_)), "{refused}");
    assert_eq!(codebuild.start(&build).await.as_ref(), Ok(&id));
    let found = world.doctor().await;
    assert_eq!(found, [format!("{job} is at work for nobody: stop it")]);
    codebuild.stop(&id).await.unwrap();
    world
        .when(Duration::from_millis(1), async || {
            world.doctor().await.is_empty()
        })
        .await;
    world.standing.stop().await;
}

/// What a reader of a stream is sent, until it ends or holds this text.
fn stream(world: &World, path: &str, headers: &str, until: Option<&str>) -> String {
    let address = world
        .standing
        .cloud
        .url()
        .trim_start_matches("http://")
        .to_owned();
    let mut socket = TcpStream::connect(&address).unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let (mut text, mut chunk) = (String::new(), [0; 4096]);
    loop {
        let read = socket.read(&mut chunk).unwrap();
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
        if read == 0 || until.is_some_and(|until| text.contains(until)) {
            return text;
        }
    }
}

/// The ids of a stream's events, and the texts that they hold.
fn told(stream: &str) -> (Vec<String>, String) {
    let of = |name: &str| -> Vec<String> {
        let lines = stream.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(|it| it.trim().to_owned()).collect()
    };
    let texts = of("data:").into_iter().filter_map(|data| {
        let event: Value = serde_json::from_str(&data).ok()?;
        Some(event["data"]["text"].as_str()?.to_owned())
    });
    (of("id:"), texts.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_streamed_what_was_told_and_then_what_is_told_until_the_run_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let script = format!(
        "echo first; until [ -e {} ]; do sleep 0.1; done; echo last",
        go.display()
    );
    let world = Arc::new(on_builds().start().await);
    let run = world.run(&job(&script)).await;
    let path = format!("/runs/{run}/events/stream");
    let key = format!("Authorization: Bearer {}\r\n", world.standing.key.reveal());
    let read = |headers: String, until: Option<&'static str>| {
        let (world, path) = (Arc::clone(&world), path.clone());
        tokio::task::spawn_blocking(move || stream(&world, &path, &headers, until))
    };
    // While the command runs a reader comes, goes, and comes again; time passes meanwhile, hardly any of it.
    let early = read(key.clone(), Some("first")).await.unwrap();
    assert!(
        early.contains("text/event-stream") && early.contains("runtime_started"),
        "{early}"
    );
    let (ids, _) = told(&early);
    let again = read(format!("{key}Last-Event-ID: {}\r\n", ids[0]), None);
    std::fs::write(&go, "").unwrap();
    done(&world.end_soon(&run).await);
    let again = again.await.unwrap();
    let (later, texts) = told(&again);
    assert!(
        !later.contains(&ids[0]) && again.contains("event: end"),
        "{again}"
    );
    assert!(texts.ends_with("last\n"), "{texts:?}");
    let whole = read(key.clone(), None).await.unwrap();
    let (all, texts) = told(&whole);
    assert_eq!((texts.as_str(), &all[1..]), ("first\nlast\n", &later[..]));

    // The key is looked for where the front puts it, and nobody else can put one there.
    let forged = key.replace("Authorization", "X-Towpath-Authorization");
    for wrong in [String::new(), forged, key.replace("twk_", "twk_x")] {
        let refused = read(wrong, None).await.unwrap();
        assert!(
            refused.starts_with("HTTP/1.1 401") && refused.contains("unauthorized"),
            "{refused}"
        );
    }
    let nonsense = read(format!("{key}Last-Event-ID: nonsense\r\n"), None)
        .await
        .unwrap();
    assert!(nonsense.starts_with("HTTP/1.1 422"), "{nonsense}");
    let other = world
        .client_of("elsewhere", "reader", towpath_store::Scope::Read)
        .await;
    let elsewhere = other.get::<Value>(&format!("/runs/{run}/events")).await;
    assert!(
        elsewhere
            .unwrap_err()
            .to_string()
            .contains("there is no run")
    );
    let world = Arc::into_inner(world).unwrap();
    world.standing.stop().await;
}
