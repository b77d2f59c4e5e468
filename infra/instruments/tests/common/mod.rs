//! A real DynamoDB API on loopback, and a fake one that says whatever a test wants.

#![allow(dead_code, reason = "not every test file uses all of it")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement,
    KeyType, Projection, ProjectionType, ScalarAttributeType,
};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use dynoxide::Database;
use serde_json::Value;
use tokio::net::TcpListener;
use towpath_aws::{Clients, Settings};
use towpath_instruments::{Index, Injected, Instruments, Item, Meter};

/// The one table, with an index `due` on `due_shard` and `due_at`.
pub(crate) const TABLE: &str = "runs";

/// Clients with their instruments.
pub(crate) struct Instrumented {
    pub(crate) clients: Clients,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) meter: Meter,
    pub(crate) injected: Injected,
}

/// Clients of an empty table, with these faults.
pub(crate) async fn table(faults: &str) -> Instrumented {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let database = Database::memory().unwrap();
    tokio::spawn(dynoxide::server::serve_with_shutdown(
        listener,
        database,
        std::future::pending(),
    ));
    let clients = connect(address, faults);
    create(&clients).await;
    clients
}

/// Clients of the service at this address.
pub(crate) fn connect(address: SocketAddr, faults: &str) -> Instrumented {
    let variables = [
        ("AWS_REGION", "eu-central-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "local".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
        ("AWS_ENDPOINT_URL_DYNAMODB", format!("http://{address}")),
        ("AWS_ENDPOINT_URL_SFN", format!("http://{address}")),
        ("AWS_ENDPOINT_URL_S3", format!("http://{address}")),
    ];
    let lookup = |name: &str| {
        variables
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.clone())
    };
    let due = Index {
        table: TABLE.to_owned(),
        keys: vec!["due_shard".to_owned(), "due_at".to_owned()],
        copies: None,
    };
    let settings = Settings::from_lookup(lookup).unwrap();
    let instruments = Instruments::new(vec![due]).with_faults(Some(faults), &settings);
    let instruments = instruments.unwrap();
    let clients = Clients::connect(&settings, Some(&instruments));
    Instrumented {
        dynamodb: clients.dynamodb.clone(),
        clients,
        meter: instruments.meter,
        injected: instruments.injected,
    }
}

async fn create(clients: &Instrumented) {
    let attribute = |name: &str| {
        AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .unwrap()
    };
    let key = |name: &str, kind: KeyType| {
        KeySchemaElement::builder()
            .attribute_name(name)
            .key_type(kind)
            .build()
    };
    let due = GlobalSecondaryIndex::builder()
        .index_name("due")
        .key_schema(key("due_shard", KeyType::Hash).unwrap())
        .key_schema(key("due_at", KeyType::Range).unwrap())
        .projection(
            Projection::builder()
                .projection_type(ProjectionType::All)
                .build(),
        )
        .build();
    let created = clients
        .dynamodb
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(
            ["pk", "sk", "due_shard", "due_at"].map(attribute).to_vec(),
        ))
        .key_schema(key("pk", KeyType::Hash).unwrap())
        .key_schema(key("sk", KeyType::Range).unwrap())
        .global_secondary_indexes(due.unwrap());
    created.send().await.unwrap();
}

/// A text value.
pub(crate) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A row of these text attributes.
pub(crate) fn row(attributes: &[(&str, &str)]) -> Item {
    attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), s(*value)))
        .collect()
}

/// A service that gives these answers in turn, then again and again the last, and keeps what it was asked.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Fake {
    pub(crate) async fn start(
        answers: impl IntoIterator<Item = (u16, Value)>,
    ) -> (Self, SocketAddr) {
        let fake = Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            ..Self::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .fallback(Self::answer)
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (fake, address)
    }

    /// The operations and bodies of the requests that arrived.
    pub(crate) fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().unwrap().clone()
    }

    async fn answer(
        State(fake): State<Self>,
        headers: HeaderMap,
        body: Bytes,
    ) -> (StatusCode, String) {
        let target = headers["x-amz-target"].to_str().unwrap();
        let operation = target.split_once('.').unwrap().1.to_owned();
        fake.asked
            .lock()
            .unwrap()
            .push((operation, serde_json::from_slice(&body).unwrap()));
        let mut answers = fake.answers.lock().unwrap();
        let (status, body) = if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().cloned()
        }
        .unwrap();
        (StatusCode::from_u16(status).unwrap(), body.to_string())
    }
}
