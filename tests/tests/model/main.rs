//! The race catalogue, checked: one run, driven through every interleaving of its driver's entries, the look at its job,
//! the human, the stop, the tick and the funnel, with whatever may go wrong in between. The decisions are the engine's
//! own functions; around them is as much of the shell, the tables and the machine as they need, one access at a time.
//!
//! With every fence nothing bad is ever reached; with any one of them removed something is. The catalogue itself is in
//! the documentation of `towpath_engine::races`.
//!
//! What bounds it: a run has two steps, each fault happens at most once in a behaviour and at most two or three do in
//! all, and time is not measured: what may be due may be seen to at any moment. Gates and evictions are left out; they
//! take the same paths.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy does not see that these are tests"
)]

mod driver;
mod explore;
mod fences;
mod model;
mod program;
mod records;
mod state;

use fences::{Fence, Violation};
use model::Model;
use state::Faults;

/// A job, approved by a human, and then an agent that answers at once.
const APPROVED: (bool, bool) = (true, false);
/// A job, and then an agent that answers at once.
const PLAIN: (bool, bool) = (false, false);
/// Two jobs.
const JOBS: (bool, bool) = (false, true);

const NONE: Faults = Faults {
    any: 0,
    crash: 0,
    timeout: 0,
    retry: 0,
    duplicate: 0,
    stop: 0,
    death: 0,
    torn: 0,
    short: 0,
    tick: 0,
};

/// Each of them once, and so many in all.
const fn any(any: u8) -> Faults {
    Faults {
        any,
        crash: 1,
        timeout: 1,
        retry: 1,
        duplicate: 1,
        stop: 1,
        death: 1,
        torn: 1,
        short: 1,
        tick: 1,
    }
}

fn model(plan: (bool, bool), faults: Faults) -> Model {
    Model {
        approval: plan.0,
        second_job: plan.1,
        ..Model::new(faults)
    }
}

/// Explores a model that is to hold, and says how far it went.
fn holds(what: &str, model: &Model) {
    match model.explore() {
        Ok(explored) => {
            eprintln!("{what}: {explored:?}");
            assert!(explored.over > 0 && explored.over < explored.at_rest);
        }
        Err(found) => panic!("{what}: {:?}\n{}", found.violation, found.way.join("\n")),
    }
}

#[test]
fn an_approved_job_survives_any_two_faults() {
    holds("an approved job", &model(APPROVED, any(2)));
}

#[test]
fn a_job_survives_any_two_faults() {
    holds("a job", &model(PLAIN, any(2)));
}

#[test]
fn two_jobs_survive_any_two_faults() {
    holds("two jobs", &model(JOBS, any(2)));
}

#[test]
fn handovers_survive_any_fault() {
    for (plan, entries_limit) in [(APPROVED, 1), (PLAIN, 1), (JOBS, 1), (JOBS, 2)] {
        let model = Model {
            entries_limit,
            ..model(plan, any(1))
        };
        holds("handovers", &model);
    }
}

#[test]
fn a_stop_in_the_midst_of_a_re_entry_is_seen() {
    let faults = Faults {
        any: 3,
        stop: 1,
        timeout: 1,
        torn: 1,
        ..NONE
    };
    for plan in [APPROVED, PLAIN, JOBS] {
        holds("a stop", &model(plan, faults));
    }
}

/// Every commit writes the mailbox too, so `seq` alone tells a run that has changed; `rev` is the second lock.
#[test]
fn the_mailbox_alone_would_do_against_lost_updates() {
    let model = Model {
        rev_unchecked: true,
        ..model(PLAIN, any(2))
    };
    holds("without rev", &model);
}

/// With neither, whoever comes last is right, and what is over is not.
#[test]
fn with_neither_of_them_a_run_that_is_over_changes() {
    let faults = Faults {
        any: 1,
        stop: 1,
        ..NONE
    };
    let model = Model {
        rev_unchecked: true,
        without: Some(Fence::Seq),
        ..model(PLAIN, faults)
    };
    let found = model.explore().expect_err("it holds without both");
    assert_eq!(found.violation, Violation::TerminalRunChanged);
}

/// Without the fence the violation is found; with it, by the very same faults, none is.
fn falls(
    fence: Fence,
    expected: Violation,
    plan: (bool, bool),
    entries_limit: u32,
    faults: Faults,
) {
    let with = |without| Model {
        without,
        entries_limit,
        ..model(plan, faults)
    };
    if let Err(found) = with(None).explore() {
        panic!(
            "it falls with the fence too: {:?}\n{}",
            found.violation,
            found.way.join("\n")
        );
    }
    let found = with(Some(fence))
        .explore()
        .expect_err("it holds without the fence");
    eprintln!(
        "without {fence:?}: {:?}\n  {}",
        found.violation,
        found.way.join("\n  ")
    );
    assert_eq!(found.violation, expected, "{}", found.way.join("\n"));
}

/// One test for each fence: what is violated without it, in which plan, with how many waits to an execution, and by
/// which faults.
macro_rules! fences {
    ($($test:ident: $fence:ident => $violation:ident, $plan:ident, $entries:expr, $any:literal $(, $fault:ident)*;)*) => {
        $(#[test]
        fn $test() {
            let faults = Faults { any: $any, $($fault: 1,)* ..NONE };
            falls(Fence::$fence, Violation::$violation, $plan, $entries, faults);
        })*
    };
}

const NEVER: u32 = u32::MAX;

fences! {
    without_seq_a_wake_is_overwritten: Seq => Stuck, APPROVED, NEVER, 1, tick;
    without_seq_in_every_commit_a_wait_begins_for_what_is_over: SeqOfProgress => NetNeeded, PLAIN, NEVER, 2, timeout, retry;
    with_the_head_read_first_a_wait_begins_for_what_is_over: MailboxFirst => NetNeeded, APPROVED, NEVER, 3, timeout, torn, stop;
    without_the_entry_fence_an_older_token_is_stored: OlderEntry => TokenOverwritten, APPROVED, NEVER, 1, retry;
    without_the_generation_two_executions_drive: Generation => TwoDrivers, APPROVED, NEVER, 1, death;
    without_its_generation_a_death_counts_twice: GenerationOfDeath => MournedAlive, APPROVED, NEVER, 2, death, duplicate;
    a_wake_apart_from_its_change_is_lost_in_a_crash: WakeInCommit => NetNeeded, APPROVED, NEVER, 1, crash;
    a_drive_apart_from_its_handover_is_lost_in_a_crash: DriveInCommit => MournedAlive, JOBS, 1, 1, crash;
    a_token_that_is_gone_is_not_always_the_last: GoneIsChecked => Stuck, JOBS, NEVER, 2, tick, timeout;
    a_job_before_its_intent_ends_unheard: IntentFirst => WaitsForTick, APPROVED, NEVER, 0;
    a_job_before_its_token_ends_unheard: TokenFirst => WaitsForTick, APPROVED, NEVER, 0;
    a_token_before_its_commit_ends_the_driver: CommitFirst => DriverLeft, APPROVED, NEVER, 0;
    without_a_row_a_stopped_job_works_on: ReapRow => JobOutlives, APPROVED, NEVER, 2, crash, stop;
    without_a_tombstone_a_stopped_job_begins: Tombstone => JobOutlives, APPROVED, NEVER, 1, stop;
    a_step_newer_than_its_head_is_a_run_that_never_was: RevOfStep => BrokenRecord, APPROVED, NEVER, 2, retry, torn;
}
