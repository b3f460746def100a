//! For how long an answer is good, and for whom: by the word of the operator, then by the server's own. Pure.

use crate::mcp::{Message, json};
use o1_proto::model::{Life, TierLimits};
use std::time::Duration;

/// What a response says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Said {
    /// It is an error, or the result of a tool that failed.
    pub(super) failed: bool,
    /// There is no more to come, and nothing is asked.
    pub(super) complete: bool,
    /// `ttlMs`.
    pub(super) ttl: Option<Duration>,
    /// `cacheScope` is `public`.
    pub(super) public: bool,
}

/// Reads what a response says of itself.
pub(super) fn said(response: &Message) -> Said {
    let text = response.bytes();
    let Some(result) = response.result() else {
        return Said { failed: true, complete: true, ..Said::default() };
    };
    let mut said = Said { complete: true, ..Said::default() };
    let Ok(members) = json::members(text, &result) else {
        // A result that is no object says nothing.
        return said;
    };
    let mut seen = [false; 3];
    for (key, at) in members {
        let place = match &*key {
            "ttlMs" => {
                said.ttl = millis(&text[at]);
                0
            }
            "cacheScope" => {
                said.public = &text[at] == br#""public""#;
                1
            }
            "resultType" => {
                said.complete &= &text[at] == br#""complete""#;
                2
            }
            "isError" => {
                said.failed |= &text[at] == b"true";
                continue;
            }
            _ => continue,
        };
        // Two readers could see two answers: nobody else gets one.
        said.complete &= !std::mem::replace(&mut seen[place], true);
    }
    said
}

/// A number of milliseconds, however it is spelled; what is none, or negative, gives no life.
fn millis(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(whole) = text.parse() {
        return Some(Duration::from_millis(whole));
    }
    Duration::try_from_secs_f64(text.parse::<f64>().ok()? / 1000.0).ok()
}

/// How long an answer lives: by the operator's rule, else by the server's `ttlMs`, which its tier caps. `None`: it
/// is not kept.
pub(super) fn life(rule: Option<Life>, hint: Option<Duration>, limits: &TierLimits) -> Option<Duration> {
    let life = match (rule, hint) {
        (Some(Life::Tier), _) => limits.ttl,
        (Some(Life::For(life)), _) => life,
        (None, Some(hint)) => hint.min(limits.ttl),
        (None, None) => return None,
    };
    (!life.is_zero()).then_some(life)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use o1_proto::model::Caching;

    #[test]
    fn the_operator_overrules_the_server_and_the_tier_caps_the_server() {
        let secs = Duration::from_secs;
        let limits = TierLimits { ttl: secs(100), ..Caching::default().tools };
        for (rule, hint, expected) in [
            (None, None, None),
            (None, Some(0), None),
            (None, Some(7), Some(7)),
            (None, Some(1000), Some(100)),
            (Some(Life::Tier), None, Some(100)),
            (Some(Life::Tier), Some(7), Some(100)),
            (Some(Life::For(secs(500))), Some(7), Some(500)),
            (Some(Life::For(secs(0))), Some(7), None),
        ] {
            assert_eq!(life(rule, hint.map(secs), &limits), expected.map(secs), "{rule:?} {hint:?}");
        }
    }

    fn of(member: &str) -> Said {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,{member}}}"#);
        said(&Message::parse(&Bytes::from(text)).unwrap())
    }

    #[test]
    fn what_a_server_says_is_read_once_or_not_at_all() {
        let complete = || Said { complete: true, ..Said::default() };
        let ttl = |ms| Said { ttl: Some(Duration::from_millis(ms)), ..complete() };
        let failed = || Said { failed: true, ..complete() };
        let asks = Said::default;
        for (member, expected) in [
            (r#""result":{}"#, complete()),
            (r#""result":7"#, complete()),
            (r#""result":{"resultType":"complete","ttlMs":5}"#, ttl(5)),
            (r#""result":{"ttlMs":60000.0}"#, ttl(60_000)),
            (r#""result":{"ttlMs":6e4}"#, ttl(60_000)),
            (r#""result":{"ttlMs":-1}"#, complete()),
            (r#""result":{"ttlMs":"5"}"#, complete()),
            (r#""result":{"cacheScope":"public"}"#, Said { public: true, ..complete() }),
            (r#""result":{"cacheScope":"private"}"#, complete()),
            (r#""result":{"x":{"cacheScope":"public","isError":true}}"#, complete()),
            (r#""result":{"isError":true}"#, failed()),
            (r#""result":{"isError":false}"#, complete()),
            (r#""error":{"code":1,"message":"m","ttlMs":5}"#, failed()),
            (r#""result":{"resultType":"input_required"}"#, asks()),
            (r#""result":{"resultType":"task"}"#, asks()),
            (r#""result":{"cacheScope":"private","cacheScope":"private"}"#, asks()),
        ] {
            assert_eq!(of(member), expected, "{member}");
        }
        for doubled in [r#""ttlMs":1,"ttlMs":2"#, r#""resultType":"complete","resultType":"complete""#] {
            assert!(!of(&format!(r#""result":{{{doubled}}}"#)).complete, "{doubled}");
        }
    }
}
