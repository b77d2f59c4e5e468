//! The mailbox: one side always sees the other.

use std::cell::RefCell;

use towpath_engine::*;

use crate::support::*;

fn fence(entered: u64, retry: u32) -> Fence {
    Fence {
        generation: 1,
        entered: minute(entered),
        retry,
    }
}

fn human() -> Reason {
    Reason::Human {
        subject: "apr-0-1".to_owned(),
    }
}

fn for_a_job(deadline: u64) -> Reason {
    Reason::Job {
        job: JobId::derive(&run_id(1), StepIndex(0), 1, Role::Main),
        deadline: minute(deadline),
    }
}

/// A mailbox in which the entry of minute 1 waits for a human.
fn waiting() -> Wait {
    Wait::fresh(minute(0))
        .begin(fence(1, 0), "one", human(), minute(1))
        .unwrap()
}

fn minutes_until_due(wait: &Wait, now: u64) -> u64 {
    wait.due.unwrap().since(minute(now)).as_secs() / 60
}

/// The store, as far as the mailbox knows it: a write needs the `seq` it was made from.
struct Stored(RefCell<Wait>);

impl Stored {
    fn load(&self) -> Wait {
        self.0.borrow().clone()
    }

    fn put(&self, wait: Wait) -> Result<(), &'static str> {
        if self.0.borrow().seq + 1 != wait.seq {
            return Err("conflict");
        }
        *self.0.borrow_mut() = wait;
        Ok(())
    }
}

#[test]
fn a_new_run_waits_for_its_first_driver() {
    let wait = Wait::fresh(minute(0));
    assert_eq!(
        (wait.generation, wait.drive, wait.token.as_deref()),
        (1, true, None)
    );
    assert_eq!(wait.due, Some(minute(0).plus(REDELIVERY)));
}

#[test]
fn a_wait_has_the_token_and_somebody_who_looks() {
    let wait = waiting();
    assert_eq!(
        (wait.seq, wait.token.as_deref(), wait.since),
        (1, Some("one"), minute(1))
    );
    assert_eq!((wait.wake, wait.drive, wait.entries), (None, false, 1));
    assert!(wait.due.is_some());
}

#[test]
fn an_older_entry_cannot_overwrite_a_newer_ones_token() {
    let stored = waiting()
        .begin(fence(2, 1), "two", human(), minute(2))
        .unwrap();
    for (entered, retry) in [(1, 0), (1, 9), (2, 0)] {
        let late = stored.begin(fence(entered, retry), "late", human(), minute(3));
        assert_eq!(late, Err(Stale::Superseded), "{entered} {retry}");
    }
    for (entered, retry) in [(2, 1), (2, 2), (3, 0)] {
        let next = stored
            .begin(fence(entered, retry), "next", human(), minute(3))
            .unwrap();
        assert_eq!(next.token.as_deref(), Some("next"));
    }
}

#[test]
fn another_execution_does_not_get_in() {
    let stored = waiting();
    for generation in [0, 2] {
        let other = Fence {
            generation,
            ..fence(9, 0)
        };
        let refused = stored.begin(other, "other", human(), minute(9));
        assert_eq!(refused, Err(Stale::OtherGeneration));
    }
}

#[test]
fn the_same_entry_twice_is_one_entry() {
    let once = waiting();
    let twice = once.begin(fence(1, 0), "one", human(), minute(2)).unwrap();
    assert_eq!(
        (twice.entries, twice.token.as_deref(), twice.since),
        (1, Some("one"), minute(1))
    );
    // It goes from one wait to the next within one invocation: still one entry.
    let other = twice
        .begin(fence(1, 0), "one", for_a_job(70), minute(3))
        .unwrap();
    assert_eq!((other.entries, other.since), (1, minute(3)));
    // A retry of its task is a further one, and so is the next entry.
    let retried = other
        .begin(fence(1, 1), "two", for_a_job(70), minute(4))
        .unwrap();
    let next = retried
        .begin(fence(2, 0), "three", for_a_job(70), minute(5))
        .unwrap();
    assert_eq!(
        (retried.entries, next.entries, next.since),
        (2, 3, minute(3))
    );
}

#[test]
fn a_wake_tells_the_waiting_driver_where_to_go_on() {
    let woken = waiting().wake(Next::PollJob, minute(2));
    assert_eq!(
        (woken.wake, woken.token.as_deref()),
        (Some(Next::PollJob), Some("one"))
    );
    assert_eq!(
        woken.due,
        Some(minute(2).plus(REDELIVERY)),
        "until it is delivered"
    );
    assert_eq!(woken.entries, 1);
}

#[test]
fn what_happens_while_the_driver_is_at_work_is_seen_before_it_waits() {
    let stored = Stored(RefCell::new(Wait::fresh(minute(0)).delivered(minute(0))));
    // The driver has loaded and decides to wait; before it writes that, a human answers.
    let loaded = stored.load();
    let begun = loaded
        .begin(fence(1, 0), "one", human(), minute(1))
        .unwrap();
    let woken = stored.load().wake(Next::Advance, minute(1));
    assert_eq!(woken.wake, None, "nobody waits, so nobody can be woken");
    assert!(woken.due.is_some(), "but somebody looks");
    stored.put(woken).unwrap();
    assert_eq!(stored.put(begun), Err("conflict"));
    // And the other way round: the wait was begun, so the one who wakes has to load again, and finds the token.
    let stored = Stored(RefCell::new(Wait::fresh(minute(0)).delivered(minute(0))));
    let blind = stored.load().wake(Next::Advance, minute(1));
    stored
        .put(
            stored
                .load()
                .begin(fence(1, 0), "one", human(), minute(1))
                .unwrap(),
        )
        .unwrap();
    assert_eq!(stored.put(blind), Err("conflict"));
    assert_eq!(
        stored.load().wake(Next::Advance, minute(2)).wake,
        Some(Next::Advance)
    );
}

#[test]
fn every_write_of_the_mailbox_can_lose_against_every_other() {
    for wait in [
        waiting(),
        Wait::fresh(minute(0)),
        waiting().wake(Next::Advance, minute(2)),
    ] {
        for written in [
            wait.begin(fence(3, 0), "t", human(), minute(3)).unwrap(),
            wait.wake(Next::Advance, minute(3)),
            wait.over(minute(3)),
            wait.hand_over(2, minute(3)),
            wait.delivered(minute(3)),
            wait.looked(minute(3)),
            wait.driven_on(),
        ] {
            assert_eq!(written.seq, wait.seq + 1);
        }
    }
}

#[test]
fn a_wake_before_the_first_driver_has_come_leaves_it_to_be_started() {
    let woken = Wait::fresh(minute(0)).wake(Next::Advance, minute(1));
    assert!(woken.drive);
    assert_eq!(woken.due, Some(minute(1).plus(REDELIVERY)));
}

#[test]
fn the_driver_of_a_run_that_is_over_is_let_go_and_then_nobody_looks() {
    let over = waiting().over(minute(2));
    assert_eq!(
        (over.wake, over.token.as_deref()),
        (Some(Next::Succeed), Some("one"))
    );
    assert_eq!(over.due, Some(minute(2).plus(REDELIVERY)));
    let told = over.delivered(minute(3));
    assert_eq!((told.wake, told.token, told.due), (None, None, None));
}

#[test]
fn a_run_that_ends_under_its_drivers_hands_is_never_looked_at_again() {
    for wait in [waiting().without_driver(), Wait::fresh(minute(0))] {
        let over = wait.over(minute(2));
        assert_eq!((over.wake, over.drive, over.due), (None, false, None));
    }
}

#[test]
fn a_handover_lets_the_old_driver_go_and_starts_the_next() {
    let handed = waiting().hand_over(2, minute(2));
    assert_eq!(
        (handed.wake, handed.token.as_deref()),
        (Some(Next::Handover), Some("one"))
    );
    assert_eq!(
        (handed.generation, handed.drive, handed.entries),
        (2, true, 0)
    );
    assert_eq!(handed.due, Some(minute(2).plus(REDELIVERY)));
    let old = handed.begin(fence(9, 9), "one", human(), minute(3));
    assert_eq!(old, Err(Stale::OtherGeneration));
    let first = Fence {
        generation: 2,
        ..fence(3, 0)
    };
    let begun = handed.begin(first, "two", human(), minute(3)).unwrap();
    assert_eq!(
        (
            begun.token.as_deref(),
            begun.wake,
            begun.drive,
            begun.entries
        ),
        (Some("two"), None, false, 1)
    );
}

#[test]
fn a_driver_that_hands_over_itself_is_not_told_by_others() {
    let handed = waiting().without_driver().hand_over(2, minute(2));
    assert_eq!(
        (handed.wake, handed.token, handed.drive),
        (None, None, true)
    );
}

#[test]
fn what_was_delivered_is_not_delivered_again() {
    for wait in [
        waiting().wake(Next::Advance, minute(2)),
        waiting().hand_over(2, minute(2)),
    ] {
        let delivered = wait.delivered(minute(3));
        assert_eq!(
            (delivered.wake, delivered.drive, delivered.token.as_deref()),
            (None, false, None)
        );
        assert_eq!(
            minutes_until_due(&delivered, 3),
            5,
            "the driver is at work, or dead"
        );
    }
}

#[test]
fn jobs_are_looked_at_less_and_less_often_but_never_after_their_deadline() {
    let mut wait = Wait::fresh(minute(0))
        .begin(fence(0, 0), "one", for_a_job(70), minute(0))
        .unwrap();
    let (mut now, mut apart) = (0, Vec::new());
    while now < 70 {
        let pause = minutes_until_due(&wait, now);
        apart.push(pause);
        now += pause;
        wait = wait.looked(minute(now));
    }
    assert_eq!(apart, [1, 2, 4, 8, 10, 10, 10, 10, 10, 5]);
    assert_eq!(now, 70);
    assert_eq!(wait.polls, 10);
    assert_eq!(
        (wait.token.as_deref(), wait.entries),
        (Some("one"), 1),
        "a look moves no driver"
    );
    // However often: the pauses do not wrap around.
    wait.polls = u32::MAX - 1;
    wait.reason = for_a_job(7_000);
    assert_eq!(minutes_until_due(&wait.looked(minute(100)), 100), 10);
}

#[test]
fn gates_are_looked_at_as_often_as_they_probe() {
    let gate = |polls| Reason::Gate {
        step: StepIndex(0),
        polls,
    };
    let begin = |polls| {
        Wait::fresh(minute(0))
            .begin(fence(0, 0), "one", gate(polls), minute(0))
            .unwrap()
    };
    let apart: Vec<_> = (0..7)
        .map(|polls| minutes_until_due(&begin(polls), 0))
        .collect();
    assert_eq!(apart, [1, 2, 3, 4, 5, 5, 5]);
}

#[test]
fn while_the_run_lives_somebody_looks_whatever_is_written() {
    let reasons = [
        human(),
        for_a_job(70),
        for_a_job(0),
        Reason::Budget,
        Reason::Gate {
            step: StepIndex(0),
            polls: 3,
        },
    ];
    let mut seed = Random::new(7);
    for _ in 0..200 {
        let mut wait = Wait::fresh(minute(0));
        for n in 1..40 {
            let now = minute(n);
            wait = match seed.below(6) {
                0 => wait.wake(Next::Advance, now),
                1 => wait.hand_over(wait.generation + 1, now),
                2 => wait.delivered(now),
                3 => wait.looked(now),
                4 => wait.without_driver().hand_over(wait.generation + 1, now),
                _ => {
                    let fence = Fence {
                        generation: wait.generation,
                        ..fence(n, 0)
                    };
                    let reason = reasons[seed.below(reasons.len())].clone();
                    let begun = wait.begin(fence, "t", reason, now).unwrap();
                    assert_eq!(begun.entries, wait.entries + 1);
                    begun
                }
            };
            let due = wait.due.expect("somebody looks");
            assert!(
                due >= now && due <= now.plus(std::time::Duration::from_secs(3600)),
                "{wait:?}"
            );
            assert!(
                wait.wake.is_none() || wait.token.is_some(),
                "a wake is for somebody: {wait:?}"
            );
        }
        let over = wait.over(minute(99));
        assert_eq!(over.due.is_some(), over.wake.is_some());
    }
}
