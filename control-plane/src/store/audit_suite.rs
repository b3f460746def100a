//! What the audit of a [`Store`] means; part of the suite.

use super::Store;
use crate::access::audit::{Entry, Kind, Outcome, Query};
use std::time::{Duration, UNIX_EPOCH};

fn entry(number: u64, kind: Kind) -> Entry {
    Entry {
        id: 0,
        at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + number),
        kind,
        who: format!("w{}", number % 2),
        role: "editor".to_owned(),
        from: "10.0.0.1:7".to_owned(),
        action: "ConfigService/ApplyConfig".to_owned(),
        subject: "only1.yaml".to_owned(),
        why: "because".to_owned(),
        outcome: Outcome::Unknown,
        detail: String::new(),
        request_id: format!("r{number}"),
        repeated: 3,
    }
}

fn all(limit: usize) -> Query {
    Query { limit, ..Query::default() }
}

pub(crate) async fn an_audit_entry_gets_a_number_and_its_outcome_and_survives<S: Store>(
    open: impl Fn() -> S,
) {
    let store = open();
    let first = store.begin_audit(entry(1, Kind::Change), 10).await.unwrap();
    let second = store.begin_audit(entry(2, Kind::Change), 10).await.unwrap();
    assert!(second > first && first > 0);
    store.end_audit(first, Outcome::Done, "version 1.7".to_owned()).await.unwrap();
    store.end_audit(u64::from(u32::MAX), Outcome::Done, String::new()).await.unwrap();
    drop(store);
    let found = open().audit(all(10)).await.unwrap();
    let done = Entry {
        id: first,
        outcome: Outcome::Done,
        detail: "version 1.7".to_owned(),
        ..entry(1, Kind::Change)
    };
    assert_eq!(
        found,
        [Entry { id: second, ..entry(2, Kind::Change) }, done],
        "what was cut off stays unknown"
    );
}

pub(crate) async fn audit_entries_are_filtered_and_cut_where_asked<S: Store>(open: impl Fn() -> S) {
    let store = open();
    for number in 1..=6 {
        let kind = if number % 3 == 0 { Kind::Refusal } else { Kind::Change };
        store.begin_audit(entry(number, kind), 10).await.unwrap();
    }
    let ids = async |query| -> Vec<String> {
        let found = store.audit(query).await.unwrap();
        found.into_iter().map(|entry| entry.request_id).collect()
    };
    assert_eq!(ids(all(2)).await, ["r6", "r5"]);
    let fifth = store.audit(all(2)).await.unwrap()[1].id;
    assert_eq!(ids(Query { before: Some(fifth), ..all(2) }).await, ["r4", "r3"]);
    assert_eq!(ids(Query { kind: Some(Kind::Refusal), ..all(9) }).await, ["r6", "r3"]);
    assert_eq!(ids(Query { who: Some("w1".to_owned()), ..all(9) }).await, ["r5", "r3", "r1"]);
    assert_eq!(ids(Query { since: Some(entry(5, Kind::Change).at), ..all(9) }).await, ["r6", "r5"]);
}

pub(crate) async fn a_flood_of_refusals_displaces_no_change<S: Store>(open: impl Fn() -> S) {
    let store = open();
    store.begin_audit(entry(1, Kind::Change), 3).await.unwrap();
    for number in 2..30 {
        store.begin_audit(entry(number, Kind::Refusal), 3).await.unwrap();
    }
    let found = store.audit(all(99)).await.unwrap();
    let ids: Vec<_> = found.iter().map(|entry| entry.request_id.as_str()).collect();
    assert_eq!(ids, ["r29", "r28", "r27", "r1"]);
}
