//! One endpoint in both eras, whichever it speaks by itself: same-era exchanges go to it as they are, the others
//! are translated here.
//!
//! Owns the verdict on the endpoint's eras. It must never change an exchange that needs no translation, and never
//! take an outage for a verdict.

mod onto_legacy;
mod onto_modern;
mod params;
mod unseen;
mod verdict;

use crate::{
    call::{self, Ask, Backend, Body, Connect, Probe, Reply, read_all},
    context::Context,
    failure::{Failure, Kind},
    joint::Joint,
    mcp::{Era, Message, json, method},
    plan::Upstream,
    principal::Principal,
};
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use o1_process::Tasks;
use onto_legacy::OntoLegacy;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::time::Instant;
use verdict::{Answer, Observation, Verdict};

/// Makes bridges.
pub struct Bridges<C: Connect> {
    native: C,
    tasks: Tasks,
    onto_legacy: onto_legacy::Shared<C::Backend>,
}

impl Bridges<super::any::Backends> {
    /// Makes bridges whose processes and connections belong to `context`.
    #[must_use]
    pub fn new(context: &Context) -> Self {
        let onto_legacy = onto_legacy::Shared::new(&context.tasks, &context.keyring);
        Self { native: super::any::Backends::new(context), onto_legacy, tasks: context.tasks.clone() }
    }
}

impl<C: Connect> Connect for Bridges<C> {
    type Backend = Bridge<C::Backend>;

    fn backend(&self, upstream: &Arc<Upstream>, endpoint: usize) -> Self::Backend {
        let ground = onto_modern::Ground::new(upstream, endpoint, &self.tasks);
        Bridge::new(self.native.backend(upstream, endpoint), upstream, ground, &self.onto_legacy)
    }
}

/// An endpoint in both eras.
pub struct Bridge<B: Backend> {
    native: Arc<B>,
    onto_legacy: OntoLegacy<B>,
    verdict: RwLock<Verdict>,
    /// Who asks about an era, one question for all who want to know.
    asking: [Joint<Asked>; 2],
    /// What sessions in front of a modern server share.
    ground: onto_modern::Ground,
}

/// What a question about an era came to, and when.
#[derive(Clone, Copy)]
struct Asked {
    at: Instant,
    speaks: bool,
}

/// A legacy session with an endpoint of either era.
pub enum Link<B: Backend> {
    /// The endpoint's own.
    Native(B::Link),
    /// A session in front of a server that has none.
    Facade(onto_modern::Link<B>),
}

/// Refusals up to this size are read to see what they say about the era.
const REFUSAL_MAX: u64 = 64 << 10;

impl<B: Backend> Bridge<B> {
    fn new(
        native: B,
        upstream: &Upstream,
        ground: onto_modern::Ground,
        shared: &onto_legacy::Shared<B>,
    ) -> Self {
        let native = Arc::new(native);
        let onto_legacy = OntoLegacy::new(native.clone(), upstream.key, shared);
        Self { native, onto_legacy, verdict: RwLock::default(), asking: Default::default(), ground }
    }

    fn known(&self, era: Era) -> Answer {
        let verdict = *self.verdict.read().unwrap_or_else(PoisonError::into_inner);
        verdict.on(era, self.native.generation(), Instant::now())
    }

    fn observe(&self, seen: Observation) {
        let generation = self.native.generation();
        let mut verdict = self.verdict.write().unwrap_or_else(PoisonError::into_inner);
        *verdict = verdict.after(seen, generation, Instant::now());
    }

    /// What a failed exchange says about the eras: at most that the endpoint was away.
    fn note(&self, failure: &Failure) {
        if failure.kind == Kind::Unreachable {
            self.observe(Observation::Unreachable);
        }
    }

    /// Asks the endpoint, once for all who want to know.
    async fn ask_about(&self, era: Era) -> Result<bool, Failure> {
        let came = Instant::now();
        let asked = self.asking[usize::from(era == Era::Modern)]
            .get(|asked| asked.at > came, async {
                let speaks = self.native.speaks(era).await?;
                self.observe(Observation::Speaks(era, speaks));
                Ok(Asked { at: Instant::now(), speaks })
            })
            .await?;
        Ok(asked.speaks)
    }

    /// A modern message to a server that sees nothing of its headers.
    async fn onto_legacy(
        &self,
        message: &Message,
        headers: &HeaderMap,
        principal: &Principal,
    ) -> Result<Reply, Failure> {
        if let Some(refusal) = unseen::refusal(&self.ground.tools, message, headers) {
            return Ok(refusal);
        }
        let reply =
            self.onto_legacy.ask(message, principal).await.inspect_err(|failure| self.note(failure))?;
        Ok(unseen::learned(&self.ground.tools, message, reply))
    }

    async fn discover_legacy(&self) -> Result<Message, Failure> {
        self.onto_legacy.discover().await.map_err(|failure| match failure.kind {
            Kind::WrongEra => {
                self.observe(Observation::Speaks(Era::Legacy, false));
                neither().because(failure)
            }
            _ => {
                self.note(&failure);
                failure
            }
        })
    }

    /// Whether a server that was taken for a modern one turns out not to be one.
    async fn is_contradicted(&self) -> bool {
        self.observe(Observation::Contradicted(Era::Modern));
        matches!(self.speaks(Era::Modern).await, Ok(false))
    }
}

impl<B: Backend> Backend for Bridge<B> {
    type Link = Link<B>;

    async fn open(&self, initialize: &Message) -> Result<Self::Link, Failure> {
        let mut refusal = None;
        if self.ground.take_contradiction() {
            self.observe(Observation::Contradicted(Era::Modern));
            self.observe(Observation::Contradicted(Era::Legacy));
        }
        // The client's own `initialize` is the question, unless the answer is known.
        if self.known(Era::Legacy) != Answer::Known(false) {
            match self.native.open(initialize).await {
                Ok(link) => {
                    self.observe(Observation::Speaks(Era::Legacy, true));
                    return Ok(Link::Native(link));
                }
                Err(failure) if failure.kind == Kind::WrongEra => {
                    self.observe(Observation::Speaks(Era::Legacy, false));
                    refusal = Some(failure);
                }
                Err(failure) => {
                    self.note(&failure);
                    return Err(failure);
                }
            }
        }
        if self.speaks(Era::Modern).await? {
            return Ok(Link::Facade(
                onto_modern::Link::open(self.native.clone(), &self.ground, initialize).await?,
            ));
        }
        Err(match refusal {
            Some(refusal) => neither().because(refusal),
            None => neither(),
        })
    }

    async fn ask(
        &self,
        message: &Message,
        headers: &HeaderMap,
        principal: &Principal,
    ) -> Result<Reply, Failure> {
        // Whoever cannot be asked how it wants to be spoken to was sent nothing else.
        if !self.speaks(Era::Modern).await.map_err(Failure::unsent)? {
            match self.onto_legacy(message, headers, principal).await {
                // It learned the era since: ask again.
                Err(failure) if failure.kind == Kind::WrongEra => {
                    self.observe(Observation::Speaks(Era::Legacy, false));
                    if !self.speaks(Era::Modern).await? {
                        return Err(neither().because(failure));
                    }
                }
                answered => return answered,
            }
        }
        let unseen = !self.ground.headers;
        if unseen && let Some(refusal) = unseen::refusal(&self.ground.tools, message, headers) {
            return Ok(refusal);
        }
        let reply =
            self.native.ask(message, headers, principal).await.inspect_err(|failure| self.note(failure))?;
        let reply = if unseen { unseen::learned(&self.ground.tools, message, reply) } else { reply };
        let (reply, foreign) = refused_as_foreign(reply).await?;
        // What was refused because of its era has not run.
        if foreign && self.is_contradicted().await {
            return self.onto_legacy(message, headers, principal).await;
        }
        Ok(reply)
    }

    async fn discover(&self) -> Result<Message, Failure> {
        if self.known(Era::Modern) == Answer::Known(false) {
            return self.discover_legacy().await;
        }
        match self.native.discover().await {
            Ok(answer) => {
                self.observe(Observation::Speaks(Era::Modern, true));
                Ok(answer)
            }
            Err(failure) if failure.kind == Kind::WrongEra => {
                self.observe(Observation::Speaks(Era::Modern, false));
                self.discover_legacy().await
            }
            Err(failure) => {
                self.note(&failure);
                Err(failure)
            }
        }
    }

    async fn relay(&self, ask: &Ask, headers: &HeaderMap, session: Option<&str>) -> Result<Reply, Failure> {
        let reply =
            self.native.relay(ask, headers, session).await.inspect_err(|failure| self.note(failure))?;
        if let Ask::Message(message) = ask
            && message.method() == method::INITIALIZE
            && reply.status.is_client_error()
        {
            self.observe(Observation::Contradicted(Era::Legacy));
        }
        Ok(reply)
    }

    async fn speaks(&self, era: Era) -> Result<bool, Failure> {
        let before = match self.known(era) {
            Answer::Known(speaks) => return Ok(speaks),
            Answer::Doubtful(speaks) => Some(speaks),
            Answer::Unknown => None,
        };
        // A server that is not modern speaks the other era: that costs no session.
        if era == Era::Legacy && before.is_none() && !self.ask_about(Era::Modern).await? {
            return Ok(true);
        }
        match (self.ask_about(era).await, before) {
            (Err(failure), Some(before)) => {
                tracing::debug!(?era, error = failure.chain(), "the upstream's era could not be asked again");
                self.observe(Observation::Unanswered(era));
                Ok(before)
            }
            (asked, _) => asked,
        }
    }

    fn generation(&self) -> u64 {
        self.native.generation()
    }

    async fn probe(&self) -> Result<Probe, Failure> {
        let found = self.native.probe().await.inspect_err(|failure| self.note(failure))?;
        match found {
            Probe::Modern => self.observe(Observation::Speaks(Era::Modern, true)),
            Probe::Legacy => self.observe(Observation::Speaks(Era::Legacy, true)),
            Probe::Answers => self.observe(Observation::Speaks(Era::Modern, false)),
            Probe::Alive | Probe::Ill(_) | Probe::Unknown => {}
        }
        Ok(found)
    }

    async fn stop(&self) {
        self.onto_legacy.stop().await;
        self.native.stop().await;
    }
}

impl<B: Backend> Clone for Link<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Native(link) => Self::Native(link.clone()),
            Self::Facade(link) => Self::Facade(link.clone()),
        }
    }
}

impl<B: Backend> call::Link for Link<B> {
    fn handshake(&self) -> &Message {
        match self {
            Self::Native(link) => link.handshake(),
            Self::Facade(link) => link.handshake(),
        }
    }

    async fn ask(&self, message: &Message) -> Result<Reply, Failure> {
        match self {
            Self::Native(link) => link.ask(message).await,
            Self::Facade(link) => link.ask(message).await,
        }
    }

    async fn tell(&self, message: &Message) -> Result<(), Failure> {
        match self {
            Self::Native(link) => link.tell(message).await,
            Self::Facade(link) => link.tell(message).await,
        }
    }

    async fn stream(&self) -> Result<Reply, Failure> {
        match self {
            Self::Native(link) => link.stream().await,
            Self::Facade(link) => link.stream().await,
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Self::Native(link) => link.is_open(),
            Self::Facade(link) => link.is_open(),
        }
    }

    async fn close(&self) {
        match self {
            Self::Native(link) => link.close().await,
            Self::Facade(link) => link.close().await,
        }
    }
}

fn neither() -> Failure {
    Failure::new(Kind::Protocol, "the upstream answers as no MCP server of a known revision does")
}

/// Whether a reply to a modern request is how servers of the other era refuse one: a 400 or 404 that is no
/// answer of a modern server, such as "Missing session ID". The reply stays the bytes it was.
async fn refused_as_foreign(reply: Reply) -> Result<(Reply, bool), Failure> {
    if !matches!(reply.status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) {
        return Ok((reply, false));
    }
    let Reply { status, headers, body, stale } = reply;
    let bytes = match body {
        Body::Bytes(body) if body.size_hint().exact().is_some_and(|size| size <= REFUSAL_MAX) => {
            read_all(body).await?
        }
        Body::Full(bytes) => bytes,
        body => return Ok((Reply { status, headers, body, stale }, false)),
    };
    let foreign = match Message::parse(&bytes) {
        Ok(answer) => error_code(&answer).is_none_or(|code| (-32019..=-32000).contains(&code)),
        Err(_) => true,
    };
    Ok((Reply { status, headers, body: Body::Full(bytes), stale }, foreign))
}

/// The code of an error response.
fn error_code(answer: &Message) -> Option<i32> {
    let at = json::find(answer.bytes(), &answer.error()?, &["code"]).ok()??;
    std::str::from_utf8(&answer.bytes()[at]).ok()?.parse().ok()
}
