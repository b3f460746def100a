//! Asks a control plane, and turns its messages into `model` right here: the only module that knows generated
//! types.

mod audit;
mod config;
mod counts;
mod events;
mod failover;
mod inspect;
mod orders;
#[cfg(test)]
pub(crate) mod scripted;

pub use inspect::Tail;

use crate::{
    connect::{self, Failure, Link, Target},
    model,
};
use jiff::Timestamp;
use o1_proto::{
    convert::{self, duration, from_duration},
    wire,
};
use std::time::Duration;
use tokio::time::timeout;
use tonic::Streaming;

/// Larger answers than this are refused: a fleet of ten thousand upstreams fits.
const ANSWER_BYTES: usize = 16 << 20;
/// Nodes asked for at once, and the most pages read.
const PAGE_SIZE: i32 = 200;
const PAGES: usize = 500;

/// A connection to a control plane; clones share it.
#[derive(Clone)]
pub struct Client {
    link: Link,
    status: wire::status_service_client::StatusServiceClient<Link>,
    inspect: wire::inspect_service_client::InspectServiceClient<Link>,
    admin: wire::admin_service_client::AdminServiceClient<Link>,
    config: wire::config_service_client::ConfigServiceClient<Link>,
}

impl Client {
    /// Connects; every wait of this client, and of connecting, is at most `limit` long.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(target: &Target, limit: Duration) -> Result<Self, Failure> {
        let link = connect::open(target, limit).await?;
        let status = wire::status_service_client::StatusServiceClient::new(link.clone())
            .max_decoding_message_size(ANSWER_BYTES);
        let inspect = wire::inspect_service_client::InspectServiceClient::new(link.clone())
            .max_decoding_message_size(ANSWER_BYTES);
        let admin = wire::admin_service_client::AdminServiceClient::new(link.clone());
        let config = wire::config_service_client::ConfigServiceClient::new(link.clone())
            .max_decoding_message_size(ANSWER_BYTES);
        Ok(Self { link, status, inspect, admin, config })
    }

    /// The fleet now.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn status(&mut self) -> Result<model::Status, Failure> {
        let answer = self.link.answer(self.status.get_status(wire::GetStatusRequest::default())).await?;
        answer.status.map(status).ok_or_else(empty)
    }

    /// Every node, sorted by name.
    ///
    /// # Errors
    /// Why there is no answer, or no complete one.
    pub async fn nodes(&mut self) -> Result<Vec<model::Node>, Failure> {
        let mut nodes = Vec::new();
        let mut page_token = String::new();
        for _ in 0..PAGES {
            let request = wire::ListNodesRequest { page_size: PAGE_SIZE, page_token, fields: None };
            let answer = self.link.answer(self.status.list_nodes(request)).await?;
            nodes.extend(answer.nodes.into_iter().map(node));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(nodes);
            }
        }
        Err(Failure::Broken { code: "data loss", message: "the list of nodes does not end".to_owned() })
    }

    /// Every upstream, sorted by name.
    ///
    /// # Errors
    /// Why there is no answer, or no complete one.
    pub async fn upstreams(&mut self) -> Result<Vec<model::Upstream>, Failure> {
        let mut upstreams = Vec::new();
        let mut page_token = String::new();
        for _ in 0..PAGES {
            let request = wire::ListUpstreamsRequest { page_size: PAGE_SIZE, page_token, fields: None };
            let answer = self.link.answer(self.status.list_upstreams(request)).await?;
            upstreams.extend(answer.upstreams.into_iter().map(upstream));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(upstreams);
            }
        }
        Err(Failure::Broken { code: "data loss", message: "the list of upstreams does not end".to_owned() })
    }

    /// The fleet now and after each change, at most once in `interval`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn watch(&mut self, interval: Duration) -> Result<Watch, Failure> {
        let request = wire::WatchStatusRequest { min_interval: Some(from_duration(interval)), fields: None };
        let stream = self.link.answer(self.status.watch_status(request)).await?;
        Ok(Watch { stream, link: self.link.clone() })
    }
}

/// A running watch.
pub struct Watch {
    stream: Streaming<wire::WatchStatusResponse>,
    link: Link,
}

impl Watch {
    /// Waits for the next picture, at most `limit`; a sign of life without news is `None`.
    ///
    /// # Errors
    /// The watch is over; why.
    pub async fn next(&mut self, limit: Duration) -> Result<Option<model::Status>, Failure> {
        match timeout(limit, self.stream.message()).await {
            Ok(Ok(Some(message))) => Ok(message.status.map(status)),
            Ok(Ok(None)) => Err(Failure::Lost("the control plane ended the watch".to_owned())),
            Ok(Err(error)) => Err(self.link.failure(&error)),
            Err(_) => Err(Failure::NoAnswer(limit)),
        }
    }
}

fn empty() -> Failure {
    Failure::Broken { code: "data loss", message: "the answer is empty".to_owned() }
}

fn status(wire: wire::FleetStatus) -> model::Status {
    let nodes = wire.nodes.unwrap_or_default();
    model::Status {
        as_of: moment(wire.as_of.as_ref()),
        control_plane: wire.control_plane.map(control_plane).unwrap_or_default(),
        nodes: model::NodeCounts {
            connected: nodes.connected,
            unreachable: nodes.unreachable,
            synced: nodes.synced,
            pending: nodes.pending,
            stale: nodes.stale,
            rejected: nodes.rejected,
            draining: nodes.draining,
        },
        upstreams: wire.upstreams.into_iter().map(upstream).collect(),
    }
}

fn control_plane(wire: wire::ControlPlaneStatus) -> model::ControlPlane {
    model::ControlPlane {
        version: wire.version,
        started_at: moment(wire.started_at.as_ref()),
        listen: wire.listen,
        target: wire.target.as_ref().map(version),
        target_accepted_at: moment(wire.target_accepted_at.as_ref()),
        rollout: wire.rollout.map(config::summary),
        source: wire.source.map(|source| model::ConfigSource {
            path: source.path,
            checked_at: moment(source.checked_at.as_ref()),
            refused: source.refused,
            refused_at: moment(source.refused_at.as_ref()),
            problems: source.problems.into_iter().map(problem).collect(),
        }),
        decisions: convert::decision_state(wire.decisions),
        decisions_because: wire.decisions_because,
    }
}

fn problem(wire: wire::ConfigProblem) -> model::Problem {
    model::Problem {
        file: wire.file,
        line: wire.line,
        column: wire.column,
        rule: wire.rule,
        path: wire.path,
        what: wire.what,
        hint: wire.hint,
    }
}

fn upstream(wire: wire::UpstreamStatus) -> model::Upstream {
    let state = match wire.state() {
        wire::UpstreamState::Unspecified | wire::UpstreamState::Unknown => model::UpstreamState::Unknown,
        wire::UpstreamState::Healthy => model::UpstreamState::Healthy,
        wire::UpstreamState::Degraded => model::UpstreamState::Degraded,
        wire::UpstreamState::Unreachable => model::UpstreamState::Unreachable,
    };
    model::Upstream {
        name: wire.name,
        state,
        nodes_reachable: wire.nodes_reachable,
        nodes_unreachable: wire.nodes_unreachable,
        nodes_unknown: wire.nodes_unknown,
        since: moment(wire.since.as_ref()),
        errors: wire.errors,
        totals: wire.totals.map(|totals| model::Totals {
            requests: totals.requests,
            errors: totals.errors,
            timeouts: totals.timeouts,
            application_errors: totals.application_errors,
            active_requests: totals.active_requests,
            bytes_in: totals.bytes_in,
            bytes_out: totals.bytes_out,
        }),
        rates: wire.rates.map(|rates| model::Rates {
            window: duration(rates.window.as_ref()),
            requests_per_second: rates.requests_per_second,
            error_ratio: rates.error_ratio,
            p50: duration(rates.p50.as_ref()),
            p99: duration(rates.p99.as_ref()),
            hit_ratio: rates.hit_ratio,
        }),
        legacy: wire.legacy,
        modern: wire.modern,
        tools: wire.tools,
        primary: wire.primary,
        backup: Some(wire.backup).filter(|backup| !backup.is_empty()),
        cache: counts::tiers(wire.cache),
        endpoints: wire.endpoints.into_iter().map(counts::endpoint).collect(),
        batches: wire.batches.map(counts::batches),
        failover: wire.failover.map(failover::failover),
    }
}

fn node(wire: wire::NodeStatus) -> model::Node {
    let (state, sync) = (node_state(wire.state()), sync_state(wire.sync()));
    let identity = wire.node.unwrap_or_default();
    model::Node {
        node_id: identity.node_id,
        node_uid: hexadecimal(&identity.node_uid),
        epoch: identity.epoch,
        labels: identity.labels,
        version: identity.build_version,
        started_at: moment(identity.started_at.as_ref()),
        listen: identity.listen,
        admin: identity.admin,
        state,
        sync,
        applied: wire.applied.as_ref().map(version),
        rejected: wire.rejected.as_ref().map(version),
        rejections: wire.rejections.into_iter().map(rejection).collect(),
        connected_at: moment(wire.connected_at.as_ref()),
        last_heard: moment(wire.last_heard.as_ref()),
        clock_skew_ms: wire
            .clock_skew
            .map(|skew| skew.seconds.saturating_mul(1000).saturating_add(i64::from(skew.nanos / 1_000_000))),
        sessions: wire.sessions,
        resident_bytes: wire.resident_bytes,
        last_apply: duration(wire.last_apply_time.as_ref()),
        drain: wire.drain.map(drain_order),
        upstreams: wire.upstreams.into_iter().map(node_upstream).collect(),
    }
}

fn drain_order(wire: wire::DrainStanding) -> model::DrainOrder {
    model::DrainOrder { since: moment(wire.since.as_ref()), reason: wire.reason }
}

fn node_state(wire: wire::NodeState) -> model::NodeState {
    match wire {
        wire::NodeState::Unspecified => model::NodeState::Unknown,
        wire::NodeState::Connected => model::NodeState::Connected,
        wire::NodeState::Unreachable => model::NodeState::Unreachable,
        wire::NodeState::Draining => model::NodeState::Draining,
        wire::NodeState::Left => model::NodeState::Left,
        wire::NodeState::DuplicateIdentity => model::NodeState::DuplicateIdentity,
    }
}

fn sync_state(wire: wire::SyncState) -> model::SyncState {
    match wire {
        wire::SyncState::Unspecified => model::SyncState::Unknown,
        wire::SyncState::Synced => model::SyncState::Synced,
        wire::SyncState::Pending => model::SyncState::Pending,
        wire::SyncState::Stale => model::SyncState::Stale,
        wire::SyncState::Rejected => model::SyncState::Rejected,
        wire::SyncState::Never => model::SyncState::Never,
    }
}

fn rejection(wire: wire::Rejection) -> model::Rejection {
    let reason = match wire.reason() {
        wire::RejectionReason::Unspecified => "unknown",
        wire::RejectionReason::Decode => "decode",
        wire::RejectionReason::UnknownKind => "unknown_kind",
        wire::RejectionReason::InvalidField => "invalid_field",
        wire::RejectionReason::LocalDependency => "local_dependency",
        wire::RejectionReason::DigestMismatch => "digest_mismatch",
        wire::RejectionReason::BaseMismatch => "base_mismatch",
        wire::RejectionReason::VersionRegression => "version_regression",
        wire::RejectionReason::Conflict => "conflict",
        wire::RejectionReason::Internal => "internal",
    };
    model::Rejection {
        resource: wire.resource.map(resource).unwrap_or_default(),
        reason: reason.to_owned(),
        field: wire.field_path,
        message: wire.message,
    }
}

fn resource(key: wire::ResourceKey) -> String {
    match key.kind() {
        wire::ResourceKind::Upstream => format!("upstream {}", key.name),
        wire::ResourceKind::Clients
        | wire::ResourceKind::Auth
        | wire::ResourceKind::Cache
        | wire::ResourceKind::Batching => key.name,
        wire::ResourceKind::Server => format!("server {}", key.name),
        wire::ResourceKind::Unspecified => format!("resource {}", key.name),
    }
}

fn node_upstream(wire: wire::UpstreamStats) -> model::NodeUpstream {
    let reachable = match wire.reachability() {
        wire::Reachability::Unspecified | wire::Reachability::Unknown => None,
        wire::Reachability::Reachable => Some(true),
        wire::Reachability::Unreachable => Some(false),
    };
    model::NodeUpstream {
        upstream: wire.upstream,
        reachable,
        since: moment(wire.since.as_ref()),
        last_error: wire.last_error,
        totals: model::Totals {
            requests: wire.requests,
            errors: wire.errors,
            timeouts: wire.timeouts,
            application_errors: wire.application_errors,
            active_requests: wire.active_requests,
            bytes_in: wire.bytes_in,
            bytes_out: wire.bytes_out,
        },
        cache: counts::tiers(wire.cache),
        endpoints: wire.endpoints.into_iter().filter_map(counts::node_endpoint).collect(),
        batches: wire.batches.as_ref().map(counts::node_batches),
    }
}

fn version(wire: &wire::ConfigVersion) -> model::ConfigVersion {
    model::ConfigVersion {
        generation: wire.generation,
        revision: wire.revision,
        digest: hexadecimal(&wire.root_digest),
    }
}

/// A moment outside the years that a timestamp can name is not known.
fn moment(wire: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let wire = wire?;
    Timestamp::new(wire.seconds, wire.nanos).ok()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{scripted::Scripted, *};

    async fn connected(server: &Scripted) -> Client {
        let target = Target::parse(&server.address.to_string()).unwrap();
        Client::connect(&target, Duration::from_secs(10)).await.unwrap()
    }

    #[tokio::test]
    async fn messages_become_plain_values_and_nothing_is_made_up() {
        let server = Scripted::start(([127, 0, 0, 1], 0).into(), 7).await;
        let mut client = connected(&server).await;
        let status = client.status().await.unwrap();
        let target = status.control_plane.target.unwrap();
        assert_eq!((target.revision, target.digest.as_str()), (7, "ab01"));
        let weather = &status.upstreams[0];
        assert_eq!(
            (weather.state, weather.tools, weather.totals),
            (model::UpstreamState::Healthy, Some(5), None)
        );
        assert_eq!(weather.backup, None, "empty on the wire");
        let rates = weather.rates.unwrap();
        assert_eq!(rates.p50, Some(Duration::from_micros(1500)));
        assert_eq!((rates.p99, rates.error_ratio), (None, None), "negative, and absent");

        let nodes = client.nodes().await.unwrap();
        let names: Vec<_> = nodes.iter().map(|node| node.node_id.as_str()).collect();
        assert_eq!(names, ["n0", "n1", "n2"], "from three pages");
        assert_eq!((nodes[0].sync, nodes[0].clock_skew_ms), (model::SyncState::Unknown, Some(-2_500)));
        let rejection = &nodes[0].rejections[0];
        assert_eq!(
            (rejection.resource.as_str(), rejection.reason.as_str()),
            ("upstream weather", "local_dependency")
        );
    }

    #[tokio::test]
    async fn answers_that_make_no_sense_are_failures_not_empty_pages() {
        let server = Scripted::start(([127, 0, 0, 1], 0).into(), 13).await;
        let mut client = connected(&server).await;
        let said = |failure| match failure {
            Failure::Broken { message, .. } => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(said(client.status().await.unwrap_err()), "the answer is empty");
        assert_eq!(said(client.nodes().await.unwrap_err()), "the list of nodes does not end");
    }
}
