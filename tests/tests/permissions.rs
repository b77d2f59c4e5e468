//! Least privilege: everything the functions do, they may, and what they may, they do.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use http::Method;
use serde_json::json;
use towpath_client::Client;
use towpath_engine::Status;
use towpath_local::{BuildWeather, StatementInfo};
use towpath_tests::story::Story;
use towpath_tests::{World, Worlds};

mod executors;
mod models;
mod stories;

/// What a deployment does: one of the stories, or one of the things below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    /// A story of [`stories::ALL`].
    Story(usize),
    /// Reads everything there is to read.
    Reads,
    /// Gets in with the key the deployment has made, here first.
    FirstKey(&'static str),
    /// Makes a key, lists all, and revokes it.
    Keys,
    /// Keeps a secret, and uses it.
    Secrets,
    /// Runs commands in builds, with all that their runners ask and tell, and stops one.
    Builds,
    /// Executors dial in and out, with all that they, operators and silence do to missions.
    Executors,
    /// Calls a model, at a gateway that asks for a key.
    Models,
    /// An output that no row holds, made by a job and by a human.
    LargeOutputs,
    /// A driver dies, and the run gets its next; too many die, and the run is failed while its job works.
    Deaths,
    /// What should have been done at once was not, and the nets catch it: deliveries, drivers, a human who comes first.
    Nets,
}

fn deeds() -> Vec<Deed> {
    let others = [
        Deed::Reads,
        Deed::FirstKey("/runs"),
        Deed::FirstKey("/secrets"),
        Deed::Keys,
        Deed::Secrets,
        Deed::Builds,
        Deed::Executors,
        Deed::Models,
        Deed::LargeOutputs,
        Deed::Deaths,
        Deed::Nets,
    ];
    (0..stories::ALL.len())
        .map(Deed::Story)
        .chain(others)
        .collect()
}

const LARGE: &str = "
id: large
steps:
  - agentKind: writer
    requiresApproval: true
    runtime: { kind: process, command: [sh, -c, 'seq 1 100000 > $TOWPATH_OUTPUT'] }
  - { agentKind: reader, runtime: { kind: process, command: [sh, -c, 'cat $TOWPATH_INPUTS/output-0.txt | wc -c'] } }
";

const SECRETIVE: &str = "
id: secretive
steps:
  - { agentKind: user, runtime: { kind: process, env: { T: { secret: token } }, command: ['true'] } }
  - agentKind: ci
    gate: { probe: { kind: command, env: { T: { secret: token } }, command: ['true'] } }
";

const BUILT: &str = "
id: built
steps:
  - agentKind: coder
    runtime: { kind: command, env: { T: { secret: token } }, command: [sh, -c, 'seq 1 9000; seq 1 60000 > $TOWPATH_OUTPUT'] }
  - { agentKind: reader, runtime: { kind: command, command: [sh, -c, 'cat $TOWPATH_INPUTS/output-0.txt | wc -c'] } }
  - agentKind: ci
    gate: { probe: { kind: command, command: ['true'] } }
  - { agentKind: sleeper, runtime: { kind: command, command: [sleep, '1000'] } }
";

const LONG: &str = "
id: long
steps:
  - { agentKind: coder, runtime: { kind: process, command: [sleep, '1000'] } }
";

impl Deed {
    async fn worlds(self) -> Worlds {
        let worlds = Worlds::new(env!("CARGO_BIN_EXE_towpath-under-test"));
        match self {
            Deed::Story(index) => stories::ALL[index].world(worlds),
            Deed::Builds => worlds.on_builds(),
            Deed::Models => models::worlds(worlds).await,
            _ => worlds,
        }
    }

    async fn perform(self, world: &World) {
        match self {
            Deed::Story(index) => {
                let (story, dir): (&Story, _) = (stories::ALL[index], tempfile::tempdir().unwrap());
                let mut telling = story.prepare(world, dir.path()).await;
                story.tell(world, &mut telling).await;
            }
            Deed::Reads => {
                let run = world
                    .run("{ id: read, steps: [{ agentKind: a, runtime: { kind: simulated } }] }")
                    .await;
                world.end(&run).await;
                // Definitions are put once more, and deleted.
                world.block("read").await;
                world.block("unread").await;
                world
                    .ask(Method::DELETE, "/blocks/unread", &json!(null))
                    .await
                    .done();
                for path in [
                    "/runs",
                    "/blocks",
                    "/pipelines",
                    "/blocks/read",
                    "/pipelines/read",
                ] {
                    world.ask(Method::GET, path, &json!(null)).await.done();
                }
                world.output(&run, 0).await;
            }
            Deed::FirstKey(path) => {
                let secret = world.standing.cloud.secret("FirstKey").unwrap();
                let key = towpath_auth::Key::parse(&format!("twk_{secret}")).unwrap();
                let client = Client::new(world.standing.cloud.url(), Some(key));
                for _ in 0..2 {
                    let runs: serde_json::Value = client.get(path).await.unwrap();
                    assert_eq!(
                        runs["items"],
                        json!([]),
                        "the first key's workspace is its own"
                    );
                }
            }
            Deed::Keys => {
                let made = json!({ "name": "second", "scope": "admin" });
                let made = world.ask(Method::POST, "/keys", &made).await;
                let path = format!("/keys/{}", made.body["id"].as_str().unwrap());
                world.ask(Method::GET, "/keys", &json!(null)).await.done();
                world.ask(Method::DELETE, &path, &json!(null)).await.done();
            }
            Deed::Secrets => {
                let secret = json!({ "value": "swordfish" });
                world
                    .ask(Method::PUT, "/secrets/token", &secret)
                    .await
                    .done();
                world
                    .ask(Method::GET, "/secrets", &json!(null))
                    .await
                    .done();
                let run = world.run(SECRETIVE).await;
                assert_eq!(world.end(&run).await.summary.status, Status::Done);
                world
                    .ask(Method::DELETE, "/secrets/token", &json!(null))
                    .await
                    .done();
            }
            Deed::Builds => builds(world).await,
            Deed::Executors => executors::dial(world).await,
            Deed::Models => models::call(world).await,
            Deed::LargeOutputs => {
                let run = world.run(LARGE).await;
                let subject = world.asked(&run).await;
                let view = world.view(&run).await;
                let href = &view.steps[0].output.as_ref().unwrap().href;
                assert!(
                    world
                        .client
                        .output(href)
                        .await
                        .unwrap()
                        .ends_with("100000\n")
                );
                let proposal = json!({ "proposal": "x".repeat(300 * 1024) });
                world.say(&run, &subject, "approve", &proposal).await.done();
                assert_eq!(world.end(&run).await.summary.status, Status::Done);
            }
            Deed::Deaths => {
                let run = world.run(LONG).await;
                for generation in 1..=4 {
                    let seen = |view: &towpath_api_types::RunView| {
                        view.summary
                            .waits_for
                            .as_ref()
                            .is_some_and(|waits| waits.reason == "job")
                    };
                    world.until(&run, seen).await;
                    world.abort(&run, generation).await;
                    if generation < 4 {
                        let next = format!("{run}-{}", generation + 1);
                        let started = async || {
                            world
                                .executions()
                                .await
                                .iter()
                                .any(|(name, _)| *name == next)
                        };
                        world.when(Duration::from_secs(1), started).await;
                    }
                }
                assert_eq!(world.end(&run).await.summary.status, Status::Failed);
            }
            Deed::Nets => nets(world).await,
        }
    }
}

async fn builds(world: &World) {
    let secret = json!({ "value": "swordfish" });
    let put = world.ask(Method::PUT, "/secrets/token", &secret).await;
    put.done();
    let run = world.run(BUILT).await;
    let sleeps = |view: &towpath_api_types::RunView| view.summary.current_step.0 == 3;
    world.soon(&run, sleeps).await;
    for path in ["events", "steps/0/log"] {
        let path = format!("/runs/{run}/{path}");
        world.ask(Method::GET, &path, &json!(null)).await.done();
    }
    let stream = format!("/runs/{run}/events/stream");
    let key = format!("Bearer {}", world.standing.key.reveal());
    let streamed = Client::new(world.standing.cloud.url(), None);
    let headers = [("authorization", &*key)];
    let streamed = streamed.raw(Method::GET, &stream, &headers, Vec::new());
    let stopped = async {
        world
            .when(Duration::from_millis(1), async || {
                builds_run(world, &run).await
            })
            .await;
        world.stop(&run).await.done();
        world.end(&run).await;
    };
    let (streamed, ()) = tokio::join!(streamed, stopped);
    assert!(streamed.unwrap().0.is_success());
    // One that has no machine yet is stopped where it waits.
    world.standing.cloud.set_build_weather(BuildWeather {
        concurrent: 0,
        ..BuildWeather::default()
    });
    let queued = world.run(&LONG.replace("id: long", "id: queued")).await;
    let waits = |view: &towpath_api_types::RunView| view.summary.waits_for.is_some();
    world.soon(&queued, waits).await;
    world.stop(&queued).await.done();
    world.end(&queued).await;
    let quiet = async || world.doctor().await.is_empty();
    world.when(Duration::from_secs(1), quiet).await;
}

/// Whether the job of the run's last step has its runner.
async fn builds_run(world: &World, run: &towpath_engine::RunId) -> bool {
    let view = world.view(run).await;
    let waits = view.summary.waits_for.and_then(|waits| waits.subject);
    let Some(job) = waits.and_then(|subject| subject.parse().ok()) else {
        return false;
    };
    let record = world.standing.operator.store.jobs().get(&job).await;
    record
        .unwrap()
        .is_some_and(|record| record.token_hash.is_some())
}

/// Takes a named statement away for good.
fn without(world: &World, policy: &str, sid: &str) {
    let statements = world.standing.cloud.statements();
    let named = |statement: &&StatementInfo| {
        statement.policy == policy && statement.sid.as_deref() == Some(sid)
    };
    let index = statements.iter().find(named).unwrap().index;
    world.standing.cloud.remove_statement(policy, index, None);
}

/// Waits until an identity was allowed an action.
async fn allowed(world: &World, identity: &str, action: &str) {
    let used = async || {
        let used = world.standing.cloud.statements_used();
        used.iter()
            .any(|used| used.identity == identity && used.action == action)
    };
    world.when(Duration::from_secs(10), used).await;
}

async fn nets(world: &World) {
    // Nobody starts the next driver of a run that asks a human; the answer does.
    let asks = world.run(&LARGE.replace("id: large", "id: asks")).await;
    let subject = world.asked(&asks).await;
    without(world, "SettleFunction", "Drive");
    world.abort(&asks, 1).await;
    let handed = async || {
        world
            .standing
            .operator
            .store
            .wait(&asks)
            .await
            .unwrap()
            .unwrap()
            .drive_at
            .is_some()
    };
    world.when(Duration::from_millis(1), handed).await;
    world.approve(&asks, &subject).await;
    world.end(&asks).await;
    // Nobody hears of dead drivers; the tick finds their runs, and gives up after four.
    let long = world.run(LONG).await;
    without(world, "SettleFunction", "Runs");
    for generation in 1..=4 {
        let driven = async || {
            let parked = world
                .view(&long)
                .await
                .summary
                .waits_for
                .is_some_and(|waits| waits.reason == "job");
            parked
                && world
                    .executions()
                    .await
                    .contains(&(format!("{long}-{generation}"), "RUNNING".to_owned()))
        };
        world.when(Duration::from_secs(10), driven).await;
        world.abort(&long, generation).await;
    }
    world.end(&long).await;
    // Nobody can wake a driver but the tick.
    let short = world
        .run(&LONG.replace("id: long", "id: short").replace("1000", "1"))
        .await;
    let view = world.view(&short).await;
    assert!(!view.summary.status.is_terminal());
    without(world, "RunActionsPolicy", "Wake");
    allowed(world, "TickFunction", "states:SendTaskSuccess").await;
}

/// Actions that no deed here comes to need, by policy, each with what needs it.
const RARE: [(&str, &str, &str); 5] = [
    (
        "ApiFunction",
        "states:SendTaskSuccess",
        "a stop of a run parked under the machine of 0.1.0, whose token is answered in its form",
    ),
    (
        "RunActionsPolicy",
        "states:SendTaskHeartbeat",
        "an entry whose time lies before the one on record: is its token live?",
    ),
    (
        "SettleFunction",
        "dynamodb:PutItem",
        "a driver that dies of a run that is to be stopped: the end has an entry in the audit",
    ),
    (
        "TickFunction",
        "dynamodb:PutItem",
        "a stop whose function died after it had marked the run: the end has an entry in the audit",
    ),
    (
        "TickFunction",
        "states:SendTaskFailure",
        "a delivery of a run's end that was lost and is made again",
    ),
];

fn is_rare(policy: &str, action: &str) -> bool {
    RARE.iter()
        .any(|(of, what, _)| policy == *of && action == *what)
}

/// Whether a statement is about what only the cloud does: delivering logs and traces.
fn cloud_only(statement: &StatementInfo) -> bool {
    let only = |action: &String| action.starts_with("logs:") || action.starts_with("xray:");
    statement.actions.iter().all(only)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_permission_is_needed_and_no_other_is() {
    // The deeds that need a statement, and what each statement is needed for in all.
    let mut needed: BTreeMap<(String, usize), Vec<Deed>> = BTreeMap::new();
    let mut used: BTreeMap<(String, usize), BTreeSet<String>> = BTreeMap::new();
    let mut statements: BTreeMap<(String, usize), StatementInfo> = BTreeMap::new();
    for deed in deeds() {
        let world = deed.worlds().await.start().await;
        deed.perform(&world).await;
        // Where a net has to catch something, something was taken away first.
        if deed != Deed::Nets {
            assert_eq!(
                world.standing.cloud.refused(),
                Vec::<String>::new(),
                "{deed:?}"
            );
        }
        for statement in world.standing.cloud.statements_used() {
            let of = (statement.policy, statement.index);
            let deeds = needed.entry(of.clone()).or_default();
            if deeds.last() != Some(&deed) {
                deeds.push(deed);
            }
            used.entry(of).or_default().insert(statement.action);
        }
        // What only a deployment with models has is not in all worlds.
        for statement in world.standing.cloud.statements() {
            statements.insert((statement.policy.clone(), statement.index), statement);
        }
        world.standing.stop().await;
    }
    statements.retain(|_, statement| statement.allows && !cloud_only(statement));
    let statements: Vec<StatementInfo> = statements.into_values().collect();
    let mut unneeded = Vec::new();
    for statement in &statements {
        let used = used
            .remove(&(statement.policy.clone(), statement.index))
            .unwrap_or_default();
        let unused = statement
            .actions
            .iter()
            .filter(|action| !used.contains(*action) && !is_rare(&statement.policy, action));
        unneeded.extend(
            unused.map(|action| format!("{} {:?}: {action}", statement.policy, statement.sid)),
        );
    }
    assert!(unneeded.is_empty(), "nothing needs these: {unneeded:#?}");
    println!(
        "{} statements, each of whose actions something needs",
        statements.len()
    );

    for statement in &statements {
        // What the tick happens to do in one telling it need not do in the next, so the last deeds come first: those in
        // which something was taken away, for the nets to catch.
        let deeds = &needed[&(statement.policy.clone(), statement.index)];
        let mut missed = false;
        for deed in deeds.iter().rev() {
            missed = is_missed(*deed, statement).await;
            if missed {
                break;
            }
        }
        assert!(missed, "{deeds:?} do not miss {statement:?}");
    }
}

/// Whether a deed comes to need a statement that was taken away.
async fn is_missed(deed: Deed, statement: &StatementInfo) -> bool {
    let world = deed.worlds().await.start().await;
    let cloud = &world.standing.cloud;
    assert!(cloud.remove_statement(&statement.policy, statement.index, None));
    let missed = || {
        let refused = world.standing.cloud.refused();
        // A policy that several roles share has a name of its own, and a refusal names the role.
        let shared = statement.policy.ends_with("Policy");
        let of = |text: &String| shared || text.contains(&statement.policy);
        let what = |text: &String| statement.actions.iter().any(|action| text.contains(action));
        refused.iter().any(|text| of(text) && what(text))
    };
    let found = tokio::select! {
        // What is refused may well break the deed.
        _ = AssertUnwindSafe(deed.perform(&world)).catch_unwind() => missed(),
        () = world.when(Duration::ZERO, async || missed()) => true,
    };
    world.standing.stop().await;
    found
}
