//! What client sessions that share one channel asked its server for: subscriptions are counted, log levels merged,
//! and each session sees its own only. Pure: it says what the server must be told, others tell it.

use crate::mcp::{Message, method};
use std::collections::{BTreeSet, HashMap};

/// From the most to the least verbose.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
/// What a session hears that never set a level.
const UNSET: usize = 1;
/// Subscriptions of one session.
const SUBSCRIPTIONS_MAX: usize = 1000;

/// A session at the channel.
pub(super) type Member = u64;

#[derive(Default)]
pub(super) struct Sharing {
    members: HashMap<Member, Wishes>,
    next: Member,
    /// The level the server was told last.
    told: Option<usize>,
}

#[derive(Default)]
struct Wishes {
    uris: BTreeSet<String>,
    level: Option<usize>,
}

/// What the server must be told when a session has gone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Nobody is subscribed to these any more.
    pub(super) unsubscribe: Vec<String>,
    /// Nobody needs a more verbose level than this one.
    pub(super) level: Option<&'static str>,
}

/// What becomes of a subscription.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Subscribed {
    /// The server must be told.
    First,
    /// It knows already.
    Already,
    /// The session has as many as it may.
    TooMany,
}

impl Sharing {
    pub(super) fn join(&mut self) -> Member {
        self.next += 1;
        self.members.insert(self.next, Wishes::default());
        self.next
    }

    pub(super) fn subscribe(&mut self, member: Member, uri: &str) -> Subscribed {
        let first = !self.is_wanted(uri);
        let wishes = self.members.entry(member).or_default();
        if wishes.uris.len() >= SUBSCRIPTIONS_MAX && !wishes.uris.contains(uri) {
            return Subscribed::TooMany;
        }
        wishes.uris.insert(uri.to_owned());
        if first { Subscribed::First } else { Subscribed::Already }
    }

    /// True when nobody is subscribed any more who was: the server must be told.
    pub(super) fn unsubscribe(&mut self, member: Member, uri: &str) -> bool {
        let had = self.members.get_mut(&member).is_some_and(|wishes| wishes.uris.remove(uri));
        had && !self.is_wanted(uri)
    }

    /// The level that the server must be told now, if any; an unknown level is the server's to refuse.
    pub(super) fn set_level(&mut self, member: Member, level: &str) -> Option<&str> {
        let level = LEVELS.iter().position(|known| *known == level)?;
        self.members.entry(member).or_default().level = Some(level);
        self.level_to_tell()
    }

    pub(super) fn leave(&mut self, member: Member) -> Left {
        let Some(wishes) = self.members.remove(&member) else { return Left::default() };
        let unsubscribe = wishes.uris.into_iter().filter(|uri| !self.is_wanted(uri)).collect();
        Left { unsubscribe, level: self.level_to_tell() }
    }

    /// Whether anybody is subscribed to anything.
    pub(super) fn is_subscribed(&self) -> bool {
        self.members.values().any(|wishes| !wishes.uris.is_empty())
    }

    /// Whether a message of the server that belongs to no request is for this session.
    pub(super) fn admits(&self, member: Member, message: &Message) -> bool {
        let Some(wishes) = self.members.get(&member) else { return false };
        let text = |path: &str| message.param_str(&[path]).ok().flatten();
        match message.method() {
            method::RESOURCES_UPDATED => {
                text("uri").is_some_and(|uri| wishes.uris.iter().any(|own| covers(own, &uri)))
            }
            method::MESSAGE => {
                let level = text("level").and_then(|level| LEVELS.iter().position(|known| *known == level));
                level.is_none_or(|level| level >= wishes.level.unwrap_or(UNSET))
            }
            _ => true,
        }
    }

    fn is_wanted(&self, uri: &str) -> bool {
        self.members.values().any(|wishes| wishes.uris.contains(uri))
    }

    /// The most verbose level that anybody asked for, unless the server has it.
    fn level_to_tell(&mut self) -> Option<&'static str> {
        let level = self.members.values().filter_map(|wishes| wishes.level).min()?;
        (self.told.replace(level) != Some(level)).then_some(LEVELS[level])
    }
}

/// An update may name a part of what was subscribed to (2025-11-25, "resources/updated").
fn covers(own: &str, updated: &str) -> bool {
    updated
        .strip_prefix(own)
        .is_some_and(|rest| rest.is_empty() || own.ends_with('/') || rest.starts_with(['/', '#', '?']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(method: &str, key: &str, value: &str) -> Message {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"{key}":"{value}"}}}}"#);
        Message::parse(&bytes::Bytes::from(text)).unwrap()
    }

    #[test]
    fn the_server_hears_of_the_first_subscriber_and_of_the_last_only() {
        let mut sharing = Sharing::default();
        let (a, b) = (sharing.join(), sharing.join());
        assert_eq!(sharing.subscribe(a, "x:1"), Subscribed::First);
        assert_eq!(sharing.subscribe(b, "x:1"), Subscribed::Already);
        assert_eq!(sharing.subscribe(b, "x:2"), Subscribed::First);
        assert!(!sharing.unsubscribe(a, "x:2"), "it never had this one");
        assert!(!sharing.unsubscribe(a, "x:1") && sharing.is_subscribed());
        assert_eq!(sharing.leave(b).unsubscribe, ["x:1", "x:2"]);
        assert!(!sharing.is_subscribed());
        for n in 0..SUBSCRIPTIONS_MAX {
            sharing.subscribe(a, &n.to_string());
        }
        assert_eq!(sharing.subscribe(a, "one more"), Subscribed::TooMany);
        assert_eq!(sharing.subscribe(a, "0"), Subscribed::Already);
    }

    #[test]
    fn updates_reach_those_who_asked_for_them() {
        let mut sharing = Sharing::default();
        let (a, b) = (sharing.join(), sharing.join());
        sharing.subscribe(a, "file:///dir");
        for (uri, expected) in [
            ("file:///dir", true),
            ("file:///dir/part", true),
            ("file:///directory", false),
            ("file:///", false),
        ] {
            let update = note(method::RESOURCES_UPDATED, "uri", uri);
            assert_eq!((sharing.admits(a, &update), sharing.admits(b, &update)), (expected, false), "{uri}");
        }
        let list = note(method::TOOLS_CHANGED, "x", "y");
        assert!(sharing.admits(a, &list) && sharing.admits(b, &list));
    }

    #[test]
    fn the_server_logs_for_the_most_curious_and_each_hears_its_own() {
        let mut sharing = Sharing::default();
        let (a, b, quiet) = (sharing.join(), sharing.join(), sharing.join());
        assert_eq!(sharing.set_level(a, "warning"), Some("warning"));
        assert_eq!(sharing.set_level(b, "debug"), Some("debug"));
        assert_eq!(sharing.set_level(a, "error"), None, "debug is still needed");
        let hears = |sharing: &Sharing, level| {
            [a, b, quiet].map(|one| sharing.admits(one, &note(method::MESSAGE, "level", level)))
        };
        assert_eq!(hears(&sharing, "debug"), [false, true, false]);
        assert_eq!(hears(&sharing, "info"), [false, true, true]);
        assert_eq!(hears(&sharing, "error"), [true, true, true]);
        assert_eq!(sharing.leave(b).level, Some("error"));
        assert_eq!(sharing.leave(quiet), Left::default());
    }
}
