//! Messages → plain values. What breaks a rule is refused by the name of its field; text is cut to a length that
//! nobody can fill the memory with.

use super::{counts, errors::invalid};
use crate::{
    config::{Digest, Version},
    fleet::{Hello, Identity, Message, NodeUid, Reason, Refusal, Rejection, ResourceKind, ResourceName},
    stats::{Counters, Histogram, Reachability, Report, Sample},
};
use o1_proto::{
    convert,
    model::{FailoverState, StoreHealth},
    wire,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};
use tonic::Status;

/// Characters of one text.
const MAX_TEXT: usize = 1024;
const MAX_LABELS: usize = 64;
const MAX_REJECTIONS: usize = 1000;
const MAX_UPSTREAMS: usize = 10_000;
const MAX_BUCKETS: usize = 256;
const MAX_NODE_ID: usize = 64;
/// Above this there is no room left to outgrow a term.
const MAX_TERM: u64 = 1 << 48;
/// Above this there is no room left to outgrow a generation.
const MAX_GENERATION: u64 = 1 << 32;

/// The first message of a stream.
pub(super) fn hello(hello: wire::Hello) -> Result<Hello, Status> {
    let identity = identity(hello.node)?;
    let rejections = rejections(hello.rejections);
    let refused = version(hello.rejected, "hello.rejected")?.map(|version| Refusal { version, rejections });
    Ok(Hello { identity, applied: version(hello.applied, "hello.applied")?, refused })
}

/// Any other message of a stream; `None`: one that this build does not know.
pub(super) fn message(request: wire::SyncRequest, now: SystemTime) -> Option<Message> {
    use wire::sync_request::Msg;
    let decoded = match request.msg? {
        Msg::Hello(_) => return Some(Message::Violation("a second hello on one stream".to_owned())),
        Msg::Heartbeat(beat) => heartbeat(beat),
        Msg::ConfigAck(ack) => acknowledgement(ack),
        Msg::ConfigNack(nack) => refusal(nack),
        // Passed on unread, see `node`.
        Msg::Answer(_) => return None,
        Msg::Failover(report) => failover(report, now),
        Msg::Observations(seen) => observations(seen),
        Msg::Goodbye(goodbye) => Ok(Message::Goodbye {
            shutdown: goodbye.reason() == wire::GoodbyeReason::Shutdown,
            message: text(goodbye.message),
        }),
    };
    Some(decoded.unwrap_or_else(|status| Message::Violation(status.message().to_owned())))
}

fn heartbeat(beat: wire::Heartbeat) -> Result<Message, Status> {
    Ok(Message::Heartbeat {
        seq: beat.seq,
        applied: version(beat.applied, "heartbeat.applied")?,
        node_time: convert::system_time(beat.node_time.as_ref()),
        draining: beat.draining,
        drain_ordered: beat.drain_ordered,
    })
}

fn acknowledgement(ack: wire::ConfigAck) -> Result<Message, Status> {
    Ok(Message::Ack {
        nonce: ack.nonce,
        applied: version(ack.applied, "config_ack.applied")?,
        apply_time: convert::duration(ack.apply_time.as_ref()),
    })
}

fn refusal(nack: wire::ConfigNack) -> Result<Message, Status> {
    Ok(Message::Nack {
        nonce: nack.nonce,
        rejected: version(nack.rejected, "config_nack.rejected")?,
        running: version(nack.running, "config_nack.running")?,
        rejections: rejections(nack.rejections),
    })
}

fn failover(report: wire::FailoverReport, now: SystemTime) -> Result<Message, Status> {
    names("failover", report.upstreams.iter().map(|one| one.upstream.as_str()))?;
    let states = report.upstreams.into_iter().map(|one| {
        let name = one.upstream.clone();
        let (_, state) = convert::failover_state(one, now);
        if state.term > MAX_TERM {
            return Err(invalid(format!("failover.{name}.term: not one that any control plane hands out")));
        }
        let (primary, backup) = (store_health(state.primary), store_health(state.backup));
        Ok((name, FailoverState { message: text(state.message), primary, backup, ..state }))
    });
    Ok(Message::Failover(states.collect::<Result<_, _>>()?))
}

fn observations(seen: wire::Observations) -> Result<Message, Status> {
    names("observations", seen.upstreams.iter().map(|one| one.upstream.as_str()))?;
    let health = |one| store_health(convert::store_health(one));
    let one = |one: wire::Observation| (one.upstream, health(one.primary), health(one.backup));
    let self_suspect = seen.self_suspect;
    Ok(Message::Observations { self_suspect, seen: seen.upstreams.into_iter().map(one).collect() })
}

fn store_health(health: StoreHealth) -> StoreHealth {
    StoreHealth { error: text(health.error), ..health }
}

/// The names of upstreams, each of them once, not too many.
fn names<'a>(field: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Status> {
    let mut known = BTreeSet::new();
    for name in names {
        if name.is_empty() || name.len() > MAX_TEXT || known.len() >= MAX_UPSTREAMS {
            return Err(invalid(format!(
                "{field}.upstreams: at most {MAX_UPSTREAMS}, and a name has 1 to {MAX_TEXT} bytes"
            )));
        }
        if !known.insert(name) {
            return Err(invalid(format!("{field}.upstreams: `{name}` is there twice")));
        }
    }
    Ok(())
}

/// A report of counters, and whose it is.
pub(super) fn report(request: wire::ReportStatsRequest) -> Result<(String, NodeUid, Report), Status> {
    let node = identity(request.node)?;
    if request.upstreams.len() > MAX_UPSTREAMS {
        return Err(invalid(format!("upstreams: at most {MAX_UPSTREAMS} fit into a report")));
    }
    let mut names = BTreeSet::new();
    let mut upstreams = Vec::with_capacity(request.upstreams.len());
    for (index, stats) in request.upstreams.into_iter().enumerate() {
        let sample = sample(stats).map_err(|what| invalid(format!("upstreams[{index}].{what}")))?;
        if !names.insert(sample.upstream.clone()) {
            return Err(invalid(format!(
                "upstreams[{index}].upstream: `{}` is there twice",
                sample.upstream
            )));
        }
        upstreams.push(sample);
    }
    let report = Report {
        epoch: node.epoch,
        seq: request.seq,
        upstreams,
        sessions: request.sessions,
        resident_bytes: (request.resident_bytes > 0).then_some(request.resident_bytes),
    };
    Ok((node.node_id, node.uid, report))
}

fn sample(stats: wire::UpstreamStats) -> Result<Sample, String> {
    let reachability = match stats.reachability() {
        wire::Reachability::Unspecified | wire::Reachability::Unknown => Reachability::Unknown,
        wire::Reachability::Reachable => Reachability::Reachable,
        wire::Reachability::Unreachable => Reachability::Unreachable,
    };
    if stats.upstream.is_empty() || stats.upstream.len() > MAX_TEXT {
        return Err(format!("upstream: a name has 1 to {MAX_TEXT} bytes"));
    }
    let latency = Histogram {
        bounds: stats.latency_bounds_us,
        counts: stats.latency_buckets,
        sum: stats.latency_sum_us,
    };
    if !latency.is_well_formed() || latency.counts.len() > MAX_BUCKETS {
        return Err(format!(
            "latency_buckets: at most {MAX_BUCKETS}, one more than latency_bounds_us, which must ascend"
        ));
    }
    Ok(Sample {
        upstream: stats.upstream,
        counters: Counters {
            requests: stats.requests,
            errors: stats.errors,
            timeouts: stats.timeouts,
            application_errors: stats.application_errors,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
        },
        active_requests: stats.active_requests,
        latency,
        reachability,
        since: convert::system_time(stats.since.as_ref()),
        last_error: text(stats.last_error),
        legacy: stats.legacy,
        modern: stats.modern,
        tools: stats.tools,
        cache: counts::cache(stats.cache)?,
        endpoints: counts::endpoints(stats.endpoints)?,
        batches: counts::batches(stats.batches)?,
    })
}

fn identity(node: Option<wire::NodeIdentity>) -> Result<Identity, Status> {
    let node = node.ok_or_else(|| invalid("node: missing"))?;
    if !is_node_id(&node.node_id) {
        let shown = text(node.node_id);
        return Err(invalid(format!(
            "node.node_id: `{shown}` is not a node id: 1 to {MAX_NODE_ID} characters of A-Z a-z 0-9 . _ -"
        )));
    }
    let uid = <[u8; 16]>::try_from(node.node_uid.as_slice())
        .map_err(|_| invalid(format!("node.node_uid: has {} bytes instead of 16", node.node_uid.len())))?;
    if node.epoch == 0 {
        return Err(invalid("node.epoch: 0, and the first boot is 1"));
    }
    if node.labels.len() > MAX_LABELS {
        return Err(invalid(format!("node.labels: at most {MAX_LABELS}")));
    }
    let labels: BTreeMap<_, _> =
        node.labels.into_iter().map(|(key, value)| (text(key), text(value))).collect();
    Ok(Identity {
        node_id: node.node_id,
        uid: NodeUid::from_bytes(uid),
        epoch: node.epoch,
        labels,
        build_version: text(node.build_version),
        started_at: convert::system_time(node.started_at.as_ref()),
        listen: text(node.listen),
        admin: text(node.admin),
    })
}

fn is_node_id(text: &str) -> bool {
    (1..=MAX_NODE_ID).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn version(version: Option<wire::ConfigVersion>, field: &str) -> Result<Option<Version>, Status> {
    let Some(version) = version else { return Ok(None) };
    if version.generation > MAX_GENERATION || version.root_digest.len() > 64 {
        return Err(invalid(format!("{field}: not a version that any control plane hands out")));
    }
    Ok(Some(Version {
        generation: version.generation,
        revision: version.revision,
        digest: Digest::new(version.root_digest),
    }))
}

fn rejections(rejections: Vec<wire::Rejection>) -> Vec<Rejection> {
    rejections.into_iter().take(MAX_REJECTIONS).map(rejection).collect()
}

fn rejection(rejection: wire::Rejection) -> Rejection {
    use wire::RejectionReason as R;
    let reason = match R::try_from(rejection.reason) {
        Ok(R::Decode) => Reason::Decode,
        Ok(R::UnknownKind) => Reason::UnknownKind,
        Ok(R::InvalidField) => Reason::InvalidField,
        Ok(R::LocalDependency) => Reason::LocalDependency,
        Ok(R::DigestMismatch) => Reason::DigestMismatch,
        Ok(R::BaseMismatch) => Reason::BaseMismatch,
        Ok(R::VersionRegression) => Reason::VersionRegression,
        Ok(R::Conflict) => Reason::Conflict,
        Ok(R::Internal) => Reason::Internal,
        Ok(R::Unspecified) | Err(_) => Reason::Other(rejection.reason),
    };
    let resource = rejection.resource.map(|key| ResourceName {
        kind: match wire::ResourceKind::try_from(key.kind) {
            Ok(wire::ResourceKind::Upstream) => ResourceKind::Upstream,
            Ok(wire::ResourceKind::Clients) => ResourceKind::Clients,
            Ok(wire::ResourceKind::Server) => ResourceKind::Server,
            Ok(wire::ResourceKind::Auth) => ResourceKind::Auth,
            Ok(wire::ResourceKind::Cache) => ResourceKind::Cache,
            Ok(wire::ResourceKind::Batching) => ResourceKind::Batching,
            Ok(wire::ResourceKind::Unspecified) | Err(_) => ResourceKind::Other(key.kind),
        },
        name: text(key.name),
    });
    let (field_path, message) = (text(rejection.field_path), text(rejection.message));
    Rejection { resource, reason, field_path, message }
}

fn text(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node_id: &str) -> wire::NodeIdentity {
        wire::NodeIdentity {
            node_id: node_id.to_owned(),
            node_uid: vec![7; 16],
            epoch: 1,
            ..Default::default()
        }
    }

    fn refused(change: impl FnOnce(&mut wire::NodeIdentity)) -> String {
        let mut node = node("n1");
        change(&mut node);
        let status = hello(wire::Hello { node: Some(node), ..Default::default() }).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        status.message().to_owned()
    }

    #[test]
    fn an_identity_that_breaks_a_rule_is_refused_by_the_name_of_the_field() {
        for bad in ["", "a b", "a/b", "naïve", "a\n", &"x".repeat(65)] {
            assert!(refused(|node| node.node_id = bad.to_owned()).starts_with("node.node_id: "), "{bad}");
        }
        assert!(refused(|node| node.node_uid = vec![1; 15]).starts_with("node.node_uid: "));
        assert!(refused(|node| node.epoch = 0).starts_with("node.epoch: "));
        assert!(hello(wire::Hello::default()).unwrap_err().message().starts_with("node: "));
        for good in ["n1", "edge-1.eu_west", &"x".repeat(64)] {
            assert!(hello(wire::Hello { node: Some(node(good)), ..Default::default() }).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_generation_that_cannot_be_outgrown_is_refused() {
        let applied = wire::ConfigVersion { generation: u64::MAX, ..Default::default() };
        let status =
            hello(wire::Hello { node: Some(node("n1")), applied: Some(applied), ..Default::default() })
                .unwrap_err();
        assert!(status.message().starts_with("hello.applied: "), "{status}");
    }

    #[test]
    fn long_texts_and_lists_are_cut() {
        let rejection = wire::Rejection { message: "é".repeat(5000), reason: 99, ..Default::default() };
        let rejected = Some(wire::ConfigVersion::default());
        let hello = wire::Hello {
            node: Some(node("n1")),
            rejected,
            rejections: vec![rejection; 5000],
            ..Default::default()
        };
        let refused = super::hello(hello).unwrap().refused.unwrap();
        assert_eq!(refused.rejections.len(), MAX_REJECTIONS);
        assert_eq!(refused.rejections[0].message.chars().count(), MAX_TEXT);
        assert_eq!(refused.rejections[0].reason, Reason::Other(99));
    }

    #[test]
    fn a_report_that_contradicts_itself_is_refused() {
        let stats = |name: &str, bounds: &[u64], buckets: &[u64]| wire::UpstreamStats {
            upstream: name.to_owned(),
            latency_bounds_us: bounds.to_vec(),
            latency_buckets: buckets.to_vec(),
            ..Default::default()
        };
        let cases = [
            (vec![stats("a", &[1, 2], &[0, 0])], "upstreams[0].latency_buckets: "),
            (vec![stats("a", &[], &[]), stats("b", &[2, 1], &[0; 3])], "upstreams[1].latency_buckets: "),
            (vec![stats("", &[], &[])], "upstreams[0].upstream: "),
            (vec![stats("a", &[], &[]), stats("a", &[], &[])], "upstreams[1].upstream: "),
        ];
        for (upstreams, expected) in cases {
            let request =
                wire::ReportStatsRequest { node: Some(node("n1")), upstreams, ..Default::default() };
            let status = report(request).unwrap_err();
            assert!(status.message().starts_with(expected), "{status}");
        }
    }

    #[test]
    fn a_message_of_a_newer_contract_is_passed_over() {
        assert!(message(wire::SyncRequest { msg: None }, SystemTime::UNIX_EPOCH).is_none());
    }

    fn said(msg: wire::sync_request::Msg) -> Message {
        message(wire::SyncRequest { msg: Some(msg) }, SystemTime::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn what_a_node_says_of_its_stores_is_bounded() {
        use wire::sync_request::Msg;
        let state = |name: &str, term| wire::FailoverState {
            upstream: name.to_owned(),
            term,
            message: "é".repeat(5000),
            ..Default::default()
        };
        let report = |upstreams| said(Msg::Failover(wire::FailoverReport { upstreams }));
        let Message::Failover(states) = report(vec![state("a", MAX_TERM), state("b", 0)]) else {
            panic!("it is in order")
        };
        assert_eq!(states[0].1.message.chars().count(), MAX_TEXT);
        for upstreams in [vec![state("a", u64::MAX)], vec![state("a", 1); 2], vec![state("", 1)]] {
            assert!(matches!(report(upstreams), Message::Violation(_)));
        }
        let seen = |name: &str| wire::Observation { upstream: name.to_owned(), ..Default::default() };
        let upstreams = vec![seen("a"), seen("a")];
        let twice = wire::Observations { upstreams, ..Default::default() };
        assert!(matches!(said(Msg::Observations(twice)), Message::Violation(_)));
    }
}
