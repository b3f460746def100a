//! The end of a data plane on purpose: calls finish, streams are told, the process ends well.

use crate::config;
use o1_tests::{Answer, Backend, DataPlane, Gateway, Legacy, Modern, planes::Options, ports, until};
use rustix::process::Signal;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn on_terminate_calls_finish_streams_end_and_the_exit_is_clean() {
    let backend = Backend::start().await;
    let pause = Duration::from_secs(2);
    backend.tool("slow", Answer::Later(pause, Box::new(Answer::text("finished"))));
    let mut gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let mut stream = client.listen().await;
    let modern = Modern::new(gateway.address(), "/mcp");
    let mut listening =
        modern.stream("subscriptions/listen", r#"{"notifications":{"toolsListChanged":true}}"#).await;
    listening.notification("notifications/subscriptions/acknowledged", Duration::from_secs(10)).await;

    let data = &mut gateway.data;
    let (legacy, last) = (client.call("only__slow", "{}"), modern.call("only__slow", "{}"));
    let drain = async {
        until("both calls at the server", Duration::from_secs(10), || async {
            (backend.received_of("tools/call").len() == 2).then_some(())
        })
        .await;
        data.process.signal(Signal::TERM);
        data.process.exit(Duration::from_secs(30)).await
    };
    let (legacy, last, status) = tokio::join!(legacy, last, drain);
    assert_eq!(legacy.result()["content"][0]["text"], "finished");
    assert_eq!(last.result()["content"][0]["text"], "finished");
    assert!(status.success(), "{status}");
    stream.end(Duration::from_secs(5)).await;
    let rest = listening.end(Duration::from_secs(5)).await;
    let goodbye = rest.last().expect("a subscription is told of its end");
    assert!(goodbye.data.contains(r#""result""#), "by the result of its request: {goodbye:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_drains_a_data_plane_is_not_ready_and_takes_no_new_clients() {
    let backend = Backend::start().await;
    // Longer than the pause between two heartbeats, which tell the control plane.
    backend.tool("slow", Answer::Later(Duration::from_secs(8), Box::new(Answer::text("finished"))));
    let mut gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let (address, admin) = (gateway.address(), gateway.data.admin);
    let modern = Modern::new(address, "/mcp");
    let data = &mut gateway.data;
    let control = &gateway.control;
    let watch = async {
        until("the call at the server", Duration::from_secs(10), || async {
            backend.received_of("tools/call").pop()
        })
        .await;
        data.process.signal(Signal::TERM);
        let http = o1_tests::Http::new(admin);
        until("readiness to be gone", Duration::from_secs(3), || async {
            (http.get("/readyz").await.status == 503).then_some(())
        })
        .await;
        control.node_until("n1", "draining", |node| node["state"] == "draining").await;
        let body = o1_tests::mcp::initialize("2025-11-25", "{}");
        match o1_tests::Http::new(address).try_send("POST", "/mcp", &o1_tests::mcp::JSON, body).await {
            Ok(response) => assert_eq!(response.status(), 503),
            // The port may be closed already.
            Err(error) => assert!(error.is_connect(), "{error:?}"),
        }
    };
    let (reply, ()) = tokio::join!(modern.call("only__slow", "{}"), watch);
    assert_eq!(reply.result()["content"][0]["text"], "finished");
    assert!(gateway.data.process.exit(Duration::from_secs(30)).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_never_ends_does_not_hold_the_process_for_ever() {
    let backend = Backend::start().await;
    backend.tool("endless", Answer::Later(Duration::from_secs(3600), Box::new(Answer::text("never"))));
    let mut gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let modern = Modern::new(gateway.address(), "/mcp");
    let data = &mut gateway.data;
    let end = async {
        until("the call at the server", Duration::from_secs(10), || async {
            backend.received_of("tools/call").pop()
        })
        .await;
        data.process.signal(Signal::TERM);
        data.process.exit(Duration::from_secs(60)).await
    };
    let call = async {
        let (headers, body) = o1_tests::mcp::modern("tools/call", r#"{"name":"only__endless"}"#);
        let _ = modern.http.try_send("POST", "/mcp", &o1_tests::mcp::borrowed(&headers), body).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        status = end => println!("ended by {status}"),
        () = call => unreachable!("the call waits for ever"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_ends_well_too() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&config([backend.upstream("only")])).await;
    gateway.control.process.signal(Signal::TERM);
    let status = gateway.control.process.exit(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
    assert_eq!(Modern::new(gateway.address(), "/mcp").tools().await, ["only__echo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_never_had_a_configuration_does_not_wait_for_one_when_it_stops() {
    // Far longer than the test waits.
    let arguments = ["--drain", "300"].map(str::to_owned).into();
    let options = Options { not_ready: true, arguments, ..Options::default() };
    let mut node = DataPlane::start_with(ports::lasting(), "n1", options).await;
    node.process.signal(Signal::TERM);
    let status = node.process.exit(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_ordered_to_drain_takes_no_new_sessions_and_finishes_what_it_has() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let ordered = gateway.control.o1ctl(&["drain", "n1", "--reason", "a new disk"]).await;
    assert_eq!((&ordered["no_op"], &ordered["order"]["reason"]), (&false.into(), &"a new disk".into()));
    gateway
        .control
        .node_until("n1", "draining by order", |node| {
            node["state"] == "draining" && node["drain"]["reason"] == "a new disk"
        })
        .await;
    let http = o1_tests::Http::new(gateway.data.admin);
    let ready = http.get("/readyz").await;
    assert_eq!((ready.status, ready.text().trim()), (503, "draining"));
    let initialize = || o1_tests::mcp::initialize("2025-11-25", "{}");
    let gate = o1_tests::Http::new(gateway.address());
    let refused = gate.try_send("POST", "/mcp", &o1_tests::mcp::JSON, initialize()).await.unwrap();
    assert_eq!(refused.status(), 503);
    // What it has goes on: the session, and whoever has none.
    assert_eq!(client.tools().await, ["only__echo"]);
    assert_eq!(Modern::new(gateway.address(), "/mcp").tools().await, ["only__echo"]);
    // The order outlives the control plane.
    gateway.control.restart().await;
    gateway
        .control
        .node_until("n1", "draining again", |node| {
            node["drain"]["reason"] == "a new disk" && node["state"] == "draining"
        })
        .await;
    let ended = gate.send("DELETE", "/mcp", &client.headers(), "").await;
    assert!(ended.status < 300, "{ended:?}");
    let waited = ["drain", "n1", "--reason", "it waits", "--wait=30s"];
    let waited = gateway.control.o1ctl(&waited).await;
    assert_eq!((&waited["no_op"], &waited["waited"]["sessions"]), (&true.into(), &0.into()), "{waited}");
    let undone = ["drain", "n1", "--undo", "--reason", "done", "--wait=30s"];
    let undone = gateway.control.o1ctl(&undone).await;
    assert_eq!(undone["waited"]["draining"], false, "{undone}");
    assert_eq!(Legacy::open(gateway.address(), "/mcp").await.tools().await, ["only__echo"]);
}
