//! The first words with a server, per era, and what its answer says about the eras it speaks.

use crate::{
    failure::{Failure, Kind},
    mcp::{Era, Message, era, json, method, own, rpc},
};
use bytes::Bytes;

/// Errors that a legacy client can only get from a server that speaks modern revisions alone.
const MODERN_ONLY: [i64; 4] = [-32020, -32021, -32022, -32601];

/// The request that opens a process of our own in this era.
pub(super) fn opening(era: Era) -> Message {
    match era {
        Era::Legacy => own::initialize(b"0", era::LEGACY[0], "{}"),
        Era::Modern => {
            let params = format!(r#"{{"_meta":{}}}"#, own::envelope(era::MODERN[0], "{}"));
            Message::parse(&rpc::request(b"0", method::DISCOVER, params.as_bytes()))
                .expect("our own request is a message")
        }
    }
}

/// What a legacy client says once `initialize` is answered.
pub(super) fn initialized() -> Bytes {
    rpc::notification(method::INITIALIZED, None)
}

/// Whether the answer to the opening of `era` lets us go on.
///
/// # Errors
/// `WrongEra` if the server speaks the other one, `Protocol` if it refuses for another reason.
pub(super) fn accept(name: &str, era: Era, answer: &Message) -> Result<(), Failure> {
    match (era, answer.error()) {
        (Era::Legacy, None) => Ok(()),
        (Era::Legacy, Some(error)) => {
            let (code, words) = read_error(answer, &error);
            if code.is_some_and(|code| MODERN_ONLY.contains(&code)) {
                return Err(wrong_era(name, era).because(words));
            }
            Err(Failure::new(Kind::Protocol, format!("{name} refused to initialize: {words}")))
        }
        (Era::Modern, None) if discovers_modern(answer) => Ok(()),
        (Era::Modern, None) => Err(wrong_era(name, era).because("it lists only other revisions")),
        // A fallback must not be keyed to one code: servers answer an unknown first request in many ways.
        (Era::Modern, Some(error)) => Err(wrong_era(name, era).because(read_error(answer, &error).1)),
    }
}

/// The server does not speak `era`.
pub(super) fn wrong_era(name: &str, era: Era) -> Failure {
    let words = match era {
        Era::Legacy => format!("{name} does not speak the revisions up to {}", era::LEGACY[0]),
        Era::Modern => format!("{name} does not speak revision {}", era::MODERN[0]),
    };
    Failure::new(Kind::WrongEra, words)
}

fn discovers_modern(answer: &Message) -> bool {
    let text = answer.bytes();
    let versions =
        answer.result().and_then(|result| json::find(text, &result, &["supportedVersions"]).ok()?);
    let versions = versions.and_then(|versions| json::items(text, &versions).ok()).unwrap_or_default();
    versions.iter().any(|span| json::string(text, span).is_some_and(|v| era::MODERN.contains(&&*v)))
}

/// Code and words of an error. The words are the server's own, cut to a length that fits a log line.
fn read_error(answer: &Message, error: &json::Span) -> (Option<i64>, String) {
    let text = answer.bytes();
    let member = |key| json::find(text, error, &[key]).ok().flatten();
    let code = member("code").and_then(|span| std::str::from_utf8(&text[span]).ok()?.parse().ok());
    let words = member("message").and_then(|span| json::string(text, &span)).unwrap_or_default();
    (code, words.chars().take(200).collect())
}
