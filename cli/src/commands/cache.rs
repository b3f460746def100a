//! `o1ctl cache stats` and `o1ctl cache purge`.

use super::{
    status::{ask, known},
    tools::{connect, refused},
};
use crate::{
    args::{CachePurge, CacheStats, Global, Tier},
    counts::{Purge, Purged},
    output::{
        cache::{self, View},
        json,
    },
    report::{Error, Exit},
    terminal::Terminal,
    verdict,
};
use jiff::Timestamp;
use o1_proto::model;

/// Shows what the cache does.
///
/// # Errors
/// No answer, no such upstream, or no reader.
pub async fn stats(global: &Global, args: &CacheStats, terminal: &mut Terminal) -> Result<Exit, Error> {
    let (status, _) = ask(global, false).await?;
    known(args.upstream.as_deref(), &status)?;
    let view = View { upstream: args.upstream.as_deref(), tier: args.tier.map(word) };
    let text = if args.json {
        json::pretty(&cache::report(&status, &view))
    } else {
        cache::page(&status, &view).paint(terminal.out.colour())
    };
    terminal.out.write(&text)?;
    Ok(verdict::of_age(&status, Timestamp::now()).into())
}

/// Makes nodes forget, and shows what they say they forgot.
///
/// # Errors
/// No answer, no such upstream or node, or no reader.
pub async fn purge(global: &Global, args: &CachePurge, terminal: &mut Terminal) -> Result<Exit, Error> {
    let (mut client, target) = connect(global).await?;
    let node = args.node.as_deref().unwrap_or_default();
    let purges = client.purge(node, args.upstream.as_deref(), args.tier.map(model::Tier::from)).await;
    let purges = purges.map_err(|failure| refused(&target, failure))?;
    let view = View { upstream: args.upstream.as_deref(), tier: args.tier.map(word) };
    let text = if args.json {
        json::pretty(&cache::purge_report(&purges, &view))
    } else {
        cache::purge_page(&purges, &view).paint(terminal.out.colour())
    };
    terminal.out.write(&text)?;
    Ok(outcome(&purges))
}

fn word(tier: Tier) -> &'static str {
    model::Tier::from(tier).word()
}

/// Done when every node did it; where an upstream is served by some nodes only, those count.
fn outcome(purges: &[Purge]) -> Exit {
    let failed = purges.iter().any(|one| matches!(one.done, Purged::Failed { .. }));
    let done = purges.iter().any(|one| matches!(one.done, Purged::Purged { .. }));
    if failed || !done { Exit::Degraded } else { Exit::Healthy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_did_not_purge_is_no_success_and_one_that_had_nothing_is_no_failure() {
        let purge = |done: &Purged| Purge { node_id: "n".into(), done: done.clone() };
        let done = Purged::Purged { entries: 0, bytes: 0 };
        let failed = Purged::Failed { error: "it is not connected".into() };
        let cases: [(&[&Purged], Exit); 5] = [
            (&[&done, &done], Exit::Healthy),
            (&[&done, &Purged::Absent], Exit::Healthy),
            (&[&Purged::Absent], Exit::Degraded),
            (&[&done, &failed], Exit::Degraded),
            (&[], Exit::Degraded),
        ];
        for (said, expected) in cases {
            let purges: Vec<_> = said.iter().map(|one| purge(one)).collect();
            assert_eq!(outcome(&purges), expected, "{purges:?}");
        }
    }
}
