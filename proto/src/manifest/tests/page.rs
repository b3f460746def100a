//! The reference page is what the tables say, and the tables are what the parser does.

use super::said;
use crate::manifest::{
    keys::{self, ABSENT, Key, REQUIRED, Section},
    parse, reference_page,
};
use crate::model::Fleet;
use std::{env, fs, path::Path};

#[test]
fn the_reference_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
    let page = reference_page();
    if env::var_os("O1_BLESS").is_some() {
        fs::write(&path, &page).expect("docs/ is writable");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let regenerate =
        "docs/config.md is out of date: run `O1_BLESS=1 cargo test -p o1-proto --features manifest`";
    assert!(found == page, "{regenerate}");
}

/// A document with one key of a section, beside `beside`, and the path of that key.
fn document(section: &Section, key: &Key, beside: &str) -> (String, String) {
    let section = section.path.replace("<name>", "a").replace("<tier>", "tools").replace("<tool>", "t");
    let mut document = format!("{{{beside}{}: [[{{x: []}}]]}}", key.name);
    for part in section.rsplit('.').filter(|part| !part.is_empty()) {
        document = match part.strip_suffix("[]") {
            Some(list) => format!("{{{list}: [{document}]}}"),
            None => format!("{{{part}: {document}}}"),
        };
    }
    let separator = if section.is_empty() { "" } else { "." };
    (document, format!("{}{separator}{}", section.replace("[]", "[0]"), key.name))
}

#[test]
fn every_key_in_the_table_is_read() {
    for section in keys::SECTIONS {
        for key in section.keys {
            let said: Vec<_> = ["", "url: http://x/, ", "command: [x], "]
                .map(|beside| document(section, key, beside))
                .into_iter()
                .flat_map(|(document, path)| {
                    let problems = parse("t.yaml", document.as_bytes()).expect_err("nonsense").problems;
                    problems
                        .into_iter()
                        .filter(move |one| one.path.starts_with(&path) && one.rule == "value-type")
                })
                .collect();
            assert!(!said.is_empty(), "`{}` of `{}` takes anything", key.name, section.path);
        }
    }
}

/// A mapping in flow style with every default of a section.
fn defaults(section: &Section, left_out: &[&str]) -> String {
    let spelled = |key: &&Key| !matches!(key.default, REQUIRED | ABSENT) && !left_out.contains(&key.name);
    let pairs: Vec<_> =
        section.keys.iter().filter(spelled).map(|key| format!("{}: {}", key.name, key.default)).collect();
    pairs.join(", ")
}

#[test]
fn the_defaults_on_the_page_are_those_of_the_model() {
    let explicit = format!(
        "{{upstreams: {{a: {{primary: [{{url: 'http://x/', {}}}, {{command: [x], {}}}], {}, timeouts: {{{}}}, \
         cache: {{{}}}, outlier: {{{}}}, retry: {{{}}}, concurrency: {{{}}}, pool: {{{}}}}}}}, clients: {{{}}}, \
         cache: {{{}}}, batching: {{{}}}}}",
        defaults(&keys::ENDPOINT, &["env", "processes"]),
        defaults(&keys::ENDPOINT, &["transport"]),
        defaults(&keys::UPSTREAM, &["timeouts", "cache", "outlier", "retry", "concurrency", "pool"]),
        defaults(&keys::TIMEOUTS, &[]),
        defaults(&keys::UPSTREAM_CACHE, &[]),
        defaults(&keys::OUTLIER, &[]),
        defaults(&keys::RETRY, &[]),
        defaults(&keys::CONCURRENCY, &[]),
        defaults(&keys::POOL, &[]),
        defaults(&keys::CLIENTS, &[]),
        defaults(&keys::CACHE, &[]),
        defaults(&keys::BATCHING, &[]),
    );
    let implicit = "{upstreams: {a: {primary: [{url: 'http://x/'}, {command: [x]}], pool: {idle: 100}}}, \
                    cache: {tools: {bytes: 64MiB, eviction: tiny_lfu, stale_if_error: 0s, stale_while_revalidate: 0s}}}";
    let read = |text: &str| -> Fleet { parse("t.yaml", text.as_bytes()).expect("valid").fleet };
    assert_eq!(read(&explicit), read(implicit), "{explicit}");
}

#[test]
fn the_defaults_of_what_a_backup_needs_are_valid() {
    let explicit = format!(
        "{{upstreams: {{a: {{primary: [{{command: [x]}}], backup: snapshot, health: {{{}}}, breaker: {{{}}}, failover: {{{}}}, tls: {{{}}}}}}}, \
         servers: {{s: {{upstreams: [a], tools: {{{}}}}}}}}}",
        defaults(&keys::HEALTH, &[]),
        defaults(&keys::BREAKER, &[]),
        defaults(&keys::FAILOVER, &[]),
        defaults(&keys::TLS, &[]),
        defaults(&keys::SERVER_TOOLS, &[]),
    );
    let problems: Vec<_> =
        said(&explicit).into_iter().filter(|line| !line.starts_with("warning: ")).collect();
    assert_eq!(problems, Vec::<String>::new(), "{explicit}");
}
