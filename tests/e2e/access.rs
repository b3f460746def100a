//! Who may use the gateway, and what of it.

use crate::config;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use o1_tests::{
    Answer, Backend, ControlPlane, DataPlane, Gateway, Http, Legacy, Modern, Reply,
    http::Stream,
    mcp::{JSON, LEGACY, borrowed, initialize, modern, names},
    planes::Options,
    until,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const SOON: Duration = Duration::from_secs(20);
const ROUTES: [&str; 4] = ["/mcp", "/mcp/all", "/u/a/mcp", "/u/nowhere/mcp"];

/// `sha256sum` of the tokens `all-token`, `narrow-token` and `other-token`.
fn hash(token: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Two upstreams, `a` and `b`, each with `echo` and `secret`, and a virtual server of each; auth as given.
async fn backends() -> (Backend, Backend) {
    let (a, b) = (Backend::start().await, Backend::start().await);
    for (backend, name) in [(&a, "a"), (&b, "b")] {
        backend.tool("secret", Answer::text(&format!("the secret of {name}")));
    }
    (a, b)
}

fn document(a: &Backend, b: &Backend, auth: &str) -> String {
    let upstreams = config([a.upstream("a"), b.upstream("b")]);
    let servers = "servers:\n  all: {upstreams: [a, b]}\n  only_b: {upstreams: [b]}\n";
    format!("{upstreams}{servers}clients:\n  auth:\n{auth}")
}

/// One may use everything, one only `a` without its secret, one everything as well.
fn tokens() -> String {
    format!(
        "    tokens:\n      - {{name: all, sha256: {}}}\n      - {{name: other, sha256: {}}}\n      \
         - {{name: narrow, sha256: {}, servers: [all], upstreams: [a], tools: {{deny: [\"*secret\"]}}}}\n",
        hash("all-token"),
        hash("other-token"),
        hash("narrow-token")
    )
}

async fn gateway() -> (Gateway, Backend, Backend) {
    let (a, b) = backends().await;
    let gateway = Gateway::start(&document(&a, &b, &tokens())).await;
    (gateway, a, b)
}

fn bearing(gateway: &Gateway, token: &str) -> Http {
    Http::new(gateway.address()).bearing(token)
}

async fn list(http: &Http, route: &str) -> Reply {
    let (headers, body) = modern("tools/list", "{}");
    http.send("POST", route, &borrowed(&headers), body).await
}

async fn legacy(gateway: &Gateway, token: &str, route: &str) -> Legacy {
    Legacy::open_with(bearing(gateway, token), route, LEGACY, "{}").await
}

// litellm#31362: a gateway that swallows the 401 challenge leaves clients without a way to sign in.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_shows_no_token_is_told_where_to_get_one() {
    let (gateway, a, b) = gateway().await;
    let address = gateway.address();
    let http = Http::new(address);
    for route in ROUTES {
        let metadata = format!("http://{address}/.well-known/oauth-protected-resource{route}");
        let challenge = format!("Bearer resource_metadata=\"{metadata}\"");
        for (method, body) in [
            ("POST", initialize(LEGACY, "{}")),
            ("POST", "not even JSON".to_owned()),
            ("GET", String::new()),
            ("DELETE", String::new()),
        ] {
            let reply = http.send(method, route, &JSON, body).await;
            assert_eq!(
                (reply.status, reply.header("www-authenticate")),
                (401, &*challenge),
                "{method} {route}"
            );
        }
        let reply = list(&http, route).await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, &*challenge), "modern {route}");
        let wrong = list(&http.clone().bearing("wrong"), route).await;
        let expected =
            format!("{challenge}, error=\"invalid_token\", error_description=\"the token is not known\"");
        assert_eq!((wrong.status, wrong.header("www-authenticate")), (401, &*expected), "{route}");
        let basic = list(&http.clone().always("authorization", "Basic all-token"), route).await;
        assert_eq!((basic.status, basic.header("www-authenticate")), (401, &*challenge), "{route}");
        // A token in a URL ends in logs and histories: it does not count.
        let query = list(&http, &format!("{route}?access_token=all-token")).await;
        assert_eq!(query.status, 401, "{route}");
        // The metadata needs no token, and does not say which routes there are.
        let told = http.get(&format!("/.well-known/oauth-protected-resource{route}")).await;
        assert_eq!(told.status, 200, "{route}");
        assert_eq!(told.json()["resource"], format!("http://{address}{route}"));
        assert_eq!(told.json()["bearer_methods_supported"], json!(["header"]));
    }
    let origin = [("origin", "http://localhost:6274")];
    let told = http.send("GET", "/.well-known/oauth-protected-resource", &origin, "").await;
    assert_eq!(told.json()["resource"], format!("http://{address}"));
    assert_eq!(told.header("access-control-allow-origin"), "http://localhost:6274");
    let refused = http.send("POST", "/mcp", &[JSON[0], JSON[1], origin[0]], initialize(LEGACY, "{}")).await;
    assert!(refused.header("access-control-expose-headers").contains("www-authenticate"));
    assert_eq!(http.send("OPTIONS", "/mcp", &origin, "").await.status, 204, "browsers ask without a token");
    assert_eq!(http.get("/.well-known/oauth-protected-resource/etc/passwd").await.status, 401);
    assert_eq!(
        a.received_of("tools/list").len() + b.received_of("initialize").len(),
        0,
        "nothing went through"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_what_its_rules_name_and_nothing_else() {
    let (gateway, a, b) = gateway().await;
    let (all, narrow) = (bearing(&gateway, "all-token"), bearing(&gateway, "narrow-token"));
    for (route, everything, some) in [
        ("/mcp", &["a__echo", "a__secret", "b__echo", "b__secret"][..], &["a__echo"][..]),
        ("/mcp/all", &["a__echo", "a__secret", "b__echo", "b__secret"], &["a__echo"]),
        ("/u/a/mcp", &["echo", "secret"], &["echo"]),
    ] {
        for (token, expected) in [("all-token", everything), ("narrow-token", some)] {
            let client = Modern { http: bearing(&gateway, token), path: route.to_owned() };
            until(&format!("{token} on {route}"), SOON, || async {
                let mut found = client.tools().await;
                found.sort();
                (found == expected).then_some(())
            })
            .await;
            let session = legacy(&gateway, token, route).await;
            let mut found = session.tools().await;
            found.sort();
            assert_eq!(found, expected, "{token}, legacy, {route}");
            for tool in everything {
                let (old, new) = (session.call(tool, "{}").await, client.call(tool, "{}").await);
                for reply in [old, new] {
                    let refused = reply.error_code();
                    let may = expected.contains(tool);
                    assert_eq!(refused.is_none(), may, "{token} {route} {tool}: {}", reply.text());
                    assert!(may || refused == Some(-32602), "{token} {route} {tool}: {}", reply.text());
                }
            }
        }
    }
    for backend in [&a, &b] {
        let secrets = backend.received().iter().filter(|one| one.body.contains(r#""name":"secret""#)).count();
        let expected = if std::ptr::eq(backend, &a) { 6 } else { 4 };
        assert_eq!(secrets, expected, "only the one who may reaches it");
    }
    // zentinel#443: the body decides, whatever the header says.
    let lied = legacy(&gateway, "narrow-token", "/u/a/mcp").await;
    let mut headers = lied.headers();
    headers.extend([("mcp-method", "tools/list"), ("mcp-name", "echo")]);
    let body = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"secret","arguments":{}}}"#;
    let reply = bearing(&gateway, "narrow-token").send("POST", "/u/a/mcp", &headers, body).await;
    assert!(reply.text().contains("-32602") && reply.text().contains("Unknown tool"), "{}", reply.text());
    // Routes that a token does not open look like routes that do not exist.
    for (closed, missing) in [("/u/b/mcp", "/u/nowhere/mcp"), ("/mcp/only_b", "/mcp/nowhere")] {
        assert_eq!(list(&all, closed).await.status, 200, "{closed}");
        let (closed, missing) = (list(&narrow, closed).await, list(&narrow, missing).await);
        assert_eq!((closed.status, closed.text()), (404, missing.text()));
        assert_eq!(missing.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_one_is_unknown_to_another() {
    let (gateway, _a, _b) = gateway().await;
    for route in ["/mcp", "/mcp/all", "/u/a/mcp"] {
        let mine = legacy(&gateway, "all-token", route).await;
        assert_eq!(mine.request("tools/list", "{}").await.status, 200, "{route}");
        let http = bearing(&gateway, "other-token");
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let mut made_up = mine.headers();
        let unknown = "AQ".to_owned() + &mine.session[2..].chars().rev().collect::<String>();
        made_up.retain(|(name, _)| *name != "mcp-session-id");
        made_up.push(("mcp-session-id", &unknown));
        for method in ["POST", "GET", "DELETE"] {
            let theirs =
                http.send(method, route, &mine.headers(), if method == "POST" { body } else { "" }).await;
            let nobodys = http.send(method, route, &made_up, if method == "POST" { body } else { "" }).await;
            assert_eq!((theirs.status, theirs.text()), (404, nobodys.text()), "{method} {route}");
            assert_eq!(nobodys.status, 404, "{method} {route}");
        }
        assert_eq!(mine.request("tools/list", "{}").await.status, 200, "{route}: nobody ended it");
        // The token counts on every request, also inside a session.
        let bare = Http::new(gateway.address()).send("POST", route, &mine.headers(), body).await;
        assert_eq!(bare.status, 401, "{route}");
    }
}

// toolhive#5387: what a client shows to the gateway is not for the servers behind it.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_for_the_gateway_go_no_further() {
    let (a, b) = backends().await;
    let upstreams = format!(
        "upstreams:\n{}    headers: {{Authorization: \"Bearer of-the-upstream\"}}\n{}",
        a.upstream("a"),
        b.upstream("b")
    );
    let text = format!("{upstreams}servers:\n  all: {{upstreams: [a, b]}}\nclients:\n  auth:\n{}", tokens());
    let gateway = Gateway::start(&text).await;
    let http = bearing(&gateway, "all-token")
        .always("cookie", "session=hunter2")
        .always("proxy-authorization", "Basic hunter2");
    for (route, tool) in
        [("/mcp", "a__echo"), ("/mcp/all", "b__echo"), ("/u/a/mcp", "echo"), ("/u/b/mcp", "echo")]
    {
        let client = Modern { http: http.clone(), path: route.to_owned() };
        assert_eq!(client.call(tool, "{}").await.error_code(), None, "{route}");
        let session = Legacy::open_with(http.clone(), route, LEGACY, "{}").await;
        assert_eq!(session.call(tool, "{}").await.error_code(), None, "{route}");
        drop(session.listen().await);
        let ended = http.send("DELETE", route, &session.headers(), "").await;
        assert!(ended.status < 300, "{route}: {}", ended.status);
    }
    let mut calls = 0;
    for (backend, credentials) in [(&a, "Bearer of-the-upstream"), (&b, "")] {
        for one in backend.received() {
            calls += usize::from(one.method == "tools/call");
            let all = format!("{one:?}");
            assert!(!all.contains("all-token") && !all.contains("hunter2"), "{all}");
            assert_eq!(one.header("authorization"), credentials, "{all}");
            assert_eq!(one.header("cookie"), "", "{all}");
        }
    }
    assert_eq!(calls, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_and_no_hash_is_ever_logged_or_shown() {
    let (a, b) = backends().await;
    let (key, jwks) = issuer();
    let auth = format!("{}    resource: https://mcp.example\n{}", tokens(), jwt(&jwks.file, ""));
    let control = ControlPlane::start(&document(&a, &b, &auth)).await;
    let environment = vec![("O1_LOG".to_owned(), "trace".to_owned())];
    let options = Options { environment, ..Options::default() };
    let data = DataPlane::start_with(control.listen, "n1", options).await;
    control.synced("n1").await;
    let signed = key.sign(&claims("alice", "https://mcp.example", "read"));
    let expired = key.sign(&json!({"iss": "https://login.example", "sub": "x", "exp": 1, "aud": "x"}));
    let tokens = ["all-token", "hunter2-wrong-token", &signed, &expired, "other.wrong.token"];
    for token in tokens {
        let http = Http::new(data.listen).bearing(token);
        for h2c in [false, true] {
            let http = if h2c { Http::h2c(data.listen).bearing(token) } else { http.clone() };
            let status = list(&http, "/mcp").await.status;
            assert!(matches!(status, 200 | 401), "{status}");
        }
    }
    let http = Http::new(data.admin);
    let shown = [http.get("/status").await.text(), http.get("/metrics").await.text()].concat();
    until("a trace of the last request", SOON, || {
        std::future::ready(data.process.stderr.find(|line| line.contains("not let in").then_some(())))
    })
    .await;
    let logs = format!("{}{}{shown}", data.process.stderr.text(), data.process.stdout.text());
    assert!(logs.contains("TRACE"), "the log holds everything there is");
    for secret in tokens.iter().copied().chain([&*hash("all-token")]) {
        assert!(!logs.contains(secret), "{secret}");
        if let Some(signature) = secret.rsplit('.').next().filter(|part| part.len() > 20) {
            assert!(!logs.contains(signature), "a part of {secret}");
        }
    }
    let control_logs = format!("{}{}", control.process.stderr.text(), control.process.stdout.text());
    assert!(!control_logs.contains(&hash("all-token")));
}

/// An issuer's key and the file with its public half.
struct Keys {
    _dir: tempfile::TempDir,
    file: std::path::PathBuf,
}

struct Signer(Ed25519KeyPair, &'static str);

impl Signer {
    fn new(id: &'static str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap(), id)
    }

    fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.1, "x": x})
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "kid": self.1}).to_string();
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let message = format!("{}.{}", part(&header), part(&claims.to_string()));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.0.sign(message.as_bytes()).as_ref()))
    }
}

fn issuer() -> (Signer, Keys) {
    let dir = tempfile::tempdir().unwrap();
    let (key, file) = (Signer::new("first"), dir.path().join("jwks.json"));
    publish(&file, &[&key]);
    (key, Keys { _dir: dir, file })
}

fn publish(file: &Path, keys: &[&Signer]) {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    let next = file.with_extension("next");
    std::fs::write(&next, json!({ "keys": keys }).to_string()).unwrap();
    std::fs::rename(next, file).unwrap();
}

fn jwt(jwks: &Path, rules: &str) -> String {
    format!("    jwt:\n      issuer: https://login.example\n      jwks: file:{}\n{rules}", jwks.display())
}

fn claims(subject: &str, audience: &str, scope: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({"iss": "https://login.example", "sub": subject, "aud": audience, "scope": scope, "exp": now + 300})
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_issuer_open_what_their_scopes_do() {
    let (a, b) = backends().await;
    let (key, keys) = issuer();
    let rules = "      rules:\n        - {claim: scope, values: [read], upstreams: [a], servers: []}\n        \
                 - {claim: scope, values: [write], upstreams: [b]}\n";
    let auth = format!("    resource: https://mcp.example\n{}", jwt(&keys.file, rules));
    let gateway = Gateway::start(&document(&a, &b, &auth)).await;
    let metadata = |route: &str| {
        format!("resource_metadata=\"https://mcp.example/.well-known/oauth-protected-resource{route}\"")
    };
    let told = Http::new(gateway.address()).get("/.well-known/oauth-protected-resource/mcp").await.json();
    assert_eq!(told["resource"], "https://mcp.example/mcp");
    assert_eq!(told["authorization_servers"], json!(["https://login.example"]));
    assert_eq!(told["scopes_supported"], json!(["read", "write"]));

    let for_mcp = "https://mcp.example/mcp";
    let http = bearing(&gateway, &key.sign(&claims("alice", for_mcp, "read")));
    until("the tools of a", SOON, || async {
        let mut found = names(&list(&http, "/mcp").await.result()["tools"]);
        found.sort();
        (found == ["a__echo", "a__secret"]).then_some(())
    })
    .await;
    // RFC 8707: made for one route, it opens no other.
    assert_eq!(list(&http, "/u/a/mcp").await.status, 401);
    let whole = bearing(&gateway, &key.sign(&claims("alice", "https://mcp.example", "read")));
    assert_eq!(list(&whole, "/u/a/mcp").await.status, 200);
    // Another scope would open it: the client is told which, so that it can ask for one.
    let beyond = list(&whole, "/u/b/mcp").await;
    let expected = format!("Bearer {}, scope=\"write\", error=\"insufficient_scope\"", metadata("/u/b/mcp"));
    assert_eq!((beyond.status, beyond.header("www-authenticate")), (403, &*expected));
    let nothing = bearing(&gateway, &key.sign(&claims("alice", for_mcp, "")));
    let nothing = list(&nothing, "/mcp").await;
    let expected = format!("Bearer {}, scope=\"read write\", error=\"insufficient_scope\"", metadata("/mcp"));
    assert_eq!((nothing.status, nothing.header("www-authenticate")), (403, &*expected));

    let mut expired = claims("alice", for_mcp, "read");
    expired["exp"] = json!(1);
    let mut elsewhere = claims("alice", for_mcp, "read");
    elsewhere["iss"] = json!("https://evil.example");
    for (token, why) in [
        (key.sign(&expired), "the token has expired"),
        (key.sign(&elsewhere), "the token is made by somebody else (`iss`)"),
        (
            key.sign(&claims("alice", "https://other.example", "read")),
            "the token is made for somebody else (`aud`)",
        ),
        (
            Signer::new("first").sign(&claims("alice", for_mcp, "read")),
            "the token is signed with a key that is not the issuer's",
        ),
    ] {
        let reply = list(&bearing(&gateway, &token), "/mcp").await;
        let challenge = reply.header("www-authenticate");
        assert_eq!(reply.status, 401, "{why}");
        assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains(why), "{challenge}");
    }

    // The issuer rotates its key: no restart, no new configuration.
    let next = Signer::new("second");
    publish(&keys.file, &[&next]);
    let renewed = bearing(&gateway, &next.sign(&claims("alice", for_mcp, "read")));
    until("the new key", SOON, || async { (list(&renewed, "/mcp").await.status == 200).then_some(()) }).await;
    assert_eq!(list(&http, "/mcp").await.status, 401, "the old key is withdrawn");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_change_count_from_the_next_request_on() {
    let (gateway, a, b) = gateway().await;
    let session = legacy(&gateway, "narrow-token", "/u/a/mcp").await;
    assert_eq!(session.call("secret", "{}").await.error_code(), Some(-32602));
    let wider = document(&a, &b, &tokens().replace(", tools: {deny: [\"*secret\"]}", ""));
    gateway.control.edit(&wider);
    until("the secret", SOON, || async {
        session.call("secret", "{}").await.error_code().is_none().then_some(())
    })
    .await;
    gateway.control.edit(&wider.replace(&hash("narrow-token"), &hash("fresh-token")));
    let status = async || session.request("tools/list", "{}").await.status;
    until("the end of the old token", SOON, || async { (status().await == 401).then_some(()) }).await;
    // A session belongs to a name, not to a token: with the new one it goes on.
    let mut fresh = legacy(&gateway, "fresh-token", "/u/a/mcp").await;
    fresh.session.clone_from(&session.session);
    assert_eq!(fresh.request("tools/list", "{}").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_others_reach_serves_nobody_until_it_is_told_whom() {
    let (a, b) = backends().await;
    let open = config([a.upstream("a"), b.upstream("b")]);
    let control = ControlPlane::start(&open).await;
    let options = Options { not_ready: true, exposed: true, ..Options::default() };
    let data = DataPlane::start_with(control.listen, "n1", options).await;
    let node = control.node_until("n1", "refuses", |node| node["sync"] == "rejected").await;
    let rejection = &node["rejections"][0];
    assert_eq!(
        (&rejection["field"], &rejection["reason"]),
        (&json!("clients.auth"), &json!("local_dependency"))
    );
    let why = rejection["message"].as_str().unwrap();
    assert!(why.contains("`none` to let in everybody") && why.contains("127.0.0.1"), "{why}");
    let http = Http::new(data.listen);
    let refused = list(&http, "/mcp").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("clients.auth"), "{}", refused.text());
    assert_eq!(Http::new(data.admin).get("/readyz").await.status, 503);
    // With tokens, and by name without any, it serves; taken away again, it goes on with what it had.
    let answers = async |status: u16| {
        let what = format!("an answer with {status}");
        until(&what, SOON, || async { (list(&http, "/mcp").await.status == status).then_some(()) }).await;
    };
    control.edit(&document(&a, &b, &tokens()));
    answers(401).await;
    assert_eq!(list(&http.clone().bearing("all-token"), "/mcp").await.status, 200);
    control.edit(&format!("{open}clients: {{auth: none}}\n"));
    answers(200).await;
    control.edit(&format!("{open}# nothing said\n"));
    until("the refusal in the status", SOON, || async {
        let status = control.o1ctl(&["status"]).await;
        (status["control_plane"]["source"]["problems"][0]["rule"] == "config-rolled-back").then_some(())
    })
    .await;
    assert_eq!(list(&http, "/mcp").await.status, 200, "a refused configuration changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_o1ctl_makes_counts() {
    let (a, b) = backends().await;
    let run = tokio::process::Command::new(o1_tests::binaries::binary("o1ctl"))
        .args(["token", "new", "--name", "ci"])
        .output();
    let output = run.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (token, rest) = text.split_once("\n\n").unwrap();
    let upstreams = config([a.upstream("a"), b.upstream("b")]);
    let gateway = Gateway::start(&format!("{upstreams}{rest}")).await;
    assert_eq!(list(&bearing(&gateway, token), "/u/a/mcp").await.status, 200);
    assert_eq!(list(&Http::new(gateway.address()), "/u/a/mcp").await.status, 401);
    let hash = rest.split('"').nth(1).unwrap();
    let shown = shown_config(gateway.control.listen).await;
    assert!(!shown.contains(hash) && !shown.contains(token), "{shown}");
}

/// Everything that `o1ctl` shows of the fleet.
async fn shown_config(control: SocketAddr) -> String {
    let mut shown = String::new();
    for arguments in [&["status", "--verbose"][..], &["nodes"]] {
        let run = tokio::process::Command::new(o1_tests::binaries::binary("o1ctl"))
            .args(arguments)
            .args(["--json", "--control", &format!("http://{control}")])
            .output();
        shown.push_str(&String::from_utf8(run.await.unwrap().stdout).unwrap());
    }
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_token_that_opened_them_and_those_of_others_go_on() {
    let (a, b) = backends().await;
    let text = document(&a, &b, &tokens()) + "  sse: true\n";
    let gateway = Gateway::start(&text).await;
    let subscribe = async |token: &str, route: &str| {
        let (headers, body) =
            modern("subscriptions/listen", r#"{"notifications":{"toolsListChanged":true}}"#);
        let http = bearing(&gateway, token);
        let mut stream = Stream::new(http.try_send("POST", route, &borrowed(&headers), body).await.unwrap());
        assert_eq!(stream.status, 200);
        stream.notification("notifications/subscriptions/acknowledged", SOON).await;
        stream
    };
    let mut others = subscribe("all-token", "/mcp").await;
    let session = legacy(&gateway, "narrow-token", "/u/a/mcp").await;
    let (old, _) = stream(&bearing(&gateway, "narrow-token"), "/u/a/sse").await;
    let mut ending = vec![
        subscribe("narrow-token", "/mcp").await,
        subscribe("narrow-token", "/u/a/mcp").await,
        session.listen().await,
        old,
    ];
    gateway.control.edit(&text.replace(&hash("narrow-token"), &hash("fresh-token")));
    for stream in &mut ending {
        stream.end(SOON).await;
    }
    b.tool("another", Answer::text("b"));
    b.notify(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    others.notification("notifications/tools/list_changed", SOON).await;
}

/// The transport of 2024-11-05: a stream, and the address to POST to.
async fn stream(http: &Http, path: &str) -> (Stream, String) {
    let headers = [("accept", "text/event-stream")];
    let mut stream = Stream::new(http.try_send("GET", path, &headers, "").await.unwrap());
    assert_eq!(stream.status, 200, "{path}");
    let endpoint = stream.event().await.unwrap().data;
    (stream, endpoint)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_first_transport_are_asked_who_they_are_as_well() {
    let (a, b) = backends().await;
    let text = document(&a, &b, &tokens()) + "  sse: true\n";
    let gateway = Gateway::start(&text).await;
    let bare = Http::new(gateway.address());
    for path in ["/sse", "/mcp/all/sse", "/u/a/sse", "/u/nowhere/sse"] {
        let refused = bare.send("GET", path, &[("accept", "text/event-stream")], "").await;
        assert_eq!(refused.status, 401, "{path}");
        let challenge = refused.header("www-authenticate");
        let metadata = challenge.split('"').nth(1).unwrap().split_once("/.well").unwrap().1;
        assert_eq!(bare.get(&format!("/.well{metadata}")).await.status, 200, "{challenge}");
    }
    let narrow = bearing(&gateway, "narrow-token");
    let closed = narrow.send("GET", "/u/b/sse", &[("accept", "text/event-stream")], "").await;
    assert_eq!(closed.status, 404);
    let (mut events, endpoint) = stream(&narrow, "/u/a/sse").await;
    for (http, status) in [(&bare, 401), (&bearing(&gateway, "all-token"), 404), (&narrow, 202)] {
        let reply = http.send("POST", &endpoint, &JSON, initialize("2024-11-05", "{}")).await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    events.message("the handshake", SOON, |message| message["id"] == 0).await;
    let call = async |events: &mut Stream, id: u32| {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"secret","arguments":{{}}}}}}"#
        );
        assert_eq!(narrow.send("POST", &endpoint, &JSON, body).await.status, 202);
        events.message("an answer", SOON, |message| message["id"] == id).await
    };
    assert_eq!(call(&mut events, 1).await["error"]["code"], -32602);
    // What the token may use changes under the open stream.
    gateway.control.edit(&text.replace(", tools: {deny: [\"*secret\"]}", ""));
    let end = tokio::time::Instant::now() + SOON;
    let mut id = 2;
    while call(&mut events, id).await["result"].is_null() {
        assert!(tokio::time::Instant::now() < end, "the new rules do not count");
        id += 1;
    }
}
