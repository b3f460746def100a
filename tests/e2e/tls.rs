//! Upstreams behind TLS with an authority of their own, and credentials that are rotated while the node runs.

use crate::config;
use o1_tests::{
    Backend, Gateway, Legacy, Modern,
    tls::{Authority, replace},
    until,
};
use std::{path::Path, time::Duration};

const SECONDS: Duration = Duration::from_secs(15);

fn with_tls(backend: &Backend, name: &str, folder: &Path) -> String {
    let folder = folder.display();
    let tls = format!("    tls: {{ca: {folder}/ca.pem, cert: {folder}/cert.pem, key: {folder}/key.pem}}\n");
    backend.upstream(name) + &tls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_its_own_authority_is_reached_over_both_versions_of_http() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    replace(&folder.path().join("ca.pem"), &authority.pem());
    authority.issue().write(folder.path());
    let h1 = Backend::over(authority.server(&["http/1.1"])).await;
    let h2 = Backend::over(authority.server(&["h2", "http/1.1"])).await;
    let untold = Backend::over(authority.server(&["http/1.1"])).await;
    let gateway = Gateway::start(&config([
        with_tls(&h1, "one", folder.path()),
        with_tls(&h2, "two", folder.path()),
        untold.upstream("untold"),
    ]))
    .await;
    for (name, backend, version) in [("one", &h1, "HTTP/1.1"), ("two", &h2, "HTTP/2.0")] {
        for route in [format!("/u/{name}/mcp"), "/mcp".to_owned()] {
            let tool = if route == "/mcp" { format!("{name}__echo") } else { "echo".to_owned() };
            let legacy = Legacy::open(gateway.address(), &route).await;
            let modern = Modern::new(gateway.address(), &route);
            let calls = (0..20).map(|n| {
                let (legacy, tool) = (&legacy, &tool);
                async move { (n, legacy.call(tool, &format!(r#"{{"n":{n}}}"#)).await) }
            });
            for (n, reply) in futures_util::future::join_all(calls).await {
                assert_eq!(reply.result()["structuredContent"]["n"], n, "{route}");
            }
            assert_eq!(modern.call(&tool, "{}").await.status, 200, "{route}");
        }
        assert!(backend.received().iter().all(|one| one.version == version), "{name}");
    }
    // The system's authorities know nothing of this one, and so does the server of the gateway.
    let refused = Modern::new(gateway.address(), "/u/untold/mcp").call("echo", "{}").await;
    assert_eq!(refused.error_code(), Some(-33001), "{}", refused.text());
    assert!(untold.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_missing_or_wrong_refuse_the_configuration_and_name_themselves() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let backend = Backend::over(authority.server(&[])).await;
    let plain = Backend::start().await;
    let gateway = Gateway::start(&config([plain.upstream("plain")])).await;
    replace(&folder.path().join("ca.pem"), "no certificate at all");
    authority.issue().write(folder.path());
    std::fs::remove_file(folder.path().join("key.pem")).unwrap();
    gateway.control.edit(&config([plain.upstream("plain"), with_tls(&backend, "secure", folder.path())]));
    let control = &gateway.control;
    let rejected = |what: &'static str| async move {
        until("the refusal", SECONDS, || async {
            // Every node runs what it ran before, so that none of them has anything to say any more.
            let status = control.o1ctl(&["status"]).await.to_string();
            status.contains(what).then_some(status)
        })
        .await
    };
    let said = rejected("key.pem cannot be read on this node").await;
    assert!(said.contains("tls.key"), "{said}");
    authority.issue().write(folder.path());
    // What was taken back stays so: another text is tried.
    gateway
        .control
        .edit(&(config([plain.upstream("plain"), with_tls(&backend, "secure", folder.path())]) + "\n"));
    gateway.control.edit(&config([
        plain.upstream("plain"),
        with_tls(&backend, "secure", folder.path()) + "    timeouts: {idle: 59s}\n",
    ]));
    let said = rejected("ca.pem holds no certificate in PEM").await;
    assert!(!said.contains("no certificate at all"), "{said}");
    assert_eq!(Modern::new(gateway.address(), "/u/plain/mcp").call("echo", "{}").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_client_certificate_and_authority_take_effect_without_a_restart() {
    let (old, new, folder) = (Authority::new(), Authority::new(), tempfile::tempdir().unwrap());
    replace(&folder.path().join("ca.pem"), &old.pem());
    old.issue().write(folder.path());
    let (first, second) = (Backend::over(old.server(&[])).await, Backend::over(new.server(&[])).await);
    let gateway = Gateway::start(&config([
        with_tls(&first, "first", folder.path()),
        with_tls(&second, "second", folder.path()),
    ]))
    .await;
    let call = |name: &str| {
        let modern = Modern::new(gateway.address(), &format!("/u/{name}/mcp"));
        async move { modern.call("echo", "{}").await.error_code().is_none() }
    };
    assert!(call("first").await && !call("second").await);
    // Half of a rotation is no configuration: what was there stays in use.
    replace(&folder.path().join("ca.pem"), "");
    let log = || gateway.data.process.stdout.text() + &gateway.data.process.stderr.text();
    let refused = || async { log().contains("cannot be used").then_some(()) };
    until("the half to be refused", SECONDS, refused).await;
    assert!(call("first").await);
    new.issue().write(folder.path());
    replace(&folder.path().join("ca.pem"), &new.pem());
    until("the new certificates to be in use", SECONDS, || async { call("second").await.then_some(()) })
        .await;
    assert!(!call("first").await, "the old authority is trusted no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_is_used_within_seconds_and_sessions_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    replace(&token, "Bearer first-s3cret\n");
    let (backend, other) = (Backend::start().await, Backend::start().await);
    let headers = format!("    headers: {{Authorization: \"file:{}\"}}\n", token.display());
    let gateway =
        Gateway::start(&config([backend.upstream("keyed") + &headers, other.upstream("other")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let sent = || async {
        assert_eq!(client.call("keyed__echo", "{}").await.error_code(), None);
        backend.last("tools/call").header("authorization").to_owned()
    };
    assert_eq!(sent().await, "Bearer first-s3cret");
    assert_eq!(client.call("other__echo", "{}").await.error_code(), None);
    let untouched = other.last("tools/call").header("mcp-session-id").to_owned();
    replace(&token, "Bearer second-s3cret\n");
    let began = tokio::time::Instant::now();
    until("the new token", SECONDS, || async { (sent().await == "Bearer second-s3cret").then_some(()) })
        .await;
    println!("a rotated token was in use after {:?}", began.elapsed());
    let reopened = backend.last("initialize");
    assert_eq!(reopened.header("authorization"), "Bearer second-s3cret", "the upstream session is a new one");
    assert_eq!(client.call("other__echo", "{}").await.error_code(), None);
    assert_eq!(other.last("tools/call").header("mcp-session-id"), untouched, "nobody else noticed");
    std::fs::remove_file(&token).unwrap();
    let log = || gateway.data.process.stdout.text() + &gateway.data.process.stderr.text();
    let refused = || async { log().contains("cannot be used").then_some(()) };
    until("the loss to be noticed", SECONDS, refused).await;
    assert_eq!(sent().await, "Bearer second-s3cret", "a file that is gone takes nothing away");
    assert!(log().contains("files changed") && !log().contains("s3cret"), "{}", log());
}
