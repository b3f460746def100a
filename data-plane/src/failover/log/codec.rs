//! Values as bytes: little-endian numbers, lengths before what has one, fields in the order in which they stand here.
//! Words of the contract (stores, phases, kinds of events) are its numbers.
//!
//! Order and number of fields are the format: whoever changes them changes [`super::format::VERSION`].

use super::{
    record::{Entry, Record},
    state::{Batch, Run, State, UpstreamState},
};
use bytes::Bytes;
use o1_proto::{
    convert,
    model::{BreakerState, Event, EventKind, FailoverStats, Phase, Store},
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime},
};

/// Why bytes that are as they were written are not understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub String);

impl Unreadable {
    fn newer(what: &str, number: impl std::fmt::Display) -> Self {
        Self(format!("it has a {what} {number}, which this build does not know: a newer one wrote it"))
    }
}

/// What is left to read.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or_else(|| Unreadable("a value ends too early".to_owned()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn counted(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = u32::take(self)?;
        self.take(length as usize)
    }
}

/// Both directions of a value.
pub(super) trait Codec: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable>;
}

/// A length. What has more than it can say makes its frame too large, and is not written.
pub(super) fn put_length(length: usize, out: &mut Vec<u8>) {
    u32::try_from(length).unwrap_or(u32::MAX).put(out);
}

fn put_counted(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

macro_rules! integers {
    ($($name:ty)*) => {$(
        impl Codec for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
                Ok(Self::from_le_bytes(from.array()?))
            }
        }
    )*};
}

integers!(u8 u32 u64 i32);

impl Codec for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Unreadable::newer("flag", other)),
        }
    }
}

impl Codec for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_counted(self.as_bytes(), out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(from.counted()?);
        text.map(str::to_owned).map_err(|_| Unreadable("a text is not UTF-8".to_owned()))
    }
}

impl Codec for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_counted(self, out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        from.counted().map(Self::copy_from_slice)
    }
}

impl Codec for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_secs().put(out);
        self.subsec_nanos().put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let (secs, nanos) = (u64::take(from)?, u32::take(from)?);
        if nanos < 1_000_000_000 {
            Ok(Self::new(secs, nanos))
        } else {
            Err(Unreadable(format!("a duration has {nanos} nanoseconds")))
        }
    }
}

/// Whether it is before 1970, and how far from it.
impl Codec for SystemTime {
    fn put(&self, out: &mut Vec<u8>) {
        let since = self.duration_since(Self::UNIX_EPOCH);
        since.is_err().put(out);
        since.unwrap_or_else(|error| error.duration()).put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let (before, distance) = (bool::take(from)?, Duration::take(from)?);
        let time = if before {
            Self::UNIX_EPOCH.checked_sub(distance)
        } else {
            Self::UNIX_EPOCH.checked_add(distance)
        };
        time.ok_or_else(|| Unreadable("a time is beyond all clocks".to_owned()))
    }
}

impl<T: Codec> Codec for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        if bool::take(from)? { T::take(from).map(Some) } else { Ok(None) }
    }
}

impl<A: Codec, B: Codec> Codec for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

macro_rules! lists {
    ($($list:ident)*) => {$(
        impl<T: Codec> Codec for $list<T> {
            fn put(&self, out: &mut Vec<u8>) {
                put_length(self.len(), out);
                self.iter().for_each(|one| one.put(out));
            }

            fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
                (0..u32::take(from)?).map(|_| T::take(from)).collect()
            }
        }
    )*};
}

lists!(Vec VecDeque);

impl<K: Codec + Ord, V: Codec> Codec for BTreeMap<K, V> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        (0..u32::take(from)?).map(|_| <(K, V)>::take(from)).collect()
    }
}

/// Words of the contract, by its numbers.
macro_rules! words {
    ($($name:ident: $what:literal $put:path, $take:expr;)*) => {$(
        impl Codec for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $put(*self).put(out);
            }

            fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
                let number = i32::take(from)?;
                $take(number).ok_or_else(|| Unreadable::newer($what, number))
            }
        }
    )*};
}

words! {
    Store: "store" convert::from_store, convert::store;
    Phase: "phase" convert::from_phase, convert::phase;
    BreakerState: "breaker state" convert::from_breaker, convert::breaker;
    EventKind: "kind of event" convert::from_event_kind, known_kind;
}

fn known_kind(number: i32) -> Option<EventKind> {
    Some(convert::event_kind(number)).filter(|kind| convert::from_event_kind(*kind) == number)
}

/// Values that are their fields, one after the other.
macro_rules! fields {
    ($($name:ident: $($field:ident)*;)*) => {$(
        impl Codec for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
                Ok(Self { $($field: Codec::take(from)?,)* })
            }
        }
    )*};
}

fields! {
    Batch: at delivered records;
    State: epoch next_event delivered events upstreams;
    UpstreamState: term local target accept_dead_letters decision_id active since journal dead next_seq synced
        run stats;
    Run: began uptime last entries;
    Entry: key at tool params principal;
    Event: seq at uptime kind upstream term local_term from to decision_id reason duration entries bytes active
        breaker;
    FailoverStats: failover_active failover_count finished_failover_time last_failover_time last_restoration_time
        current_failover_since backup_syncs_completed backup_sync_failures last_backup_sync
        total_backup_sync_time backup_file_size_bytes sync_back_operations entries_synced_back sync_back_failures
        total_sync_back_time entries_in_failover dead_letter_entries provisional_failovers active_store
        primary_circuit_breaker_state;
}

/// Records are a tag and their fields.
macro_rules! tagged {
    ($($tag:literal $name:ident: $($field:ident)*;)*) => {
        impl Codec for Record {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name { $($field),* } => {
                        out.push($tag);
                        $($field.put(out);)*
                    })*
                    Self::Event(event) => {
                        out.push(EVENT);
                        event.put(out);
                    }
                }
            }

            fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
                match u8::take(from)? {
                    $($tag => Ok(Self::$name { $($field: Codec::take(from)?),* }),)*
                    EVENT => Event::take(from).map(Self::Event),
                    other => Err(Unreadable::newer("record", other)),
                }
            }
        }
    };
}

const EVENT: u8 = 7;

tagged! {
    1 Target: upstream term local target accept_dead_letters decision_id;
    2 Active: upstream store term local;
    3 Entry: upstream seq entry;
    4 Withdrawn: upstream seq;
    5 Checkpoint: upstream seq;
    6 Dead: upstream seq why;
}
