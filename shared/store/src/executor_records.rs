//! Records of executors: who is registered, by which token it is known, over which socket it is reached, and which
//! messages wait for it.
//!
//! A message is put in the same transaction as the change that it tells of, and stays until the executor acknowledges it:
//! what is pushed over a socket, or fetched by a poll, is only ever a copy.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use towpath_engine::{Timestamp, WorkspaceId};
use towpath_executors::{ExecutorId, RegisterPayload};
use towpath_table::{Condition, Key, Table, Update, Write, number, string};

use crate::form::{FORM, put, record};
use crate::job_records::held;
use crate::{Error, Store, keys};

/// The prefix of the sort keys of messages.
const MESSAGES: &str = "MSG#";

/// The records of executors. Cheap to clone.
#[derive(Clone)]
pub struct ExecutorRecords {
    table: Arc<dyn Table>,
}

/// The record of an executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutorRecord {
    /// The identity of the executor, which it brings with it.
    pub executor: ExecutorId,
    /// The workspace that the executor serves.
    pub workspace: WorkspaceId,
    /// What the executor said of itself when it last registered.
    #[serde(with = "as_json")]
    pub registration: RegisterPayload,
    /// The time of the first registration.
    pub registered_at: Timestamp,
    /// The hash of the token by which the executor is known.
    pub token_hash: String,
    /// The hash of the token before, which is good for a while after a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_hash: Option<String>,
    /// The last time at which something was heard of the executor.
    pub heard_at: Timestamp,
    /// The id of the open socket: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Whether the executor takes dispatches: over its socket, or by polling.
    #[serde(default)]
    pub takes_dispatches: bool,
    /// The time at which the socket was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnected_at: Option<Timestamp>,
    /// The missions that the executor has.
    #[serde(default, skip_serializing)]
    pub missions: BTreeSet<String>,
}

/// The record of an executor's token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRecord {
    /// The workspace of the executor.
    pub workspace: WorkspaceId,
    /// The executor that has the token.
    pub executor: ExecutorId,
    /// The time until which the token is good. `None`: until it is rotated or revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// The record of an open socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The workspace of the executor.
    pub workspace: WorkspaceId,
    /// The executor at the other end.
    pub executor: ExecutorId,
    /// The hash of the token by which the socket was opened.
    pub token_hash: String,
    /// The time after which the row may be deleted, in seconds since the epoch.
    pub ttl: u64,
}

/// A message that waits for an executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The identity of the message: the same message is never two.
    pub id: String,
    /// The time at which the message was put: messages are told in this order.
    pub at: Timestamp,
    /// The message itself, as JSON.
    pub text: String,
}

impl Message {
    /// The sort key of the message among those of its executor.
    pub fn key(&self) -> String {
        format!("{MESSAGES}{:013}#{}", self.at.0, self.id)
    }
}

impl Store {
    /// The records of executors.
    pub fn executor_records(&self) -> ExecutorRecords {
        ExecutorRecords {
            table: Arc::clone(&self.executors),
        }
    }
}

impl ExecutorRecord {
    /// The key of the record.
    pub(crate) fn key(&self) -> Key {
        keys::executor(&self.workspace, &self.executor)
    }
}

impl ExecutorRecords {
    /// An executor of a workspace.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub async fn get(
        &self,
        workspace: &WorkspaceId,
        id: &ExecutorId,
    ) -> Result<Option<ExecutorRecord>, Error> {
        let item = self.table.get(&keys::executor(workspace, id)).await?;
        item.map(record).transpose()
    }

    /// The executors of a workspace, by id.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub async fn list(&self, workspace: &WorkspaceId) -> Result<Vec<ExecutorRecord>, Error> {
        let items = self.table.query(&keys::executors(workspace), "").await?;
        items.into_iter().map(record).collect()
    }

    /// The record of the token with this hash.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub async fn token(&self, hash: &str) -> Result<Option<TokenRecord>, Error> {
        let item = self.table.get(&keys::executor_token(hash)).await?;
        item.map(record).transpose()
    }

    /// Registers an executor that its workspace does not know, with its first token. False: it is known.
    ///
    /// # Errors
    /// If the records cannot be written.
    pub async fn register(&self, new: &ExecutorRecord, due: Timestamp) -> Result<bool, Error> {
        let key = new.key();
        let Write { change, .. } = put(key.clone(), new)?;
        let mut write = Write {
            change,
            ..Write::delete(key.clone())
        };
        if let towpath_table::Change::Put(item) = &mut write.change {
            item.extend(due_of(&key, due).set);
        }
        let token = TokenRecord {
            workspace: new.workspace.clone(),
            executor: new.executor.clone(),
            until: None,
        };
        let token = put(keys::executor_token(&new.token_hash), &token)?;
        let writes = vec![write.when(Condition::Absent), token.when(Condition::Absent)];
        held(self.table.transact(writes).await)
    }

    /// Notes what a known executor says of itself now. False: it is not known any more, or by another token.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub async fn describe(
        &self,
        known: &ExecutorRecord,
        registration: &RegisterPayload,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let key = known.key();
        let said = serde_json::to_string(registration).map_err(|e| Error::damaged(&key, e))?;
        let update = Update::default()
            .set("registration", string(said))
            .set("heardAt", number(now.0));
        let write = Write::update(key, update)
            .when(Condition::Equals("tokenHash", string(&known.token_hash)));
        held(self.table.write(write).await)
    }

    /// Gives an executor another token. The one before is good until `overlap`, the one before that no longer. False: the
    /// executor's token is another than `known` says.
    ///
    /// # Errors
    /// If the records cannot be written.
    pub async fn rotate(
        &self,
        known: &ExecutorRecord,
        new_hash: &str,
        overlap: Timestamp,
    ) -> Result<bool, Error> {
        let token = TokenRecord {
            workspace: known.workspace.clone(),
            executor: known.executor.clone(),
            until: None,
        };
        let update = Update::default()
            .set("tokenHash", string(new_hash))
            .set("previousHash", string(&known.token_hash));
        let ends = Update::default()
            .set("until", number(overlap.0))
            .set("ttl", number(overlap.0 / 1000 + 1));
        let mut writes = vec![
            put(keys::executor_token(new_hash), &token)?.when(Condition::Absent),
            Write::update(keys::executor_token(&known.token_hash), ends).when(Condition::Present),
            Write::update(known.key(), update)
                .when(Condition::Equals("tokenHash", string(&known.token_hash))),
        ];
        let before = known.previous_hash.iter();
        writes.extend(before.map(|hash| Write::delete(keys::executor_token(hash))));
        held(self.table.transact(writes).await)
    }

    /// Removes an executor with its tokens. False: it is not known any more, has another token, or has missions.
    ///
    /// # Errors
    /// If the records cannot be written.
    pub async fn remove(&self, known: &ExecutorRecord) -> Result<bool, Error> {
        let gone = Write::delete(known.key())
            .when(Condition::Equals("tokenHash", string(&known.token_hash)))
            .when(Condition::Lacks("missions"));
        let tokens = [Some(&known.token_hash), known.previous_hash.as_ref()];
        let tokens = tokens.into_iter().flatten();
        let mut writes = vec![gone];
        writes.extend(tokens.map(|hash| Write::delete(keys::executor_token(hash))));
        if let Some(connection) = &known.connection {
            writes.push(Write::delete(keys::connection(connection)));
        }
        held(self.table.transact(writes).await)
    }

    /// Revokes the tokens of an executor at once, before it is removed: nobody can speak for it any more.
    ///
    /// # Errors
    /// If the records cannot be written.
    pub async fn revoke(&self, known: &ExecutorRecord) -> Result<(), Error> {
        let tokens = [Some(&known.token_hash), known.previous_hash.as_ref()];
        let tokens = tokens.into_iter().flatten();
        let writes = tokens.map(|hash| Write::delete(keys::executor_token(hash)));
        Ok(self.table.transact(writes.collect()).await?)
    }

    /// Notes that something was heard of an executor. `takes_dispatches`: it polls.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub async fn heard(
        &self,
        workspace: &WorkspaceId,
        id: &ExecutorId,
        takes_dispatches: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut update = Update::default().set("heardAt", number(now.0));
        if takes_dispatches {
            update = update.set(
                "takesDispatches",
                aws_sdk_dynamodb::types::AttributeValue::Bool(true),
            );
        }
        let write = Write::update(keys::executor(workspace, id), update);
        held(self.table.write(write.when(Condition::Present)).await).map(|_| ())
    }

    /// Sets the time at which somebody must look at an executor.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub async fn look_at(&self, known: &ExecutorRecord, due: Timestamp) -> Result<(), Error> {
        let key = known.key();
        let write = Write::update(key.clone(), due_of(&key, due)).when(Condition::Present);
        held(self.table.write(write).await).map(|_| ())
    }

    /// Notes the socket of an executor: the newest counts. False: the executor is not known any more.
    ///
    /// # Errors
    /// If the records cannot be written.
    pub async fn connect(
        &self,
        id: &str,
        connection: &Connection,
        takes_dispatches: bool,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let key = keys::executor(&connection.workspace, &connection.executor);
        let takes = aws_sdk_dynamodb::types::AttributeValue::Bool(takes_dispatches);
        let update = Update::default()
            .set("connection", string(id))
            .set("heardAt", number(now.0))
            .set("takesDispatches", takes)
            .remove("disconnectedAt");
        let writes = vec![
            put(keys::connection(id), connection)?,
            Write::update(key, update).when(Condition::Present),
        ];
        held(self.table.transact(writes).await)
    }

    /// The executor at the other end of a socket.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub async fn connection(&self, id: &str) -> Result<Option<Connection>, Error> {
        let item = self.table.get(&keys::connection(id)).await?;
        item.map(record).transpose()
    }

    /// Notes that a socket is closed. Of an executor that has opened another meanwhile, nothing changes.
    ///
    /// # Errors
    /// If the records cannot be written.
    pub async fn disconnect(&self, id: &str, now: Timestamp) -> Result<(), Error> {
        let Some(connection) = self.connection(id).await? else {
            return Ok(());
        };
        let key = keys::executor(&connection.workspace, &connection.executor);
        let update = Update::default()
            .remove("connection")
            .set("disconnectedAt", number(now.0));
        let noted = Write::update(key, update).when(Condition::Equals("connection", string(id)));
        held(self.table.write(noted).await)?;
        let gone = Write::delete(keys::connection(id));
        Ok(self.table.write(gone).await?)
    }

    /// The messages that wait for an executor, in order, at most `limit`.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn messages(
        &self,
        workspace: &WorkspaceId,
        id: &ExecutorId,
        limit: i32,
    ) -> Result<Vec<Message>, Error> {
        let pk = keys::messages(workspace, id);
        let all = (MESSAGES, "MSG#~");
        let items = self.table.earliest(&pk, all, limit).await?;
        items.into_iter().map(record).collect()
    }

    /// Deletes messages that an executor has acknowledged. Those that are not there are no error.
    ///
    /// # Errors
    /// If they cannot be deleted.
    pub async fn acknowledge(
        &self,
        workspace: &WorkspaceId,
        id: &ExecutorId,
        acknowledged: &[Message],
    ) -> Result<(), Error> {
        let pk = keys::messages(workspace, id);
        for message in acknowledged {
            let key = Key::new(pk.clone(), message.key());
            self.table.write(Write::delete(key)).await?;
        }
        Ok(())
    }
}

/// The write that puts a message for an executor.
pub(crate) fn message_put(
    workspace: &WorkspaceId,
    to: &ExecutorId,
    message: &Message,
) -> Result<Write, Error> {
    let key = Key::new(keys::messages(workspace, to), message.key());
    put(key, message)
}

/// The attributes by which an executor is found when somebody must look at it.
pub(crate) fn due_of(key: &Key, at: Timestamp) -> Update {
    let update = keys::due(
        Update::default(),
        &format!("{}{}", key.pk, key.sk),
        Some(at),
    );
    update.set("v", number(FORM))
}

/// A member that is written whole, as a text of JSON.
pub(crate) mod as_json {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Serialize, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(value).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }

    pub(crate) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text).map_err(D::Error::custom)
    }
}
