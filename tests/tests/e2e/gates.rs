//! Gates: they look, have things mended, and look again.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use towpath_engine::{FailureKind, Status};

use crate::{done, failure, lines, world};

/// A pipeline of one gate: its probe, its helper if it has one, and more of it.
fn gate(probe: &str, helper: Option<&str>, more: &str) -> String {
    let command = |script: &str| serde_json::to_string(&["sh", "-c", script]).unwrap();
    let helper = helper.map_or(String::new(), |script| {
        format!(
            "helper: {{ agentKind: ci-fixer, runtime: {{ kind: process, command: {} }} }},",
            command(script)
        )
    });
    format!(
        "{{ id: gate, steps: [{{ agentKind: ci, {more} gate: {{ {helper} probe: {{ kind: command, command: {} }} }} }},
           {{ agentKind: printer, runtime: {{ kind: simulated, output: Printed. }} }}] }}",
        command(probe)
    )
}

/// Passes once the file is there; says what it misses otherwise.
fn wants(file: &Path, code: u8) -> String {
    let file = file.display();
    format!("test -e {file} && echo all is well || {{ echo {file} is missing >&2; exit {code}; }}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_passes_at_once_lets_the_run_go_on() {
    let world = world().await;
    let run = world.run(&gate("echo all is well", None, "")).await;
    let view = world.end_soon(&run).await;
    done(&view);
    assert_eq!(world.output(&run, 0).await, "all is well");
    assert_eq!(view.steps[0].gate.as_ref().unwrap().attempts, 0);
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_gate_is_asked_again_and_moves_no_machine_until_it_knows() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let green = dir.path().join("green");
    let yaml = gate(&wants(&green, 75), None, "").replace("gate: {", "gate: { budgetMinutes: 600,");
    let run = world.run(&yaml).await;
    let polled = |times| {
        move |view: &towpath_api_types::RunView| {
            let gate = view.steps[0].gate.as_ref();
            gate.is_some_and(|gate| gate.polls >= times)
        }
    };
    // By then the machine waits for the gate.
    world.until(&run, polled(1)).await;
    let before = world.standing.cloud.counts();
    world.until(&run, polled(4)).await;
    let after = world.standing.cloud.counts();
    assert_eq!(after.transitions, before.transitions);
    let advanced = |counts: &towpath_local::Counts, name: &str| {
        counts.invocations_by_function.get(name).copied()
    };
    for name in ["AdvanceFunction", "PollGateFunction"] {
        assert_eq!(advanced(&after, name), advanced(&before, name), "{name}");
    }
    std::fs::write(&green, "").unwrap();
    done(&world.end(&run).await);
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gate_finds_is_mended_by_its_helper() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let (green, told) = (dir.path().join("green"), dir.path().join("told"));
    let helper = format!(
        r#"printf %s "$TOWPATH_FINDINGS" > {}; touch {}"#,
        told.display(),
        green.display()
    );
    let run = world.run(&gate(&wants(&green, 1), Some(&helper), "")).await;
    let view = world.end_soon(&run).await;
    done(&view);
    assert_eq!(view.steps[0].gate.as_ref().unwrap().attempts, 1);
    let told = std::fs::read_to_string(told).unwrap();
    assert!(
        told.contains("green is missing"),
        "the helper is told what was found: {told:?}"
    );
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helpers_own_end_does_not_matter_only_what_the_gate_then_sees() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let green = dir.path().join("green");
    let helper = format!("touch {}; exit 9", green.display());
    let run = world.run(&gate(&wants(&green, 1), Some(&helper), "")).await;
    done(&world.end_soon(&run).await);
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_whose_helper_tried_often_enough_fails_the_run() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let (green, tries) = (dir.path().join("green"), dir.path().join("tries"));
    let helper = format!("echo tried >> {}", tries.display());
    let yaml =
        gate(&wants(&green, 1), Some(&helper), "").replace("gate: {", "gate: { attempts: 2,");
    let run = world.run(&yaml).await;
    let (kind, message) = failure(&world.end_soon(&run).await);
    assert_eq!(kind, FailureKind::JobFailed);
    assert!(
        message.contains("2 attempts") && message.contains("green is missing"),
        "{message}"
    );
    assert_eq!(lines(&tries), 2);
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_without_a_helper_fails_at_its_first_finding() {
    let world = world().await;
    let run = world.run(&gate("echo no; exit 1", None, "")).await;
    let (kind, message) = failure(&world.end_soon(&run).await);
    assert_eq!(kind, FailureKind::JobFailed);
    assert!(message.contains("no helper"), "{message}");
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_never_knows_times_out() {
    let world = world().await;
    let yaml = gate("exit 75", None, "").replace("gate: {", "gate: { budgetMinutes: 15,");
    let run = world.run(&yaml).await;
    let view = world.end(&run).await;
    let (kind, message) = failure(&view);
    assert_eq!(kind, FailureKind::Timeout);
    assert!(message.contains("15 minutes"), "{message}");
    let took = view.summary.finished_at.unwrap().0 - view.summary.created_at.0;
    assert!(took >= 15 * 60_000, "{took}");
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_requested_of_a_gate_go_to_its_helper() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let helper = format!(r#"printf %s "$TOWPATH_FEEDBACK" > {}"#, told.display());
    let yaml = gate("echo all is well", Some(&helper), "requiresApproval: true,");
    let run = world.run(&yaml).await;
    let first = world.asked_soon(&run).await;
    assert!(!told.exists(), "there was nothing to mend");
    let ask = json!({ "feedback": "the docs too" });
    world
        .say(&run, &first, "request-changes", &ask)
        .await
        .done();
    let second = world.asked_soon(&run).await;
    assert_ne!(first, second);
    assert_eq!(std::fs::read_to_string(&told).unwrap(), "the docs too");
    let gate = world.view(&run).await.steps[0].gate.clone().unwrap();
    assert_eq!(gate.attempts, 0, "a human's wish costs the helper nothing");
    world.approve(&run, &second).await;
    done(&world.over(&run).await);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_is_taken_away_is_sent_again() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let looks = dir.path().join("looks");
    let probe = format!(
        "echo look >> {looks}; test $(wc -l < {looks}) -gt 1 || sleep 600",
        looks = looks.display()
    );
    let yaml = gate(&probe, None, "").replace("gate: {", "gate: { budgetMinutes: 600,");
    let run = world.run(&yaml).await;
    let waiting = world.soon(&run, |view| view.steps[0].job_id.is_some());
    let job = waiting.await.steps[0].job_id.clone().unwrap();
    let first = |_: &towpath_api_types::RunView| lines(&looks) == 1;
    world.soon(&run, first).await;
    let pid = world.supervisor(&job).unwrap().to_string();
    let kill = std::process::Command::new("kill")
        .args(["-KILL", &pid])
        .status();
    assert!(kill.unwrap().success());
    let view = world.until(&run, |view| view.summary.status != Status::Running);
    done(&view.await);
    assert_eq!(lines(&looks), 2);
    world.pass(Duration::from_secs(60)).await;
    world.quiet().await;
    world.standing.stop().await;
}
