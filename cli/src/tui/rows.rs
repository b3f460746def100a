//! Tables of upstreams, and of their caches: what each column shows and how it sorts.

use super::state::Tab;
use crate::{
    counts::Tier,
    model::{Status, Upstream},
    output::{
        failover,
        page::{Span, Style},
        span::{self, UNKNOWN},
        status,
    },
};
use jiff::Timestamp;
use std::cmp::Ordering;

/// One row: an upstream, or one tier of its cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub upstream: &'a Upstream,
    pub tier: Option<&'a Tier>,
    as_of: Option<Timestamp>,
}

impl Row<'_> {
    /// What names it from one picture to the next.
    pub(super) fn key(&self) -> Key {
        Key { upstream: self.upstream.name.clone(), tier: self.tier.map_or("", |tier| tier.tier) }
    }

    fn mentions(&self, tab: Tab, word: &str) -> bool {
        columns(tab).iter().any(|column| (column.cell)(self).text().to_lowercase().contains(word))
    }
}

/// Names a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub upstream: String,
    tier: &'static str,
}

/// What a column shows, and what it sorts by.
pub(super) struct Column {
    pub title: &'static str,
    pub cell: fn(&Row<'_>) -> Span,
    rank: fn(&Row<'_>) -> Rank,
}

/// What sorts: text from A to Z, figures from the highest, what is absent always last.
#[derive(Debug, PartialEq)]
enum Rank {
    Text(String),
    Figure(f64),
    Absent,
}

impl Rank {
    fn of(figure: Option<f64>) -> Self {
        figure.map_or(Self::Absent, Self::Figure)
    }

    fn compare(&self, other: &Self, reverse: bool) -> Ordering {
        let order = match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Figure(a), Self::Figure(b)) => b.total_cmp(a),
            (Self::Absent, Self::Absent) => return Ordering::Equal,
            (Self::Absent, _) => return Ordering::Greater,
            (_, Self::Absent) => return Ordering::Less,
            _ => Ordering::Equal,
        };
        if reverse { order.reverse() } else { order }
    }
}

/// How the rows of a tab are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sort {
    /// Which column.
    pub column: usize,
    /// Not as this column sorts by itself.
    pub reverse: bool,
}

impl Sort {
    /// `REQ/S, highest first`
    pub(super) fn words(self, tab: Tab) -> String {
        let Some(column) = columns(tab).get(self.column) else { return String::new() };
        let text = TEXTS.contains(&column.title);
        let order = match (text, self.reverse) {
            (true, false) => "A to Z",
            (true, true) => "Z to A",
            (false, false) => column_first(column.title).0,
            (false, true) => column_first(column.title).1,
        };
        format!("{}, {order}", column.title)
    }
}

const TEXTS: [&str; 4] = ["UPSTREAM", "STORE", "BREAKER", "TIER"];

/// What comes first, by itself and reversed.
fn column_first(title: &str) -> (&'static str, &'static str) {
    match title {
        "STATE" => ("worst first", "best first"),
        "SINCE" | "LAST BACKUP SYNC" => ("newest first", "oldest first"),
        _ => ("highest first", "lowest first"),
    }
}

const NAME: Column = Column {
    title: "UPSTREAM",
    cell: |row| row.upstream.name.as_str().into(),
    rank: |row| Rank::Text(row.upstream.name.clone()),
};
const STATE: Column = Column {
    title: "STATE",
    cell: |row| status::place(row.upstream),
    rank: |row| {
        Rank::Figure(match status::place(row.upstream).style() {
            Style::Bad => 3.0,
            Style::Warning => 2.0,
            Style::Good => 0.0,
            _ => 1.0,
        })
    },
};
const STORE: Column = Column {
    title: "STORE",
    cell: |row| figure(row.upstream.failover.as_ref().map(failover::store)),
    rank: |row| row.upstream.failover.as_ref().map_or(Rank::Absent, |it| Rank::Text(failover::store(it))),
};
const SINCE: Column = Column {
    title: "SINCE",
    cell: |row| span::age(status::since(row.upstream), row.as_of).into(),
    rank: |row| Rank::of(status::since(row.upstream).map(seconds)),
};
const BREAKER: Column = Column {
    title: "BREAKER",
    cell: |row| failover::breaker(row.upstream.failover.as_ref().and_then(|it| it.primary_breaker)),
    rank: |row| {
        let breaker = row.upstream.failover.as_ref().and_then(|it| it.primary_breaker);
        breaker.map_or(Rank::Absent, |state| Rank::Text(state.word().to_owned()))
    },
};
const NODES: Column = Column {
    title: "NODES",
    cell: |row| status::reached(row.upstream).into(),
    rank: |row| Rank::Figure(row.upstream.nodes_reachable.into()),
};
const RATE: Column = Column {
    title: "REQ/S",
    cell: |row| rates(row, 0),
    rank: |row| Rank::of(row.upstream.rates.map(|rates| rates.requests_per_second)),
};
const P50: Column = Column {
    title: "P50",
    cell: |row| rates(row, 1),
    rank: |row| Rank::of(row.upstream.rates.and_then(|rates| rates.p50).map(|span| span.as_secs_f64())),
};
const P99: Column = Column {
    title: "P99",
    cell: |row| rates(row, 2),
    rank: |row| Rank::of(row.upstream.rates.and_then(|rates| rates.p99).map(|span| span.as_secs_f64())),
};
const ERRORS: Column = Column {
    title: "ERRORS",
    cell: |row| rates(row, 3),
    rank: |row| Rank::of(row.upstream.rates.and_then(|rates| rates.error_ratio)),
};
const HITS: Column = Column {
    title: "CACHE",
    cell: |row| rates(row, 4),
    rank: |row| Rank::of(row.upstream.rates.and_then(|rates| rates.hit_ratio)),
};
const SYNC: Column = Column {
    title: "LAST BACKUP SYNC",
    cell: |row| figure(row.upstream.failover.as_ref().map(|it| failover::last_sync(it, row.as_of))),
    rank: |row| {
        let failover = row.upstream.failover.as_ref();
        Rank::of(failover.and_then(|it| it.stats.last_backup_sync).map(seconds))
    },
};

static OVERVIEW: [Column; 7] = [NAME, STATE, STORE, SINCE, RATE, P99, HITS];
static UPSTREAMS: [Column; 12] =
    [NAME, STATE, STORE, SINCE, BREAKER, NODES, RATE, P50, P99, ERRORS, HITS, SYNC];
static CACHE: [Column; 9] = [
    NAME,
    Column {
        title: "TIER",
        cell: |row| row.tier.map_or(UNKNOWN, |tier| tier.tier).into(),
        rank: |row| row.tier.map_or(Rank::Absent, |tier| Rank::Text(tier.tier.to_owned())),
    },
    count("HITS", |row| count_of(row, |tier| tier.hits), |row| rank_of(row, |tier| tier.hits)),
    count("STALE", |row| count_of(row, |tier| tier.stale), |row| rank_of(row, |tier| tier.stale)),
    count("MISSES", |row| count_of(row, |tier| tier.misses), |row| rank_of(row, |tier| tier.misses)),
    count("COALESCED", |row| count_of(row, |tier| tier.coalesced), |row| rank_of(row, |tier| tier.coalesced)),
    Column {
        title: "RATE",
        cell: |row| figure(row.tier.and_then(|tier| tier.hit_ratio).map(span::percent)),
        rank: |row| Rank::of(row.tier.and_then(|tier| tier.hit_ratio)),
    },
    count("ENTRIES", |row| count_of(row, |tier| tier.entries), |row| rank_of(row, |tier| tier.entries)),
    count(
        "BYTES",
        |row| figure(row.tier.map(|tier| span::bytes(tier.bytes))),
        |row| rank_of(row, |tier| tier.bytes),
    ),
];

const fn count(title: &'static str, cell: fn(&Row<'_>) -> Span, rank: fn(&Row<'_>) -> Rank) -> Column {
    Column { title, cell, rank }
}

fn count_of(row: &Row<'_>, of: fn(&Tier) -> u64) -> Span {
    figure(row.tier.map(|tier| of(tier).to_string()))
}

fn rank_of(row: &Row<'_>, of: fn(&Tier) -> u64) -> Rank {
    Rank::of(row.tier.map(|tier| of(tier) as f64))
}

fn figure(text: Option<String>) -> Span {
    text.unwrap_or_else(|| UNKNOWN.to_owned()).into()
}

fn rates(row: &Row<'_>, which: usize) -> Span {
    let rates = status::rates(row.upstream);
    rates.into_iter().nth(which).unwrap_or_else(|| UNKNOWN.into())
}

fn seconds(moment: Timestamp) -> f64 {
    moment.as_millisecond() as f64 / 1e3
}

/// The columns of a tab; none where it is no table.
pub(super) fn columns(tab: Tab) -> &'static [Column] {
    match tab {
        Tab::Overview => &OVERVIEW,
        Tab::Upstreams => &UPSTREAMS,
        Tab::Cache => &CACHE,
        Tab::Requests | Tab::Events | Tab::Logs => &[],
    }
}

/// Every row of a tab: upstreams, or the tiers in which anything ever happened.
fn all(tab: Tab, status: &Status) -> Vec<Row<'_>> {
    let row = |upstream, tier| Row { upstream, tier, as_of: status.as_of };
    let upstreams = status.upstreams.iter();
    match tab {
        Tab::Overview | Tab::Upstreams => upstreams.map(|upstream| row(upstream, None)).collect(),
        Tab::Cache => upstreams
            .flat_map(|upstream| {
                let used = upstream.cache.iter().filter(|tier| tier.is_used());
                used.map(move |tier| row(upstream, Some(tier)))
            })
            .collect(),
        Tab::Requests | Tab::Events | Tab::Logs => vec![],
    }
}

/// The rows that are shown, in their order, and how many there are without the filter.
pub(super) fn shown<'a>(tab: Tab, status: &'a Status, filter: &str, sort: Sort) -> (Vec<Row<'a>>, usize) {
    let mut rows = all(tab, status);
    let count = rows.len();
    let word = filter.to_lowercase();
    rows.retain(|row| word.is_empty() || row.mentions(tab, &word));
    if let Some(column) = columns(tab).get(sort.column) {
        // Stable: rows that are equal stay in the order of their names.
        rows.sort_by(|a, b| (column.rank)(a).compare(&(column.rank)(b), sort.reverse));
    }
    (rows, count)
}
