//! Why there is no TLS between two processes, told apart and in words. "It" is always the other side.

use rustls::{AlertDescription, CertificateError, Error};
use std::{error, fmt, io, time::Duration};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Its certificate was made by an authority that is not trusted here.
    UnknownAuthority,
    /// Its certificate is over.
    Expired,
    /// Its certificate begins later.
    NotYetValid,
    /// Its certificate is for other names; those, as far as they are known.
    WrongName(Vec<String>),
    /// Its certificate is for the other side of a connection: a server's that a client shows, or the reverse.
    WrongPurpose,
    /// It showed no certificate.
    NoCertificate,
    /// It does not speak TLS.
    NotTls,
    /// It refused this side.
    Alert(Refusal),
    /// It was silent for so long.
    Silent(Duration),
    /// It closed the connection in the middle.
    Gone,
    /// Something else.
    Other(String),
}

/// What the other side has against this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It wants a certificate and was shown none.
    Required,
    /// It does not trust the authority.
    UnknownAuthority,
    /// The certificate that it was shown is over.
    Expired,
    /// It does not like the certificate for another reason.
    Bad,
    /// It finds no common version or cipher.
    Protocol,
}

impl Fault {
    /// What an error of a handshake, or of the first bytes after it, means. `None`: it is not about TLS.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        if let Some(fault) = error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
            return Some(fault.clone());
        }
        let inner = error.get_ref()?.downcast_ref::<Error>()?;
        Some(match inner {
            Error::InvalidCertificate(error) => certificate(error),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidMessage(_) => Self::NotTls,
            Error::AlertReceived(alert) => alerted(*alert),
            other => Self::Other(other.to_string()),
        })
    }

    /// The same of a handshake, in which every error is about it.
    #[must_use]
    pub fn of_handshake(error: &io::Error) -> Self {
        Self::of(error).unwrap_or_else(|| match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted => Self::Gone,
            _ => Self::Other(error.to_string()),
        })
    }

    /// The other side wants another certificate of this one, or one at all.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Alert(Refusal::Required | Refusal::UnknownAuthority | Refusal::Expired | Refusal::Bad)
        )
    }
}

fn certificate(error: &CertificateError) -> Fault {
    match error {
        // A wrong signature is an authority of the same name with another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Fault::UnknownAuthority,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Fault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Fault::NotYetValid,
        CertificateError::NotValidForName => Fault::WrongName(Vec::new()),
        CertificateError::NotValidForNameContext { presented, .. } => Fault::WrongName(presented.clone()),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Fault::WrongPurpose
        }
        other => Fault::Other(format!("its certificate is not valid: {other}")),
    }
}

fn alerted(alert: AlertDescription) -> Fault {
    Fault::Alert(match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => Refusal::Required,
        AlertDescription::UnknownCA | AlertDescription::DecryptError => Refusal::UnknownAuthority,
        AlertDescription::CertificateExpired => Refusal::Expired,
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked
        | AlertDescription::AccessDenied => Refusal::Bad,
        AlertDescription::HandshakeFailure
        | AlertDescription::ProtocolVersion
        | AlertDescription::NoApplicationProtocol
        | AlertDescription::InsufficientSecurity => Refusal::Protocol,
        other => return Fault::Other(format!("it ended the handshake with the alert {other:?}")),
    })
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownAuthority => "its certificate was made by an authority that is not trusted here",
            Self::Expired => "its certificate has expired",
            Self::NotYetValid => "its certificate is not valid yet: do the clocks agree?",
            Self::WrongName(names) if !names.is_empty() => {
                return write!(f, "its certificate is for another name: {}", names.join(", "));
            }
            Self::WrongName(_) => "its certificate is for another name",
            Self::WrongPurpose => "its certificate is not for this side of a connection",
            Self::NoCertificate => "it showed no certificate",
            Self::NotTls => "it does not speak TLS",
            Self::Alert(Refusal::Required) => "it wants a certificate and was shown none",
            Self::Alert(Refusal::UnknownAuthority) => {
                "it does not trust the authority of the certificate that it was shown"
            }
            Self::Alert(Refusal::Expired) => "the certificate that it was shown has expired",
            Self::Alert(Refusal::Bad) => "it refuses the certificate that it was shown",
            Self::Alert(Refusal::Protocol) => {
                "it speaks no version of TLS, or no protocol, that this side does"
            }
            Self::Silent(limit) => return write!(f, "no TLS handshake within {limit:?}"),
            Self::Gone => "it closed the connection during the handshake",
            Self::Other(what) => what,
        })
    }
}

impl error::Error for Fault {}
