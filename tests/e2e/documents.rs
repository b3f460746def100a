//! What the documents say is true: metrics are served, configurations valid, flags and variables known, links lead
//! somewhere.

use crate::observed::word;
use o1_tests::binaries::{binary, root};
use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The pages that people read, each with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths: Vec<PathBuf> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "cli/README.md",
        "tests/README.md",
        "benches/README.md",
    ]
    .map(|page| root().join(page))
    .into();
    for folder in ["docs", "docs/adr"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        paths.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    assert!(paths.len() > 15, "{paths:?}");
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The blocks of a page in this language: the line each begins at, and its text.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<(usize, &'a str)> {
    let fence = format!("```{language}\n");
    let starts = page.match_indices(&fence).filter(|(at, _)| *at == 0 || page[..*at].ends_with('\n'));
    starts
        .map(|(at, _)| {
            let text = &page[at + fence.len()..];
            (page[..at].lines().count() + 2, text.split_once("\n```").expect("a block ends").0)
        })
        .collect()
}

/// What a part of a document may refer to.
const UPSTREAMS: &str = "upstreams:\n  files: {primary: [{url: http://127.0.0.1:3101/mcp}]}\n  \
                         weather: {primary: [{url: http://127.0.0.1:3102/mcp}]}\n";

#[test]
fn each_configuration_in_the_documents_is_valid() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (path, page) in pages() {
        for (line, block) in blocks(&page, "yaml") {
            let whole = block.lines().any(|line| line.starts_with("upstreams:"));
            let text = if whole { block.to_owned() } else { format!("{UPSTREAMS}{block}\n") };
            let mut check = Command::new(binary("o1ctl"))
                .args(["config", "check", "--strict", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            let output = check.wait_with_output().unwrap();
            seen += 1;
            if !output.status.success() {
                wrong.push(format!("{}:{line}: {}", path.display(), String::from_utf8_lossy(&output.stdout)));
            }
        }
    }
    assert!(seen >= 3, "{seen} blocks of YAML");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every `(section, key)` of `docs/config.md`, which a test of the parser holds to the parser's own tables. A section is
/// called by the last part of its path.
fn keys() -> BTreeSet<(String, String)> {
    let page = fs::read_to_string(root().join("docs/config.md")).unwrap();
    let (mut keys, mut section) = (BTreeSet::new(), String::new());
    for line in page.lines() {
        if let Some(path) = line.strip_prefix("## ") {
            let mut parts = path.trim_matches('`').split('.').filter(|part| !part.starts_with('<'));
            section = parts.next_back().unwrap_or_default().trim_end_matches("[]").to_owned();
        } else if let Some((key, _)) = line.strip_prefix("| `").and_then(|row| row.split_once("` |")) {
            keys.insert((section.clone(), key.to_owned()));
        }
    }
    assert!(keys.len() > 100);
    keys
}

#[test]
fn each_key_of_the_configuration_that_is_named_with_its_section_exists() {
    let keys = keys();
    let is_key =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || "_<>".contains(c));
    let (mut seen, mut unknown) = (0, Vec::new());
    // What was once is history.
    for (path, page) in pages().into_iter().filter(|(path, _)| !path.ends_with("CHANGELOG.md")) {
        let prose: String = page.split("```").step_by(2).collect();
        for name in prose.split('`').skip(1).step_by(2).filter(|name| name.split('.').all(is_key)) {
            let parts: Vec<_> = name.split('.').filter(|part| !part.starts_with('<')).collect();
            if parts.len() < 2 || !keys.iter().any(|(section, _)| section == parts[0]) {
                continue;
            }
            seen += 1;
            let known = |pair: &[&str]| keys.contains(&(pair[0].to_owned(), pair[1].to_owned()));
            if !parts.windows(2).all(known) {
                unknown.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(seen > 20, "{seen} keys");
    assert_eq!(unknown, Vec::<String>::new());
}

/// The names in the first column of the tables of `docs/metrics.md`, which tests of both planes hold to what is served.
fn metrics() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `o1_"));
    let mut names = BTreeSet::new();
    for row in rows {
        let (name, rest) = row.split_once('`').unwrap();
        if rest.starts_with(" | histogram") {
            names.extend(["_bucket", "_sum", "_count"].map(|part| format!("o1_{name}{part}")));
        }
        names.insert(format!("o1_{name}"));
    }
    assert!(names.len() > 50);
    names
}

#[test]
fn each_metric_in_the_documents_is_served() {
    let served = metrics();
    let mut unknown = Vec::new();
    for (path, page) in pages() {
        let starts = page
            .match_indices("o1_")
            .filter(|(at, _)| !page[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        for (at, _) in starts {
            let name = word(&page[at..]);
            // A whole family: `o1_cache_*`.
            let family = page[at + name.len()..].starts_with('*');
            let known =
                if family { served.iter().any(|one| one.starts_with(name)) } else { served.contains(name) };
            if !known {
                unknown.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert_eq!(unknown, Vec::<String>::new());
}

/// Both planes and what they say of themselves.
fn planes() -> [(&'static str, String); 2] {
    ["o1-control-plane", "o1-data-plane"].map(|name| {
        let help = Command::new(binary(name)).arg("--help").output().unwrap();
        assert!(help.status.success());
        (name, String::from_utf8(help.stdout).unwrap())
    })
}

fn flags(text: &str) -> BTreeSet<&str> {
    let ends = |c: char| !c.is_ascii_lowercase() && c != '-' && !c.is_ascii_digit();
    let words = text.split(|c: char| c.is_whitespace() || c == '`' || c == '[');
    let flags = words.filter(|word| word.starts_with("--") && word.len() > 2);
    flags.map(|word| word.split(ends).next().unwrap()).collect()
}

#[test]
fn each_flag_of_the_planes_in_the_documents_is_one() {
    let planes = planes();
    let (mut seen, mut unknown) = (0, Vec::new());
    for (path, page) in pages() {
        for (_, block) in blocks(&page, "console").into_iter().chain(blocks(&page, "sh")) {
            let block = block.replace("\\\n", " ");
            for line in block.lines() {
                let line = line.split(" #").next().unwrap().trim_start_matches("$ ");
                let Some((name, help)) = planes.iter().find(|(name, _)| {
                    line.split_whitespace()
                        .next()
                        .is_some_and(|first| first.rsplit('/').next() == Some(*name))
                }) else {
                    continue;
                };
                seen += 1;
                let known = flags(help);
                let new = flags(line).into_iter().filter(|flag| !known.contains(flag));
                unknown.extend(new.map(|flag| format!("{}: {name} {flag}", path.display())));
            }
        }
    }
    assert!(seen >= 2, "{seen} command lines of planes");
    assert_eq!(unknown, Vec::<String>::new());
}

/// Variables that the programs read, beside those that only tests and benches know.
#[test]
fn each_variable_in_the_documents_is_read_by_somebody() {
    let mut text: String = planes().map(|(_, help)| help).concat();
    let o1ctl = Command::new(binary("o1ctl")).arg("--help").output().unwrap();
    text.push_str(&String::from_utf8(o1ctl.stdout).unwrap());
    // Not on a command line: a switch of tests or benches, which stands in their own sources.
    for folder in ["tests", "benches", "cli/src", "data-plane/src", "proto/src", "control-plane/src"] {
        sources(&root().join(folder), &mut text);
    }
    let known: BTreeSet<&str> = variables(&text).collect();
    let mut unknown = Vec::new();
    for (path, page) in pages() {
        unknown.extend(
            variables(&page)
                .filter(|name| !known.contains(name))
                .map(|name| format!("{}: {name}", path.display())),
        );
    }
    assert_eq!(unknown, Vec::<String>::new());
}

fn variables(text: &str) -> impl Iterator<Item = &str> {
    let starts = text
        .match_indices("O1_")
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
    starts.map(|(at, _)| word(&text[at..])).filter(|name| name.len() > 3)
}

fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") || path.ends_with("run") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// The anchors of a page, as they are made of its headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings =
        page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect::<String>()
            .replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn each_link_leads_somewhere() {
    let (mut seen, mut broken) = (0, Vec::new());
    for (path, page) in pages() {
        for target in page.split("](").skip(1).filter_map(|rest| rest.split([')', '\n']).next()) {
            if target.contains("://") || target.contains(' ') || target.is_empty() {
                continue;
            }
            seen += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let to = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let found = to.exists()
                && (anchor.is_empty() || anchors(&fs::read_to_string(&to).unwrap()).contains(anchor));
            if !found {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(seen > 20, "{seen} links");
    assert_eq!(broken, Vec::<String>::new());
}
