//! Which processes of an endpoint run: one shared by all callers per era, started when first wanted and replaced
//! for ever, and one for each client session that asked for its own.

use super::{
    Spec, handshake,
    restart::Pace,
    run::{self, Ground, Started},
};
use crate::{
    backend::channel::{Conversation, END_MAX, Replies, ServerRequests},
    call::Probe,
    failure::{Failure, Kind},
    mcp::{Era, Message, message},
};
use o1_process::{OnExit, Tasks};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// A server that is silent for this long on `server/discover` does not know it.
const SILENCE: Duration = Duration::from_secs(10);
/// A shared process that nobody used for this long is not replaced until somebody does.
const WANTED: Duration = Duration::from_secs(5 * 60);
/// How long a shared process may take to start, if its callers do not allow even longer. They do not wait for it:
/// a package that is downloaded first must not be killed half-way for ever.
const START: Duration = Duration::from_secs(60);
/// How long a verdict on an era holds while no process of the other era backs it: a server that ended or was silent
/// may just have been unwell.
const VERDICT: Duration = Duration::from_secs(60);
/// After how long it is checked while one does, at no caller's expense: a server that was slow to start must not be
/// misjudged for ever.
const BACKED_VERDICT: Duration = Duration::from_secs(5 * 60);
/// What a caller waits longer than a start may take, so that it hears how the start went.
const SLACK: Duration = Duration::from_millis(250);

/// The processes of one stdio endpoint. Dropping it ends them.
pub struct Supervisor {
    inner: Arc<Inner>,
}

struct Inner {
    ground: Arc<Ground>,
    legacy: Slot,
    modern: Slot,
}

/// The shared process of one era.
struct Slot {
    phase: watch::Sender<Phase>,
    wanted: Mutex<Instant>,
    /// Processes of this slot that have ended.
    ends: AtomicU64,
}

enum Phase {
    /// Nobody starts it.
    Idle,
    Starting,
    Up(Arc<Conversation>),
    /// It will be started again.
    Waiting {
        until: Instant,
        reason: Reason,
    },
    /// The server does not speak this era.
    Refused(Verdict),
}

/// That the server does not speak an era.
struct Verdict {
    at: Instant,
    /// How many processes of the other era had ended by then.
    other_ends: u64,
    reason: Reason,
    /// A keeper is finding out whether it is still so.
    checking: bool,
}

/// A failure that can be told many times.
#[derive(Clone)]
struct Reason {
    kind: Kind,
    public: String,
    chain: String,
}

impl Supervisor {
    /// A supervisor that runs nothing yet.
    #[must_use]
    pub fn new(spec: Spec, tasks: Tasks) -> Arc<Self> {
        let ground = Ground { spec, tasks, stop: CancellationToken::new(), running: watch::Sender::new(0) };
        let (legacy, modern) = (Slot::new(), Slot::new());
        Arc::new(Self { inner: Arc::new(Inner { ground: Arc::new(ground), legacy, modern }) })
    }

    /// The process of this era that all callers share, ready for requests. Starts it if need be; concurrent
    /// callers share one start, which goes on when they give up.
    ///
    /// # Errors
    /// `WrongEra` if the server does not speak it; `Timeout` after the connect limit; `Unreachable` or `Protocol`
    /// if the start failed, and at once while the next one has to wait.
    pub async fn shared(self: &Arc<Self>, era: Era) -> Result<Arc<Conversation>, Failure> {
        let slot = self.inner.slot(era);
        if let Phase::Up(conversation) = &*slot.phase.borrow()
            && !conversation.is_closed()
        {
            return Ok(conversation.clone());
        }
        slot.want(Instant::now());
        let until = Instant::now() + self.inner.ground.spec.connect + SLACK;
        let mut phases = slot.phase.subscribe();
        loop {
            self.inner.start_if_idle(era);
            if let Some(found) = self.inner.look(era, &phases.borrow_and_update()) {
                return found;
            }
            // The slot holds the sender, and we hold the slot.
            if timeout_at(until, phases.changed()).await.is_err() {
                return Err(self.inner.too_slow(self.inner.ground.spec.connect));
            }
        }
    }

    /// A process for one client session. The client's own `initialize` is forwarded as it is, and so must be its
    /// `notifications/initialized`, by the caller.
    ///
    /// # Errors
    /// As [`Supervisor::shared`].
    pub async fn own(self: &Arc<Self>, initialize: &Message) -> Result<Arc<Conversation>, Failure> {
        let limit = self.inner.ground.spec.connect;
        self.inner.open(Era::Legacy, ServerRequests::Forward, initialize, limit).await.map(Arc::new)
    }

    /// Ends every process and starts no more. Returns when nothing is left of any.
    pub async fn stop(&self) {
        self.inner.ground.stop.cancel();
        let mut running = self.inner.ground.running.subscribe();
        let _ = timeout(END_MAX, running.wait_for(|count| *count == 0)).await;
    }

    /// How many shared processes have ended: what was learned of an endpoint may not hold for the next one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.legacy.ends.load(Ordering::Relaxed) + self.inner.modern.ends.load(Ordering::Relaxed)
    }

    /// Whether a process runs. Starts none, but keeps those coming back that somebody wanted and that failed.
    ///
    /// # Errors
    /// The last one failed, and the next one has to wait.
    pub fn probe(&self) -> Result<Probe, Failure> {
        let mut failed = None;
        for (slot, found) in [(&self.inner.legacy, Probe::Legacy), (&self.inner.modern, Probe::Modern)] {
            match &*slot.phase.borrow() {
                Phase::Up(conversation) if !conversation.is_closed() => return Ok(found),
                Phase::Waiting { reason, .. } => {
                    slot.want(Instant::now());
                    failed = Some(reason.failure());
                }
                Phase::Up(_) | Phase::Idle | Phase::Starting | Phase::Refused(_) => {}
            }
        }
        match failed {
            // A process of a client session's own may run all the same.
            Some(failure) if self.processes() == 0 => Err(failure),
            _ if self.processes() > 0 && !self.is_starting() => Ok(Probe::Alive),
            _ => Ok(Probe::Unknown),
        }
    }

    fn is_starting(&self) -> bool {
        let starts = |slot: &Slot| matches!(&*slot.phase.borrow(), Phase::Starting);
        starts(&self.inner.legacy) || starts(&self.inner.modern)
    }

    /// How many processes run.
    #[must_use]
    pub fn processes(&self) -> usize {
        *self.inner.ground.running.borrow()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.inner.ground.stop.cancel();
    }
}

impl Inner {
    fn slot(&self, era: Era) -> &Slot {
        match era {
            Era::Legacy => &self.legacy,
            Era::Modern => &self.modern,
        }
    }

    fn other(&self, era: Era) -> &Slot {
        match era {
            Era::Legacy => &self.modern,
            Era::Modern => &self.legacy,
        }
    }

    fn name(&self) -> &str {
        &self.ground.spec.name
    }

    fn too_slow(&self, limit: Duration) -> Failure {
        Failure::new(Kind::Timeout, format!("{} was not ready within {limit:?}", self.name()))
    }

    /// Gives an idle slot, or one whose verdict has lapsed, a keeper.
    fn start_if_idle(self: &Arc<Self>, era: Era) {
        if self.is_over() {
            return;
        }
        let now = Instant::now();
        let other = self.other(era);
        let ends = other.ends.load(Ordering::Relaxed);
        let backed = matches!(&*other.phase.borrow(), Phase::Up(_));
        let started = self.slot(era).phase.send_if_modified(|phase| phase.start(ends, backed, now));
        if started {
            let inner = self.clone();
            let name = format!("stdio {} keeper", self.name());
            self.ground.tasks.spawn(name, OnExit::Quiet, async move { inner.keep(era).await });
        }
    }

    /// What a caller gets in this phase; `None` while it has to wait.
    fn look(&self, era: Era, phase: &Phase) -> Option<Result<Arc<Conversation>, Failure>> {
        match phase {
            Phase::Up(conversation) if !conversation.is_closed() => Some(Ok(conversation.clone())),
            _ if self.is_over() => {
                Some(Err(Failure::new(Kind::Unreachable, format!("{} is stopped", self.name()))))
            }
            // The keeper is about to notice.
            Phase::Up(_) | Phase::Idle | Phase::Starting => None,
            Phase::Waiting { until, reason } => {
                let wait = until.saturating_duration_since(Instant::now());
                tracing::debug!(upstream = self.name(), ?era, ?wait, "no start before the backoff is over");
                Some(Err(reason.failure()))
            }
            Phase::Refused(verdict) => Some(Err(verdict.reason.failure())),
        }
    }

    /// Keeps the shared process of `era` running, one process after the other, until it is not wanted any more.
    async fn keep(self: Arc<Self>, era: Era) {
        let slot = self.slot(era);
        let _vacant = Vacant(slot);
        let mut pace = Pace::new();
        loop {
            let limit = self.ground.spec.connect.max(START);
            let opening = handshake::opening(era);
            let (wait, reason) = match self.open(era, ServerRequests::Refuse, &opening, limit).await {
                Ok(conversation) => {
                    let conversation = Arc::new(conversation);
                    let began = Instant::now();
                    slot.phase.send_replace(Phase::Up(conversation.clone()));
                    let idle = tokio::select! {
                        () = conversation.closed() => false,
                        () = self.idle(&conversation) => true,
                    };
                    if idle {
                        tracing::info!(upstream = self.name(), ?era, "server process is idle and ends");
                        conversation.close().await;
                        return;
                    }
                    let lived = began.elapsed();
                    // Two processes of one server could be in each other's way.
                    conversation.link.gone().await;
                    if let Some(used) = conversation.link.calls().used() {
                        slot.want(used);
                    }
                    slot.ends.fetch_add(1, Ordering::Relaxed);
                    (pace.ended(lived), Reason::of(&conversation.link.ended()))
                }
                Err(failure) if failure.kind == Kind::WrongEra => {
                    tracing::info!(upstream = self.name(), ?era, why = failure.chain(), "era not spoken");
                    let other_ends = self.other(era).ends.load(Ordering::Relaxed);
                    let reason = Reason::of(&failure);
                    let verdict = Verdict { at: Instant::now(), other_ends, reason, checking: false };
                    slot.phase.send_replace(Phase::Refused(verdict));
                    return;
                }
                Err(failure) => (pace.failed(), Reason::of(&failure)),
            };
            if self.is_over() || !slot.is_wanted(Instant::now()) {
                return;
            }
            let why = &reason.chain;
            tracing::warn!(upstream = self.name(), ?era, why, restart_in = ?wait, "server is not running");
            if !wait.is_zero() {
                slot.phase.send_replace(Phase::Waiting { until: Instant::now() + wait, reason });
                tokio::select! {
                    () = sleep(wait) => {}
                    () = self.ground.stop.cancelled() => return,
                    () = self.stopping().cancelled_owned() => return,
                }
            }
            slot.phase.send_replace(Phase::Starting);
        }
    }

    /// Waits until nobody used a process for as long as it may be idle.
    async fn idle(&self, conversation: &Conversation) {
        let Some(limit) = self.ground.spec.idle_stop else { return std::future::pending().await };
        let look = (limit / 4).clamp(Duration::from_millis(50), Duration::from_secs(10));
        let mut since = Instant::now();
        loop {
            sleep(look).await;
            let used = conversation.link.calls().used();
            since = if conversation.is_in_use() { Instant::now() } else { since.max(used.unwrap_or(since)) };
            if since.elapsed() >= limit {
                return;
            }
        }
    }

    fn stopping(&self) -> CancellationToken {
        self.ground.tasks.stopping()
    }

    fn is_over(&self) -> bool {
        self.ground.stop.is_cancelled() || self.stopping().is_cancelled()
    }

    /// Starts a process and shakes hands.
    async fn open(
        &self,
        era: Era,
        server_requests: ServerRequests,
        opening: &Message,
        limit: Duration,
    ) -> Result<Conversation, Failure> {
        let silence = self.ground.spec.connect.min(SILENCE);
        let limit = if era == Era::Modern { silence } else { limit };
        let Started { link, alive, fault } = run::start(&self.ground, era, server_requests).await?;
        let answered = timeout(limit, async {
            let mut replies = Replies::of(link.clone(), opening, None).await?;
            loop {
                match replies.next().await {
                    Some(Ok(message)) if message.kind() == message::Kind::Response => return Ok(message),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(link.ended()),
                }
            }
        });
        let handshake = match answered.await {
            Ok(Ok(message)) => message,
            // Some servers end on a first request that they do not know, some say nothing.
            Ok(Err(failure)) if era == Era::Modern && !fault.is_no_program() => {
                return Err(handshake::wrong_era(self.name(), era).because(failure));
            }
            Err(_) if era == Era::Modern => {
                return Err(handshake::wrong_era(self.name(), era).because("it was silent"));
            }
            Ok(Err(failure)) => return Err(failure),
            Err(_) => return Err(self.too_slow(limit)),
        };
        handshake::accept(self.name(), era, &handshake)?;
        if era == Era::Legacy && server_requests == ServerRequests::Refuse {
            link.send(handshake::initialized()).await?;
        }
        Ok(Conversation::new(link, handshake, alive))
    }
}

impl Phase {
    /// Whether there has to be a keeper now where there was none, given how many processes of the other era have
    /// ended and whether one of them runs.
    fn start(&mut self, other_ends: u64, other_runs: bool, now: Instant) -> bool {
        match self {
            Self::Starting | Self::Up(_) | Self::Waiting { .. } => false,
            Self::Refused(verdict) if verdict.checking => false,
            Self::Refused(verdict)
                if other_ends == verdict.other_ends && (other_runs || now < verdict.at + VERDICT) =>
            {
                verdict.checking = now >= verdict.at + BACKED_VERDICT;
                verdict.checking
            }
            Self::Idle | Self::Refused(_) => {
                *self = Self::Starting;
                true
            }
        }
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Idle),
            wanted: Mutex::new(Instant::now()),
            ends: AtomicU64::new(0),
        }
    }

    /// Somebody used it at `when`.
    fn want(&self, when: Instant) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        *wanted = when.max(*wanted);
    }

    fn is_wanted(&self, now: Instant) -> bool {
        let wanted = *self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(wanted) < WANTED
    }
}

/// However a keeper ends, the next caller can have another.
struct Vacant<'s>(&'s Slot);

impl Drop for Vacant<'_> {
    fn drop(&mut self) {
        self.0.phase.send_if_modified(|phase| {
            let judged = matches!(phase, Phase::Refused(Verdict { checking: false, .. }));
            if !judged {
                *phase = Phase::Idle;
            }
            !judged
        });
    }
}

impl Reason {
    fn of(failure: &Failure) -> Self {
        Self { kind: failure.kind, public: failure.public().to_owned(), chain: failure.chain() }
    }

    fn failure(&self) -> Failure {
        Failure::new(self.kind, self.public.clone()).because(self.chain.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_verdict_on_an_era_is_void_or_checked_in_time() {
        let at = Instant::now();
        let second = Duration::from_secs(1);
        let word = |phase: &Phase| match phase {
            Phase::Refused(verdict) if verdict.checking => "checked",
            Phase::Refused(_) => "kept",
            Phase::Starting => "void",
            _ => "?",
        };
        for (other_ends, other_runs, age, expected) in [
            (7, true, BACKED_VERDICT - second, "kept"),
            (7, true, BACKED_VERDICT, "checked"),
            (7, false, VERDICT - second, "kept"),
            (7, false, VERDICT, "void"),
            (8, true, Duration::ZERO, "void"),
            (8, false, Duration::ZERO, "void"),
        ] {
            let reason = Reason::of(&handshake::wrong_era("tested", Era::Modern));
            let mut phase = Phase::Refused(Verdict { at, other_ends: 7, reason, checking: false });
            let started = phase.start(other_ends, other_runs, at + age);
            assert_eq!(word(&phase), expected, "{other_ends} {other_runs} {age:?}");
            assert_eq!(started, expected != "kept");
            assert!(!phase.start(other_ends, other_runs, at + age), "one keeper is enough");
        }
        assert!(Phase::Idle.start(0, false, at));
    }
}
