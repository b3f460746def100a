//! Who answers this method? The same in both eras; what differs around it is theirs.

use super::{
    Sample,
    envelope::{Fault, INVALID_PARAMS, METHOD_NOT_FOUND},
    prompts, resources, tools,
};
use serde_json::{Map, Value, json};

/// A result, and how long it holds.
pub(super) struct Answer {
    pub(super) result: Map<String, Value>,
    /// For lists and resources.
    pub(super) fresh_ms: Option<u64>,
}

/// Nothing about the catalogue changes while the process lives.
const CATALOGUE_MS: u64 = 300_000;

impl Answer {
    pub(super) fn fleeting(result: Value) -> Self {
        Self { result: object(result), fresh_ms: None }
    }

    pub(super) fn lasting(result: Value, fresh_ms: u64) -> Self {
        Self { result: object(result), fresh_ms: Some(fresh_ms) }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

/// Answers what both eras know.
pub(super) fn answer(sample: &Sample, method: &str, params: &Map<String, Value>) -> Result<Answer, Fault> {
    match method {
        "tools/list" => list(params, json!({ "tools": tools::list() })),
        "resources/list" => list(params, json!({ "resources": resources::list() })),
        "resources/templates/list" => list(params, json!({ "resourceTemplates": [] })),
        "prompts/list" => list(params, json!({ "prompts": prompts::list() })),
        "tools/call" => tools::call(sample, params).map(Answer::fleeting),
        "resources/read" => resources::read(sample, params),
        "prompts/get" => prompts::get(params).map(Answer::fleeting),
        _ => Err(Fault::new(METHOD_NOT_FOUND, format!("method not found: {method}"))),
    }
}

/// What the server offers and how to use it, for both handshakes.
pub(super) fn offers(sample: &Sample) -> Map<String, Value> {
    object(json!({
        "capabilities": { "tools": {}, "resources": {}, "prompts": {} },
        "instructions": format!(
            "A sample server of only1, instance `{}`. Notes are kept in this instance alone.",
            sample.name
        ),
    }))
}

/// Every list fits on one page, so no cursor of ours exists.
fn list(params: &Map<String, Value>, page: Value) -> Result<Answer, Fault> {
    match params.get("cursor") {
        None | Some(Value::Null) => Ok(Answer::lasting(page, CATALOGUE_MS)),
        Some(_) => Err(Fault::new(INVALID_PARAMS, "unknown cursor")),
    }
}

/// A required string among the parameters.
pub(super) fn text<'a>(params: &'a Map<String, Value>, name: &str) -> Result<&'a str, Fault> {
    params
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| Fault::new(INVALID_PARAMS, format!("`{name}` must be a string")))
}
