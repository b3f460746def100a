//! What upstreams say in passing about what may have changed: on client streams, on subscriptions, beside answers,
//! as messages and as bytes. It is acted on before it is passed on, so that whoever hears it and asks at once gets
//! nothing older.
//!
//! It must never change or hold back a byte, and costs nothing where nothing but an answer comes.

use super::scope::{Scope, Subject};
use crate::{
    call::{Body, BoxError, Reply},
    mcp::{Kind, Message, method},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use memchr::{memchr2, memmem};
use o1_proto::model::Tier;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Bytes of an event beyond which it is an answer and no remark of this kind.
const EVENT_MAX: usize = 256 << 10;

/// The reply; what its notifications say has changed is invalidated before they are passed on.
pub(super) fn tapped(reply: Reply, scope: &Arc<Scope>) -> Reply {
    let events = matches!(reply.body, Body::Bytes(_)) && reply.is_event_stream();
    let Reply { status, headers, body, stale } = reply;
    let body = match body {
        Body::Messages(messages) => {
            let scope = scope.clone();
            let heard = messages.inspect(move |message| {
                if let Ok(message) = message {
                    hear(&scope, message);
                }
            });
            Body::Messages(heard.boxed())
        }
        Body::Bytes(inner) if events => {
            Body::Bytes(Tapped { inner, scope: scope.clone(), ear: Ear::default() }.boxed_unsync())
        }
        other => other,
    };
    Reply { status, headers, body, stale }
}

/// Acts on a notification that says what has changed; every other message says nothing here.
pub(super) fn hear(scope: &Scope, message: &Message) {
    if message.kind() != Kind::Notification {
        return;
    }
    match message.method() {
        method::TOOLS_CHANGED => {
            scope.invalidate(&Subject::List(method::TOOLS_LIST));
            scope.invalidate(&Subject::Tier(Tier::Tools));
        }
        method::PROMPTS_CHANGED => {
            scope.invalidate(&Subject::List(method::PROMPTS_LIST));
            scope.invalidate(&Subject::Prompts);
        }
        method::RESOURCES_CHANGED => {
            scope.invalidate(&Subject::List(method::RESOURCES_LIST));
            scope.invalidate(&Subject::List(method::TEMPLATES_LIST));
        }
        method::RESOURCES_UPDATED => scope.invalidate(&match message.param_str(&["uri"]) {
            Ok(Some(uri)) => Subject::Resource(uri.as_ref().into()),
            // It does not say which, or says it in a way that nobody understands.
            _ => Subject::Tier(Tier::Resources),
        }),
        _ => {}
    }
}

/// An event stream that is listened to as it passes.
struct Tapped {
    inner: UnsyncBoxBody<Bytes, BoxError>,
    scope: Arc<Scope>,
    ear: Ear,
}

impl http_body::Body for Tapped {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { inner, scope, ear } = self.get_mut();
        let polled = Pin::new(inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            ear.take(data, |message| hear(scope, message));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Finds in an event stream, however it is cut, the few messages that may say that something has changed.
#[derive(Default)]
struct Ear {
    /// The line that has not ended.
    line: BytesMut,
    /// The `data` lines of the event that has not ended.
    data: BytesMut,
    /// The last byte was a CR: an LF after it ends no other line.
    after_cr: bool,
    /// The line that has not ended is not empty.
    begun: bool,
    /// The event is too large to be looked at.
    deaf: bool,
}

impl Ear {
    fn take(&mut self, mut bytes: &[u8], mut heard: impl FnMut(&Message)) {
        while let Some(end) = memchr2(b'\n', b'\r', bytes) {
            let (line, ended_by) = (&bytes[..end], bytes[end]);
            bytes = &bytes[end + 1..];
            if line.is_empty() && ended_by == b'\n' && std::mem::take(&mut self.after_cr) {
                continue;
            }
            self.more(line);
            self.after_cr = ended_by == b'\r';
            if std::mem::take(&mut self.begun) {
                self.line_ends();
            } else {
                self.event_ends(&mut heard);
            }
        }
        self.more(bytes);
    }

    fn more(&mut self, part: &[u8]) {
        if part.is_empty() {
            return;
        }
        (self.begun, self.after_cr) = (true, false);
        self.deaf |= self.line.len() + self.data.len() + part.len() > EVENT_MAX;
        if self.deaf {
            (self.line, self.data) = (BytesMut::new(), BytesMut::new());
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn line_ends(&mut self) {
        if let Some(value) = self.line.strip_prefix(b"data:") {
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            self.data.extend_from_slice(b"\n");
        }
        self.line.clear();
    }

    fn event_ends(&mut self, heard: &mut impl FnMut(&Message)) {
        let event = self.data.split().freeze();
        if std::mem::take(&mut self.deaf) {
            return;
        }
        // One of these words stands in each of them, in whatever way slashes are written.
        if ["list_changed", "updated"].iter().any(|word| memmem::find(&event, word.as_bytes()).is_some())
            && let Ok(message) = Message::parse(&event)
        {
            heard(&message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(pieces: &[&[u8]]) -> Vec<String> {
        let (mut ear, mut heard) = (Ear::default(), Vec::new());
        for piece in pieces {
            ear.take(piece, |message| heard.push(message.method().to_owned()));
        }
        heard
    }

    const STREAM: &str = concat!(
        ": hello\r\n\r\n",
        "event: message\r\nid: 1\r\ndata: {\"jsonrpc\":\"2.0\",\r\n",
        "data:\"method\":\"notifications\\/tools\\/list_changed\"}\r\n\r\n",
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n",
        "data: not updated {\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\"}\r\r",
        "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/list_changed\"}\n\n",
    );
    const SAID: [&str; 3] = [method::TOOLS_CHANGED, method::RESOURCES_UPDATED, method::RESOURCES_CHANGED];

    #[test]
    fn remarks_are_heard_wherever_a_stream_is_cut_and_however_its_lines_end() {
        assert_eq!(heard(&[STREAM.as_bytes()]), SAID);
        for at in 0..STREAM.len() {
            let (a, b) = STREAM.as_bytes().split_at(at);
            assert_eq!(heard(&[a, b]), SAID, "cut at {at}");
        }
        let single: Vec<_> = STREAM.as_bytes().chunks(1).collect();
        assert_eq!(heard(&single), SAID);
    }

    #[test]
    fn an_answer_of_any_size_is_not_kept_and_what_comes_after_it_is_heard() {
        let mut ear = Ear::default();
        let (mut heard, mut most) = (0, 0);
        let large = format!("data: {}", "updated ".repeat(EVENT_MAX / 4));
        for piece in large.as_bytes().chunks(4096).chain([&b"\ndata: more\n\n"[..], STREAM.as_bytes()]) {
            ear.take(piece, |_| heard += 1);
            most = most.max(ear.line.len() + ear.data.len());
        }
        assert_eq!(heard, SAID.len());
        assert!(most <= EVENT_MAX, "{most} bytes held");
    }
}
