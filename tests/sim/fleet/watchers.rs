//! Those who look on: some read every picture, some none.

use super::{
    contract::{
        FleetStatus, WatchStatusRequest, WatchStatusResponse, status_service_client::StatusServiceClient,
    },
    stage::PATIENCE,
};
use o1_tests::until;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::task::JoinSet;
use tonic::{Streaming, transport::Channel};

async fn watch(control: SocketAddr) -> Streaming<WatchStatusResponse> {
    let channel = Channel::from_shared(format!("http://{control}")).unwrap().connect().await.unwrap();
    let mut client = StatusServiceClient::new(channel);
    client.watch_status(WatchStatusRequest::default()).await.unwrap().into_inner()
}

/// They open a stream and never read.
pub struct Deaf {
    _streams: Vec<Streaming<WatchStatusResponse>>,
}

impl Deaf {
    pub async fn open(control: SocketAddr, number: usize) -> Self {
        let mut streams = Vec::new();
        for _ in 0..number {
            streams.push(watch(control).await);
        }
        Self { _streams: streams }
    }
}

/// They read, each on a connection of its own.
pub struct Watchers {
    reading: JoinSet<()>,
    latest: Vec<Arc<Mutex<Option<FleetStatus>>>>,
}

impl Watchers {
    /// Returns when each has its first picture.
    pub async fn open(control: SocketAddr, number: usize) -> Self {
        let (mut reading, mut latest) = (JoinSet::new(), Vec::new());
        for _ in 0..number {
            let mut stream = watch(control).await;
            let seen = Arc::new(Mutex::new(stream.message().await.unwrap().unwrap().status));
            latest.push(seen.clone());
            reading.spawn(async move {
                while let Some(next) = stream.message().await.unwrap() {
                    let next = next.status.expect("each is whole");
                    let mut last = seen.lock().unwrap();
                    let of = |status: &FleetStatus| status.as_of.map(|at| (at.seconds, at.nanos));
                    assert!(
                        last.as_ref().and_then(of) <= of(&next),
                        "an older picture came after a newer one"
                    );
                    *last = Some(next);
                }
            });
        }
        Self { reading, latest }
    }

    /// Waits until each has seen that every node runs this.
    pub async fn have_seen(&mut self, revision: u64) {
        until("every watcher to see it", PATIENCE, || {
            let saw = |status: &FleetStatus| {
                let target = status.control_plane.as_ref().and_then(|one| one.target.as_ref());
                let synced = status.nodes.as_ref().is_some_and(|nodes| nodes.synced == nodes.connected);
                synced && target.is_some_and(|target| target.revision == revision)
            };
            let all = self.latest.iter().all(|one| one.lock().unwrap().as_ref().is_some_and(saw));
            std::future::ready(all.then_some(()))
        })
        .await;
        if let Some(ended) = self.reading.try_join_next() {
            panic!("somebody's stream ended, or went back in time: {ended:?}");
        }
    }
}
