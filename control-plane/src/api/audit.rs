//! Changes that leave a trace, and the list of all of them.
//!
//! A change is a task of its own: the call that asked for it may end before it, because its client went away or its time
//! is over, and then the change still goes to its end and what came of it is noted. It must never run inside the call.

use super::{errors, paging};
use crate::access::{
    Caller,
    audit::{Audit, Deed, Entry, Kind, Outcome, Query},
};
use o1_process::{OnExit, Tasks};
use o1_proto::{
    convert::from_system_time,
    wire::{self, ListAuditRequest, ListAuditResponse},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Semaphore, oneshot};
use tonic::Status;

/// Changes that are under way at a time: calls that end early leave theirs behind.
const AT_ONCE: usize = 64;

/// Where changes are made; clones share it.
#[derive(Clone)]
pub(super) struct Changes {
    audit: Audit,
    tasks: Tasks,
    room: Arc<Semaphore>,
}

impl Changes {
    pub(super) fn new(audit: Audit, tasks: Tasks) -> Self {
        Self { audit, tasks, room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// What was changed, and what was refused.
    pub(super) const fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Makes a change that is noted before it is made, and with what came of it: `told` says that in words. Once begun
    /// it goes on, whether or not somebody waits for it here.
    ///
    /// # Errors
    /// Those of the change; and nothing was changed because it could not be noted, or too many are under way.
    pub(super) async fn noted<T: Send + 'static>(
        &self,
        caller: &Caller,
        deed: Deed,
        change: impl Future<Output = Result<T, Status>> + Send + 'static,
        told: impl FnOnce(&T) -> String + Send + 'static,
    ) -> Result<T, Status> {
        let room = self.room.clone().try_acquire_owned().map_err(|_| errors::changes_wait())?;
        let (done, outcome) = oneshot::channel();
        let (audit, caller) = (self.audit.clone(), caller.clone());
        self.tasks.spawn("change", OnExit::Quiet, async move {
            let _room = room;
            // Whoever asked may be gone.
            let _ = done.send(made(&audit, &caller, deed, change, told).await);
        });
        outcome.await.unwrap_or_else(|_| Err(self.broken_off()))
    }

    /// A change that has no outcome: its task was cut when the process stopped, or failed, which is in the log.
    fn broken_off(&self) -> Status {
        if self.tasks.stopping().is_cancelled() {
            return errors::stopping();
        }
        Status::internal("the change broke off: see the log of the control plane")
    }
}

async fn made<T>(
    audit: &Audit,
    caller: &Caller,
    deed: Deed,
    change: impl Future<Output = Result<T, Status>>,
    told: impl FnOnce(&T) -> String,
) -> Result<T, Status> {
    let id = audit.begin(caller, deed).await.map_err(|error| errors::store(&error))?;
    let outcome = change.await;
    match &outcome {
        Ok(done) => audit.end(id, Outcome::Done, told(done)).await,
        Err(status) => audit.end(id, Outcome::Failed, status.message().to_owned()).await,
    }
    outcome
}

/// A page of the audit.
pub(super) async fn list(audit: &Audit, request: ListAuditRequest) -> Result<ListAuditResponse, Status> {
    let size = paging::size(request.page_size)?;
    let before = paging::key("audit", &request.page_token)?
        .map(|key| key.parse().map_err(|_| paging::unknown(&request.page_token)))
        .transpose()?;
    let kind = match request.kind() {
        wire::AuditKind::Unspecified => None,
        wire::AuditKind::Change => Some(Kind::Change),
        wire::AuditKind::Refusal => Some(Kind::Refusal),
    };
    let who = Some(request.who).filter(|who| !who.is_empty());
    let since = request.since.as_ref().map(moment).transpose()?;
    let query = Query { before, limit: size + 1, kind, who, since };
    let found = audit.list(query).await.map_err(|error| errors::store(&error))?;
    let mut entries: Vec<_> = found.into_iter().map(encode).collect();
    let next_page_token = match paging::cut(&mut entries, size) {
        true => paging::token("audit", &entries.last().map_or(0, |entry| entry.id).to_string()),
        false => String::new(),
    };
    Ok(ListAuditResponse { entries, next_page_token })
}

fn moment(wire: &prost_types::Timestamp) -> Result<SystemTime, Status> {
    let since =
        Duration::new(u64::try_from(wire.seconds).unwrap_or(0), u32::try_from(wire.nanos).unwrap_or(0));
    UNIX_EPOCH.checked_add(since).ok_or_else(|| errors::invalid("since: no such time"))
}

fn encode(entry: Entry) -> wire::AuditEntry {
    wire::AuditEntry {
        id: entry.id,
        at: Some(from_system_time(entry.at)),
        kind: match entry.kind {
            Kind::Change => wire::AuditKind::Change,
            Kind::Refusal => wire::AuditKind::Refusal,
        }
        .into(),
        who: entry.who,
        role: entry.role,
        from: entry.from,
        action: entry.action,
        subject: entry.subject,
        why: entry.why,
        outcome: match entry.outcome {
            Outcome::Unknown => wire::AuditOutcome::Unknown,
            Outcome::Done => wire::AuditOutcome::Done,
            Outcome::Failed => wire::AuditOutcome::Failed,
            Outcome::Refused => wire::AuditOutcome::Refused,
        }
        .into(),
        detail: entry.detail,
        request_id: entry.request_id,
        repeated: entry.repeated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Admin,
        fleet::{Hub, sample_record},
        store::{Sqlite, Store as _},
    };
    use futures_util::FutureExt as _;
    use o1_proto::wire::{SetNodeDrainRequest, admin_service_server::AdminService as _};
    use std::future::pending;
    use tokio::time::{sleep, timeout};
    use tonic::{Code, Request};

    fn changes(dir: &tempfile::TempDir) -> (Arc<Sqlite>, Changes) {
        let store = Arc::new(Sqlite::open(&dir.path().join("store.db")).unwrap());
        (store.clone(), Changes::new(Audit::new(store).0, Tasks::new()))
    }

    /// The one change that was made, once it is known what came of it.
    async fn made(changes: &Changes) -> Entry {
        let settled = async {
            loop {
                let query = Query { limit: 9, ..Query::default() };
                let mut entries = changes.audit().list(query).await.unwrap();
                assert!(entries.len() < 2, "{entries:?}");
                match entries.pop() {
                    Some(entry) if entry.outcome != Outcome::Unknown => return entry,
                    _ => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout(Duration::from_secs(20), settled).await.expect("an outcome in time")
    }

    #[tokio::test]
    async fn a_change_goes_on_without_the_call_that_asked_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, changes) = changes(&dir);
        let (begun, begins) = oneshot::channel();
        let (go, goes) = oneshot::channel();
        let change = async move {
            begun.send(()).unwrap();
            goes.await.map_err(|_| Status::internal("nobody said go"))
        };
        let deed = Deed { action: "test", ..Deed::default() };
        let caller = Caller::local(None);
        let mut call = Box::pin(changes.noted(&caller, deed, change, |what: &&str| (*what).to_owned()));
        tokio::select! {
            _ = &mut call => panic!("nobody said go"),
            begun = begins => begun.expect("it begins"),
        }
        drop(call);
        go.send("it is done").unwrap();
        let entry = made(&changes).await;
        assert_eq!((entry.outcome, entry.detail.as_str()), (Outcome::Done, "it is done"));
    }

    #[tokio::test]
    async fn a_drain_whose_call_ends_at_once_is_noted_and_reaches_disk_and_fleet() {
        let dir = tempfile::tempdir().unwrap();
        let (store, changes) = changes(&dir);
        let hub = Arc::new(Hub::new(vec![sample_record("n1", 1)], crate::clock::Now::read()));
        let admin = Admin::new(hub.clone(), store.clone(), changes.clone(), changes.tasks.stopping());
        let order =
            SetNodeDrainRequest { node_id: "n1".to_owned(), drain: true, reason: "a new disk".to_owned() };
        assert!(admin.set_node_drain(Request::new(order)).now_or_never().is_none(), "the disk takes a while");
        let entry = made(&changes).await;
        assert_eq!((entry.outcome, entry.why.as_str()), (Outcome::Done, "a new disk"));
        assert!(hub.look(|registry, _| registry.drain("n1").is_some()));
        assert!(store.drains().await.unwrap().contains_key("n1"));
    }

    #[tokio::test]
    async fn calls_that_end_early_leave_only_so_many_changes_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, changes) = changes(&dir);
        let caller = Caller::local(None);
        let call =
            || changes.noted(&caller, Deed::default(), pending::<Result<(), Status>>(), |()| String::new());
        for _ in 0..AT_ONCE {
            assert!(call().now_or_never().is_none());
        }
        let refused = call().now_or_never().expect("an answer at once").unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        changes.tasks.begin_stop();
        assert!(!changes.tasks.stopped_within(Duration::from_millis(10)).await, "they never end");
    }

    #[tokio::test]
    async fn who_waits_for_a_change_that_is_cut_hears_so() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, changes) = changes(&dir);
        let caller = Caller::local(None);
        let change = pending::<Result<(), Status>>();
        let call = changes.noted(&caller, Deed::default(), change, |()| String::new());
        let cut = async {
            changes.tasks.begin_stop();
            changes.tasks.stopped_within(Duration::from_millis(10)).await
        };
        let (outcome, in_time) = tokio::join!(call, cut);
        assert_eq!((outcome.unwrap_err().code(), in_time), (Code::Unavailable, false));
    }
}
