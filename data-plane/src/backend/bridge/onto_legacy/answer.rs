//! A legacy server's answers as modern ones: members are added and taken out, content keeps its bytes. Pure.

use super::envelope::Asked;
use crate::mcp::{Message, era, json, method, rpc};
use serde_json::{Map, Value, json};

/// What an answer is to the client.
#[derive(Debug)]
pub(super) enum Translated {
    /// The answer.
    Answer(Message),
    /// The server will answer once the user has been to these places (legacy -32042): input requests.
    Visit(Map<String, Value>),
}

/// The response to a request, under the client's id. `server` is the server's own `serverInfo`.
pub(super) fn translated(answer: &Message, asked: &Asked, server: Option<&[u8]>) -> Translated {
    let answer = answer.with_id(&asked.id);
    match answer.result() {
        // What cannot be read as a result of a list stays what it is.
        Some(result) => Translated::Answer(completed(&answer, &result, asked, server).unwrap_or(answer)),
        None => refused(&answer, asked).unwrap_or(Translated::Answer(answer)),
    }
}

fn completed(
    answer: &Message,
    result: &json::Span,
    asked: &Asked,
    server: Option<&[u8]>,
) -> Result<Message, json::Malformed> {
    let text = answer.bytes();
    let has = |key: &str| json::member(text, result, key).map(|at| at.is_some());
    let mut first = Vec::with_capacity(3);
    if !has("resultType")? {
        first.push(r#""resultType":"complete""#.to_owned());
    }
    if is_cacheable(&asked.method) {
        // A server of that era says nothing of how long its answers hold.
        if !has("ttlMs")? {
            first.push(r#""ttlMs":0"#.to_owned());
        }
        if !has("cacheScope")? {
            first.push(r#""cacheScope":"private""#.to_owned());
        }
    }
    let mut edits = Vec::new();
    if let Some(info) = server.map(String::from_utf8_lossy) {
        let info = format!(r#""{}":{info}"#, era::META_SERVER_INFO);
        match json::member(text, result, "_meta")? {
            None => first.push(format!(r#""_meta":{{{info}}}"#)),
            Some(meta) if json::find(text, &meta, &[era::META_SERVER_INFO])?.is_none() => {
                edits.push(json::inserted(text, &meta, &info)?);
            }
            Some(_) => {}
        }
    }
    if asked.method == method::TOOLS_LIST {
        edits.extend(without_tasks(text, result)?);
    }
    if !first.is_empty() {
        edits.push(json::inserted(text, result, &first.join(","))?);
    }
    Ok(answer.spliced(edits))
}

fn is_cacheable(method: &str) -> bool {
    method::list_key(method).is_some() || method == method::RESOURCES_READ
}

/// Tools lose what they say of tasks; those that are nothing but tasks go.
fn without_tasks(text: &[u8], result: &json::Span) -> Result<Vec<(json::Span, Vec<u8>)>, json::Malformed> {
    let Some(tools) = json::member(text, result, "tools")? else { return Ok(Vec::new()) };
    let (mut edits, mut kept, mut dropped) = (Vec::new(), Vec::new(), false);
    for tool in json::items(text, &tools)? {
        let Some(support) = json::find(text, &tool, &["execution", "taskSupport"])? else {
            kept.push(text[tool].to_vec());
            continue;
        };
        if json::string(text, &support).as_deref() == Some("required") {
            dropped = true;
            continue;
        }
        let Some(execution) = json::member(text, &tool, "execution")? else { continue };
        let bare = json::filtered(text, &execution, |key| key != "taskSupport")?;
        let inside = execution.start - tool.start..execution.end - tool.start;
        kept.push(json::splice(&text[tool], vec![(inside, bare.clone())]).to_vec());
        edits.push((execution, bare));
    }
    if !dropped {
        return Ok(edits);
    }
    let mut list = vec![b'['];
    list.extend_from_slice(&kept.join(&b','));
    list.push(b']');
    Ok(vec![(tools, list)])
}

fn refused(answer: &Message, asked: &Asked) -> Option<Translated> {
    let text = answer.bytes();
    let error = answer.error()?;
    let at = json::find(text, &error, &["code"]).ok()??;
    let code: i32 = std::str::from_utf8(&text[at.clone()]).ok()?.parse().ok()?;
    match code {
        rpc::RESOURCE_NOT_FOUND => {
            let mut edits = vec![(at, rpc::INVALID_PARAMS.to_string().into_bytes())];
            let uri = format!(r#""uri":{}"#, String::from_utf8_lossy(&json::quote(&asked.name)));
            match json::member(text, &error, "data").ok()? {
                None => edits.push(json::inserted(text, &error, &format!(r#""data":{{{uri}}}"#)).ok()?),
                Some(data)
                    if text[data.start] == b'{' && json::member(text, &data, "uri").ok()?.is_none() =>
                {
                    edits.push(json::inserted(text, &data, &uri).ok()?);
                }
                Some(_) => {}
            }
            Some(Translated::Answer(answer.spliced(edits)))
        }
        rpc::URL_ELICITATION_REQUIRED => {
            let data = json::find(text, &error, &["data", "elicitations"]).ok()??;
            let places: Vec<Map<String, Value>> = serde_json::from_slice(&text[data]).ok()?;
            let requests = places.into_iter().enumerate().map(|(at, mut params)| {
                params.remove("elicitationId");
                params.insert("mode".to_owned(), "url".into());
                (format!("url-{}", at + 1), json!({"method": method::ELICIT, "params": params}))
            });
            Some(Translated::Visit(requests.collect()))
        }
        _ => None,
    }
}

/// An `input_required` answer.
pub(super) fn input_required(id: &[u8], requests: &[u8], state: Option<&str>) -> Message {
    let mut result = br#"{"resultType":"input_required","inputRequests":"#.to_vec();
    result.extend_from_slice(requests);
    if let Some(state) = state {
        result.extend_from_slice(br#","requestState":"#);
        result.extend_from_slice(&json::quote(state));
    }
    result.push(b'}');
    Message::parse(&rpc::result(id, &result)).expect("a result of our own is a message")
}

/// The answer to a request that needs something which the client did not declare.
pub(super) fn missing_capability(id: &[u8], needed: &Value) -> Message {
    let data = json!({"requiredCapabilities": needed});
    let words = "the server asks for something that the client did not declare";
    Message::parse(&rpc::error(Some(id), rpc::MISSING_CAPABILITY, words, Some(&data)))
        .expect("an error of our own is a message")
}

/// The result of `server/discover` that a legacy server's `InitializeResult` amounts to. `streams`: it can say
/// something by itself.
pub(super) fn discovered(id: &[u8], handshake: &Message, streams: bool) -> Message {
    let text = handshake.bytes();
    let member = |key: &str| json::find(text, &handshake.result()?, &[key]).ok()?;
    let mut capabilities: Map<String, Value> =
        member("capabilities").and_then(|at| serde_json::from_slice(&text[at]).ok()).unwrap_or_default();
    capabilities.remove("tasks");
    if !streams {
        for (_, offered) in &mut capabilities {
            if let Value::Object(offered) = offered {
                offered.remove("listChanged");
                offered.remove("subscribe");
            }
        }
    }
    let mut result = json!({
        "resultType": "complete",
        "supportedVersions": era::MODERN,
        "capabilities": capabilities,
        "ttlMs": 0,
        "cacheScope": "private",
    })
    .to_string();
    result.pop();
    let raw = |at: json::Span| String::from_utf8_lossy(&text[at]).into_owned();
    if let Some(instructions) = member("instructions") {
        result.push_str(&format!(r#","instructions":{}"#, raw(instructions)));
    }
    if let Some(info) = member("serverInfo") {
        result.push_str(&format!(r#","_meta":{{"{}":{}}}"#, era::META_SERVER_INFO, raw(info)));
    }
    result.push('}');
    Message::parse(&rpc::result(id, result.as_bytes())).expect("a result of our own is a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn asked(method: &str) -> Asked {
        let name = if method == method::RESOURCES_READ { "test://x" } else { "" };
        Asked {
            id: Bytes::from_static(b"\"c\""),
            method: method.to_owned(),
            name: name.to_owned(),
            token: None,
            level: None,
            capabilities: Map::new(),
            given: Default::default(),
            state: None,
        }
    }

    fn answer(method: &str, rest: &str) -> String {
        let message = Message::parse(&Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":7,{rest}}}"#))).unwrap();
        match translated(&message, &asked(method), Some(br#"{"name":"s"}"#)) {
            Translated::Answer(answer) => String::from_utf8(answer.bytes().to_vec()).unwrap(),
            Translated::Visit(requests) => Value::Object(requests).to_string(),
        }
    }

    const INFO: &str = r#""io.modelcontextprotocol/serverInfo":{"name":"s"}"#;

    #[test]
    fn results_gain_what_the_era_requires_and_keep_their_bytes() {
        assert_eq!(
            answer("tools/call", r#""result":{"content":[ ],"n":1.10}"#),
            format!(
                r#"{{"jsonrpc":"2.0","id":"c","result":{{"resultType":"complete","_meta":{{{INFO}}},"content":[ ],"n":1.10}}}}"#
            )
        );
        assert_eq!(
            answer("prompts/list", r#""result":{"prompts":[],"_meta":{"a":1}}"#),
            format!(
                r#"{{"jsonrpc":"2.0","id":"c","result":{{"resultType":"complete","ttlMs":0,"cacheScope":"private","prompts":[],"_meta":{{{INFO},"a":1}}}}}}"#
            )
        );
        assert_eq!(
            answer("completion/complete", r#""result":{}"#),
            format!(
                r#"{{"jsonrpc":"2.0","id":"c","result":{{"resultType":"complete","_meta":{{{INFO}}}}}}}"#
            )
        );
    }

    #[test]
    fn tools_say_nothing_of_tasks_and_those_that_are_only_tasks_are_gone() {
        let plain = answer(
            "tools/list",
            r#""result":{"tools":[{"name":"a","execution":{"taskSupport":"optional","x":1}},{"name":"b"}]}"#,
        );
        assert!(plain.contains(r#"[{"name":"a","execution":{"x":1}},{"name":"b"}]"#), "{plain}");
        let gone = answer(
            "tools/list",
            r#""result":{"tools":[{"name":"a","execution":{"taskSupport":"required"}},{"name":"b"},{"name":"c","execution":{"taskSupport":"forbidden"}}]}"#,
        );
        assert!(gone.contains(r#"[{"name":"b"},{"name":"c","execution":{}}]"#), "{gone}");
    }

    #[test]
    fn errors_of_the_old_era_become_those_of_the_new() {
        assert_eq!(
            answer("resources/read", r#""error":{"code":-32002,"message":"m"}"#),
            r#"{"jsonrpc":"2.0","id":"c","error":{"data":{"uri":"test://x"},"code":-32602,"message":"m"}}"#
        );
        assert_eq!(
            answer("resources/read", r#""error":{"code":-32002,"message":"m","data":{"uri":"u"}}"#),
            r#"{"jsonrpc":"2.0","id":"c","error":{"code":-32602,"message":"m","data":{"uri":"u"}}}"#
        );
        assert_eq!(
            answer(
                "tools/call",
                r#""error":{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","elicitationId":"e","url":"https://x","message":"go"}]}}"#
            ),
            r#"{"url-1":{"method":"elicitation/create","params":{"message":"go","mode":"url","url":"https://x"}}}"#
        );
        assert_eq!(
            answer("tools/call", r#""error":{"code":-32000,"message":"m"}"#),
            r#"{"jsonrpc":"2.0","id":"c","error":{"code":-32000,"message":"m"}}"#
        );
    }

    #[test]
    fn a_handshake_is_enough_to_be_discovered() {
        let handshake = Message::parse(&Bytes::from_static(
            br#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"tasks":{}},"serverInfo":{"name":"s","version":"1"},"instructions":"i"}}"#,
        ))
        .unwrap();
        let text =
            |streams| String::from_utf8(discovered(b"9", &handshake, streams).bytes().to_vec()).unwrap();
        let found = text(true);
        for part in [
            r#""supportedVersions":["2026-07-28"]"#,
            r#""capabilities":{"tools":{"listChanged":true}}"#,
            r#""instructions":"i","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#,
        ] {
            assert!(found.contains(part), "{part} in {found}");
        }
        assert!(text(false).contains(r#""capabilities":{"tools":{}}"#), "what never comes is not announced");
    }
}
