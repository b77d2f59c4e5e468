//! Drivers and their deaths.

use std::time::Duration;

use serde_json::json;
use towpath_engine::{Died, FailureKind, Status, advance, driver_died, poll};

use crate::support::{MINUTE, at, done, failure, job, run};

const AT_ONCE: Duration = Duration::ZERO;

#[test]
fn a_dead_driver_is_replaced_after_0_1_and_5_minutes_and_then_the_run_fails() {
    let mut run = run(json!([job("coder")]));
    for pause in [0, 1, 5] {
        let died = driver_died(&mut run, "Towpath.BrokenRecord", AT_ONCE, at(0));
        assert_eq!(
            died,
            Died::Replaced {
                after: MINUTE * pause
            }
        );
    }
    assert_eq!(run.head.generation, 4);
    assert_eq!(
        driver_died(&mut run, "Towpath.BrokenRecord", AT_ONCE, at(0)),
        Died::Failed
    );
    assert_eq!(
        (failure(&run).0, run.head.generation),
        (FailureKind::Unknown, 4)
    );
}

#[test]
fn a_missing_permission_is_waited_out() {
    let mut run = run(json!([job("coder")]));
    for pause in [1, 5, 15, 60, 60, 60] {
        let died = driver_died(&mut run, "Towpath.AccessDenied", AT_ONCE, at(0));
        assert_eq!(
            died,
            Died::Replaced {
                after: MINUTE * pause
            }
        );
    }
    assert_eq!(
        (run.head.status, run.head.driver.counted),
        (Status::Running, 0)
    );
}

#[test]
fn aborts_a_day_apart_never_fail_a_run_that_waits() {
    let mut run = run(json!([job("coder")]));
    for day in 1..=30 {
        let died = driver_died(&mut run, "execution ABORTED", MINUTE * 1440, at(day * 1440));
        assert_eq!(died, Died::Replaced { after: AT_ONCE });
    }
}

#[test]
fn a_change_of_phase_is_progress() {
    let mut run = run(json!([job("coder"), job("writer")]));
    advance(&mut run, at(0)).unwrap();
    for _ in 0..3 {
        driver_died(&mut run, "States.Runtime", AT_ONCE, at(1));
    }
    poll(&mut run, done("made"), at(2)).unwrap();
    assert_eq!(run.head.driver.counted, 0);
}

#[test]
fn a_terminal_run_needs_no_driver() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    poll(&mut run, done("made"), at(1)).unwrap();
    let over = run.clone();
    assert_eq!(
        driver_died(&mut run, "States.Runtime", AT_ONCE, at(2)),
        Died::Noop
    );
    assert_eq!(run, over);
}
