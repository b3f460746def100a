//! Events in SQLite. Positions come from the newest row, which is never removed, in the transaction that adds the next
//! ones; each account grows in that same transaction, so that it says what the rows say, also of rows that are gone.

use super::sqlite::{from_ms, to_ms};
use crate::{
    events::{
        Append, Appended, Cursor, EventFilter, EventPage, EventQuery, Kept, NewEvent, Order, PRUNE_STEP,
        StoredEvent, Writer,
    },
    fleet::NodeUid,
};
use o1_proto::{
    convert::{decode_failover_stats, encode_event, encode_failover_stats, from_event_kind},
    model::{Event, EventKind, FailoverStats},
};
use rusqlite::{
    Connection, OptionalExtension as _, Row, Transaction, params, params_from_iter, types::Type, types::Value,
};
use std::{collections::HashMap, time::SystemTime};

/// Bytes of events in one page: what surrounds them fits into a message beside it.
const PAGE_BYTES: usize = 2 << 20;
/// The uid of the control plane itself, which has none.
const OWN: &[u8] = &[];

pub(super) const SCHEMA: &str = "
    CREATE TABLE event (
        position    INTEGER PRIMARY KEY,
        node_uid    BLOB    NOT NULL,  -- empty: of the control plane itself
        node_id     TEXT    NOT NULL,
        epoch       INTEGER NOT NULL,
        seq         INTEGER NOT NULL,
        at_ms       INTEGER NOT NULL,  -- by the clock of who saw it
        type        INTEGER NOT NULL,
        upstream    TEXT    NOT NULL,
        term        INTEGER NOT NULL,
        body        BLOB    NOT NULL,  -- an Event of the contract, as it came
        stored_ms   INTEGER NOT NULL,
        UNIQUE (node_uid, epoch, seq)
    ) STRICT;
    CREATE INDEX event_of_upstream ON event (upstream);
    CREATE INDEX event_of_node ON event (node_id);
    CREATE TABLE event_cursor (
        node_uid    BLOB    NOT NULL,
        epoch       INTEGER NOT NULL,
        seq         INTEGER NOT NULL,  -- the newest of the epoch, and
        position    INTEGER NOT NULL,  -- where it is
        PRIMARY KEY (node_uid, epoch)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE event_account (
        node_uid    BLOB    NOT NULL,
        upstream    TEXT    NOT NULL,
        stats       BLOB    NOT NULL,  -- FailoverStats of the contract, the running failover not added
        PRIMARY KEY (node_uid, upstream)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE event_pruned (
        id          INTEGER PRIMARY KEY CHECK (id = 0),
        through     INTEGER NOT NULL   -- up to here rows may be missing
    ) STRICT;
    INSERT INTO event_pruned VALUES (0, 0);
";

/// Adds what is new and answers with the newest position as well.
pub(super) fn append(connection: &mut Connection, append: &Append) -> rusqlite::Result<(Appended, u64)> {
    let Append { writer, events, now } = append;
    let transaction = connection.transaction()?;
    let uid = writer.uid.as_bytes().as_slice();
    let known = kept(&transaction)?.newest;
    let mut newest = known;
    let before = cursor(&transaction, uid)?;
    let mut through = before;
    let mut accounts = Accounts::default();
    for new in events {
        let at = Cursor { epoch: writer.epoch, seq: new.event.seq };
        if is_stored(&transaction, uid, at)? {
            continue;
        }
        if let Some(last) = through
            && let Some(expected) = missing(last, at, new.event.kind)
        {
            return Ok((Appended::Gap { expected, durable: before }, known));
        }
        newest += 1;
        insert(&transaction, newest, (uid, writer), new, *now)?;
        accounts.fold(&transaction, uid, &new.event)?;
        through = Some(at);
    }
    accounts.put(&transaction, uid)?;
    if let Some(through) = through.filter(|through| through.epoch == writer.epoch) {
        advance(&transaction, uid, through, newest)?;
    }
    transaction.commit()?;
    Ok((Appended::Through(through.unwrap_or_default()), newest))
}

/// The event that is due instead of the one at `at`, if that is not the next one. A node that has forgotten events
/// says so where they were.
fn missing(last: Cursor, at: Cursor, kind: EventKind) -> Option<Cursor> {
    let next = if at.epoch > last.epoch {
        Cursor { epoch: at.epoch, seq: 1 }
    } else {
        Cursor { epoch: last.epoch, seq: last.seq + 1 }
    };
    let told = kind == EventKind::EventsLost && at > next;
    (at != next && !told).then_some(next)
}

/// Adds an event of the control plane itself. Answers with its position.
pub(super) fn append_own(
    connection: &mut Connection,
    event: Event,
    now: SystemTime,
) -> rusqlite::Result<u64> {
    let transaction = connection.transaction()?;
    let position = kept(&transaction)?.newest + 1;
    let at = Cursor { epoch: 0, seq: cursor(&transaction, OWN)?.unwrap_or_default().seq + 1 };
    let event = Event { seq: at.seq, ..event };
    let body = encode_event(&event);
    let new = NewEvent { number: from_event_kind(event.kind), event, body };
    let nobody = Writer { uid: NodeUid::from_bytes([0; 16]), node_id: String::new(), epoch: at.epoch };
    insert(&transaction, position, (OWN, &nobody), &new, now)?;
    advance(&transaction, OWN, at, position)?;
    transaction.commit()?;
    Ok(position)
}

fn insert(
    transaction: &Transaction<'_>,
    position: u64,
    (uid, writer): (&[u8], &Writer),
    new: &NewEvent,
    now: SystemTime,
) -> rusqlite::Result<()> {
    let event = &new.event;
    transaction
        .prepare_cached(
            "INSERT INTO event (position, node_uid, node_id, epoch, seq, at_ms, type, upstream, term, body, stored_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            position.cast_signed(),
            uid,
            writer.node_id,
            writer.epoch.cast_signed(),
            event.seq.cast_signed(),
            to_ms(event.at.unwrap_or(now)),
            new.number,
            event.upstream,
            event.term.cast_signed(),
            new.body,
            to_ms(now),
        ])?;
    Ok(())
}

fn advance(transaction: &Transaction<'_>, uid: &[u8], through: Cursor, newest: u64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO event_cursor (node_uid, epoch, seq, position) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (node_uid, epoch) DO UPDATE SET seq = excluded.seq, position = excluded.position
             WHERE excluded.seq > event_cursor.seq",
        )?
        .execute(params![
            uid,
            through.epoch.cast_signed(),
            through.seq.cast_signed(),
            newest.cast_signed()
        ])?;
    Ok(())
}

/// Whether it came before: the events of an epoch are there up to its cursor.
fn is_stored(connection: &Connection, uid: &[u8], at: Cursor) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM event_cursor WHERE node_uid = ?1 AND epoch = ?2 AND seq >= ?3")?
        .exists(params![uid, at.epoch.cast_signed(), at.seq.cast_signed()])
}

/// The newest event of a node, whether it is still there or not.
pub(super) fn cursor(connection: &Connection, uid: &[u8]) -> rusqlite::Result<Option<Cursor>> {
    connection
        .prepare_cached(
            "SELECT epoch, seq FROM event_cursor WHERE node_uid = ?1 ORDER BY epoch DESC LIMIT 1",
        )?
        .query_row([uid], |row| Ok(Cursor { epoch: number(row, 0)?, seq: number(row, 1)? }))
        .optional()
}

pub(super) fn kept(connection: &Connection) -> rusqlite::Result<Kept> {
    let (newest, pruned): (i64, i64) = connection
        .prepare_cached("SELECT (SELECT coalesce(max(position), 0) FROM event), through FROM event_pruned")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let newest = newest.cast_unsigned();
    let oldest = if newest == 0 { 0 } else { pruned.cast_unsigned() + 1 };
    Ok(Kept { oldest, newest })
}

pub(super) fn page(connection: &mut Connection, query: &EventQuery) -> rusqlite::Result<EventPage> {
    // One moment for all of it.
    let transaction = connection.transaction()?;
    let kept = kept(&transaction)?;
    let (sql, values) = select(query);
    let mut statement = transaction.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut events, mut bytes, mut more) = (Vec::new(), 0, false);
    while let Some(row) = rows.next()? {
        let event = stored(row)?;
        bytes += event.body.len() + event.node_id.len();
        if events.len() == query.limit || (bytes > PAGE_BYTES && !events.is_empty()) {
            more = true;
            break;
        }
        events.push(event);
    }
    Ok(EventPage { events, more, kept })
}

/// Only what is asked for stands in the question, so that an index can answer it.
fn select(query: &EventQuery) -> (String, Vec<Value>) {
    let EventFilter { upstream, node_id, types, since } = &query.filter;
    let (bound, direction, position) = match query.order {
        Order::After(position) => ("position > ?", "", position),
        Order::Before(position) => ("position < ?", " DESC", position.unwrap_or(u64::MAX)),
    };
    let mut conditions = vec![bound.to_owned()];
    let mut values = vec![Value::Integer(i64::try_from(position).unwrap_or(i64::MAX))];
    let mut only = |condition: &str, value: Value| {
        conditions.push(condition.to_owned());
        values.push(value);
    };
    if !upstream.is_empty() {
        only("upstream = ?", Value::Text(upstream.clone()));
    }
    if !node_id.is_empty() {
        only("node_id = ?", Value::Text(node_id.clone()));
    }
    if let Some(since) = since {
        only("at_ms >= ?", Value::Integer(to_ms(*since)));
    }
    if !types.is_empty() {
        only("type IN (SELECT value FROM json_each(?))", Value::Text(format!("{types:?}")));
    }
    // One more than asked for says whether there is more.
    values.push(Value::Integer(i64::try_from(query.limit).unwrap_or(i64::MAX).saturating_add(1)));
    let sql = format!(
        "SELECT position, node_uid, node_id, epoch, seq, stored_ms, body FROM event
         WHERE {} ORDER BY position{direction} LIMIT ?",
        conditions.join(" AND ")
    );
    (sql, values)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    let uid: Vec<u8> = row.get(1)?;
    Ok(StoredEvent {
        position: number(row, 0)?,
        uid: <[u8; 16]>::try_from(uid).ok().map(NodeUid::from_bytes),
        node_id: row.get(2)?,
        cursor: Cursor { epoch: number(row, 3)?, seq: number(row, 4)? },
        stored_at: from_ms(row.get(5)?),
        body: row.get(6)?,
    })
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// Removes some of the events that are neither among the newest nor young enough, oldest first, but no node's newest.
pub(super) fn prune(
    connection: &mut Connection,
    keep: usize,
    older_than: SystemTime,
) -> rusqlite::Result<usize> {
    let transaction = connection.transaction()?;
    let newest = kept(&transaction)?.newest.cast_signed();
    // Whatever the clock did meanwhile, only a beginning of the log goes.
    let young: Option<i64> = transaction
        .prepare_cached("SELECT position FROM event WHERE stored_ms >= ?1 ORDER BY position LIMIT 1")?
        .query_row([to_ms(older_than)], |row| row.get(0))
        .optional()?;
    let old = young.map_or(newest, |young| young - 1);
    let surplus = newest.saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX));
    let through: Option<i64> = transaction
        .prepare_cached(
            "SELECT max(position) FROM (
                 SELECT position FROM event
                 WHERE position <= ?1 AND position NOT IN (SELECT max(position) FROM event_cursor GROUP BY node_uid)
                 ORDER BY position LIMIT ?2
             )",
        )?
        .query_row(params![old.max(surplus), i64::try_from(PRUNE_STEP).unwrap_or(i64::MAX)], |row| row.get(0))?;
    let Some(through) = through else { return Ok(0) };
    let removed = transaction
        .prepare_cached(
            "DELETE FROM event
             WHERE position <= ?1 AND position NOT IN (SELECT max(position) FROM event_cursor GROUP BY node_uid)",
        )?
        .execute([through])?;
    // Of an epoch that is over, only its events need its cursor.
    transaction
        .prepare_cached(
            "DELETE FROM event_cursor AS old
             WHERE position <= ?1
             AND EXISTS (SELECT 1 FROM event_cursor AS new WHERE new.node_uid = old.node_uid AND new.epoch > old.epoch)",
        )?
        .execute([through])?;
    transaction.execute("UPDATE event_pruned SET through = ?1 WHERE through < ?1", [through])?;
    transaction.commit()?;
    Ok(removed)
}

/// The account of one upstream on one node.
pub(super) fn account(
    connection: &Connection,
    uid: &[u8],
    upstream: &str,
) -> rusqlite::Result<FailoverStats> {
    let found = connection
        .prepare_cached("SELECT stats FROM event_account WHERE node_uid = ?1 AND upstream = ?2")?
        .query_row(params![uid, upstream], |row| {
            let bytes: Vec<u8> = row.get(0)?;
            decode_failover_stats(&bytes)
                .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, error.into()))
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// The accounts that a batch moves.
#[derive(Default)]
struct Accounts(HashMap<String, FailoverStats>);

impl Accounts {
    fn fold(&mut self, connection: &Connection, uid: &[u8], event: &Event) -> rusqlite::Result<()> {
        if event.upstream.is_empty() {
            return Ok(());
        }
        if !self.0.contains_key(&event.upstream) {
            let found = account(connection, uid, &event.upstream)?;
            self.0.insert(event.upstream.clone(), found);
        }
        if let Some(stats) = self.0.get_mut(&event.upstream) {
            stats.fold(event);
        }
        Ok(())
    }

    fn put(self, transaction: &Transaction<'_>, uid: &[u8]) -> rusqlite::Result<()> {
        for (upstream, stats) in self.0 {
            transaction
                .prepare_cached(
                    "INSERT INTO event_account (node_uid, upstream, stats) VALUES (?1, ?2, ?3)
                     ON CONFLICT (node_uid, upstream) DO UPDATE SET stats = excluded.stats",
                )?
                .execute(params![uid, upstream, encode_failover_stats(&stats)])?;
        }
        Ok(())
    }
}
