//! Three hundred simulated nodes on one real control plane: every change reaches all of them, one bad node stops a
//! change for all, and what is asked of the control plane meanwhile is answered.
//!
//! What is right is asserted; how long it took is said, and written into `docs/operations.md` with `O1_REPORT=1`.

mod contract;
mod figures;
mod node;
mod stage;
mod watchers;

use contract::{
    GetStatusRequest, OrderStoreRequest, RolloutState, Store, admin_service_client::AdminServiceClient,
};
use figures::{Figures, Spread, cpu_time};
use node::SECRET;
use o1_tests::until;
use stage::{BAD, NODES, PATIENCE, Stage, document};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use watchers::{Deaf, Watchers};

const WATCHERS: usize = 50;
/// More than the control plane may grow by, whatever happens to the fleet below.
const GROWTH: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_nodes_hear_of_each_change_and_one_bad_one_stops_it() {
    let mut figures = Figures::default();
    let mut stage = Stage::set(&mut figures).await;
    let full = stage.control.process.resident_bytes();
    // They never read: what they miss must not pile up.
    let deaf = Deaf::open(stage.control.listen, 10).await;
    answers(&stage, &mut figures).await;
    let mut watchers = watched(&stage, &mut figures).await;
    changes(&mut stage, &mut figures).await;
    watchers.have_seen(stage.revision).await;
    a_bad_node(&mut stage, &mut figures).await;
    turned_over(&stage, &mut figures).await;
    let grown = stage.control.process.resident_bytes().saturating_sub(full);
    figures.add(
        "resident memory with 300 nodes; growth by all of this",
        format!("{}; {}", mib(full), mib(grown)),
    );
    assert!(grown < GROWTH, "grew by {grown} bytes from {full}");
    assert!(stage.is_complete(), "a node lost its stream");
    drop((deaf, watchers));
    figures.report();
}

/// The status, while everybody reports.
async fn answers(stage: &Stage, figures: &mut Figures) {
    let mut times = Vec::new();
    let mut statuses = stage.statuses.clone();
    for _ in 0..200 {
        let began = Instant::now();
        let status =
            statuses.get_status(GetStatusRequest::default()).await.unwrap().into_inner().status.unwrap();
        times.push(began.elapsed());
        assert_eq!(status.nodes.unwrap().connected, u32::from(NODES));
    }
    figures.add("`GetStatus`, 200 times", Spread::of(times).to_string());
    let mut times = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        let output = stage.control.o1ctl_ends(&["status"]).await;
        times.push(began.elapsed());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("300 of 300 nodes"), "{text}");
    }
    figures.add("`o1ctl status`, the whole process, 20 times", Spread::of(times).to_string());
}

/// Watchers of the status, and what they cost.
async fn watched(stage: &Stage, figures: &mut Figures) -> Watchers {
    let pid = stage.control.process.pid();
    // Long enough to say something, where somebody will read it.
    let window = Duration::from_secs(if figures::are_wanted() { 15 } else { 3 });
    let spent = async || {
        let before = cpu_time(pid);
        sleep(window).await;
        (cpu_time(pid) - before).as_secs_f64() / window.as_secs_f64() * 100.0
    };
    let alone = spent().await;
    let watchers = Watchers::open(stage.control.listen, WATCHERS).await;
    let watched = spent().await;
    figures.add("processor time of the control plane, nobody watches", format!("{alone:.1} % of a core"));
    figures.add(
        "… and what 50 watchers add, a picture a second each",
        format!("{:.1} % of a core", watched - alone),
    );
    watchers
}

/// Good changes, one after the other.
async fn changes(stage: &mut Stage, figures: &mut Figures) {
    let (mut all, mut over) = (Vec::new(), Vec::new());
    for number in 1..=5 {
        let began = stage.apply(&document(number, "")).await;
        let end = stage.rollout_ends().await;
        over.push(began.elapsed());
        assert_eq!((end.state(), end.applied), (RolloutState::Succeeded, u32::from(NODES)), "{end:?}");
        all.extend(stage.acknowledged(began));
    }
    figures
        .add("a change, from `ApplyConfig` to each acknowledgement, 5 changes", Spread::of(all).to_string());
    figures.add("… until `WatchRollout` says that it is over", Spread::of(over).to_string());
}

/// One node of the second wave cannot run it.
async fn a_bad_node(stage: &mut Stage, figures: &mut Figures) {
    let before = stage.revision;
    let began = stage.apply(&document(6, &format!("    headers: {{Authorization: \"{SECRET}\"}}\n"))).await;
    let bad = stage.revision;
    let end = stage.rollout_ends().await;
    let took = began.elapsed();
    assert_eq!(end.state(), RolloutState::RolledBack, "{end:?}");
    assert!(end.because.contains(BAD) && end.because.contains("O1_SIM_SECRET"), "{end:?}");
    let given = stage.diaries.iter().filter(|diary| diary.was_given(bad)).count();
    assert!((2..=usize::from(NODES) / 10).contains(&given), "{given} nodes were given it");
    // Everybody runs what was before, as a revision of its own.
    stage.revision = end.rolled_back_to.as_ref().expect("it was taken back").revision;
    assert!(stage.revision > bad && bad > before);
    stage.all_run().await;
    let text = format!("{:.1} s; {given} of 300 nodes were ever given it", took.as_secs_f64());
    figures.add("one node refuses: stopped and taken back", text);
    let status = stage.status().await;
    assert_eq!(status.nodes.unwrap().synced, u32::from(NODES));
}

/// An order that every node follows.
async fn turned_over(stage: &Stage, figures: &mut Figures) {
    let mut admin = AdminServiceClient::new(stage.channel.clone());
    let (upstream, reason) = ("u01".to_owned(), "a test".to_owned());
    let order = OrderStoreRequest { upstream, target: Store::Backup.into(), reason, ..Default::default() };
    let began = Instant::now();
    let told = admin.order_store(order).await.unwrap().into_inner();
    assert_eq!(told.nodes, u32::from(NODES));
    until("all nodes are on the backup", PATIENCE, || async {
        let status = stage.status().await;
        let row = status.upstreams.iter().find(|one| one.name == "u01")?;
        row.failover.as_ref().filter(|failover| failover.nodes_on_backup == u32::from(NODES)).map(|_| ())
    })
    .await;
    figures.add(
        "a failover by order, from `OrderStore` to all nodes on the backup",
        format!("{:.0} ms", began.elapsed().as_secs_f64() * 1e3),
    );
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
