//! What a result of a tool says of the store it came from: `_meta["dev.only1/failover"]`. Pure.

use super::Standing;
use crate::{
    mcp::{Message, json},
    plan::{Backup, Upstream},
};
use bytes::Bytes;
use o1_proto::model::{BreakerState, FailoverMetadata, Phase, Store, Verdict};
use std::time::SystemTime;

/// The key in `_meta` of a result.
pub const META_FAILOVER: &str = "dev.only1/failover";

/// Who answers, as clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The primary.
    Primary,
    /// The endpoints of the backup.
    Backup,
    /// What the node kept of the primary's answers.
    Snapshot,
}

impl Source {
    /// Who is meant by a store of this upstream.
    #[must_use]
    pub fn of(store: Store, upstream: &Upstream) -> Self {
        match (store, &upstream.backup) {
            (Store::Primary, _) => Self::Primary,
            (Store::Backup, Some(Backup::Snapshot)) => Self::Snapshot,
            (Store::Backup, _) => Self::Backup,
        }
    }

    /// As people and programs read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
            Self::Snapshot => "snapshot",
        }
    }
}

/// An answer, as far as clients are told where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Who gave it.
    pub by: Source,
    /// What was read may be older than what the active store has.
    pub stale: bool,
    /// What was written is kept for the primary.
    pub journaled: bool,
}

impl Answer {
    /// What a store answered to a read.
    #[must_use]
    pub fn read(store: Store, upstream: &Upstream, standing: &Standing) -> Self {
        let by = Source::of(store, upstream);
        let behind = by == Source::Backup && standing.active == Store::Primary;
        Self { by, stale: by == Source::Snapshot || behind, journaled: false }
    }

    /// What a store answered to a write, and whether that write is kept for the primary.
    #[must_use]
    pub fn write(store: Store, upstream: &Upstream, journaled: bool) -> Self {
        Self { by: Source::of(store, upstream), stale: false, journaled }
    }
}

/// The value for a result of a tool, if one is due: never of an upstream without a backup. `primary` is what is known
/// of the primary, see [`super::Health::words`].
#[must_use]
pub fn mark(
    rule: FailoverMetadata,
    upstream: &Upstream,
    standing: &Standing,
    primary: (Verdict, BreakerState),
    answer: Answer,
) -> Option<Bytes> {
    upstream.backup.as_ref()?;
    let away = answer.by != Source::Primary || standing.is_away();
    match rule {
        FailoverMetadata::Always => {}
        FailoverMetadata::DuringFailover if away => {}
        FailoverMetadata::DuringFailover | FailoverMetadata::Never => return None,
    }
    Some(meta(upstream, standing, primary, answer))
}

/// The JSON value that says which store a result came from.
#[must_use]
pub fn meta(
    upstream: &Upstream,
    standing: &Standing,
    primary: (Verdict, BreakerState),
    answer: Answer,
) -> Bytes {
    let value = serde_json::json!({
        "upstream": upstream.name,
        "backupMode": answer.by != Source::Primary,
        "activeStore": Source::of(standing.active, upstream).word(),
        "primaryHealthy": works(primary),
        "phase": standing.phase.word(),
        "since": standing.since.and_then(rfc3339),
        "stale": answer.stale,
        "journaled": answer.journaled,
    });
    value.to_string().into()
}

/// Whether a store works, as far as anybody knows. While its breaker is open no call gets to it.
fn works((verdict, breaker): (Verdict, BreakerState)) -> Option<bool> {
    match (verdict, breaker) {
        (_, BreakerState::Open) | (Verdict::Unhealthy, _) => Some(false),
        (Verdict::Healthy, _) => Some(true),
        (Verdict::Unknown, _) => None,
    }
}

/// `2026-11-22T17:02:11.25Z`; `None` for a time that no calendar has.
#[must_use]
pub fn rfc3339(time: SystemTime) -> Option<String> {
    let timestamp = jiff::Timestamp::try_from(time).ok()?;
    timestamp.round(jiff::Unit::Millisecond).ok().map(|timestamp| timestamp.to_string())
}

impl Standing {
    /// Whether something other than the primary answers anything.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.active != Store::Primary || self.reads != Store::Primary || self.phase == Phase::Provisional
    }
}

/// The message with this value in the `_meta` of its result, in the place of what stood there under the same key.
/// What has no result, or one that is no object, stays as it is.
#[must_use]
pub fn put(message: &Message, value: &[u8]) -> Message {
    let text = message.bytes();
    let Some(result) = message.result().filter(|at| text[at.start] == b'{') else { return message.clone() };
    let member = || [&json::quote(META_FAILOVER)[..], b":", value].concat();
    let edits = match json::member(text, &result, "_meta") {
        Ok(Some(at)) if text[at.start] == b'{' => {
            json::revise(text, &at, &[META_FAILOVER], &[(META_FAILOVER, value)])
        }
        // Servers exist that write every member of their model.
        Ok(Some(at)) if &text[at.clone()] == b"null" => Ok(vec![(at, [b"{", &member()[..], b"}"].concat())]),
        Ok(None) => {
            let meta = [&br#""_meta":{"#[..], &member(), b"}"].concat();
            json::inserted(text, &result, &String::from_utf8_lossy(&meta)).map(|edit| vec![edit])
        }
        Ok(Some(_)) | Err(_) => return message.clone(),
    };
    edits.map_or_else(|_| message.clone(), |edits| message.spliced(edits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn upstream(backup: Option<Backup>) -> Upstream {
        Upstream { backup, ..Upstream::bare("x") }
    }

    const NOTHING: (Verdict, BreakerState) = (Verdict::Unknown, BreakerState::Closed);

    fn standing(active: Store, reads: Store, phase: Phase) -> Standing {
        Standing { active, reads, phase, ..Standing::default() }
    }

    #[test]
    fn a_result_says_who_answered_and_how_things_stand() {
        let x = upstream(Some(Backup::Snapshot));
        let since = Some(UNIX_EPOCH + Duration::from_millis(1_795_366_931_250));
        let away = Standing { since, ..standing(Store::Backup, Store::Backup, Phase::Backup) };
        let answer = Answer::read(Store::Backup, &x, &away);
        let told = meta(&x, &away, (Verdict::Healthy, BreakerState::Open), answer);
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&told).unwrap(),
            serde_json::json!({
                "upstream": "x", "backupMode": true, "activeStore": "snapshot", "primaryHealthy": false,
                "phase": "backup", "since": "2026-11-22T17:02:11.25Z", "stale": true, "journaled": false,
            })
        );
        let home = Standing::default();
        let told = meta(&x, &home, NOTHING, Answer::write(Store::Primary, &x, false));
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        assert_eq!((&told["primaryHealthy"], &told["since"]), (&().into(), &().into()));
        assert_eq!((&told["activeStore"], &told["backupMode"]), (&"primary".into(), &false.into()));
    }

    #[test]
    fn a_read_is_stale_when_the_active_store_may_know_better() {
        let peer = upstream(Some(Backup::Endpoints(upstream(None).into())));
        let copy = upstream(Some(Backup::Snapshot));
        let provisional = standing(Store::Primary, Store::Backup, Phase::Provisional);
        let away = standing(Store::Backup, Store::Backup, Phase::Backup);
        for (upstream, standing, store, stale) in [
            (&peer, &provisional, Store::Backup, true),
            (&peer, &provisional, Store::Primary, false),
            (&peer, &away, Store::Backup, false),
            (&copy, &away, Store::Backup, true),
        ] {
            assert_eq!(Answer::read(store, upstream, standing).stale, stale, "{store:?} {standing:?}");
        }
        assert!(!Answer::write(Store::Backup, &copy, true).stale, "nothing was read");
    }

    #[test]
    fn results_are_marked_when_the_rule_says_so_and_only_where_there_is_a_backup() {
        use FailoverMetadata::{Always, DuringFailover, Never};
        let with = upstream(Some(Backup::Snapshot));
        let home = Standing::default();
        let provisional = standing(Store::Primary, Store::Backup, Phase::Provisional);
        let due = |rule, upstream: &Upstream, standing: &Standing, store| {
            mark(rule, upstream, standing, NOTHING, Answer::read(store, upstream, standing)).is_some()
        };
        for (rule, standing, store, expected) in [
            (Always, &home, Store::Primary, true),
            (DuringFailover, &home, Store::Primary, false),
            (DuringFailover, &provisional, Store::Primary, true),
            (DuringFailover, &provisional, Store::Backup, true),
            (DuringFailover, &home, Store::Backup, true),
            (Never, &provisional, Store::Backup, false),
        ] {
            assert_eq!(due(rule, &with, standing, store), expected, "{rule:?} {standing:?} {store:?}");
        }
        assert!(!due(Always, &upstream(None), &home, Store::Primary));
    }

    #[test]
    fn the_value_comes_into_the_result_and_nothing_else_changes() {
        let put = |text: &str| {
            let message = Message::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap();
            String::from_utf8(put(&message, b"{\"x\":1}").bytes().to_vec()).unwrap()
        };
        let whole =
            |result: &str| format!(r#"{{"jsonrpc": "2.0","result":{result} ,"id":1.}}"#).replace("1.", "1");
        for (before, after) in [
            (r#"{"content":[ 1.10 ]}"#, r#"{"_meta":{"dev.only1/failover":{"x":1}},"content":[ 1.10 ]}"#),
            ("{ }", r#"{"_meta":{"dev.only1/failover":{"x":1}} }"#),
            (r#"{"a":1, "_meta":null}"#, r#"{"a":1, "_meta":{"dev.only1/failover":{"x":1}}}"#),
            (r#"{"_meta":{"k": 1}}"#, r#"{"_meta":{"dev.only1/failover":{"x":1},"k": 1}}"#),
            (r#"{"_meta":{}}"#, r#"{"_meta":{"dev.only1/failover":{"x":1}}}"#),
            (
                r#"{"_meta":{"dev.only1/failover":{"old":[2]},"k":1}}"#,
                r#"{"_meta":{"dev.only1/failover":{"x":1},"k":1}}"#,
            ),
        ] {
            assert_eq!(put(&whole(before)), whole(after));
        }
        for unchanged in [r#"{"_meta":{},"_meta":{}}"#, r#"{"_meta":7}"#, "[1]", "null", "\"text\""] {
            assert_eq!(put(&whole(unchanged)), whole(unchanged));
        }
        let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m","_meta":{}}}"#;
        assert_eq!(put(error), error);
    }
}
