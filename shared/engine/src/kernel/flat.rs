//! Flat forms that the tagged records are read through. Serde reads an internally tagged enum by way of a copy of the
//! whole of it, which costs more than all the rest of the record; a flat one it reads as it goes.

use serde::Deserialize;

use crate::{About, Asked, Call, Held, JobId, Phase, Reason, Rest, Role, StepIndex, Timestamp};

/// A field that this variant of a record must have.
fn needed<T>(value: Option<T>, field: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("missing field `{field}`"))
}

/// Every field of a [`Phase`].
#[derive(Deserialize)]
pub(crate) struct FlatPhase {
    is: PhaseName,
    id: Option<JobId>,
    role: Option<Role>,
    runtime: Option<String>,
    deadline: Option<Timestamp>,
    held: Option<Held>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    why: Option<String>,
    subject: Option<String>,
    about: Option<About>,
    call: Option<Call>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PhaseName {
    Pending,
    Calling,
    Resting,
    Asking,
    Done,
}

impl TryFrom<FlatPhase> for Phase {
    type Error = String;
    fn try_from(flat: FlatPhase) -> Result<Self, String> {
        Ok(match flat.is {
            PhaseName::Pending => Self::Pending,
            PhaseName::Calling => Self::Calling(Call {
                id: needed(flat.id, "id")?,
                role: needed(flat.role, "role")?,
                runtime: needed(flat.runtime, "runtime")?,
                deadline: needed(flat.deadline, "deadline")?,
                held: flat.held,
            }),
            PhaseName::Resting => Self::Resting(Rest {
                since: needed(flat.since, "since")?,
                until: needed(flat.until, "until")?,
                why: needed(flat.why, "why")?,
            }),
            PhaseName::Asking => Self::Asking(Asked {
                subject: needed(flat.subject, "subject")?,
                about: needed(flat.about, "about")?,
                since: needed(flat.since, "since")?,
                call: flat.call,
            }),
            PhaseName::Done => Self::Done,
        })
    }
}

/// Every field of a [`Reason`].
#[derive(Deserialize)]
pub(crate) struct FlatReason {
    r#for: ReasonName,
    job: Option<JobId>,
    role: Option<Role>,
    deadline: Option<Timestamp>,
    step: Option<StepIndex>,
    until: Option<Timestamp>,
    subject: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReasonName {
    Driver,
    Job,
    Rest,
    Human,
    Budget,
    Nothing,
}

impl TryFrom<FlatReason> for Reason {
    type Error = String;
    fn try_from(flat: FlatReason) -> Result<Self, String> {
        Ok(match flat.r#for {
            ReasonName::Driver => Self::Driver,
            ReasonName::Job => Self::Job {
                job: needed(flat.job, "job")?,
                role: needed(flat.role, "role")?,
                deadline: needed(flat.deadline, "deadline")?,
            },
            ReasonName::Rest => Self::Rest {
                step: needed(flat.step, "step")?,
                until: needed(flat.until, "until")?,
            },
            ReasonName::Human => Self::Human {
                subject: needed(flat.subject, "subject")?,
            },
            ReasonName::Budget => Self::Budget,
            ReasonName::Nothing => Self::Nothing,
        })
    }
}
