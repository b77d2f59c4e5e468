//! Lists of runs.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use towpath_api_types::Code;
use towpath_engine::RunId;
use towpath_tests::World;

use crate::{done, world};

const ASKS: &str = "{ id: asks, steps: [{ agentKind: writer, requiresApproval: true, runtime: { kind: simulated } }] }";
const INSTANT: &str =
    "{ id: instant, steps: [{ agentKind: writer, runtime: { kind: simulated } }] }";

async fn listed(world: &World, path: &str) -> Vec<String> {
    let list: Value = world.client.get(path).await.unwrap();
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|run| run["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_runs_are_listed_without_those_that_are_over() {
    let world = world().await;
    let over = world.run(INSTANT).await;
    done(&world.end(&over).await);
    // Runs of one millisecond are in no order.
    world.pass(Duration::from_millis(1)).await;
    let parked = world.run(ASKS).await;
    let subject = world.asked(&parked).await;
    let stopped: RunId = {
        world.pass(Duration::from_millis(1)).await;
        world.block("other").await;
        world.start("other", "asks").await
    };
    world.asked(&stopped).await;
    let names = |runs: &[&RunId]| -> Vec<String> { runs.iter().map(ToString::to_string).collect() };
    assert_eq!(
        listed(&world, "/runs").await,
        names(&[&stopped, &parked, &over])
    );
    assert_eq!(
        listed(&world, "/runs?live=true").await,
        names(&[&stopped, &parked])
    );
    let behind = format!("/runs?live=true&after={stopped}");
    assert_eq!(listed(&world, &behind).await, names(&[&parked]));

    world.stop(&stopped).await.done();
    world.approve(&parked, &subject).await;
    done(&world.end(&parked).await);
    assert_eq!(listed(&world, "/runs?live=true").await, names(&[]));
    assert_eq!(listed(&world, "/runs?live=false").await.len(), 3);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_refuses_what_it_does_not_know() {
    let world = world().await;
    for (path, says) in [
        ("/runs?limit=5", "limit"),
        ("/runs?live=perhaps", "`true` or `false`"),
        ("/runs?after=nonsense", "next"),
        ("/blocks?after=%00", "next"),
        ("/pipelines?live=true", "live"),
    ] {
        let no = world.ask(Method::GET, path, &json!({})).await.problem();
        assert_eq!(no.code, Code::InvalidRequest, "{path}: {no:?}");
        assert!(no.message.contains(says), "{path}: {}", no.message);
    }
    world.standing.stop().await;
}
