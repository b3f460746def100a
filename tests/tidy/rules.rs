//! What must stay true of the tree, each rule with its reason and with a sample that it must catch.

use crate::{imports, source::Source};

/// Where a rule is broken: a line from 1, and what stands there.
pub type Broken = (usize, String);

/// A rule about single files.
pub struct Rule {
    /// What must hold.
    pub rule: &'static str,
    /// Why.
    pub reason: &'static str,
    /// Where it does not.
    pub check: fn(&Source) -> Vec<Broken>,
    /// A file that breaks it.
    pub caught: (&'static str, &'static str),
    /// A file that does not, and could be mistaken for one that does.
    pub spared: (&'static str, &'static str),
}

const DATA: &str = "data-plane/src/";
const LAYERS: [&str; 6] = ["listener", "session", "router", "cache", "upstream", "backend"];
const LEAVES: [&str; 18] = [
    "plan",
    "current",
    "call",
    "failure",
    "handle",
    "inventory",
    "context",
    "logs",
    "joint",
    "mcp",
    "metrics",
    "pattern",
    "principal",
    "purge",
    "seal",
    "snapshot",
    "stores",
    "tls",
];

/// Every rule.
pub const RULES: &[Rule] = &[
    Rule {
        rule: "a layer of the data path imports no other layer",
        reason: "path.rs alone knows the order of the layers; a layer that names another cannot be moved or tested alone",
        check: |source| match source.below(DATA) {
            Some(own) if LAYERS.contains(&own) => named(source, |name| LAYERS.contains(&name) && name != own),
            _ => vec![],
        },
        caught: ("data-plane/src/router/mod.rs", "use crate::{plan, upstream::Store};\n"),
        spared: ("data-plane/src/router/mod.rs", "use crate::{plan, router::list}; // not crate::upstream\n"),
    },
    Rule {
        rule: "nothing below app and path names more than one layer",
        reason: "the order of the layers is knowledge of path.rs, and their construction of app.rs",
        check: |source| {
            let known = [None, Some("path"), Some("app"), Some("lib"), Some("main")];
            let layers = named(source, |name| LAYERS.contains(&name));
            let mut names: Vec<_> = layers.iter().map(|(_, name)| name).collect();
            names.sort_unstable();
            names.dedup();
            if known.contains(&source.below(DATA)) || names.len() < 2 { vec![] } else { layers }
        },
        caught: ("data-plane/src/probe/mod.rs", "use crate::{backend::Http, session::Id};\n"),
        spared: ("data-plane/src/path.rs", "use crate::{backend::Http, session::Id};\n"),
    },
    Rule {
        rule: "the control stream imports no layer of the data path",
        reason: "it hands over plans and reads counters; knowing the path would let the fleet reach into a call",
        check: |source| match source.below(DATA) {
            Some("control") => named(source, |name| LAYERS.contains(&name)),
            _ => vec![],
        },
        caught: ("data-plane/src/control/apply.rs", "use crate::session::Sessions;\n"),
        spared: ("data-plane/src/control/apply.rs", "use crate::{current::Current, plan};\n"),
    },
    Rule {
        rule: "leaves import no layer, no path and no control",
        reason: "every layer stands on them; an edge back would make a circle",
        check: |source| match source.below(DATA) {
            Some(own) if LEAVES.contains(&own) => named(source, |name| {
                LAYERS.contains(&name) || ["path", "app", "control", "config"].contains(&name)
            }),
            _ => vec![],
        },
        caught: ("data-plane/src/plan.rs", "use super::router::Rename;\n"),
        spared: ("data-plane/src/plan.rs", "use crate::mcp::Era;\n"),
    },
    Rule {
        rule: "generated protobuf types stay at the rim",
        reason: "a field added to the contract must touch one conversion, not every file",
        check: |source| {
            let rim = [
                "proto/",
                "control-plane/src/api/",
                "control-plane/tests/",
                "data-plane/src/control/",
                "cli/src/client/",
                // Programs of others.
                "examples/rust/",
            ];
            let group = |at: usize| {
                source.code[..at].rfind("o1_proto::").is_some_and(|from| !source.code[from..at].contains(';'))
            };
            let uses =
                source.tokens("wire").filter(|at| source.code[at + 4..].starts_with("::") || group(*at));
            if source.is_in(&rim) || !source.is_rust() { vec![] } else { lines(source, uses) }
        },
        caught: ("data-plane/src/plan.rs", "use o1_proto::{model, wire};\n"),
        spared: ("data-plane/src/plan.rs", "let wire = 1; // wire::Upstream\n"),
    },
    Rule {
        rule: "no file of Rust is longer than 600 lines",
        reason: "a longer one owns more than one thing",
        check: |source| {
            let length = source.text.lines().count();
            if source.is_rust() && length > 600 { vec![(length, format!("{length} lines"))] } else { vec![] }
        },
        caught: ("cli/src/args.rs", LONG),
        spared: ("docs/long.md", LONG),
    },
    Rule {
        rule: "no unbounded queue",
        reason: "what can grow without limit will, and takes the process with it",
        check: |source| {
            let words = ["unbounded_channel", "unbounded", "UnboundedSender", "UnboundedReceiver"];
            // Std's plain channel has no limit either; between the threads of a unit test it may serve.
            let std = source.code.match_indices("std::sync::mpsc::channel").map(|(at, _)| at);
            let std = std.filter(|_| !source.is_unit_test());
            lines(
                source,
                words.iter().flat_map(|word| source.tokens(word)).chain(std).filter(|_| source.is_rust()),
            )
        },
        caught: ("data-plane/src/metrics.rs", "let (tx, rx) = tokio::sync::mpsc::unbounded_channel();\n"),
        spared: ("data-plane/src/metrics.rs", "let (tx, rx) = mpsc::channel(8); // never unbounded\n"),
    },
    Rule {
        rule: "tasks start through o1_process::Tasks",
        reason: "a task needs a name, an exit policy and somebody who waits for its end",
        check: |source| {
            let spawn = ["tokio::spawn", "task::spawn", "tokio::task::spawn_local"];
            let uses = spawn.iter().flat_map(|word| source.tokens(word));
            if source.is_in(&["libs/process/src/tasks/"]) {
                vec![]
            } else {
                lines(source, uses.filter(|_| source.is_rust()))
            }
        },
        caught: ("data-plane/src/app.rs", "tokio::spawn(async {});\n"),
        spared: ("data-plane/src/app.rs", "tokio::task::spawn_blocking(|| {}); tasks.spawn(\"x\", f);\n"),
    },
    Rule {
        rule: "nothing is left to do, and no test is switched off",
        reason: "a note in the code is seen by nobody: finish it, or open an issue and say in the code what holds today",
        check: |source| {
            let notes =
                [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("HA", "CK:")];
            let noted = source
                .text
                .lines()
                .enumerate()
                .filter(|(_, line)| notes.iter().any(|note| line.contains(note)));
            let mut broken: Vec<_> = noted.map(|(at, line)| (at + 1, line.trim().to_owned())).collect();
            if source.is_rust() {
                let ignored = source.code.match_indices("#[ignore").map(|(at, _)| at);
                broken.extend(lines(
                    source,
                    ["todo", "unimplemented"]
                        .iter()
                        .flat_map(|word| source.tokens(word))
                        .filter(|at| {
                            source.code[*at..].trim_start_matches(char::is_alphabetic).starts_with('!')
                        })
                        .chain(ignored),
                ));
            }
            broken
        },
        caught: ("cli/src/args.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n"),
        spared: ("cli/src/args.rs", "//! Files to ignore; what a person has to do.\nlet todo = 1;\n"),
    },
    Rule {
        rule: "a module says first what it owns",
        reason: "who looks for something must be able to find it by reading the first lines",
        check: |source| {
            // The tests of a module speak for themselves by their names.
            let documented = source.text.starts_with("//!") || source.is_unit_test();
            if source.is_rust() && !documented {
                vec![(1, source.text.lines().next().unwrap_or_default().to_owned())]
            } else {
                vec![]
            }
        },
        caught: ("cli/src/args.rs", "use std::fmt;\n"),
        spared: ("cli/src/args.rs", "//! What was typed.\n"),
    },
    Rule {
        rule: "no module is called utils, common, helpers, manager or types",
        reason: "such a name says nothing about what belongs there, so everything ends up in it",
        check: |source| {
            let vague = ["utils", "util", "common", "helpers", "helper", "manager", "types", "misc"];
            let named = source.path.split('/').any(|part| vague.contains(&part.trim_end_matches(".rs")));
            if source.is_rust() && named { vec![(1, source.path.clone())] } else { vec![] }
        },
        caught: ("cli/src/utils/mod.rs", "//! Things.\n"),
        spared: ("cli/src/table.rs", "//! Tables.\n"),
    },
    Rule {
        rule: "rmcp stays off the data path",
        reason: "its typed model loses unknown fields and key order, and costs up to fifty times more (reference: mcp-protocol, 5.2)",
        check: |source| match source.below(DATA) {
            Some(own) if LAYERS.contains(&own) || LEAVES.contains(&own) => {
                lines(source, source.tokens("rmcp"))
            }
            _ => vec![],
        },
        caught: ("data-plane/src/router/list.rs", "use rmcp::model::Tool;\n"),
        spared: ("data-plane/src/router/list.rs", "//! As rmcp does.\n"),
    },
    Rule {
        rule: "no package registry is named",
        reason: "where packages come from is configured on the machine; a host in the repository breaks every other one",
        check: |source| {
            if source.path == "Cargo.lock" {
                // Cargo writes the default registry by this name whatever host stands behind it.
                let foreign =
                    |line: &str| line.starts_with("source = ") && !line.contains("/crates.io-index\"");
                return found(source, foreign);
            }
            let hosts = [
                concat!("registry.npm", "js.org"),
                concat!("py", "pi.org"),
                concat!("python", "hosted.org"),
                concat!("index.crates", ".io"),
                concat!("static.crates", ".io"),
                concat!("registry", "="),
                concat!("--index", "-url"),
                concat!("--extra-index", "-url"),
                concat!("\"resol", "ved\":"),
            ];
            found(source, |line| hosts.iter().any(|host| line.contains(host)))
        },
        caught: (
            "tests/peers/package-lock.json",
            concat!("\"resol", "ved\": \"https://mirror.example/a.tgz\"\n"),
        ),
        spared: ("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n"),
    },
    Rule {
        rule: "the root has no other folder",
        reason: "seven homes for code are enough to know by heart; another one needs an ADR",
        check: |source| {
            let homes = [
                "proto",
                "libs",
                "control-plane",
                "data-plane",
                "cli",
                "tests",
                "benches",
                "docs",
                "examples",
                ".ci",
                ".config",
                ".cargo",
                ".github",
            ];
            match source.path.split_once('/') {
                Some((folder, _)) if !homes.contains(&folder) => vec![(1, source.path.clone())],
                _ => vec![],
            }
        },
        caught: ("tools/a.rs", "//! A.\n"),
        spared: ("README.md", "Read.\n"),
    },
];

const LONG: &str = match std::str::from_utf8(&[b'\n'; 601]) {
    Ok(text) => text,
    Err(_) => unreachable!(),
};

fn named(source: &Source, wanted: impl Fn(&str) -> bool) -> Vec<Broken> {
    let names = imports::of(source, DATA).into_iter().filter(|(_, name)| wanted(name));
    names.map(|(at, name)| (source.line(at), name)).collect()
}

fn lines(source: &Source, at: impl Iterator<Item = usize>) -> Vec<Broken> {
    let line = |at| {
        let line = source.line(at);
        (line, source.text.lines().nth(line - 1).unwrap_or_default().trim().to_owned())
    };
    at.map(line).collect()
}

fn found(source: &Source, broken: impl Fn(&str) -> bool) -> Vec<Broken> {
    let lines = source.text.lines().enumerate().filter(|(_, line)| broken(line));
    lines.map(|(at, line)| (at + 1, line.trim().to_owned())).collect()
}
