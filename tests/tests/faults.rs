//! Services that misbehave: conflicts, throttling, lost replies, stale indexes, failures of their own, and every third
//! event delivered twice. The run ends the same.

use http::Method;
use serde_json::json;
use towpath_engine::{RunId, Status};
use towpath_local::Duplicates;
use towpath_tests::Worlds;
use towpath_tests::steps_of_death::{Trouble, same, tell};
use towpath_tests::story::Story;

mod stories;

const PROGRAM: &str = env!("CARGO_BIN_EXE_towpath-under-test");

async fn survives(stories: &[&Story]) {
    for story in stories {
        let told = tell(PROGRAM, story, &Trouble::default()).await;
        for (seed, rate) in [(1, 0.05), (2, 0.07), (3, 0.1), (4, 0.1)] {
            let trouble = Trouble {
                faults: Some(format!("seed={seed},rate={rate}")),
                duplicates: Some(Duplicates { seed, one_in: 3 }),
                death: None,
            };
            same(PROGRAM, story, &trouble, &told.end).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_never_work_let_nobody_in() {
    for (faults, status) in [("throttle=1", 429), ("error=1", 503)] {
        let world = Worlds::new(PROGRAM).with_faults(faults).start().await;
        let answer = world.ask(Method::GET, "/runs", &json!(null)).await;
        assert_eq!(answer.no().0, status, "{faults}: {answer:?}");
        world.standing.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_story_ends_the_same_on_services_that_misbehave() {
    survives(&stories::ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_pipeline_publishes_once_on_services_that_misbehave() {
    for seed in [5, 6, 7] {
        let dir = tempfile::tempdir().unwrap();
        towpath::sample::repository(dir.path()).unwrap();
        let worlds = Worlds::new(PROGRAM).with_faults(&format!("seed={seed},rate=0.08"));
        let world = worlds.start().await;
        let duplicates = Duplicates { seed, one_in: 3 };
        world.standing.cloud.duplicate_invocations(Some(duplicates));

        // The pauses in it are for people to look at.
        let pipeline = towpath_tests::pipeline(&towpath::sample::PIPELINE.replace("sleep 1", ":"));
        let pipeline = serde_json::to_value(&pipeline).unwrap();
        let put = world.insist(Method::PUT, "/pipelines/mend", &pipeline, "");
        put.await;
        let block = json!({ "title": "Greet", "repository": { "url": dir.path() } });
        world.insist(Method::PUT, "/blocks/greet", &block, "").await;
        let start = json!({ "blockId": "greet", "pipelineId": "mend" });
        let started = world.insist(Method::POST, "/runs", &start, "once").await;
        let run: RunId = started["id"].as_str().unwrap().parse().unwrap();
        let approval = world.asked(&run).await;
        let path = format!("/runs/{run}/approvals/{approval}/approve");
        world.insist(Method::POST, &path, &json!({}), "").await;
        let view = world.end(&run).await;
        assert_eq!(view.summary.status, Status::Done, "{view:#?}");
        world.judge().await;

        // One commit of the coder, one of the fixer, one merge.
        let log = towpath::sample::git(dir.path(), &["log", "--topo-order", "--format=%s", "main"])
            .unwrap();
        let subjects: Vec<_> = log.lines().collect();
        assert_eq!(
            subjects,
            [
                "Merge towpath/greet: Greet",
                "ci-fixer: Greet",
                "coder: Greet",
                "A greeting that does not work yet",
            ]
        );
        world.standing.stop().await;
    }
}
