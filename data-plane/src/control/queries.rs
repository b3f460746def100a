//! Questions and orders of the control plane, answered beside everything else: a few at a time, in parts, each until its
//! time is over or nobody wants the answer any more. All of them end with the connection.

use super::{Node, NotAnswered};
use crate::{
    calls::{self, Found, Outcome, Wanted},
    inventory::{Inventory, Source, State, Tool},
    logs::Line,
    purge::{Order, Purged},
};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use o1_proto::{
    convert::{duration, from_duration, from_store, from_system_time, tier},
    model,
    wire::{
        CallOutcome, CallsPart, CallsQuery, InspectedSource, InspectedTool, LogLine, LogsPart, LogsQuery,
        PurgePart, PurgeQuery, Query, QueryAnswer, QueryFailure, QueryFailureReason, RecentCall, ToolState,
        ToolsPart, ToolsQuery, query::Ask, query_answer::Part,
    },
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{broadcast, mpsc},
    time::timeout,
};

/// Queries answered at a time.
const OPEN_MAX: usize = 16;
/// Items of one part; with the longest lines it stays far below the largest message.
const PART_ITEMS: usize = 200;
/// Characters of a description that people see.
const DESCRIPTION_MAX: usize = 200;
/// Calls of one answer when the question does not say, and at most: all of them fit in one part.
const CALLS: usize = 100;
const CALLS_MAX: usize = 500;
/// The longest time for an answer that ends by itself.
const WITHIN_MAX: Duration = Duration::from_secs(60);

pub(super) struct Queries {
    answers: mpsc::Sender<QueryAnswer>,
    open: FuturesUnordered<BoxFuture<'static, u64>>,
    cancels: HashMap<u64, AbortHandle>,
}

impl Queries {
    pub fn new(answers: mpsc::Sender<QueryAnswer>) -> Self {
        Self { answers, open: FuturesUnordered::new(), cancels: HashMap::new() }
    }

    /// Begins to answer, or ends to.
    pub fn take(&mut self, query: Query, node: &Arc<dyn Node>) {
        let Query { id, ask, within } = query;
        if let Some(Ask::Cancel(_)) = ask {
            if let Some(cancel) = self.cancels.get(&id) {
                cancel.abort();
            }
            return;
        }
        let answer = Answer { id, to: self.answers.clone() };
        if self.cancels.len() >= OPEN_MAX {
            // Lost when the queue is full: whoever asked gives up by itself.
            let busy = NotAnswered::Busy(format!("the node answers {OPEN_MAX} queries already"));
            let _ = self.answers.try_send(answer.failure(busy));
            return;
        }
        let limit = duration(within.as_ref());
        let answering = answer.run(ask, node.clone());
        let (handle, registration) = AbortHandle::new_pair();
        let limited = async move {
            match limit {
                Some(limit) => drop(timeout(limit.min(WITHIN_MAX), answering).await),
                None => answering.await,
            }
        };
        self.cancels.insert(id, handle);
        self.open.push(Abortable::new(limited, registration).map(move |_| id).boxed());
    }

    /// Goes on with every answer, for ever.
    pub async fn work(&mut self) {
        while let Some(id) = self.open.next().await {
            self.cancels.remove(&id);
        }
        std::future::pending().await
    }
}

/// The answer to one query.
struct Answer {
    id: u64,
    to: mpsc::Sender<QueryAnswer>,
}

impl Answer {
    async fn run(self, ask: Option<Ask>, node: Arc<dyn Node>) {
        let done = match ask {
            Some(Ask::Tools(query)) => self.tools(query, node.as_ref()).await,
            Some(Ask::Logs(query)) => self.logs(query, node.as_ref()).await,
            Some(Ask::Purge(query)) => self.purge(query, node.as_ref()).await,
            Some(Ask::Calls(query)) => self.calls(query, node.as_ref()).await,
            Some(Ask::Cancel(_)) | None => Err(NotAnswered::Unsupported),
        };
        if let Err(why) = done {
            // Whoever asked may be gone, and then nobody has to be told.
            let _ = self.to.send(self.failure(why)).await;
        }
    }

    async fn tools(&self, query: ToolsQuery, node: &dyn Node) -> Result<(), NotAnswered> {
        let named = |name: String| Some(name).filter(|name| !name.is_empty());
        let inventory = node.inventory(named(query.server), named(query.principal)).await?;
        let Inventory { tools, upstreams } = inventory;
        let mut sources: Vec<_> = upstreams.into_iter().map(source).collect();
        let mut tools = tools.into_iter().map(tool).peekable();
        loop {
            let part = ToolsPart {
                tools: tools.by_ref().take(PART_ITEMS).collect(),
                upstreams: sources.drain(..sources.len().min(PART_ITEMS)).collect(),
            };
            let last = tools.peek().is_none() && sources.is_empty();
            if !self.say(Part::Tools(part), last).await || last {
                return Ok(());
            }
        }
    }

    async fn logs(&self, query: LogsQuery, node: &dyn Node) -> Result<(), NotAnswered> {
        let Some(log) = node.log(&query.upstream)? else {
            let part = LogsPart { no_process: true, ..LogsPart::default() };
            self.say(Part::Logs(part), true).await;
            return Ok(());
        };
        let (mut lines, next) = log.follow();
        let tail = usize::try_from(query.tail).unwrap_or(usize::MAX);
        lines.drain(..lines.len().saturating_sub(tail));
        let mut parts = lines.chunks(PART_ITEMS).peekable();
        let mut said = !query.follow && parts.peek().is_none();
        if said {
            self.say(Part::Logs(LogsPart::default()), true).await;
        }
        while let Some(lines) = parts.next() {
            said = !query.follow && parts.peek().is_none();
            let part = LogsPart { lines: lines.iter().cloned().map(line).collect(), ..LogsPart::default() };
            if !self.say(Part::Logs(part), said).await {
                return Ok(());
            }
        }
        if !said {
            self.follow(next).await;
        }
        Ok(())
    }

    async fn purge(&self, query: PurgeQuery, node: &dyn Node) -> Result<(), NotAnswered> {
        // What a later contract calls a tier is not every tier.
        let tier = tier(query.tier).map_err(|_| NotAnswered::Unsupported)?;
        let order = Order { upstream: Some(query.upstream).filter(|name| !name.is_empty()), tier };
        let named = (order.upstream.clone(), order.tier.map(model::Tier::word));
        let Purged { entries, bytes } = node.purge(order).await?;
        let (upstream, tier) = (named.0.as_deref().unwrap_or("all"), named.1.unwrap_or("all"));
        tracing::info!(upstream, tier, entries, bytes, "purged the cache, as an operator asked");
        self.say(Part::Purged(PurgePart { entries, bytes }), true).await;
        Ok(())
    }

    async fn calls(&self, query: CallsQuery, node: &dyn Node) -> Result<(), NotAnswered> {
        let limit = match query.limit {
            0 => CALLS,
            some => usize::try_from(some).unwrap_or(CALLS_MAX).min(CALLS_MAX),
        };
        let upstream = Some(query.upstream).filter(|name| !name.is_empty());
        let Found { calls, seen, kept } = node.calls(&Wanted { upstream, limit, failed: query.failed })?;
        let calls = calls.into_iter().map(|(upstream, one)| call(upstream, one)).collect();
        self.say(Part::Calls(CallsPart { calls, seen, kept }), true).await;
        Ok(())
    }

    /// Every line as it comes, several at once when they come fast.
    async fn follow(&self, mut next: broadcast::Receiver<Line>) {
        loop {
            let mut part = LogsPart::default();
            let mut came = match next.recv().await {
                Ok(line) => Some(line),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    part.missed = missed;
                    None
                }
                Err(broadcast::error::RecvError::Closed) => return,
            };
            while let Some(one) = came.take() {
                part.lines.push(line(one));
                if part.lines.len() < PART_ITEMS {
                    came = next.try_recv().ok();
                }
            }
            if !self.say(Part::Logs(part), false).await {
                return;
            }
        }
    }

    /// False: nobody listens any more.
    async fn say(&self, part: Part, last: bool) -> bool {
        self.to.send(QueryAnswer { id: self.id, part: Some(part), last }).await.is_ok()
    }

    fn failure(&self, why: NotAnswered) -> QueryAnswer {
        let (reason, message) = match why {
            NotAnswered::NotFound(message) => (QueryFailureReason::NotFound, message),
            NotAnswered::Busy(message) => (QueryFailureReason::Busy, message),
            NotAnswered::Unsupported => (
                QueryFailureReason::Unsupported,
                "this build of the node does not know the question".to_owned(),
            ),
        };
        let part = Some(Part::Failure(QueryFailure { reason: reason.into(), message }));
        QueryAnswer { id: self.id, part, last: true }
    }
}

fn tool(tool: Tool) -> InspectedTool {
    let (mut pattern, mut other, mut at) = (String::new(), String::new(), None);
    let state = match tool.state {
        State::Served => ToolState::Served,
        State::Unreachable { since } => {
            at = since;
            ToolState::Unreachable
        }
        State::NotAllowed => ToolState::NotAllowed,
        State::Denied { pattern: by } => {
            pattern = by;
            ToolState::Denied
        }
        State::Clash { upstream } => {
            other = upstream;
            ToolState::Clash
        }
        State::Hidden { since } => {
            at = since;
            ToolState::Hidden
        }
        State::Forbidden => ToolState::Forbidden,
    };
    InspectedTool {
        name: tool.name,
        upstream: tool.upstream,
        own_name: tool.own_name,
        description: shortened(tool.description),
        shortened: tool.shortened,
        state: state.into(),
        pattern,
        other,
        since: at.map(from_system_time),
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(DESCRIPTION_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn source(source: Source) -> InspectedSource {
    InspectedSource {
        name: source.name,
        prefix: source.prefix,
        listed: source.listed.map(from_system_time),
        error: source.error,
    }
}

fn call(upstream: String, call: calls::Call) -> RecentCall {
    let outcome = match call.outcome {
        Outcome::Ok => CallOutcome::Ok,
        Outcome::Cached => CallOutcome::Cached,
        Outcome::ApplicationError => CallOutcome::ApplicationError,
        Outcome::Error => CallOutcome::Error,
        Outcome::Timeout => CallOutcome::Timeout,
    };
    RecentCall {
        at: Some(from_system_time(call.at)),
        upstream,
        method: call.method,
        name: call.name,
        outcome: outcome.into(),
        took: Some(from_duration(call.took)),
        store: call.store.map_or(0, from_store),
    }
}

fn line(line: Line) -> LogLine {
    LogLine { at: Some(from_system_time(line.at)), pid: line.pid, text: line.text }
}
