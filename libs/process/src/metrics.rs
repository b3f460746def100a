//! The Prometheus text format, version 0.0.4, written in one pass. Pure: what to measure is for the caller.

use std::fmt::{self, Write as _};

/// The media type of what [`Exposition::finish`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One scrape, as it is being written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// One histogram as counted: not cumulative.
#[derive(Debug, Clone, Copy)]
pub struct Histogram<'a> {
    /// Upper bounds of the buckets, ascending, in the unit of the metric (seconds).
    pub bounds: &'a [f64],
    /// One count for each bound, and a last one for what was above every bound.
    pub counts: &'a [u64],
    /// Sum of all observed values, same unit.
    pub sum: f64,
}

impl Exposition {
    /// An empty scrape.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A value that goes up and down. Labels are `[("upstream", name), …]`; write `[("", ""); 0]` for none.
    pub fn gauge<'l, L>(&mut self, name: &str, help: &str, samples: &[(L, f64)]) -> &mut Self
    where
        L: AsRef<[(&'l str, &'l str)]>,
    {
        self.family(name, help, "gauge", samples)
    }

    /// A value that only grows; its name ends in `_total`.
    pub fn counter<'l, L>(&mut self, name: &str, help: &str, samples: &[(L, f64)]) -> &mut Self
    where
        L: AsRef<[(&'l str, &'l str)]>,
    {
        self.family(name, help, "counter", samples)
    }

    /// A distribution.
    pub fn histogram<'l, L>(&mut self, name: &str, help: &str, samples: &[(L, Histogram<'_>)]) -> &mut Self
    where
        L: AsRef<[(&'l str, &'l str)]>,
    {
        self.head(name, help, "histogram", samples.is_empty());
        for (labels, histogram) in samples {
            let mut seen = 0;
            let bounds = histogram.bounds.iter().copied().chain([f64::INFINITY]);
            for (bound, count) in bounds.zip(histogram.counts) {
                seen += count;
                let bound = Number(bound).to_string();
                self.sample(name, "_bucket", labels.as_ref(), Some(&bound), seen);
            }
            self.sample(name, "_sum", labels.as_ref(), None, Number(histogram.sum));
            self.sample(name, "_count", labels.as_ref(), None, seen);
        }
        self
    }

    /// The whole text.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }

    fn family<'l, L>(&mut self, name: &str, help: &str, kind: &str, samples: &[(L, f64)]) -> &mut Self
    where
        L: AsRef<[(&'l str, &'l str)]>,
    {
        self.head(name, help, kind, samples.is_empty());
        for (labels, value) in samples {
            self.sample(name, "", labels.as_ref(), None, Number(*value));
        }
        self
    }

    /// A family without samples is left out: a head alone says nothing.
    fn head(&mut self, name: &str, help: &str, kind: &str, empty: bool) {
        if !empty {
            let help = Escaped { text: help, quotes: false };
            self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
    }

    fn sample(
        &mut self,
        name: &str,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: impl fmt::Display,
    ) {
        self.line(format_args!("{name}{suffix}"));
        let mut separator = '{';
        for (label, text) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            self.line(format_args!("{separator}{label}=\"{}\"", Escaped { text, quotes: true }));
            separator = ',';
        }
        let close = if separator == ',' { "}" } else { "" };
        self.line(format_args!("{close} {value}\n"));
    }

    fn line(&mut self, arguments: fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("a String takes every text");
    }
}

/// A float as Prometheus spells it.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

struct Escaped<'a> {
    text: &'a str,
    quotes: bool,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.text.chars() {
            match char {
                '\\' => f.write_str(r"\\")?,
                '\n' => f.write_str(r"\n")?,
                '"' if self.quotes => f.write_str(r#"\""#)?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_reads_as_prometheus_writes_it() {
        let mut scrape = Exposition::new();
        scrape.gauge("o1_sessions", "Open sessions.", &[([("", ""); 0], 3.0)]);
        scrape.counter(
            "o1_requests_total",
            "Requests.",
            &[([("upstream", "a"), ("era", "modern")], 12.0), ([("upstream", "b"), ("era", "legacy")], 0.5)],
        );
        let histogram = Histogram { bounds: &[0.001, 0.25], counts: &[2, 0, 1], sum: 1.5 };
        scrape.histogram("o1_seconds", "Time.", &[([("upstream", "a")], histogram)]);
        scrape.gauge::<[(&str, &str); 0]>("o1_nothing", "Never seen.", &[]);
        let expected = "\
# HELP o1_sessions Open sessions.
# TYPE o1_sessions gauge
o1_sessions 3
# HELP o1_requests_total Requests.
# TYPE o1_requests_total counter
o1_requests_total{upstream=\"a\",era=\"modern\"} 12
o1_requests_total{upstream=\"b\",era=\"legacy\"} 0.5
# HELP o1_seconds Time.
# TYPE o1_seconds histogram
o1_seconds_bucket{upstream=\"a\",le=\"0.001\"} 2
o1_seconds_bucket{upstream=\"a\",le=\"0.25\"} 2
o1_seconds_bucket{upstream=\"a\",le=\"+Inf\"} 3
o1_seconds_sum{upstream=\"a\"} 1.5
o1_seconds_count{upstream=\"a\"} 3
";
        assert_eq!(scrape.finish(), expected);
    }

    #[test]
    fn labels_and_help_cannot_break_out_of_their_line() {
        let mut scrape = Exposition::new();
        scrape.gauge("m", "a\\b\n\"c\"", &[([("l", "x\"\\\ny")], f64::NAN)]);
        let expected = "# HELP m a\\\\b\\n\"c\"\n# TYPE m gauge\nm{l=\"x\\\"\\\\\\ny\"} NaN\n";
        assert_eq!(scrape.finish(), expected);
    }
}
