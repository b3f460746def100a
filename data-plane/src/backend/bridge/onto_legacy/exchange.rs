//! One call of a modern client at a legacy server, from its request to its answer, over as many rounds of questions
//! as the server has.

use super::{
    Desk,
    answer::{self, Translated},
    envelope::{self, Asked},
    inputs::{self, Input},
    line::{Seat, Sharers},
    pool::Pool,
};
use crate::{
    call::{Backend, Body, Link, Messages, Reply, read_messages, read_up_to},
    failure::{Failure, Kind},
    mcp::{self, Message, json, method},
};
use futures_util::{StreamExt as _, stream};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// How long more questions are waited for once there is one: servers that ask several ask them at once.
const GATHER: Duration = Duration::from_millis(30);
/// Questions in one round.
const INPUTS_MAX: usize = 32;
/// An answer that is an error of HTTP is read up to here.
const REFUSAL_MAX: usize = 64 << 10;

/// The call.
pub(super) struct Exchange<B: Backend> {
    desk: Arc<Desk<B>>,
    pool: Arc<Pool<B>>,
    sharers: Sharers,
    pub(super) asked: Asked,
    /// The request as the client sent it, until it is known to have arrived.
    unsent: Option<Message>,
    seat: Seat<B::Link>,
    beside: mpsc::Receiver<Message>,
    messages: Messages,
    /// Questions that wait for the client.
    pub(super) pending: Vec<Input>,
    ready: VecDeque<Message>,
}

/// What comes next.
enum Step {
    /// A message for the client, and more to come.
    Note(Message),
    /// The last one.
    Last(Result<Message, Failure>),
    /// The server waits for answers.
    Park,
}

/// Something of the server.
enum Heard {
    Message(Message),
    Failed(Failure),
    Ended,
    Silence,
}

impl<B: Backend> Exchange<B> {
    /// Takes a place on a session and makes the request ready; it goes out when the answer is read.
    pub(super) async fn begin(
        desk: Arc<Desk<B>>,
        pool: Arc<Pool<B>>,
        message: &Message,
        asked: Asked,
        principal: &str,
    ) -> Result<Self, Failure> {
        let sharers = Sharers { principal: principal.into(), declared: asked.declared().into() };
        let (seat, beside) = pool.seat(&sharers, asked.can_be_asked()).await.map_err(Failure::unsent)?;
        let messages = stream::empty().boxed();
        let mut exchange = Self {
            desk,
            pool,
            sharers,
            asked,
            unsent: None,
            seat,
            beside,
            messages,
            pending: Vec::new(),
            ready: VecDeque::new(),
        };
        exchange.send(message).await?;
        exchange.unsent = Some(message.clone());
        Ok(exchange)
    }

    async fn send(&mut self, message: &Message) -> Result<(), Failure> {
        let line = self.seat.line.clone();
        if let Some(level) = self.asked.level {
            line.log_from(level).await;
        }
        let request = envelope::legacy(message, self.seat.number)?;
        self.seat.sent();
        let link = line.link.clone();
        self.messages = stream::once(async move {
            match link.ask(&request).await {
                Ok(reply) => answers(reply).await,
                Err(failure) => failed(failure),
            }
        })
        .flatten()
        .boxed();
        Ok(())
    }

    /// The answer, as it comes.
    pub(super) fn into_reply(self) -> Reply {
        Reply::messages(
            stream::unfold(Some(self), |exchange| async move {
                let mut exchange = exchange?;
                match exchange.step().await {
                    Step::Note(message) => Some((Ok(message), Some(exchange))),
                    Step::Last(last) => Some((last, None)),
                    Step::Park => Some((exchange.park(), None)),
                }
            })
            .boxed(),
        )
    }

    /// Leaves the call with the questions it has until the client brings answers.
    pub(super) fn park(self) -> Result<Message, Failure> {
        let (id, requests) = (self.asked.id.clone(), inputs::requests(&self.pending));
        let desk = self.desk.clone();
        let state = desk.park(self)?;
        Ok(answer::input_required(&id, &requests, Some(&state)))
    }

    /// Goes on with the client's answers, under the id and token of the request that brought them.
    ///
    /// # Errors
    /// The server can no longer be told.
    pub(super) async fn resume(mut self, asked: Asked) -> Result<Reply, Failure> {
        self.asked = asked;
        for input in std::mem::take(&mut self.pending) {
            match self.asked.given.remove(&input.key) {
                Some(given) => self.seat.line.tell(&input.answered(&given)?).await?,
                None => self.pending.push(input),
            }
        }
        if self.pending.is_empty() {
            return Ok(self.into_reply());
        }
        let again = self.park()?;
        Ok(Reply::messages(stream::once(async { Ok(again) }).boxed()))
    }

    async fn step(&mut self) -> Step {
        let mut until = None;
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Step::Note(ready);
            }
            if self.pending.len() >= INPUTS_MAX {
                return Step::Park;
            }
            match self.hear(until).await {
                Heard::Silence => return Step::Park,
                Heard::Failed(failure) if failure.kind == Kind::SessionLost && self.unsent.is_some() => {
                    // The server did not know the session, so it cannot have run the call.
                    if let Err(failure) = self.again().await {
                        return Step::Last(Err(failure));
                    }
                }
                Heard::Failed(failure) => {
                    self.seat.over();
                    return Step::Last(Err(failure));
                }
                Heard::Ended => {
                    self.seat.over();
                    let words = "the upstream ended its answer early; the call may have run";
                    return Step::Last(Err(Failure::new(Kind::Unreachable, words)));
                }
                Heard::Message(message) => {
                    self.unsent = None;
                    if let Some(last) = self.take(message).await {
                        return Step::Last(Ok(last));
                    }
                    if !self.pending.is_empty() {
                        until.get_or_insert_with(|| Instant::now() + GATHER);
                    }
                }
            }
        }
    }

    /// The next thing from the server. `until` bounds the wait.
    async fn hear(&mut self, until: Option<Instant>) -> Heard {
        let silence = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(message) = self.beside.recv() => Heard::Message(message),
            next = self.messages.next() => match next {
                Some(Ok(message)) => Heard::Message(message),
                Some(Err(failure)) => Heard::Failed(failure),
                None => Heard::Ended,
            },
            () = silence => Heard::Silence,
        }
    }

    /// Sends the request once more, on another session.
    async fn again(&mut self) -> Result<(), Failure> {
        let message = self.unsent.take().expect("asked only while it is there");
        tracing::debug!("upstream session lost, opening another");
        self.seat.over();
        (self.seat, self.beside) = self.pool.seat(&self.sharers, self.asked.can_be_asked()).await?;
        self.send(&message).await
    }

    /// Deals with one message; the answer for the client if this is it.
    async fn take(&mut self, message: Message) -> Option<Message> {
        match message.kind() {
            mcp::Kind::Notification => {
                let note = self.note(message);
                self.ready.extend(note);
                None
            }
            mcp::Kind::Request => self.question(&message).await,
            mcp::Kind::Response => {
                if message.id() != Some(self.seat.number.to_string().as_bytes()) {
                    return None;
                }
                self.seat.over();
                Some(self.answer(&message))
            }
        }
    }

    fn answer(&self, message: &Message) -> Message {
        let handshake = self.seat.line.link.handshake();
        let info = handshake
            .result()
            .and_then(|result| json::find(handshake.bytes(), &result, &["serverInfo"]).ok()?)
            .map(|at| &handshake.bytes()[at]);
        match answer::translated(message, &self.asked, info) {
            Translated::Answer(answer) => answer,
            Translated::Visit(requests) => {
                let declared = &self.asked.capabilities;
                if declared.get("elicitation").and_then(|elicitation| elicitation.get("url")).is_none() {
                    let needed = serde_json::json!({"elicitation": {"url": {}}});
                    return answer::missing_capability(&self.asked.id, &needed);
                }
                let requests = serde_json::Value::Object(requests).to_string();
                answer::input_required(&self.asked.id, requests.as_bytes(), None)
            }
        }
    }

    /// A question of the server: answered by what the client brought along, or kept for it.
    async fn question(&mut self, request: &Message) -> Option<Message> {
        let line = &self.seat.line;
        if !inputs::can_be_asked(request.method()) || !self.asked.can_be_asked() {
            let _ = line.tell(&inputs::own_answer(request)).await;
            return None;
        }
        if let Some(needed) = inputs::undeclared(request, &self.asked.capabilities) {
            let _ = line.tell(&inputs::own_answer(request)).await;
            // The call is cancelled as this exchange ends.
            return Some(answer::missing_capability(&self.asked.id, &needed));
        }
        let input = Input::of(request, &self.pending);
        if let Some(Ok(answer)) = self.asked.given.remove(&input.key).map(|given| input.answered(&given)) {
            let _ = line.tell(&answer).await;
        } else {
            self.pending.push(input);
        }
        None
    }

    /// What the client gets to see of a notification.
    fn note(&self, message: Message) -> Option<Message> {
        match message.method() {
            method::PROGRESS => {
                let at = message.param(&["progressToken"]).ok()??;
                let ours = message.bytes()[at.clone()] == *self.seat.number.to_string().as_bytes();
                let token = self.asked.token.as_ref().filter(|_| ours)?;
                Some(message.spliced(vec![(at, token.to_vec())]))
            }
            method::MESSAGE => {
                let wanted = self.asked.level?;
                let level = message.param_str(&["level"]).ok()?.and_then(|word| envelope::level(&word))?;
                (level >= wanted).then_some(message)
            }
            method::TOOLS_CHANGED
            | method::PROMPTS_CHANGED
            | method::RESOURCES_CHANGED
            | method::RESOURCE_UPDATED => {
                self.seat.line.publish(message);
                None
            }
            _ => None,
        }
    }
}

fn failed(failure: Failure) -> Messages {
    stream::once(async { Err(failure) }).boxed()
}

/// The messages of an answer. An error of HTTP is one only if it brings a response.
async fn answers(reply: Reply) -> Messages {
    let status = reply.status;
    if status.is_success() {
        return read_messages(reply);
    }
    let bytes = match reply.body {
        Body::Messages(_) | Body::Events(_) => return read_messages(reply),
        Body::Bytes(body) => read_up_to(body, REFUSAL_MAX).await.unwrap_or_default(),
        Body::Full(bytes) => bytes,
        Body::Empty => bytes::Bytes::new(),
    };
    match Message::parse(&bytes) {
        Ok(message) => stream::once(async { Ok(message) }).boxed(),
        Err(_) => {
            failed(Failure::new(Kind::of_status(status), format!("the upstream answered HTTP {status}")))
        }
    }
}
