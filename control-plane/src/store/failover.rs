//! Decisions in SQLite: rows and what they mean.

use super::sqlite::{from_ms, to_ms};
use crate::health::{Answer, Kept, Maintenance, Mode, Ordered, REQUEST_LIFE, Record};
use o1_proto::model::{DecisionReason, Store};
use rusqlite::{Connection, Row, Transaction, params, types::Type};
use std::time::SystemTime;

pub(super) const SCHEMA: &str = "
    CREATE TABLE failover_decision (
        upstream        TEXT    PRIMARY KEY,
        term            INTEGER NOT NULL,
        target          TEXT,             -- NULL: only the term is remembered
        mode            TEXT    NOT NULL,
        mode_until_ms   INTEGER,
        decision_id     TEXT    NOT NULL,
        reason          TEXT    NOT NULL,
        because         TEXT    NOT NULL,
        since_ms        INTEGER,
        issued_ms       INTEGER,
        dead_letters    INTEGER NOT NULL,
        failovers_ms    TEXT    NOT NULL  -- with commas
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE maintenance (
        id              INTEGER PRIMARY KEY CHECK (id = 1),
        enabled         INTEGER NOT NULL,
        until_ms        INTEGER,
        reason          TEXT    NOT NULL
    ) STRICT;
    CREATE TABLE order_answer (
        request_id      TEXT    PRIMARY KEY,
        ordered         TEXT    NOT NULL,
        at_ms           INTEGER NOT NULL,
        term            INTEGER NOT NULL,
        decision_id     TEXT    NOT NULL,
        nodes           INTEGER NOT NULL,
        pending         INTEGER NOT NULL,
        warnings        TEXT    NOT NULL, -- lines
        no_op           INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// Everything that is kept.
pub(super) fn read(connection: &mut Connection) -> rusqlite::Result<Kept> {
    let transaction = connection.transaction()?;
    let records = transaction
        .prepare_cached(
            "SELECT upstream, term, target, mode, mode_until_ms, decision_id, reason, because, since_ms,
                    issued_ms, dead_letters, failovers_ms
             FROM failover_decision ORDER BY upstream",
        )?
        .query_map([], record)?
        .collect::<Result<_, _>>()?;
    let maintenance = transaction
        .prepare_cached("SELECT enabled, until_ms, reason FROM maintenance")?
        .query_map([], |row| Ok(Maintenance { on: row.get(0)?, until: time(row, 1)?, reason: row.get(2)? }))?
        .next()
        .transpose()?;
    let answers = transaction
        .prepare_cached(
            "SELECT request_id, ordered, at_ms, term, decision_id, nodes, pending, warnings, no_op
             FROM order_answer ORDER BY request_id",
        )?
        .query_map([], answer)?
        .collect::<Result<_, _>>()?;
    Ok(Kept { records, maintenance, answers })
}

/// Adds and replaces, all of it or nothing, and drops answers that nobody may ask for any more.
pub(super) fn write(connection: &mut Connection, change: &Kept) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for record in &change.records {
        write_record(&transaction, record)?;
    }
    if let Some(maintenance) = &change.maintenance {
        let until = maintenance.until.map(to_ms);
        transaction
            .prepare_cached(
                "REPLACE INTO maintenance (id, enabled, until_ms, reason) VALUES (1, ?1, ?2, ?3)",
            )?
            .execute(params![maintenance.on, until, maintenance.reason])?;
    }
    for answer in &change.answers {
        write_answer(&transaction, answer)?;
        let over = answer.at.checked_sub(REQUEST_LIFE).map_or(0, to_ms);
        transaction.prepare_cached("DELETE FROM order_answer WHERE at_ms <= ?1")?.execute([over])?;
    }
    transaction.commit()
}

fn write_record(transaction: &Transaction<'_>, record: &Record) -> rusqlite::Result<()> {
    let failovers: Vec<String> = record.failovers.iter().map(|at| to_ms(*at).to_string()).collect();
    transaction
        .prepare_cached(
            "REPLACE INTO failover_decision (upstream, term, target, mode, mode_until_ms, decision_id, reason,
                                             because, since_ms, issued_ms, dead_letters, failovers_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            record.upstream,
            record.term.cast_signed(),
            record.target.map(Store::word),
            record.mode.word(),
            record.mode_until.map(to_ms),
            record.decision_id,
            record.reason.word(),
            record.because,
            record.since.map(to_ms),
            record.issued_at.map(to_ms),
            record.accept_dead_letters,
            failovers.join(","),
        ])?;
    Ok(())
}

fn write_answer(transaction: &Transaction<'_>, answer: &Answer) -> rusqlite::Result<()> {
    let ordered = &answer.ordered;
    transaction
        .prepare_cached(
            "REPLACE INTO order_answer (request_id, ordered, at_ms, term, decision_id, nodes, pending, warnings,
                                        no_op)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            answer.request_id,
            answer.order,
            to_ms(answer.at),
            ordered.term.cast_signed(),
            ordered.decision_id,
            ordered.nodes,
            ordered.journal_pending.cast_signed(),
            ordered.warnings.join("\n"),
            ordered.no_op,
        ])?;
    Ok(())
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let failovers: String = row.get(11)?;
    let failovers = failovers.split(',').filter_map(|ms| ms.parse().ok()).map(from_ms).collect();
    let target: Option<String> = row.get(2)?;
    let stores = [Store::Primary, Store::Backup];
    let target = target.map(|word| of_word(2, &word, &stores, Store::word)).transpose()?;
    Ok(Record {
        upstream: row.get(0)?,
        term: row.get::<_, i64>(1)?.cast_unsigned(),
        target,
        mode: of_word(3, &row.get::<_, String>(3)?, &Mode::ALL, Mode::word)?,
        mode_until: time(row, 4)?,
        decision_id: row.get(5)?,
        reason: of_word(6, &row.get::<_, String>(6)?, &REASONS, DecisionReason::word)?,
        because: row.get(7)?,
        since: time(row, 8)?,
        issued_at: time(row, 9)?,
        accept_dead_letters: row.get(10)?,
        failovers,
    })
}

fn answer(row: &Row<'_>) -> rusqlite::Result<Answer> {
    let warnings: String = row.get(7)?;
    Ok(Answer {
        request_id: row.get(0)?,
        order: row.get(1)?,
        at: from_ms(row.get(2)?),
        ordered: Ordered {
            term: row.get::<_, i64>(3)?.cast_unsigned(),
            decision_id: row.get(4)?,
            nodes: row.get(5)?,
            journal_pending: row.get::<_, i64>(6)?.cast_unsigned(),
            warnings: warnings.lines().map(str::to_owned).collect(),
            no_op: row.get(8)?,
        },
    })
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<SystemTime>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(from_ms))
}

const REASONS: [DecisionReason; 6] = [
    DecisionReason::Initial,
    DecisionReason::QuorumUnhealthy,
    DecisionReason::QuorumRecovered,
    DecisionReason::Manual,
    DecisionReason::AdoptLocal,
    DecisionReason::Abort,
];

/// The value of this word.
fn of_word<T: Copy>(
    column: usize,
    word: &str,
    all: &[T],
    of: impl Fn(T) -> &'static str,
) -> rusqlite::Result<T> {
    let unknown = || {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            Type::Text,
            format!("`{word}` is no word here").into(),
        )
    };
    all.iter().copied().find(|one| of(*one) == word).ok_or_else(unknown)
}
