//! How many step actions a second the engine does, in memory, on one core: `cargo bench -p towpath-engine`.
//!
//! It prints the figure beside its target and judges nothing: machines differ.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(clippy::unwrap_used, reason = "whoever measures may panic")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use towpath_engine::*;

const TARGET: f64 = 500_000.0;
const NOW: Timestamp = Timestamp(1_760_000_000_000);

fn main() {
    let inline = plan(r#"{ "kind": "simulated", "output": "ok" }"#);
    let jobs = plan(r#"{ "kind": "process", "command": ["make"] }"#);
    println!("the engine in memory, on one core; the target is {TARGET:.0} step actions/s");
    print(
        "inline steps: advance, record",
        measure(&inline, record_inline),
    );
    print(
        "jobs: advance, poll running, poll done",
        measure(&jobs, poll_twice),
    );
}

fn plan(runtime: &str) -> Arc<Plan> {
    let step = format!(r#"{{ "agentKind": "coder", "runtime": {runtime} }}"#);
    let step: StepSpec = serde_json::from_str(&step).unwrap();
    Arc::new(Plan::new(vec![step; MAX_STEPS]).unwrap())
}

fn record_inline(run: &mut Run) -> u32 {
    act(run, |run| advance(run, NOW));
    act(run, |run| record(run, answer(), NOW));
    2
}

fn poll_twice(run: &mut Run) -> u32 {
    act(run, |run| advance(run, NOW));
    act(run, |run| poll_job(run, JobAnswer::Running, NOW));
    act(run, |run| poll_job(run, JobAnswer::Done(answer()), NOW));
    3
}

/// One action as the shell does it: on a copy, so that what was loaded is still there to compare with and to decide
/// again from. What the action wants is taken, as a commit would.
fn act(run: &mut Run, action: impl Fn(&mut Run) -> Result<Outcome, Illegal>) {
    let mut next = run.clone();
    black_box(action(&mut next)).unwrap();
    black_box(std::mem::take(&mut next.changes));
    *run = next;
}

fn answer() -> AgentAnswer {
    AgentAnswer {
        output: "an answer of some forty characters' length".to_owned(),
        ..AgentAnswer::default()
    }
}

/// Actions a second, and whole steps.
fn measure(plan: &Arc<Plan>, step: fn(&mut Run) -> u32) -> (f64, f64) {
    let pass = |length: Duration| {
        let (mut actions, mut steps, began) = (0u32, 0u32, Instant::now());
        while began.elapsed() < length {
            let mut run = fresh(plan);
            while !run.head.status.is_terminal() {
                actions += step(&mut run);
                steps += 1;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        (f64::from(actions) / seconds, f64::from(steps) / seconds)
    };
    pass(Duration::from_millis(200)); // warm
    pass(Duration::from_secs(2))
}

fn fresh(plan: &Arc<Plan>) -> Run {
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
    };
    start(new, Arc::clone(plan), NOW).unwrap()
}

fn print(what: &str, (actions, steps): (f64, f64)) {
    let times = actions / TARGET;
    println!(
        "{what:42} {actions:>12.0} step actions/s  ({times:.1} times the target; {steps:.0} whole steps/s)"
    );
}
