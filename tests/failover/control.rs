//! The control plane dies before, while and after calls turn over.

use crate::{figures::Figures, load::Load, report};
use o1_tests::site::{POLICY, Site};
use std::time::Duration;

/// Longer than `autonomy_after`.
const ALONE: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_control_plane_the_node_turns_over_by_itself_and_is_believed_later() {
    let mut site = Site::start(POLICY).await;
    let load = Load::start(site.gateway.address(), 2, 2);
    site.gateway.control.process.kill();
    tokio::time::sleep(ALONE).await;
    site.primary.kill();
    site.until_on("backup").await;
    assert!(site.node().await["local_term"].as_u64() > Some(0), "it acted alone");
    site.gateway.control.restart().await;
    site.until_told("the control plane agrees", |failover| {
        failover["desired"] == "backup" && failover["nodes_on_backup"] == 1
    })
    .await;
    site.primary.restart().await;
    site.until_on("primary").await;
    let told = load.stop().await;
    let node = site.until("nothing waits", |failover| failover["journal_pending"] == 0).await;
    let figures = Figures::of("control plane dead before", &site, &told, &node);
    report::add(&figures);
    figures.keeps();
    assert_eq!(figures.failovers, 1, "{figures:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_dies_during_a_failover_comes_back_and_finishes_it() {
    let mut site = Site::start(POLICY).await;
    let load = Load::start(site.gateway.address(), 2, 2);
    site.primary.kill();
    site.until_on("backup").await;
    site.gateway.control.process.kill();
    tokio::time::sleep(ALONE).await;
    assert_eq!(site.node().await["active_store"], "backup", "nobody else may bring it back");
    site.primary.restart().await;
    tokio::time::sleep(ALONE).await;
    assert_eq!(site.node().await["active_store"], "backup", "nobody else may bring it back");
    site.gateway.control.restart().await;
    site.until_on("primary").await;
    let told = load.stop().await;
    let node = site.until("nothing waits", |failover| failover["journal_pending"] == 0).await;
    let figures = Figures::of("control plane dead during", &site, &told, &node);
    report::add(&figures);
    figures.keeps();
    assert_eq!(figures.failovers, 1, "{figures:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_dies_afterwards_changes_nothing() {
    let mut site = Site::start(POLICY).await;
    let load = Load::start(site.gateway.address(), 2, 2);
    site.primary.kill();
    site.until_on("backup").await;
    site.primary.restart().await;
    site.until_on("primary").await;
    site.gateway.control.process.kill();
    tokio::time::sleep(ALONE).await;
    site.gateway.control.restart().await;
    let told = site.until_told("the control plane remembers", |failover| {
        failover["stats"]["failover_count"] == 1 && failover["nodes_on_primary"] == 1
    });
    told.await;
    let told = load.stop().await;
    let figures = Figures::of("control plane dead after", &site, &told, &site.node().await);
    report::add(&figures);
    figures.keeps();
    assert_eq!(figures.failovers, 1, "{figures:?}");
}
