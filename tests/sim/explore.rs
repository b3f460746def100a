//! All states that can be reached, breadth first, so that the way to a fault is a shortest one.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
};

/// A step that can be taken, and what it breaks.
pub struct Next<S> {
    /// What happens.
    pub step: &'static str,
    /// Where that leads.
    pub state: S,
}

/// What can be said of a state.
pub trait Judged {
    /// The promise that it breaks.
    fn breaks(&self) -> Option<&'static str>;
    /// Everything is where it should be and nothing waits.
    fn is_home(&self) -> bool;
}

/// A promise, and the steps that break it.
#[derive(Debug)]
pub struct Broken {
    pub promise: &'static str,
    pub steps: Vec<&'static str>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} broken in {} steps: {}", self.promise, self.steps.len(), self.steps.join(", "))
    }
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    pub states: usize,
    pub edges: usize,
    pub broken: Option<Broken>,
    /// States from which no way leads home; counted only if nothing is broken.
    pub stuck: usize,
    /// One of them.
    pub example: Option<String>,
}

struct Seen {
    from: u32,
    step: &'static str,
}

/// Explores everything that can be reached from `first`.
pub fn explore<S: Clone + Eq + Hash + fmt::Debug + Judged>(
    first: S,
    steps: impl Fn(&S, &mut dyn FnMut(Next<S>)),
) -> Found {
    let mut known: HashMap<S, u32> = HashMap::from([(first.clone(), 0)]);
    let mut seen = vec![Seen { from: 0, step: "" }];
    let mut back: Vec<Vec<u32>> = vec![Vec::new()];
    let mut home = vec![first.is_home()];
    let mut queue = VecDeque::from([first]);
    let mut edges = 0;
    while let Some(state) = queue.pop_front() {
        let at = known[&state];
        let mut nexts = Vec::new();
        steps(&state, &mut |next| nexts.push(next));
        for Next { step, state } in nexts {
            edges += 1;
            let new = u32::try_from(seen.len()).expect("fewer states than that");
            let to = *known.entry(state.clone()).or_insert(new);
            if to == new {
                seen.push(Seen { from: at, step });
                back.push(Vec::new());
                home.push(state.is_home());
                if let Some(promise) = state.breaks() {
                    let steps = path(&seen, new);
                    let broken = Some(Broken { promise, steps });
                    return Found { states: seen.len(), edges, broken, stuck: 0, example: None };
                }
                queue.push_back(state);
            }
            back[to as usize].push(at);
        }
    }
    let stuck = cannot_reach(&home, &back);
    let example = stuck.first().and_then(|at| {
        let state = known.iter().find(|(_, known)| *known == at)?.0;
        Some(format!("{state:?} after {}", path(&seen, *at).join(", ")))
    });
    Found { states: seen.len(), edges, broken: None, stuck: stuck.len(), example }
}

fn path(seen: &[Seen], mut at: u32) -> Vec<&'static str> {
    let mut steps = Vec::new();
    while at != 0 {
        let Seen { from, step } = seen[at as usize];
        steps.push(step);
        at = from;
    }
    steps.reverse();
    steps
}

/// Who cannot reach any of `home`, by walking backwards from there.
fn cannot_reach(home: &[bool], back: &[Vec<u32>]) -> Vec<u32> {
    let mut reaches = home.to_vec();
    let mut queue: VecDeque<usize> = (0..home.len()).filter(|at| home[*at]).collect();
    while let Some(at) = queue.pop_front() {
        for from in &back[at] {
            if !std::mem::replace(&mut reaches[*from as usize], true) {
                queue.push_back(*from as usize);
            }
        }
    }
    let stuck = reaches.iter().enumerate().filter(|(_, reaches)| !**reaches);
    stuck.map(|(at, _)| u32::try_from(at).expect("it was one")).collect()
}
