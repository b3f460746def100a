//! A modern server's answer as a legacy client understands it: results without what the client's revision does
//! not know, errors under the codes of legacy servers. Plain functions over bytes; what needs no translation
//! keeps its bytes.

use super::{super::params::Listed, input::Input};
use crate::{
    failure::{Failure, Kind},
    mcp::{
        Message,
        json::{self, Edits, Malformed, Span},
        method, rpc,
    },
};

/// What an answer is to a legacy client.
#[derive(Debug)]
pub(super) enum Answer {
    /// Its response, under its id.
    Final(Message),
    /// The server needs to ask the client first.
    Input(Input),
}

/// Members of modern results that legacy ones do not have.
const MODERN_ONLY: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];
/// Requests whose answer may be a question.
const MAY_ASK: [&str; 3] = [method::TOOLS_CALL, method::PROMPTS_GET, method::RESOURCES_READ];

/// Reads the answer to `request`, whose id is the client's. `listed`: what was learned from a list of tools.
///
/// # Errors
/// It cannot be translated: `Protocol`.
pub(super) fn read(
    answer: &Message,
    request: &Message,
    version: &str,
    listed: Option<&Listed>,
) -> Result<Answer, Failure> {
    let foreign = |malformed: Malformed| {
        Failure::new(Kind::Protocol, "the upstream's answer cannot be read").because(malformed)
    };
    let text = answer.bytes();
    let mut edits = addressed(answer, request.id().unwrap_or_default()).map_err(foreign)?;
    if let Some(error) = answer.error() {
        edits.extend(legacy_code(answer, &error, request).map_err(foreign)?);
        return Ok(Answer::Final(answer.spliced(edits)));
    }
    let result = answer.result().unwrap_or_default();
    if text.get(result.start) != Some(&b'{') {
        return Ok(Answer::Final(answer.spliced(edits)));
    }
    let kind = json::member(text, &result, "resultType").map_err(foreign)?;
    match kind.and_then(|at| json::string(text, &at)).as_deref() {
        None | Some("complete") => {}
        Some("input_required") if MAY_ASK.contains(&request.method()) => {
            return Ok(Answer::Input(Input::read(answer, &result)?));
        }
        Some(other) => {
            let what =
                format!("the upstream answered with a result of type `{other}`, which nobody asked for");
            return Err(Failure::new(Kind::Protocol, what));
        }
    }
    let translated = match request.method() {
        method::TOOLS_CALL => called(text, &result, version),
        method::TOOLS_LIST => tools(text, &result, listed),
        method::PROMPTS_GET => json::revise(text, &result, &MODERN_ONLY, &[])
            .and_then(|edits| Ok([edits, messages(text, &result, version)?].concat())),
        _ => json::revise(text, &result, &MODERN_ONLY, &[]),
    };
    edits.extend(translated.map_err(foreign)?);
    Ok(Answer::Final(answer.spliced(edits)))
}

/// The client's own id. A server that could not read the id it was sent leaves it out.
fn addressed(answer: &Message, id: &[u8]) -> Result<Edits, Malformed> {
    match answer.id_span() {
        Some(at) if &answer.bytes()[at.clone()] == id => Ok(Vec::new()),
        Some(at) => Ok(vec![(at, id.to_vec())]),
        None => json::revise(answer.bytes(), &(0..answer.bytes().len()), &[], &[("id", id)]),
    }
}

/// The code of an error response.
pub(super) fn code(answer: &Message) -> Option<i32> {
    let at = json::find(answer.bytes(), &answer.error()?, &["code"]).ok()??;
    std::str::from_utf8(&answer.bytes()[at]).ok()?.parse().ok()
}

fn legacy_code(answer: &Message, error: &Span, request: &Message) -> Result<Edits, Malformed> {
    let legacy = match code(answer) {
        // The one parameter that can be wrong is the address of what is to be read.
        Some(rpc::INVALID_PARAMS) if request.method() == method::RESOURCES_READ => {
            let named = request.param_str(&["uri"])?.is_some();
            named.then_some(rpc::RESOURCE_NOT_FOUND)
        }
        Some(rpc::MISSING_CAPABILITY) => Some(rpc::INVALID_PARAMS),
        Some(rpc::HEADER_MISMATCH | rpc::UNSUPPORTED_VERSION) => Some(rpc::INVALID_REQUEST),
        _ => None,
    };
    let at = json::find(answer.bytes(), error, &["code"])?;
    Ok(legacy.zip(at).map(|(legacy, at)| (at, legacy.to_string().into_bytes())).into_iter().collect())
}

/// A result of `tools/call`. Legacy structured content is an object; any other goes, and if there is nothing
/// beside it, stays as text.
fn called(text: &[u8], result: &Span, version: &str) -> Result<Edits, Malformed> {
    let content = json::member(text, result, "content")?.filter(|at| text[at.start] == b'[');
    let blocks = content.map_or(Ok(Vec::new()), |at| json::items(text, &at))?;
    let foreign = json::member(text, result, "structuredContent")?.filter(|at| text[at.start] != b'{');
    let mut remove = MODERN_ONLY.to_vec();
    if foreign.is_some() {
        remove.push("structuredContent");
    }
    match foreign.filter(|at| blocks.is_empty() && text[at.start] != b'n') {
        Some(alone) => {
            remove.push("content");
            let rescued = [&b"["[..], &block(&String::from_utf8_lossy(&text[alone])), b"]"].concat();
            json::revise(text, result, &remove, &[("content", &rescued)])
        }
        None => Ok([json::revise(text, result, &remove, &[])?, degraded(text, blocks, version)?].concat()),
    }
}

/// The content of messages: of a prompt, or of what is to be sampled.
pub(super) fn messages(text: &[u8], of: &Span, version: &str) -> Result<Edits, Malformed> {
    let Some(messages) = json::member(text, of, "messages")?.filter(|at| text[at.start] == b'[') else {
        return Ok(Vec::new());
    };
    let mut edits = Vec::new();
    for message in json::items(text, &messages)? {
        let Some(content) = json::find(text, &message, &["content"])? else { continue };
        match text[content.start] {
            b'[' if version < "2025-11-25" => edits.extend(apart(text, &message, &content, version)?),
            b'[' => edits.extend(degraded(text, json::items(text, &content)?, version)?),
            _ => edits.extend(degraded(text, vec![content], version)?),
        }
    }
    Ok(edits)
}

/// A message of several blocks, as several messages of one block: before 2025-11-25 there was no other.
fn apart(
    text: &[u8],
    message: &Span,
    content: &Span,
    version: &str,
) -> Result<Option<(Span, Vec<u8>)>, Malformed> {
    let blocks = json::items(text, content)?;
    if blocks.is_empty() {
        return Ok(None);
    }
    let mut whole = Vec::new();
    for (place, at) in blocks.into_iter().enumerate() {
        if place > 0 {
            whole.push(b',');
        }
        let block = degraded(text, vec![at.clone()], version)?
            .pop()
            .map_or_else(|| text[at].to_vec(), |(_, new)| new);
        whole.extend_from_slice(&text[message.start..content.start]);
        whole.extend_from_slice(&block);
        whole.extend_from_slice(&text[content.end..message.end]);
    }
    Ok(Some((message.clone(), whole)))
}

/// Blocks of a type that the client's revision does not have, as text.
fn degraded(text: &[u8], blocks: Vec<Span>, version: &str) -> Result<Edits, Malformed> {
    if version >= "2025-06-18" {
        return Ok(Vec::new());
    }
    let mut edits = Vec::new();
    for at in blocks {
        let say = |key: &str| {
            Ok::<_, Malformed>(json::find(text, &at, &[key])?.and_then(|at| json::string(text, &at)))
        };
        match say("type")?.as_deref() {
            Some("resource_link") => {
                let uri = say("uri")?.unwrap_or_default();
                let name = say("title")?.or(say("name")?).unwrap_or_default();
                edits.push((at, block(&format!("[resource: {name} <{uri}>]"))));
            }
            Some("audio") if version < "2025-03-26" => {
                let kind = say("mimeType")?.unwrap_or_default();
                edits.push((
                    at,
                    block(&format!("[audio: {kind}, which this client's revision cannot carry]")),
                ));
            }
            _ => {}
        }
    }
    Ok(edits)
}

/// A block of text.
fn block(words: &str) -> Vec<u8> {
    [&br#"{"type":"text","text":"#[..], &json::quote(words), b"}"].concat()
}

/// A list of tools: without those that an HTTP client must not use, without tasks, and with output schemas of
/// objects only.
fn tools(text: &[u8], result: &Span, listed: Option<&Listed>) -> Result<Edits, Malformed> {
    let mut edits = json::revise(text, result, &MODERN_ONLY, &[])?;
    let Some(tools) = json::member(text, result, "tools")?.filter(|at| text[at.start] == b'[') else {
        return Ok(edits);
    };
    let dropped: Vec<usize> =
        listed.iter().flat_map(|listed| &listed.dropped).map(|(place, _)| *place).collect();
    edits.extend(json::without_items(text, &tools, &dropped)?);
    for (place, tool) in json::items(text, &tools)?.into_iter().enumerate() {
        if dropped.contains(&place) || text[tool.start] != b'{' {
            continue;
        }
        if let Some(schema) = json::member(text, &tool, "outputSchema")? {
            let root = json::find(text, &schema, &["type"])?.and_then(|at| json::string(text, &at));
            if root.as_deref() != Some("object") {
                edits.extend(json::revise(text, &tool, &["outputSchema"], &[])?);
            }
        }
        if let Some(execution) = json::member(text, &tool, "execution")?.filter(|at| text[at.start] == b'{') {
            edits.extend(json::revise(text, &execution, &["taskSupport"], &[])?);
        }
    }
    Ok(edits)
}

#[cfg(test)]
mod tests {
    use super::{super::super::params::Memory, *};
    use bytes::Bytes;
    use serde_json::{Value, json};

    fn parse(text: &str) -> Message {
        Message::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn request(method: &str, params: &str) -> Message {
        parse(&format!(r#"{{"jsonrpc":"2.0","id":"mine","method":"{method}","params":{params}}}"#))
    }

    fn translated(method: &str, result: &str, version: &str) -> String {
        let answer = parse(&format!(r#"{{"jsonrpc":"2.0","id":7,"result":{result}}}"#));
        match read(&answer, &request(method, "{}"), version, None).unwrap() {
            Answer::Final(message) => String::from_utf8(message.bytes().to_vec()).unwrap(),
            Answer::Input(_) => panic!("a question"),
        }
    }

    #[test]
    fn modern_members_go_and_every_other_byte_stays() {
        let said = translated(
            "resources/list",
            r#"{"resources":[ {"n":1.10} ],"resultType":"complete","ttlMs":5,"cacheScope":"public","x":1e5,"_meta":{"a":1}}"#,
            "2025-11-25",
        );
        assert_eq!(
            said,
            r#"{"jsonrpc":"2.0","id":"mine","result":{"resources":[ {"n":1.10} ],"x":1e5,"_meta":{"a":1}}}"#
        );
    }

    #[test]
    fn errors_get_the_codes_of_legacy_servers() {
        let code = |method: &str, params: &str, error: &str| {
            let answer = parse(&format!(r#"{{"jsonrpc":"2.0","error":{error},"id":7}}"#));
            match read(&answer, &request(method, params), "2025-11-25", None).unwrap() {
                Answer::Final(message) => {
                    assert_eq!(message.id(), Some(&b"\"mine\""[..]));
                    serde_json::from_slice::<Value>(message.bytes()).unwrap()["error"].clone()
                }
                Answer::Input(_) => panic!("a question"),
            }
        };
        let missing = r#"{"code":-32602,"message":"m","data":{"uri":"x:y"}}"#;
        assert_eq!(
            code("resources/read", r#"{"uri":"x:y"}"#, missing),
            json!({"code": -32002, "message": "m", "data": {"uri": "x:y"}})
        );
        assert_eq!(code("resources/read", "{}", missing)["code"], -32602);
        assert_eq!(code("tools/call", "{}", missing)["code"], -32602);
        let needs = r#"{"code":-32021,"message":"m","data":{"requiredCapabilities":{"sampling":{}}}}"#;
        let said = code("tools/call", "{}", needs);
        assert_eq!(said["code"], -32602);
        assert_eq!(said["data"]["requiredCapabilities"], json!({"sampling": {}}));
        assert_eq!(code("tools/call", "{}", r#"{"code":-32020,"message":"m"}"#)["code"], -32600);
        assert_eq!(code("x/y", "{}", r#"{"code":-32601,"message":"m"}"#)["code"], -32601);
    }

    #[test]
    fn an_error_without_an_id_is_addressed_to_its_request() {
        let answer = parse(r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"m"}}"#);
        let Answer::Final(message) = read(&answer, &request("tools/list", "{}"), "2025-11-25", None).unwrap()
        else {
            panic!("a question");
        };
        assert_eq!(message.id(), Some(&b"\"mine\""[..]));
    }

    #[test]
    fn structured_content_that_is_no_object_becomes_text_or_goes() {
        let alone = translated(
            "tools/call",
            r#"{"content":[],"structuredContent":[1.10,2],"isError":false}"#,
            "2025-11-25",
        );
        assert!(
            alone.ends_with(r#""result":{"content":[{"type":"text","text":"[1.10,2]"}],"isError":false}}"#),
            "{alone}"
        );
        let beside = translated(
            "tools/call",
            r#"{"structuredContent":7,"content":[{"type":"text","text":"7"}]}"#,
            "2025-11-25",
        );
        assert!(beside.ends_with(r#""result":{"content":[{"type":"text","text":"7"}]}}"#), "{beside}");
        let object = r#"{"content":[],"structuredContent":{"a":1.10}}"#;
        assert!(translated("tools/call", object, "2025-11-25").contains(object));
    }

    #[test]
    fn content_of_later_revisions_becomes_text_for_earlier_clients() {
        let result = r#"{"content":[{"type":"resource_link","uri":"x:y","name":"n"},{"type":"audio","data":"AA","mimeType":"audio/wav"}],"structuredContent":null}"#;
        let content = |version: &str| -> Vec<String> {
            let said: Value = serde_json::from_str(&translated("tools/call", result, version)).unwrap();
            let blocks = said["result"]["content"].as_array().unwrap().clone();
            blocks.iter().map(|block| block["type"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(content("2025-06-18"), ["resource_link", "audio"]);
        assert_eq!(content("2025-03-26"), ["text", "audio"]);
        assert_eq!(content("2024-11-05"), ["text", "text"]);
        let prompt =
            r#"{"messages":[{"role":"user","content":{"type":"resource_link","uri":"x:y","name":"n"}}]}"#;
        assert!(translated("prompts/get", prompt, "2025-03-26").contains("[resource: n <x:y>]"));
    }

    #[test]
    fn several_blocks_of_a_message_become_messages_for_clients_that_know_one() {
        let params = br#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"audio"}],"x":1}]}"#;
        let edits = messages(params, &(0..params.len()), "2024-11-05").unwrap();
        let said: Value = serde_json::from_slice(&json::splice(params, edits)).unwrap();
        let said = said["messages"].as_array().unwrap();
        assert_eq!(said.len(), 2);
        assert_eq!(said[0], json!({"role": "user", "content": {"type": "text", "text": "a"}, "x": 1}));
        assert_eq!(said[1]["content"]["type"], "text");
        assert!(messages(params, &(0..params.len()), "2025-11-25").unwrap().is_empty());
    }

    #[test]
    fn tools_are_listed_without_what_a_legacy_client_cannot_use() {
        let bad = r#"{"name":"bad","inputSchema":{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}}"#;
        let list = format!(
            r#"{{"jsonrpc":"2.0","id":7,"result":{{"resultType":"complete","tools":[{bad},
            {{"name":"a","outputSchema":{{"type":"array"}},"execution":{{"taskSupport":"optional","x":1}},"n":1.10}},
            {{"name":"b","outputSchema":{{"type":"object","$defs":{{}}}}}}],"ttlMs":0}}}}"#
        );
        let listed = Memory::default().learn(&parse(&list), true).unwrap();
        let Answer::Final(message) =
            read(&parse(&list), &request("tools/list", "{}"), "2025-11-25", Some(&listed)).unwrap()
        else {
            panic!("a question");
        };
        let said: Value = serde_json::from_slice(message.bytes()).unwrap();
        assert_eq!(
            said["result"],
            json!({"tools": [{"name": "a", "execution": {"x": 1}, "n": 1.10},
                {"name": "b", "outputSchema": {"type": "object", "$defs": {}}}]})
        );
    }

    #[test]
    fn a_result_of_an_unknown_type_is_no_answer() {
        let answer = parse(r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"task","taskId":"t"}}"#);
        let failed = read(&answer, &request("tools/call", "{}"), "2025-11-25", None).unwrap_err();
        assert_eq!(failed.kind, Kind::Protocol);
        let answer =
            parse(r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","requestState":"s"}}"#);
        assert!(read(&answer, &request("tools/list", "{}"), "2025-11-25", None).is_err());
        assert!(matches!(
            read(&answer, &request("tools/call", "{}"), "2025-11-25", None),
            Ok(Answer::Input(_))
        ));
    }
}
