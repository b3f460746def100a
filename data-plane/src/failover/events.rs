//! What the log is told of what happens, in the words of the contract.

use super::{Record, Shared, log::Run};
use o1_proto::model::{Event, EventKind};
use std::time::{Duration, SystemTime};

impl Shared {
    /// An event of an upstream, now, with what always belongs to it.
    pub(super) fn event(&self, kind: EventKind, upstream: &str) -> Event {
        let (term, local_term) = self.log.upstream(upstream, |kept| (kept.term, kept.local));
        Event {
            at: Some(SystemTime::now()),
            uptime: self.began.elapsed(),
            kind,
            upstream: upstream.to_owned(),
            term,
            local_term,
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

    /// The end of a sync-back that did not get to its end; `None`: none is under way.
    pub(super) fn end_of_run(&self, upstream: &str, took: impl FnOnce(&Run) -> Duration) -> Option<Event> {
        let (entries, took) =
            self.log.upstream(upstream, |kept| kept.run.as_ref().map(|run| (run.entries, took(run))))?;
        let event = self.event(EventKind::SyncBackFailed, upstream);
        Some(Event { entries, duration: Some(took), ..event })
    }

    /// What the last life of the process got to the primary is its own, however that life ended.
    pub(super) fn account_for_cut_runs(&self) {
        for upstream in self.log.upstreams() {
            // Of two clocks that were set in between, neither says how long it took.
            let took = |run: &Run| run.last.duration_since(run.began).unwrap_or_default();
            if let Some(event) = self.end_of_run(&upstream, took) {
                self.note(Event { reason: "the node ended in the middle of it".to_owned(), ..event });
            }
        }
    }
}
