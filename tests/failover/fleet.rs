//! Three nodes and one control plane: who sees what decides.

use o1_tests::{
    planes::{ControlPlane, DataPlane, Options},
    site::{POLICY, Store, config, failover, node},
    wait::until,
};
use serde_json::Value;
use std::time::Duration;

struct Fleet {
    nodes: Vec<DataPlane>,
    control: ControlPlane,
    primary: Store,
    _backup: Store,
    _dir: tempfile::TempDir,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Fleet {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (primary, backup) = (Store::start(&dir, "primary").await, Store::start(&dir, "backup").await);
        let text = format!(
            "{}    headers: {{X-Node: 'env:O1_TEST_NODE'}}\n",
            config(&primary, Some(&backup), POLICY)
        );
        let control = ControlPlane::start(&text).await;
        let mut nodes = Vec::new();
        for id in ["n1", "n2", "n3"] {
            let environment = vec![("O1_TEST_NODE".to_owned(), id.to_owned())];
            let options = Options { environment, ..Options::default() };
            nodes.push(DataPlane::start_with(control.listen, id, options).await);
            control.synced(id).await;
        }
        let fleet = Self { nodes, control, primary, _backup: backup, _dir: dir };
        fleet.until("all see the primary healthy", |failover| failover["observers_healthy"] == 3).await;
        fleet
    }

    async fn until(&self, what: &str, question: impl Fn(&Value) -> bool) -> Value {
        let question = &question;
        until(what, PATIENCE, || async move { failover(&self.control).await.filter(question) }).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_that_is_cut_off_turns_nobody_over_and_two_do() {
    let mut fleet = Fleet::start().await;
    fleet.primary.behave("deaf n1");
    fleet.until("one complains", |failover| failover["observers_unhealthy"] == 1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let calm = fleet.until("an answer", |_| true).await;
    assert_eq!((&calm["nodes_on_backup"], &calm["term"]), (&0.into(), &0.into()), "{calm}");
    // Down during the failover: it learns of it when it is back.
    fleet.nodes[2].process.kill();
    fleet.primary.behave("deaf n1 n2");
    let over = fleet.until("two of two turn over", |failover| failover["nodes_on_backup"] == 2).await;
    assert_eq!(over["last_reason"], "quorum_unhealthy", "{over}");
    fleet.nodes[2].restart().await;
    let data = &fleet.nodes[2];
    let state = until("the third follows", PATIENCE, || async move {
        Some(node(data).await).filter(|state| state["active_store"] == "backup")
    })
    .await;
    assert_eq!(state["term"], over["term"], "{state}");
    fleet.primary.behave("");
    fleet.until("all are home", |failover| failover["nodes_on_primary"] == 3).await;
}
