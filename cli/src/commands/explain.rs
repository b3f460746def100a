//! `o1ctl explain`.

use super::tools::{connect, refused};
use crate::{
    args::{Explain, Global},
    output::{explain, json},
    report::{Error, Exit},
    terminal::Terminal,
};
use jiff::Timestamp;

/// Says who serves a tool, or why nobody does.
///
/// # Errors
/// No answer, no such server, principal or node, or no reader.
pub async fn run(global: &Global, args: &Explain, terminal: &mut Terminal) -> Result<Exit, Error> {
    let (mut client, target) = connect(global).await?;
    let principal = args.principal.as_deref().unwrap_or_default();
    let offer = client.tools(args.place.node(), args.place.server(), principal).await;
    let offer = offer.map_err(|failure| refused(&target, failure))?;
    let status = client.status().await.map_err(|failure| Error::control(&target, failure))?;
    let question = explain::Question {
        tool: &args.tool,
        server: args.place.server(),
        principal,
        upstreams: &status.upstreams,
        now: Timestamp::now(),
    };
    let answer = explain::answer(&offer, &question);
    let text = if args.json {
        json::pretty(&answer)
    } else {
        explain::page(&answer, &question).paint(terminal.out.colour())
    };
    terminal.out.write(&text)?;
    let served = answer.tools.iter().any(|one| one.tool.state == crate::inspect::ToolState::Served);
    Ok(if served { Exit::Healthy } else { Exit::Degraded })
}
