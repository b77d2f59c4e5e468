//! Drivers: the executions that move a run may hand over, die, or never come to be.

use std::time::Duration;

use towpath_engine::{FailureKind, RunId, Status};
use towpath_tests::World;

use crate::jobs::job;
use crate::{done, failure, lines, world, worlds};

/// A pipeline that asks for so many approvals.
fn approvals(count: usize) -> String {
    let step = "{ agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }";
    let last = "{ agentKind: printer, runtime: { kind: simulated, output: Printed. } }";
    let steps = vec![step; count].join(", ");
    format!("{{ id: asks, steps: [{steps}, {last}] }}")
}

const MOMENT: Duration = Duration::from_millis(1);

async fn generation(world: &World, run: &RunId) -> u32 {
    let head = world.standing.operator.store.head(run).await.unwrap();
    head.unwrap().generation
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_run_is_handed_from_one_execution_to_the_next() {
    let world = worlds().with("TOWPATH_ENTRIES_LIMIT", "3").start().await;
    let run = world.run(&approvals(8)).await;
    for step in 0..8 {
        let subject = world.asked_soon(&run).await;
        assert_eq!(subject, format!("apr-{}", 3 * (step + 1)));
        // So that the next entry of the machine's state is a later one.
        world.pass(Duration::from_millis(10)).await;
        world.approve(&run, &subject).await;
    }
    let view = world.over(&run).await;
    done(&view);
    assert_eq!(view.audit.len(), 8);
    let drivers = world.drivers(&run).await;
    assert!(drivers.len() >= 3, "{drivers:?}");
    assert!(drivers.iter().all(|it| it == "SUCCEEDED"), "{drivers:?}");
    assert_eq!(generation(&world, &run).await as usize, drivers.len());
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_and_gates_survive_a_handover_and_are_not_done_twice() {
    let world = worlds().with("TOWPATH_ENTRIES_LIMIT", "1").start().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let command = |word: &str| {
        let script = format!("echo {word} >> {}", log.display());
        serde_json::to_string(&["sh", "-c", &script]).unwrap()
    };
    let yaml = format!(
        "
id: mixed
steps:
  - {{ agentKind: coder, runtime: {{ kind: process, command: {} }} }}
  - {{ agentKind: ci, gate: {{ probe: {{ kind: command, command: {} }} }} }}
  - {{ agentKind: writer, requiresApproval: true, runtime: {{ kind: process, command: {} }} }}
  - {{ agentKind: printer, runtime: {{ kind: process, command: {} }} }}
",
        command("one"),
        command("two"),
        command("three"),
        command("four")
    );
    let run = world.run(&yaml).await;
    let subject = world.asked_soon(&run).await;
    world.approve(&run, &subject).await;
    done(&world.over(&run).await);
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log, "one\ntwo\nthree\nfour\n");
    let drivers = world.drivers(&run).await;
    assert!(drivers.len() >= 4, "{drivers:?}");
    assert!(drivers.iter().all(|it| it == "SUCCEEDED"), "{drivers:?}");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_driver_is_aborted_gets_the_next_one_and_asks_on() {
    let world = world().await;
    let run = world.run(&approvals(2)).await;
    let subject = world.asked_soon(&run).await;
    world.abort(&run, 1).await;
    let next = async || generation(&world, &run).await == 2;
    world.when(MOMENT, next).await;
    assert_eq!(world.asked_soon(&run).await, subject);
    world.approve(&run, &subject).await;
    let subject = world.asked_soon(&run).await;
    world.approve(&run, &subject).await;
    done(&world.end_soon(&run).await);
    world.quiet().await;
    assert_eq!(world.drivers(&run).await, ["ABORTED", "SUCCEEDED"]);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_works_on_while_its_runs_driver_dies() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let (tries, go) = (dir.path().join("tries"), dir.path().join("go"));
    let script = format!(
        "echo try >> {}; until test -e {}; do sleep 0.02; done",
        tries.display(),
        go.display()
    );
    let run = world.run(&job(&script)).await;
    let before = world.at_work(&run).await;
    world.abort(&run, 1).await;
    let next = async || generation(&world, &run).await == 2;
    world.when(MOMENT, next).await;
    assert_eq!(world.at_work(&run).await, before, "the same job");
    std::fs::write(&go, "").unwrap();
    done(&world.end_soon(&run).await);
    assert_eq!(lines(&tries), 1);
    world.quiet().await;
    assert_eq!(world.drivers(&run).await, ["ABORTED", "SUCCEEDED"]);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_drivers_die_again_and_again_gets_the_next_ones_later_and_fails_at_the_fourth()
{
    let world = world().await;
    let run = world.run(&job("sleep 6000 & wait")).await;
    let mut pauses = Vec::new();
    for death in 1..=4 {
        world.at_work(&run).await;
        world.abort(&run, death).await;
        if death == 4 {
            break;
        }
        let aborted = world.clock.now_ms();
        let next = async || {
            let drivers = world.drivers(&run).await;
            drivers.len() > death as usize && drivers.last().is_some_and(|last| last == "RUNNING")
        };
        let step = if death == 1 {
            MOMENT
        } else {
            Duration::from_secs(10)
        };
        world.when(step, next).await;
        pauses.push((world.clock.now_ms() - aborted) / 60_000);
        // The driver has the job's token before the next death.
        let holds = async || {
            let wait = world.standing.operator.store.wait(&run).await.unwrap();
            wait.is_some_and(|wait| wait.token.is_some())
        };
        world.when(MOMENT, holds).await;
    }
    let (kind, message) = failure(&world.end_soon(&run).await);
    assert_eq!(kind, FailureKind::Unknown);
    assert!(
        message.starts_with("4 of the run's drivers died"),
        "{message}"
    );
    world.quiet().await;
    assert_eq!(world.drivers(&run).await, ["ABORTED"; 4]);
    // At once, after a minute, after five; the tick adds up to a minute and a half.
    assert_eq!(pauses[0], 0, "{pauses:?}");
    assert!((1..=2).contains(&pauses[1]), "{pauses:?}");
    assert!((5..=6).contains(&pauses[2]), "{pauses:?}");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deaths_that_lie_far_apart_do_not_add_up() {
    let world = world().await;
    let run = world.run(&approvals(5)).await;
    for generation in 1..=5 {
        let subject = world.asked_soon(&run).await;
        world.abort(&run, generation).await;
        // Its answer finds the next driver, or waits for it.
        world.approve(&run, &subject).await;
    }
    done(&world.over(&run).await);
    world.standing.stop().await;
}

/// The position of a statement in a policy.
fn statement(world: &World, policy: &str, sid: &str) -> usize {
    let all = world.standing.cloud.statements();
    let found = all
        .into_iter()
        .find(|it| it.policy == policy && it.sid.as_deref() == Some(sid));
    found.unwrap().index
}

/// From now on a function may not do what this statement of its policy allows.
fn forbid(world: &World, policy: &str, sid: &str) {
    let index = statement(world, policy, sid);
    let cloud = &world.standing.cloud;
    assert!(cloud.remove_statement(policy, index, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn deaths_of_a_missing_permission_are_waited_out_however_many_there_are() {
    let world = world().await;
    forbid(&world, "RunActionsPolicy", "Runs");
    let run = world.run(&approvals(1)).await;
    let died = async || world.drivers(&run).await.len() >= 6;
    world.when(Duration::from_secs(60), died).await;
    let view = world.view(&run).await;
    assert_eq!(view.summary.status, Status::Running, "{view:#?}");
    let head = world.standing.operator.store.head(&run).await;
    let deaths = head.unwrap().unwrap().driver;
    assert!(deaths.excused >= 5 && deaths.counted == 0, "{deaths:?}");
    world.stop(&run).await.done();
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driverless_run_is_found_though_nobody_told_that_its_driver_died() {
    let world = world().await;
    // The word of its death reaches a function that can do nothing with it.
    forbid(&world, "SettleFunction", "Runs");
    let parked = world.run(&approvals(1)).await;
    let subject = world.asked_soon(&parked).await;
    let worked = world.put(&job("sleep 600")).await;
    world.block("work").await;
    let worked = world.start("work", worked.id.as_str()).await;
    world.at_work(&worked).await;
    world.abort(&parked, 1).await;
    world.abort(&worked, 1).await;
    for run in [&parked, &worked] {
        assert_eq!(world.drivers(run).await, ["ABORTED"]);
    }
    for run in [&parked, &worked] {
        let next = async || world.drivers(run).await.last().unwrap() == "RUNNING";
        world.when(Duration::from_secs(20), next).await;
        assert_eq!(generation(&world, run).await, 2);
    }
    world.approve(&parked, &subject).await;
    done(&world.end(&parked).await);
    world.at_work(&worked).await;
    world.stop(&worked).await.done();
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_first_driver_could_not_be_started_gets_it_from_the_tick() {
    let world = world().await;
    forbid(&world, "ApiFunction", "Drive");
    let run = world.run(&approvals(1)).await;
    assert_eq!(world.drivers(&run).await.len(), 0);
    assert_eq!(world.view(&run).await.summary.status, Status::Running);
    let subject = world.asked(&run).await;
    world.approve(&run, &subject).await;
    done(&world.over(&run).await);
    assert_eq!(world.drivers(&run).await, ["SUCCEEDED"]);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_stopped_and_answered_while_it_has_no_driver() {
    let world = world().await;
    forbid(&world, "SettleFunction", "Drive");
    let run = world.run(&approvals(1)).await;
    let subject = world.asked_soon(&run).await;
    let stopped = world.put(&approvals(2)).await;
    world.block("other").await;
    let stopped = world.start("other", stopped.id.as_str()).await;
    world.asked_soon(&stopped).await;
    for run in [&run, &stopped] {
        world.abort(run, 1).await;
        let next = async || generation(&world, run).await == 2;
        world.when(MOMENT, next).await;
        assert_eq!(world.drivers(run).await, ["ABORTED"]);
    }
    // Nobody waits, and nobody is on the way: the answer is kept until somebody comes.
    world.approve(&run, &subject).await;
    world.stop(&stopped).await.done();
    done(&world.end(&run).await);
    world.quiet().await;
    assert_eq!(world.drivers(&run).await, ["ABORTED", "SUCCEEDED"]);
    let (kind, _) = failure(&world.view(&stopped).await);
    assert_eq!(kind, FailureKind::Cancelled);
    assert_eq!(world.drivers(&stopped).await, ["ABORTED"], "it needs none");
    world.standing.stop().await;
}
