//! Results with a word on the store they came from, whatever they come as. Where nothing is to be said, the reply
//! is the one it was.
//!
//! It must never hold more of an answer than a bound, nor keep what is said before the result waiting for it.

use crate::{
    call::{Body, BoxError, Reply},
    mcp::{Message, sse},
    stores,
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use http::header::CONTENT_LENGTH;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, BodyStream, StreamBody, combinators::UnsyncBoxBody};

type Inner = UnsyncBoxBody<Bytes, BoxError>;

/// The largest answer, or event, that is held until all of it is there. A larger one passes as it is.
const HELD_MAX: usize = 4 << 20;

/// The reply with `mark`, a JSON value, in the `_meta` of its results.
pub(super) async fn marked(reply: Reply, mark: Option<Bytes>) -> Reply {
    let Some(mark) = mark.filter(|_| reply.status.is_success()) else { return reply };
    // Boxed: a connection keeps room for the largest call it may carry.
    Box::pin(with(reply, mark)).await
}

async fn with(reply: Reply, mark: Bytes) -> Reply {
    let events = reply.is_event_stream();
    let Reply { status, mut headers, body, stale } = reply;
    headers.remove(CONTENT_LENGTH);
    let body = match body {
        Body::Full(bytes) => Body::Full(text(bytes, &mark)),
        Body::Bytes(body) if events => {
            Body::Bytes(StreamBody::new(events_of(body, Cutter::new(mark))).boxed_unsync())
        }
        Body::Bytes(body) => whole(body, &mark).await,
        Body::Messages(messages) => {
            let messages = messages.map(move |next| next.map(|message| stores::put(&message, &mark)));
            Body::Messages(messages.boxed())
        }
        // Made above this layer, and nothing at all.
        other @ (Body::Events(_) | Body::Empty) => other,
    };
    Reply { status, headers, body, stale }
}

fn text(bytes: Bytes, mark: &[u8]) -> Bytes {
    match Message::parse(&bytes) {
        Ok(message) if message.result().is_some() => stores::put(&message, mark).bytes().clone(),
        _ => bytes,
    }
}

/// One JSON text, marked if it is there as a whole before it is too large.
async fn whole(mut body: Inner, mark: &[u8]) -> Body {
    if body.size_hint().lower() > HELD_MAX as u64 {
        return Body::Bytes(body);
    }
    let mut held = BytesMut::new();
    let broken = loop {
        match body.frame().await {
            None => return Body::Full(text(held.freeze(), mark)),
            Some(Ok(frame)) => held.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(error)) => break Some(Err(error)),
        }
        if held.len() > HELD_MAX {
            break None;
        }
    };
    let before = [Some(Ok(Frame::data(held.freeze()))), broken];
    let frames = stream::iter(before.into_iter().flatten()).chain(BodyStream::new(body));
    Body::Bytes(StreamBody::new(frames).boxed_unsync())
}

fn events_of(body: Inner, cutter: Cutter) -> impl Stream<Item = Result<Frame<Bytes>, BoxError>> + Send {
    let frames = BodyStream::new(body).map(Some).chain(stream::iter([None]));
    let written = frames.scan(cutter, |cutter, frame| {
        let next = match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => [Some(Ok(Frame::data(cutter.push(&data)))), None],
                Err(trailers) => [Some(Ok(trailers)), None],
            },
            Some(Err(error)) => [Some(Ok(Frame::data(cutter.rest()))), Some(Err(error))],
            None => [Some(Ok(Frame::data(cutter.rest()))), None],
        };
        std::future::ready(Some(stream::iter(next.into_iter().flatten())))
    });
    let is_something = |frame: &Result<Frame<Bytes>, BoxError>| !matches!(frame, Ok(frame) if frame.data_ref().is_some_and(Bytes::is_empty));
    written.flatten().filter(move |frame| std::future::ready(is_something(frame)))
}

/// Cuts an event stream into events and marks the results among them. All other bytes stay what they were: the ids of
/// events are the server's.
struct Cutter {
    mark: Bytes,
    /// The event that is not complete.
    buffer: BytesMut,
    /// Where its last line begins, and how far that was searched for its end.
    line: usize,
    searched: usize,
    /// The event is too large to be held: what is there of it went on.
    passing: bool,
    /// So did a part of its last line.
    begun: bool,
}

impl Cutter {
    fn new(mark: Bytes) -> Self {
        Self { mark, buffer: BytesMut::new(), line: 0, searched: 0, passing: false, begun: false }
    }

    /// Takes bytes in and gives what can go on.
    fn push(&mut self, data: &[u8]) -> Bytes {
        self.buffer.extend_from_slice(data);
        let mut out = BytesMut::new();
        while let Some((at, end)) = self.line_end() {
            let begun = std::mem::take(&mut self.begun);
            let empty = at == self.line && !begun;
            // Signs of life stand between events, some of them without an empty line.
            let comment = self.line == 0 && !self.passing && self.buffer[0] == b':';
            (self.line, self.searched) = (end, end);
            if empty || comment {
                let event = self.buffer.split_to(end).freeze();
                (self.line, self.searched) = (0, 0);
                let whole = !std::mem::take(&mut self.passing) && !comment;
                let marked = if whole { rewritten(&event, &self.mark) } else { None };
                out.extend_from_slice(&marked.unwrap_or(event));
            }
        }
        if self.passing || self.buffer.len() > HELD_MAX {
            self.pass(&mut out);
        }
        out.freeze()
    }

    /// The end of the last line, and of what ends it.
    fn line_end(&mut self) -> Option<(usize, usize)> {
        let found = line_end(&self.buffer, self.searched);
        if found.is_none() {
            self.searched = self.buffer.len() - usize::from(self.buffer.last() == Some(&b'\r'));
        }
        found
    }

    /// Lets go of what is held of an event, but of no half of a line end.
    fn pass(&mut self, out: &mut BytesMut) {
        self.passing = true;
        let half = usize::from(self.buffer.last() == Some(&b'\r'));
        let gone = self.buffer.len() - half;
        self.begun |= gone > self.line;
        out.extend_from_slice(&self.buffer.split_to(gone));
        (self.line, self.searched) = (0, 0);
    }

    /// What is left when nothing more comes.
    fn rest(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }
}

/// Where the line at `from` ends, and where the next one begins; `None`: that cannot be told yet.
fn line_end(text: &[u8], from: usize) -> Option<(usize, usize)> {
    let at = from + memchr::memchr2(b'\n', b'\r', text.get(from..)?)?;
    match (text[at], text.get(at + 1)) {
        (b'\r', Some(b'\n')) => Some((at, at + 2)),
        // Perhaps the first half of a line end.
        (b'\r', None) => None,
        _ => Some((at, at + 1)),
    }
}

/// An event with its result marked; `None`: it holds none.
fn rewritten(event: &Bytes, mark: &[u8]) -> Option<Bytes> {
    let mut reader = sse::Reader::new(event.len());
    reader.push(event);
    // The event may end with what could be half of a line end.
    reader.push(b"\n");
    let read = reader.next_event().ok()??;
    let message = Message::parse(&read.data).ok().filter(|message| message.result().is_some())?;
    let message = stores::put(&message, mark);
    let mut out = BytesMut::with_capacity(event.len() + mark.len() + 64);
    let (mut from, mut written) = (0, false);
    while let Some((at, end)) = line_end(event, from) {
        let name = event[from..at].split(|byte| *byte == b':').next().unwrap_or_default();
        if name != b"data" {
            out.extend_from_slice(&event[from..end]);
        } else if !std::mem::replace(&mut written, true) {
            for line in message.bytes().split(|byte| matches!(byte, b'\n' | b'\r')) {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(line);
                out.extend_from_slice(b"\n");
            }
        }
        from = end;
    }
    out.extend_from_slice(&event[from..]);
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        call::{EVENT_STREAM, JSON, read_messages},
        failure::Failure,
    };
    use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
    use std::sync::Arc;

    const MARK: Bytes = Bytes::from_static(b"{\"x\":1}");
    const PLAIN: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"n":1.10}}"#;
    const MARKED: &str =
        r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":{"dev.only1/failover":{"x":1}},"n":1.10}}"#;

    fn streamed(pieces: Vec<Result<Bytes, BoxError>>) -> Body {
        let frames = stream::iter(pieces).map(|piece| piece.map(Frame::data));
        Body::Bytes(StreamBody::new(frames).boxed_unsync())
    }

    fn reply(content_type: &http::HeaderValue, body: Body) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.clone());
        headers.insert(CONTENT_LENGTH, 44.into());
        Reply { status: StatusCode::OK, headers, body, stale: None }
    }

    /// All that comes out, and whether it ended well.
    async fn read(reply: Reply) -> (String, bool) {
        let mut body = match reply.body {
            Body::Full(bytes) => return (String::from_utf8(bytes.to_vec()).unwrap(), true),
            Body::Bytes(body) => body,
            other => panic!("{other:?}"),
        };
        let mut all = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => all.extend_from_slice(&frame.into_data().unwrap()),
                Err(_) => return (String::from_utf8(all).unwrap(), false),
            }
        }
        (String::from_utf8(all).unwrap(), true)
    }

    fn pieces(text: &str, size: usize) -> Vec<Result<Bytes, BoxError>> {
        text.as_bytes().chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect()
    }

    #[tokio::test]
    async fn a_result_is_marked_whatever_it_comes_as() {
        let full = marked(reply(&JSON, Body::Full(PLAIN.into())), Some(MARK)).await;
        assert!(!full.headers.contains_key(CONTENT_LENGTH), "it is longer now");
        assert_eq!(read(full).await, (MARKED.to_owned(), true));
        let json = marked(reply(&JSON, streamed(pieces(PLAIN, 7))), Some(MARK)).await;
        assert_eq!(read(json).await, (MARKED.to_owned(), true));
        let message = || Ok::<_, Failure>(Message::parse(&PLAIN.into()).unwrap());
        let messages = Reply::messages(stream::iter([message()]).boxed());
        let mut messages = read_messages(marked(messages, Some(MARK)).await);
        assert_eq!(&messages.next().await.unwrap().unwrap().bytes()[..], MARKED.as_bytes());
    }

    #[tokio::test]
    async fn what_is_no_result_passes_as_it_is() {
        let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m"}}"#;
        for text in [error, "<html>", "[1]", ""] {
            for body in [Body::Full(text.into()), streamed(pieces(text, 3))] {
                assert_eq!(read(marked(reply(&JSON, body), Some(MARK)).await).await, (text.to_owned(), true));
            }
        }
        let mut failed = reply(&JSON, Body::Full(PLAIN.into()));
        failed.status = StatusCode::BAD_GATEWAY;
        assert_eq!(read(marked(failed, Some(MARK)).await).await.0, PLAIN);
        let same = marked(reply(&JSON, streamed(pieces(PLAIN, 3))), None).await;
        assert!(same.headers.contains_key(CONTENT_LENGTH) && matches!(same.body, Body::Bytes(_)));
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_or_breaks_off_keeps_all_its_bytes() {
        let large = PLAIN.replace("1.10", &format!("\"{}\"", "x".repeat(HELD_MAX)));
        let body = streamed(pieces(&large, 1 << 20));
        assert!(read(marked(reply(&JSON, body), Some(MARK)).await).await == (large, true));
        let broken = vec![Ok(Bytes::from(&PLAIN[..9])), Err("gone".into())];
        let broken = marked(reply(&JSON, streamed(broken)), Some(MARK)).await;
        assert_eq!(read(broken).await, (PLAIN[..9].to_owned(), false));
    }

    const EVENTS: &str = "id: a-0\ndata: \n\n: ping\nevent: message\r\nid: a-1\r\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"m\"}\r\n\r\n";

    #[tokio::test]
    async fn on_a_stream_only_the_result_changes_however_it_is_cut() {
        for (end, own) in [("\n", "id: a-2\nDATA"), ("\r\n", "id: a-2\r\nDATA"), ("\r", "retry:5\rDATA")] {
            let own = |data: &str| own.replace("DATA", &format!("data: {data}"));
            let before = format!("{EVENTS}{}{end}{end}: bye\n\n", own(PLAIN));
            let after = format!("{EVENTS}{}\n{end}: bye\n\n", own(MARKED));
            for size in [1, 2, 5, 1000] {
                let body = streamed(pieces(&before, size));
                let out = read(marked(reply(&EVENT_STREAM, body), Some(MARK)).await).await;
                assert_eq!(out, (after.clone(), true), "{end:?} {size}");
            }
        }
        let pretty = "data: {\ndata: \"jsonrpc\":\"2.0\",\ndata:\"id\":1,\"result\":{}}\n\n";
        let body = streamed(pieces(pretty, 4));
        let out = read(marked(reply(&EVENT_STREAM, body), Some(MARK)).await).await.0;
        let mut reader = sse::Reader::new(1000);
        reader.push(out.as_bytes());
        let message = Message::parse(&reader.next_event().unwrap().unwrap().data).unwrap();
        assert!(message.bytes().windows(8).any(|part| part == b"failover"));
    }

    #[tokio::test]
    async fn an_event_that_is_too_large_passes_and_the_next_one_is_marked() {
        let large = format!("data: {}\r\ndata: x\r\n\r\n", "y".repeat(HELD_MAX + 9));
        let before = format!("{large}data: {PLAIN}\n\n");
        for size in [1 << 20, HELD_MAX + 16, HELD_MAX + 17, HELD_MAX + 18] {
            let body = streamed(pieces(&before, size));
            let (out, _) = read(marked(reply(&EVENT_STREAM, body), Some(MARK)).await).await;
            assert!(out == format!("{large}data: {MARKED}\n\n"), "{size}");
        }
    }

    #[tokio::test]
    async fn what_is_said_before_the_result_does_not_wait_for_it() {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let frames = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let body = Body::Bytes(StreamBody::new(frames).boxed_unsync());
        let Body::Bytes(mut body) = marked(reply(&EVENT_STREAM, body), Some(MARK)).await.body else {
            panic!()
        };
        let sender = Arc::new(sender);
        for part in ["data: {}\n\n", ": ping\n", "event: x\n\n"] {
            sender.send(Ok(Frame::data(Bytes::from(part)))).await.unwrap();
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), part);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_stream_without_results_keeps_its_bytes(
            lines in proptest::collection::vec("(data|id|:|event)?:? ?[a-z]{0,3}(\n|\r\n|\r)", 0..12),
            size in 1_usize..9,
        ) {
            let text = lines.concat();
            let mut cutter = Cutter::new(MARK);
            let mut out: Vec<u8> = text.as_bytes().chunks(size).flat_map(|piece| cutter.push(piece)).collect();
            out.extend_from_slice(&cutter.rest());
            proptest::prop_assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
