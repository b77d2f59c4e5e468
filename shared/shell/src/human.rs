//! Answers of humans: durable before the driver is woken.

use towpath_contracts::{Code, Problem};
use towpath_engine::{Audit, Next, Refused, Reply, RunId, answer};
use towpath_store::Error as StoreError;

use crate::fold::Mailbox;
use crate::intake::{Caller, Told, busy};
use crate::{App, Error};

/// Longer than any decision's or approval's id.
const SUBJECT_LIMIT: usize = 64;

/// An answer that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// As it stands in the audit.
    pub audit: Audit,
}

impl App {
    /// Takes a human's answer to a decision or an approval. The same answer again is the same success; another answer
    /// to a settled question is refused.
    ///
    /// # Errors
    /// The problem to tell the caller; nothing was written then.
    #[tracing::instrument(skip_all, fields(run = %id, by = caller.name))]
    pub async fn answer(
        &self,
        caller: &Caller,
        id: &RunId,
        subject: &str,
        reply: &Reply,
    ) -> Told<Answered> {
        if subject.len() > SUBJECT_LIMIT {
            return Err(refused(Refused::NotAsked(
                subject.chars().take(SUBJECT_LIMIT).collect(),
            )));
        }
        for conflicts in 1..=20 {
            let loaded = self.own(caller, id).await?;
            let settled = self.store.audit(id, subject).await.map_err(Error::from)?;
            if let Some(audit) = settled {
                return repeated(audit, reply);
            }
            if loaded.run.head.stop.is_some() {
                self.end_marked(id).await?;
                return Err(refused(Refused::NotAsked(subject.to_owned())));
            }
            let mut run = loaded.run.clone();
            let now = self.now();
            answer(&mut run, subject, reply, &caller.name, now).map_err(refused)?;
            if let Some(audit) = run.changes.audit.as_mut() {
                audit.digest = Some(digest(reply));
            }
            let audit = run.changes.audit.clone();
            let wait = match run.head.status.is_terminal() {
                true => loaded.wait.over(now),
                false => loaded.wait.wake(Next::Advance, now),
            };
            match self.commit(&loaded, run, Mailbox::Becomes(wait)).await {
                Ok(committed) => {
                    self.try_deliver(id, committed.wait).await;
                    return audit.map(|audit| Answered { audit }).ok_or_else(busy);
                }
                // Perhaps it was this very answer that got through: the audit knows.
                Err(Error::Store(StoreError::Conflict)) => crate::drive::pause(conflicts).await,
                Err(other) => return Err(other.into()),
            }
        }
        Err(busy())
    }
}

fn repeated(audit: Audit, reply: &Reply) -> Told<Answered> {
    if audit.digest == Some(digest(reply)) {
        return Ok(Answered { audit });
    }
    let said = serde_json::to_value(audit.action)
        .ok()
        .and_then(|say| say.as_str().map(str::to_owned));
    let message = format!(
        "{} was answered otherwise before: {}, by {}",
        audit.subject,
        said.unwrap_or_default().replace('_', " "),
        audit.actor
    );
    Err(Problem::new(Code::AlreadyAnswered, message))
}

/// A hash of an answer, whole: two are the same only to the letter.
fn digest(reply: &Reply) -> String {
    use sha2::{Digest, Sha256};
    // A reply is plain text and numbers, which always serialise.
    let text = serde_json::to_vec(reply).unwrap_or_default();
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn refused(refused: Refused) -> Problem {
    let message = refused.to_string();
    match refused {
        Refused::NotAsked(_) => Problem::new(Code::NotWaiting, message),
        Refused::NotAnOption { .. } => Problem::new(Code::InvalidRequest, message).at("choice"),
        Refused::WrongKind(_) => Problem::new(Code::InvalidRequest, message),
        Refused::Illegal(illegal) => Error::Illegal(illegal).into(),
    }
}
