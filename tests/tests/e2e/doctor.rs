//! The doctor: names what does not fit, and mends it.

use std::time::Duration;

use serde_json::json;
use towpath_engine::{JobId, Status};
use towpath_service::Finding;
use towpath_tests::World;
use towpath_tests::executors::Executor;

use super::{done, world};

const ASKS: &str = "
id: asks
steps:
  - { agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
";

async fn findings(world: &World) -> Vec<Finding> {
    let standing = &world.standing;
    let (app, process) = (&standing.operator, Some(&standing.process));
    let jobs = towpath::doctor::seen(app, process, Some(&standing.jobs)).await;
    let jobs = jobs.unwrap();
    standing
        .doctor
        .examine(&jobs)
        .await
        .unwrap()
        .into_iter()
        .collect()
}

async fn mend(world: &World) {
    for finding in findings(world).await {
        world.standing.doctor.repair(&finding).await.unwrap();
    }
}

fn forbid(world: &World, policy: &str, sid: &str) {
    let statements = world.standing.cloud.statements();
    let statement = statements
        .iter()
        .find(|it| it.policy == policy && it.sid.as_deref() == Some(sid))
        .unwrap();
    assert!(
        world
            .standing
            .cloud
            .remove_statement(policy, statement.index, None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_driver_is_named_and_gets_its_next() {
    let world = world().await;
    let run = world.run(ASKS).await;
    let subject = world.asked_soon(&run).await;
    assert_eq!(findings(&world).await, []);
    forbid(&world, "SettleFunction", "Runs");
    world.abort(&run, 1).await;
    let driverless = Finding::Driverless {
        run: run.clone(),
        generation: 1,
    };
    assert_eq!(findings(&world).await, [driverless]);
    mend(&world).await;
    world
        .when(Duration::from_millis(1), async || {
            findings(&world).await.is_empty()
        })
        .await;
    world.approve(&run, &subject).await;
    done(&world.end_soon(&run).await);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_delivery_is_named_and_made() {
    let world = world().await;
    let run = world.run(ASKS).await;
    let subject = world.asked_soon(&run).await;
    forbid(&world, "ResolveDecisionFunction", "Wake");
    world.approve(&run, &subject).await;
    assert_eq!(findings(&world).await, [], "it is not overdue yet");
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(
        findings(&world).await,
        [Finding::Undelivered { run: run.clone() }]
    );
    mend(&world).await;
    done(&world.end_soon(&run).await);
    assert_eq!(findings(&world).await, []);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_and_a_job_that_no_run_has_are_named_and_stopped() {
    let world = world().await;
    let yaml = "{ id: works, steps: [{ agentKind: coder, runtime: { kind: process, command: [sleep, '1000'] } }] }";
    let run = world.run(yaml).await;
    world.at_work(&run).await;
    // An execution that nobody tells of its run's end, and a job that no run sent.
    let stopped = world.run(ASKS).await;
    world.asked_soon(&stopped).await;
    forbid(&world, "ApiFunction", "Wake");
    world.stop(&stopped).await.done();
    let stray = format!("{stopped}-1");
    let job = JobId::derive(&run, 9);
    towpath_tests::start_by_hand(&world, &job, &["sleep", "1000"]).await;
    let found = findings(&world).await;
    let named = |finding: &Finding| match finding {
        Finding::OrphanExecution { name, .. } => *name == stray,
        Finding::OrphanJob { job: orphan } => orphan.job == job,
        _ => false,
    };
    assert!(found.len() == 2 && found.iter().all(named), "{found:?}");
    mend(&world).await;
    world
        .when(Duration::from_millis(1), async || {
            findings(&world).await.is_empty()
        })
        .await;
    assert_eq!(
        world.view(&run).await.summary.status,
        Status::Running,
        "the run itself is none of its business"
    );
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_closed_and_a_mission_that_no_run_has_are_named_and_mended() {
    let world = world().await;
    let executor = Executor::register(&world, 1, &["x-test"]).await;
    let mut socket = executor.connect(&world).await.unwrap();
    let none = json!({ "owned_mission_ids": [] });
    socket.tell(&world, "executor.resync", None, none).await;
    let yaml = "{ id: work, steps: [{ agentKind: coder, runtime: { kind: command, command: [x], on: { executor: [x-test] } } }] }";
    let run = world.run(yaml).await;
    let mission = socket.heard("mission.dispatch").await["mission_id"].clone();
    assert_eq!(findings(&world).await, []);
    // Its end is not told to the deployment.
    forbid(&world, "ExecutorSocketFunction", "Missions");
    socket.close().await;
    let closed = async || {
        let found = findings(&world).await;
        matches!(&*found, [Finding::ClosedSocket { executor: of, .. }] if of.as_str() == executor.id)
    };
    world.when(Duration::from_millis(1), closed).await;
    mend(&world).await;
    assert_eq!(findings(&world).await, []);
    // A mission that its run has forgotten.
    let job: JobId = mission.as_str().unwrap().parse().unwrap();
    let pk = run.to_string();
    assert!(world.rows().get(&pk, "NOW#HEAD").await.is_some());
    world.rows().delete(&pk, "NOW#HEAD").await;
    let orphan = |it: &Finding| matches!(it, Finding::OrphanJob { job: of } if of.job == job);
    let found = findings(&world).await;
    assert!(found.iter().any(orphan), "{found:?}");
    mend(&world).await;
    let found = findings(&world).await;
    assert!(!found.iter().any(orphan), "{found:?}");
    world.standing.stop().await;
}
