//! Who changed what.

use super::{Client, PAGES, moment};
use crate::{
    args::AuditKind,
    audit::{Entry, Filter},
    connect::Failure,
};
use o1_proto::wire;

/// Entries asked for at once.
const PAGE_SIZE: usize = 500;

impl Client {
    /// The newest `limit` entries, the newest first.
    ///
    /// # Errors
    /// Why there is no answer, or no complete one.
    pub async fn audit(&mut self, filter: &Filter, limit: usize) -> Result<Vec<Entry>, Failure> {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        for _ in 0..PAGES {
            let size = PAGE_SIZE.min(limit.saturating_sub(found.len()).max(1));
            let request = wire::ListAuditRequest {
                page_size: i32::try_from(size).unwrap_or(i32::MAX),
                page_token,
                kind: match filter.kind {
                    None => wire::AuditKind::Unspecified,
                    Some(AuditKind::Change) => wire::AuditKind::Change,
                    Some(AuditKind::Refusal) => wire::AuditKind::Refusal,
                }
                .into(),
                who: filter.who.clone(),
                since: filter.since.map(|since| prost_types::Timestamp {
                    seconds: since.as_second(),
                    nanos: since.subsec_nanosecond(),
                }),
            };
            let answer = self.link.answer(self.admin.list_audit(request)).await?;
            found.extend(answer.entries.into_iter().map(entry));
            page_token = answer.next_page_token;
            if page_token.is_empty() || found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
        }
        Err(Failure::Broken { code: "data loss", message: "the audit does not end".to_owned() })
    }
}

fn entry(wire: wire::AuditEntry) -> Entry {
    Entry {
        kind: match wire.kind() {
            wire::AuditKind::Change => "change",
            wire::AuditKind::Refusal => "refusal",
            wire::AuditKind::Unspecified => "unknown",
        },
        outcome: match wire.outcome() {
            wire::AuditOutcome::Done => "done",
            wire::AuditOutcome::Failed => "failed",
            wire::AuditOutcome::Refused => "refused",
            wire::AuditOutcome::Unknown | wire::AuditOutcome::Unspecified => "unknown",
        },
        id: wire.id,
        at: moment(wire.at.as_ref()),
        who: wire.who,
        role: wire.role,
        from: wire.from,
        action: wire.action,
        subject: wire.subject,
        why: wire.why,
        detail: wire.detail,
        request_id: wire.request_id,
        repeated: wire.repeated,
    }
}
