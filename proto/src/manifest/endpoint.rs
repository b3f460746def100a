//! Endpoints: one URL or one command each.

use super::node::Value;
use super::{
    keys, path,
    reader::{Field, Reader},
    rules, url, values,
};
use crate::model::{Endpoint, EndpointKind, Processes, Transport};
use std::time::Duration;

/// An endpoint and where the document has it.
pub(super) struct Placed<'a> {
    pub field: Field<'a>,
    pub endpoint: Endpoint,
}

/// The valid endpoints of a list.
pub(super) fn read_store<'a>(field: &Field<'a>) -> Vec<Placed<'a>> {
    let mut placed: Vec<Placed<'a>> = Vec::new();
    for field in field.list("begin each endpoint with `- `: `- url: …`") {
        let Some(endpoint) = one(field.clone()) else { continue };
        let same = placed.iter().find(|other| is_same(&other.endpoint, &endpoint));
        if let (EndpointKind::Http { .. }, Some(same)) = (&endpoint.kind, same) {
            let what = format!("the same URL is `{}` already", same.field.path);
            field.problem(&rules::ENDPOINT_DUPLICATE, what, "raise its `weight` instead");
        }
        placed.push(Placed { field, endpoint });
    }
    placed
}

/// Both reach the same server.
pub(super) fn is_same(one: &Endpoint, other: &Endpoint) -> bool {
    match (&one.kind, &other.kind) {
        (EndpointKind::Http { url: one, .. }, EndpointKind::Http { url: other, .. }) => one == other,
        (
            EndpointKind::Stdio { command, env, cwd, .. },
            EndpointKind::Stdio { command: other_command, env: other_env, cwd: other_cwd, .. },
        ) => (command, env, cwd) == (other_command, other_env, other_cwd),
        _ => false,
    }
}

fn one(field: Field<'_>) -> Option<Endpoint> {
    if let Some(text) = field.as_text() {
        let hint = if text.contains("://") { "write `- url: …`" } else { "write `- command: […]`" };
        field.problem(&rules::VALUE_TYPE, "wants a mapping with `url` or `command`, found a word", hint);
        return None;
    }
    let map = field.section(&keys::ENDPOINT);
    let weight = map.get("weight").and_then(|field| field.number(&rules::ENDPOINT_WEIGHT, 1..=1_000_000));
    Some(Endpoint { kind: kind(&map)?, weight: weight.unwrap_or(1) })
}

fn kind(map: &Reader<'_>) -> Option<EndpointKind> {
    let words = [("http", Transport::Http), ("sse", Transport::Sse)];
    let transport = map.get("transport").and_then(|field| field.word(&rules::ENDPOINT_TRANSPORT, &words));
    match (map.get("url"), map.get("command")) {
        (Some(url), None) => {
            refuse(map, &["env", "cwd", "processes", "idle_stop"], "command");
            Some(EndpointKind::Http { url: url::read(&url)?, transport: transport.unwrap_or_default() })
        }
        (None, Some(command)) => {
            refuse(map, &["transport"], "url");
            let command = self::command(&command);
            let env = map.get("env").map(|field| values::env(&field)).unwrap_or_default();
            let cwd = map.get("cwd").and_then(|field| cwd(&field));
            let processes = map.get("processes").and_then(|field| {
                let words = [("shared", Processes::Shared), ("per_session", Processes::PerSession)];
                field.word(&rules::ENDPOINT_PROCESSES, &words)
            });
            Some(EndpointKind::Stdio {
                command: command?,
                env,
                processes: processes.unwrap_or_default(),
                cwd,
                idle_stop: idle_stop(map, processes.unwrap_or_default()),
            })
        }
        (Some(_), Some(command)) => {
            let hint = "make two endpoints of it";
            command.problem_at_key(
                &rules::ENDPOINT_KIND,
                "an endpoint has `url` or `command`, not both",
                hint,
            );
            None
        }
        (None, None) => {
            if matches!(map.field.node.value, Value::Map(_) | Value::Null) {
                map.field.problem(&rules::ENDPOINT_KIND, "neither `url` nor `command`", "write one of them");
            }
            None
        }
    }
}

/// Keys that go with the other kind of endpoint.
fn refuse(map: &Reader<'_>, names: &[&str], other: &str) {
    for field in names.iter().filter_map(|name| map.get(name)) {
        let what = format!("goes with `{other}`, which this endpoint does not have");
        field.problem_at_key(&rules::ENDPOINT_KIND, what, "remove it");
    }
}

fn idle_stop(map: &Reader<'_>, processes: Processes) -> Option<Duration> {
    let field = map.get("idle_stop")?;
    if processes == Processes::PerSession {
        let what = "a process of one session ends with its session";
        field.problem_at_key(&rules::ENDPOINT_IDLE_STOP, what, "remove it, or write `processes: shared`");
    }
    field.duration(&rules::ENDPOINT_IDLE_STOP, Duration::from_secs(1))
}

fn command(field: &Field<'_>) -> Option<Vec<String>> {
    let hint = field.as_text().map(|text| {
        let words: Vec<_> = text.split_whitespace().collect();
        format!("write it as a list: {}", path::quoted(&format!("[{}]", words.join(", "))))
    });
    let items = field.list(hint.as_deref().unwrap_or("the program, then its arguments"));
    let mut command = Vec::with_capacity(items.len());
    for item in &items {
        let text = item.text()?;
        if text.contains('\0') {
            item.problem(&rules::ENDPOINT_COMMAND, "has a NUL character", "remove it");
        }
        command.push(text.to_owned());
    }
    if field.is_empty_list() {
        field.problem(&rules::ENDPOINT_COMMAND, "the command is empty", "the program, then its arguments");
    } else if command.first().is_some_and(String::is_empty) {
        items[0].problem(&rules::ENDPOINT_COMMAND, "the program is empty", "its name or path");
    }
    Some(command)
}

fn cwd(field: &Field<'_>) -> Option<String> {
    let path = field.text()?;
    if path.is_empty() || path.contains('\0') {
        field.problem(&rules::ENDPOINT_CWD, "not a directory's path", "remove the key for the node's own");
    }
    Some(path.to_owned())
}
