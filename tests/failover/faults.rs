//! The primary, or the backup, fails in every way that servers do.

use crate::{
    account::{self, Moments},
    figures::Figures,
    load::Load,
    report,
};
use o1_tests::{
    site::{PATIENCE, POLICY, Site},
    until_true,
};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

const WRITERS: usize = 4;
const READERS: usize = 4;
/// Clients work for this long before and after a fault.
const AROUND: Duration = Duration::from_millis(700);

/// Load, a fault, the backup takes over, the repair, the primary is back, the load ends.
async fn survives(
    fault: &'static str,
    policy: &str,
    break_it: impl FnOnce(&mut Site),
    repair: impl AsyncFnOnce(&mut Site),
) {
    let mut site = Site::start(policy).await;
    let load = Load::start(site.gateway.address(), WRITERS, READERS);
    tokio::time::sleep(AROUND).await;
    let (broken, broken_at) = (Instant::now(), SystemTime::now());
    break_it(&mut site);
    site.until_on("backup").await;
    let (failed_over, over_at) = (broken.elapsed(), SystemTime::now());
    tokio::time::sleep(AROUND).await;
    let repaired_at = SystemTime::now();
    repair(&mut site).await;
    let repaired = Instant::now();
    site.until_on("primary").await;
    let (restored, back_at) = (repaired.elapsed(), SystemTime::now());
    tokio::time::sleep(AROUND).await;
    let told = load.stop().await;
    let node = site.until("nothing waits", |failover| failover["journal_pending"] == 0).await;
    let mut figures = Figures::of(fault, &site, &told, &node);
    (figures.failed_over, figures.restored) = (Some(failed_over), Some(restored));
    report::add(&figures);
    figures.keeps();
    assert_eq!(figures.failovers, 1, "{figures:?}");
    assert!(figures.synced_back > 0, "nothing was written meanwhile: {figures:?}");
    // The fast path answers reads as soon as the breaker is open: what was in flight fails, and what opened it.
    assert!(figures.gap < failed_over + Duration::from_secs(1), "{figures:?}");
    Moments { over: [broken_at, over_at], back: [repaired_at, back_at] }.agree(&told, &node);
    account::told(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_killed_loses_nothing() {
    survives("killed", POLICY, |site| site.primary.kill(), async |site| site.primary.restart().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_hangs_loses_nothing() {
    survives("stopped (SIGSTOP)", POLICY, |site| site.primary.freeze(), async |site| site.primary.thaw())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_answers_503_loses_nothing() {
    survives("answers 503", POLICY, |site| site.primary.behave("503"), async |site| site.primary.behave(""))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_accepts_and_never_answers_loses_nothing() {
    survives(
        "never answers",
        POLICY,
        |site| site.primary.behave("hang"),
        async |site| site.primary.behave(""),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_fast_path_turns_over_at_once() {
    let policy = POLICY.replace("fast_path: reads", "fast_path: full");
    survives(
        "killed, fast_path: full",
        &policy,
        |site| site.primary.kill(),
        async |site| site.primary.restart().await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_only_slow_stays() {
    let site = Site::start(POLICY).await;
    let load = Load::start(site.gateway.address(), 2, 2);
    site.primary.behave("slow 100");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let told = load.stop().await;
    let figures = Figures::of("slow, ten times", &site, &told, &site.node().await);
    report::add(&figures);
    figures.keeps();
    assert_eq!((figures.failovers, figures.reads.1), (0, 0), "{figures:?}");
}

/// Invariant I12: as many failovers as holds fit in, and one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_flaps_turns_calls_over_only_so_often() {
    let site = Site::start(POLICY).await;
    let load = Load::start(site.gateway.address(), 1, 2);
    let began = Instant::now();
    // Two minutes.
    for _ in 0..12 {
        site.primary.behave("503");
        tokio::time::sleep(Duration::from_secs(5)).await;
        site.primary.behave("");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let window = began.elapsed();
    // What was kept in two minutes is replayed while nothing is added.
    let told = load.stop().await;
    // Each failover doubled the hold of the next.
    until_true("the primary serves for good", 3 * PATIENCE, || async {
        site.node().await["phase"] == "primary"
    })
    .await;
    let node = site.until("nothing waits", |failover| failover["journal_pending"] == 0).await;
    let figures = Figures::of("flaps every 5 s", &site, &told, &node);
    report::add(&figures);
    figures.keeps();
    // `min_hold` of 2 s, which doubles with each failover: 2 + 4 + 8 + 16 + 32 + 64 s are more than the window.
    assert!(window < Duration::from_secs(126), "{window:?}");
    assert!(
        (1..=6).contains(&figures.failovers),
        "{} failovers in {window:?}: {figures:?}",
        figures.failovers
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_again_while_entries_are_replayed_loses_nothing() {
    let mut site = Site::start(POLICY).await;
    let load = Load::start(site.gateway.address(), WRITERS, READERS);
    site.primary.kill();
    site.until_on("backup").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    site.primary.restart().await;
    // Each entry takes a while, so that the next death falls among them.
    site.primary.behave("slow 30");
    site.until("a sync-back", |failover| failover["phase"] == "syncing_back").await;
    site.primary.kill();
    tokio::time::sleep(AROUND).await;
    site.primary.behave("");
    site.primary.restart().await;
    site.until_on("primary").await;
    let told = load.stop().await;
    let node = site.until("nothing waits", |failover| failover["journal_pending"] == 0).await;
    let figures = Figures::of("dies during sync-back", &site, &told, &node);
    report::add(&figures);
    figures.keeps();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_again_at_the_cutover_loses_nothing() {
    let mut site = Site::start(POLICY).await;
    let load = Load::start(site.gateway.address(), WRITERS, READERS);
    site.primary.kill();
    site.until_on("backup").await;
    tokio::time::sleep(AROUND).await;
    // The cutover lasts as long as what the backup has not answered.
    site.backup.behave("slow 250");
    site.primary.restart().await;
    site.at("cutover").await;
    site.primary.kill();
    site.until("the cutover is over", |failover| failover["phase"] != "cutover").await;
    // It is off if an entry was left to replay; otherwise the calls are home, and turn over again.
    site.until("the backup serves", |failover| failover["active_store"] == "backup").await;
    site.backup.behave("");
    site.primary.restart().await;
    site.until_on("primary").await;
    let told = load.stop().await;
    let node = site.until("nothing waits", |failover| failover["journal_pending"] == 0).await;
    let figures = Figures::of("dies at the cutover", &site, &told, &node);
    report::add(&figures);
    figures.keeps();
    // It fell into the cutover: either that was cut off, or it was over and another failover followed.
    let cut = node["stats"]["sync_back_failures"].as_u64() > Some(0);
    assert!(figures.failovers == 2 || (figures.failovers == 1 && cut), "{figures:?}: {node}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_dies_first_turns_nothing_over() {
    let mut site = Site::start(POLICY).await;
    let load = Load::start(site.gateway.address(), WRITERS, READERS);
    site.backup.kill();
    site.until("the backup is seen dead", |failover| failover["backup"]["verdict"] == "unhealthy").await;
    site.primary.kill();
    site.until_told("both are seen dead", |failover| failover["decision"] == "blocked").await;
    assert_eq!(site.node().await["active_store"], "primary");
    site.primary.restart().await;
    site.until("the primary is seen healthy", |failover| failover["primary"]["verdict"] == "healthy").await;
    tokio::time::sleep(AROUND).await;
    let told = load.stop().await;
    let figures = Figures::of("backup first, then both", &site, &told, &site.node().await);
    report::add(&figures);
    figures.keeps();
    assert_eq!(figures.failovers, 0, "{figures:?}");
}
