//! Death on purpose: an invocation ends at a call it makes, as it does when its sandbox is taken away.
//!
//! [`Deaths::live`] runs an invocation. At the call that was chosen the invocation is dropped where it stands: before
//! the request leaves, or after the service has done what it asks and before anybody here has seen the answer. Those
//! are the only two moments there are for whoever looks from outside, so a test that tries both at every call has
//! tried every death.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::{
    RuntimeComponents, RuntimeComponentsBuilder,
};
use aws_smithy_types::config_bag::ConfigBag;
use tokio::sync::Notify;

tokio::task_local! {
    /// Ends the invocation that this task is.
    static LIFE: Arc<Notify>;
}

/// The moment of its calls at which an invocation dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the call reaches the service.
    Before,
    /// After the service has done what the call asks; the answer is lost.
    After,
}

/// Keeps a list of the calls that invocations make, and lets one of them be an invocation's last. Clones share the list.
#[derive(Clone, Debug, Default)]
pub struct Deaths(Arc<Mutex<Register>>);

#[derive(Debug, Default)]
struct Register {
    calls: Vec<String>,
    plan: Option<(usize, Moment)>,
}

impl Deaths {
    /// Begins a new list. With a `plan`, the invocation that makes the call of that number, counted from 0 over all
    /// functions, dies at that moment of it.
    pub fn arm(&self, plan: Option<(usize, Moment)>) {
        let calls = Vec::new();
        *self.register() = Register { calls, plan };
    }

    /// The operations that were called since [`Deaths::arm`], in their order.
    pub fn calls(&self) -> Vec<String> {
        self.register().calls.clone()
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs an invocation. `None`: it died.
    pub async fn live<T>(&self, invocation: impl Future<Output = T>) -> Option<T> {
        let death = Arc::new(Notify::new());
        let mut invocation = pin!(LIFE.scope(Arc::clone(&death), invocation));
        tokio::select! {
            biased;
            () = death.notified() => None,
            done = &mut invocation => Some(done),
        }
    }

    /// Notes a call, and says when its caller dies of it.
    fn note(&self, request: &HttpRequest) -> Option<Moment> {
        // S3 has no such header, and objects are only put.
        let target = request.headers().get("x-amz-target").unwrap_or("PutObject");
        let operation = target.rsplit('.').next().unwrap_or_default();
        let mut register = self.register();
        register.calls.push(operation.to_owned());
        let (at, moment) = register.plan?;
        (register.calls.len() == at + 1).then_some(moment)
    }
}

/// An HTTP client whose calls may be their caller's last.
#[derive(Debug)]
pub(crate) struct Mortal {
    pub(crate) inner: SharedHttpClient,
    pub(crate) deaths: Deaths,
}

#[derive(Debug)]
struct Connector {
    inner: SharedHttpConnector,
    deaths: Deaths,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        // Whoever is no invocation (a test that looks on) is neither counted nor killed.
        let Ok(life) = LIFE.try_with(Arc::clone) else {
            return self.inner.call(request);
        };
        match self.deaths.note(&request) {
            None => self.inner.call(request),
            Some(Moment::Before) => HttpConnectorFuture::new(async move { end(&life).await }),
            Some(Moment::After) => {
                let answer = self.inner.call(request);
                HttpConnectorFuture::new(async move {
                    // The service has done it, or refused to, once it answers at all.
                    let _ = answer.await;
                    end(&life).await
                })
            }
        }
    }
}

/// Says that it is over, and never returns: whoever runs the invocation drops it.
async fn end<T>(life: &Notify) -> T {
    life.notify_one();
    std::future::pending().await
}

impl HttpClient for Mortal {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            inner: self.inner.http_connector(settings, components),
            deaths: self.deaths.clone(),
        })
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        bag: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.inner.validate_base_client_config(components, bag)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        bag: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.inner.validate_final_config(components, bag)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.inner.connector_metadata()
    }
}
