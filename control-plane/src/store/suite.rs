//! What it means to be a [`Store`]: every implementation runs all of these, over a directory of its own that
//! it opens again and again.

pub(crate) use super::{audit_suite::*, event_suite::*};

use super::{Account, ConfigRequest, NewRevision, Store};
use crate::{
    config::Digest,
    fleet::{Drain, NodeRecord, NodeUid, Refuser, RolloutReport, RolloutState, SealKey, sample_record},
    health::{Answer, Kept, Maintenance, Mode, Ordered, REQUEST_LIFE, Record},
};
use o1_proto::model::{self, DecisionReason};
use std::time::{Duration, UNIX_EPOCH};

/// Runs the suite: `$open` is a function of a directory that returns a store.
macro_rules! behaves_like_a_store {
    ($open:expr) => {
        $crate::store::suite::behaves_like_a_store!(
            $open;
            an_empty_store_has_nothing
            revisions_are_numbered_without_gaps
            a_revision_survives_a_restart
            lists_are_newest_first_and_cut_where_asked
            many_writers_at_once_get_different_numbers
            nodes_are_remembered_replaced_and_forgotten
            orders_to_drain_are_kept_until_they_end
            documents_come_back_byte_for_byte
            a_revision_says_who_made_it_and_what_it_repeats
            a_newer_revision_ends_what_was_under_way
            a_request_leads_to_one_revision_and_is_dropped_after_a_day
            sealing_keys_are_replaced_as_a_whole_and_keep_their_order
            decisions_are_kept_with_everything_that_belongs_to_them
            answers_to_orders_are_dropped_after_a_day
            events_get_positions_without_gaps_across_nodes_and_restarts
            events_that_came_before_are_skipped
            a_batch_with_a_gap_changes_nothing_and_names_what_is_due
            a_hole_that_the_node_tells_of_is_accepted
            an_epoch_begins_at_one_and_an_older_one_is_over
            the_control_plane_numbers_its_own_events
            events_are_read_in_both_directions_and_cut_where_asked
            filters_choose_by_upstream_node_type_and_time
            a_page_fits_into_memory
            the_newest_position_is_told_and_survives
            pruning_keeps_the_newest_the_young_and_the_last_of_each_node
            an_account_is_the_fold_of_every_event_also_of_those_that_are_gone
            an_account_is_the_same_however_the_events_were_cut
            an_audit_entry_gets_a_number_and_its_outcome_and_survives
            audit_entries_are_filtered_and_cut_where_asked
            a_flood_of_refusals_displaces_no_change
        );
    };
    ($open:expr; $($name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            let dir = tempfile::tempdir().unwrap();
            $crate::store::suite::$name(|| ($open)(dir.path())).await;
        }
    )*};
}
pub(crate) use behaves_like_a_store;

pub(crate) fn new_revision(content: &str) -> NewRevision {
    NewRevision {
        generation: 1,
        digest: Digest::new(blake3::hash(content.as_bytes()).as_bytes().to_vec()),
        content: content.as_bytes().to_vec(),
        source: "file:only1.yaml".to_owned(),
        account: Account::default(),
        base: None,
        undoes: None,
        request: None,
        created_at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
    }
}

pub(crate) async fn an_empty_store_has_nothing<S: Store>(open: impl Fn() -> S) {
    let store = open();
    assert_eq!(store.latest().await.unwrap(), None);
    assert_eq!(store.revision(1).await.unwrap(), None);
    assert_eq!(store.revisions(None, 10).await.unwrap(), []);
    assert_eq!(store.nodes().await.unwrap(), []);
}

pub(crate) async fn revisions_are_numbered_without_gaps<S: Store>(open: impl Fn() -> S) {
    let store = open();
    for expected in 1..=3 {
        let header = store.append_revision(new_revision("same content")).await.unwrap();
        assert_eq!(header.version.revision, expected);
    }
    drop(store);
    assert_eq!(open().append_revision(new_revision("later")).await.unwrap().version.revision, 4);
}

pub(crate) async fn a_revision_survives_a_restart<S: Store>(open: impl Fn() -> S) {
    let new = new_revision("upstreams: {}\n");
    let header = open().append_revision(new.clone()).await.unwrap();
    let found = open().latest().await.unwrap().expect("it was acknowledged");
    assert_eq!(found.header, header);
    assert_eq!(found.header.version.generation, new.generation);
    assert_eq!(found.header.version.digest, new.digest);
    assert_eq!((found.header.source, found.header.created_at), (new.source, new.created_at));
    assert_eq!(found.content, new.content);
}

pub(crate) async fn lists_are_newest_first_and_cut_where_asked<S: Store>(open: impl Fn() -> S) {
    let store = open();
    for number in 1..=5 {
        store.append_revision(new_revision(&number.to_string())).await.unwrap();
    }
    let cases: [(Option<u64>, usize, &[u64]); 6] = [
        (None, 10, &[5, 4, 3, 2, 1]),
        (None, 2, &[5, 4]),
        (Some(4), 2, &[3, 2]),
        (Some(1), 2, &[]),
        (Some(u64::MAX), 1, &[5]),
        (None, 0, &[]),
    ];
    for (before, limit, expected) in cases {
        let found = store.revisions(before, limit).await.unwrap();
        let numbers: Vec<u64> = found.iter().map(|header| header.version.revision).collect();
        assert_eq!(numbers, expected, "before {before:?}, at most {limit}");
    }
    assert_eq!(store.revision(3).await.unwrap().unwrap().content, b"3");
}

pub(crate) async fn many_writers_at_once_get_different_numbers<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let writes = (0..40).map(|number| store.append_revision(new_revision(&number.to_string())));
    let mut numbers: Vec<u64> = futures_util::future::join_all(writes)
        .await
        .into_iter()
        .map(|header| header.unwrap().version.revision)
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
}

pub(crate) async fn nodes_are_remembered_replaced_and_forgotten<S: Store>(open: impl Fn() -> S) {
    let (a, b) = (sample_record("a", 1), sample_record("b", 2));
    let store = open();
    store.remember_node(b.clone()).await.unwrap();
    store.remember_node(a.clone()).await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), [a.clone(), b.clone()]);
    let renamed = NodeRecord {
        identity: crate::fleet::Identity { node_id: "a2".to_owned(), epoch: 9, ..a.identity.clone() },
        ..a.clone()
    };
    store.remember_node(renamed.clone()).await.unwrap();
    store.forget_node(b.identity.uid).await.unwrap();
    store.forget_node(NodeUid::from_bytes([77; 16])).await.unwrap();
    drop(store);
    assert_eq!(open().nodes().await.unwrap(), [renamed]);
}

pub(crate) async fn orders_to_drain_are_kept_until_they_end<S: Store>(open: impl Fn() -> S) {
    let drain = |seconds, reason: &str| Drain {
        since: UNIX_EPOCH + Duration::from_secs(seconds),
        reason: reason.to_owned(),
    };
    let store = open();
    store.keep_drain("n1".to_owned(), Some(drain(1, "a first reason"))).await.unwrap();
    store.keep_drain("n2".to_owned(), Some(drain(2, "it's old"))).await.unwrap();
    store.keep_drain("n1".to_owned(), Some(drain(3, "another"))).await.unwrap();
    store.keep_drain("n2".to_owned(), None).await.unwrap();
    store.keep_drain("n3".to_owned(), None).await.unwrap();
    drop(store);
    assert_eq!(open().drains().await.unwrap(), [("n1".to_owned(), drain(3, "another"))].into());
}

pub(crate) async fn documents_come_back_byte_for_byte<S: Store>(open: impl Fn() -> S) {
    let content: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let store = open();
    store.append_revision(NewRevision { content: content.clone(), ..new_revision("") }).await.unwrap();
    assert_eq!(store.latest().await.unwrap().unwrap().content, content);
}

fn report() -> RolloutReport {
    let refuser = Refuser {
        node_id: "n\"1".to_owned(),
        rejections: sample_record("a", 1).refused.map(|one| one.rejections).unwrap_or_default(),
    };
    RolloutReport { applied: 7, refused: vec![refuser], silent: vec!["n2".to_owned()], away: vec![] }
}

pub(crate) async fn a_revision_says_who_made_it_and_what_it_repeats<S: Store>(open: impl Fn() -> S) {
    let account = Account {
        actor: "127.0.0.1:40000".to_owned(),
        comment: "it's \"better\"".to_owned(),
        rollback_of: Some(u64::MAX >> 1),
    };
    let new = NewRevision { account: account.clone(), base: Some(1), ..new_revision("one") };
    let header = open().append_revision(new).await.unwrap();
    let found = open().revision(1).await.unwrap().unwrap().header;
    assert_eq!(found, header);
    assert_eq!((found.account, found.base, found.undoes), (account, Some(1), None));
    assert_eq!((found.rollout, found.report), (RolloutState::Running, RolloutReport::default()));
}

pub(crate) async fn a_newer_revision_ends_what_was_under_way<S: Store>(open: impl Fn() -> S) {
    let store = open();
    for text in ["one", "two", "three"] {
        store.append_revision(new_revision(text)).await.unwrap();
    }
    store.end_rollout(3, RolloutState::Succeeded, report()).await.unwrap();
    store.append_revision(new_revision("four")).await.unwrap();
    let undoes = Some((4, report()));
    store.append_revision(NewRevision { undoes, ..new_revision("three") }).await.unwrap();
    drop(store);
    let found = open().revisions(None, 10).await.unwrap();
    let states: Vec<_> = found.iter().map(|header| (header.rollout, header.undoes)).collect();
    let superseded = (RolloutState::Superseded, None);
    assert_eq!(
        states,
        [
            (RolloutState::Running, Some(4)),
            (RolloutState::RolledBack, None),
            (RolloutState::Succeeded, None),
            superseded,
            superseded
        ]
    );
    assert_eq!((&found[1].report, &found[2].report), (&report(), &report()));
}

pub(crate) async fn a_request_leads_to_one_revision_and_is_dropped_after_a_day<S: Store>(
    open: impl Fn() -> S,
) {
    let store = open();
    let first = new_revision("one");
    let at = first.created_at;
    let request = Some(("r1".to_owned(), b"asked".to_vec()));
    store.append_revision(NewRevision { request, ..first }).await.unwrap();
    let other = ConfigRequest { id: "r2".to_owned(), asked: vec![0], revision: 1, no_op: true };
    store.keep_config_request(other.clone(), at + Duration::from_secs(2)).await.unwrap();
    drop(store);
    let store = open();
    let known = ConfigRequest { id: "r1".to_owned(), asked: b"asked".to_vec(), revision: 1, no_op: false };
    assert_eq!(store.config_request("r1".to_owned()).await.unwrap(), Some(known));
    assert_eq!(store.config_request("r3".to_owned()).await.unwrap(), None);
    let new = ConfigRequest { id: "r3".to_owned(), ..other.clone() };
    store.keep_config_request(new, at + REQUEST_LIFE + Duration::from_secs(1)).await.unwrap();
    assert_eq!(store.config_request("r1".to_owned()).await.unwrap(), None);
    assert_eq!(store.config_request("r2".to_owned()).await.unwrap(), Some(other));
}

pub(crate) async fn sealing_keys_are_replaced_as_a_whole_and_keep_their_order<S: Store>(
    open: impl Fn() -> S,
) {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let [a, b, c] = [SealKey::mint(at(30)), SealKey::mint(at(10)), SealKey::mint(at(20))];
    let store = open();
    assert_eq!(store.seal_keys().await.unwrap(), []);
    store.replace_seal_keys(vec![a.clone(), b.clone()]).await.unwrap();
    assert_eq!(store.seal_keys().await.unwrap(), [a, b.clone()]);
    store.replace_seal_keys(vec![b.clone(), c.clone()]).await.unwrap();
    drop(store);
    assert_eq!(open().seal_keys().await.unwrap(), [b, c]);
}

fn decision(upstream: &str, term: u64) -> Record {
    let at = |second: u64| UNIX_EPOCH + Duration::from_millis(1_700_000_000_123 + 1000 * second);
    Record {
        upstream: upstream.to_owned(),
        term,
        target: Some(model::Store::Backup),
        mode: Mode::PinBackup,
        mode_until: Some(at(9)),
        decision_id: "00000000deadbeef".to_owned(),
        reason: DecisionReason::AdoptLocal,
        because: "n1 did, \"by itself\"".to_owned(),
        since: Some(at(1)),
        issued_at: Some(at(2)),
        accept_dead_letters: true,
        failovers: vec![at(0), at(1)],
    }
}

fn answer(request_id: &str, seconds: u64) -> Answer {
    Answer {
        request_id: request_id.to_owned(),
        order: "order weather backup".to_owned(),
        at: UNIX_EPOCH + REQUEST_LIFE + Duration::from_secs(seconds),
        ordered: Ordered {
            term: 7,
            decision_id: "00000000deadbeef".to_owned(),
            nodes: 3,
            journal_pending: 2,
            warnings: vec!["one".to_owned(), "two".to_owned()],
            no_op: true,
        },
    }
}

pub(crate) async fn decisions_are_kept_with_everything_that_belongs_to_them<S: Store>(open: impl Fn() -> S) {
    let store = open();
    assert_eq!(store.failover_decisions().await.unwrap(), Kept::default());
    let blank = Record { upstream: "files".to_owned(), term: u64::MAX >> 1, ..Record::default() };
    let first = Kept {
        records: vec![decision("weather", 1), blank.clone()],
        maintenance: Some(Maintenance { on: true, until: None, reason: "works".to_owned() }),
        answers: vec![answer("r1", 1)],
    };
    store.keep_decisions(first.clone()).await.unwrap();
    store.keep_decisions(Kept::default()).await.unwrap();
    let second = Kept { records: vec![decision("weather", 2)], maintenance: None, answers: Vec::new() };
    store.keep_decisions(second).await.unwrap();
    drop(store);
    let expected = Kept { records: vec![blank, decision("weather", 2)], ..first };
    assert_eq!(open().failover_decisions().await.unwrap(), expected);
}

pub(crate) async fn answers_to_orders_are_dropped_after_a_day<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let keep = |answer| Kept { answers: vec![answer], ..Kept::default() };
    for (id, second) in [("old", 0), ("young", 1)] {
        store.keep_decisions(keep(answer(id, second))).await.unwrap();
    }
    store.keep_decisions(keep(answer("new", REQUEST_LIFE.as_secs()))).await.unwrap();
    let kept: Vec<_> =
        store.failover_decisions().await.unwrap().answers.into_iter().map(|one| one.request_id).collect();
    assert_eq!(kept, ["new", "young"]);
}
