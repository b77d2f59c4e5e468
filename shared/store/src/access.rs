//! API keys, as they are stored: by hash.

use serde::{Deserialize, Serialize};
use towpath_engine::{Timestamp, WorkspaceId};

use crate::form::{put, record};
use crate::{Error, Store, keys};

/// The scope of an API key; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Reads.
    Read,
    /// Starts runs.
    Start,
    /// Answers what a human is asked, stops, retries and restarts.
    Decide,
    /// Changes definitions, settings and keys.
    Admin,
}

/// The record of an API key, without the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// The workspace that the key reaches.
    pub workspace: WorkspaceId,
    /// The scope of the key: all that it may do.
    pub scope: Scope,
    /// The key's name, for people. Stands in the audit of what was done with it.
    pub name: String,
    /// The time the key was made.
    pub created_at: Timestamp,
}

impl Store {
    /// The record of the key with this hash.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn api_key(&self, hash: &str) -> Result<Option<ApiKey>, Error> {
        let item = self.executors.get(&keys::api_key(hash)).await?;
        item.map(record).transpose()
    }

    /// Admits a key.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn put_api_key(&self, hash: &str, key: &ApiKey) -> Result<(), Error> {
        let write = put(keys::api_key(hash), key)?;
        Ok(self.executors.write(write).await?)
    }
}
