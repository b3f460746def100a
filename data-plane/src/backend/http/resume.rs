//! The event stream of one legacy request, over as many connections as the server wants it to take: a server
//! may close the stream before it has answered and expect a GET with `Last-Event-ID` (2025-11-25,
//! "resumability and redelivery"). The request itself is never sent again.

use super::HttpLink;
use crate::{
    call::{Body, BoxError, MESSAGE_MAX, Messages},
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

/// What the events of such a stream carry.
pub(super) struct Events {
    link: HttpLink,
    body: UnsyncBoxBody<Bytes, BoxError>,
    reader: sse::Reader,
    last: Option<String>,
    retry: Duration,
    fruitless: u32,
}

/// The messages up to the response.
pub(super) fn messages(link: HttpLink, body: UnsyncBoxBody<Bytes, BoxError>) -> Messages {
    stream::unfold(Some(Events::new(link, body)), |events| async move {
        let mut events = events?;
        let next = match events.next().await {
            Ok(Some(data)) => Message::parse(&data).map_err(|_| {
                Failure::new(Kind::Protocol, "the upstream sent an event that is not a JSON-RPC message")
            }),
            Ok(None) => Err(ended(None)),
            Err(failure) => Err(failure),
        };
        let goes_on = next.as_ref().is_ok_and(|message| message.kind() != mcp::Kind::Response);
        Some((next, goes_on.then_some(events)))
    })
    .boxed()
}

impl Events {
    pub(super) fn new(link: HttpLink, body: UnsyncBoxBody<Bytes, BoxError>) -> Self {
        let reader = sse::Reader::new(MESSAGE_MAX);
        Self { link, body, reader, last: None, retry: Duration::from_secs(1), fruitless: 0 }
    }

    /// The data of the next event that has any; `None` where the server ended the stream for good.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(event) = self.reader.next_event().map_err(|sse::TooLarge| too_large())? {
                self.fruitless = 0;
                self.last = event.id.or(self.last.take());
                if let Some(ms) = event.retry_ms {
                    self.retry = Duration::from_millis(ms).clamp(RETRY_MIN, RETRY_MAX);
                }
                if !event.data.is_empty() {
                    return Ok(Some(event.data));
                }
                continue;
            }
            let error = match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.reader.push(&data);
                    }
                    continue;
                }
                Some(Err(error)) => Some(error),
                None => None,
            };
            match (self.last.clone().filter(|_| self.fruitless < ATTEMPTS_MAX), error) {
                (Some(last), error) => self.take_up(&last, error).await?,
                (None, Some(error)) => return Err(ended(Some(error))),
                (None, None) => return Ok(None),
            }
        }
    }

    /// Connects again after the last event seen.
    async fn take_up(&mut self, last: &str, error: Option<BoxError>) -> Result<(), Failure> {
        self.fruitless += 1;
        tokio::time::sleep(self.retry).await;
        let reply = self.link.get(Some(last)).await.map_err(|failure| match failure.kind {
            // Before that the server took the request, whatever this attempt did not send.
            Kind::SessionLost | Kind::Unreachable => ended(Some(failure.into())),
            _ => failure,
        })?;
        let Body::Bytes(body) = reply.body else { return Err(ended(error)) };
        self.body = body;
        self.reader = sse::Reader::new(MESSAGE_MAX);
        Ok(())
    }
}

fn ended(because: Option<BoxError>) -> Failure {
    let failure =
        Failure::new(Kind::Unreachable, "the upstream ended its answer early; the call may have run");
    match because {
        Some(error) => failure.because(error),
        None => failure,
    }
}

fn too_large() -> Failure {
    Failure::new(Kind::Protocol, "the upstream sent an event beyond every limit")
}
