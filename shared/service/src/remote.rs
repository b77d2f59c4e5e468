//! The runtimes whose jobs run on machines of a service: which of them a deployment has, and how they are set.

use std::sync::Arc;

use towpath_aws::Clients;
use towpath_clock::Clock;
use towpath_jobs_codebuild::Builds;
use towpath_jobs_ecs::Tasks;
use towpath_jobs_fly::Machines;
use towpath_jobs_remote::{API, Substrate};

use crate::{Config, Error};

/// The tasks of ECS that a function's environment describes.
pub(crate) fn ecs(
    lookup: &impl Fn(&str) -> Option<String>,
) -> Result<Option<towpath_jobs_ecs::Settings>, Error> {
    let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let Some(cluster) = get("ECS_CLUSTER") else {
        return Ok(None);
    };
    let need = |name: &str, parameter: &str| {
        let missing = format!(
            "ECS_CLUSTER is set and {name} is not; set the stack's parameter {parameter} as well"
        );
        get(name).ok_or(Error::Config(missing))
    };
    let list = |text: String| -> Vec<String> {
        let parts = text.split(',').map(str::trim);
        let parts = parts.filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    Ok(Some(towpath_jobs_ecs::Settings {
        cluster,
        subnets: list(need("ECS_SUBNETS", "EcsSubnets")?),
        security_groups: list(get("ECS_SECURITY_GROUPS").unwrap_or_default()),
        public_ip: get("ECS_PUBLIC_IP").is_none_or(|value| value == "ENABLED"),
        spot: get("ECS_CAPACITY").is_some_and(|value| value == "FARGATE_SPOT"),
        task_role: need("ECS_TASK_ROLE", "EcsCluster")?,
        execution_role: need("ECS_EXECUTION_ROLE", "EcsCluster")?,
        log_group: need("ECS_LOG_GROUP", "EcsCluster")?,
        family: get("ECS_FAMILY").unwrap_or_else(|| "towpath-job".to_owned()),
        architecture: get("ECS_ARCHITECTURE").unwrap_or_else(|| "X86_64".to_owned()),
        image: get("JOB_IMAGE"),
        api: get(API),
    }))
}

/// The machines of Fly.io that a function's environment describes.
pub(crate) fn fly(
    lookup: &impl Fn(&str) -> Option<String>,
) -> Result<Option<towpath_jobs_fly::Settings>, Error> {
    let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let Some(app) = get("FLY_APP") else {
        return Ok(None);
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !app.bytes().all(plain) {
        let wrong = format!("FLY_APP={app:?} is no name of an app: small letters, digits, hyphens");
        return Err(Error::Config(wrong));
    }
    let missing = "FLY_APP is set and FLY_TOKEN_SECRET is not; set the stack's parameter FlyTokenSecret to the ARN of the secret that holds a token for the app";
    Ok(Some(towpath_jobs_fly::Settings {
        app,
        region: get("FLY_REGION"),
        token_in: get("FLY_TOKEN_SECRET").ok_or(Error::Config(missing.to_owned()))?,
        image: get("JOB_IMAGE"),
        api: get(API),
    }))
}

/// The substrates of a deployment.
pub(crate) fn substrates(
    config: &Config,
    clients: &Clients,
    builds: Option<&Builds>,
    clock: &Clock,
) -> Vec<Arc<dyn Substrate>> {
    let mut all: Vec<Arc<dyn Substrate>> = Vec::new();
    if let Some(builds) = builds {
        all.push(Arc::new(builds.clone()));
    }
    if let Some(settings) = config.ecs.clone() {
        all.push(Arc::new(Tasks::new(clients.ecs.clone(), settings)));
    }
    if let Some(settings) = config.fly.clone() {
        let url = config.fly_url.as_deref().unwrap_or(towpath_jobs_fly::URL);
        let web = clients.web("Fly.io", url);
        let secrets = clients.secrets.clone();
        all.push(Arc::new(Machines::new(
            web,
            secrets,
            settings,
            clock.clone(),
        )));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECS: [(&str, &str); 6] = [
        ("ECS_CLUSTER", "jobs"),
        ("ECS_SUBNETS", "subnet-1, subnet-2,"),
        ("ECS_SECURITY_GROUPS", ""),
        ("ECS_TASK_ROLE", "arn:task"),
        ("ECS_EXECUTION_ROLE", "arn:execution"),
        ("ECS_LOG_GROUP", "/jobs"),
    ];

    /// The variables, without this one.
    fn without(all: &[(&str, &str)], name: &str) -> impl Fn(&str) -> Option<String> {
        let all: Vec<(String, String)> = all
            .iter()
            .filter(|(key, _)| *key != name)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        move |name| {
            let found = all.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        }
    }

    #[test]
    fn a_deployment_without_a_cluster_or_an_app_has_neither_runtime() {
        let nothing = without(&[("ECS_CLUSTER", ""), ("FLY_APP", "")], "");
        assert_eq!(ecs(&nothing).unwrap(), None);
        assert_eq!(fly(&nothing).unwrap(), None);
    }

    #[test]
    fn what_a_cluster_needs_besides_is_named_when_it_is_missing() {
        let settings = ecs(&without(&ECS, "")).unwrap().unwrap();
        assert_eq!(settings.subnets, ["subnet-1", "subnet-2"]);
        assert!(settings.security_groups.is_empty());
        assert!(settings.public_ip && !settings.spot);
        for name in ["ECS_SUBNETS", "ECS_TASK_ROLE", "ECS_LOG_GROUP"] {
            let error = ecs(&without(&ECS, name)).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn an_app_needs_a_name_and_a_token() {
        let all = [("FLY_APP", "jobs"), ("FLY_TOKEN_SECRET", "arn:token")];
        let settings = fly(&without(&all, "")).unwrap().unwrap();
        assert_eq!((&*settings.app, settings.region), ("jobs", None));
        let error = fly(&without(&all, "FLY_TOKEN_SECRET")).unwrap_err();
        assert!(error.to_string().contains("FlyTokenSecret"), "{error}");
        let odd = [("FLY_APP", "../x"), ("FLY_TOKEN_SECRET", "arn:token")];
        assert!(fly(&without(&odd, "")).is_err());
    }
}
