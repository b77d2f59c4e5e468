//! The race catalogue: what can happen to one run at the same time, what would go wrong, and which fence holds it.
//!
//! The simulator in `tests/simulation` runs the real services through these at random: several drivers, deaths between
//! any two effects, lost replies, deliveries twice and in another order, clocks that jump. The end-to-end tests of
//! `tests/tests/e2e/races.rs` tell the ones that users meet.
//!
//! | race | without the fence | fence | where |
//! | --- | --- | --- | --- |
//! | Somebody wakes the run while its driver begins a wait | the wake is overwritten, the run sleeps on | `seq`: every write of the mailbox is conditional on the `seq` that was loaded | [`Wait::begin`](crate::Wait::begin), [`Wait::wake`](crate::Wait::wake); the store's `put_wait` and `commit` |
//! | One entry moves the run on, without waiting, while another begins a wait for what it was at | a driver waits for a job that is over, and nobody drives | every commit raises `seq`, and leaves no token behind | [`Wait::driven_on`](crate::Wait::driven_on); the store's `commit` |
//! | A change of the run between the reads of one load, then a wait is begun | a stopped run's driver waits on | a mailbox carries the `rev` of the head that it was written with; one that is newer than its head is read again with it | the store's `load` |
//! | The same, between the head and its step | head and step contradict each other, and the driver dies of it | a step carries the `rev` of its head; one that is newer is read again with its head | the store's `load` |
//! | The machine retries or times out, and the older invocation is still at work | the token on record is dead, the live one is lost | an entry older than the one on record begins no wait | [`Fence`](crate::Fence), [`Wait::begin`](crate::Wait::begin); the driver's `enter` |
//! | An execution was given up or handed over, and its invocation is still at work | two executions drive one run | the generation: another than the run's does nothing | [`Wait::begin`](crate::Wait::begin); the driver's `enter` |
//! | One death is told twice: by the machine, by its status, by the tick | the next driver, alive, is given up too | a death counts for the generation that died | the settler |
//! | A crash after the change, before the wake | an answer or a stop that its driver never hears of | `wake` is in the transaction of the change, and delivered again by the tick | [`Wait::wake`](crate::Wait::wake), [`Wait::over`](crate::Wait::over) |
//! | A crash after the handover, before the next execution starts | a driver is counted as dead that never lived | `drive_at` is in the transaction of the handover | [`Wait::hand_over`](crate::Wait::hand_over) |
//! | A token is sent twice, and the driver waits again already | the newer wait is noted as delivered and lost | a token that is gone counts as delivered only while it is the one on record; that is noted under `seq` | [`Wait::delivered`](crate::Wait::delivered); the outbox |
//! | The run ends just as its own token is sent | the driver leaves a live run | the commit first, then the token | the driver's `drive` |
//! | A job ends before anybody can be woken | its end is heard by nobody until the next look | job and token are on record before the job is started | the driver's `fold` and `call` |
//! | A crash or a stop between the start of a job and its record | a job that no run knows of | the intent, with the job's derived id, is on record before the job is started | [`JobId::derive`](crate::JobId::derive); the driver's `fold` |
//! | A crash after a stop, before its job is stopped | the job works on for a run that is over | a row for the job in the transaction of the stop, until its runtime says that it is gone | [`Effect::Reap`](crate::Effect::Reap); the store's `commit`, the tick |
//! | A job ends while no driver waits: after a death, before the next driver parks | its end is heard at the next look, a minute later | the news raises `seq`, so that the driver loads and looks again before it begins a wait | [`Wait::wake`](crate::Wait::wake); the poll's `tell_at_work` |
//! | A write of the mailbox gets through and its reply is lost | the wake is sent by the tick, a minute later | whoever meets its own write again delivers what the mailbox holds | the poll's `look_once`, the answers' `answer_once` |
//! | A busy run commits again and again while somebody stops it | the stop loses every race | a mark on the head, whatever its `rev`; it raises the `rev`, so no commit that began before it succeeds | [`StopMark`](crate::StopMark); the store's `mark_stop` |
//! | A new run begins while the job of the one before tidies up | two writers on one branch | a call waits for the jobs it replaces to be gone | [`Step::replaces`](crate::Step::replaces); the services' `Jobs` |
//! | An execution runs, and the entry that was to store its token died | nobody can reach the driver for a day | a driver that gives no sign of life is lost, and replaced | [`Wait::is_lost`](crate::Wait::is_lost); the tick |
//! | An older release writes back what a newer one wrote | fields are lost | forms: a newer one is not written, and live items are written attribute by attribute | the store's `form` |
//! | A stop overtakes the start of the job | the job begins after the run is over | a tombstone: a job that was stopped does not start | the runtime's `stop` |
//!
//! The head's `rev` is a second lock on the same door: every commit writes the mailbox too, so that with neither of the two
//! a run that is over would change.
//!
//! It rests on two promises of the machine: each entry of a state and each retry has a token of its own, and a state's later
//! entries have later times, but for a clock that goes back. An entry that is older by its time is believed all the same if
//! its token can still be answered.
