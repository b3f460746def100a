//! One connection, from its Welcome to its end: updates come in and are answered, heartbeats keep it honest.
//!
//! It never waits for the transport to take what it says, and never waits for an update to be applied before it
//! reads on.

use super::{
    Node, ack,
    keys::Keys,
    outbound::Outbound,
    parts::Assembly,
    queries::Queries,
    snapshot::{Applier, Outcome},
    standing::Standing,
    stream::{self, Connected, Ended, Terms},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use o1_proto::{
    convert::{self, from_system_time},
    model::DecisionState,
    wire::{
        ConfigUpdate, DirectiveSet, Goodbye, GoodbyeReason, Heartbeat, SealKeys, SyncResponse, sync_request,
        sync_response::Msg,
    },
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

/// For the last words to be read.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct Exchange<'a> {
    node: &'a Arc<dyn Node>,
    applier: &'a Arc<Applier>,
    keys: &'a Arc<Keys>,
    inbound: Streaming<SyncResponse>,
    outbound: Outbound,
    terms: Terms,
    /// The update in work, and its nonce.
    applying: Option<BoxFuture<'a, (u64, Outcome)>>,
    /// The latest that came meanwhile. The control plane waits for an answer and sends none; one that does not
    /// wait gets the answer to its latest.
    waiting: Option<ConfigUpdate>,
    parts: Assembly,
    /// The keys in work.
    taking: Option<BoxFuture<'a, ()>>,
    /// The latest that came meanwhile.
    waiting_keys: Option<SealKeys>,
    queries: Queries,
    standing: Standing,
    heartbeats: u64,
    /// When the last heartbeat was answered.
    heard: Instant,
}

impl<'a> Exchange<'a> {
    pub fn new(
        connected: Connected,
        node: &'a Arc<dyn Node>,
        applier: &'a Arc<Applier>,
        keys: &'a Arc<Keys>,
    ) -> Self {
        let Connected { client: _, inbound, outbound, terms } = connected;
        let queries = Queries::new(outbound.answers());
        Self {
            node,
            applier,
            keys,
            inbound,
            outbound,
            terms,
            applying: None,
            waiting: None,
            parts: Assembly::default(),
            taking: None,
            waiting_keys: None,
            queries,
            standing: Standing::new(node.as_ref(), Instant::now()),
            heartbeats: 0,
            heard: Instant::now(),
        }
    }

    pub async fn run(mut self, draining: &CancellationToken, stopping: &CancellationToken) -> Ended {
        let mut told = draining.is_cancelled();
        let mut heartbeat = interval(self.terms.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return self.leave().await,
                message = stream::receive(&mut self.inbound) => match message {
                    Ok(message) => if let Some(ended) = self.hear(message) { return ended },
                    Err(ended) => return ended,
                },
                (nonce, outcome) = settled(&mut self.applying) => self.answer(nonce, outcome),
                () = settled(&mut self.taking) => self.go_on(),
                () = self.queries.work() => {}
                () = self.standing.due() => {
                    self.standing.speak(self.node.as_ref(), &self.outbound, Instant::now());
                }
                _ = heartbeat.tick() => self.beat(),
                () = draining.cancelled(), if !told => {
                    told = true;
                    self.beat();
                }
                () = sleep_until(self.heard + self.terms.silence) => {
                    return Ended::Lost(format!("no answer to heartbeats for {:?}", self.terms.silence));
                }
            }
        }
    }

    fn hear(&mut self, message: Msg) -> Option<Ended> {
        match message {
            Msg::Config(update) => self.update(update),
            Msg::ConfigPart(part) => match self.parts.take(&part) {
                Ok(Some(update)) => self.update(update),
                Ok(None) => {}
                Err(what) => {
                    return Some(Ended::Lost(format!("the control plane broke the protocol: {what}")));
                }
            },
            Msg::SealKeys(keys) if self.taking.is_some() => self.waiting_keys = Some(keys),
            Msg::SealKeys(keys) => self.take(keys),
            Msg::Query(query) => self.queries.take(query, self.node),
            Msg::Directives(directives) => self.directed(directives),
            Msg::Drain(order) => {
                self.node.order_drain(order.drain);
                // The answer, without which the order comes again.
                self.beat();
            }
            Msg::HeartbeatAck(ack) => {
                self.heard = Instant::now();
                // One that does not say, or says what this build does not know, is not one to wait for.
                let decisions = convert::decision_state(ack.decisions);
                self.node.decisions(decisions.unwrap_or(DecisionState::WarmingUp));
            }
            Msg::Goodbye(goodbye) => return Some(Ended::Goodbye(stream::farewell(goodbye))),
            Msg::Welcome(_) => {
                return Some(Ended::Lost("the control plane broke the protocol: a second welcome".into()));
            }
        }
        None
    }

    /// The answer is where the node stands; where it gets to, it says when it is there.
    fn directed(&mut self, set: DirectiveSet) {
        let directives = set.directives.into_iter().filter_map(|one| {
            let (upstream, term) = (one.upstream.clone(), one.term);
            let known = convert::directive(one);
            if known.is_none() {
                tracing::warn!(upstream, term, "a directive that this build does not know was left out");
            }
            known
        });
        self.node.directed(directives.collect());
        self.standing.asked(Instant::now());
    }

    /// Whom a node serves, it serves with keys that other nodes have: keys come first.
    fn update(&mut self, update: ConfigUpdate) {
        if self.applying.is_some() || self.taking.is_some() {
            self.waiting = Some(update);
        } else {
            self.apply(update);
        }
    }

    fn apply(&mut self, update: ConfigUpdate) {
        let nonce = update.nonce;
        let outcome = self.applier.clone().take(update);
        self.applying = Some(outcome.map(move |outcome| (nonce, outcome)).boxed());
    }

    fn take(&mut self, keys: SealKeys) {
        self.taking = Some(self.keys.clone().take(keys).boxed());
    }

    fn answer(&mut self, nonce: u64, outcome: Outcome) {
        self.outbound.say(ack::verdict(nonce, outcome));
        self.go_on();
    }

    /// Begins what waits, if its turn has come.
    fn go_on(&mut self) {
        if self.taking.is_none()
            && let Some(keys) = self.waiting_keys.take()
        {
            self.take(keys);
        }
        if self.taking.is_none()
            && self.applying.is_none()
            && let Some(update) = self.waiting.take()
        {
            self.apply(update);
        }
    }

    fn beat(&mut self) {
        self.heartbeats += 1;
        self.outbound.say(sync_request::Msg::Heartbeat(Heartbeat {
            seq: self.heartbeats,
            applied: self.applier.applied(),
            node_time: Some(from_system_time(SystemTime::now())),
            draining: self.node.draining(),
            drain_ordered: self.node.drain_ordered(),
        }));
    }

    /// Says goodbye and waits, not for long, until the control plane has heard it and closed.
    async fn leave(self) -> Ended {
        let Self { mut inbound, outbound, .. } = self;
        outbound.say(sync_request::Msg::Goodbye(Goodbye {
            reason: GoodbyeReason::Shutdown.into(),
            message: "the node stops".to_owned(),
            ..Goodbye::default()
        }));
        drop(outbound);
        let closed = async { while stream::receive(&mut inbound).await.is_ok() {} };
        if timeout(LEAVE_LIMIT, closed).await.is_err() {
            tracing::debug!("the control plane did not answer the goodbye");
        }
        Ended::Stopped
    }
}

/// The outcome, once there is one; with nothing in work, never.
async fn settled<T>(work: &mut Option<BoxFuture<'_, T>>) -> T {
    let Some(running) = work else { return std::future::pending().await };
    let outcome = running.await;
    *work = None;
    outcome
}
