//! What a client needs to know, read from an environment that need not be the process's own: in the local cloud several
//! functions share one process, each with its own variables.

use towpath_auth::Secret;

/// A reason for which no clients can be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable that has no default is not set.
    #[error("{0} is not set; Lambda sets it by itself, elsewhere it has to be given")]
    Missing(&'static str),
    /// An endpoint that is no URL of the kind that AWS clients speak to.
    #[error("{name} must begin with http:// or https://, not {value:?}")]
    Endpoint {
        /// The variable.
        name: &'static str,
        /// The value of the variable.
        value: String,
    },
}

/// The credentials that requests are signed with.
///
/// They are read once. Lambda gives a sandbox its role's credentials in the environment when it starts and replaces the
/// sandbox before they expire, so nothing has to be fetched or renewed, and no code for that is linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The access key's id. Not a secret.
    pub access_key_id: String,
    /// The access key itself.
    pub secret_access_key: Secret,
    /// The token that goes with a role's credentials.
    pub session_token: Option<Secret>,
}

/// The settings that the clients are made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The region, such as `eu-central-1`.
    pub region: String,
    /// The URL of DynamoDB, if it is not AWS's.
    pub endpoint_dynamodb: Option<String>,
    /// The URL of Step Functions, if it is not AWS's.
    pub endpoint_sfn: Option<String>,
    /// The URL of S3, if it is not AWS's.
    pub endpoint_s3: Option<String>,
    /// The URL of Secrets Manager, if it is not AWS's.
    pub endpoint_secrets: Option<String>,
    /// The URL of CodeBuild, if it is not AWS's.
    pub endpoint_codebuild: Option<String>,
    /// The URL of ECS, if it is not AWS's.
    pub endpoint_ecs: Option<String>,
    /// The URL of EventBridge, if it is not AWS's.
    pub endpoint_events: Option<String>,
    /// The credentials that requests are signed with.
    pub credentials: Credentials,
    /// The function that calls, as it is named in the `User-Agent` of its requests, which audit trails show.
    pub function: Option<String>,
}

impl Settings {
    /// Reads the settings by the names that AWS's own tools use: `AWS_REGION`, `AWS_ENDPOINT_URL_DYNAMODB`,
    /// `AWS_ENDPOINT_URL_SFN`, `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL_SECRETS_MANAGER`, `AWS_ENDPOINT_URL_CODEBUILD`,
    /// `AWS_ENDPOINT_URL_ECS`, `AWS_ENDPOINT_URL_EVENTBRIDGE` (for each, `AWS_ENDPOINT_URL` when it is not set), `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_LAMBDA_FUNCTION_NAME`. An empty variable counts as not set.
    ///
    /// # Errors
    /// If the region or the credentials are missing, or a value makes no sense.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let need = |name: &'static str| get(name).ok_or(Error::Missing(name));
        let endpoint = |name: &'static str| match get(name).or_else(|| get("AWS_ENDPOINT_URL")) {
            Some(value) if !value.starts_with("http://") && !value.starts_with("https://") => {
                Err(Error::Endpoint { name, value })
            }
            found => Ok(found),
        };
        Ok(Self {
            region: need("AWS_REGION")?,
            endpoint_dynamodb: endpoint("AWS_ENDPOINT_URL_DYNAMODB")?,
            endpoint_sfn: endpoint("AWS_ENDPOINT_URL_SFN")?,
            endpoint_s3: endpoint("AWS_ENDPOINT_URL_S3")?,
            endpoint_secrets: endpoint("AWS_ENDPOINT_URL_SECRETS_MANAGER")?,
            endpoint_codebuild: endpoint("AWS_ENDPOINT_URL_CODEBUILD")?,
            endpoint_ecs: endpoint("AWS_ENDPOINT_URL_ECS")?,
            endpoint_events: endpoint("AWS_ENDPOINT_URL_EVENTBRIDGE")?,
            credentials: Credentials {
                access_key_id: need("AWS_ACCESS_KEY_ID")?,
                secret_access_key: Secret::new(need("AWS_SECRET_ACCESS_KEY")?),
                session_token: get("AWS_SESSION_TOKEN").map(Secret::new),
            },
            function: get("AWS_LAMBDA_FUNCTION_NAME"),
        })
    }

    /// Whether no client needs TLS, so that no certificates have to be loaded.
    pub(crate) fn plain_http(&self) -> bool {
        self.endpoints()
            .into_iter()
            .all(|endpoint| endpoint.is_some_and(|url| url.starts_with("http://")))
    }

    /// Whether no call can reach AWS itself: every service is a server of ours.
    pub fn is_local(&self) -> bool {
        let mut endpoints = self.endpoints().into_iter().flatten();
        self.plain_http() && !endpoints.any(|url| url.contains(".amazonaws."))
    }

    fn endpoints(&self) -> [Option<&str>; 3] {
        [
            self.endpoint_dynamodb.as_deref(),
            self.endpoint_sfn.as_deref(),
            self.endpoint_s3.as_deref(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAMBDA: [(&str, &str); 4] = [
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", "hush"),
        ("AWS_SESSION_TOKEN", "hush too"),
    ];
    const LOCAL: [(&str, &str); 3] = [
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:8000"),
        ("AWS_ENDPOINT_URL_SFN", "http://127.0.0.1:8083"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000"),
    ];

    fn read(variables: &[&[(&str, &str)]]) -> Result<Settings, Error> {
        let variables = variables.concat();
        Settings::from_lookup(|name| {
            variables
                .iter()
                .rev()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_lambda_sets_is_enough() {
        let settings = read(&[&LAMBDA]).unwrap();
        assert_eq!(settings.region, "eu-central-1");
        assert_eq!(
            settings
                .credentials
                .session_token
                .as_ref()
                .map(Secret::expose),
            Some("hush too")
        );
        assert!(settings.endpoint_dynamodb.is_none() && !settings.plain_http());
    }

    #[test]
    fn the_local_cloud_needs_no_tls_but_one_endpoint_at_aws_does() {
        assert!(read(&[&LAMBDA, &LOCAL]).unwrap().plain_http());
        assert!(
            read(&[&LAMBDA, &[("AWS_ENDPOINT_URL", "http://localhost:1")]])
                .unwrap()
                .plain_http()
        );
        assert!(!read(&[&LAMBDA, &LOCAL[..1]]).unwrap().plain_http());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (name, _) in &LAMBDA[..3] {
            let error = read(&[&LAMBDA, &[(name, "")]]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        let error = read(&[&LAMBDA, &[("AWS_ENDPOINT_URL_SFN", "localhost:8083")]])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("AWS_ENDPOINT_URL_SFN") && error.contains("localhost:8083"),
            "{error}"
        );
    }

    #[test]
    fn secrets_do_not_print() {
        let printed = format!("{:?}", read(&[&LAMBDA]).unwrap());
        assert!(
            printed.contains("AKIA") && !printed.contains("hush"),
            "{printed}"
        );
    }
}
