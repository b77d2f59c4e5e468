//! Outputs: the text of a small one in its row, a large one in the bucket, with its row saying which object it is.
//!
//! An object is put before the commit that refers to it, and its key holds a part of its text's hash. So what a row
//! refers to is there, whole, and whoever loses a race over the same output (a repeated invocation, two people who
//! approve different texts at once) has put another object, or the same one again: never one in place of the winner's.
//! What the loser put is referred to by nobody.

use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use towpath_engine::{Artifact, Output, RunId, StepIndex};
use towpath_table::{Key, Write};

use crate::form::{put, record};
use crate::objects::{BYTES, TEXT};
use crate::{Error, OutputUrl, Store, keys};

/// The most bytes that an output may have to be kept in its row.
pub const IN_ROW: usize = 200 * 1024;

/// An output as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StoredOutput {
    /// An output in its row.
    Row {
        /// The whole text.
        text: String,
    },
    /// An output in the bucket.
    Object {
        /// The key of the object.
        object: String,
        /// The size of the text in bytes.
        bytes: u64,
        /// The SHA-256 of the text, in hexadecimal digits.
        sha256: String,
    },
}

/// The row of an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRow {
    /// The text, or where it is.
    #[serde(flatten)]
    pub output: StoredOutput,
    /// The files that go with the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
}

impl StoredOutput {
    /// The size of the text in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Row { text } => text.len() as u64,
            Self::Object { bytes, .. } => *bytes,
        }
    }
}

impl Store {
    /// An output, or where it is.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn output(
        &self,
        run: &RunId,
        step: StepIndex,
        number: u32,
    ) -> Result<Option<StoredOutput>, Error> {
        let item = self.runs.get(&keys::output(run, step, number)).await?;
        item.map(record).transpose()
    }

    /// The newest output of each of the last steps of a run from `from` on and before `before`, the last step first: at
    /// most `limit`, and fewer if steps made several or large ones. One read, however long the run is.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn last_outputs(
        &self,
        run: &RunId,
        from: StepIndex,
        before: StepIndex,
        limit: i32,
    ) -> Result<Vec<(StepIndex, OutputRow)>, Error> {
        let (first, last) = (keys::outputs_of(from), keys::outputs_of(before));
        let items = self.runs.latest(run.as_str(), (&first, &last), limit);
        let mut found: Vec<(StepIndex, OutputRow)> = Vec::new();
        for item in items.await? {
            let step = keys::step_of_output(&Key::of(&item))?;
            if found.last().is_none_or(|(last, _)| *last != step) {
                found.push((step, record(item)?));
            }
        }
        Ok(found)
    }

    /// The whole text of an output.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn output_text(&self, stored: StoredOutput) -> Result<String, Error> {
        match stored {
            StoredOutput::Row { text } => Ok(text),
            StoredOutput::Object { object, .. } => self.objects.get(&object).await,
        }
    }

    /// Stores an artifact, before the commit that refers to it. `bytes` are all that it holds: others are not taken.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub async fn put_artifact(&self, artifact: &Artifact, bytes: Vec<u8>) -> Result<(), Error> {
        let (key, sha256) = (artifact_key(artifact), sha256_of(artifact)?);
        self.objects.put(&key, bytes, BYTES, sha256).await
    }

    /// A URL to fetch an artifact by.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn artifact_url(&self, artifact: &Artifact) -> Result<OutputUrl, Error> {
        self.objects.url(&artifact_key(artifact))
    }

    /// A URL of an object of the bucket.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn output_url(&self, object: &str) -> Result<OutputUrl, Error> {
        self.objects.url(object)
    }

    /// Stores outputs as far as that is done before the commit, and returns the writes that are a part of it.
    pub(crate) async fn keep(&self, run: &RunId, outputs: &[&Output]) -> Result<Vec<Write>, Error> {
        let stored = outputs.iter().map(|output| async move {
            let stored = match output.text.len() {
                0..=IN_ROW => StoredOutput::Row {
                    text: output.text.clone(),
                },
                _ => self.put_object(run, output).await?,
            };
            let row = OutputRow {
                output: stored,
                artifacts: output.artifacts.clone(),
            };
            put(keys::output(run, output.step, output.number), &row)
        });
        try_join_all(stored).await
    }

    async fn put_object(&self, run: &RunId, output: &Output) -> Result<StoredOutput, Error> {
        let hash = Sha256::digest(&output.text);
        let sha256 = format!("{hash:x}");
        let object = object_key(run, output, &sha256);
        let body = output.text.as_bytes().to_vec();
        self.objects.put(&object, body, TEXT, hash.into()).await?;
        Ok(StoredOutput::Object {
            object,
            bytes: output.text.len() as u64,
            sha256,
        })
    }
}

/// The part of a hash, of 128 bits, that tells apart the objects of one output or job.
fn key_part(sha256: &str) -> &str {
    sha256.get(..32).unwrap_or(sha256)
}

/// The hash of an artifact, in bytes.
pub(crate) fn sha256_of(artifact: &Artifact) -> Result<[u8; 32], Error> {
    let digits = &artifact.sha256;
    let pairs = (0..32).map(|at| digits.get(2 * at..2 * at + 2));
    let bytes = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok());
    let bytes: Option<Vec<u8>> = bytes.collect();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Error::Broken("an artifact has no SHA-256".to_owned()))
}

/// The key of an object. Everything of a run is under one prefix.
fn object_key(run: &RunId, output: &Output, sha256: &str) -> String {
    let hash = key_part(sha256);
    let (step, number) = (output.step.0, output.number);
    format!("runs/{run}/{step:04}/{number:05}/{hash}")
}

/// The key of an artifact's object: everything of a run is under one prefix, and a browser names what it keeps by the last
/// part. The artifact's name has been checked.
pub(crate) fn artifact_key(artifact: &Artifact) -> String {
    let Artifact {
        name, sha256, job, ..
    } = artifact;
    let hash = key_part(sha256);
    let file = name.rsplit('/').next().unwrap_or_default();
    format!("runs/{}/artifacts/{job}/{hash}/{file}", job.run())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::attributes;

    #[test]
    fn rows_say_what_they_hold() {
        let key = Key::new("run", "OUT#0000#00001");
        let object = StoredOutput::Object {
            object: "runs/run/0000/00001/ab".to_owned(),
            bytes: 204_801,
            sha256: "ab".to_owned(),
        };
        let text = StoredOutput::Row {
            text: "all of it".to_owned(),
        };
        let left = Artifact {
            name: "dist/report.html".to_owned(),
            bytes: 7,
            sha256: "ab".repeat(32),
            job: "job_00000000000000000000000001-2".parse().unwrap(),
        };
        for (output, artifacts) in [(text, vec![]), (object, vec![left])] {
            let row = OutputRow { output, artifacts };
            let item = attributes(&key, &row).unwrap();
            assert_eq!(record::<OutputRow>(item.clone()).unwrap(), row);
            assert_eq!(record::<StoredOutput>(item).unwrap(), row.output);
        }
    }

    #[test]
    fn two_texts_of_one_output_are_two_objects() {
        let run: RunId = RunId::from_ulid("00000000000000000000000001").unwrap();
        let output = Output {
            step: StepIndex(3),
            number: 2,
            text: String::new(),
            artifacts: Vec::new(),
        };
        let (one, other) = ("a".repeat(64), "b".repeat(64));
        let key = object_key(&run, &output, &one);
        assert_eq!(key, format!("runs/{run}/0003/00002/{}", "a".repeat(32)));
        assert_ne!(key, object_key(&run, &output, &other));
    }
}
