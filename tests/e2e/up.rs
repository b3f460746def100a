//! `o1ctl up` as a newcomer meets it: one command, a client that works, an end that leaves nothing.

use o1_tests::{
    Legacy, Modern, Process, Tmux,
    binaries::{binary, root},
    process::is_alive,
    until,
};
use rustix::process::Signal;
use std::{fs, net::SocketAddr, time::Duration};

const START: Duration = Duration::from_secs(40);

/// Starts it on free ports; the address for clients that it prints.
async fn up(more: &[&str], home: &std::path::Path) -> (Process, SocketAddr) {
    let process = Process::start("o1ctl up", &binary("o1ctl"), |command| {
        command.args(["up", "--listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0"]).args(more);
        command.env("HOME", home).env_remove("XDG_STATE_HOME");
    });
    until("the last line of the welcome", START, || async {
        process.stdout.find(|line| line.starts_with("Ctrl-C stops").then_some(()))
    })
    .await;
    let pasted = process.stdout.find(|line| serde_json::from_str::<serde_json::Value>(line.trim()).ok());
    let pasted = pasted.expect("a client configuration to paste");
    let url = pasted["mcpServers"]["only1"]["url"].as_str().unwrap();
    let address = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/mcp")).unwrap();
    (process, address.parse().unwrap())
}

/// Ctrl-C: it ends well, and with it everything that it started.
async fn stops_cleanly(mut process: Process) {
    let children = process.descendants();
    assert!(children.len() >= 2, "both planes are its children: {children:?}");
    process.signal(Signal::INT);
    let status = process.exit(Duration::from_secs(40)).await;
    assert!(status.success(), "{status}");
    for child in children {
        assert!(!is_alive(child), "process {child} was left behind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_serves_both_eras_from_one_command() {
    let home = tempfile::tempdir().unwrap();
    let (process, address) = up(&[], home.path()).await;
    let client = Legacy::open(address, "/mcp").await;
    let tools = client.tools().await;
    assert!(!tools.is_empty() && tools.iter().all(|tool| tool.contains("__")), "{tools:?}");
    let modern = Modern::new(address, "/mcp");
    assert_eq!(modern.tools().await, tools);
    stops_cleanly(process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_of_ones_own_is_served_and_its_processes_end_with_it() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("only1.yaml");
    let program = env!("CARGO_BIN_EXE_o1-test-server");
    std::fs::write(&config, format!("upstreams: {{own: {{primary: [{{command: [{program}]}}]}}}}\n"))
        .unwrap();
    let (process, address) = up(&["--config", config.to_str().unwrap()], home.path()).await;
    let client = Legacy::open(address, "/mcp").await;
    let reply = client.call("own__echo", r#"{"n":1.10}"#).await;
    assert!(reply.result_bytes().contains(r#"{"n":1.10}"#), "{}", reply.text());
    stops_cleanly(process).await;
}

/// The rest of the first line that it prints and that goes on like this, without leading blanks.
fn printed(process: &Process, begin: &str) -> String {
    let line = process.stdout.find(|line| line.split_once(begin).map(|(_, rest)| rest.to_owned()));
    line.unwrap_or_else(|| panic!("no `{begin}` in: {}", process.stdout.text()))
}

/// What the welcome says can be seen, done line by line as it says; with `O1_REPORT=1` README.md shows the terminal.
#[tokio::test(flavor = "multi_thread")]
async fn the_failover_of_the_welcome_can_be_seen() {
    let home = tempfile::tempdir().unwrap();
    let (process, address) = up(&[], home.path()).await;
    let terminal = Tmux::start(120, 24).await;
    let programs = binary("o1ctl").parent().unwrap().display().to_string();
    let control = printed(&process, "control plane  ");
    terminal.run(&format!("export PATH={programs}:$PATH O1_CONTROL={control}")).await;
    let _calls = Process::start("sample-calls", &binary("o1ctl"), |command| {
        command.args(["sample-calls", &format!("http://{address}/mcp")]);
    });
    // Two reports of the node: what is measured is shown.
    let healthy = shown(&terminal, "o1ctl status", &["✅ primary", "ms"]).await;
    let kill = format!("kill {}", printed(&process, "  kill "));
    terminal.run(&kill).await;
    let backup =
        shown(&terminal, "o1ctl status", &["⚠️", "Primary unhealthy", "Restored by itself once"]).await;
    let again = format!("o1ctl sample-server{}", printed(&process, "o1ctl sample-server"));
    terminal.run(&format!("{again} >/dev/null 2>&1 &")).await;
    shown(&terminal, "o1ctl status", &["✅ primary"]).await;
    let events = shown(&terminal, "o1ctl events --upstream sample", &["restored the primary"]).await;
    terminal.run("kill %1").await;
    stops_cleanly(process).await;
    report(&[
        ("o1ctl status", healthy),
        ("kill 4711      # the primary", String::new()),
        ("o1ctl status", backup),
        ("o1ctl events --upstream sample      # once it runs again", events),
    ]);
}

/// What a command prints, as soon as it prints all of this.
async fn shown(terminal: &Tmux, command: &str, wanted: &[&str]) -> String {
    until(&format!("{command} to say {wanted:?}"), START, || async {
        let said = terminal.run(command).await;
        wanted.iter().all(|one| said.contains(one)).then_some(said)
    })
    .await
}

const BEGIN: &str = "<!-- demo -->\n";
const END: &str = "<!-- end of demo -->";

fn report(steps: &[(&str, String)]) {
    if std::env::var_os("O1_REPORT").is_none() {
        return;
    }
    let path = root().join("README.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the demo");
    let (_, after) = rest.split_once(END).expect("and an end of it");
    let step = |(command, said): &(&str, String)| {
        let lines: Vec<_> = said.lines().map(str::trim_end).filter(|line| !line.contains(command)).collect();
        format!("$ {command}\n{}\n", lines.join("\n").trim())
    };
    let text = steps.iter().map(step).collect::<String>().replace("\n\n$", "\n$");
    fs::write(path, format!("{before}{BEGIN}```text\n{}\n```\n{END}{after}", text.trim())).unwrap();
}
