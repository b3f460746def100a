//! What passes through stays the bytes it was: numbers, unknown fields, key order, sizes, in both directions, in both
//! eras, on both routes.

use crate::config;
use o1_tests::{
    Answer, Backend, Gateway, Http, Legacy, Modern, backend::Era, http::Stream, http::member, mcp::borrowed,
    mcp::modern,
};
use std::time::Duration;

/// Numbers that no machine type holds, spellings that no serialiser keeps, fields nobody knows, odd white space.
const ODD: &str = r#"{"z":12345678901234567890123,"a":1.10,"e":1E+2,"m":-0.0,"dup":1,"dup":2 ,"u":"\u00e9\/\ud83d\ude00","é":"é","nested":{"b":[1.0,[ ],{ }],"a":null}}"#;

const RESULT: &str = r#"{"x-unknown":{"k":12345678901234567890123},"resultType":"complete","structuredContent":{"p":1.10,"a":1e400,"s":"\u0041\/"},"content":[{"type":"hologram","depth":3.0,"annotations":{"x":1.50}}],"isError":false,"_meta":{"z.example/y":1.000,"a":[]}}"#;

async fn gateway(era: Era) -> (Gateway, Backend) {
    let backend = Backend::with(era).await;
    backend.tool("odd", Answer::Result(RESULT.to_owned()));
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    (gateway, backend)
}

/// Both routes, with the name the tool has there.
const ROUTES: [(&str, &str); 2] = [("/mcp", "only__odd"), ("/u/only/mcp", "odd")];

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_call_keeps_its_bytes_both_ways() {
    let (gateway, backend) = gateway(Era::Both).await;
    for sse in [false, true] {
        if sse {
            backend.answer_by_sse();
        }
        for (route, tool) in ROUTES {
            let client = Legacy::open(gateway.address(), route).await;
            let params = |name: &str| {
                format!(r#"{{ "x-extra":[1.10 ], "arguments":{ODD},"name":"{name}" ,"last":0.10}}"#)
            };
            let reply = client.request("tools/call", &params(tool)).await;
            assert_eq!(reply.result_bytes(), RESULT, "{route} sse={sse}");
            assert_eq!(backend.last("tools/call").member("params"), params("odd"), "{route} sse={sse}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_call_keeps_its_bytes_both_ways() {
    let (gateway, backend) = gateway(Era::Both).await;
    for sse in [false, true] {
        if sse {
            backend.answer_by_sse();
        }
        for (route, tool) in ROUTES {
            let params = format!(r#"{{ "x-extra":[1.10 ], "arguments":{ODD},"name":"{tool}" ,"last":0.10}}"#);
            let (headers, sent) = modern("tools/call", &params);
            let reply =
                Http::new(gateway.address()).send("POST", route, &borrowed(&headers), sent.clone()).await;
            assert_eq!(reply.result_bytes(), RESULT, "{route} sse={sse}");
            let expected = sent.replace(r#""name":"only__odd""#, r#""name":"odd""#);
            let received = backend.last("tools/call");
            assert_eq!(received.member("params"), member(&expected, "params").unwrap(), "{route} sse={sse}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transparent_route_forwards_a_modern_body_untouched() {
    let (gateway, backend) = gateway(Era::Modern).await;
    let (mut headers, body) = modern("tools/call", &format!(r#"{{"name":"odd","arguments":{ODD}}}"#));
    headers.push(("mcp-param-region".into(), "=?base64?w6k=?=".into()));
    // An unknown member before the others, an id that is a string, white space where JSON allows it.
    let body = body.replacen('{', "{ \"x-trace\" : 1.10,\n", 1).replace(r#""id":7"#, r#""id" : "7\u0041""#);
    let reply =
        Http::new(gateway.address()).send("POST", "/u/only/mcp", &borrowed(&headers), body.clone()).await;
    let received = backend.last("tools/call");
    assert_eq!(received.body, body);
    assert_eq!(received.header("mcp-param-region"), "=?base64?w6k=?=");
    assert_eq!(reply.result_bytes(), RESULT);
    assert_eq!(member(&reply.answer(), "id").as_deref(), Some(r#""7\u0041""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_come_back_as_they_were_spelled() {
    let (gateway, _backend) = gateway(Era::Both).await;
    for (route, tool) in ROUTES {
        let client = Legacy::open(gateway.address(), route).await;
        for id in ["0", "-1", r#""""#, r#""a\"b""#, "9007199254740993", "18446744073709551615"] {
            let body = format!(
                r#"{{"params":{{"name":"{tool}"}},"method":"tools/call","id":{id},"jsonrpc":"2.0"}}"#
            );
            let reply = client.post(body).await;
            assert_eq!(member(&reply.answer(), "id").as_deref(), Some(id), "{route}");
            assert_eq!(reply.result_bytes(), RESULT, "{route}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_members_beside_the_result_survive() {
    let (gateway, backend) = gateway(Era::Both).await;
    let error = r#"{"code":-32099,"x":1.10,"message":"no","data":{"n":12345678901234567890123}}"#;
    backend.answer("tools/call odd", Answer::Error(error.to_owned()));
    for (route, tool) in ROUTES {
        let reply = Legacy::open(gateway.address(), route).await.call(tool, "{}").await;
        assert_eq!(member(&reply.answer(), "error").as_deref(), Some(error), "legacy {route}");
        let reply = Modern::new(gateway.address(), route).call(tool, "{}").await;
        assert_eq!(member(&reply.answer(), "error").as_deref(), Some(error), "modern {route}");
    }
    let message = r#"{"result":{"content":[]},"x-beside":1.10,"id":ID,"jsonrpc":"2.0"}"#;
    backend.answer("tools/call odd", Answer::Message(message.to_owned()));
    let reply = Modern::new(gateway.address(), "/u/only/mcp").call("odd", "{}").await;
    assert_eq!(member(&reply.answer(), "x-beside").as_deref(), Some("1.10"));
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_nobody_has_heard_of_pass_through_the_transparent_route() {
    let (gateway, backend) = gateway(Era::Both).await;
    backend.answer("vendor/compute", Answer::Result(RESULT.to_owned()));
    let legacy = Legacy::open(gateway.address(), "/u/only/mcp").await;
    assert_eq!(legacy.request("vendor/compute", ODD).await.result_bytes(), RESULT);
    assert_eq!(backend.last("vendor/compute").member("params"), ODD);
    let modern = Modern::new(gateway.address(), "/u/only/mcp");
    assert_eq!(modern.request("vendor/compute", r#"{"a":1.10}"#).await.result_bytes(), RESULT);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_mebibytes_pass_both_ways() {
    let (gateway, backend) = gateway(Era::Both).await;
    backend.tool("echo", Answer::Echo);
    let arguments = format!(r#"{{"n":1.10,"blob":"{}"}}"#, "x\\u0041".repeat(3 * 1024 * 1024 / 7));
    for sse in [false, true] {
        if sse {
            backend.answer_by_sse();
        }
        for (route, tool) in [("/mcp", "only__echo"), ("/u/only/mcp", "echo")] {
            let same = |reply: &o1_tests::Reply| {
                member(&reply.result_bytes(), "structuredContent").as_deref() == Some(arguments.as_str())
            };
            let legacy = Legacy::open(gateway.address(), route).await.call(tool, &arguments).await;
            assert!(same(&legacy), "legacy {route} sse={sse}: {} {:.200}", legacy.status, legacy.text());
            let modern = Modern::new(gateway.address(), route).call(tool, &arguments).await;
            assert!(same(&modern), "modern {route} sse={sse}: {} {:.200}", modern.status, modern.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_as_they_are_sent_not_at_the_end() {
    let (gateway, backend) = gateway(Era::Both).await;
    let progress = |step: u8| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":TOKEN,"progress":{step},"x":1.10}}}}"#
        )
    };
    let pause = Duration::from_millis(400);
    let steps = vec![(Duration::ZERO, progress(1)), (pause, progress(2))];
    backend.tool(
        "slow",
        Answer::Stream(steps, Box::new(Answer::Later(pause, Box::new(Answer::Result(RESULT.into()))))),
    );

    for (route, tool) in [("/mcp", "only__slow"), ("/u/only/mcp", "slow")] {
        let params = format!(r#"{{"name":"{tool}","_meta":{{"progressToken":"tok"}}}}"#);
        let legacy = Legacy::open(gateway.address(), route).await;
        check(legacy.stream("tools/call", &params).await, r#""tok""#, route).await;
        // The modern envelope is an object of `_meta` as well: written by hand, so that it stands there once.
        let (headers, body) = modern("tools/call", &format!(r#"{{"name":"{tool}"}}"#));
        let body = body.replace(r#""_meta":{"#, r#""_meta":{"progressToken":5,"#);
        let response =
            Http::new(gateway.address()).try_send("POST", route, &borrowed(&headers), body).await.unwrap();
        check(Stream::new(response), "5", route).await;
    }

    async fn check(mut stream: Stream, token: &str, route: &str) {
        let began = tokio::time::Instant::now();
        for step in 1..=2 {
            let message = stream.notification("notifications/progress", Duration::from_secs(10)).await;
            assert_eq!(message["params"]["progress"], step, "{route}");
            assert_eq!(message["params"]["progressToken"].to_string(), token, "{route}");
        }
        let until_second = began.elapsed();
        let rest = stream.end(Duration::from_secs(10)).await;
        let last = rest.last().expect("an answer after the progress");
        assert_eq!(member(&last.data, "result").as_deref(), Some(RESULT), "{route}");
        let late = began.elapsed() - until_second;
        assert!(
            late >= Duration::from_millis(200),
            "{route}: progress came {late:?} before the end, not earlier"
        );
    }
}
