//! Changes that leave a trace, and the list of all of them.

use super::{errors, paging};
use crate::access::{
    Caller,
    audit::{Audit, Deed, Entry, Kind, Outcome, Query},
};
use o1_proto::{
    convert::from_system_time,
    wire::{self, ListAuditRequest, ListAuditResponse},
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tonic::Status;

/// Makes a change that is noted before it is made, and with what came of it: `told` says that in words.
///
/// # Errors
/// Those of the change; and nothing was changed because it could not be noted.
pub(super) async fn noted<T>(
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
