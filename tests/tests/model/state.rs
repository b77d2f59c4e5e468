//! A state of the model: what is on record, what the machine, the jobs and the humans are at, and who is half-way
//! through what.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use towpath_engine::{Fence, Next};

use crate::records::{RunRef, WaitRef};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The head's `rev`.
    pub(crate) rev: u64,
    /// The head, and the step it is at.
    pub(crate) run: RunRef,
    /// The record of the step that was left last.
    pub(crate) left: Option<RunRef>,
    pub(crate) wait: WaitRef,
    /// The audit holds the answer to the approval.
    pub(crate) answered: bool,
    /// Rows of jobs that must be gone.
    pub(crate) reap: [bool; 2],
    /// Results that were committed.
    pub(crate) results: [bool; 2],
    pub(crate) jobs: [Job; 2],
    /// The executions of the generations 1, 2, …
    pub(crate) executions: [Execution; GENERATIONS],
    /// Whoever is half-way through something.
    pub(crate) programs: Vec<Program>,
    /// Whether somebody is giving or has given the answer.
    pub(crate) answering: bool,
    pub(crate) faults: Faults,
}

pub(crate) const GENERATIONS: usize = 4;

/// What a job's runtime knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Job {
    Never,
    Running,
    Ended,
    /// Asked to stop, whether it ever ran or not.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Execution {
    Never,
    /// In a state whose task is this entry's.
    Waits(Fence),
    Succeeded,
    Died,
}

/// How much may still go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// How many of them may happen in all.
    pub(crate) any: u8,
    /// A program ends between two of its steps.
    pub(crate) crash: u8,
    /// The machine's 24 hours are up.
    pub(crate) timeout: u8,
    /// The machine gives up on an invocation that goes on all the same, and retries.
    pub(crate) retry: u8,
    /// An invocation is made twice.
    pub(crate) duplicate: u8,
    /// Somebody stops the run.
    pub(crate) stop: u8,
    /// An execution dies of something that is not ours.
    pub(crate) death: u8,
    /// A load sees its records at different moments.
    pub(crate) torn: u8,
    /// An invocation has no time left.
    pub(crate) short: u8,
    /// The tick comes by while something is under way. When nothing is, it comes for nothing.
    pub(crate) tick: u8,
}

/// Somebody half-way through something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Program {
    pub(crate) who: Who,
    pub(crate) op: Op,
    pub(crate) held: Held,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// Whoever made the run, and starts its first execution.
    Starter,
    /// The invocation of an entry.
    Driver(Fence),
    /// Whoever heard of a job's end.
    Look(usize),
    Human,
    Stopper,
    /// The funnel, told of the death of a generation.
    Settle(u32),
    Tick,
}

/// What a program has read last, or what it made of that and knows to be on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    pub(crate) rev: u64,
    pub(crate) run: RunRef,
    pub(crate) wait: WaitRef,
}

/// What a program does next: one access to something that others see too. What follows of it is decided at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Load,
    /// The mailbox is read; the head is next.
    LoadMore,
    /// The mailbox and the head are read; the step is next.
    LoadStep,
    /// Ask what became of the job.
    Status,
    /// Look for the answer in the audit.
    Audit,
    Commit {
        run: RunRef,
        wait: Option<WaitRef>,
        then: Then,
    },
    /// Write the mailbox alone.
    Put {
        wait: WaitRef,
        then: Then,
    },
    Start,
    /// Send the invocation's own token.
    Release(Next),
    /// Send what the mailbox wants sent.
    Deliver {
        again: bool,
        then: Then,
    },
    /// The token was gone: is it still the one on record?
    Reread {
        again: bool,
        then: Then,
    },
    StartExecution {
        gone: bool,
        again: bool,
        then: Then,
    },
    /// Note that all is delivered.
    Delivered(Then),
    StopJob(usize, Then),
    /// Remove the row of a job that is gone.
    Reaped(usize, Then),
    /// The tick reads the mailbox.
    TickRead,
    /// The tick asks whether the driver is alive.
    Describe,
    /// Only with a fence removed: the job before the commit of its intent.
    StartFirst {
        run: RunRef,
        wait: WaitRef,
    },
    /// Only with a fence removed: the token before the commit.
    SendFirst {
        run: RunRef,
        wait: WaitRef,
    },
}

/// How a program goes on after its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Then {
    End,
    /// The next action.
    Turn,
    Start,
    Release(Next),
    Deliver,
    /// Deliver, and then send the own token.
    DeliverAndRelease(Next),
    /// Only with a fence removed: wake the driver in a transaction of its own.
    Wake(Next),
}

/// Programs have no order; this gives them one.
pub(crate) fn fingerprint(program: &Program) -> u64 {
    let mut hasher = DefaultHasher::new();
    program.hash(&mut hasher);
    hasher.finish()
}
