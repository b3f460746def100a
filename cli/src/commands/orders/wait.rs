//! `--wait`: pictures of the fleet until every connected node is where it was ordered. A bar on a terminal, lines
//! otherwise.

use super::{
    super::{end::End, teller::Teller},
    Desk,
};
use crate::{
    args::Global,
    client::Client,
    failover::{Failover, Store},
    output::orders::{Lagging, Waited, progress},
    report::{self, Error},
};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// The shortest time between two pictures.
const INTERVAL: Duration = Duration::from_millis(200);
/// Before the next attempt to connect.
const PAUSE: Duration = Duration::from_millis(500);

/// What is waited for.
pub(super) struct Wait<'a> {
    pub(super) upstream: &'a str,
    pub(super) target: Store,
    /// Of the order.
    pub(super) term: u64,
    /// Entries that are replayed first.
    pub(super) journal: u64,
    pub(super) limit: Duration,
}

impl Wait<'_> {
    /// Tells how it goes, until it is so, something newer was decided, or time is up.
    pub(super) async fn run(&self, desk: &mut Desk<'_>, global: &Global) -> Result<Waited, Error> {
        let began = Instant::now();
        let deadline = began + self.limit;
        let mut last = Waited::default();
        let mut teller = Teller::new(desk.terminal);
        loop {
            let look = self.look(desk, &mut last, &mut teller);
            let failure = match timeout_at(deadline, look).await {
                Err(_) => break,
                Ok(Err(End::Over(error))) => return Err(error),
                Ok(Ok(())) => {
                    last.took = Some(began.elapsed());
                    return Ok(last);
                }
                Ok(Err(End::Failed(failure))) => failure,
            };
            let text = format!("no picture from {}: {}; trying again", desk.target, report::short(&failure));
            teller.say(desk.terminal, &text)?;
            sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now()))).await;
            if Instant::now() >= deadline {
                break;
            }
            if let Ok(client) = Client::connect(&desk.target, global.timeout).await {
                desk.client = client;
            }
        }
        last.limit = Some(self.limit);
        Ok(last)
    }

    /// Follows one connection until it is decided.
    async fn look(&self, desk: &mut Desk<'_>, last: &mut Waited, teller: &mut Teller) -> Result<(), End> {
        let mut watch = desk.client.watch(INTERVAL).await?;
        loop {
            let status = match watch.next(self.limit).await? {
                Some(status) => status,
                None => desk.client.status().await?, // nothing new: seen anew all the same
            };
            let found = status.upstreams.iter().find(|one| one.name == self.upstream);
            let Some(failover) = found.and_then(|one| one.failover.as_ref()) else { continue };
            *last = self.judge(failover);
            if last.is_over() {
                return Ok(());
            }
            let (done, all) = self.far(last);
            teller.at(done, all);
            teller.say(desk.terminal, &progress(last, self.target.word()))?;
        }
    }

    /// How far it is: in entries while some wait to be replayed, otherwise in nodes.
    fn far(&self, seen: &Waited) -> (u64, u64) {
        if self.journal > 0 && seen.journal_pending > 0 {
            return (self.journal.saturating_sub(seen.journal_pending), self.journal);
        }
        let all = u64::try_from(seen.nodes).unwrap_or(u64::MAX);
        let late = u64::try_from(seen.lagging.len()).unwrap_or(u64::MAX).saturating_add(seen.unheard);
        (all.saturating_sub(late), all)
    }

    /// Which nodes are not there.
    pub(super) fn judge(&self, failover: &Failover) -> Waited {
        let mut lagging: Vec<_> = failover
            .not_on(self.target)
            .chain(failover.connected().filter(|node| node.term < self.term))
            .map(Lagging::of)
            .collect();
        lagging.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        lagging.dedup();
        let superseded = failover.term > self.term && failover.desired != Some(self.target);
        Waited {
            nodes: failover.connected().count(),
            unheard: u64::from(failover.nodes_lagging).saturating_sub(lagging.len().try_into().unwrap_or(0)),
            lagging,
            journal_pending: failover.journal_pending,
            superseded_by: superseded.then_some(failover.term),
            // A picture from before the order says nothing about it.
            known: failover.term >= self.term,
            ..Waited::default()
        }
    }
}
