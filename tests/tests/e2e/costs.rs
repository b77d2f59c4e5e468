//! What a run costs, counted: transitions, invocations, table units.

use std::path::Path;
use std::time::Duration;

use towpath::bill::Usage;
use towpath_engine::RunId;
use towpath_tests::World;

use crate::jobs::job;
use crate::{done, world};

/// The usage between two moments.
fn since(now: Usage, before: Usage) -> Usage {
    Usage {
        transitions: now.transitions - before.transitions,
        invocations: now.invocations - before.invocations,
        write_units: now.write_units - before.write_units,
        read_units: now.read_units - before.read_units,
    }
}

/// What was used so far, once the job has been started and nothing is under way any more.
async fn settled(world: &World, run: &RunId, step: u16) -> Usage {
    let there = |view: &towpath_api_types::RunView| view.summary.current_step.0 >= step;
    world.soon(run, there).await;
    world.at_work(run).await;
    let (mut last, mut same) = (Usage::so_far(&world.standing), 0);
    // The function that started the job writes nothing more, but may still be on its way out.
    while same < 20 {
        world.pass(Duration::from_millis(1)).await;
        let now = Usage::so_far(&world.standing);
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// A job that waits for a file of its own, and answers with a kilobyte.
fn patient(dir: &Path, step: u16) -> String {
    let script = format!(
        "until test -e {}/{step}; do sleep 0.01; done; head -c 1000 /dev/zero | tr '\\0' x",
        dir.display()
    );
    let command = serde_json::to_string(&["sh", "-c", &script]).unwrap();
    format!("{{ agentKind: coder, runtime: {{ kind: process, command: {command} }} }}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_step_costs_the_same_at_the_beginning_and_after_three_hundred() {
    const LAST: u16 = 301;
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let jobs = [0, 2, 3, 299, 300];
    let steps = (0..=LAST).map(|step| match jobs.contains(&step) {
        true => patient(dir.path(), step),
        false => "{ agentKind: writer, runtime: { kind: simulated, output: A draft. } }".to_owned(),
    });
    let steps: Vec<_> = steps.collect();
    let run = world
        .run(&format!("{{ id: long, steps: [{}] }}", steps.join(", ")))
        .await;
    let go = async |step: u16| {
        settled(&world, &run, step).await;
        std::fs::write(dir.path().join(step.to_string()), "").unwrap();
    };
    // The first job only makes every function know the pipeline.
    go(0).await;
    let mut costs = Vec::new();
    for (from, to) in [(2, 3), (299, 300)] {
        let before = settled(&world, &run, from).await;
        go(from).await;
        let cost = since(settled(&world, &run, to).await, before);
        println!("step {to}: {cost:?}");
        go(to).await;
        costs.push(cost);
    }
    done(&world.end_soon(&run).await);
    for cost in &costs {
        assert!(cost.write_units <= 18.0, "{cost:?}");
        assert!(cost.read_units <= 8.0, "{cost:?}");
        assert!(cost.transitions <= 1, "{cost:?}");
    }
    let rounded = |cost: &Usage| (cost.write_units, cost.read_units, cost.transitions);
    assert_eq!(rounded(&costs[0]), rounded(&costs[1]), "{costs:?}");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_human_costs_one_transition() {
    let world = world().await;
    let step = "{ agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }";
    let run = world
        .run(&format!(
            "{{ id: asks, steps: [{}] }}",
            [step; 5].join(", ")
        ))
        .await;
    let mut parked = Vec::new();
    for _ in 0..5 {
        let subject = world.asked_soon(&run).await;
        parked.push(world.standing.cloud.counts().transitions);
        world.approve(&run, &subject).await;
    }
    done(&world.over(&run).await);
    let waits: Vec<_> = parked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!("transitions of each wait: {waits:?}");
    assert!(waits.iter().all(|wait| *wait == 1), "{waits:?}");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_waiting_is_one_transition_at_most() {
    let asks = "{ id: asks, steps: [{ agentKind: writer, requiresApproval: true, \
                runtime: { kind: simulated, output: A draft. } }] }";
    let works =
        job("sleep 100000 & wait").replace("runtime:", "budgets: { jobMinutes: 10000 }, runtime:");
    for (what, yaml) in [("a human", asks), ("a silent job", &works)] {
        let world = world().await;
        let run = world.run(yaml).await;
        let waits = |view: &towpath_api_types::RunView| {
            let waits = view.summary.waits_for.as_ref();
            waits.is_some_and(|waits| waits.reason != "driver")
        };
        world.soon(&run, waits).await;
        world.pass(Duration::from_secs(3600)).await;
        let before = Usage::so_far(&world.standing);
        // Nothing is due more often than that, so ticks in between would find nothing.
        for _ in 0..24 * 12 {
            world.pass(Duration::from_secs(300)).await;
        }
        let mut cost = since(Usage::so_far(&world.standing), before);
        // The ticks ask each of the sixteen shards of both tables whatever there is to do.
        cost.read_units -= 24.0 * 12.0 * 16.0 * 2.0 * 0.5;
        println!("a day parked on {what}: {cost:?}");
        assert!(cost.transitions <= 1, "{what}: {cost:?}");
        assert!(
            cost.write_units <= 450.0 && cost.read_units <= 450.0,
            "{what}: {cost:?}"
        );
        world.stop(&run).await.done();
        world.quiet().await;
        world.standing.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_job_works_invokes_nothing_but_the_tick() {
    let world = world().await;
    let run = world.run(&job("sleep 600 & wait")).await;
    settled(&world, &run, 0).await;
    let before = world.standing.cloud.counts();
    let minutes = 60;
    for _ in 0..minutes {
        world.pass(Duration::from_secs(60)).await;
    }
    let after = world.standing.cloud.counts();
    assert_eq!(after.transitions, before.transitions);
    for (name, count) in &after.invocations_by_function {
        let earlier = before.invocations_by_function.get(name);
        let spent = count - earlier.copied().unwrap_or_default();
        // Each minute one for every four of the sixteen shards.
        let expected = if name == "TickFunction" {
            4 * minutes
        } else {
            0
        };
        assert_eq!(spent, expected, "{name}");
    }
    world.stop(&run).await.done();
    world.quiet().await;
    world.standing.stop().await;
}
