//! Steps that real processes do.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use towpath_engine::{FailureKind, JobId, Status};
use towpath_tests::World;

use crate::{done, failure, lines, world};

/// A pipeline of one job.
pub(crate) fn job(script: &str) -> String {
    let command = serde_json::to_string(&["sh", "-c", script]).unwrap();
    format!(
        "{{ id: work, steps: [{{ agentKind: coder, runtime: {{ kind: process, command: {command} }} }}] }}"
    )
}

/// Takes a job's supervisor away, as a machine that is switched off does.
fn evict(world: &World, job: &JobId) {
    let pid = world.supervisor(job).unwrap().to_string();
    let killed = Command::new("kill").args(["-KILL", &pid]).status().unwrap();
    assert!(killed.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_output_is_its_file_or_else_what_it_printed() {
    let world = world().await;
    let yaml = r#"
id: outputs
steps:
  - { agentKind: printer, runtime: { kind: process, command: [echo, printed] } }
  - { agentKind: writer, runtime: { kind: process, command: [sh, -c, 'echo noise; printf written > "$TOWPATH_OUTPUT"'] } }
  - { agentKind: teller, runtime: { kind: process, command: [sh, -c, 'echo "{\"output\": \"told\", \"confidence\": 0.5, \"model\": \"m-1\"}" > "$TOWPATH_OUTPUT"'] } }
  - { agentKind: reader, runtime: { kind: process, env: { WHO: me }, command: [sh, -c, 'echo "$WHO $TOWPATH_TITLE"'] } }
"#;
    let run = world.run(yaml).await;
    let view = world.end_soon(&run).await;
    done(&view);
    assert_eq!(world.output(&run, 0).await.trim(), "printed");
    assert_eq!(world.output(&run, 1).await, "written");
    assert_eq!(world.output(&run, 2).await, "told");
    assert_eq!(view.steps[2].model.as_deref(), Some("m-1"));
    assert_eq!(world.output(&run, 3).await.trim(), "me outputs");
    let block: Value = world.client.get("/blocks/outputs").await.unwrap();
    assert_eq!(
        (&block["confidence"], &block["status"]),
        (&0.5.into(), &"pr_ready".into())
    );

    // A job is told where the outputs before it are.
    // Each step before it made a call and an output.
    let job = JobId::derive(&run, 7);
    let context = std::fs::read(
        world
            .standing
            .jobs
            .join(job.as_str())
            .join("inputs/context.json"),
    );
    let context: Value = serde_json::from_slice(&context.unwrap()).unwrap();
    let outputs = context["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 3);
    let second: Value = world
        .client
        .get(outputs[1]["href"].as_str().unwrap())
        .await
        .unwrap();
    assert_eq!(second["text"], "written");
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_fails_the_run_with_its_exit_code_and_last_words() {
    let world = world().await;
    let run = world.run(&job("echo 'two tests failed' >&2; exit 3")).await;
    let (kind, message) = failure(&world.end_soon(&run).await);
    assert_eq!(kind, FailureKind::JobFailed);
    assert!(
        message.contains("exit code 3") && message.contains("two tests failed"),
        "{message}"
    );
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_not_there_is_a_failed_dispatch_that_names_it() {
    let world = world().await;
    let yaml = "{ id: work, steps: [{ agentKind: coder, runtime: { kind: process, command: [no-such-agent] } }] }";
    let run = world.run(yaml).await;
    let (kind, message) = failure(&world.end_soon(&run).await);
    assert_eq!(kind, FailureKind::Dispatch);
    assert!(message.contains("no-such-agent"), "{message}");
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_place_is_taken_away_once_is_done_again_elsewhere() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let (tries, go) = (dir.path().join("tries"), dir.path().join("go"));
    let script = format!(
        "echo try >> {}; until test -e {}; do sleep 0.02; done; echo finished",
        tries.display(),
        go.display()
    );
    let run = world.run(&job(&script)).await;
    let first = world.at_work(&run).await;
    evict(&world, &first);
    let second = world.soon(&run, |view| {
        view.steps[0].attempt == 2 && view.steps[0].job_id.as_ref() != Some(&first)
    });
    let view = second.await;
    assert_eq!(view.steps[0].evictions.crashes, 1);
    let left = |world: &World| {
        world
            .processes()
            .iter()
            .any(|left| left.starts_with(first.as_str()))
    };
    assert!(
        !left(&world),
        "nothing of the first works on beside the second"
    );
    std::fs::write(&go, "").unwrap();
    done(&world.end_soon(&run).await);
    assert_eq!(world.output(&run, 0).await.trim(), "finished");
    assert!(lines(&tries) <= 2, "{}", lines(&tries));
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_place_is_taken_away_again_and_again_is_given_up() {
    let world = world().await;
    let run = world.run(&job("sleep 600")).await;
    evict(&world, &world.at_work(&run).await);
    world.soon(&run, |view| view.steps[0].attempt == 2).await;
    evict(&world, &world.at_work(&run).await);
    let view = world.end_soon(&run).await;
    assert_eq!(failure(&view).0, FailureKind::Evicted);
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_takes_too_long_is_stopped() {
    let world = world().await;
    let yaml = job("sleep 600 & wait").replace(
        "agentKind: coder",
        "agentKind: coder, budgets: { jobMinutes: 5 }",
    );
    let run = world.run(&yaml).await;
    world.at_work(&run).await;
    world.pass(Duration::from_secs(290)).await;
    assert_eq!(world.view(&run).await.summary.status, Status::Running);
    world.pass(Duration::from_secs(10)).await;
    let view = world.end(&run).await;
    let (kind, message) = failure(&view);
    assert_eq!(kind, FailureKind::Timeout);
    assert!(message.contains("within its 5 minutes"), "{message}");
    world.quiet().await;
    world.standing.stop().await;
}

/// The jobs of this world have no place for a while: their directory is a file.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_placed_is_held_until_it_can_be() {
    let world = world().await;
    let jobs = &world.standing.jobs;
    std::fs::remove_dir_all(jobs).unwrap();
    std::fs::write(jobs, "").unwrap();
    let run = world.run(&job("echo placed")).await;
    let began = world.clock.now_ms();
    let quarter = Duration::from_secs(15 * 60);
    let waited = |world: &World| Duration::from_millis(world.clock.now_ms() - began);
    let held = world
        .until(&run, |view| {
            assert_eq!(view.summary.status, Status::Running, "{view:#?}");
            waited(&world) > quarter
        })
        .await;
    assert_eq!(held.summary.waits_for.unwrap().reason, "rest");
    let activity = &held.steps[0].activity;
    assert!(
        activity.contains("its runtime did not answer"),
        "{activity}"
    );

    std::fs::remove_file(jobs).unwrap();
    done(&world.end(&run).await);
    assert_eq!(world.output(&run, 0).await.trim(), "placed");
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_job_can_be_read_when_its_run_is_over() {
    let world = world().await;
    let run = world
        .run(&job("seq 1 3; echo 'what went wrong' >&2; exit 1"))
        .await;
    world.end_soon(&run).await;
    let page: Value = world
        .client
        .get(&format!("/runs/{run}/steps/0/log"))
        .await
        .unwrap();
    let parts = serde_json::json!([
        { "stream": "stdout", "text": "1\n2\n3\n" }, { "stream": "stderr", "text": "what went wrong\n" },
    ]);
    assert_eq!((&page["parts"], page.get("next")), (&parts, None));
    let rest: Value = world
        .client
        .get(&format!("/runs/{run}/steps/0/log?after=4-0"))
        .await
        .unwrap();
    assert_eq!(rest["parts"][0]["text"], "3\n");
    let other = world
        .run(&job("true").replace("id: work", "id: other"))
        .await;
    world.end_soon(&other).await;
    let theirs = JobId::derive(&other, 1);
    for (path, status) in [
        (format!("/runs/{run}/steps/1/log"), 404),
        (format!("/runs/{run}/steps/0/log?job={theirs}"), 404),
        (format!("/runs/{run}/steps/0/log?after=x"), 422),
    ] {
        let no = world.ask(http::Method::GET, &path, &Value::Null).await;
        assert_eq!(no.no().0, status, "{path}");
    }
    world.quiet().await;
    world.standing.stop().await;
}
