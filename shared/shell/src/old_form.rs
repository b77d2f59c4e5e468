//! The form of 0.1.0: executions that began under its machine keep that machine's definition, and so do the tokens they
//! wait with. To be deleted by the release after this one.

use towpath_engine::Next;

/// The state of 0.1.0's machine that a token names to go on.
pub(crate) fn state(next: Next) -> &'static str {
    match next {
        Next::Advance => "Advance",
        Next::PollJob => "PollJob",
        Next::PollGate => "PollGate",
        Next::Handover => "Handover",
        Next::Succeed => "Succeed",
    }
}
