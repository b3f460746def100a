//! The GET stream of a session on the route of one upstream that has a backup: what the store that serves says by
//! itself, taken up again at the other one when calls move there, and among it the gateway's word that they did.
//!
//! It must never touch a stream that a client takes up by an event's id: whose the id is, the upstream knows.

use super::{Router, again::Again, capabilities, catalogue::moved, notices::Hearer};
use crate::{
    call::{Call, Caller, Handle, Messages, Reply, Upstreams, read_messages},
    failure::{Failure, Kind},
    mcp::{Message, header::LAST_EVENT_ID},
    plan::{Plan, Upstream},
    stores::Gate,
};
use futures_util::StreamExt as _;
use http::StatusCode;
use o1_process::OnExit;
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;

/// Messages that wait for a client that reads slowly; more wait at the upstream.
const QUEUE: usize = 16;

/// What an upstream made of the question for its stream.
enum Opened {
    Stream(Messages),
    /// It has none.
    No,
    /// Not now.
    NotNow,
    /// Something that the client has to hear.
    Other(Reply),
}

impl<N: Upstreams + Handle> Router<N> {
    /// The stream of a session on the route of one upstream.
    ///
    /// # Errors
    /// The upstream's, unless the stream is worth having without it.
    pub(super) async fn stream_alone(
        &self,
        hearer: Hearer,
        call: Call,
        upstream: &Arc<Upstream>,
    ) -> Result<Reply, Failure> {
        let gate = self.context.stores.gate(&upstream.name);
        let moves = gate.moves();
        let asked = self.permitted(call.clone(), upstream).await;
        if call.headers.contains_key(LAST_EVENT_ID) || !self.may_log(&call, upstream).await {
            return asked;
        }
        let opened = match opened(asked)? {
            Opened::Other(reply) => return Ok(reply),
            opened => opened,
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        let stream = Stream { router: self.clone(), call, upstream: upstream.clone(), gate, hearer, sender };
        self.context.tasks.spawn("client stream of one upstream", OnExit::Quiet, stream.run(opened, moves));
        Ok(Reply::messages(ReceiverStream::new(receiver).map(Ok).boxed()))
    }

    /// Whether the server announced logging: one that did not sends no logs.
    async fn may_log(&self, call: &Call, upstream: &Arc<Upstream>) -> bool {
        let handshake = match &call.caller {
            // What it was told passed through. Others are told the same.
            Caller::Legacy(Some(session)) if session.relayed.get() == Some(&true) => {
                let others = Call { caller: Caller::Modern, ..call.clone() };
                self.next.handshake(&others, upstream.clone()).await
            }
            _ => self.next.handshake(call, upstream.clone()).await,
        };
        handshake.is_ok_and(|handshake| capabilities::offers(&handshake, "logging"))
    }
}

/// What the question for a stream came to.
///
/// # Errors
/// The failure, where the session or its caller is the matter, not the store.
fn opened(asked: Result<Reply, Failure>) -> Result<Opened, Failure> {
    match asked {
        Ok(reply) if reply.status == StatusCode::METHOD_NOT_ALLOWED => Ok(Opened::No),
        Ok(reply) if reply.status.is_success() => Ok(Opened::Stream(read_messages(reply))),
        Ok(reply) => Ok(Opened::Other(reply)),
        Err(failure) if matches!(failure.kind, Kind::UnknownMethod | Kind::WrongEra) => Ok(Opened::No),
        Err(failure) if matches!(failure.kind, Kind::Unreachable | Kind::Timeout) => Ok(Opened::NotNow),
        Err(failure) => Err(failure),
    }
}

/// Nobody wants it any more.
struct Unwanted;

struct Stream<N> {
    router: Router<N>,
    call: Call,
    upstream: Arc<Upstream>,
    gate: Arc<Gate>,
    hearer: Hearer,
    sender: mpsc::Sender<Message>,
}

impl<N: Upstreams + Handle> Stream<N> {
    /// Until the client goes, the session or the process ends, or the upstream's configuration does.
    async fn run(mut self, opened: Opened, moves: u64) {
        let stopping = self.router.context.tasks.stopping();
        let (mut plans, upstream) = (self.router.context.current.watch(), self.upstream.clone());
        let replaced = async move {
            let stays =
                |plan: &Arc<Plan>| plan.upstream(&upstream.name).is_some_and(|one| one.key == upstream.key);
            // An error: the process ends.
            let _ = plans.wait_for(|plan| !stays(plan)).await;
        };
        let gone = self.sender.clone();
        tokio::select! {
            _ = self.follow(opened, moves) => {}
            () = gone.closed() => {}
            () = replaced => {}
            () = stopping.cancelled() => {}
        }
    }

    async fn follow(&mut self, mut opened: Opened, mut moves: u64) -> Result<(), Unwanted> {
        let mut pause = Again::new();
        loop {
            let began = Instant::now();
            let again = match opened {
                Opened::Stream(messages) => {
                    self.forward(messages, moves).await?;
                    true
                }
                // What was wrong with the question now need not be so later.
                Opened::NotNow | Opened::Other(_) => true,
                // There is no use in asking again, unless another store answers.
                Opened::No => false,
            };
            self.wait(again.then(|| pause.after(began)), moves).await?;
            if self.gate.moves() != moves {
                pause.moved();
            }
            moves = self.gate.moves();
            opened = self.ask(moves).await?;
        }
    }

    /// Passes on what the store says, until it says no more or calls have left it.
    async fn forward(&mut self, mut messages: Messages, moves: u64) -> Result<(), Unwanted> {
        loop {
            let message = tokio::select! {
                biased;
                heard = self.hearer.next() => heard,
                next = messages.next() => match next {
                    Some(Ok(message)) => message,
                    _ => return Ok(()),
                },
                () = moved(&self.gate, moves) => return Ok(()),
            };
            self.send(message).await?;
        }
    }

    /// Waits so long, or until calls move; `None`: only for that.
    async fn wait(&mut self, time: Option<Duration>, moves: u64) -> Result<(), Unwanted> {
        let gate = self.gate.clone();
        let time = async {
            match time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        self.meanwhile(async {
            tokio::select! {
                () = time => {}
                () = moved(&gate, moves) => {}
            }
        })
        .await
    }

    /// Asks for the stream of the store that serves.
    async fn ask(&mut self, moves: u64) -> Result<Opened, Unwanted> {
        self.call.plan = self.router.context.current.plan();
        let (router, call, upstream) = (self.router.clone(), self.call.clone(), self.upstream.clone());
        let gate = self.gate.clone();
        let asked = async {
            tokio::select! {
                asked = router.permitted(call, &upstream) => Some(opened(asked)),
                // The store that calls left may never answer.
                () = moved(&gate, moves) => None,
            }
        };
        match self.meanwhile(asked).await? {
            Some(Ok(opened)) => Ok(opened),
            // The client has to start over; it hears so where it asks next.
            Some(Err(failure)) if failure.kind == Kind::UnknownSession => Err(Unwanted),
            Some(Err(failure)) => {
                let (upstream, error) = (&self.upstream.name, failure.chain());
                tracing::debug!(upstream, error, "no stream from the upstream");
                Ok(Opened::NotNow)
            }
            None => Ok(Opened::NotNow),
        }
    }

    /// What a future comes to, while what is heard is passed on.
    async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Unwanted> {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                biased;
                heard = self.hearer.next() => self.send(heard).await?,
                done = &mut future => return Ok(done),
            }
        }
    }

    async fn send(&self, message: Message) -> Result<(), Unwanted> {
        self.sender.send(message).await.map_err(|_| Unwanted)
    }
}
