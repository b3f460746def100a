//! `o1ctl report`: asks everything once, and writes Markdown.

use super::{events::moment, tools::connect};
use crate::{
    args::{Global, Report},
    connect::Failure,
    events::Filter,
    output::report::{Facts, page},
    report::{Error, Exit},
    terminal::Terminal,
    verdict,
};
use jiff::{Timestamp, tz::TimeZone};

/// Events that are read at most, the newest.
const EVENTS: usize = 20_000;
/// Calls that are read at most of each node, the newest.
const CALLS: u32 = 500;
/// Revisions that are read at most, the newest.
const REVISIONS: usize = 200;

/// Writes the report.
///
/// # Errors
/// No answer, a moment that no calendar has, or no reader.
pub async fn run(global: &Global, args: &Report, terminal: &mut Terminal) -> Result<Exit, Error> {
    let now = Timestamp::now();
    let since = moment(args.since, now)?;
    let (mut client, target) = connect(global).await?;
    let failed = |failure: Failure| Error::control(&target, failure);
    let status = client.status().await.map_err(failed)?;
    let nodes = client.nodes().await.map_err(failed)?;
    let filter = Filter { since: Some(since), ..Filter::default() };
    let (events, bounds) = client.events(&filter, EVENTS).await.map_err(failed)?;
    let mut revisions = client.history(REVISIONS).await.map_err(failed)?;
    // Nodes of an older version tell nothing of their calls, and a fleet without nodes has nobody to ask.
    let calls = client.calls(CALLS).await.unwrap_or_default();
    revisions.retain(|revision| revision.created_at.is_none_or(|at| at >= since));
    let facts = Facts {
        target: &target.to_string(),
        since,
        now,
        zone: &TimeZone::system(),
        status: &status,
        nodes: &nodes,
        truncated: events.len() >= EVENTS,
        events: &events,
        bounds,
        revisions: &revisions,
        calls: &calls,
        verdict: verdict::of_fleet(&status, now),
    };
    terminal.out.write(&page(&facts))?;
    Ok(Exit::Healthy)
}
