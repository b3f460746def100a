//! Logs: to stderr, as text or JSON, as much as the environment asks for.

use std::{env, fmt, io, io::IsTerminal as _, str::FromStr};
use tracing_subscriber::{
    Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is not a log format: use text or json")),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Starts logging for the whole process. `O1_LOG`, then `RUST_LOG`, then `default_filter` say what is logged,
/// as levels by module: `info,o1_data_plane=debug`. Colour only on a terminal and without `NO_COLOR`.
///
/// A second call changes nothing. A filter that cannot be read is reported and ignored.
pub fn init(format: LogFormat, default_filter: &str) {
    let (filter, problem) = filter(|name| env::var(name).ok(), default_filter);
    let colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colour);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
    if let Some(problem) = problem {
        tracing::warn!("{problem}");
    }
}

fn filter(env: impl Fn(&str) -> Option<String>, default: &str) -> (Targets, Option<String>) {
    let asked = ["O1_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| Some((name, env(name).filter(|text| !text.trim().is_empty())?)));
    let default_filter = || default.parse().expect("our own filter is one");
    let Some((name, text)) = asked else { return (default_filter(), None) };
    match text.parse() {
        Ok(filter) => (filter, None),
        Err(error) => {
            let error: tracing_subscriber::filter::ParseError = error;
            let problem = format!("{name} is not a log filter ({error}), logging `{default}` instead");
            (default_filter(), Some(problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(env: &[(&str, &str)]) -> (String, Option<String>) {
        let find = |name: &str| env.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned());
        let (filter, problem) = filter(find, "info");
        (filter.to_string(), problem)
    }

    #[test]
    fn our_own_variable_wins_over_the_common_one_over_the_default() {
        assert_eq!(chosen(&[]), ("info".into(), None));
        assert_eq!(chosen(&[("RUST_LOG", "warn")]), ("warn".into(), None));
        assert_eq!(chosen(&[("RUST_LOG", "warn"), ("O1_LOG", "debug")]), ("debug".into(), None));
        assert_eq!(chosen(&[("RUST_LOG", "warn"), ("O1_LOG", "")]), ("warn".into(), None));
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_reported_and_the_default_holds() {
        let (filter, problem) = chosen(&[("O1_LOG", "o1=loud")]);
        assert_eq!(filter, "info");
        assert!(problem.unwrap().starts_with("O1_LOG is not a log filter"));
    }

    #[test]
    fn log_formats_are_read_as_they_are_written() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("xml".parse::<LogFormat>().unwrap_err().contains("use text or json"));
    }
}
