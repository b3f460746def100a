//! What operators order: without a quorum, without a hold, and also while nothing is decided by itself.

use super::{
    Answer, Decision, Decisions, Maintenance, Mode, Moment, NodeKey, Ordered, REQUEST_LIFE,
    upstream::{Edge, Upstream},
};
use o1_proto::model::{DecisionReason, DecisionState, Store, Verdict};
use std::{collections::BTreeSet, time::Duration};

/// Answers that are kept for those who ask again.
const MAX_ANSWERS: usize = 10_000;

/// A store should serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Of which upstream.
    pub upstream: String,
    /// Which store.
    pub target: Store,
    /// The term that must hold; 0: any.
    pub if_term: u64,
    /// Also if the store is known not to work; the primary also if entries were refused for good.
    pub force: bool,
    /// Only say what would happen.
    pub dry_run: bool,
    /// For people; not empty.
    pub reason: String,
    /// Empty: none.
    pub request_id: String,
}

/// Somebody, or nobody, should decide about an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeOrder {
    /// Which upstream.
    pub upstream: String,
    /// Who decides.
    pub mode: Mode,
    /// Until when; `None`: until somebody says otherwise.
    pub expires_in: Option<Duration>,
    /// For people; not empty.
    pub reason: String,
    /// Empty: none.
    pub request_id: String,
}

/// Why an order is not carried out. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderError {
    /// No upstream is named like this; the names that there are.
    UnknownUpstream(BTreeSet<String>),
    /// It has no backup.
    NoBackup,
    /// Another term holds: this one.
    Term(u64),
    /// The store does not work; what was seen.
    Unusable(String),
    /// It is pinned to the other store.
    Pinned(Store),
    /// The same request id was something else before: this.
    OtherRequest(String),
    /// As many answers are kept as may be.
    TooMany,
}

impl Decisions {
    /// Orders a store. A decision comes with it unless it was so already, or was asked for before.
    ///
    /// # Errors
    /// Why it is not carried out.
    pub fn order(&mut self, order: &Order, now: Moment) -> Result<(Ordered, Option<Decision>), OrderError> {
        let words = format!(
            "order {} {} if_term={} force={}",
            order.upstream,
            order.target.word(),
            order.if_term,
            order.force
        );
        if !order.dry_run
            && let Some(ordered) = self.answered(&order.request_id, &words, now)?
        {
            return Ok((ordered, None));
        }
        let upstream = self.backed(&order.upstream, now)?;
        if order.if_term > 0 && order.if_term != upstream.record.term {
            return Err(OrderError::Term(upstream.record.term));
        }
        if let Some(pinned) = upstream.record.mode.pinned().filter(|pinned| *pinned != order.target) {
            return Err(OrderError::Pinned(pinned));
        }
        let no_op = is_so(upstream, order);
        if !no_op && !order.force {
            usable(upstream, order.target)?;
        }
        let mut ordered = Ordered {
            term: if no_op { upstream.record.term } else { upstream.next_term() },
            decision_id: upstream.record.decision_id.clone(),
            nodes: u32::try_from(upstream.places.there).unwrap_or(u32::MAX),
            journal_pending: if order.target == Store::Primary { upstream.places.pending } else { 0 },
            warnings: warnings(upstream, order),
            no_op,
        };
        if self.state() == DecisionState::Maintenance {
            ordered.warnings.push("maintenance: it stays so until that ends".to_owned());
        }
        if order.dry_run {
            ordered.decision_id = if no_op { ordered.decision_id } else { String::new() };
            return Ok((ordered, None));
        }
        let mut decision = None;
        if !no_op {
            let because = format!("ordered by hand: {}", order.reason);
            let accept = order.force && order.target == Store::Primary;
            let edge = Edge { target: order.target, reason: DecisionReason::Manual, because, accept };
            decision = self.decide(&order.upstream, &edge, false, now);
            ordered.decision_id = decision.as_ref().map(|one| one.id.clone()).unwrap_or_default();
        }
        self.answer(&order.request_id, words, ordered.clone(), now);
        Ok((ordered, decision))
    }

    /// Pins an upstream to a store, or ends that.
    ///
    /// # Errors
    /// Why it is not carried out.
    pub fn set_mode(&mut self, order: &ModeOrder, now: Moment) -> Result<Option<Decision>, OrderError> {
        let words = format!("mode {} {} {:?}", order.upstream, order.mode.word(), order.expires_in);
        if self.answered(&order.request_id, &words, now)?.is_some() {
            return Ok(None);
        }
        let upstream = self.backed(&order.upstream, now)?;
        upstream.record.mode = order.mode;
        upstream.record.mode_until = order
            .expires_in
            .filter(|_| order.mode != Mode::Auto)
            .and_then(|expires| now.wall.checked_add(expires));
        let wanted = order.mode.pinned().filter(|wanted| Some(*wanted) != upstream.record.target);
        let record = upstream.record.clone();
        self.unsaved().records.push(record);
        let decision = wanted.and_then(|target| {
            let because = format!("pinned to the {} by hand: {}", target.word(), order.reason);
            self.decide(&order.upstream, &Edge::new(target, DecisionReason::Manual, because), false, now)
        });
        self.answer(&order.request_id, words, Ordered::default(), now);
        Ok(decision)
    }

    /// Nothing shall happen by itself, or it may again.
    ///
    /// # Errors
    /// The request id was another order.
    pub fn set_maintenance(
        &mut self,
        maintenance: Maintenance,
        request_id: &str,
        now: Moment,
    ) -> Result<(), OrderError> {
        let left = maintenance.until.and_then(|until| until.duration_since(now.wall).ok());
        let words = format!("maintenance {} {left:?}", maintenance.on);
        if self.answered(request_id, &words, now)?.is_some() {
            return Ok(());
        }
        self.maintenance = if maintenance.on { maintenance } else { Maintenance::default() };
        self.unsaved().maintenance = Some(self.maintenance.clone());
        self.answer(request_id, words, Ordered::default(), now);
        self.look(now);
        Ok(())
    }

    /// An upstream that has a backup, counted anew.
    fn backed(&mut self, name: &str, now: Moment) -> Result<&mut Upstream, OrderError> {
        if !self.upstreams.contains_key(name) {
            if self.plain.contains(name) {
                return Err(OrderError::NoBackup);
            }
            return Err(OrderError::UnknownUpstream(
                self.upstreams.keys().chain(&self.plain).cloned().collect(),
            ));
        }
        let upstream = self.upstreams.get_mut(name).expect("it was just there");
        upstream.count(&self.nodes, now);
        Ok(upstream)
    }

    /// What came of the order of this id, if it was given before.
    fn answered(&mut self, id: &str, words: &str, now: Moment) -> Result<Option<Ordered>, OrderError> {
        if id.is_empty() {
            return Ok(None);
        }
        self.answers.retain(|_, one| now.wall.duration_since(one.at).unwrap_or_default() < REQUEST_LIFE);
        match self.answers.get(id) {
            Some(answer) if answer.order == words => Ok(Some(answer.ordered.clone())),
            Some(answer) => Err(OrderError::OtherRequest(answer.order.clone())),
            None if self.answers.len() >= MAX_ANSWERS => Err(OrderError::TooMany),
            None => Ok(None),
        }
    }

    fn answer(&mut self, id: &str, order: String, ordered: Ordered, now: Moment) {
        if id.is_empty() {
            return;
        }
        let answer = Answer { request_id: id.to_owned(), order, at: now.wall, ordered };
        self.answers.insert(id.to_owned(), answer.clone());
        self.unsaved().answers.push(answer);
    }
}

/// Whether nothing would change.
fn is_so(upstream: &Upstream, order: &Order) -> bool {
    let record = &upstream.record;
    let letters = order.force
        && order.target == Store::Primary
        && upstream.places.dead_letters > 0
        && !record.accept_dead_letters;
    let away: &[NodeKey] = match order.target {
        Store::Primary => &upstream.places.strays,
        Store::Backup => &upstream.places.deaf,
    };
    record.target.unwrap_or_default() == order.target && away.is_empty() && !letters
}

fn usable(upstream: &Upstream, target: Store) -> Result<(), OrderError> {
    let tally = &upstream.tally;
    let (verdict, error) = match target {
        Store::Primary => (tally.primary(), &tally.error),
        Store::Backup => (tally.backup(), &tally.backup_error),
    };
    if verdict != Verdict::Unhealthy {
        return Ok(());
    }
    let error = if error.is_empty() { String::new() } else { format!(" ({error})") };
    Err(OrderError::Unusable(format!("most nodes see the {} unhealthy{error}", target.word())))
}

fn warnings(upstream: &Upstream, order: &Order) -> Vec<String> {
    let (tally, mut warnings) = (&upstream.tally, Vec::new());
    let verdict = match order.target {
        Store::Primary => tally.primary(),
        Store::Backup => tally.backup(),
    };
    let store = order.target.word();
    match verdict {
        Verdict::Healthy => {}
        Verdict::Unknown => warnings.push(format!("nobody knows whether the {store} works")),
        Verdict::Unhealthy => warnings.push(format!("most nodes see the {store} unhealthy")),
    }
    if upstream.places.there == 0 {
        warnings.push("no node is connected: it holds for those that come".to_owned());
    }
    if order.target == Store::Primary && upstream.places.dead_letters > 0 {
        let count = upstream.places.dead_letters;
        warnings.push(if order.force {
            format!("{count} entries were refused for good, and stay dead letters")
        } else {
            format!("{count} entries were refused for good, and stand in the way: --force accepts that")
        });
    }
    if upstream.record.mode == Mode::Auto {
        let hold = upstream.policy.min_hold.as_secs();
        warnings.push(format!("it is decided by itself again after {hold} s: pin it if it shall stay"));
    }
    warnings
}
