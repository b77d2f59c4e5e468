//! The minute tick: what cannot be seen to is pushed back, so that it keeps nothing else waiting.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use towpath_aws::{Clients, Settings};

use crate::world;

const PARKED: &str = "
id: parked
steps:
  - { agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
";

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_seen_to_do_not_starve_their_shard() {
    let world = world().await;
    let run = world.run(PARKED).await;
    world.asked_soon(&run).await;
    let environment = world.standing.cloud.aws_environment("operator");
    let settings = Settings::from_lookup(|name| environment.get(name).cloned()).unwrap();
    let db = Clients::connect(&settings, None).dynamodb;
    let table = world.standing.cloud.output("RunsTable").unwrap();
    let get = db
        .get_item()
        .table_name(&table)
        .key("pk", text(run.as_str()));
    let wait = get
        .key("sk", text("NOW#WAIT"))
        .send()
        .await
        .unwrap()
        .item
        .unwrap();
    let name = wait["dueShard"].as_s().unwrap();
    let shard: u16 = name.trim_start_matches("due#").parse().unwrap();
    // As many as one tick takes on, all longer overdue than the run.
    for n in 0..200 {
        let put = db.put_item().table_name(&table);
        put.item("pk", text(&format!("unknown-{n}")))
            .item("sk", text("OF A NEWER RELEASE"))
            .item("dueShard", text(name))
            .item("dueAt", AttributeValue::N("1".to_owned()))
            .send()
            .await
            .unwrap();
    }
    let tick = async |later: u64| {
        world.clock.advance(Duration::from_secs(later));
        let ticked = world.standing.operator.ticker.tick(&[shard]).await.unwrap();
        (ticked.due, ticked.failed)
    };
    assert_eq!(tick(61 * 60).await, (200, 200), "the run waits behind them");
    assert_eq!(
        tick(0).await,
        (1, 0),
        "the run has its turn in the next tick"
    );
    assert_eq!(
        tick(61).await,
        (200, 200),
        "they are tried again, and none vanishes"
    );
    assert_eq!(tick(61).await, (0, 0), "less and less often");
    world.standing.stop().await;
}
