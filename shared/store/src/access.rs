//! API keys, as they are stored: by hash.

use serde::{Deserialize, Serialize};
use towpath_engine::{Timestamp, WorkspaceId};
use towpath_table::{Condition, Update, Write, number};

use crate::form::{put, record};
use crate::{Error, Store, keys};

/// The scope of an API key; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Enrols executors, and reads nothing.
    Enrol,
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
    /// The time the key was revoked. It opens nothing from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// An API key in the list of its workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedKey {
    /// The id by which the key is revoked: the beginning of its hash.
    pub id: String,
    /// The hash of the key.
    pub hash: String,
    /// The record of the key.
    #[serde(flatten)]
    pub key: ApiKey,
}

/// The length of a key's id: 64 bits of its hash.
const ID: usize = 16;

impl ListedKey {
    /// The key of this hash and record.
    pub fn new(hash: &str, key: &ApiKey) -> Self {
        Self {
            id: hash.get(..ID).unwrap_or(hash).to_owned(),
            hash: hash.to_owned(),
            key: key.clone(),
        }
    }
}

impl Store {
    /// The record of the key with this hash, revoked or not.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn api_key(&self, hash: &str) -> Result<Option<ApiKey>, Error> {
        let item = self.executors.get(&keys::api_key(hash)).await?;
        item.map(record).transpose()
    }

    /// Admits a key, unless it was ever admitted before: one that was revoked stays revoked.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn put_api_key(&self, hash: &str, key: &ApiKey) -> Result<(), Error> {
        let listed = ListedKey::new(hash, key);
        let writes = vec![
            put(keys::api_key(hash), key)?.when(Condition::Absent),
            put(keys::listed_key(&key.workspace, &listed.id), &listed)?,
        ];
        match self.executors.transact(writes).await {
            Ok(()) | Err(towpath_table::Error::Conflict) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    /// The keys of a workspace, the revoked ones among them. Keys that 0.1.0 admitted are not listed.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn api_keys(&self, workspace: &WorkspaceId) -> Result<Vec<ListedKey>, Error> {
        let items = self
            .executors
            .query(&keys::listed_keys(workspace), "")
            .await?;
        items.into_iter().map(record).collect()
    }

    /// Revokes a key of a workspace, by another that is not revoked. False: there is no such key.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is revoked already, or the other one has been meanwhile: two keys cannot revoke each
    /// other.
    pub async fn revoke_api_key(
        &self,
        workspace: &WorkspaceId,
        id: &str,
        by: &str,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let listed = keys::listed_key(workspace, id);
        let Some(item) = self.executors.get(&listed).await? else {
            return Ok(false);
        };
        let found: ListedKey = record(item)?;
        let revoked = |key| {
            let update = Update::default().set("revokedAt", number(now.0));
            Write::update(key, update).when(Condition::Lacks("revokedAt"))
        };
        let used = Update::default().set("revokedAnotherAt", number(now.0));
        let live = Write::update(keys::api_key(by), used).when(Condition::Lacks("revokedAt"));
        let writes = vec![revoked(keys::api_key(&found.hash)), revoked(listed), live];
        self.executors.transact(writes).await?;
        Ok(true)
    }
}
