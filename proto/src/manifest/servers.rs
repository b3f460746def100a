//! `servers`: virtual servers.

use super::{keys, names, path, reader::Field, rules, suggest};
use std::collections::HashSet;

/// `upstreams`: the names that exist.
pub(super) fn read(field: &Field<'_>, upstreams: &[&str]) {
    for (name, field) in field.names("such as `coding: {upstreams: [files]}`") {
        if let Some(fault) = names::fault(name) {
            field.problem_at_key(&rules::SERVER_NAME, fault, names::HINT);
        }
        let map = field.section(&keys::SERVER);
        if let Some(field) = map.required("upstreams") {
            members(&field, upstreams);
        }
        if let Some(field) = map.get("tools") {
            let tools = field.section(&keys::SERVER_TOOLS);
            for list in ["allow", "deny"].iter().filter_map(|name| tools.get(name)) {
                for pattern in list.list("patterns, such as `[\"read_*\"]`") {
                    if pattern.text().is_some_and(str::is_empty) {
                        pattern.problem(
                            &rules::SERVER_TOOLS,
                            "the pattern is empty",
                            "`*` stands for every tool",
                        );
                    }
                }
            }
        }
    }
}

fn members(field: &Field<'_>, upstreams: &[&str]) {
    let members = field.list("the names of upstreams");
    let mut seen = HashSet::new();
    for member in &members {
        let Some(name) = member.text() else { continue };
        if !upstreams.contains(&name) {
            let hint = suggest::word(name, upstreams.iter().copied());
            let what = format!("there is no upstream {}", path::quoted(name));
            member.problem(&rules::SERVER_UPSTREAM, what, hint);
        } else if !seen.insert(name) {
            member.problem(&rules::SERVER_UPSTREAM, format!("`{name}` is listed twice"), "keep one of them");
        }
    }
    if field.is_empty_list() {
        field.problem(&rules::SERVER_UPSTREAM, "the server has no upstream", "list at least one");
    }
}
