//! The control plane and its nodes: reachable, of one version, with clocks that agree, and content with what they run.

use super::Check;
use crate::{
    args::Global,
    client::Client,
    connect::{Failure, Target},
    model::{Node, NodeState, Status, SyncState, UpstreamState},
    output::span,
    report::Error,
};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

const CONTROL: &str = "control-plane";
const CONFIG: &str = "config";
const NODES: &str = "nodes";
const VERSIONS: &str = "versions";
const CLOCKS: &str = "clocks";
const UPSTREAMS: &str = "upstreams";
/// Where a control plane is looked for when nothing is said.
const USUAL: &str = "http://127.0.0.1:7400";
/// Clocks further apart make events and ages hard to read.
const SKEW: Duration = Duration::from_secs(1);
/// Clocks further apart make tokens invalid.
const TOO_MUCH_SKEW: Duration = Duration::from_secs(30);

pub(super) async fn look(global: &Global) -> Vec<Check> {
    let target = match Target::of(global) {
        Ok(target) => target,
        Err(error) => {
            let (what, todo) = error.words();
            return vec![Check::fail(CONTROL, what, todo)];
        }
    };
    let usual = target.to_string() == USUAL;
    let asked = async {
        let mut client = Client::connect(&target, global.timeout).await?;
        let status = client.status().await?;
        Ok::<_, Failure>((status, client.nodes().await?))
    };
    match asked.await {
        Ok((status, nodes)) => judge(&target.to_string(), &status, &nodes, Timestamp::now()),
        Err(Failure::Refused) if usual => vec![Check::warn(
            CONTROL,
            format!("nothing listens at {target}: no control plane runs here"),
            "`o1ctl up` starts a pair; --control or O1_CONTROL names a control plane elsewhere",
        )],
        Err(failure) => {
            let (what, todo) = Error::control(&target, failure).words();
            vec![Check::fail(CONTROL, what, todo)]
        }
    }
}

fn judge(target: &str, status: &Status, nodes: &[Node], now: Timestamp) -> Vec<Check> {
    let mut checks = vec![control_plane(target, status)];
    checks.extend(config(status));
    checks.extend(fleet(nodes));
    checks.push(versions(status, nodes));
    checks.push(clocks(status, nodes, now));
    checks.extend(upstreams(status));
    checks
}

fn control_plane(target: &str, status: &Status) -> Check {
    let plane = &status.control_plane;
    let up = span::age(plane.started_at, status.as_of);
    let what = format!("{target} answers: version {}, up {up}", plane.version);
    match plane.decisions_because.as_str() {
        "" => Check::ok(CONTROL, what),
        because => Check::warn(
            CONTROL,
            format!("{what}; it decides about no failover: {because}"),
            "o1ctl status says since when; nodes act by themselves where they may",
        ),
    }
}

fn config(status: &Status) -> Option<Check> {
    let plane = &status.control_plane;
    let refused = plane.source.as_ref().filter(|source| source.refused);
    if let Some(source) = refused {
        let first = source.problems.first().map(|problem| format!(": {}", problem.what)).unwrap_or_default();
        let what = format!("the content of {} is refused{first}", source.path);
        return Some(Check::fail(CONFIG, what, "correct it: o1ctl status lists every problem"));
    }
    Some(match &plane.target {
        Some(version) => Check::ok(CONFIG, format!("revision {} should run", version.revision)),
        None => Check::warn(
            CONFIG,
            "the control plane has no configuration yet",
            "write the file that --config names, or: o1ctl config apply FILE",
        ),
    })
}

fn fleet(nodes: &[Node]) -> Vec<Check> {
    let there = |node: &&Node| matches!(node.state, NodeState::Connected | NodeState::Draining);
    let mut checks = Vec::new();
    let connected = nodes.iter().filter(there).count();
    checks.push(match connected {
        0 => Check::fail(
            NODES,
            "no node is connected: clients are not served",
            "o1-data-plane --control URL starts one",
        ),
        count => Check::ok(NODES, format!("connected: {count}")),
    });
    for node in nodes {
        let id = &node.node_id;
        let check = match (node.state, node.sync) {
            (NodeState::Unreachable, _) => Check::fail(
                NODES,
                format!("{id} is not heard"),
                format!(
                    "is its process up, and can it reach the control plane? look at http://{}/health",
                    node.admin
                ),
            ),
            (NodeState::DuplicateIdentity, _) => Check::fail(
                NODES,
                format!("{id}: two live processes claim to be it"),
                "stop one, or give each its own --state-dir",
            ),
            (NodeState::Connected | NodeState::Draining, SyncState::Rejected) => {
                Check::fail(NODES, format!("{id} refuses the configuration"), "o1ctl nodes says why")
            }
            (NodeState::Connected | NodeState::Draining, SyncState::Stale) => Check::warn(
                NODES,
                format!("{id} runs an older configuration although it had time"),
                "its log says why",
            ),
            (NodeState::Draining, _) => Check::warn(
                NODES,
                format!("{id} takes no new sessions"),
                "if that was ordered and is over: o1ctl drain NODE --undo --reason TEXT",
            ),
            _ => continue,
        };
        checks.push(check);
    }
    checks
}

fn versions(status: &Status, nodes: &[Node]) -> Check {
    let own = o1_process::VERSION;
    let there = nodes.iter().filter(|node| node.state != NodeState::Left && !node.version.is_empty());
    let mut others: Vec<String> = there
        .filter(|node| node.version != own)
        .map(|node| format!("{} is of {}", node.node_id, node.version))
        .collect();
    if status.control_plane.version != own {
        others.insert(0, format!("the control plane is of {}", status.control_plane.version));
    }
    match others.as_slice() {
        [] => Check::ok(VERSIONS, format!("all of {own}")),
        others => Check::warn(
            VERSIONS,
            format!("this o1ctl is of {own}; {}", others.join(", ")),
            "they work together, but each knows only what its version knows: update the older ones",
        ),
    }
}

fn clocks(status: &Status, nodes: &[Node], now: Timestamp) -> Check {
    let apart = |skew: SignedDuration| Duration::try_from(skew.abs()).unwrap_or_default();
    let mut skews: Vec<(String, Duration)> = nodes
        .iter()
        .filter(|node| matches!(node.state, NodeState::Connected | NodeState::Draining))
        .filter_map(|node| {
            Some((node.node_id.clone(), Duration::from_millis(node.clock_skew_ms?.unsigned_abs())))
        })
        .collect();
    if let Some(as_of) = status.as_of {
        skews.push(("this machine".to_owned(), apart(now.duration_since(as_of))));
    }
    let worst = skews.iter().map(|(_, skew)| *skew).max().unwrap_or_default();
    let off: Vec<String> = skews
        .iter()
        .filter(|(_, skew)| *skew > SKEW)
        .map(|(who, skew)| format!("{who} by {}", span::latency(*skew)))
        .collect();
    let what = format!("clocks differ from that of the control plane: {}", off.join(", "));
    let todo = "let all machines take the time from one source (NTP)";
    match worst {
        worst if worst > TOO_MUCH_SKEW => Check::fail(CLOCKS, what, todo),
        worst if worst > SKEW => Check::warn(CLOCKS, what, todo),
        _ => Check::ok(CLOCKS, format!("at most {} apart", span::latency(worst))),
    }
}

fn upstreams(status: &Status) -> Vec<Check> {
    let mut checks = Vec::new();
    for upstream in &status.upstreams {
        let name = &upstream.name;
        let todo = format!("o1ctl explain {name}");
        let serves = upstream.failover.as_ref().is_some_and(|failover| failover.is_active());
        if serves {
            checks.push(Check::warn(UPSTREAMS, format!("{name}: its backup serves"), todo));
        } else if upstream.state == UpstreamState::Unreachable {
            checks.push(Check::fail(UPSTREAMS, format!("{name}: no node reaches it"), todo));
        } else if upstream.state == UpstreamState::Degraded {
            checks.push(Check::warn(UPSTREAMS, format!("{name}: some nodes do not reach it"), todo));
        }
    }
    if checks.is_empty() && !status.upstreams.is_empty() {
        checks.push(Check::ok(UPSTREAMS, format!("{}, none in trouble", status.upstreams.len())));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};
    use crate::output::tests::{NOW, fleet as status, moment, node, rejecting, upstream};

    fn states(status: &Status, nodes: &[Node]) -> Vec<(&'static str, State)> {
        let checks = judge("http://c:7400", status, nodes, moment(NOW));
        checks.into_iter().filter(|one| one.state != State::Ok).map(|one| (one.check, one.state)).collect()
    }

    /// One whose clock is right and whose version is ours.
    fn good(name: &str) -> Node {
        Node { clock_skew_ms: Some(3), version: o1_process::VERSION.to_owned(), ..node(name) }
    }

    fn right() -> Status {
        let mut status = status();
        status.control_plane.version = o1_process::VERSION.to_owned();
        status
    }

    #[test]
    fn a_good_fleet_has_nothing_to_do() {
        assert_eq!(states(&right(), &[good("n1"), good("n2")]), []);
    }

    #[test]
    fn each_trouble_is_found_by_its_own_check() {
        let with = |state, sync| Node { state, sync, ..good("n2") };
        let cases = [
            (with(NodeState::Unreachable, SyncState::Synced), (NODES, State::Fail)),
            (with(NodeState::DuplicateIdentity, SyncState::Synced), (NODES, State::Fail)),
            (Node { clock_skew_ms: Some(0), ..rejecting("n2") }, (NODES, State::Fail)),
            (with(NodeState::Connected, SyncState::Stale), (NODES, State::Warn)),
            (with(NodeState::Draining, SyncState::Synced), (NODES, State::Warn)),
            (Node { version: "0.0.1".to_owned(), ..good("n2") }, (VERSIONS, State::Warn)),
            (Node { clock_skew_ms: Some(-2_000), ..good("n2") }, (CLOCKS, State::Warn)),
            (Node { clock_skew_ms: Some(31_000), ..good("n2") }, (CLOCKS, State::Fail)),
        ];
        for (node, expected) in cases {
            assert_eq!(states(&right(), &[good("n1"), node]), [expected]);
        }
        assert_eq!(states(&right(), &[]), [(NODES, State::Fail)]);
        let mut refused = right();
        crate::output::tests::refused(&mut refused);
        refused.upstreams.push(upstream("down", UpstreamState::Unreachable));
        refused.upstreams.push(upstream("shaky", UpstreamState::Degraded));
        assert_eq!(
            states(&refused, &[good("n1")]),
            [(CONFIG, State::Fail), (UPSTREAMS, State::Fail), (UPSTREAMS, State::Warn)]
        );
    }
}
