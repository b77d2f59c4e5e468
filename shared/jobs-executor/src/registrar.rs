//! Who is an executor: registration, tokens, sockets.

use std::time::Duration;

use serde_json::Value;
use towpath_auth::ExecutorToken;
use towpath_engine::WorkspaceId;
use towpath_executors::{
    DeregisterReason, EXTENSION, ExecutorId, ExecutorStatus, ExecutorsListResponse,
    RegisterPayload, RegisterResponse,
};
use towpath_jobs::Unreadable;
use towpath_store::{Connection, Error, ExecutorRecord};

use crate::delivery::Delivery;
use crate::missions::Missions;
use crate::view::{SILENT, executor_status, instant};
use crate::{Ports, RACES, Refused};

/// The time for which a token is good after it was rotated.
const OVERLAP: Duration = Duration::from_secs(600);
/// The time after which the row of a socket that nobody closed is no longer needed, in seconds: sockets live for 2 h.
const SOCKET_KEPT: u64 = 3 * 3600;

/// Admits executors, and opens and closes their sockets.
#[derive(Clone)]
pub struct Registrar {
    ports: Ports,
    missions: Missions,
    delivery: Delivery,
}

/// An executor that has proved itself by its token.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The record of the executor.
    pub record: ExecutorRecord,
    /// The hash of the token.
    pub token_hash: String,
}

/// The answer to a registration.
pub struct Registered {
    /// The answer as the contract has it.
    pub response: RegisterResponse,
    /// Whether the executor speaks a newer minor version of the contract than this deployment.
    pub is_newer: bool,
}

/// How an executor proves itself when it registers.
pub enum Proof<'a> {
    /// A key of its workspace that may enrol executors.
    Enrolment(&'a WorkspaceId),
    /// The token that it has.
    Token(&'a str),
}

impl Registrar {
    pub(crate) fn new(ports: Ports, missions: Missions, delivery: Delivery) -> Self {
        Self {
            ports,
            missions,
            delivery,
        }
    }

    /// The executor whose token this is.
    ///
    /// # Errors
    /// [`Refused::NoToken`] if it is none, or not any more.
    pub async fn authenticate(&self, token: &str) -> Result<Identity, Refused> {
        let token = ExecutorToken::parse(token).map_err(|_| Refused::NoToken)?;
        let token_hash = token.hash();
        let found = self.ports.executors.token(&token_hash).await?;
        let now = self.ports.now();
        let good = found.filter(|it| it.until.is_none_or(|until| now < until));
        let found = good.ok_or(Refused::NoToken)?;
        let record = self
            .ports
            .executors
            .get(&found.workspace, &found.executor)
            .await?;
        let record = record.ok_or(Refused::NoToken)?;
        // A token that the record does not know is one of a rotation that was overtaken.
        let known = [Some(&record.token_hash), record.previous_hash.as_ref()];
        match known.contains(&Some(&token_hash)) {
            true => Ok(Identity { record, token_hash }),
            false => Err(Refused::NoToken),
        }
    }

    /// The executor of this id, whose token this is.
    ///
    /// # Errors
    /// [`Refused::NoToken`], or [`Refused::AnotherExecutor`] if the token is another's.
    pub async fn authenticate_as(&self, id: &str, token: &str) -> Result<Identity, Refused> {
        let identity = self.authenticate(token).await?;
        match identity.record.executor.as_str() == id {
            true => Ok(identity),
            false => Err(Refused::AnotherExecutor),
        }
    }

    /// Registers an executor with the enrolment key of its workspace, or registers one again with its own token.
    ///
    /// # Errors
    /// [`Refused::WrongState`] if the workspace knows the id already and the proof is not its token.
    pub async fn register(
        &self,
        proof: Proof<'_>,
        said: &RegisterPayload,
    ) -> Result<Registered, Refused> {
        match proof {
            Proof::Enrolment(workspace) => self.enrol(workspace, said).await,
            Proof::Token(token) => self.renew(token, said).await,
        }
    }

    async fn enrol(
        &self,
        workspace: &WorkspaceId,
        said: &RegisterPayload,
    ) -> Result<Registered, Refused> {
        if said.executor_id == ExecutorId::nobody() {
            let message = "executor_id: the nil UUID stands for no executor; make a random one";
            return Err(Refused::Invalid(message.to_owned()));
        }
        let now = self.ports.now();
        let token = new_token()?;
        let new = ExecutorRecord {
            executor: said.executor_id.clone(),
            workspace: workspace.clone(),
            registration: said.clone(),
            registered_at: now,
            token_hash: token.hash(),
            previous_hash: None,
            heard_at: now,
            connection: None,
            takes_dispatches: false,
            disconnected_at: None,
            missions: Default::default(),
        };
        if !self
            .ports
            .executors
            .register(&new, now.plus(SILENT))
            .await?
        {
            return Err(Refused::WrongState(format!(
                "the executor {} is registered: register it again with its own token, or remove it first",
                said.executor_id
            )));
        }
        Ok(registered(&new, &token))
    }

    async fn renew(&self, text: &str, said: &RegisterPayload) -> Result<Registered, Refused> {
        for _ in 0..RACES {
            let Identity { record, token_hash } = self.authenticate(text).await?;
            if record.executor != said.executor_id {
                return Err(Refused::AnotherExecutor);
            }
            let now = self.ports.now();
            if !self.ports.executors.describe(&record, said, now).await? {
                continue;
            }
            // From elsewhere, or with a token that is running out: whoever copied the old one is left behind with it.
            let moved = record.registration.transport_endpoints != said.transport_endpoints;
            let old = token_hash != record.token_hash;
            let token = match moved || old {
                true => self.rotated(&record).await?,
                false => ExecutorToken::parse(text).ok(),
            };
            if let Some(token) = token {
                return Ok(registered(&record, &token));
            }
        }
        Err(Refused::Busy)
    }

    /// Gives an executor another token. The one before is good for ten more minutes.
    ///
    /// # Errors
    /// If the records cannot be written.
    pub async fn rotate(
        &self,
        workspace: &WorkspaceId,
        id: &str,
    ) -> Result<RegisterResponse, Refused> {
        for _ in 0..RACES {
            let record = self.get(workspace, id).await?;
            if let Some(token) = self.rotated(&record).await? {
                return Ok(registered(&record, &token).response);
            }
        }
        Err(Refused::Busy)
    }

    /// The new token of an executor. `None`: somebody else has rotated it meanwhile.
    async fn rotated(&self, record: &ExecutorRecord) -> Result<Option<ExecutorToken>, Refused> {
        let token = new_token()?;
        let overlap = self.ports.now().plus(OVERLAP);
        let rotated = self
            .ports
            .executors
            .rotate(record, &token.hash(), overlap)
            .await?;
        Ok(rotated.then_some(token))
    }

    async fn get(&self, workspace: &WorkspaceId, id: &str) -> Result<ExecutorRecord, Refused> {
        let unknown = || Refused::NotFound(format!("there is no executor {id}"));
        let executor: ExecutorId = id.parse().map_err(|_| unknown())?;
        let found = self.ports.executors.get(workspace, &executor).await?;
        found.ok_or_else(unknown)
    }

    /// An executor, as the contract shows it.
    ///
    /// # Errors
    /// If the workspace has no such executor.
    pub async fn status(
        &self,
        workspace: &WorkspaceId,
        id: &str,
    ) -> Result<ExecutorStatus, Refused> {
        let record = self.get(workspace, id).await?;
        Ok(executor_status(&record, self.ports.now()))
    }

    /// The executors of a workspace, as the contract shows them.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub async fn list(&self, workspace: &WorkspaceId) -> Result<ExecutorsListResponse, Refused> {
        let now = self.ports.now();
        let executors = self.ports.executors.list(workspace).await?;
        Ok(ExecutorsListResponse {
            executors: executors
                .iter()
                .map(|it| executor_status(it, now))
                .collect(),
        })
    }

    /// Removes an executor: its tokens are revoked at once, its socket is closed, its missions are lost.
    ///
    /// # Errors
    /// If the workspace has no such executor.
    pub async fn deregister(
        &self,
        workspace: &WorkspaceId,
        id: &str,
        reason: DeregisterReason,
    ) -> Result<(), Refused> {
        for _ in 0..RACES {
            let record = self.get(workspace, id).await?;
            self.ports.executors.revoke(&record).await?;
            self.close(record.connection.as_deref()).await;
            let told = format!("its executor was removed: {}", reason.as_str());
            for mission in &record.missions {
                match self.missions.get(workspace, mission).await {
                    Ok(mission) => self.missions.lose(&mission, &told).await?,
                    Err(Refused::NotFound(_)) => {}
                    Err(other) => return Err(other),
                }
            }
            // One that got another mission or token meanwhile is looked at again.
            let now = self.get(workspace, id).await?;
            if self.ports.executors.remove(&now).await? {
                return Ok(());
            }
        }
        Err(Refused::Busy)
    }

    async fn close(&self, connection: Option<&str>) {
        if let Some(connection) = connection {
            self.hang_up(connection).await;
        }
    }

    /// Closes the WebSocket connection of this id. A failure is logged, and is no error.
    pub async fn hang_up(&self, connection: &str) {
        if let Err(Unreadable(why)) = self.ports.sockets.close(connection).await {
            tracing::warn!(connection, "a socket could not be closed: {why}");
        }
    }

    /// Opens the socket of an executor. The newest one counts; the one before is closed.
    ///
    /// # Errors
    /// [`Refused::NoToken`] or [`Refused::AnotherExecutor`].
    pub async fn connect(
        &self,
        connection: &str,
        id: &str,
        token: &str,
        extensions: Option<&str>,
    ) -> Result<(), Refused> {
        let Identity { record, token_hash } = self.authenticate_as(id, token).await?;
        let now = self.ports.now();
        let extends = extensions.unwrap_or_default();
        let extends = extends.split([',', ' ']).any(|it| it == EXTENSION);
        let socket = Connection {
            workspace: record.workspace.clone(),
            executor: record.executor.clone(),
            token_hash,
            ttl: now.0 / 1000 + SOCKET_KEPT,
        };
        let noted = self
            .ports
            .executors
            .connect(connection, &socket, extends, now)
            .await?;
        if !noted {
            return Err(Refused::NoToken);
        }
        let before = record.connection.as_deref();
        self.close(before.filter(|before| *before != connection))
            .await;
        Ok(())
    }

    /// Notes that a socket is closed.
    ///
    /// # Errors
    /// If the records cannot be written.
    pub async fn disconnect(&self, connection: &str) -> Result<(), Error> {
        let now = self.ports.now();
        self.ports.executors.disconnect(connection, now).await
    }

    /// The executor at the other end of a socket. One that was closed from our side, or whose token was revoked, is nobody's.
    ///
    /// # Errors
    /// [`Refused::NoToken`].
    pub async fn at(&self, connection: &str) -> Result<ExecutorRecord, Refused> {
        let found = self.ports.executors.connection(connection).await?;
        let found = found.ok_or(Refused::NoToken)?;
        let record = self
            .ports
            .executors
            .get(&found.workspace, &found.executor)
            .await?;
        let record = record.ok_or(Refused::NoToken)?;
        let known = [Some(&record.token_hash), record.previous_hash.as_ref()];
        match known.contains(&Some(&found.token_hash)) {
            true => Ok(record),
            false => Err(Refused::NoToken),
        }
    }

    /// Takes a poll of an executor: it is there, and has these messages.
    ///
    /// # Errors
    /// If the records cannot be reached.
    pub async fn polled(&self, of: &Identity, acknowledged: &[String]) -> Result<(), Refused> {
        let (workspace, id) = (&of.record.workspace, &of.record.executor);
        let now = self.ports.now();
        self.ports.executors.heard(workspace, id, true, now).await?;
        self.delivery
            .acknowledge(workspace, id, acknowledged)
            .await?;
        Ok(self.missions.serve_queue(&of.record).await?)
    }

    /// The messages that wait for an executor.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn messages(&self, of: &Identity) -> Result<Vec<Value>, Refused> {
        Ok(self.delivery.claim(&of.record).await?.messages)
    }
}

fn new_token() -> Result<ExecutorToken, Refused> {
    let none = |error: towpath_auth::NoRandomness| Error::Broken(error.to_string());
    Ok(ExecutorToken::generate().map_err(none)?)
}

fn registered(record: &ExecutorRecord, token: &ExecutorToken) -> Registered {
    Registered {
        response: RegisterResponse {
            executor_id: record.executor.clone(),
            token: token.reveal().to_owned(),
            registered_at: instant(record.registered_at),
        },
        is_newer: record.registration.spec_version.is_newer(),
    }
}
