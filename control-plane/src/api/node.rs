//! `NodeService`: the streams of the nodes. A task reads what a node says; what it is sent waits in its outbox,
//! and the reader never waits for that.

use super::{
    decode, door, encode, errors, events,
    updates::{Parts, Updates},
};
use crate::{
    access::{Caller, audit::Audit},
    clock::Now,
    events::Log,
    fleet::{self, HelloError, Hub, NodeUid, Out, Outbox, StreamId},
};
use futures_util::{FutureExt as _, Stream, stream};
use o1_process::{OnExit, Tasks};
use o1_proto::wire::{
    AppendEventsRequest, AppendEventsResponse, ReportStatsRequest, ReportStatsResponse, SyncRequest,
    SyncResponse, node_service_server::NodeService, sync_request::Msg,
};
use prost::Message as _;
use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming};

/// How long a node may take to say hello once its stream is open.
const HELLO: Duration = Duration::from_secs(5);

/// See the module.
pub struct Nodes {
    hub: Arc<Hub>,
    events: Log,
    gate: Gate,
    tasks: Tasks,
    updates: Updates,
}

impl Nodes {
    pub(super) fn new(hub: Arc<Hub>, events: Log, audit: Audit, tasks: Tasks) -> Self {
        let gate = Gate { hub: hub.clone(), audit };
        Self { hub, events, gate, tasks, updates: Updates::default() }
    }
}

/// Holds a node to what its certificate or token says that it is.
#[derive(Clone)]
pub(super) struct Gate {
    hub: Arc<Hub>,
    audit: Audit,
}

impl Gate {
    /// Refuses a node that speaks for another one: under its id, or under the uid that it minted.
    pub fn check(&self, caller: &Caller, call: &str, node_id: &str, uid: NodeUid) -> Result<(), Status> {
        if caller.known.is_none() {
            return Ok(());
        }
        let owner = self.hub.look(|registry, _| registry.node(uid).map(|node| node.identity.node_id.clone()));
        let status = match owner {
            _ if !caller.is_node(node_id) => errors::not_this_node(caller, node_id),
            Some(owner) if owner != node_id => errors::not_its_uid(node_id, &owner),
            _ => return Ok(()),
        };
        self.audit.refused(caller, call, &format!("node {node_id}"), status.message());
        Err(status)
    }
}

#[tonic::async_trait]
impl NodeService for Nodes {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<SyncResponse, Status>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        if self.tasks.stopping().is_cancelled() {
            return Err(errors::stopping());
        }
        let (outbox, gone) = (Outbox::new(), CancellationToken::new());
        let (refuse, refused) = oneshot::channel();
        let writer = Writer {
            outbox: outbox.clone(),
            updates: self.updates.clone(),
            parts: Parts::default(),
            refused: Some(refused),
            _gone: gone.clone().drop_guard(),
        };
        let (caller, gate) = (door::caller(&request), self.gate.clone());
        let reader = Reader { hub: self.hub.clone(), peer: door::address(&request), caller, gate, outbox };
        let inbound = request.into_inner();
        // When the process stops, this ends too: the node is told goodbye, and after that the writer is gone.
        self.tasks.spawn("node-stream", OnExit::Quiet, async move {
            tokio::select! {
                () = reader.run(inbound, refuse) => {}
                () = gone.cancelled() => {}
            }
        });
        Ok(Response::new(Box::pin(stream::unfold(writer, Writer::next))))
    }

    type AppendEventsStream = Pin<Box<dyn Stream<Item = Result<AppendEventsResponse, Status>> + Send>>;

    async fn append_events(
        &self,
        request: Request<Streaming<AppendEventsRequest>>,
    ) -> Result<Response<Self::AppendEventsStream>, Status> {
        let (log, stop) = (self.events.clone(), self.tasks.stopping());
        let caller = door::caller(&request);
        let inbound = request.into_inner();
        let check = |node_id: &str, uid| self.gate.check(&caller, "NodeService/AppendEvents", node_id, uid);
        let answers = events::append(&self.hub, log, stop, inbound, &check).await?;
        Ok(Response::new(Box::pin(answers)))
    }

    async fn report_stats(
        &self,
        request: Request<ReportStatsRequest>,
    ) -> Result<Response<ReportStatsResponse>, Status> {
        let caller = door::caller(&request);
        let (node_id, uid, report) = decode::report(request.into_inner())?;
        self.gate.check(&caller, "NodeService/ReportStats", &node_id, uid)?;
        let accepted_seq = self.hub.report(uid, report, Now::read()).map_err(errors::report)?;
        Ok(Response::new(ReportStatsResponse { accepted_seq }))
    }
}

/// The sending half of a stream; dropped when the connection is.
struct Writer {
    outbox: Outbox,
    updates: Updates,
    /// What is left of the update that is being sent. A new one waits for the answer to it.
    parts: Parts,
    /// Why the stream fails instead of ending.
    refused: Option<oneshot::Receiver<Status>>,
    _gone: DropGuard,
}

impl Writer {
    async fn next(mut self) -> Option<(Result<SyncResponse, Status>, Self)> {
        // What else there is to say does not wait for the rest of a large update.
        let out = match self.outbox.next().now_or_never() {
            Some(out) => out,
            None => match self.parts.next() {
                Some(part) => return Some((Ok(part), self)),
                None => self.outbox.next().await,
            },
        };
        if let Some(out) = out {
            let (message, parts) = encode::response(out, &self.updates);
            self.parts = parts.unwrap_or(self.parts);
            return Some((Ok(message), self));
        }
        let status = self.refused.take()?.try_recv().ok()?;
        Some((Err(status), self))
    }
}

/// The receiving half of a stream.
struct Reader {
    hub: Arc<Hub>,
    peer: Option<SocketAddr>,
    caller: Caller,
    gate: Gate,
    outbox: Outbox,
}

impl Reader {
    async fn run(self, mut inbound: Streaming<SyncRequest>, refuse: oneshot::Sender<Status>) {
        match self.hello(&mut inbound).await {
            Ok(Some(open)) => open.read(inbound).await,
            Ok(None) => {} // a goodbye waits in the outbox
            Err(status) => {
                let peer = self.peer.map(tracing::field::display);
                tracing::warn!(peer, code = ?status.code(), why = status.message(), "stream refused");
                // The writer may be gone already, and then nobody is left to tell.
                let _ = refuse.send(status);
                self.outbox.close();
            }
        }
    }

    async fn hello(&self, inbound: &mut Streaming<SyncRequest>) -> Result<Option<Open>, Status> {
        let first = timeout(HELLO, inbound.message()).await.map_err(|_| {
            Status::deadline_exceeded(format!("no hello within {} s of opening the stream", HELLO.as_secs()))
        })??;
        let Some(SyncRequest { msg: Some(Msg::Hello(hello)) }) = first else {
            return Err(errors::invalid("the first message of a stream must be hello"));
        };
        let hello = decode::hello(hello)?;
        let (node_id, uid) = (&hello.identity.node_id, hello.identity.uid);
        self.gate.check(&self.caller, "NodeService/Sync", node_id, uid)?;
        match self.hub.hello(hello, &self.outbox, Now::read()) {
            Ok(stream) => Ok(Some(Open { hub: self.hub.clone(), outbox: self.outbox.clone(), stream })),
            Err(HelloError::Goodbye(goodbye)) => {
                self.outbox.put(Out::Goodbye(goodbye));
                Ok(None)
            }
            Err(error) => Err(errors::hello(&error)),
        }
    }
}

/// A stream that is part of the fleet. However it ends, the fleet and the writer hear that it did.
struct Open {
    hub: Arc<Hub>,
    outbox: Outbox,
    stream: StreamId,
}

impl Open {
    async fn read(self, mut inbound: Streaming<SyncRequest>) {
        // An error says that the connection broke, which is one way for a stream to end.
        while let Ok(Some(request)) = inbound.message().await {
            if let Some(Msg::Answer(answer)) = request.msg {
                let (id, last) = (answer.id, answer.last);
                self.hub.answer(self.stream, id, answer.encode_to_vec(), last);
                continue;
            }
            let Some(message) = decode::message(request, Now::read().wall) else { continue };
            let last = matches!(message, fleet::Message::Goodbye { .. });
            self.hub.message(self.stream, message, Now::read());
            if last {
                return;
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.hub.closed(self.stream);
        self.outbox.close();
    }
}
