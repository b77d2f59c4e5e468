//! Identifiers: strings with a prefix that says what they name, each in a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that is not an identifier of the expected type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct InvalidId {
    text: String,
    expected: &'static str,
}

impl InvalidId {
    /// The error for this text, which is cut where it is long. `expected` says in words what it was to be.
    pub fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
            expected,
        }
    }
}

/// Defines a newtype of texts that have a form, such as an id. `$check` decides whether a text is one. Whoever uses it has
/// the crate `serde`.
#[macro_export]
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::InvalidId;
            fn from_str(text: &str) -> Result<Self, $crate::InvalidId> {
                text.to_owned().try_into()
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::InvalidId;
            fn try_from(text: String) -> Result<Self, $crate::InvalidId> {
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err($crate::InvalidId::new(&text, $expected)) }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

crate::id!(
    /// A run: `run_` and a ULID.
    RunId, "a run id (run_ and a ULID)", |text| text.strip_prefix("run_").is_some_and(is_ulid)
);
crate::id!(
    /// A workspace: its runs, keys and bills are kept apart from every other workspace's.
    WorkspaceId, "a workspace id (1 to 64 of a-z, 0-9, - and _)", is_name
);
crate::id!(
    /// A block: the subject of a run, named by its workspace.
    BlockId, "a block id (1 to 64 of a-z, 0-9, - and _)", is_name
);
crate::id!(
    /// A pipeline, named by its workspace.
    PipelineId, "a pipeline id (1 to 64 of a-z, 0-9, - and _)", is_name
);
crate::id!(
    /// A secret for agents, named by its workspace.
    SecretName, "the name of a secret (1 to 64 of a-z, 0-9, - and _)", is_name
);
crate::id!(
    /// The kind of agent that a step names: `coder`, `ci`, `reviewer`.
    AgentKind, "an agent kind (1 to 64 of a-z, 0-9, - and _)", is_name
);
crate::id!(
    /// One call of a run: `job_`, the run's ULID and the number that the run's head gave the call. It is the identity of
    /// the work wherever it runs, so that starting it twice runs it once. Never used again, whatever loops.
    ///
    /// Calls of release 0.1.0 have ids of four parts; both forms are read, and neither is taken apart further than
    /// [`JobId::run`].
    JobId, "a job id (job_{ULID}-{number})", is_job
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

fn is_job(text: &str) -> bool {
    let Some((ulid, rest)) = text
        .strip_prefix("job_")
        .and_then(|text| text.split_once('-'))
    else {
        return false;
    };
    is_ulid(ulid) && (is_number(rest) || is_old_call(rest))
}

/// Whether the text is a step, an attempt and a role, as in the ids of release 0.1.0.
fn is_old_call(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    parts.next().is_some_and(is_number)
        && parts.next().is_some_and(is_number)
        && parts.next().and_then(Role::parse).is_some()
}

/// Whether the text is a number of 32 bits in the one way it can be written.
fn is_number(text: &str) -> bool {
    let plain = text == "0" || text.starts_with(|first| ('1'..='9').contains(&first));
    plain && text.parse::<u32>().is_ok()
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

/// The part that a call plays within its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The step's own agent.
    Main,
    /// A gate's helper: it fixes what the probe found.
    Helper,
    /// A gate's probe: it looks, and changes nothing.
    Probe,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Role; 3] = [Role::Main, Role::Helper, Role::Probe];

    /// The role as it stands in records and contracts.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Main => "main",
            Role::Helper => "helper",
            Role::Probe => "probe",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl RunId {
    /// Makes the id of the run with this ULID.
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
    /// The id of the run's call of this number.
    pub fn derive(run: &RunId, call: u32) -> Self {
        Self(format!("job_{}-{call}", run.ulid()))
    }

    /// The number of the call among those of its run. `None`: the id is of release 0.1.0.
    pub fn number(&self) -> Option<u32> {
        let (_, rest) = self.0.split_once('-')?;
        rest.parse().ok()
    }

    /// The run that the job works for.
    pub fn run(&self) -> RunId {
        let rest = self.0.trim_start_matches("job_");
        let ulid = rest.split_once('-').map_or(rest, |(ulid, _)| ulid);
        RunId(format!("run_{ulid}"))
    }
}
