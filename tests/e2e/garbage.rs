//! Bytes that no client should send: each gets its status, costs nothing that stays, and disturbs nobody.

use crate::config;
use o1_tests::{
    Backend, Gateway, Http, Modern,
    http::{raw, raw_status},
    mcp::JSON,
    until,
    wait::in_time,
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

const SILENCE: Duration = Duration::from_secs(5);

async fn gateway() -> (Gateway, Backend) {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    (gateway, backend)
}

/// It still does its work.
async fn works(gateway: &Gateway) {
    let reply = Modern::new(gateway.address(), "/mcp").call("only__echo", r#"{"n":1}"#).await;
    assert_eq!(reply.result()["structuredContent"]["n"], 1);
}

/// A POST whose head is finished and whose body may follow.
fn head(address: SocketAddr, length: usize) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {length}\r\n\r\n"
    )
}

// RFC 9112, section 3.2: which of two hosts, or origins, is meant is nobody's to choose.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_two_hosts_or_of_one_foreign_origin_among_two_is_refused() {
    let (gateway, backend) = gateway().await;
    let address = gateway.address();
    let local = "origin: http://localhost";
    for (more, status) in [
        (String::new(), 200),
        (format!("{local}\r\n{local}:1\r\n"), 200),
        (format!("host: {address}\r\n"), 421),
        ("host: evil.example\r\n".to_owned(), 421),
        (format!("{local}\r\norigin: http://evil.example\r\n"), 403),
    ] {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        // Probes come, too.
        let before = backend.received_of("ping").len();
        let request = head(address, body.len()).replace("content-length", &format!("{more}content-length"));
        let answer = raw(address, (request + body).as_bytes(), SILENCE).await;
        let found = raw_status(&answer);
        if status == 200 {
            assert!(![403, 421].contains(&found), "{more}: {found}");
        } else {
            assert_eq!(found, status, "{more}");
            assert_eq!(backend.received_of("ping").len(), before);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_too_large() {
    let (gateway, _backend) = gateway().await;
    let size = 10 * 1024 * 1024;
    for route in ["/mcp", "/u/only/mcp"] {
        // Announced: refused before it is read. A client that goes on writing may see the connection close first.
        let announced = head(gateway.address(), size).replace("/mcp HTTP", &format!("{route} HTTP"));
        assert_eq!(raw_status(&raw(gateway.address(), announced.as_bytes(), SILENCE).await), 413, "{route}");
        // Not announced: refused when the limit is passed.
        let mut chunked = format!(
            "POST {route} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            gateway.address()
        )
        .into_bytes();
        let chunk = vec![b' '; 1024 * 1024];
        for _ in 0..10 {
            chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunked.extend_from_slice(&chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        let status = raw_status(&raw(gateway.address(), &chunked, SILENCE).await);
        // 0: the answer was lost because the peer closed while this was still writing; both are a refusal.
        assert!([413, 0].contains(&status), "{route} chunked: {status}");
    }
    works(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_beyond_the_limit_are_refused() {
    let (gateway, _backend) = gateway().await;
    let many: String = (0..2_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(1024 * 1024));
    for (name, bomb) in [("many", many), ("long", long)] {
        let bytes = format!(
            "POST /mcp HTTP/1.1\r\nhost: {}\r\n{bomb}content-length: 2\r\n\r\n{{}}",
            gateway.address()
        );
        let status = raw_status(&raw(gateway.address(), bytes.as_bytes(), SILENCE).await);
        assert_eq!(status, 431, "{name}");
    }
    let path = format!("POST /{} HTTP/1.1\r\nhost: {}\r\n\r\n", "p".repeat(100_000), gateway.address());
    let status = raw_status(&raw(gateway.address(), path.as_bytes(), SILENCE).await);
    assert!([404, 414, 431].contains(&status), "a long path: {status}");
    works(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_is_closed() {
    let (gateway, _backend) = gateway().await;
    let noise: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (name, bytes) in [
        ("noise", noise.as_slice()),
        ("TLS", &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
        ("a broken line", b"GET\r\n\r\n"),
        (
            "two lengths",
            b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        ),
        ("a length and chunks", b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: x\r\n\r\n{}"),
        (
            "broken chunks",
            b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ),
    ] {
        let answer = raw(gateway.address(), bytes, SILENCE).await;
        let status = raw_status(&answer);
        assert!(status == 0 || (400..500).contains(&status), "{name}: {answer}");
    }
    works(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_drips_its_request_is_cut() {
    let (gateway, _backend) = gateway().await;
    // The first never ends its head, the second never ends its body.
    for start in ["POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\n".to_owned(), head(gateway.address(), 1000)] {
        let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
        socket.write_all(start.as_bytes()).await.unwrap();
        let (mut read, mut write) = socket.split();
        let began = Instant::now();
        let drip = async {
            while write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        };
        let closed = async {
            let mut all = Vec::new();
            let _ = read.read_to_end(&mut all).await;
            all
        };
        let answer = in_time("the end of a connection that drips", Duration::from_secs(90), async {
            tokio::select! { answer = closed => answer, () = drip => Vec::new() }
        })
        .await;
        let status = raw_status(&String::from_utf8_lossy(&answer));
        assert!([0, 400, 408].contains(&status), "{status} after {:?}", began.elapsed());
        works(&gateway).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_closed_and_abandoned_sockets_hold_nothing() {
    let (gateway, _backend) = gateway().await;
    works(&gateway).await;
    let before = gateway.data.process.open_files();
    for round in 0..200 {
        let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
        match round % 4 {
            // Nothing at all; half a head; half a body, each with the write side closed; and a reset.
            0 => socket.shutdown().await.unwrap(),
            1 => {
                socket.write_all(b"POST /mcp HTTP/1.1\r\nhost").await.unwrap();
                socket.shutdown().await.unwrap();
            }
            2 => {
                socket.write_all(head(gateway.address(), 100).as_bytes()).await.unwrap();
                socket.write_all(b"{\"jsonrpc\"").await.unwrap();
                socket.shutdown().await.unwrap();
            }
            _ => {
                socket.write_all(head(gateway.address(), 100).as_bytes()).await.unwrap();
                socket.set_zero_linger().unwrap();
            }
        }
        if round % 4 != 3 {
            let mut rest = Vec::new();
            let _ =
                in_time("the other half to close", Duration::from_secs(30), socket.read_to_end(&mut rest))
                    .await;
        }
    }
    until("every socket to be closed", Duration::from_secs(30), || async {
        (gateway.data.process.open_files() <= before + 8).then_some(())
    })
    .await;
    works(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_costs_no_memory_that_stays() {
    let (gateway, _backend) = gateway().await;
    let http = Http::new(gateway.address());
    let big = "x".repeat(3 * 1024 * 1024);
    let round = async || {
        for body in [
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{big}"#),
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{big}"}}}}"#),
            format!("[{}1]", "1,".repeat(1_000_000)),
            format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000)),
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{}1{}}}"#,
                r#"{"a":"#.repeat(100_000),
                "}".repeat(100_000)
            ),
        ] {
            let reply = http.send("POST", "/mcp", &JSON, body).await;
            assert!((400..500).contains(&reply.status), "{} {:.200}", reply.status, reply.text());
        }
        let (headers, body) = o1_tests::mcp::modern(
            "tools/call",
            &format!(r#"{{"name":"only__echo","arguments":{{"x":"{big}"}}}}"#),
        );
        let reply = http.send("POST", "/mcp", &o1_tests::mcp::borrowed(&headers), body).await;
        assert_eq!(reply.status, 200);
        let _ = raw(gateway.address(), head(gateway.address(), 10 * 1024 * 1024).as_bytes(), SILENCE).await;
    };
    // The allocator keeps what it once had; what counts is that more garbage costs no more.
    for _ in 0..3 {
        round().await;
    }
    let before = gateway.data.process.resident_bytes();
    for _ in 0..15 {
        round().await;
    }
    let grown = gateway.data.process.resident_bytes().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "resident memory grew by {} MiB", grown / 1024 / 1024);
    works(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_deep_or_wrong_is_refused_at_the_gateway() {
    let (gateway, backend) = gateway().await;
    let http = Http::new(gateway.address());
    for body in [
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}{}",
        "{\"jsonrpc\":\"2.0\",\"id\":01,\"method\":\"tools/list\"}",
        "{'jsonrpc':'2.0'}",
        "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}",
        "null",
        "\"\\ud800\"",
    ] {
        let reply = http.send("POST", "/mcp", &JSON, body.to_owned()).await;
        assert_eq!(reply.status, 400, "{body:?}: {}", reply.text());
    }
    let reply = http.send("POST", "/mcp", &JSON, vec![b'"', 0xff, 0xfe, b'"']).await;
    assert_eq!(reply.status, 400, "bytes that are not UTF-8: {}", reply.text());
    let twice = r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list","method":"tools/call"}"#;
    assert_eq!(http.send("POST", "/mcp", &JSON, twice).await.status, 400, "members that stand twice");
    let went_on = backend.received_of("tools/list").len() + backend.received_of("tools/call").len();
    assert_eq!(went_on, 0, "nothing of it went on");
}
