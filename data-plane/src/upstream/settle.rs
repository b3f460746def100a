//! What one upstream says in HTTP means nothing to a client of many: a 404 of one would end the client's session
//! with all, a page of a proxy would be taken for an answer. So on the aggregated route a reply to a request is
//! an answer or a failure. On a route of one upstream nothing of this happens: there the bytes are the truth.

use crate::{
    call::{Body, Reply, read_up_to},
    failure::{Failure, Kind},
    mcp::{self, Era, Message},
};
use http::{StatusCode, header};
use http_body::Body as _;

/// Answers up to this size are read before anything of them is passed on; larger ones stream.
const READ_MAX: usize = 64 << 10;

/// The reply to a request with this id, if it is one.
///
/// # Errors
/// It is something else: an HTTP error, a broken or foreign message, nothing.
pub(super) async fn settled(reply: Reply, id: &[u8], era: Era) -> Result<Reply, Failure> {
    let Reply { status, mut headers, body, stale } = reply;
    let json = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"application/json"));
    let bytes = match body {
        Body::Messages(_) | Body::Events(_) => return Ok(Reply { status, headers, body, stale }),
        Body::Bytes(_) if status.is_success() && !json => {
            let reply = Reply { status, headers, body, stale };
            return if reply.is_event_stream() { Ok(reply) } else { Err(no_answer(status)) };
        }
        Body::Bytes(body) if status.is_success() => {
            if body.size_hint().exact().is_none_or(|size| size > READ_MAX as u64) {
                return Ok(Reply { status, headers, body: Body::Bytes(body), stale });
            }
            read_up_to(body, READ_MAX).await?
        }
        // An error page may be of any size; only a small one can be an answer.
        Body::Bytes(body) => read_up_to(body, READ_MAX).await.unwrap_or_default(),
        Body::Full(bytes) => bytes,
        Body::Empty => return Err(no_answer(status)),
    };
    let answers = |message: &Message| message.kind() == mcp::Kind::Response && message.id() == Some(id);
    if !Message::parse(&bytes).is_ok_and(|message| answers(&message)) {
        return Err(no_answer(status));
    }
    headers.insert(header::CONTENT_TYPE, crate::call::JSON);
    // Legacy clients know errors of a transport by their status and those of a call by their body.
    let status = if era == Era::Legacy { StatusCode::OK } else { status };
    Ok(Reply { status, headers, body: Body::Full(bytes), stale })
}

fn no_answer(status: StatusCode) -> Failure {
    let what = if status.is_success() {
        "the upstream's answer is not a JSON-RPC response to the request".to_owned()
    } else {
        format!("the upstream answered HTTP {status}")
    };
    let failure = Failure::new(Kind::of_status(status), what);
    if status.is_success() { failure } else { failure.with_status(status) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::HeaderMap;
    use http_body_util::{BodyExt as _, Full};

    fn reply(status: u16, content_type: &'static str, body: &'static str) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
        let body = Full::new(Bytes::from_static(body.as_bytes())).map_err(|never| match never {});
        let status = StatusCode::from_u16(status).unwrap();
        Reply { status, headers, body: Body::Bytes(body.boxed_unsync()), stale: None }
    }

    const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    const ERROR: &str = r#"{"id":1,"error":{"code":-32601,"message":"x"},"jsonrpc":"2.0"}"#;

    #[tokio::test]
    async fn what_is_no_answer_is_a_failure() {
        for (status, content_type, body, kind) in [
            (200, "application/json", "{{nope", Kind::Protocol),
            (200, "application/json", r#"{"jsonrpc":"2.0","id":2,"result":{}}"#, Kind::Protocol),
            (200, "text/html", "<html>", Kind::Protocol),
            (202, "application/json", "", Kind::Protocol),
            (404, "text/plain", "gone", Kind::Protocol),
            (
                404,
                "application/json",
                r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":1,"message":"m"}}"#,
                Kind::Protocol,
            ),
            (500, "text/plain", "oops", Kind::Protocol),
            (503, "text/plain", "later", Kind::Unreachable),
            (429, "text/plain", "slowly", Kind::Overloaded),
        ] {
            let failed = settled(reply(status, content_type, body), b"1", Era::Legacy).await.unwrap_err();
            assert_eq!(failed.kind, kind, "{status} {body}");
        }
    }

    #[tokio::test]
    async fn an_answer_stays_the_bytes_it_was() {
        for (status, era, body, expected) in
            [(200, Era::Legacy, ANSWER, 200), (400, Era::Legacy, ERROR, 200), (404, Era::Modern, ERROR, 404)]
        {
            let reply =
                settled(reply(status, "application/json; charset=utf-8", body), b"1", era).await.unwrap();
            assert_eq!(reply.status.as_u16(), expected);
            assert!(matches!(reply.body, Body::Full(bytes) if bytes == body));
        }
    }

    #[tokio::test]
    async fn streams_and_large_answers_pass_unread() {
        let events =
            settled(reply(200, "text/event-stream", "data: x\n\n"), b"1", Era::Legacy).await.unwrap();
        assert!(matches!(events.body, Body::Bytes(_)));
        let large: &'static str = Box::leak("x".repeat(100_000).into_boxed_str());
        let large = settled(reply(200, "application/json", large), b"1", Era::Legacy).await.unwrap();
        assert!(matches!(large.body, Body::Bytes(_)));
    }
}
