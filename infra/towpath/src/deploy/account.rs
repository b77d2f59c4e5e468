//! Whose account, with which credentials, in which region.

use std::collections::BTreeMap;

use serde::Deserialize;
use towpath_aws::{Account, Clients, Settings};

use super::tools::Run;

/// Credentials and a region to deploy with, for our own calls and for the tools'.
pub(crate) struct Session {
    environment: BTreeMap<String, String>,
    region: String,
    clients: Clients,
    settings: Settings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exported {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

impl Session {
    /// Finds credentials: in the environment, else those of the AWS profile, as AWS's own command line has them.
    pub(crate) fn open(region: Option<&str>) -> Result<Self, String> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut environment = BTreeMap::new();
        if set("AWS_ACCESS_KEY_ID").is_none() {
            environment.extend(exported()?);
        }
        let region = region.map(str::to_owned);
        let region = region.or_else(|| set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION")));
        let region = match region {
            Some(region) => region,
            None => {
                let asked = Run::new("aws", &["configure", "get", "region"]).output();
                let region = asked.unwrap_or_default().trim().to_owned();
                if region.is_empty() {
                    return Err("no region is known; add --region, or set AWS_REGION".to_owned());
                }
                region
            }
        };
        for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
            environment.insert(name.to_owned(), region.clone());
        }
        let lookup = |name: &str| environment.get(name).cloned().or_else(|| set(name));
        let settings = Settings::from_lookup(lookup).map_err(|error| error.to_string())?;
        Ok(Self {
            clients: Clients::connect(&settings, None),
            environment,
            region,
            settings,
        })
    }

    /// What the tools need besides the environment of this process.
    pub(crate) fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The account of the credentials.
    pub(crate) fn account(&self) -> Account {
        // An endpoint for one is an endpoint for all: nothing of a local cloud is asked of AWS.
        self.clients
            .account(self.settings.endpoint_secrets.as_deref())
    }
}

fn exported() -> Result<BTreeMap<String, String>, String> {
    let args = ["configure", "export-credentials", "--format", "process"];
    let none = |why: String| {
        format!(
            "no AWS credentials are found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in with AWS's command \
             line (`aws sso login`, `aws configure`) ({why})"
        )
    };
    let text = Run::new("aws", &args).output().map_err(none)?;
    let exported: Exported =
        serde_json::from_str(&text).map_err(|error| none(error.to_string()))?;
    let mut environment = BTreeMap::from([
        ("AWS_ACCESS_KEY_ID".to_owned(), exported.access_key_id),
        (
            "AWS_SECRET_ACCESS_KEY".to_owned(),
            exported.secret_access_key,
        ),
    ]);
    let token = exported.session_token.filter(|token| !token.is_empty());
    environment.extend(token.map(|token| ("AWS_SESSION_TOKEN".to_owned(), token)));
    Ok(environment)
}
