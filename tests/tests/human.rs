//! Runs that wait for humans.

use towpath_engine::Status;
use towpath_tests::Worlds;

fn worlds() -> Worlds {
    Worlds::new(env!("CARGO_BIN_EXE_towpath-under-test"))
}

const DRAFT: &str = "
id: draft
steps:
  - { agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
";

#[tokio::test(flavor = "multi_thread")]
async fn an_inline_step_is_approved_and_the_run_goes_on() {
    let world = worlds().start().await;
    let run = world.run(DRAFT).await;
    let subject = world.asked(&run).await;
    world.approve(&run, &subject).await;
    assert_eq!(world.end(&run).await.summary.status, Status::Done);
    world.standing.stop().await;
}
