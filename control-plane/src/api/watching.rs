//! `WatchStatus`, in front of the rest of its service. The code that tonic makes encodes each message of each stream; here
//! a picture is encoded once for everybody who watches, which is most of what it costs.

use super::{
    MAX_MESSAGE, errors,
    mask::{FLEET, Mask},
    pace::Pace,
    pictures::Pictures,
    status::Statuses,
};
use crate::status::Board;
use futures_util::{Stream, stream};
use o1_proto::{
    convert,
    wire::{WatchStatusRequest, WatchStatusResponse, status_service_server::StatusServiceServer},
};
use prost::{Message as _, bytes::Bytes};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService, ServerStreamingService},
};
use tonic_prost::ProstCodec;

/// The time between two pictures when the caller does not say.
const DEFAULT: Duration = Duration::from_secs(1);
const PATH: &str = "/o1.control.v1.StatusService/WatchStatus";

/// A `WatchStatusResponse` of which the picture is encoded already: on the wire they are the same.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Frame {
    #[prost(bytes = "bytes", optional, tag = "1")]
    status: Option<Bytes>,
    #[prost(bool, tag = "2")]
    heartbeat: bool,
}

impl Frame {
    /// As the contract has it.
    pub fn message(&self) -> WatchStatusResponse {
        WatchStatusResponse::decode(self.encode_to_vec().as_slice()).expect("on the wire they are the same")
    }
}

type Frames = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

/// Opens streams of pictures.
#[derive(Clone)]
pub struct Watcher {
    board: Board,
    pictures: Arc<Pictures>,
    stop: CancellationToken,
}

impl Watcher {
    pub(super) fn new(board: Board, stop: CancellationToken) -> Self {
        Self { pictures: Arc::new(Pictures::of(board.clone())), board, stop }
    }

    /// # Errors
    /// The request asks for a field that there is not.
    pub(super) fn watch(&self, request: WatchStatusRequest) -> Result<Frames, Status> {
        let interval = convert::duration_or(request.min_interval.as_ref(), DEFAULT);
        let watch = Watch {
            pictures: self.pictures.clone(),
            stop: self.stop.clone(),
            pace: Pace::new(self.board.changes(), interval),
            mask: Mask::of(request.fields, FLEET)?,
        };
        Ok(Box::pin(stream::unfold(Some(watch), Watch::next)))
    }
}

/// One stream of pictures.
struct Watch {
    pictures: Arc<Pictures>,
    stop: CancellationToken,
    pace: Pace,
    mask: Mask,
}

impl Watch {
    /// The next picture. `None` as the state: the last item was sent.
    async fn next(this: Option<Self>) -> Option<(Result<Frame, Status>, Option<Self>)> {
        let mut this = this?;
        let stop = this.stop.clone();
        let heartbeat = tokio::select! {
            heartbeat = this.pace.wait() => heartbeat,
            () = stop.cancelled() => return Some((Err(errors::stopping()), None)),
        };
        // The first one shows everything that its reader may have done before.
        let picture = if this.pace.is_first() { this.pictures.fresh() } else { this.pictures.recent() };
        this.pace.sent(picture.taken, picture.shows);
        let status = Some(this.mask.cut(&picture.encoded));
        Some((Ok(Frame { status, heartbeat }), Some(this)))
    }
}

impl ServerStreamingService<WatchStatusRequest> for Watcher {
    type Response = Frame;
    type ResponseStream = Frames;
    type Future = Ready<Result<Response<Frames>, Status>>;

    fn call(&mut self, request: Request<WatchStatusRequest>) -> Self::Future {
        ready(self.watch(request.into_inner()).map(Response::new))
    }
}

/// The service, with this method in front.
#[derive(Clone)]
pub struct Watching {
    watcher: Watcher,
    rest: StatusServiceServer<Statuses>,
}

impl Watching {
    pub(super) fn new(watcher: Watcher, rest: StatusServiceServer<Statuses>) -> Self {
        Self { watcher, rest }
    }
}

impl NamedService for Watching {
    const NAME: &'static str = StatusServiceServer::<Statuses>::NAME;
}

impl Service<http::Request<Body>> for Watching {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != PATH {
            return self.rest.call(request);
        }
        let watcher = self.watcher.clone();
        Box::pin(async move {
            let codec = ProstCodec::<Frame, WatchStatusRequest>::default();
            let mut grpc =
                Grpc::new(codec).apply_max_message_size_config(Some(MAX_MESSAGE), Some(MAX_MESSAGE));
            Ok(grpc.server_streaming(watcher, request).await)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use o1_proto::wire::{FleetStatus, NodeCounts};

    #[test]
    fn a_frame_is_the_message_on_the_wire() {
        let status = FleetStatus {
            nodes: Some(NodeCounts { connected: 3, ..NodeCounts::default() }),
            ..FleetStatus::default()
        };
        for status in [None, Some(FleetStatus::default()), Some(status)] {
            for heartbeat in [false, true] {
                let encoded = status.as_ref().map(|status| Bytes::from(status.encode_to_vec()));
                let frame = Frame { status: encoded, heartbeat };
                let message = WatchStatusResponse { status: status.clone(), heartbeat };
                assert_eq!(frame.encode_to_vec(), message.encode_to_vec());
                assert_eq!(frame.message(), message);
            }
        }
    }
}
