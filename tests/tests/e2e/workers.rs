//! Steps that a `towpath worker` carries out: the real command, over its socket and by polls, through restarts and cuts.

use std::path::Path;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use towpath_engine::FailureKind;
use towpath_tests::executors::ask;
use towpath_tests::workers::{Network, Recipe, Worker};
use towpath_tests::{World, Worlds};

use crate::{done, failure, lines, worlds};

/// A pipeline of one step whose command is this script, for whoever has the capability `x-test`.
fn script(script: &str) -> String {
    let command = json!(["sh", "-c", script]);
    format!(
        "{{ id: work, name: Work, steps: [{{ agentKind: coder, runtime: {{ kind: command, command: {command}, \
         on: {{ executor: [ x-test ] }} }} }}] }}"
    )
}

/// A worker that carries out what steps name.
async fn recipe(worlds: &Worlds, world: &World, folder: &Path) -> Recipe {
    let arguments = ["--capability", "x-test", "--run-step-commands"];
    Recipe::new(worlds, world, folder, &arguments).await
}

/// A world with one worker that carries out what steps name, and a folder for what they write.
async fn with_worker() -> (World, TempDir, Worker) {
    let worlds = worlds();
    let world = worlds.start().await;
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe(&worlds, &world, &dir.path().join("w")).await;
    (world, dir, recipe.start())
}

/// Every event of a run that printed something, joined.
async fn printed(world: &World, run: &towpath_engine::RunId) -> String {
    let (mut all, mut after) = (String::new(), String::new());
    loop {
        let path = format!("/runs/{run}/events?after={after}");
        let page: Value = world.client.get(&path).await.unwrap();
        for event in page["events"].as_array().unwrap() {
            all.push_str(event["data"]["text"].as_str().unwrap_or_default());
        }
        after = page["next"].as_str().unwrap().to_owned();
        if page["over"] == true {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_carries_out_a_step_over_its_socket_and_by_polls() {
    for ways in [&[][..], &["--poll"]] {
        let worlds = worlds();
        let world = worlds.start().await;
        let dir = tempfile::tempdir().unwrap();
        let arguments = ["--capability", "x-test", "--run-step-commands"];
        let arguments = [&arguments[..], ways].concat();
        let recipe = Recipe::new(&worlds, &world, &dir.path().join("w"), &arguments).await;
        let worker = recipe.start();
        let run = world
            .run(&script(
                "echo on its way; echo \"for $TOWPATH_TITLE\"; echo The answer. > $TOWPATH_OUTPUT",
            ))
            .await;
        done(&world.end_soon(&run).await);
        assert_eq!(world.output(&run, 0).await, "The answer.\n");
        let printed = printed(&world, &run).await;
        assert!(printed.contains("on its way"), "{printed}");
        assert!(printed.contains("for work"), "{printed}");
        let by_socket = worker.said().contains("its socket is open");
        assert_eq!(by_socket, ways.is_empty(), "{}", worker.said());
        assert_eq!(worker.end(), Some(0));
        world.standing.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_a_command_of_its_own_is_told_the_objective() {
    let worlds = worlds();
    let world = worlds.start().await;
    let dir = tempfile::tempdir().unwrap();
    let agent = "echo \"$TOWPATH_OBJECTIVE\" | tee objective; test -e $TOWPATH_INPUTS/context.json; \
                 printf 'did: %s' \"$(cat objective)\" > $TOWPATH_OUTPUT";
    let arguments = [
        "--capability",
        "x-test",
        "--slots",
        "2",
        "--",
        "sh",
        "-ec",
        agent,
    ];
    let recipe = Recipe::new(&worlds, &world, &dir.path().join("w"), &arguments).await;
    let worker = recipe.start();
    // A step of a run, whose own command is left aside.
    let run = world.run(&script("exit 1")).await;
    done(&world.end_soon(&run).await);
    let output = world.output(&run, 0).await;
    assert!(
        output.starts_with("did: ") && output.contains("work"),
        "{output}"
    );
    // And a mission of somebody who has no run.
    let key = world.standing.key.reveal().to_owned();
    let dispatch = json!({
        "objective": "Mend the bridge.", "mission_id": "m-1", "completion": "It holds.",
        "executor_filter": { "capabilities": ["x-test"] },
    });
    let path = "/api/v1/sessions/s-1/dispatch";
    let (status, answer) = ask(&world, Method::POST, path, &key, &dispatch).await;
    assert_eq!(status, 202, "{answer}");
    world
        .when(Duration::from_millis(1), async || {
            let path = "/api/v1/missions/m-1";
            let (_, shown) = ask(&world, Method::GET, path, &key, &Value::Null).await;
            if shown["state"] != "done" {
                assert_ne!(shown["state"], "failed", "{shown}\n{}", worker.said());
                return false;
            }
            let events = shown["recent_events"].as_array().unwrap();
            let last = events.iter().find(|it| it["event"] == "mission.completed");
            assert_eq!(last.unwrap()["data"]["summary"], "did: Mend the bridge.");
            true
        })
        .await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sort_of_command_ends_as_it_should() {
    let (world, dir, worker) = with_worker().await;
    // One that ends at once, and one that fails.
    let run = world.run(&script("true")).await;
    done(&world.end_soon(&run).await);
    let run = world.run(&script("echo it breaks >&2; exit 3")).await;
    let (kind, message) = failure(&world.end_soon(&run).await);
    assert_eq!(kind, FailureKind::JobFailed);
    assert!(message.contains("exit code 3"), "{message}");
    assert!(message.contains("it breaks"), "{message}");
    // One that is not there.
    let run = world
        .run(&script("true").replace("\"sh\"", "\"no-such-agent\""))
        .await;
    let (_, message) = failure(&world.end_soon(&run).await);
    assert!(message.contains("no-such-agent"), "{message}");
    // One that leaves processes behind, also in a session of their own.
    let pids = dir.path().join("pids");
    let forks = format!(
        "setsid sleep 6543 & echo $! >> {0}; sleep 6543 & echo $! >> {0}; echo done > $TOWPATH_OUTPUT",
        pids.display()
    );
    let run = world.run(&script(&forks)).await;
    done(&world.end_soon(&run).await);
    assert_eq!(lines(&pids), 2);
    gone(&world, &pids).await;
    assert_eq!(worker.end(), Some(0));
    world.standing.stop().await;
}

/// Waits until none of the processes of this file lives.
async fn gone(world: &World, pids: &Path) {
    let pids = std::fs::read_to_string(pids).unwrap();
    let lives = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    world
        .when(Duration::from_millis(1), async || !pids.lines().any(lives))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_stopped_ends_even_if_it_ignores_being_asked() {
    let (world, dir, worker) = with_worker().await;
    let pids = dir.path().join("pids");
    let stubborn = format!(
        "trap '' TERM; echo $$ > {}; while :; do sleep 1; done",
        pids.display()
    );
    let run = world.run(&script(&stubborn)).await;
    world
        .when(Duration::from_millis(1), async || pids.exists())
        .await;
    world.stop(&run).await.done();
    let view = world.watch_slowly(&run).await;
    assert_eq!(failure(&view).0, FailureKind::Cancelled);
    gone(&world, &pids).await;
    // The worker is free for the next.
    let run = world.run(&script("echo next > $TOWPATH_OUTPUT")).await;
    done(&world.end_soon(&run).await);
    assert_eq!(worker.end(), Some(0));
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_never_ends_is_ended_when_its_time_is_up() {
    let (world, dir, _worker) = with_worker().await;
    let pids = dir.path().join("pids");
    let never = format!("echo $$ > {}; sleep 6543 & wait", pids.display());
    let yaml = script(&never).replace(
        "agentKind: coder",
        "agentKind: coder, budgets: { jobMinutes: 5 }",
    );
    let run = world.run(&yaml).await;
    world
        .when(Duration::from_millis(1), async || pids.exists())
        .await;
    let view = world.watch_slowly(&run).await;
    let (kind, message) = failure(&view);
    assert_eq!(kind, FailureKind::Timeout, "{message}");
    gone(&world, &pids).await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_prints_200_mb_is_kept_in_full_or_said_to_be_cut() {
    let (world, _dir, worker) = with_worker().await;
    let floods = "head -c 200000000 /dev/zero | tr '\\0' 'x' | fold -w 1000; echo; echo the last line; \
                  echo answered > $TOWPATH_OUTPUT";
    let run = world.run(&script(floods)).await;
    let view = world.end_soon(&run).await;
    done(&view);
    assert_eq!(world.output(&run, 0).await.trim(), "answered");
    let printed = printed(&world, &run).await;
    assert!(printed.trim_end().ends_with("the last line"));
    assert!(
        printed.len() >= 200_000_000 || printed.contains("left out"),
        "{} bytes came, and nothing says that there were more",
        printed.len()
    );
    assert_eq!(worker.end(), Some(0));
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_of_different_capabilities_share_a_pipeline() {
    let worlds = worlds();
    let world = worlds.start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut workers = Vec::new();
    for capability in ["x-gpu", "x-mac"] {
        let arguments = [
            "--capability",
            capability,
            "--run-step-commands",
            "--name",
            capability,
        ];
        let folder = dir.path().join(capability);
        workers.push(
            Recipe::new(&worlds, &world, &folder, &arguments)
                .await
                .start(),
        );
    }
    let step = |capability: &str, command: &str| {
        let command = json!(["sh", "-c", command]);
        format!(
            "{{ agentKind: coder, runtime: {{ kind: command, command: {command}, on: {{ executor: [ {capability} ] }} }} }}"
        )
    };
    let steps = [
        step("x-gpu", "echo trained > $TOWPATH_OUTPUT"),
        step(
            "x-mac",
            "echo \"signed what was $(cat $TOWPATH_INPUTS/output-0.txt)\" > $TOWPATH_OUTPUT",
        ),
        step("x-gpu", "pwd > $TOWPATH_OUTPUT"),
    ];
    let yaml = format!(
        "{{ id: work, name: Work, steps: [ {} ] }}",
        steps.join(", ")
    );
    let run = world.run(&yaml).await;
    done(&world.end_soon(&run).await);
    assert!(
        world
            .output(&run, 1)
            .await
            .contains("signed what was trained")
    );
    let last = world.output(&run, 2).await;
    assert!(last.contains("/x-gpu/"), "{last}");
    world.standing.stop().await;
}

/// A command that counts to `n`, a line each time it is let go on by a file, and says how often it was begun.
fn counts(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "echo begun >> {dir}/begun; for i in 1 2 3; do echo line $i; touch {dir}/said-$i; \
         until test -e {dir}/go-$i; do sleep 0.05; done; done; echo counted > $TOWPATH_OUTPUT"
    )
}

async fn said(world: &World, dir: &Path, number: u32) {
    let file = dir.join(format!("said-{number}"));
    world
        .when(Duration::from_millis(1), async || file.exists())
        .await;
}

fn go(dir: &Path, number: u32) {
    std::fs::write(dir.join(format!("go-{number}")), "").unwrap();
}

/// Asserts that a mission that counts was begun once, and everything it printed came once.
async fn whole(world: &World, run: &towpath_engine::RunId, dir: &Path) {
    assert_eq!(lines(&dir.join("begun")), 1, "the command ran once");
    assert_eq!(world.output(run, 0).await.trim(), "counted");
    let printed = printed(world, run).await;
    assert_eq!(printed.trim(), "line 1\nline 2\nline 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_and_started_again_goes_on_with_its_mission() {
    let worlds = worlds();
    let world = worlds.start().await;
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe(&worlds, &world, &dir.path().join("w")).await;
    let worker = recipe.start();
    let run = world.run(&script(&counts(dir.path()))).await;
    said(&world, dir.path(), 1).await;
    worker.kill();
    go(dir.path(), 1);
    said(&world, dir.path(), 2).await;
    // Longer than the deployment waits for a word.
    for _ in 0..30 {
        world.pass(Duration::from_secs(10)).await;
    }
    let worker = recipe.start();
    let registered = || worker.said().matches("is registered").count() == 2;
    world
        .when(Duration::from_millis(1), async || registered())
        .await;
    go(dir.path(), 2);
    said(&world, dir.path(), 3).await;
    assert_eq!(worker.end(), Some(0));
    go(dir.path(), 3);
    // It ends while no worker is there.
    world.pass(Duration::from_secs(10)).await;
    let worker = recipe.start();
    let view = world.end_soon(&run).await;
    done(&view);
    assert_eq!(view.steps[0].attempt, 1, "{}", worker.said());
    whole(&world, &run, dir.path()).await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_is_killed_and_started_again_finds_the_mission_as_it_is() {
    let (data, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let worlds = worlds().on(data.path());
    let world = worlds.start().await;
    let url = world.standing.cloud.url().to_owned();
    let port: u16 = url
        .rsplit(':')
        .next()
        .unwrap()
        .trim_end_matches('/')
        .parse()
        .unwrap();
    let worker = recipe(&worlds, &world, &dir.path().join("w")).await.start();
    let run = world.run(&script(&counts(dir.path()))).await;
    said(&world, dir.path(), 1).await;
    let clock = world.clock.clone();
    world.standing.stop().await;
    go(dir.path(), 1);
    let two = dir.path().join("said-2");
    while !two.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let worlds = worlds.since(clock).at(port);
    let world = worlds.start().await;
    go(dir.path(), 2);
    said(&world, dir.path(), 3).await;
    go(dir.path(), 3);
    let view = world.end_soon(&run).await;
    done(&view);
    assert_eq!(view.steps[0].attempt, 1, "{}", worker.said());
    whole(&world, &run, dir.path()).await;
    assert_eq!(worker.end(), Some(0));
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_cut_for_a_while_loses_nothing() {
    for ways in [&[][..], &["--poll"]] {
        let worlds = worlds();
        let world = worlds.start().await;
        let network = Network::to(world.standing.cloud.url()).await;
        let dir = tempfile::tempdir().unwrap();
        let arguments = ["--capability", "x-test", "--run-step-commands"];
        let arguments = [&arguments[..], ways].concat();
        let recipe = Recipe::new(&worlds, &world, &dir.path().join("w"), &arguments).await;
        let worker = recipe.at(network.url()).start();
        let run = world.run(&script(&counts(dir.path()))).await;
        said(&world, dir.path(), 1).await;
        network.cut();
        go(dir.path(), 1);
        said(&world, dir.path(), 2).await;
        // Longer than the deployment waits for a word.
        for _ in 0..12 {
            world.pass(Duration::from_secs(10)).await;
        }
        go(dir.path(), 2);
        said(&world, dir.path(), 3).await;
        network.mend();
        go(dir.path(), 3);
        let view = world.end_soon(&run).await;
        done(&view);
        assert_eq!(view.steps[0].attempt, 1, "{}", worker.said());
        whole(&world, &run, dir.path()).await;
        assert_eq!(worker.end(), Some(0));
        world.standing.stop().await;
    }
}
