mod crash;
mod events;
mod fault;
mod fold;
mod format;
mod killed;
mod order;
mod sim;

use super::{
    Entry, Log, Record, Settings, State, UpstreamState,
    disk::Folder,
    segment,
    state::{Batch, Position},
};
use bytes::Bytes;
use o1_proto::model::{BreakerState, Event, EventKind, Phase, Store};
use proptest::prelude::*;
use sim::Sim;
use std::{
    path::Path,
    time::{Duration, SystemTime},
};

fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_800_000_000, 5)
}

fn settings() -> Settings {
    let retry = [Duration::from_millis(1), Duration::from_millis(5)];
    Settings { retry, now: noon, ..Settings::default() }
}

fn open(sim: &Sim, epoch: u64, settings: Settings) -> Log {
    Log::open_on(Box::new(sim.clone()), epoch, settings).unwrap()
}

fn open_dir(dir: &Path, epoch: u64, settings: Settings) -> Log {
    Log::open_on(Box::new(Folder::open(dir).unwrap()), epoch, settings).unwrap()
}

/// What a folder says, without opening it.
fn said(sim: &Sim) -> State {
    segment::find(sim, usize::MAX).unwrap().content.state
}

fn target(upstream: &str, term: u64, target: Store) -> Record {
    Record::Target {
        upstream: upstream.into(),
        term,
        local: 0,
        target,
        accept_dead_letters: term % 2 == 1,
        decision_id: format!("d{term}"),
    }
}

fn active(upstream: &str, term: u64, store: Store) -> Record {
    Record::Active { upstream: upstream.into(), store, term, local: 0 }
}

fn entry(upstream: &str, seq: u64, size: usize) -> Record {
    let params = format!("{{\"name\":\"write\",\"x\":\"{}\"}}", "y".repeat(size));
    let entry = Entry {
        key: format!("n/1/{seq}"),
        at: noon(),
        tool: "write".into(),
        params: params.into(),
        principal: "ann".into(),
    };
    Record::Entry { upstream: upstream.into(), seq, entry }
}

fn checkpoint(upstream: &str, seq: u64) -> Record {
    Record::Checkpoint { upstream: upstream.into(), seq }
}

fn dead(upstream: &str, seq: u64) -> Record {
    Record::Dead { upstream: upstream.into(), seq, why: "no such file".into() }
}

/// The caller's `seq` is nonsense, as it may be.
fn event(upstream: &str, kind: EventKind, entries: u64) -> Record {
    Record::Event(Event {
        seq: 77,
        at: Some(noon()),
        kind,
        upstream: upstream.into(),
        entries,
        duration: Some(Duration::from_millis(entries)),
        ..Event::default()
    })
}

/// Epoch and `seq` of all events that wait.
fn positions(log: &Log) -> Vec<Position> {
    log.events_after((0, 0), usize::MAX).iter().map(|(epoch, event)| (*epoch, event.seq)).collect()
}

fn any_time() -> impl Strategy<Value = SystemTime> {
    (any::<bool>(), 0_u64..1 << 40, 0_u32..1_000_000_000).prop_map(|(before, secs, nanos)| {
        let distance = Duration::new(secs, nanos);
        if before { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
    })
}

fn any_store() -> impl Strategy<Value = Store> {
    prop_oneof![Just(Store::Primary), Just(Store::Backup)]
}

fn any_event() -> impl Strategy<Value = Event> {
    let phase = prop_oneof![Just(Phase::Provisional), Just(Phase::Cutover), Just(Phase::Primary)];
    let breaker =
        prop_oneof![Just(BreakerState::Open), Just(BreakerState::HalfOpen), Just(BreakerState::Closed)];
    // The log alone says that events were lost.
    let kinds: Vec<_> =
        EventKind::ALL.iter().copied().filter(|kind| *kind != EventKind::EventsLost).collect();
    let what = (prop::sample::select(kinds), "[ab]?", ".{0,9}", any_time());
    let after = (prop::option::of(any_store()), prop::option::of(breaker), prop::option::of(phase));
    let numbers = (0_u64..9, 0_u64..3, 0_u64..100, prop::option::of(0_u64..1 << 30));
    (what, after, numbers).prop_map(|(what, after, numbers)| Event {
        kind: what.0,
        upstream: what.1,
        reason: what.2,
        at: Some(what.3),
        active: after.0,
        breaker: after.1,
        from: after.2,
        term: numbers.0,
        local_term: numbers.1,
        entries: numbers.2,
        bytes: numbers.2 * 1000,
        duration: numbers.3.map(Duration::from_nanos),
        uptime: Duration::from_millis(numbers.2),
        ..Event::default()
    })
}

fn any_record() -> impl Strategy<Value = Record> {
    let entry = ("[a-z/0-9]{0,8}", any_time(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(key, at, params)| Entry {
            key,
            at,
            tool: "write".into(),
            params: Bytes::from(params),
            principal: "ann".into(),
        },
    );
    let which = || ("[ab]", 0_u64..6);
    prop_oneof![
        (which(), any_store(), any::<bool>(), "[d0-9]{0,4}").prop_map(
            |((upstream, term), target, accept_dead_letters, decision_id)| Record::Target {
                upstream,
                term,
                local: term / 2,
                target,
                accept_dead_letters,
                decision_id
            }
        ),
        (which(), any_store()).prop_map(|((upstream, term), store)| Record::Active {
            upstream,
            store,
            term,
            local: 1
        }),
        (which(), entry).prop_map(|((upstream, seq), entry)| Record::Entry { upstream, seq, entry }),
        which().prop_map(|(upstream, seq)| Record::Withdrawn { upstream, seq }),
        which().prop_map(|(upstream, seq)| Record::Checkpoint { upstream, seq }),
        (which(), ".{0,5}").prop_map(|((upstream, seq), why)| Record::Dead { upstream, seq, why }),
        any_event().prop_map(Record::Event),
    ]
}

/// What the log makes of batches that were said one after the other.
fn numbered(batches: &[Vec<Record>]) -> Vec<Batch> {
    let mut seq = 0;
    let number = |record: &Record| match record {
        Record::Event(event) => {
            seq += 1;
            Record::Event(Event { seq, ..event.clone() })
        }
        other => other.clone(),
    };
    let mut number = number;
    let records = batches.iter().map(|batch| batch.iter().map(&mut number).collect::<Vec<_>>());
    records.map(|records| Batch { at: noon(), delivered: None, records }).collect()
}

/// The fold of batches from nothing, in epoch 1.
fn folded(batches: &[Batch]) -> State {
    let mut state = State::default();
    state.begin_epoch(1);
    batches.iter().for_each(|batch| state.apply(batch.clone(), usize::MAX));
    state
}

fn upstream(log: &Log, name: &str) -> UpstreamState {
    log.upstream(name, Clone::clone)
}
