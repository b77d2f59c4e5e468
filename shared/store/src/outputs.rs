//! Outputs: the text of a small one in its row, a large one in the bucket, with its row saying which object it is.
//!
//! An object is put before the commit that refers to it, and its key holds a part of its text's hash. So what a row
//! refers to is there, whole, and whoever loses a race over the same attempt (a repeated invocation, two people who
//! approve different texts at once) has put another object, or the same one again: never one in place of the winner's.
//! What the loser put is referred to by nobody.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use towpath_engine::{Output, RunId, StepIndex, Timestamp};

use crate::keys::Key;
use crate::rows::{Write, item, record};
use crate::{Error, Store};

/// The most an output may be, in bytes, to be kept in its row.
pub const IN_ROW: usize = 200 * 1024;

/// How long a URL of an output can be used: long enough to begin a download with.
const URL_VALID: Duration = Duration::from_secs(15 * 60);

const TEXT: &str = "text/plain; charset=utf-8";

/// An output as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Kept {
    /// In its row.
    Row {
        /// The whole of it.
        text: String,
    },
    /// In the bucket.
    Object {
        /// Under which key.
        object: String,
        /// Its size.
        bytes: u64,
        /// The SHA-256 of it, in hexadecimal digits.
        sha256: String,
    },
}

/// A URL by which whoever has it fetches an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputUrl {
    /// The URL. Not for logs.
    pub url: String,
    /// Until when it can be used, by the clock of S3.
    pub expires_at: Timestamp,
}

impl Store {
    /// An output, or where it is.
    pub async fn output(
        &self,
        run: &RunId,
        step: StepIndex,
        attempt: u32,
    ) -> Result<Option<Kept>, Error> {
        let item = self.get(&Key::output(run, step, attempt)).await?;
        item.map(record).transpose()
    }

    /// A URL of an object of the bucket. It is for whoever may read the output: who that is, is for the caller to know.
    pub fn output_url(&self, object: &str) -> Result<OutputUrl, Error> {
        let presigned = self.bucket.presign(object, SystemTime::now(), URL_VALID);
        let presigned = presigned.map_err(|e| Error::Broken(e.to_string()))?;
        let expires = presigned.expires.duration_since(SystemTime::UNIX_EPOCH);
        let expires = expires.map_err(|e| Error::Broken(e.to_string()))?;
        Ok(OutputUrl {
            url: presigned.url,
            expires_at: Timestamp(u64::try_from(expires.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    /// Keeps outputs as far as that is done before the commit, and returns the writes that are a part of it.
    pub(crate) async fn keep(&self, run: &RunId, outputs: &[Output]) -> Result<Vec<Write>, Error> {
        let kept = outputs.iter().map(|output| async move {
            let kept = match output.text.len() {
                0..=IN_ROW => Kept::Row {
                    text: output.text.clone(),
                },
                _ => self.put(run, output).await?,
            };
            let key = Key::output(run, output.step, output.attempt);
            Ok::<_, Error>(Write::Over(item(&key, &kept)?))
        });
        try_join_all(kept).await
    }

    async fn put(&self, run: &RunId, output: &Output) -> Result<Kept, Error> {
        let body = Bytes::from(output.text.clone());
        let hash: [u8; 32] = Sha256::digest(&body).into();
        let sha256: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let object = object_key(run, output, &sha256);
        let bytes = body.len() as u64;
        let put = self.bucket.put(&object, body, TEXT, hash).await;
        put.map_err(Error::from_sdk)?;
        Ok(Kept::Object {
            object,
            bytes,
            sha256,
        })
    }
}

/// Everything of a run is under one prefix. 128 bits of the hash tell the texts of one attempt apart.
fn object_key(run: &RunId, output: &Output, sha256: &str) -> String {
    let hash: String = sha256.chars().take(32).collect();
    format!(
        "runs/{run}/{:04}/{:05}/{hash}",
        output.step.0, output.attempt
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_they_hold_and_those_written_before_are_read() {
        let key = Key {
            pk: "run".to_owned(),
            sk: "OUT#0000#00001".to_owned(),
        };
        let object = Kept::Object {
            object: "runs/run/0000/00001/ab".to_owned(),
            bytes: 204_801,
            sha256: "ab".to_owned(),
        };
        let text = Kept::Row {
            text: "all of it".to_owned(),
        };
        for kept in [text.clone(), object] {
            assert_eq!(record::<Kept>(item(&key, &kept).unwrap()).unwrap(), kept);
        }
        let old = item(&key, &serde_json::json!({ "text": "all of it" })).unwrap();
        assert_eq!(record::<Kept>(old).unwrap(), text);
    }

    #[test]
    fn two_texts_of_one_attempt_are_two_objects() {
        let run: RunId = RunId::from_ulid("00000000000000000000000001").unwrap();
        let output = Output {
            step: StepIndex(3),
            attempt: 2,
            text: String::new(),
        };
        let (one, other) = ("a".repeat(64), "b".repeat(64));
        let key = object_key(&run, &output, &one);
        assert_eq!(key, format!("runs/{run}/0003/00002/{}", "a".repeat(32)));
        assert_ne!(key, object_key(&run, &output, &other));
    }
}
