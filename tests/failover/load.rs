//! Clients that write and read all the time and remember what they were told.

use o1_tests::{mcp::Modern, site::PATIENCE, wait::in_time};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};

/// When a read began, how long it took, and who answered.
pub type Read = (Instant, Duration, Result<String, String>);

/// What clients were told.
#[derive(Default)]
pub struct Told {
    /// Ids of writes that were acknowledged.
    pub acked: Mutex<Vec<String>>,
    /// Of these, how many as kept for the primary.
    pub journaled: AtomicU64,
    /// How often a write was not answered, or refused. It may be kept all the same.
    pub unsure: AtomicU64,
    /// Every one.
    pub reads: Mutex<Vec<Read>>,
    over: AtomicBool,
}

/// Clients at work.
pub struct Load {
    pub told: Arc<Told>,
    tasks: JoinSet<()>,
}

impl Load {
    /// `writers` write and `readers` read, until [`Load::stop`].
    pub fn start(address: SocketAddr, writers: usize, readers: usize) -> Self {
        let (told, mut tasks) = (Arc::<Told>::default(), JoinSet::new());
        for writer in 0..writers {
            tasks.spawn(write(address, writer, told.clone()));
        }
        for _ in 0..readers {
            tasks.spawn(read(address, told.clone()));
        }
        Self { told, tasks }
    }

    /// Ends them all; each write that was begun gets to its end.
    pub async fn stop(mut self) -> Arc<Told> {
        self.told.over.store(true, Ordering::Relaxed);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        in_time("clients end", PATIENCE, ended).await;
        self.told
    }
}

async fn write(address: SocketAddr, writer: usize, told: Arc<Told>) {
    let client = Modern::new(address, "/u/x/mcp");
    for number in 0.. {
        let id = format!("w{writer}-{number}");
        let params = format!(
            r#"{{"name":"put","arguments":{{"id":"{id}"}},"_meta":{{"dev.only1/idempotencyKey":"{id}"}}}}"#
        );
        let journaled = loop {
            if let Some(journaled) = wrote(&client, &params).await {
                break journaled;
            }
            told.unsure.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            if told.over.load(Ordering::Relaxed) {
                return; // It was never acknowledged: nobody was promised anything.
            }
        };
        told.journaled.fetch_add(u64::from(journaled), Ordering::Relaxed);
        told.acked.lock().expect("no holder panics").push(id);
        if told.over.load(Ordering::Relaxed) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether it was kept for the primary; `None`: it was not acknowledged.
async fn wrote(client: &Modern, params: &str) -> Option<bool> {
    let result = client.try_request("tools/call", params).await.ok()?.result_or_null();
    let acknowledged = result["content"].is_array() && result["isError"] != true;
    acknowledged.then(|| result["_meta"]["dev.only1/failover"]["journaled"] == true)
}

async fn read(address: SocketAddr, told: Arc<Told>) {
    let client = Modern::new(address, "/u/x/mcp");
    while !told.over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let who = match client.try_request("tools/call", r#"{"name":"who","arguments":{}}"#).await {
            Ok(reply) => {
                let result = reply.result_or_null();
                result["content"][0]["text"].as_str().map(str::to_owned).ok_or_else(|| reply.text())
            }
            Err(error) => Err(error),
        };
        told.reads.lock().expect("no holder panics").push((began, began.elapsed(), who));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
