//! How long calls may take, who is told when they take longer, and what clients that vanish leave behind.

use crate::config;
use o1_tests::{
    Answer, Backend, Gateway, Http, Legacy, Modern, Reply,
    backend::Era,
    mcp::{JSON, borrowed, modern},
    until,
};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::Instant};

const TIMEOUT: Option<i64> = Some(-33002);
const SECONDS: Duration = Duration::from_secs(15);
const PROGRESS: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":TOKEN,"progress":1}}"#;

fn progress(times: usize, every: u64) -> Answer {
    let steps = vec![(Duration::from_millis(every), PROGRESS.to_owned()); times];
    Answer::Stream(steps, Box::new(Answer::text("done")))
}

/// Calls of a tool in both eras on both routes, with a progress token.
async fn calls(gateway: &Gateway, name: &str, tool: &str) -> Vec<(String, Reply, Duration)> {
    let mut all = Vec::new();
    for (path, prefix) in
        [(format!("/u/{name}/mcp"), String::new()), ("/mcp".to_owned(), format!("{name}__"))]
    {
        let params = format!(r#"{{"name":"{prefix}{tool}","arguments":{{}},"_meta":{{"progressToken":1}}}}"#);
        let client = Legacy::open(gateway.address(), &path).await;
        let began = Instant::now();
        let reply = client.request("tools/call", &params).await;
        all.push((format!("legacy {path}"), reply, began.elapsed()));
        let began = Instant::now();
        let params = format!(r#"{{"name":"{prefix}{tool}","arguments":{{}}}}"#);
        let reply = Modern::new(gateway.address(), &path).request("tools/call", &params).await;
        all.push((format!("modern {path}"), reply, began.elapsed()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_has_times_of_its_own_and_its_server_hears_when_they_are_over() {
    let backend = Backend::start().await;
    backend.tool("slow", Answer::Later(Duration::from_secs(60), Box::new(Answer::text("late"))));
    backend.tool("slower", Answer::Later(Duration::from_millis(1500), Box::new(Answer::text("in time"))));
    let times = "    timeouts: {idle: 60s, tools: {slow: {total: 500ms}, \"slo*\": {idle: 10s}}}\n";
    let gateway = Gateway::start(&config([backend.upstream("b") + times])).await;
    for (which, reply, took) in calls(&gateway, "b", "slow").await {
        assert_eq!(reply.error_code(), TIMEOUT, "{which}: {}", reply.text());
        assert!(took < Duration::from_secs(5), "{which}: {took:?}");
    }
    until("the legacy cancellations", SECONDS, || async {
        (backend.received_of("notifications/cancelled").len() >= 2).then_some(())
    })
    .await;
    until("the modern streams to be closed", SECONDS, || async { (backend.cut() >= 2).then_some(()) }).await;
    for (which, reply, _) in calls(&gateway, "b", "slower").await {
        assert_eq!(reply.error_code(), None, "{which}: {}", reply.text());
    }
}

// typescript-sdk#2250, hermes#94723
#[tokio::test(flavor = "multi_thread")]
async fn progress_ends_a_silence_and_nothing_ends_the_total() {
    let backend = Backend::start().await;
    backend.tool("busy", progress(8, 250));
    backend.tool("endless", progress(1000, 200));
    backend.tool("silent", Answer::Later(Duration::from_secs(60), Box::new(Answer::text("late"))));
    let times = "    timeouts: {idle: 1s, total: 4s}\n";
    let gateway = Gateway::start(&config([backend.upstream("b") + times])).await;
    for (which, reply, took) in calls(&gateway, "b", "busy").await {
        assert_eq!(reply.error_code(), None, "{which}: {}", reply.text());
        assert!(took >= Duration::from_millis(1900), "{which}: {took:?}");
    }
    for (tool, least, most) in [("silent", 900, 3500), ("endless", 3800, 9000)] {
        for (which, reply, took) in calls(&gateway, "b", tool).await {
            assert_eq!(reply.error_code(), TIMEOUT, "{which} {tool}: {}", reply.text());
            let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
            assert!(took >= least && took < most, "{which} {tool}: {took:?}");
        }
    }
}

// opentag#652: the deadline of a connection or probe is never the deadline of a call; agentdeals#1098: no deadline
// cuts the stream of a session
#[tokio::test(flavor = "multi_thread")]
async fn no_other_deadline_cuts_a_call_or_the_stream_of_a_session() {
    let backend = Backend::start().await;
    backend.tool("slow", Answer::Later(Duration::from_secs(2), Box::new(Answer::text("done"))));
    let times = "    timeouts: {connect: 500ms, idle: 3s, total: 4s}\n";
    let gateway = Gateway::start(&config([backend.upstream("b") + times])).await;
    let client = Legacy::open(gateway.address(), "/u/b/mcp").await;
    let mut stream = client.listen().await;
    let began = Instant::now();
    for (which, reply, _) in calls(&gateway, "b", "slow").await {
        assert_eq!(reply.error_code(), None, "{which}: {}", reply.text());
    }
    assert!(began.elapsed() > Duration::from_secs(5), "longer than any of the times");
    backend.notify(r#"{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}"#);
    stream.notification("notifications/resources/list_changed", SECONDS).await;
}

// toolhive#5890, Kuadrant/mcp-gateway#1419
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_pinged_or_initialised_only_to_see_whether_they_live() {
    let (legacy, both) = (Backend::with(Era::Legacy).await, Backend::start().await);
    let gateway = Gateway::start(&config([legacy.upstream("legacy"), both.upstream("both")])).await;
    until("both to be known", SECONDS, || async {
        let status = gateway.control.o1ctl(&["status"]).await;
        let all = status["upstreams"].as_array()?;
        all.iter().all(|one| one["state"] == "healthy").then_some(())
    })
    .await;
    for backend in [&legacy, &both] {
        let methods: Vec<_> = backend.received().into_iter().map(|one| one.method).collect();
        assert!(!methods.contains(&"ping".to_owned()), "{methods:?}");
        assert!(methods.len() < 40, "{methods:?}");
    }
    assert_eq!(both.sessions(), 0, "a probe opens no session");
}

/// Sends a request on a socket of its own; dropping the socket resets the connection.
async fn begin(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.set_zero_linger().unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    socket.write_all((head + body).as_bytes()).await.unwrap();
    socket
}

async fn active(gateway: &Gateway) -> u64 {
    let status: Value = Http::new(gateway.data.admin).get("/status").await.json();
    status["upstreams"][0]["active_requests"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_frees_everything_and_cancels_in_the_modern_era() {
    let backend = Backend::start().await;
    backend.tool("stuck", Answer::Later(Duration::from_secs(20), Box::new(Answer::text("late"))));
    let gateway = Gateway::start(&config([backend.upstream("b")])).await;
    for (path, tool) in [("/u/b/mcp", "stuck"), ("/mcp", "b__stuck")] {
        let params = format!(r#"{{"name":"{tool}","arguments":{{}}}}"#);
        let (headers, body) = modern("tools/call", &params);
        let (sent, cut) = (backend.received_of("tools/call").len(), backend.cut());
        let socket = begin(gateway.address(), path, &borrowed(&headers), &body).await;
        until("the call", SECONDS, || async {
            (backend.received_of("tools/call").len() > sent).then_some(())
        })
        .await;
        let began = Instant::now();
        drop(socket);
        until("the upstream to be cancelled", SECONDS, || async { (backend.cut() > cut).then_some(()) })
            .await;
        println!("HTTP, modern {path}: the upstream heard of a reset after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(2));
        until("nothing in flight", SECONDS, || async { (active(&gateway).await == 0).then_some(()) }).await;

        let client = Legacy::open(gateway.address(), path).await;
        let sent = backend.received_of("tools/call").len();
        let mut headers = JSON.to_vec();
        headers.push(("mcp-session-id", &client.session));
        headers.push(("mcp-protocol-version", client.version()));
        let body = format!(r#"{{"jsonrpc":"2.0","id":"gone","method":"tools/call","params":{params}}}"#);
        let socket = begin(gateway.address(), path, &headers, &body).await;
        until("the call", SECONDS, || async {
            (backend.received_of("tools/call").len() > sent).then_some(())
        })
        .await;
        drop(socket);
        // A lost connection cancels nothing in this era; the session goes on.
        let echo = tool.replace("stuck", "echo");
        assert_eq!(client.call(&echo, "{}").await.error_code(), None, "{path}");
        assert!(backend.received_of("notifications/cancelled").is_empty(), "{path}");
        client.http.send("DELETE", path, &client.headers(), "").await;
        until("nothing in flight", SECONDS, || async { (active(&gateway).await == 0).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_is_heard_in_time_over_every_transport() {
    let backend = Backend::start().await;
    backend.tool("stuck", Answer::Later(Duration::from_secs(20), Box::new(Answer::text("late"))));
    let program = env!("CARGO_BIN_EXE_o1-test-server");
    let process = format!("  p:\n    primary:\n      - command: [{program}]\n");
    let gateway = Gateway::start(&config([backend.upstream("b"), process])).await;
    let call = |tool: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#
        )
    };
    let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x"}}"#;
    for (path, tool) in [("/u/b/mcp", "stuck"), ("/mcp", "b__stuck")] {
        let client = Legacy::open(gateway.address(), path).await;
        let (sent, told) =
            (backend.received_of("tools/call").len(), backend.received_of("notifications/cancelled").len());
        let cancel = async {
            until("the call", SECONDS, || async {
                (backend.received_of("tools/call").len() > sent).then_some(())
            })
            .await;
            let began = Instant::now();
            assert_eq!(client.post(note).await.status, 202);
            until("the upstream to hear", SECONDS, || async {
                (backend.received_of("notifications/cancelled").len() > told).then_some(())
            })
            .await;
            println!("HTTP, legacy {path}: the upstream heard after {:?}", began.elapsed());
            assert!(began.elapsed() < Duration::from_secs(2));
        };
        let request = client.post(call(tool));
        tokio::select! {
            () = async { cancel.await; } => {}
            reply = request => panic!("answered before it was cancelled: {}", reply.text()),
        }
    }
    for (path, tool) in [("/u/p/mcp", "hold"), ("/mcp", "p__hold")] {
        let client = Legacy::open(gateway.address(), path).await;
        let heard = tool.replace("hold", "heard");
        let cancel = async {
            until("the call", SECONDS, || async {
                let status: Value = Http::new(gateway.data.admin).get("/status").await.json();
                let busy = |one: &Value| one["name"] == "p" && one["active_requests"] == 1;
                status["upstreams"].as_array()?.iter().any(busy).then_some(())
            })
            .await;
            let began = Instant::now();
            assert_eq!(client.post(note).await.status, 202);
            until("the process to hear", SECONDS, || async {
                client.call(&heard, "{}").await.text().contains("notifications/cancelled").then_some(())
            })
            .await;
            println!("stdio, legacy {path}: the process heard within {:?}", began.elapsed());
            assert!(began.elapsed() < Duration::from_secs(2));
        };
        let (reply, ()) = tokio::join!(client.post(call(tool)), cancel);
        assert!(reply.messages().is_empty(), "{}", reply.text());
    }
}
