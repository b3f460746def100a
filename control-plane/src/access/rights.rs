//! What each call needs: the one table. A call that is not in it is refused, and a test holds it against the contract.

use super::Role;

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: whoever gets a connection may ask.
    Nothing,
    /// At least this role.
    Role(Role),
}

/// By path, without the package of ours.
const RIGHTS: &[(&str, Need)] = &[
    ("NodeService/Sync", Need::Role(Role::Node)),
    ("NodeService/ReportStats", Need::Role(Role::Node)),
    ("NodeService/AppendEvents", Need::Role(Role::Node)),
    ("StatusService/GetStatus", Need::Role(Role::Viewer)),
    ("StatusService/WatchStatus", Need::Role(Role::Viewer)),
    ("StatusService/ListNodes", Need::Role(Role::Viewer)),
    ("StatusService/ListUpstreams", Need::Role(Role::Viewer)),
    ("StatusService/ListEvents", Need::Role(Role::Viewer)),
    ("StatusService/WatchEvents", Need::Role(Role::Viewer)),
    ("InspectService/ListTools", Need::Role(Role::Viewer)),
    ("InspectService/TailLogs", Need::Role(Role::Viewer)),
    ("InspectService/ListCalls", Need::Role(Role::Viewer)),
    ("ConfigService/ValidateConfig", Need::Role(Role::Viewer)),
    ("ConfigService/GetConfig", Need::Role(Role::Viewer)),
    ("ConfigService/ListConfigRevisions", Need::Role(Role::Viewer)),
    ("ConfigService/WatchRollout", Need::Role(Role::Viewer)),
    ("ConfigService/ApplyConfig", Need::Role(Role::Editor)),
    ("ConfigService/RollbackConfig", Need::Role(Role::Editor)),
    ("AdminService/ListAudit", Need::Role(Role::Viewer)),
    ("AdminService/PurgeCache", Need::Role(Role::Operator)),
    ("AdminService/OrderStore", Need::Role(Role::Operator)),
    ("AdminService/SetUpstreamMode", Need::Role(Role::Operator)),
    ("AdminService/SetMaintenance", Need::Role(Role::Operator)),
    ("AdminService/SetNodeDrain", Need::Role(Role::Operator)),
];
const PACKAGE: &str = "o1.control.v1.";

/// What the call of this path needs: `/o1.control.v1.AdminService/OrderStore`. `None`: there is no such call.
#[must_use]
pub fn needed(path: &str) -> Option<Need> {
    let path = path.strip_prefix('/')?;
    if let Some(ours) = path.strip_prefix(PACKAGE) {
        return RIGHTS.iter().find(|(call, _)| *call == ours).map(|(_, need)| *need);
    }
    match path.split_once('/')?.0 {
        // For whoever watches the process, and has no certificate.
        "grpc.health.v1.Health" => Some(Need::Nothing),
        "grpc.reflection.v1.ServerReflection" => Some(Need::Role(Role::Viewer)),
        _ => None,
    }
}

/// A path as people read it: `AdminService/OrderStore`.
#[must_use]
pub fn short(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_prefix(PACKAGE).unwrap_or(path)
}
