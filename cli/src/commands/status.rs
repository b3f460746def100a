//! `o1ctl status`, once.

use crate::{
    args::{self, Global},
    client::Client,
    connect::Target,
    model::{Node, Status},
    output::{
        json,
        page::Page,
        status::{View, page},
    },
    report::{Error, Exit},
    terminal::Terminal,
    verdict::{self, Verdict},
};
use jiff::{Timestamp, tz::TimeZone};

/// A picture, and the nodes where they were asked for.
pub type Picture = (Status, Option<Vec<Node>>);

/// Shows the fleet.
///
/// # Errors
/// No answer, no such upstream, or no reader.
pub async fn run(global: &Global, args: &args::Status, terminal: &mut Terminal) -> Result<Exit, Error> {
    let picture = ask(global, args.verbose).await?;
    known(args.upstream.as_deref(), &picture.0)?;
    let shown = Shown::of(&picture, args, Timestamp::now());
    let text = if args.json {
        json::pretty(&shown.json())
    } else {
        let columns = terminal.out.size().map(|size| size.columns);
        shown.page(columns).paint(terminal.out.colour())
    };
    terminal.out.write(&text)?;
    Ok(shown.verdict.into())
}

/// Asks the control plane once.
pub(super) async fn ask(global: &Global, with_nodes: bool) -> Result<Picture, Error> {
    let target = Target::of(global)?;
    let failed = |failure| Error::control(&target, failure);
    let mut client = Client::connect(&target, global.timeout).await.map_err(failed)?;
    let status = client.status().await.map_err(failed)?;
    let nodes = if with_nodes { Some(client.nodes().await.map_err(failed)?) } else { None };
    Ok((status, nodes))
}

/// Refuses the name of an upstream that is not there.
pub(super) fn known(wanted: Option<&str>, status: &Status) -> Result<(), Error> {
    let Some(wanted) = wanted else { return Ok(()) };
    let names: Vec<_> = status.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    if names.contains(&wanted) {
        return Ok(());
    }
    let close = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(name, wanted), name))
        .filter(|(distance, name)| *distance <= name.chars().count().div_ceil(3))
        .min();
    let hint = match close {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None if names.is_empty() => "the configuration names no upstreams".to_owned(),
        None => "o1ctl status lists the upstreams".to_owned(),
    };
    Err(Error::usage(format!("no upstream is named `{wanted}`"), hint))
}

/// A picture as it is shown at one moment.
pub(super) struct Shown<'a> {
    picture: &'a Picture,
    args: &'a args::Status,
    now: Timestamp,
    pub(super) verdict: Verdict,
}

impl<'a> Shown<'a> {
    pub(super) fn of(picture: &'a Picture, args: &'a args::Status, now: Timestamp) -> Self {
        let status = &picture.0;
        let verdict = match &args.upstream {
            Some(_) => verdict::of_upstream(status, named(status, args), now),
            None => verdict::of_fleet(status, now),
        };
        Self { picture, args, now, verdict }
    }

    /// For a window of so many columns, if it is one.
    pub(super) fn page(&self, columns: Option<usize>) -> Page {
        let view = View {
            only: self.args.upstream.as_deref(),
            nodes: self.picture.1.as_deref(),
            verbose: self.args.verbose,
            columns,
            now: self.now,
            zone: &TimeZone::system(),
        };
        page(&self.picture.0, &view)
    }

    pub(super) fn json(&self) -> json::AnyStatus<'_> {
        let (status, verdict) = (&self.picture.0, self.verdict);
        match self.args.upstream {
            Some(_) => json::AnyStatus::Upstream(json::UpstreamReport {
                verdict,
                as_of: status.as_of,
                upstream: named(status, self.args),
            }),
            None => json::AnyStatus::Fleet(json::StatusReport {
                verdict,
                status,
                node_list: self.picture.1.as_deref(),
            }),
        }
    }
}

fn named<'a>(status: &'a Status, args: &args::Status) -> Option<&'a crate::model::Upstream> {
    let wanted = args.upstream.as_deref()?;
    status.upstreams.iter().find(|upstream| upstream.name == wanted)
}
