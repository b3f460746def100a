//! What many sessions leave behind: nothing.

use crate::config;
use o1_tests::{Gateway, Http, Legacy, until};
use std::{net::SocketAddr, time::Duration};

const SESSIONS: usize = 500;
const AT_ONCE: usize = 10;
/// Files beyond those of a data plane that nobody has used yet: a process with its pipes, and a few kept connections.
const FILES_MORE: usize = 9;

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
async fn left(gateway: &Gateway, unused: usize) -> (usize, usize, u64) {
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
    // A connection that its client has dropped stays until the data plane has noticed.
    until("the connections of the clients to be closed", Duration::from_secs(30), || async {
        (process.open_files() <= unused + FILES_MORE).then_some(())
    })
    .await;
    (process.descendants().len(), process.open_files(), process.resident_bytes())
}

// metamcp#162, docker/mcp-gateway#318, ferro-labs#361
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_sessions_leave_no_process_no_file_and_no_memory() {
    for processes in ["shared", "per_session"] {
        let program = env!("CARGO_BIN_EXE_o1-test-server");
        let upstream =
            format!("  p:\n    primary:\n      - command: [{program}]\n        processes: {processes}\n");
        let gateway = Gateway::start(&(config([upstream]) + "clients: {session_idle: 2s}\n")).await;
        // The same load four times: an allocator keeps what it needed at its highest water, which differs from
        // one time to the next, so only what grows each time is a leak: here by 4 KiB a session.
        let unused = gateway.data.process.open_files();
        let mut rounds = Vec::new();
        for _ in 0..4 {
            sessions(gateway.address(), SESSIONS).await;
            rounds.push(left(&gateway, unused).await);
        }
        println!("{processes}: (children, files, resident bytes) after each {SESSIONS} sessions: {rounds:?}");
        let memory: Vec<u64> = rounds.iter().map(|(_, _, bytes)| *bytes).collect();
        let least = memory.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).min();
        assert!(least.is_some_and(|least| least <= (4 << 10) * SESSIONS as u64), "{processes}: {rounds:?}");
        let shared = usize::from(processes == "shared");
        assert!(rounds.iter().all(|(children, _, _)| *children <= shared), "{processes}: {rounds:?}");
    }
}
