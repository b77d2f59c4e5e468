//! Answers of humans: durable before the driver is woken.

use sha2::{Digest, Sha256};
use towpath_api_types::{Code, Problem};
use towpath_engine::{Answer, AnswerError, Audit, Effect, Next, RunId, answer};
use towpath_store::{Error as StoreError, Loaded};

use crate::caller::{busy, no_run};
use crate::outbox::Outbox;
use crate::stops::Stops;
use crate::{Caller, Error, transition};

/// Longer than any decision's or approval's id.
const SUBJECT_LIMIT: usize = 64;

/// Takes the answers of humans.
#[derive(Clone)]
pub struct Answers {
    outbox: Outbox,
    stops: Stops,
}

/// An answer that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The answer as it stands in the audit.
    pub audit: Audit,
}

/// What a try to take an answer came to: it was taken, or there is a problem to tell.
type Tried = Result<Result<Answered, Problem>, Error>;

impl Answers {
    pub(crate) fn new(outbox: Outbox, stops: Stops) -> Self {
        Self { outbox, stops }
    }

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
        said: &Answer,
    ) -> Result<Answered, Problem> {
        if subject.len() > SUBJECT_LIMIT {
            let subject = subject.chars().take(SUBJECT_LIMIT).collect();
            return Err(refused(AnswerError::NotAsked(subject)));
        }
        let mut races = self.outbox.races();
        loop {
            let tried = self.answer_once(caller, id, subject, said).await;
            if races.again(&tried).await {
                continue;
            }
            return match tried {
                Err(Error::Store(StoreError::Conflict)) => Err(busy()),
                tried => tried?,
            };
        }
    }

    async fn answer_once(
        &self,
        caller: &Caller,
        id: &RunId,
        subject: &str,
        said: &Answer,
    ) -> Tried {
        let store = &self.outbox.ports.store;
        let loaded = store.load(id).await?;
        let own = |loaded: &Loaded| loaded.run.head.workspace == caller.workspace;
        let Some(loaded) = loaded.filter(own) else {
            return Ok(Err(no_run(id)));
        };
        if let Some(audit) = store.audit(id, subject).await? {
            // Perhaps it was this very answer that got through, and nobody has been told yet.
            self.outbox.try_deliver(id, loaded.wait).await;
            return Ok(repeated(audit, said));
        }
        if loaded.run.head.stop.is_some() {
            self.stops.end_marked(id).await?;
            return Ok(Err(refused(AnswerError::NotAsked(subject.to_owned()))));
        }
        let now = self.outbox.now();
        // The engine refuses an answer in its own way, so the records that it may need are got by a transition that
        // cannot refuse.
        let refusal = std::sync::Mutex::new(None);
        let after = transition::apply(store, &loaded.run, |run| {
            match answer(run, subject, said, &caller.name, now) {
                Ok(outcome) => Ok(outcome),
                Err(AnswerError::Illegal(illegal)) => Err(illegal),
                Err(other) => {
                    if let Ok(mut refusal) = refusal.lock() {
                        *refusal = Some(other);
                    }
                    Ok(towpath_engine::Outcome::Noop)
                }
            }
        });
        let mut after = after.await?;
        if let Some(error) = refusal.into_inner().ok().flatten() {
            return Ok(Err(refused(error)));
        }
        let mut audited = None;
        for effect in &mut after.effects {
            if let Effect::Audit(audit) = effect {
                audit.digest = Some(digest(said));
                audited = Some(audit.clone());
            }
        }
        let wait = match after.head.status.is_terminal() {
            true => loaded.wait.over(now),
            // A job that waits for the answer is brought it by whoever looks at it.
            false if after.step.call().is_some() => loaded.wait.wake(Next::PollJob, now),
            false => loaded.wait.wake(Next::Advance, now),
        };
        let committed = self.outbox.commit(&loaded, after, wait).await?;
        self.outbox.try_deliver(id, committed.wait).await;
        Ok(audited.map(|audit| Answered { audit }).ok_or_else(busy))
    }
}

fn repeated(audit: Audit, said: &Answer) -> Result<Answered, Problem> {
    if audit.digest == Some(digest(said)) {
        return Ok(Answered { audit });
    }
    let before = serde_json::to_value(audit.action).unwrap_or_default();
    let message = format!(
        "{} was answered otherwise before: {}, by {}",
        audit.subject,
        before.as_str().unwrap_or_default().replace('_', " "),
        audit.actor
    );
    Err(Problem::new(Code::AlreadyAnswered, message))
}

/// A hash of an answer, whole: two are the same only to the letter.
fn digest(said: &Answer) -> String {
    // An answer is plain text and numbers, which always serialise.
    let text = serde_json::to_vec(said).unwrap_or_default();
    format!("{:x}", Sha256::digest(text))
}

fn refused(error: AnswerError) -> Problem {
    let message = error.to_string();
    match error {
        AnswerError::NotAsked(_) => Problem::new(Code::NotWaiting, message),
        AnswerError::NotAnOption { .. } => Problem::new(Code::InvalidRequest, message).at("choice"),
        AnswerError::WrongKind(_) => Problem::new(Code::InvalidRequest, message),
        AnswerError::Illegal(illegal) => Error::Illegal(illegal).into(),
    }
}
