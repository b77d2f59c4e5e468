//! How many steps the local cloud does, and how long each takes: `cargo run -p towpath-tests --example throughput`.
//!
//! Runs a pipeline of five instant steps over and over, some runs at a time, through the real API, handlers, machine and
//! tables. It prints; it judges nothing. The target: at least 100 steps a second on two processors, and half of the
//! steps in at most 10 ms.

use std::time::Instant;

use serde_json::json;
use towpath::standing::{Plan, Standing};
use towpath_api_types::{PipelineView, RunView};
use towpath_client::Client;
use towpath_clock::Clock;
use towpath_engine::{Block, Status};

const RUNS: usize = 100;
const AT_A_TIME: usize = 4;
const STEPS: usize = 5;

#[tokio::main]
async fn main() {
    let plan = Plan {
        data: None,
        port: 0,
        clock: Clock::system(),
        schedules: false,
        runner: None,
        commands: "process",
        environment: Default::default(),
        models: None,
        lambda_url: None,
        supervisor: std::env::current_exe().unwrap(),
    };
    let standing = Standing::start(plan).await.unwrap();
    let client = Client::new(standing.cloud.url(), Some(standing.key.clone()));
    let step =
        json!({ "agentKind": "writer", "runtime": { "kind": "simulated", "output": "A line." } });
    let pipeline = json!({ "id": "instant", "steps": vec![step; STEPS] });
    let _: PipelineView = client.put("/pipelines/instant", &pipeline).await.unwrap();
    let begin = Instant::now();
    let workers = (0..AT_A_TIME).map(|worker| {
        let (client, standing) = (client.clone(), &standing);
        async move {
            let mut steps = Vec::new();
            for run in 0..RUNS / AT_A_TIME {
                let block = format!("b-{worker}-{run}");
                let _: Block = client
                    .put(&format!("/blocks/{block}"), &json!({ "title": block }))
                    .await
                    .unwrap();
                let ask = json!({ "blockId": block, "pipelineId": "instant" });
                let started = Instant::now();
                let view: RunView = client.post("/runs", &ask).await.unwrap();
                let id = view.summary.id;
                while standing
                    .operator
                    .store
                    .head(&id)
                    .await
                    .unwrap()
                    .unwrap()
                    .status
                    != Status::Done
                {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                steps.push(started.elapsed() / u32::try_from(STEPS).unwrap());
            }
            steps
        }
    });
    let mut took: Vec<_> = futures::future::join_all(workers)
        .await
        .into_iter()
        .flatten()
        .collect();
    let rate = (RUNS * STEPS) as f64 / begin.elapsed().as_secs_f64();
    took.sort();
    let at = |share: usize| took[took.len() * share / 100].as_secs_f64() * 1000.0;
    println!("{rate:.0} steps/s, {AT_A_TIME} runs at a time (target: 100)");
    println!(
        "a step, its run's start included: p50 {:.1} ms (target: 10), p95 {:.1} ms",
        at(50),
        at(95)
    );
    standing.stop().await;
}
