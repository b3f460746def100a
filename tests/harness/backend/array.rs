//! JSON-RPC arrays, as servers of 2025-03-26 take them, or do not.

use super::{
    Received, Shared,
    serve::{Body, Reply, event, events_response, json, message, scripted},
};
use futures_util::stream;
use http_body_util::StreamBody;
use serde_json::{Value, value::RawValue};

/// What a server does with a JSON-RPC array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrays {
    /// 400 and an error without an id.
    Refused,
    /// 200 and an error without an id.
    Misread,
    /// One array of answers, in order.
    Answered,
    /// An event for each answer, the last request's first.
    Streamed,
    /// As [`Arrays::Answered`], without the answer to this method.
    Without(&'static str),
}

/// The answer to an array of requests. Each is scripted as if it had come alone.
pub(super) fn answered(received: &Received, shared: &Shared) -> Reply {
    const NO: &str = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request"}}"#;
    const JSON: &str = "application/json";
    let mut state = shared.state();
    let how = state.arrays;
    match how {
        Arrays::Refused => return Some(json(400, JSON, NO)),
        Arrays::Misread => return Some(json(200, JSON, NO)),
        Arrays::Answered | Arrays::Streamed | Arrays::Without(_) => {}
    }
    let items: Vec<Box<RawValue>> = serde_json::from_str(&received.body).unwrap_or_default();
    let mut answers = Vec::new();
    for item in items {
        let parsed: Value = serde_json::from_str(item.get()).unwrap_or_default();
        let method = parsed["method"].as_str().unwrap_or_default().to_owned();
        let one = Received { method, body: item.get().to_owned(), ..received.clone() };
        let answer = scripted(&one, &parsed, &mut state);
        if !matches!(how, Arrays::Without(method) if method == one.method) {
            answers.push(message(&answer, &one.member("id"), &one.body));
        }
        state.ran.push(one);
    }
    if how == Arrays::Streamed {
        let events: Vec<_> = answers.iter().rev().map(|answer| Ok(event(answer))).collect();
        return Some(events_response(Body::new(StreamBody::new(stream::iter(events)))));
    }
    Some(json(200, JSON, &format!("[{}]", answers.join(","))))
}
