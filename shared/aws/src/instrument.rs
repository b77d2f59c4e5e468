//! The hook for what looks on at calls, or gets between the clients and the services.

use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_dynamodb::config::{SharedHttpClient, SharedInterceptor};

/// Something that looks on at the clients' calls, or breaks them: meters and faults of the local cloud and of tests. A
/// function that is deployed has none.
pub trait Instrument: Send + Sync {
    /// The HTTP client to use in place of this one.
    fn http(&self, inner: SharedHttpClient) -> SharedHttpClient {
        inner
    }

    /// The retries to use in place of these, and the budget that they share.
    fn retries(&self, retries: RetryConfig) -> (RetryConfig, Option<RetryPartition>) {
        (retries, None)
    }

    /// An interceptor for the DynamoDB client.
    fn dynamodb(&self) -> Option<SharedInterceptor> {
        None
    }
}
