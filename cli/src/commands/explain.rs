//! `o1ctl explain`.

use super::tools::{connect, refused};
use crate::{
    args::{Explain, Global},
    client::Client,
    connect::Target,
    events::{EventKind, Filter},
    model::{Status, Upstream},
    output::{
        codes::{self, Found},
        explain, failover, json,
    },
    report::{Error, Exit},
    terminal::Terminal,
    verdict,
};
use jiff::{Timestamp, tz::TimeZone};

/// Says why an upstream is where it is; who serves a tool, or why nobody does.
///
/// # Errors
/// No answer, no such server, principal or node, or no reader.
pub async fn run(global: &Global, args: &Explain, terminal: &mut Terminal) -> Result<Exit, Error> {
    let anywhere = args.place.server.is_none() && args.place.node.is_none() && args.principal.is_none();
    let code = Found::of(&args.tool).filter(|_| anywhere);
    // Nothing else is called by a number.
    if let Some(code) = code.as_ref().filter(|_| args.tool.parse::<i32>().is_ok()) {
        return explain_code(code, args, terminal);
    }
    if args.tool.parse::<i32>().is_ok_and(|number| number < 0) {
        return Err(Error::usage(
            format!("{} is no code that only1 makes", args.tool),
            "an MCP server may have made it: ask there; docs/troubleshooting.md lists those of the gateway",
        ));
    }
    let asked = ask(global).await;
    let (mut client, target, status) = match (asked, code) {
        // An upstream may be called like a code; nobody else needs a control plane to read about one.
        (Ok((.., status)), Some(code)) if !status.upstreams.iter().any(|one| one.name == args.tool) => {
            return explain_code(&code, args, terminal);
        }
        (Err(_), Some(code)) => return explain_code(&code, args, terminal),
        (asked, _) => asked?,
    };
    match status.upstreams.iter().find(|one| anywhere && one.name == args.tool) {
        Some(upstream) => explain_upstream(&mut client, &status, upstream, args, terminal).await,
        None => explain_tool(&mut client, &target, &status, args, terminal).await,
    }
}

async fn ask(global: &Global) -> Result<(Client, Target, Status), Error> {
    let (mut client, target) = connect(global).await?;
    let status = client.status().await.map_err(|failure| Error::control(&target, failure))?;
    Ok((client, target, status))
}

/// What an error code, or a rule of the configuration, means.
fn explain_code(found: &Found, args: &Explain, terminal: &mut Terminal) -> Result<Exit, Error> {
    let text = if args.json {
        json::pretty(&codes::report(found))
    } else {
        codes::page(found, terminal.out.size().map(|size| size.columns)).paint(terminal.out.colour())
    };
    terminal.out.write(&text)?;
    Ok(Exit::Healthy)
}

async fn explain_upstream(
    client: &mut Client,
    status: &Status,
    upstream: &Upstream,
    args: &Explain,
    terminal: &mut Terminal,
) -> Result<Exit, Error> {
    let filter =
        Filter { upstream: upstream.name.clone(), kinds: vec![EventKind::Decided], ..Filter::default() };
    // The status has the decision too; the log only dates it.
    let decided = client.events(&filter, 1).await.map(|(events, _)| events).unwrap_or_default();
    let question = failover::explain::Question {
        upstream,
        status,
        decided: decided.first(),
        verdict: verdict::of_upstream(status, Some(upstream), Timestamp::now()),
        columns: terminal.out.size().map(|size| size.columns),
        zone: &TimeZone::system(),
    };
    let answer = failover::explain::answer(&question);
    let text = if args.json {
        json::pretty(&answer)
    } else {
        failover::explain::page(&answer, &question).paint(terminal.out.colour())
    };
    terminal.out.write(&text)?;
    Ok(question.verdict.into())
}

async fn explain_tool(
    client: &mut Client,
    target: &Target,
    status: &Status,
    args: &Explain,
    terminal: &mut Terminal,
) -> Result<Exit, Error> {
    let principal = args.principal.as_deref().unwrap_or_default();
    let offer = client.tools(args.place.node(), args.place.server(), principal).await;
    let offer = offer.map_err(|failure| refused(target, failure))?;
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
