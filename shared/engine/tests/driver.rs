//! Drivers and their deaths.

use std::time::Duration;

use serde_json::json;
use towpath_engine::{Deaths, Died, FailureKind, LASTING_WAIT, Status, advance, driver_died, poll};

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

#[test]
fn the_failure_names_what_the_last_driver_died_of() {
    let mut run = run(json!([job("coder")]));
    for error in [
        "Lambda.Unknown",
        "States.Runtime",
        "States.Timeout",
        "execution ABORTED",
    ] {
        driver_died(&mut run, error, AT_ONCE, at(0));
    }
    assert_eq!(
        failure(&run).1,
        "4 of the run's drivers died one after the other without progress, the last of execution ABORTED"
    );
}

#[test]
fn errors_that_say_nothing_about_the_run_never_fail_it() {
    for error in [
        "Towpath.Throttled",
        "Towpath.Unavailable",
        "Towpath.AccessDenied",
        "Towpath.Newer",
        "Lambda.TooManyRequestsException",
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.AccessDeniedException",
        "Lambda.ResourceNotFoundException",
    ] {
        let mut run = run(json!([job("coder")]));
        for _ in 0..50 {
            let died = driver_died(&mut run, error, AT_ONCE, at(0));
            assert!(
                matches!(died, Died::Replaced { after } if after >= MINUTE),
                "{error}"
            );
        }
        assert_eq!(
            run.head.driver,
            Deaths {
                counted: 0,
                excused: 50
            }
        );
        // Nor do they forgive what does count.
        let died = driver_died(&mut run, "States.Runtime", AT_ONCE, at(0));
        assert_eq!(
            (died, run.head.driver.counted),
            (Died::Replaced { after: AT_ONCE }, 1)
        );
    }
}

#[test]
fn a_wait_of_five_minutes_is_progress_and_a_shorter_one_is_not() {
    let dead_thrice = || {
        let mut run = run(json!([job("coder")]));
        driver_died(&mut run, "Towpath.Throttled", AT_ONCE, at(0));
        for _ in 0..3 {
            driver_died(&mut run, "States.Runtime", AT_ONCE, at(0));
        }
        run
    };
    assert_eq!(LASTING_WAIT, MINUTE * 5);
    let mut lasted = dead_thrice();
    let died = driver_died(&mut lasted, "States.Runtime", LASTING_WAIT, at(9));
    assert_eq!(died, Died::Replaced { after: AT_ONCE });
    assert_eq!(
        lasted.head.driver,
        Deaths {
            counted: 1,
            excused: 0
        }
    );
    let short = LASTING_WAIT - Duration::from_millis(1);
    let mut failed = dead_thrice();
    assert_eq!(
        driver_died(&mut failed, "States.Runtime", short, at(9)),
        Died::Failed
    );
    assert_eq!(
        failed.head.driver,
        Deaths::default(),
        "a run that is over counts nothing"
    );
}
