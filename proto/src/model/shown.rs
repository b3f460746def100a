//! The configuration as `/settings` shows it: durations as people write them, and nothing that may be a secret. Of a
//! URL user, password and query are left out, of a command its arguments, of a header or variable a literal value, of
//! a token its hash.

use super::{Reference, TokenHash};
use serde::{Serialize, Serializer};
use std::time::Duration;

const REDACTED: &str = "<redacted>";

/// The shortest spelling that a configuration takes, such as `500ms` or `2h`.
#[must_use]
pub fn spell(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, of) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= of && millis.is_multiple_of(of) {
            return format!("{}{unit}", millis / of);
        }
    }
    format!("{millis}ms")
}

/// See [`spell`].
///
/// # Errors
/// Those of the serializer.
pub fn duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&spell(*duration))
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(super) fn maybe_duration<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(spell).serialize(serializer)
}

pub(super) fn url<S: Serializer>(url: &http::Uri, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&plain(url))
}

/// A URL without user, password and query, or null.
///
/// # Errors
/// Those of the serializer.
pub fn maybe_url<S: Serializer>(url: &Option<http::Uri>, serializer: S) -> Result<S::Ok, S::Error> {
    url.as_ref().map(plain).serialize(serializer)
}

fn plain(url: &http::Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let query = if url.query().is_some() { "?<redacted>" } else { "" };
    format!("{}://{host}{}{query}", url.scheme_str().unwrap_or("http"), url.path())
}

pub(super) fn command<S: Serializer>(command: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    let arguments = command.iter().skip(1).map(|_| REDACTED);
    serializer.collect_seq(command.iter().take(1).map(String::as_str).chain(arguments))
}

impl Serialize for Reference {
    /// Where the value is, never the value.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Literal(_) => serializer.serialize_str(REDACTED),
            Self::Env(_) | Self::File(_) => serializer.serialize_str(&self.spelling()),
        }
    }
}

impl Serialize for TokenHash {
    /// By which function, never the hash: it says something where the token was easy to guess.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Blake3(_) => "blake3 <redacted>",
            Self::Sha256(_) => "sha256 <redacted>",
        })
    }
}
