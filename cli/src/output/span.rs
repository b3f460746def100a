//! Spans of time and amounts, as people write and read them: `5m 23s`, `2h 15m`, `3d 4h`, `1.2ms`, `1.2 MB`.

use jiff::{Timestamp, tz::TimeZone};
use std::time::Duration;

/// What stands for a figure that is not known.
pub const UNKNOWN: &str = "–";

/// The two largest units: `42s`, `5m 23s`, `2h 15m`, `3d 4h`.
#[must_use]
pub fn words(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit} {small}{small_unit}"),
    };
    if days > 0 {
        two(days, "d", hours, "h")
    } else if seconds >= 3600 {
        two(hours, "h", minutes, "m")
    } else if seconds >= 60 {
        two(minutes, "m", seconds % 60, "s")
    } else {
        format!("{seconds}s")
    }
}

/// How long ago `then` was; a moment in the future is `0s` ago, because clocks differ.
#[must_use]
pub fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO)
}

/// [`since`] in words, or [`UNKNOWN`].
#[must_use]
pub fn age(then: Option<Timestamp>, now: Option<Timestamp>) -> String {
    match (then, now) {
        (Some(then), Some(now)) => words(since(then, now)),
        _ => UNKNOWN.to_owned(),
    }
}

/// The time of day, with the date when it is not today's.
#[must_use]
pub fn clock(moment: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (moment, now) = (moment.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let format = if moment.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    moment.strftime(format).to_string()
}

/// A latency with two or three digits: `42µs`, `1.2ms`, `412ms`, `1.2s`.
#[must_use]
pub fn latency(span: Duration) -> String {
    let milliseconds = span.as_secs_f64() * 1e3;
    if milliseconds < 0.1 {
        format!("{}µs", span.as_micros())
    } else if milliseconds < 99.95 {
        format!("{milliseconds:.1}ms")
    } else if milliseconds < 999.5 {
        format!("{milliseconds:.0}ms")
    } else if milliseconds < 99_950.0 {
        format!("{:.1}s", milliseconds / 1e3)
    } else {
        words(span)
    }
}

/// Something per second: `412`, `3.1`, `0.02`, `<0.01`, `0`.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if per_second <= 0.0 {
        "0".to_owned()
    } else if per_second < 0.005 {
        "<0.01".to_owned()
    } else if per_second < 0.995 {
        format!("{per_second:.2}")
    } else if per_second < 9.95 {
        format!("{per_second:.1}")
    } else {
        format!("{per_second:.0}")
    }
}

/// A ratio from 0 to 1: `0.0%`, `<0.1%` when it is small but not nothing.
#[must_use]
pub fn percent(ratio: f64) -> String {
    if ratio > 0.0 && ratio < 0.0005 { "<0.1%".to_owned() } else { format!("{:.1}%", ratio * 100.0) }
}

/// A ratio from 0 to 1 without a fraction: `81%`; what is less than all is not `100%`, and more than nothing not `0%`.
#[must_use]
pub fn whole_percent(ratio: f64) -> String {
    if ratio > 0.0 && ratio < 0.005 {
        "<1%".to_owned()
    } else if (0.995..1.0).contains(&ratio) {
        ">99%".to_owned()
    } else {
        format!("{:.0}%", ratio * 100.0)
    }
}

/// Bytes in decimal units: `912 B`, `1.2 MB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let mut scaled = count as f64;
    for unit in ["B", "kB", "MB", "GB", "TB", "PB"] {
        if scaled < 999.5 {
            let digits = usize::from(unit != "B" && scaled < 9.95);
            return format!("{scaled:.digits$} {unit}");
        }
        scaled /= 1000.0;
    }
    format!("{scaled:.0} EB")
}

/// Reads `500ms`, `5s`, `2m`, `1h`, as everywhere in only1.
///
/// # Errors
/// Says what was expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let milliseconds = factor.zip(number.parse::<u64>().ok()).and_then(|(factor, n)| n.checked_mul(factor));
    match milliseconds {
        Some(0) => Err("a duration above zero is needed".to_owned()),
        Some(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        None => Err("a duration is a whole number and a unit, such as 500ms, 5s, 2m or 1h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_in_their_two_largest_units() {
        let cases = [
            (0, "0s"),
            (42, "42s"),
            (60, "1m"),
            (323, "5m 23s"),
            (3599, "59m 59s"),
            (8100, "2h 15m"),
            (7200, "2h"),
            (273_600, "3d 4h"),
            (86_400 * 400, "400d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(words(Duration::from_secs(seconds)), expected, "{seconds} s");
        }
    }

    #[test]
    fn an_age_is_never_negative_and_never_guessed() {
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(age(Some(Timestamp::from_second(1_060).unwrap()), Some(now)), "0s");
        assert_eq!(age(None, Some(now)), "–");
        assert_eq!(age(Some(now), None), "–");
    }

    #[test]
    fn the_date_is_shown_when_it_is_not_today() {
        let now: Timestamp = "2026-11-21T17:05:00Z".parse().unwrap();
        let clock = |moment: &str| clock(moment.parse().unwrap(), now, &TimeZone::UTC);
        assert_eq!(clock("2026-11-21T17:02:11Z"), "17:02:11");
        assert_eq!(clock("2026-11-20T17:02:11Z"), "2026-11-20 17:02:11");
    }

    #[test]
    fn figures_keep_two_or_three_digits() {
        let latencies = [42, 350, 1_240, 99_949, 99_951, 412_300, 1_240_000, 131_000_000]
            .map(|micros| latency(Duration::from_micros(micros)));
        assert_eq!(latencies, ["42µs", "0.3ms", "1.2ms", "99.9ms", "100ms", "412ms", "1.2s", "2m 11s"]);
        let rates = [0.0, 0.004, 0.3, 1.0, 3.12, 9.96, 412.4, 12_345.0].map(rate);
        assert_eq!(rates, ["0", "<0.01", "0.30", "1.0", "3.1", "10", "412", "12345"]);
        assert_eq!([0.0, 0.000_1, 0.012, 1.0].map(percent), ["0.0%", "<0.1%", "1.2%", "100.0%"]);
        let hits = [0.0, 0.001, 0.81, 0.994, 0.999, 1.0].map(whole_percent);
        assert_eq!(hits, ["0%", "<1%", "81%", "99%", ">99%", "100%"]);
        let sizes = [0, 912, 1_200, 34_600, 1_200_000, 999_600_000, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "912 B", "1.2 kB", "35 kB", "1.2 MB", "1.0 GB", "18 EB"]);
    }

    #[test]
    fn durations_are_read_as_in_the_configuration() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        for wrong in
            ["", "5", "s", "1.5s", "-1s", "5 s", "0s", "99999999999999999999s", "5sec", "9999999999999999h"]
        {
            assert!(parse(wrong).is_err(), "`{wrong}` was read as {:?}", parse(wrong));
        }
    }
}
