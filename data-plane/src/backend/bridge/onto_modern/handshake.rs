//! The answer to `initialize` of a server that knows no `initialize`: its answer to `server/discover`, in the
//! words of the client's revision.

use super::envelope::TASKS;
use crate::{
    failure::{Failure, Kind},
    mcp::{
        Message, era,
        json::{self, Malformed, Span},
        rpc,
    },
};

/// Members of a `DiscoverResult` that an `InitializeResult` does not have.
const MODERN_ONLY: [&str; 5] = ["supportedVersions", "resultType", "ttlMs", "cacheScope", "serverInfo"];

/// The response to `initialize`, under id 0: whoever hands it to a client puts the id of that client there.
///
/// # Errors
/// The discover answer is none.
pub(super) fn initialized(discovered: &Message, version: &str) -> Result<Message, Failure> {
    let foreign = |malformed: Malformed| {
        Failure::new(Kind::Protocol, "the upstream's answer to `server/discover` cannot be read")
            .because(malformed)
    };
    let text = discovered.bytes();
    let result = discovered.result().filter(|at| text[at.start] == b'{');
    let result = result.ok_or_else(|| foreign(Malformed("no result".to_owned())))?;
    let find = |path: &[&str]| json::find(text, &result, path).map_err(foreign);
    let object = |at: &Span| text[at.start] == b'{';
    // Early modern servers named themselves beside the capabilities.
    let named = match find(&["_meta", era::META_SERVER_INFO])?.filter(object) {
        Some(named) => Some(named),
        None => find(&["serverInfo"])?.filter(object),
    };
    let info = named.map_or(&br#"{"name":"unnamed","version":""}"#[..], |at| &text[at]);
    let (version, capabilities) = (json::quote(version), find(&["capabilities"])?.filter(object));
    let mut add: Vec<(&str, &[u8])> = vec![("protocolVersion", &version), ("serverInfo", info)];
    if capabilities.is_none() {
        add.push(("capabilities", b"{}"));
    }
    let mut edits = json::revise(text, &result, &MODERN_ONLY, &add).map_err(foreign)?;
    if let Some(capabilities) = capabilities {
        edits.extend(json::revise(text, &capabilities, &["tasks"], &[]).map_err(foreign)?);
        if let Some(extensions) = find(&["capabilities", "extensions"])?.filter(object) {
            edits.extend(json::revise(text, &extensions, &[TASKS], &[]).map_err(foreign)?);
        }
    }
    let whole = json::splice(text, edits);
    let whole = Message::parse(&whole).map_err(|_| foreign(Malformed("no response".to_owned())))?;
    let result = whole.result().expect("a result was edited and is still one");
    // Kept as long as the session: in memory of its own, without what the buffer held beside it.
    Message::parse(&rpc::result(b"0", &whole.bytes()[result]))
        .map_err(|_| foreign(Malformed("no response".to_owned())))
}

/// What a server offers to be told about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offers {
    /// Whether its tools, prompts and resources may change.
    pub(super) lists: [bool; 3],
    /// Log messages.
    pub(super) logging: bool,
}

impl Offers {
    /// Reads an answer to `initialize`.
    pub(super) fn of(handshake: &Message) -> Self {
        let result = handshake.result().unwrap_or_default();
        let find = |path: &[&str]| json::find(handshake.bytes(), &result, path).ok().flatten();
        let changes = |kind: &str| {
            find(&["capabilities", kind, "listChanged"]).is_some_and(|at| &handshake.bytes()[at] == b"true")
        };
        Self {
            lists: ["tools", "prompts", "resources"].map(changes),
            logging: find(&["capabilities", "logging"]).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::{Value, json};

    #[test]
    fn discover_becomes_the_answer_to_initialize() {
        let discovered = r#"{"jsonrpc":"2.0","id":"o1","result":{"supportedVersions":["2026-07-28"],"resultType":"complete",
            "capabilities":{"tools":{"listChanged":true},"logging":{},"extensions":{"io.modelcontextprotocol/tasks":{},"dev.x/y":{}}},
            "ttlMs":0,"cacheScope":"private","instructions":"be kind","vendor":1.10,
            "_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}}"#;
        let discovered = Message::parse(&Bytes::from(discovered)).unwrap();
        let answer = initialized(&discovered, "2025-06-18").unwrap();
        let value: Value = serde_json::from_slice(answer.bytes()).unwrap();
        assert_eq!(
            value["result"],
            json!({"protocolVersion": "2025-06-18", "serverInfo": {"name": "s", "version": "1"},
                "capabilities": {"tools": {"listChanged": true}, "logging": {}, "extensions": {"dev.x/y": {}}},
                "instructions": "be kind", "vendor": 1.10,
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "1"}}})
        );
        assert!(String::from_utf8_lossy(answer.bytes()).contains("1.10"), "numbers keep their spelling");
        assert_eq!(Offers::of(&answer), Offers { lists: [true, false, false], logging: true });
    }

    #[test]
    fn a_server_that_says_nothing_of_itself_gets_a_valid_answer_all_the_same() {
        let discovered = Message::parse(&Bytes::from_static(
            br#"{"jsonrpc":"2.0","id":1,"result":{"supportedVersions":["2026-07-28"]}}"#,
        ))
        .unwrap();
        let answer = initialized(&discovered, "2025-11-25").unwrap();
        let value: Value = serde_json::from_slice(answer.bytes()).unwrap();
        assert_eq!(value["result"]["capabilities"], json!({}));
        assert!(value["result"]["serverInfo"]["name"].is_string());
        assert_eq!(Offers::of(&answer), Offers::default());
    }
}
