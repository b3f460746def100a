//! One entry of a journal at the primary: sent again as it was written, under the key by which the primary knows
//! whether it had it, in the gateway's own name.
//!
//! It must never call a refusal what may only be an outage: an entry that is refused is not sent again.

use super::log::Entry;
use crate::{
    call::{Ask, Call, Caller, Primary, Reply, Route, read_response},
    failure::{Failure, Kind},
    mcp::{Message, era, header, json, method, own, rpc},
    plan::{Plan, Upstream},
    principal::Principal,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;

/// What became of an entry.
#[derive(Debug)]
pub(super) enum Applied {
    /// The primary has it.
    Done,
    /// It does not want it, and said why.
    Refused(String),
    /// It could not be asked, or nobody knows what came of it.
    NotNow(Failure),
}

/// Sends entries to primaries.
pub(super) trait Replay: Send + Sync + 'static {
    /// Sends one.
    fn replay<'a>(
        &'a self,
        plan: &'a Arc<Plan>,
        upstream: &'a Arc<Upstream>,
        entry: &'a Entry,
    ) -> BoxFuture<'a, Applied>;
}

impl<P: Primary> Replay for P {
    fn replay<'a>(
        &'a self,
        plan: &'a Arc<Plan>,
        upstream: &'a Arc<Upstream>,
        entry: &'a Entry,
    ) -> BoxFuture<'a, Applied> {
        Box::pin(async move {
            let message = match request(entry) {
                Ok(message) => message,
                Err(why) => return Applied::Refused(format!("it cannot be sent again: {why}")),
            };
            let call = call(plan, upstream, message, &entry.tool);
            match self.ask_primary(call, upstream.clone()).await {
                Ok(reply) => judged(reply).await,
                Err(failure) => of_failure(failure),
            }
        })
    }
}

/// The call as a message of the modern era; the layers below speak to an older server for it.
fn request(entry: &Entry) -> Result<Message, String> {
    let whole = 0..entry.params.len();
    let members = json::members(&entry.params, &whole).map_err(|malformed| malformed.0)?;
    let version = era::MODERN[0];
    let envelope = own::envelope(version, "{}");
    let key = String::from_utf8_lossy(&json::quote(&entry.key)).into_owned();
    let mut params = format!(r#"{{"_meta":{{"{}":{key},{}"#, own::META_IDEMPOTENCY_KEY, &envelope[1..]);
    // What the writer's own envelope said was between it and us.
    for (name, at) in members.into_iter().filter(|(name, _)| name != "_meta") {
        params.push(',');
        params.push_str(&String::from_utf8_lossy(&json::quote(&name)));
        params.push(':');
        params.push_str(std::str::from_utf8(&entry.params[at]).map_err(|error| error.to_string())?);
    }
    params.push('}');
    let text = rpc::request(b"\"o1:sync-back\"", method::TOOLS_CALL, params.as_bytes());
    Message::parse(&text).map_err(|_| "its parameters are not JSON".to_owned())
}

fn call(plan: &Arc<Plan>, upstream: &Arc<Upstream>, message: Message, tool: &str) -> Call {
    let mut headers = HeaderMap::new();
    headers.insert(header::PROTOCOL_VERSION, HeaderValue::from_static(era::MODERN[0]));
    headers.insert(header::METHOD, HeaderValue::from_static(method::TOOLS_CALL));
    headers.insert(header::NAME, header::encode(tool));
    Call {
        plan: plan.clone(),
        route: Route::One(upstream.clone()),
        principal: Principal::anonymous(),
        caller: Caller::Modern,
        ask: Ask::Message(message),
        headers,
        fresh: false,
    }
}

/// What an answer says. A server that only speaks of trouble in HTTP did not answer.
async fn judged(reply: Reply) -> Applied {
    let status = reply.status;
    if status.is_server_error() || matches!(status.as_u16(), 401 | 403 | 404 | 408 | 425 | 429) {
        return Applied::NotNow(Failure::new(
            Kind::of_status(status),
            format!("the primary answered HTTP {status}"),
        ));
    }
    let answer = match read_response(reply).await {
        Ok(answer) => answer,
        Err(failure) if status.is_client_error() => {
            return Applied::Refused(format!("HTTP {status}: {failure}"));
        }
        Err(failure) => return Applied::NotNow(failure),
    };
    let text = |at: json::Span| excerpt(&answer.bytes()[at]);
    if let Some(error) = answer.error() {
        return Applied::Refused(text(error));
    }
    let Some(result) = answer.result() else {
        return Applied::NotNow(Failure::new(Kind::Protocol, "the answer is neither a result nor an error"));
    };
    let bytes: &Bytes = answer.bytes();
    let says = |key: &str, value: &[u8]| {
        json::member(bytes, &result, key).ok().flatten().is_some_and(|at| &bytes[at] == value)
    };
    if says("isError", b"true") {
        return Applied::Refused(text(result));
    }
    if says("resultType", b"\"input_required\"") {
        return Applied::Refused("it asks for input, and nobody is there to give it".to_owned());
    }
    Applied::Done
}

fn of_failure(failure: Failure) -> Applied {
    match failure.kind {
        Kind::InvalidRequest | Kind::InvalidParams | Kind::UnknownName | Kind::UnknownMethod => {
            Applied::Refused(failure.public().to_owned())
        }
        _ => Applied::NotNow(failure),
    }
}

/// The beginning of an answer, for people.
fn excerpt(bytes: &[u8]) -> String {
    const MOST: usize = 300;
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn entry(params: &str) -> Entry {
        Entry {
            key: "k-1".into(),
            at: SystemTime::UNIX_EPOCH,
            tool: "put".into(),
            params: Bytes::copy_from_slice(params.as_bytes()),
            principal: String::new(),
        }
    }

    #[test]
    fn an_entry_goes_out_as_it_was_written_but_for_its_envelope() {
        let message = request(&entry(
            r#"{"name":"put","arguments":{"n":1.10,"deep":{"_meta":1}},"_meta":{"progressToken":7}}"#,
        ))
        .unwrap();
        let text = String::from_utf8(message.bytes().to_vec()).unwrap();
        assert!(
            text.contains(r#""_meta":{"dev.only1/idempotencyKey":"k-1","io.modelcontextprotocol/"#),
            "{text}"
        );
        assert!(text.contains(r#""name":"put","arguments":{"n":1.10,"deep":{"_meta":1}}"#), "{text}");
        assert!(!text.contains("progressToken"), "{text}");
    }

    #[tokio::test]
    async fn an_answer_that_says_no_is_a_refusal_and_trouble_is_not() {
        let said = async |status: u16, body: &'static str| {
            let mut reply = Reply::json(Bytes::from_static(body.as_bytes()));
            reply.status = http::StatusCode::from_u16(status).unwrap();
            match judged(reply).await {
                Applied::Done => "done",
                Applied::Refused(_) => "refused",
                Applied::NotNow(_) => "not now",
            }
        };
        for (status, body, expected) in [
            (200, r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#, "done"),
            (200, r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}"#, "done"),
            (200, r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#, "refused"),
            (200, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}"#, "refused"),
            (200, r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required"}}"#, "refused"),
            (503, "later", "not now"),
            (503, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"starting"}}"#, "not now"),
            (429, r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"slowly"}}"#, "not now"),
            (401, "who are you", "not now"),
            (413, "too much", "refused"),
            (200, "{{nope", "not now"),
        ] {
            assert_eq!(said(status, body).await, expected, "{status} {body}");
        }
    }
}
