//! The figures: a table for people, JSON for programs. Medians over the rounds; a ratio is the median of the ratios
//! within each round.

use crate::series::{Round, Row, Way};
use serde_json::{Value, json};
use std::{
    io::{self, Write},
    time::Duration,
};

/// The figures of one row.
struct Figures {
    per_second: f64,
    /// Requests per second over those without a gateway.
    ratio: Option<f64>,
    /// p50, p90, p99, p99.9, microseconds.
    latency: [f64; 4],
    /// CPU milliseconds per 1,000 requests: the process that is asked, the generator, the upstream.
    cpu: [f64; 3],
    resident: u64,
    /// Requests that reached the upstream in all rounds.
    reached: u64,
    errors: u64,
    first_error: Option<String>,
}

const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// Writes the table.
///
/// # Errors
/// Nobody reads it.
pub fn print(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:>5}  {:<12} {:>9} {:>7}  {:>8} {:>8} {:>8} {:>8}  {:>7} {:>7} {:>7}  {:>8} {:>9} {:>6}",
        "conns",
        "way",
        "req/s",
        "direct",
        "p50 us",
        "p90 us",
        "p99 us",
        "p99.9",
        "cpu",
        "gen",
        "upstr",
        "MiB",
        "reached",
        "errors"
    )?;
    for row in rows {
        let figures = figures(rows, row);
        let ratio = figures.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}x"));
        let [p50, p90, p99, p999] = figures.latency;
        let [asked, generator, upstream] = figures.cpu;
        writeln!(
            out,
            "{:>5}  {:<12} {:>9.0} {ratio:>7}  {p50:>8.0} {p90:>8.0} {p99:>8.0} {p999:>8.0}  \
             {asked:>7.1} {generator:>7.1} {upstream:>7.1}  {:>8.1} {:>9} {:>6}",
            row.connections,
            row.way.name(),
            figures.per_second,
            mebibytes(figures.resident),
            figures.reached,
            figures.errors,
        )?;
        if let Some(error) = figures.first_error {
            writeln!(out, "       the first error: {error}")?;
        }
    }
    writeln!(
        out,
        "cpu: milliseconds per 1,000 requests of who is asked, the generator, the upstream; reached: requests that \
         the upstream saw"
    )
}

/// All figures.
pub fn json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let figures = figures(rows, row);
        let [p50, p90, p99, p999] = figures.latency;
        let [asked, generator, upstream] = figures.cpu;
        json!({
            "way": row.way.name(),
            "connections": row.connections,
            "answers": row.rounds.iter().map(|round| round.outcome.latencies.total()).sum::<u64>(),
            "requests_per_second": figures.per_second,
            "ratio_to_direct": figures.ratio,
            "latency_us": { "p50": p50, "p90": p90, "p99": p99, "p99_9": p999 },
            "cpu_ms_per_1000": { "asked": asked, "generator": generator, "upstream": upstream },
            "resident_bytes": figures.resident,
            "reached_upstream": figures.reached,
            "errors": figures.errors,
            "first_error": figures.first_error,
            "requests_per_second_by_round": row.rounds.iter().map(per_second).collect::<Vec<_>>(),
        })
    };
    Value::Array(rows.iter().map(row).collect())
}

fn figures(rows: &[Row], row: &Row) -> Figures {
    let over = |figure: &dyn Fn(&Round) -> f64| median(row.rounds.iter().map(figure).collect());
    let direct = rows.iter().find(|one| one.way == Way::Direct && one.connections == row.connections);
    let ratio = direct.filter(|_| row.way != Way::Direct).map(|direct| {
        let pairs = row.rounds.iter().zip(&direct.rounds);
        median(pairs.map(|(ours, direct)| per_second(ours) / per_second(direct)).collect())
    });
    let cpu = |of: fn(&Round) -> Duration| {
        over(&|round| of(round).as_secs_f64() * 1e6 / count(round.outcome.latencies.total()).max(1.0))
    };
    Figures {
        per_second: over(&per_second),
        ratio,
        latency: QUANTILES
            .map(|share| over(&|round| round.outcome.latencies.quantile(share).as_secs_f64() * 1e6)),
        cpu: [cpu(|round| round.asked), cpu(|round| round.generator), cpu(|round| round.upstream)],
        resident: row.rounds.last().map_or(0, |round| round.resident),
        reached: row.rounds.iter().map(|round| round.reached).sum(),
        errors: row.rounds.iter().map(|round| round.outcome.errors).sum(),
        first_error: row.rounds.iter().find_map(|round| round.outcome.first_error.clone()),
    }
}

fn per_second(round: &Round) -> f64 {
    count(round.outcome.latencies.total()) / round.time.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        even if even % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[expect(clippy::cast_precision_loss, reason = "no run has 2^52 requests")]
fn count(value: u64) -> f64 {
    value as f64
}

fn mebibytes(bytes: u64) -> f64 {
    count(bytes) / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{generator::Outcome, histogram::Histogram};

    fn row(way: Way, requests: &[u64]) -> Row {
        let round = |requests: &u64| {
            let mut latencies = Histogram::default();
            (0..*requests).for_each(|_| latencies.record(Duration::from_micros(100)));
            let outcome = Outcome { latencies, ..Outcome::default() };
            let (time, asked) = (Duration::from_secs(2), Duration::from_millis(*requests / 10));
            let (generator, upstream) = (asked / 2, Duration::ZERO);
            Round { outcome, time, asked, generator, upstream, reached: 1, resident: 1 << 20 }
        };
        Row { way, connections: 4, rounds: requests.iter().map(round).collect() }
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        // The second round was disturbed; it was so for both.
        let rows = [row(Way::Direct, &[1_000, 100, 1_100]), row(Way::One, &[800, 90, 880])];
        let figures = figures(&rows, &rows[1]);
        assert!((figures.ratio.unwrap() - 0.8).abs() < 1e-9);
        assert!((figures.per_second - 400.0).abs() < 1e-9, "the median of 400, 45 and 440");
        assert!((figures.cpu[0] - 100.0).abs() < 1e-9 && (figures.cpu[1] - 50.0).abs() < 1e-9);
        assert_eq!(figures.reached, 3);
        let json = json(&rows);
        assert_eq!(json[1]["way"], "/u/load/mcp");
        assert!(json[0]["ratio_to_direct"].is_null());
        let mut table = Vec::new();
        print(&rows, &mut table).unwrap();
        assert!(String::from_utf8(table).unwrap().contains(" 0.80x "));
    }
}
