//! What operators see of the control path: on `/status`, `/readyz` and in logs. A view; nothing decides by it.

use super::{AppliedVersion, identity::Identity, stream::Ended};
use std::time::SystemTime;
use tokio::sync::watch;

/// Reads the state of the control path; clones read the same.
#[derive(Debug, Clone)]
pub struct Link {
    status: watch::Receiver<LinkStatus>,
}

impl Link {
    pub(super) fn new(status: watch::Receiver<LinkStatus>) -> Self {
        Self { status }
    }

    /// As it is now.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        self.status.borrow().clone()
    }

    /// Waits until `accept` says yes, and returns what it said yes to; `None` once the control path has ended
    /// without. The caller sets the limit.
    pub async fn wait_for(&self, accept: impl FnMut(&LinkStatus) -> bool) -> Option<LinkStatus> {
        self.status.clone().wait_for(accept).await.ok().map(|status| status.clone())
    }
}

/// The state of the control path at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// Minted once, 32 hexadecimal digits.
    pub node_uid: String,
    /// Counts the starts of this node, from 1.
    pub epoch: u64,
    /// `http://host:port`; `None`: none was named.
    pub control_plane: Option<String>,
    /// The build of the control plane; `None` before the first connection.
    pub control_plane_version: Option<String>,
    /// The stream stands and the control plane has welcomed this node.
    pub connected: bool,
    /// When `connected` last changed; at first, when the process started.
    pub since: SystemTime,
    /// Why the last connection ended or could not be made; `None` while connected.
    pub last_error: Option<String>,
    /// What runs; `None`: nothing was ever applied.
    pub applied: Option<Applied>,
    /// What was refused since; `None`: nothing.
    pub refused: Option<RefusedVersion>,
}

/// A running configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Which.
    pub version: AppliedVersion,
    /// Since when, in this process.
    pub since: SystemTime,
    /// It is on disk: a restart serves the same. False after the disk refused it.
    pub durable: bool,
}

/// A configuration that this node does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedVersion {
    /// Which.
    pub version: AppliedVersion,
    /// Every reason, for people.
    pub reasons: Vec<String>,
}

impl LinkStatus {
    pub(super) fn new(identity: &Identity, control: Option<&http::Uri>) -> Self {
        Self {
            node_uid: identity.uid_hex(),
            epoch: identity.epoch,
            control_plane: control.map(ToString::to_string),
            control_plane_version: None,
            connected: false,
            since: identity.started_at,
            last_error: None,
            applied: None,
            refused: None,
        }
    }
}

pub(super) fn connected(link: &watch::Sender<LinkStatus>, version: &str) {
    link.send_modify(|status| {
        status.connected = true;
        status.since = SystemTime::now();
        status.last_error = None;
        status.control_plane_version = Some(version.to_owned());
    });
}

pub(super) fn disconnected(link: &watch::Sender<LinkStatus>, ended: &Ended) {
    link.send_modify(|status| {
        if status.connected {
            status.since = SystemTime::now();
        }
        status.connected = false;
        status.last_error = ended.reason();
    });
}
