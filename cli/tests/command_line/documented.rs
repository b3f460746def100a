//! What is written about the command line is true: each line of the documentation that calls `o1ctl` parses, and each
//! command has snapshots of what it shows.

use clap::{CommandFactory as _, error::ErrorKind};
use o1ctl::args::Args;
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// A call of `o1ctl` somewhere in a page.
struct Call {
    place: String,
    words: Vec<String>,
    /// In running text, where the name of a command alone is enough.
    inline: bool,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<_> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "cli/README.md"]
        .map(|page| root().join(page))
        .into();
    let mut dirs = vec![root().join("docs"), root().join("examples")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// A line as a shell would split it, as far as lines of the documentation go: quotes, and where a command ends.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut begun) = (String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, begun) = (Some(c), true),
            // A comment, a pipe, another command, a redirection.
            (None, '#' | '|' | '&' | ';' | '>' | '<')
                if !begun || matches!(c, '|' | '&' | ';' | '>' | '<') =>
            {
                break;
            }
            (None, c) if c.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (None, c) => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// The call in a piece of code, if it is one. What leaves something out is no whole call.
fn call(code: &str, place: &str, inline: bool) -> Option<Call> {
    let code = code.trim().trim_start_matches("$ ");
    let is_ours = |word: &str| word == "o1ctl" || word.ends_with("/o1ctl");
    let words = words(code);
    let at = words.iter().position(|word| !word.contains('='))?; // behind variables
    if !is_ours(&words[at]) || code.contains('…') || code.contains('[') || inline && code.contains('|') {
        return None;
    }
    let words: Vec<_> = std::iter::once("o1ctl".to_owned()).chain(words[at + 1..].iter().cloned()).collect();
    Some(Call { place: place.to_owned(), words, inline })
}

fn calls(page: &Path) -> Vec<Call> {
    let text = fs::read_to_string(page).unwrap();
    let name = page.strip_prefix(root()).unwrap_or(page).display().to_string();
    let (mut calls, mut block) = (Vec::new(), false);
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let place = format!("{name}:{}", number + 1);
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if block {
            let mut whole = line.to_owned();
            while whole.ends_with('\\') {
                whole.pop();
                whole.push_str(lines.next().map_or("", |(_, next)| next));
            }
            // What a block shows of an answer does not begin like a call.
            calls.extend(call(&whole, &place, false));
        } else {
            calls.extend(line.split('`').skip(1).step_by(2).filter_map(|code| call(code, &place, true)));
        }
    }
    calls
}

#[test]
fn every_call_in_the_documentation_parses() {
    let (mut count, mut wrong) = (0, Vec::new());
    for call in pages().iter().flat_map(|page| calls(page)) {
        count += 1;
        let error = match Args::read(call.words.iter().map(OsString::from)) {
            Ok(_) => continue,
            Err(error) => error,
        };
        let kind = error.kind();
        let names_a_command = matches!(
            kind,
            ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
        let is_help = matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        if is_help || call.inline && names_a_command {
            continue;
        }
        let why = error.to_string().lines().next().unwrap_or_default().to_owned();
        wrong.push(format!("{}: {}: {why}", call.place, call.words.join(" ")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 60, "{count} calls are few: are they still found?");
}

#[test]
fn calls_are_found_where_they_are_and_nowhere_else() {
    let found = |code, inline| call(code, "", inline).map(|call| call.words.join("|"));
    assert_eq!(found("$ ./target/release/o1ctl up   # a pair", false).as_deref(), Some("o1ctl|up"));
    assert_eq!(
        found("O1_CONTROL=x o1ctl nodes --json | jq '.'", false).as_deref(),
        Some("o1ctl|nodes|--json")
    );
    assert_eq!(
        found("o1ctl pin a backup --reason 'a b' > x", false).as_deref(),
        Some("o1ctl|pin|a|backup|--reason|a b")
    );
    for none in ["o1ctl events --since …", "cargo build", "o1ctl cache purge [--tier]", "only1 · o1ctl"] {
        assert_eq!(found(none, true), None, "{none}");
    }
}

/// Each command, and the tests that keep what it shows: snapshots, or whole answers spelled out.
const SHOWN: &[(&str, &[&str])] = &[
    ("up", &["the_sample_tells_how_to_see_a_failover"]),
    ("status", &["each_state_of_a_fleet_as_it_is_shown", "the_shape_of_status_is_stable", "offline"]),
    ("top", &["every_view_fits_80_columns_and_24_lines", "a_large_window_shows_more"]),
    ("nodes", &["each_state_of_a_fleet_as_it_is_shown", "the_shape_of_nodes_is_stable"]),
    ("upstreams", &["each_upstream_is_shown_with_its_endpoints", "the_shape_of_upstreams_is_stable"]),
    ("tools", &["hidden_tools_are_counted_and_shown_when_asked_for"]),
    (
        "explain",
        &[
            "an_upstream_is_explained_with_what_keeps_it_and_what_can_be_done",
            "a_code_is_explained_by_number_word_and_kind",
        ],
    ),
    ("events", &["each_kind_of_event_is_a_sentence", "the_shape_of_an_event_is_stable"]),
    (
        "failover",
        &[
            "what_would_happen_and_what_is_so_already_is_told_as_such",
            "an_order_that_is_not_carried_out_says_why_and_what_to_do",
        ],
    ),
    (
        "restore",
        &[
            "what_would_happen_and_what_is_so_already_is_told_as_such",
            "waiting_tells_who_lags_until_every_node_is_there",
        ],
    ),
    ("pin", &["pins_and_maintenance_end_when_they_should"]),
    ("unpin", &["pins_and_maintenance_end_when_they_should"]),
    ("maintenance", &["pins_and_maintenance_end_when_they_should"]),
    ("drain", &["what_came_of_a_drain_is_told"]),
    ("logs", &["a_line_of_a_log_says_when_where_and_by_whom_and_cannot_drive_the_terminal"]),
    ("doctor", &["each_check_says_how_it_went_and_what_to_do", "the_shape_of_a_check_up_is_stable"]),
    ("report", &["a_quiet_day_is_told_in_a_few_lines", "a_bad_day_says_what_happened_and_what_to_do"]),
    ("cache stats", &["tiers_in_which_something_happened_are_shown", "the_shape_of_stats_is_stable"]),
    ("cache purge", &["what_a_purge_did_is_said_by_node", "the_shape_of_a_purge_is_stable"]),
    ("certs init", &["files_are_made_once_and_keys_are_for_their_owner"]),
    ("certs add", &["names_are_bound_and_outlive_a_renewal_of_everything_else"]),
    ("certs renew", &["names_are_bound_and_outlive_a_renewal_of_everything_else"]),
    ("certs list", &["names_are_bound_and_outlive_a_renewal_of_everything_else"]),
    ("audit", &["an_entry_says_who_what_why_and_what_came_of_it"]),
    ("token new", &["a_token_is_shown_once_with_the_line_that_makes_it_count"]),
    (
        "config check",
        &["problems_and_warnings_come_in_the_order_of_the_file", "json_carries_the_same_answer"],
    ),
    ("config apply", &["a_change_says_what_changes_and_how_it_went", "programs_get_the_same"]),
    ("config diff", &["a_difference_is_shown_line_by_line_and_said_in_words"]),
    ("config history", &["the_history_says_who_why_and_what_became_of_it"]),
    ("config rollback", &["who_waits_hears_what_became_of_it"]),
    ("config show", &["the_history_says_who_why_and_what_became_of_it", "programs_get_the_same"]),
    ("config schema", &["the_schema_is_that_of_the_parser"]),
    ("config import", &["servers_of_desktop_clients_become_upstreams"]),
    ("completions", &["completions_are_for_the_commands_that_there_are"]),
    ("man", &["there_is_a_manual_page_for_each_command"]),
];

fn leaves(command: &clap::Command, path: &str) -> Vec<String> {
    let below: Vec<_> = command.get_subcommands().filter(|one| !one.is_hide_set()).collect();
    if below.is_empty() {
        return vec![path.to_owned()];
    }
    below.iter().flat_map(|one| leaves(one, format!("{path} {}", one.get_name()).trim())).collect()
}

#[test]
fn every_command_has_tests_that_keep_what_it_shows() {
    let commands: BTreeSet<String> = leaves(&Args::command(), "").into_iter().collect();
    let listed: BTreeSet<String> = SHOWN.iter().map(|(command, _)| (*command).to_owned()).collect();
    assert_eq!(commands, listed, "what clap knows, and what this table lists");
    let mut code = String::new();
    let mut dirs = vec![root().join("cli/src"), root().join("cli/tests")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                code.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let gone: Vec<_> = SHOWN
        .iter()
        .flat_map(|(command, tests)| tests.iter().map(move |test| (command, test)))
        .filter(|(_, test)| !code.contains(&format!("fn {test}(")))
        .collect();
    assert_eq!(gone, [], "tests that do not exist");
}

#[test]
fn a_command_without_an_answer_says_the_same_as_all_others() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let control = format!("http://{free}");
    let asking: &[&[&str]] = &[
        &["status"],
        &["nodes"],
        &["upstreams"],
        &["tools"],
        &["explain", "weather"],
        &["events"],
        &["logs", "weather"],
        &["cache", "stats"],
        &["cache", "purge"],
        &["failover", "weather", "--reason", "x"],
        &["restore", "weather", "--reason", "x"],
        &["pin", "weather", "backup", "--reason", "x"],
        &["unpin", "weather", "--reason", "x"],
        &["maintenance", "on", "--reason", "x"],
        &["drain", "n1", "--reason", "x"],
        &["report"],
        &["config", "show"],
        &["config", "history"],
        &["config", "rollback", "1", "--reason", "x"],
    ];
    let said = |words: &[&str]| {
        let done = super::o1ctl([&["--control", &control], words].concat());
        assert_eq!((done.code, done.out.as_str()), (Some(3), ""), "{words:?}: {}", done.err);
        done.err
    };
    let first = said(asking[0]);
    assert!(first.contains("nothing listens at"), "{first}");
    for words in asking {
        assert_eq!(said(words), first, "{words:?}");
    }
}

#[test]
fn a_token_is_shown_once_with_the_line_that_makes_it_count() {
    let done = super::o1ctl(["token", "new", "--name", "ci"]);
    let (token, rest) = done.out.split_once('\n').unwrap();
    assert!(token.starts_with("o1_") && !rest.contains(token) && !done.err.contains(token), "{done:?}");
    let line = format!("      - {{name: ci, blake3: \"{}\"}}\n", blake3::hash(token.as_bytes()).to_hex());
    assert_eq!(rest, format!("\nclients:\n  auth:\n    tokens:\n{line}"));
}

#[test]
fn the_schema_is_that_of_the_parser() {
    let done = super::o1ctl(["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(schema, o1_proto::manifest::json_schema());
}

#[test]
fn completions_are_for_the_commands_that_there_are() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let done = super::o1ctl(["completions", shell]);
        assert_eq!(done.code, Some(0), "{}", done.err);
        for command in ["status", "drain", "rollback", "--request-id"] {
            assert!(done.out.contains(command.trim_start_matches("--")), "{shell}: {command}");
        }
        assert!(!done.out.contains("ring 0"), "{shell}");
    }
    // A shell takes it.
    let script = super::o1ctl(["completions", "bash"]).out;
    let mut bash = std::process::Command::new("bash");
    let status = bash.args(["-n", "-c", &script]).status().unwrap();
    assert!(status.success());
    assert_eq!(super::o1ctl(["completions", "tcsh"]).code, Some(64));
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let done = super::o1ctl([std::ffi::OsStr::new("man"), pages.as_os_str()]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    for command in leaves(&Args::command(), "") {
        let name = format!("o1ctl-{}.1", command.replace(' ', "-"));
        let page = fs::read_to_string(pages.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(".TH"), "{name}");
    }
    assert!(!pages.join("o1ctl-tether.1").exists(), "what is hidden has no page");
    let in_the_way = dir.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let done = super::o1ctl([std::ffi::OsStr::new("man"), in_the_way.as_os_str()]);
    assert!(done.code == Some(1) && done.err.contains("cannot write to"), "{done:?}");
}

#[test]
fn the_doctor_needs_nothing_to_run_and_fails_for_what_does_not_work() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("only1.yaml");
    fs::write(&config, "upstreams: {a: {primary: [{url: 'http://127.0.0.1:1/mcp'}]}}\n").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let run = |control: &str| {
        let mut command = super::program();
        command.arg("doctor").arg("--json").arg("--config").arg(&config).arg("--state-dir").arg(dir.path());
        command.args(["--port", &free]);
        command.args(["--control", control]);
        let done = super::done(&mut command);
        let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        let of = |check: &str| -> Vec<(String, String)> {
            let all = report["checks"].as_array().unwrap().iter().filter(|one| one["check"] == check);
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            all.map(|one| (text(&one["state"]), text(&one["what"]))).collect()
        };
        assert_eq!(of("config")[0].0, "ok", "{report}");
        assert_eq!(of("ports"), [("ok".to_owned(), format!("{free} is free (named)"))]);
        assert!(of("state-dir")[0].1.contains("free"), "{report}");
        (done.code, of("control-plane"))
    };
    let (code, control) = run(&taken);
    assert_eq!((code, control[0].0.as_str()), (Some(1), "fail"), "one that was named: {control:?}");
}
