//! Revisions of the configuration, and the requests that led to them, in SQLite.

use super::{
    Account, ConfigRequest, NewRevision, RevisionHeader, StoredRevision,
    sqlite::{conversion, from_ms, to_ms},
};
use crate::{
    config::{Digest, Version},
    fleet::{RolloutReport, RolloutState},
    health::REQUEST_LIFE,
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::time::SystemTime;

/// What revisions know beside their document, since changes come through the API too.
pub(super) const SCHEMA: &str = "
    ALTER TABLE config_revision ADD COLUMN actor       TEXT NOT NULL DEFAULT '';
    ALTER TABLE config_revision ADD COLUMN comment     TEXT NOT NULL DEFAULT '';
    ALTER TABLE config_revision ADD COLUMN rollback_of INTEGER;
    ALTER TABLE config_revision ADD COLUMN base        INTEGER;
    ALTER TABLE config_revision ADD COLUMN undoes      INTEGER;
    -- Those of before were handed to everybody at once.
    ALTER TABLE config_revision ADD COLUMN rollout     TEXT NOT NULL DEFAULT 'succeeded';
    ALTER TABLE config_revision ADD COLUMN report      TEXT NOT NULL DEFAULT '{}';  -- JSON of a RolloutReport
    CREATE TABLE config_request (
        id        TEXT    PRIMARY KEY,
        asked     BLOB    NOT NULL,
        revision  INTEGER NOT NULL,
        no_op     INTEGER NOT NULL,
        at_ms     INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// In the order in which [`header`] reads them.
macro_rules! columns {
    () => {
        "revision, generation, digest, source, created_ms, actor, comment, rollback_of, base, undoes, rollout, report"
    };
}

pub(super) fn append(connection: &mut Connection, new: NewRevision) -> rusqlite::Result<RevisionHeader> {
    let transaction = connection.transaction()?;
    transaction.execute(
        "UPDATE config_revision SET rollout = ?1 WHERE rollout = ?2",
        [RolloutState::Superseded.word(), RolloutState::Running.word()],
    )?;
    let undoes = new.undoes.as_ref().map(|(revision, _)| *revision);
    if let Some((revision, report)) = &new.undoes {
        end(&transaction, *revision, RolloutState::RolledBack, report)?;
    }
    let header = transaction.query_row(
        concat!(
            "INSERT INTO config_revision
                (revision, generation, digest, content, source, created_ms, actor, comment, rollback_of, base, undoes,
                 rollout)
             SELECT coalesce(max(revision), 0) + 1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 FROM config_revision
             RETURNING ",
            columns!()
        ),
        params![
            new.generation.cast_signed(),
            new.digest.as_bytes(),
            new.content,
            new.source,
            to_ms(new.created_at),
            new.account.actor,
            new.account.comment,
            new.account.rollback_of.map(u64::cast_signed),
            new.base.map(u64::cast_signed),
            undoes.map(u64::cast_signed),
            RolloutState::Running.word(),
        ],
        header,
    )?;
    if let Some((id, asked)) = new.request {
        let request = ConfigRequest { id, asked, revision: header.version.revision, no_op: false };
        keep(&transaction, &request, new.created_at)?;
    }
    transaction.commit()?;
    Ok(header)
}

pub(super) fn latest(connection: &mut Connection) -> rusqlite::Result<Option<StoredRevision>> {
    let sql = concat!("SELECT ", columns!(), ", content FROM config_revision ORDER BY revision DESC LIMIT 1");
    connection.query_row(sql, [], stored).optional()
}

pub(super) fn one(connection: &mut Connection, number: u64) -> rusqlite::Result<Option<StoredRevision>> {
    let sql = concat!("SELECT ", columns!(), ", content FROM config_revision WHERE revision = ?1");
    connection.query_row(sql, [number.cast_signed()], stored).optional()
}

pub(super) fn list(
    connection: &mut Connection,
    before: Option<u64>,
    limit: usize,
) -> rusqlite::Result<Vec<RevisionHeader>> {
    let before = before.and_then(|number| i64::try_from(number).ok()).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM config_revision WHERE revision < ?1 ORDER BY revision DESC LIMIT ?2"
    );
    connection.prepare_cached(sql)?.query_map([before, limit], header)?.collect()
}

pub(super) fn end(
    connection: &Connection,
    revision: u64,
    state: RolloutState,
    report: &RolloutReport,
) -> rusqlite::Result<()> {
    let report = serde_json::to_string(report).map_err(|error| conversion(11, error))?;
    connection
        .prepare_cached("UPDATE config_revision SET rollout = ?2, report = ?3 WHERE revision = ?1")?
        .execute(params![revision.cast_signed(), state.word(), report])?;
    Ok(())
}

pub(super) fn request(connection: &mut Connection, id: &str) -> rusqlite::Result<Option<ConfigRequest>> {
    connection
        .prepare_cached("SELECT id, asked, revision, no_op FROM config_request WHERE id = ?1")?
        .query_row([id], |row| {
            let revision: i64 = row.get(2)?;
            Ok(ConfigRequest {
                id: row.get(0)?,
                asked: row.get(1)?,
                revision: revision.cast_unsigned(),
                no_op: row.get(3)?,
            })
        })
        .optional()
}

pub(super) fn keep(
    connection: &Connection,
    request: &ConfigRequest,
    now: SystemTime,
) -> rusqlite::Result<()> {
    let old = now.checked_sub(REQUEST_LIFE).map_or(0, to_ms);
    connection.prepare_cached("DELETE FROM config_request WHERE at_ms < ?1")?.execute([old])?;
    let ConfigRequest { id, asked, revision, no_op } = request;
    connection
        .prepare_cached(
            "INSERT INTO config_request (id, asked, revision, no_op, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![id, asked, revision.cast_signed(), no_op, to_ms(now)])?;
    Ok(())
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredRevision> {
    Ok(StoredRevision { header: header(row)?, content: row.get(12)? })
}

fn header(row: &Row<'_>) -> rusqlite::Result<RevisionHeader> {
    let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let maybe = |column| row.get::<_, Option<i64>>(column).map(|found| found.map(i64::cast_unsigned));
    let (word, report): (String, String) = (row.get(10)?, row.get(11)?);
    let rollout = RolloutState::ALL.into_iter().find(|state| state.word() == word);
    let report = if report == "{}" {
        RolloutReport::default()
    } else {
        serde_json::from_str(&report).map_err(|error| conversion(11, error))?
    };
    Ok(RevisionHeader {
        version: Version { generation: number(1)?, revision: number(0)?, digest: Digest::new(row.get(2)?) },
        source: row.get(3)?,
        created_at: from_ms(row.get(4)?),
        account: Account { actor: row.get(5)?, comment: row.get(6)?, rollback_of: maybe(7)? },
        base: maybe(8)?,
        undoes: maybe(9)?,
        // The word of a newer build: it is over, whatever it says.
        rollout: rollout.unwrap_or(RolloutState::Superseded),
        report,
    })
}
