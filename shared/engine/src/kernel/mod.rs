//! The kernel: the records of a run, the phases of a step, and the transitions between them. It knows no kind of step.

mod answer;
mod artifact;
mod call;
mod driver;
mod effect;
mod end;
mod flat;
pub(crate) mod head;
mod ids;
mod mailbox;
mod phase;
mod record;
mod run;
mod start;
mod step;
mod time;
mod transition;

pub use answer::{Answer, AnswerError, answer};
pub use artifact::Artifact;
pub use call::{Call, CallFailure, CallQuestion, CallResult, CallStatus, Held, Loss, LossCause};
pub use driver::{Died, LASTING_WAIT, driver_died, hand_over};
pub use effect::{Audit, AuditAction, BlockChange, Effect, Ended, Outcome, Output, PullRequest};
pub use end::{fail, stop};
pub use head::{Deaths, Failure, FailureKind, Head, Pin, Status, StopMark};
pub use ids::*;
pub use mailbox::*;
pub use phase::{About, Action, Asked, Event, Phase, Rest};
pub use record::{AgentAnswer, CheckedAnswer};
pub use run::{Illegal, Run};
pub use start::{NewRun, Segment, restart, retry, start};
pub use step::{
    Approval, ApprovalStatus, AskedBy, Comment, Decision, Evictions, JobRef, OutputRef, Revision,
    Step, StepState, Unreadable,
};
pub use time::Timestamp;
pub(crate) use time::minutes;
pub use transition::{advance, due, gone, hold, poll, started};
