//! The verdict on an update, in the words of the wire and of people.

use super::{
    AppliedVersion, LocalProblem,
    snapshot::{Outcome, Refusal},
};
use o1_proto::{
    convert::from_duration,
    wire::{
        ConfigAck, ConfigNack, ConfigVersion, Rejection, RejectionReason, ResourceKey, ResourceKind,
        sync_request::Msg,
    },
};

/// What to answer to the update with this nonce.
pub(super) fn verdict(nonce: u64, outcome: Outcome) -> Msg {
    match outcome {
        Outcome::Runs { version, took } => {
            Msg::ConfigAck(ConfigAck { nonce, applied: Some(version), apply_time: Some(from_duration(took)) })
        }
        Outcome::Refused(Refusal { version, running, rejections }) => {
            Msg::ConfigNack(ConfigNack { nonce, rejected: Some(version), running, rejections })
        }
    }
}

/// A problem the node found while it compiled the configuration.
pub(super) fn rejection(problem: LocalProblem) -> Rejection {
    let reason = if problem.local_dependency {
        RejectionReason::LocalDependency
    } else {
        RejectionReason::InvalidField
    };
    Rejection {
        resource: problem.upstream.map(|name| ResourceKey { kind: ResourceKind::Upstream.into(), name }),
        reason: reason.into(),
        field_path: problem.field,
        message: problem.what,
    }
}

/// A problem of the configuration as a whole.
pub(super) fn whole(reason: RejectionReason, message: impl Into<String>) -> Rejection {
    Rejection { resource: None, reason: reason.into(), field_path: String::new(), message: message.into() }
}

/// The same configuration may run here later without a change to it: what it lacks may be there after a
/// restart.
pub(super) fn passing(rejection: &Rejection) -> bool {
    matches!(rejection.reason(), RejectionReason::LocalDependency | RejectionReason::Internal)
}

/// `weather: headers.Authorization: the environment variable TOKEN is not set`
pub(super) fn describe(rejection: &Rejection) -> String {
    let name = rejection.resource.as_ref().map_or("", |key| &key.name);
    let parts = [name, &rejection.field_path, &rejection.message];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

/// A wire version as the rest of the node knows it.
pub(super) fn version(wire: &ConfigVersion) -> AppliedVersion {
    AppliedVersion {
        generation: wire.generation,
        revision: wire.revision,
        root_digest: wire.root_digest.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_reads_from_the_outside_in_and_leaves_out_what_is_empty() {
        let local = |upstream: Option<&str>, field: &str| {
            let upstream = upstream.map(str::to_owned);
            rejection(LocalProblem {
                upstream,
                field: field.into(),
                what: "is bad".into(),
                local_dependency: false,
            })
        };
        assert_eq!(describe(&local(Some("weather"), "headers.A")), "weather: headers.A: is bad");
        assert_eq!(describe(&local(Some("weather"), "")), "weather: is bad");
        assert_eq!(describe(&local(None, "")), "is bad");
    }

    #[test]
    fn what_is_missing_on_this_machine_is_told_apart_from_what_no_node_could_run() {
        let reason = |local_dependency| {
            let problem =
                LocalProblem { upstream: None, field: String::new(), what: String::new(), local_dependency };
            rejection(problem)
        };
        assert_eq!(reason(true).reason(), RejectionReason::LocalDependency);
        assert_eq!(reason(false).reason(), RejectionReason::InvalidField);
        assert!(passing(&reason(true)) && !passing(&reason(false)));
    }
}
