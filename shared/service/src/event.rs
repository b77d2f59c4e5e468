//! The events that functions take.

use std::fmt;

use aws_sdk_sfn::primitives::{DateTime, DateTimeFormat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use towpath_engine::{Fence, JobId, RunId, Timestamp};

use crate::Error;

/// A task token. Whoever has it can move the run's driver, so it does not print.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a task token)")
    }
}

/// One entry of a state of the machine: what an action is invoked with.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// The run to act on.
    pub run: RunId,
    /// The execution that asks.
    pub generation: u32,
    /// The form of the payload, which says how the token is answered. A payload of 0.1.0's machine names none.
    #[serde(default = "first_form")]
    pub form: u8,
    /// The task token, by which the entry is answered.
    pub token: Token,
    /// The time the state was entered.
    #[serde(deserialize_with = "iso8601")]
    pub entered: Timestamp,
    /// The number of times its task was retried since.
    pub retry: u32,
}

fn iso8601<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = DateTime::from_str(&text, DateTimeFormat::DateTimeWithOffset)
        .map_err(serde::de::Error::custom)?;
    let millis = time.to_millis().map_err(serde::de::Error::custom)?;
    Ok(Timestamp(
        u64::try_from(millis).map_err(serde::de::Error::custom)?,
    ))
}

/// The form of a payload that names none.
fn first_form() -> u8 {
    1
}

impl Entry {
    /// The entry as the mailbox compares it with older and newer ones.
    pub fn fence(&self) -> Fence {
        Fence {
            generation: self.generation,
            entered: self.entered,
            retry: self.retry,
        }
    }

    /// Reads the event.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn parse(event: Value) -> Result<Self, Error> {
        parse(event)
    }
}

/// A job has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// What whoever runs jobs puts on the event bus, with source `towpath.jobs` and detail type `Job State Change`.
    Job(JobId),
    /// What CodeBuild puts there of a build: its ARN, and the job that its variables name.
    Build(String, Option<JobId>),
    /// What ECS puts there of a task: the job that it was started for.
    Task(Option<JobId>),
}

impl JobEvent {
    /// Reads the event, if it is one of these at all.
    pub fn parse(event: &Value) -> Option<Result<Self, Error>> {
        #[derive(Deserialize)]
        struct Changed {
            job: JobId,
        }
        let detail = event.get("detail")?;
        if detail.get("taskArn").is_some() {
            let started_by = detail.get("startedBy").and_then(Value::as_str);
            let job = started_by.and_then(|job| job.parse().ok());
            return Some(Ok(Self::Task(job)));
        }
        let Some(build) = detail.get("build-id").and_then(Value::as_str) else {
            return Some(parse(detail.clone()).map(|Changed { job }| Self::Job(job)));
        };
        let variables = detail.pointer("/additional-information/environment/environment-variables");
        let variables = variables.and_then(Value::as_array).into_iter().flatten();
        let text = |variable: &Value, name: &str| Some(variable.get(name)?.as_str()?.to_owned());
        let job = variables
            .filter(|it| text(it, "name").as_deref() == Some(towpath_jobs_remote::JOB))
            .find_map(|it| text(it, "value")?.parse().ok());
        Some(Ok(Self::Build(build.to_owned(), job)))
    }
}

/// A driver has died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// The run that it drove.
    pub run: RunId,
    /// The generation of the execution that died.
    pub generation: u32,
    /// The name of its error.
    pub error: String,
}

impl Settle {
    /// Reads the event: the machine's own, or an `Execution Status Change` of it.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(event: Value) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Machine {
            run: RunId,
            generation: u32,
            error: String,
        }
        #[derive(Deserialize)]
        struct Change {
            name: String,
            status: String,
        }
        if let Some(detail) = event.get("detail") {
            let Change { name, status } = parse(detail.clone())?;
            let not_ours = || Error::BadEvent(format!("the execution {name:?} drives no run"));
            let (run, generation) = towpath_machine::driven_by(&name).ok_or_else(not_ours)?;
            return Ok(Self {
                run,
                generation,
                error: format!("execution {status}"),
            });
        }
        let Machine {
            run,
            generation,
            error,
        } = parse(event)?;
        Ok(Self {
            run,
            generation,
            error,
        })
    }
}

fn parse<T: DeserializeOwned>(event: Value) -> Result<T, Error> {
    serde_json::from_value(event).map_err(|e| Error::BadEvent(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RUN: &str = "run_01ARZ3NDEKTSV4RRFFQ69G5FAV";

    #[test]
    fn an_entry_keeps_its_token_to_itself() {
        let event = json!({"run": RUN, "generation": 2, "token": "secret", "entered": "2026-11-20T04:34:27.123Z", "retry": 1});
        let entry = Entry::parse(event).unwrap();
        assert_eq!(
            entry.fence(),
            Fence {
                generation: 2,
                entered: Timestamp(1_795_149_267_123),
                retry: 1
            }
        );
        assert!(!format!("{entry:?}").contains("secret"));
        assert!(matches!(
            Entry::parse(json!({"run": RUN})),
            Err(Error::BadEvent(_))
        ));
    }

    #[test]
    fn a_job_is_told_of_by_itself_by_its_build_and_by_its_task() {
        const JOB: &str = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-7";
        let job = JOB;
        let told = |detail: Value| JobEvent::parse(&json!({ "detail": detail })).unwrap();
        let ours = told(json!({"job": job})).unwrap();
        assert_eq!(ours, JobEvent::Job(job.parse().unwrap()));
        let build = "arn:aws:codebuild:us-east-1:123456789012:build/towpath-jobs:1";
        let variables =
            json!([{"name": "A", "value": "b"}, {"name": "TOWPATH_RUN_ID", "value": job}]);
        let environment = json!({"environment": {"environment-variables": variables}});
        let built = json!({"build-id": build, "additional-information": environment});
        let job = Some(job.parse().unwrap());
        assert_eq!(told(built).unwrap(), JobEvent::Build(build.to_owned(), job));
        let bare = told(json!({"build-id": build})).unwrap();
        assert_eq!(bare, JobEvent::Build(build.to_owned(), None));
        let task = "arn:aws:ecs:us-east-1:123456789012:task/jobs/1";
        let ours = told(json!({"taskArn": task, "startedBy": JOB})).unwrap();
        assert_eq!(ours, JobEvent::Task(Some(JOB.parse().unwrap())));
        let others = told(json!({"taskArn": task, "startedBy": "somebody"})).unwrap();
        assert_eq!(others, JobEvent::Task(None));
        assert!(told(json!({"job": "nonsense"})).is_err());
        assert!(JobEvent::parse(&json!({"run": RUN})).is_none());
    }

    #[test]
    fn a_dead_driver_is_told_by_the_machine_and_by_its_status() {
        let told =
            Settle::parse(json!({"run": RUN, "generation": 3, "error": "States.Runtime"})).unwrap();
        assert_eq!(
            (told.generation, told.error.as_str()),
            (3, "States.Runtime")
        );
        let told =
            Settle::parse(json!({"detail": {"name": format!("{RUN}-3"), "status": "ABORTED"}}))
                .unwrap();
        assert_eq!(
            (told.run.as_str(), told.generation, told.error.as_str()),
            (RUN, 3, "execution ABORTED")
        );
        assert!(
            Settle::parse(json!({"detail": {"name": "somebody-elses", "status": "FAILED"}}))
                .is_err()
        );
    }
}
