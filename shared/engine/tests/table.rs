//! Every state with every event: what is legal acts, what comes too late does nothing, and everything else is an error
//! that names both and changes nothing.

use serde_json::json;
use towpath_engine::{
    Answer, CallStatus, Effect, FailureKind, LossCause, Outcome, Phase, Run, Status, StopMark,
    advance, answer, due, fail, gone, hand_over, hold, kinds::BUILT_IN, poll, start, started, stop,
};

use crate::support::{
    MINUTE, approved, asked, at, changes, done, exit, gate, job, lost, new_run, plan_of, proposed,
    run,
};

/// The effect of an event on a state: legal or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It changes the run.
    Acts,
    /// It says what the run waits for, and changes nothing.
    Waits,
    /// The run is over.
    TooLate,
    /// It must not happen.
    Illegal,
}

use Verdict::{Acts, Illegal, TooLate, Waits};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Pending,
    Job,
    Held,
    Probe,
    Helper,
    Resting,
    Deciding,
    Approving,
    Starting,
    Done,
}

const PLACES: [At; 10] = [
    At::Pending,
    At::Job,
    At::Held,
    At::Probe,
    At::Helper,
    At::Resting,
    At::Deciding,
    At::Approving,
    At::Starting,
    At::Done,
];

const STATUSES: [Status; 5] = [
    Status::Running,
    Status::Blocked,
    Status::Paused,
    Status::Done,
    Status::Failed,
];

/// A run that a driver has begun.
fn begun(mut run: Run) -> Run {
    advance(&mut run, at(0)).unwrap();
    run
}

/// A run at this place, whatever its status says. Where there is a call, another job is to be gone before it.
fn run_at(status: Status, place: At) -> Run {
    let coder = || run(json!([job("coder"), job("writer")]));
    let gated = || begun(run(json!([approved(gate(json!({}))), job("writer")])));
    let mut run = match place {
        At::Pending => coder(),
        At::Job | At::Held => begun(coder()),
        At::Probe | At::Helper | At::Resting => gated(),
        At::Deciding => asked(),
        At::Approving => proposed(),
        At::Starting => {
            let mut new = new_run(1);
            new.approval = Some("May it?".to_owned());
            start(new, plan_of(json!([job("coder")]), BUILT_IN), at(0)).unwrap()
        }
        At::Done => {
            let mut run = begun(coder());
            poll(&mut run, done("x"), at(1)).unwrap();
            let left = run.effects.into_iter().find_map(|effect| match effect {
                Effect::StepLeft(step) => Some(*step),
                _ => None,
            });
            let mut back = coder();
            back.step = left.unwrap();
            back
        }
    };
    match place {
        At::Held => _ = hold(&mut run, MINUTE, "no room", at(0)).unwrap(),
        At::Helper => _ = poll(&mut run, exit(1, "red"), at(1)).unwrap(),
        At::Resting => _ = poll(&mut run, exit(75, ""), at(1)).unwrap(),
        _ => {}
    }
    run.step.replaces = coder_job().into_iter().collect();
    run.effects.clear();
    run.head.status = status;
    run
}

fn coder_job() -> Option<towpath_engine::JobRef> {
    let step = begun(run(json!([job("coder")]))).step;
    step.call().map(towpath_engine::Call::job_ref)
}

type Event = (
    &'static str,
    fn(&mut Run) -> Result<Outcome, String>,
    fn(Status, At) -> Verdict,
);

fn told<E: ToString>(result: Result<Outcome, E>) -> Result<Outcome, String> {
    result.map_err(|error| error.to_string())
}

fn unless_over(status: Status, verdict: Verdict) -> Verdict {
    if status.is_terminal() {
        TooLate
    } else {
        verdict
    }
}

fn when(legal: bool, verdict: Verdict) -> Verdict {
    if legal { verdict } else { Illegal }
}

fn calls(place: At) -> bool {
    matches!(place, At::Job | At::Held | At::Probe | At::Helper)
}

fn of_a_call(status: Status, place: At) -> Verdict {
    unless_over(
        status,
        when(status == Status::Running && calls(place), Acts),
    )
}

/// What acts at once where it fits, and is no error where it does not.
fn where_it_fits(status: Status, fits: bool) -> Verdict {
    unless_over(status, if fits { Acts } else { Waits })
}

fn of_a_human(status: Status, legal: bool) -> Verdict {
    when(status == Status::Blocked && legal, Acts)
}

/// A human answers what the step's record says is asked; where nothing is, something that never was.
fn says(run: &mut Run, said: &Answer) -> Result<Outcome, String> {
    let subject = match &run.step.phase {
        Phase::Asking(asked) => asked.subject.clone(),
        _ => "apr-99".to_owned(),
    };
    told(answer(run, &subject, said, "ann", at(9)))
}

const EVENTS: [Event; 18] = [
    (
        "advance",
        |run| told(advance(run, at(9))),
        |status, place| match (status, place) {
            (Status::Done | Status::Failed, _) => TooLate,
            (Status::Paused, _) => Waits,
            (Status::Running, At::Pending) => Acts,
            (Status::Running, At::Resting) => Waits,
            (Status::Running, place) => when(calls(place), Waits),
            (Status::Blocked, place) => {
                let asks = matches!(place, At::Deciding | At::Approving | At::Starting);
                when(asks, Waits)
            }
        },
    ),
    (
        "poll its call",
        |run| told(poll(run, CallStatus::Running, at(9))),
        |status, place| match of_a_call(status, place) {
            Acts => Waits,
            other => other,
        },
    ),
    (
        "poll its call",
        |run| told(poll(run, CallStatus::Running, at(99))),
        of_a_call,
    ),
    (
        "poll its call",
        |run| told(poll(run, done("x"), at(9))),
        of_a_call,
    ),
    (
        "poll its call",
        |run| told(poll(run, exit(1, "red"), at(9))),
        of_a_call,
    ),
    (
        "poll its call",
        |run| told(poll(run, lost(LossCause::Crashed), at(9))),
        of_a_call,
    ),
    (
        "poll its call",
        |run| told(poll(run, lost(LossCause::Killed), at(9))),
        of_a_call,
    ),
    (
        "poll its call",
        |run| told(poll(run, CallStatus::Unreadable("?".to_owned()), at(9))),
        of_a_call,
    ),
    (
        "keep its call back",
        |run| told(hold(run, MINUTE, "no room", at(9))),
        of_a_call,
    ),
    (
        "",
        |run| {
            started(run);
            Ok(run.outcome())
        },
        |status, place| where_it_fits(status, status == Status::Running && place == At::Held),
    ),
    (
        "",
        |run| {
            gone(run, &coder_job().unwrap());
            Ok(run.outcome())
        },
        |status, _| where_it_fits(status, true),
    ),
    (
        "end its rest",
        |run| told(due(run, at(2))),
        |status, place| where_it_fits(status, status == Status::Running && place == At::Resting),
    ),
    (
        "",
        |run| says(run, &Answer::Choice("red".to_owned())),
        |status, place| of_a_human(status, place == At::Deciding),
    ),
    (
        "",
        |run| says(run, &Answer::Approve { proposal: None }),
        |status, place| of_a_human(status, matches!(place, At::Approving | At::Starting)),
    ),
    (
        "",
        |run| says(run, &changes("more")),
        |status, place| of_a_human(status, place == At::Approving),
    ),
    (
        "",
        |run| says(run, &Answer::Reject { reason: None }),
        |status, place| of_a_human(status, matches!(place, At::Approving | At::Starting)),
    ),
    (
        "",
        |run| Ok(fail(run, FailureKind::Unknown, "x", None, at(9))),
        |status, _| where_it_fits(status, true),
    ),
    (
        "",
        |run| Ok(stop(run, &StopMark::new("ann", None, at(9)), at(9))),
        |status, _| where_it_fits(status, true),
    ),
];

#[test]
fn every_state_with_every_event() {
    let mut seen = [0; 4];
    for status in STATUSES {
        for place in PLACES {
            for (name, event, verdict) in EVENTS {
                let before = run_at(status, place);
                let mut run = before.clone();
                let result = event(&mut run);
                let verdict = verdict(status, place);
                let case = format!("{name} when {status} and {place:?}: {result:?}");
                seen[verdict as usize] += 1;
                match verdict {
                    Acts => assert!(result.is_ok() && run != before, "{case}"),
                    Waits => {
                        assert_eq!(result, Ok(before.outcome()), "{case}");
                        assert_ne!(result, Ok(Outcome::Noop), "{case}");
                    }
                    TooLate => assert_eq!(result, Ok(Outcome::Noop), "{case}"),
                    Illegal => {
                        let error = result.as_ref().expect_err(&case);
                        // A human is told of the question; anybody else of the state and the event.
                        let names = match name {
                            "" => ["the run does not wait for", "this is a", "has not begun"]
                                .iter()
                                .any(|words| error.contains(words)),
                            _ => [name, &status.to_string(), before.step.phase.name()]
                                .iter()
                                .all(|part| error.contains(part)),
                        };
                        assert!(names, "{case}");
                    }
                }
                if verdict != Acts {
                    assert_eq!(run, before, "{case}");
                }
            }
            driver_events(status, place);
        }
    }
    assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
    assert_eq!(seen.iter().sum::<i32>(), 5 * 10 * 18);
}

/// A driver's death or handover changes which execution drives a live run and nothing else, whatever the run is at.
fn driver_events(status: Status, place: At) {
    let before = run_at(status, place);
    let mut handed = before.clone();
    hand_over(&mut handed);
    let mut died = before.clone();
    towpath_engine::driver_died(&mut died, "aborted", MINUTE, at(9));
    let more = u32::from(!status.is_terminal());
    for run in [&mut handed, &mut died] {
        assert_eq!(run.head.generation, before.head.generation + more);
        run.head.generation = before.head.generation;
        run.head.driver = before.head.driver;
        assert_eq!(*run, before);
    }
}

#[test]
fn a_phase_is_named_in_one_word() {
    for (place, name, outcome) in [
        (At::Pending, "pending", "Continue"),
        (At::Job, "calling", "AwaitingJob"),
        (At::Held, "calling", "AwaitingGate"),
        (At::Resting, "resting", "AwaitingGate"),
        (At::Done, "done", "Continue"),
    ] {
        let run = run_at(Status::Running, place);
        assert_eq!(run.step.phase.name(), name);
        assert!(format!("{:?}", run.outcome()).starts_with(outcome));
        assert_eq!(run_at(Status::Paused, place).outcome(), Outcome::Paused);
    }
    assert_eq!(
        run_at(Status::Blocked, At::Starting).step.phase.name(),
        "asking"
    );
}

#[test]
fn an_illegal_event_is_told_in_a_sentence() {
    let mut run = run(json!([job("coder")]));
    let error = poll(&mut run, CallStatus::Running, at(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "run run_00000000000000000000000001 cannot poll its call: it is running at step 0, which is pending; \
         it waits for no call"
    );
}

#[test]
fn a_step_that_no_kind_carries_on_does_not_begin() {
    let mut run = run(json!([{"agentKind": "coder"}]));
    let before = run.clone();
    let error = advance(&mut run, at(1)).unwrap_err().to_string();
    assert!(error.contains("no kind claims the step"), "{error}");
    assert_eq!(run, before);
}
