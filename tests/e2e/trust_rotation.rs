//! Certificates change under load: no call fails, and everybody gets the new ones.

use crate::{
    config,
    trust::{Certs, SOON, o1ctl, strs},
};
use o1_tests::{Backend, ControlPlane, DataPlane, Modern, grpc, load_time, until_true};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// Who asks the control plane all the time, each call over a connection of its own.
const ASKERS: usize = 4;
const STATUS: &str = "/o1.control.v1.StatusService/GetStatus";

#[derive(Default)]
struct Account {
    over: AtomicBool,
    calls: AtomicUsize,
    through: AtomicUsize,
    failures: Mutex<Vec<String>>,
    servers: Mutex<BTreeSet<Vec<u8>>>,
}

impl Account {
    fn failed(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }
}

async fn ask(certs: Arc<Certs>, account: Arc<Account>, address: SocketAddr) {
    let folder = certs.folder().join("certs");
    while !account.over.load(Ordering::Relaxed) {
        // A pair is two files: whoever looks between the two looks again, as the product does.
        let mut client = grpc::client(&folder, "viewer-eve");
        for _ in 0..20 {
            if client.is_ok() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
            client = grpc::client(&folder, "viewer-eve");
        }
        let called = match client {
            Ok(client) => grpc::call(address, client, STATUS).await,
            Err(error) => Err(error),
        };
        match called {
            Ok(called) if called.status == "0" => {
                account.calls.fetch_add(1, Ordering::Relaxed);
                account.servers.lock().unwrap().insert(called.server);
            }
            other => account.failed(format!("{other:?}")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_and_no_call_fails() {
    let certs = Arc::new(Certs::init().await);
    let backend = Backend::start().await;
    let control = ControlPlane::start_with(&config([backend.upstream("only")]), &strs(&certs.plane())).await;
    let data = DataPlane::start_with(control.listen, "n1", certs.node(control.listen, "n1")).await;
    certs.synced(control.listen, "n1").await;
    let account = Arc::<Account>::default();
    let mut load = JoinSet::new();
    for _ in 0..ASKERS {
        let (certs, account, address) = (certs.clone(), account.clone(), control.listen);
        load.spawn(ask(certs, account, address));
    }
    let (through, gateway) = (account.clone(), data.listen);
    load.spawn(async move {
        let client = Modern::new(gateway, "/mcp");
        while !through.over.load(Ordering::Relaxed) {
            match client.try_request("tools/call", r#"{"name":"only__echo","arguments":{"n":1}}"#).await {
                Ok(reply) if reply.status == 200 => _ = through.through.fetch_add(1, Ordering::Relaxed),
                other => through.failed(format!("MCP: {:?}", other.map(|reply| reply.text()))),
            }
        }
    });

    until_true("somebody is shown the first certificate", SOON, || async {
        !account.servers.lock().unwrap().is_empty()
    })
    .await;
    let (end, mut rotations) = (Instant::now() + load_time(), 0);
    while Instant::now() < end || rotations < 3 {
        let seen = account.servers.lock().unwrap().len();
        let done = o1ctl(&["certs", "renew", "--dir", &certs.dir()], &[]).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        rotations += 1;
        until_true("somebody is shown the new certificate", SOON, || async {
            account.servers.lock().unwrap().len() > seen
        })
        .await;
        // A node that connects anew shows its new certificate too.
        let person = certs.as_one("operator-ann", control.listen, &["nodes", "--json"]).await;
        assert_eq!(person.code, Some(0), "{person:?}");
    }
    account.over.store(true, Ordering::Relaxed);
    while load.join_next().await.is_some() {}

    let failures = account.failures.lock().unwrap();
    let (calls, through) = (account.calls.load(Ordering::Relaxed), account.through.load(Ordering::Relaxed));
    println!(
        "{rotations} rotations, {calls} calls over as many connections, {through} through the node, {} failed",
        failures.len()
    );
    assert!(failures.is_empty(), "{} of {calls}: {:?}", failures.len(), &failures[..failures.len().min(5)]);
    assert!(calls > 50 && through > 50, "{calls} {through}");
    assert!(account.servers.lock().unwrap().len() > rotations, "each rotation was seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_new_certificate_needs_no_restart() {
    let certs = Certs::init().await;
    let backend = Backend::start().await;
    let mut control =
        ControlPlane::start_with(&config([backend.upstream("only")]), &strs(&certs.plane())).await;
    let data = DataPlane::start_with(control.listen, "n1", certs.node(control.listen, "n1")).await;
    certs.synced(control.listen, "n1").await;
    // Everything is made anew, the authority included: the old certificate opens nothing any more.
    std::fs::remove_dir_all(certs.dir()).unwrap();
    let again = ["--node", "n1", "--node", "n2", "--user", "viewer/eve"];
    let dir = certs.dir();
    let line = [&["certs", "init", &dir, "--host", "127.0.0.1"][..], &again].concat();
    let done = o1ctl(&line, &[]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    control.restart().await;
    certs.synced(control.listen, "n1").await;
    assert_eq!(
        Modern::new(data.listen, "/mcp").call("only__echo", r#"{"n":2}"#).await.result()["structuredContent"]
            ["n"],
        2
    );
}
