//! Random walks over all transitions, in and out of order: whatever happens, the invariants hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use towpath_engine::*;

use crate::records::{head_bytes, stored_bytes};
use crate::support::*;

const WALKS: u64 = 300;
const STEPS: u64 = 150;

fn random_plan(random: &mut Random) -> Vec<StepSpec> {
    (0..=random.below(5))
        .map(|_| {
            let attempts = u32::try_from(random.below(4)).unwrap();
            let spec = match random.below(4) {
                0 => inline("writer"),
                1 => job("coder"),
                2 => gate("ci"),
                _ => helped("conflicts", attempts),
            };
            if random.below(2) == 0 {
                approved(spec)
            } else {
                spec
            }
        })
        .collect()
}

fn text(random: &mut Random) -> String {
    ["", "done", "語", "🦀é", " \n"][random.below(5)].repeat(random.below(20))
}

fn agent_answer(random: &mut Random) -> AgentAnswer {
    match random.below(5) {
        0 => asks(&["red", "blue"]),
        1 => asks(&[]),
        _ => said(&text(random)),
    }
}

fn job_answer(random: &mut Random) -> JobAnswer {
    match random.below(9) {
        0 | 1 => JobAnswer::Running,
        2 => evicted(random.below(3) == 0),
        3 => evicted(true),
        4 => JobAnswer::Unreadable(text(random)),
        5 if random.below(4) == 0 => JobAnswer::Failed {
            kind: FailureKind::Agent,
            error: text(random).repeat(50),
            detail: Some(text(random).repeat(50)),
        },
        _ => JobAnswer::Done(agent_answer(random)),
    }
}

fn gate_answer(random: &mut Random) -> GateAnswer {
    match random.below(6) {
        0 => GateAnswer::Passed(text(random)),
        1 => GateAnswer::Looking,
        2 => GateAnswer::Lost(text(random)),
        3 | 4 => GateAnswer::Pending,
        _ => red(),
    }
}

fn reply(random: &mut Random) -> Reply {
    match random.below(8) {
        0 | 1 => Reply::Choice(["red", "green"][random.below(2)].to_owned()),
        2 => Reply::Approve {
            proposal: Some(text(random)),
        },
        3 | 4 => approve(),
        5 | 6 => changes(&text(random)),
        _ => reject(),
    }
}

/// One thing that happens, fitting or not. What is refused must have changed nothing.
fn happens(run: &mut Run, random: &mut Random, now: Timestamp) -> Option<Outcome> {
    let before = run.clone();
    let outcome = match random.below(40) {
        0 if random.below(20) == 0 => Some(stop(run, "ada", Some(&text(random)), now)),
        1 if random.below(2) == 0 => Some(driver_died(run, "aborted", now)),
        2 => {
            hand_over(run);
            Some(Outcome::Continue)
        }
        3..10 => poll_job(run, job_answer(random), now).ok(),
        10..16 => poll_gate(run, gate_answer(random), now).ok(),
        16..20 => begin_probe(run).ok(),
        20..25 => record(run, agent_answer(random), now).ok(),
        25..32 => {
            let subject = match run.outcome() {
                Outcome::AwaitingDecision { decision } if random.below(5) > 0 => decision,
                _ => format!("apr-{}-{}", random.below(3), random.below(3)),
            };
            answer(run, &subject, &reply(random), "ada", now).ok()
        }
        _ => advance(run, now).ok(),
    };
    if outcome.is_none() {
        assert_eq!(*run, before, "what is refused changes nothing");
    }
    outcome.map(|outcome| fail_outcome(run, outcome, now))
}

/// What must hold across the whole of a walk.
#[derive(Default)]
struct Ledger {
    /// Every job ever wanted, and of which step and attempt.
    jobs: BTreeSet<JobId>,
    /// What is to be gone.
    reaped: BTreeSet<JobId>,
    /// Under which keys outputs were kept.
    outputs: BTreeSet<(StepIndex, u32)>,
    /// What humans were asked.
    subjects: BTreeSet<String>,
    /// The highest attempt of each step.
    attempts: BTreeMap<StepIndex, u32>,
    ends: u32,
}

impl Ledger {
    fn check(&mut self, before: &Run, run: &Run) {
        self.heads_go_forward(before, run);
        self.attempts_rise(before, run);
        self.no_job_outlives_its_attempt(before, run);
        budgets_hold(run);
        status_fits_activity(run);
        clocks_are_sane(before, run);
        assert!(head_bytes(&run.head) <= 1024, "{:?}", run.head);
        // A step's size is its questions' and its feedback's; without them it is small.
        if run.step.decisions.len() < 3 {
            assert!(stored_bytes(&run.step) <= 1024, "{:?}", run.step);
        }
    }

    fn heads_go_forward(&mut self, before: &Run, run: &Run) {
        let (was, is) = (&before.head, &run.head);
        if was.status.is_terminal() {
            assert_eq!(
                (was, &before.step),
                (is, &run.step),
                "a terminal run never changes again"
            );
            assert_eq!(run.changes, Changes::default(), "and wants nothing");
        }
        assert!(is.current == was.current || is.current.0 == was.current.0 + 1);
        assert!(is.epoch >= was.epoch && is.generation >= was.generation);
        assert_eq!(
            (&is.id, is.created_at, is.rev),
            (&was.id, was.created_at, was.rev)
        );
        let ended = !was.status.is_terminal() && is.status.is_terminal();
        self.ends += u32::from(ended);
        assert_eq!(
            run.changes.block.ended.is_some(),
            ended,
            "the block is told of the end, once"
        );
        assert!(self.ends <= 1, "exactly one end");
        assert_eq!(is.status == Status::Failed, is.failure.is_some());
        assert_eq!(is.status.is_terminal(), is.finished_at.is_some());
    }

    fn attempts_rise(&mut self, before: &Run, run: &Run) {
        for step in run.changes.left.iter().chain([&run.step]) {
            let highest = self.attempts.entry(step.index).or_default();
            assert!(step.attempt >= *highest, "an attempt never falls");
            *highest = step.attempt;
        }
        for output in &run.changes.outputs {
            let fresh = self.outputs.insert((output.step, output.attempt));
            assert!(fresh, "one result per attempt: {output:?}");
        }
        if let Outcome::AwaitingDecision { decision } = run.outcome()
            && before.outcome() != run.outcome()
        {
            assert!(
                self.subjects.insert(decision),
                "no question is asked under an old name"
            );
        }
    }

    fn no_job_outlives_its_attempt(&mut self, before: &Run, run: &Run) {
        self.reaped.extend(run.changes.reap.iter().cloned());
        let (was, is) = (before.step.live_job(), run.step.live_job());
        if let Some(job) = is.filter(|_| was != is) {
            assert!(
                self.jobs.insert(job.clone()),
                "no job id is used twice: {job}"
            );
            assert_eq!(job.origin().0, run.head.current);
            assert_eq!(job.origin().1, run.step.attempt);
        }
        if let Some(job) = is
            && run.head.status.is_terminal()
        {
            assert!(
                self.reaped.contains(job),
                "{job} works for a run that is over"
            );
        }
    }
}

fn budgets_hold(run: &Run) {
    let step = &run.step;
    assert!(
        step.evictions.crashes <= 1 && step.evictions.transient <= 5,
        "{step:?}"
    );
    assert!(step.unreadable <= UNREADABLE_LIMIT);
    assert!(run.head.deaths <= DRIVER_DEATHS);
    if let Some(gate) = &step.gate {
        assert!(gate.attempts <= gate.max_attempts, "{gate:?}");
    }
    if !run.head.status.is_terminal() {
        assert!(step.unreadable < UNREADABLE_LIMIT && run.head.deaths < DRIVER_DEATHS);
    }
}

fn status_fits_activity(run: &Run) {
    use Activity::{Approving, Checking, Deciding, Done, Inline, Job, Pending};
    let step = &run.step;
    assert_eq!(step.index, run.head.current);
    match (run.head.status, &step.activity) {
        (Status::Running, Pending | Inline | Job(_) | Checking(_)) => {}
        (Status::Blocked, Deciding { decision }) => {
            let open = step.decisions.last().unwrap();
            assert!(
                open.id == *decision && open.chosen.is_none(),
                "the question is there to be read"
            );
            assert!(step.paused_at.is_some());
        }
        (Status::Blocked, Approving { approval }) => {
            let open = step.approval.as_ref().unwrap();
            assert!(open.id == *approval && open.status == ApprovalStatus::Pending);
            assert_eq!(
                step.output.as_ref(),
                Some(&open.proposal),
                "there is something to approve"
            );
            assert!(step.paused_at.is_some() && !run.plan.is_final(run.head.current));
        }
        (Status::Done, Done) => assert!(run.plan.is_final(run.head.current)),
        (Status::Failed, activity) => {
            assert_ne!(activity, &Done, "a step that is done does not fail")
        }
        other => panic!("{other:?}"),
    }
}

fn clocks_are_sane(before: &Run, run: &Run) {
    for step in run.changes.left.iter().chain([&run.step]) {
        let began = step.started_at;
        assert!(
            step.activity == Activity::Pending || began.is_some(),
            "{step:?}"
        );
        assert_eq!(step.finished_at.is_some(), step.activity == Activity::Done);
        assert!(step.finished_at.is_none_or(|end| Some(end) >= began));
        assert!(step.paused_at.is_none_or(|pause| Some(pause) >= began));
    }
    let same = before.step.index == run.step.index && before.head.epoch == run.head.epoch;
    if same && before.step.started_at.is_some() {
        assert_eq!(
            run.step.started_at, before.step.started_at,
            "set once per attempt"
        );
    }
}

#[test]
fn whatever_happens_in_whatever_order_the_invariants_hold() {
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..WALKS {
        let random = &mut Random::new(seed);
        let mut run = run_of(random_plan(random));
        let (mut ledger, mut now) = (Ledger::default(), minute(0));
        let slow = random.below(2) == 0;
        let mut after_the_end = 0;
        for _ in 0..STEPS {
            after_the_end += u32::from(run.head.status.is_terminal());
            if after_the_end > 20 {
                break;
            }
            let before = run.clone();
            now = Timestamp(now.0 + random.next() % [1_000, 600_000][usize::from(slow)]);
            happens(&mut run, random, now);
            if run == before {
                continue;
            }
            ledger.check(&before, &run);
            // What is read is what was written.
            let head = serde_json::from_str(&serde_json::to_string(&run.head).unwrap()).unwrap();
            let step = serde_json::from_str(&serde_json::to_string(&run.step).unwrap()).unwrap();
            let loaded = Run::new(head, step, Arc::clone(&run.plan));
            commit(&mut run);
            assert_eq!(loaded, run, "seed {seed}");
        }
        let end = run
            .head
            .failure
            .map_or(run.head.status.to_string(), |failure| {
                format!("{:?}", failure.kind)
            });
        *ends.entry(end).or_default() += 1;
    }
    // The walks have been everywhere.
    for end in [
        "done",
        "Cancelled",
        "Rejected",
        "Agent",
        "Evicted",
        "Timeout",
        "JobFailed",
        "Unknown",
    ] {
        assert!(ends.contains_key(end), "no walk ended as {end}: {ends:?}");
    }
}

#[test]
fn a_driver_that_only_does_its_work_always_comes_to_an_end() {
    // No stop, no death: answers come, and time passes. Nothing waits for ever.
    for seed in 0..WALKS {
        let random = &mut Random::new(seed);
        let mut run = run_of(random_plan(random));
        let mut now = minute(0);
        let mut actions = 0;
        while !run.head.status.is_terminal() {
            actions += 1;
            assert!(actions < 3_000, "seed {seed} goes on and on: {run:?}");
            now = now.plus(std::time::Duration::from_secs(60));
            let outcome = match &run.step.activity {
                Activity::Job(_) => poll_job(&mut run, job_answer(random), now).unwrap(),
                Activity::Checking(Checking { probe: None }) => begin_probe(&mut run).unwrap(),
                Activity::Checking(_) => poll_gate(&mut run, gate_answer(random), now).unwrap(),
                Activity::Inline => record(&mut run, agent_answer(random), now).unwrap(),
                Activity::Pending => advance(&mut run, now).unwrap(),
                Activity::Deciding { .. } => {
                    ada(&mut run, &Reply::Choice("red".to_owned()), now).unwrap()
                }
                Activity::Approving { .. } => ada(&mut run, &approve(), now).unwrap(),
                Activity::Done => panic!("{run:?}"),
            };
            fail_outcome(&mut run, outcome, now);
            commit(&mut run);
        }
    }
}
