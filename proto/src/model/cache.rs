//! What is kept of answers, and for how long.

use super::shown;
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// A part of the cache, by kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Results of tools that the operator named.
    Tools,
    /// Answers to `resources/read`.
    Resources,
    /// Lists, `server/discover`, and prompts that the operator named.
    Catalogue,
}

impl Tier {
    /// Every tier.
    pub const ALL: [Self; 3] = [Self::Tools, Self::Resources, Self::Catalogue];

    /// Its word in configuration, metrics and commands.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::Catalogue => "catalogue",
        }
    }

    /// Its place in [`Tier::ALL`].
    #[must_use]
    pub fn at(self) -> usize {
        self as usize
    }
}

/// The limits of every tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caching {
    /// See [`Tier::Tools`].
    pub tools: TierLimits,
    /// See [`Tier::Resources`].
    pub resources: TierLimits,
    /// See [`Tier::Catalogue`].
    pub catalogue: TierLimits,
}

impl Caching {
    /// The limits of one tier.
    #[must_use]
    pub fn tier(&self, tier: Tier) -> &TierLimits {
        match tier {
            Tier::Tools => &self.tools,
            Tier::Resources => &self.resources,
            Tier::Catalogue => &self.catalogue,
        }
    }
}

/// What one tier holds on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TierLimits {
    /// The longest life that a server's `ttlMs` may claim, and the life of what an operator has cached without
    /// saying for how long.
    #[serde(serialize_with = "shown::duration")]
    pub ttl: Duration,
    /// The most answers; at least 1.
    pub entries: u32,
    /// The most bytes of answers; at least 1. An answer larger than an eighth of it is not kept.
    pub bytes: u64,
    /// Who makes room.
    pub eviction: Eviction,
    /// After its life an answer still serves for this long where the server fails.
    #[serde(serialize_with = "shown::duration")]
    pub stale_if_error: Duration,
    /// After its life an answer still serves for this long while a new one is fetched.
    #[serde(serialize_with = "shown::duration")]
    pub stale_while_revalidate: Duration,
}

impl Default for Caching {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let tier = |ttl, entries, bytes: u64, stale_if_error| TierLimits {
            ttl,
            entries,
            bytes: bytes << 20,
            eviction: Eviction::TinyLfu,
            stale_if_error,
            stale_while_revalidate: Duration::ZERO,
        };
        Self {
            tools: tier(minutes(5), 1000, 64, Duration::ZERO),
            resources: tier(minutes(30), 500, 64, Duration::ZERO),
            catalogue: tier(minutes(120), 200, 64, minutes(5)),
        }
    }
}

/// Who makes room in a full tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Eviction {
    /// What is asked for least often; what is new must be asked for more often than what it would replace.
    #[default]
    TinyLfu,
    /// What nobody asked for longest.
    Lru,
}

/// What of one upstream is cached where its own word is not enough.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CacheRules {
    /// Tools whose results are kept, by the upstream's own name; `*` stands for any characters.
    pub tools: BTreeMap<String, Life>,
    /// The same for prompts.
    pub prompts: BTreeMap<String, Life>,
    /// The same for resources, by URI.
    pub resources: BTreeMap<String, Life>,
    /// Lists and `server/discover`; `None`: by the server's word.
    pub lists: Option<Life>,
    /// Who gets what was fetched for another.
    pub share: Share,
}

/// How long an answer is kept that an operator wants kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// As long as its tier keeps answers.
    Tier,
    /// This long. Zero: it is not kept, whatever the server says.
    For(#[serde(serialize_with = "shown::duration")] Duration),
}

/// Who gets an answer that was fetched for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// The same principal; everybody, where the server says `cacheScope: public`.
    #[default]
    Principal,
    /// Nobody beyond the legacy session, or the modern principal, that asked.
    Session,
    /// Everybody, whatever the server says.
    Everybody,
}

/// How list requests are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Batching {
    /// How long one waits for more; zero: not at all. At most 100 ms.
    #[serde(serialize_with = "shown::duration")]
    pub window: Duration,
    /// So many are sent without waiting any longer; at least 1.
    pub max: u32,
}

impl Default for Batching {
    fn default() -> Self {
        Self { window: Duration::ZERO, max: 10 }
    }
}
