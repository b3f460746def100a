//! What every layer of the data path returns when there is no answer: who must act, what happened, in words
//! that may be shown to a caller. Matched by kind, never by text; `listener/respond.rs` alone turns one into a
//! status and a JSON-RPC error.

use http::StatusCode;
use std::{borrow::Cow, error::Error, fmt};

/// What happened, from a closed set. [`Kind::code`] is its word in logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The client's message breaks a rule of JSON-RPC or MCP (-32600).
    InvalidRequest,
    /// Parameters are missing or wrong (-32602).
    InvalidParams,
    /// No upstream offers the tool or prompt (-32602).
    UnknownName,
    /// No upstream owns the resource (legacy -32002, modern -32602).
    UnknownResource,
    /// The method does not exist here (-32601).
    UnknownMethod,
    /// The session is unknown, ended or somebody else's (404).
    UnknownSession,
    /// A session is needed and none was named (400).
    MissingSession,
    /// The session has its one GET stream already (409).
    StreamTaken,
    /// The client's era is not spoken on this route (400).
    WrongEra,
    /// No such route (404).
    UnknownRoute,
    /// The node holds as many sessions as it may (503).
    TooManySessions,
    /// The node is going away (503).
    Draining,
    /// No connection, no process, or it ended before it answered.
    Unreachable,
    /// The upstream did not answer in time; the call may have run.
    Timeout,
    /// The upstream's answer is not MCP.
    Protocol,
    /// The upstream no longer knows our session.
    SessionLost,
    /// The upstream has as many calls as it takes, and as many wait (503).
    Overloaded,
    /// The primary is away, and its backup takes no such write: nothing was done (503).
    ReadOnly,
    /// A fault of ours.
    Internal,
}

impl Kind {
    /// Every kind.
    #[cfg(test)]
    pub const ALL: [Self; 19] = [
        Self::InvalidRequest,
        Self::InvalidParams,
        Self::UnknownName,
        Self::UnknownResource,
        Self::UnknownMethod,
        Self::UnknownSession,
        Self::MissingSession,
        Self::StreamTaken,
        Self::WrongEra,
        Self::UnknownRoute,
        Self::TooManySessions,
        Self::Draining,
        Self::Unreachable,
        Self::Timeout,
        Self::Protocol,
        Self::SessionLost,
        Self::Overloaded,
        Self::ReadOnly,
        Self::Internal,
    ];

    /// What an HTTP status says of an upstream that sent no MCP answer with it.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            429 => Self::Overloaded,
            502..=504 => Self::Unreachable,
            _ => Self::Protocol,
        }
    }

    /// The word for logs and metric labels.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidParams => "invalid_params",
            Self::UnknownName => "unknown_name",
            Self::UnknownResource => "unknown_resource",
            Self::UnknownMethod => "unknown_method",
            Self::UnknownSession => "unknown_session",
            Self::MissingSession => "missing_session",
            Self::StreamTaken => "stream_taken",
            Self::WrongEra => "wrong_era",
            Self::UnknownRoute => "unknown_route",
            Self::TooManySessions => "too_many_sessions",
            Self::Draining => "draining",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::SessionLost => "session_lost",
            Self::Overloaded => "overloaded",
            Self::ReadOnly => "read_only",
            Self::Internal => "internal",
        }
    }
}

/// Why a call has no answer.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub kind: Kind,
    public: Cow<'static, str>,
    data: Option<serde_json::Value>,
    source: Option<Box<dyn Error + Send + Sync>>,
    unsent: bool,
    status: Option<StatusCode>,
}

impl Failure {
    /// `public` may be shown to the caller: no secrets, no addresses the caller has no business with.
    #[must_use]
    pub fn new(kind: Kind, public: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, public: public.into(), data: None, source: None, unsent: false, status: None }
    }

    /// The same of a request of which the upstream cannot have seen a byte.
    #[must_use]
    pub fn unsent(mut self) -> Self {
        self.unsent = true;
        self
    }

    /// The same of an upstream that did answer, by this HTTP status and no MCP message.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// The HTTP status that the upstream answered with in place of an MCP message; `None`: it is about something
    /// else, a connection that broke for one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// True when the upstream surely saw nothing of the request; false when nobody knows.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.unsent
    }

    /// The same, naming the upstream at fault: on a route of many the caller cannot know which one it was.
    #[must_use]
    pub fn at(mut self, upstream: &str) -> Self {
        if self.is_upstream() && !self.public.contains(upstream) {
            self.public = format!("{upstream}: {}", self.public).into();
        }
        self
    }

    /// Adds what the caller's program may want to know: `data` of a JSON-RPC error.
    #[must_use]
    pub fn with_data(mut self, data: serde_json::Value) -> Self {
        self.data = Some(data);
        self
    }

    /// See [`Failure::with_data`].
    #[must_use]
    pub fn data(&self) -> Option<&serde_json::Value> {
        self.data.as_ref()
    }

    /// Adds the cause, for the log only.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same once more, for another who waited for the same thing.
    #[must_use]
    pub fn again(&self) -> Self {
        let cause = self.source.as_deref().map(|source| {
            let chain = self.chain();
            let cause = chain.strip_prefix(&*self.public).and_then(|rest| rest.strip_prefix(": "));
            cause.map_or_else(|| source.to_string(), str::to_owned)
        });
        let data = self.data.clone();
        let (public, source) = (self.public.clone(), cause.map(Into::into));
        Self { kind: self.kind, public, data, source, unsent: self.unsent, status: self.status }
    }

    /// The words for the caller.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Everything, cause by cause, for the log and the status of an upstream.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.public.to_string();
        let mut next = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(source) = next {
            let said = source.to_string();
            if !text.ends_with(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            next = source.source();
        }
        text
    }

    /// True when the upstream, not the caller or the gateway, is at fault.
    #[must_use]
    pub fn is_upstream(&self) -> bool {
        matches!(
            self.kind,
            Kind::Unreachable | Kind::Timeout | Kind::Protocol | Kind::SessionLost | Kind::Overloaded
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
