//! [`Balance`], [`Outlier`], [`Retry`] and [`Concurrency`] ↔ wire. Defaults stay off the wire.

use super::{At, duration, duration_or, from_duration};
use crate::{
    model::{Balance, Concurrency, HashKey, Outlier, Retry},
    wire::{self, RejectionReason},
};
use http::HeaderName;
use std::ops::RangeInclusive;

const PERCENT: RangeInclusive<u32> = 0..=100;

pub(super) fn encode_balance(balance: &Balance) -> Option<wire::Balance> {
    use wire::BalanceAlgorithm as Algorithm;
    let algorithm = match balance {
        Balance::RoundRobin => return None,
        Balance::LeastConnections => Algorithm::LeastConnections,
        Balance::Random => Algorithm::Random,
        Balance::WeightedRandom => Algorithm::WeightedRandom,
        Balance::ConsistentHash { key, virtual_nodes } => {
            return Some(encode_hash(key, *virtual_nodes));
        }
    };
    Some(wire::Balance { algorithm: algorithm.into(), ..wire::Balance::default() })
}

fn encode_hash(key: &HashKey, virtual_nodes: u32) -> wire::Balance {
    let (key, header) = match key {
        HashKey::Session => (wire::BalanceKey::Session, String::new()),
        HashKey::Principal => (wire::BalanceKey::Principal, String::new()),
        HashKey::Tool => (wire::BalanceKey::Tool, String::new()),
        HashKey::Header(name) => (wire::BalanceKey::Header, name.clone()),
    };
    let algorithm = wire::BalanceAlgorithm::ConsistentHash.into();
    wire::Balance { algorithm, key: key.into(), header, virtual_nodes }
}

pub(super) fn decode_balance(at: &mut At<'_>, wire: Option<wire::Balance>) -> Balance {
    use wire::BalanceAlgorithm as Algorithm;
    let wire = wire.unwrap_or_default();
    match Algorithm::try_from(wire.algorithm) {
        Ok(Algorithm::Unspecified | Algorithm::RoundRobin) => Balance::RoundRobin,
        Ok(Algorithm::LeastConnections) => Balance::LeastConnections,
        Ok(Algorithm::Random) => Balance::Random,
        Ok(Algorithm::WeightedRandom) => Balance::WeightedRandom,
        Ok(Algorithm::ConsistentHash) => {
            let virtual_nodes =
                if wire.virtual_nodes == 0 { Balance::VIRTUAL_NODES } else { wire.virtual_nodes };
            at.within("balance.virtual_nodes", virtual_nodes, 1..=10_000);
            Balance::ConsistentHash { key: hash_key(at, &wire), virtual_nodes }
        }
        Err(_) => {
            at.unknown("balance.algorithm", "an algorithm");
            Balance::RoundRobin
        }
    }
}

fn hash_key(at: &mut At<'_>, wire: &wire::Balance) -> HashKey {
    match wire::BalanceKey::try_from(wire.key) {
        Ok(wire::BalanceKey::Unspecified | wire::BalanceKey::Session) => HashKey::Session,
        Ok(wire::BalanceKey::Principal) => HashKey::Principal,
        Ok(wire::BalanceKey::Tool) => HashKey::Tool,
        Ok(wire::BalanceKey::Header) => {
            if !HeaderName::try_from(&wire.header).is_ok_and(|name| name.as_str() == wire.header) {
                let what = "not the lowercase name of a header";
                at.reject(RejectionReason::InvalidField, "balance.header", what);
            }
            HashKey::Header(wire.header.clone())
        }
        Err(_) => {
            at.unknown("balance.key", "a key");
            HashKey::Session
        }
    }
}

pub(super) fn encode_outlier(outlier: &Outlier) -> Option<wire::Outlier> {
    (*outlier != Outlier::default()).then(|| wire::Outlier {
        failures: Some(outlier.failures),
        eject: Some(from_duration(outlier.eject)),
        eject_max: Some(from_duration(outlier.eject_max)),
        max_percent: Some(outlier.max_percent),
        panic_percent: Some(outlier.panic_percent),
    })
}

pub(super) fn decode_outlier(at: &mut At<'_>, wire: Option<wire::Outlier>) -> Outlier {
    let default = Outlier::default();
    let wire = wire.unwrap_or_default();
    let outlier = Outlier {
        failures: wire.failures.unwrap_or(default.failures),
        eject: duration_or(wire.eject.as_ref(), default.eject),
        eject_max: duration_or(wire.eject_max.as_ref(), default.eject_max),
        max_percent: wire.max_percent.unwrap_or(default.max_percent),
        panic_percent: wire.panic_percent.unwrap_or(default.panic_percent),
    };
    at.within("outlier.max_percent", outlier.max_percent, PERCENT);
    at.within("outlier.panic_percent", outlier.panic_percent, PERCENT);
    if outlier.eject > outlier.eject_max {
        at.reject(RejectionReason::InvalidField, "outlier.eject", "longer than `eject_max`");
    }
    outlier
}

pub(super) fn encode_retry(retry: &Retry) -> Option<wire::Retry> {
    (*retry != Retry::default()).then(|| wire::Retry {
        attempts: retry.attempts,
        tools: retry.tools.clone(),
        budget_percent: Some(retry.budget_percent),
        budget_min: Some(retry.budget_min),
    })
}

pub(super) fn decode_retry(at: &mut At<'_>, wire: Option<wire::Retry>) -> Retry {
    let default = Retry::default();
    let wire = wire.unwrap_or_default();
    let retry = Retry {
        attempts: if wire.attempts == 0 { default.attempts } else { wire.attempts },
        tools: wire.tools,
        budget_percent: wire.budget_percent.unwrap_or(default.budget_percent),
        budget_min: wire.budget_min.unwrap_or(default.budget_min),
    };
    at.within("retry.attempts", retry.attempts, 1..=5);
    at.within("retry.budget_percent", retry.budget_percent, PERCENT);
    retry
}

pub(super) fn encode_concurrency(concurrency: &Concurrency) -> Option<wire::Concurrency> {
    (*concurrency != Concurrency::default()).then(|| wire::Concurrency {
        max: concurrency.max,
        queue: Some(concurrency.queue),
        wait: Some(from_duration(concurrency.wait)),
    })
}

pub(super) fn decode_concurrency(at: &mut At<'_>, wire: Option<wire::Concurrency>) -> Concurrency {
    let default = Concurrency::default();
    let wire = wire.unwrap_or_default();
    if let Some(max) = wire.max {
        at.within("concurrency.max", max, 1..=u32::MAX);
    }
    Concurrency {
        max: wire.max,
        queue: wire.queue.unwrap_or(default.queue),
        wait: duration(wire.wait.as_ref()).unwrap_or(default.wait),
    }
}
