//! A store as its callers know it: who is chosen, what is counted, who is left out; under a paused clock.

use super::*;
use crate::{
    call::{Ask, Caller, Probe, Route},
    failure::Kind,
    mcp::{Message, rpc},
    metrics::EndpointSample,
    plan::Plan,
    principal::Principal,
};
use futures_util::FutureExt as _;
use http::HeaderMap;
use o1_proto::model::{self, Breaker, BreakerState, Concurrency, HashKey, Outlier, Transport, Verdict};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

struct Scene {
    store: Arc<Store>,
    gate: Arc<stores::Gate>,
    metrics: metrics::Metrics,
    call: Call,
}

impl Scene {
    fn new(endpoints: usize, set: impl FnOnce(&mut plan::Upstream)) -> Self {
        let mut upstream = plan::Upstream::bare("a");
        let http = |at: usize| plan::Endpoint::Http {
            url: format!("http://127.0.0.1:{}/mcp", at + 1).parse().unwrap(),
            transport: Transport::Http,
            headers: HeaderMap::new(),
            tls: None,
        };
        upstream.endpoints = (0..endpoints).map(http).collect();
        upstream.weights = vec![1; endpoints];
        upstream.outlier = Outlier { failures: 2, eject: 10 * SECOND, ..Outlier::default() };
        upstream.breaker.failures = u32::MAX;
        set(&mut upstream);
        let metrics = metrics::Metrics::default();
        let gate = stores::Stores::default().gate("a");
        let store = Store::new(&Arc::new(upstream), &metrics.upstream("a"), gate.clone());
        let plan = Arc::new(Plan::empty());
        let message = Message::parse(&rpc::request(b"1", "tools/list", b"{}")).unwrap();
        let call = Call {
            route: Route::Server(plan.everything.clone()),
            plan,
            principal: Principal::anonymous(),
            caller: Caller::Modern,
            ask: Ask::Message(message),
            headers: HeaderMap::new(),
            fresh: false,
        };
        Self { store, gate, metrics, call }
    }

    async fn take(&self) -> Place {
        self.store.take(&self.call, &[]).await.unwrap()
    }

    /// Where so many calls go, one after the other.
    async fn spread(&self, calls: usize) -> Vec<usize> {
        let mut counts = vec![0; self.store.endpoints.len()];
        for _ in 0..calls {
            counts[self.take().await.at()] += 1;
        }
        counts
    }

    fn fail(&self, at: usize, times: usize) {
        for _ in 0..times {
            self.store.settle(at, None, Some(&Failure::new(Kind::Unreachable, "gone")));
        }
    }

    fn loads(&self) -> Vec<u32> {
        self.store.endpoints.iter().map(|one| one.load.load(Relaxed)).collect()
    }

    fn samples(&self) -> Vec<EndpointSample> {
        let labels = metrics::labels(&self.store.upstream);
        let (_, sample) = self.metrics.samples().remove(0);
        labels.iter().map(|label| sample.endpoints[label]).collect()
    }
}

// Calls kept going to dead endpoints in the predecessor.
#[tokio::test(start_paused = true)]
async fn a_dead_endpoint_gets_nothing_until_its_time_is_over() {
    let scene = Scene::new(3, |_| ());
    scene.fail(1, 1);
    assert_eq!(scene.spread(6).await, [2, 2, 2], "once is no pattern");
    scene.fail(1, 1);
    assert_eq!(scene.spread(6).await, [3, 0, 3]);
    assert_eq!(scene.store.order_from(1), [2, 0, 1], "the last to be tried");
    assert!(scene.samples()[1].ejected);
    tokio::time::advance(10 * SECOND).await;
    assert_eq!(scene.spread(6).await, [2, 2, 2]);
    assert!(!scene.samples()[1].ejected);
    assert_eq!(scene.samples()[1].ejections, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_server_answers_leaves_nobody_out() {
    let scene = Scene::new(2, |_| ());
    for kind in [Kind::Protocol, Kind::SessionLost, Kind::Overloaded, Kind::InvalidParams] {
        (0..10).for_each(|_| scene.store.settle(0, None, Some(&Failure::new(kind, "x"))));
    }
    assert_eq!(scene.spread(4).await, [2, 2]);
    // One that answers between failures is not failing.
    for _ in 0..10 {
        scene.fail(0, 1);
        scene.store.settle(0, None, None);
    }
    assert_eq!(scene.spread(4).await, [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn the_only_endpoint_is_never_left_out_and_in_panic_nobody_is() {
    let single = Scene::new(1, |_| ());
    single.fail(0, 19);
    assert_eq!((single.spread(3).await, single.samples()[0].ejections), (vec![3], 0));
    let all = Scene::new(3, |one| one.outlier.max_percent = 100);
    all.fail(0, 2);
    assert_eq!(all.spread(6).await, [0, 3, 3]);
    all.fail(1, 2);
    assert_eq!(all.spread(6).await, [2, 2, 2], "one of three is below half");
}

#[tokio::test(start_paused = true)]
async fn who_is_left_out_when_its_configuration_ends_is_not_shown_as_such_for_ever() {
    let scene = Scene::new(2, |_| ());
    scene.fail(0, 2);
    assert!(scene.samples()[0].ejected);
    let Scene { store, metrics, .. } = scene;
    drop(store);
    let (_, sample) = metrics.samples().remove(0);
    assert!(sample.endpoints.values().all(|one| !one.ejected));
}

#[tokio::test(start_paused = true)]
async fn who_fails_when_its_time_is_over_is_left_out_anew_and_comes_back_in_the_end() {
    let scene = Scene::new(2, |_| ());
    let late = scene.take().await;
    scene.fail(late.at(), 2);
    tokio::time::advance(10 * SECOND).await;
    // Nobody looked since: it was left out until now.
    late.failed(&Failure::new(Kind::Timeout, "silence"));
    let sample = scene.samples()[late.at()];
    assert_eq!((sample.ejections, sample.ejected), (2, true));
    tokio::time::advance(20 * SECOND).await;
    scene.spread(2).await;
    assert!(!scene.samples()[late.at()].ejected, "for ever");
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_elsewhere_while_there_is_an_elsewhere() {
    for balance in [
        Balance::RoundRobin,
        Balance::LeastConnections,
        Balance::Random,
        Balance::WeightedRandom,
        Balance::ConsistentHash { key: HashKey::Session, virtual_nodes: 50 },
    ] {
        let scene = Scene::new(3, |one| one.balance = balance.clone());
        for _ in 0..20 {
            let mut tried = Vec::new();
            for _ in 0..3 {
                tried.push(scene.store.take(&scene.call, &tried).await.unwrap().at());
            }
            scene.store.take(&scene.call, &tried).await.unwrap();
            tried.sort_unstable();
            assert_eq!(tried, [0, 1, 2], "{balance:?}");
        }
    }
    let scene = Scene::new(3, |_| ());
    scene.fail(2, 2);
    let last = scene.store.take(&scene.call, &[0, 1]).await.unwrap();
    assert_eq!(last.at(), 2, "rather one that is left out than one that just failed this call");
}

#[tokio::test(start_paused = true)]
async fn endpoints_with_places_are_preferred_and_a_full_store_queues() {
    let limit = Concurrency { max: Some(1), queue: 1, wait: SECOND };
    let scene = Scene::new(3, |one| one.concurrency = limit);
    let held = [scene.take().await, scene.take().await, scene.take().await];
    let mut places: Vec<_> = held.iter().map(Place::at).collect();
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2]);
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(scene.store.take(&scene.call, &[]))).collect();
    assert!(waiting.iter_mut().all(|one| one.as_mut().now_or_never().is_none()));
    let Err(refused) = scene.store.take(&scene.call, &[]).await else { panic!("everything is full") };
    assert_eq!(refused.kind, Kind::Overloaded);
    assert!(scene.samples().iter().all(|one| one.waiting == 1));
    let free = held[1].at();
    let [first, second, third] = held;
    drop(second);
    let mut got: Vec<_> = Vec::new();
    for one in &mut waiting {
        got.extend(one.as_mut().now_or_never().map(|place| place.unwrap().at()));
    }
    assert_eq!(got, [free]);
    drop((waiting, first, third));
    assert_eq!(scene.loads(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_same_key_stays_where_it_is_and_moves_only_while_its_home_is_out() {
    let scene = Scene::new(4, |one| {
        one.balance = Balance::ConsistentHash { key: HashKey::Header("x-user".into()), virtual_nodes: 100 };
    });
    let with = |user: usize| {
        let mut call = scene.call.clone();
        call.headers.insert("x-user", user.into());
        call
    };
    let homes = async || {
        let mut homes = Vec::new();
        for user in 0..50 {
            homes.push(scene.store.take(&with(user), &[]).await.unwrap().at());
        }
        homes
    };
    let before = homes().await;
    assert_eq!(homes().await, before);
    scene.fail(2, 2);
    for (old, new) in before.iter().zip(homes().await) {
        assert!(if *old == 2 { new != 2 } else { new == *old });
    }
    tokio::time::advance(10 * SECOND).await;
    assert_eq!(homes().await, before);
}

/// A store whose breakers open after two failures, for five seconds.
fn breaking(endpoints: usize) -> Scene {
    Scene::new(endpoints, |one| {
        one.breaker = Breaker { failures: 2, open: 5 * SECOND, open_max: 40 * SECOND };
        one.outlier.max_percent = 100;
    })
}

impl Scene {
    async fn refused(&self) -> Failure {
        match self.store.take(&self.call, &[]).await {
            Ok(place) => panic!("{} took a call", place.at()),
            Err(failure) => failure,
        }
    }

    /// A probe of an endpoint.
    fn probe(&self, at: usize, found: Result<Probe, Failure>) -> Word {
        self.store.probe(at).ended(found)
    }

    fn words(&self) -> (Verdict, BreakerState) {
        self.gate.health(model::Store::Primary).words()
    }
}

fn gone() -> Failure {
    Failure::new(Kind::Unreachable, "it is gone").because("port 1".to_owned())
}

/// Longer than a breaker of these tests is open for the first time.
const OPEN: Duration = Duration::from_millis(6_001);

#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_at_once_and_says_why_also_of_the_only_endpoint() {
    let scene = breaking(1);
    for _ in 0..2 {
        scene.take().await.failed(&gone());
    }
    let began = Instant::now();
    let refused = scene.refused().await;
    assert_eq!((refused.kind, refused.is_unsent()), (Kind::Unreachable, true));
    assert!(refused.public().ends_with("last failure: it is gone"), "{}", refused.public());
    assert!(refused.chain().ends_with("port 1"), "{}", refused.chain());
    assert!(scene.store.enter(0).await.is_err() && scene.store.pass(&scene.call).is_err());
    assert!(scene.store.attempt(0).is_err());
    assert_eq!((began.elapsed(), scene.loads()), (Duration::ZERO, vec![0]));
    assert_eq!(scene.words().1, BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_callers_one_tries_and_who_goes_away_makes_room() {
    let scene = breaking(1);
    scene.fail(0, 2);
    tokio::time::advance(OPEN).await;
    let crowd = async || {
        let all = (0..1000).map(|_| scene.store.take(&scene.call, &[]));
        let taken: Vec<_> = futures_util::future::join_all(all).await.into_iter().flatten().collect();
        assert_eq!(taken.len(), 1);
        taken
    };
    let cancelled = crowd().await;
    assert!(scene.store.pass(&scene.call).is_err(), "nobody waits for it: it tries nothing");
    drop(cancelled);
    let tries = crowd().await;
    tries[0].answered();
    drop(tries);
    assert_eq!((scene.spread(3).await, scene.words().1), (vec![3], BreakerState::Closed));
    // The answer of a session that is opened counts as well.
    scene.fail(0, 2);
    tokio::time::advance(OPEN).await;
    let pass = scene.store.attempt(0).unwrap();
    assert!(scene.store.attempt(0).is_err());
    pass.answered();
    assert_eq!(scene.spread(3).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn an_open_endpoint_gets_nothing_while_another_works_and_too_few_are_no_excuse() {
    let scene = breaking(3);
    scene.fail(1, 2);
    assert_eq!(scene.spread(6).await, [3, 0, 3]);
    assert_eq!(scene.words().1, BreakerState::Closed, "of the store");
    assert!(scene.store.has_another(&[0]) && !scene.store.has_another(&[0, 2]));
    scene.fail(0, 2);
    // Two of three are left out: all would be used again, but for their breakers.
    assert_eq!(scene.spread(6).await, [0, 0, 6]);
    scene.fail(2, 2);
    assert_eq!(scene.refused().await.kind, Kind::Unreachable);
    assert_eq!(scene.words().1, BreakerState::Open);
    // All three are left out for longer than they are open: somebody tries all the same.
    tokio::time::advance(OPEN).await;
    assert!(scene.samples().iter().all(|one| one.ejected));
    let tries = [scene.take().await, scene.take().await, scene.take().await];
    let mut places: Vec<_> = tries.iter().map(Place::at).collect();
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2]);
    assert_eq!(scene.refused().await.kind, Kind::Unreachable);
    tries[0].answered();
    assert_eq!(scene.take().await.at(), tries[0].at());
}

#[tokio::test(start_paused = true)]
async fn while_others_work_probes_try_and_calls_only_when_no_probe_does() {
    let scene = breaking(2);
    scene.fail(0, 2);
    tokio::time::advance(OPEN).await;
    assert_eq!(scene.spread(4).await, [0, 4], "it may be tried, and no client has to");
    tokio::time::advance(super::super::breaker::TRY_MAX).await;
    let tries = scene.take().await;
    assert_eq!(tries.at(), 0);
    assert_eq!(scene.spread(4).await, [0, 4]);
    tries.failed(&gone());
    assert_eq!(scene.spread(4).await, [0, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_good_probe_closes_a_breaker_without_any_call() {
    let scene = breaking(1);
    scene.fail(0, 2);
    assert!(matches!(scene.probe(0, Ok(Probe::Modern)), Word::Reached));
    assert_eq!(scene.words().1, BreakerState::Open, "probes said all along that it works: calls know better");
    assert!(scene.store.until_probe(0) <= OPEN, "a probe tries as soon as it may");
    tokio::time::advance(OPEN).await;
    let probing = scene.store.probe(0);
    assert_eq!(scene.words().1, BreakerState::HalfOpen);
    assert_eq!(scene.refused().await.kind, Kind::Unreachable, "the probe is the one that tries");
    drop(probing);
    let cancelled = scene.take().await;
    drop(cancelled);
    // One that starts nothing to look at says nothing.
    assert!(matches!(scene.probe(0, Ok(Probe::Unknown)), Word::None));
    assert!(matches!(scene.probe(0, Err(gone())), Word::Missed(_)));
    assert_eq!(scene.words().1, BreakerState::Open);
    // Probes, too, found it dead: when they find it again nobody has to wait for long.
    scene.probe(0, Ok(Probe::Modern));
    assert_eq!(scene.store.until_probe(0), LEAST);
    scene.probe(0, Ok(Probe::Modern));
    assert_eq!(scene.words(), (Verdict::Healthy, BreakerState::Closed));
    assert_eq!(scene.spread(3).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_us_opens_no_breaker_and_is_no_dead_one() {
    let status = |status: u16| {
        let status = http::StatusCode::from_u16(status).unwrap();
        Failure::new(Kind::Unreachable, "refused").with_status(status)
    };
    let scene = breaking(1);
    for failure in [status(401), status(403), status(429), status(500), Failure::new(Kind::Protocol, "x")] {
        for _ in 0..30 {
            scene.take().await.failed(&failure);
            scene.probe(0, Err(failure.again()));
        }
        assert_eq!(scene.words(), (Verdict::Unknown, BreakerState::Closed), "{failure:?}");
    }
    for code in [502, 503, 504] {
        let scene = breaking(1);
        for _ in 0..2 {
            scene.take().await.failed(&status(code));
        }
        assert_eq!(scene.words().1, BreakerState::Open, "{code}");
        // Who is there again and refuses us can say so itself.
        tokio::time::advance(OPEN).await;
        scene.take().await.failed(&status(401));
        assert_eq!(scene.words().1, BreakerState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_succeed_are_never_overruled_by_a_probe() {
    let scene = Scene::new(1, |_| ());
    scene.probe(0, Ok(Probe::Modern));
    for _ in 0..10 {
        scene.take().await.answered();
        assert!(matches!(scene.probe(0, Err(gone())), Word::None));
    }
    assert_eq!(scene.words().0, Verdict::Healthy);
    for _ in 0..3 {
        assert!(matches!(scene.probe(0, Err(gone())), Word::Missed(_)));
    }
    let health = scene.gate.health(model::Store::Primary).now();
    assert_eq!(
        (health.verdict, health.consecutive, &*health.error),
        (Verdict::Unhealthy, 3, "it is gone: port 1")
    );
    // An answer counts as a good probe.
    scene.take().await.answered();
    assert_eq!(scene.words().0, Verdict::Unhealthy);
    scene.take().await.answered();
    assert_eq!(scene.words().0, Verdict::Healthy);
}

#[tokio::test(start_paused = true)]
async fn who_probes_find_dead_gets_nothing_while_another_is_not() {
    let scene = Scene::new(2, |_| ());
    for _ in 0..3 {
        scene.probe(0, Err(gone()));
    }
    assert_eq!(scene.spread(4).await, [0, 4]);
    assert_eq!(scene.words().0, Verdict::Unknown, "one of two");
    for _ in 0..3 {
        scene.probe(1, Err(gone()));
    }
    assert_eq!(scene.words().0, Verdict::Unhealthy);
    assert_eq!(scene.spread(4).await, [2, 2], "only a breaker refuses calls");
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_asks_for_a_probe_at_once() {
    let scene = Scene::new(1, |_| ());
    assert!(scene.store.poked(0).now_or_never().is_none());
    scene.fail(0, 3);
    assert!(scene.store.poked(0).now_or_never().is_some());
    assert!(scene.store.poked(0).now_or_never().is_none(), "one for all");
    scene.probe(0, Ok(Probe::Alive));
    scene.store.doubt();
    assert!(scene.store.poked(0).now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_configuration_ended_says_nothing_any_more() {
    let scene = breaking(1);
    scene.probe(0, Ok(Probe::Modern));
    scene.store.end();
    scene.fail(0, 2);
    assert_eq!(scene.words(), (Verdict::Healthy, BreakerState::Closed));
    let (_, sample) = scene.metrics.samples().remove(0);
    let watched = sample.watched.values().next().unwrap();
    assert_eq!((watched.healthy, watched.breaker), (None, 0));
}

/// What may happen to a call.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered(usize),
    Failed(usize),
    Dropped(usize),
    Panicked(usize),
    Begins,
    BeginsAt(usize),
    /// Its client goes away while it waits for a place.
    Leaves,
}

fn fates() -> impl proptest::strategy::Strategy<Value = Vec<Fate>> {
    use proptest::prelude::*;
    let fate = prop_oneof![
        4 => Just(Fate::Begins),
        2 => (0..3_usize).prop_map(Fate::BeginsAt),
        1 => Just(Fate::Leaves),
        1 => any::<usize>().prop_map(Fate::Answered),
        1 => any::<usize>().prop_map(Fate::Failed),
        1 => any::<usize>().prop_map(Fate::Dropped),
        1 => any::<usize>().prop_map(Fate::Panicked),
    ];
    prop::collection::vec(fate, 0..60)
}

proptest::proptest! {
    // In the predecessor what was in flight only ever grew.
    #[test]
    fn no_place_is_lost_and_none_counted_twice_however_calls_end(
        fates in fates(),
        limit in proptest::option::of(1_u32..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let rules = Concurrency { max: limit, queue: 2, wait: SECOND };
            let scene = Scene::new(3, |one| one.concurrency = rules);
            let mut held: Vec<Place> = Vec::new();
            for fate in fates {
                let taken = |held: &mut Vec<Place>, nth: usize| {
                    if held.is_empty() { None } else { Some(held.swap_remove(nth % held.len())) }
                };
                match fate {
                    Fate::Begins => held.extend(scene.store.take(&scene.call, &[]).await.ok()),
                    Fate::BeginsAt(at) => held.extend(scene.store.enter(at).await.ok()),
                    Fate::Leaves => held.extend(scene.store.enter(0).now_or_never().and_then(Result::ok)),
                    Fate::Answered(nth) => drop(taken(&mut held, nth).inspect(Place::answered)),
                    Fate::Failed(nth) => drop(taken(&mut held, nth).inspect(|place| {
                        place.failed(&Failure::new(Kind::Timeout, "silence"));
                    })),
                    Fate::Dropped(nth) => drop(taken(&mut held, nth)),
                    Fate::Panicked(nth) => {
                        let place = taken(&mut held, nth);
                        let dies = std::panic::AssertUnwindSafe(move || {
                            let _place = place;
                            std::panic::resume_unwind(Box::new("the call dies"));
                        });
                        assert!(std::panic::catch_unwind(dies).is_err());
                    }
                }
                let mut expected = vec![0; 3];
                held.iter().for_each(|place| expected[place.at()] += 1);
                assert_eq!(scene.loads(), expected);
                assert_eq!(scene.store.load.load(Relaxed), held.len() as u64);
                if let Some(limit) = limit {
                    assert!(expected.iter().all(|load| *load <= limit));
                }
                let in_flight: Vec<_> = scene.samples().iter().map(|one| one.in_flight).collect();
                assert_eq!(in_flight, expected.iter().map(|load| u64::from(*load)).collect::<Vec<_>>());
            }
            held.clear();
            assert_eq!(scene.loads(), [0; 3]);
            if let Some(limit) = limit {
                // Every place is there again.
                for at in 0..3 {
                    let mut all = Vec::new();
                    for _ in 0..limit {
                        all.extend(scene.store.enter(at).now_or_never().and_then(Result::ok));
                    }
                    assert_eq!(all.len(), limit as usize);
                }
            }
        });
    }
}
