//! Stopping, and doing again: stop, retry, restart, replace, and the same request twice.

use futures::future::join_all;
use serde_json::{Value, json};
use towpath_engine::{AuditAction, Block, BlockStatus, FailureKind, RunId, Status, StepIndex};
use towpath_tests::World;

use crate::jobs::job;
use crate::{done, failure, lines, world};

/// Three steps, the last of which fails until a file is there.
fn mended_by(file: &std::path::Path, tries: &std::path::Path) -> String {
    let script = format!(
        "echo try >> {}; test -e {}",
        tries.display(),
        file.display()
    );
    let command = serde_json::to_string(&["sh", "-c", &script]).unwrap();
    format!(
        "
id: mended
steps:
  - {{ agentKind: planner, runtime: {{ kind: simulated, output: A plan. }} }}
  - {{ agentKind: writer, requiresApproval: true, runtime: {{ kind: simulated, output: A draft. }} }}
  - {{ agentKind: coder, runtime: {{ kind: process, command: {command} }} }}
"
    )
}

fn start_of(name: &str) -> Value {
    json!({ "blockId": name, "pipelineId": name })
}

async fn block(world: &World, name: &str) -> Block {
    world.client.get(&format!("/blocks/{name}")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_takes_the_job_with_it_and_can_be_said_twice() {
    let world = world().await;
    let run = world.run(&job("sleep 600 & wait")).await;
    world.at_work(&run).await;
    let path = format!("/runs/{run}/stop");
    let why = json!({ "reason": "changed my mind" });
    let stopped = world.post(&path, &why).await.done();
    assert_eq!(stopped["status"], "failed");
    let (kind, message) = failure(&world.view(&run).await);
    assert_eq!(kind, FailureKind::Cancelled);
    assert!(message.contains("changed my mind"), "{message}");
    world.quiet().await;

    let before = world.view(&run).await;
    assert_eq!(world.stop(&run).await.status, 200);
    let after = world.view(&run).await;
    assert_eq!(after, before, "a terminal run never changes");
    let [audit] = &after.audit[..] else {
        panic!("{:?}", after.audit)
    };
    assert_eq!(
        (audit.action, &audit.actor[..]),
        (AuditAction::Stop, "local")
    );
    world.start("work", "work").await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_wait_for_a_human_whose_answer_then_comes_too_late() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let run = world
        .run(&mended_by(
            &dir.path().join("green"),
            &dir.path().join("tries"),
        ))
        .await;
    let subject = world.asked_soon(&run).await;
    world.stop(&run).await.done();
    world.quiet().await;
    let late = world.say(&run, &subject, "approve", &json!({})).await;
    assert_eq!(late.no(), (409, "not_waiting".into(), None));
    assert_eq!(failure(&world.view(&run).await).0, FailureKind::Cancelled);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_a_run_that_is_done_changes_nothing() {
    let world = world().await;
    let run = world.run(&job("true")).await;
    let before = world.end_soon(&run).await;
    assert_eq!(world.stop(&run).await.status, 200);
    assert_eq!(world.view(&run).await, before);
    done(&before);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_begins_at_what_failed_and_keeps_what_was_done() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let (green, tries) = (dir.path().join("green"), dir.path().join("tries"));
    let first = world.run(&mended_by(&green, &tries)).await;
    let live = world
        .post(&format!("/runs/{first}/retry"), &json!({}))
        .await;
    assert_eq!(live.no(), (409, "wrong_state".into(), None));
    let subject = world.asked_soon(&first).await;
    let edited = json!({ "proposal": "A better draft." });
    world.say(&first, &subject, "approve", &edited).await.done();
    failure(&world.end_soon(&first).await);
    assert_eq!(block(&world, "mended").await.status, BlockStatus::Blocked);

    // Twice, so that what is kept comes through two runs.
    let mut last = first.clone();
    for attempt in 2..=3 {
        if attempt == 3 {
            std::fs::write(&green, "").unwrap();
        }
        let new = world.post(&format!("/runs/{last}/retry"), &json!({})).await;
        assert_eq!(new.status, 201);
        let new = new.run();
        let view = world.end_soon(&new).await;
        assert_eq!(view.summary.retried_from, Some(last));
        assert_eq!(lines(&tries), attempt);
        last = new;
    }
    let view = world.view(&last).await;
    done(&view);
    let kept: Vec<_> = view
        .steps
        .iter()
        .map(|step| step.kept_from.clone())
        .collect();
    assert_eq!(kept, [Some(first.clone()), Some(first), None]);
    assert_eq!(world.output(&last, 0).await, "A plan.");
    assert_eq!(world.output(&last, 1).await, "A better draft.");
    assert_eq!(block(&world, "mended").await.status, BlockStatus::PrReady);
    let over = world.post(&format!("/runs/{last}/retry"), &json!({})).await;
    assert_eq!(over.no().1, "wrong_state");
    world.quiet().await;
    world.standing.stop().await;
}

async fn restart(world: &World, run: &RunId, from: u16) -> RunId {
    let path = format!("/runs/{run}/restart");
    let answer = world.post(&path, &json!({ "fromStep": from })).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.run()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_restarted_from_a_step_whatever_has_become_of_it() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let (green, tries) = (dir.path().join("green"), dir.path().join("tries"));
    std::fs::write(&green, "").unwrap();
    let first = world.run(&mended_by(&green, &tries)).await;
    world.asked_soon(&first).await;

    // While it waits for a human: it ends, and the new one asks anew.
    let second = restart(&world, &first, 1).await;
    let (kind, message) = failure(&world.view(&first).await);
    assert_eq!(kind, FailureKind::Cancelled);
    assert!(message.contains(second.as_str()), "{message}");
    let subject = world.asked_soon(&second).await;
    world.approve(&second, &subject).await;
    let view = world.end_soon(&second).await;
    done(&view);
    assert_eq!(view.steps[0].kept_from, Some(first.clone()));
    assert_eq!(view.steps[1].kept_from, None);

    // Once it is done, from its last step, and from its first.
    let third = restart(&world, &second, 2).await;
    let view = world.end_soon(&third).await;
    done(&view);
    let kept: Vec<_> = view
        .steps
        .iter()
        .map(|step| step.kept_from.clone())
        .collect();
    assert_eq!(kept, [Some(first), Some(second.clone()), None]);
    assert_eq!(world.output(&third, 0).await, "A plan.");
    assert_eq!(world.output(&third, 1).await, "A draft.");
    assert_eq!(lines(&tries), 2);
    let fourth = restart(&world, &third, 0).await;
    let view = world.soon(&fourth, |view| view.summary.status == Status::Blocked);
    assert!(view.await.steps.iter().all(|step| step.kept_from.is_none()));

    for from in [2, 3, 9] {
        let path = format!("/runs/{fourth}/restart");
        let no = world.post(&path, &json!({ "fromStep": from })).await;
        let field = Some("fromStep".into());
        assert_eq!(no.no(), (422, "invalid_request".into(), field), "{from}");
    }
    // Another run has the block now: a restart of an older one must not end it.
    let other = world
        .post(
            &format!("/runs/{second}/restart"),
            &json!({ "fromStep": 0 }),
        )
        .await;
    assert_eq!(other.no().1, "run_is_live");
    assert_eq!(other.problem().run, Some(fourth.clone()));
    world.stop(&fourth).await.done();
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_and_a_replacement_first_stop_the_job_that_works() {
    let world = world().await;
    let first = world.run(&job("sleep 600 & wait")).await;
    let old = world.at_work(&first).await;
    let second = restart(&world, &first, 0).await;
    let new = world.at_work(&second).await;
    assert_eq!(failure(&world.view(&first).await).0, FailureKind::Cancelled);
    let gone = |job: &towpath_engine::JobId| {
        let left = world.processes();
        !left.iter().any(|left| left.starts_with(job.as_str()))
    };
    world.soon(&second, |_| gone(&old)).await;

    let ask = json!({ "blockId": "work", "pipelineId": "work" });
    let no = world.post("/runs", &ask).await;
    assert_eq!(
        (no.no().1, no.problem().run),
        ("run_is_live".into(), Some(second.clone()))
    );
    let ask = json!({ "blockId": "work", "pipelineId": "work", "replace": true });
    let third = world.post("/runs", &ask).await.run();
    let (kind, message) = failure(&world.view(&second).await);
    assert_eq!(kind, FailureKind::Cancelled);
    assert!(message.contains(third.as_str()), "{message}");
    world.soon(&third, |_| gone(&new)).await;
    assert_eq!(block(&world, "work").await.run_id, Some(third.clone()));
    assert_eq!(block(&world, "work").await.status, BlockStatus::InProgress);
    world.stop(&third).await.done();
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_a_jobs_place_begins_when_that_job_is_gone() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    // It takes its time to end, and writes until the last moment.
    let script = format!(
        "trap 'sleep 1; echo end >> {0}; exit 1' TERM; echo begin >> {0}; sleep 600 & wait",
        log.display()
    );
    let begun = async |times| {
        let begun = async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.matches("begin").count() == times
        };
        world.when(std::time::Duration::from_millis(1), begun).await;
    };
    let first = world.run(&job(&script)).await;
    begun(1).await;
    let second = restart(&world, &first, 0).await;
    begun(2).await;
    let ask = json!({ "blockId": "work", "pipelineId": "work", "replace": true });
    let third = world.post("/runs", &ask).await.run();
    begun(3).await;
    world.stop(&third).await.done();
    let retried = world
        .post(&format!("/runs/{third}/retry"), &json!({}))
        .await;
    begun(4).await;
    world.stop(&retried.run()).await.done();
    world.quiet().await;
    let log = std::fs::read_to_string(&log).unwrap();
    assert_eq!(log, "begin\nend\n".repeat(4), "never two at once");
    failure(&world.view(&second).await);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_keeps_what_humans_said() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    // It fails with the feedback, until a file is there.
    let script = format!(
        r#"test -z "$TOWPATH_FEEDBACK" || test -e {} || exit 3; echo "told: $TOWPATH_FEEDBACK""#,
        good.display()
    );
    let command = serde_json::to_string(&["sh", "-c", &script]).unwrap();
    let run = world
        .run(&format!(
            "{{ id: work, steps: [{{ agentKind: coder, requiresApproval: true,
               runtime: {{ kind: process, command: {command} }} }}] }}"
        ))
        .await;
    let subject = world.asked_soon(&run).await;
    let changes = json!({ "feedback": "shorter" });
    let said = world.say(&run, &subject, "request-changes", &changes);
    said.await.done();
    failure(&world.end_soon(&run).await);
    std::fs::write(&good, "").unwrap();
    let retried = world.post(&format!("/runs/{run}/retry"), &json!({})).await;
    let retried = retried.run();
    let subject = world.asked_soon(&retried).await;
    assert_eq!(world.output(&retried, 0).await.trim(), "told: shorter");
    world.approve(&retried, &subject).await;
    done(&world.over(&retried).await);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_under_the_name_of_an_earlier_one_is_that_one() {
    let world = world().await;
    world.put(&job("true")).await;
    world.block("work").await;
    world.block("other").await;
    let start = async |ask: &Value| world.post_once("/runs", "monday", ask).await;
    let first = start(&start_of("work")).await.run();
    assert_eq!(
        start(&start_of("work")).await.run(),
        first,
        "while it goes on"
    );
    done(&world.end_soon(&first).await);
    assert_eq!(
        start(&start_of("work")).await.run(),
        first,
        "once it is over"
    );

    let other = start(&json!({ "blockId": "other", "pipelineId": "work" })).await;
    assert_eq!(other.no(), (422, "idempotency_mismatch".into(), None));
    assert_eq!(other.problem().run, Some(first.clone()));
    assert_eq!(block(&world, "other").await.run_id, None);
    let path = format!("/runs/{first}/restart");
    let ask = json!({ "fromStep": 0 });
    let again = world.post_once(&path, "tuesday", &ask).await.run();
    assert_eq!(world.post_once(&path, "tuesday", &ask).await.run(), again);
    let mismatch = world.post_once(&path, "monday", &ask).await;
    assert_eq!(mismatch.no().1, "idempotency_mismatch");
    world.end_soon(&again).await;
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_starts_of_one_name_at_the_same_time_are_one_run() {
    let world = world().await;
    world.put(&job("true")).await;
    world.block("work").await;
    let ask = start_of("work");
    let starts = (0..16).map(|_| world.post_once("/runs", "monday", &ask));
    let runs: Vec<_> = join_all(starts)
        .await
        .into_iter()
        .map(|it| it.run())
        .collect();
    assert!(runs.iter().all(|run| *run == runs[0]), "{runs:?}");
    done(&world.over(&runs[0]).await);
    assert_eq!(world.executions().await.len(), 1);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_starts_on_one_block_leave_one_run_and_fifteen_are_told_which() {
    let world = world().await;
    world.put(&job("sleep 600")).await;
    world.block("work").await;
    let ask = start_of("work");
    let answers = join_all((0..16).map(|_| world.post("/runs", &ask))).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|it| it.status == 201);
    assert_eq!((won.len(), lost.len()), (1, 15), "{won:?} {lost:?}");
    let run = won[0].clone().run();
    for answer in lost {
        assert_eq!(answer.no(), (409, "run_is_live".into(), None));
        assert_eq!(answer.problem().run, Some(run.clone()));
    }
    let all: Value = world.client.get("/runs").await.unwrap();
    assert_eq!(all["items"].as_array().unwrap().len(), 1, "{all}");
    world.at_work(&run).await;
    world.stop(&run).await.done();
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_replacements_at_the_same_time_leave_one_live_run() {
    let world = world().await;
    world.run(&job("sleep 600")).await;
    let ask = json!({ "blockId": "work", "pipelineId": "work", "replace": true });
    let answers = join_all((0..16).map(|_| world.post("/runs", &ask))).await;
    let all: Value = world.client.get("/runs").await.unwrap();
    let all = all["items"].as_array().unwrap();
    let live: Vec<_> = all
        .iter()
        .filter(|run| run["status"] == "running")
        .collect();
    assert_eq!(live.len(), 1, "{live:#?}");
    let accepted = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(all.len(), accepted + 1, "who was refused left nothing");
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.no().1, "busy");
    }
    let live: RunId = live[0]["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(block(&world, "work").await.run_id, Some(live.clone()));
    world.stop(&live).await.done();
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_approvals_at_the_same_time_are_one() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let (green, tries) = (dir.path().join("green"), dir.path().join("tries"));
    std::fs::write(&green, "").unwrap();
    let run = world.run(&mended_by(&green, &tries)).await;
    let subject = world.asked_soon(&run).await;
    let nothing = json!({});
    let answers = (0..16).map(|_| world.say(&run, &subject, "approve", &nothing));
    let answers = join_all(answers).await;
    assert!(
        answers
            .iter()
            .all(|it| it.status == 200 && *it == answers[0]),
        "{answers:?}"
    );
    let view = world.over(&run).await;
    done(&view);
    assert_eq!((view.audit.len(), lines(&tries)), (1, 1));
    assert_eq!(view.steps[usize::from(StepIndex(2).0)].attempt, 1);
    world.standing.stop().await;
}
