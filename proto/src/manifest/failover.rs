//! `failover`: what happens to calls while the backup is active.

use super::{keys, reader::Reader, rules};
use crate::model::Backup;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writes {
    Reject,
    Journal,
    PassThrough,
}

/// The section of an upstream whose backup is `backup`.
pub(super) fn read(upstream: &Reader<'_>, backup: Option<&Backup>) {
    let Some(field) = upstream.get("failover") else { return };
    if backup.is_none() {
        let what = "there is no backup to fail over to";
        field.problem_at_key(&rules::FAILOVER_WITHOUT_BACKUP, what, "add a `backup`, or remove the section");
    }
    let map = field.section(&keys::FAILOVER);
    let writes = writes(&map, backup);
    journal_tools(&map, writes);
    if let Some(field) = map.get("fast_path") {
        field.word(&rules::FAILOVER_POLICY, &[("none", ()), ("reads", ()), ("full", ())]);
    }
    for field in ["min_hold", "stable"].iter().filter_map(|name| map.get(name)) {
        field.duration(&rules::FAILOVER_POLICY, Duration::ZERO);
    }
}

/// `None`: not known, and said.
fn writes(map: &Reader<'_>, backup: Option<&Backup>) -> Option<Writes> {
    let Some(field) = map.get("writes") else { return Some(Writes::Reject) };
    let words =
        [("reject", Writes::Reject), ("journal", Writes::Journal), ("pass_through", Writes::PassThrough)];
    let writes = field.word(&rules::FAILOVER_POLICY, &words)?;
    if writes == Writes::PassThrough && backup == Some(&Backup::Snapshot) {
        field.problem(&rules::FAILOVER_POLICY, "a snapshot takes no writes", "`reject` or `journal`");
    }
    Some(writes)
}

fn journal_tools(map: &Reader<'_>, writes: Option<Writes>) {
    let field = map.get("journal_tools");
    let tools = field.as_ref().map(|field| field.list("the names of tools")).unwrap_or_default();
    for tool in &tools {
        if tool.text().is_some_and(str::is_empty) {
            tool.problem(&rules::FAILOVER_JOURNAL_TOOLS, "the tool has no name", "remove it");
        }
    }
    let hint = "list the tools whose calls may run later";
    match (writes, &field) {
        (Some(Writes::Journal), Some(field)) if tools.is_empty() => {
            field.problem(&rules::FAILOVER_JOURNAL_TOOLS, "no tool may be journaled", hint);
        }
        (Some(Writes::Journal), None) => {
            let what = "`writes: journal` needs `journal_tools`";
            map.field.problem_at_key(&rules::FAILOVER_JOURNAL_TOOLS, what, hint);
        }
        (Some(Writes::Reject | Writes::PassThrough), Some(field)) if !tools.is_empty() => {
            let what = "only `writes: journal` uses it";
            field.problem_at_key(&rules::FAILOVER_JOURNAL_TOOLS, what, "remove it, or journal");
        }
        _ => {}
    }
}
