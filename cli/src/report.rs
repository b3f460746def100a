//! How a command ends: its exit code, and the words for what went wrong. Nothing else words errors.

use crate::{
    connect::{Failure, Target},
    output::{
        page::{Line, Page, Style, harmless},
        span,
    },
    terminal::Terminal,
    verdict::Verdict,
};
use o1_process::tls::{Fault, fault::Refusal};
use std::{io, process::ExitCode};

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; what was asked about is as it should be.
    Healthy = 0,
    /// Something is not as it should be, or could not be done.
    Degraded = 1,
    /// A backup serves.
    FailoverActive = 2,
    /// The control plane gave no answer.
    Unreachable = 3,
    /// The answer is too old.
    Stale = 4,
    /// The control plane does not know the caller, or does not let the caller do this.
    Denied = 5,
    /// The command line makes no sense.
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Healthy => Self::Healthy,
            Verdict::Degraded => Self::Degraded,
            Verdict::FailoverActive => Self::FailoverActive,
            Verdict::Stale => Self::Stale,
        }
    }
}

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub enum Error {
    /// The command line makes no sense.
    Usage {
        /// What is wrong, lowercase, without a full stop.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A control plane did not answer as it should.
    Control {
        /// Where it should be.
        target: String,
        /// How.
        failure: Failure,
    },
    /// Something on this machine is in the way.
    Local {
        /// What is wrong, lowercase, without a full stop.
        what: String,
        /// What to do; may be empty.
        hint: String,
    },
    /// Output could not be written.
    Output(io::Error),
}

/// For `?` on writes.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Error {
    /// A control plane did not answer as it should.
    #[must_use]
    pub fn control(target: &Target, failure: Failure) -> Self {
        Self::Control { target: target.to_string(), failure }
    }

    /// The command line makes no sense.
    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), hint: hint.into() }
    }

    /// Something on this machine is in the way.
    pub fn local(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Local { what: what.into(), hint: hint.into() }
    }

    /// `o1ctl nodes | head`: the reader has seen enough, which is success.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What went wrong, and what to do about it (may be empty).
    #[must_use]
    pub fn words(&self) -> (String, String) {
        match self {
            Self::Usage { what, hint } | Self::Local { what, hint } => (what.clone(), hint.clone()),
            Self::Output(error) => (format!("cannot write the output: {error}"), String::new()),
            Self::Control { target, failure } => failure_words(target, failure),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. } => Exit::Usage,
            Self::Control { failure: Failure::Unauthorised(_) | Failure::Denied(_), .. } => Exit::Denied,
            Self::Control { failure: Failure::Tls(fault), .. } if fault.is_refusal() => Exit::Denied,
            Self::Control { failure: Failure::Files(_), .. } => Exit::Usage,
            Self::Control { .. } => Exit::Unreachable,
            Self::Local { .. } | Self::Output(_) => Exit::Degraded,
        }
    }

    /// Tells the user, and gives the exit code. Where even that cannot be written, the code must do.
    pub fn report(&self, terminal: &mut Terminal) -> Exit {
        if self.is_broken_pipe() {
            return Exit::Healthy;
        }
        let (what, hint) = self.words();
        let mut page = Page::default();
        page.push(Line::of("error:", Style::Bad).and(format!(" {what}"), Style::Plain));
        if !hint.is_empty() {
            page.gap();
            page.push(Line::of("hint:", Style::Bold).and(format!(" {hint}"), Style::Plain));
        }
        let text = page.paint(terminal.err.colour());
        let _unwritable = terminal.err.write(&text);
        self.exit()
    }
}

/// One sentence for a place where there is room for one.
#[must_use]
pub fn short(failure: &Failure) -> String {
    match failure {
        Failure::Unresolved { host, .. } => format!("the name `{host}` does not resolve"),
        Failure::Refused => "connection refused".to_owned(),
        Failure::Unroutable(why) | Failure::Lost(why) | Failure::Foreign(why) => harmless(why),
        Failure::NoConnection(limit) => format!("no connection within {}", limit_words(*limit)),
        Failure::NoAnswer(limit) => format!("no answer within {}", limit_words(*limit)),
        Failure::Files(why) => harmless(why),
        Failure::Tls(fault) => format!("no TLS: {}", harmless(&fault.to_string())),
        Failure::Encrypted => "it speaks TLS only".to_owned(),
        Failure::Unauthorised(why) => format!("it does not know who you are: {}", harmless(why)),
        Failure::Denied(why) => format!("not allowed: {}", harmless(why)),
        Failure::Broken { code, message } => format!("{code}: {}", harmless(message)),
    }
}

fn failure_words(target: &str, failure: &Failure) -> (String, String) {
    const START: &str = "is the control plane running? start it with o1-control-plane, or both planes with \
                         `o1ctl up`; name another one with --control or O1_CONTROL";
    let detail = short(failure);
    match failure {
        Failure::Unresolved { host, why } => (
            format!("the name `{host}` in {target} does not resolve: {}", harmless(why)),
            "check the spelling of --control or O1_CONTROL".to_owned(),
        ),
        Failure::Refused => (format!("nothing listens at {target} ({detail})"), START.to_owned()),
        Failure::NoConnection(_) => (
            format!("{target} cannot be reached: {detail}"),
            "is the machine up, and does a firewall drop the packets? --timeout waits longer".to_owned(),
        ),
        Failure::Unroutable(_) => {
            (format!("{target} cannot be reached: {detail}"), "check the address and the network".to_owned())
        }
        Failure::NoAnswer(_) => (
            format!("{target} accepts connections, but there is {detail}"),
            "the control plane hangs or is overloaded, or something else listens there; --timeout waits longer"
                .to_owned(),
        ),
        Failure::Foreign(_) => (
            format!("something answers at {target}, but it is not an only1 control plane: {detail}"),
            "--control wants the gRPC address of the control plane (its --listen, 7400 by default), not an \
             admin port or a client URL"
                .to_owned(),
        ),
        Failure::Files(why) => (
            format!("{target} cannot be spoken to: {}", harmless(why)),
            "check --ca, --cert and --key, or those of the profile".to_owned(),
        ),
        Failure::Tls(fault) => {
            (format!("no TLS with {target}: {}", harmless(&fault.to_string())), tls_hint(fault).to_owned())
        }
        Failure::Encrypted => (
            format!("{target} was spoken to in plaintext, and speaks TLS only"),
            "write https://, with --ca and what says who you are: --cert and --key, or a token".to_owned(),
        ),
        Failure::Unauthorised(why) => (
            format!("the control plane at {target} does not know who you are: {}", harmless(why)),
            "say it with --cert and --key, with --token-file or O1_TOKEN, or with a profile".to_owned(),
        ),
        Failure::Denied(why) => (
            format!("the control plane at {target} does not allow that: {}", harmless(why)),
            "ask somebody with that role, or for a certificate or token that has it".to_owned(),
        ),
        Failure::Lost(_) => (
            format!("the connection to {target} broke before the answer was complete: {detail}"),
            "the control plane may be restarting; try again".to_owned(),
        ),
        Failure::Broken { .. } => (
            format!("the control plane at {target} answered with an error: {detail}"),
            "its log says more".to_owned(),
        ),
    }
}

fn tls_hint(fault: &Fault) -> &'static str {
    match fault {
        Fault::UnknownAuthority => {
            "name the authority that made it with --ca; if that one did, somebody else answers there"
        }
        Fault::Expired => "renew it where the control plane runs: o1ctl certs renew",
        Fault::NotYetValid => "compare the clocks of both machines",
        Fault::WrongName(_) => {
            "connect by one of those names, or add this one to the certificate: o1ctl certs renew control-plane --host NAME"
        }
        Fault::WrongPurpose | Fault::NoCertificate => {
            "the control plane needs a server's certificate: o1ctl certs init"
        }
        Fault::NotTls => {
            "write http:// if it serves plaintext; --control wants the gRPC address of the control plane"
        }
        Fault::Alert(Refusal::Required) => "show one with --cert and --key, or with a profile",
        Fault::Alert(Refusal::UnknownAuthority | Refusal::Bad) => {
            "--cert must be made by the authority that the control plane's --client-ca names, for o1ctl"
        }
        Fault::Alert(Refusal::Expired) => "renew it: o1ctl certs renew",
        Fault::Alert(Refusal::Protocol) | Fault::Silent(_) | Fault::Gone | Fault::Other(_) => {
            "is it the control plane that answers there? its log says more"
        }
    }
}

fn limit_words(limit: std::time::Duration) -> String {
    if limit.as_millis().is_multiple_of(1000) {
        span::words(limit)
    } else {
        format!("{}ms", limit.as_millis())
    }
}
