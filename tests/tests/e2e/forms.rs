//! Forms of records: what a newer release writes is left alone, and no run is beyond a stop.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::json;
use towpath_engine::{BlockStatus, FailureKind, Status};
use towpath_tests::World;

use crate::jobs::job;
use crate::{done, world};

const DRAFT: &str = "
id: draft
steps:
  - { agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
";

fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn newer() -> AttributeValue {
    AttributeValue::S("of a newer release".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_of_a_newer_release_survive_what_this_one_writes() {
    let world = world().await;
    let run = world.run(DRAFT).await;
    let subject = world.asked_soon(&run).await;
    let rows = world.rows();
    for sk in ["NOW#HEAD", "NOW#STEP", "NOW#WAIT"] {
        rows.set(run.as_str(), sk, "added", newer()).await;
    }
    rows.set("local#block#draft", "BLOCK", "added", newer())
        .await;
    world.approve(&run, &subject).await;
    done(&world.over(&run).await);
    // The step took its own along when the run left it.
    let left = [
        (run.as_str(), "NOW#HEAD"),
        (run.as_str(), "STEP#0000"),
        (run.as_str(), "NOW#WAIT"),
        ("local#block#draft", "BLOCK"),
    ];
    for (pk, sk) in left {
        let item = rows.get(pk, sk).await.unwrap();
        assert_eq!(item.get("added"), Some(&newer()), "{sk}: {item:?}");
    }
    let last = rows.get(run.as_str(), "NOW#STEP").await.unwrap();
    assert!(!last.contains_key("added"), "{last:?}");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_newer_form_is_not_written_over_and_its_run_can_be_stopped() {
    for sk in ["NOW#STEP", "NOW#WAIT"] {
        let world = world().await;
        let run = world.run(&job("sleep 600 & wait")).await;
        world.at_work(&run).await;
        let rows = world.rows();
        rows.set(run.as_str(), sk, "v", number(3)).await;
        let before = rows.get(run.as_str(), sk).await.unwrap();
        // Whoever looks leaves it alone.
        for _ in 0..5 {
            world.pass(Duration::from_secs(60)).await;
        }
        let after = rows.get(run.as_str(), sk).await.unwrap();
        let (form, seq) = (after.get("v"), after.get("seq"));
        assert_eq!((form, seq), (before.get("v"), before.get("seq")));
        let path = format!("/runs/{run}");
        let shown = world.client.get::<serde_json::Value>(&path);
        assert!(shown.await.is_err(), "what cannot be read cannot be shown");

        let stop = world.post(&format!("/runs/{run}/stop"), &json!({})).await;
        // The view of the run is as unreadable as before, but the stop has been done.
        assert!(stop.status == 200 || stop.status == 503, "{stop:?}");
        let head = world.standing.operator.store.head(&run).await;
        let head = head.unwrap().unwrap();
        assert_eq!(head.failure.unwrap().kind, FailureKind::Cancelled);
        let block = world.client.get::<towpath_engine::Block>("/blocks/work");
        assert_eq!(block.await.unwrap().status, BlockStatus::Blocked);
        let lock = rows.get("local#block#work", "LOCK").await;
        assert_eq!(lock, None, "the block is free");
        // Its job is told to end, too, and the block takes the next run.
        let gone = async || world.processes().is_empty();
        world.when(Duration::from_secs(10), gone).await;
        let next = world.start("work", "work").await;
        world.at_work(&next).await;
        world.stop(&next).await.done();
        world.standing.stop().await;
    }
}

/// A roll-back: this release is the older one, and finds records that the newer one wrote before it was taken back.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_rollback_a_run_of_the_newer_release_waits_for_it_and_others_go_on() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let yaml = job(&format!(
        "until [ -e {} ]; do sleep 0.05; done",
        go.display()
    ));
    let run = world.run(&yaml).await;
    world.at_work(&run).await;
    let rows = world.rows();
    let before = rows.get(run.as_str(), "NOW#STEP").await.unwrap();
    rows.set(run.as_str(), "NOW#STEP", "v", number(3)).await;
    // Its job ends under the older release, which is told, and looks each hour. After a day the wait itself is over, so that
    // a driver begins, too, and finds what it cannot read.
    std::fs::write(&go, "").unwrap();
    for _ in 0..26 {
        world.pass(Duration::from_secs(3600)).await;
    }
    let head = world.standing.operator.store.head(&run).await;
    let head = head.unwrap().unwrap();
    assert_eq!(head.status, Status::Running, "{head:?}");
    let waits = rows.get(run.as_str(), "NOW#STEP").await.unwrap();
    assert_eq!(
        waits.get("phase"),
        before.get("phase"),
        "nothing was written"
    );
    let other = world.run(DRAFT).await;
    let subject = world.asked_soon(&other).await;
    world.approve(&other, &subject).await;
    done(&world.over(&other).await);
    // The newer release is back.
    rows.set(run.as_str(), "NOW#STEP", "v", before["v"].clone())
        .await;
    done(&world.end(&run).await);
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_lock_was_lost_ends_all_the_same() {
    let world = world().await;
    let run = world.run(DRAFT).await;
    let subject = world.asked_soon(&run).await;
    let rows = world.rows();
    rows.delete("local#block#draft", "LOCK").await;
    let named: Vec<_> = world.doctor().await;
    assert!(
        matches!(&named[..], [one] if one.contains("is not held by it")),
        "{named:?}"
    );
    world.approve(&run, &subject).await;
    done(&world.over(&run).await);
    world.judge().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_start_expires() {
    let world = world().await;
    world.put(DRAFT).await;
    world.block("draft").await;
    let ask = json!({ "blockId": "draft", "pipelineId": "draft" });
    let start = async || world.post_once("/runs", "monday", &ask).await.run();
    let first = start().await;
    let row = world.rows().get("local#idempotency#monday", "KEY").await;
    let ttl: u64 = row.unwrap()["ttl"].as_n().unwrap().parse().unwrap();
    let week = 7 * 24 * 3600;
    assert_eq!(ttl, world.clock.now_ms() / 1000 + week);
    let subject = world.asked_soon(&first).await;
    world.approve(&first, &subject).await;
    done(&world.over(&first).await);
    assert_eq!(start().await, first);
    // DynamoDB may leave the row for days; the time counts all the same.
    world.clock.advance(Duration::from_secs(week));
    let second = start().await;
    assert_ne!(second, first);
    assert_eq!(start().await, second);
    world.stop(&second).await.done();
    world.standing.stop().await;
}

/// Takes a run's token away, as if the entry that was to store it had never come so far.
async fn forget_token(world: &World, run: &towpath_engine::RunId) {
    let rows = world.rows();
    rows.unset(run.as_str(), "NOW#WAIT", "token").await;
    let now = number(world.clock.now_ms());
    rows.set(run.as_str(), "NOW#WAIT", "entered", now).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_runs_but_holds_no_token_is_replaced_within_minutes() {
    let world = world().await;
    let run = world.run(DRAFT).await;
    let subject = world.asked_soon(&run).await;
    forget_token(&world, &run).await;
    world.approve(&run, &subject).await;
    let before = world.clock.now_ms();
    done(&world.end(&run).await);
    let minutes = (world.clock.now_ms() - before) / 60_000;
    assert!((5..=9).contains(&minutes), "{minutes} minutes");
    assert_eq!(world.drivers(&run).await.len(), 2);
    // The first one finds out by its own time-out that another drives the run, or by an operator's hand.
    world.pass(Duration::from_secs(24 * 3600)).await;
    world.quiet().await;
    world.standing.stop().await;
}
