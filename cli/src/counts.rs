//! What is counted of caches, endpoints and batches, as plain values. As with `model`, names here are what `--json`
//! prints.

use serde::Serialize;

/// One tier of the cache for one upstream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tier {
    /// `tools`, `resources` or `catalogue`.
    pub tier: &'static str,
    /// Look-ups answered by an entry within its life.
    pub hits: u64,
    /// Look-ups answered by an entry beyond its life.
    pub stale: u64,
    /// Look-ups that asked the upstream.
    pub misses: u64,
    /// Look-ups that waited for what another caller had asked.
    pub coalesced: u64,
    /// From 0 to 1 of all look-ups, the ones that an entry answered, stale or not; `None`: there were none.
    pub hit_ratio: Option<f64>,
    /// Entries that came.
    pub stored: u64,
    /// Answers that were not kept.
    pub skipped: Skips,
    /// Entries that left.
    pub evictions: Evictions,
    /// Entries that are there.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Answers that were not kept, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Skips {
    /// Nobody gave them a life.
    pub no_life: u64,
    /// Errors, or no answer.
    pub error: u64,
    /// The server wants to know more first, or works on it.
    pub not_complete: u64,
    /// Too large for the tier.
    pub too_large: u64,
    /// What they say may have changed since they were asked for.
    pub overtaken: u64,
}

/// Entries that left, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Evictions {
    /// Their life was over.
    pub expired: u64,
    /// Others needed the room.
    pub capacity: u64,
    /// What they said may have changed.
    pub invalidated: u64,
    /// Somebody asked for it.
    pub purged: u64,
    /// A newer answer took their place.
    pub replaced: u64,
    /// Their upstream, or their tier, is not what it was.
    pub configuration: u64,
}

impl Tier {
    /// How often it was asked.
    #[must_use]
    pub fn look_ups(&self) -> u64 {
        self.hits + self.stale + self.misses + self.coalesced
    }

    /// Whether anything ever happened in it.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.look_ups() + self.stored > 0
    }
}

impl Skips {
    /// With their words, as in metrics.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, u64); 5] {
        let Self { no_life, error, not_complete, too_large, overtaken } = *self;
        [
            ("no_life", no_life),
            ("error", error),
            ("not_complete", not_complete),
            ("too_large", too_large),
            ("overtaken", overtaken),
        ]
    }
}

impl Evictions {
    /// With their words, as in metrics.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, u64); 6] {
        let Self { expired, capacity, invalidated, purged, replaced, configuration } = *self;
        [
            ("expired", expired),
            ("capacity", capacity),
            ("invalidated", invalidated),
            ("purged", purged),
            ("replaced", replaced),
            ("configuration", configuration),
        ]
    }
}

/// One endpoint of an upstream, over all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Its URL or command.
    pub endpoint: String,
    /// Attempts that went there.
    pub picks: u64,
    /// Of these, still there.
    pub in_flight: u64,
    /// How often it was left out because it failed.
    pub ejections: u64,
    /// Of the attempts, those that were not the first of their call.
    pub retries: u64,
    /// Attempts that had to wait for a place.
    pub queued: u64,
    /// Of these, still waiting.
    pub waiting: u64,
    /// Attempts that got no place.
    pub refused: u64,
    /// Connected nodes that have it.
    pub nodes: u32,
    /// Of these, the ones that leave it out now.
    pub nodes_ejecting: u32,
}

/// One endpoint of an upstream, on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeEndpoint {
    /// As in [`Endpoint`], like all that follows.
    pub endpoint: String,
    /// Attempts that went there.
    pub picks: u64,
    /// Of these, still there.
    pub in_flight: u64,
    /// How often it was left out.
    pub ejections: u64,
    /// It is left out now.
    pub ejected: bool,
    /// Attempts that were not the first of their call.
    pub retries: u64,
    /// Attempts that had to wait for a place.
    pub queued: u64,
    /// Of these, still waiting.
    pub waiting: u64,
    /// Attempts that got no place.
    pub refused: u64,
}

/// Requests that were sent for callers who waited together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Default)]
pub struct Batches {
    /// How many.
    pub batches: u64,
    /// In all of them.
    pub callers: u64,
    /// Sum of the times that the first callers waited for others.
    pub waited_ms: f64,
}

/// What became of an order to forget, on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// Who.
    pub node_id: String,
    /// What became of it there.
    pub done: Purged,
}

/// What became of an order to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purged {
    /// The node forgot this much.
    Purged {
        /// Answers.
        entries: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// It serves no such upstream, and so keeps nothing of it.
    Absent,
    /// It forgot nothing, or it is not known what.
    Failed {
        /// Why.
        error: String,
    },
}
