//! Durations and sizes as people write them.

pub(super) use crate::model::shown::spell;
use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// `500ms`, `10s`, `5m`, `2h`.
///
/// # Errors
/// What to write instead.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    if number.is_empty() {
        return Err("a whole number and `ms`, `s`, `m` or `h`, such as `10s`".to_owned());
    }
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err(format!("add the unit: `{number}ms`, `{number}s`, `{number}m` or `{number}h`")),
        _ => return Err("the unit is `ms`, `s`, `m` or `h`".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(millis))
        .map(Duration::from_millis)
        .filter(|duration| *duration <= YEAR)
        .ok_or_else(|| "at most a year, `8760h`".to_owned())
}

/// `512B`, `64KiB`, `4MiB`, `1GiB`, in bytes.
///
/// # Errors
/// What to write instead.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    if number.is_empty() {
        return Err("a whole number and `B`, `KiB`, `MiB` or `GiB`, such as `4MiB`".to_owned());
    }
    let bytes = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" => return Err(format!("add the unit: `{number}B`, `{number}KiB` or `{number}MiB`")),
        _ => return Err("the unit is `B`, `KiB`, `MiB` or `GiB`".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(bytes))
        .ok_or_else(|| "a smaller number".to_owned())
}

fn split(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}
