//! What happened, on every node and here: the log of events, how it is read, and the accounts that it gives.
//!
//! [`Log`] writes to the store and reads from it; nothing of it is kept in memory, so that readers and writers of any
//! speed cost none. An event counts once it is on the disk, never before, and is never changed after that.

mod log;
mod record;

pub use log::{Log, PRUNE_STEP};
pub use record::{
    Append, Appended, Cursor, EventFilter, EventPage, EventQuery, Kept, NewEvent, Order, StoredEvent, Writer,
};

use crate::{
    fleet::NodeUid,
    store::{Store, StoreError},
};
use o1_proto::model::FailoverStats;

/// The account of one upstream on one node: every event of it that was ever stored, also those that are pruned by now.
/// Equal to the node's own as soon as the node's events are here.
///
/// # Errors
/// The store cannot be asked.
pub async fn stats(store: &dyn Store, node: NodeUid, upstream: &str) -> Result<FailoverStats, StoreError> {
    store.event_account(node, upstream.to_owned()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Sqlite;
    use o1_proto::{
        convert::{decode_event, encode_event, from_event_kind},
        model::{Event, EventKind},
    };
    use proptest::{collection::vec, prelude::*, sample::select};
    use std::{
        sync::Arc,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    fn append(epoch: u64, events: &[Event]) -> Append {
        let writer = Writer { uid: NodeUid::from_bytes([1; 16]), node_id: "n1".to_owned(), epoch };
        let new = |event: &Event| NewEvent {
            number: from_event_kind(event.kind),
            body: encode_event(event),
            event: event.clone(),
        };
        Append { writer, events: events.iter().map(new).collect(), now: SystemTime::now() }
    }

    fn any_event() -> impl Strategy<Value = Event> {
        (select(EventKind::ALL), select(vec!["u", "v", ""]), 0_u64..1_000_000, 0_u64..3).prop_map(
            |(kind, upstream, micros, local_term)| Event {
                kind,
                upstream: upstream.to_owned(),
                at: Some(UNIX_EPOCH + Duration::from_micros(micros)),
                duration: Some(Duration::from_micros(micros)),
                entries: micros,
                local_term,
                ..Event::default()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn an_account_is_what_the_node_says_however_its_events_came(
            events in vec(any_event(), 1..40),
            sizes in vec(1_usize..9, 40),
            again in 0_usize..5,
        ) {
            let numbered: Vec<_> = (1..).zip(events).map(|(seq, event)| Event { seq, ..event }).collect();
            let dir = tempfile::tempdir().unwrap();
            let store = Sqlite::open(&dir.path().join("store.db")).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut from = 0;
                for size in sizes {
                    let end = numbered.len().min(from + size);
                    // A stream that broke: some of them come again.
                    let batch = &numbered[from.saturating_sub(again)..end];
                    store.append_events(append(1, batch)).await.unwrap();
                    from = end;
                }
                for upstream in ["u", "v"] {
                    let mut own = FailoverStats::default();
                    numbered.iter().filter(|event| event.upstream == upstream).for_each(|event| own.fold(event));
                    let found = stats(&store, NodeUid::from_bytes([1; 16]), upstream).await.unwrap();
                    prop_assert_eq!(found, own);
                }
                Ok(())
            })?;
        }
    }

    #[tokio::test]
    async fn a_decision_is_on_the_disk_before_anybody_acts_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Arc::new(Sqlite::open(&dir.path().join("store.db")).unwrap());
        let log = Log::new(open());
        let newest = log.newest();
        let decision = Event { upstream: "u".to_owned(), term: 4, seq: 99, ..Event::default() };
        assert_eq!(log.decided(decision).await.unwrap(), 1);
        assert_eq!(*newest.borrow(), 1);
        drop(log);
        let query = EventQuery { filter: EventFilter::default(), order: Order::After(0), limit: 10 };
        let found = Log::new(open()).page(query).await.unwrap().events;
        let (event, _) = decode_event(&found[0].body).unwrap();
        assert_eq!((event.kind, event.seq, event.term), (EventKind::Decided, 1, 4));
        assert!(event.at.is_some());
        assert_eq!((found[0].uid, found[0].node_id.as_str()), (None, ""));
    }
}
