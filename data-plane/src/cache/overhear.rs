//! Answers that last, heard as they pass: into the snapshot goes what the client gets, when it gets it.
//!
//! It must never change, hold back or wait for a byte.

use super::kept::Kept;
use crate::{
    call::{Body, BoxError, Reply},
    mcp::{Kind, Message, sse},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// The reply; its answer, if it is one, is kept before the last of it is passed on.
pub(super) fn overheard(reply: Reply, kept: Kept) -> Reply {
    if !reply.status.is_success() {
        return reply;
    }
    let events = reply.is_event_stream();
    let Reply { status, headers, body, stale } = reply;
    let body = match body {
        Body::Full(bytes) => {
            hear(&kept, &bytes);
            Body::Full(bytes)
        }
        Body::Messages(messages) => {
            let heard = messages.inspect(move |message| {
                if let Ok(message) = message {
                    answered(&kept, message);
                }
            });
            Body::Messages(heard.boxed())
        }
        Body::Bytes(inner) => {
            let form = if events {
                Form::Events(sse::Reader::new(kept.largest()))
            } else {
                Form::Whole { read: Vec::new(), size: 0 }
            };
            Body::Bytes(Overheard { inner, kept, form }.boxed_unsync())
        }
        other => other,
    };
    Reply { status, headers, body, stale }
}

fn hear(kept: &Kept, bytes: &Bytes) {
    if bytes.len() <= kept.largest()
        && let Ok(message) = Message::parse(bytes)
    {
        answered(kept, &message);
    }
}

fn answered(kept: &Kept, message: &Message) {
    if message.kind() == Kind::Response && message.id() == Some(kept.id()) {
        kept.hear(message);
    }
}

/// A body that is listened to.
struct Overheard {
    inner: UnsyncBoxBody<Bytes, BoxError>,
    kept: Kept,
    form: Form,
}

enum Form {
    /// One message.
    Whole { read: Vec<Bytes>, size: usize },
    /// An event stream.
    Events(sse::Reader),
    /// Nothing more is wanted.
    Deaf,
}

impl Overheard {
    fn take(&mut self, data: &Bytes) {
        match &mut self.form {
            Form::Whole { read, size } => {
                *size += data.len();
                if *size > self.kept.largest() {
                    self.form = Form::Deaf;
                } else {
                    read.push(data.clone());
                }
            }
            Form::Events(reader) => {
                reader.push(data);
                loop {
                    match reader.next_event() {
                        Ok(Some(event)) => hear(&self.kept, &event.data),
                        Ok(None) => break,
                        Err(sse::TooLarge) => {
                            self.form = Form::Deaf;
                            break;
                        }
                    }
                }
            }
            Form::Deaf => {}
        }
    }

    /// All of it came.
    fn ends(&mut self) {
        if let Form::Whole { read, .. } = std::mem::replace(&mut self.form, Form::Deaf) {
            hear(&self.kept, &read.concat().into());
        }
    }
}

impl HttpBody for Overheard {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.take(data);
                }
                // Nobody asks again for what is known to be all.
                if this.inner.is_end_stream() {
                    this.ends();
                }
            }
            Some(Err(_)) => this.form = Form::Deaf,
            None => this.ends(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
