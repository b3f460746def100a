//! What one choice among the endpoints of a store costs, by algorithm and number of endpoints. Weights are 1 to 3,
//! loads 0 to 6, every endpoint fits; consistent hashing also hashes its key.

use criterion::{BenchmarkId, Criterion};
use o1_data_plane::upstream::balance::{Balancer, Endpoints, Member, hash};
use o1_proto::model::{Balance, HashKey};
use std::{
    hint::black_box,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// A store as the gateway keeps it: counters that other threads may change.
struct Store {
    loads: Vec<AtomicU32>,
    total: AtomicU64,
}

impl Endpoints for Store {
    fn fits(&self, _at: usize) -> bool {
        true
    }
    fn load(&self, at: usize) -> u32 {
        self.loads[at].load(Relaxed)
    }
    fn total(&self) -> Option<u64> {
        Some(self.total.load(Relaxed))
    }
}

pub fn picks(criterion: &mut Criterion) {
    let algorithms = [
        ("round_robin", Balance::RoundRobin),
        ("least_connections", Balance::LeastConnections),
        ("random", Balance::Random),
        ("weighted_random", Balance::WeightedRandom),
        ("consistent_hash", Balance::ConsistentHash { key: HashKey::Session, virtual_nodes: 150 }),
    ];
    let mut group = criterion.benchmark_group("pick");
    for (name, balance) in algorithms {
        for count in [2_u32, 10, 100] {
            let marks: Vec<_> = (0..count).map(|at| format!("http://10.0.0.{at}:8080/mcp")).collect();
            let weights = (0..count).map(|at| at % 3 + 1);
            let members: Vec<_> = marks
                .iter()
                .zip(weights)
                .map(|(mark, weight)| Member { weight, mark: mark.as_bytes() })
                .collect();
            let balancer = Balancer::new(&balance, &members);
            let loads: Vec<_> = (0..count).map(|at| at % 7).collect();
            let total = loads.iter().copied().map(u64::from).sum();
            let store = Store {
                loads: loads.into_iter().map(AtomicU32::new).collect(),
                total: AtomicU64::new(total),
            };
            let mut session = [0_u8; 16];
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    session[0] = session[0].wrapping_add(1);
                    session[1] = session[1].wrapping_add(u8::from(session[0] == 0));
                    let key = || hash(b"session", &session);
                    balancer.pick(black_box(&store), key, &mut fastrand::Rng::new())
                });
            });
        }
    }
    group.finish();
}
