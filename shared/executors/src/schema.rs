//! The JSON Schema of the contract, derived from the types.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::event::data_schemas;
use crate::{
    DispatchMessage, DispatchPayload, DispatchResponse, ErrorMessage, EventEnvelope,
    ExecutorsListResponse, HitlResponsePayload, MissionStatusResponse, RegisterPayload,
    RegisterResponse, SocketMessage,
};

/// The JSON Schema of every message of the contract, as it is served: what [`schema`] derives, kept in a file, so that a
/// function need not link what derives it.
pub const SCHEMA: &str = include_str!("../schema.json");

/// Derives the JSON Schema of every message of the contract, under `$defs`.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12();
    let mut generator = settings.into_generator();
    generator.subschema_for::<RegisterPayload>();
    generator.subschema_for::<RegisterResponse>();
    generator.subschema_for::<ExecutorsListResponse>();
    generator.subschema_for::<DispatchPayload>();
    generator.subschema_for::<DispatchResponse>();
    generator.subschema_for::<MissionStatusResponse>();
    generator.subschema_for::<HitlResponsePayload>();
    generator.subschema_for::<EventEnvelope>();
    data_schemas(&mut generator);
    generator.subschema_for::<DispatchMessage>();
    generator.subschema_for::<SocketMessage>();
    generator.subschema_for::<ErrorMessage>();
    let mut definitions = generator.take_definitions(true);
    for (name, definition) in &mut definitions {
        // A pinned executor may be `null`, which is any; nothing else that may be left out may be.
        if name != "executor_filter" {
            without_null(definition);
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Executor contract v1",
        "$defs": definitions,
    })
}

/// Takes `null` out of what the fields of an object may be. A field that is `Option` may be left out, and is derived as one
/// that may be `null`.
fn without_null(definition: &mut Value) {
    let properties = definition.get_mut("properties");
    let Some(properties) = properties.and_then(Value::as_object_mut) else {
        return;
    };
    for property in properties.values_mut() {
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|it| it != "null");
            if let [only] = &types[..] {
                let only = only.clone();
                property["type"] = only;
            }
        }
        if let Some(Value::Array(choices)) = property.get_mut("anyOf") {
            choices.retain(|it| it.get("type").is_none_or(|it| it != "null"));
        }
    }
}
