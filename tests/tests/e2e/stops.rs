//! Stops, and what takes a run's place: they beat a run however busy it is.

use serde_json::json;
use towpath_engine::{FailureKind, RunId, Status};
use towpath_tests::World;

use crate::world;

/// A pipeline of many steps that take no time.
fn busy(id: &str) -> String {
    let step = "  - { agentKind: writer, runtime: { kind: simulated, output: Words. } }\n";
    format!("id: {id}\nsteps:\n{}", step.repeat(500))
}

async fn four_busy_runs(world: &World) -> Vec<(String, RunId)> {
    let mut runs = Vec::new();
    for n in 0..4 {
        let name = format!("busy-{n}");
        runs.push((name.clone(), world.run(&busy(&name)).await));
    }
    runs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_beats_runs_that_are_busy() {
    let world = world().await;
    for (_, run) in four_busy_runs(&world).await {
        world.stop(&run).await.done();
        let view = world.end_soon(&run).await;
        assert_eq!(view.summary.status, Status::Failed);
        assert_eq!(view.summary.failure.unwrap().kind, FailureKind::Cancelled);
        assert_eq!(
            world.audit(&run).await.len(),
            1,
            "a stop stands in the audit once"
        );
    }
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_replace_beats_runs_that_are_busy() {
    let world = world().await;
    for (name, run) in four_busy_runs(&world).await {
        let ask = json!({ "blockId": name, "pipelineId": name, "replace": true });
        let next = world.post("/runs", &ask).await.run();
        let view = world.end_soon(&run).await;
        assert_eq!(view.summary.failure.unwrap().kind, FailureKind::Cancelled);
        world.stop(&next).await.done();
    }
    world.standing.stop().await;
}
