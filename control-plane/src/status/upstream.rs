//! How a row about an upstream comes about. Pure.

use super::{EndpointStatus, TierStatus, UpstreamState, UpstreamStatus, picture::RatesView};
use crate::stats::{EndpointCounters, Rates, Reachability, Sample, Totals};
use http::Uri;
use o1_proto::model::{Backup, Endpoint, EndpointKind, Tier, Upstream};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

/// Different errors that are shown of one upstream.
const MAX_ERRORS: usize = 10;
/// Characters of a command that are shown.
const MAX_COMMAND: usize = 120;

/// A row, but for what is decided about its stores: `said` is what connected nodes say of the upstream, and there are `nodes` of them, some of which may not
/// have said anything yet.
#[must_use]
pub fn row(
    upstream: &Upstream,
    said: &[&Sample],
    nodes: usize,
    totals: &Totals,
    rates: Option<Rates>,
) -> UpstreamStatus {
    let of = |wanted: Reachability| -> Vec<&Sample> {
        said.iter().copied().filter(|sample| sample.reachability == wanted).collect()
    };
    let (reachable, unreachable) = (of(Reachability::Reachable), of(Reachability::Unreachable));
    let samples = || said.iter();
    let errors: BTreeSet<&str> =
        unreachable.iter().map(|sample| sample.last_error.as_str()).filter(|text| !text.is_empty()).collect();
    UpstreamStatus {
        name: upstream.name.clone(),
        state: match (reachable.is_empty(), unreachable.is_empty()) {
            (true, true) => UpstreamState::Unknown,
            (false, true) => UpstreamState::Healthy,
            (false, false) => UpstreamState::Degraded,
            (true, false) => UpstreamState::Unreachable,
        },
        nodes_reachable: count(reachable.len()),
        nodes_unreachable: count(unreachable.len()),
        nodes_unknown: count(nodes.saturating_sub(reachable.len() + unreachable.len())),
        since: since(&reachable, &unreachable),
        errors: errors.into_iter().take(MAX_ERRORS).map(str::to_owned).collect(),
        totals: totals.counters,
        active_requests: samples().map(|sample| sample.active_requests).sum(),
        rates: rates.map(|rates| RatesView { rates }),
        legacy: samples().any(|sample| sample.legacy),
        modern: samples().any(|sample| sample.modern),
        tools: samples().filter_map(|sample| sample.tools).max(),
        primary: store(&upstream.primary),
        backup: match &upstream.backup {
            None => String::new(),
            Some(Backup::Snapshot) => "snapshot".to_owned(),
            Some(Backup::Endpoints(endpoints)) => store(endpoints),
        },
        cache: Tier::ALL.map(|one| tier(one, said, totals)).to_vec(),
        endpoints: endpoints(said, &totals.endpoints),
        batches: totals.batches,
        failover: None,
    }
}

fn tier(tier: Tier, said: &[&Sample], totals: &Totals) -> TierStatus {
    let there = || said.iter().map(|sample| &sample.cache[tier.at()]);
    TierStatus {
        tier,
        counters: totals.cache[tier.at()],
        entries: there().map(|one| one.entries).sum(),
        bytes: there().map(|one| one.bytes).sum(),
    }
}

/// Those that a connected node has in its configuration.
fn endpoints(said: &[&Sample], totals: &BTreeMap<String, EndpointCounters>) -> Vec<EndpointStatus> {
    let mut rows: BTreeMap<&str, EndpointStatus> = BTreeMap::new();
    for (label, one) in said.iter().flat_map(|sample| &sample.endpoints).filter(|(_, one)| !one.gone) {
        let row = rows.entry(label).or_insert_with(|| EndpointStatus {
            endpoint: label.clone(),
            counters: totals.get(label).copied().unwrap_or_default(),
            in_flight: 0,
            waiting: 0,
            nodes: 0,
            nodes_ejecting: 0,
        });
        row.in_flight += one.in_flight;
        row.waiting += one.waiting;
        row.nodes += 1;
        row.nodes_ejecting += u32::from(one.ejected);
    }
    rows.into_values().collect()
}

/// The state began when the last node joined the others in it; a divided one when the first node left them.
fn since(reachable: &[&Sample], unreachable: &[&Sample]) -> Option<SystemTime> {
    let times =
        |samples: &[&Sample]| -> Vec<SystemTime> { samples.iter().filter_map(|one| one.since).collect() };
    let (up, down) = (times(reachable), times(unreachable));
    if reachable.is_empty() || unreachable.is_empty() {
        up.into_iter().chain(down).max()
    } else {
        up.into_iter().min().max(down.into_iter().min())
    }
}

/// One line about what a store consists of.
fn store(endpoints: &[Endpoint]) -> String {
    match endpoints {
        [one] => endpoint(&one.kind),
        many => format!("{} endpoints", many.len()),
    }
}

fn endpoint(kind: &EndpointKind) -> String {
    match kind {
        EndpointKind::Http { url, .. } => plain_url(url),
        EndpointKind::Stdio { command, .. } => {
            let line = command.join(" ");
            match line.char_indices().nth(MAX_COMMAND) {
                Some((end, _)) => format!("{}…", &line[..end]),
                None => line,
            }
        }
    }
}

/// Without what may be a secret: user, password and query.
fn plain_url(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}://{host}{}{query}", url.scheme_str().unwrap_or("http"), url.path())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{self, Batches, Counters, EndpointCounters, Histogram, LookUps};
    use std::{
        collections::BTreeMap,
        time::{Duration, UNIX_EPOCH},
    };

    fn http(url: &str) -> Endpoint {
        Endpoint {
            kind: EndpointKind::Http { url: url.parse().unwrap(), transport: Default::default() },
            weight: 1,
        }
    }

    fn upstream(primary: Vec<Endpoint>, backup: Option<Backup>) -> Upstream {
        Upstream {
            name: "a".to_owned(),
            prefix: None,
            primary,
            backup,
            headers: BTreeMap::new(),
            ..Upstream::default()
        }
    }

    fn sample(reachability: Reachability, since: u64, error: &str) -> Sample {
        Sample {
            upstream: "a".to_owned(),
            counters: Counters::default(),
            active_requests: 2,
            latency: Histogram::default(),
            reachability,
            since: Some(at(since)),
            last_error: error.to_owned(),
            legacy: false,
            modern: true,
            tools: Some(u32::try_from(since).unwrap()),
            cache: Default::default(),
            endpoints: BTreeMap::new(),
            batches: Batches::default(),
        }
    }

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    fn picture(said: &[&Sample], nodes: usize) -> UpstreamStatus {
        row(&upstream(vec![http("http://127.0.0.1:1/mcp")], None), said, nodes, &Totals::default(), None)
    }

    #[test]
    fn the_state_is_what_the_nodes_that_tried_agree_on() {
        use Reachability::{Reachable, Unknown, Unreachable};
        type Case = (&'static [(Reachability, u64)], UpstreamState, Option<u64>);
        let cases: &[Case] = &[
            (&[], UpstreamState::Unknown, None),
            (&[(Unknown, 1)], UpstreamState::Unknown, None),
            (&[(Reachable, 1), (Unknown, 9)], UpstreamState::Healthy, Some(1)),
            // Healthy as a whole since the last of them is.
            (&[(Reachable, 1), (Reachable, 5)], UpstreamState::Healthy, Some(5)),
            (&[(Unreachable, 4), (Unreachable, 2)], UpstreamState::Unreachable, Some(4)),
            // Divided since the first of them broke away.
            (&[(Reachable, 1), (Unreachable, 5), (Unreachable, 7)], UpstreamState::Degraded, Some(5)),
            (&[(Unreachable, 1), (Reachable, 6), (Reachable, 8)], UpstreamState::Degraded, Some(6)),
        ];
        for (nodes, state, since) in cases {
            let samples: Vec<Sample> = nodes.iter().map(|(what, since)| sample(*what, *since, "")).collect();
            let said: Vec<&Sample> = samples.iter().collect();
            let found = picture(&said, said.len());
            assert_eq!((found.state, found.since), (*state, since.map(at)), "{nodes:?}");
        }
    }

    #[test]
    fn nodes_without_a_report_are_unknown_and_errors_are_said_once() {
        let down = sample(Reachability::Unreachable, 1, "connection refused");
        let silent = sample(Reachability::Unreachable, 1, "");
        let found = picture(&[&down, &down, &silent], 4);
        assert_eq!((found.nodes_reachable, found.nodes_unreachable, found.nodes_unknown), (0, 3, 1));
        assert_eq!(found.errors, ["connection refused"]);
        assert_eq!(found.active_requests, 6);
    }

    #[test]
    fn counts_are_of_everybody_and_what_is_there_of_those_who_say_so_now() {
        let mut said = [sample(Reachability::Reachable, 1, ""), sample(Reachability::Reachable, 1, "")];
        let endpoint =
            |in_flight, ejected, gone| stats::Endpoint { in_flight, ejected, gone, ..Default::default() };
        for (one, entries) in said.iter_mut().zip([3, 4]) {
            (one.cache[Tier::Tools.at()].entries, one.cache[Tier::Tools.at()].bytes) =
                (entries, 10 * entries);
            one.endpoints.insert("both".to_owned(), endpoint(entries, entries == 4, false));
            one.endpoints.insert("old".to_owned(), endpoint(1, true, true));
        }
        said[1].endpoints.insert("new".to_owned(), endpoint(0, false, false));
        let mut totals = Totals::default();
        totals.cache[Tier::Tools.at()].look_ups = LookUps { hits: 99, ..LookUps::default() };
        for label in ["both", "old", "older"] {
            totals.endpoints.insert(label.to_owned(), EndpointCounters { picks: 50, ..Default::default() });
        }
        let upstream = upstream(vec![http("http://127.0.0.1:1/mcp")], None);
        let found = row(&upstream, &[&said[0], &said[1]], 2, &totals, None);
        let tiers: Vec<_> = found.cache.iter().map(|one| (one.tier, one.counters.look_ups.hits)).collect();
        assert_eq!(tiers, [(Tier::Tools, 99), (Tier::Resources, 0), (Tier::Catalogue, 0)]);
        assert_eq!((found.cache[0].entries, found.cache[0].bytes), (7, 70));
        let endpoints: Vec<_> = found
            .endpoints
            .iter()
            .map(|one| (&*one.endpoint, one.counters.picks, one.in_flight, one.nodes, one.nodes_ejecting))
            .collect();
        assert_eq!(endpoints, [("both", 50, 7, 2, 1), ("new", 0, 0, 1, 0)]);
    }

    #[test]
    fn a_store_is_described_in_one_line_without_secrets() {
        let stdio = |command: &[&str]| Endpoint {
            kind: EndpointKind::Stdio {
                command: command.iter().map(|part| (*part).to_owned()).collect(),
                env: BTreeMap::new(),
                processes: Default::default(),
                cwd: None,
                idle_stop: None,
            },
            weight: 1,
        };
        let long = "é".repeat(200);
        let cases = [
            (vec![http("http://127.0.0.1:3101/mcp")], "http://127.0.0.1:3101/mcp"),
            (vec![http("https://user:secret@example.com/mcp?key=secret")], "https://example.com/mcp?…"),
            (vec![http("http://a/"), http("http://b/")], "2 endpoints"),
            (vec![stdio(&["npx", "-y", "server"])], "npx -y server"),
            (vec![stdio(&[&long])], &format!("{}…", "é".repeat(120))),
        ];
        for (endpoints, expected) in cases {
            assert_eq!(store(&endpoints), *expected);
        }
        let backups = [
            (None, ""),
            (Some(Backup::Snapshot), "snapshot"),
            (Some(Backup::Endpoints(vec![http("http://b/mcp")])), "http://b/mcp"),
        ];
        for (backup, expected) in backups {
            let upstream = upstream(vec![http("http://a/")], backup);
            assert_eq!(row(&upstream, &[], 0, &Totals::default(), None).backup, expected);
        }
    }
}
