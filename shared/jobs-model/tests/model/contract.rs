//! The contract of a runtime.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use towpath_engine::{JobId, Model, Simulated};
use towpath_jobs::testing::{Subject, contract};
use towpath_jobs::{Runtime, Work};

use crate::server::{Script, Server, finish, stream_head, streamed};
use crate::{model, request, runtime};

/// A gateway whose model says what it is asked to say, and is held back when that is `forbidden`.
struct Gateway(Arc<Server>);

fn repeated(request: &Value) -> Script {
    match request["messages"][1]["content"].as_str().unwrap() {
        "forbidden" => [vec![stream_head()], finish("content_filter")].concat(),
        text => streamed(&[text]),
    }
}

#[async_trait]
impl Subject for Gateway {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(runtime(&self.0))
    }

    fn new_job(&self) -> JobId {
        request(Work::Model(model())).job
    }

    fn answering(&self, output: &str) -> Work {
        Work::Model(Model {
            prompt: Some(output.to_owned()),
            ..model()
        })
    }

    fn failing(&self) -> Work {
        self.answering("forbidden")
    }

    fn foreign(&self) -> Work {
        Work::Simulated(Simulated::default())
    }

    fn endless(&self) -> Option<Work> {
        None
    }

    fn begun(&self, job: &JobId) -> usize {
        panic!("nothing counts how often {job} was answered")
    }

    async fn ended(&self, job: &JobId) {
        panic!("{job} was accepted, not answered")
    }
}

#[tokio::test(start_paused = true)]
async fn it_upholds_the_contract_of_a_runtime() {
    let gateway = Gateway(Server::answering(repeated));
    for check in contract(&gateway) {
        eprintln!("{}", check.name);
        check.run(&gateway).await;
    }
}
