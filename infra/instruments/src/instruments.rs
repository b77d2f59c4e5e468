//! The instruments of one function's clients.

use std::time::Duration;

use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_dynamodb::config::{Intercept, SharedHttpClient, SharedInterceptor};
use towpath_aws::{Instrument, Settings};

use crate::faults::{Layer, Mortal};
use crate::{Deaths, Faults, Index, Injected, Meter};

/// The instruments of one function's clients. Clones are the same instruments.
#[derive(Clone, Debug, Default)]
pub struct Instruments {
    /// The sums of the units that the DynamoDB client uses.
    pub meter: Meter,
    /// The faults that were injected so far.
    pub injected: Injected,
    faults: Option<Faults>,
    deaths: Option<Deaths>,
}

/// The longest pause before a retry of a call that was broken on purpose.
const MAX_BACKOFF: Duration = Duration::from_millis(2);

impl Instruments {
    /// Instruments that break nothing, and whose meter counts writes to these indexes too.
    pub fn new(indexes: Vec<Index>) -> Self {
        Self {
            meter: Meter::new(indexes),
            ..Self::default()
        }
    }

    /// The same instruments, with the faults that the variable `TOWPATH_FAULTS` asks for, if it does.
    ///
    /// # Errors
    /// If the text makes no sense, or a call of clients with these settings could reach AWS itself.
    pub fn with_faults(self, text: Option<&str>, settings: &Settings) -> Result<Self, String> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(self);
        };
        let faults = Faults::parse(text).map_err(|e| format!("TOWPATH_FAULTS: {e}"))?;
        if !settings.is_local() {
            return Err(
                "TOWPATH_FAULTS is for a local cloud: it breaks no calls to AWS".to_owned(),
            );
        }
        tracing::warn!(?faults, "faults are injected into AWS calls");
        Ok(Self {
            faults: Some(faults),
            ..self
        })
    }

    /// Adds deaths of invocations to the instruments.
    #[must_use]
    pub fn with_deaths(self, deaths: Option<Deaths>) -> Self {
        Self { deaths, ..self }
    }
}

impl Instrument for Instruments {
    fn http(&self, inner: SharedHttpClient) -> SharedHttpClient {
        let inner = match &self.faults {
            Some(faults) => {
                SharedHttpClient::new(Layer::new(faults.clone(), inner, self.injected.clone()))
            }
            None => inner,
        };
        match self.deaths.clone() {
            Some(deaths) => SharedHttpClient::new(Mortal { inner, deaths }),
            None => inner,
        }
    }

    fn retries(&self, retries: RetryConfig) -> (RetryConfig, Option<RetryPartition>) {
        if self.faults.is_none() {
            return (retries, None);
        }
        // Injected faults come thicker than real ones, and nothing is gained by waiting them out or by giving up because
        // retries of the whole process, tests and all, have used up a budget.
        let unlimited = RetryPartition::custom("towpath-faults")
            .token_bucket(TokenBucket::unlimited())
            .build();
        (retries.with_max_backoff(MAX_BACKOFF), Some(unlimited))
    }

    fn dynamodb(&self) -> Option<SharedInterceptor> {
        Some(permanent(self.meter.clone()))
    }
}

fn permanent(interceptor: impl Intercept + 'static) -> SharedInterceptor {
    SharedInterceptor::new(interceptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: [(&str, &str); 3] = [
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", "hush"),
    ];

    fn with(faults: &str, endpoints: &[(&str, &str)]) -> Result<Instruments, String> {
        let settings = Settings::from_lookup(|name| {
            let mut all = CREDENTIALS.iter().chain(endpoints);
            all.find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        });
        Instruments::default().with_faults(Some(faults), &settings.unwrap())
    }

    #[test]
    fn faults_are_refused_wherever_a_call_could_reach_aws() {
        let local = [
            ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:8000"),
            ("AWS_ENDPOINT_URL_SFN", "http://127.0.0.1:8083"),
            ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000"),
        ];
        assert!(with("rate=0.05", &local).is_ok());
        let error = with("rate=lots", &local).unwrap_err();
        assert!(
            error.contains("TOWPATH_FAULTS") && error.contains("lots"),
            "{error}"
        );
        let elsewhere: [&[(&str, &str)]; 4] = [
            &[],
            &local[..1],
            &[(
                "AWS_ENDPOINT_URL",
                "https://vpce-1.dynamodb.eu-central-1.vpce.amazonaws.com",
            )],
            &[(
                "AWS_ENDPOINT_URL",
                "http://dynamodb.eu-central-1.amazonaws.com",
            )],
        ];
        for endpoints in elsewhere {
            assert!(with("rate=0.05", endpoints).is_err(), "{endpoints:?}");
            assert!(with("", endpoints).is_ok(), "{endpoints:?}");
        }
    }
}
