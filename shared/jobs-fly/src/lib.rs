//! The runtime `fly`: a job is a machine of Fly.io, in which `towpath runner` carries it out. The rest is
//! [`towpath_jobs_remote`]'s.
//!
//! A machine is named after its job, and no app has two machines of one name: so a start whose answer was lost finds the
//! machine that it made. A machine destroys itself when its runner ends, and then its name is free: a start that is
//! repeated after that makes another machine, which finds the job over or another's, and ends.

mod api;
mod spec;

use api::{Api, ApiError, Machine};
use async_trait::async_trait;
use serde_json::{Value, json};
use spec::Spec;
use towpath_aws::{Secrets, Web};
use towpath_clock::Clock;
use towpath_engine::JobId;
use towpath_jobs::{CommandWork, JobRequest, StartError, Unreadable};
use towpath_jobs_remote::{
    API, Cause, Order, Over, Seen, Substrate, Words, bootstrap, spec_from_value, spec_to_value,
};

/// The address of the machines API.
pub const URL: &str = "https://api.machines.dev";
/// The name of a machine, as its program learns it.
const NAME: &str = "$FLY_MACHINE_ID";

/// Where the machines of a deployment run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The app that the machines belong to.
    pub app: String,
    /// The region that machines are made in. Without it, Fly.io chooses one.
    pub region: Option<String>,
    /// The ARN of the secret that holds the token for the app.
    pub token_in: String,
    /// The image of jobs whose pipeline names none.
    pub image: Option<String>,
    /// The address of the API, which runners call. Who starts no jobs need not know it.
    pub api: Option<String>,
}

/// The machines of a deployment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Machines {
    api: Api,
    settings: Settings,
}

impl Machines {
    /// The machines that are run by these settings. `web` is the machines API, [`URL`].
    pub fn new(web: Web, secrets: Secrets, settings: Settings, clock: Clock) -> Self {
        let (app, token_in) = (settings.app.clone(), settings.token_in.clone());
        Self {
            api: Api::new(web, app, secrets, token_in, clock),
            settings,
        }
    }

    fn request(&self, order: &Order<'_>, spec: &Spec, api: &str) -> Value {
        let mut variables = order.variables.clone();
        variables.insert(API.to_owned(), api.to_owned());
        let mut request = json!({
            "name": name(order.job),
            "config": {
                "image": spec.image,
                "guest": spec.guest,
                "env": variables,
                "init": { "exec": ["/bin/sh", "-c", bootstrap(NAME)] },
                "auto_destroy": true,
                "restart": { "policy": "no" },
                "metadata": { "towpath_job": order.job },
            },
        });
        if let (Some(request), Some(region)) = (request.as_object_mut(), &self.settings.region) {
            request.insert("region".to_owned(), json!(region));
        }
        request
    }
}

#[async_trait]
impl Substrate for Machines {
    fn kind(&self) -> &'static str {
        "fly"
    }

    fn words(&self) -> Words {
        Words {
            service: "Fly.io",
            machine: "machine",
        }
    }

    fn spec(&self, _: &JobRequest, work: &CommandWork) -> Result<Value, StartError> {
        let spec = Spec::of(work, self.settings.image.as_deref())?;
        Ok(spec_to_value(&spec))
    }

    async fn start(&self, order: &Order<'_>) -> Result<String, StartError> {
        let spec: Spec = spec_from_value(order.spec)?;
        let Some(api) = &self.settings.api else {
            let why = "TOWPATH_API_BASE is not set, so that runners could not call".to_owned();
            return Err(StartError::Unavailable(why));
        };
        let request = self.request(order, &spec, api);
        let made = self.api.create(&name(order.job), &request).await;
        made.map_err(|error| match error {
            ApiError::NoRoom(why) => StartError::NoRoom(why),
            // Where machines are made there is always an app: it is the app that is missing.
            ApiError::Refused(why) | ApiError::Missing(why) => StartError::Refused(why),
            ApiError::Unavailable(why) => StartError::Unavailable(why),
            ApiError::Exists(_) => StartError::Unavailable(error.to_string()),
        })
    }

    async fn look(&self, handle: &str) -> Result<Option<Seen>, Unreadable> {
        let machine = self.api.look(handle).await;
        Ok(machine.map_err(unreadable)?.as_ref().map(seen))
    }

    async fn stop(&self, handle: &str) -> Result<(), Unreadable> {
        self.api.end(handle).await.map_err(unreadable)
    }

    fn console(&self, handle: &str) -> Option<String> {
        let app = &self.settings.app;
        Some(format!("https://fly.io/apps/{app}/machines/{handle}"))
    }
}

/// The name of a job's machine: names are of small letters, digits and hyphens. No two ids of jobs differ in the size of
/// their letters only.
fn name(job: &JobId) -> String {
    job.as_str().to_ascii_lowercase().replace('_', "-")
}

fn seen(machine: &Machine) -> Seen {
    let cause = match (machine.state.as_str(), machine.exit()) {
        ("pending", _) => return Seen::Waiting,
        ("created" | "starting", None) => return Seen::Preparing,
        ("stopped" | "destroying" | "destroyed" | "failed", Some(exit)) => match exit.exit_code {
            _ if exit.requested_stop => Cause::Stopped,
            0 => Cause::Done,
            _ => Cause::Failed,
        },
        ("failed", None) => Cause::Failed,
        // It went without having ended by itself: somebody destroyed it.
        ("stopped" | "destroyed", None) => Cause::Stopped,
        _ => return Seen::InProgress,
    };
    let why = match machine.exit() {
        Some(exit) if exit.oom_killed => " (it had too little memory)".to_owned(),
        Some(exit) => format!(" (exit code {})", exit.exit_code),
        None => format!(" (its state is {})", machine.state),
    };
    Seen::Over(Over { cause, why })
}

fn unreadable(error: ApiError) -> Unreadable {
    Unreadable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(state: &str, exit: Option<(i32, bool)>) -> Seen {
        let exit = exit.map(|(exit_code, requested_stop)| {
            let exit = json!({ "exit_code": exit_code, "requested_stop": requested_stop });
            json!({ "type": "exit", "timestamp": 2, "request": { "exit_event": exit } })
        });
        let start = json!({ "type": "start", "timestamp": 1 });
        let events: Vec<Value> = [Some(start), exit].into_iter().flatten().collect();
        let machine = json!({ "id": "1", "state": state, "events": events });
        seen(&serde_json::from_value(machine).unwrap())
    }

    #[test]
    fn a_machine_is_prepared_works_and_is_over_for_a_reason() {
        assert_eq!(machine("pending", None), Seen::Waiting);
        assert_eq!(machine("created", None), Seen::Preparing);
        assert_eq!(machine("starting", None), Seen::Preparing);
        assert_eq!(machine("started", None), Seen::InProgress);
        assert_eq!(machine("stopping", None), Seen::InProgress);
        for (state, exit, cause) in [
            ("stopped", Some((0, false)), Cause::Done),
            ("destroying", Some((1, false)), Cause::Failed),
            ("destroyed", Some((143, true)), Cause::Stopped),
            ("destroyed", None, Cause::Stopped),
            ("failed", None, Cause::Failed),
        ] {
            let Seen::Over(over) = machine(state, exit) else {
                panic!("{state} {exit:?}");
            };
            assert_eq!(over.cause, cause, "{state} {exit:?}");
            assert!(!over.why.is_empty());
        }
    }

    #[test]
    fn a_machine_is_named_after_its_job() {
        let job = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-7".parse().unwrap();
        assert_eq!(name(&job), "job-01arz3ndektsv4rrffq69g5fav-7");
    }
}
