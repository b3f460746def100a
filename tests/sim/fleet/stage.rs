//! The control plane with its nodes, and what is done to them.

use super::{
    contract::{
        ApplyConfigRequest, ConfigDocument, FleetStatus, GetStatusRequest, Rollout, WatchRolloutRequest,
        config_service_client::ConfigServiceClient, status_service_client::StatusServiceClient,
    },
    figures::{Figures, Spread},
    node::{Diary, Node},
};
use o1_tests::{ControlPlane, until, until_true, wait::in_time};
use std::{fmt::Write as _, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Status, transport::Channel};

pub const NODES: u16 = 300;
/// Lacks something that a configuration may ask for. Its turn comes with the second wave.
pub const BAD: &str = "n005";
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A document of twelve upstreams, of which four have a backup; `number` makes it differ, `more` belongs to the last.
pub fn document(number: u16, more: &str) -> String {
    let mut text = String::from("upstreams:\n");
    for one in 1..=12 {
        let (url, other) = (9_000 + one, 9_100 + one);
        writeln!(text, "  u{one:02}:\n    primary:\n      - url: http://127.0.0.1:{url}/mcp\n      - url: http://127.0.0.1:{other}/mcp").unwrap();
        if one <= 4 {
            writeln!(text, "    backup:\n      - url: http://127.0.0.1:{}/mcp", 9_200 + one).unwrap();
        }
    }
    write!(text, "    timeouts: {{idle: {}s}}\n{more}", 30 + number).unwrap();
    text
}

/// Everything.
pub struct Stage {
    /// They end first.
    nodes: JoinSet<Result<(), Status>>,
    pub diaries: Vec<Arc<Diary>>,
    pub control: ControlPlane,
    pub channel: Channel,
    pub statuses: StatusServiceClient<Channel>,
    /// What was applied last.
    pub revision: u64,
}

impl Stage {
    /// Starts all and waits until they run one configuration.
    pub async fn set(figures: &mut Figures) -> Self {
        let control = ControlPlane::start_without_file("upstreams: {}\n").await;
        let url = format!("http://{}", control.listen);
        let channel = Channel::from_shared(url).unwrap().tcp_nodelay(true).connect().await.unwrap();
        let statuses = StatusServiceClient::new(channel.clone());
        let (nodes, diaries) = (JoinSet::new(), Vec::new());
        let mut stage = Self { nodes, diaries, control, channel, statuses, revision: 0 };
        stage.apply(&document(0, "")).await;
        let began = Instant::now();
        for number in 1..=NODES {
            let diary = Arc::new(Diary::default());
            stage.diaries.push(diary.clone());
            let node = Node::new(number, format!("n{number:03}") == BAD, diary);
            stage.nodes.spawn(node.live(stage.control.listen));
        }
        stage.all_run().await;
        figures.add(
            "300 nodes join at once, until each runs the configuration",
            Spread::of(stage.acknowledged(began)).to_string(),
        );
        until_true("all have reported", PATIENCE, || async {
            let status = stage.status().await;
            status.upstreams.len() == 12
                && status.upstreams.iter().all(|one| one.nodes_reachable == u32::from(NODES))
        })
        .await;
        stage
    }

    /// Makes a document what the fleet should run; when that was asked for.
    pub async fn apply(&mut self, document: &str) -> Instant {
        let document = Some(ConfigDocument { content: document.into(), source: "fleet.yaml".to_owned() });
        let mut configs = ConfigServiceClient::new(self.channel.clone());
        let began = Instant::now();
        let applied = configs.apply_config(ApplyConfigRequest { document, ..Default::default() }).await;
        let applied = applied.unwrap().into_inner();
        assert!(!applied.no_op);
        self.revision = applied.version.unwrap().revision;
        began
    }

    /// The last picture of the rollout of what was applied last.
    pub async fn rollout_ends(&self) -> Rollout {
        let mut configs = ConfigServiceClient::new(self.channel.clone());
        let min_interval = Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 });
        let request = WatchRolloutRequest { revision: self.revision, min_interval };
        let mut pictures = configs.watch_rollout(request).await.unwrap().into_inner();
        let mut last = None;
        let all = async {
            while let Some(picture) = pictures.message().await.unwrap() {
                last = picture.rollout;
            }
        };
        in_time("the end of a rollout", PATIENCE, all).await;
        last.expect("the end is a picture")
    }

    /// How long after `began` each node said that it runs what was applied last.
    pub fn acknowledged(&self, began: Instant) -> Vec<Duration> {
        let at =
            |diary: &Arc<Diary>| diary.applied_at(self.revision).expect("it runs it").duration_since(began);
        self.diaries.iter().map(at).collect()
    }

    /// Waits until every node runs what was applied last.
    pub async fn all_run(&self) {
        until("every node to run it", PATIENCE, || {
            let all = self.diaries.iter().all(|diary| diary.runs() == Some(self.revision));
            std::future::ready(all.then_some(()))
        })
        .await;
    }

    pub async fn status(&self) -> FleetStatus {
        let mut statuses = self.statuses.clone();
        statuses.get_status(GetStatusRequest::default()).await.unwrap().into_inner().status.unwrap()
    }

    /// Every node still has its stream.
    pub fn is_complete(&mut self) -> bool {
        self.nodes.try_join_next().is_none() && self.nodes.len() == usize::from(NODES)
    }
}
