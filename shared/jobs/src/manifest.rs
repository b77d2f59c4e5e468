//! The manifest of a job: what its runner is told, when it asks.
//!
//! On the wire it is one line of JSON, and then the texts that the line names, one behind the other as they are: whatever
//! is in them, they take no more room than their bytes, and fit into one answer of a function.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use towpath_auth::Secret;
use towpath_engine::{EventFormat, JobId, StepIndex, WorkspaceId};

use crate::{Checkout, CommandWork, InputArtifact, InputFile, JobRequest, Work};

/// The media type of a manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.towpath.manifest";

/// The key of the object that is the program of a runner, in the deployment's bucket. `None`: there is none for this
/// architecture.
pub fn runner_object(arch: &str) -> Option<String> {
    let known = ["x86_64", "aarch64"].contains(&arch);
    known.then(|| format!("runners/{}/{arch}/towpath", env!("CARGO_PKG_VERSION")))
}

/// The first line of a manifest.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    job: JobId,
    workspace: WorkspaceId,
    step: StepIndex,
    attempt: u32,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    /// What must not be kept of what the command prints and answers.
    secrets: Vec<String>,
    checkout: Option<Checkout>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events: Option<EventFormat>,
    context: serde_json::Value,
    inputs: Vec<NamedBytes>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    artifacts: Vec<InputArtifact>,
    max_run_ms: u64,
    grace_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct NamedBytes {
    name: String,
    bytes: usize,
}

/// A manifest that cannot be read. The reason quotes nothing of it: there may be secrets in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenManifest(&'static str);

impl fmt::Display for BrokenManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the job's manifest cannot be read: {}", self.0)
    }
}

impl std::error::Error for BrokenManifest {}

impl JobRequest {
    /// The request as the manifest of its job. `None`: it is no command, which no runner carries out.
    pub fn to_manifest(&self) -> Option<Vec<u8>> {
        let Work::Command(work) = &self.work else {
            return None;
        };
        let inputs = self.inputs.iter().map(|file| NamedBytes {
            name: file.name.clone(),
            bytes: file.text.len(),
        });
        let line = Line {
            job: self.job.clone(),
            workspace: self.workspace.clone(),
            step: self.step,
            attempt: self.attempt,
            command: work.command.clone(),
            env: work.env.clone(),
            secrets: work
                .secrets
                .iter()
                .map(|it| it.expose().to_owned())
                .collect(),
            checkout: work.checkout.clone(),
            events: work.events,
            context: self.context.clone(),
            inputs: inputs.collect(),
            artifacts: self.artifacts.clone(),
            max_run_ms: u64::try_from(self.max_run.as_millis()).unwrap_or(u64::MAX),
            grace_ms: u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX),
        };
        let mut bytes = serde_json::to_vec(&line).ok()?;
        bytes.push(b'\n');
        for file in &self.inputs {
            bytes.extend_from_slice(file.text.as_bytes());
        }
        Some(bytes)
    }

    /// The request that a manifest tells of.
    ///
    /// # Errors
    /// If the bytes are no manifest.
    pub fn from_manifest(bytes: &[u8]) -> Result<Self, BrokenManifest> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or(BrokenManifest("its first line has no end"))?;
        let (line, rest) = bytes.split_at(end);
        let line = serde_json::from_slice::<Line>(line);
        let line = line.map_err(|_| BrokenManifest("its first line is not as expected"))?;
        let mut rest = rest.get(1..).unwrap_or_default();
        let mut inputs = Vec::new();
        for NamedBytes { name, bytes } in line.inputs {
            let (text, behind) = rest
                .split_at_checked(bytes)
                .ok_or(BrokenManifest("it ends within a text"))?;
            let text = String::from_utf8(text.to_vec());
            inputs.push(InputFile {
                name,
                text: text.map_err(|_| BrokenManifest("a text is not UTF-8"))?,
            });
            rest = behind;
        }
        if !rest.is_empty() {
            return Err(BrokenManifest("there is something behind its last text"));
        }
        Ok(Self {
            job: line.job,
            workspace: line.workspace,
            work: Work::Command(CommandWork {
                command: line.command,
                env: line.env,
                secrets: line.secrets.into_iter().map(Secret::new).collect(),
                checkout: line.checkout,
                events: line.events,
                image: None,
                resources: None,
                executor: None,
            }),
            step: line.step,
            attempt: line.attempt,
            context: line.context,
            inputs,
            artifacts: line.artifacts,
            max_run: Duration::from_millis(line.max_run_ms),
            grace: Duration::from_millis(line.grace_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Access;

    fn request() -> JobRequest {
        let text = |name: &str, text: &str| InputFile {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        JobRequest {
            job: "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-7".parse().unwrap(),
            workspace: "acme".parse().unwrap(),
            work: Work::Command(CommandWork {
                command: vec!["make".to_owned()],
                env: BTreeMap::from([("KEY".to_owned(), "line\nline".to_owned())]),
                secrets: vec![Secret::new("hunter22")],
                checkout: Some(Checkout {
                    repo: "https://example.com/a.git".to_owned(),
                    branch: "b".to_owned(),
                    base: None,
                    access: Access::Write,
                }),
                events: Some(EventFormat::Goose),
                image: None,
                resources: None,
                executor: None,
            }),
            step: StepIndex(3),
            attempt: 2,
            context: json!({"objective": "mend"}),
            inputs: vec![
                text("output-0.txt", "\"\n\u{1}é"),
                text("empty.txt", ""),
                text("previous.txt", "x"),
            ],
            artifacts: vec![InputArtifact {
                file: "artifacts/0/report.html".to_owned(),
                url: "https://example.com/report.html?x=y".to_owned(),
                bytes: 3,
                sha256: "ab".to_owned(),
            }],
            max_run: Duration::from_secs(60),
            grace: Duration::from_secs(5),
        }
    }

    #[test]
    fn a_manifest_holds_all_of_the_request_and_each_text_as_it_is() {
        let bytes = request().to_manifest().unwrap();
        assert_eq!(JobRequest::from_manifest(&bytes), Ok(request()));
        assert!(bytes.ends_with("\"\n\u{1}éx".as_bytes()));
    }

    #[test]
    fn half_a_manifest_is_none() {
        let whole = request().to_manifest().unwrap();
        for cut in [0, 10, whole.len() - 6, whole.len() - 1] {
            assert!(JobRequest::from_manifest(&whole[..cut]).is_err(), "{cut}");
        }
        let longer = [&whole[..], b"x"].concat();
        let error = JobRequest::from_manifest(&longer).unwrap_err().to_string();
        assert!(error.contains("behind its last text"), "{error}");
    }
}
