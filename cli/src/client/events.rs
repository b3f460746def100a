//! What happened, page by page or as it comes.

use super::{Client, PAGES, hexadecimal, moment};
use crate::{
    connect::{Failure, Link},
    events::{Bounds, Event, Filter},
};
use o1_proto::{
    convert::{self, duration},
    wire,
};
use tonic::Streaming;

/// Events asked for at once.
const PAGE_SIZE: usize = 500;

impl Client {
    /// The newest `limit` events, the oldest of them first, and what there is at all.
    ///
    /// # Errors
    /// Why there is no answer, or no complete one.
    pub async fn events(&mut self, filter: &Filter, limit: usize) -> Result<(Vec<Event>, Bounds), Failure> {
        let mut found = Vec::new();
        let mut bounds = None;
        let mut page_token = String::new();
        for _ in 0..PAGES {
            let size = PAGE_SIZE.min(limit.saturating_sub(found.len()).max(1));
            let request = wire::ListEventsRequest {
                page_size: i32::try_from(size).unwrap_or(i32::MAX),
                page_token,
                filter: Some(from_filter(filter)),
                newest_first: true,
            };
            let answer = self.link.answer(self.status.list_events(request)).await?;
            found.extend(answer.events.into_iter().map(event));
            // What came after the first page was asked for is not part of this answer.
            let bounds = *bounds
                .get_or_insert(Bounds { oldest: answer.oldest_position, newest: answer.newest_position });
            page_token = answer.next_page_token;
            if page_token.is_empty() || found.len() >= limit {
                found.truncate(limit);
                found.reverse();
                return Ok((found, bounds));
            }
        }
        Err(Failure::Broken { code: "data loss", message: "the list of events does not end".to_owned() })
    }

    /// Every event behind a position, and then whatever comes.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn follow_events(&mut self, filter: &Filter, after: u64) -> Result<Following, Failure> {
        let request =
            wire::WatchEventsRequest { after_position: Some(after), filter: Some(from_filter(filter)) };
        let stream = self.link.answer(self.status.watch_events(request)).await?;
        Ok(Following { stream, link: self.link.clone() })
    }
}

/// Events that are being followed.
pub struct Following {
    stream: Streaming<wire::WatchEventsResponse>,
    link: Link,
}

impl Following {
    /// The next events, whenever they come, and the position up to which everything was looked at.
    ///
    /// # Errors
    /// Why the rest will not come.
    pub async fn next(&mut self) -> Result<(Vec<Event>, u64), Failure> {
        match self.stream.message().await {
            Ok(Some(message)) => {
                let through = message.through_position;
                let events: Vec<_> = message.events.into_iter().map(event).collect();
                let last = events.last().map_or(0, |event| event.position);
                Ok((events, through.max(last)))
            }
            Ok(None) => Err(Failure::Lost("the control plane ended the watch".to_owned())),
            Err(status) => Err(self.link.failure(&status)),
        }
    }
}

fn from_filter(filter: &Filter) -> wire::EventFilter {
    wire::EventFilter {
        upstream: filter.upstream.clone(),
        node_id: filter.node_id.clone(),
        types: filter.kinds.iter().map(|kind| convert::from_event_kind(*kind)).collect(),
        since: filter.since.map(|since| prost_types::Timestamp {
            seconds: since.as_second(),
            nanos: since.subsec_nanosecond(),
        }),
    }
}

fn event(wire: wire::StoredEvent) -> Event {
    let cursor = wire.cursor.unwrap_or_default();
    let event = wire.event.unwrap_or_default();
    Event {
        position: wire.position,
        at: moment(event.at.as_ref()),
        node_id: wire.node_id,
        node_uid: hexadecimal(&cursor.node_uid),
        epoch: cursor.epoch,
        seq: event.seq,
        uptime: duration(event.uptime.as_ref()),
        kind: convert::event_kind(event.r#type),
        term: event.term,
        local_term: event.local_term,
        phase_from: convert::phase(event.phase_from),
        phase_to: convert::phase(event.phase_to),
        duration: duration(event.duration.as_ref()),
        entries: event.entries,
        bytes: event.bytes,
        active_store: convert::store(event.active_store),
        breaker: convert::breaker(event.breaker),
        upstream: event.upstream,
        decision_id: event.decision_id,
        reason: event.reason,
        stored_at: moment(wire.stored_at.as_ref()),
    }
}
