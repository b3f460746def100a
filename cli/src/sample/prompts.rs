//! What can be asked with ready words? One prompt.

use super::{
    answer::text,
    envelope::{Fault, INVALID_PARAMS},
};
use serde_json::{Map, Value, json};

/// The catalogue.
pub(super) fn list() -> Value {
    json!([{
        "name": "greet",
        "description": "Greet somebody",
        "arguments": [{ "name": "name", "description": "Whom to greet", "required": true }],
    }])
}

/// Fills in a prompt.
pub(super) fn get(params: &Map<String, Value>) -> Result<Value, Fault> {
    let prompt = text(params, "name")?;
    if prompt != "greet" {
        return Err(Fault::new(INVALID_PARAMS, format!("unknown prompt: {prompt}")));
    }
    let name = params
        .get("arguments")
        .and_then(|arguments| arguments.get("name"))
        .and_then(Value::as_str)
        .ok_or_else(|| Fault::new(INVALID_PARAMS, "the argument `name` must be a string"))?;
    let text = format!("Greet {name} in one friendly sentence.");
    Ok(json!({
        "description": "Greet somebody",
        "messages": [{ "role": "user", "content": { "type": "text", "text": text } }],
    }))
}
