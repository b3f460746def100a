//! Metrics from both ends: what a process serves, and what an expression of Prometheus asks for.

use o1_tests::{Http, Reply};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// One selector of an expression.
#[derive(Debug, PartialEq, Eq)]
pub struct Series {
    pub name: String,
    pub labels: Vec<String>,
}

/// What an expression names.
#[derive(Debug, Default)]
pub struct Query {
    pub series: Vec<Series>,
    /// In `by (…)`, `ignoring (…)` and the like.
    pub grouped: Vec<String>,
}

/// The text of `/metrics`.
pub async fn scrape(admin: SocketAddr) -> String {
    let reply = Http::new(admin).try_send("GET", "/metrics", &[], "").await.expect("it serves");
    Reply::read(reply).await.text()
}

/// Each series by its full name, with the labels it has.
pub fn served(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut served: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = word(line);
        let labels = line[name.len()..].strip_prefix('{').map(|rest| labels(rest).0).unwrap_or_default();
        served.entry(name.to_owned()).or_default().extend(labels);
    }
    served
}

/// What an expression asks for: of ours, not of Prometheus's functions.
pub fn query(expression: &str) -> Query {
    let (mut query, mut rest) = (Query::default(), expression);
    while let Some(next) = rest.chars().next() {
        let name = word(rest);
        if name.is_empty() {
            rest = &rest[next.len_utf8()..];
            continue;
        }
        rest = &rest[name.len()..];
        if name.starts_with("o1_") {
            let mut series = Series { name: name.to_owned(), labels: Vec::new() };
            if let Some(selector) = rest.strip_prefix('{') {
                let (labels, length) = labels(selector);
                (series.labels, rest) = (labels, &selector[length..]);
            }
            query.series.push(series);
        } else if ["by", "without", "on", "ignoring"].contains(&name)
            && let Some(list) = rest.trim_start().strip_prefix('(')
        {
            let (list, after) = list.split_once(')').expect("a list ends");
            query.grouped.extend(list.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        }
    }
    query
}

/// The names of labels up to the closing brace, and how long that was. Values may hold anything.
fn labels(text: &str) -> (Vec<String>, usize) {
    let (mut names, mut at) = (Vec::new(), 0);
    loop {
        let rest = &text[at..];
        let Some(next) = rest.chars().next() else { return (names, at) };
        match next {
            '}' => return (names, at + 1),
            '"' => at += 2 + value(&rest[1..]),
            _ if word(rest).is_empty() => at += next.len_utf8(),
            _ => {
                names.push(word(rest).to_owned());
                at += word(rest).len();
            }
        }
    }
}

/// Bytes before the quotation mark that ends a value.
fn value(text: &str) -> usize {
    let mut escaped = false;
    text.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })
    .expect("a value ends")
}

/// The letters, digits and underscores at the beginning.
pub fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}
