//! The bucket of large outputs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use towpath_aws::Bucket;
use towpath_engine::Timestamp;

use crate::Error;

/// The time for which the URL of an output can be used: long enough to begin a download.
const URL_VALID: Duration = Duration::from_secs(15 * 60);

/// The media type of texts.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
/// The media type of everything else: a browser keeps such a file, and never runs what is in it.
pub(crate) const BYTES: &str = "application/octet-stream";

/// A presigned URL to fetch one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputUrl {
    /// The URL. Not for logs.
    pub url: String,
    /// The time until which the URL can be used, by the clock of S3.
    pub expires_at: Timestamp,
}

/// A presigned URL to store one file, of one length and hash.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct UploadUrl {
    /// The URL. Not for logs.
    pub url: String,
    /// The headers that the request must have: they are signed.
    pub headers: BTreeMap<&'static str, String>,
}

/// A place for large texts and files.
#[async_trait]
pub trait Objects: fmt::Debug + Send + Sync {
    /// Stores bytes under a key. Storing the same bytes under the same key again changes nothing.
    ///
    /// # Errors
    /// If the place does not answer.
    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        media_type: &'static str,
        sha256: [u8; 32],
    ) -> Result<(), Error>;

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

    /// Signs a URL to store bytes of this length and SHA-256 under a key. Who may have it is for the caller to know.
    ///
    /// # Errors
    /// If the URL cannot be signed.
    fn upload_url(&self, key: &str, bytes: u64, sha256: [u8; 32]) -> Result<UploadUrl, Error>;
}

#[async_trait]
impl Objects for Bucket {
    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        media_type: &'static str,
        sha256: [u8; 32],
    ) -> Result<(), Error> {
        let put = Bucket::put(self, key, body.into(), media_type, sha256).await;
        put.map_err(|e| towpath_table::Error::from_sdk(&e).into())
    }

    async fn get(&self, key: &str) -> Result<String, Error> {
        let got = Bucket::get(self, key).await;
        let bytes = got.map_err(|e| Error::from(towpath_table::Error::from_sdk(&e)))?;
        let not_text = |_| Error::Broken(format!("the object {key} is not UTF-8"));
        String::from_utf8(bytes.into()).map_err(not_text)
    }

    fn url(&self, key: &str) -> Result<OutputUrl, Error> {
        let presigned = self.presign("GET", key, &[], SystemTime::now(), URL_VALID);
        let presigned = presigned.map_err(|e| Error::Broken(e.to_string()))?;
        let expires = presigned.expires.duration_since(SystemTime::UNIX_EPOCH);
        let expires = expires.map_err(|e| Error::Broken(e.to_string()))?;
        Ok(OutputUrl {
            url: presigned.url,
            expires_at: Timestamp(u64::try_from(expires.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    fn upload_url(&self, key: &str, bytes: u64, sha256: [u8; 32]) -> Result<UploadUrl, Error> {
        let headers = BTreeMap::from([
            ("content-length", bytes.to_string()),
            ("content-type", BYTES.to_owned()),
            ("x-amz-checksum-sha256", STANDARD.encode(sha256)),
        ]);
        let signed: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        let presigned = self.presign("PUT", key, &signed, SystemTime::now(), URL_VALID);
        let presigned = presigned.map_err(|e| Error::Broken(e.to_string()))?;
        Ok(UploadUrl {
            url: presigned.url,
            headers,
        })
    }
}
