//! Follows the plan: starts what is new, ends what is gone, and keeps trying what cannot be reached, for ever.
//!
//! It must never start a process only to see whether it starts: the first call, or the first list, does.

use super::runtime::{Runtime, Runtimes};
use crate::{
    call::{Backend as _, Connect, Probe},
    context::Context,
    failure::{Failure, Kind},
    mcp::Era,
};
use o1_process::{Backoff, OnExit, Tasks};
use std::{collections::HashSet, sync::Arc, time::Duration};

/// How often a reachable upstream is looked at, to see whether traffic found it unreachable.
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
                    tasks.spawn(
                        format!("upstream {}", upstream.name),
                        OnExit::Quiet,
                        keep_trying::<C>(runtime),
                    );
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

fn retire<B: crate::call::Backend>(tasks: &Tasks, runtime: Arc<Runtime<B>>) {
    tracing::info!(upstream = runtime.upstream.name, "upstream removed or changed");
    runtime.retired.cancel();
    tasks.spawn(format!("upstream {} ends", runtime.upstream.name), OnExit::Quiet, async move {
        end(&runtime).await;
    });
}

/// Waits until only this reference is left, as long as a call may take, and ends the processes: calls hold
/// references too.
async fn end<B: crate::call::Backend>(runtime: &Arc<Runtime<B>>) {
    runtime.retired.cancel();
    let deadline = tokio::time::Instant::now() + runtime.upstream.timeouts.total;
    while Arc::strong_count(runtime) > 1 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for backend in runtime.endpoints() {
        backend.stop().await;
    }
}

/// Probes until the upstream is reached, and again whenever traffic finds that it is not.
async fn keep_trying<C: Connect>(runtime: Arc<Runtime<C::Backend>>) {
    let (name, retired) = (runtime.upstream.name.clone(), runtime.retired.clone());
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));
    let mut told = None;
    // A weak reference between two looks: a retired upstream ends when its calls have.
    let weak = Arc::downgrade(&runtime);
    drop(runtime);
    while let Some(runtime) = weak.upgrade() {
        runtime.store.take_back();
        let wait = if runtime.metrics.reach().reachable == Some(true) {
            backoff.reset();
            LOOK_EVERY
        } else {
            let found = tokio::select! {
                found = probe::<C>(&runtime) => found,
                () = retired.cancelled() => return,
            };
            if !found { backoff.next().max(Duration::from_millis(100)) } else { LOOK_EVERY }
        };
        let reach = runtime.metrics.reach();
        if reach.reachable.is_some() && told != reach.reachable {
            match reach.reachable {
                Some(false) => {
                    tracing::warn!(upstream = name, error = reach.error, "upstream cannot be reached")
                }
                _ => tracing::info!(upstream = name, "upstream reached"),
            }
            told = reach.reachable;
        }
        drop(runtime);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = retired.cancelled() => return,
        }
    }
}

async fn probe<C: Connect>(runtime: &Runtime<C::Backend>) -> bool {
    let limit = runtime.upstream.timeouts.connect + Duration::from_secs(1);
    let (mut last, mut unknown) = (None, false);
    for at in runtime.store.order_from(0) {
        match tokio::time::timeout(limit, runtime.endpoint_at(at).probe()).await {
            Ok(Ok(found)) => {
                match found {
                    Probe::Modern => runtime.metrics.spoke(Era::Modern),
                    Probe::Legacy => runtime.metrics.spoke(Era::Legacy),
                    Probe::Answers => {}
                    Probe::Unknown => {
                        unknown = true;
                        continue;
                    }
                }
                runtime.metrics.reached();
                return true;
            }
            Ok(Err(failure)) => last = Some(failure),
            Err(_) => last = Some(Failure::new(Kind::Timeout, "the upstream did not answer in time")),
        }
    }
    // Nobody knows whether a process that nobody wanted yet would answer.
    if let Some(failure) = last.filter(|_| !unknown) {
        runtime.metrics.missed(&failure);
        return false;
    }
    true
}
