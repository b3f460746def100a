//! A read that takes part: from memory, from a flight of others, or from the upstream.

use super::{
    Inner,
    answer::{self, Common, Gathered},
    eligible::{Method, Read, Sharing},
    entry::{Age, Entry, Terms},
    flight::{Boarding, Departure, Seat, Seats, Ticket},
    freshness::{self, Said},
    kept::{self, Kept},
    key::{Key, Partition},
    scope::{Scope, Stamp},
    tap,
};
use crate::{
    call::{Ask, Call, Reply, Session, Upstreams},
    calls::Outcome,
    failure::{Failure, Kind},
    metrics::Skip,
    plan,
};
use bytes::Bytes;
use o1_process::OnExit;
use o1_proto::model::{Batching, Tier, TierLimits};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long an answer that could not be fetched again is left as it is.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);

/// What is asked, in whose name.
struct Question {
    call: Call,
    upstream: Arc<plan::Upstream>,
    read: Read,
    scope: Arc<Scope>,
    /// The raw id.
    id: Bytes,
    /// The question among those who share whatever comes.
    own: Key,
    /// The question among everybody, if the server can say that its answer is for them.
    public: Option<Key>,
}

impl Question {
    /// Memory answered.
    fn answered(&self, began: Instant) {
        if let Ask::Message(message) = &self.call.ask {
            self.scope.calls().ended(message.bytes(), Outcome::Cached, began, began, None);
        }
    }
}

/// What a flight brought.
pub(super) struct Landed {
    /// For who asked: the reply as it came.
    came: Mutex<Option<Reply>>,
    /// For the others; `None`: they ask for themselves.
    common: Option<Common>,
    /// What was kept.
    entry: Option<Arc<Entry>>,
    /// Whether others have it whoever they are.
    public: bool,
    /// The upstream is in trouble, says its HTTP status.
    trouble: bool,
}

/// How a look-up ended; counted once, when it is over.
#[derive(Clone, Copy)]
enum Found {
    Hit,
    Stale,
    Miss,
    Coalesced,
}

/// What memory says.
enum Recalled {
    /// The answer.
    Answer(Reply),
    /// The upstream is asked; if that fails, there may be a last resort.
    Nothing { question: Arc<Question>, tally: Tally, last_resort: Option<Arc<Entry>> },
    /// The call cannot be told from others.
    Keyless(Box<(Call, Arc<plan::Upstream>)>, Method),
}

struct Tally {
    scope: Arc<Scope>,
    tier: Tier,
    found: Found,
}

impl Drop for Tally {
    fn drop(&mut self) {
        let counts = self.scope.counts(self.tier);
        match self.found {
            Found::Hit => counts.hit(),
            Found::Stale => counts.stale(),
            Found::Miss => counts.miss(),
            Found::Coalesced => counts.coalesced(),
        }
    }
}

impl<N: Upstreams> Inner<N> {
    pub(super) async fn read(
        self: &Arc<Self>,
        call: Call,
        upstream: Arc<plan::Upstream>,
        read: Read,
    ) -> Result<Reply, Failure> {
        let (question, mut tally, last_resort) = match self.recall(call, upstream, read) {
            Recalled::Answer(reply) => return Ok(reply),
            Recalled::Nothing { question, tally, last_resort } => (question, tally, last_resort),
            Recalled::Keyless(asked, method) => {
                // Nothing can be told from what has no key.
                let (call, upstream) = *asked;
                return match method {
                    Method::Tool => self.write(call, upstream).await,
                    _ => self.pass(call, upstream).await,
                };
            }
        };
        // Boxed for the sake of those above, who need no room for it.
        let fetched = Box::pin(self.fetched(&question, &mut tally)).await;
        let failed = match &fetched {
            Ok(Fetched { trouble, .. }) => *trouble,
            Err(failure) => failure.is_upstream() && !is_of_a_session(failure),
        };
        if failed && let Some(entry) = last_resort.filter(|entry| entry.holds()) {
            tally.found = Found::Stale;
            return Ok(Reply::json(entry.render(&question.id, Instant::now())));
        }
        let away = match &fetched {
            Ok(fetched) => kept::is_away_status(fetched.reply.status),
            Err(failure) => kept::is_away(failure),
        };
        if away
            && let Some(kept) = Kept::new(&self.context, &question.call, &question.upstream)
            && let Some(reply) = kept.instead()
        {
            return Ok(reply);
        }
        fetched.map(|fetched| fetched.reply)
    }

    /// The keys of a question, in its partition and among everybody if the server can open it to them, and the raw id.
    fn keys(&self, call: &Call, upstream: &plan::Upstream, read: &Read) -> Option<(Key, Option<Key>, Bytes)> {
        let Ask::Message(message) = &call.ask else { return None };
        let mut base = Key::base(call, message, upstream)?;
        if upstream.backup.is_some() {
            base = base.after(self.context.stores.gate(&upstream.name).moves());
        }
        let partition = match (read.sharing, call.session()) {
            (Sharing::Everybody, _) => Partition::Everybody,
            (Sharing::Session, Some(session)) => Partition::Session(&session.serial),
            _ => Partition::Principal(&call.principal.id),
        };
        let public = (read.sharing == Sharing::Principal { public: true }).then_some(base);
        Some((base.within(partition), public, message.bytes().slice_ref(message.id()?)))
    }

    /// What memory says to a read. No future, and a question of its own only where it is asked: this is the way of
    /// every hit.
    fn recall(self: &Arc<Self>, call: Call, upstream: Arc<plan::Upstream>, read: Read) -> Recalled {
        let Some((own, public, id)) = self.keys(&call, &upstream, &read) else {
            return Recalled::Keyless(Box::new((call, upstream)), read.method);
        };
        let scope = self.scopes.of(&upstream);
        if !upstream.is_http() {
            scope.answered_by(self.next.generation(&upstream));
        }
        let (now, tier) = (Instant::now(), read.method.tier());
        let question = Question { call, upstream, read, scope, id, own, public };
        let known = self.look(&question, now);
        if let Some((entry, Age::Fresh)) = &known {
            question.scope.counts(tier).hit();
            question.answered(now);
            return Recalled::Answer(Reply::json(entry.render(&question.id, now)));
        }
        let mut tally = Tally { scope: question.scope.clone(), tier, found: Found::Miss };
        let (question, mut last_resort) = (Arc::new(question), None);
        match known {
            Some((entry, Age::Stale { while_revalidate: true, .. })) => {
                self.refresh(&question, &entry);
                tally.found = Found::Stale;
                question.answered(now);
                return Recalled::Answer(Reply::json(entry.render(&question.id, now)));
            }
            Some((entry, Age::Stale { if_error: true, .. })) => last_resort = Some(entry),
            _ => {}
        }
        Recalled::Nothing { question, tally, last_resort }
    }

    /// What memory has: what is fresh rather than what is not.
    fn look(&self, question: &Question, now: Instant) -> Option<(Arc<Entry>, Age)> {
        if question.call.fresh {
            return None;
        }
        let tier = question.read.method.tier();
        let own = self.tiers.get(tier, &question.own, now);
        match (&own, question.public) {
            (Some((_, Age::Fresh)), _) | (_, None) => own,
            (_, Some(public)) => match self.tiers.get(tier, &public, now) {
                Some((entry, Age::Fresh)) => Some((entry, Age::Fresh)),
                other => own.or(other),
            },
        }
    }

    /// The answer of the upstream, asked for by the caller or by somebody who came before.
    async fn fetched(
        self: &Arc<Self>,
        question: &Arc<Question>,
        tally: &mut Tally,
    ) -> Result<Fetched, Failure> {
        // A session that waits for the answer to another's request is not idle.
        let _at_work = question.call.session().map(Session::at_work);
        let batching = question.call.plan.batching;
        let mut window = Some(batching).filter(|one| question.read.method.is_list() && !one.window.is_zero());
        let public =
            question.public.filter(|_| !self.seen.was_private(&question.upstream, question.read.method));
        let mut key = public.unwrap_or(question.own);
        loop {
            let seat = match self.board(question, key, window) {
                Boarding::Known(entry) => {
                    tally.found = Found::Hit;
                    return Ok(Reply::json(entry.render(&question.id, Instant::now())).into());
                }
                Boarding::Full => {
                    tally.found = Found::Miss;
                    return self.alone(question).await;
                }
                Boarding::Seat(seat) => seat,
            };
            tally.found = if seat.leads { Found::Miss } else { Found::Coalesced };
            match self.share(question, &seat).await? {
                Shared::Given(fetched) => return Ok(fetched),
                Shared::Foreign if key != question.own => {
                    // Another principal's, and not for everybody. All who wait know that now: nobody waits for more.
                    (key, window) = (question.own, None);
                }
                Shared::Foreign | Shared::Nothing => {
                    tally.found = Found::Miss;
                    return self.alone(question).await;
                }
            }
        }
    }

    /// What comes of a seat.
    async fn share(&self, question: &Question, seat: &Seat<Landed>) -> Result<Shared, Failure> {
        let landed = match seat.landing().await {
            Ok(landed) => landed,
            // The end of another's session says nothing about one's own.
            Err(failure) if !seat.leads && (is_of_a_session(&failure) || has_ended(seat.from())) => {
                return Ok(Shared::Nothing);
            }
            Err(failure) => return Err(failure.again()),
        };
        let trouble = landed.trouble;
        let given = |reply| Ok(Shared::Given(Fetched { reply, trouble }));
        if !seat.leads && !landed.public && seat.from().own != question.own {
            return Ok(Shared::Foreign);
        }
        if let Some(entry) = &landed.entry {
            // Of the moment at which it came in: nothing of its life is over for those who waited for it.
            return given(Reply::json(entry.render(&question.id, entry.terms().received)));
        }
        if seat.leads {
            let came = landed.came.lock().unwrap_or_else(PoisonError::into_inner).take();
            return given(came.expect("a flight has one leader, who takes its reply once"));
        }
        match &landed.common {
            Some(Common::Answer(status, message)) => {
                given(answer::reply(*status, answer::with_id(message, &question.id)))
            }
            Some(Common::Page(status, headers, bytes)) => given(answer::page(*status, headers, bytes)),
            None => Ok(Shared::Nothing),
        }
    }

    /// Asks for one caller only.
    async fn alone(&self, question: &Question) -> Result<Fetched, Failure> {
        let kept = Kept::new(&self.context, &question.call, &question.upstream);
        let asked = self.below(question.call.clone(), question.upstream.clone());
        Ok(self.kept_or_instead(kept, asked.await, &question.scope)?.into())
    }

    fn board(
        self: &Arc<Self>,
        question: &Arc<Question>,
        key: Key,
        window: Option<Batching>,
    ) -> Boarding<Landed, Arc<Entry>> {
        let joins = |from: &Departure| {
            !question.call.fresh && question.scope.joins(&question.read.subject, from.stamp)
        };
        let known = || match self.look(question, Instant::now()) {
            Some((entry, Age::Fresh)) => Some(entry),
            _ => None,
        };
        let begin = |seats: &Arc<Seats>| {
            let (stamp, own) = (question.scope.now(), question.own);
            let ended = question.call.session().map(|session| session.ended.clone());
            let (inner, question, seats) = (self.clone(), question.clone(), seats.clone());
            let exchange = async move {
                if let Some(batching) = window {
                    let waited = seats.gather(batching.window).await;
                    let metrics = inner.context.metrics.upstream(&question.upstream.name);
                    metrics.batches().sent(seats.taken(), waited);
                }
                inner.fetch(&question, stamp).await
            };
            (Departure { stamp, own, ended }, exchange)
        };
        let session = question.call.session();
        let request = session.map(|session| (session.serial, question.id.as_ref().into()));
        let enough = window.map_or(usize::MAX, |batching| batching.max as usize);
        self.flights.board(Ticket { key, enough, request }, joins, known, begin)
    }

    /// One exchange with the upstream; what may be kept of it, is.
    async fn fetch(self: &Arc<Self>, question: &Question, stamp: Stamp) -> Result<Landed, Failure> {
        let tier = question.read.method.tier();
        let limits = question.call.plan.caching.tier(tier);
        let kept = Kept::new(&self.context, &question.call, &question.upstream);
        let most = usize::try_from(limits.bytes / 8).unwrap_or(usize::MAX);
        let read = kept.as_ref().map_or(most, |kept| kept.largest().max(most));
        let exchange = async {
            let asked = self.below(question.call.clone(), question.upstream.clone());
            let reply = tap::tapped(asked.await?, &question.scope);
            answer::gather(reply, &question.id, read, &self.context.tasks).await
        };
        let counts = question.scope.counts(tier);
        let Gathered { came, common } = exchange.await.inspect_err(|_| counts.skipped(Skip::Error))?;
        let said = match &common {
            Some(Common::Answer(status, message)) if status.is_success() => {
                kept.inspect(|kept| kept.hear(message));
                freshness::said(message)
            }
            Some(_) => Said { failed: true, complete: true, ..Said::default() },
            None => Said::default(),
        };
        let public = question.public.is_some() && said.public && said.complete && !said.failed;
        if question.public.is_some() && said.complete && !said.failed {
            self.seen.note(&question.upstream, question.read.method, public);
        }
        let fits = |one: &Common| !matches!(one, Common::Answer(_, message) if message.bytes().len() > most);
        let offered = common.as_ref().filter(|one| fits(one));
        let entry = match keepable(question, offered, &said, stamp, public, limits) {
            Ok(entry) => {
                let entry = Arc::new(entry);
                let key = question.public.filter(|_| public).unwrap_or(question.own);
                self.tiers.put(key, entry.clone());
                self.listen_for(&question.call, &question.upstream, entry.terms(), limits);
                Some(entry)
            }
            Err(why) => {
                counts.skipped(why);
                None
            }
        };
        let trouble = matches!(&common, Some(Common::Page(status, ..)) if answer::is_trouble(*status))
            || common.is_none() && answer::is_trouble(came.status);
        let common = common.filter(|_| said.complete);
        Ok(Landed { came: Mutex::new(Some(came)), common, entry, public, trouble })
    }

    /// Fetches an answer again behind its callers, once at a time.
    fn refresh(self: &Arc<Self>, question: &Arc<Question>, entry: &Entry) {
        let key = question.public.filter(|_| entry.terms().public).unwrap_or(question.own);
        if !self.refreshing.lock().unwrap_or_else(PoisonError::into_inner).insert(key) {
            return;
        }
        let (refreshing, question) = (Refreshing { inner: self.clone(), key }, question.clone());
        let stopping = self.context.tasks.stopping();
        self.context.tasks.spawn("refresh of an answer", OnExit::Quiet, async move {
            let refreshed = async {
                let inner = &refreshing.inner;
                let Boarding::Seat(seat) = inner.board(&question, key, None) else { return };
                if !matches!(seat.landing().await, Ok(landed) if landed.entry.is_some()) {
                    tokio::time::sleep(REFRESH_PAUSE).await;
                }
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                () = refreshed => {}
            }
        });
    }
}

/// What a look-up fetched.
struct Fetched {
    reply: Reply,
    trouble: bool,
}

impl From<Reply> for Fetched {
    fn from(reply: Reply) -> Self {
        let trouble = answer::is_trouble(reply.status);
        Self { reply, trouble }
    }
}

/// What one of those who wait for a flight gets of it.
enum Shared {
    /// An answer.
    Given(Fetched),
    /// It is another's.
    Foreign,
    /// It cannot be shared.
    Nothing,
}

/// The entry to keep, or why there is none.
fn keepable(
    question: &Question,
    common: Option<&Common>,
    said: &Said,
    stamp: Stamp,
    public: bool,
    limits: &TierLimits,
) -> Result<Entry, Skip> {
    let Some(common) = common else { return Err(Skip::TooLarge) };
    let Common::Answer(_, message) = common else { return Err(Skip::Error) };
    if said.failed {
        return Err(Skip::Error);
    }
    if !said.complete {
        return Err(Skip::NotComplete);
    }
    // Only answers of the modern era speak of their life.
    let hint = said.ttl.filter(|_| question.read.hinted);
    let life = freshness::life(question.read.rule, hint, limits).ok_or(Skip::NoLife)?;
    let (scope, subject) = (question.scope.clone(), question.read.subject.clone());
    if !scope.holds(&subject, stamp) {
        return Err(Skip::Overtaken);
    }
    let hinted = question.read.hinted;
    let terms = Terms { scope, subject, stamp, public, received: Instant::now(), life, hinted };
    Entry::new(message, terms).ok_or(Skip::NotComplete)
}

/// Whether a failure is about the session of who asked.
fn is_of_a_session(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::SessionLost | Kind::UnknownSession | Kind::MissingSession)
}

/// Whether the session in which a flight asks is over.
fn has_ended(from: &Departure) -> bool {
    from.ended.as_ref().is_some_and(CancellationToken::is_cancelled)
}

/// While an answer is fetched again.
struct Refreshing<N> {
    inner: Arc<Inner<N>>,
    key: Key,
}

impl<N> Drop for Refreshing<N> {
    fn drop(&mut self) {
        self.inner.refreshing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
