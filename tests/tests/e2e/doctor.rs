//! The doctor: names what does not fit, and mends it.

use std::time::Duration;

use towpath_engine::{JobId, Status};
use towpath_service::Finding;
use towpath_tests::World;

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
