//! `o1ctl logs`.

use super::tools::{connect, refused};
use crate::{
    args::{Global, Logs},
    client::Tail,
    inspect::{LogLine, LogPart, Said},
    output::{json, logs, page::Line, page::Page, page::Style},
    report::{Error, Exit},
    terminal::Terminal,
};
use jiff::tz::TimeZone;
use std::{collections::BTreeMap, pin::Pin};

/// Shows what the processes of an upstream wrote to stderr.
///
/// # Errors
/// No answer, no such upstream or node, or no reader.
pub async fn run(
    global: &Global,
    args: &Logs,
    terminal: &mut Terminal,
    mut stop: Pin<Box<dyn Future<Output = ()> + Send>>,
) -> Result<Exit, Error> {
    let (mut client, target) = connect(global).await?;
    let node = args.node.as_deref().unwrap_or_default();
    let tail = client.logs(node, &args.upstream, args.tail, args.follow).await;
    let mut tail = tail.map_err(|failure| refused(&target, failure))?;
    let mut heard = Heard::default();
    loop {
        let part = tokio::select! {
            part = tail.next() => part.map_err(|failure| refused(&target, failure))?,
            () = &mut stop => break,
        };
        let Some(part) = part else { break };
        heard.take(part, args, terminal)?;
    }
    drop::<Tail>(tail);
    heard.finish(args, terminal)
}

/// What came so far.
#[derive(Default)]
struct Heard {
    /// Without `--follow`: to be sorted by time, because nodes answer one after the other.
    lines: Vec<LogLine>,
    /// Of nodes that have no lines, why.
    silent: BTreeMap<String, Said>,
    answered: bool,
    colours: logs::Sources,
}

impl Heard {
    fn take(&mut self, part: LogPart, args: &Logs, terminal: &mut Terminal) -> Result<(), Error> {
        let LogPart { node_id, said } = part;
        match said {
            Said::Lines(lines, missed) => {
                self.answered = true;
                if missed > 0 {
                    notice(
                        terminal,
                        &format!("{missed} lines of node {node_id} are lost: they came too fast"),
                    )?;
                }
                if args.follow {
                    self.print(&lines, args, terminal)?;
                } else {
                    self.lines.extend(lines);
                }
            }
            Said::Failed(why) if self.answered => {
                notice(terminal, &format!("node {node_id} says nothing more: {why}"))?;
                self.silent.insert(node_id, Said::Failed(why));
            }
            other => {
                self.silent.insert(node_id, other);
            }
        }
        Ok(())
    }

    fn print(&mut self, lines: &[LogLine], args: &Logs, terminal: &mut Terminal) -> Result<(), Error> {
        let text: String = if args.json {
            lines.iter().map(json::line).collect()
        } else {
            logs::page(lines, &mut self.colours, &TimeZone::system()).paint(terminal.out.colour())
        };
        Ok(terminal.out.write(&text)?)
    }

    fn finish(mut self, args: &Logs, terminal: &mut Terminal) -> Result<Exit, Error> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.sort_by_key(|line| line.at);
        self.print(&lines, args, terminal)?;
        if self.answered {
            return Ok(if self.silent.is_empty() { Exit::Healthy } else { Exit::Degraded });
        }
        let upstream = &args.upstream;
        match self.silent.into_values().next() {
            Some(Said::NoProcess) => {
                let what =
                    format!("upstream `{upstream}` is reached over HTTP: no node runs a process of it");
                Err(Error::local(what, "its server keeps its own log; o1ctl status says where it is"))
            }
            Some(Said::NotFound(message)) => Err(Error::usage(message, "o1ctl status lists the upstreams")),
            Some(Said::Failed(message)) => {
                Err(Error::local(message, "o1ctl nodes says which nodes are connected"))
            }
            Some(Said::Lines(..)) | None => Ok(Exit::Healthy),
        }
    }
}

/// About the answer, not part of it.
fn notice(terminal: &mut Terminal, text: &str) -> Result<(), Error> {
    let mut page = Page::default();
    page.push(Line::of(text, Style::Warning));
    let text = page.paint(terminal.err.colour());
    Ok(terminal.err.write(&text)?)
}
