//! What people ask of nodes through the control plane: `o1ctl tools`, `explain`, `logs`.

use crate::config;
use o1_tests::{
    Answer, Backend, ControlPlane, DataPlane, Gateway, Process, binaries::binary, until, wait::in_time,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};

const SOON: Duration = Duration::from_secs(20);

/// What a command prints, and how it ends.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) async fn o1ctl(control: SocketAddr, arguments: &[&str]) -> Run {
    let run = tokio::process::Command::new(binary("o1ctl"))
        .args(arguments)
        .args(["--control", &format!("http://{control}")])
        .env("TZ", "UTC")
        .kill_on_drop(true)
        .output();
    let output = in_time(&format!("o1ctl {arguments:?}"), SOON, run).await.unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A process that says this on stderr when it starts.
fn talkative(word: &str) -> String {
    let server = env!("CARGO_BIN_EXE_o1-test-server");
    format!("  files:\n    primary:\n      - command: [sh, -c, \"echo {word} starts >&2; exec {server}\"]\n")
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_those_of_every_node_and_say_whose_they_are() {
    let backend = Backend::start().await;
    let document = config([talkative("the server"), backend.upstream("web")]);
    let control = ControlPlane::start(&document).await;
    let nodes = [DataPlane::start(control.listen, "n1").await, DataPlane::start(control.listen, "n2").await];
    for node in &nodes {
        control.synced(&node.node_id).await;
        let client = o1_tests::Legacy::open(node.listen, "/u/files/mcp").await;
        assert_eq!(client.request("tools/list", "{}").await.status, 200);
    }
    let found = until("a line of each node", SOON, || async {
        let run = o1ctl(control.listen, &["logs", "files", "--json"]).await;
        let lines = lines(&run.out);
        let from = |id: &str| lines.iter().any(|line| line["node_id"] == id);
        (run.code == 0 && from("n1") && from("n2")).then_some(lines)
    })
    .await;
    for line in &found {
        assert_eq!(line["text"], "the server starts");
        assert!(line["pid"].as_u64().unwrap() > 1 && line["at"].is_string(), "{line}");
    }
    let one = o1ctl(control.listen, &["logs", "files", "--node", "n2"]).await;
    assert_eq!(one.code, 0, "{}", one.err);
    assert!(one.out.contains(" n2 [") && !one.out.contains(" n1 ["), "{}", one.out);
    let none = o1ctl(control.listen, &["logs", "files", "--tail", "0"]).await;
    assert_eq!((none.code, none.out.as_str()), (0, ""));

    for (arguments, code, said) in [
        (&["logs", "web"][..], 1, "upstream `web` is reached over HTTP"),
        (&["logs", "fils"], 64, "no upstream `fils`; there are: files, web"),
        (&["logs", "files", "--node", "n9"], 64, "no node `n9`; there are: n1, n2"),
    ] {
        let run = o1ctl(control.listen, arguments).await;
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{arguments:?}: {}", run.err);
        assert!(run.err.contains(said), "{arguments:?}: {}", run.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_goes_on_until_it_is_interrupted_and_says_when_its_node_is_gone() {
    let document = config([talkative("a")]);
    let control = ControlPlane::start(&document).await;
    let mut node = DataPlane::start(control.listen, "n1").await;
    control.synced("n1").await;
    let follow = || {
        Process::start("o1ctl logs", &binary("o1ctl"), |command| {
            command.args(["logs", "files", "--follow", "--tail", "0", "--control"]);
            command.arg(format!("http://{}", control.listen));
        })
    };
    let (mut one, mut two) = (follow(), follow());
    let client = o1_tests::Legacy::open(node.listen, "/u/files/mcp").await;
    let mut spoken = 0;
    // The first lines may come before the log is followed.
    until("a new line for both", SOON, || {
        spoken += 1;
        let said = |log: &o1_tests::process::Log| log.find(|line| line.contains("] word ").then_some(()));
        let both = said(&one.stdout).and(said(&two.stdout));
        let (client, word) = (&client, format!(r#"{{"line":"word {spoken}"}}"#));
        async move {
            assert_eq!(client.call("log", &word).await.error_code(), None);
            both
        }
    })
    .await;
    one.signal(Signal::INT);
    assert_eq!(one.exit(SOON).await.code(), Some(0));
    node.process.kill();
    assert_eq!(two.exit(SOON).await.code(), Some(1));
    assert!(two.stderr.text().contains("went away"), "{}", two.stderr.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_lists_what_clients_see_and_explain_says_why_they_do_not() {
    let (mut a, b) = (Backend::start().await, Backend::start().await);
    a.tool("rm_all", Answer::text("gone"));
    b.tool("read", Answer::text("read"));
    let hash = ring::digest::digest(&ring::digest::SHA256, b"t");
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let document = format!(
        "{}servers:\n  coding: {{upstreams: [a, b], tools: {{allow: [\"*\"], deny: [\"rm_*\"]}}}}\nclients:\n  \
         auth:\n    tokens:\n      - {{name: ci, sha256: {hash}, upstreams: [b]}}\n",
        config([a.upstream("a"), b.upstream("b")])
    );
    let gateway = Gateway::start(&document).await;
    let control = gateway.control.listen;
    let tools = async |arguments: &[&str]| {
        let run = o1ctl(control, &[&["tools", "--json"], arguments].concat()).await;
        let report: Value = serde_json::from_str(&run.out).unwrap_or_else(|_| panic!("{}", run.err));
        report
    };
    let names = |report: &Value| {
        let tools = report["tools"].as_array().unwrap().iter();
        let mut names: Vec<_> = tools.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    until("every tool", SOON, || async {
        (names(&tools(&[]).await) == ["a__echo", "a__rm_all", "b__echo", "b__read"]).then_some(())
    })
    .await;
    let coding = tools(&["--server", "coding"]).await;
    assert_eq!(names(&coding), ["a__echo", "b__echo", "b__read"]);
    assert_eq!(
        (&coding["route"], &coding["listed"], &coding["hidden"]),
        (&json!("/mcp/coding"), &json!(3), &json!(1))
    );
    let all = tools(&["--server", "coding", "--all"]).await;
    let denied = all["tools"].as_array().unwrap().iter().find(|tool| tool["own_name"] == "rm_all").unwrap();
    assert_eq!((&denied["state"], &denied["pattern"]), (&json!("denied"), &json!("rm_*")));
    let page = o1ctl(control, &["tools", "--server", "coding"]).await;
    assert!(page.out.contains("1 hidden (--all shows them)") && page.code == 0, "{}", page.out);

    for (arguments, code, said) in [
        (&["explain", "a__echo"][..], 0, "calls go to `echo` of a"),
        (
            &["explain", "rm_all", "--server", "coding"],
            1,
            "the pattern `rm_*` in `tools.deny` of coding denies it",
        ),
        (&["explain", "a__echo", "--principal", "ci"], 1, "neither listed nor callable for `ci`"),
        (&["explain", "b__echo", "--principal", "ci"], 0, "calls go to `echo` of b"),
        (&["explain", "a__ecko"], 1, "did you mean `a__echo`"),
    ] {
        let run = o1ctl(control, arguments).await;
        assert_eq!(run.code, code, "{arguments:?}: {}{}", run.out, run.err);
        assert!(run.out.contains(said), "{arguments:?}: {}{}", run.out, run.err);
    }
    for (arguments, said) in [
        (&["tools", "--server", "codin"][..], "no server `codin`"),
        (&["tools", "--node", "n7"], "no node `n7`; there are: n1"),
        (&["explain", "x", "--principal", "nobody"], "no token `nobody`; there are: ci"),
    ] {
        let run = o1ctl(control, arguments).await;
        assert_eq!((run.code, run.out.as_str()), (64, ""), "{arguments:?}: {}", run.err);
        assert!(run.err.contains(said), "{arguments:?}: {}", run.err);
    }
    // A dead upstream's tools stay listed, and explain says what a call would get.
    a.stop().await;
    until("unreachable", Duration::from_secs(60), || async {
        let run = o1ctl(control, &["explain", "a__echo"]).await;
        (run.code == 1 && run.out.contains("a does not answer")).then_some(())
    })
    .await;
}
