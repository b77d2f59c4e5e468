//! The mailbox: what a run waits for, in one record, and who may write it.
//!
//! Whoever changes what a run waits for sets [`Wait::wake`] in the same transaction as the change, then answers the
//! token. The function that begins a wait commits it only if nothing arrived since it loaded. Both write the record under
//! its `seq`, so one side always sees the other. The rules are here; the store only holds the `seq`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::minutes;
use crate::{JobId, Phase, Role, Run, Status, StepIndex, Timestamp};

/// What a run waits for, and how its driver is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// The sequence number: raised by each write, checked by each write.
    pub seq: u64,
    /// The execution that drives the run.
    pub generation: u32,
    /// The entry of that execution's state that stored the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// The task token of the waiting driver. `None`: no driver waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The form of the payload that brought the token, which says how the token is answered: see [`PAYLOAD_FORM`].
    pub form: u8,
    /// What the run waits for.
    pub reason: Reason,
    /// The time the run began to wait for this.
    pub since: Timestamp,
    /// The time at which somebody must look, whatever happens: the run's net. `None` only when the run is terminal and
    /// its driver knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// Where the driver goes on, once the wait is over: to be delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake: Option<Next>,
    /// The time from which the execution of `generation` is to be started: to be delivered, after `wake`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drive_at: Option<Timestamp>,
    /// The number of looks at this wait that found nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub polls: u32,
    /// The number of waits that this execution has begun.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub entries: u32,
    /// The last sign of life of a driver that holds no token on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entered: Option<Timestamp>,
    /// Whether the machine is retrying the driver's invocation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retrying: bool,
}

/// The form of the machine's payload since 0.2.0. A token of this form is answered with a function's name or a failure
/// that ends the execution; one of form 1, of a machine of 0.1.0, with the name of that machine's next state.
pub const PAYLOAD_FORM: u8 = 2;

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The function with which a driver goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Next {
    /// The next action.
    Advance,
    /// A look at what became of the job.
    PollJob,
    /// A look at what the gate says.
    PollGate,
    /// The end of the execution: the run's next one takes over.
    Handover,
    /// The end of the execution: the run is over, or another execution drives it.
    Over,
}

/// The reason of a run's wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(
    tag = "for",
    rename_all = "snake_case",
    try_from = "super::flat::FlatReason"
)]
pub enum Reason {
    /// The run's driver, which is at work or on its way.
    Driver,
    /// A job.
    Job {
        /// The job's id.
        job: JobId,
        /// The part that the job plays within its step.
        role: Role,
        /// The time at which the job's budget is spent.
        deadline: Timestamp,
    },
    /// A time.
    Rest {
        /// The step that rests.
        step: StepIndex,
        /// The end of the rest.
        until: Timestamp,
    },
    /// A human's answer.
    Human {
        /// The decision's or approval's id.
        subject: String,
    },
    /// The workspace's budget.
    Budget,
    /// Nothing: the run is over.
    Nothing,
}

/// The reason of the run's wait. `None`: it does not wait.
pub fn reason(run: &Run) -> Option<Reason> {
    let step = run.head.current;
    match (run.head.status, &run.step.phase) {
        (Status::Done | Status::Failed, _) => None,
        (Status::Paused, _) => Some(Reason::Budget),
        (_, Phase::Asking(asked)) => Some(Reason::Human {
            subject: asked.subject.clone(),
        }),
        (_, Phase::Calling(call)) => Some(match &call.held {
            Some(held) => Reason::Rest {
                step,
                until: held.until,
            },
            None => Reason::Job {
                job: call.id.clone(),
                role: call.role,
                deadline: call.deadline,
            },
        }),
        (_, Phase::Resting(rest)) => Some(Reason::Rest {
            step,
            until: rest.until,
        }),
        (_, Phase::Pending | Phase::Done) => None,
    }
}

/// One entry of a state of one execution. Later entries are greater, so an older invocation cannot overwrite the token
/// of a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fence {
    /// The execution.
    pub generation: u32,
    /// The time the state was entered.
    pub entered: Timestamp,
    /// The number of times the state's task was retried since.
    pub retry: u32,
}

/// The time a delivery may take before another one is tried.
pub const REDELIVERY: Duration = Duration::from_secs(30);

/// The longest time an invocation of a function of the machine may take: its time-out in the template.
pub const INVOCATION: Duration = minutes(5);

/// The time without a sign of life after which a driver that holds no token is lost, though its execution runs.
const LOST: Duration = minutes(6);

/// The same while the machine retries the driver's invocation: retries have pauses of their own.
const LOST_RETRYING: Duration = minutes(15);

/// The pause between looks at a run that waits for a human or for money. The status of its execution tells of a driver's
/// death at once; this is the net for when that word is lost.
const PARKED: Duration = minutes(60);

/// The number of waits that one execution begins before the next takes over. A wait is 6 history events, and at most 40
/// with eight retries, so this is at most half of the 25,000 events an execution may have; at one wait a day, the least
/// there is, it is less than the year an execution may last.
pub const ENTRIES_LIMIT: u32 = 300;

/// The reason a wait must not be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// An entry that is newer by its time has stored its token. Either this invocation has nothing to say any more, or the
    /// clock that gave the times went back: its token tells, by whether it can still be answered.
    Superseded,
    /// Another execution drives the run.
    OtherGeneration,
}

impl Wait {
    /// Makes the mailbox of a run whose first driver is to be started, and which waits for this.
    pub fn fresh(reason: Option<Reason>, now: Timestamp) -> Self {
        Self {
            seq: 0,
            generation: 1,
            fence: None,
            token: None,
            form: PAYLOAD_FORM,
            reason: reason.unwrap_or(Reason::Driver),
            since: now,
            due: Some(now.plus(REDELIVERY)),
            wake: None,
            drive_at: Some(now),
            polls: 0,
            entries: 0,
            entered: None,
            retrying: false,
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
        form: u8,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Self, Stale> {
        if self.is_older(fence, token) {
            return Err(Stale::Superseded);
        }
        self.begin_proven(fence, token, form, reason, now)
    }

    /// Whether an entry is older, by its time, than the one that stored its token last.
    pub fn is_older(&self, fence: Fence, token: &str) -> bool {
        let own = self.token.as_deref() == Some(token);
        fence.generation == self.generation && !own && self.fence.is_some_and(|held| held > fence)
    }

    /// Begins a wait, as [`Wait::begin`] does, for a caller whose token was proven to be live: it is the driver, whatever
    /// the times of the entries say.
    ///
    /// # Errors
    /// If another execution drives the run.
    pub fn begin_proven(
        &self,
        fence: Fence,
        token: &str,
        form: u8,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Self, Stale> {
        if fence.generation != self.generation {
            return Err(Stale::OtherGeneration);
        }
        // The same entry may begin one wait after another; only a further entry counts as one.
        let again = self.fence == Some(fence) || self.token.as_deref() == Some(token);
        let mut begun = Self {
            seq: self.seq + 1,
            generation: self.generation,
            fence: Some(self.fence.map_or(fence, |held| held.max(fence))),
            token: Some(token.to_owned()),
            form,
            since: self.since_when(&reason, now),
            polls: 0,
            due: None,
            wake: None,
            drive_at: None,
            entries: self.entries + u32::from(!again),
            entered: None,
            retrying: false,
            reason,
        };
        begun.due = Some(begun.next_look(now));
        Ok(begun)
    }

    fn since_when(&self, reason: &Reason, now: Timestamp) -> Timestamp {
        if self.reason == *reason {
            self.since
        } else {
            now
        }
    }

    /// Ends the wait: the driver is to go on at `next`. With no driver waiting the raised `seq` alone does it, since
    /// whoever is about to begin a wait then cannot, and a driver that was to be started later is started now.
    #[must_use]
    pub fn wake(&self, next: Next, now: Timestamp) -> Self {
        let waits = self.token.is_some();
        Self {
            seq: self.seq + 1,
            wake: waits.then_some(next),
            drive_at: self.drive_at.map(|at| at.min(now)),
            due: Some(if waits || self.drive_at.is_some() {
                now.plus(REDELIVERY)
            } else {
                self.lost_at(now)
            }),
            ..self.clone()
        }
    }

    /// Goes on waiting, for a run that changed without its driver having moved. The first look at something new comes
    /// as soon as after any beginning.
    #[must_use]
    pub fn waits_for(&self, reason: Reason, now: Timestamp) -> Self {
        if self.reason == reason {
            return self.looked(now);
        }
        let changed = Self {
            seq: self.seq + 1,
            since: now,
            polls: 0,
            reason,
            ..self.clone()
        };
        Self {
            due: Some(changed.next_look(now)),
            ..changed
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
            wake: waits.then_some(Next::Over),
            due: waits.then(|| now.plus(REDELIVERY)),
            drive_at: None,
            entered: None,
            retrying: false,
            ..self.clone()
        }
    }

    /// Gives the run to the execution of the next generation, which is to be started after a pause. A driver that waits
    /// is let go first. What the run waits for, and since when, stays.
    #[must_use]
    pub fn hand_over(&self, generation: u32, after: Duration, now: Timestamp) -> Self {
        let waits = self.token.is_some();
        let drive_at = now.plus(after);
        Self {
            seq: self.seq + 1,
            generation,
            fence: None,
            due: Some(drive_at.max(now.plus(REDELIVERY))),
            wake: waits.then_some(Next::Handover),
            drive_at: Some(drive_at),
            polls: 0,
            entries: 0,
            entered: None,
            retrying: false,
            ..self.clone()
        }
    }

    /// The run goes on without waiting: its driver is at work, and not to be woken. Since `seq` rises, whoever has
    /// loaded the run as it was begins no wait for what is over, and whoever has been superseded does not go on.
    #[must_use]
    pub fn driven_on(&self, now: Timestamp) -> Self {
        Self {
            seq: self.seq + 1,
            drive_at: None,
            reason: Reason::Driver,
            since: self.since_when(&Reason::Driver, now),
            entered: Some(now),
            ..self.without_driver()
        }
    }

    /// Notes that the machine retries the driver's invocation.
    #[must_use]
    pub fn retried(&self, now: Timestamp) -> Self {
        Self {
            seq: self.seq + 1,
            entered: Some(now),
            retrying: true,
            ..self.without_driver()
        }
    }

    /// The same mailbox without its token: the driver of this wait is the caller itself, and nobody else is to answer
    /// the token.
    #[must_use]
    pub fn without_driver(&self) -> Self {
        Self {
            token: None,
            wake: None,
            ..self.clone()
        }
    }

    /// Notes that what was to be delivered has been. A run that is over needs no more looks.
    #[must_use]
    pub fn delivered(&self, now: Timestamp) -> Self {
        let delivered = Self {
            seq: self.seq + 1,
            wake: None,
            drive_at: None,
            token: None,
            entered: Some(now),
            ..self.clone()
        };
        Self {
            due: match self.reason {
                Reason::Nothing => None,
                _ => Some(delivered.lost_at(now)),
            },
            ..delivered
        }
    }

    /// Notes a look that found nothing: the next one comes later.
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

    /// Whether a driver that holds no token on record has given no sign of life for so long that it is lost.
    pub fn is_lost(&self, now: Timestamp) -> bool {
        let at_work = self.token.is_none() && self.drive_at.is_none();
        at_work && self.reason != Reason::Nothing && now >= self.lost_at(now)
    }

    /// The time at which a driver that holds no token is lost.
    fn lost_at(&self, now: Timestamp) -> Timestamp {
        let after = if self.retrying { LOST_RETRYING } else { LOST };
        self.entered.unwrap_or(now).plus(after)
    }

    /// The time by which somebody must look if nothing happens.
    fn next_look(&self, now: Timestamp) -> Timestamp {
        if self.token.is_none() {
            return self.lost_at(now).max(now.plus(minutes(1)));
        }
        match &self.reason {
            Reason::Driver => now.plus(LOST),
            // 1, 2, 4, 8 and then 10 minutes apart; the job's deadline is never missed.
            Reason::Job { deadline, .. } => {
                let pause = minutes(1u32.checked_shl(self.polls).unwrap_or(u32::MAX).min(10));
                now.plus(pause).min((*deadline).max(now))
            }
            Reason::Rest { until, .. } => (*until).max(now),
            Reason::Human { .. } | Reason::Budget => now.plus(PARKED),
            Reason::Nothing => now,
        }
    }
}
