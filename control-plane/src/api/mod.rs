//! The gRPC door: one file for each service, [`decode`], [`encode`] and [`counts`] between messages and plain values,
//! [`answers`] of nodes, [`orders`] about failovers, [`mod@events`] of nodes and for readers, [`errors`] between failures
//! and status codes, [`paging`] for lists, [`mask`] for parts of answers, [`watching`], [`pictures`] and [`pace`] for those
//! who watch the status, [`rollouts`] for those who watch one, [`updates`] for what nodes are to run. In front of all of
//! them is the [`door`], behind the changes the [`mod@audit`].
//!
//! Generated messages stop here. This module must never decide anything, and must never let a message that may
//! be half empty through.

mod admin;
mod answers;
mod audit;
mod config;
mod counts;
mod decode;
mod door;
mod drain;
mod encode;
pub mod errors;
mod events;
mod inspect;
mod mask;
mod node;
mod orders;
mod pace;
mod paging;
mod pictures;
mod rollouts;
mod status;
mod updates;
mod watching;

use crate::{
    access::{Access, audit::Audit},
    config::Desk,
    events::Log,
    fleet::Hub,
    status::Board,
    store::Store,
};
use admin::Admin;
use audit::Changes;
use config::Config;
use door::{Door, Wire};
use futures_util::{Stream, StreamExt as _};
use inspect::Inspect;
use node::Nodes;
use o1_process::{Tasks, tls::Connection};
use o1_proto::wire::{
    DESCRIPTORS, admin_service_server::AdminServiceServer, config_service_server::ConfigServiceServer,
    inspect_service_server::InspectServiceServer, node_service_server::NodeServiceServer,
    status_service_server::StatusServiceServer,
};
use status::Statuses;
use std::{io, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::{ServingStatus, server::HealthReporter};
use watching::{Watcher, Watching};

/// The largest message in either direction, bytes.
const MAX_MESSAGE: usize = 4 << 20;
/// How long a call that is not a stream may take; clients may ask for less.
const CALL: Duration = Duration::from_secs(30);
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// What the services work with.
#[derive(Clone)]
pub struct Context {
    /// The fleet.
    pub hub: Arc<Hub>,
    /// The picture.
    pub board: Board,
    /// The history.
    pub store: Arc<dyn Store>,
    /// What happened.
    pub events: Log,
    /// By what callers are known.
    pub access: Access,
    /// Who changed what.
    pub audit: Audit,
    /// Where changes of the configuration are asked for.
    pub desk: Desk,
    /// Runs the readers of streams.
    pub tasks: Tasks,
}

/// Serves until the process stops, and then until every connection has ended.
///
/// # Errors
/// The transport failed as a whole.
pub async fn serve(
    connections: impl Stream<Item = io::Result<Connection>>,
    context: Context,
) -> Result<(), tonic::transport::Error> {
    let stop = context.tasks.stopping();
    let health = HealthReporter::new();
    health.set_serving::<NodeServiceServer<Nodes>>().await;
    health.set_serving::<StatusServiceServer<Statuses>>().await;
    health.set_serving::<ConfigServiceServer<Config>>().await;
    health.set_serving::<InspectServiceServer<Inspect>>().await;
    health.set_serving::<AdminServiceServer<Admin>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors come out of the build");
    let inspect = InspectServiceServer::new(Inspect::new(context.hub.clone(), stop.clone()))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let changes = Changes::new(context.audit.clone(), context.tasks.clone());
    let admin = Admin::new(context.hub.clone(), context.store.clone(), changes.clone(), stop.clone());
    let admin = AdminServiceServer::new(admin)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let door = Door::new(context.access, context.audit.clone());
    let (audit, hub) = (context.audit, context.hub);
    let config = Config::new(context.store, context.desk, hub.clone(), changes, stop.clone());
    let nodes = NodeServiceServer::new(Nodes::new(hub, context.events.clone(), audit, context.tasks))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let watcher = Watcher::new(context.board.clone(), stop.clone());
    let statuses = Statuses::new(context.board, watcher.clone(), context.events, stop.clone());
    let statuses = StatusServiceServer::new(statuses)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let config = ConfigServiceServer::new(config)
        // A document of the largest size, and what surrounds it.
        .max_decoding_message_size(MAX_MESSAGE + (64 << 10))
        .max_encoding_message_size(MAX_MESSAGE + (64 << 10));
    Server::builder()
        .timeout(CALL)
        // max_connection_age cuts streams without a word: nodes are told goodbye instead.
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .http2_max_header_list_size(16 << 10)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(100)
        .layer(door)
        .add_service(tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(health.clone()),
        ))
        .add_service(reflection)
        .add_service(nodes)
        .add_service(Watching::new(watcher, statuses))
        .add_service(config)
        .add_service(inspect)
        .add_service(admin)
        .serve_with_incoming_shutdown(
            connections.map(|connection| connection.map(Wire)),
            stopped(stop, health),
        )
        .await
}

/// Returns once the process stops and health says so.
async fn stopped(stop: CancellationToken, health: HealthReporter) {
    stop.cancelled().await;
    health.set_service_status("", ServingStatus::NotServing).await;
    health.set_not_serving::<NodeServiceServer<Nodes>>().await;
    health.set_not_serving::<StatusServiceServer<Statuses>>().await;
    health.set_not_serving::<ConfigServiceServer<Config>>().await;
    health.set_not_serving::<InspectServiceServer<Inspect>>().await;
    health.set_not_serving::<AdminServiceServer<Admin>>().await;
}
