//! An upstream that has a backup → its cells in the table, and what is said of it. `tale` has the sentences, which
//! `o1ctl status` and `o1ctl explain` share, `details` what `--verbose` adds, `explain` the whole story.

pub mod details;
pub mod explain;
mod tale;

pub use tale::{Tale, phase, plural, refusal};

use super::{
    page::{Page, Span, Style},
    span::{self, UNKNOWN},
};
use crate::{
    failover::{BreakerState, Decision, Failover, Store, Verdict},
    model::{Upstream, UpstreamState},
};
use jiff::Timestamp;

/// Where it stands; `None`: what is known of its reachability says more.
#[must_use]
pub fn state(upstream: &Upstream) -> Option<Span> {
    let failover = upstream.failover.as_ref()?;
    let warning = |text: &str| Some(Span::new(text, Style::Warning));
    match failover.decision {
        Decision::FailingOver => warning("⚠️ failing over…"),
        Decision::SyncingBack => warning("⚠️ syncing back…"),
        Decision::Blocked => Some(Span::new("❌ blocked", Style::Bad)),
        Decision::FailedOver => warning("⚠️ backup"),
        _ if failover.nodes_on_backup > 0 => warning("⚠️ backup"),
        _ if failover.nodes_provisional > 0 => warning("⚠️ provisional"),
        Decision::Suspect => warning("⚠️ suspect"),
        Decision::Healthy | Decision::Unknown => {
            let works = match upstream.state {
                UpstreamState::Healthy => failover.active() == Some(Store::Primary),
                UpstreamState::Unknown => failover.primary_verdict == Verdict::Healthy,
                UpstreamState::Degraded | UpstreamState::Unreachable => false,
            };
            works.then(|| Span::new("✅ primary", Style::Good))
        }
    }
}

/// The store that serves; where nodes differ, the backup and how many are on it.
#[must_use]
pub fn store(failover: &Failover) -> String {
    match failover.active() {
        Some(Store::Primary) => Store::Primary.word().to_owned(),
        Some(Store::Backup) => failover.backup_word().to_owned(),
        None => match failover.nodes_on_primary + failover.nodes_on_backup {
            0 => UNKNOWN.to_owned(),
            all => format!("{} {}/{all}", failover.backup_word(), failover.nodes_on_backup),
        },
    }
}

/// The breaker of the primary.
#[must_use]
pub fn breaker(state: Option<BreakerState>) -> Span {
    match state {
        Some(state @ BreakerState::Closed) => state.word().into(),
        Some(state @ BreakerState::HalfOpen) => Span::new(state.word(), Style::Warning),
        Some(state @ BreakerState::Open) => Span::new(state.word(), Style::Bad),
        None => UNKNOWN.into(),
    }
}

/// `5m 2s ago, 1.2 MB`.
#[must_use]
pub fn last_sync(failover: &Failover, as_of: Option<Timestamp>) -> String {
    match (failover.stats.last_backup_sync, as_of) {
        (Some(then), Some(now)) => format!(
            "{} ago, {}",
            span::words(span::since(then, now)),
            span::bytes(failover.stats.backup_file_size_bytes)
        ),
        _ => UNKNOWN.to_owned(),
    }
}

/// Below the row of an upstream that is not at rest: why, what becomes of calls, what happens next. Of one that is, what
/// somebody should look at all the same.
#[must_use]
pub fn below(tale: &Tale<'_>, columns: Option<usize>) -> Page {
    let mut page = Page::default();
    let failover = tale.failover;
    if !failover.is_at_rest() {
        let why = tale.why().map(|why| format!("{}. ", tale::sentence(&why))).unwrap_or_default();
        page.paragraph(&format!("{why}{}.", tale.calls()), 2, Style::Plain, columns);
    }
    if !failover.is_at_rest() || failover.mode.pinned().is_some() {
        let next = format!("{}. More: o1ctl explain {}", tale.next(), tale.upstream.name);
        page.paragraph(&next, 2, Style::Plain, columns);
    }
    for hindrance in tale.hindrances() {
        page.paragraph(&hindrance, 2, Style::Bad, columns);
    }
    page
}
