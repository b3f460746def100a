//! Modern requests whose headers the server will not see, because it is a process or lives in the other era:
//! whoever takes the headers away must have held them against the body (2026-07-28, Streamable HTTP).

use super::params::{self, Memory};
use crate::{
    call::{Body, JSON, Reply},
    mcp::{self, Message, method, rpc},
};
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use std::sync::Arc;

/// The refusal of a tool call whose headers disagree with its arguments. A tool that was never listed cannot be
/// checked.
pub(super) fn refusal(memory: &Memory, message: &Message, headers: &HeaderMap) -> Option<Reply> {
    if message.method() != method::TOOLS_CALL {
        return None;
    }
    let params = memory.of(&message.param_str(&["name"]).ok()??)?;
    let arguments = message.param(&["arguments"]).ok()?.map(|at| &message.bytes()[at]);
    let mismatch = params::check(&params, arguments, headers).err()?;
    let body = rpc::error(message.id(), rpc::HEADER_MISMATCH, &mismatch.to_string(), None);
    let headers = [(header::CONTENT_TYPE, JSON)].into_iter().collect();
    Some(Reply { status: StatusCode::BAD_REQUEST, headers, body: Body::Full(body), stale: None })
}

/// Learns the tools from an answer to `tools/list` on its way to the client, which gets it as it is.
pub(super) fn learned(memory: &Arc<Memory>, request: &Message, reply: Reply) -> Reply {
    if request.method() != method::TOOLS_LIST {
        return reply;
    }
    let first = !matches!(request.param(&["cursor"]), Ok(Some(_)));
    let memory = memory.clone();
    let learn = move |message: &Message| {
        if message.kind() == mcp::Kind::Response && message.result().is_some() {
            // What is no list of tools teaches nothing.
            let _ = memory.learn(message, first);
        }
    };
    let body = match reply.body {
        Body::Full(bytes) => {
            if let Ok(message) = Message::parse(&bytes) {
                learn(&message);
            }
            Body::Full(bytes)
        }
        Body::Messages(messages) => Body::Messages(
            messages
                .inspect(move |message| {
                    if let Ok(message) = message {
                        learn(message);
                    }
                })
                .boxed(),
        ),
        other => other,
    };
    Reply { status: reply.status, headers: reply.headers, body, stale: reply.stale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::HeaderValue;

    fn parse(text: &str) -> Message {
        Message::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[tokio::test]
    async fn headers_are_held_against_the_arguments_of_tools_that_were_listed() {
        let memory = Arc::new(Memory::default());
        let call = parse(
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{"r":"eu"}}}"#,
        );
        let mut headers = HeaderMap::new();
        headers.insert("mcp-param-region", HeaderValue::from_static("us"));
        assert!(refusal(&memory, &call, &headers).is_none(), "nothing is known of the tool");

        let list = parse(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        let answer = parse(
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"t","inputSchema":{"properties":{"r":{"type":"string","x-mcp-header":"Region"}}}}]}}"#,
        );
        let messages = futures_util::stream::iter([Ok(answer.clone())]).boxed();
        let reply = learned(&memory, &list, Reply::messages(messages));
        let passed = crate::call::read_response(reply).await.unwrap();
        assert_eq!(passed.bytes(), answer.bytes());

        let refused = refusal(&memory, &call, &headers).unwrap();
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        let Body::Full(body) = refused.body else { panic!("a whole answer") };
        assert!(body.starts_with(br#"{"jsonrpc":"2.0","id":7,"error":{"code":-32020,"#));
        headers.insert("mcp-param-region", HeaderValue::from_static("eu"));
        assert!(refusal(&memory, &call, &headers).is_none());
    }
}
