//! The node dies: at each step between the stores, and at any moment under load.

use crate::{
    account::{self, Growing},
    figures::Figures,
    load::Load,
    report,
};
use o1_tests::site::{PATIENCE, POLICY, Site, failover};
use std::time::Duration;
use tokio::time::Instant;

/// Load, the primary dies and comes back, and the node dies at this point on the way; then everything is as if it had
/// not.
async fn dies_at(point: &str) {
    let mut site = Site::dying(POLICY, true, point).await;
    let load = Load::start(site.gateway.address(), 3, 1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    site.primary.kill();
    // It dies on the way to the backup, or on the way home.
    let mut died = false;
    reach(&mut site, "backup", &mut died).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    site.primary.restart().await;
    reach(&mut site, "primary", &mut died).await;
    assert!(died, "it never came to {point}");
    let told = load.stop().await;
    let node = site.until("nothing waits", |failover| failover["journal_pending"] == 0).await;
    let figures = Figures::of("crash", &site, &told, &node);
    println!("{point}: {}", figures.row());
    figures.keeps();
    // The account of the failover survives, whole: one failover, one restoration.
    assert_eq!(figures.failovers, 1, "{point}: {node}");
    assert_eq!(node["stats"]["failover_active"], false, "{point}: {node}");
    account::every_sync_back_ended(&node);
}

/// Waits until the node is there, and starts it again should it die.
async fn reach(site: &mut Site, phase: &str, died: &mut bool) {
    let end = Instant::now() + PATIENCE;
    while site.node().await["phase"] != phase {
        if !*died && !site.gateway.data.process.is_running() {
            *died = true;
            site.gateway.data.restart().await;
        }
        assert!(Instant::now() < end, "waited in vain for the {phase}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The crash table of the design, step by step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_on_the_way_to_the_backup_loses_nothing() {
    for point in ["target_before", "target_after", "draining", "commit_before", "commit_after"] {
        dies_at(point).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_while_it_keeps_writes_loses_nothing() {
    for point in ["journal_before:5", "journal_after:5", "after_write:12"] {
        dies_at(point).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_on_the_way_home_loses_nothing() {
    for point in [
        "target_before:2",
        "target_after:2",
        "replayed:3",
        "checkpointed:3",
        "barrier",
        "commit_before:2",
        "commit_after:2",
    ] {
        dies_at(point).await;
    }
}

/// At any moment, again and again, while clients write and the primary comes and goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_deaths_under_load_lose_nothing() {
    // It turns over within its short lives, and at every outage: with a hold, each failover would double the next one's.
    let policy =
        POLICY.replace("fast_path: reads", "fast_path: full").replace("min_hold: 2s", "min_hold: 0s");
    let mut site = Site::start(&policy).await;
    let load = Load::start(site.gateway.address(), 2, 1);
    let (mut up, mut growing) = (true, Growing::default());
    for round in 0..200 {
        if round % 10 == 5 {
            up = !up;
            site.primary.behave(if up { "" } else { "503" });
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..700))).await;
        site.gateway.data.process.kill();
        site.gateway.data.restart().await;
        growing.see("node", &site.node().await);
        account::settled_at_home(&site).await;
        if round % 10 == 0 {
            growing.see("control plane", &failover(&site.gateway.control).await.unwrap_or_default());
        }
        if round % 40 == 20 {
            site.gateway.control.restart().await;
        }
    }
    site.primary.behave("");
    // No life was long enough for the whole sync-back: thousands of writes wait by now, and no more are added.
    let told = load.stop().await;
    site.until_on("primary").await;
    let node = site.until("nothing waits", |failover| failover["journal_pending"] == 0).await;
    growing.see("node", &node);
    account::told(&site).await;
    account::every_sync_back_ended(&node);
    growing.see("control plane", &failover(&site.gateway.control).await.unwrap_or_default());
    let figures = Figures::of("node killed 200 times", &site, &told, &node);
    report::add(&figures);
    figures.keeps();
    assert!(figures.failovers > 0 && figures.synced_back > 0, "nothing was put to the test: {figures:?}");
}
