//! Changes through the API and how they reach real nodes: in waves, and back when one refuses.

use crate::config;
use o1_tests::{Backend, ControlPlane, DataPlane, Modern, planes::Options, until};
use serde_json::Value;
use std::{process::Output, time::Duration};
use tokio::time::{Instant, sleep};

const SOON: Duration = Duration::from_secs(20);
/// An upstream that only nodes with this variable can serve.
const NEEDS: &str = "    headers: {Authorization: \"env:O1_TEST_TOKEN\"}\n";

/// A control plane without a file, and nodes n1, n2, … of which those named cannot run what needs the variable.
async fn fleet(document: &str, nodes: usize, unable: &[usize]) -> (ControlPlane, Vec<DataPlane>) {
    let control = ControlPlane::start_without_file(document).await;
    let mut started = Vec::new();
    for number in 1..=nodes {
        let able = [("O1_TEST_TOKEN".to_owned(), "x".to_owned())];
        let environment = if unable.contains(&number) { Vec::new() } else { able.to_vec() };
        let options = Options { environment, not_ready: true, ..Options::default() };
        started.push(DataPlane::start_with(control.listen, &format!("n{number}"), options).await);
    }
    for number in 1..=nodes {
        control.synced(&format!("n{number}")).await;
    }
    (control, started)
}

/// `o1ctl config apply` of a document that is written to the file first.
async fn apply(control: &ControlPlane, document: &str, more: &[&str]) -> Output {
    control.edit(document);
    let file = control.config();
    let arguments = [&["config", "apply", file.to_str().unwrap()], more].concat();
    control.o1ctl_ends(&arguments).await
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn done(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
    for word in words {
        assert!(text(output).contains(word), "`{word}` is not in: {}", text(output));
    }
}

async fn history(control: &ControlPlane) -> Vec<Value> {
    control.o1ctl(&["config", "history"]).await["revisions"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_on_the_nodes_and_can_be_taken_back() {
    let backend = Backend::start().await;
    let (one, two) =
        (config([backend.upstream("a")]), config([backend.upstream("a"), backend.upstream("b")]));
    let (mut control, nodes) = fleet(&one, 1, &[]).await;
    assert!(Modern::new(nodes[0].listen, "/mcp").tools().await.is_empty(), "nothing is configured");
    let began = Instant::now();
    done(
        &apply(&control, &one, &["--wait", "--comment", "the first"]).await,
        0,
        &["1.2", "+ upstream a", "1 of 1"],
    );
    println!("applied, with one node, after {:?}", began.elapsed());
    assert_eq!(Modern::new(nodes[0].listen, "/mcp").tools().await, ["a__echo"]);

    // Versions and requests.
    done(&apply(&control, &two, &["--expect", "1.1"]).await, 1, &["1.2 runs by now", "--expect"]);
    done(&apply(&control, &two, &["--dry-run"]).await, 0, &["nothing was done", "+ upstream b"]);
    done(&apply(&control, "upstreams: {a: {primry: []}}\n", &[]).await, 1, &["primry", "did you mean"]);
    assert_eq!(history(&control).await.len(), 2);
    for more in [&["--expect", "1.2"][..], &[]] {
        let named = [&["--request-id", "same", "--wait"], more].concat();
        done(&apply(&control, &two, &named).await, 0, &["1.3"]);
    }
    control.restart().await;
    done(&apply(&control, &two, &["--request-id", "same"]).await, 0, &["1.3", "came before"]);
    done(&apply(&control, &one, &["--request-id", "same"]).await, 64, &["another change"]);
    assert_eq!(history(&control).await.len(), 3, "one request, one revision");
    control.synced("n1").await;
    assert_eq!(Modern::new(nodes[0].listen, "/mcp").tools().await.len(), 2);

    // What differs, and back.
    let file = control.config();
    let diff = ["config", "diff", file.to_str().unwrap()];
    control.edit(&two);
    done(&control.o1ctl_ends(&diff).await, 0, &["nothing differs"]);
    control.edit(&one);
    done(&control.o1ctl_ends(&diff).await, 1, &["-  b:", "running 1.3"]);
    let back = ["config", "rollback", "2", "--reason", "b is slow", "--wait"];
    done(&control.o1ctl_ends(&back).await, 0, &["1.4", "- upstream b", "1 of 1"]);
    assert_eq!(Modern::new(nodes[0].listen, "/mcp").tools().await, ["a__echo"]);
    let newest = history(&control).await.remove(0);
    assert_eq!((&newest["rollback_of"], &newest["comment"]), (&2.into(), &"b is slow".into()), "{newest}");
    assert!(newest["actor"].as_str().unwrap().starts_with("127.0.0.1:"), "{newest}");
    done(&control.o1ctl_ends(&["config", "show"]).await, 0, &["upstreams:", "b is slow"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_stops_the_wave_and_the_rest_never_see_it() {
    let backend = Backend::start().await;
    let good = config([backend.upstream("a")]);
    let (control, nodes) = fleet(&good, 3, &[2]).await;
    done(&apply(&control, &good, &["--wait"]).await, 0, &["3 of 3"]);
    let bad = config([backend.upstream("a") + NEEDS, backend.upstream("b")]);
    let output = apply(&control, &bad, &["--wait", "--json"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let waited = &answer["waited"];
    assert_eq!((&waited["state"], &waited["applied"]), (&"rolled_back".into(), &3.into()), "{answer}");
    assert_eq!(waited["rolled_back_to"]["revision"], 4, "{answer}");
    assert_eq!(waited["refused"][0]["node_id"], "n2", "{answer}");
    assert!(waited["refused"][0].to_string().contains("O1_TEST_TOKEN"), "{answer}");
    for node in &nodes {
        assert_eq!(Modern::new(node.listen, "/mcp").tools().await, ["a__echo"], "{}", node.node_id);
    }
    let applied = |node: &DataPlane| node.process.stderr.text().matches("revision=3").count();
    assert!(applied(&nodes[0]) > 0, "the first took it");
    assert_eq!(applied(&nodes[2]), 0, "the third never saw it");
    let status = control.o1ctl(&["status"]).await;
    let rollout = &status["control_plane"]["rollout"];
    assert_eq!((&rollout["state"], &rollout["revision"]), (&"rolled_back".into(), &3.into()), "{status}");
    assert!(rollout["because"].as_str().unwrap().contains("`n2` refused it"), "{status}");
    assert_eq!(status["nodes"]["synced"], 3, "{status}");
    // The next good one is no worse for it.
    let good = config([backend.upstream("a"), backend.upstream("c")]);
    done(&apply(&control, &good, &["--wait"]).await, 0, &["1.5", "3 of 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_away_are_not_waited_for_and_get_it_later() {
    let backend = Backend::start().await;
    let (control, mut nodes) = fleet(&config([backend.upstream("a")]), 2, &[]).await;
    nodes[1].process.signal(rustix::process::Signal::TERM);
    nodes[1].process.exit(SOON).await;
    let began = Instant::now();
    done(&apply(&control, &config([backend.upstream("b")]), &["--wait"]).await, 0, &["1 of 1"]);
    assert!(began.elapsed() < Duration::from_secs(10));
    nodes[1].restart().await;
    control.synced("n2").await;
    assert_eq!(Modern::new(nodes[1].listen, "/mcp").tools().await, ["b__echo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_the_owner_and_says_so() {
    let backend = Backend::start().await;
    let text = config([backend.upstream("a")]);
    let control = ControlPlane::start(&text).await;
    let file = control.config();
    let file = file.to_str().unwrap();
    let _node = DataPlane::start(control.listen, "n1").await;
    control.synced("n1").await;
    done(&control.o1ctl_ends(&["config", "apply", file]).await, 1, &[file, "without --config"]);
    let back = ["config", "rollback", "1", "--reason", "x"];
    done(&control.o1ctl_ends(&back).await, 1, &[file, "without --config"]);
    assert_eq!(history(&control).await.len(), 1);
    control.edit(&config([backend.upstream("a"), backend.upstream("b")]));
    until("the edit", SOON, || async { (history(&control).await.len() == 2).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_killed_in_the_middle_ends_what_it_began() {
    let backend = Backend::start().await;
    let good = config([backend.upstream("a")]);
    let (mut control, nodes) = fleet(&good, 3, &[3]).await;
    done(&apply(&control, &good, &["--wait"]).await, 0, &["3 of 3"]);
    // The second node hangs, so that the rollout stops at it; the third would refuse.
    nodes[1].process.signal(rustix::process::Signal::STOP);
    let bad = config([backend.upstream("a") + NEEDS, backend.upstream("b")]);
    done(&apply(&control, &bad, &[]).await, 0, &["1.3"]);
    until("the first node to run it", SOON, || async {
        (Modern::new(nodes[0].listen, "/mcp").tools().await.len() == 2).then_some(())
    })
    .await;
    control.restart().await;
    let states = async || -> Vec<String> {
        history(&control).await.iter().map(|one| one["rollout"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(states().await[0], "running", "it is not forgotten");
    nodes[1].process.signal(rustix::process::Signal::CONT);
    until("the rollout to be taken back", Duration::from_secs(60), || async {
        (states().await == ["succeeded", "rolled_back", "succeeded", "succeeded"]).then_some(())
    })
    .await;
    for node in &nodes {
        control.synced(&node.node_id).await;
        assert_eq!(Modern::new(node.listen, "/mcp").tools().await, ["a__echo"], "{}", node.node_id);
    }
    sleep(Duration::from_millis(300)).await;
    assert_eq!(states().await.len(), 4, "and that is the end");
}
