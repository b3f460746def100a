//! [`Caching`], [`CacheRules`] and [`Batching`] ↔ wire.

use super::{At, duration, duration_or, from_duration};
use crate::{
    model::{Batching, CacheRules, Caching, Eviction, Life, Share, TierLimits},
    wire::{self, RejectionReason},
};
use std::{collections::BTreeMap, time::Duration};

/// The widest batching window; a list waits for it.
const WIDEST_WINDOW: Duration = Duration::from_millis(100);

/// Nothing where every tier has its defaults.
pub(super) fn encode(caching: &Caching) -> Option<wire::CacheSettings> {
    let tier = |limits: &TierLimits| {
        Some(wire::CacheTier {
            ttl: Some(from_duration(limits.ttl)),
            entries: limits.entries,
            bytes: limits.bytes,
            eviction: match limits.eviction {
                Eviction::TinyLfu => wire::Eviction::TinyLfu,
                Eviction::Lru => wire::Eviction::Lru,
            }
            .into(),
            stale_if_error: Some(from_duration(limits.stale_if_error)),
            stale_while_revalidate: Some(from_duration(limits.stale_while_revalidate)),
        })
    };
    let Caching { tools, resources, catalogue } = caching;
    (*caching != Caching::default()).then(|| wire::CacheSettings {
        tools: tier(tools),
        resources: tier(resources),
        catalogue: tier(catalogue),
    })
}

pub(super) fn decode(at: &mut At<'_>, payload: &[u8]) -> Option<Caching> {
    let wire: wire::CacheSettings = at.message(payload)?;
    let default = Caching::default();
    Some(Caching {
        tools: tier(at, "tools", wire.tools, default.tools),
        resources: tier(at, "resources", wire.resources, default.resources),
        catalogue: tier(at, "catalogue", wire.catalogue, default.catalogue),
    })
}

fn tier(at: &mut At<'_>, name: &str, wire: Option<wire::CacheTier>, default: TierLimits) -> TierLimits {
    let Some(wire) = wire else { return default };
    let eviction = match wire::Eviction::try_from(wire.eviction) {
        Ok(wire::Eviction::Unspecified) => default.eviction,
        Ok(wire::Eviction::TinyLfu) => Eviction::TinyLfu,
        Ok(wire::Eviction::Lru) => Eviction::Lru,
        Err(_) => {
            at.unknown(&format!("{name}.eviction"), "an eviction");
            default.eviction
        }
    };
    TierLimits {
        ttl: duration_or(wire.ttl.as_ref(), default.ttl),
        entries: if wire.entries == 0 { default.entries } else { wire.entries },
        bytes: if wire.bytes == 0 { default.bytes } else { wire.bytes },
        eviction,
        stale_if_error: duration(wire.stale_if_error.as_ref()).unwrap_or(default.stale_if_error),
        stale_while_revalidate: duration(wire.stale_while_revalidate.as_ref())
            .unwrap_or(default.stale_while_revalidate),
    }
}

/// Nothing where nothing is said.
pub(super) fn encode_rules(rules: &CacheRules) -> Option<wire::CacheRules> {
    let life = |life: Life| wire::CacheLife {
        life: match life {
            Life::Tier => None,
            Life::For(time) => Some(from_duration(time)),
        },
    };
    let lives = |lives: &BTreeMap<String, Life>| {
        lives.iter().map(|(pattern, found)| (pattern.clone(), life(*found))).collect()
    };
    (*rules != CacheRules::default()).then(|| wire::CacheRules {
        tools: lives(&rules.tools),
        prompts: lives(&rules.prompts),
        resources: lives(&rules.resources),
        lists: rules.lists.map(life),
        share: match rules.share {
            Share::Principal => wire::CacheShare::Principal,
            Share::Session => wire::CacheShare::Session,
            Share::Everybody => wire::CacheShare::Everybody,
        }
        .into(),
    })
}

pub(super) fn decode_rules(at: &mut At<'_>, wire: Option<wire::CacheRules>) -> CacheRules {
    let wire = wire.unwrap_or_default();
    // Whoever shares more than this build understands would show one caller another's answers.
    let share = match wire::CacheShare::try_from(wire.share) {
        Ok(wire::CacheShare::Unspecified | wire::CacheShare::Principal) => Share::Principal,
        Ok(wire::CacheShare::Session) => Share::Session,
        Ok(wire::CacheShare::Everybody) => Share::Everybody,
        Err(_) => {
            at.unknown("cache.share", "a way of sharing");
            Share::Session
        }
    };
    CacheRules {
        tools: lives(at, "tools", &wire.tools),
        prompts: lives(at, "prompts", &wire.prompts),
        resources: lives(at, "resources", &wire.resources),
        lists: wire.lists.as_ref().map(|found| life(at, "cache.lists", found)),
        share,
    }
}

fn lives(at: &mut At<'_>, kind: &str, wire: &BTreeMap<String, wire::CacheLife>) -> BTreeMap<String, Life> {
    let one = |(pattern, found): (&String, &wire::CacheLife)| {
        (pattern.clone(), life(at, &format!("cache.{kind}.{pattern}"), found))
    };
    wire.iter().map(one).collect()
}

fn life(at: &mut At<'_>, field: &str, wire: &wire::CacheLife) -> Life {
    match (&wire.life, duration(wire.life.as_ref())) {
        (None, _) => Life::Tier,
        (Some(_), Some(time)) => Life::For(time),
        (Some(_), None) => {
            at.reject(RejectionReason::InvalidField, field, "a life is not negative");
            Life::For(Duration::ZERO)
        }
    }
}

/// Nothing where nothing is batched by other rules than the default.
pub(super) fn encode_batching(batching: Batching) -> Option<wire::BatchingSettings> {
    let Batching { window, max } = batching;
    (batching != Batching::default())
        .then(|| wire::BatchingSettings { window: Some(from_duration(window)), max })
}

pub(super) fn decode_batching(at: &mut At<'_>, payload: &[u8]) -> Option<Batching> {
    let wire: wire::BatchingSettings = at.message(payload)?;
    let default = Batching::default();
    let window = duration(wire.window.as_ref()).unwrap_or(default.window);
    if window > WIDEST_WINDOW {
        at.reject(RejectionReason::InvalidField, "window", "the window is wider than 100ms");
    }
    Some(Batching { window, max: if wire.max == 0 { default.max } else { wire.max } })
}
