//! The store in one SQLite file: WAL, `synchronous=FULL`, one thread that owns the only connection.
//!
//! Questions wait in a bounded queue for that thread, so that no disk ever blocks a task.

use super::{
    ConfigRequest, NewRevision, Reply, RevisionHeader, Store, StoreError, StoredRevision, audit, events,
    failover, revisions,
};
use crate::{
    access::audit::{Entry, Outcome, Query},
    events::{Append, Appended, Cursor, EventPage, EventQuery, Kept},
    fleet::{Drain, Drains, NodeRecord, NodeUid, RolloutReport, RolloutState, SealKey},
    health,
};
use o1_proto::model::{Event, FailoverStats};
use rusqlite::{Connection, ErrorCode, params};
use std::{
    fs::{OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// Questions that may wait.
const QUEUE: usize = 256;
/// How long a question may take, its wait included.
const LIMIT: Duration = Duration::from_secs(10);
/// Statements that stay prepared.
const STATEMENTS: usize = 64;

/// Each step takes the schema from its index to the next number; `user_version` counts the steps taken.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE config_revision (
        revision    INTEGER PRIMARY KEY,
        generation  INTEGER NOT NULL,
        digest      BLOB    NOT NULL,
        content     BLOB    NOT NULL,
        source      TEXT    NOT NULL,
        created_ms  INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE node (
        node_uid    BLOB    PRIMARY KEY,
        node_id     TEXT    NOT NULL,
        record      TEXT    NOT NULL  -- JSON of a NodeRecord
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE seal_key (
        position        INTEGER PRIMARY KEY,
        id              BLOB    NOT NULL,
        secret          BLOB    NOT NULL,
        seals_from_ms   INTEGER NOT NULL
    ) STRICT;
",
    failover::SCHEMA,
    events::SCHEMA,
    revisions::SCHEMA,
    "
    CREATE TABLE node_drain (
        node_id     TEXT    PRIMARY KEY,
        since_ms    INTEGER NOT NULL,
        reason      TEXT    NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    audit::SCHEMA,
];

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// See the module.
#[derive(Debug)]
pub struct Sqlite {
    jobs: mpsc::Sender<Job>,
    newest_event: watch::Sender<u64>,
}

impl Sqlite {
    /// Opens the file, creates it where there is none, checks it and brings its schema up to date. Blocks.
    ///
    /// # Errors
    /// It cannot be opened, is damaged, or was written by a newer build.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = connect(path)?;
        let newest = events::kept(&connection).map_err(|error| open_error(path, error))?.newest;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        thread::Builder::new()
            .name("o1-store".to_owned())
            .spawn(move || {
                // Ends when the last handle is gone; closing the connection folds the WAL into the file.
                while let Some(job) = queue.blocking_recv() {
                    job(&mut connection);
                }
            })
            .map_err(|error| StoreError::Open { path: path.to_owned(), source: error.into() })?;
        Ok(Self { jobs, newest_event: watch::Sender::new(newest) })
    }

    fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Reply<'_, T> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let job: Job = Box::new(move |connection| {
                // An error here says that the asker no longer waits: nobody is left to tell.
                let _ = reply.send(job(connection));
            });
            let answer = async {
                self.jobs.send(job).await.map_err(|_| StoreError::Gone)?;
                answer.await.map_err(|_| StoreError::Gone)
            };
            timeout(LIMIT, answer)
                .await
                .map_err(|_| StoreError::Slow { what })??
                .map_err(|error| StoreError::Failed { what, source: error.into() })
        })
    }
}

impl Store for Sqlite {
    fn append_revision(&self, new: NewRevision) -> Reply<'_, RevisionHeader> {
        self.ask("store the configuration", move |connection| revisions::append(connection, new))
    }

    fn latest(&self) -> Reply<'_, Option<StoredRevision>> {
        self.ask("read the latest configuration", revisions::latest)
    }

    fn revision(&self, number: u64) -> Reply<'_, Option<StoredRevision>> {
        self.ask("read a configuration", move |connection| revisions::one(connection, number))
    }

    fn revisions(&self, before: Option<u64>, limit: usize) -> Reply<'_, Vec<RevisionHeader>> {
        self.ask("list configurations", move |connection| revisions::list(connection, before, limit))
    }

    fn end_rollout(&self, revision: u64, state: RolloutState, report: RolloutReport) -> Reply<'_, ()> {
        self.ask("store the end of a rollout", move |connection| {
            revisions::end(connection, revision, state, &report)
        })
    }

    fn config_request(&self, id: String) -> Reply<'_, Option<ConfigRequest>> {
        self.ask("look a request up", move |connection| revisions::request(connection, &id))
    }

    fn keep_config_request(&self, request: ConfigRequest, now: SystemTime) -> Reply<'_, ()> {
        self.ask("store a request", move |connection| revisions::keep(connection, &request, now))
    }

    fn nodes(&self) -> Reply<'_, Vec<NodeRecord>> {
        self.ask("list nodes", |connection| {
            connection
                .prepare_cached("SELECT record FROM node ORDER BY node_uid")?
                .query_map([], |row| {
                    let text: String = row.get(0)?;
                    serde_json::from_str(&text).map_err(|error| conversion(0, error))
                })?
                .collect()
        })
    }

    fn remember_node(&self, record: NodeRecord) -> Reply<'_, ()> {
        self.ask("remember a node", move |connection| {
            let text = serde_json::to_string(&record).map_err(|error| conversion(2, error))?;
            connection
                .prepare_cached(
                    "INSERT INTO node (node_uid, node_id, record) VALUES (?1, ?2, ?3)
                     ON CONFLICT (node_uid) DO UPDATE SET node_id = excluded.node_id, record = excluded.record",
                )?
                .execute(params![record.identity.uid.as_bytes(), record.identity.node_id, text])?;
            Ok(())
        })
    }

    fn forget_node(&self, uid: NodeUid) -> Reply<'_, ()> {
        self.ask("forget a node", move |connection| {
            connection.prepare_cached("DELETE FROM node WHERE node_uid = ?1")?.execute([uid.as_bytes()])?;
            Ok(())
        })
    }

    fn drains(&self) -> Reply<'_, Drains> {
        self.ask("list the nodes that shall drain", |connection| {
            connection
                .prepare_cached("SELECT node_id, since_ms, reason FROM node_drain")?
                .query_map([], |row| {
                    Ok((row.get(0)?, Drain { since: from_ms(row.get(1)?), reason: row.get(2)? }))
                })?
                .collect()
        })
    }

    fn keep_drain(&self, node_id: String, drain: Option<Drain>) -> Reply<'_, ()> {
        self.ask("store an order to drain", move |connection| {
            match drain {
                Some(Drain { since, reason }) => connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO node_drain (node_id, since_ms, reason) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![node_id, to_ms(since), reason])?,
                None => connection
                    .prepare_cached("DELETE FROM node_drain WHERE node_id = ?1")?
                    .execute([node_id])?,
            };
            Ok(())
        })
    }

    fn seal_keys(&self) -> Reply<'_, Vec<SealKey>> {
        self.ask("read the sealing keys", |connection| {
            connection
                .prepare_cached("SELECT id, secret, seals_from_ms FROM seal_key ORDER BY position")?
                .query_map([], |row| {
                    Ok(SealKey { id: row.get(0)?, secret: row.get(1)?, seals_from: from_ms(row.get(2)?) })
                })?
                .collect()
        })
    }

    fn replace_seal_keys(&self, keys: Vec<SealKey>) -> Reply<'_, ()> {
        self.ask("store the sealing keys", move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM seal_key", [])?;
            for key in keys {
                transaction
                    .prepare_cached("INSERT INTO seal_key (id, secret, seals_from_ms) VALUES (?1, ?2, ?3)")?
                    .execute(params![key.id, key.secret, to_ms(key.seals_from)])?;
            }
            transaction.commit()
        })
    }

    fn failover_decisions(&self) -> Reply<'_, health::Kept> {
        self.ask("read the failover decisions", failover::read)
    }

    fn keep_decisions(&self, change: health::Kept) -> Reply<'_, ()> {
        self.ask("store a failover decision", move |connection| failover::write(connection, &change))
    }

    fn append_events(&self, append: Append) -> Reply<'_, Appended> {
        let grown = self.newest_event.clone();
        self.ask("store events", move |connection| {
            let (appended, newest) = events::append(connection, &append)?;
            // Here and not by the asker, who may be gone by now.
            grow(&grown, newest);
            Ok(appended)
        })
    }

    fn append_own_event(&self, event: Event, now: SystemTime) -> Reply<'_, u64> {
        let grown = self.newest_event.clone();
        self.ask("store an event", move |connection| {
            let position = events::append_own(connection, event, now)?;
            grow(&grown, position);
            Ok(position)
        })
    }

    fn event_cursor(&self, node: NodeUid) -> Reply<'_, Option<Cursor>> {
        self.ask("find the newest event of a node", move |connection| {
            events::cursor(connection, node.as_bytes())
        })
    }

    fn events(&self, query: EventQuery) -> Reply<'_, EventPage> {
        self.ask("read events", move |connection| events::page(connection, &query))
    }

    fn event_range(&self) -> Reply<'_, Kept> {
        self.ask("find the oldest event", |connection| events::kept(connection))
    }

    fn newest_event(&self) -> watch::Receiver<u64> {
        self.newest_event.subscribe()
    }

    fn prune_events(&self, keep: usize, older_than: SystemTime) -> Reply<'_, usize> {
        self.ask("remove old events", move |connection| events::prune(connection, keep, older_than))
    }

    fn event_account(&self, node: NodeUid, upstream: String) -> Reply<'_, FailoverStats> {
        self.ask("read the account of an upstream", move |connection| {
            events::account(connection, node.as_bytes(), &upstream)
        })
    }

    fn begin_audit(&self, entry: Entry, keep: usize) -> Reply<'_, u64> {
        self.ask("note a change in the audit", move |connection| audit::begin(connection, &entry, keep))
    }

    fn end_audit(&self, id: u64, outcome: Outcome, detail: String) -> Reply<'_, ()> {
        self.ask("note what came of a change", move |connection| audit::end(connection, id, outcome, &detail))
    }

    fn audit(&self, query: Query) -> Reply<'_, Vec<Entry>> {
        self.ask("read the audit", move |connection| audit::list(connection, &query))
    }
}

fn grow(newest: &watch::Sender<u64>, position: u64) {
    newest.send_if_modified(|known| std::mem::replace(known, position.max(*known)) < position);
}

/// The file holds the keys of sessions. SQLite gives the files beside it the same mode.
fn for_its_owner_alone(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let failed = |error| open_error(path, error);
    for_its_owner_alone(path)
        .map_err(|error| StoreError::Open { path: path.to_owned(), source: error.into() })?;
    let mut connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    // NORMAL would lose acknowledged revisions in a power failure.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    let check: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if check != "ok" {
        return Err(StoreError::Corrupt { path: path.to_owned(), what: check });
    }
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    migrate(&mut connection, path)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| open_error(path, error);
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let known = i64::try_from(MIGRATIONS.len()).expect("there are a few migrations");
    let Some(due) = usize::try_from(found).ok().and_then(|taken| MIGRATIONS.get(taken..)) else {
        return Err(StoreError::TooNew { path: path.to_owned(), found, known });
    };
    let transaction = connection.transaction().map_err(failed)?;
    for step in due {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn open_error(path: &Path, error: rusqlite::Error) -> StoreError {
    let path: PathBuf = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Corrupt { path, what: error.to_string() }
        }
        _ => StoreError::Open { path, source: error.into() },
    }
}

pub(super) fn conversion(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
}

pub(super) fn to_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn from_ms(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms.max(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::suite;
    use std::fs;

    suite::behaves_like_a_store!(|dir: &Path| Sqlite::open(&dir.join("store.db")).unwrap());

    #[test]
    fn a_file_that_is_no_database_is_called_damaged_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let garbage = b"this is not a database, however long it may be".repeat(100);
        fs::write(&path, &garbage).unwrap();
        let error = Sqlite::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert_eq!(fs::read(&path).unwrap(), garbage);
    }

    #[tokio::test]
    async fn a_database_with_a_torn_page_is_called_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let store = Sqlite::open(&path).unwrap();
        for number in 0..50 {
            store.append_revision(suite::new_revision(&format!("{number}").repeat(500))).await.unwrap();
        }
        drop(store);
        let wal = dir.path().join("store.db-wal");
        timeout(LIMIT, async {
            while wal.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("a closed database has no write-ahead log");
        let mut bytes = fs::read(&path).unwrap();
        bytes[4096..12288].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        let error = Sqlite::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    }

    #[test]
    fn a_database_of_a_newer_build_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Sqlite::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::TooNew { found: 99, .. }), "{error:?}");
    }

    #[tokio::test]
    async fn its_files_are_for_their_owner_alone_whoever_made_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let store = Sqlite::open(&path).unwrap();
        store.append_revision(suite::new_revision("one")).await.unwrap();
        for file in fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
    }

    #[test]
    fn a_directory_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Sqlite::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
    }
}
