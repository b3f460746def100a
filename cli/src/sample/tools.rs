//! What can be called? Six tools: four that only answer, two that keep and show notes.

use super::{
    Sample,
    answer::text,
    envelope::{Fault, INVALID_PARAMS},
};
use jiff::Timestamp;
use serde_json::{Map, Number, Value, json};

/// The catalogue.
pub(super) fn list() -> Value {
    let reads = json!({ "readOnlyHint": true, "openWorldHint": false });
    let writes = json!({
        "readOnlyHint": false, "destructiveHint": false, "idempotentHint": false, "openWorldHint": false,
    });
    let nothing = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    json!([
        {
            "name": "add",
            "description": "Add two numbers",
            "inputSchema": object(&json!({ "a": { "type": "number" }, "b": { "type": "number" } })),
            "outputSchema": object(&json!({ "sum": { "type": "number" } })),
            "annotations": reads,
        },
        {
            "name": "echo",
            "description": "Say a message back",
            "inputSchema": object(&json!({ "message": { "type": "string" } })),
            "annotations": reads,
        },
        {
            "name": "now",
            "description": "The time, in UTC",
            "inputSchema": nothing,
            "outputSchema": object(&json!({ "now": { "type": "string", "format": "date-time" } })),
            "annotations": reads,
        },
        {
            "name": "who",
            "description": "Which instance of the sample answers",
            "inputSchema": nothing,
            "outputSchema": object(&json!({
                "instance": { "type": "string" },
                "process": { "type": "integer" },
            })),
            "annotations": reads,
        },
        {
            "name": "note_add",
            "description": "Keep a note, in the memory of the instance that answers",
            "inputSchema": object(&json!({ "text": { "type": "string", "maxLength": 4096 } })),
            "outputSchema": object(&json!({ "count": { "type": "integer" } })),
            "annotations": writes,
        },
        {
            "name": "note_list",
            "description": "Every note of the instance that answers",
            "inputSchema": nothing,
            "outputSchema": object(&json!({
                "notes": {
                    "type": "array",
                    "items": object(&json!({
                        "at": { "type": "string", "format": "date-time" },
                        "text": { "type": "string" },
                    })),
                },
            })),
            "annotations": reads,
        },
    ])
}

/// An object schema that needs each of its properties.
fn object(properties: &Value) -> Value {
    let required: Vec<_> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// Calls a tool. Arguments that make no sense are a failed call, which a model can mend; an unknown tool is an
/// error of the protocol.
pub(super) fn call(sample: &Sample, params: &Map<String, Value>) -> Result<Value, Fault> {
    let name = text(params, "name")?;
    let none = Map::new();
    let arguments = match params.get("arguments") {
        None => &none,
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err(Fault::new(INVALID_PARAMS, "`arguments` must be an object")),
    };
    let outcome = match name {
        "add" => add(arguments),
        "echo" => string(arguments, "message").map(|message| said(message, None)),
        "now" => {
            let now = Timestamp::now().to_string();
            Ok(said(&now, Some(json!({ "now": now }))))
        }
        "who" => {
            let found = json!({ "instance": sample.name, "process": std::process::id() });
            Ok(said(&format!("{} (process {})", sample.name, std::process::id()), Some(found)))
        }
        "note_add" => string(arguments, "text").and_then(|text| sample.notes.add(text)).map(|count| {
            said(&format!("noted; instance {} has {count}", sample.name), Some(json!({ "count": count })))
        }),
        "note_list" => Ok(note_list(sample)),
        _ => return Err(Fault::new(INVALID_PARAMS, format!("unknown tool: {name}"))),
    };
    Ok(outcome.unwrap_or_else(|why| json!({ "content": [{ "type": "text", "text": why }], "isError": true })))
}

fn add(arguments: &Map<String, Value>) -> Result<Value, String> {
    let (a, b) = (number(arguments, "a")?, number(arguments, "b")?);
    let exact = a.as_i64().zip(b.as_i64()).and_then(|(a, b)| a.checked_add(b)).map(Number::from);
    let rounded = || a.as_f64().zip(b.as_f64()).and_then(|(a, b)| Number::from_f64(a + b));
    let sum = exact.or_else(rounded).ok_or("the sum is no finite number")?;
    Ok(said(&sum.to_string(), Some(json!({ "sum": sum }))))
}

fn note_list(sample: &Sample) -> Value {
    let notes = sample.notes.all();
    let lines: Vec<_> = notes.iter().map(|note| format!("{} {}", note.at, note.text)).collect();
    let text = match lines.is_empty() {
        true => format!("instance {} has no notes", sample.name),
        false => lines.join("\n"),
    };
    said(&text, Some(json!({ "notes": notes })))
}

fn said(text: &str, structured: Option<Value>) -> Value {
    let mut result = json!({ "content": [{ "type": "text", "text": text }], "isError": false });
    if let Some(structured) = structured {
        result["structuredContent"] = structured;
    }
    result
}

fn number<'a>(arguments: &'a Map<String, Value>, name: &str) -> Result<&'a Number, String> {
    arguments.get(name).and_then(Value::as_number).ok_or_else(|| format!("`{name}` must be a number"))
}

fn string<'a>(arguments: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    arguments.get(name).and_then(Value::as_str).ok_or_else(|| format!("`{name}` must be a string"))
}
