//! Records of jobs that run elsewhere: what was asked for, who works on it, whether it is to stop, how it ended.
//!
//! A record begins with the start of its job, or with a stop that comes before: then it is a tombstone, and the job never
//! begins. It is changed attribute by attribute, each change under the condition that keeps it from undoing another.
//!
//! Calls that are made inline and cost something have records too: how often they were made, and their end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use towpath_engine::{Artifact, JobId, StepIndex, Timestamp, WorkspaceId};
use towpath_jobs::{Answer, JobRequest, JobSnapshot};
use towpath_table::{Condition, Error as TableError, Table, Update, Write, number, string};

use crate::form::{FORM, put, record};
use crate::objects::TEXT;
use crate::outputs::{artifact_key, sha256_of};
use crate::{Error, Objects, Store, UploadUrl, keys};

/// How often a call is counted anew after somebody else was first.
const RACES: usize = 16;

/// The records of jobs that run elsewhere, and their events. Cheap to clone.
#[derive(Clone)]
pub struct JobRecords {
    pub(crate) executors: Arc<dyn Table>,
    pub(crate) objects: Arc<dyn Objects>,
}

/// The record of a job that runs elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRecord {
    /// The id of the job.
    pub job: JobId,
    /// The workspace that owns the job. Like all that follows, a tombstone does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceId>,
    /// The step that the job works for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepIndex>,
    /// The number of the call among those of its step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// What the runtime is asked for, in its own words: a repeated start asks for the same.
    #[serde(default, with = "as_text", skip_serializing_if = "Option::is_none")]
    pub spec: Option<Value>,
    /// The hash of the code by which the job's runner proves itself, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_hash: Option<String>,
    /// The time until which the code is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_until: Option<Timestamp>,
    /// The name that the runtime has for the job, once it has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// The name, as the runtime has it, of what works on the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_by: Option<String>,
    /// The hash of the runner's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_hash: Option<String>,
    /// The request to stop.
    #[serde(default, with = "as_text", skip_serializing_if = "Option::is_none")]
    pub stop: Option<JobStop>,
    /// The answer of the command, if it gave one.
    #[serde(default, with = "as_text", skip_serializing_if = "Option::is_none")]
    pub answer: Option<StoredAnswer>,
    /// The end of the job, without the answer.
    #[serde(default, with = "as_text", skip_serializing_if = "Option::is_none")]
    pub end: Option<JobSnapshot>,
    /// The number of calls that were begun for the job, if it is one that is made inline: see
    /// [`JobRecords::begin_call`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
}

/// A request to stop a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStop {
    /// The time of the request.
    pub at: Timestamp,
    /// The time that the command has to tidy up, in milliseconds.
    pub grace_ms: u64,
}

/// The answer of a command, in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredAnswer {
    /// The key of the object that holds the text.
    pub object: String,
    /// Whether the text is what the command printed, and not what it wrote as its answer.
    pub printed: bool,
}

/// The outcome of a runner's claim of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Claimed {
    /// The job is the runner's.
    Yes,
    /// The job is another runner's, or over, or to be stopped before it has begun.
    No(Box<JobRecord>),
}

impl Store {
    /// The records of jobs that run elsewhere.
    pub fn jobs(&self) -> JobRecords {
        JobRecords {
            executors: Arc::clone(&self.executors),
            objects: Arc::clone(&self.objects),
        }
    }
}

impl JobRecord {
    /// The record of a job that begins, and of which nothing is known but what is asked for.
    pub fn of(request: &JobRequest) -> Self {
        Self {
            job: request.job.clone(),
            workspace: Some(request.workspace.clone()),
            step: Some(request.step),
            attempt: Some(request.attempt),
            spec: None,
            code_hash: None,
            code_until: None,
            handle: None,
            claimed_by: None,
            token_hash: None,
            stop: None,
            answer: None,
            end: None,
            calls: None,
        }
    }

    /// The name, as the runtime has it, of what works on the job, or else of what was started for it.
    pub fn worker(&self) -> Option<&str> {
        self.claimed_by.as_deref().or(self.handle.as_deref())
    }
}

impl JobRecords {
    /// The record of a job.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn get(&self, job: &JobId) -> Result<Option<JobRecord>, Error> {
        let item = self.executors.get(&keys::job(job)?).await?;
        item.map(record).transpose()
    }

    /// The record of a job that has one.
    async fn must_get(&self, job: &JobId) -> Result<JobRecord, Error> {
        let gone = || Error::Broken(format!("the record of {job} is gone"));
        self.get(job).await?.ok_or_else(gone)
    }

    /// Begins the record of a job. False: it has one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn begin(&self, new: &JobRecord) -> Result<bool, Error> {
        let begun = put(keys::job(&new.job)?, new)?.when(Condition::Absent);
        held(self.executors.write(begun).await)
    }

    /// Counts a call that is about to be made inline for a job, in the job's record, which begins with the first. None is
    /// counted for a job that is to stop or is over. Returns the record as it then is.
    ///
    /// A count whose reply was lost may be made twice: there were so many calls at most.
    ///
    /// # Errors
    /// If it cannot be written; then the call is not to be made.
    pub async fn begin_call(&self, request: &JobRequest) -> Result<JobRecord, Error> {
        let first = JobRecord {
            calls: Some(1),
            ..JobRecord::of(request)
        };
        if self.begin(&first).await? {
            return Ok(first);
        }
        self.count_call(&request.job).await
    }

    /// Counts one more call of a job that has a record, as [`JobRecords::begin_call`] does.
    ///
    /// # Errors
    /// If it cannot be written; then the call is not to be made.
    pub async fn count_call(&self, job: &JobId) -> Result<JobRecord, Error> {
        self.change_calls(job, |calls| calls.saturating_add(1))
            .await
    }

    /// Takes a call of [`JobRecords::begin_call`] back that was not made after all.
    ///
    /// # Errors
    /// If it cannot be written; then the call counts.
    pub async fn take_call_back(&self, job: &JobId) -> Result<(), Error> {
        self.change_calls(job, |calls| calls.saturating_sub(1))
            .await
            .map(|_| ())
    }

    async fn change_calls(&self, job: &JobId, count: fn(u32) -> u32) -> Result<JobRecord, Error> {
        for _ in 0..RACES {
            let found = self.must_get(job).await?;
            if found.stop.is_some() || found.end.is_some() {
                return Ok(found);
            }
            let calls = count(found.calls.unwrap_or_default());
            let update = Update::default().set("calls", number(calls));
            let as_found = match found.calls {
                Some(before) => Condition::Equals("calls", number(before)),
                None => Condition::Lacks("calls"),
            };
            let mut counted = Write::update(keys::job(job)?, update).when(as_found);
            for unless in ["stop", "end"] {
                counted = counted.when(Condition::Lacks(unless));
            }
            if held(self.executors.write(counted).await)? {
                let calls = Some(calls);
                return Ok(JobRecord { calls, ..found });
            }
        }
        Err(Error::Conflict)
    }

    /// Notes the name that the runtime has for the job. Until this returns, a start asks the runtime again.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn started(&self, job: &JobId, handle: &str) -> Result<(), Error> {
        let update = Update::default().set("handle", string(handle));
        let noted = Write::update(keys::job(job)?, update).when(Condition::Lacks("handle"));
        held(self.executors.write(noted).await).map(|_| ())
    }

    /// Lets the job's code be good until another time, if it was not used.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn renew_code(&self, job: &JobId, until: Timestamp) -> Result<(), Error> {
        let update = Update::default().set("codeUntil", number(until.0));
        let renewed = Write::update(keys::job(job)?, update)
            .when(Condition::Present)
            .when(Condition::Lacks("tokenHash"));
        held(self.executors.write(renewed).await).map(|_| ())
    }

    /// Gives the job to a runner: the first one, and again to the same. The caller has checked the job's code.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn claim(&self, job: &JobId, by: &str, token_hash: &str) -> Result<Claimed, Error> {
        let update = Update::default()
            .set("claimedBy", string(by))
            .set("tokenHash", string(token_hash));
        let mut claim = Write::update(keys::job(job)?, update).when(Condition::Present);
        for unless in ["tokenHash", "stop", "end"] {
            claim = claim.when(Condition::Lacks(unless));
        }
        if held(self.executors.write(claim).await)? {
            return Ok(Claimed::Yes);
        }
        let found = self.must_get(job).await?;
        Ok(match found.token_hash.as_deref() == Some(token_hash) {
            true => Claimed::Yes,
            false => Claimed::No(Box::new(found)),
        })
    }

    /// Gives a job to whoever may have it, and again to the same under another token. The caller has checked that it may.
    /// False: the job is over, or is to stop, or somebody else has it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn claim_again(
        &self,
        job: &JobId,
        by: &str,
        token_hash: &str,
    ) -> Result<bool, Error> {
        let update = Update::default()
            .set("claimedBy", string(by))
            .set("tokenHash", string(token_hash));
        let key = keys::job(job)?;
        let mut claim = Write::update(key, update).when(Condition::Present);
        for unless in ["stop", "end"] {
            claim = claim.when(Condition::Lacks(unless));
        }
        let free = claim.clone().when(Condition::Lacks("claimedBy"));
        if held(self.executors.write(free).await)? {
            return Ok(true);
        }
        let own = claim.when(Condition::Equals("claimedBy", string(by)));
        held(self.executors.write(own).await)
    }

    /// Asks a job to end. One that has no record gets a tombstone; a second request changes nothing. Returns the record as
    /// it then is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn ask_stop(&self, job: &JobId, stop: &JobStop) -> Result<JobRecord, Error> {
        let key = keys::job(job)?;
        let mark = as_text::attribute(&key, stop)?;
        let update = Update::default()
            .set("job", string(job))
            .set("stop", mark)
            .set("v", number(FORM));
        let asked = Write::update(key, update)
            .when(Condition::Lacks("stop"))
            .when(Condition::Lacks("end"));
        held(self.executors.write(asked).await)?;
        self.must_get(job).await
    }

    /// Keeps the answer of a job's command, before the job's end refers to it. False: the job is over.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn keep_answer(&self, job: &JobId, text: &str, printed: bool) -> Result<bool, Error> {
        let object = self.put_object(job, "answer", text).await?;
        let stored = StoredAnswer { object, printed };
        let key = keys::job(job)?;
        let value = as_text::attribute(&key, &stored)?;
        let kept = Write::update(key, Update::default().set("answer", value))
            .when(Condition::Present)
            .when(Condition::Lacks("end"));
        held(self.executors.write(kept).await)
    }

    /// A URL by which the runner of a job stores an artifact of it.
    ///
    /// # Errors
    /// If it cannot be signed, or the artifact has no hash.
    pub fn artifact_upload(&self, artifact: &Artifact) -> Result<UploadUrl, Error> {
        let (key, sha256) = (artifact_key(artifact), sha256_of(artifact)?);
        self.objects.upload_url(&key, artifact.bytes, sha256)
    }

    /// Puts a text of a job into the bucket, and returns its key. The same text under the same name is the same object.
    pub(crate) async fn put_object(
        &self,
        job: &JobId,
        name: &str,
        text: &str,
    ) -> Result<String, Error> {
        let sha256: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        let hash: String = sha256
            .iter()
            .take(8)
            .map(|it| format!("{it:02x}"))
            .collect();
        let key = format!("jobs/{}/{job}/{name}-{hash}", job.run());
        let body = text.as_bytes().to_vec();
        self.objects.put(&key, body, TEXT, sha256).await?;
        Ok(key)
    }

    /// The last snapshot of a job that is over, with its answer.
    ///
    /// # Errors
    /// If the answer cannot be read.
    pub async fn ended(&self, record: &JobRecord) -> Result<Option<JobSnapshot>, Error> {
        let Some(end) = record.end.clone() else {
            return Ok(None);
        };
        let well = end.terminal_error_class.is_none();
        let answer = match record.answer.as_ref().filter(|_| well) {
            None => None,
            Some(StoredAnswer { object, printed }) => {
                let text = self.objects.get(object).await?;
                Some(match printed {
                    true => Answer::Stdout(text),
                    false => Answer::File(text),
                })
            }
        };
        Ok(Some(JobSnapshot { answer, ..end }))
    }

    /// The write that makes this the end of a job: only to be made with the event that tells of it.
    pub(crate) fn ending(job: &JobId, end: &JobSnapshot) -> Result<Write, Error> {
        let key = keys::job(job)?;
        let value = as_text::attribute(&key, end)?;
        let update = Update::default().set("end", value);
        Ok(Write::update(key, update)
            .when(Condition::Present)
            .when(Condition::Lacks("end")))
    }
}

/// Members that are written whole and never looked into by a condition: a text of JSON, which costs a function less code
/// than attributes do.
pub(crate) mod as_text {
    use aws_sdk_dynamodb::types::AttributeValue;
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use towpath_table::{Key, string};

    use crate::Error;

    pub(crate) fn attribute<T: Serialize>(key: &Key, value: &T) -> Result<AttributeValue, Error> {
        let text = serde_json::to_string(value).map_err(|error| Error::damaged(key, error))?;
        Ok(string(text))
    }

    pub(crate) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(value).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }

    pub(crate) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(D::Error::custom)
    }
}

/// Whether the conditions of a write held.
pub(crate) fn held(written: Result<(), TableError>) -> Result<bool, Error> {
    match written {
        Ok(()) => Ok(true),
        Err(TableError::Conflict) => Ok(false),
        Err(other) => Err(other.into()),
    }
}
