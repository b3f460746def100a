//! What modern servers give their clients to come back with, `requestState` and `taskId`: it comes back to the same
//! endpoint, from the same client, and from nobody else.

use crate::config;
use o1_tests::{
    Answer, Backend, Gateway, Http, Reply,
    backend::Era,
    http::member,
    mcp::{borrowed, modern},
};

/// Two callers, by the hash of what they send.
const AUTH: &str = "clients:
  auth:
    tokens:
      - {name: alice, sha256: 965b04f03a8200d4bff70f6df635c1d4d3e9c9a1d164d415efc95b9304bfbaf2}
      - {name: bob, sha256: 0357e24c1cb1874dde0773886097863f71ac666f63fba1e9d4c623b79ffda11f}
";
const ALICE: &str = "alice-token-0123456789";
const BOB: &str = "bob-token-0123456789";
const INVALID_PARAMS: Option<i64> = Some(-32602);

async fn ask(gateway: &Gateway, path: &str, token: &str, method: &str, params: &str) -> Reply {
    let (mut headers, body) = modern(method, params);
    headers.push(("authorization".to_owned(), format!("Bearer {token}")));
    Http::new(gateway.address()).send("POST", path, &borrowed(&headers), body).await
}

fn text(reply: &Reply, key: &str) -> String {
    reply.result()[key].as_str().unwrap_or_else(|| panic!("no {key}: {}", reply.text())).to_owned()
}

/// An endpoint that asks once more, and runs tasks, under its own name.
async fn asking(name: &str) -> Backend {
    let backend = Backend::with(Era::Modern).await;
    let rounds = format!(
        r#"{{"resultType":"input_required","requestState":"state of {name}","inputRequests":{{"k":{{"method":"roots/list"}}}}}}"#
    );
    backend.tool("ask", Answer::Result(rounds));
    let task = format!(
        r#"{{"resultType":"task","taskId":"task of {name}","status":"working","createdAt":"","lastUpdatedAt":"","ttlMs":null}}"#
    );
    backend.tool("work", Answer::Result(task));
    let got = format!(r#"{{"resultType":"complete","taskId":"task of {name}","status":"completed"}}"#);
    backend.answer("tasks/get", Answer::Result(got));
    backend.answer("tools/call taskId", Answer::text("a tool's own"));
    backend
}

async fn gateway(first: &Backend, second: &Backend) -> Gateway {
    let both = format!("  two:\n    primary:\n      - url: {}\n      - url: {}\n", first.url(), second.url());
    Gateway::start(&(config([both]) + AUTH)).await
}

// stacklok/toolhive#6059, #6074
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_reaches_the_endpoint_that_asked_with_the_bytes_it_gave() {
    let (first, second) = (asking("first").await, asking("second").await);
    let gateway = gateway(&first, &second).await;
    for (path, prefix) in [("/u/two/mcp", ""), ("/mcp", "two__")] {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..8 {
            let tool = format!(r#"{{"name":"{prefix}ask","arguments":{{}}}}"#);
            let sealed = text(&ask(&gateway, path, ALICE, "tools/call", &tool).await, "requestState");
            assert!(!sealed.contains("state of"), "{path}: {sealed}");
            let retry = format!(
                r#"{{"name":"{prefix}ask","arguments":{{}},"requestState":"{sealed}","inputResponses":{{"k":{{"roots":[]}}}}}}"#
            );
            let before = (first.received_of("tools/call").len(), second.received_of("tools/call").len());
            assert_eq!(ask(&gateway, path, ALICE, "tools/call", &retry).await.status, 200, "{path}");
            let on_first = first.received_of("tools/call").len() > before.0;
            let (backend, name) = if on_first { (&first, "first") } else { (&second, "second") };
            let params = backend.last("tools/call").member("params");
            let expected = format!(r#""state of {name}""#);
            assert_eq!(member(&params, "requestState"), Some(expected), "{path}");
            seen.insert(name);
        }
        assert_eq!(seen.len(), 2, "{path}: both endpoints were asked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_forged_and_misused_handles_are_all_unknown() {
    let (first, second) = (asking("first").await, asking("second").await);
    let gateway = gateway(&first, &second).await;
    for (path, prefix) in [("/u/two/mcp", ""), ("/mcp", "two__")] {
        let call = |tool: &str, state: &str| {
            format!(r#"{{"name":"{prefix}{tool}","arguments":{{}},"requestState":"{state}"}}"#)
        };
        let first_round = format!(r#"{{"name":"{prefix}ask","arguments":{{}}}}"#);
        let state = text(&ask(&gateway, path, ALICE, "tools/call", &first_round).await, "requestState");
        let work = format!(r#"{{"name":"{prefix}work","arguments":{{}}}}"#);
        let task = text(&ask(&gateway, path, ALICE, "tools/call", &work).await, "taskId");
        let sent = || first.received_of("tools/call").len() + second.received_of("tools/call").len();
        let before = sent();
        let mut said = Vec::new();
        for (who, method, params) in [
            (BOB, "tools/call", call("ask", &state)),
            (ALICE, "tools/call", call("work", &state)),
            (ALICE, "tools/call", call("ask", &task)),
            (ALICE, "tools/call", call("ask", "state of first")),
            (ALICE, "tools/call", call("ask", &state[..state.len() - 1])),
        ] {
            said.push(ask(&gateway, path, who, method, &params).await);
        }
        for (who, token) in [(BOB, &*task), (ALICE, &state), (ALICE, "task of first"), (BOB, "nonsense")] {
            said.push(ask(&gateway, path, who, "tasks/get", &format!(r#"{{"taskId":"{token}"}}"#)).await);
        }
        for reply in &said {
            assert_eq!((reply.status, reply.error_code()), (200, INVALID_PARAMS), "{path}: {}", reply.text());
        }
        for same in [&said[..5], &said[5..]] {
            assert!(same.iter().all(|reply| reply.text() == same[0].text()), "{path}: told apart");
        }
        assert_eq!(sent(), before, "{path}: none of them reached a server");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_keeps_its_name_towards_the_client_and_its_own_towards_the_server() {
    let (first, second) = (asking("first").await, asking("second").await);
    let gateway = gateway(&first, &second).await;
    for (path, prefix) in [("/u/two/mcp", ""), ("/mcp", "two__")] {
        let work = format!(r#"{{"name":"{prefix}work","arguments":{{}}}}"#);
        for _ in 0..4 {
            let task = text(&ask(&gateway, path, ALICE, "tools/call", &work).await, "taskId");
            let got = ask(&gateway, path, ALICE, "tasks/get", &format!(r#"{{"taskId":"{task}"}}"#)).await;
            assert_eq!(text(&got, "taskId"), task, "{path}: a client compares ids");
        }
        for backend in [&first, &second] {
            for asked in backend.received_of("tasks/get") {
                let own = member(&asked.member("params"), "taskId").unwrap();
                assert_eq!(format!("\"{}\"", asked.header("mcp-name")), own, "{path}");
                assert!(own.contains("task of"), "{path}: {own}");
            }
        }
    }
    assert!(first.received_of("tasks/get").len() >= 2 && second.received_of("tasks/get").len() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_callers_to_tell_apart_and_with_one_endpoint_the_bytes_pass() {
    let backend = asking("only").await;
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let first = o1_tests::Modern::new(gateway.address(), "/u/only/mcp").call("ask", "{}").await;
    assert_eq!(text(&first, "requestState"), "state of only");
    let sealed = o1_tests::Modern::new(gateway.address(), "/mcp").call("only__ask", "{}").await;
    assert_ne!(text(&sealed, "requestState"), "state of only");
}
