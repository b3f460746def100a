//! Follows the plan: starts what is new, ends what is gone, and probes every endpoint of every store, for ever.
//!
//! It must never start a process or open a session only to see whether it works: the first call, or the first list,
//! does.

use super::{
    runtime::{Runtime, Runtimes},
    store::{LEAST, Word},
};
use crate::{
    call::{Backend, Connect, Probe},
    context::Context,
    mcp::Era,
};
use o1_process::{OnExit, Tasks};
use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How often a store is looked at, to see what time and traffic changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) fn start<C: Connect>(context: &Context, runtimes: &Arc<Runtimes<C>>) {
    let (tasks, runtimes, mut plans) = (context.tasks.clone(), runtimes.clone(), context.current.watch());
    let (stopping, logs) = (tasks.stopping(), context.logs.clone());
    context.tasks.spawn("upstreams", OnExit::Shutdown, async move {
        let mut watched = HashSet::new();
        loop {
            let plan = plans.borrow_and_update().clone();
            for gone in runtimes.take_unserved() {
                watched.remove(&gone.upstream.key);
                retire(&tasks, gone);
            }
            for upstream in plan.stores() {
                if let Ok(runtime) = runtimes.get(upstream)
                    && watched.insert(upstream.key)
                {
                    watch::<C>(&tasks, &runtime);
                }
            }
            logs.prune(|name| plan.upstream(name).is_some());
            tokio::select! {
                changed = plans.changed() => if changed.is_err() { break },
                () = stopping.cancelled() => break,
            }
        }
        stopping.cancelled().await;
        let all = runtimes.take_all();
        futures_util::future::join_all(all.iter().map(end)).await;
    });
}

fn retire<B: Backend>(tasks: &Tasks, runtime: Arc<Runtime<B>>) {
    tracing::info!(upstream = runtime.upstream.name, "upstream removed or changed");
    runtime.retired.cancel();
    runtime.store.end();
    tasks.spawn(format!("upstream {} ends", runtime.called()), OnExit::Quiet, async move {
        end(&runtime).await;
    });
}

/// Waits until only this reference is left, as long as a call may take, and ends the processes: calls hold
/// references too.
async fn end<B: Backend>(runtime: &Arc<Runtime<B>>) {
    runtime.retired.cancel();
    let deadline = tokio::time::Instant::now() + runtime.upstream.timeouts.total;
    while Arc::strong_count(runtime) > 1 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for backend in runtime.endpoints() {
        backend.stop().await;
    }
}

/// Watches over a store and each of its endpoints, each in a task that holds nothing between two looks: a retired
/// upstream ends when its calls have.
fn watch<C: Connect>(tasks: &Tasks, runtime: &Arc<Runtime<C::Backend>>) {
    let (name, retired) = (runtime.called(), &runtime.retired);
    let weak = Arc::downgrade(runtime);
    tasks.spawn(format!("upstream {name}"), OnExit::Quiet, look(weak.clone(), retired.clone()));
    for at in 0..runtime.endpoints().len() {
        let probes = probe::<C>(weak.clone(), at, retired.clone());
        tasks.spawn(format!("probe {name} {at}"), OnExit::Quiet, probes);
    }
}

/// Notices what time changes, and what traffic finds out about the store.
async fn look<B: Backend>(weak: Weak<Runtime<B>>, retired: CancellationToken) {
    let mut told = None;
    while let Some(runtime) = weak.upgrade() {
        runtime.store.tick();
        let (upstream, store) = (&runtime.upstream.name, runtime.upstream.store);
        let reach = runtime.metrics.reach_of(store);
        if reach.reachable == Some(false) {
            runtime.store.doubt();
        }
        if reach.reachable.is_some() && told != reach.reachable {
            let store = store.word();
            match reach.reachable {
                Some(false) => {
                    tracing::warn!(upstream, store, error = reach.error, "upstream cannot be reached")
                }
                _ => tracing::info!(upstream, store, "upstream reached"),
            }
            told = reach.reachable;
        }
        drop(runtime);
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = retired.cancelled() => return,
        }
    }
}

/// Probes one endpoint, at intervals and whenever traffic finds that it does not work.
async fn probe<C: Connect>(weak: Weak<Runtime<C::Backend>>, at: usize, retired: CancellationToken) {
    while let Some(runtime) = weak.upgrade() {
        let began = Instant::now();
        let over = tokio::select! {
            () = probe_once(&runtime, at) => false,
            () = retired.cancelled() => true,
        };
        let (store, wait) = (runtime.store.clone(), runtime.store.until_probe(at));
        drop(runtime);
        if over {
            return;
        }
        let next = async {
            tokio::select! {
                () = sleep(wait) => {}
                () = store.poked(at) => sleep_until(began + LEAST).await,
            }
        };
        tokio::select! {
            () = next => {}
            () = retired.cancelled() => return,
        }
    }
}

async fn probe_once<B: Backend>(runtime: &Runtime<B>, at: usize) {
    let probing = runtime.store.probe(at);
    let limit = runtime.upstream.health.timeout;
    let found = timeout(limit, runtime.endpoint_at(at).probe()).await;
    let found = found.unwrap_or_else(|_| Err(runtime.store.silent()));
    match found {
        Ok(Probe::Modern) => runtime.metrics.spoke(Era::Modern),
        Ok(Probe::Legacy) => runtime.metrics.spoke(Era::Legacy),
        _ => {}
    }
    match probing.ended(found) {
        Word::Reached => runtime.reached(),
        Word::Missed(failure) => runtime.metrics.missed(runtime.upstream.store, &failure),
        Word::None => {}
    }
}
