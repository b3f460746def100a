//! The validation ladder: what is checked, in which order, with which status and code.

use crate::config;
use o1_tests::{
    Backend, Gateway, Http, Legacy, Reply,
    mcp::{META, borrowed, modern},
};

async fn gateway() -> (Gateway, Backend) {
    let backend = Backend::start().await;
    let item = r#"{"name":"region","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}"#;
    backend.tool_as("region", item, o1_tests::Answer::Echo);
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    (gateway, backend)
}

/// A modern call of `echo`, changed in one place.
struct Case {
    name: &'static str,
    /// Replaces or adds a header; `None` removes it.
    headers: &'static [(&'static str, Option<&'static str>)],
    /// Replaces the whole body.
    body: Option<&'static str>,
    status: u16,
    code: Option<i64>,
}

const fn case(
    name: &'static str,
    headers: &'static [(&'static str, Option<&'static str>)],
    status: u16,
    code: i64,
) -> Case {
    Case { name, headers, body: None, status, code: if code == 0 { None } else { Some(code) } }
}

const fn body(name: &'static str, body: &'static str, status: u16, code: i64) -> Case {
    Case { name, headers: &[], body: Some(body), status, code: if code == 0 { None } else { Some(code) } }
}

const LADDER: &[Case] = &[
    case("nothing changed", &[], 200, 0),
    case("accept absent, which accepts anything", &[("accept", None)], 200, 0),
    case("accept of anything", &[("accept", Some("*/*"))], 200, 0),
    case("accept without event streams", &[("accept", Some("application/json"))], 406, -32600),
    case("accept without JSON", &[("accept", Some("text/event-stream"))], 406, -32600),
    case("content type is text", &[("content-type", Some("text/plain"))], 415, -32600),
    case("content type absent", &[("content-type", None)], 415, -32600),
    case(
        "content type with a parameter",
        &[("content-type", Some("application/json; charset=utf-8"))],
        200,
        0,
    ),
    case("version absent", &[("mcp-protocol-version", None)], 400, -32020),
    case("version legacy in the header only", &[("mcp-protocol-version", Some("2025-11-25"))], 400, -32020),
    case("version differs", &[("mcp-protocol-version", Some("v999.0.0"))], 400, -32020),
    case("method absent", &[("mcp-method", None)], 400, -32020),
    case("method differs", &[("mcp-method", Some("tools/list"))], 400, -32020),
    case("method in capitals", &[("mcp-method", Some("TOOLS/CALL"))], 400, -32020),
    case("method with spaces around", &[("mcp-method", Some("  tools/call  "))], 200, 0),
    case("name absent", &[("mcp-name", None)], 400, -32020),
    case("name differs", &[("mcp-name", Some("other"))], 400, -32020),
    case("name in base64", &[("mcp-name", Some("=?base64?ZWNobw==?="))], 200, 0),
    case("name in broken base64", &[("mcp-name", Some("=?base64?ZWNobw?="))], 400, -32020),
    case(
        "stray session and event id",
        &[("mcp-session-id", Some("x")), ("last-event-id", Some("9"))],
        200,
        0,
    ),
    body("truncated", r#"{"jsonrpc":"2.0","id":1,"met"#, 400, -32700),
    body("empty", "", 400, -32700),
    body("not JSON", "hello", 400, -32700),
    body("a number", "1", 400, -32600),
    body("a batch", r#"[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]"#, 400, -32600),
    body("an empty batch", "[]", 400, -32600),
    body("a response", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, 400, -32600),
    body("id null", r#"{"jsonrpc":"2.0","id":null,"method":"tools/list","params":{}}"#, 400, -32600),
    body("id an object", r#"{"jsonrpc":"2.0","id":{},"method":"tools/list","params":{}}"#, 400, -32600),
    body("method a number", r#"{"jsonrpc":"2.0","id":1,"method":5}"#, 400, -32600),
    body("wrong version of JSON-RPC", r#"{"jsonrpc":"1.0","id":1,"method":"tools/list"}"#, 400, -32600),
    body("no version of JSON-RPC", r#"{"id":1,"method":"tools/list"}"#, 400, -32600),
    body("no params", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#, 400, -32602),
    body(
        "no envelope",
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#,
        400,
        -32602,
    ),
    body(
        "envelope without a version",
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","_meta":{"io.modelcontextprotocol/clientCapabilities":{}}}}"#,
        400,
        -32602,
    ),
    body(
        "envelope without capabilities",
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
        400,
        -32602,
    ),
    body(
        "a notification",
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        202,
        0,
    ),
];

async fn send(gateway: &Gateway, route: &str, case: &Case) -> Reply {
    let tool = if route == "/mcp" { "only__echo" } else { "echo" };
    let (mut headers, mut body) = modern("tools/call", &format!(r#"{{"name":"{tool}","arguments":{{}}}}"#));
    if route == "/mcp" && case.headers.iter().any(|(name, value)| *name == "mcp-name" && value.is_some()) {
        // The cases spell `echo`; on this route the tool would be called otherwise.
        body = body.replace("only__echo", "echo");
    }
    for (name, value) in case.headers {
        headers.retain(|(known, _)| known != name);
        headers.extend(value.map(|value| ((*name).to_owned(), value.to_owned())));
    }
    if let Some(other) = case.body {
        body = other.to_owned();
    }
    Http::new(gateway.address()).send("POST", route, &borrowed(&headers), body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rung_of_the_modern_ladder_has_its_status_and_code() {
    let (gateway, _backend) = gateway().await;
    let mut wrong = Vec::new();
    for case in LADDER {
        let reply = send(&gateway, "/u/only/mcp", case).await;
        if (reply.status, reply.error_code()) != (case.status, case.code) {
            wrong.push(format!(
                "{}: expected {} {:?}, got {} {}",
                case.name,
                case.status,
                case.code,
                reply.status,
                reply.text()
            ));
        }
        if reply.status == 400 && reply.json()["id"] != 7 && case.body.is_none() {
            wrong.push(format!("{}: the error does not carry the id: {}", case.name, reply.text()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ladder_is_the_same_where_many_servers_answer() {
    let (gateway, _backend) = gateway().await;
    let mut wrong = Vec::new();
    for case in LADDER {
        // An unknown name is refused at the end of the ladder; the cases that name `echo` show that they got there.
        let expected = match case.headers {
            [("mcp-name", Some("=?base64?ZWNobw==?="))] => (vec![200, 400], Some(-32602)),
            _ => (vec![case.status], case.code),
        };
        let reply = send(&gateway, "/mcp", case).await;
        if !expected.0.contains(&reply.status) || reply.error_code() != expected.1 {
            wrong.push(format!(
                "{}: expected {expected:?}, got {} {}",
                case.name,
                reply.status,
                reply.text()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_stands_twice_is_refused() {
    let (gateway, _backend) = gateway().await;
    for route in ["/u/only/mcp", "/mcp"] {
        let tool = if route == "/mcp" { "only__echo" } else { "echo" };
        for name in ["mcp-method", "mcp-name", "mcp-protocol-version"] {
            let (mut headers, body) =
                modern("tools/call", &format!(r#"{{"name":"{tool}","arguments":{{}}}}"#));
            let same = headers.iter().find(|(known, _)| known == name).unwrap().1.clone();
            headers.push((name.to_owned(), same));
            let reply = Http::new(gateway.address()).send("POST", route, &borrowed(&headers), body).await;
            assert_eq!(
                (reply.status, reply.error_code()),
                (400, Some(-32020)),
                "{route} {name}: {}",
                reply.text()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_revision_is_told_which_ones_there_are() {
    let (gateway, _backend) = gateway().await;
    for route in ["/u/only/mcp", "/mcp"] {
        let (mut headers, body) = modern("tools/list", "{}");
        headers.retain(|(name, _)| name != "mcp-protocol-version");
        headers.push(("mcp-protocol-version".into(), "v999.0.0".into()));
        let body = body.replace("2026-07-28", "v999.0.0");
        let reply = Http::new(gateway.address()).send("POST", route, &borrowed(&headers), body).await;
        assert_eq!((reply.status, reply.error_code()), (400, Some(-32022)), "{route}: {}", reply.text());
        let data = &reply.json()["error"]["data"];
        assert_eq!(data["requested"], "v999.0.0", "{route}");
        assert_eq!(data["supported"], serde_json::json!(["2026-07-28"]), "{route}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_that_the_modern_era_removed_are_not_found() {
    let (gateway, _backend) = gateway().await;
    for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"] {
        let (headers, body) = modern(method, "{}");
        let reply = Http::new(gateway.address()).send("POST", "/mcp", &borrowed(&headers), body).await;
        assert_eq!((reply.status, reply.error_code()), (404, Some(-32601)), "{method}: {}", reply.text());
        assert_eq!(reply.json()["id"], 7, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrored_parameters_reach_the_server_as_they_came() {
    let (gateway, backend) = gateway().await;
    for (route, tool) in [("/mcp", "only__region"), ("/u/only/mcp", "region")] {
        for value in ["eu", "=?base64?ZXU=?=", "=?base64?ZXU?="] {
            let (mut headers, body) =
                modern("tools/call", &format!(r#"{{"name":"{tool}","arguments":{{"region":"eu"}}}}"#));
            headers.push(("Mcp-Param-Region".to_owned(), value.to_owned()));
            headers.push(("Mcp-Param-Unknown".to_owned(), "kept".to_owned()));
            let reply = Http::new(gateway.address()).send("POST", route, &borrowed(&headers), body).await;
            // The server judges them by its schema; this one does not.
            assert_eq!(reply.status, 200, "{route} {value}: {}", reply.text());
            let received = backend.last("tools/call");
            assert_eq!(received.header("mcp-param-region"), value, "{route}");
            assert_eq!(received.header("mcp-param-unknown"), "kept", "{route}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_without_a_meaning_are_not_allowed() {
    let (gateway, _backend) = gateway().await;
    let http = Http::new(gateway.address());
    for route in ["/mcp", "/u/only/mcp"] {
        for verb in ["GET", "DELETE"] {
            let headers = [("mcp-protocol-version", "2026-07-28"), ("accept", "text/event-stream")];
            let reply = http.send(verb, route, &headers, "").await;
            assert_eq!(reply.status, 405, "modern {verb} {route}");
            assert!(
                reply.header("allow").contains("POST"),
                "modern {verb} {route}: allow {:?}",
                reply.header("allow")
            );
        }
        for verb in ["PUT", "PATCH", "TRACE", "FOO"] {
            let reply = http.send(verb, route, &[], "").await;
            assert_eq!(reply.status, 405, "{verb} {route}");
            assert!(
                reply.header("allow").contains("POST"),
                "{verb} {route}: allow {:?}",
                reply.header("allow")
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_post_is_checked_as_well() {
    let (gateway, _backend) = gateway().await;
    for route in ["/mcp", "/u/only/mcp"] {
        let client = Legacy::open(gateway.address(), route).await;
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let mut wrong = Vec::new();
        for (name, header, value, status) in [
            ("nothing changed", "x-nothing", Some("1"), 200),
            ("accept absent, which accepts anything", "accept", None, 200),
            ("accept without event streams", "accept", Some("application/json"), 406),
            ("content type", "content-type", Some("text/plain"), 415),
            ("version unknown", "mcp-protocol-version", Some("1999-01-01"), 400),
            ("version absent", "mcp-protocol-version", None, 200),
        ] {
            let mut headers = client.headers();
            headers.retain(|(known, _)| *known != header);
            headers.extend(value.map(|value| (header, value)));
            let reply = client.http.send("POST", route, &headers, list).await;
            if reply.status != status {
                wrong.push(format!("{name}: expected {status}, got {} {}", reply.status, reply.text()));
            }
        }
        for (body, status, code) in [
            (r#"{"jsonrpc":"2.0","id":1,"met"#, 400, Some(-32700)),
            ("", 400, Some(-32700)),
            ("[]", 400, Some(-32600)),
            ("7", 400, Some(-32600)),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, 400, Some(-32600)),
            (r#"{"jsonrpc":"2.0","id":1}"#, 400, Some(-32600)),
        ] {
            let reply = client.post(body).await;
            if (reply.status, reply.error_code()) != (status, code) {
                wrong.push(format!(
                    "{body}: expected {status} {code:?}, got {} {}",
                    reply.status,
                    reply.text()
                ));
            }
        }
        let mut headers = client.headers();
        headers.retain(|(name, _)| *name != "accept");
        headers.push(("accept", "application/json"));
        let reply = client.http.send("GET", route, &headers, "").await;
        if reply.status != 406 {
            wrong.push(format!("GET that accepts JSON only: expected 406, got {}", reply.status));
        }
        assert!(wrong.is_empty(), "{route}: {wrong:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_strangers_cannot_reach_the_gateway() {
    let (gateway, backend) = gateway().await;
    let http = Http::new(gateway.address());
    for route in ["/mcp", "/u/only/mcp"] {
        let (headers, body) = modern("tools/list", "{}");
        let send = async |extra: (&str, &str)| {
            let mut headers = borrowed(&headers);
            headers.push(extra);
            http.send("POST", route, &headers, body.clone()).await.status
        };
        assert_eq!(send(("origin", "http://evil.example.com")).await, 403, "{route}");
        assert_eq!(send(("origin", "null")).await, 403, "{route}");
        assert_eq!(send(("origin", "http://localhost.evil.example.com")).await, 403, "{route}");
        let status = send(("host", "evil.example.com")).await;
        assert_eq!(status, 421, "{route}: a host that is not ours");
    }
    assert_eq!(backend.received_of("tools/list").len(), 0, "nothing went through");
    let (headers, body) = modern("tools/list", "{}");
    let port = gateway.address().port();
    for (name, value) in [
        ("host", format!("localhost:{port}")),
        ("host", format!("127.0.0.1:{port}")),
        ("origin", format!("http://localhost:{port}")),
        ("origin", "http://127.0.0.1:5173".to_owned()),
    ] {
        let mut headers = borrowed(&headers);
        headers.push((name, &value));
        let reply = http.send("POST", "/mcp", &headers, body.clone()).await;
        assert_eq!(reply.status, 200, "{name}: {value} {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn discover_names_what_is_really_there() {
    let (gateway, _backend) = gateway().await;
    let (headers, body) = modern("server/discover", "{}");
    assert!(body.contains(META));
    let reply = Http::new(gateway.address()).send("POST", "/mcp", &borrowed(&headers), body).await;
    let discovered = reply.result();
    assert_eq!(discovered["supportedVersions"], serde_json::json!(["2026-07-28"]), "{discovered}");
    assert_eq!(discovered["resultType"], "complete");
    assert!(discovered["ttlMs"].is_u64() && discovered["cacheScope"].is_string(), "{discovered}");
    assert!(discovered["capabilities"]["tools"].is_object(), "{discovered}");
    assert!(discovered["_meta"]["io.modelcontextprotocol/serverInfo"]["name"].is_string(), "{discovered}");
}
