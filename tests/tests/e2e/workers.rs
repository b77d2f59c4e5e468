//! Steps that a `towpath worker` carries out: the real command, over its socket and by polls, through restarts and cuts.

use std::path::Path;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use towpath_engine::{FailureKind, Status};
use towpath_tests::executors::ask;
use towpath_tests::workers::{Network, Recipe};
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
