//! The layer itself: decides about each request, then breaks it or passes it on.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::{
    RuntimeComponents, RuntimeComponentsBuilder,
};
use aws_smithy_types::config_bag::ConfigBag;

use super::reply::{self, Target};
use super::stale::{Memory, answer_stale};
use super::{Dice, Fault, Faults, Injected};

/// An HTTP client that breaks some of the calls made through another.
#[derive(Debug)]
pub(crate) struct Layer {
    inner: SharedHttpClient,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    injected: Injected,
    services: Mutex<BTreeMap<&'static str, Service>>,
    memory: Memory,
}

/// The state of one service's sequence of faults.
#[derive(Debug)]
struct Service {
    dice: Dice,
    calls: u64,
}

/// The fault, if any, that a call is to meet.
struct Fate {
    fault: Option<Fault>,
    /// Picks among the ways in which the fault can happen.
    pick: u64,
}

impl Layer {
    pub(crate) fn new(faults: Faults, inner: SharedHttpClient, injected: Injected) -> Self {
        let state = State {
            faults,
            injected,
            services: Mutex::default(),
            memory: Memory::default(),
        };
        Self {
            inner,
            state: Arc::new(state),
        }
    }
}

impl State {
    /// Throws the dice for a call. Every call takes the same number of throws, so that what befalls a call depends on
    /// how many came before it but not on what they were.
    fn decide(&self, target: &Target) -> Fate {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let service = services.entry(target.service).or_insert_with(|| {
            let name = target.service.bytes().fold(0, |sum: u64, byte| {
                sum.wrapping_mul(31).wrapping_add(byte.into())
            });
            Service {
                dice: Dice(self.faults.seed ^ name),
                calls: 0,
            }
        });
        if self
            .faults
            .only
            .as_ref()
            .is_some_and(|only| *only != target.operation)
        {
            return Fate {
                fault: None,
                pick: 0,
            };
        }
        let (share, pick) = (service.dice.share(), service.dice.next());
        service.calls += 1;
        let spared = service.calls <= self.faults.after;
        let spent = self
            .faults
            .limit
            .is_some_and(|limit| self.injected.total() >= limit);
        if spared || spent {
            return Fate { fault: None, pick };
        }
        let mut upper = 0.0;
        let fault = target.possible().into_iter().find(|fault| {
            upper += self.faults.rate(*fault);
            share < upper
        });
        // Counted under the lock, or two calls at once could both be the last. A stale read is counted when it is one.
        if let Some(fault) = fault.filter(|fault| *fault != Fault::StaleRead) {
            self.injected.add(fault);
        }
        Fate { fault, pick }
    }
}

#[derive(Debug)]
struct Faulty {
    inner: SharedHttpConnector,
    state: Arc<State>,
}

impl HttpConnector for Faulty {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Some(target) = Target::of(&request) else {
            return self.inner.call(request);
        };
        let fate = self.state.decide(&target);
        if let Some(fault) = fate.fault {
            tracing::debug!(operation = target.operation, ?fault, "injecting a fault");
        }
        match fate.fault {
            Some(Fault::Conflict) => {
                HttpConnectorFuture::ready(reply::conflict(&target, &request, fate.pick))
            }
            Some(Fault::Throttle) => {
                HttpConnectorFuture::ready(reply::throttle(&target, fate.pick))
            }
            Some(Fault::ServerError) => HttpConnectorFuture::ready(reply::server_error(&target)),
            Some(Fault::LostReply) => {
                let answer = self.inner.call(request);
                HttpConnectorFuture::new(async move {
                    // The service has carried the call out once it answers at all.
                    let _ = answer.await?;
                    let lost = io::Error::new(
                        io::ErrorKind::ConnectionReset,
                        "injected: the reply was lost",
                    );
                    Err(ConnectorError::io(lost.into()))
                })
            }
            fault if target.index_query => {
                let stale = (fault == Some(Fault::StaleRead)).then_some(fate.pick);
                let question = reply::body(&request);
                let (state, answer) = (Arc::clone(&self.state), self.inner.call(request));
                HttpConnectorFuture::new(async move {
                    let (answer, is_stale) =
                        answer_stale(&state.memory, question, answer.await?, stale).await?;
                    if is_stale {
                        state.injected.add(Fault::StaleRead);
                    }
                    Ok(answer)
                })
            }
            _ => self.inner.call(request),
        }
    }
}

impl HttpClient for Layer {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(Faulty {
            inner,
            state: Arc::clone(&self.state),
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
