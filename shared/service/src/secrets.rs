//! Secrets for agents: put, listed by name, deleted, and read for a job that is about to start.

use std::collections::{BTreeMap, BTreeSet};

use towpath_auth::Secret;
use towpath_engine::{Command, Pipeline, SecretName, ValidationError, WorkspaceId};
use towpath_store::{SealedSecret, Store};

use crate::{Caller, Error, Ports};

/// Keeps secrets for agents.
#[derive(Clone)]
pub struct AgentSecrets {
    ports: Ports,
}

impl AgentSecrets {
    pub(crate) fn new(ports: Ports) -> Self {
        Self { ports }
    }

    fn store(&self) -> &Store {
        &self.ports.store
    }

    /// Keeps a secret, in place of one of the same name. Jobs that start from now on get it.
    ///
    /// # Errors
    /// If it cannot be encrypted or written.
    pub async fn put(
        &self,
        caller: &Caller,
        name: &SecretName,
        value: &str,
    ) -> Result<SealedSecret, Error> {
        let secret = SealedSecret {
            name: name.clone(),
            sealed: self
                .ports
                .vault
                .seal(&caller.workspace, name, value)
                .await?,
            updated_at: self.ports.now(),
            updated_by: caller.name.clone(),
        };
        self.store().put_secret(&caller.workspace, &secret).await?;
        Ok(secret)
    }

    /// The secrets of a workspace, by name.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn list(&self, workspace: &WorkspaceId) -> Result<Vec<SealedSecret>, Error> {
        Ok(self.store().secrets(workspace).await?)
    }

    /// Forgets a secret. False: there is none of this name.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn delete(&self, workspace: &WorkspaceId, name: &SecretName) -> Result<bool, Error> {
        Ok(self.store().delete_secret(workspace, name).await?)
    }

    /// The places of a pipeline that name a secret which is not there.
    pub(crate) async fn errors(
        &self,
        workspace: &WorkspaceId,
        pipeline: &Pipeline,
    ) -> Result<Vec<ValidationError>, Error> {
        let mut missing = BTreeSet::new();
        for name in pipeline.secrets() {
            if self.store().secret(workspace, name).await?.is_none() {
                missing.insert(name);
            }
        }
        Ok(pipeline.errors_without_secrets(&missing))
    }

    /// The values of the secrets that a command names, as far as they are there.
    pub(crate) async fn of(
        &self,
        workspace: &WorkspaceId,
        command: &Command,
    ) -> Result<BTreeMap<SecretName, Secret>, Error> {
        let mut values = BTreeMap::new();
        for name in command.secrets() {
            let Some(found) = self.store().secret(workspace, name).await? else {
                continue;
            };
            match self
                .ports
                .vault
                .open(workspace, name, &found.sealed)
                .await?
            {
                Some(value) => {
                    values.insert(name.clone(), value);
                }
                None => {
                    tracing::error!(%name, "a secret was not encrypted with this deployment's key")
                }
            }
        }
        Ok(values)
    }
}
