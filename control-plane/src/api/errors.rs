//! Failures → status codes, and the same facts for programs: the details of `google.rpc`, in `grpc-status-details-bin`.
//! The one place that knows the codes.
//!
//! Every failure that is worded here has an `ErrorInfo` of the domain `only1` with a reason that never changes; beside
//! it `BadRequest` names fields, `PreconditionFailure` what is in the way, `ResourceInfo` what is not there, and
//! `RetryInfo` says that and when the same call may work.

use crate::{
    access::{Caller, Role},
    config::ChangeError,
    fleet::{AskError, HelloError, Lost},
    health::OrderError,
    stats::ReportError,
    store::StoreError,
};
use o1_proto::{manifest::closest, problem::Problem};
use std::{collections::BTreeSet, error::Error as _, time::Duration};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Problems of a document that one message names.
const PROBLEMS: usize = 20;
/// Bytes of one problem in a message, and of a text among the details or of a name in a message.
const PROBLEM: usize = 140;
const DETAIL: usize = 100;
/// Bytes of a field: `document:` and its path.
const FIELD: usize = 112;
/// Names that one message lists.
const NAMES: usize = 10;
/// Bytes that a message takes in the headers of an answer. Clients take 16 KiB of them in all, and what else is in the
/// details takes 6.
const MESSAGE: usize = 8 << 10;
/// Whose reasons they are.
const DOMAIN: &str = "only1";
/// When what is not possible now may be.
const SOON: Duration = Duration::from_secs(1);

/// A failure in the making.
struct Failed {
    code: Code,
    message: String,
    details: ErrorDetails,
}

impl Failed {
    /// `reason` is part of the contract.
    fn new(code: Code, reason: &str, message: impl Into<String>) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, DOMAIN, std::collections::HashMap::new());
        Self { code, message: message.into(), details }
    }

    fn of(code: Code, reason: &str, message: impl Into<String>) -> Status {
        Self::new(code, reason, message).into()
    }

    /// The same call may work later.
    fn again(mut self) -> Self {
        self.details.set_retry_info(Some(SOON));
        self
    }

    fn field(mut self, field: impl Into<String>, what: &str) -> Self {
        self.details.add_bad_request_violation(shortened(&field.into(), FIELD), shortened(what, DETAIL));
        self
    }

    /// What there is not.
    fn resource(mut self, kind: &str, name: &str) -> Self {
        self.details.set_resource_info(kind, shortened(name, DETAIL), "", "");
        self
    }

    /// What has to change first.
    fn precondition(mut self, kind: &str, subject: &str) -> Self {
        let what = shortened(&self.message, DETAIL);
        self.details.add_precondition_failure_violation(kind, shortened(subject, DETAIL), what);
        self
    }
}

impl From<Failed> for Status {
    fn from(failed: Failed) -> Self {
        Self::with_error_details(failed.code, fitting(failed.message), failed.details)
    }
}

/// A message that fits into the headers of an answer, where it is twice: percent-encoded, and among the details in
/// base64.
#[must_use]
pub fn fitting(mut message: String) -> String {
    let plain = |c: char| c.is_ascii_graphic() && !"\"#%<>`?{}".contains(c);
    // In thirds of a byte.
    let taken = |c: char| if plain(c) { 3 + 4 } else { c.len_utf8() * (9 + 4) };
    let (mut room, more) = (3 * MESSAGE - taken('…'), '…');
    let fits = |c: char| {
        room = room.checked_sub(taken(c))?;
        Some(c.len_utf8())
    };
    let end: usize = message.chars().map_while(fits).sum();
    if end < message.len() {
        message.truncate(end);
        message.push(more);
    }
    message
}

/// At most so many bytes of a text, and a sign that there were more.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// A name as a message repeats it: whoever calls may have sent any text.
fn name(text: &str) -> String {
    shortened(text, DETAIL)
}

/// The first of these names, each once, and how many there are beside them.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: BTreeSet<&str> = names.into_iter().collect();
    let first: Vec<String> = names.iter().take(NAMES).copied().map(name).collect();
    let first = first.join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// The caller broke a rule of the contract. `what` begins with the field: `page_size: -1 is negative`.
#[must_use]
pub fn invalid(what: impl Into<String>) -> Status {
    let what = what.into();
    let is_field = |field: &str| field.chars().all(|c| c.is_ascii_alphanumeric() || "_.[]".contains(c));
    let (field, said) = what.split_once(": ").filter(|(field, _)| is_field(field)).unwrap_or(("", &what));
    let (field, said) = (field.to_owned(), said.to_owned());
    Failed::new(Code::InvalidArgument, "INVALID_REQUEST", what).field(field, &said).into()
}

/// Nobody can tell who calls; `why`.
#[must_use]
pub fn unknown_caller(why: String) -> Status {
    Failed::of(Code::Unauthenticated, "UNKNOWN_CALLER", why)
}

/// The caller is known, and may not.
#[must_use]
pub fn denied(caller: &Caller, needed: Role, call: &str) -> Status {
    let who = caller.known.as_ref().map_or_else(String::new, |known| {
        format!(", and the {} of `{}` is that of the role {}", known.by, known.name, known.role.word())
    });
    let what = format!("{call} needs the role {}{who}", needed.word());
    Failed::of(Code::PermissionDenied, "ROLE_NEEDED", what)
}

/// A node speaks for another one.
#[must_use]
pub fn not_this_node(caller: &Caller, claimed: &str) -> Status {
    let own = caller.known.as_ref().map_or("", |known| &known.name);
    let what = format!(
        "this node calls itself `{claimed}`, and its certificate or token is that of the node `{own}`: start it with \
         --node-id {own}, or give it its own certificate"
    );
    Failed::of(Code::PermissionDenied, "OTHER_NODE", what)
}

/// A node shows the identity that another one minted.
#[must_use]
pub fn not_its_uid(claimed: &str, owner: &str) -> Status {
    let what = format!(
        "the state directory of this node belongs to the node `{owner}`, not to `{claimed}`: give it one of its own"
    );
    Failed::of(Code::PermissionDenied, "OTHER_NODE", what)
}

/// The process stops; another call, elsewhere or later, may work.
#[must_use]
pub fn stopping() -> Status {
    let what = "the control plane stops: connect again in a moment";
    Failed::new(Code::Unavailable, "STOPPING", what).again().into()
}

/// Nodes that are not welcomed without a goodbye.
#[must_use]
pub fn hello(error: &HelloError) -> Status {
    match error {
        HelloError::Stopping => stopping(),
        HelloError::Full | HelloError::Goodbye(_) => {
            let what = "this control plane knows as many nodes as it can hold";
            Failed::of(Code::ResourceExhausted, "TOO_MANY_NODES", what)
        }
    }
}

/// Reports that do not count.
#[must_use]
pub fn report(error: ReportError) -> Status {
    Failed::of(Code::FailedPrecondition, "REPORT_NOT_COUNTED", error.to_string())
}

/// The store did not do as asked. Logged here, since the caller is told less.
#[must_use]
pub fn store(error: &StoreError) -> Status {
    let cause = error.source().map(ToString::to_string);
    tracing::error!(%error, cause, "a call failed");
    match error {
        StoreError::Slow { .. } | StoreError::Gone => {
            Failed::new(Code::Unavailable, "STORE_UNAVAILABLE", error.to_string()).again().into()
        }
        StoreError::Corrupt { .. }
        | StoreError::TooNew { .. }
        | StoreError::Open { .. }
        | StoreError::Failed { .. } => Failed::of(Code::Internal, "STORE_FAILED", error.to_string()),
    }
}

/// A revision that nobody accepted; 0: none was.
#[must_use]
pub fn no_revision(number: u64) -> Status {
    let what = match number {
        0 => "no configuration has been accepted yet".to_owned(),
        number => format!("there is no revision {number}: ListConfigRevisions shows those that are"),
    };
    Failed::new(Code::NotFound, "NO_SUCH_REVISION", what).resource("revision", &number.to_string()).into()
}

/// As many changes are under way as may be.
#[must_use]
pub fn changes_wait() -> Status {
    let what = "as many changes wait as may: try again in a moment";
    Failed::new(Code::ResourceExhausted, "BUSY", what).again().into()
}

/// Changes of the configuration that are not made.
#[must_use]
pub fn change(error: &ChangeError) -> Status {
    match error {
        ChangeError::OwnedBy(path) => {
            let path = path.display().to_string();
            let what = format!(
                "the file {path} says what the fleet runs: edit it, or start the control plane without --config"
            );
            Failed::new(Code::FailedPrecondition, "OWNED_BY_FILE", what).precondition("owner", &path).into()
        }
        ChangeError::Invalid(problems) => invalid_document(problems),
        ChangeError::Conflict(Some(version)) => Failed::of(
            Code::Aborted,
            "VERSION_CONFLICT",
            format!(
                "if_version: version {version} runs by now: look at what changed since, and decide again"
            ),
        ),
        ChangeError::Conflict(None) => {
            Failed::of(Code::Aborted, "VERSION_CONFLICT", "if_version: nothing runs yet")
        }
        ChangeError::NoRevision(number) => no_revision(*number),
        ChangeError::OtherRequest => invalid("request_id: it was another change before: choose a new one"),
        ChangeError::Store(error) => store(error),
        ChangeError::Busy => changes_wait(),
        ChangeError::Stopping => stopping(),
    }
}

/// A document with problems, each of them a violation at its path.
fn invalid_document(problems: &[Problem]) -> Status {
    let listed: Vec<String> =
        problems.iter().take(PROBLEMS).map(|one| shortened(&one.to_string(), PROBLEM)).collect();
    let more = match problems.len().saturating_sub(PROBLEMS) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let what = format!("document: {}{more}", listed.join("; "));
    let failed = Failed::new(Code::InvalidArgument, "INVALID_DOCUMENT", what);
    let named = problems.iter().take(PROBLEMS);
    named
        .fold(failed, |failed, one| {
            failed.field(format!("document:{}", shortened(&one.path, DETAIL)), &one.what)
        })
        .into()
}

/// Nodes that cannot be asked.
#[must_use]
pub fn ask(error: &AskError, node_id: &str) -> Status {
    let no_node = |what| Failed::new(Code::NotFound, "NO_SUCH_NODE", what).resource("node", node_id).into();
    let node_id = &name(node_id);
    let away = |what: String| Failed::new(Code::Unavailable, "NODE_NOT_CONNECTED", what).again().into();
    match error {
        AskError::NoNode(known) if known.is_empty() => {
            no_node(format!("no node `{node_id}`: this control plane knows no node"))
        }
        AskError::NoNode(known) => {
            let known = listed(known.iter().map(String::as_str));
            no_node(format!("no node `{node_id}`; there are: {known}"))
        }
        AskError::NotConnected if node_id.is_empty() => away("no node is connected".to_owned()),
        AskError::NotConnected => away(format!("node `{node_id}` is not connected")),
        AskError::Busy => {
            let to = if node_id.is_empty() { "nodes".to_owned() } else { format!("node `{node_id}`") };
            let what = format!("as many questions to {to} are open as may be: try again in a moment");
            Failed::new(Code::ResourceExhausted, "BUSY", what).again().into()
        }
    }
}

/// An upstream that nobody knows; `known` are those that somebody does.
#[must_use]
pub fn unknown_upstream(asked: &str, known: &BTreeSet<String>) -> Status {
    let asked = name(asked);
    let known = || known.iter().map(String::as_str);
    let hint = match closest(&asked, known()) {
        Some(close) => format!("did you mean `{}`?", name(close)),
        None if known().next().is_none() => "there are none".to_owned(),
        None => format!("there are: {}", listed(known())),
    };
    let what = format!("no upstream is named `{asked}`; {hint}");
    Failed::new(Code::NotFound, "NO_SUCH_UPSTREAM", what).resource("upstream", &asked).into()
}

/// Orders that are not carried out.
#[must_use]
pub fn order(error: &OrderError, upstream: &str) -> Status {
    let blocked = |reason, what: String| {
        Failed::new(Code::FailedPrecondition, reason, what).precondition("upstream", upstream).into()
    };
    match error {
        OrderError::UnknownUpstream(known) => unknown_upstream(upstream, known),
        OrderError::NoBackup => blocked(
            "NO_BACKUP",
            format!("`{upstream}` has no backup: give it one in the configuration, or `backup: snapshot`"),
        ),
        OrderError::Term(term) => Failed::of(
            Code::Aborted,
            "TERM_CONFLICT",
            format!(
                "the term of `{upstream}` is {term} by now: look at what was decided since, and order again"
            ),
        ),
        OrderError::Unusable(what) => {
            blocked("STORE_UNUSABLE", format!("{what}: order it with force if it shall serve all the same"))
        }
        OrderError::Pinned(store) => {
            blocked("PINNED", format!("`{upstream}` is pinned to the {}: end that first", store.word()))
        }
        OrderError::OtherRequest(words) => {
            invalid(format!("request_id: it was another order before ({words}): choose a new one"))
        }
        OrderError::TooMany => Failed::of(
            Code::ResourceExhausted,
            "TOO_MANY_REQUEST_IDS",
            "as many orders with a request id were given today as can be remembered: order without one",
        ),
    }
}

/// Orders that were given and are not on disk in time.
#[must_use]
pub fn unsettled() -> Status {
    let what = "the order could not be stored yet and no node has heard of it: the control plane goes on trying; ask \
                again with the same request_id";
    Failed::new(Code::Unavailable, "NOT_STORED_YET", what).again().into()
}

/// Answers that end before their end.
#[must_use]
pub fn lost(lost: Lost, node_id: &str) -> Status {
    match lost {
        Lost::Gone => {
            let what = format!("node `{node_id}` went away before its answer was complete");
            Failed::new(Code::Unavailable, "NODE_WENT_AWAY", what).again().into()
        }
        Lost::Behind => {
            let what = "the answer was read too slowly: its rest is lost";
            Failed::of(Code::ResourceExhausted, "READ_TOO_SLOWLY", what)
        }
    }
}

/// A place among the events that there is not: before what is kept, or behind what there is.
#[must_use]
pub fn out_of_range(what: impl Into<String>) -> Status {
    Failed::of(Code::OutOfRange, "NO_SUCH_POSITION", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_wrong_is_named_to_programs() {
        for (said, field) in [
            ("page_size: -1 is negative", "page_size"),
            ("batch.events[3].seq: 0", "batch.events[3].seq"),
            ("the first message of a stream must be hello", ""),
            ("a word: and more", ""),
        ] {
            let status = invalid(said);
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, said));
            let violations = status.get_details_bad_request().unwrap().field_violations;
            assert_eq!(violations[0].field, field);
            assert_eq!(status.get_details_error_info().unwrap().reason, "INVALID_REQUEST");
        }
    }

    #[test]
    fn details_say_what_is_missing_what_is_in_the_way_and_when_to_come_again() {
        let known = BTreeSet::from(["files".to_owned()]);
        let status = unknown_upstream("fils", &known);
        assert_eq!(status.get_details_resource_info().unwrap().resource_name, "fils");
        let status = order(&OrderError::NoBackup, "files");
        let blocked = status.get_details_precondition_failure().unwrap().violations;
        assert_eq!(blocked[0].subject, "files");
        assert!(status.get_details_retry_info().is_none(), "the same call never works");
        assert_eq!(stopping().get_details_retry_info().unwrap().retry_delay, Some(SOON));
    }

    /// Metadata of an answer may take 16 KiB in all, the message and the details, in base64.
    #[test]
    fn the_worst_document_still_fits_into_a_header() {
        let problem = |n: usize| Problem {
            file: "only1.yaml".into(),
            line: 1,
            column: 1,
            rule: "unknown-key",
            path: format!("upstreams.{}[{n}]", "x".repeat(60)),
            what: "w ".repeat(2000),
            hint: String::new(),
        };
        for letter in ["w ", "ж", "界", "🦀", "% "] {
            let problem = |n| Problem { path: letter.repeat(300), what: letter.repeat(2000), ..problem(n) };
            let status = change(&ChangeError::Invalid((0..500).map(problem).collect()));
            assert!(in_headers(&status) < 15 << 10, "{letter}: {} bytes", in_headers(&status));
            assert_eq!(status.get_details_bad_request().unwrap().field_violations.len(), PROBLEMS);
        }
        let status = change(&ChangeError::Invalid((0..500).map(problem).collect()));
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert!(violations[19].field.ends_with("[19]"), "{violations:?}");
    }

    /// Bytes of the message and of the details as they are sent.
    fn in_headers(status: &Status) -> usize {
        let headers = status.clone().into_http::<()>().into_parts().0.headers;
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    #[test]
    fn ten_names_of_very_many_are_listed_and_a_text_that_fits_is_left_alone() {
        let many: Vec<String> = (0..20_000).map(|number| format!("node-{:05}", number / 2)).collect();
        let status = ask(&AskError::NoNode(many), "n");
        let first: Vec<_> = (0..10).map(|number| format!("node-{number:05}")).collect();
        let expected = format!("no node `n`; there are: {} and 9990 more", first.join(", "));
        assert_eq!(status.message(), expected);
        let many: BTreeSet<String> =
            (0..10_000).map(|number| format!("{}{number:05}", "ж".repeat(40))).collect();
        let status = unknown_upstream("x", &many);
        assert!(status.message().ends_with("00009 and 9990 more"), "{}", status.message());
        assert!(in_headers(&status) < 15 << 10, "{} bytes", in_headers(&status));
        let whole = "a word, ein Wört";
        assert_eq!(fitting(whole.to_owned()), whole);
    }

    #[test]
    fn what_a_caller_sends_is_never_repeated_at_length() {
        for text in ["x", " ", "ж", "🦀"].map(|letter| letter.repeat(100_000)) {
            let order = |error| order(&error, &text);
            let statuses = [
                ask(&AskError::NoNode(vec!["n1".to_owned()]), &text),
                ask(&AskError::NotConnected, &text),
                ask(&AskError::Busy, &text),
                lost(Lost::Gone, &text),
                unknown_upstream(&text, &BTreeSet::from(["files".to_owned()])),
                order(OrderError::UnknownUpstream(BTreeSet::new())),
                order(OrderError::NoBackup),
                order(OrderError::OtherRequest(text.clone())),
                invalid(format!("field: {text}")),
                invalid(format!("{text}: it is long")),
                out_of_range(text.clone()),
            ];
            for status in statuses {
                assert!(in_headers(&status) < 15 << 10, "{:.99}: {}", status.message(), in_headers(&status));
            }
        }
    }

    #[test]
    fn a_message_is_cut_where_a_letter_ends_and_says_so() {
        let cut = fitting("ж".repeat(100_000));
        assert!(cut.ends_with("ж…"), "{:.20}", cut);
        let took = |text: &str| text.len() * 3 + text.len() * 4 / 3;
        assert!(took(&cut) <= MESSAGE && took(&cut) > MESSAGE - 20, "{}", took(&cut));
    }
}
