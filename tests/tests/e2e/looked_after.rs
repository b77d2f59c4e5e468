//! Executors that are looked after: put through the contract, and removed.

use std::time::Duration;

use http::Method;
use serde_json::Value;
use towpath_tests::executors::ask;
use towpath_tests::workers::Recipe;
use towpath_tests::{World, Worlds};

use crate::worlds;

/// Runs `towpath executors check`: whether all is well, and what it printed.
async fn checked(worlds: &Worlds, world: &World, executor: &str, more: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::new(worlds.program());
    command.args(["executors", "check", world.standing.cloud.url()]);
    command.args(["--executor", executor]).args(more);
    command.env("TOWPATH_KEY", world.standing.key.reveal());
    let done = async { command.output().await.unwrap() };
    tokio::pin!(done);
    let output = loop {
        tokio::select! {
            output = &mut done => break output,
            () = world.pass(Duration::from_millis(1)) => {}
        }
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said + &error)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_is_put_through_what_the_contract_asks() {
    let worlds = worlds();
    let world = worlds.start().await;
    let dir = tempfile::tempdir().unwrap();
    let agent = "case \"$TOWPATH_OBJECTIVE\" in *Wait*) exec sleep 6543;; *) echo done;; esac";
    let arguments = ["--capability", "x-test", "--", "sh", "-c", agent];
    let folder = dir.path().join("w");
    let recipe = Recipe::new(&worlds, &world, &folder, &arguments).await;
    let worker = recipe.start();
    let identity = folder.join("identity.json");
    world
        .when(Duration::from_millis(1), async || {
            std::fs::read_to_string(&identity).is_ok_and(|it| it.contains("token"))
                && worker.said().contains("its socket is open")
        })
        .await;
    let identity: Value = serde_json::from_slice(&std::fs::read(&identity).unwrap()).unwrap();
    let id = identity["executor_id"].as_str().unwrap().to_owned();
    // A restart that kills the worker, and has a new one stand in its place.
    let pid = worker.pid().to_string();
    let key = recipe.key().to_owned();
    let restart = format!(
        "kill -9 {pid}; sleep 0.2; TOWPATH_ENROLMENT_KEY={key} {} worker --server {} --dir {} --capability x-test -- sh -c '{agent}' \
         >/dev/null 2>&1 & echo $! > {}",
        worlds.program().display(),
        world.standing.cloud.url(),
        folder.display(),
        dir.path().join("second").display()
    );
    let (well, said) = checked(&worlds, &world, &id, &["--restart", &restart]).await;
    let second = std::fs::read_to_string(dir.path().join("second")).unwrap();
    let (lied, lies) = checked(
        &worlds,
        &world,
        &id,
        &["--asks", "Ask.", "--patience", "20"],
    )
    .await;
    let (unknown, nobody) =
        checked(&worlds, &world, "6f1e2a52-6d0a-4f0e-9a53-000000000009", &[]).await;
    let killed = std::process::Command::new("kill")
        .arg(second.trim())
        .status();
    assert!(killed.unwrap().success());
    assert!(well, "{said}");
    assert_eq!(said.matches("ok    core").count(), 3, "{said}");
    assert!(said.contains("ok    resumable"), "{said}");
    // It never asks, and that is said.
    assert!(!lied && lies.contains("FAIL  hitl"), "{lies}");
    assert!(
        lies.contains("mission.hitl_required was waited for"),
        "{lies}"
    );
    assert!(
        !unknown && nobody.contains("FAIL  core: it is registered"),
        "{nobody}"
    );
    drop(worker);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_removed_ends_and_says_why() {
    for ways in [&[][..], &["--poll"]] {
        let worlds = worlds();
        let world = worlds.start().await;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("w");
        let arguments = [&["--run-step-commands"][..], ways].concat();
        let recipe = Recipe::new(&worlds, &world, &folder, &arguments).await;
        let mut worker = recipe.start();
        let own = world.standing.key.reveal().to_owned();
        let listed = async || {
            let path = "/api/v1/executors";
            let (_, list) = ask(&world, Method::GET, path, &own, &Value::Null).await;
            let first = &list["executors"][0];
            let id = first["executor_id"].as_str()?;
            (first["connected"] == true).then(|| id.to_owned())
        };
        world
            .when(Duration::from_millis(1), async || listed().await.is_some())
            .await;
        let path = format!("/api/v1/executors/{}", listed().await.unwrap());
        let (status, _) = ask(&world, Method::DELETE, &path, &own, &Value::Null).await;
        assert_eq!(status, 204);
        let mut code = None;
        while code.is_none() {
            world.pass(Duration::from_millis(1)).await;
            code = worker.ended();
        }
        assert_eq!(code, Some(1), "{}", worker.said());
        assert!(worker.said().contains("token"), "{}", worker.said());
        world.standing.stop().await;
    }
}
