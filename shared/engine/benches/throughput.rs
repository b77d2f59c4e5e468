//! Whole steps per second of processor time, on one core: `cargo bench -p towpath-engine`.
//!
//! Runs of five steps, action by action as the service does them: the records are read from JSON, the action is decided,
//! and the records are written to JSON. A step is two actions: its call begins, and its call's answer is folded in. Two
//! sorts of step: inline (a simulated agent, whose driver goes on at once) and jobs (the driver's token and what it waits
//! for go into the mailbox in between). It prints each figure beside its target and judges nothing, since machines differ.
//!
//! The release profile is made for small functions; `CARGO_PROFILE_BENCH_OPT_LEVEL=3` measures the code at its quickest.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(clippy::unwrap_used, reason = "whoever measures may panic")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use towpath_engine::{
    AgentAnswer, CallResult, CallStatus, Effect, Fence, Head, Illegal, NewRun, Outcome,
    PAYLOAD_FORM, Pin, Plan, Reason, Run, RunId, Step, StepSpec, Timestamp, Wait, advance, poll,
    reason, start,
};

const NOW: Timestamp = Timestamp(1_760_000_000_000);
const STEPS: u16 = 5;

fn main() {
    println!("whole steps per second of processor time, in runs of {STEPS} steps");
    let inline = plan(r#"{ "kind": "simulated", "output": "ok" }"#);
    let jobs = plan(r#"{ "kind": "process", "command": ["make"] }"#);
    print("inline", measure(&inline), 240_000.0);
    print("jobs", measure(&jobs), 200_000.0);
}

fn plan(runtime: &str) -> Arc<Plan> {
    let step = format!(r#"{{ "agentKind": "coder", "runtime": {runtime} }}"#);
    let step: StepSpec = serde_json::from_str(&step).unwrap();
    Arc::new(Plan::new(vec![step; usize::from(STEPS)]).unwrap())
}

/// The records of a run as a store holds them.
struct Stored {
    head: Vec<u8>,
    step: Vec<u8>,
    wait: Vec<u8>,
    plan: Arc<Plan>,
}

impl Stored {
    fn run(&self) -> Run {
        let (head, step): (Head, Step) = (get(&self.head), get(&self.step));
        Run::new(head, step, Arc::clone(&self.plan))
    }

    fn wait(&self) -> Wait {
        get(&self.wait)
    }

    /// Writes the records; tells whether the run goes on.
    fn keep(&mut self, mut run: Run, wait: &Wait) -> bool {
        run.head.rev += 1;
        for effect in run.effects.drain(..) {
            if let Effect::StepLeft(step) = effect {
                black_box(serde_json::to_vec(&step).unwrap());
            }
        }
        put(&mut self.head, &run.head);
        put(&mut self.step, &run.step);
        put(&mut self.wait, wait);
        !run.head.status.is_terminal()
    }

    /// One action: load, decide, write.
    fn act(&mut self, decide: impl FnOnce(&mut Run) -> Result<Outcome, Illegal>) -> bool {
        let (mut run, wait) = (self.run(), self.wait());
        black_box(decide(&mut run)).unwrap();
        // A simulated agent is called at once: its driver does not wait.
        let is_job = run
            .step
            .call()
            .is_some_and(|call| call.runtime == "process");
        let wait = match reason(&run).filter(|_| is_job) {
            _ if run.head.status.is_terminal() => wait.over(NOW),
            Some(reason) => begin(&wait, reason),
            None => wait.driven_on(NOW),
        };
        self.keep(run, &wait)
    }
}

/// Writes a record where the last one was.
fn put<T: Serialize>(to: &mut Vec<u8>, record: &T) {
    to.clear();
    serde_json::to_writer(to, record).unwrap();
}

fn get<T: DeserializeOwned>(from: &[u8]) -> T {
    serde_json::from_str(std::str::from_utf8(from).unwrap()).unwrap()
}

fn begin(wait: &Wait, reason: Reason) -> Wait {
    let fence = Fence {
        generation: 1,
        entered: NOW,
        retry: 0,
    };
    wait.begin(fence, "token", PAYLOAD_FORM, reason, NOW)
        .unwrap()
}

/// Begins a call and folds its answer in, each of them an action of its own.
fn step(stored: &mut Stored) -> bool {
    stored.act(|run| advance(run, NOW));
    stored.act(|run| poll(run, answer(), NOW))
}

fn answer() -> CallStatus {
    let answer = AgentAnswer {
        output: "an answer of some forty characters' length".to_owned(),
        ..AgentAnswer::default()
    };
    CallStatus::Ended(CallResult::Done(answer.checked().unwrap()))
}

/// Whole steps per second of processor time: the best of five passes, since whatever else the machine does only slows.
fn measure(plan: &Arc<Plan>) -> f64 {
    let pass = || {
        let (began, spent) = (Instant::now(), processor_time());
        let mut steps = 0u32;
        while began.elapsed() < Duration::from_millis(800) {
            let mut stored = fresh(plan);
            steps += 1;
            while step(&mut stored) {
                steps += 1;
            }
        }
        f64::from(steps) / (processor_time() - spent).as_secs_f64()
    };
    (0..5).map(|_| pass()).fold(0.0, f64::max)
}

fn fresh(plan: &Arc<Plan>) -> Stored {
    let new = NewRun {
        id: RunId::from_ulid("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
        workspace: "acme".parse().unwrap(),
        block: "login".parse().unwrap(),
        pipeline: Pin {
            id: "build".parse().unwrap(),
            version: 1,
            name: "Build".to_owned(),
            steps: plan.len(),
        },
        initiated_by: Some("ada".to_owned()),
        approval: None,
        replaces: Vec::new(),
    };
    let run = start(new, Arc::clone(plan), NOW).unwrap();
    let wait = Wait::fresh(reason(&run), NOW);
    Stored {
        head: serde_json::to_vec(&run.head).unwrap(),
        step: serde_json::to_vec(&run.step).unwrap(),
        wait: serde_json::to_vec(&wait).unwrap(),
        plan: Arc::clone(plan),
    }
}

/// The time this thread has spent on a processor, where the system tells (Linux); else the time that has passed.
fn processor_time() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(
        || Instant::now().duration_since(*STARTED),
        Duration::from_nanos,
    )
}

static STARTED: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

fn print(what: &str, steps: f64, target: f64) {
    let times = steps / target;
    println!("{what:8} {steps:>10.0} steps/s  ({times:.2} of the target of {target:.0})");
}
