use super::{active, any_record, any_time, entry, event, folded, noon, numbered};
use crate::failover::log::{
    Record, State,
    format::{self, Content},
    state::Batch,
};
use o1_proto::model::{EventKind, Store};
use proptest::prelude::*;

/// A file, and where each of its frames ends; the first is the checkpoint.
fn file(begin: &State, batches: &[Batch]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = format::begin(begin).unwrap();
    let mut ends = vec![bytes.len()];
    for batch in batches {
        format::batch(&mut bytes, batch, usize::MAX).unwrap();
        ends.push(bytes.len());
    }
    (bytes, ends)
}

fn empty() -> State {
    folded(&[])
}

fn refusal(bytes: &[u8]) -> String {
    format::read(bytes, usize::MAX).unwrap_err().0
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        batches in prop::collection::vec((any_time(), prop::collection::vec(any_record(), 0..6)), 0..6),
        delivered in prop::option::of((1_u64..2, 0_u64..9)),
    ) {
        let mut numbered = numbered(&batches.iter().map(|(_, records)| records.clone()).collect::<Vec<_>>());
        for (batch, (at, _)) in numbered.iter_mut().zip(&batches) {
            (batch.at, batch.delivered) = (*at, delivered);
        }
        let state = folded(&numbered);
        let (bytes, _) = file(&empty(), &numbered);
        let content = Content { state: state.clone(), batches: numbered.len() as u64, torn: 0 };
        prop_assert_eq!(format::read(&bytes, usize::MAX), Ok(content));
        let (bytes, _) = file(&state, &[]);
        prop_assert_eq!(format::read(&bytes, usize::MAX), Ok(Content { state, batches: 0, torn: 0 }));
    }

    #[test]
    fn a_cut_or_damaged_file_says_the_whole_batches_before_it_or_nothing(
        batches in prop::collection::vec(prop::collection::vec(any_record(), 0..4), 0..5),
        at in any::<prop::sample::Index>(),
        flip in prop::option::of(1_u8..=255),
    ) {
        let numbered = numbered(&batches);
        let (mut bytes, ends) = file(&empty(), &numbered);
        let at = at.index(bytes.len());
        match flip {
            Some(flip) => bytes[at] ^= flip,
            None => bytes.truncate(at),
        }
        if at < ends[0] {
            prop_assert!(format::read(&bytes, usize::MAX).is_err());
        } else {
            let whole = ends[1..].iter().filter(|end| **end <= at).count();
            let torn = (bytes.len() - ends[whole]) as u64;
            let content = Content { state: folded(&numbered[..whole]), batches: whole as u64, torn };
            prop_assert_eq!(format::read(&bytes, usize::MAX), Ok(content));
        }
    }

    #[test]
    fn no_bytes_at_all_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(format::read(&bytes, usize::MAX).is_err());
        let mut whole = format::begin(&empty()).unwrap();
        whole.extend_from_slice(&bytes);
        let _ = format::read(&whole, usize::MAX);
    }
}

#[test]
fn zeroes_behind_the_end_are_no_batches() {
    let (mut bytes, _) = file(&empty(), &numbered(&[vec![active("a", 1, Store::Backup)]]));
    bytes.extend_from_slice(&[0; 4096]);
    let content = format::read(&bytes, usize::MAX).unwrap();
    assert_eq!((content.batches, content.torn), (1, 4096));
}

#[test]
fn what_a_newer_build_wrote_is_refused_and_not_guessed() {
    let (good, ends) = file(&empty(), &numbered(&[vec![event("a", EventKind::Restored, 1)]]));
    let mut version = good.clone();
    version[8] = 9;
    assert_eq!(refusal(&version), "its format is 9, this build reads 2");

    // A frame as a newer build might write it, whole and with its sum.
    let resealed = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = good[ends[0] + 8..].to_vec();
        edit(&mut payload);
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        let sum = crc32fast::hash(&[&length[..], &payload].concat()).to_le_bytes();
        [&good[..ends[0]], &length, &sum, &payload].concat()
    };
    // frame tag 1, time 1 + 12, delivered 1, count 4; then the tag of the record
    assert_eq!(
        refusal(&resealed(&|payload| payload[19] = 99)),
        "it has a record 99, which this build does not know: a newer one wrote it"
    );
    // seq 8, at 1 + 1 + 12, uptime 12; then the kind
    let kind = refusal(&resealed(&|payload| payload[20 + 34] = 200));
    assert_eq!(kind, "it has a kind of event 200, which this build does not know: a newer one wrote it");
    assert_eq!(refusal(&resealed(&|payload| payload[0] = 3)), "it has a frame 3 where one of 2 belongs");
    let longer = refusal(&resealed(&|payload| payload.push(0)));
    assert_eq!(longer, "a frame has more in it than this build knows: a newer one wrote it");
    assert_eq!(refusal(&resealed(&|payload| payload.truncate(30))), "a value ends too early");
}

#[test]
fn a_batch_that_is_too_large_leaves_nothing_behind() {
    let batch = Batch { at: noon(), delivered: None, records: vec![entry("a", 1, 5000)] };
    let mut bytes = b"before".to_vec();
    assert!(format::batch(&mut bytes, &batch, 5000).is_err());
    assert_eq!(bytes, b"before");
}

/// If this fails, the version must grow; once a release has written the one before, both must be read.
#[test]
fn the_format_does_not_change_by_itself() {
    let records: Vec<Record> = vec![
        super::target("a", 3, Store::Backup),
        active("a", 3, Store::Backup),
        entry("a", 1, 0),
        entry("a", 2, 0),
        entry("a", 3, 0),
        super::checkpoint("a", 1),
        super::dead("a", 2),
        Record::Withdrawn { upstream: "a".into(), seq: 9 },
        event("a", EventKind::FailoverCommitted, 2),
    ];
    let numbered = numbered(&[records]);
    let (batches, _) = file(&empty(), &numbered);
    let (checkpoint, _) = file(&folded(&numbered), &[]);
    assert_eq!(
        [batches, checkpoint].map(|bytes| blake3::hash(&bytes).to_hex()[..16].to_owned()),
        ["11e849812a83587a", "d351549ec94f7e20"]
    );
}
