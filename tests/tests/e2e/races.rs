//! Races: what happens when two things happen at once, or in the other order, or twice, or not at all.

use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use towpath_engine::{Answer, FailureKind, Next, RunId, Status, Wait};
use towpath_local::Duplicates;
use towpath_store::Commit;
use towpath_tests::World;

use crate::jobs::job;
use crate::{done, failure, lines, world, worlds};

const DRAFT: &str = "
id: draft
steps:
  - { agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
";

/// Runs of one pipeline on blocks of their own, started at the same time.
async fn many(world: &World, yaml: &str, count: usize) -> Vec<RunId> {
    let pipeline = world.put(yaml).await;
    let blocks: Vec<_> = (0..count).map(|number| format!("b{number}")).collect();
    join_all(blocks.iter().map(|block| world.block(block))).await;
    let starts = blocks
        .iter()
        .map(|block| world.start(block, pipeline.id.as_str()));
    join_all(starts).await
}

async fn wait(world: &World, run: &RunId) -> Wait {
    let store = &world.standing.operator.store;
    store.wait(run).await.unwrap().unwrap()
}

/// Approves at the first moment at which there is anything to approve.
async fn approve_at_once(world: &World, run: &RunId) {
    loop {
        let answer = world.say(run, "apr-3", "approve", &json!({})).await;
        if answer.status == 200 {
            return;
        }
        assert_eq!(answer.no().1, "not_waiting");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_come_in_the_moment_the_question_does() {
    let world = world().await;
    let runs = many(&world, DRAFT, 16).await;
    join_all(runs.iter().map(|run| approve_at_once(&world, run))).await;
    for run in &runs {
        done(&world.end_soon(run).await);
        assert_eq!(world.drivers(run).await.len(), 1);
    }
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_come_in_the_moment_the_driver_times_out() {
    let world = world().await;
    let runs = many(&world, DRAFT, 12).await;
    for run in &runs {
        world.asked_soon(run).await;
    }
    let approve = async |(number, run): (usize, &RunId)| {
        // At various points of the drivers' way back into their states.
        for _ in 0..number * 8 {
            tokio::task::yield_now().await;
        }
        world.approve(run, "apr-3").await;
    };
    world.clock.advance(Duration::from_secs(24 * 3600));
    join_all(runs.iter().enumerate().map(approve)).await;
    for run in &runs {
        let view = world.end(run).await;
        done(&view);
        assert_eq!(view.audit.len(), 1);
    }
    world.quiet().await;
    for run in &runs {
        assert_eq!(world.drivers(run).await, ["SUCCEEDED"]);
    }
    world.standing.stop().await;
}

/// Invokes a function as the machine would have, for an entry of long ago whose invocation was held up until now.
async fn late(world: &World, function: &str, run: &RunId, generation: u32, entered: &str) {
    let entry = json!({
        "run": run, "generation": generation, "token": "held-up", "entered": entered, "retry": 0,
    });
    world.standing.cloud.invoke(function, entry).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_that_was_held_up_does_not_take_the_run_from_a_newer_one() {
    let world = world().await;
    let (asks, works) = (world.run(DRAFT).await, world.run(&job("sleep 600")).await);
    world.asked_soon(&asks).await;
    world.at_work(&works).await;
    for run in [&asks, &works] {
        let before = wait(&world, run).await;
        for function in ["AdvanceFunction", "PollJobFunction", "PollGateFunction"] {
            late(&world, function, run, 1, "2025-12-31T23:59:59.000Z").await;
            // And one of a generation that is over, or never was.
            late(&world, function, run, 0, "2026-06-01T00:00:00.000Z").await;
            late(&world, function, run, 2, "2026-06-01T00:00:00.000Z").await;
        }
        assert_eq!(wait(&world, run).await, before, "nothing is written");
    }
    world.approve(&asks, "apr-3").await;
    done(&world.end_soon(&asks).await);
    world.stop(&works).await.done();
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_token_leads_nowhere_is_not_lost() {
    let world = world().await;
    let run = world.run(DRAFT).await;
    world.asked_soon(&run).await;
    // As if the newest entry's task were over: the answer wakes nobody, and the machine's own timeout finds it.
    late(
        &world,
        "AdvanceFunction",
        &run,
        1,
        "2026-01-01T12:00:00.000Z",
    )
    .await;
    assert_eq!(wait(&world, &run).await.token.as_deref(), Some("held-up"));
    world.approve(&run, "apr-3").await;
    world.pass(Duration::from_secs(24 * 3600)).await;
    done(&world.end(&run).await);
    world.quiet().await;
    world.standing.stop().await;
}

/// Commits an answer as the function does, which then dies before it can wake anybody.
async fn answer_and_die(world: &World, run: &RunId, subject: &str) {
    let app = &world.standing.operator;
    let loaded = app.store.load(run).await.unwrap().unwrap();
    let (mut answered, now) = (loaded.run.clone(), app.now());
    let said = Answer::Approve { proposal: None };
    towpath_engine::answer(&mut answered, subject, &said, "local", now).unwrap();
    let wait = loaded.wait.wake(Next::Advance, now);
    let commit = Commit {
        before: &loaded,
        after: &answered,
        wait: &wait,
        now,
    };
    app.store.commit(commit).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_up_that_was_never_sent_is_sent_by_the_tick() {
    let world = world().await;
    let run = world.run(DRAFT).await;
    let subject = world.asked_soon(&run).await;
    answer_and_die(&world, &run, &subject).await;
    let parked = world.drivers(&run).await;
    assert_eq!(parked, ["RUNNING"]);
    assert_eq!(world.view(&run).await.summary.status, Status::Running);
    let before = world.clock.now_ms();
    done(&world.end(&run).await);
    let waited = world.clock.now_ms() - before;
    assert!(waited >= 29_000, "nobody but the tick was there to send it");
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_up_that_cannot_be_sent_now_is_sent_later() {
    for faults in [
        // Every function's first wake-ups fail, retries included: the tick's own too.
        "error=1,only=SendTaskSuccess,limit=10",
        // They get through, and the answer is lost on its way back.
        "lost=1,only=SendTaskSuccess,limit=10",
    ] {
        let world = worlds().with_faults(faults).start().await;
        let yaml = DRAFT.replace(
            "runtime: { kind: simulated, output: Printed. }",
            "budgets: { jobMinutes: 10000 }, runtime: { kind: process, command: ['true'] }",
        );
        let run = world.run(&yaml).await;
        let subject = world.asked_soon(&run).await;
        world.approve(&run, &subject).await;
        done(&world.end(&run).await);
        world.quiet().await;
        assert_eq!(world.drivers(&run).await, ["SUCCEEDED"], "{faults}");
        world.standing.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_up_whose_write_got_through_without_an_answer_is_sent_at_once() {
    let faults = "lost=1,only=UpdateItem,limit=4";
    let world = worlds().with_faults(faults).start().await;
    let run = world.run(&job("sleep 0.2; echo worked")).await;
    // Hardly any time goes by: no tick has a hand in it.
    done(&world.end_soon(&run).await);
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_beats_a_dispatch_whenever_it_comes() {
    let world = world().await;
    let runs = many(&world, &job("sleep 600"), 16).await;
    let stop = async |(number, run): (usize, &RunId)| {
        // Before the driver comes, and in the moment between a dispatch's record and the dispatch itself.
        if number % 4 > 0 {
            world.soon(run, |view| view.steps[0].attempt == 1).await;
        }
        assert_eq!(world.stop(run).await.status, 200);
    };
    join_all(runs.iter().enumerate().map(stop)).await;
    world.quiet().await;
    // What was dispatched is gone for good: nothing starts it again.
    world.pass(Duration::from_secs(600)).await;
    world.quiet().await;
    for run in &runs {
        assert_eq!(failure(&world.view(run).await).0, FailureKind::Cancelled);
        assert_eq!(world.drivers(run).await, ["SUCCEEDED"]);
    }
    world.standing.stop().await;
}

/// Starts an execution by hand, as an operator who knows no better might.
async fn drive_by_hand(world: &World, run: &RunId, name: &str) {
    let start = world.machine().start_execution();
    let input = json!({ "run": run, "generation": 1 }).to_string();
    let start = start.state_machine_arn(world.machine_arn()).name(name);
    start.input(input).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_executions_of_one_run_do_its_work_once_and_both_end() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let script = format!("echo worked >> {}", log.display());
    let command = serde_json::to_string(&["sh", "-c", &script]).unwrap();
    let yaml = DRAFT.replace(
        "kind: simulated, output: Printed.",
        &format!("kind: process, command: {command}"),
    );
    let run = world.run(&yaml).await;
    let subject = world.asked_soon(&run).await;
    world.pass(Duration::from_secs(1)).await;
    drive_by_hand(&world, &run, "by-hand").await;
    let second = async || wait(&world, &run).await.entries == 2;
    world.when(Duration::from_millis(1), second).await;
    assert_eq!(world.asked_soon(&run).await, subject);
    world.approve(&run, &subject).await;
    done(&world.end_soon(&run).await);
    assert_eq!(lines(&log), 1);
    // The one that was pushed aside finds out by its own timeout at the latest.
    world.pass(Duration::from_secs(24 * 3600)).await;
    world.quiet().await;
    let ended: Vec<_> = world
        .executions()
        .await
        .into_iter()
        .map(|it| it.1)
        .collect();
    assert_eq!(ended, ["SUCCEEDED", "SUCCEEDED"]);
    world.standing.stop().await;
}

/// A pipeline with every kind of step. Each job writes down its attempt, so that none is done twice.
fn of_every_kind(log: &Path) -> String {
    let command = |name: &str| {
        let script = format!("echo $TOWPATH_JOB_ID >> {}; echo {name}", log.display());
        serde_json::to_string(&["sh", "-c", &script]).unwrap()
    };
    format!(
        "
id: kinds
steps:
  - {{ agentKind: planner, runtime: {{ kind: simulated, output: A plan., asks: {{ question: Which?, options: [a, b] }} }} }}
  - {{ agentKind: coder, requiresApproval: true, runtime: {{ kind: process, command: {} }} }}
  - {{ agentKind: ci, gate: {{ probe: {{ kind: command, command: {} }} }} }}
  - {{ agentKind: printer, runtime: {{ kind: process, command: {} }} }}
",
        command("code"),
        command("checks"),
        command("print")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_tasks_that_arrive_twice_are_done_once() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let all = Duplicates { seed: 7, one_in: 1 };
    world.standing.cloud.duplicate_invocations(Some(all));
    let log = dir.path().join("log");
    let runs = many(&world, &of_every_kind(&log), 3).await;
    for run in &runs {
        let decision = world.asked_soon(run).await;
        world.decide(run, &decision, "a").await.done();
        let approval = world.asked_soon(run).await;
        world.approve(run, &approval).await;
    }
    for run in &runs {
        let view = world.end_soon(run).await;
        done(&view);
        let attempts: Vec<_> = view.steps.iter().map(|step| step.attempt).collect();
        assert_eq!(attempts, [2, 1, 1, 1]);
        assert_eq!(world.output(run, 3).await.trim(), "print");
    }
    world.quiet().await;
    let log = std::fs::read_to_string(log).unwrap();
    let mut jobs: Vec<_> = log.lines().collect();
    jobs.sort_unstable();
    let all = jobs.len();
    jobs.dedup();
    assert_eq!((all, jobs.len()), (9, 9), "each job once");
    let all = world.executions().await;
    assert_eq!(all.len(), 3, "no driver died of it: {all:?}");
    world.standing.stop().await;
}
