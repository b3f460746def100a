//! `o1ctl tools`.

use crate::{
    args::{Global, Tools},
    client::Client,
    connect::{Failure, Target},
    inspect::Offer,
    output::{json, tools},
    report::{Error, Exit},
    terminal::Terminal,
};
use jiff::Timestamp;

/// Shows what a node offers.
///
/// # Errors
/// No answer, no such server or node, or no reader.
pub async fn run(global: &Global, args: &Tools, terminal: &mut Terminal) -> Result<Exit, Error> {
    let (mut client, target) = connect(global).await?;
    let offer = client.tools(args.place.node(), args.place.server(), "").await;
    let offer = offer.map_err(|failure| refused(&target, failure))?;
    let view = tools::View { server: args.place.server(), all: args.all, now: Timestamp::now() };
    let text = if args.json {
        json::pretty(&tools::report(&offer, &view))
    } else {
        let page = tools::page(&offer, &view);
        let page = match terminal.out.size() {
            Some(size) => page.cropped(size.columns, usize::MAX),
            None => page,
        };
        page.paint(terminal.out.colour())
    };
    terminal.out.write(&text)?;
    Ok(verdict(&offer))
}

pub(super) async fn connect(global: &Global) -> Result<(Client, Target), Error> {
    let target = Target::of(global)?;
    let client = Client::connect(&target, global.timeout).await;
    Ok((client.map_err(|failure| Error::control(&target, failure))?, target))
}

/// What the control plane says of a question that it could not pass on, or that a node could not answer.
pub(super) fn refused(target: &Target, failure: Failure) -> Error {
    match failure {
        Failure::Broken { code: "not found", message } => {
            Error::usage(message, "o1ctl nodes lists the nodes, o1ctl status the upstreams")
        }
        Failure::Broken { code: "unavailable" | "deadline exceeded" | "resource exhausted", message } => {
            Error::local(message, "o1ctl nodes says which nodes are connected")
        }
        Failure::Broken { code: "failed precondition", message } => {
            Error::local(message, "the node is of an older version: update it")
        }
        failure => Error::control(target, failure),
    }
}

/// Something is not as it should be when an upstream cannot be listed, or does not answer.
fn verdict(offer: &Offer) -> Exit {
    let broken = offer.upstreams.iter().any(|one| one.error.is_some());
    if broken { Exit::Degraded } else { Exit::Healthy }
}
