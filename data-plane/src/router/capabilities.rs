//! What many servers can do, said as one: the gateway's own answers to `initialize` and `server/discover`.

use crate::{
    mcp::{Message, era, json},
    plan::Upstream,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The most of `instructions` that is passed on, in bytes.
const INSTRUCTIONS_MAX: usize = 16 << 10;
/// MCP Apps.
const APPS: &str = "io.modelcontextprotocol/ui";

/// True when a handshake announces a capability.
pub(super) fn offers(handshake: &Message, capability: &str) -> bool {
    let found = handshake
        .result()
        .map(|result| json::find(handshake.bytes(), &result, &["capabilities", capability]));
    matches!(found, Some(Ok(Some(_))))
}

fn offers_extension(handshake: &Message, extension: &str) -> bool {
    let found = handshake
        .result()
        .map(|result| json::find(handshake.bytes(), &result, &["capabilities", "extensions", extension]));
    matches!(found, Some(Ok(Some(_))))
}

fn offers_inside(handshake: &Message, capability: &str, key: &str) -> bool {
    let text = handshake.bytes();
    let found =
        handshake.result().map(|result| json::find(text, &result, &["capabilities", capability, key]));
    matches!(found, Some(Ok(Some(at))) if &text[at.clone()] == b"true")
}

/// True when a handshake announces that any list may change.
pub(super) fn announces_changes(handshake: &Message) -> bool {
    ["tools", "prompts", "resources"].into_iter().any(|list| offers_inside(handshake, list, "listChanged"))
}

/// What upstreams said of themselves; `None`: one that nobody has heard of yet.
pub(super) type Handshakes = [(Arc<Upstream>, Option<Message>)];

/// Whether the gateway itself has something to say: which store of an upstream answers, see
/// [`super::status`] and [`super::notices`].
pub(super) fn tells_of_stores(handshakes: &Handshakes) -> bool {
    handshakes.iter().any(|(upstream, _)| upstream.backup.is_some())
}

/// Whether legacy clients are told to expect log messages.
pub(super) fn announces_logging(handshakes: &Handshakes) -> bool {
    let up = handshakes.iter().filter_map(|(_, handshake)| handshake.as_ref());
    tells_of_stores(handshakes) || up.clone().any(|handshake| offers(handshake, "logging"))
}

/// The union of what can really be served. An upstream that does not answer now may offer anything later, so
/// the kinds of lists are announced for it: their `list_changed` says when it is there.
fn merged(handshakes: &Handshakes, modern: bool) -> Map<String, Value> {
    let silent = handshakes.iter().any(|(_, handshake)| handshake.is_none());
    let status = tells_of_stores(handshakes);
    let up = || handshakes.iter().filter_map(|(_, handshake)| handshake.as_ref());
    let any = |capability: &str| up().any(|handshake| offers(handshake, capability));
    let mut merged = Map::new();
    for list in ["tools", "prompts"] {
        if silent || any(list) {
            merged.insert(list.to_owned(), json!({ "listChanged": true }));
        }
    }
    if silent || status || any("resources") {
        let subscribe = status || up().any(|handshake| offers_inside(handshake, "resources", "subscribe"));
        let mut resources = json!({ "listChanged": true });
        if subscribe {
            resources["subscribe"] = json!(true);
        }
        merged.insert("resources".to_owned(), resources);
    }
    if any("completions") {
        merged.insert("completions".to_owned(), json!({}));
    }
    if !modern && announces_logging(handshakes) {
        merged.insert("logging".to_owned(), json!({}));
    }
    // Whoever wants the pages of an app reads them as resources, and those find their owner.
    if up().any(|handshake| offers_extension(handshake, APPS)) {
        merged.insert("extensions".to_owned(), json!({ APPS: {} }));
    }
    merged
}

/// Each upstream's instructions under its name.
fn instructions(handshakes: &Handshakes) -> Option<String> {
    let mut all = String::new();
    for (upstream, handshake) in handshakes {
        let Some(handshake) = handshake else { continue };
        let text = handshake.bytes();
        let said = handshake
            .result()
            .and_then(|result| json::find(text, &result, &["instructions"]).ok().flatten())
            .and_then(|at| json::string(text, &at));
        if let Some(said) = said.filter(|said| !said.is_empty()) {
            let section = format!("## {}\n\n{said}\n\n", upstream.name);
            if all.len() + section.len() > INSTRUCTIONS_MAX {
                break;
            }
            all.push_str(&section);
        }
    }
    let all = all.trim_end();
    (!all.is_empty()).then(|| all.to_owned())
}

fn server_info() -> Value {
    json!({ "name": "only1", "title": "only1 MCP gateway", "version": o1_process::build_info::VERSION })
}

/// The gateway's `serverInfo`, raw, for the `_meta` of modern results.
pub(super) fn server_info_meta() -> String {
    format!(r#"{{"io.modelcontextprotocol/serverInfo":{}}}"#, server_info())
}

/// The result of `initialize`.
pub(super) fn initialize_result(handshakes: &Handshakes, version: &str) -> Vec<u8> {
    let mut result = json!({
        "protocolVersion": version,
        "capabilities": merged(handshakes, false),
        "serverInfo": server_info(),
    });
    if let Some(instructions) = instructions(handshakes) {
        result["instructions"] = Value::String(instructions);
    }
    result.to_string().into_bytes()
}

/// The result of `server/discover`.
pub(super) fn discover_result(handshakes: &Handshakes) -> Vec<u8> {
    let mut result = json!({
        "resultType": "complete",
        "supportedVersions": era::MODERN,
        "capabilities": merged(handshakes, true),
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": { "io.modelcontextprotocol/serverInfo": server_info() },
    });
    if let Some(instructions) = instructions(handshakes) {
        result["instructions"] = Value::String(instructions);
    }
    result.to_string().into_bytes()
}
