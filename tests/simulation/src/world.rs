//! One simulated world: the services over memory, and what people and time do to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use towpath_api_types::{RestartRun, RunView, StartRun, StopRun};
use towpath_clock::Clock;
use towpath_engine::{Answer, Block, Pipeline, RunId, Status, StepIndex};
use towpath_jobs::{Registry, Runtime};
use towpath_jobs_executor::{Executors, Ports as ExecutorPorts};
use towpath_jobs_simulated::SimulatedRuntime;
use towpath_service::{App, Caller, News, NoSockets, Ports, Random, Vault};
use towpath_store::{Idempotency, MemoryObjects, Store};
use towpath_table::{Item, Key, integer, text};

use crate::chance::{Chance, mortal};
use crate::executors::{CAPABILITY, Fleet};
use crate::invariants;
use crate::jobs::MemoryJobs;
use crate::machine::{MOMENT, MemoryMachine};
use crate::table::FaultyTable;
use crate::trace::Trace;
use crate::work::Work;

/// The pipelines of every world.
fn pipelines() -> [serde_json::Value; 4] {
    let process = json!({ "kind": "process", "command": ["work"] });
    let probe = json!({ "kind": "command", "command": ["look"] });
    [
        json!({ "id": "code", "steps": [
            { "agentKind": "coder", "requiresApproval": true, "runtime": process },
            { "agentKind": "printer", "runtime": { "kind": "simulated", "output": "Printed." } },
        ]}),
        json!({ "id": "gate", "steps": [
            { "agentKind": "ci", "gate": { "probe": probe, "attempts": 2,
                "helper": { "agentKind": "ci-fixer", "runtime": process } } },
            { "agentKind": "writer", "requiresApproval": true, "runtime": { "kind": "simulated", "output": "A draft." } },
        ]}),
        json!({ "id": "asks", "steps": [
            { "agentKind": "planner", "runtime": { "kind": "simulated", "output": "A plan.",
                "asks": { "question": "Which?", "options": ["a", "b"] } } },
            { "agentKind": "coder", "runtime": process },
            { "agentKind": "coder", "requiresApproval": true, "runtime": process },
        ]}),
        json!({ "id": "away", "steps": [
            { "agentKind": "coder", "runtime": mission(false) },
            { "agentKind": "coder", "requiresApproval": true, "runtime": mission(true) },
            { "agentKind": "coder", "runtime": process },
        ]}),
    ]
}

/// A step that an executor carries out; only one that is resumable if it runs long.
fn mission(long: bool) -> serde_json::Value {
    json!({ "kind": "command", "command": ["work"], "on": { "executor": [CAPABILITY] }, "longRunning": long })
}

const BLOCKS: [&str; 3] = ["one", "two", "three"];
const WORKSPACE: &str = "sim";
/// 2026-01-01T00:00:00Z.
const BEGINNING: u64 = 1_767_225_600_000;

/// The promises made to people: what they were told has been done.
#[derive(Debug, Default)]
struct Promises {
    answers: Vec<(RunId, String)>,
    stops: Vec<RunId>,
}

/// A simulated world.
#[derive(Clone)]
pub struct World {
    pub(crate) chance: Chance,
    pub(crate) trace: Trace,
    pub(crate) clock: Clock,
    work: Work,
    table: FaultyTable,
    machine: MemoryMachine,
    jobs: MemoryJobs,
    pub(crate) app: App,
    pub(crate) caller: Caller,
    promises: Arc<Mutex<Promises>>,
    executors: FaultyTable,
    fleet: Fleet,
}

impl World {
    /// Makes a world of this seed, with its pipelines and blocks.
    pub async fn new(seed: u64, faults: u32) -> Self {
        let chance = Chance::new(seed, faults);
        let (trace, clock, work) = (Trace::default(), Clock::manual(BEGINNING), Work::default());
        let table = FaultyTable::new(chance.clone(), trace.clone(), invariants::change);
        let rule = invariants::executors_change;
        let executors = FaultyTable::new(chance.clone(), trace.clone(), rule);
        let machine =
            MemoryMachine::new(chance.clone(), trace.clone(), clock.clone(), work.clone());
        let jobs = MemoryJobs::new(chance.clone(), trace.clone(), clock.clone(), work.clone());
        let store = Store::new(
            Arc::new(table.clone()),
            Arc::new(executors.clone()),
            Arc::new(MemoryObjects::default()),
        );
        let missions = Executors::new(ExecutorPorts::new(
            &store,
            Arc::new(NoSockets),
            Arc::new(News::Nowhere),
            clock.clone(),
        ));
        let runtimes: [Arc<dyn Runtime>; 3] = [
            Arc::new(jobs.clone()),
            Arc::new(SimulatedRuntime),
            Arc::new(missions.runtime()),
        ];
        let app = App::with(
            Ports {
                store,
                machine: Arc::new(machine.clone()),
                runtimes: Registry::new(runtimes),
                clock: clock.clone(),
                random: Random::seeded(seed),
                vault: Vault::of_text("key"),
                news: News::Nowhere,
                sockets: Arc::new(NoSockets),
            },
            // Few, so that executions hand over.
            u32::try_from(3 + chance.below(20)).unwrap(),
            Duration::from_secs(20),
            Vec::new(),
        );
        machine.drives(app.clone());
        jobs.tells(app.clone());
        let world = Self {
            chance,
            trace,
            clock,
            work,
            table,
            machine,
            jobs,
            app,
            caller: Caller {
                workspace: WORKSPACE.parse().unwrap(),
                name: "somebody".to_owned(),
            },
            promises: Arc::default(),
            executors,
            fleet: Fleet::default(),
        };
        world.furnish().await;
        world.chance.kindly(world.fleet.dial_in(&world)).await;
        world
    }

    async fn furnish(&self) {
        let workspace = &self.caller.workspace;
        for pipeline in pipelines() {
            let pipeline: Pipeline = serde_json::from_value(pipeline).unwrap();
            assert_eq!(pipeline.errors(), []);
            while self
                .app
                .store
                .put_pipeline(workspace, &pipeline)
                .await
                .is_err()
            {}
        }
        for block in BLOCKS {
            let block = json!({ "id": block, "workspace": WORKSPACE, "title": block });
            let block: Block = serde_json::from_value(block).unwrap();
            while self.app.store.put_block(&block).await.is_err() {}
        }
    }

    /// The violation of an invariant, if there was one, with what led there.
    pub fn violation(&self) -> Option<String> {
        self.trace.violation()
    }

    /// The number of events, and of faults among them.
    pub fn counts(&self) -> (u64, u32) {
        (self.trace.count(), self.chance.injected())
    }

    /// The number of missions that executors have had, and that are over.
    pub fn missions(&self) -> u64 {
        self.executors.look(|items| {
            let over = items.iter().filter(|(key, item)| {
                let had = key.sk == "MISSION" && item.contains_key("executor");
                had && invariants::mission_is_over(item)
            });
            over.count() as u64
        })
    }

    fn promised<T>(&self, f: impl FnOnce(&mut Promises) -> T) -> T {
        f(&mut self.promises.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The runs there are, with their heads.
    fn heads(&self) -> BTreeMap<RunId, Item> {
        self.table.look(|items| {
            let heads = items.iter().filter(|(key, _)| key.sk == "NOW#HEAD");
            heads
                .map(|(key, item)| (key.pk.parse().unwrap(), item.clone()))
                .collect()
        })
    }

    fn some_run(&self) -> Option<RunId> {
        let runs: Vec<_> = self.heads().into_keys().collect();
        (!runs.is_empty()).then(|| self.chance.pick(&runs))
    }

    /// Lives through so many events of people and time, with faults.
    pub async fn live(&self, events: u32) {
        for _ in 0..events {
            self.event();
            let pause = self.chance.below(30);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.check();
            if self.trace.violation().is_some() {
                return;
            }
        }
    }

    /// Checks what must hold at every moment.
    fn check(&self) {
        if let Err(what) = self.table.look(invariants::all) {
            self.trace.violated(what);
        }
        let missing = self.promised(|promises| {
            self.table.look(|items| {
                let missing = promises.answers.iter().find(|(run, subject)| {
                    !items.contains_key(&Key::new(run.as_str(), format!("AUDIT#{subject}")))
                });
                missing.cloned()
            })
        });
        if let Some(lost) = missing {
            self.trace.violated(format!("an answer was lost: {lost:?}"));
        }
    }

    /// One event.
    fn event(&self) {
        match self.chance.below(22) {
            16..=21 => self.fleet.act(self),
            0 | 1 => self.start(),
            2..=5 => self.answer(),
            6 => self.stop(),
            7 => self.again(),
            8 => {
                if self.chance.fault(2) {
                    self.machine.abort_one();
                }
            }
            9..=12 => self.pass(1000 * self.chance.below(90)),
            13 | 14 => self.pass(60_000 * self.chance.below(60)),
            _ => self.pass(3_600_000 * self.chance.below(30)),
        }
    }

    /// Lets time go by, and does what becomes due.
    fn pass(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
        self.jobs.tick();
        self.machine.tick();
        let shards: Vec<u16> = (0..16).filter(|_| !self.chance.fault(8)).collect();
        self.spawn(move |world| async move {
            let _ = world.app.ticker.tick(&shards).await;
        });
    }

    pub(crate) fn spawn<F>(&self, task: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (task, chance) = (task(self.clone()), self.chance.clone());
        self.work.spawn(async move {
            chance.turn().await;
            let _ = mortal(task).await;
        });
    }

    fn start(&self) {
        let ask = StartRun {
            block_id: self.chance.pick(&BLOCKS).parse().unwrap(),
            pipeline_id: self
                .chance
                .pick(&["code", "gate", "asks", "away"])
                .parse()
                .unwrap(),
            replace: self.chance.one_in(3),
        };
        let key = format!("{}-{}", ask.block_id, self.chance.below(6));
        let name = Idempotency {
            hash: format!("{ask:?}"),
            key,
        };
        let name = self.chance.one_in(3).then_some(name);
        self.trace.note(format!("start {ask:?} {name:?}"));
        for _ in 0..=u8::from(self.chance.one_in(4)) {
            let (ask, name) = (ask.clone(), name.clone());
            self.spawn(|world| async move {
                let _ = world
                    .app
                    .runs
                    .start(&world.caller, &ask, name.as_ref())
                    .await;
            });
        }
    }

    /// Somebody answers a run: what it asks, or what it asked long ago.
    fn answer(&self) {
        let Some(run) = self.some_run() else { return };
        let said = self.chance.pick(&[
            Answer::Approve { proposal: None },
            Answer::Approve { proposal: None },
            Answer::Choice("a".to_owned()),
            Answer::Choice("a".to_owned()),
            Answer::RequestChanges {
                feedback: Some("more".to_owned()),
                comments: Vec::new(),
            },
            Answer::Reject { reason: None },
            Answer::Approve {
                proposal: Some("mine".to_owned()),
            },
        ]);
        let stale = self.chance.one_in(8);
        let copies = 1 + u8::from(self.chance.one_in(5));
        for _ in 0..copies {
            let (run, said) = (run.clone(), said.clone());
            self.spawn(move |world| async move {
                let view = world.app.views.run(&world.caller, &run).await;
                let subject = match (view, stale) {
                    (Ok(view), false) => subject(&view),
                    _ => Some("apr-3".to_owned()),
                };
                if let Some(subject) = subject {
                    world.say(&run, &subject, &said).await;
                }
            });
        }
    }

    async fn say(&self, run: &RunId, subject: &str, said: &Answer) {
        let answered = self
            .app
            .answers
            .answer(&self.caller, run, subject, said)
            .await;
        self.trace
            .note(format!("{run} {subject} {said:?}: {}", answered.is_ok()));
        if answered.is_ok() {
            let promise = (run.clone(), subject.to_owned());
            self.promised(|promises| promises.answers.push(promise));
        }
    }

    fn stop(&self) {
        let Some(run) = self.some_run() else { return };
        self.spawn(|world| async move {
            let ask = StopRun::default();
            let stopped = world.app.runs.stop(&world.caller, &run, &ask).await;
            world.trace.note(format!("stop {run}: {}", stopped.is_ok()));
            if stopped.is_ok() {
                let head = &world.heads()[&run];
                if !invariants::is_over(head) && !head.contains_key("stop") {
                    let what = format!("{run} was stopped, and is neither over nor marked");
                    world.trace.violated(what);
                }
                world.promised(|promises| promises.stops.push(run));
            }
        });
    }

    /// Somebody retries or restarts a run.
    fn again(&self) {
        let Some(run) = self.some_run() else { return };
        let from = RestartRun {
            from_step: StepIndex(u16::try_from(self.chance.below(3)).unwrap()),
        };
        let retry = self.chance.one_in(2);
        self.trace.note(format!("again {run} {retry} {from:?}"));
        self.spawn(move |world| async move {
            let runs = &world.app.runs;
            let _ = match retry {
                true => runs.retry(&world.caller, &run, None).await,
                false => runs.restart(&world.caller, &run, &from, None).await,
            };
        });
    }

    /// Everything goes well from now on, and everybody answers: all must come to its end.
    pub async fn come_to_rest(&self) {
        self.chance.be_kind();
        for _ in 0..600 {
            while !self.work.is_idle() {
                tokio::time::sleep(MOMENT).await;
            }
            self.check();
            if self.trace.violation().is_some() || self.left().is_empty() {
                break;
            }
            self.answer_all().await;
            self.jobs.hurry();
            self.fleet.hurry(self);
            let now = self.clock.now_ms();
            let next = self.next().unwrap_or(now).max(now) + 1000;
            self.pass(next - now);
        }
        let left = self.left();
        if !left.is_empty() {
            let heads: Vec<_> = self.table.look(|items| {
                items
                    .iter()
                    .filter(|(key, _)| left.iter().any(|it| it.contains(&key.pk)))
                    .map(|(key, item)| format!("{key}: {item:?}"))
                    .collect()
            });
            let what = format!("something never ends: {left:#?}\n{}", heads.join("\n"));
            self.trace.violated(what);
        }
        self.kept_promises();
    }

    /// The time at which something happens next.
    fn next(&self) -> Option<u64> {
        let due = self.table.look(|items| {
            let due = items.values().filter_map(|item| integer(item, "dueAt"));
            due.min()
        });
        due.into_iter()
            .chain(self.machine.next())
            .chain(self.jobs.next())
            .min()
    }

    /// The names of what has not come to its end.
    fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = self.table.look(|items| {
            let left = items.iter().filter(|(key, item)| {
                let over = key.sk != "NOW#HEAD" || invariants::is_over(item);
                !over || item.contains_key("dueAt") || key.sk == "LOCK"
            });
            left.map(|(key, _)| key.to_string()).collect()
        });
        left.extend(self.executors.look(|items| {
            let live = items
                .iter()
                .filter(|(key, item)| key.sk == "MISSION" && !invariants::mission_is_over(item));
            live.map(|(key, _)| key.to_string()).collect::<Vec<_>>()
        }));
        left.extend(self.machine.running_now());
        left.extend(self.jobs.live().iter().map(ToString::to_string));
        left
    }

    async fn answer_all(&self) {
        for (run, head) in self.heads() {
            if text(&head, "status") != Status::Blocked.to_string() {
                continue;
            }
            let Ok(view) = self.app.views.run(&self.caller, &run).await else {
                continue;
            };
            if let Some(subject) = subject(&view) {
                let said = match subject.starts_with("dec-") {
                    true => Answer::Choice("b".to_owned()),
                    false => Answer::Approve { proposal: None },
                };
                self.say(&run, &subject, &said).await;
            }
        }
    }

    /// Whether what was acknowledged has come true.
    fn kept_promises(&self) {
        let heads = self.heads();
        let stops = self.promised(|promises| promises.stops.clone());
        for run in stops {
            if !invariants::is_over(&heads[&run]) {
                self.trace
                    .violated(format!("{run} was stopped and goes on"));
            }
        }
    }
}

/// The subject that a run asks a human about.
fn subject(view: &RunView) -> Option<String> {
    let waits = view.summary.waits_for.as_ref()?;
    (waits.reason == "human").then(|| waits.subject.clone())?
}
