//! The audit in SQLite: rows and what they mean.

use super::sqlite::{from_ms, to_ms};
use crate::access::audit::{Entry, Kind, Outcome, Query};
use rusqlite::{Connection, Row, params};

pub(super) const SCHEMA: &str = "
    CREATE TABLE audit (
        id          INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms       INTEGER NOT NULL,
        kind        INTEGER NOT NULL, -- 1: change, 2: refusal
        who         TEXT    NOT NULL,
        role        TEXT    NOT NULL,
        origin      TEXT    NOT NULL,
        action      TEXT    NOT NULL,
        subject     TEXT    NOT NULL,
        why         TEXT    NOT NULL,
        outcome     INTEGER NOT NULL, -- 1: unknown, 2: done, 3: failed, 4: refused
        detail      TEXT    NOT NULL,
        request_id  TEXT    NOT NULL,
        repeated    INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX audit_of_kind ON audit (kind, id);
";

/// Adds an entry and drops the oldest of its kind; its number.
pub(super) fn begin(connection: &mut Connection, entry: &Entry, keep: usize) -> rusqlite::Result<u64> {
    let transaction = connection.transaction()?;
    let kind = of_kind(entry.kind);
    transaction
        .prepare_cached(
            "INSERT INTO audit (at_ms, kind, who, role, origin, action, subject, why, outcome, detail, request_id,
                                repeated)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            to_ms(entry.at),
            kind,
            entry.who,
            entry.role,
            entry.from,
            entry.action,
            entry.subject,
            entry.why,
            of_outcome(entry.outcome),
            entry.detail,
            entry.request_id,
            entry.repeated,
        ])?;
    let id = transaction.last_insert_rowid();
    transaction
        .prepare_cached(
            "DELETE FROM audit WHERE kind = ?1 AND id <=
                (SELECT id FROM audit WHERE kind = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![kind, i64::try_from(keep).unwrap_or(i64::MAX)])?;
    transaction.commit()?;
    Ok(id.cast_unsigned())
}

/// What came of an entry. One that is gone is no error.
pub(super) fn end(connection: &Connection, id: u64, outcome: Outcome, detail: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE audit SET outcome = ?2, detail = ?3 WHERE id = ?1")?
        .execute(params![id.cast_signed(), of_outcome(outcome), detail])?;
    Ok(())
}

/// Entries, newest first.
pub(super) fn list(connection: &Connection, query: &Query) -> rusqlite::Result<Vec<Entry>> {
    let before = query.before.and_then(|id| i64::try_from(id).ok()).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "SELECT id, at_ms, kind, who, role, origin, action, subject, why, outcome, detail, request_id, repeated
             FROM audit
             WHERE id < ?1 AND (?2 IS NULL OR kind = ?2) AND (?3 IS NULL OR who = ?3) AND (?4 IS NULL OR at_ms >= ?4)
             ORDER BY id DESC LIMIT ?5",
        )?
        .query_map(
            params![
                before,
                query.kind.map(of_kind),
                query.who,
                query.since.map(to_ms),
                i64::try_from(query.limit).unwrap_or(i64::MAX)
            ],
            entry,
        )?
        .collect()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        id: row.get::<_, i64>(0)?.cast_unsigned(),
        at: from_ms(row.get(1)?),
        kind: if row.get::<_, i64>(2)? == of_kind(Kind::Change) { Kind::Change } else { Kind::Refusal },
        who: row.get(3)?,
        role: row.get(4)?,
        from: row.get(5)?,
        action: row.get(6)?,
        subject: row.get(7)?,
        why: row.get(8)?,
        outcome: match row.get(9)? {
            2_i64 => Outcome::Done,
            3 => Outcome::Failed,
            4 => Outcome::Refused,
            _ => Outcome::Unknown,
        },
        detail: row.get(10)?,
        request_id: row.get(11)?,
        repeated: row.get(12)?,
    })
}

const fn of_kind(kind: Kind) -> i64 {
    match kind {
        Kind::Change => 1,
        Kind::Refusal => 2,
    }
}

const fn of_outcome(outcome: Outcome) -> i64 {
    match outcome {
        Outcome::Unknown => 1,
        Outcome::Done => 2,
        Outcome::Failed => 3,
        Outcome::Refused => 4,
    }
}
