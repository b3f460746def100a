//! What upstreams offer, fetched in the background and kept as the bytes it came in, so that no client waits
//! for a list that somebody has already seen. It answers from memory; only its keepers ask upstreams.

mod fetch;
mod keeper;
mod list;
mod view;

pub(super) use fetch::fetch;
pub(super) use list::{Item, List};
pub(super) use view::{Entry, Following, Kind, State, View};

use super::category::Category;
use crate::{
    call::{Ask, Upstreams},
    context::Context,
    plan::{Key, Plan, Upstream},
    stores::Gate,
};
use keeper::Keeper;
use o1_process::OnExit;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Views at a time; the one that nobody has looked at for longest makes room.
const VIEWS_MAX: usize = 64;
/// Views that nobody looked at for this long are closed.
const IDLE_MAX: Duration = Duration::from_secs(5 * 60);
/// How often they are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How long an upstream may take to confirm the end of a session.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Every view.
pub(super) struct Catalogue<N> {
    context: Context,
    next: Arc<N>,
    views: RwLock<HashMap<Kind, Arc<View>>>,
    last: Arc<Last>,
    doubts: AtomicU64,
}

impl<N: Upstreams> Catalogue<N> {
    /// Empty. From now on it closes views that nobody uses.
    pub(super) fn new(context: &Context, next: &Arc<N>) -> Arc<Self> {
        let catalogue = Arc::new(Self {
            context: context.clone(),
            next: next.clone(),
            views: RwLock::default(),
            last: Arc::default(),
            doubts: AtomicU64::new(0),
        });
        let (swept, stopping) = (Arc::downgrade(&catalogue), context.tasks.stopping());
        context.tasks.spawn("catalogue", OnExit::Quiet, async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(SWEEP_EVERY) => {}
                    () = stopping.cancelled() => return,
                }
                let Some(catalogue) = swept.upgrade() else { return };
                catalogue.sweep();
            }
        });
        catalogue
    }

    /// The view of clients of this kind, with these upstreams in it.
    pub(super) fn view(&self, kind: &Kind, upstreams: &[Arc<Upstream>]) -> Arc<View> {
        let known = self.views.read().unwrap_or_else(PoisonError::into_inner).get(kind).cloned();
        let view = known.unwrap_or_else(|| self.open(kind));
        view.touch();
        self.keep(&view, upstreams);
        view
    }

    /// The view of a client that declares nothing.
    pub(super) fn plain(&self, upstreams: &[Arc<Upstream>]) -> Arc<View> {
        self.view(&Kind::plain(), upstreams)
    }

    /// What an upstream was last seen to list, by anybody.
    pub(super) fn last(&self, upstream: &Upstream, category: Category) -> Option<Arc<List>> {
        self.last.get(upstream, category)
    }

    /// Fetches again what is kept of some upstreams and waits for it, at most `wait`.
    pub(super) async fn again(&self, concerned: impl Fn(&Upstream) -> bool, wait: Duration) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
        let views: Vec<_> =
            self.views.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let entries: Vec<_> = views.iter().flat_map(|view| view.concerned(&concerned)).collect();
        futures_util::future::join_all(entries.iter().map(|entry| entry.again(wait))).await;
    }

    /// How often all of it was doubted.
    pub(super) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn views(&self) -> usize {
        self.views.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn open(&self, kind: &Kind) -> Arc<View> {
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        if !views.contains_key(kind) && views.len() >= VIEWS_MAX {
            let oldest = views.iter().max_by_key(|(_, view)| view.idle()).map(|(kind, _)| kind.clone());
            if let Some(view) = oldest.and_then(|kind| views.remove(&kind)) {
                self.close(view);
            }
        }
        views.entry(kind.clone()).or_insert_with(|| Arc::new(View::new(kind.clone()))).clone()
    }

    fn sweep(&self) {
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        let idle: Vec<_> =
            views.iter().filter(|(_, view)| view.idle() >= IDLE_MAX).map(|(kind, _)| kind.clone()).collect();
        for view in idle.iter().filter_map(|kind| views.remove(kind)) {
            self.close(view);
        }
    }

    /// Ends a view's keepers and its upstream sessions.
    fn close(&self, view: Arc<View>) {
        let upstreams: Vec<_> = {
            let entries = view.entries.read().unwrap_or_else(PoisonError::into_inner);
            entries.values().map(|entry| entry.upstream.clone()).collect()
        };
        view.closing.cancel();
        let Some(session) = view.session() else { return };
        session.ended.cancel();
        let (next, plan) = (self.next.clone(), self.context.current.plan());
        self.context.tasks.spawn("catalogue view ends", OnExit::Quiet, async move {
            let ends = upstreams.into_iter().map(|one| next.ask(view.ask(&plan, Ask::End), one));
            let _ = tokio::time::timeout(END_WITHIN, futures_util::future::join_all(ends)).await;
        });
    }

    /// Starts keepers for what the view has none for.
    fn keep(&self, view: &Arc<View>, upstreams: &[Arc<Upstream>]) {
        {
            let entries = view.entries.read().unwrap_or_else(PoisonError::into_inner);
            if upstreams.iter().all(|one| entries.contains_key(&one.key)) {
                return;
            }
        }
        // A call under an older plan may name what is gone: nobody would end its keeper.
        let plan = self.context.current.plan();
        let mut entries = view.entries.write().unwrap_or_else(PoisonError::into_inner);
        for upstream in upstreams.iter().filter(|one| plan.serves(one)) {
            if entries.contains_key(&upstream.key) {
                continue;
            }
            let entry = Arc::new(Entry::new(upstream));
            entries.insert(upstream.key, entry.clone());
            view.pending.fetch_add(1, Ordering::Relaxed);
            let keeper = Keeper {
                context: self.context.clone(),
                next: self.next.clone(),
                view: view.clone(),
                entry,
                last: self.last.clone(),
                numbers: self.context.metrics.upstream(&upstream.name),
            };
            let name = format!("catalogue of {}", upstream.name);
            self.context.tasks.spawn(name, OnExit::Quiet, keeper.run());
        }
    }
}

/// Waits until the calls of an upstream have gone to its other store, once more than `since`.
pub(super) async fn moved(gate: &Gate, since: u64) {
    let mut changes = gate.watch();
    while gate.moves() == since {
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// What each upstream was last seen to list, by anybody: what a view shows of an upstream that has never
/// answered it, because it is dead or slow.
#[derive(Default)]
struct Last(Mutex<HashMap<(Key, Category), Arc<List>>>);

impl Last {
    /// Remembers a list. Lists of upstreams that `plan` does not serve are forgotten.
    fn put(&self, plan: &Plan, upstream: &Upstream, category: Category, list: &Arc<List>) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.insert((upstream.key, category), list.clone());
        if lists.len() > plan.upstreams.len() * Category::ALL.len() {
            lists.retain(|(key, _), _| plan.by_key(key).is_some());
        }
    }

    fn get(&self, upstream: &Upstream, category: Category) -> Option<Arc<List>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(upstream.key, category)).cloned()
    }
}
