//! What the log is told of what happens, in the words of the contract.

use super::{Record, Shared, keeper::AGAIN, log::Run};
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

    /// Accounts for a sync-back of which nobody is in charge any more: its process ended, or its upstream was not in the
    /// configuration for a while. Nothing may begin another one before; so it waits until that is durable.
    pub(super) async fn account_for_cut_run(&self, upstream: &str) {
        // Of clocks that were set in between, neither says how long it took.
        let took = |run: &Run| run.last.duration_since(run.began).unwrap_or_default();
        while let Some(event) = self.end_of_run(upstream, took) {
            let event = Event { reason: "it was cut off in the middle".to_owned(), ..event };
            match self.log.append(vec![Record::Event(event)]).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(upstream, %error, "a sync-back cannot be accounted for yet"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
