//! Random operations on the storage and on a model of it that is too simple to be wrong: a map, a list of what was
//! invalidated when, and a clock that only moves when told to.

use super::{call, counted, message, request_of};
use crate::{
    cache::{
        entry::{Age, Entry, Terms},
        key::{Key, Partition},
        scope::{Scope, Scopes, Stamp, Subject},
        tier::Tiers,
    },
    call::Ask,
    mcp::method,
    metrics::{Cause, Metrics},
    plan::{Plan, Upstream, Version},
};
use o1_proto::model::{self, Caching, Eviction, Fleet, Tier, TierLimits};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

const UPSTREAMS: [&str; 2] = ["a", "b"];
const PRINCIPALS: [&str; 3] = ["", "ann", "bob"];

/// What can be asked: each tier has several.
fn subjects() -> Vec<Subject> {
    let mut all: Vec<_> = ["x", "y"].map(|name| Subject::Tool(name.into())).into();
    all.extend(["f:/d", "f:/d/one", "f:/d/two", "f:/dx"].map(|uri| Subject::Resource(uri.into())));
    all.extend([method::DISCOVER, method::TOOLS_LIST, method::PROMPTS_LIST].map(Subject::List));
    all.extend(["p", "q"].map(|name| Subject::Prompt(name.into())));
    all
}

/// What can be invalidated besides.
fn wider() -> Vec<Subject> {
    let tiers = Tier::ALL.map(Subject::Tier);
    [vec![Subject::Everything, Subject::Prompts], tiers.into(), subjects()].concat()
}

/// Whether an invalidation concerns an answer, in words of the specification.
fn concerns(invalidated: &Subject, about: &Subject) -> bool {
    match (invalidated, about) {
        (Subject::Everything, _)
        | (Subject::Prompts | Subject::Prompt(_), Subject::Prompt(_))
        | (Subject::Tool(_), Subject::Tool(_)) => true,
        (Subject::Tier(tier), _) => about.tier() == Some(*tier),
        (Subject::List(one), Subject::List(other)) => one == other,
        // `f:/d` has the parts `f:/d/one` and `f:/d/two`, not `f:/dx`.
        (Subject::Resource(updated), Subject::Resource(read)) => {
            updated == read || updated.starts_with(&format!("{read}/"))
        }
        _ => false,
    }
}

/// The limits there are to choose from: roomy, few entries, few bytes.
fn limits(choice: u8) -> Caching {
    let tier = |shift: u8| {
        let (entries, bytes) =
            [(100, 1 << 20), (3, 1 << 20), (100, 2_000), (1, 500)][usize::from(choice + shift) % 4];
        let eviction = if choice.is_multiple_of(3) { Eviction::Lru } else { Eviction::TinyLfu };
        let windows = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(5)];
        TierLimits {
            ttl: Duration::from_secs(60),
            entries,
            bytes,
            eviction,
            stale_while_revalidate: windows[usize::from(choice + shift) % 3],
            stale_if_error: windows[usize::from(choice) % 3],
        }
    };
    Caching { tools: tier(0), resources: tier(1), catalogue: tier(2) }
}

#[derive(Debug, Clone)]
enum Step {
    /// Look up; on a miss ask, and keep what comes at once.
    Ask {
        upstream: usize,
        subject: usize,
        principal: usize,
        answer: Answer,
    },
    /// Ask, whatever is there; what comes lands later.
    Begin {
        upstream: usize,
        subject: usize,
        principal: usize,
        answer: Answer,
    },
    /// What was asked comes.
    Land(prop::sample::Index),
    Advance(u16),
    Invalidate {
        upstream: Option<usize>,
        subject: prop::sample::Index,
    },
    Wrote(usize),
    /// Who listened to the upstream lost it.
    Doubt(usize),
    Purge {
        upstream: Option<usize>,
        tier: Option<usize>,
    },
    Limits(u8),
    /// The upstream is configured anew.
    Change(usize),
    Sweep,
}

#[derive(Debug, Clone)]
struct Answer {
    life_ms: u16,
    public: bool,
    size: u16,
}

fn step() -> impl Strategy<Value = Step> {
    let answer = || {
        (1..4_000_u16, any::<bool>(), 0..600_u16).prop_map(|(life_ms, public, size)| Answer {
            life_ms,
            public,
            size,
        })
    };
    let question = || (0..2_usize, 0..subjects().len(), 0..3_usize, answer());
    prop_oneof![
        12 => question().prop_map(|(upstream, subject, principal, answer)| Step::Ask { upstream, subject, principal, answer }),
        3 => question().prop_map(|(upstream, subject, principal, answer)| Step::Begin { upstream, subject, principal, answer }),
        3 => any::<prop::sample::Index>().prop_map(Step::Land),
        4 => (0..3_000_u16).prop_map(Step::Advance),
        2 => (prop::option::weighted(0.8, 0..2_usize), any::<prop::sample::Index>())
            .prop_map(|(upstream, subject)| Step::Invalidate { upstream, subject }),
        1 => (0..2_usize).prop_map(Step::Wrote),
        1 => (0..2_usize).prop_map(Step::Doubt),
        1 => (prop::option::of(0..2_usize), prop::option::of(0..3_usize))
            .prop_map(|(upstream, tier)| Step::Purge { upstream, tier }),
        1 => (0..12_u8).prop_map(Step::Limits),
        1 => (0..2_usize).prop_map(Step::Change),
        1 => Just(Step::Sweep),
    ]
}

/// An answer in the model.
#[derive(Debug, Clone)]
struct Known {
    entry: Arc<Entry>,
    upstream: usize,
    /// Which configuration of its upstream it was asked in.
    generation: u32,
    subject: Subject,
    /// How many invalidations there had been when it was asked for.
    asked: usize,
    /// How many listeners had been lost.
    doubts: usize,
    received: Instant,
    life: Duration,
    /// Whose it is; `None`: anybody's.
    owner: Option<usize>,
    text: String,
}

/// An answer on its way.
struct Flight {
    upstream: Arc<Upstream>,
    scope: Arc<Scope>,
    stamp: Stamp,
    known: Asked,
    answer: Answer,
}

#[derive(Clone)]
struct Asked {
    upstream: usize,
    generation: u32,
    subject: Subject,
    principal: usize,
    asked: usize,
    writes: usize,
    doubts: usize,
}

/// What the model expects to have been counted for one tier of one upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts {
    hits: u64,
    stale: u64,
    misses: u64,
    stored: u64,
    left: [u64; Cause::ALL.len()],
    entries: u64,
    bytes: u64,
}

struct World {
    metrics: Arc<Metrics>,
    scopes: Scopes,
    tiers: Tiers,
    limits: Caching,
    upstreams: [Arc<Upstream>; 2],
    generations: [u32; 2],
    known: BTreeMap<(usize, Key), Known>,
    /// Upstream and subject of each invalidation, in order.
    invalidated: Vec<(usize, Subject)>,
    /// Completed calls that may have changed something, by upstream.
    writes: [usize; 2],
    /// Listeners lost, by upstream.
    doubts: [usize; 2],
    flights: Vec<Flight>,
    counts: BTreeMap<(usize, usize), Counts>,
    answers: u64,
}

fn plan(generations: [u32; 2]) -> Plan {
    let upstreams = [0, 1].map(|at| model::Upstream {
        name: UPSTREAMS[at].to_owned(),
        resources: vec![format!("generation:{}", generations[at])],
        ..model::Upstream::default()
    });
    Plan::compile(Version::default(), &Fleet { upstreams: upstreams.into(), ..Fleet::default() }).unwrap()
}

impl World {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::default());
        let limits = limits(0);
        let plan = plan([0; 2]);
        Self {
            scopes: Scopes::new(&metrics),
            tiers: Tiers::new(&limits),
            metrics,
            limits,
            upstreams: UPSTREAMS.map(|name| plan.upstream(name).unwrap().clone()),
            generations: [0; 2],
            known: BTreeMap::new(),
            invalidated: Vec::new(),
            writes: [0; 2],
            doubts: [0; 2],
            flights: Vec::new(),
            counts: BTreeMap::new(),
            answers: 0,
        }
    }

    fn counts(&mut self, upstream: usize, tier: Tier) -> &mut Counts {
        self.counts.entry((upstream, tier.at())).or_default()
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Ask { upstream, subject, principal, answer } => {
                if !self.look_up(upstream, subject, principal) {
                    let flight = self.begin(upstream, subject, principal, answer);
                    self.land(flight);
                }
            }
            Step::Begin { upstream, subject, principal, answer } => {
                let flight = self.begin(upstream, subject, principal, answer);
                self.flights.push(flight);
            }
            Step::Land(which) if !self.flights.is_empty() => {
                let flight = self.flights.remove(which.index(self.flights.len()));
                self.land(flight);
            }
            Step::Land(_) | Step::Advance(_) => {}
            Step::Invalidate { upstream, subject } => {
                let subject = subject.get(&wider()).clone();
                self.scopes.invalidate(upstream.map(|at| UPSTREAMS[at]), &subject);
                let concerned = (0..2).filter(|at| upstream.is_none_or(|one| one == *at));
                self.invalidated.extend(concerned.map(|at| (at, subject.clone())));
            }
            Step::Wrote(upstream) => {
                self.scopes.of(&self.upstreams[upstream]).wrote();
                self.writes[upstream] += 1;
            }
            Step::Doubt(upstream) => {
                self.scopes.of(&self.upstreams[upstream]).doubt();
                self.doubts[upstream] += 1;
            }
            Step::Purge { upstream, tier } => self.purge(upstream, tier),
            Step::Limits(choice) => {
                let next = limits(choice);
                self.tiers.configure(&next);
                let changed: Vec<_> = Tier::ALL
                    .into_iter()
                    .filter(|tier| next.tier(*tier) != self.limits.tier(*tier))
                    .collect();
                self.limits = next;
                self.leave(|known| changed.contains(&known.entry.tier()).then_some(Cause::Configuration));
            }
            Step::Change(upstream) => {
                self.generations[upstream] += 1;
                let plan = plan(self.generations);
                self.upstreams = UPSTREAMS.map(|name| plan.upstream(name).unwrap().clone());
                self.scopes.retain(&plan);
            }
            Step::Sweep => {
                self.tiers.sweep(Instant::now());
                let over: Vec<_> = self.known.iter().map(|(key, known)| (*key, self.over(known))).collect();
                for (key, over) in over {
                    if let Err(cause) = over {
                        self.gone(&key, cause);
                    }
                }
            }
        }
        self.settle();
    }

    /// How a known answer may serve, or why it may not.
    fn over(&self, known: &Known) -> Result<Age, Cause> {
        if known.generation != self.generations[known.upstream] {
            return Err(Cause::Configuration);
        }
        if self.is_invalidated(known.upstream, &known.subject, known.asked) {
            return Err(Cause::Invalidated);
        }
        let limits = self.limits.tier(known.entry.tier());
        let old = Instant::now() - known.received;
        let within = |window: Duration| old < known.life + window;
        if known.doubts != self.doubts[known.upstream] {
            let serves = !limits.stale_if_error.is_zero() && within(limits.stale_if_error);
            let age = Age::Stale { while_revalidate: false, if_error: true };
            return if serves { Ok(age) } else { Err(Cause::Expired) };
        }
        let (while_revalidate, if_error) =
            (within(limits.stale_while_revalidate), within(limits.stale_if_error));
        match (within(Duration::ZERO), while_revalidate || if_error) {
            (true, _) => Ok(Age::Fresh),
            (false, true) => Ok(Age::Stale { while_revalidate, if_error }),
            (false, false) => Err(Cause::Expired),
        }
    }

    fn is_invalidated(&self, upstream: usize, about: &Subject, asked: usize) -> bool {
        self.invalidated[asked..].iter().any(|(at, subject)| *at == upstream && concerns(subject, about))
    }

    fn keys(&self, upstream: usize, subject: &Subject, principal: usize) -> (Key, Key) {
        let call = call(PRINCIPALS[principal], request_of(subject));
        let Ask::Message(message) = &call.ask else { unreachable!("a call of these tests is a message") };
        let base = Key::base(&call, message, &self.upstreams[upstream]).unwrap();
        (base.within(Partition::Principal(PRINCIPALS[principal])), base.within(Partition::Everybody))
    }

    /// Looks for an answer, own first, and checks what is found. True when there was one.
    fn look_up(&mut self, upstream: usize, subject: usize, principal: usize) -> bool {
        let subject = &subjects()[subject];
        let tier = subject.tier().unwrap();
        let (own, public) = self.keys(upstream, subject, principal);
        for key in [own, public] {
            let found = self.tiers.get(tier, &key, Instant::now());
            let known = self.known.get(&(tier.at(), key)).map(|known| (known.clone(), self.over(known)));
            match (found, known) {
                (None, None) => {}
                (None, Some((_, Err(cause)))) => self.gone(&(tier.at(), key), cause),
                (Some((entry, age)), Some((known, Ok(expected)))) => {
                    assert!(Arc::ptr_eq(&entry, &known.entry), "another answer than the one that was kept");
                    assert_eq!(age, expected);
                    assert_eq!((known.upstream, &known.subject), (upstream, subject), "a wrong answer");
                    assert!(known.owner.is_none_or(|owner| owner == principal), "a foreign answer");
                    check_rendered(&entry, &known, age);
                    let counted = self.scopes.of(&self.upstreams[upstream]);
                    if age == Age::Fresh {
                        counted.counts(tier).hit();
                        self.counts(upstream, tier).hits += 1;
                    } else {
                        counted.counts(tier).stale();
                        self.counts(upstream, tier).stale += 1;
                    }
                    return true;
                }
                (found, known) => panic!("found {found:?}, known {known:?}"),
            }
        }
        self.scopes.of(&self.upstreams[upstream]).counts(tier).miss();
        self.counts(upstream, tier).misses += 1;
        false
    }

    fn begin(&mut self, upstream: usize, subject: usize, principal: usize, answer: Answer) -> Flight {
        let scope = self.scopes.of(&self.upstreams[upstream]);
        let known = Asked {
            upstream,
            generation: self.generations[upstream],
            subject: subjects()[subject].clone(),
            principal,
            asked: self.invalidated.len(),
            writes: self.writes[upstream],
            doubts: self.doubts[upstream],
        };
        Flight { stamp: scope.now(), scope, upstream: self.upstreams[upstream].clone(), known, answer }
    }

    fn land(&mut self, flight: Flight) {
        let Flight { upstream: configured, scope, stamp, known: asked, answer } = flight;
        self.answers += 1;
        let owner = (!answer.public).then_some(asked.principal);
        let pad = "x".repeat(answer.size.into());
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":"first","result":{{"n":{},"pad":"{pad}","ttlMs":{}}}}}"#,
            self.answers, answer.life_ms
        );
        let changed = self.is_invalidated(asked.upstream, &asked.subject, asked.asked);
        let current = asked.generation == self.generations[asked.upstream];
        assert_eq!(scope.holds(&asked.subject, stamp), current && !changed);
        let alone =
            asked.writes == self.writes[asked.upstream] && asked.doubts == self.doubts[asked.upstream];
        assert_eq!(scope.joins(&asked.subject, stamp), current && !changed && alone);
        let (received, life) = (Instant::now(), Duration::from_millis(answer.life_ms.into()));
        let terms = Terms {
            scope,
            subject: asked.subject.clone(),
            stamp,
            public: answer.public,
            received,
            life,
            hinted: true,
        };
        let entry = Arc::new(Entry::new(&message(text.clone()), terms).unwrap());
        let tier = entry.tier();
        let now = std::mem::replace(&mut self.upstreams[asked.upstream], configured);
        let (own, public) = self.keys(asked.upstream, &asked.subject, asked.principal);
        self.upstreams[asked.upstream] = now;
        let key = if answer.public { public } else { own };
        // Put even though it was overtaken: that it cannot be served is what is shown here.
        self.tiers.put(key, entry.clone());
        if self.known.contains_key(&(tier.at(), key)) {
            self.gone(&(tier.at(), key), Cause::Replaced);
        }
        let counts = self.counts(asked.upstream, tier);
        counts.stored += 1;
        counts.entries += 1;
        counts.bytes += text.len() as u64;
        let Asked { upstream, generation, subject, asked, doubts, .. } = asked;
        let known =
            Known { entry, upstream, generation, subject, asked, doubts, received, life, owner, text };
        self.known.insert((tier.at(), key), known);
    }

    fn purge(&mut self, upstream: Option<usize>, tier: Option<usize>) {
        let (name, of) = (upstream.map(|at| UPSTREAMS[at]), tier.map(|at| Tier::ALL[at]));
        let purged = self.tiers.purge(name, of);
        let subject = of.map_or(Subject::Everything, Subject::Tier);
        self.scopes.invalidate(name, &subject);
        let concerned = (0..2).filter(|at| upstream.is_none_or(|one| one == *at));
        self.invalidated.extend(concerned.map(|at| (at, subject.clone())));
        let taken = self.leave(|known| {
            let meant = upstream.is_none_or(|at| at == known.upstream)
                && of.is_none_or(|tier| tier == known.entry.tier());
            meant.then_some(Cause::Purged)
        });
        assert_eq!((purged.entries, purged.bytes), taken);
    }

    /// Takes out of the model what leaves for a reason; gives how many entries and bytes.
    fn leave(&mut self, why: impl Fn(&Known) -> Option<Cause>) -> (u64, u64) {
        let leaving: Vec<_> = self
            .known
            .iter()
            .filter_map(|(key, known)| Some((*key, why(known)?, known.text.len())))
            .collect();
        let bytes = leaving.iter().map(|(_, _, bytes)| *bytes as u64).sum();
        let count = leaving.len() as u64;
        leaving.into_iter().for_each(|(key, cause, _)| self.gone(&key, cause));
        (count, bytes)
    }

    fn gone(&mut self, key: &(usize, Key), cause: Cause) {
        let known = self.known.remove(key).expect("only what is known leaves");
        let counts = self.counts(known.upstream, known.entry.tier());
        counts.left[cause as usize] += 1;
        counts.entries -= 1;
        counts.bytes -= known.text.len() as u64;
    }

    /// Follows what capacity took, and compares everything there is and everything that was counted.
    fn settle(&mut self) {
        for tier in Tier::ALL {
            let there: BTreeMap<_, _> = self.tiers.contents(tier).into_iter().collect();
            let ours: Vec<_> = self.known.keys().filter(|(at, _)| *at == tier.at()).copied().collect();
            let missing: Vec<_> = ours.iter().filter(|(_, key)| !there.contains_key(key)).copied().collect();
            let limits = self.limits.tier(tier).clone();
            if !missing.is_empty() {
                assert!(self.load(tier) > 1.0, "something left although there was room: {missing:?}");
            }
            missing.iter().for_each(|key| self.gone(key, Cause::Capacity));
            assert_eq!(there.len(), ours.len() - missing.len(), "something is there that nobody put");
            let bytes: u64 = there.values().map(|entry| entry.size()).sum();
            assert!(there.len() <= limits.entries as usize && bytes <= limits.bytes, "beyond its bounds");
        }
        for (upstream, name) in UPSTREAMS.into_iter().enumerate() {
            let _ = self.metrics.upstream(name);
            for tier in Tier::ALL {
                let sample = counted(&self.metrics, name, tier);
                let counted = Counts {
                    hits: sample.hits,
                    stale: sample.stale,
                    misses: sample.misses,
                    stored: sample.stored,
                    left: sample.left,
                    entries: sample.entries,
                    bytes: sample.bytes,
                };
                assert_eq!(counted, *self.counts(upstream, tier), "{name} {tier:?}");
            }
        }
    }

    /// How full a tier would be with all that the model knows in it; 1 is full.
    fn load(&self, tier: Tier) -> f64 {
        let limits = self.limits.tier(tier);
        let all = self.known.values().filter(|known| known.entry.tier() == tier);
        let bytes = |known: &Known| f64::from(u32::try_from(known.text.len()).unwrap());
        let share = |known: &Known| {
            (bytes(known) / f64::from(u32::try_from(limits.bytes).unwrap()))
                .max(1.0 / f64::from(limits.entries))
        };
        all.map(share).sum::<f64>() + 1e-6
    }
}

fn check_rendered(entry: &Entry, known: &Known, age: Age) {
    let left = known.life.saturating_sub(Instant::now() - known.received).as_millis();
    let left = if age == Age::Fresh { left } else { 0 };
    let expected = known
        .text
        .replace("\"first\"", "77")
        .replace(&format!("\"ttlMs\":{}", known.life.as_millis()), &format!("\"ttlMs\":{left}"));
    assert_eq!(entry.render(b"77", Instant::now()), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_wrong_foreign_expired_or_invalidated_is_ever_answered_and_every_count_is_exact(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async move {
            let mut world = World::new();
            for step in steps {
                if let Step::Advance(ms) = step {
                    tokio::time::advance(Duration::from_millis(ms.into())).await;
                }
                world.apply(step);
            }
        });
    }
}
