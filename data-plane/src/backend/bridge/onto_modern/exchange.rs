//! One call of a legacy client at a modern server: as many requests as the server has questions.

use super::{
    super::params::{Listed, Param},
    Shared,
    answer::{self, Answer},
    envelope,
    input::{self, Input, Question, Unaskable},
    notification,
    pending::{Asked, InFlight},
    refusal,
};
use crate::{
    call::{Backend, Body, Messages, Reply, read_messages, read_up_to},
    failure::{Failure, Kind},
    mcp::{self, Message, method, rpc},
    principal::Principal,
};
use futures_util::{StreamExt as _, future, stream};
use http::{HeaderMap, StatusCode};
use o1_process::OnExit;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

/// How often a server may answer a call with questions.
const ROUNDS_MAX: u32 = 8;
/// How long a client may take to answer the questions of one round.
const ROUND_MAX: Duration = Duration::from_secs(600);
/// The pause before a call that the server wants repeated, with nothing to tell it; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// Messages that wait for the client; more wait at the server.
const QUEUE: usize = 32;
/// Refusals up to this size are read.
const REFUSAL_MAX: usize = 64 << 10;
/// Pages of a list of tools that the gateway asks for itself.
const PAGES_MAX: usize = 100;

type Out = mpsc::Sender<Result<Message, Failure>>;

/// Sends a call. The answer goes on coming when nobody reads it: a connection that a legacy client lost
/// cancels nothing.
pub(super) async fn start<B: Backend>(shared: &Arc<Shared<B>>, message: &Message) -> Result<Reply, Failure> {
    let in_flight = shared.calls.enter(message.id().unwrap_or_default())?;
    let (out, receiver) = mpsc::channel(QUEUE);
    let (head, headed) = oneshot::channel();
    let call = Call { shared: shared.clone(), request: message.clone(), out, head: Some(head) };
    shared.ground.tasks.spawn("translated call", OnExit::Quiet, call.run(in_flight));
    match headed.await {
        Ok(failure) => Err(failure),
        Err(_) => Ok(Reply::messages(ReceiverStream::new(receiver).boxed())),
    }
}

struct Call<B> {
    shared: Arc<Shared<B>>,
    /// As the client sent it.
    request: Message,
    out: Out,
    /// Takes a failure as long as the server has not begun to answer; dropped when it has.
    head: Option<oneshot::Sender<Failure>>,
}

/// The answers of a client to one round, or the response that the call ends with because there are none.
type Gathered = Result<Vec<(String, Vec<u8>)>, Message>;

impl<B: Backend> Call<B> {
    async fn run(mut self, in_flight: InFlight) {
        let closed = self.shared.closed.clone();
        tokio::select! {
            biased;
            // Nothing is sent any more, and what the server is doing drops.
            () = in_flight.cancelled.cancelled() => {}
            () = closed.cancelled() => {}
            () = self.answer() => {}
        }
    }

    async fn answer(&mut self) {
        let answer = self.conduct().await;
        match (answer, self.head.take()) {
            (Err(failure), Some(head)) => {
                let _ = head.send(failure);
            }
            (answer, _) => {
                // The client may be gone.
                let _ = self.out.send(answer).await;
            }
        }
    }

    /// Asks, lets the client answer what the server asks back, and asks again.
    async fn conduct(&mut self) -> Result<Message, Failure> {
        let mut more: Vec<(&str, Vec<u8>)> = Vec::new();
        for round in 0..=ROUNDS_MAX {
            let input = match self.round(round, &more).await? {
                Answer::Final(message) => return Ok(message),
                Answer::Input(input) => input,
            };
            if round == ROUNDS_MAX {
                break;
            }
            more = Vec::new();
            if input.questions.is_empty() {
                tokio::time::sleep(PAUSE.saturating_mul(1 << round).min(PAUSE_MAX)).await;
            } else {
                match self.gather(&input).await? {
                    Ok(answers) => more.push(("inputResponses", input::responses(&answers))),
                    Err(response) => return Ok(response),
                }
            }
            more.extend(input.state.map(|state| ("requestState", state)));
        }
        let what = format!("the upstream asked for input more than {ROUNDS_MAX} times");
        Err(Failure::new(Kind::Protocol, what))
    }

    /// One request and its answer.
    async fn round(&mut self, round: u32, more: &[(&str, Vec<u8>)]) -> Result<Answer, Failure> {
        let shared = self.shared.clone();
        let more: Vec<(&str, &[u8])> = more.iter().map(|(key, value)| (*key, &**value)).collect();
        let level = shared.level();
        let mut message = envelope::enveloped(&self.request, &shared.profile, level.as_deref(), &more)?;
        if round > 0 {
            message = message.with_id(&shared.fresh_id());
        }
        let headers = envelope::headers(&message, &self.repeated().await?)?;
        let mut answer = self.exchange(&message, &headers).await?;
        if answer::code(&answer) == Some(rpc::HEADER_MISMATCH) && self.repeats() {
            // Nothing has run: the server looked at the headers only, and its tools are not those we know.
            shared.ground.tools.forget();
            let headers = envelope::headers(&message, &self.repeated().await?)?;
            answer = self.exchange(&message.with_id(&shared.fresh_id()), &headers).await?;
        }
        let listed = (self.request.method() == method::TOOLS_LIST && shared.ground.headers)
            .then(|| learn(&shared, &answer, !matches!(self.request.param(&["cursor"]), Ok(Some(_)))));
        answer::read(&answer, &self.request, shared.profile.version, listed.as_ref())
    }

    /// Whether headers repeat arguments of this call.
    fn repeats(&self) -> bool {
        self.request.method() == method::TOOLS_CALL && self.shared.ground.headers
    }

    /// The arguments of this call that headers repeat.
    async fn repeated(&self) -> Result<Arc<[Param]>, Failure> {
        let name = if self.repeats() { self.request.param_str(&["name"]) } else { Ok(None) };
        let name = name.map_err(|malformed| Failure::new(Kind::InvalidParams, malformed.0))?;
        let Some(name) = name else { return Ok(Arc::default()) };
        let (tools, listing) = (&self.shared.ground.tools, &self.shared.ground.listing);
        if let Some(known) = tools.of(&name) {
            return Ok(known);
        }
        let _listing = listing.lock().await;
        if let Some(known) = tools.of(&name) {
            return Ok(known);
        }
        if let Err(failure) = self.list_tools().await {
            tracing::debug!(
                error = failure.chain(),
                "the upstream's tools cannot be listed for their headers"
            );
        }
        // Whatever came of it, a call does not ask again at once.
        tools.complete();
        Ok(tools.of(&name).unwrap_or_default())
    }

    async fn list_tools(&self) -> Result<(), Failure> {
        let shared = &self.shared;
        let mut cursor: Option<Vec<u8>> = None;
        for _ in 0..PAGES_MAX {
            let request = Message::parse(&rpc::request(&shared.fresh_id(), method::TOOLS_LIST, b"{}"))
                .expect("a request of our own is a message");
            let more: Vec<(&str, &[u8])> = cursor.iter().map(|at| ("cursor", &**at)).collect();
            let request = envelope::enveloped(&request, &shared.profile, None, &more)?;
            let headers = envelope::headers(&request, &[])?;
            let asked = async {
                let mut messages = open(&*shared.server, &request, &headers).await?;
                response(&mut messages, None).await
            };
            let answer = tokio::time::timeout(shared.ground.connect, asked).await.map_err(|_| silent())??;
            let listed = learn(shared, &answer, cursor.is_none());
            match listed.cursor {
                Some(at) => cursor = Some(answer.bytes()[at].to_vec()),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// A request at the server: its notifications go to the client, its response comes back.
    async fn exchange(&mut self, message: &Message, headers: &HeaderMap) -> Result<Message, Failure> {
        let asked = async {
            let mut messages = open(&*self.shared.server, message, headers).await.inspect_err(|failure| {
                if failure.kind == Kind::SessionLost {
                    self.shared.foreign.store(true, Ordering::Release);
                    self.shared.ground.contradicted.store(true, Ordering::Release);
                }
            })?;
            self.head = None;
            response(&mut messages, Some(&self.out)).await
        };
        tokio::time::timeout(self.shared.ground.total, asked).await.map_err(|_| silent())?
    }

    /// Puts every question to the client and waits for all answers.
    async fn gather(&mut self, input: &Input) -> Result<Gathered, Failure> {
        let mut asks = Vec::with_capacity(input.questions.len());
        for question in &input.questions {
            let asked = self.shared.questions.enter();
            match question.request(&asked.id, &self.shared.profile) {
                Ok(request) => asks.push((question, request, asked)),
                Err(unaskable) => return Ok(Err(self.unaskable(&unaskable))),
            }
        }
        let mut waiting = Vec::with_capacity(asks.len());
        for (question, request, asked) in asks {
            self.out.send(Ok(request)).await.map_err(|_| gone())?;
            waiting.push((question, asked));
        }
        let answered = future::join_all(waiting.iter_mut().map(|(_, asked)| &mut asked.answer));
        let answers = tokio::select! {
            answers = tokio::time::timeout(ROUND_MAX, answered) => answers,
            () = self.out.closed() => return Err(gone()),
        };
        let Ok(answers) = answers else { return self.unanswered(&waiting).await };
        let mut gathered = Vec::with_capacity(answers.len());
        for ((question, _), answer) in waiting.iter().zip(answers) {
            let answer = answer.map_err(|_| gone())?;
            match answer.result() {
                Some(at) => gathered.push((question.key.clone(), answer.bytes()[at].to_vec())),
                None => return Ok(Err(self.refused(question, &answer))),
            }
        }
        Ok(Ok(gathered))
    }

    /// The client took too long: it is told that nobody waits, and the call is over.
    async fn unanswered(&self, waiting: &[(&Question, Asked)]) -> Result<Gathered, Failure> {
        for (_, asked) in waiting {
            let params = [&br#"{"requestId":"#[..], &asked.id, br#","reason":"timed out"}"#].concat();
            let note = notification(method::CANCELLED, Some(&params));
            self.out.send(Ok(note)).await.map_err(|_| gone())?;
        }
        let what = "the client did not answer in time what the upstream asked";
        Ok(Err(refusal(self.id(), rpc::INTERNAL, what, None)))
    }

    fn unaskable(&self, unaskable: &Unaskable) -> Message {
        let data = unaskable.required.map(|required| {
            let required: serde_json::Value = serde_json::from_str(required).expect("a constant is JSON");
            serde_json::json!({ "requiredCapabilities": required })
        });
        refusal(self.id(), rpc::INVALID_PARAMS, &unaskable.what, data.as_ref())
    }

    /// The client answered with an error, which a modern server cannot be told.
    fn refused(&self, question: &Question, answer: &Message) -> Message {
        let said = answer
            .error()
            .and_then(|error| mcp::json::find(answer.bytes(), &error, &["message"]).ok().flatten())
            .and_then(|at| mcp::json::string(answer.bytes(), &at));
        let what = format!("the client refused `{}`: {}", question.method, said.unwrap_or_default());
        refusal(self.id(), answer::code(answer).unwrap_or(rpc::INTERNAL), &what, None)
    }

    fn id(&self) -> &[u8] {
        self.request.id().unwrap_or_default()
    }
}

/// Learns from a list of tools; what is no such list teaches nothing.
fn learn<B>(shared: &Shared<B>, answer: &Message, first: bool) -> Listed {
    let listed = match answer.result() {
        Some(_) => shared.ground.tools.learn(answer, first).unwrap_or_default(),
        None => Listed::default(),
    };
    for (place, invalid) in &listed.dropped {
        tracing::debug!(place, reason = %invalid, "a tool of the upstream is not offered");
    }
    listed
}

/// Sends a modern request.
///
/// # Errors
/// `SessionLost`: the server refused it as one that does not know this era, so it has not run. Others as usual.
pub(super) async fn open<B: Backend>(
    server: &B,
    message: &Message,
    headers: &HeaderMap,
) -> Result<Messages, Failure> {
    let reply = server.ask(message, headers, &Principal::anonymous()).await?;
    if reply.status.is_success() {
        return Ok(read_messages(reply));
    }
    let (status, body) = (reply.status, reply.body);
    let bytes = match body {
        Body::Bytes(body) => read_up_to(body, REFUSAL_MAX).await.unwrap_or_default(),
        Body::Full(bytes) => bytes,
        Body::Empty | Body::Messages(_) | Body::Events(_) => bytes::Bytes::new(),
    };
    let answer = Message::parse(&bytes).ok().filter(|answer| answer.kind() == mcp::Kind::Response);
    let legacy =
        |answer: &Message| answer::code(answer).is_none_or(|code| (-32019..=rpc::SERVER).contains(&code));
    match answer {
        Some(answer) if !legacy(&answer) => Ok(stream::once(async { Ok(answer) }).boxed()),
        _ if matches!(
            status,
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
        ) =>
        {
            Err(Failure::new(Kind::SessionLost, "the upstream no longer speaks revision 2026-07-28"))
        }
        _ => Err(Failure::new(Kind::of_status(status), format!("the upstream answered HTTP {status}"))),
    }
}

/// The response among messages; notifications before it go to `out`.
async fn response(messages: &mut Messages, out: Option<&Out>) -> Result<Message, Failure> {
    while let Some(message) = messages.next().await {
        let message = message?;
        match (message.kind(), out) {
            (mcp::Kind::Response, _) => return Ok(message),
            (mcp::Kind::Notification, Some(out)) => {
                // The client may be gone: the call goes on all the same.
                let _ = out.send(Ok(message)).await;
            }
            // A server of this era asks nothing in the middle of an answer.
            _ => {}
        }
    }
    Err(Failure::new(Kind::Unreachable, "the upstream ended its answer early; the call may have run"))
}

fn silent() -> Failure {
    Failure::new(Kind::Timeout, "the upstream did not answer in time; the call may have run")
}

fn gone() -> Failure {
    Failure::new(Kind::InvalidRequest, "the client went away before it answered what the upstream asked")
}
