//! A route of one upstream for a caller that may not use all of its tools: the answer to `tools/list` is filtered
//! and calls are refused alike. For everybody else such a route passes bytes.

use super::{Router, legacy::text_at};
use crate::{
    call::{Ask, Body, Call, Handle, Reply, Upstreams, read_messages},
    failure::{Failure, Kind},
    mcp::{self, Message, json, method},
    plan::Upstream,
    principal::Principal,
};
use futures_util::StreamExt as _;
use http::header;
use std::sync::Arc;

impl<N: Upstreams + Handle> Router<N> {
    pub(super) async fn one(&self, call: Call, upstream: &Arc<Upstream>) -> Result<Reply, Failure> {
        match self.hearer(&call, upstream) {
            None => self.permitted(call, upstream).await,
            // Boxed: only some calls need it.
            Some(hearer) if matches!(call.ask, Ask::Stream) => {
                Box::pin(self.stream_alone(hearer, call, upstream)).await
            }
            Some(hearer) => {
                Box::pin(async {
                    let reply = self.permitted(call.clone(), upstream).await?;
                    Ok(hearer.told_alone(reply))
                })
                .await
            }
        }
    }

    pub(super) async fn permitted(&self, mut call: Call, upstream: &Arc<Upstream>) -> Result<Reply, Failure> {
        if call.principal.access.every_tool(upstream) {
            return self.next.handle(call).await;
        }
        let mut lists = matches!(call.ask, Ask::Stream);
        if let Ask::Message(message) = &call.ask
            && message.kind() == mcp::Kind::Request
        {
            // The body decides: a header says what its sender likes (zentinel#443).
            if message.method() == method::TOOLS_CALL {
                let name = text_at(message, &["name"])?;
                if !call.principal.access.tool(upstream, &name) {
                    return Err(Failure::new(Kind::UnknownName, format!("Unknown tool: {name}")));
                }
            }
            lists = message.method() == method::TOOLS_LIST;
        }
        // An answer that broke off would be taken up again on another stream, where nobody knows what it answers.
        call.headers.remove("last-event-id");
        let (principal, upstream) = (call.principal.clone(), upstream.clone());
        let reply = self.next.handle(call).await?;
        Ok(if lists && reply.status.is_success() { filtered(reply, principal, upstream) } else { reply })
    }
}

fn filtered(reply: Reply, principal: Arc<Principal>, upstream: Arc<Upstream>) -> Reply {
    let (status, mut headers, stale) = (reply.status, reply.headers.clone(), reply.stale);
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
        headers.remove(name);
    }
    let messages = read_messages(reply);
    let messages = messages.map(move |message| message.and_then(|one| without(&one, &principal, &upstream)));
    Reply { status, headers, body: Body::Messages(messages.boxed()), stale }
}

/// The message without the tools that the caller may not use. What cannot be read is not passed on.
fn without(message: &Message, principal: &Principal, upstream: &Upstream) -> Result<Message, Failure> {
    let text = message.bytes();
    let broken = |malformed: json::Malformed| {
        Failure::new(Kind::Protocol, "the upstream's list is malformed").because(malformed)
    };
    let Some(result) = message.result().filter(|at| text.get(at.start) == Some(&b'{')) else {
        return Ok(message.clone());
    };
    let Some(tools) = json::member(text, &result, "tools").map_err(broken)? else {
        return Ok(message.clone());
    };
    let mut kept = b"[".to_vec();
    for item in json::items(text, &tools).map_err(broken)? {
        let name = json::find(text, &item, &["name"]).map_err(broken)?;
        let name = name.and_then(|at| json::string(text, &at));
        if name.is_some_and(|name| principal.access.tool(upstream, &name)) {
            if kept.len() > 1 {
                kept.push(b',');
            }
            kept.extend_from_slice(&text[item]);
        }
    }
    kept.push(b']');
    Ok(message.spliced(vec![(tools, kept)]))
}
