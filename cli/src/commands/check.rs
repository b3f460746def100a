//! `o1ctl config check`: the same validation as the control plane's, without one.

use crate::{
    args::Check,
    model::Problem,
    output::{json, problems},
    report::{Error, Exit},
    terminal::Terminal,
};
use o1_proto::{manifest, model::Fleet};
use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// Larger files are no configurations.
const FILE_BYTES: u64 = 8 << 20;

/// Checks a file and says everything about it.
///
/// # Errors
/// The file cannot be read, or there is no reader.
pub fn run(args: &Check, terminal: &mut Terminal) -> Result<Exit, Error> {
    let (file, text) = read(&args.file)?;
    let checked = check(&file, &text);
    let valid = checked.fleet.is_some() && (checked.warnings.is_empty() || !args.strict);
    let text =
        if args.json { as_json(&file, &checked, valid) } else { as_page(&file, &checked, args, terminal) };
    terminal.out.write(&text)?;
    Ok(if valid { Exit::Healthy } else { Exit::Degraded })
}

/// What a document is worth.
pub(super) struct Checked {
    /// Absent: not valid.
    pub(super) fleet: Option<Fleet>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// Validates a document.
pub(super) fn check(file: &str, text: &[u8]) -> Checked {
    let plain = |found: Vec<o1_proto::problem::Problem>| found.into_iter().map(plain).collect();
    match manifest::parse(file, text) {
        Ok(found) => {
            Checked { fleet: Some(found.fleet), problems: Vec::new(), warnings: plain(found.warnings) }
        }
        Err(refused) => {
            Checked { fleet: None, problems: plain(refused.problems), warnings: plain(refused.warnings) }
        }
    }
}

fn plain(problem: o1_proto::problem::Problem) -> Problem {
    Problem {
        file: problem.file,
        line: problem.line,
        column: problem.column,
        rule: problem.rule.to_owned(),
        path: problem.path,
        what: problem.what,
        hint: problem.hint,
    }
}

/// Reads a configuration file, or standard input as `-`; its name in messages too.
pub(super) fn read(path: &Path) -> Result<(String, Vec<u8>), Error> {
    let stdin = path == Path::new("-");
    let name = if stdin { "<stdin>".to_owned() } else { path.display().to_string() };
    let text = if stdin { bounded(&name, io::stdin()) } else { load(path) }?;
    Ok((name, text))
}

/// Reads a configuration file.
pub(super) fn load(path: &Path) -> Result<Vec<u8>, Error> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
    bounded(&name, file)
}

fn bounded(name: &str, from: impl io::Read) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    from.take(FILE_BYTES + 1).read_to_end(&mut text).map_err(|error| unreadable(name, &error))?;
    if text.len() as u64 > FILE_BYTES {
        let what = format!("{name} is larger than {} MiB, which no configuration is", FILE_BYTES >> 20);
        return Err(Error::local(what, "is it the right file?"));
    }
    Ok(text)
}

fn unreadable(name: &str, error: &io::Error) -> Error {
    Error::local(format!("cannot read {name}: {error}"), "")
}

fn as_json(file: &str, checked: &Checked, valid: bool) -> String {
    let fleet = checked.fleet.as_ref();
    let upstreams = fleet.map(|fleet| fleet.upstreams.iter().map(|one| one.name.as_str()).collect());
    json::pretty(&json::CheckReport {
        file,
        valid,
        upstreams: upstreams.unwrap_or_default(),
        problems: &checked.problems,
        warnings: &checked.warnings,
    })
}

fn as_page(file: &str, checked: &Checked, args: &Check, terminal: &Terminal) -> String {
    let upstreams = checked.fleet.as_ref().map_or(0, |fleet| fleet.upstreams.len());
    problems::page(file, &checked.problems, &checked.warnings, args.strict, upstreams)
        .paint(terminal.out.colour())
}
