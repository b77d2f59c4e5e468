//! Every state with every event: what is legal acts, what comes too late does nothing, and everything else is an error
//! that names both and changes nothing.

use towpath_engine::*;

use crate::support::*;

/// What an event is to a state.
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
    Inline,
    Job,
    Helper,
    Resting,
    Looking,
    Deciding,
    Approving,
    Done,
}

const PLACES: [At; 9] = [
    At::Pending,
    At::Inline,
    At::Job,
    At::Helper,
    At::Resting,
    At::Looking,
    At::Deciding,
    At::Approving,
    At::Done,
];

const STATUSES: [Status; 5] = [
    Status::Running,
    Status::Blocked,
    Status::Paused,
    Status::Done,
    Status::Failed,
];

/// A run at this place, at a first step that is not the last one, whatever its status says.
fn run_at(status: Status, place: At) -> Run {
    let gated = || vec![helped("ci", 3), inline("next")];
    let mut run = match place {
        At::Pending => run_of(vec![inline("coder"), inline("next")]),
        At::Inline => begun(vec![inline("coder"), inline("next")]),
        At::Job => begun(vec![job("coder"), inline("next")]),
        At::Looking | At::Helper | At::Resting => begun(gated()),
        At::Deciding => asked(),
        At::Approving => proposed(),
        At::Done => {
            let mut run = begun(vec![inline("coder"), inline("next")]);
            record(&mut run, said("x"), minute(1)).unwrap();
            run.step = run.changes.left.remove(0);
            run.head.current = StepIndex(0);
            run
        }
    };
    match place {
        At::Helper => _ = poll_gate(&mut run, red(), minute(1)).unwrap(),
        At::Resting => _ = poll_gate(&mut run, GateAnswer::Pending, minute(1)).unwrap(),
        _ => {}
    }
    commit(&mut run);
    run.head.status = status;
    run
}

type Event = (
    &'static str,
    fn(&mut Run) -> Result<Outcome, String>,
    fn(Status, At) -> Verdict,
);

fn told<E: ToString>(result: Result<Outcome, E>) -> Result<Outcome, String> {
    result.map_err(|error| error.to_string())
}

/// For a run that is over everything comes too late; for any other it depends.
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

fn of_a_job(status: Status, place: At, verdict: Verdict) -> Verdict {
    let legal = status == Status::Running && matches!(place, At::Job | At::Helper);
    unless_over(status, when(legal, verdict))
}

fn of_a_probe(status: Status, place: At, verdict: Verdict) -> Verdict {
    let legal = status == Status::Running && place == At::Looking;
    unless_over(status, when(legal, verdict))
}

fn of_a_human(status: Status, place: At, asked: At) -> Verdict {
    when(status == Status::Blocked && place == asked, Acts)
}

/// Ada answers what the step's record says is asked; where nothing is, something that never was.
fn replies(run: &mut Run, reply: &Reply) -> Result<Outcome, String> {
    let subject = match &run.step.activity {
        Activity::Deciding { decision: subject } | Activity::Approving { approval: subject } => {
            subject.clone()
        }
        _ => "apr-0-1".to_owned(),
    };
    told(answer(run, &subject, reply, "ada", minute(9)))
}

const EVENTS: [Event; 22] = [
    (
        "advance",
        |run| told(advance(run, minute(9))),
        |status, place| match (status, place) {
            (Status::Done | Status::Failed, _) => TooLate,
            (Status::Paused, _) => Waits,
            (Status::Running, At::Pending) => Acts,
            (Status::Running, At::Inline | At::Job | At::Helper | At::Resting | At::Looking) => {
                Waits
            }
            (Status::Blocked, At::Deciding | At::Approving) => Waits,
            (Status::Running | Status::Blocked, _) => Illegal,
        },
    ),
    (
        "record a result",
        |run| told(record(run, said("x"), minute(9))),
        |status, place| {
            let at_work = matches!(place, At::Inline | At::Job | At::Looking);
            unless_over(status, when(status == Status::Running && at_work, Acts))
        },
    ),
    (
        "record a result",
        |run| told(record(run, asks(&["a"]), minute(9))),
        |status, place| {
            let at_work = matches!(place, At::Inline | At::Job | At::Looking);
            unless_over(status, when(status == Status::Running && at_work, Acts))
        },
    ),
    (
        "poll its job",
        |run| told(poll_job(run, JobAnswer::Running, minute(9))),
        |status, place| of_a_job(status, place, Waits),
    ),
    (
        "poll its job",
        |run| told(poll_job(run, JobAnswer::Done(said("x")), minute(9))),
        |status, place| of_a_job(status, place, Acts),
    ),
    (
        "poll its job",
        |run| told(poll_job(run, evicted(false), minute(9))),
        |status, place| of_a_job(status, place, Acts),
    ),
    (
        "poll its job",
        |run| told(poll_job(run, evicted(true), minute(9))),
        |status, place| of_a_job(status, place, Acts),
    ),
    (
        "poll its job",
        |run| {
            told(poll_job(
                run,
                JobAnswer::Unreadable("?".to_owned()),
                minute(9),
            ))
        },
        |status, place| of_a_job(status, place, Acts),
    ),
    (
        "poll its job",
        |run| {
            let failed = JobAnswer::Failed {
                kind: FailureKind::Agent,
                error: "exit code 1".to_owned(),
                detail: None,
            };
            told(poll_job(run, failed, minute(9)))
        },
        // The agent's failure is reported, not yet taken; the helper's is nobody's business.
        |status, place| {
            of_a_job(
                status,
                place,
                if place == At::Helper { Acts } else { Waits },
            )
        },
    ),
    (
        "poll its gate",
        |run| {
            told(poll_gate(
                run,
                GateAnswer::Passed("ok".to_owned()),
                minute(9),
            ))
        },
        |status, place| of_a_probe(status, place, Acts),
    ),
    (
        "poll its gate",
        |run| told(poll_gate(run, red(), minute(9))),
        |status, place| of_a_probe(status, place, Acts),
    ),
    (
        "poll its gate",
        |run| told(poll_gate(run, GateAnswer::Pending, minute(9))),
        |status, place| of_a_probe(status, place, Acts),
    ),
    (
        "poll its gate",
        |run| told(poll_gate(run, GateAnswer::Lost("?".to_owned()), minute(9))),
        |status, place| of_a_probe(status, place, Acts),
    ),
    (
        "poll its gate",
        |run| told(poll_gate(run, GateAnswer::Looking, minute(9))),
        |status, place| of_a_probe(status, place, Waits),
    ),
    (
        "begin a probe",
        |run| told(begin_probe(run)),
        |status, place| {
            unless_over(
                status,
                match (status, place) {
                    (Status::Running, At::Resting) => Acts,
                    (Status::Running, At::Looking) => Waits,
                    _ => Illegal,
                },
            )
        },
    ),
    (
        "",
        |run| replies(run, &Reply::Choice("red".to_owned())),
        |status, place| of_a_human(status, place, At::Deciding),
    ),
    (
        "",
        |run| replies(run, &approve()),
        |status, place| of_a_human(status, place, At::Approving),
    ),
    (
        "",
        |run| replies(run, &changes("x")),
        |status, place| of_a_human(status, place, At::Approving),
    ),
    (
        "",
        |run| replies(run, &reject()),
        |status, place| of_a_human(status, place, At::Approving),
    ),
    (
        "fail",
        |run| Ok(fail(run, FailureKind::Unknown, "x", None, minute(9))),
        |status, _| unless_over(status, Acts),
    ),
    (
        "stop",
        |run| Ok(stop(run, "ada", None, minute(9))),
        |status, _| unless_over(status, Acts),
    ),
    (
        "lose its driver",
        |run| Ok(driver_died(run, "x", minute(9))),
        |status, _| unless_over(status, Acts),
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
                    Waits => assert!(!matches!(result, Ok(Outcome::Noop) | Err(_)), "{case}"),
                    TooLate => assert_eq!(result, Ok(Outcome::Noop), "{case}"),
                    Illegal => {
                        let error = result.as_ref().expect_err(&case);
                        // A human is told of the question; anybody else of the state and the event.
                        let names = match name {
                            "" => {
                                error.contains("apr-0-1")
                                    || error.contains("dec-0-1")
                                    || error.contains("this is a")
                            }
                            _ => [name, &status.to_string(), before.step.activity.name()]
                                .iter()
                                .all(|part| error.contains(part)),
                        };
                        assert!(names, "{case}");
                    }
                }
                if verdict != Acts {
                    assert_eq!(run, before, "{case}");
                }
                if status.is_terminal() {
                    assert_eq!(run, before, "{case}");
                }
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
    assert_eq!(seen.iter().sum::<i32>(), 5 * 9 * 22);
}

#[test]
fn an_illegal_event_is_told_in_a_sentence() {
    let mut run = run_at(Status::Running, At::Inline);
    let error = poll_job(&mut run, JobAnswer::Running, minute(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "run run_00000000000000000000000001 cannot poll its job: it is running at step 0, which is inline; \
         it waits for no job"
    );
}
