//! The mailbox: who may begin a wait, and when somebody looks.

use std::time::Duration;

use serde_json::json;
use towpath_engine::{
    Fence, Next, PAYLOAD_FORM, REDELIVERY, Reason, Stale, Timestamp, Wait, advance, reason,
};

use crate::support::{MINUTE, at, job, run};

fn fence(generation: u32, entered: Timestamp) -> Fence {
    Fence {
        generation,
        entered,
        retry: 0,
    }
}

fn human() -> Reason {
    Reason::Human {
        subject: "apr-1".to_owned(),
    }
}

fn parked() -> Wait {
    let begun =
        Wait::fresh(None, at(0)).begin(fence(1, at(0)), "token", PAYLOAD_FORM, human(), at(0));
    begun.unwrap()
}

#[test]
fn a_wake_that_nobody_waits_for_still_keeps_the_next_wait_from_beginning_on_what_is_over() {
    let driving = Wait::fresh(None, at(0)).driven_on(at(0));
    let woken = driving.wake(Next::PollJob, at(1));
    assert_eq!((woken.seq, woken.wake), (driving.seq + 1, None));
}

#[test]
fn an_older_entry_begins_no_wait_unless_its_token_is_proven_to_live() {
    let held = parked();
    let older = fence(1, Timestamp(at(0).0 - 1));
    assert_eq!(
        held.begin(older, "other", PAYLOAD_FORM, human(), at(1)),
        Err(Stale::Superseded)
    );
    let begun = held
        .begin_proven(older, "other", PAYLOAD_FORM, human(), at(1))
        .unwrap();
    assert_eq!(
        (begun.token.as_deref(), begun.fence),
        (Some("other"), held.fence)
    );
    let foreign = held.begin_proven(fence(2, at(9)), "other", PAYLOAD_FORM, human(), at(1));
    assert_eq!(foreign, Err(Stale::OtherGeneration));
}

#[test]
fn the_time_a_human_is_waited_for_does_not_begin_anew_with_a_handover() {
    let handed = parked().hand_over(2, Duration::ZERO, at(600));
    assert_eq!(
        (handed.wake, handed.drive_at),
        (Some(Next::Handover), Some(at(600)))
    );
    let begun = handed
        .without_driver()
        .begin(fence(2, at(600)), "next", PAYLOAD_FORM, human(), at(600))
        .unwrap();
    assert_eq!((begun.since, begun.entries), (at(0), 1));
}

#[test]
fn a_driver_that_is_to_start_later_starts_at_once_when_somebody_wakes_the_run() {
    let later = parked().without_driver().hand_over(2, MINUTE * 60, at(0));
    assert_eq!(later.due, Some(at(60)));
    let woken = later.wake(Next::Advance, at(5));
    assert_eq!(
        (woken.drive_at, woken.due),
        (Some(at(5)), Some(at(5).plus(REDELIVERY)))
    );
}

#[test]
fn a_driver_without_a_token_is_lost_after_six_minutes_and_after_fifteen_while_it_is_retried() {
    let sent = parked().wake(Next::Advance, at(1)).delivered(at(1));
    assert!(!sent.is_lost(at(6)) && sent.is_lost(at(7)));
    assert_eq!(sent.due, Some(at(7)));
    let retried = sent.retried(at(2));
    assert!(!retried.is_lost(at(16)) && retried.is_lost(at(17)));
    assert!(!parked().is_lost(at(9999)), "whoever holds a token waits");
    assert!(!parked().over(at(1)).delivered(at(1)).is_lost(at(9999)));
}

#[test]
fn a_jobs_looks_come_less_and_less_often_and_never_miss_its_deadline() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    let waits_for = reason(&run).unwrap();
    let mut wait = Wait::fresh(None, at(0))
        .begin(fence(1, at(0)), "token", PAYLOAD_FORM, waits_for, at(0))
        .unwrap();
    let mut looks = Vec::new();
    while wait.due < Some(at(70)) {
        let now = wait.due.unwrap();
        looks.push(now.since(at(0)).as_secs() / 60);
        assert!(looks.len() < 99, "{looks:?}");
        wait = wait.looked(now);
    }
    assert_eq!(looks, [1, 3, 7, 15, 25, 35, 45, 55, 65]);
    assert_eq!(wait.due, Some(at(70)));
}
