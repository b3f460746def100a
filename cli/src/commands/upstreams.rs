//! `o1ctl upstreams`.

use super::{status::known, tools::connect};
use crate::{
    args::{Global, Upstreams},
    connect::Failure,
    output::{
        json,
        upstreams::{Report, page},
    },
    report::{Error, Exit},
    terminal::Terminal,
    verdict::{self, Verdict},
};
use jiff::Timestamp;

/// Shows them, or one.
///
/// # Errors
/// No answer, no such upstream, or no reader.
pub async fn run(global: &Global, args: &Upstreams, terminal: &mut Terminal) -> Result<Exit, Error> {
    let (mut client, target) = connect(global).await?;
    let failed = |failure: Failure| Error::control(&target, failure);
    let status = client.status().await.map_err(failed)?;
    known(args.upstream.as_deref(), &status)?;
    let mut upstreams = client.upstreams().await.map_err(failed)?;
    let now = Timestamp::now();
    if let Some(only) = &args.upstream {
        upstreams.retain(|one| one.name == *only);
    }
    let each = upstreams.iter().map(|one| verdict::of_upstream(&status, Some(one), now));
    let verdict = each.max_by_key(rank).unwrap_or(verdict::of_age(&status, now));
    let text = if args.json {
        json::pretty(&Report { verdict, as_of: status.as_of, upstreams: &upstreams })
    } else {
        let columns = terminal.out.size().map(|size| size.columns);
        page(&upstreams, &status, columns).paint(terminal.out.colour())
    };
    terminal.out.write(&text)?;
    Ok(verdict.into())
}

/// What says most about all of them together.
fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Healthy => 0,
        Verdict::Degraded => 1,
        Verdict::FailoverActive => 2,
        Verdict::Stale => 3,
    }
}
