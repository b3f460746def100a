//! Keeps one upstream's part of a view: fetches it at first, whenever the upstream says that it changed or comes
//! back, and from time to time; again and again while it fails.

use super::{
    super::{capabilities, category::Category},
    Last, fetch, moved,
    view::{Entry, View},
};
use crate::{
    call::{Ask, Upstreams, read_messages},
    context::Context,
    failure::{Failure, Kind},
    mcp::{self, Message, method, rpc},
    metrics,
    plan::Plan,
    stores::Gate,
};
use futures_util::{StreamExt as _, future::join_all};
use o1_process::Backoff;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// The longest that one fetch may take; also never longer than a silence of the upstream may be.
const FETCH_WITHIN: Duration = Duration::from_secs(30);
/// Changes that are told within this time are fetched together.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// The same for an upstream that says again and again that lists have changed which have not.
const DEBOUNCE_MAX: Duration = Duration::from_secs(1);
/// How often an upstream is looked at, to see whether traffic found it gone or back.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Lists are not fetched more often than this because of their life.
const TTL_LEAST: Duration = Duration::from_secs(5);
/// A stream that lasted this long was not a failure.
const LASTED: Duration = Duration::from_secs(10);

pub(super) struct Keeper<N> {
    pub(super) context: Context,
    pub(super) next: Arc<N>,
    pub(super) view: Arc<View>,
    pub(super) entry: Arc<Entry>,
    pub(super) last: Arc<Last>,
    pub(super) numbers: Arc<metrics::Upstream>,
}

impl<N: Upstreams> Keeper<N> {
    /// Keeps it until the view is closed, the plan does without the upstream, or the process stops.
    pub(super) async fn run(self) {
        let stopping = self.context.tasks.stopping();
        tokio::select! {
            () = self.refresh() => {}
            () = self.listen() => {}
            () = self.unserved() => {}
            () = self.view.closing.cancelled() => {}
            () = stopping.cancelled() => {}
        }
        let mut entries = self.view.entries.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        entries.remove(&self.entry.upstream.key);
        if self.entry.is_untried() {
            self.view.pending.fetch_sub(1, Ordering::Relaxed);
        }
        drop(entries);
        self.view.bump();
    }

    async fn unserved(&self) {
        let mut plans = self.context.current.watch();
        let served = |plan: &Arc<Plan>| plan.by_key(&self.entry.upstream.key).is_some();
        let _ = plans.wait_for(|plan| !served(plan)).await;
    }

    /// Fetches for ever.
    async fn refresh(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));
        let mut debounce = DEBOUNCE;
        loop {
            let (gate, before) = (self.gate(), self.entry.state().digests());
            self.entry.attempting();
            let (fetched, moves) = self.fetch_of_one_store(&gate).await;
            let news = before != self.entry.state().digests();
            debounce = if news { DEBOUNCE } else { (debounce * 2).min(DEBOUNCE_MAX) };
            if self.entry.is_untried() {
                self.view.pending.fetch_sub(1, Ordering::Relaxed);
            }
            if self.entry.attempted(fetched.as_ref().err().map(Failure::chain)) {
                self.view.bump();
            }
            let wait = match fetched {
                Ok(()) => {
                    backoff.reset();
                    self.interval()
                }
                Err(failure) => {
                    tracing::debug!(
                        upstream = self.entry.upstream.name,
                        era = ?self.view.era(),
                        error = failure.chain(),
                        "lists not fetched"
                    );
                    backoff.next().max(Duration::from_millis(100))
                }
            };
            if !self.until_due(wait, debounce, (&gate, moves)).await {
                debounce = DEBOUNCE;
            }
            if gate.moves() != moves {
                backoff.reset();
            }
        }
    }

    /// How long lists count, with a tenth more or less so that upstreams are not asked in step.
    fn interval(&self) -> Duration {
        let plan = self.context.current.plan();
        let (rule, longest) = (self.entry.upstream.cache.lists, plan.caching.catalogue.ttl);
        let life = self.entry.state().life(rule, longest);
        let wait = life.map_or(plan.clients.catalogue.refresh, |life| life.max(TTL_LEAST));
        let mut seed = [0; 1];
        let _ = getrandom::fill(&mut seed);
        wait.mul_f64(0.9 + 0.2 * f64::from(seed[0]) / 255.0)
    }

    fn gate(&self) -> Arc<Gate> {
        self.context.stores.gate(&self.entry.upstream.name)
    }

    /// Waits for a reason to fetch: time, that traffic found the upstream gone or back, that calls go to its other
    /// store, or a nudge, after which more are waited for. True when it was a nudge.
    async fn until_due(&self, wait: Duration, debounce: Duration, (gate, moves): (&Gate, u64)) -> bool {
        let due = Instant::now() + wait;
        let seen = self.numbers.reach().since;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => return false,
                () = moved(gate, moves) => return false,
                () = self.entry.nudged.notified() => {
                    tokio::time::sleep(debounce).await;
                    return true;
                }
                () = tokio::time::sleep(LOOK_EVERY) => {
                    if self.numbers.reach().since != seen {
                        return false;
                    }
                }
            }
        }
    }

    /// Everything of the store that calls go to, and how often they had moved when that began. One that they leave
    /// meanwhile may never answer.
    async fn fetch_of_one_store(&self, gate: &Gate) -> (Result<(), Failure>, u64) {
        loop {
            let moves = gate.moves();
            tokio::select! {
                fetched = self.fetch() => return (fetched, moves),
                () = moved(gate, moves) => {}
            }
        }
    }

    /// Everything once. Lists that fail alone stay as they were.
    async fn fetch(&self) -> Result<(), Failure> {
        let (upstream, plan) = (&self.entry.upstream, self.context.current.plan());
        let within = upstream.timeouts.idle.min(FETCH_WITHIN);
        let late = |_| Failure::new(Kind::Timeout, "the upstream did not answer a list in time");
        let call = self.view.call(&plan, method::DISCOVER, "");
        let handshake = self.next.handshake(&call, upstream.clone());
        let handshake = tokio::time::timeout(within, handshake).await.map_err(late)??;
        if self.entry.introduced(&handshake) {
            self.view.bump();
        }
        let fetches = Category::ALL.map(|category| {
            let (call, handshake) = (self.view.call(&plan, category.method(), ""), &handshake);
            async move {
                let list = if capabilities::offers(handshake, category.capability()) {
                    let fetched = fetch::fetch(&*self.next, &call, upstream, category);
                    tokio::time::timeout(within, fetched).await.map_err(late)??
                } else {
                    super::List::none(category)
                };
                self.publish(&call.plan, category, list);
                Ok::<(), Failure>(())
            }
        });
        let mut failure = None;
        let mut any = false;
        for (category, fetched) in Category::ALL.into_iter().zip(join_all(fetches).await) {
            match fetched {
                Ok(()) => any |= capabilities::offers(&handshake, category.capability()),
                Err(failed) => {
                    tracing::debug!(
                        upstream = upstream.name,
                        method = category.method(),
                        error = failed.chain(),
                        "list not answered"
                    );
                    failure = Some(failed);
                }
            }
        }
        match failure {
            Some(failure) if !any => Err(failure),
            _ => Ok(()),
        }
    }

    fn publish(&self, plan: &Plan, category: Category, list: super::List) {
        let (upstream, list) = (&self.entry.upstream, Arc::new(list));
        if category == Category::Tools {
            self.numbers.listed_tools(list.items.len());
        }
        self.last.put(plan, upstream, category, &list);
        if self.entry.listed(category, &list) {
            self.view.bump();
        }
    }

    /// Hears what the upstream says by itself, for ever. One that says nothing is only asked from time to time.
    async fn listen(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));
        let mut missed = false;
        loop {
            self.entry
                .first(Duration::from_secs(u64::from(u32::MAX)), |state| state.handshake.is_some())
                .await;
            let handshake = self.entry.state().handshake;
            let (began, gate) = (Instant::now(), self.gate());
            let moves = gate.moves();
            if handshake.is_some_and(|handshake| capabilities::announces_changes(&handshake)) {
                let heard = tokio::select! {
                    heard = self.hear(&mut missed) => heard,
                    // What the store that calls left says is of no interest.
                    () = moved(&gate, moves) => Ok(()),
                };
                match heard {
                    // Its other store may have such a stream.
                    Err(failure) if matches!(failure.kind, Kind::UnknownMethod | Kind::WrongEra) => {
                        moved(&gate, moves).await;
                    }
                    Ok(()) | Err(_) => missed = true,
                }
            }
            if began.elapsed() >= LASTED || gate.moves() != moves {
                backoff.reset();
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next().max(LOOK_EVERY)) => {}
                () = moved(&gate, moves) => {}
            }
        }
    }

    /// Hears it until the stream ends. `missed`: nobody heard what it said lately.
    async fn hear(&self, missed: &mut bool) -> Result<(), Failure> {
        let reply = self.next.ask(self.subscription(), self.entry.upstream.clone()).await?;
        if std::mem::take(missed) {
            self.entry.nudged.notify_one();
        }
        let mut messages = read_messages(reply);
        while let Some(Ok(message)) = messages.next().await {
            if message.kind() == mcp::Kind::Response {
                break;
            }
            self.heard(&message).await;
        }
        Ok(())
    }

    fn subscription(&self) -> crate::call::Call {
        let plan = self.context.current.plan();
        if self.view.is_modern() {
            let all = r#""toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true"#;
            self.view.call(&plan, method::LISTEN, &format!(r#""notifications":{{{all}}}"#))
        } else {
            self.view.ask(&plan, Ask::Stream)
        }
    }

    async fn heard(&self, message: &Message) {
        match message.kind() {
            mcp::Kind::Request => self.answer(message).await,
            _ if method::LIST_CHANGED.contains(&message.method()) => self.entry.nudged.notify_one(),
            _ => {}
        }
    }

    /// Servers ask their clients. Behind a view there is nobody to ask, so the gateway says so.
    async fn answer(&self, request: &Message) {
        let id = request.id().unwrap_or_default();
        let answer = match request.method() {
            method::PING => rpc::result(id, b"{}"),
            method::ROOTS_LIST => rpc::result(id, br#"{"roots":[]}"#),
            other => rpc::error(Some(id), rpc::METHOD_NOT_FOUND, &format!("Method not found: {other}"), None),
        };
        let answer = Message::parse(&answer).expect("an answer of our own is a message");
        let call = self.view.ask(&self.context.current.plan(), Ask::Message(answer));
        let told = self.next.ask(call, self.entry.upstream.clone());
        let _ = tokio::time::timeout(FETCH_WITHIN, told).await;
    }
}
