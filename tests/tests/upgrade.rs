//! Upgrading with runs parked: what an earlier release has recorded, this one reads, and ends right.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Map, Value, json};
use towpath_aws::{Clients, Settings};
use towpath_engine::{RunId, Status};
use towpath_tests::{World, Worlds};

type Item = HashMap<String, AttributeValue>;

/// Runs that wait for a human's approval, for a choice, for a job and for a gate.
const PARKED: [&str; 4] = [
    "
id: approval
steps:
  - { agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
",
    "
id: decision
steps:
  - agentKind: writer
    runtime: { kind: simulated, output: A tale., asks: { question: How long?, options: [short, long] } }
",
    "
id: job
steps:
  - { agentKind: coder, runtime: { kind: process, command: [sh, -c, 'sleep 1; echo worked'] } }
",
    "
id: gate
steps:
  - agentKind: ci
    gate: { probe: { kind: command, command: [sh, -c, 'sleep 1; echo looked'] } }
",
];

fn worlds() -> Worlds {
    Worlds::new(env!("CARGO_BIN_EXE_towpath-under-test"))
}

fn records() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("records")
}

fn tables(world: &World) -> (aws_sdk_dynamodb::Client, String) {
    let environment = world.standing.cloud.aws_environment("operator");
    let settings = Settings::from_lookup(|name| environment.get(name).cloned()).unwrap();
    (
        Clients::connect(&settings, None).dynamodb,
        world.standing.cloud.output("RunsTable").unwrap(),
    )
}

/// Records what this release leaves behind when it is replaced with runs parked. To be run once for each release:
/// `cargo test -p towpath-tests --test upgrade -- --ignored`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "records the present release"]
async fn record() {
    let world = worlds().start().await;
    for yaml in PARKED {
        let run = world.run(yaml).await;
        world
            .until(&run, |view| {
                view.summary
                    .waits_for
                    .as_ref()
                    .is_some_and(|waits| waits.reason != "driver")
            })
            .await;
    }
    let (db, runs) = tables(&world);
    let items = db
        .scan()
        .table_name(runs)
        .send()
        .await
        .unwrap()
        .items
        .unwrap();
    let mut items: Vec<Value> = items.iter().map(to_json).collect();
    items.sort_by_key(ToString::to_string);
    let text = serde_json::to_string_pretty(&items).unwrap() + "\n";
    let version = env!("CARGO_PKG_VERSION");
    fs::write(records().join(format!("{version}.json")), text).unwrap();
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_parked_under_every_recorded_release_end_right_under_this_one() {
    let mut releases = 0;
    for file in fs::read_dir(records()).unwrap() {
        let file = file.unwrap().path();
        let items: Vec<Value> = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let world = worlds().start().await;
        goes_on(&world, &items).await;
        world.standing.stop().await;
        releases += 1;
    }
    assert!(releases > 0, "there are no recorded releases");
}

async fn goes_on(world: &World, items: &[Value]) {
    let (db, table) = tables(world);
    let mut runs: Vec<RunId> = Vec::new();
    for item in items {
        if item["sk"]["S"] == "HEAD" {
            runs.push(item["pk"]["S"].as_str().unwrap().parse().unwrap());
        }
        let item = from_json(item);
        db.put_item()
            .table_name(&table)
            .set_item(Some(item))
            .send()
            .await
            .unwrap();
    }
    assert_eq!(runs.len(), PARKED.len());
    // Their executions did not come with the records: the tick finds the runs without a driver, as it would find any.
    for run in &runs {
        let view = world.view(run).await;
        if view.summary.status == Status::Blocked {
            let subject = view.summary.waits_for.unwrap().subject.unwrap();
            match subject.starts_with("apr-") {
                true => world.approve(run, &subject).await,
                false => world.decide(run, &subject, "long").await.done(),
            };
        }
    }
    for run in &runs {
        let view = world.end(run).await;
        assert_eq!(view.summary.status, Status::Done, "{view:#?}");
    }
    // What was recorded takes new runs, too.
    let again = world.start("approval", "approval").await;
    world.asked(&again).await;
    world.stop(&again).await.done();
}

fn to_json(item: &Item) -> Value {
    let members = item
        .iter()
        .map(|(name, value)| (name.clone(), value_to_json(value)));
    Value::Object(members.collect::<Map<_, _>>())
}

fn value_to_json(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::Bool(truth) => json!({ "BOOL": truth }),
        AttributeValue::Null(_) => json!({ "NULL": true }),
        AttributeValue::L(list) => {
            json!({ "L": list.iter().map(value_to_json).collect::<Vec<_>>() })
        }
        AttributeValue::M(map) => json!({ "M": to_json(map) }),
        other => panic!("no record holds {other:?}"),
    }
}

fn from_json(item: &Value) -> Item {
    let members = item.as_object().unwrap().iter();
    members
        .map(|(name, value)| (name.clone(), value_from_json(value)))
        .collect()
}

fn value_from_json(value: &Value) -> AttributeValue {
    let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "S" => AttributeValue::S(value.as_str().unwrap().to_owned()),
        "N" => AttributeValue::N(value.as_str().unwrap().to_owned()),
        "BOOL" => AttributeValue::Bool(value.as_bool().unwrap()),
        "NULL" => AttributeValue::Null(true),
        "L" => AttributeValue::L(
            value
                .as_array()
                .unwrap()
                .iter()
                .map(value_from_json)
                .collect(),
        ),
        "M" => AttributeValue::M(from_json(value)),
        other => panic!("no record holds {other}"),
    }
}
