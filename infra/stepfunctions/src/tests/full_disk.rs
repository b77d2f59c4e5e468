//! A disk without room, and a file that cannot be written: the store goes on afterwards, or says that it does not.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;
use towpath_clock::Clock;

use super::{MACHINE, NOW, World, output, work};
use crate::store::fuse::Fuse;

const TOKEN: &str = "invoke.waitForTaskToken";

fn on_disk(dir: &TempDir) -> World {
    let file = dir.path().join("stepfunctions.sqlite");
    let world = World::open(Some(&file), Clock::manual(NOW));
    world.define(work(TOKEN, json!({})));
    world
}

/// Asks for an execution whose records need room on the disk, and returns the status of the answer.
async fn start_large(world: &World, name: &str) -> u16 {
    let input = json!({ "padding": "x".repeat(100_000) }).to_string();
    let body = json!({ "stateMachineArn": MACHINE, "name": name, "input": input });
    world.ask("StartExecution", body).await.0
}

/// Lets a second pass, and everything else run.
async fn pass(world: &World) {
    world.advance_ms(1_000);
    tokio::task::yield_now().await;
}

/// Lets seconds pass until the owner is told that the store stays unusable, and returns what it is told.
async fn until_told(world: &World, second: impl AsyncFn()) -> String {
    let sfn = world.sfn.clone();
    let failed = tokio::spawn(async move { sfn.failed().await });
    let mut seconds = 0;
    while !failed.is_finished() {
        second().await;
        seconds += 1;
        assert!(seconds < 1_000, "nobody was told");
    }
    assert!(seconds >= 60, "told after {seconds} seconds");
    failed.await.unwrap().to_string()
}

#[tokio::test]
async fn executions_go_on_once_the_disk_has_room_again() {
    let dir = TempDir::new().unwrap();
    let mut world = on_disk(&dir);
    let parked = world.start("parked", json!({})).await;
    let call = world.call().await;
    let token = call.token();
    call.returns(Value::Null);
    world.until_event(&parked, "TaskSubmitted", 1).await;

    world
        .sfn
        .driver
        .with_store_mut(|store| store.fill_disk(true));
    for _ in 0..20 {
        assert_eq!(start_large(&world, "large").await, 503);
        pass(&world).await;
    }
    world
        .sfn
        .driver
        .with_store_mut(|store| store.fill_disk(false));
    while start_large(&world, "large").await != 200 {
        pass(&world).await;
    }
    assert!(world.sfn.driver.is_ready());
    let call = world.call().await;
    world.succeed(&call.token(), json!("large")).await;
    let large = parked.replace(":parked", ":large");
    assert_eq!(output(&world.closed(&large).await), json!("large"));
    world.succeed(&token, json!("parked")).await;
    assert_eq!(output(&world.closed(&parked).await), json!("parked"));
}

#[tokio::test]
async fn a_store_that_stays_unusable_is_told_and_goes_on_when_it_is_usable() {
    let dir = TempDir::new().unwrap();
    let mut world = on_disk(&dir);
    world.start("e", json!({})).await;
    let lost = world.call().await;
    let (file, away) = (
        dir.path().join("stepfunctions.sqlite"),
        dir.path().join("away"),
    );
    fs::rename(&file, &away).unwrap();
    let full = Fuse {
        writes_left: 0,
        write_is_done: false,
        full: true,
        blown: false,
    };
    world
        .sfn
        .driver
        .with_store_mut(|store| store.fuse = Some(full));
    lost.returns(Value::Null);

    let told = until_told(&world, async || pass(&world).await).await;
    assert!(
        told.contains("unable to open") && told.contains("has room"),
        "{told}"
    );

    fs::rename(&away, &file).unwrap();
    let again = loop {
        match world.calls.try_recv() {
            Ok(call) => break call,
            Err(_) => pass(&world).await,
        }
    };
    assert_ne!(again.payload["token"], Value::Null);
    assert!(world.sfn.driver.is_ready());
}

#[tokio::test]
async fn a_disk_that_stays_full_is_told() {
    let dir = TempDir::new().unwrap();
    let world = on_disk(&dir);
    world
        .sfn
        .driver
        .with_store_mut(|store| store.fill_disk(true));
    let told = until_told(&world, async || {
        assert_eq!(start_large(&world, "large").await, 503);
        pass(&world).await;
    });
    let told = told.await;
    assert!(told.contains("disk is full"), "{told}");
}
