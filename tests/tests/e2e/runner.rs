//! Runners by hand: what a program may ask and tell that has a job's start code, or its token.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use towpath_api_types::RunView;
use towpath_aws::{Clients, Settings};
use towpath_client::Client;
use towpath_engine::{FailureKind, JobId, RunId, Status};
use towpath_instruments::{Deaths, Moment};
use towpath_jobs::JobRequest;
use towpath_local::BuildWeather;
use towpath_tests::World;

use crate::jobs::job;
use crate::{done, failure, lines, worlds};

/// A world whose builds take for ever to be prepared, so that nobody claims a job but a test.
async fn world() -> World {
    let world = worlds().on_builds().start().await;
    world.standing.cloud.set_build_weather(BuildWeather {
        provisioning: Duration::from_secs(1 << 40),
        ..BuildWeather::default()
    });
    world
}

/// A job that waits for its runner.
struct Waiting {
    run: RunId,
    job: JobId,
    build: String,
    code: String,
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Starts a run, and finds the code of its job where whoever may look at builds would.
async fn waiting(world: &World, yaml: &str) -> Waiting {
    let run = world.run(yaml).await;
    let waits = |view: &RunView| view.summary.waits_for.is_some();
    world.soon(&run, waits).await;
    let environment = world.standing.cloud.aws_environment("operator");
    let settings = Settings::from_lookup(|name| environment.get(name).cloned()).unwrap();
    let codebuild = Clients::connect(&settings, None).codebuild;
    let project = world.standing.cloud.output("JobsProject").unwrap();
    let job = JobId::derive(&run, 1);
    loop {
        for id in codebuild.newest(&project).await.unwrap() {
            let variables = codebuild.look(&id).await.unwrap().unwrap().variables;
            if variables.get("TOWPATH_RUN_ID") == Some(&job.to_string()) {
                let (build, code) = (id, variables["TOWPATH_START_CODE"].clone());
                return Waiting {
                    run,
                    job,
                    build,
                    code,
                };
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks as a runner: the status, and what came back, as JSON or as text.
async fn ask(
    world: &World,
    method: Method,
    path: &str,
    bearer: &str,
    content_type: &str,
    body: impl Into<Vec<u8>>,
) -> (u16, Value) {
    let bearer = format!("Bearer {bearer}");
    let headers = [("authorization", &*bearer), ("content-type", content_type)];
    let client = Client::new(world.standing.cloud.url(), None);
    let sent = client.raw(method, path, &headers, body.into()).await;
    let (status, body) = sent.unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status.as_u16(), value)
}

const JSON: &str = "application/json";

impl Waiting {
    async fn claim(&self, world: &World, code: &str, token: &str) -> (u16, Value) {
        let path = format!("/jobs/{}/claim", self.job);
        let body = json!({ "by": self.build, "token": token }).to_string();
        ask(world, Method::POST, &path, code, JSON, body).await
    }

    async fn get(&self, world: &World, what: &str, bearer: &str) -> (u16, Value) {
        let path = format!("/jobs/{}{what}", self.job);
        ask(world, Method::GET, &path, bearer, JSON, "").await
    }

    /// A file of three bytes, as a runner tells of it.
    fn file(&self, name: &str) -> Value {
        json!({ "name": name, "bytes": 3, "sha256": "ab".repeat(32), "job": self.job })
    }

    async fn artifact(&self, world: &World, token: &str, artifact: &Value) -> (u16, Value) {
        let path = format!("/jobs/{}/artifacts", self.job);
        ask(
            world,
            Method::POST,
            &path,
            token,
            JSON,
            artifact.to_string(),
        )
        .await
    }

    async fn tell(&self, world: &World, batch: &Value) -> (u16, Value) {
        let path = format!("/runs/{}/runner/events", self.job);
        ask(world, Method::POST, &path, TOKEN, JSON, batch.to_string()).await
    }

    fn batch(&self, events: Value) -> Value {
        json!({ "v": 1, "runId": self.job, "events": events })
    }
}

fn event(seq: u64, kind: &str, data: Value) -> Value {
    json!({ "seq": seq, "tMs": 1000 + seq, "kind": kind, "data": data })
}

#[track_caller]
fn refused(answer: (u16, Value), status: u16, code: &str) {
    assert_eq!(
        (answer.0, &answer.1["code"]),
        (status, &json!(code)),
        "{answer:?}"
    );
    assert!(
        answer.1["message"]
            .as_str()
            .is_some_and(|it| !it.is_empty())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_known_by_its_code_once_and_then_by_its_token() {
    let world = world().await;
    let one = waiting(&world, &job("echo one")).await;
    let other = waiting(&world, &job("echo other").replace("id: work", "id: other")).await;
    assert_ne!(one.code, other.code);
    refused(
        one.claim(&world, &other.code, TOKEN).await,
        401,
        "unauthorized",
    );
    refused(one.claim(&world, "", TOKEN).await, 401, "unauthorized");
    refused(
        one.claim(&world, &one.code, "short").await,
        422,
        "invalid_request",
    );
    refused(
        one.get(&world, "/manifest", &one.code).await,
        401,
        "unauthorized",
    );
    let (status, _) = one.get(&world, "/runner/x86_64", &one.code).await;
    assert_eq!(status, 302);
    refused(
        one.get(&world, "/runner/mips", &one.code).await,
        404,
        "not_found",
    );
    refused(
        one.get(&world, "/runner/x86_64", &other.code).await,
        401,
        "unauthorized",
    );

    // The second time the answer to the first was lost.
    for _ in 0..2 {
        assert_eq!(one.claim(&world, &one.code, TOKEN).await.0, 200);
    }
    let thief = TOKEN.replace('0', "f");
    refused(
        one.claim(&world, &one.code, &thief).await,
        409,
        "job_claimed",
    );
    refused(one.get(&world, "", &thief).await, 401, "unauthorized");
    refused(
        other.get(&world, "/manifest", TOKEN).await,
        401,
        "unauthorized",
    );
    assert_eq!(one.get(&world, "", TOKEN).await.1, json!({ "over": false }));
    let (status, manifest) = one.get(&world, "/manifest", TOKEN).await;
    let manifest = format!("{manifest}\n");
    let manifest = JobRequest::from_manifest(manifest.as_bytes()).unwrap();
    assert_eq!((status, &manifest.job), (200, &one.job));

    // A code is good for ten minutes, and longer only for a build that still waits when somebody looks.
    world.clock.advance(Duration::from_secs(601));
    refused(
        other.claim(&world, &other.code, TOKEN).await,
        403,
        "start_code_expired",
    );
    world.standing.cloud.fire_schedules().await;
    let renewed = async || other.claim(&world, &other.code, TOKEN).await.0 == 200;
    world.when(Duration::from_secs(1), renewed).await;

    world.stop(&one.run).await.done();
    let told = one.get(&world, "", TOKEN).await.1;
    assert_eq!(told["stop"]["graceMs"], 10_000);
    refused(one.get(&world, "/manifest", TOKEN).await, 409, "job_over");
    for nobody in ["job_01ARZ3NDEKTSV4RRFFQ69G5FAV-1", "job_1", "%00"] {
        let path = format!("/jobs/{nobody}/manifest");
        let answer = ask(&world, Method::GET, &path, TOKEN, JSON, "").await;
        refused(answer, 401, "unauthorized");
    }
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_runner_tells_by_hand_is_taken_in_order_and_its_end_wakes_the_run() {
    let world = world().await;
    let it = waiting(&world, &job("echo unheard")).await;
    it.claim(&world, &it.code, TOKEN).await;
    let line = |seq: u64| {
        event(
            seq,
            "notification",
            json!({ "stream": "stdout", "text": "x\n" }),
        )
    };
    for (wrong, code) in [
        (json!([]), "invalid_envelope"),
        (json!({ "v": 2 }), "version_mismatch"),
        (json!({ "v": 1 }), "missing_run_id"),
        (it.batch(json!([])), "empty_batch"),
        (it.batch(json!(vec![line(1); 257])), "batch_too_large"),
        (it.batch(json!([{ "seq": 1 }])), "invalid_event"),
        (it.batch(json!([line(2), line(1)])), "seq_not_monotonic"),
    ] {
        refused(it.tell(&world, &wrong).await, 400, code);
    }
    let mut foreign = it.batch(json!([line(1)]));
    foreign["runId"] = json!("job_other");
    refused(it.tell(&world, &foreign).await, 403, "run_id_mismatch");
    let large = json!({ "text": "x".repeat(1024 * 1024) });
    let large = it.batch(json!([event(1, "notification", large)]));
    refused(it.tell(&world, &large).await, 413, "too_large");

    let told = it.tell(&world, &it.batch(json!([line(1), line(4)]))).await;
    assert_eq!(told, (200, json!({ "acceptedThrough": 4, "over": false })));
    let again = it
        .tell(&world, &it.batch(json!([line(1), line(4), line(5)])))
        .await;
    assert_eq!(again.1["acceptedThrough"], 5);
    let other = event(4, "assistant_text", json!({}));
    let answer = it.tell(&world, &it.batch(json!([other]))).await;
    assert_eq!(answer.1["lastSeq"], 5);
    refused(answer, 400, "seq_not_monotonic");
    let lines = format!("{}\n{}\n", line(6), line(7));
    let path = format!("/api/v1/runs/{}/runner/events", it.job);
    let answer = ask(
        &world,
        Method::POST,
        &path,
        TOKEN,
        "application/x-ndjson",
        lines,
    )
    .await;
    assert_eq!(answer.1["acceptedThrough"], 7);

    let end = it.batch(json!([event(
        8,
        "runtime_terminal",
        json!({ "status": "terminated" })
    )]));
    refused(it.tell(&world, &end).await, 409, "answer_missing");
    let answer = format!("/jobs/{}/answer?from=file", it.job);
    let put = ask(
        &world,
        Method::PUT,
        &answer,
        TOKEN,
        "application/octet-stream",
        "by hand",
    )
    .await;
    assert_eq!(put.0, 204);
    // The second time the answer to the first was lost.
    for _ in 0..2 {
        let told = it.tell(&world, &end).await;
        assert_eq!(told.1["acceptedThrough"], 8, "{told:?}");
    }
    refused(
        it.tell(&world, &it.batch(json!([line(9)]))).await,
        409,
        "job_over",
    );
    let put = ask(
        &world,
        Method::PUT,
        &answer,
        TOKEN,
        "application/octet-stream",
        "late",
    )
    .await;
    refused(put, 409, "job_over");
    let late = it.artifact(&world, TOKEN, &it.file("a.txt")).await;
    refused(late, 409, "job_over");
    done(&world.end_soon(&it.run).await);
    assert_eq!(world.output(&it.run, 0).await, "by hand");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_any_bytes_arrives_as_it_was() {
    let world = world().await;
    let it = waiting(&world, &job("echo unheard")).await;
    it.claim(&world, &it.code, TOKEN).await;
    // As text within JSON each of these would be six bytes, more than a function takes.
    let large = "\u{1}\"\n".repeat(4 * 1024 * 1024 / 3);
    let answer = format!("/jobs/{}/answer?from=stdout", it.job);
    let put = ask(
        &world,
        Method::PUT,
        &answer,
        TOKEN,
        "application/octet-stream",
        large.clone(),
    );
    assert_eq!(put.await.0, 204);
    it.tell(
        &world,
        &it.batch(json!([event(1, "runtime_terminal", json!({}))])),
    )
    .await;
    let view = world.end_soon(&it.run).await;
    done(&view);
    let href = &view.steps[0].output.as_ref().unwrap().href;
    let output = world.client.output(href).await.unwrap();
    assert!(
        output == large || output == large.trim_end(),
        "{}",
        output.len()
    );
    world.standing.stop().await;
}

/// Asks until a function lives long enough to answer, as a runner does.
async fn insist(answer: impl AsyncFn() -> (u16, Value)) -> Value {
    for _ in 0..10 {
        let (status, body) = answer().await;
        if status < 500 {
            assert!(status < 300, "{status}: {body}");
            return body;
        }
    }
    panic!("nobody lives to answer");
}

/// One job by hand, from the claim to the end of its run, with an invocation that dies. Returns the calls that were made.
async fn told_by_hand(plan: Option<(usize, Moment)>) -> Vec<String> {
    let deaths = Deaths::default();
    let world = worlds().on_builds().mortal(deaths.clone()).start().await;
    world.standing.cloud.set_build_weather(BuildWeather {
        provisioning: Duration::from_secs(1 << 40),
        ..BuildWeather::default()
    });
    let it = waiting(&world, &job("echo unheard")).await;
    deaths.arm(plan);
    let line = |seq: u64| {
        event(
            seq,
            "notification",
            json!({ "stream": "stdout", "text": "x\n" }),
        )
    };
    let large = "x".repeat(10_000);
    let batches = [
        it.batch(json!([
            line(1),
            event(2, "notification", json!({ "text": large }))
        ])),
        it.batch(json!([line(3), event(4, "runtime_terminal", json!({}))])),
    ];
    insist(async || it.claim(&world, &it.code, TOKEN).await).await;
    insist(async || it.get(&world, "/manifest", TOKEN).await).await;
    insist(async || it.tell(&world, &batches[0]).await).await;
    let answer = format!("/jobs/{}/answer?from=file", it.job);
    insist(async || {
        ask(
            &world,
            Method::PUT,
            &answer,
            TOKEN,
            "application/octet-stream",
            "by hand",
        )
        .await
    })
    .await;
    insist(async || it.tell(&world, &batches[1]).await).await;
    let view = world.end(&it.run).await;
    let calls = deaths.calls();
    deaths.arm(None);
    done(&view);
    assert_eq!(world.output(&it.run, 0).await, "by hand", "{plan:?}");
    let path = format!("/runs/{}/events", it.run);
    let page: Value = world.client.get(&path).await.unwrap();
    let seqs: Vec<_> = page["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|told| &told["seq"])
        .collect();
    assert_eq!(seqs, [1, 2, 3, 4], "{plan:?}");
    world.standing.stop().await;
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_dies_at_any_of_its_calls_while_a_runner_tells_loses_nothing() {
    let calls = told_by_hand(None).await;
    assert!(calls.len() > 15, "{calls:?}");
    for number in 0..calls.len() {
        for moment in [Moment::Before, Moment::After] {
            told_by_hand(Some((number, moment))).await;
        }
    }
}

/// Passes on what a runner asks, until a chosen request: at that one the runner is killed, before it is passed on or
/// after it was answered.
struct Proxy {
    url: String,
    requests: Arc<AtomicUsize>,
}

type Victim = Arc<Mutex<Option<Child>>>;

impl Proxy {
    fn start(to: &str, kill_at: usize, after: bool, victim: Victim) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (to, requests) = (to.trim_start_matches("http://").to_owned(), Arc::default());
        let counter: Arc<AtomicUsize> = Arc::clone(&requests);
        std::thread::spawn(move || {
            for inbound in listener.incoming() {
                let Ok(inbound) = inbound else { return };
                let (to, counter, victim) = (to.clone(), Arc::clone(&counter), Arc::clone(&victim));
                std::thread::spawn(move || serve(inbound, &to, &counter, kill_at, after, &victim));
            }
        });
        Self {
            url: format!("http://{address}"),
            requests,
        }
    }
}

/// One request, read whole.
fn request(from: &mut TcpStream) -> Option<(Vec<u8>, usize)> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 65536]);
    loop {
        let head = bytes.windows(4).position(|it| it == b"\r\n\r\n");
        if let Some(head) = head.map(|at| at + 4) {
            let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |it| it.trim().parse().unwrap());
            if bytes.len() >= head + length {
                return Some((bytes, head));
            }
        }
        match from.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

fn serve(
    mut inbound: TcpStream,
    to: &str,
    counter: &AtomicUsize,
    kill_at: usize,
    after: bool,
    victim: &Victim,
) {
    while let Some((bytes, head)) = request(&mut inbound) {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        let kill = || {
            let victim = victim.lock().unwrap().take();
            if let Some(mut victim) = victim {
                victim.kill().unwrap();
                victim.wait().unwrap();
            }
        };
        if number == kill_at && !after {
            kill();
            return;
        }
        let Ok(mut outbound) = TcpStream::connect(to) else {
            return;
        };
        // The cloud wants to be called by its own name, and to be told when the answer is whole.
        let text = String::from_utf8_lossy(&bytes[..head]);
        let lines = text.lines().filter(|line| {
            let line = line.to_ascii_lowercase();
            !line.starts_with("host:") && !line.starts_with("connection:")
        });
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        let new = format!(
            "{}\r\nhost: {to}\r\nconnection: close\r\n\r\n",
            lines.join("\r\n")
        );
        outbound.write_all(new.as_bytes()).unwrap();
        outbound.write_all(&bytes[head..]).unwrap();
        let mut answer = Vec::new();
        outbound.read_to_end(&mut answer).unwrap();
        if number == kill_at {
            kill();
            return;
        }
        if inbound.write_all(&answer).is_err() {
            return;
        }
        let _ = inbound.shutdown(Shutdown::Write);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_killed_at_any_of_its_calls_leaves_a_job_that_ends_once_and_no_command() {
    let (mut calls, mut told) = (usize::MAX, 0);
    let mut number = 0;
    while number < calls {
        for after in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let trace = dir.path().join("trace");
            let world = world().await;
            let script = format!("echo $$ >> {}; echo done", trace.display());
            let it = waiting(&world, &job(&script)).await;
            let victim: Victim = Arc::default();
            let to = world.standing.cloud.url();
            let proxy = Proxy::start(to, number, after, Arc::clone(&victim));
            let mut runner = Command::new(env!("CARGO_BIN_EXE_towpath-under-test"));
            runner
                .arg("runner")
                .env("TOWPATH_API_BASE", &proxy.url)
                .env("TOWPATH_RUN_ID", it.job.as_str())
                .env("TOWPATH_START_CODE", &it.code)
                .env("CODEBUILD_BUILD_ID", &it.build)
                .stderr(Stdio::null());
            {
                // Held until it is there, or the proxy might find nobody to kill.
                let mut victim = victim.lock().unwrap();
                *victim = Some(runner.spawn().unwrap());
            }
            // Until it was killed, or has ended.
            let gone = async || match &mut *victim.lock().unwrap() {
                None => true,
                Some(runner) => runner.try_wait().unwrap().is_some(),
            };
            world.when(Duration::from_millis(1), gone).await;
            let killed = victim.lock().unwrap().is_none();
            if !killed {
                calls = proxy.requests.load(Ordering::SeqCst);
                assert!(number >= calls, "it ended before call {number}");
            }
            // Its build knows nothing of it; the run is stopped, unless the end was told before.
            if killed {
                world.stop(&it.run).await;
            }
            let status = world.end(&it.run).await.summary.status;
            told += usize::from(status == Status::Done);
            assert!(killed || status == Status::Done);
            // The build that this runner stood in for ends when it finds the job another's, or over.
            let weather = BuildWeather::default();
            world.standing.cloud.set_build_weather(weather);
            let quiet = async || world.doctor().await.is_empty();
            world.when(Duration::from_secs(1), quiet).await;
            assert!(lines(&trace) <= 1, "the command ran twice");
            if let Ok(pid) = std::fs::read_to_string(&trace) {
                let process = format!("/proc/{}", pid.trim());
                let gone = async || !std::path::Path::new(&process).exists();
                world.when(Duration::from_millis(1), gone).await;
            }
            world.standing.stop().await;
        }
        number += 1;
    }
    assert!(
        calls >= 4,
        "{calls} calls: a claim, the manifest, the answer, the end"
    );
    assert!(told >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_stores_files_of_its_own_job_and_no_others() {
    let world = world().await;
    let it = waiting(&world, &job("echo unheard")).await;
    it.claim(&world, &it.code, TOKEN).await;
    let stranger = it
        .artifact(&world, &"0".repeat(32), &it.file("a.txt"))
        .await;
    refused(stranger, 401, "unauthorized");
    let mut of_another = it.file("a.txt");
    of_another["job"] = json!(JobId::derive(&it.run, 2));
    let mut unhashed = it.file("a.txt");
    unhashed["sha256"] = "../../../jobs".into();
    let mut large = it.file("a.txt");
    large["bytes"] = (1_u64 << 40).into();
    for wrong in [
        it.file("../a.txt"),
        it.file(""),
        of_another.clone(),
        unhashed,
        large,
    ] {
        refused(
            it.artifact(&world, TOKEN, &wrong).await,
            400,
            "invalid_artifact",
        );
    }
    let (status, told) = it.artifact(&world, TOKEN, &it.file("a.txt")).await;
    assert_eq!(status, 200, "{told}");
    // The URL is for the bytes of that hash.
    let url = told["url"].as_str().unwrap();
    let headers = told["headers"].as_object().unwrap();
    let headers = headers
        .iter()
        .map(|(name, value)| (&**name, value.as_str().unwrap()));
    let client = Client::for_files(url);
    let error = client.store(url, headers, "abc".into()).await.unwrap_err();
    assert!(error.to_string().contains("BadDigest"), "{error}");
    // An end that tells of another job's files is the agent's failure.
    let end = json!({ "terminalErrorClass": "exit_code", "artifacts": [of_another] });
    let batch = it.batch(json!([event(1, "runtime_terminal", end)]));
    assert_eq!(it.tell(&world, &batch).await.0, 200);
    let (kind, message) = failure(&world.end_soon(&it.run).await);
    assert_eq!(kind, FailureKind::Agent);
    assert!(message.contains("of another job"), "{message}");
    world.standing.stop().await;
}
