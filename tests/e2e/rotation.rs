//! Credentials of upstreams that change under open sessions.

use crate::config;
use o1_tests::{Answer, Backend, Gateway, Legacy, Modern, until};
use std::{fs, path::Path, time::Duration};

const SOON: Duration = Duration::from_secs(20);
const WATCHED: &str = r#"{"uri":"test://a"}"#;

fn upstream(backend: &Backend, token: &Path) -> String {
    let token = token.display();
    backend.upstream("only") + &format!("    headers: {{x-token: \"file:{token}\"}}\n")
}

/// A server with a resource to subscribe to.
async fn watchable() -> Backend {
    let backend = Backend::start().await;
    backend
        .answer("resources/list", Answer::Result(r#"{"resources":[{"uri":"test://a","name":"a"}]}"#.into()));
    backend.answer("resources/subscribe", Answer::Result("{}".into()));
    backend
}

/// Waits until the server has seen a request of this method under the new credential.
async fn seen(backend: &Backend, method: &str, wanted: impl Fn(&str) -> bool) {
    until(&format!("{method} under the new credential"), SOON, || async {
        let all = backend.received_of(method);
        all.iter().any(|one| one.header("x-token") == "two" && wanted(&one.body)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_subscriptions_outlive_a_rotated_credential() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "one").unwrap();
    let backend = watchable().await;
    let gateway = Gateway::start(&config([upstream(&backend, &token)])).await;
    let (direct, shared) =
        (Legacy::open(gateway.address(), "/u/only/mcp").await, Legacy::open(gateway.address(), "/mcp").await);
    for client in [&direct, &shared] {
        assert_eq!(client.request("resources/subscribe", WATCHED).await.status, 200);
    }
    let _stream = shared.listen().await;
    let modern = Modern::new(gateway.address(), "/mcp");
    let params = r#"{"notifications":{"resourceSubscriptions":["test://a"]}}"#;
    let mut subscribed = modern.stream("subscriptions/listen", params).await;
    subscribed.notification("notifications/subscriptions/acknowledged", SOON).await;

    fs::write(&token, "two").unwrap();
    let names = |body: &str| body.contains("test://a");
    // What the clients subscribed to is subscribed to under the new credential, and they need not do anything.
    seen(&backend, "resources/subscribe", names).await;
    seen(&backend, "subscriptions/listen", names).await;
    let updated =
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"test://a"}}"#;
    tokio::select! {
        _ = subscribed.notification("notifications/resources/updated", SOON) => {}
        () = async {
            loop {
                backend.notify(updated);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        } => {}
    }
    for (client, tool) in [(&direct, "echo"), (&shared, "only__echo")] {
        let reply = client.call(tool, r#"{"n":1}"#).await;
        assert_eq!(reply.result()["structuredContent"]["n"], 1, "{tool}: {}", reply.text());
        assert_eq!(backend.last("tools/call").header("x-token"), "two", "{tool}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_one_upstream_ends_when_that_is_another_one_and_not_when_it_has_other_limits() {
    let (backend, other) = (Backend::start().await, Backend::start().await);
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let client = Legacy::open(gateway.address(), "/u/only/mcp").await;
    let edited = |text: String| {
        gateway.control.edit(&text);
        gateway.control.synced("n1")
    };
    edited(config([backend.upstream("only") + "    timeouts: {idle: 7s}\n"])).await;
    assert_eq!(client.call("echo", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
    edited(config([other.upstream("only")])).await;
    until("the session to be over", SOON, || async {
        let reply = client.call("echo", "{}").await;
        (reply.status == 404).then_some(())
    })
    .await;
    assert!(other.received_of("tools/call").is_empty(), "another server never hears of it");
}
