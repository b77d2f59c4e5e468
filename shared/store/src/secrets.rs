//! Secrets for agents, as they are stored: encrypted.

use serde::{Deserialize, Serialize};
use towpath_engine::{SecretName, Timestamp, WorkspaceId};
use towpath_table::Write;

use crate::form::{put, record};
use crate::{Error, Store, keys};

/// A secret for agents. Its value can be read with the deployment's key only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedSecret {
    /// The name by which pipelines refer to the secret.
    pub name: SecretName,
    /// The encrypted value, with its nonce before it, in base64.
    pub sealed: String,
    /// The time the secret was put.
    pub updated_at: Timestamp,
    /// The name of the key that put it.
    pub updated_by: String,
}

impl Store {
    /// Keeps a secret, in place of one of the same name.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn put_secret(
        &self,
        workspace: &WorkspaceId,
        secret: &SealedSecret,
    ) -> Result<(), Error> {
        let key = keys::secret(workspace, &secret.name);
        Ok(self.runs.write(put(key, secret)?).await?)
    }

    /// The secret of this name.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn secret(
        &self,
        workspace: &WorkspaceId,
        name: &SecretName,
    ) -> Result<Option<SealedSecret>, Error> {
        let item = self.runs.get(&keys::secret(workspace, name)).await?;
        item.map(record).transpose()
    }

    /// The secrets of a workspace, by name.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn secrets(&self, workspace: &WorkspaceId) -> Result<Vec<SealedSecret>, Error> {
        let items = self.runs.query(&keys::secrets(workspace), "").await?;
        items.into_iter().map(record).collect()
    }

    /// Forgets a secret. False: there is none of this name.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn delete_secret(
        &self,
        workspace: &WorkspaceId,
        name: &SecretName,
    ) -> Result<bool, Error> {
        let delete = Write::delete(keys::secret(workspace, name));
        match self
            .runs
            .write(delete.when(towpath_table::Condition::Present))
            .await
        {
            Ok(()) => Ok(true),
            Err(towpath_table::Error::Conflict) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }
}
