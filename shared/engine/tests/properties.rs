//! Random walks over all transitions, in and out of order: whatever happens, the invariants hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use towpath_engine::{
    Answer, BlockChange, CallQuestion, CallStatus, Died, Effect, Illegal, JobId, LossCause,
    Outcome, Phase, Reason, Run, Status, Step, StepIndex, StopMark, Timestamp, advance, answer,
    driver_died, due, gone, hand_over, hold, kinds, poll, reason, retry, start, started, stop,
};

use crate::sizes::{KB, json_bytes};
use crate::support::{
    MINUTE, Random, answered, approved, asks, at, changes, done, exit, gate, job, lost, new_run,
    plan_of, run_id,
};
use crate::trial_kind::KINDS;

const WALKS: u64 = 300;
const STEPS: usize = 160;

fn random_plan(random: &mut Random) -> Value {
    let steps = (0..=random.below(5)).map(|index| {
        let step = match random.below(5) {
            0 | 1 => job("coder"),
            2 => gate(json!({"attempts": random.below(4)})),
            3 => {
                let mut alone = gate(json!({"budgetMinutes": 30}));
                alone["gate"].as_object_mut().unwrap().remove("helper");
                alone
            }
            _ if index >= 2 => job("grader"),
            _ => job("writer"),
        };
        if random.below(3) == 0 {
            approved(step)
        } else {
            step
        }
    });
    steps.collect()
}

fn text(random: &mut Random) -> String {
    ["", "good", "語", "🦀é", " \n"][random.below(5)].repeat(random.below(20))
}

fn call_status(random: &mut Random) -> CallStatus {
    match random.below(14) {
        0 | 1 => CallStatus::Running,
        12 | 13 => CallStatus::Asks(CallQuestion {
            id: ["q-1", "q-2"][random.below(2)].to_owned(),
            question: text(random),
        }),
        2 => lost(LossCause::Crashed),
        3 => lost(LossCause::Reclaimed),
        4 => lost([LossCause::TimedOut, LossCause::Killed, LossCause::Checkout][random.below(3)]),
        5 => CallStatus::Unreadable(text(random)),
        6 => exit(75, ""),
        7 => exit(1, &text(random).repeat(50)),
        8 => answered(asks(&["red", "blue"])),
        9 => done("good"),
        _ => done(&text(random)),
    }
}

fn said(random: &mut Random) -> Answer {
    match random.below(8) {
        0 | 1 => Answer::Choice(["red", "green"][random.below(2)].to_owned()),
        2 => Answer::Approve {
            proposal: Some(text(random)),
        },
        3 | 4 => Answer::Approve { proposal: None },
        5 | 6 => changes(&text(random)),
        _ => Answer::Reject {
            reason: Some(text(random)),
        },
    }
}

/// Something that happens to a run, fitting or not.
#[derive(Debug)]
enum Happening {
    Stop,
    Death(&'static str),
    Handover,
    Poll(CallStatus),
    Answer(String, Answer),
    Due,
    Hold,
    Started,
    Gone,
    Advance,
}

fn happening(run: &Run, random: &mut Random) -> Happening {
    match random.below(60) {
        0 if random.below(12) == 0 => Happening::Stop,
        1 | 2 => {
            Happening::Death(["aborted", "aborted", "aborted", "Towpath.Newer"][random.below(4)])
        }
        3 => Happening::Handover,
        4..28 => Happening::Poll(call_status(random)),
        28..38 => {
            let subject = match run.outcome() {
                Outcome::AwaitingDecision { decision } if random.below(5) > 0 => decision,
                _ => format!("apr-{}", random.below(9)),
            };
            Happening::Answer(subject, said(random))
        }
        38..43 => Happening::Due,
        43 | 44 => Happening::Hold,
        45 => Happening::Started,
        46 | 47 => Happening::Gone,
        _ => Happening::Advance,
    }
}

fn happens(run: &mut Run, what: &Happening, now: Timestamp) -> Result<Outcome, String> {
    let told = |result: Result<Outcome, Illegal>| result.map_err(|error| error.to_string());
    match what {
        Happening::Stop => Ok(stop(run, &StopMark::new("ann", Some("enough"), now), now)),
        Happening::Death(error) => Ok(match driver_died(run, error, MINUTE, now) {
            Died::Replaced { .. } => run.outcome(),
            Died::Failed | Died::Noop => Outcome::Noop,
        }),
        Happening::Handover => {
            hand_over(run);
            Ok(run.outcome())
        }
        Happening::Poll(status) => told(poll(run, status.clone(), now)),
        Happening::Answer(subject, said) => {
            answer(run, subject, said, "ann", now).map_err(|error| error.to_string())
        }
        Happening::Due => told(due(run, now)),
        Happening::Hold => told(hold(run, MINUTE, "no room", now)),
        Happening::Started => {
            started(run);
            Ok(run.outcome())
        }
        Happening::Gone => {
            if let Some(job) = run.step.replaces.first().cloned() {
                gone(run, &job);
            }
            Ok(run.outcome())
        }
        Happening::Advance => told(advance(run, now)),
    }
}

/// Does what a driver does: on a copy, with the records that are needed, taken only where it was legal.
fn act(run: &mut Run, what: &Happening, left: &BTreeMap<StepIndex, Step>, now: Timestamp) {
    let mut loaded = run.clone();
    for _ in 0..3 {
        let mut next = loaded.clone();
        match happens(&mut next, what, now) {
            Ok(Outcome::NeedsRecord { step }) => {
                loaded = loaded.with_record(step, left.get(&step).cloned());
            }
            Ok(outcome) => {
                let more = Outcome::Continue; // A job that lost its place is begun again.
                if !matches!(outcome, Outcome::Done | Outcome::JobFailed { .. }) && outcome != more
                {
                    assert_eq!(outcome, next.outcome(), "{what:?}");
                }
                *run = next;
                return;
            }
            Err(_) => {
                // An answer that names an option that does not exist, an event that does not fit.
                assert_eq!(next, loaded, "what is refused changes nothing: {what:?}");
                return;
            }
        }
    }
    panic!("the record was added, and is needed still");
}

/// The facts that must hold across the whole of a walk.
#[derive(Default)]
struct Ledger {
    jobs: BTreeSet<JobId>,
    reaped: BTreeSet<JobId>,
    numbers: BTreeSet<(String, u32)>,
    subjects: BTreeSet<String>,
    ends: u32,
}

impl Ledger {
    fn check(&mut self, before: &Run, run: &Run) {
        self.the_head_goes_forward(before, run);
        self.no_id_is_used_twice(before, run);
        self.no_job_outlives_its_run(run);
        budgets_hold(run);
        a_park_has_a_reason(run);
        clocks_are_sane(before, run);
        assert!(json_bytes(&run.head) <= KB, "{:?}", run.head);
    }

    fn the_head_goes_forward(&mut self, before: &Run, run: &Run) {
        let (was, is) = (&before.head, &run.head);
        if was.status.is_terminal() {
            assert_eq!(before, run, "a terminal run never changes again");
        }
        assert!(is.calls >= was.calls && is.epoch >= was.epoch && is.rev >= was.rev);
        assert!(is.generation >= was.generation);
        assert!(is.epoch > was.epoch || is.current >= was.current);
        assert_eq!((&is.id, is.created_at), (&was.id, was.created_at));
        let ended = run
            .effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Block(BlockChange::Ended(_))));
        let ends = u32::from(!was.status.is_terminal() && is.status.is_terminal());
        assert_eq!(u32::try_from(ended.count()).unwrap(), ends);
        self.ends += ends;
        assert!(self.ends <= 1, "exactly one end");
        assert_eq!(is.status == Status::Failed, is.failure.is_some());
        assert_eq!(is.status.is_terminal(), is.finished_at.is_some());
    }

    fn no_id_is_used_twice(&mut self, before: &Run, run: &Run) {
        for effect in &run.effects {
            if let Effect::Output(output) = effect {
                let fresh = self
                    .numbers
                    .insert((run.head.id.to_string(), output.number));
                assert!(fresh, "an output's number is used twice");
            }
        }
        let of = |run: &Run| run.step.call().or(run.step.asking_call()).cloned();
        if let Some(call) = of(run)
            && of(before).map(|call| call.id) != Some(call.id.clone())
        {
            assert!(
                self.jobs.insert(call.id.clone()),
                "{} is used twice",
                call.id
            );
            assert_eq!(call.id.run(), run.head.id);
        }
        if let Outcome::AwaitingDecision { decision } = run.outcome()
            && before.outcome() != run.outcome()
        {
            assert!(self.subjects.insert(decision), "a question's id");
        }
    }

    fn no_job_outlives_its_run(&mut self, run: &Run) {
        self.reaped
            .extend(run.effects.iter().filter_map(|effect| match effect {
                Effect::Reap(job) => Some(job.job.clone()),
                _ => None,
            }));
        if run.head.status == Status::Failed
            && let Some(call) = run.step.call().or(run.step.asking_call())
        {
            assert!(
                self.reaped.contains(&call.id),
                "{} works for nobody",
                call.id
            );
        }
        for job in &run.step.replaces {
            assert!(self.reaped.contains(&job.job), "{job:?} was not ended");
        }
        let live: Vec<_> = run.step.live_jobs().collect();
        let distinct: BTreeSet<_> = live.iter().collect();
        assert_eq!(live.len(), distinct.len());
    }
}

fn budgets_hold(run: &Run) {
    let step = &run.step;
    assert!(
        step.evictions.crashes <= 1 && step.evictions.transient <= 5,
        "{step:?}"
    );
    assert!(step.unreadable.looks <= 6);
    assert!(run.head.driver.counted <= 3);
    if step.agent_kind.as_str() == "ci"
        && let Some(gate) = kinds::gate::state(step)
    {
        assert!(gate.attempts <= gate.max_attempts, "{gate:?}");
    }
}

fn a_park_has_a_reason(run: &Run) {
    let step = &run.step;
    assert_eq!(step.index, run.head.current);
    let waits = reason(run);
    match (run.head.status, &step.phase) {
        (Status::Running, Phase::Pending) => assert_eq!(waits, None),
        (Status::Running, Phase::Calling(call)) if call.held.is_some() => {
            assert!(
                matches!(waits, Some(Reason::Rest { until, .. }) if until <= call.deadline.max(until))
            );
        }
        (Status::Running, Phase::Calling(call)) => {
            assert!(matches!(waits, Some(Reason::Job { job, .. }) if job == call.id));
        }
        (Status::Running, Phase::Resting(rest)) => {
            assert!(matches!(waits, Some(Reason::Rest { until, .. }) if until == rest.until));
            assert!(!rest.why.is_empty());
        }
        (Status::Blocked, Phase::Asking(asked)) => {
            assert!(matches!(waits, Some(Reason::Human { subject }) if subject == asked.subject));
            let decision = step
                .decisions
                .iter()
                .any(|decision| decision.id == asked.subject && decision.chosen.is_none());
            let approval = step
                .approval
                .as_ref()
                .is_some_and(|approval| approval.id == asked.subject);
            assert!(decision || approval, "the question is there to be read");
            assert!(step.paused_at.is_some());
        }
        (Status::Done, Phase::Done) => {
            assert!(waits.is_none() && run.plan.is_final(run.head.current));
        }
        (Status::Failed, phase) => {
            assert_eq!(waits, None);
            assert_ne!(phase, &Phase::Done, "a step that is done does not fail");
        }
        other => panic!("{other:?}"),
    }
}

fn clocks_are_sane(before: &Run, run: &Run) {
    let left = run.effects.iter().filter_map(|effect| match effect {
        Effect::StepLeft(step) => Some(&**step),
        _ => None,
    });
    for step in left.chain([&run.step]) {
        let began = step.started_at;
        let asks_to_begin = matches!(&step.phase, Phase::Asking(asked) if asked.about == towpath_engine::About::Start);
        assert!(
            step.phase == Phase::Pending || began.is_some() || asks_to_begin,
            "{step:?}"
        );
        assert!(step.phase != Phase::Done || step.finished_at.is_some());
        assert!(step.finished_at.is_none_or(|end| Some(end) >= began));
        assert!(step.paused_at.is_none_or(|pause| Some(pause) >= began));
    }
    let same = before.step.index == run.step.index && before.head.epoch == run.head.epoch;
    if same && before.step.started_at.is_some() {
        assert_eq!(
            run.step.started_at, before.step.started_at,
            "set once per round"
        );
    }
}

/// A retry of the run, which keeps what humans said in its step.
fn retried(run: &Run, n: u8, now: Timestamp) -> Run {
    let again = retry(run, run_id(n), None, now).unwrap();
    let said = run
        .step
        .decisions
        .iter()
        .filter(|decision| decision.chosen.is_some());
    assert!(
        said.clone()
            .all(|decision| again.step.decisions.contains(decision))
    );
    assert_eq!(
        again.step.revision.is_some(),
        run.step.revision.is_some(),
        "requested changes are kept"
    );
    assert_eq!(again.head.current, run.head.current);
    again
}

#[test]
fn whatever_happens_in_whatever_order_the_invariants_hold() {
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..WALKS {
        let random = &mut Random::new(seed);
        let plan = plan_of(random_plan(random), KINDS);
        let mut new = new_run(plan.len());
        new.approval = (random.below(8) == 0).then(|| "May it?".to_owned());
        let mut run = start(new, plan, at(0)).unwrap();
        run.head.rev = 1;
        let (mut ledger, mut left, mut now) = (Ledger::default(), BTreeMap::new(), at(0));
        let pace = [1_000, 600_000][random.below(2)];
        let (mut late, mut retries) = (0, 1);
        ledger.subjects.extend(subject_of(&run));
        for _ in 0..STEPS {
            late += u32::from(run.head.status.is_terminal());
            if late > 10 {
                if run.head.status == Status::Done || random.below(2) == 0 {
                    break;
                }
                retries += 1;
                run = retried(&run, retries, now);
                ledger.ends = 0;
                ledger.subjects.extend(subject_of(&run));
                late = 0;
            }
            let before = run.clone();
            now = Timestamp(now.0 + random.below(pace) as u64);
            let what = happening(&run, random);
            act(&mut run, &what, &left, now);
            ledger.check(&before, &run);
            // What is loaded is what was committed.
            for effect in std::mem::take(&mut run.effects) {
                if let Effect::StepLeft(step) = effect {
                    left.insert(step.index, *step);
                }
            }
            let head = serde_json::from_str(&serde_json::to_string(&run.head).unwrap()).unwrap();
            let step = serde_json::from_str(&serde_json::to_string(&run.step).unwrap()).unwrap();
            let loaded = Run::new(head, step, Arc::clone(&run.plan));
            assert_eq!(
                (&loaded.head, &loaded.step),
                (&run.head, &run.step),
                "seed {seed}"
            );
            run = loaded;
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
        "running",
        "blocked",
        "Cancelled",
        "Rejected",
        "Evicted",
        "Timeout",
        "JobFailed",
        "CompanionRejected",
        "Unknown",
    ] {
        assert!(ends.contains_key(end), "no walk ended as {end}: {ends:?}");
    }
}

fn subject_of(run: &Run) -> Option<String> {
    match run.outcome() {
        Outcome::AwaitingDecision { decision } => Some(decision),
        _ => None,
    }
}

#[test]
fn a_driver_that_only_does_its_work_always_comes_to_an_end() {
    // No stop, no death: answers come, and time passes. Nothing waits for ever.
    for seed in 0..WALKS {
        let random = &mut Random::new(seed);
        let plan = plan_of(random_plan(random), KINDS);
        let mut run = start(new_run(plan.len()), plan, at(0)).unwrap();
        let (mut left, mut now, mut actions) = (BTreeMap::new(), at(0), 0);
        while !run.head.status.is_terminal() {
            actions += 1;
            assert!(actions < 3_000, "seed {seed} goes on and on: {run:?}");
            now = now.plus(MINUTE);
            let what = match &run.step.phase {
                Phase::Pending => Happening::Advance,
                Phase::Calling(_) => Happening::Poll(call_status(random)),
                Phase::Resting(_) => Happening::Due,
                Phase::Asking(asked) if asked.call.is_some() && random.below(2) == 0 => {
                    Happening::Poll(call_status(random))
                }
                Phase::Asking(asked) if asked.about == towpath_engine::About::Decision => {
                    Happening::Answer(asked.subject.clone(), Answer::Choice("red".to_owned()))
                }
                Phase::Asking(asked) => {
                    Happening::Answer(asked.subject.clone(), Answer::Approve { proposal: None })
                }
                Phase::Done => panic!("{run:?}"),
            };
            act(&mut run, &what, &left, now);
            for effect in std::mem::take(&mut run.effects) {
                if let Effect::StepLeft(step) = effect {
                    left.insert(step.index, *step);
                }
            }
        }
    }
}
