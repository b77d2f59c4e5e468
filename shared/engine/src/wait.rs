//! The mailbox: what a run waits for, in one record, and who may write it.
//!
//! Whoever changes what a run waits for sets [`Wait::wake`] in the same transaction as the change, then sends the
//! token. The function that begins a wait commits it only if nothing arrived since it loaded. Both write the whole
//! record under its `seq`, so one side always sees the other. The rules are here; the store only holds the `seq`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{JobId, StepIndex, Timestamp};

/// What a run waits for, and how its driver is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// Raised by each write, checked by each write.
    pub seq: u64,
    /// The execution that the token belongs to.
    pub generation: u32,
    /// The entry of that execution's state that stored the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// The task token of the waiting driver. None: no driver waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The form of the payload that brought the token, which says how the token is answered: 1 for the machine of 0.1.0,
    /// 2 for the machine since.
    #[serde(default = "first_form")]
    pub form: u8,
    /// What for.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
    /// When somebody must look, whatever happens: the run's net. None only when the run is terminal and told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// The wait is over, and this is where the driver goes on: to be delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake: Option<Next>,
    /// The execution of `generation` is still to be started: to be delivered, after `wake`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drive: bool,
    /// How often this wait was looked at in vain.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub polls: u32,
    /// How many waits this execution has begun.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub entries: u32,
}

/// The form of payloads that do not name theirs, and of mailboxes written before there was another.
pub const FIRST_FORM: u8 = 1;

fn first_form() -> u8 {
    FIRST_FORM
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Where a driver goes on. The names on record are those of the states of 0.1.0's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Next {
    /// The next action.
    Advance,
    /// See what became of the job.
    PollJob,
    /// See what the gate says.
    PollGate,
    /// The run's next execution takes over.
    Handover,
    /// The run is over.
    Succeed,
}

/// What a run waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum Reason {
    /// Its driver.
    Driver,
    /// A job.
    Job {
        /// Which.
        job: JobId,
        /// When its time is up.
        deadline: Timestamp,
    },
    /// A gate.
    Gate {
        /// Which step the gate is.
        step: StepIndex,
        /// How often it has looked: it does so less and less often.
        polls: u32,
    },
    /// A human's answer.
    Human {
        /// The decision or approval.
        subject: String,
    },
    /// Money.
    Budget,
    /// Nothing: it is over.
    Nothing,
}

/// One entry of a state of one execution. Later entries are greater, so an older invocation cannot overwrite the
/// token of a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fence {
    /// The execution.
    pub generation: u32,
    /// When the state was entered.
    pub entered: Timestamp,
    /// How often its task was retried since.
    pub retry: u32,
}

/// How long a delivery may take before another tries.
pub const REDELIVERY: Duration = Duration::from_secs(30);

/// How long a driver may be at work, or on its way, before somebody asks whether it is still alive. An invocation lasts
/// at most 15 minutes, and most take a moment.
const DRIVER_AT_WORK: Duration = Duration::from_secs(5 * 60);

/// The same for a driver that waits for a human or for money. Its death is told at once by the status of its execution;
/// this is the net for when that word is lost.
const DRIVER_PARKED: Duration = Duration::from_secs(3600);

/// The number of waits that one execution begins before the next takes over. A wait is 6 history events, and 38 with all
/// eight retries, so this is less than half of the 25,000 an execution may have; at one wait a day, the least there is, it
/// is less than the year an execution may last.
pub const ENTRIES_LIMIT: u32 = 300;

/// A wait that must not be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// A newer entry has stored its token: this invocation has nothing to say any more.
    Superseded,
    /// Another execution drives the run.
    OtherGeneration,
}

impl Wait {
    /// The mailbox of a run whose first driver is still to be started.
    pub fn fresh(now: Timestamp) -> Self {
        Self {
            seq: 0,
            generation: 1,
            fence: None,
            token: None,
            form: FIRST_FORM,
            reason: Reason::Driver,
            since: now,
            due: Some(now.plus(REDELIVERY)),
            wake: None,
            drive: true,
            polls: 0,
            entries: 0,
        }
    }

    /// Begins a wait. The result is to be written under this record's `seq`: if anything arrived since it was loaded,
    /// that write fails, and the caller loads and looks again.
    ///
    /// # Errors
    /// If the caller is not the driver any more.
    pub fn begin(
        &self,
        fence: Fence,
        token: &str,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Self, Stale> {
        if fence.generation != self.generation {
            return Err(Stale::OtherGeneration);
        }
        if self.fence.is_some_and(|held| held > fence) {
            return Err(Stale::Superseded);
        }
        self.begin_proven(fence, token, reason, now)
    }

    /// Begins a wait, as [`Wait::begin`] does, for a caller whose token was proven to be live: it is the driver, whatever
    /// the times of the entries say, since a clock may go back.
    ///
    /// # Errors
    /// If another execution drives the run.
    pub fn begin_proven(
        &self,
        fence: Fence,
        token: &str,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Self, Stale> {
        if fence.generation != self.generation {
            return Err(Stale::OtherGeneration);
        }
        // The same entry may begin one wait after another; only a further entry counts as one.
        let again = self.fence == Some(fence);
        let mut begun = Self {
            seq: self.seq + 1,
            generation: self.generation,
            fence: Some(self.fence.map_or(fence, |held| held.max(fence))),
            token: Some(token.to_owned()),
            form: self.form,
            since: if self.reason == reason {
                self.since
            } else {
                now
            },
            polls: 0,
            due: None,
            wake: None,
            drive: false,
            entries: self.entries + u32::from(!again),
            reason,
        };
        begun.due = Some(begun.next_look(now));
        Ok(begun)
    }

    /// Ends the wait: the driver is to go on at `next`. With no driver waiting the raised `seq` alone does it, since
    /// whoever is about to begin a wait then cannot.
    #[must_use]
    pub fn wake(&self, next: Next, now: Timestamp) -> Self {
        let waits = self.token.is_some();
        Self {
            seq: self.seq + 1,
            wake: waits.then_some(next),
            due: Some(now.plus(if waits || self.drive {
                REDELIVERY
            } else {
                DRIVER_AT_WORK
            })),
            ..self.clone()
        }
    }

    /// Ends the wait for good: the run is terminal. Without a driver to be told, nobody need ever look again.
    #[must_use]
    pub fn over(&self, now: Timestamp) -> Self {
        let waits = self.token.is_some();
        Self {
            seq: self.seq + 1,
            reason: Reason::Nothing,
            since: now,
            wake: waits.then_some(Next::Succeed),
            due: waits.then(|| now.plus(REDELIVERY)),
            drive: false,
            ..self.clone()
        }
    }

    /// Gives the run to the execution of the next generation, which is still to be started. A driver that waits is to
    /// be let go first.
    #[must_use]
    pub fn hand_over(&self, generation: u32, now: Timestamp) -> Self {
        let waits = self.token.is_some();
        Self {
            seq: self.seq + 1,
            generation,
            fence: None,
            reason: Reason::Driver,
            since: now,
            due: Some(now.plus(REDELIVERY)),
            wake: waits.then_some(Next::Handover),
            drive: true,
            polls: 0,
            entries: 0,
            token: self.token.clone(),
            form: self.form,
        }
    }

    /// The run goes on without waiting: its driver is at work, and not to be woken. Since `seq` rises, whoever has
    /// loaded the run as it was begins no wait for what is over, and whoever has been superseded does not go on.
    #[must_use]
    pub fn driven_on(&self) -> Self {
        Self {
            seq: self.seq + 1,
            drive: false,
            ..self.without_driver()
        }
    }

    /// The driver of this wait is the caller itself: it goes on, and its token is not to be sent by anybody else.
    #[must_use]
    pub fn without_driver(&self) -> Self {
        Self {
            token: None,
            wake: None,
            ..self.clone()
        }
    }

    /// What was to be delivered has been. A run that is over needs no more looking at.
    #[must_use]
    pub fn delivered(&self, now: Timestamp) -> Self {
        let due = match self.reason {
            Reason::Nothing => None,
            _ => Some(now.plus(DRIVER_AT_WORK)),
        };
        Self {
            seq: self.seq + 1,
            wake: None,
            drive: false,
            token: None,
            due,
            ..self.clone()
        }
    }

    /// Somebody looked, in vain: look again later.
    #[must_use]
    pub fn looked(&self, now: Timestamp) -> Self {
        let looked = Self {
            seq: self.seq + 1,
            polls: self.polls + 1,
            ..self.clone()
        };
        Self {
            due: Some(looked.next_look(now)),
            ..looked
        }
    }

    /// When somebody must look if nothing happens.
    fn next_look(&self, now: Timestamp) -> Timestamp {
        // 1, 2, 4, 8 and then 10 minutes apart; the machine's own timeout bounds the rest.
        let minutes = 1u64.checked_shl(self.polls).unwrap_or(u64::MAX).min(10);
        match &self.reason {
            Reason::Driver => now.plus(DRIVER_AT_WORK),
            Reason::Job { deadline, .. } => now
                .plus(Duration::from_secs(minutes * 60))
                .min((*deadline).max(now)),
            Reason::Gate { polls, .. } => crate::next_probe(polls + 1, now),
            Reason::Human { .. } | Reason::Budget => now.plus(DRIVER_PARKED),
            Reason::Nothing => now,
        }
    }
}
