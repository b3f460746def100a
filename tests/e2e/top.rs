//! `o1ctl top` in a real terminal: keys, sizes, a failover, a control plane that goes away, and a terminal that is as
//! it was afterwards.

use crate::{config, inspect::o1ctl};
use o1_tests::{
    Backend, Gateway, Legacy, Tmux,
    backend::Answer,
    binaries::{binary, root},
    until_true,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{fs, path::Path, time::Duration};
use tokio::task::JoinSet;

/// Nodes notice within a second, the primary is back soon after, and one tool is answered from the cache.
const QUICK: &str = "    health: {every: 500ms, timeout: 300ms, unhealthy: 2}\n    \
                     breaker: {failures: 3, open: 1s, open_max: 2s}\n    \
                     failover: {writes: pass_through, min_hold: 2s, stable: 1s}\n    \
                     cache: {tools: {stations: 2s}}\n";

struct Stage {
    /// Clients that call all the while; they end first.
    _calls: JoinSet<()>,
    terminal: Tmux,
    gateway: Gateway,
    primary: Backend,
    _backup: Backend,
}

impl Stage {
    /// An upstream with a backup that is called all the while, and one that is a process and says something.
    async fn set() -> Self {
        let (primary, backup) = (Backend::start().await, Backend::start().await);
        for store in [&primary, &backup] {
            store.tool("forecast", Answer::text("rain"));
            store.tool("stations", Answer::text("Bern, Chur"));
        }
        let server = env!("CARGO_BIN_EXE_o1-test-server");
        let files = format!(
            "  files:\n    primary:\n      - command: [sh, -c, \"echo reading /srv/docs >&2; exec {server}\"]\n"
        );
        let weather =
            format!("{}    backup:\n      - url: {}\n{QUICK}", primary.upstream("weather"), backup.url());
        let gateway = Gateway::start(&config([files, weather])).await;
        let mut calls = JoinSet::new();
        let address = gateway.address();
        calls.spawn(async move {
            let files = Legacy::open(address, "/u/files/mcp").await;
            files.call("echo", r#"{"n":1}"#).await;
            let weather = Legacy::open(address, "/u/weather/mcp").await;
            loop {
                weather.call("forecast", r#"{"city":"Bern"}"#).await;
                weather.call("stations", "{}").await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let terminal = Tmux::start(100, 30).await;
        Self { _calls: calls, terminal, gateway, primary, _backup: backup }
    }

    /// What one types to see the fleet.
    fn command(&self) -> String {
        format!("{} --control http://{} top", binary("o1ctl").display(), self.gateway.control.listen)
    }

    async fn open(&self) {
        self.terminal.type_in(&self.command());
        self.terminal.press(&["Enter"]);
        self.terminal.until_shown(&["[1 overview]", "q quit"]).await;
    }

    /// The shell has the terminal again, and it is as shells want it.
    async fn is_given_back(&self) {
        self.terminal.until_screen("the prompt", |screen| screen.trim_end().ends_with("ready>")).await;
        assert!(!self.terminal.is_taken(), "{}", self.terminal.screen());
        let modes = self.terminal.run("stty -a").await;
        for mode in ["icanon", "echo", "isig", "icrnl", "opost"] {
            assert!(modes.split([' ', ';', '\n']).any(|one| one == mode), "{mode}:\n{modes}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_is_a_key_away_and_the_terminal_is_as_it_was_afterwards() {
    let stage = Stage::set().await;
    let terminal = &stage.terminal;
    stage.open().await;
    // Two reports of the node: rates are measured.
    terminal
        .until_screen("rates", |screen| {
            let row = screen.lines().find(|line| line.contains("weather   ✅ primary"));
            row.is_some_and(|row| row.contains("ms")) && screen.contains('█')
        })
        .await;
    terminal.press(&["Down", "2"]);
    terminal.until_shown(&["[2 upstreams]", "▸ weather", "endpoint http://127.0.0.1:"]).await;
    terminal.press(&["3"]);
    terminal.until_shown(&["[3 requests]", "nodes wrote down", "weather", "tools/call", "ok"]).await;
    terminal.press(&["4"]);
    terminal.until_shown(&["[4 cache]", "by UPSTREAM, A to Z", "▸ weather   tools"]).await;
    terminal.press(&["Tab"]);
    terminal.until_shown(&["[5 events]", "the node started"]).await;
    terminal.press(&["6"]);
    terminal.until_shown(&["stderr of weather", "a server behind a URL keeps its own log"]).await;
    terminal.press(&["Left"]);
    terminal.until_shown(&["stderr of files", "reading /srv/docs"]).await;
    terminal.press(&["?"]);
    terminal.until_shown(&["any key closes it"]).await;
    terminal.press(&["BTab"]);
    terminal.until_screen("no help", |screen| !screen.contains("any key closes it")).await;

    terminal.press(&["2", "s", "s", "s"]);
    terminal.until_shown(&["by SINCE, newest first"]).await;
    terminal.press(&["S"]);
    terminal.until_shown(&["by SINCE, oldest first"]).await;
    terminal.type_in("/wea");
    terminal.press(&["Enter"]);
    terminal
        .until_screen("the filter", |screen| {
            screen.contains("2 upstreams, 1 with `wea`") && !screen.contains("  files ")
        })
        .await;
    terminal.press(&["Escape"]);
    terminal.until_shown(&["  files "]).await;
    terminal.press(&["p"]);
    terminal.until_shown(&["PAUSED"]).await;
    terminal.press(&["Space"]);
    terminal.until_screen("it goes on", |screen| !screen.contains("PAUSED")).await;

    for (columns, rows, shown) in
        [(140, 40, "LAST BACKUP SYNC"), (20, 5, "[2 upstreams]"), (1, 1, ""), (80, 24, "q quit")]
    {
        terminal.resize(columns, rows);
        terminal.until_shown(&[shown]).await;
    }
    // Everything but what ends it, stops it or begins a longer sequence, many times over.
    let harmless = |byte: &u8| !b"q\x03\x1a\x1b".contains(byte);
    let garbage: Vec<u8> = (0..=255).filter(harmless).cycle().take(20_000).collect();
    terminal.paste(&garbage);
    terminal.press(&["C-c"]);
    stage.is_given_back().await;
    assert!(terminal.run("echo ended with $?").await.contains("ended with 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_seen_and_so_is_a_control_plane_that_goes_away_and_comes_back() {
    let mut stage = Stage::set().await;
    stage.open().await;
    stage.terminal.until_shown(&["✅ healthy", if is_report() { "in 1m" } else { "in " }]).await;
    stage.primary.stop().await;
    let overview = stage.terminal.until_shown(&["failover active", "backup  "]).await;
    stage.terminal.press(&["Down", "2"]);
    let upstreams = stage.terminal.until_shown(&["Primary unhealthy: ", "More: o1ctl explain weather"]).await;
    stage.terminal.press(&["5"]);
    stage.terminal.until_shown(&["weather: failed over to the backup"]).await;

    stage.gateway.control.process.kill();
    stage.terminal.until_shown(&["STALE since", "connection refused; trying again"]).await;
    stage.terminal.until_shown(&["weather: failed over to the backup"]).await;
    stage.terminal.press(&["1"]);
    stage.terminal.until_shown(&["[1 overview]", "STALE since", "weather"]).await;
    stage.primary.resume().await;
    stage.gateway.control.restart().await;
    stage
        .terminal
        .until_screen("a picture of now", |screen| !screen.contains("STALE") && screen.contains("✅ primary"))
        .await;
    stage.terminal.press(&["5"]);
    let events = stage.terminal.until_shown(&["weather: restored the primary"]).await;
    stage.terminal.press(&["4"]);
    let cache = stage.terminal.until_shown(&["[4 cache]", "▸ weather   tools"]).await;
    stage.terminal.press(&["3"]);
    let requests = stage.terminal.until_shown(&["[3 requests]", "weather", "tools/call", "primary"]).await;
    stage.terminal.press(&["6", "Left"]);
    let logs = stage.terminal.until_shown(&["stderr of files", "reading /srv/docs"]).await;
    stage.terminal.press(&["C-c"]);
    stage.is_given_back().await;
    report(&[
        ("1 overview", overview),
        ("2 upstreams", upstreams),
        ("3 requests", requests),
        ("4 cache", cache),
        ("5 events", events),
        ("6 logs", logs),
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_and_job_control_leave_the_terminal_as_it_was() {
    let stage = Stage::set().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    for signal in [Signal::TERM, Signal::HUP, Signal::QUIT, Signal::INT] {
        let pid = opened_as(&stage, &file).await;
        kill_process(pid, signal).unwrap();
        stage.is_given_back().await;
        assert!(stage.terminal.run("echo ended with $?").await.contains("ended with 0"), "{signal:?}");
    }
    let pid = opened_as(&stage, &file).await;
    stage.terminal.press(&["C-z"]);
    stage.is_given_back().await;
    stage.terminal.type_in("fg");
    stage.terminal.press(&["Enter"]);
    stage.terminal.until_shown(&["[1 overview]", "q quit"]).await;
    kill_process(pid, Signal::TSTP).unwrap();
    stage.is_given_back().await;
    stage.terminal.type_in("fg");
    stage.terminal.press(&["Enter"]);
    stage.terminal.until_shown(&["[1 overview]", "q quit"]).await;
    stage.terminal.press(&["q"]);
    stage.is_given_back().await;
}

/// Opens it from a shell that tells its process id and becomes it.
async fn opened_as(stage: &Stage, file: &Path) -> Pid {
    let _ = fs::remove_file(file);
    stage.terminal.type_in(&format!("sh -c 'echo $$ >{}; exec {}'", file.display(), stage.command()));
    stage.terminal.press(&["Enter"]);
    stage.terminal.until_shown(&["[1 overview]", "q quit"]).await;
    let pid = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    Pid::from_raw(pid).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_colour_nothing_is_coloured_and_without_a_terminal_it_says_what_to_do() {
    let stage = Stage::set().await;
    let terminal = &stage.terminal;
    for (before, colour) in [("", true), ("NO_COLOR=1 ", false)] {
        terminal.type_in(&format!("{before}{}", stage.command()));
        terminal.press(&["Enter"]);
        terminal.until_shown(&["[1 overview]", "✅ healthy", "q quit"]).await;
        assert_eq!(terminal.is_coloured(), colour, "{before}");
        terminal.press(&["q"]);
        stage.is_given_back().await;
    }
    let run = o1ctl(stage.gateway.control.listen, &["top"]).await;
    assert_eq!((run.code, run.out.as_str()), (64, ""));
    assert!(run.err.contains("needs a terminal") && run.err.contains("o1ctl status --watch"), "{}", run.err);
    let said = terminal.run(&format!("{} --control http://127.0.0.1:1 top", binary("o1ctl").display())).await;
    assert!(said.contains("nothing listens at http://127.0.0.1:1"), "before the terminal is taken: {said}");
    until_true("nothing is left on the screen", Duration::from_secs(10), || async { !terminal.is_taken() })
        .await;
}

const BEGIN: &str = "<!-- pictures -->\n";
const END: &str = "<!-- end of pictures -->";

/// Whether it takes the pictures of `docs/top.md`, which says how.
fn is_report() -> bool {
    std::env::var_os("O1_REPORT").is_some()
}

fn report(pictures: &[(&str, String)]) {
    if !is_report() {
        return;
    }
    let path = root().join("docs/top.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for pictures");
    let (_, after) = rest.split_once(END).expect("and an end of it");
    let picture = |(name, screen): &(&str, String)| {
        let lines: Vec<_> = screen.lines().map(str::trim_end).collect();
        format!("## {name}\n\n```text\n{}\n```\n\n", lines.join("\n").trim_end())
    };
    let pictures: String = pictures.iter().map(picture).collect();
    fs::write(path, format!("{before}{BEGIN}\n{pictures}{END}{after}")).unwrap();
}
