//! What may have changed since when, for each upstream: a sequence of numbers, and the last number of each thing
//! that an invalidation can concern.
//!
//! Owns these notes, nothing else: what is in memory it neither knows nor removes. A fetch takes the number of the
//! moment at which it begins; its answer may be used while nothing that concerns it has a higher one. So an answer
//! that lands after an invalidation that overtook it is as dead as one that was there before. It must never forget
//! an invalidation: where there is no room for one more, a wider one takes its place.

use super::key::Hashed;
use crate::{
    calls::Calls,
    mcp::method,
    metrics::{self, Metrics},
    plan::{self, Plan},
};
use arc_swap::ArcSwap;
use o1_proto::model::Tier;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

/// URIs of one upstream whose updates are told apart; one more, and every resource counts as updated.
const URIS_MAX: usize = 1024;
/// Bytes of such a URI; the update of a longer one counts for every resource.
const URI_MAX: usize = 1024;
/// The number of an upstream that is not served any more: whatever was fetched from it came before.
const RETIRED: u64 = u64::MAX;

/// Methods whose answers change as a whole.
const LISTS: [&str; 5] = [
    method::DISCOVER,
    method::TOOLS_LIST,
    method::PROMPTS_LIST,
    method::RESOURCES_LIST,
    method::TEMPLATES_LIST,
];

/// What a request is about, or what an invalidation concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// All there is of the upstream. Only of invalidations.
    Everything,
    /// All there is in one tier. Only of invalidations.
    Tier(Tier),
    /// All prompts, but not their list. Only of invalidations.
    Prompts,
    /// `server/discover` or a list, by its method.
    List(&'static str),
    /// Calls of a tool, by the upstream's own name.
    Tool(Box<str>),
    /// A prompt, by the upstream's own name.
    Prompt(Box<str>),
    /// A resource, by its URI.
    Resource(Box<str>),
}

impl Subject {
    /// The tier in which an answer about it is kept; `None` for what no single request is about.
    #[must_use]
    pub fn tier(&self) -> Option<Tier> {
        match self {
            Self::Everything | Self::Tier(_) | Self::Prompts => None,
            Self::Tool(_) => Some(Tier::Tools),
            Self::Resource(_) => Some(Tier::Resources),
            Self::List(_) | Self::Prompt(_) => Some(Tier::Catalogue),
        }
    }
}

/// A moment in the sequence of one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

/// The notes of one upstream in one configuration.
#[derive(Debug)]
pub struct Scope {
    name: String,
    metrics: Arc<metrics::Upstream>,
    /// The number given last.
    sequence: AtomicU64,
    everything: AtomicU64,
    tiers: [AtomicU64; Tier::ALL.len()],
    prompts: AtomicU64,
    /// In the order of [`LISTS`].
    lists: [AtomicU64; LISTS.len()],
    /// What was said until then, nobody may have heard.
    doubted: AtomicU64,
    /// The last call that may have changed something completed.
    written: AtomicU64,
    /// Changes when another process may answer than before.
    generation: AtomicU64,
    /// The highest number in `uris`, so that most look-ups need not read them.
    updated: AtomicU64,
    uris: RwLock<BTreeMap<Box<str>, u64>>,
}

impl Scope {
    fn new(name: &str, metrics: Arc<metrics::Upstream>) -> Self {
        Self {
            name: name.to_owned(),
            metrics,
            sequence: AtomicU64::new(0),
            everything: AtomicU64::new(0),
            tiers: Default::default(),
            prompts: AtomicU64::new(0),
            lists: Default::default(),
            doubted: AtomicU64::new(0),
            written: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            updated: AtomicU64::new(0),
            uris: RwLock::default(),
        }
    }

    /// The upstream's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where what happens to its answers is counted.
    #[must_use]
    pub fn counts(&self, tier: Tier) -> &metrics::Cached {
        self.metrics.cache(tier)
    }

    /// Where what it answers is told.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        self.metrics.calls()
    }

    /// What a fetch that begins now is stamped with. Take it before the request goes out.
    #[must_use]
    pub fn now(&self) -> Stamp {
        Stamp(self.sequence.load(SeqCst))
    }

    /// Whatever concerns `subject` and was asked for before now may not be used any more. Of one tool or prompt
    /// nothing in the protocol speaks, so that it means all of them.
    pub fn invalidate(&self, subject: &Subject) {
        let number = self.next();
        let note = match subject {
            Subject::Everything => &self.everything,
            Subject::Tier(tier) => &self.tiers[tier.at()],
            Subject::Tool(_) => &self.tiers[Tier::Tools.at()],
            Subject::Prompts | Subject::Prompt(_) => &self.prompts,
            Subject::List(method) => self.list(method),
            Subject::Resource(uri) => return self.updated(uri, number),
        };
        note.fetch_max(number, SeqCst);
    }

    /// Nobody may have heard what the upstream said until now: who listened to it lost it, or its process ended. What
    /// was asked for before now is asked for again, and serves only if that fails.
    pub fn doubt(&self) {
        self.doubted.fetch_max(self.next(), SeqCst);
    }

    /// Whether somebody would have heard if what was asked for at `stamp` had changed, as far as anybody listens.
    #[must_use]
    pub fn is_sure(&self, stamp: Stamp) -> bool {
        self.doubted.load(SeqCst) <= stamp.0
    }

    /// Notes which process answers, by a number that changes with it: what an earlier one said is doubted.
    pub fn answered_by(&self, generation: u64) {
        if self.generation.load(SeqCst) != generation
            && self.generation.swap(generation, SeqCst) != generation
        {
            self.doubt();
        }
    }

    /// A call that may have changed anything completed: see [`Scope::joins`].
    pub fn wrote(&self) {
        self.written.fetch_max(self.next(), SeqCst);
    }

    /// Whether an answer about `subject`, asked for at `stamp`, may be used.
    #[must_use]
    pub fn holds(&self, subject: &Subject, stamp: Stamp) -> bool {
        let unchanged = |note: &AtomicU64| note.load(SeqCst) <= stamp.0;
        let own = match subject {
            // URIs first: what there is no room for moves to the note of the tier, which is read later.
            Subject::Resource(uri) => unchanged(&self.updated) || self.last_update(uri) <= stamp.0,
            Subject::List(method) => unchanged(self.list(method)),
            Subject::Prompt(_) => unchanged(&self.prompts),
            Subject::Tool(_) => true,
            // No answer is about so much.
            Subject::Everything | Subject::Tier(_) | Subject::Prompts => unchanged(&self.sequence),
        };
        own && subject.tier().is_none_or(|tier| unchanged(&self.tiers[tier.at()]))
            && unchanged(&self.everything)
    }

    /// Whether a caller of now may wait for the answer to what was asked at `stamp`: it holds beyond doubt, and no
    /// call that may have changed something completed since, so that callers read what they wrote.
    #[must_use]
    pub fn joins(&self, subject: &Subject, stamp: Stamp) -> bool {
        self.written.load(SeqCst) <= stamp.0 && self.is_sure(stamp) && self.holds(subject, stamp)
    }

    /// Whether its upstream is not served any more as it was.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.everything.load(SeqCst) == RETIRED
    }

    fn retire(&self) {
        self.everything.store(RETIRED, SeqCst);
    }

    fn next(&self) -> u64 {
        self.sequence.fetch_add(1, SeqCst) + 1
    }

    fn list(&self, method: &str) -> &AtomicU64 {
        let known = LISTS.iter().position(|list| *list == method);
        known.map_or(&self.tiers[Tier::Catalogue.at()], |at| &self.lists[at])
    }

    fn updated(&self, uri: &str, number: u64) {
        let mut uris = self.uris.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(note) = uris.get_mut(uri) {
            *note = number.max(*note);
        } else if uris.len() < URIS_MAX && uri.len() <= URI_MAX {
            uris.insert(uri.into(), number);
        } else {
            // The note of the tier covers every URI that is forgotten; it stands before they go.
            self.tiers[Tier::Resources.at()].fetch_max(self.now().0, SeqCst);
            uris.clear();
        }
        self.updated.fetch_max(number, SeqCst);
    }

    /// The last update of a resource or of a part of it: an update may name a sub-resource of what was read.
    fn last_update(&self, uri: &str) -> u64 {
        let uris = self.uris.read().unwrap_or_else(PoisonError::into_inner);
        let beneath = uris.range::<str, _>((std::ops::Bound::Included(uri), std::ops::Bound::Unbounded));
        let beneath = beneath.take_while(|(updated, _)| updated.starts_with(uri));
        let part = |updated: &str| {
            uri.ends_with('/') || matches!(updated.as_bytes().get(uri.len()), None | Some(b'/' | b'?' | b'#'))
        };
        beneath.filter(|(updated, _)| part(updated)).map(|(_, number)| *number).max().unwrap_or(0)
    }
}

/// The scopes of the upstreams that are served. Looking one up takes no lock.
#[derive(Debug)]
pub struct Scopes {
    metrics: Arc<Metrics>,
    by_key: ArcSwap<HashMap<plan::Key, Arc<Scope>, Hashed>>,
}

impl Scopes {
    /// None yet.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: metrics.clone(), by_key: ArcSwap::default() }
    }

    /// The scope of an upstream. Of one that left the configuration, a new one, until [`Scopes::retain`].
    #[must_use]
    pub fn of(&self, upstream: &plan::Upstream) -> Arc<Scope> {
        if let Some(found) = self.by_key.load().get(&upstream.key) {
            return found.clone();
        }
        let new = Arc::new(Scope::new(&upstream.name, self.metrics.upstream(&upstream.name)));
        let mut ours = new.clone();
        self.by_key.rcu(|now| {
            let mut next = HashMap::clone(now);
            ours = next.entry(upstream.key).or_insert_with(|| new.clone()).clone();
            next
        });
        ours
    }

    /// Retires every scope whose upstream `plan` does not serve: what was fetched for it can never be used again,
    /// whenever it lands. Call it with each new plan, and now and then, for calls that still carried the last one.
    pub fn retain(&self, plan: &Plan) {
        let gone = |key: &plan::Key| plan.by_key(key).is_none();
        if !self.by_key.load().keys().any(gone) {
            return;
        }
        let before = self.by_key.rcu(|now| {
            let kept = now.iter().filter(|(key, _)| !gone(key));
            kept.map(|(key, scope)| (*key, scope.clone())).collect::<HashMap<_, _, _>>()
        });
        before.iter().filter(|(key, _)| gone(key)).for_each(|(_, scope)| scope.retire());
    }

    /// Invalidates `subject` for the upstream of that name in whatever configuration, or for every one.
    pub fn invalidate(&self, upstream: Option<&str>, subject: &Subject) {
        for scope in self.by_key.load().values() {
            if upstream.is_none_or(|name| name == scope.name) {
                scope.invalidate(subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Upstream, Version};
    use o1_proto::model::Fleet;

    fn uri(text: &str) -> Subject {
        Subject::Resource(text.into())
    }

    fn scope() -> Scope {
        Scope::new("u", Arc::default())
    }

    #[test]
    fn what_was_asked_before_an_invalidation_does_not_hold_and_what_was_asked_after_it_does() {
        let scope = scope();
        let before = scope.now();
        assert!(scope.holds(&uri("f:/a"), before));
        scope.invalidate(&uri("f:/a"));
        assert!(!scope.holds(&uri("f:/a"), before));
        assert!(scope.holds(&uri("f:/b"), before), "another resource");
        assert!(scope.holds(&Subject::List(method::RESOURCES_LIST), before));
        assert!(scope.holds(&uri("f:/a"), scope.now()));
    }

    #[test]
    fn the_update_of_a_part_concerns_the_whole() {
        let scope = scope();
        let before = scope.now();
        scope.invalidate(&uri("f:/dir/sub/file"));
        for whole in ["f:/dir/sub/file", "f:/dir/sub", "f:/dir/", "f:/dir", "f:/"] {
            assert!(!scope.holds(&uri(whole), before), "{whole}");
        }
        for other in ["f:/di", "f:/dir/sub/fil", "f:/dir/sub/file2", "f:/dir/other", "g:/"] {
            assert!(scope.holds(&uri(other), before), "{other}");
        }
    }

    #[test]
    fn a_list_of_tools_says_nothing_about_another_list() {
        let scope = scope();
        let before = scope.now();
        scope.invalidate(&Subject::List(method::TOOLS_LIST));
        assert!(!scope.holds(&Subject::List(method::TOOLS_LIST), before));
        for other in [method::DISCOVER, method::PROMPTS_LIST, method::RESOURCES_LIST, method::TEMPLATES_LIST]
        {
            assert!(scope.holds(&Subject::List(other), before), "{other}");
        }
        assert!(scope.holds(&Subject::Tool("t".into()), before), "results are invalidated by themselves");
    }

    #[test]
    fn more_updates_than_there_is_room_for_are_not_forgotten() {
        let scope = scope();
        let before = scope.now();
        for number in 0..=URIS_MAX {
            scope.invalidate(&uri(&format!("f:/{number}")));
        }
        assert!((0..=URIS_MAX).all(|number| !scope.holds(&uri(&format!("f:/{number}")), before)));
        assert!(scope.holds(&uri("f:/0"), scope.now()));
        let long = "x".repeat(URI_MAX + 1);
        let between = scope.now();
        scope.invalidate(&uri(&long));
        assert!(!scope.holds(&uri(&long), between));
        assert!(scope.uris.read().unwrap().len() <= URIS_MAX);
    }

    #[test]
    fn who_wrote_does_not_wait_for_what_was_asked_before() {
        let scope = scope();
        let (before, about) = (scope.now(), uri("f:/a"));
        assert!(scope.joins(&about, before));
        scope.wrote();
        assert!(scope.holds(&about, before), "its life is the server's word");
        assert!(!scope.joins(&about, before));
        assert!(scope.joins(&about, scope.now()));
        scope.invalidate(&about);
        assert!(!scope.joins(&about, before));
    }

    #[test]
    fn what_an_upstream_said_dies_with_its_configuration() {
        let scopes = Scopes::new(&Arc::default());
        let plan = |resources: &[&str]| {
            let resources = resources.iter().map(|&prefix| prefix.to_owned()).collect();
            let model = o1_proto::model::Upstream {
                name: "u".to_owned(),
                resources,
                ..o1_proto::model::Upstream::default()
            };
            Plan::compile(Version::default(), &Fleet { upstreams: vec![model], ..Fleet::default() }).unwrap()
        };
        let (first, second) = (plan(&[]), plan(&["f:/"]));
        let upstream = |plan: &Plan| -> Arc<Upstream> { plan.upstreams[0].clone() };
        let old = scopes.of(&upstream(&first));
        assert!(Arc::ptr_eq(&old, &scopes.of(&upstream(&first))));
        let stamp = old.now();
        scopes.retain(&plan(&[]));
        assert!(old.holds(&uri("f:/a"), stamp), "a plan that leaves it alone");
        scopes.retain(&second);
        assert!(old.is_retired() && !old.holds(&uri("f:/a"), stamp) && !old.holds(&uri("f:/a"), old.now()));
        old.invalidate(&Subject::Everything);
        assert!(old.is_retired(), "for good");
        let new = scopes.of(&upstream(&second));
        assert!(new.holds(&uri("f:/a"), new.now()));
        assert!(!Arc::ptr_eq(&old, &scopes.of(&upstream(&first))), "also when it comes back");
    }
}
