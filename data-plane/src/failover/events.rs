//! What the log is told of what happens, in the words of the contract.

use super::{Record, Shared};
use o1_proto::model::{Event, EventKind};
use std::time::SystemTime;

impl Shared {
    /// An event of an upstream, now, with what always belongs to it.
    pub(super) fn event(&self, kind: EventKind, upstream: &str) -> Event {
        let kept = self.log.upstream(upstream).unwrap_or_default();
        Event {
            at: Some(SystemTime::now()),
            uptime: self.began.elapsed(),
            kind,
            upstream: upstream.to_owned(),
            term: kept.term,
            local_term: kept.local,
            ..Event::default()
        }
    }

    /// Writes an event that nothing waits for.
    pub(super) fn note(&self, event: Event) {
        let (kind, upstream) = (event.kind.word(), event.upstream.clone());
        if !self.log.append_soon(vec![Record::Event(event)]) {
            tracing::warn!(kind, upstream, "an event could not be written");
        }
    }
}
