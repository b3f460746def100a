//! `StatusService`: the picture of the fleet, once or again and again.

use super::{encode, errors, events, mask::Mask, pace::Pace, paging, pictures::Pictures};
use crate::{clock::Now, events::Log, fleet::NodeUid, status::Board};
use futures_util::{Stream, stream};
use o1_proto::{
    convert,
    wire::{
        GetStatusRequest, GetStatusResponse, ListEventsRequest, ListEventsResponse, ListNodesRequest,
        ListNodesResponse, ListUpstreamsRequest, ListUpstreamsResponse, WatchEventsRequest,
        WatchEventsResponse, WatchStatusRequest, WatchStatusResponse, status_service_server::StatusService,
    },
};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// The time between two pictures when the caller does not say.
const DEFAULT: Duration = Duration::from_secs(1);

/// What the fields of a mask for the whole picture are fields of.
const FLEET: &str = "FleetStatus";

/// See the module.
pub struct Statuses {
    board: Board,
    pictures: Arc<Pictures>,
    events: Log,
    stop: CancellationToken,
}

impl Statuses {
    pub(super) fn new(board: Board, events: Log, stop: CancellationToken) -> Self {
        let pictures = Arc::new(Pictures::of(board.clone()));
        Self { board, pictures, events, stop }
    }
}

#[tonic::async_trait]
impl StatusService for Statuses {
    type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<WatchStatusResponse, Status>> + Send>>;

    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let mask = Mask::of(request.into_inner().fields, FLEET)?;
        let status = Some(mask.apply(encode::fleet(self.board.fleet(Now::read()))));
        Ok(Response::new(GetStatusResponse { status }))
    }

    async fn watch_status(
        &self,
        request: Request<WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let WatchStatusRequest { min_interval, fields } = request.into_inner();
        let interval = convert::duration_or(min_interval.as_ref(), DEFAULT);
        let watch = Watch {
            pictures: self.pictures.clone(),
            stop: self.stop.clone(),
            pace: Pace::new(self.board.changes(), interval),
            mask: Mask::of(fields, FLEET)?,
        };
        Ok(Response::new(Box::pin(stream::unfold(Some(watch), Watch::next))))
    }

    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let (log, stop) = (self.events.clone(), self.stop.clone());
        Ok(Response::new(Box::pin(events::watch(log, stop, request.into_inner()).await?)))
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        Ok(Response::new(events::list(&self.events, request.into_inner()).await?))
    }

    async fn list_nodes(
        &self,
        request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        let request = request.into_inner();
        let mask = Mask::of(request.fields, "NodeStatus")?;
        let size = paging::size(request.page_size)?;
        let after = paging::key("node", &request.page_token)?
            .map(|key| node_key(key).ok_or_else(|| paging::unknown(&request.page_token)))
            .transpose()?;
        let (found, total) = self.board.nodes(Now::read(), after, size + 1);
        let keys: Vec<_> =
            found.iter().map(|node| format!("{}{}", node.node.uid, node.node.node_id)).collect();
        let mut nodes: Vec<_> = found.into_iter().map(|node| mask.apply(encode::node(node))).collect();
        let next_page_token = if paging::cut(&mut nodes, size) {
            paging::token("node", &keys[nodes.len() - 1])
        } else {
            String::new()
        };
        let total_size = i32::try_from(total).unwrap_or(i32::MAX);
        Ok(Response::new(ListNodesResponse { nodes, next_page_token, total_size }))
    }

    async fn list_upstreams(
        &self,
        request: Request<ListUpstreamsRequest>,
    ) -> Result<Response<ListUpstreamsResponse>, Status> {
        let request = request.into_inner();
        let mask = Mask::of(request.fields, "UpstreamStatus")?;
        let size = paging::size(request.page_size)?;
        let after = paging::key("upstream", &request.page_token)?;
        let fleet = self.board.fleet(Now::read());
        let (all, as_of) = (fleet.upstreams, fleet.as_of);
        let total_size = i32::try_from(all.len()).unwrap_or(i32::MAX);
        let found = all.into_iter().filter(|one| after.is_none_or(|after| one.name.as_str() > after));
        let (names, mut upstreams): (Vec<_>, Vec<_>) = found
            .take(size + 1)
            .map(|one| (one.name.clone(), mask.apply(encode::upstream(one, as_of))))
            .unzip();
        let next_page_token = if paging::cut(&mut upstreams, size) {
            paging::token("upstream", &names[upstreams.len() - 1])
        } else {
            String::new()
        };
        Ok(Response::new(ListUpstreamsResponse { upstreams, next_page_token, total_size }))
    }
}

/// Node id and uid in the key of a token: 32 hexadecimal digits of the uid, then the id.
fn node_key(key: &str) -> Option<(&str, NodeUid)> {
    let (uid, node_id) = key.split_at_checked(32)?;
    Some((node_id, NodeUid::try_from(uid.to_owned()).ok()?))
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
    async fn next(this: Option<Self>) -> Option<(Result<WatchStatusResponse, Status>, Option<Self>)> {
        let mut this = this?;
        let stop = this.stop.clone();
        let heartbeat = tokio::select! {
            heartbeat = this.pace.wait() => heartbeat,
            () = stop.cancelled() => return Some((Err(errors::stopping()), None)),
        };
        // The first one shows everything that its reader may have done before.
        let picture = if this.pace.is_first() { this.pictures.fresh() } else { this.pictures.recent() };
        this.pace.sent(picture.taken, picture.shows);
        let status = Some(this.mask.apply(picture.status.clone()));
        Some((Ok(WatchStatusResponse { status, heartbeat }), Some(this)))
    }
}
