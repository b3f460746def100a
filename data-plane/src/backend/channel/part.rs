//! A client session's part in a channel: all of it, or one of many parts of a shared one.

use super::{
    Conversation, Replies,
    sharing::{Left, Member, Subscribed},
};
use crate::{
    call::{Messages, Reply, read_response},
    failure::{Failure, Kind},
    mcp::{Message, json, method, rpc},
};
use futures_util::{StreamExt as _, stream};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// Cheap to clone. What a session asked a shared server for ends with its last clone.
#[derive(Clone)]
pub struct Part(Arc<Inner>);

struct Inner {
    conversation: Arc<Conversation>,
    /// `None`: the channel serves this session alone.
    member: Option<Member>,
    cancels: Arc<Mutex<Cancels>>,
}

type Cancels = HashMap<Vec<u8>, CancellationToken>;

impl Part {
    /// The whole channel, which ends with the session.
    pub(in crate::backend) fn whole(conversation: Arc<Conversation>) -> Self {
        Self(Arc::new(Inner { conversation, member: None, cancels: Arc::default() }))
    }

    /// A part of a channel that others have parts in.
    pub(in crate::backend) fn shared(conversation: Arc<Conversation>) -> Self {
        let member = Some(conversation.sharing().join());
        Self(Arc::new(Inner { conversation, member, cancels: Arc::default() }))
    }

    pub(in crate::backend) fn conversation(&self) -> &Arc<Conversation> {
        &self.0.conversation
    }

    /// True when the channel serves this session alone.
    pub(in crate::backend) fn is_whole(&self) -> bool {
        self.0.member.is_none()
    }

    pub(in crate::backend) async fn ask(&self, message: &Message) -> Result<Reply, Failure> {
        match (self.0.member, message.method()) {
            (Some(member), method::RESOURCES_SUBSCRIBE | method::RESOURCES_UNSUBSCRIBE) => {
                self.subscription(member, message).await
            }
            (Some(member), method::SET_LEVEL) => self.level(member, message).await,
            _ => self.forward(message).await,
        }
    }

    pub(in crate::backend) async fn tell(&self, message: &Message) -> Result<(), Failure> {
        if message.method() == method::CANCELLED {
            self.cancel(message);
            return Ok(());
        }
        match self.0.member {
            // The channel was initialised by the gateway, for everybody, without capabilities.
            Some(_) => Ok(()),
            None => self.0.conversation.send(message).await,
        }
    }

    /// What the server says beside answers, and this session may hear.
    pub(in crate::backend) fn unsolicited(&self) -> Messages {
        let state = (self.0.conversation.unsolicited(), self.clone());
        stream::unfold(state, |(mut receiver, part)| async move {
            loop {
                let received = tokio::select! {
                    received = receiver.recv() => received,
                    () = part.0.conversation.closed() => return None,
                };
                match received {
                    Ok(message) if part.admits(&message) => return Some((Ok(message), (receiver, part))),
                    Ok(_) => {}
                    Err(RecvError::Lagged(lost)) => tracing::warn!(
                        lost,
                        "a client reads too slowly: notifications of its upstream were lost"
                    ),
                    Err(RecvError::Closed) => return None,
                }
            }
        })
        .boxed()
    }

    /// Ends the channel when it was this session's alone.
    pub(in crate::backend) async fn close(&self) {
        match self.0.member {
            None => self.0.conversation.close().await,
            Some(_) => self.0.leave(),
        }
    }

    fn admits(&self, message: &Message) -> bool {
        self.0.member.is_none_or(|member| self.0.conversation.sharing().admits(member, message))
    }

    async fn forward(&self, message: &Message) -> Result<Reply, Failure> {
        let cancel = Cancel::register(&self.0.cancels, message);
        Ok(Reply::messages(replies(&self.0.conversation, message, Some(cancel)).await?))
    }

    /// The server is told of the first subscriber and of the last; in between the gateway answers.
    async fn subscription(&self, member: Member, message: &Message) -> Result<Reply, Failure> {
        let conversation = &self.0.conversation;
        let Ok(Some(uri)) = message.param_str(&["uri"]).map(|uri| uri.map(std::borrow::Cow::into_owned))
        else {
            return self.forward(message).await; // for the server to refuse
        };
        let subscribes = message.method() == method::RESOURCES_SUBSCRIBE;
        // Held until the request is queued: the server must hear of changes in the order in which they happened.
        let turn = conversation.turn().await;
        let known = if subscribes {
            match conversation.sharing().subscribe(member, &uri) {
                Subscribed::First => false,
                Subscribed::Already => true,
                Subscribed::TooMany => {
                    let words = "this session has as many subscriptions as it may";
                    return Err(Failure::new(Kind::InvalidRequest, words));
                }
            }
        } else {
            !conversation.sharing().unsubscribe(member, &uri)
        };
        if known {
            return Ok(done(message));
        }
        let asked = self.forward(message).await;
        drop(turn);
        let answer = match asked {
            Ok(reply) => read_response(reply).await,
            Err(failure) => Err(failure),
        };
        if subscribes && !answer.as_ref().is_ok_and(|answer| answer.result().is_some()) {
            conversation.sharing().unsubscribe(member, &uri);
        }
        Ok(Reply::json(answer?.bytes().clone()))
    }

    /// The server gets the most verbose level that anybody asked for.
    async fn level(&self, member: Member, message: &Message) -> Result<Reply, Failure> {
        let conversation = &self.0.conversation;
        let Ok(Some(at)) = message.param(&["level"]) else { return self.forward(message).await };
        let Some(level) = json::string(message.bytes(), &at) else { return self.forward(message).await };
        let _turn = conversation.turn().await;
        let told = conversation.sharing().set_level(member, &level).map(json::quote);
        match told {
            Some(level) => self.forward(&message.spliced(vec![(at, level)])).await,
            None => Ok(done(message)),
        }
    }

    fn cancel(&self, notification: &Message) {
        let Ok(Some(id)) = notification.param(&["requestId"]) else { return };
        let cancels = self.0.cancels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cancel) = cancels.get(&notification.bytes()[id]) {
            cancel.cancel();
        }
    }
}

impl Inner {
    /// Takes back what the session asked for and nobody else wants.
    fn leave(&self) {
        let Some(member) = self.member else { return };
        // Held while the server is told, which waits for nothing.
        let mut sharing = self.conversation.sharing();
        let Left { unsubscribe, level } = sharing.leave(member);
        let tell = |method: &str, key: &str, value: &str| {
            let params = format!(r#"{{"{key}":{}}}"#, String::from_utf8_lossy(&json::quote(value)));
            let request = rpc::request(b"0", method, params.as_bytes());
            let request = Message::parse(&request).expect("a request of our own is a message");
            self.conversation.request_now(&request);
        };
        for uri in &unsubscribe {
            tell(method::RESOURCES_UNSUBSCRIBE, "uri", uri);
        }
        if let Some(level) = level {
            tell(method::SET_LEVEL, "level", level);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.conversation.is_closed() {
            self.leave();
        }
    }
}

fn done(request: &Message) -> Reply {
    Reply::json(rpc::result(request.id().unwrap_or_default(), b"{}"))
}

/// A request's entry among those that can be cancelled; gone when the answer is.
struct Cancel {
    entries: Arc<Mutex<Cancels>>,
    id: Vec<u8>,
    token: CancellationToken,
}

impl Cancel {
    fn register(entries: &Arc<Mutex<Cancels>>, message: &Message) -> Self {
        let id = message.id().unwrap_or_default().to_vec();
        let token = CancellationToken::new();
        entries.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), token.clone());
        Self { entries: entries.clone(), id, token }
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// The messages of a request of no session.
pub(in crate::backend) async fn ask(
    conversation: &Arc<Conversation>,
    message: &Message,
) -> Result<Reply, Failure> {
    Ok(Reply::messages(replies(conversation, message, None).await?))
}

/// The messages of one request; ends early, without a response, when the request is cancelled.
async fn replies(
    conversation: &Arc<Conversation>,
    message: &Message,
    cancel: Option<Cancel>,
) -> Result<Messages, Failure> {
    let answering = Answering { replies: conversation.request(message).await?, cancel };
    Ok(stream::unfold(answering, |mut answering| async move {
        let message = answering.next().await?;
        Some((message, answering))
    })
    .boxed())
}

/// A request at the server.
struct Answering {
    replies: Replies,
    cancel: Option<Cancel>,
}

impl Answering {
    async fn next(&mut self) -> Option<Result<Message, Failure>> {
        match &self.cancel {
            None => self.replies.next().await,
            Some(cancel) => tokio::select! {
                biased;
                // The server is told when this drops.
                () = cancel.token.cancelled() => None,
                message = self.replies.next() => message,
            },
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.cancel.as_ref().is_some_and(|cancel| cancel.token.is_cancelled()) {
            self.replies.cancel();
        }
    }
}
