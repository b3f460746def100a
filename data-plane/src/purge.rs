//! Forgetting on an operator's order: what is to be forgotten and what was, as plain facts that the control path
//! carries to the layers and back.

use o1_proto::model::Tier;

/// What is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// Answers of the upstream of this name; `None`: of all.
    pub upstream: Option<String>,
    /// Answers of this tier; `None`: of all.
    pub tier: Option<Tier>,
}

impl Order {
    /// Whether it concerns an upstream.
    #[must_use]
    pub fn concerns(&self, upstream: &str) -> bool {
        self.upstream.as_deref().is_none_or(|name| name == upstream)
    }

    /// Whether it concerns a tier.
    #[must_use]
    pub fn includes(&self, tier: Tier) -> bool {
        self.tier.is_none_or(|one| one == tier)
    }
}

/// What was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Answers.
    pub entries: u64,
    /// Their bytes, as the tiers count them.
    pub bytes: u64,
}

/// Whoever keeps answers.
pub trait Forget: Send + Sync + 'static {
    /// Forgets them, and those that are on their way.
    fn purge(&self, order: &Order) -> Purged;
}
