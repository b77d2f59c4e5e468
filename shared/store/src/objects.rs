//! The bucket of large outputs.

use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use towpath_aws::Bucket;
use towpath_engine::Timestamp;

use crate::Error;

/// The time for which the URL of an output can be used: long enough to begin a download.
const URL_VALID: Duration = Duration::from_secs(15 * 60);

const TEXT: &str = "text/plain; charset=utf-8";

/// A URL by which whoever has it fetches an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputUrl {
    /// The URL. Not for logs.
    pub url: String,
    /// The time until which the URL can be used, by the clock of S3.
    pub expires_at: Timestamp,
}

/// A place for large texts.
#[async_trait]
pub trait Objects: fmt::Debug + Send + Sync {
    /// Stores a text under a key. Storing the same text under the same key again changes nothing.
    ///
    /// # Errors
    /// If the place does not answer.
    async fn put(&self, key: &str, text: &str, sha256: [u8; 32]) -> Result<(), Error>;

    /// Reads the text under a key.
    ///
    /// # Errors
    /// If the place does not answer, or there is no text of this key.
    async fn get(&self, key: &str) -> Result<String, Error>;

    /// A URL of an object. It is for whoever may read the output: who that is, is for the caller to know.
    ///
    /// # Errors
    /// If the URL cannot be signed.
    fn url(&self, key: &str) -> Result<OutputUrl, Error>;
}

#[async_trait]
impl Objects for Bucket {
    async fn put(&self, key: &str, text: &str, sha256: [u8; 32]) -> Result<(), Error> {
        let body = Bytes::copy_from_slice(text.as_bytes());
        let put = Bucket::put(self, key, body, TEXT, sha256).await;
        put.map_err(|e| towpath_table::Error::from_sdk(&e).into())
    }

    async fn get(&self, key: &str) -> Result<String, Error> {
        let got = Bucket::get(self, key).await;
        let bytes = got.map_err(|e| Error::from(towpath_table::Error::from_sdk(&e)))?;
        let not_text = |_| Error::Broken(format!("the object {key} is not UTF-8"));
        String::from_utf8(bytes.into()).map_err(not_text)
    }

    fn url(&self, key: &str) -> Result<OutputUrl, Error> {
        let presigned = self.presign(key, SystemTime::now(), URL_VALID);
        let presigned = presigned.map_err(|e| Error::Broken(e.to_string()))?;
        let expires = presigned.expires.duration_since(SystemTime::UNIX_EPOCH);
        let expires = expires.map_err(|e| Error::Broken(e.to_string()))?;
        Ok(OutputUrl {
            url: presigned.url,
            expires_at: Timestamp(u64::try_from(expires.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}
