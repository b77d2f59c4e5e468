//! The fences, as switches: which one a model goes without, and what its loss is seen by.

/// A fence that a model can go without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// A write of the mailbox is conditional on its `seq`.
    Seq,
    /// A commit of a run that goes on without waiting raises `seq` too.
    SeqOfProgress,
    /// The mailbox is loaded before the head.
    MailboxFirst,
    /// An older entry begins no wait.
    OlderEntry,
    /// An execution that is not the run's does nothing.
    Generation,
    /// A death counts for the generation that died.
    GenerationOfDeath,
    /// `wake` is in the transaction of the change.
    WakeInCommit,
    /// `drive` is in the transaction that hands over.
    DriveInCommit,
    /// A token that is gone counts as delivered only while it is the one on record.
    GoneIsChecked,
    /// A job is on record before it is started.
    IntentFirst,
    /// A job's driver can be reached before the job is started.
    TokenFirst,
    /// A token is sent after the commit that wants it sent.
    CommitFirst,
    /// A job that must be gone has a row until it is.
    ReapRow,
    /// A job that was stopped before it was started does not start.
    Tombstone,
    /// A step that is newer than the head it was loaded with is loaded again.
    RevOfStep,
}

/// What never happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A run that is over changed.
    TerminalRunChanged,
    /// An attempt had two results.
    TwoResults,
    /// An answer was accepted, and the run asks again.
    AnswerLost,
    /// `rev` or `seq` did not rise.
    NotRising,
    /// The mailbox and the head name different drivers.
    TwoDrivers,
    /// An older entry's token took the place of a newer one's.
    TokenOverwritten,
    /// An execution ended while it was the driver of a live run.
    DriverLeft,
    /// A driver was counted as dead that was not.
    MournedAlive,
    /// A function met records that contradict each other.
    BrokenRecord,
    /// A job is at work that no live run waits for.
    JobOutlives,
    /// A look found a driver that waits for something else than its run does.
    NetNeeded,
    /// Nothing more happens, and the run neither is over and done with nor waits where it can be reached.
    Stuck,
    /// The same, until the tick comes by, although nothing went wrong.
    WaitsForTick,
}
