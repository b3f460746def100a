//! The one cell that holds the plan in force. One writer, many readers; a swap is one atomic store.

use crate::plan::Plan;
use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::watch;

/// The only way to change the plan. Not `Clone`: the control path owns it.
#[derive(Debug)]
pub struct Writer {
    cell: Arc<ArcSwap<Plan>>,
    changed: watch::Sender<Arc<Plan>>,
}

/// Reads the plan in force.
#[derive(Debug, Clone)]
pub struct Reader {
    cell: Arc<ArcSwap<Plan>>,
    changed: watch::Receiver<Arc<Plan>>,
}

/// A cell with the empty plan in it.
#[must_use]
pub fn cell() -> (Writer, Reader) {
    let plan = Arc::new(Plan::empty());
    let cell = Arc::new(ArcSwap::new(plan.clone()));
    let (sender, receiver) = watch::channel(plan);
    (Writer { cell: cell.clone(), changed: sender }, Reader { cell, changed: receiver })
}

impl Writer {
    /// Puts a plan in force.
    pub fn swap(&self, plan: Arc<Plan>) {
        self.cell.store(plan.clone());
        self.changed.send_replace(plan);
    }
}

impl Reader {
    /// The plan in force. Take it once per call and carry it.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        self.cell.load_full()
    }

    /// Whether this plan is in force. Cheaper than to take it and compare.
    #[must_use]
    pub fn is(&self, plan: &Arc<Plan>) -> bool {
        Arc::ptr_eq(&self.cell.load(), plan)
    }

    /// Follows changes; holds the plan in force from the start.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Plan>> {
        self.changed.clone()
    }
}
