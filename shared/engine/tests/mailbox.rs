//! The mailbox: who may begin a wait, and when somebody looks.

use std::time::Duration;

use serde_json::json;
use towpath_engine::{
    ENTRIES_LIMIT, Fence, INVOCATION, JobId, Next, PAYLOAD_FORM, REDELIVERY, Reason, Role, Stale,
    Status, StepIndex, Timestamp, Wait, advance, poll, reason,
};

use crate::support::{MINUTE, Random, asked, at, exit, gate, job, run, run_id};

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
    assert_eq!((driving.drive_at, woken.drive_at), (None, None));
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
    let holding = Wait {
        entered: Some(at(0)),
        ..parked()
    };
    assert!(!holding.is_lost(at(9999)), "whoever holds a token waits");
    let starting = Wait {
        drive_at: Some(at(9)),
        ..sent.clone()
    };
    assert!(!starting.is_lost(at(9999)), "and who is yet to start");
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

fn fenced(entered: u32, retry: u32) -> Fence {
    Fence {
        retry,
        ..fence(1, at(entered))
    }
}

fn for_a_job(deadline: u32) -> Reason {
    Reason::Job {
        job: JobId::derive(&run_id(1), 1),
        role: Role::Main,
        deadline: at(deadline),
    }
}

fn begin(wait: &Wait, fence: Fence, token: &str, reason: Reason, minute: u32) -> Wait {
    wait.begin(fence, token, PAYLOAD_FORM, reason, at(minute))
        .unwrap()
}

#[test]
fn an_execution_is_handed_over_before_its_history_is_full() {
    assert_eq!((ENTRIES_LIMIT, INVOCATION), (300, MINUTE * 5));
}

#[test]
fn what_a_run_waits_for_follows_from_its_phase() {
    let mut at_work = run(json!([job("coder")]));
    assert_eq!(reason(&at_work), None);
    at_work.head.status = Status::Paused;
    assert_eq!(reason(&at_work), Some(Reason::Budget));
    let human = Reason::Human {
        subject: "dec-2".to_owned(),
    };
    assert_eq!(reason(&asked()), Some(human));
    let mut resting = run(json!([gate(json!({}))]));
    advance(&mut resting, at(0)).unwrap();
    poll(&mut resting, exit(75, ""), at(1)).unwrap();
    let rest = Reason::Rest {
        step: StepIndex(0),
        until: at(2),
    };
    assert_eq!(reason(&resting), Some(rest));
}

#[test]
fn a_wait_has_the_token_and_somebody_who_looks() {
    let wait = begin(&Wait::fresh(None, at(0)), fenced(0, 0), "one", human(), 1);
    assert_eq!(
        (wait.seq, wait.token.as_deref(), wait.since),
        (1, Some("one"), at(1))
    );
    assert_eq!((wait.wake, wait.drive_at, wait.entries), (None, None, 1));
    assert_eq!(wait.due, Some(at(61)));
    assert_eq!(
        (wait.form, wait.entered, wait.retrying),
        (PAYLOAD_FORM, None, false)
    );
}

#[test]
fn later_entries_and_retries_get_in_and_earlier_ones_do_not() {
    let stored = begin(&Wait::fresh(None, at(0)), fenced(2, 1), "two", human(), 2);
    for (entered, retry) in [(1, 0), (1, 9), (2, 0)] {
        let late = stored.begin(fenced(entered, retry), "late", PAYLOAD_FORM, human(), at(3));
        assert_eq!(late, Err(Stale::Superseded), "{entered} {retry}");
        // Unless its own token is what is held.
        begin(&stored, fenced(entered, retry), "two", human(), 3);
    }
    for (entered, retry) in [(2, 2), (3, 0)] {
        let next = begin(&stored, fenced(entered, retry), "next", human(), 3);
        assert_eq!((next.token.as_deref(), next.entries), (Some("next"), 2));
    }
    assert!(
        !stored.is_older(fence(2, at(0)), "other"),
        "another execution is no older entry"
    );
}

#[test]
fn the_same_entry_twice_is_one_entry() {
    let once = begin(&Wait::fresh(None, at(0)), fenced(1, 0), "one", human(), 1);
    let twice = begin(&once, fenced(1, 0), "one", human(), 2);
    assert_eq!((twice.entries, twice.since, twice.seq), (1, at(1), 2));
    // It goes from one wait to the next within one invocation: still one entry.
    let other = begin(&twice, fenced(1, 0), "again", for_a_job(70), 3);
    let same_token = begin(&twice, fenced(9, 0), "one", for_a_job(70), 3);
    assert_eq!(
        (other.entries, other.since, same_token.entries),
        (1, at(3), 1)
    );
    // A retry of its task is a further one, and so is the next entry.
    let retried = begin(&other, fenced(1, 1), "two", for_a_job(70), 4);
    let next = begin(&retried, fenced(2, 0), "three", for_a_job(70), 5);
    assert_eq!((retried.entries, next.entries, next.since), (2, 3, at(3)));
}

#[test]
fn a_wake_tells_the_waiting_driver_where_to_go_on() {
    let woken = parked().wake(Next::PollJob, at(2));
    assert_eq!(
        (woken.wake, woken.token.as_deref()),
        (Some(Next::PollJob), Some("token"))
    );
    assert_eq!(
        woken.due,
        Some(at(2).plus(REDELIVERY)),
        "until it is delivered"
    );
    let fresh = Wait::fresh(None, at(1)).wake(Next::Advance, at(0));
    assert_eq!((fresh.wake, fresh.drive_at), (None, Some(at(0))));
    let at_work = parked().driven_on(at(3)).wake(Next::Advance, at(4));
    assert_eq!((at_work.wake, at_work.drive_at), (None, None));
    assert_eq!(at_work.due, Some(at(9)), "its driver is lost then");
}

#[test]
fn every_write_of_the_mailbox_can_lose_against_every_other() {
    for wait in [
        parked(),
        Wait::fresh(None, at(0)),
        parked().wake(Next::Advance, at(2)),
    ] {
        for written in [
            begin(&wait, fenced(3, 0), "t", human(), 3),
            wait.wake(Next::Advance, at(3)),
            wait.over(at(3)),
            wait.hand_over(2, MINUTE, at(3)),
            wait.delivered(at(3)),
            wait.looked(at(3)),
            wait.retried(at(3)),
            wait.driven_on(at(3)),
            wait.waits_for(Reason::Budget, at(3)),
            wait.waits_for(human(), at(3)),
        ] {
            assert_eq!(written.seq, wait.seq + 1);
        }
        assert_eq!(wait.without_driver().wake, None);
        // This is a part of a write that raises it.
        assert_eq!(wait.without_driver().seq, wait.seq);
    }
}

#[test]
fn a_run_that_waits_for_something_else_keeps_its_driver() {
    let moved = parked().waits_for(Reason::Budget, at(5));
    assert_eq!((&moved.reason, moved.since), (&Reason::Budget, at(5)));
    assert_eq!(moved.token, parked().token);
    assert_eq!(moved.due, Some(at(5).plus(Duration::from_secs(3600))));
    assert_eq!(parked().waits_for(human(), at(5)), parked().looked(at(5)));
    // The first look at something new comes after a minute, however often the old was looked at.
    let job = Reason::Job {
        job: JobId::derive(&run_id(1), 9),
        role: Role::Main,
        deadline: at(100),
    };
    let often = (0..5).fold(parked(), |wait, n| wait.looked(at(n)));
    let moved = often.waits_for(job, at(6));
    assert_eq!((moved.polls, moved.due), (0, Some(at(7))));
}

#[test]
fn the_driver_of_a_run_that_is_over_is_let_go_and_then_nobody_looks() {
    let over = parked().retried(at(1)).over(at(2));
    assert_eq!(
        (over.wake, over.due, over.entered, over.retrying),
        (None, None, None, false)
    );
    let over = parked().over(at(2));
    assert_eq!(
        (over.wake, over.token.as_deref()),
        (Some(Next::Over), Some("token"))
    );
    assert_eq!((&over.reason, over.since), (&Reason::Nothing, at(2)));
    assert_eq!(over.due, Some(at(2).plus(REDELIVERY)));
    let told = over.delivered(at(3));
    assert_eq!((told.wake, told.token, told.due), (None, None, None));
    let never = Wait::fresh(None, at(0)).over(at(2));
    assert_eq!(
        (never.drive_at, never.due),
        (None, None),
        "no driver comes for it"
    );
}

#[test]
fn a_handover_lets_the_old_driver_go_and_starts_the_next() {
    let handed = parked().looked(at(1)).hand_over(2, Duration::ZERO, at(2));
    assert_eq!(
        (handed.wake, handed.token.as_deref()),
        (Some(Next::Handover), Some("token"))
    );
    assert_eq!(
        (handed.generation, handed.drive_at, handed.fence),
        (2, Some(at(2)), None)
    );
    assert_eq!((handed.entries, handed.polls), (0, 0));
    assert_eq!(handed.due, Some(at(2).plus(REDELIVERY)));
    let old = handed.begin(fenced(9, 9), "token", PAYLOAD_FORM, human(), at(3));
    assert_eq!(old, Err(Stale::OtherGeneration));
    let retried = parked().retried(at(1)).hand_over(2, MINUTE, at(2));
    assert_eq!((retried.entered, retried.retrying), (None, false));
    let own = parked().without_driver().hand_over(2, MINUTE, at(2));
    assert_eq!(
        (own.wake, own.token.as_deref(), own.due),
        (None, None, Some(at(3)))
    );
    assert!(
        !handed.delivered(at(3)).is_lost(at(8)) && !own.wake(Next::Advance, at(2)).is_lost(at(99))
    );
}

#[test]
fn what_was_delivered_is_not_delivered_again() {
    for wait in [
        parked().wake(Next::Advance, at(2)),
        parked().hand_over(2, MINUTE, at(2)),
    ] {
        let delivered = wait.delivered(at(3));
        assert_eq!(
            (delivered.wake, delivered.drive_at, delivered.token),
            (None, None, None)
        );
        assert_eq!(
            (delivered.entered, delivered.due),
            (Some(at(3)), Some(at(9)))
        );
    }
}

#[test]
fn a_driver_at_work_is_seen_by_its_entries() {
    let driven = parked().driven_on(at(3));
    assert_eq!((&driven.reason, driven.since), (&Reason::Driver, at(3)));
    assert_eq!(
        (driven.token.as_deref(), driven.entered),
        (None, Some(at(3)))
    );
    assert_eq!(driven.driven_on(at(4)).since, at(3));
    assert!(!driven.is_lost(at(8)) && driven.is_lost(at(9)));
    let retried = driven.retried(at(5));
    assert!(retried.retrying && !retried.is_lost(at(19)) && retried.is_lost(at(20)));
    // A look at a driver without a token comes when it would be lost, and a minute later if it is.
    assert_eq!(driven.looked(at(4)).due, Some(at(9)));
    assert_eq!(driven.looked(at(30)).due, Some(at(31)));
}

#[test]
fn each_reason_has_its_next_look() {
    let rest = |until| Reason::Rest {
        step: StepIndex(0),
        until: at(until),
    };
    for (reason, due) in [
        (human(), 70),
        (Reason::Budget, 70),
        (Reason::Driver, 16),
        (Reason::Nothing, 10),
        (rest(13), 13),
        (rest(9), 10),
        (for_a_job(99), 11),
        (for_a_job(9), 10),
    ] {
        let wait = begin(&Wait::fresh(None, at(0)), fenced(9, 0), "t", reason, 10);
        assert_eq!(wait.due, Some(at(due)), "{:?}", wait.reason);
    }
    // However often: the pauses do not wrap around.
    let mut wait = begin(
        &Wait::fresh(None, at(0)),
        fenced(0, 0),
        "t",
        for_a_job(7_000),
        0,
    );
    wait.polls = u32::MAX - 1;
    let looked = wait.looked(at(100));
    assert_eq!((looked.due, looked.polls), (Some(at(110)), u32::MAX));
}

#[test]
fn while_the_run_lives_somebody_looks_whatever_is_written() {
    let reasons = [
        human(),
        for_a_job(30),
        for_a_job(0),
        Reason::Budget,
        Reason::Driver,
    ];
    let mut random = Random::new(7);
    for _ in 0..200 {
        let mut wait = Wait::fresh(None, at(0));
        for n in 1..40 {
            let now = at(n);
            let next = wait.generation + 1;
            wait = match random.below(8) {
                0 => wait.wake(Next::Advance, now),
                1 => wait.hand_over(next, MINUTE * 5, now),
                2 => wait.delivered(now),
                3 => wait.looked(now),
                4 => wait.driven_on(now),
                5 => wait.retried(now),
                _ => {
                    let entry = fence(wait.generation, now);
                    let reason = reasons[random.below(reasons.len())].clone();
                    let begun = wait.begin(entry, &n.to_string(), PAYLOAD_FORM, reason, now);
                    begun.unwrap()
                }
            };
            let due = wait.due.expect("somebody looks");
            assert!(due <= now.plus(MINUTE * 60), "{wait:?}");
            assert!(
                wait.wake.is_none() || wait.token.is_some(),
                "a wake is for somebody"
            );
        }
        let over = wait.over(at(99));
        assert_eq!(over.due.is_some(), over.wake.is_some());
    }
}
