//! What many sessions leave behind: nothing.

use crate::config;
use o1_tests::{Gateway, Http, Legacy, until};
use std::{net::SocketAddr, time::Duration};

const SESSIONS: usize = 500;
const AT_ONCE: usize = 10;

/// Opens sessions, uses each, ends every other one and abandons the rest.
async fn sessions(address: SocketAddr, count: usize) {
    for round in 0..count.div_ceil(AT_ONCE) {
        let one = |n: usize| async move {
            let client = Legacy::open(address, "/u/p/mcp").await;
            let reply = client.call("echo", &format!(r#"{{"n":{n}}}"#)).await;
            assert_eq!(reply.result()["structuredContent"]["n"], n, "{}", reply.text());
            if n.is_multiple_of(2) {
                client.http.send("DELETE", "/u/p/mcp", &client.headers(), "").await;
            }
        };
        futures_util::future::join_all((0..AT_ONCE).map(|n| one(round * AT_ONCE + n))).await;
    }
}

/// Processes below the data plane, its open files and its memory, once every session is over.
async fn left(gateway: &Gateway) -> (usize, usize, u64) {
    until("every session to be over", Duration::from_secs(60), || async {
        let status = Http::new(gateway.data.admin).get("/status").await.json();
        (status["sessions"] == 0).then_some(())
    })
    .await;
    let process = &gateway.data.process;
    until("every process of a session to be gone", Duration::from_secs(60), || async {
        (process.descendants().len() <= 1).then_some(())
    })
    .await;
    let mut files = process.open_files();
    until("the open files to settle", Duration::from_secs(30), || {
        let now = process.open_files();
        let settled = (now == files).then_some(());
        files = now;
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            settled
        }
    })
    .await;
    (process.descendants().len(), files, process.resident_bytes())
}

// metamcp#162, docker/mcp-gateway#318, ferro-labs#361
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_sessions_leave_no_process_no_file_and_no_memory() {
    for processes in ["shared", "per_session"] {
        let program = env!("CARGO_BIN_EXE_o1-test-server");
        let upstream =
            format!("  p:\n    primary:\n      - command: [{program}]\n        processes: {processes}\n");
        let gateway = Gateway::start(&(config([upstream]) + "clients: {session_idle: 2s}\n")).await;
        // The same load before: what an allocator keeps of its highest water is no leak.
        sessions(gateway.address(), SESSIONS).await;
        let before = left(&gateway).await;
        sessions(gateway.address(), SESSIONS).await;
        let after = left(&gateway).await;
        println!(
            "{processes}: {SESSIONS} sessions; (children, files, resident bytes) {before:?} -> {after:?}"
        );
        assert!(after.0 <= before.0.max(1), "{processes}: {after:?}");
        assert!(after.1 <= before.1 + 2, "{processes}: {before:?} {after:?}");
        assert!(after.2 <= before.2 + (8 << 20), "{processes}: {before:?} {after:?}");
    }
}
