//! Logs of jobs, page by page.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A part of what a job has printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogPage {
    /// The texts of this page. There are none if the job has printed nothing more yet.
    pub parts: Vec<LogPart>,
    /// The address at which the place where the job runs shows it to people, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
    /// The position behind this page. `None`: the job is over, and this was the last of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<LogPosition>,
}

/// A text that a job has printed on one of its outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPart {
    /// The output that the text was printed on.
    pub stream: LogStream,
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// An output of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

/// A position in the log of a job: two numbers that the runtime which keeps the log understands, both 0 at its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LogPosition(pub u64, pub u64);

/// The error of a text that is no [`LogPosition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position in a log is what a page of it gave as `next`")]
pub struct NoPosition;

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for LogPosition {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (first, second) = text.split_once('-').ok_or(NoPosition)?;
        let number = |text: &str| text.parse().map_err(|_| NoPosition);
        Ok(Self(number(first)?, number(second)?))
    }
}

impl From<LogPosition> for String {
    fn from(position: LogPosition) -> Self {
        position.to_string()
    }
}

impl TryFrom<String> for LogPosition {
    type Error = NoPosition;

    fn try_from(text: String) -> Result<Self, NoPosition> {
        text.parse()
    }
}
