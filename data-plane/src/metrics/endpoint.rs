//! What is counted of one endpoint: who was sent there, who waits for a place, whether it is left out. Never decides
//! anything by it: balancing keeps its own state.

use crate::plan;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

/// Characters of a program that are shown.
const MAX_PROGRAM: usize = 120;

/// The numbers of one endpoint of one upstream, over all its configurations.
#[derive(Debug, Default)]
pub struct Endpoint {
    picks: AtomicU64,
    in_flight: AtomicI64,
    ejections: AtomicU64,
    ejected: AtomicI64,
    retries: AtomicU64,
    queued: AtomicU64,
    waiting: AtomicI64,
    refused: AtomicU64,
}

/// One endpoint's numbers at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointSample {
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

impl Endpoint {
    /// An attempt goes there; it is in flight until the guard is dropped.
    #[must_use]
    pub fn picked(self: &Arc<Self>) -> Picked {
        self.picks.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        Picked(self.clone())
    }

    /// It is left out from now on. Exactly one [`Endpoint::returned`] follows, also when its configuration ends.
    pub fn ejected(&self) {
        self.ejections.fetch_add(1, Relaxed);
        self.ejected.fetch_add(1, Relaxed);
    }

    /// It is used again.
    pub fn returned(&self) {
        self.ejected.fetch_sub(1, Relaxed);
    }

    /// The attempt is not the first of its call. Counted beside [`Endpoint::picked`].
    pub fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// An attempt waits for a place until the guard is dropped.
    #[must_use]
    pub fn queued(self: &Arc<Self>) -> Queued {
        self.queued.fetch_add(1, Relaxed);
        self.waiting.fetch_add(1, Relaxed);
        Queued(self.clone())
    }

    /// An attempt got no place: too many wait, or it waited too long.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn sample(&self) -> EndpointSample {
        let gauge = |value: &AtomicI64| u64::try_from(value.load(Relaxed)).unwrap_or(0);
        EndpointSample {
            picks: self.picks.load(Relaxed),
            in_flight: gauge(&self.in_flight),
            ejections: self.ejections.load(Relaxed),
            ejected: self.ejected.load(Relaxed) > 0,
            retries: self.retries.load(Relaxed),
            queued: self.queued.load(Relaxed),
            waiting: gauge(&self.waiting),
            refused: self.refused.load(Relaxed),
        }
    }
}

/// One attempt that is at its endpoint, until this is dropped.
#[derive(Debug)]
pub struct Picked(Arc<Endpoint>);

impl Drop for Picked {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// One attempt that waits for a place, until this is dropped.
#[derive(Debug)]
pub struct Queued(Arc<Endpoint>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// What an upstream's endpoints are called in metrics and status, in the order of [`plan::Upstream::endpoints`]: the URL
/// or the program, without what may be a secret, as arguments are. No two are called the same.
#[must_use]
pub fn labels(upstream: &plan::Upstream) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let own = upstream.endpoints.iter().map(label);
    own.map(|label| {
        let times = seen.entry(label.clone()).and_modify(|times| *times += 1).or_insert(1_u32);
        if *times == 1 { label } else { format!("{label} #{times}") }
    })
    .collect()
}

fn label(endpoint: &plan::Endpoint) -> String {
    match endpoint {
        plan::Endpoint::Http { url, .. } => plain_url(url),
        plan::Endpoint::Stdio { command, .. } => {
            let program = command.first().map_or("", String::as_str);
            match program.char_indices().nth(MAX_PROGRAM) {
                Some((end, _)) => format!("{}…", &program[..end]),
                None => program.to_owned(),
            }
        }
    }
}

/// Without user, password and query.
fn plain_url(url: &http::Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}://{host}{}{query}", url.scheme_str().unwrap_or("http"), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_lands_in_its_own_place() {
        let endpoint = Arc::new(Endpoint::default());
        let there = [endpoint.picked(), endpoint.picked(), endpoint.picked()];
        let waits = [endpoint.queued(), endpoint.queued()];
        endpoint.ejected();
        (0..4).for_each(|_| endpoint.retried());
        (0..5).for_each(|_| endpoint.refused());
        let expected = EndpointSample {
            picks: 3,
            in_flight: 3,
            ejections: 1,
            ejected: true,
            retries: 4,
            queued: 2,
            waiting: 2,
            refused: 5,
        };
        assert_eq!(endpoint.sample(), expected);
        drop((there, waits));
        endpoint.returned();
        let after = EndpointSample { in_flight: 0, waiting: 0, ejected: false, ..expected };
        assert_eq!(endpoint.sample(), after);
    }

    #[test]
    fn what_is_in_flight_goes_down_with_a_task_that_is_dropped_or_panics() {
        let endpoint = Arc::new(Endpoint::default());
        let there = endpoint.picked();
        let ended = std::thread::spawn(move || {
            let _there = there;
            panic!("the attempt dies");
        });
        assert!(ended.join().is_err());
        assert_eq!((endpoint.sample().picks, endpoint.sample().in_flight), (1, 0));
    }

    #[test]
    fn endpoints_are_told_apart_and_show_no_secret() {
        let http = |url: &str| plan::Endpoint::Http {
            url: url.parse().unwrap(),
            transport: Default::default(),
            headers: http::HeaderMap::new(),
            tls: None,
        };
        let mut upstream = plan::Upstream::bare("a");
        upstream.endpoints = vec![
            http("http://me:secret@127.0.0.1:1/mcp?key=secret"),
            http("http://127.0.0.1:2/mcp"),
            http("http://127.0.0.1:2/mcp"),
            plan::Endpoint::Stdio {
                command: vec!["n".repeat(200), "--key=secret".into()],
                env: vec![("TOKEN".into(), "secret".into())],
                cwd: None,
                processes: o1_proto::model::Processes::Shared,
                idle_stop: None,
            },
        ];
        let labels = labels(&upstream);
        assert_eq!(
            labels[..3],
            ["http://127.0.0.1:1/mcp?…", "http://127.0.0.1:2/mcp", "http://127.0.0.1:2/mcp #2"]
        );
        assert_eq!(labels[3], format!("{}…", "n".repeat(120)));
    }
}
