//! `StatusService`: the picture of the fleet, once or again and again.

use super::{
    encode, events,
    mask::{FLEET, Mask},
    paging,
    watching::Watcher,
};
use crate::{clock::Now, events::Log, fleet::NodeUid, status::Board};
use futures_util::{Stream, StreamExt as _};
use o1_proto::wire::{
    GetStatusRequest, GetStatusResponse, ListEventsRequest, ListEventsResponse, ListNodesRequest,
    ListNodesResponse, ListUpstreamsRequest, ListUpstreamsResponse, WatchEventsRequest, WatchEventsResponse,
    WatchStatusRequest, WatchStatusResponse, status_service_server::StatusService,
};
use std::pin::Pin;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// See the module.
pub struct Statuses {
    board: Board,
    watcher: Watcher,
    events: Log,
    stop: CancellationToken,
}

impl Statuses {
    pub(super) fn new(board: Board, watcher: Watcher, events: Log, stop: CancellationToken) -> Self {
        Self { board, watcher, events, stop }
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

    /// Of a connection, [`super::watching::Watching`] answers this before it comes here.
    async fn watch_status(
        &self,
        request: Request<WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let frames = self.watcher.watch(request.into_inner())?;
        Ok(Response::new(Box::pin(frames.map(|frame| frame.map(|frame| frame.message())))))
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
