//! `servers`: virtual servers.

use super::{
    keys, names, path,
    reader::{Field, Reader},
    rules, suggest,
};
use crate::model::{Selection, Server};
use std::collections::{BTreeMap, HashMap, HashSet};

const NAME_MAX: usize = 64;
const DESCRIPTION_MAX: usize = 16 << 10;

/// All of them, in the order of their names. `upstreams`: the names that exist.
pub(super) fn read(field: &Field<'_>, upstreams: &[&str]) -> Vec<Server> {
    let mut servers: Vec<_> = field
        .names("such as `coding: {upstreams: [files]}`")
        .into_iter()
        .map(|(name, field)| one(name, field, upstreams))
        .collect();
    servers.sort_by(|a, b| a.name.cmp(&b.name));
    servers
}

fn one(name: &str, field: Field<'_>, upstreams: &[&str]) -> Server {
    if let Some(fault) = names::fault(name) {
        field.problem_at_key(&rules::SERVER_NAME, fault, names::HINT);
    }
    let map = field.section(&keys::SERVER);
    let tools = map.get("tools").map(|field| field.section(&keys::SERVER_TOOLS));
    let selected = |name| {
        map.get(name).map(|field| selection(&field.section(&keys::SERVER_SELECTION))).unwrap_or_default()
    };
    Server {
        name: name.to_owned(),
        upstreams: map.required("upstreams").map(|field| members(&field, upstreams)).unwrap_or_default(),
        tools: tools.as_ref().map(selection).unwrap_or_default(),
        prompts: selected("prompts"),
        resources: selected("resources"),
        rename: tools.as_ref().and_then(|tools| tools.get("rename")).as_ref().map(rename).unwrap_or_default(),
        describe: tools
            .as_ref()
            .and_then(|tools| tools.get("describe"))
            .as_ref()
            .map(describe)
            .unwrap_or_default(),
    }
}

fn selection(map: &Reader<'_>) -> Selection {
    if let Some(field) = map.get("allow").filter(Field::is_empty_list) {
        field.problem(&rules::SERVER_TOOLS, "nothing is allowed", "list a pattern, or remove the key");
    }
    let patterns = |name| {
        let list = map.get(name)?;
        let read = |pattern: &Field<'_>| {
            let text = pattern.text()?;
            if text.is_empty() {
                pattern.problem(&rules::SERVER_TOOLS, "the pattern is empty", "`*` stands for everything");
            }
            Some(text.to_owned())
        };
        Some(list.list("patterns, such as `[\"read_*\"]`").iter().filter_map(read).collect())
    };
    let default = Selection::default();
    let allow: Vec<String> = patterns("allow").unwrap_or_default();
    Selection {
        allow: if allow.is_empty() { default.allow } else { allow },
        deny: patterns("deny").unwrap_or_default(),
    }
}

fn rename(field: &Field<'_>) -> BTreeMap<String, String> {
    let mut taken: HashMap<&str, &str> = HashMap::new();
    let mut renamed = BTreeMap::new();
    for (old, field) in field.names("such as `{read_text_file: read}`") {
        let Some(new) = field.text() else { continue };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if new.is_empty() || new.len() > NAME_MAX || !new.chars().all(allowed) {
            let what = format!("{} is not a name for a tool", path::quoted(new));
            let hint = "1 to 64 letters, digits, `_`, `-` and `.`";
            field.problem(&rules::SERVER_RENAME, what, hint);
        } else if let Some(other) = taken.insert(new, old) {
            let what = format!("`{new}` is also the new name of {}", path::quoted(other));
            field.problem(&rules::SERVER_RENAME, what, "give one of them another");
        }
        renamed.insert(old.to_owned(), new.to_owned());
    }
    renamed
}

fn describe(field: &Field<'_>) -> BTreeMap<String, String> {
    let mut described = BTreeMap::new();
    for (tool, field) in field.names("such as `{read_text_file: Reads a file.}`") {
        let Some(text) = field.text() else { continue };
        if text.is_empty() || text.len() > DESCRIPTION_MAX {
            let what = format!("the description has {} bytes", text.len());
            field.problem(&rules::SERVER_DESCRIBE, what, "1 byte to 16 KiB");
        }
        described.insert(tool.to_owned(), text.to_owned());
    }
    described
}

fn members(field: &Field<'_>, upstreams: &[&str]) -> Vec<String> {
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
    members.iter().filter_map(|member| member.text().map(str::to_owned)).collect()
}
