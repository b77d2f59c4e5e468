//! The race catalogue: what can happen to one run at the same time, what would go wrong, and which fence holds it.
//!
//! `tests/tests/model` drives the engine's own functions through every interleaving of these (begin a wait, wake, time
//! out, retry, duplicate, stop, hand over, crash, die, tick), with up to three faults in one behaviour. It holds with
//! every fence, and each fence of this table, removed once, makes it fail.
//!
//! | race | without the fence | fence | where |
//! | --- | --- | --- | --- |
//! | Somebody wakes the run while its driver begins a wait | the wake is overwritten, the run sleeps on | `seq`: the mailbox is written whole, in place of the one that was loaded | [`Wait::begin`](crate::Wait::begin), [`Wait::wake`](crate::Wait::wake); the store's `put_wait` and `commit` |
//! | One entry moves the run on, without waiting, while another begins a wait for what it was at | a driver waits for a job that is over, and nobody drives | every commit raises `seq`, and leaves no token behind | [`Wait::driven_on`](crate::Wait::driven_on); the shell's `commit` |
//! | A change of the run between the reads of one load, then a wait is begun | a stopped run's driver waits on | the mailbox is read before the head, so that it is never the newer of the two | the store's `load` |
//! | The same, between the head and its step | head and step contradict each other, and the driver dies of it | a step carries the `rev` of its head; one that is newer is read again with its head | the store's `load` |
//! | The machine retries or times out, and the older invocation is still at work | the token on record is dead, the live one is lost | an entry older than the one on record begins no wait | [`Fence`](crate::Fence), [`Wait::begin`](crate::Wait::begin); the shell's `enter` |
//! | An execution was given up or handed over, and its invocation is still at work | two executions drive one run | the generation: another than the run's does nothing | [`Wait::begin`](crate::Wait::begin); the shell's `enter` |
//! | One death is told twice: by the machine, by its status, by the tick | the next driver, alive, is given up too | a death counts for the generation that died | the shell's `settle` |
//! | A crash after the change, before the wake | an answer or a stop that its driver never hears of | `wake` is in the transaction of the change, and delivered again by the tick | [`Wait::wake`](crate::Wait::wake), [`Wait::over`](crate::Wait::over) |
//! | A crash after the handover, before the next execution starts | a driver is counted as dead that never lived | `drive` is in the transaction of the handover | [`Wait::hand_over`](crate::Wait::hand_over) |
//! | A token is sent twice, and the driver waits again already | the newer wait is noted as delivered and lost | a token that is gone counts as delivered only while it is the one on record; that is noted under `seq` | [`Wait::delivered`](crate::Wait::delivered); the shell's `deliver` |
//! | The run ends just as its own token is sent | the driver leaves a live run | the commit first, then the token | the shell's `drive` |
//! | A job ends before anybody can be woken | its end is heard by nobody until the next look | job and token are on record before the job is started | the shell's `fold` and `start` |
//! | A crash or a stop between the start of a job and its record | a job that no run knows of | the intent, with the job's derived id, is on record before the job is started | [`JobId::derive`](crate::JobId::derive); the shell's `fold` |
//! | A crash after a stop, before its job is stopped | the job works on for a run that is over | a row for the job in the transaction of the stop, until its runtime says that it is gone | [`Changes::reap`](crate::Changes::reap); the store's `commit`, the tick |
//! | A stop overtakes the start of the job | the job begins after the run is over | a tombstone: a job that was stopped does not start | the substrate's `stop` |
//!
//! The head's `rev` is a second lock on the same door: every commit writes the mailbox too, so the model holds with
//! `rev` unchecked. With neither of the two a run that is over changes.
//!
//! It rests on two promises of the machine: a state's entries differ in time, later ones being later, and each entry
//! and each retry has a token of its own.
