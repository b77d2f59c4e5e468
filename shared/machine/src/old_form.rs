//! The answers that tokens of 0.1.0 take: executions that began under its machine keep that machine's definition. To be
//! deleted by the release after this one.

use towpath_engine::{Next, PAYLOAD_FORM};

/// The state of 0.1.0's machine that the answer names, if the token is one of its.
pub(crate) fn state(form: u8, next: Next) -> Option<&'static str> {
    (form < PAYLOAD_FORM).then_some(match next {
        Next::Advance => "Advance",
        Next::PollJob => "PollJob",
        Next::PollGate => "PollGate",
        Next::Handover => "Handover",
        Next::Over => "Succeed",
    })
}
