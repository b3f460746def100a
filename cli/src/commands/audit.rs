//! `o1ctl audit`.

use super::{events::older, tools::connect};
use crate::{
    args::{Audit, Global, Since},
    audit::Filter,
    output::{audit, json},
    report::{Error, Exit},
    terminal::Terminal,
};
use jiff::{Timestamp, tz::TimeZone};

/// Shows who changed what, and who was refused.
///
/// # Errors
/// No answer, or no reader.
pub async fn run(global: &Global, args: &Audit, terminal: &mut Terminal) -> Result<Exit, Error> {
    let since = match args.since {
        None => None,
        Some(Since::At(at)) => Some(at),
        Some(Since::Ago(ago)) => {
            let at = Timestamp::now().checked_sub(ago);
            Some(at.map_err(|_| Error::usage("--since is before the beginning of time", ""))?)
        }
    };
    let filter = Filter { kind: args.kind, who: args.who.clone().unwrap_or_default(), since };
    let (mut client, target) = connect(global).await?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let entries = client.audit(&filter, limit).await.map_err(|failure| older(&target, failure))?;
    let text = if args.json {
        entries.iter().rev().map(json::line).collect()
    } else {
        audit::page(&entries, &TimeZone::system()).paint(terminal.out.colour())
    };
    terminal.out.write(&text)?;
    Ok(Exit::Healthy)
}
