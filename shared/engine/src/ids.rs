//! Identities. Each is a string with a prefix that says what it names, in a type of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not an id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct InvalidId {
    text: String,
    expected: &'static str,
}

impl InvalidId {
    fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
            expected,
        }
    }
}

/// Defines an id newtype. `$check` decides whether a text is one.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err(InvalidId::new(text, $expected)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A run: `run_` and a ULID.
    RunId, "a run id (run_ and a ULID)", |text| text.strip_prefix("run_").is_some_and(is_ulid)
);
id!(
    /// A workspace: whose runs, keys and bills are kept apart from all others'.
    WorkspaceId, "a workspace id (1 to 64 of a-z, 0-9, - and _)", is_name
);
id!(
    /// A block: the subject of a run, named by its workspace.
    BlockId, "a block id (1 to 64 of a-z, 0-9, - and _)", is_name
);
id!(
    /// A pipeline, named by its workspace.
    PipelineId, "a pipeline id (1 to 64 of a-z, 0-9, - and _)", is_name
);
id!(
    /// What an agent is for: `coder`, `ci`, `reviewer`.
    AgentKind, "an agent kind (1 to 64 of a-z, 0-9, - and _)", is_name
);
id!(
    /// One dispatch of work, derived from (run, step, attempt, role): `job_`, the run's ULID, and the three. It is the
    /// identity of the work wherever it runs, so that doing it twice does it once.
    JobId, "a job id (job_{ULID}-{step}-{attempt}-{role})", |text| JobId::split(text).is_some()
);

fn is_ulid(text: &str) -> bool {
    text.len() == 26
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

/// The position of a step in its pipeline's enabled steps, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepIndex(pub u16);

impl fmt::Display for StepIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who a job works for within its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The step's own agent.
    Main,
    /// A gate's helper: it mends what the probe found.
    Helper,
    /// A gate's probe: it looks, and changes nothing.
    Probe,
}

impl Role {
    /// The role as it stands in a job id.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Main => "main",
            Role::Helper => "helper",
            Role::Probe => "probe",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Role::Main, Role::Helper, Role::Probe]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

impl RunId {
    /// The run of this ULID.
    ///
    /// # Errors
    /// If the text is not a ULID.
    pub fn from_ulid(ulid: &str) -> Result<Self, InvalidId> {
        format!("run_{ulid}").parse()
    }

    fn ulid(&self) -> &str {
        self.0.trim_start_matches("run_")
    }
}

impl JobId {
    /// The one id of this dispatch.
    pub fn derive(run: &RunId, step: StepIndex, attempt: u32, role: Role) -> Self {
        Self(format!(
            "job_{}-{step}-{attempt}-{}",
            run.ulid(),
            role.as_str()
        ))
    }

    /// The run the job belongs to.
    pub fn run(&self) -> RunId {
        let ulid = Self::split(&self.0).map_or("", |parts| parts.0);
        RunId(format!("run_{ulid}"))
    }

    /// The step, attempt and role the job was derived from.
    pub fn origin(&self) -> (StepIndex, u32, Role) {
        Self::split(&self.0).map_or((StepIndex(0), 0, Role::Main), |(_, step, attempt, role)| {
            (step, attempt, role)
        })
    }

    fn split(text: &str) -> Option<(&str, StepIndex, u32, Role)> {
        let mut parts = text.strip_prefix("job_")?.split('-');
        let (ulid, step, attempt, role) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let canonical = |number: &str| number == "0" || !number.starts_with(['0', '+']);
        (parts.next().is_none() && is_ulid(ulid) && canonical(step) && canonical(attempt))
            .then_some(())?;
        Some((
            ulid,
            StepIndex(step.parse().ok()?),
            attempt.parse().ok()?,
            Role::parse(role)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "run_01ARZ3NDEKTSV4RRFFQ69G5FAV";

    #[test]
    fn a_job_id_leads_back_to_its_run_and_step() {
        let run: RunId = RUN.parse().unwrap();
        let job = JobId::derive(&run, StepIndex(3), 2, Role::Helper);
        assert_eq!(job.as_str(), "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-3-2-helper");
        let again: JobId = job.as_str().parse().unwrap();
        assert_eq!(again.run(), run);
        assert_eq!(again.origin(), (StepIndex(3), 2, Role::Helper));
    }

    #[test]
    fn nonsense_is_no_id() {
        for text in [
            "",
            "run_",
            "run_../../etc/passwd",
            "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-3-2-boss",
        ] {
            assert!(
                text.parse::<RunId>().is_err() && text.parse::<JobId>().is_err(),
                "{text}"
            );
        }
        for text in [
            "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-03-2-main",
            "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-3-+2-main",
        ] {
            assert!(
                text.parse::<JobId>().is_err(),
                "two texts for one job: {text}"
            );
        }
        assert!("Über".parse::<AgentKind>().is_err());
    }
}
