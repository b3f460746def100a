//! What an upstream that has a backup says for as long as its primary answers, and what is said in its place when
//! nobody does: from here answers go into the snapshot, and out of it.
//!
//! It must never put in what a backup said, or what came while calls moved from one store to the other; and never
//! pass to the layer below a read that only the snapshot could answer there.

use super::{
    Inner,
    eligible::{self, Lasting, Sharing},
    freshness,
    key::{Key, Partition},
};
use crate::{
    call::{Ask, Call, Reply, Upstreams},
    context::Context,
    failure::{Failure, Kind},
    mcp::{self, Message, json, method, rpc},
    plan::{self, Backup},
    snapshot::{Answer, Keys, Snapshots},
    stores::{self, Gate},
};
use bytes::Bytes;
use http::StatusCode;
use o1_proto::model::{FailoverMetadata, Store};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// A question whose answer lasts.
pub(super) struct Kept {
    snapshots: Arc<Snapshots>,
    upstream: Arc<plan::Upstream>,
    gate: Arc<Gate>,
    /// Of the gate, when it was asked.
    moves: u64,
    /// Whether it was asked of the primary.
    primary: bool,
    method: Box<str>,
    /// The raw id.
    id: Bytes,
    /// When results say which store they came from.
    metadata: FailoverMetadata,
    /// Among those who share whatever comes.
    own: Keys,
    /// Among everybody, if the server can say that its answer is for them.
    public: Option<Keys>,
}

impl Kept {
    /// A call that is about to be sent; `None`: its answer does not last.
    pub(super) fn new(context: &Context, call: &Call, upstream: &Arc<plan::Upstream>) -> Option<Self> {
        upstream.backup.as_ref()?;
        let Ask::Message(message) = &call.ask else { return None };
        if message.kind() != mcp::Kind::Request {
            return None;
        }
        let lasting = eligible::lasting(call, message, upstream)?;
        let id = message.bytes().slice_ref(message.id()?);
        let base = if lasting.introduces {
            introduction(call, upstream)
        } else {
            let key = |exactly| Key::lasting(call, message, upstream, exactly);
            (key(true)?, key(false)?)
        };
        Some(Self::of(context, call, upstream, lasting, (message.method(), id, base)))
    }

    /// A handshake that is about to be asked for.
    fn handshake(context: &Context, call: &Call, upstream: &Arc<plan::Upstream>) -> Self {
        let method = if call.session().is_some() { method::INITIALIZE } else { method::DISCOVER };
        let (lasting, base) = (eligible::introduction(call, upstream), introduction(call, upstream));
        Self::of(context, call, upstream, lasting, (method, Bytes::from_static(b"\"o1:handshake\""), base))
    }

    fn of(
        context: &Context,
        call: &Call,
        upstream: &Arc<plan::Upstream>,
        lasting: Lasting,
        (method, id, base): (&str, Bytes, (Key, Key)),
    ) -> Self {
        let gate = context.stores.gate(&upstream.name);
        // In this order: a move in between is noticed.
        let moves = gate.moves();
        let standing = gate.standing();
        let keys = |partition| {
            let [exact, alike] = [base.0, base.1].map(|key| key.within(partition).bytes());
            Keys { exact, alike }
        };
        let (partition, public) = match lasting.sharing {
            Sharing::Everybody => (Partition::Everybody, false),
            Sharing::Principal { public } => (Partition::Principal(&call.principal.id), public),
            Sharing::Session => (Partition::Principal(&call.principal.id), false),
        };
        Self {
            snapshots: context.snapshots.clone(),
            upstream: upstream.clone(),
            moves,
            primary: (standing.active, standing.reads) == (Store::Primary, Store::Primary),
            gate,
            method: method.into(),
            id,
            metadata: call.plan.clients.failover_metadata,
            own: keys(partition),
            public: public.then(|| keys(Partition::Everybody)),
        }
    }

    /// The raw id of the question.
    pub(super) fn id(&self) -> &[u8] {
        &self.id
    }

    /// How much of an answer is worth reading.
    pub(super) fn largest(&self) -> usize {
        self.snapshots.largest()
    }

    /// Puts the answer in, if it is the primary's and one that others could have.
    pub(super) fn hear(&self, answer: &Message) {
        let said = freshness::said(answer);
        if !self.primary || self.gate.moves() != self.moves || said.failed || !said.complete {
            return;
        }
        let Some(result) = lasting_result(&self.method, answer) else { return };
        let keys = match &self.public {
            Some(public) if said.public => public,
            Some(public) => {
                self.snapshots.forget(&self.upstream, public);
                &self.own
            }
            None => &self.own,
        };
        let (method, received) = (self.method.clone(), SystemTime::now());
        self.snapshots.record(&self.upstream, keys, Answer { method, result, received, public: said.public });
    }

    /// What the primary last answered.
    fn find(&self) -> Option<Answer> {
        let find = |keys| self.snapshots.find(&self.upstream, keys);
        find(&self.own).or_else(|| find(self.public.as_ref()?))
    }

    /// What the primary last answered, for who asked.
    pub(super) fn found(&self) -> Option<Reply> {
        let answer = self.find()?;
        let stale = Some(answer.received);
        Some(Reply { stale, ..Reply::json(self.marked(rpc::result(&self.id, &answer.result))) })
    }

    /// What somebody asked for by name says that it is old.
    fn marked(&self, text: Bytes) -> Bytes {
        if method::named_by(&self.method).is_none() {
            return text;
        }
        let (standing, primary) = (self.gate.standing(), self.gate.health(Store::Primary).words());
        let answer = stores::Answer { by: stores::Source::Snapshot, stale: true, journaled: false };
        match (stores::mark(self.metadata, &self.upstream, &standing, primary, answer), Message::parse(&text))
        {
            (Some(mark), Ok(message)) => stores::put(&message, &mark).bytes().clone(),
            _ => text,
        }
    }

    /// The same in place of an answer that a backup did not give. A primary that does not answer is the failover path's
    /// to judge, not ours.
    pub(super) fn instead(&self) -> Option<Reply> {
        if self.gate.standing().reads == Store::Backup { self.found() } else { None }
    }

    /// The same of a handshake.
    fn introduced(&self) -> Option<Message> {
        let answer = self.find()?;
        let text = rpc::result(&self.id, &answer.result);
        Some(Message::parse(&text).expect("a result that was read from a message makes a message"))
    }
}

/// One key for both: whatever its caller is able to do, a server is the same.
fn introduction(call: &Call, upstream: &plan::Upstream) -> (Key, Key) {
    let key = Key::introduction(call, upstream);
    (key, key)
}

/// A result as it is kept: with nothing of its life left, since it is given to others when nobody knows better.
fn lasting_result(method: &str, answer: &Message) -> Option<Bytes> {
    let (text, result) = (answer.bytes(), answer.result()?);
    let raw = &text[result.clone()];
    // What a tool or a prompt gives has no life of its own.
    let has_life = raw.first() == Some(&b'{') && !matches!(method, method::TOOLS_CALL | method::PROMPTS_GET);
    let life = if has_life { json::member(text, &result, "ttlMs").ok()? } else { None };
    Some(match life {
        Some(at) => {
            let within = at.start - result.start..at.end - result.start;
            json::splice(raw, vec![(within, b"0".to_vec())])
        }
        None => Bytes::copy_from_slice(raw),
    })
}

/// Whether a failure says that a store is away.
pub(super) fn is_away(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::Unreachable | Kind::Timeout)
}

/// The same of an HTTP status.
pub(super) fn is_away_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

/// Whether reads go to the snapshot, by design and at this moment.
fn serves(context: &Context, upstream: &plan::Upstream) -> Option<Arc<Gate>> {
    if !matches!(upstream.backup, Some(Backup::Snapshot)) {
        return None;
    }
    Some(context.stores.gate(&upstream.name)).filter(|gate| gate.standing().reads == Store::Backup)
}

impl<N: Upstreams> Inner<N> {
    /// The answer to a call whose store is the snapshot; `None`: it is for the layer below.
    pub(super) fn by_snapshot(
        &self,
        call: &Call,
        upstream: &Arc<plan::Upstream>,
    ) -> Option<Result<Reply, Failure>> {
        let gate = serves(&self.context, upstream)?;
        let Ask::Message(message) = &call.ask else { return None };
        match message.kind() {
            mcp::Kind::Request => self.request_by_snapshot(call, message, upstream),
            // While writes go to the primary, it may wait for these.
            _ => (gate.standing().active == Store::Backup).then(|| Ok(Reply::accepted())),
        }
    }

    fn request_by_snapshot(
        &self,
        call: &Call,
        message: &Message,
        upstream: &Arc<plan::Upstream>,
    ) -> Option<Result<Reply, Failure>> {
        if message.method() == method::LISTEN || !upstream.only_reads(message) {
            return None;
        }
        let done = || Reply::json(rpc::result(message.id().unwrap_or_default(), b"{}"));
        let cannot = |what: &str| Err(self.not_there(upstream, what));
        Some(match (message.method(), call.session()) {
            (gone, None)
                if matches!(call.caller, crate::call::Caller::Modern) && method::REMOVED.contains(&gone) =>
            {
                Err(Failure::new(Kind::UnknownMethod, format!("Method not found: {gone}")))
            }
            (method::PING, _) => Ok(done()),
            (method::SET_LEVEL, session) => {
                if let (Some(session), Ok(Some(level))) = (session, message.param_str(&["level"])) {
                    // The primary is told when the session goes on with it.
                    session.set_log_level(level.into_owned());
                }
                Ok(done())
            }
            (method::RESOURCES_SUBSCRIBE | method::RESOURCES_UNSUBSCRIBE, _) => {
                cannot("which says nothing by itself: subscriptions are not changed now")
            }
            _ => match Kept::new(&self.context, call, upstream).and_then(|kept| kept.found()) {
                Some(reply) => Ok(reply),
                None => cannot("which does not have this"),
            },
        })
    }

    fn not_there(&self, upstream: &plan::Upstream, what: &str) -> Failure {
        let name = &upstream.name;
        let words = match self.context.snapshots.as_of(upstream) {
            Some(time) => format!("`{name}` is served from its snapshot of {}, {what}", when(time)),
            None => format!("`{name}` is served from its snapshot, which is empty"),
        };
        Failure::new(Kind::Unreachable, words).unsent()
    }

    /// The handshake with an upstream that has a backup.
    pub(super) async fn kept_handshake(
        &self,
        call: &Call,
        upstream: Arc<plan::Upstream>,
    ) -> Result<Message, Failure> {
        let kept = Kept::handshake(&self.context, call, &upstream);
        if serves(&self.context, &upstream).is_some() {
            return kept
                .introduced()
                .ok_or_else(|| self.not_there(&upstream, "which does not have its handshake"));
        }
        match self.next.handshake(call, upstream).await {
            Ok(answer) => {
                kept.hear(&answer);
                Ok(answer)
            }
            Err(failure) if is_away(&failure) && kept.gate.standing().reads == Store::Backup => {
                kept.introduced().ok_or(failure)
            }
            Err(failure) => Err(failure),
        }
    }
}

/// A time as people read it, in whole seconds.
fn when(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
    jiff::Timestamp::try_from(whole).map_or_else(|_| "long ago".to_owned(), |time| time.to_string())
}
