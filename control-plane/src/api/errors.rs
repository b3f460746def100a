//! Failures → status codes. The one place that knows the codes.

use crate::{
    config::ChangeError,
    fleet::{AskError, HelloError, Lost},
    health::OrderError,
    stats::ReportError,
    store::StoreError,
};
use o1_proto::manifest::closest;
use std::{collections::BTreeSet, error::Error as _};
use tonic::Status;

/// Problems of a document that one message names.
const PROBLEMS: usize = 20;

/// The caller broke a rule of the contract. `what` names the field.
#[must_use]
pub fn invalid(what: impl Into<String>) -> Status {
    Status::invalid_argument(what)
}

/// The process stops; another call, elsewhere or later, may work.
#[must_use]
pub fn stopping() -> Status {
    Status::unavailable("the control plane stops: connect again in a moment")
}

/// Nodes that are not welcomed without a goodbye.
#[must_use]
pub fn hello(error: &HelloError) -> Status {
    match error {
        HelloError::Stopping => stopping(),
        HelloError::Full | HelloError::Goodbye(_) => {
            Status::resource_exhausted("this control plane knows as many nodes as it can hold")
        }
    }
}

/// Reports that do not count.
#[must_use]
pub fn report(error: ReportError) -> Status {
    Status::failed_precondition(error.to_string())
}

/// The store did not do as asked. Logged here, since the caller is told less.
#[must_use]
pub fn store(error: &StoreError) -> Status {
    let cause = error.source().map(ToString::to_string);
    tracing::error!(%error, cause, "a call failed");
    match error {
        StoreError::Slow { .. } | StoreError::Gone => Status::unavailable(error.to_string()),
        StoreError::Corrupt { .. }
        | StoreError::TooNew { .. }
        | StoreError::Open { .. }
        | StoreError::Failed { .. } => Status::internal(error.to_string()),
    }
}

/// A revision that nobody accepted; 0: none was.
#[must_use]
pub fn no_revision(number: u64) -> Status {
    Status::not_found(match number {
        0 => "no configuration has been accepted yet".to_owned(),
        number => format!("there is no revision {number}: ListConfigRevisions shows those that are"),
    })
}

/// Changes of the configuration that are not made.
#[must_use]
pub fn change(error: &ChangeError) -> Status {
    match error {
        ChangeError::OwnedBy(path) => Status::failed_precondition(format!(
            "the file {} says what the fleet runs: edit it, or start the control plane without --config",
            path.display()
        )),
        ChangeError::Invalid(problems) => {
            let listed: Vec<String> = problems.iter().take(PROBLEMS).map(ToString::to_string).collect();
            let more = match problems.len().saturating_sub(PROBLEMS) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            invalid(format!("document: {}{more}", listed.join("; ")))
        }
        ChangeError::Conflict(Some(version)) => Status::aborted(format!(
            "if_version: version {version} runs by now: look at what changed since, and decide again"
        )),
        ChangeError::Conflict(None) => Status::aborted("if_version: nothing runs yet"),
        ChangeError::NoRevision(number) => no_revision(*number),
        ChangeError::OtherRequest => invalid("request_id: it was another change before: choose a new one"),
        ChangeError::Store(error) => store(error),
        ChangeError::Busy => Status::resource_exhausted("as many changes wait as may: try again in a moment"),
        ChangeError::Stopping => stopping(),
    }
}

/// Nodes that cannot be asked.
#[must_use]
pub fn ask(error: &AskError, node_id: &str) -> Status {
    match error {
        AskError::NoNode(known) if known.is_empty() => {
            Status::not_found(format!("no node `{node_id}`: this control plane knows no node"))
        }
        AskError::NoNode(known) => {
            Status::not_found(format!("no node `{node_id}`; there are: {}", known.join(", ")))
        }
        AskError::NotConnected if node_id.is_empty() => Status::unavailable("no node is connected"),
        AskError::NotConnected => Status::unavailable(format!("node `{node_id}` is not connected")),
        AskError::Busy => Status::resource_exhausted("as many questions to nodes are open as may be"),
    }
}

/// An upstream that nobody knows; `known` are those that somebody does.
#[must_use]
pub fn unknown_upstream(name: &str, known: &BTreeSet<String>) -> Status {
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    let hint = match closest(name, known.iter().copied()) {
        Some(close) => format!("did you mean `{close}`?"),
        None if known.is_empty() => "there are none".to_owned(),
        None => format!("there are: {}", known.join(", ")),
    };
    Status::not_found(format!("no upstream is named `{name}`; {hint}"))
}

/// Orders that are not carried out.
#[must_use]
pub fn order(error: &OrderError, upstream: &str) -> Status {
    match error {
        OrderError::UnknownUpstream(known) => unknown_upstream(upstream, known),
        OrderError::NoBackup => Status::failed_precondition(format!(
            "`{upstream}` has no backup: give it one in the configuration, or `backup: snapshot`"
        )),
        OrderError::Term(term) => Status::aborted(format!(
            "the term of `{upstream}` is {term} by now: look at what was decided since, and order again"
        )),
        OrderError::Unusable(what) => {
            Status::failed_precondition(format!("{what}: order it with force if it shall serve all the same"))
        }
        OrderError::Pinned(store) => Status::failed_precondition(format!(
            "`{upstream}` is pinned to the {}: end that first",
            store.word()
        )),
        OrderError::OtherRequest(words) => {
            invalid(format!("request_id: it was another order before ({words}): choose a new one"))
        }
        OrderError::TooMany => Status::resource_exhausted(
            "as many orders with a request id were given today as can be remembered: order without one",
        ),
    }
}

/// Orders that were given and are not on disk in time.
#[must_use]
pub fn unsettled() -> Status {
    Status::unavailable(
        "the order could not be stored yet and no node has heard of it: the control plane goes on trying; ask \
         again with the same request_id",
    )
}

/// Answers that end before their end.
#[must_use]
pub fn lost(lost: Lost, node_id: &str) -> Status {
    match lost {
        Lost::Gone => {
            Status::unavailable(format!("node `{node_id}` went away before its answer was complete"))
        }
        Lost::Behind => Status::resource_exhausted("the answer was read too slowly: its rest is lost"),
    }
}
