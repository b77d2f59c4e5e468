//! What survives the death of the process.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use towpath_clock::Clock;

use super::machine::machine;
use super::{Call, MACHINE, NOW, World, output, states, work};
use crate::store::Store;
use crate::store::fuse::Fuse;
use crate::time;

const TOKEN: &str = "invoke.waitForTaskToken";
const OVER: &str = "Towpath.Over";

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join("stepfunctions.sqlite")
}

/// Dies without a word, and opens again at the same time.
fn die(world: World, file: &Path) -> World {
    let clock = world.clock.clone();
    drop(world);
    World::open(Some(file), clock)
}

#[tokio::test]
async fn a_parked_token_stays_valid_and_its_function_is_not_called_again() {
    let dir = TempDir::new().unwrap();
    let mut world = World::open(Some(&file(&dir)), Clock::manual(NOW));
    world.define(work(TOKEN, json!({})));
    let execution = world.start("e", json!({})).await;
    let call = world.call().await;
    let token = call.token();
    call.returns(json!(1));
    world.until_event(&execution, "TaskSubmitted", 1).await;

    let mut world = die(world, &file(&dir));
    let answer = json!({ "taskToken": token, "output": "2" });
    assert_eq!(
        world.ask("SendTaskSuccess", answer.clone()).await.0,
        503,
        "not before it is resumed"
    );
    world.sfn.resume();
    world.api("SendTaskSuccess", answer).await;
    assert_eq!(output(&world.closed(&execution).await), json!(2));
    assert_eq!(world.sfn.counts().invocations, 1);
}

#[tokio::test]
async fn a_task_in_flight_is_entered_again_with_a_new_token() {
    let dir = TempDir::new().unwrap();
    let mut world = World::open(Some(&file(&dir)), Clock::manual(NOW));
    world.define(work(TOKEN, json!({})));
    let execution = world.start("e", json!({})).await;
    let lost = world.call().await;

    let mut world = die(world, &file(&dir));
    assert!(
        world.calls.try_recv().is_err(),
        "nothing is called before it is resumed"
    );
    world.sfn.resume();
    world.sfn.resume();
    let again = world.call().await;
    assert_ne!(again.token(), lost.token());
    assert_eq!(
        again.payload["entered"],
        json!(time::iso(NOW + 1)),
        "told from the lost entry"
    );
    let old = json!({ "taskToken": lost.token(), "output": "1" });
    assert_eq!(world.refused("SendTaskSuccess", old).await, "TaskTimedOut");
    world.succeed(&again.token(), json!(2)).await;
    assert_eq!(output(&world.closed(&execution).await), json!(2));
    assert!(
        world.calls.try_recv().is_err(),
        "a second resume does nothing"
    );
    assert_eq!(
        world.sfn.transitions_of(&execution),
        2,
        "AWS would not bill our restart"
    );
}

#[tokio::test]
async fn timeouts_and_backoffs_go_on_where_they_were() {
    let dir = TempDir::new().unwrap();
    let world = World::open(Some(&file(&dir)), Clock::manual(NOW));
    let fields = json!({
        "TimeoutSeconds": 100,
        "Retry": [
            { "ErrorEquals": ["States.Timeout"], "IntervalSeconds": 1, "MaxAttempts": 1 },
            { "ErrorEquals": ["Busy"], "IntervalSeconds": 100 },
        ],
    });
    world.define(work(TOKEN, fields));
    let execution = world.start("e", json!({})).await;
    world.advance_ms(50_000);
    let mut world = die(world, &file(&dir));
    world.sfn.resume();
    world.call().await.returns(json!(1));
    world.until_event(&execution, "TaskSubmitted", 1).await;
    let mut world = die(world, &file(&dir));
    // What came due while nobody was there is done at once.
    world.advance_ms(101_000);
    world.sfn.resume();
    world.until_event(&execution, "TaskTimedOut", 1).await;
    world.advance_ms(1_000);
    let call = world.call().await;
    assert_eq!(call.payload["retry"], 1);
    call.fails("Busy");
    world.until_event(&execution, "TaskFailed", 1).await;
    let mut world = die(world, &file(&dir));
    world.advance_ms(100_000);
    world.sfn.resume();
    let call = world.call().await;
    assert_eq!(call.payload["retry"], 2);
    world.succeed(&call.token(), json!(1)).await;
    assert_eq!(world.closed(&execution).await["status"], "SUCCEEDED");
}

#[tokio::test]
async fn an_execution_keeps_the_definition_it_started_with() {
    let dir = TempDir::new().unwrap();
    let version = |n: u64| work(TOKEN, json!({ "Output": n }));
    let mut world = World::open(Some(&file(&dir)), Clock::manual(NOW));
    world.define(version(1));
    let old = world.start("old", json!({})).await;
    let call = world.call().await;
    let token = call.token();
    call.returns(json!(1));
    world.until_event(&old, "TaskSubmitted", 1).await;
    world.define(version(2));

    let mut world = die(world, &file(&dir));
    world.define(version(3));
    world.sfn.resume();
    let new = world.start("new", json!({})).await;
    let call = world.call().await;
    world.succeed(&token, json!({})).await;
    assert_eq!(output(&world.closed(&old).await), json!(1));
    world.succeed(&call.token(), json!({})).await;
    assert_eq!(output(&world.closed(&new).await), json!(3));
}

#[tokio::test]
async fn what_is_closed_stays_closed_and_is_told_once_in_order() {
    let dir = TempDir::new().unwrap();
    let mut world = World::open(Some(&file(&dir)), Clock::manual(NOW));
    world.define(states(json!({ "A": { "Type": "Succeed" } })));
    let execution = world.start("e", json!({})).await;
    let before = world.closed(&execution).await;
    // The second telling is written down as told just after the listener was called.
    while world
        .sfn
        .driver
        .read(|store| store.next_notice())
        .unwrap()
        .is_some()
    {
        tokio::task::yield_now().await;
    }
    let mut world = die(world, &file(&dir));
    world.sfn.resume();
    assert_eq!(world.describe(&execution).await, before);
    let again = json!({ "stateMachineArn": MACHINE, "name": "e" });
    assert_eq!(
        world.refused("StartExecution", again).await,
        "ExecutionAlreadyExists"
    );
    tokio::task::yield_now().await;
    assert!(world.changes.try_recv().is_err());
}

#[tokio::test]
async fn a_file_is_driven_by_one_process_at_a_time() {
    let dir = TempDir::new().unwrap();
    let world = World::open(Some(&file(&dir)), Clock::manual(NOW));
    world.define(states(json!({ "A": { "Type": "Succeed" } })));
    assert!(matches!(
        Store::open(Some(&file(&dir))),
        Err(crate::Error::InUse)
    ));
    world.sfn.shutdown().await;
    let next = World::open(Some(&file(&dir)), Clock::manual(NOW));
    assert!(
        next.sfn
            .driver
            .read(|store| store.machine(MACHINE))
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_file_of_another_version_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(Store::open(Some(&file(&dir))).unwrap());
    let connection = rusqlite::Connection::open(file(&dir)).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(
        Store::open(Some(&file(&dir))),
        Err(crate::Error::Corrupt(_))
    ));
}

/// Plays an engine that drives `advance → poll-job (throttled once) → poll-gate → over`, over as many lives as it takes.
#[derive(Default)]
struct Engine {
    /// The last token it was given, and what comes next: sent again until the answer is heard.
    owed: Option<(String, &'static str)>,
    /// Functions whose wait was ended with a 200.
    acknowledged: Vec<String>,
    throttled: bool,
    told: Vec<String>,
    /// Whether it lets the function's return arrive before it sends the token.
    patient: bool,
}

impl Engine {
    const EXECUTION: &str = "arn:aws:states:eu-central-1:123456789012:execution:m:e";

    /// One life. `true` once the execution is closed, `false` when the process has died.
    async fn live(&mut self, world: &mut World) -> bool {
        let start = json!({ "stateMachineArn": MACHINE, "name": "e", "input": r#"{"run":"r","generation":1}"# });
        let (status, answer) = world.ask("StartExecution", start).await;
        match status {
            200 => {}
            503 => return false,
            _ => assert_eq!(answer["__type"], "ExecutionAlreadyExists", "{answer}"),
        }
        let mut idle = 0;
        loop {
            for _ in 0..if self.patient { 10 } else { 0 } {
                tokio::task::yield_now().await;
            }
            if let Some((token, next)) = self.owed.take()
                && !self.send(world, token, next).await
            {
                return false;
            }
            while let Ok(change) = world.changes.try_recv() {
                self.told.push(change.status);
            }
            match world.calls.try_recv() {
                Ok(call) => self.act(call),
                Err(_) if is_dead(world) || !world.sfn.driver.is_ready() => return false,
                Err(_)
                    if world.describe(Self::EXECUTION).await["status"] == "SUCCEEDED"
                        && world
                            .sfn
                            .driver
                            .read(|store| store.next_notice())
                            .unwrap()
                            .is_none() =>
                {
                    return true;
                }
                Err(_) => {
                    idle += 1;
                    if idle % 20 == 0 {
                        world.advance_ms(500);
                    }
                    assert!(
                        idle < 5_000,
                        "stuck: {:?}",
                        world.events(Self::EXECUTION).await
                    );
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn act(&mut self, call: Call) {
        assert!(
            !self.acknowledged.contains(&call.function),
            "an answer that was acknowledged is forgotten"
        );
        let next = match call.function.as_str() {
            "advance" => "poll-job",
            "poll-job" if !self.throttled => {
                self.throttled = true;
                return call.fails("Towpath.Throttled");
            }
            "poll-job" => "poll-gate",
            _ => OVER,
        };
        self.owed = Some((call.token(), next));
        call.returns(Value::Null);
    }

    /// Sends a token; `false` when the process has died of it.
    async fn send(&mut self, world: &World, token: String, next: &'static str) -> bool {
        let (operation, body) = match next {
            OVER => (
                "SendTaskFailure",
                json!({ "taskToken": token, "error": OVER }),
            ),
            _ => {
                let output = json!({ "next": next }).to_string();
                (
                    "SendTaskSuccess",
                    json!({ "taskToken": token, "output": output }),
                )
            }
        };
        let (status, answer) = world.ask(operation, body).await;
        match status {
            200 => self.acknowledged.push(
                match next {
                    "poll-job" => "advance",
                    "poll-gate" => "poll-job",
                    _ => "poll-gate",
                }
                .to_owned(),
            ),
            503 => {
                self.owed = Some((token, next));
                return false;
            }
            // It counted before the process died, or its task was entered again.
            _ => assert_eq!(answer["__type"], "TaskTimedOut", "{answer}"),
        }
        true
    }
}

/// The fuse of the store, if it has blown.
fn blown(world: &World) -> Option<Fuse> {
    let mut fuse = None;
    let look = |store: &mut Store| fuse = store.fuse.filter(|fuse| fuse.blown);
    world.sfn.driver.with_store_mut(look);
    fuse
}

fn is_dead(world: &World) -> bool {
    blown(world).is_some_and(|fuse| !fuse.full)
}

/// One run of the engine that dies at a write, or finds the disk full there, and goes on; `false` if there was no such
/// write.
async fn goes_on_after(fuse: Fuse, patient: bool) -> bool {
    let dir = TempDir::new().unwrap();
    let mut world = World::open(Some(&file(&dir)), Clock::manual(NOW));
    world.define(machine());
    world
        .sfn
        .driver
        .with_store_mut(|store| store.fuse = Some(fuse));
    let mut engine = Engine {
        patient,
        ..Engine::default()
    };
    let undisturbed = engine.live(&mut world).await;
    if !undisturbed && fuse.full {
        let mut tries = 0;
        while !engine.live(&mut world).await {
            tries += 1;
            assert!(tries < 100, "the store is not opened again: {fuse:?}");
            tokio::task::yield_now().await;
        }
    } else if !undisturbed {
        world = die(world, &file(&dir));
        world.sfn.resume();
        assert!(engine.live(&mut world).await, "it dies only once");
    }
    let done = world.describe(Engine::EXECUTION).await;
    assert_eq!(output(&done), json!("ended"), "disturbed by {fuse:?}");
    let events = world.events(Engine::EXECUTION).await;
    let count = |kind: &str| events.iter().filter(|event| *event == kind).count();
    assert_eq!(count("TaskSucceeded"), 2, "{events:?}");
    assert_eq!(count("ExecutionStarted"), 1);
    while let Ok(change) = world.changes.try_recv() {
        engine.told.push(change.status);
    }
    for status in ["RUNNING", "SUCCEEDED"] {
        assert!(
            engine.told.iter().any(|told| told == status),
            "nobody was told of {status}"
        );
    }
    // A full disk may be over before anybody asks for something.
    !undisturbed || blown(&world).is_some()
}

/// Disturbs the engine at its first write, its second, and so on, and counts the writes at which it was disturbed.
async fn disturbed_everywhere(write_is_done: bool, full: bool, patient: bool) -> u64 {
    let mut writes_left = 0;
    loop {
        let fuse = Fuse {
            writes_left,
            write_is_done,
            full,
            blown: false,
        };
        if !goes_on_after(fuse, patient).await {
            return writes_left;
        }
        writes_left += 1;
    }
}

#[tokio::test]
async fn death_at_any_write_loses_nothing_and_does_nothing_twice() {
    let mut deaths = 0;
    for (write_is_done, patient) in [(false, false), (false, true), (true, false), (true, true)] {
        deaths += disturbed_everywhere(write_is_done, false, patient).await;
    }
    assert!(deaths >= 40, "every write is one to die at, not {deaths}");
}

#[tokio::test]
async fn a_full_disk_at_any_write_loses_nothing_and_does_nothing_twice() {
    let mut refusals = 0;
    for patient in [false, true] {
        refusals += disturbed_everywhere(false, true, patient).await;
    }
    assert!(refusals >= 10, "every write is one to fail, not {refusals}");
}
