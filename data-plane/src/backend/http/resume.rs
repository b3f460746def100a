//! The event stream of one legacy request, over as many connections as the server wants it to take: a server
//! may close the stream before it has answered and expect a GET with `Last-Event-ID` (2025-11-25,
//! "resumability and redelivery"). The request itself is never sent again.

use super::HttpLink;
use crate::{
    call::{BoxError, MESSAGE_MAX, Messages},
    failure::{Failure, Kind},
    mcp::{self, Message, sse},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use std::time::Duration;

/// How often a stream is taken up again without a single event in between.
const ATTEMPTS_MAX: u32 = 5;
/// The shortest and the longest wait a server may ask for between two connections: one that asks for none and
/// closes after each event must not keep us connecting without a pause.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(30);

struct Stream {
    link: HttpLink,
    body: UnsyncBoxBody<Bytes, BoxError>,
    reader: sse::Reader,
    last: Option<String>,
    retry: Duration,
    fruitless: u32,
    done: bool,
}

pub(super) fn messages(link: HttpLink, body: UnsyncBoxBody<Bytes, BoxError>) -> Messages {
    let stream = Stream {
        link,
        body,
        reader: sse::Reader::new(MESSAGE_MAX),
        last: None,
        retry: Duration::from_secs(1),
        fruitless: 0,
        done: false,
    };
    stream::unfold(stream, |mut stream| async move {
        if stream.done {
            return None;
        }
        let next = stream.next().await;
        stream.done = match &next {
            Ok(message) => message.kind() == mcp::Kind::Response,
            Err(_) => true,
        };
        Some((next, stream))
    })
    .boxed()
}

impl Stream {
    async fn next(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(event) = self.reader.next_event().map_err(|sse::TooLarge| too_large())? {
                self.fruitless = 0;
                self.last = event.id.or(self.last.take());
                if let Some(ms) = event.retry_ms {
                    self.retry = Duration::from_millis(ms).clamp(RETRY_MIN, RETRY_MAX);
                }
                if !event.data.is_empty() {
                    return Message::parse(&event.data).map_err(|_| {
                        Failure::new(
                            Kind::Protocol,
                            "the upstream sent an event that is not a JSON-RPC message",
                        )
                    });
                }
                continue;
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.reader.push(&data);
                    }
                }
                Some(Err(error)) => self.take_up(Some(error)).await?,
                None => self.take_up(None).await?,
            }
        }
    }

    /// Connects again after the last event seen, if the server gave its events ids.
    async fn take_up(&mut self, error: Option<BoxError>) -> Result<(), Failure> {
        let ended = |because: Option<BoxError>| {
            let failure =
                Failure::new(Kind::Unreachable, "the upstream ended its answer early; the call may have run");
            match because {
                Some(error) => failure.because(error),
                None => failure,
            }
        };
        let Some(last) = self.last.clone().filter(|_| self.fruitless < ATTEMPTS_MAX) else {
            return Err(ended(error));
        };
        self.fruitless += 1;
        tokio::time::sleep(self.retry).await;
        let reply = self.link.get(Some(&last)).await.map_err(|failure| match failure.kind {
            // Before it was lost, the session took the request.
            Kind::SessionLost => ended(Some(failure.into())),
            _ => failure,
        })?;
        let crate::call::Body::Bytes(body) = reply.body else { return Err(ended(error)) };
        self.body = body;
        self.reader = sse::Reader::new(MESSAGE_MAX);
        Ok(())
    }
}

fn too_large() -> Failure {
    Failure::new(Kind::Protocol, "the upstream sent an event beyond every limit")
}
