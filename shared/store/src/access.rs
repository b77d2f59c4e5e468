//! API keys, as they are stored: by hash.

use serde::{Deserialize, Serialize};
use towpath_engine::{Timestamp, WorkspaceId};

use crate::keys::Key;
use crate::rows::{item, record};
use crate::{Error, Store};

/// What a key may do; each scope includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See.
    Read,
    /// Start runs.
    Start,
    /// Answer what a human is asked, stop, retry and restart.
    Decide,
    /// Change definitions, settings and keys.
    Admin,
}

/// An API key, without the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Whose runs it reaches.
    pub workspace: WorkspaceId,
    /// What it may do.
    pub scope: Scope,
    /// What people call it. Stands in the audit of what was done with it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Store {
    /// The key of this hash.
    pub async fn api_key(&self, hash: &str) -> Result<Option<ApiKey>, Error> {
        self.get_from(&self.executors, &Key::api_key(hash))
            .await?
            .map(record)
            .transpose()
    }

    /// Admits a key.
    pub async fn put_api_key(&self, hash: &str, key: &ApiKey) -> Result<(), Error> {
        let item = item(&Key::api_key(hash), key)?;
        let put = self
            .db
            .put_item()
            .table_name(&self.executors)
            .set_item(Some(item));
        put.send().await.map_err(Error::from_sdk)?;
        Ok(())
    }
}
