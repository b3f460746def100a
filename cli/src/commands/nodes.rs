//! `o1ctl nodes`.

use super::status::ask;
use crate::{
    args::{Global, Nodes},
    output::{json, nodes},
    report::{Error, Exit},
    terminal::Terminal,
    verdict,
};
use jiff::Timestamp;

/// Shows every node.
///
/// # Errors
/// No answer, or no reader.
pub async fn run(global: &Global, args: &Nodes, terminal: &mut Terminal) -> Result<Exit, Error> {
    let (status, nodes) = ask(global, true).await?;
    let nodes = nodes.unwrap_or_default();
    let verdict = verdict::of_nodes(&status, &nodes, Timestamp::now());
    let text = if args.json {
        let target = status.control_plane.target.as_ref();
        json::pretty(&json::NodesReport { verdict, as_of: status.as_of, target, nodes: &nodes })
    } else {
        nodes::page(&nodes, &status, terminal.out.size().map(|size| size.columns))
            .paint(terminal.out.colour())
    };
    terminal.out.write(&text)?;
    Ok(verdict.into())
}
