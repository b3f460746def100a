//! `failover`: what happens when the primary fails.

use super::{
    keys,
    reader::{Field, Reader},
    rules::{self, Rule},
};
use crate::model::{Backup, Failover, FastPath, Writes};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Reject,
    Journal,
    PassThrough,
}

/// The section of an upstream whose backup is `backup`.
pub(super) fn read(upstream: &Reader<'_>, backup: Option<&Backup>) -> Failover {
    let default = Failover::default();
    let Some(field) = upstream.get("failover") else { return default };
    if backup.is_none() {
        let what = "there is no backup to fail over to";
        field.problem_at_key(&rules::FAILOVER_WITHOUT_BACKUP, what, "add a `backup`, or remove the section");
    }
    let map = field.section(&keys::FAILOVER);
    let writes = writes(&map, backup);
    let journal_tools = journal_tools(&map, writes);
    let fast_path = [("none", FastPath::None), ("reads", FastPath::Reads), ("full", FastPath::Full)];
    let fast_path = map.get("fast_path").and_then(|field| field.word(&rules::FAILOVER_POLICY, &fast_path));
    let time = |name, least| {
        map.get(name).and_then(|field: Field<'_>| field.duration(&rules::FAILOVER_POLICY, least))
    };
    let read_tools = map.get("read_tools").as_ref().map(|field| tools(field, &rules::FAILOVER_READ_TOOLS));
    Failover {
        writes: match writes {
            Some(Policy::Journal) => Writes::Journal(journal_tools),
            Some(Policy::PassThrough) => Writes::PassThrough,
            Some(Policy::Reject) | None => Writes::Reject,
        },
        read_tools: read_tools.unwrap_or_default(),
        fast_path: fast_path.unwrap_or_default(),
        min_hold: time("min_hold", Duration::ZERO).unwrap_or(default.min_hold),
        stable: time("stable", Duration::ZERO).unwrap_or(default.stable),
        autonomy_after: time("autonomy_after", Duration::ZERO).unwrap_or(default.autonomy_after),
        drain: time("drain", Duration::ZERO).unwrap_or(default.drain),
        snapshot_every: time("snapshot_every", Duration::from_secs(1)).unwrap_or(default.snapshot_every),
    }
}

/// `None`: not known, and said.
fn writes(map: &Reader<'_>, backup: Option<&Backup>) -> Option<Policy> {
    let Some(field) = map.get("writes") else { return Some(Policy::Reject) };
    let words =
        [("reject", Policy::Reject), ("journal", Policy::Journal), ("pass_through", Policy::PassThrough)];
    let writes = field.word(&rules::FAILOVER_POLICY, &words)?;
    if writes == Policy::PassThrough && backup == Some(&Backup::Snapshot) {
        field.problem(&rules::FAILOVER_POLICY, "a snapshot takes no writes", "`reject` or `journal`");
    }
    Some(writes)
}

/// Names or patterns of tools.
fn tools(field: &Field<'_>, rule: &'static Rule) -> Vec<String> {
    let mut names = Vec::new();
    for tool in field.list("the names of tools") {
        let Some(name) = tool.text() else { continue };
        if name.trim().is_empty() {
            tool.problem(rule, "the tool has no name", "remove it");
        }
        names.push(name.to_owned());
    }
    names
}

fn journal_tools(map: &Reader<'_>, writes: Option<Policy>) -> Vec<String> {
    let field = map.get("journal_tools");
    let named = field.as_ref().map(|field| tools(field, &rules::FAILOVER_JOURNAL_TOOLS)).unwrap_or_default();
    let none = field.as_ref().is_some_and(Field::is_empty_list);
    let hint = "list the tools whose calls may run later";
    match (writes, &field) {
        (Some(Policy::Journal), Some(field)) if none => {
            field.problem(&rules::FAILOVER_JOURNAL_TOOLS, "no tool may be journaled", hint);
        }
        (Some(Policy::Journal), None) => {
            let what = "`writes: journal` needs `journal_tools`";
            map.field.problem_at_key(&rules::FAILOVER_JOURNAL_TOOLS, what, hint);
        }
        (Some(Policy::Reject | Policy::PassThrough), Some(field)) if !none => {
            let what = "only `writes: journal` uses it";
            field.problem_at_key(&rules::FAILOVER_JOURNAL_TOOLS, what, "remove it, or journal");
        }
        _ => {}
    }
    named
}
