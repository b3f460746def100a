//! `o1ctl drain`: an order to one node, and the wait until it has nothing left.

use super::{end::End, events::older, teller::Teller, tools::connect};
use crate::{
    args::{Drain, Global},
    client::Client,
    connect::{Failure, Target},
    output::{
        drain::{Done, SETTLED, Seen, Settling, Waited, page, progress},
        json,
    },
    report::{self, Error, Exit},
    terminal::Terminal,
};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Between two looks. Nodes report every few seconds.
const INTERVAL: Duration = Duration::from_millis(500);

/// Orders it, and with `--wait` waits.
///
/// # Errors
/// There is no such node, it could not be ordered, or no reader.
pub async fn run(global: &Global, args: &Drain, terminal: &mut Terminal) -> Result<Exit, Error> {
    order(global, args, SETTLED, terminal).await
}

async fn order(
    global: &Global,
    args: &Drain,
    settled: Duration,
    terminal: &mut Terminal,
) -> Result<Exit, Error> {
    let (mut client, target) = connect(global).await?;
    let drain = !args.undo;
    let ordered = client.drain(&args.node, drain, &args.reason).await;
    let ordered = ordered.map_err(|failure| refused(&target, failure))?;
    let waited = match args.wait {
        Some(limit) => Some(wait(&mut client, &target, global, (args, limit, settled), terminal).await?),
        None => None,
    };
    let done = Done {
        node_id: &args.node,
        drain,
        no_op: ordered.no_op,
        order: ordered.order.as_ref(),
        waited: waited.as_ref(),
    };
    let text = if args.json { json::pretty(&done) } else { page(&done).paint(terminal.out.colour()) };
    terminal.out.write(&text)?;
    let is_done = waited.is_none_or(|waited| waited.took.is_some());
    Ok(if is_done { Exit::Healthy } else { Exit::Degraded })
}

async fn wait(
    client: &mut Client,
    target: &Target,
    global: &Global,
    (args, limit, settled): (&Drain, Duration, Duration),
    terminal: &mut Terminal,
) -> Result<Waited, Error> {
    let began = Instant::now();
    let deadline = began + limit;
    let (mut waited, mut teller, mut most) = (Waited::default(), Teller::new(terminal), 0);
    let mut settling = Settling::default();
    loop {
        match timeout_at(deadline, look(client, &args.node)).await {
            Err(_) => break,
            Ok(Err(End::Over(error))) => return Err(error),
            Ok(Err(End::Failed(failure))) => {
                let why = report::short(&failure);
                teller.say(terminal, &format!("no picture from {target}: {why}; trying again"))?;
                if let Ok(again) = Client::connect(target, global.timeout).await {
                    *client = again;
                }
            }
            Ok(Ok(seen)) => {
                waited.seen = seen;
                if settling.is_done(&waited.seen, !args.undo, began.elapsed(), settled) {
                    waited.took = Some(began.elapsed());
                    return Ok(waited);
                }
                most = most.max(waited.seen.left());
                teller.at(most - waited.seen.left(), most);
                teller.say(terminal, &progress(&args.node, &waited.seen, !args.undo))?;
            }
        }
        let pause = INTERVAL.min(deadline.saturating_duration_since(Instant::now()));
        sleep(pause).await;
        if Instant::now() >= deadline {
            break;
        }
    }
    waited.limit = Some(limit);
    Ok(waited)
}

/// The node of this id. Of several the one that is there.
async fn look(client: &mut Client, id: &str) -> Result<Seen, End> {
    let nodes = client.nodes().await?;
    let those = nodes.iter().filter(|node| node.node_id == id).map(Seen::of);
    Ok(those.max_by_key(|seen| seen.connected).unwrap_or_default())
}

fn refused(target: &Target, failure: Failure) -> Error {
    match failure {
        Failure::Broken { code: "not found" | "invalid argument", message } => {
            Error::usage(message, "o1ctl nodes lists the nodes")
        }
        Failure::Broken { code: "unavailable", message } => {
            Error::local(message, "nothing was ordered; try again")
        }
        failure => older(target, failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::{Args, Command},
        client::scripted::Scripted,
        terminal::Captured,
    };
    use std::net::SocketAddr;

    async fn said(address: SocketAddr, line: &str) -> (Result<Exit, String>, String, String) {
        let line = format!("o1ctl --control {address} drain {line}");
        let args = Args::read(line.split_whitespace().map(Into::into)).unwrap();
        let Command::Drain(drain) = &args.command else { panic!("no drain") };
        let (mut terminal, out, err) = Captured::terminal();
        let exit = order(&args.global, drain, Duration::from_millis(600), &mut terminal)
            .await
            .map_err(|error| error.words().0);
        (exit, out.text(), err.text())
    }

    #[tokio::test]
    async fn an_order_goes_out_and_can_be_taken_back() {
        let control = Scripted::start(([127, 0, 0, 1], 0).into(), 7).await;
        let (exit, out, _) = said(control.address, "n1 --reason disk").await;
        assert_eq!(exit, Ok(Exit::Healthy));
        assert!(out.contains("n1 takes no new sessions") && out.contains("--undo"), "{out}");
        let (_, out, _) = said(control.address, "n1 --reason again").await;
        assert!(out.contains("ordered to drain already"), "{out}");
        let (_, out, _) = said(control.address, "n1 --reason disk --undo --json").await;
        assert!(out.contains(r#""drain": false"#) && out.contains(r#""order": null"#), "{out}");
        let heard = control.heard();
        assert_eq!(heard, ["drain true of n1, disk", "drain true of n1, again", "drain false of n1, disk"]);
        let (exit, ..) = said(control.address, "n9 --reason disk").await;
        assert!(exit.unwrap_err().contains("there are: n0"), "who there is");
    }

    #[tokio::test]
    async fn waiting_ends_when_nothing_is_open_any_more() {
        let control = Scripted::start(([127, 0, 0, 1], 0).into(), 203).await;
        let ends = async {
            // Whoever waits has seen the sessions once.
            tokio::time::sleep(Duration::from_millis(700)).await;
            control.revision.send_replace(200);
        };
        let ((exit, out, err), ()) = tokio::join!(said(control.address, "n1 --reason disk --wait=20s"), ends);
        assert_eq!(exit, Ok(Exit::Healthy));
        assert!(err.contains("n1 drains: 3 sessions, 0 requests in flight"), "{err}");
        assert!(out.contains("nothing is open or in flight any more"), "{out}");
        assert!(err.contains("nothing is open by its last report"), "one picture is not enough: {err}");
    }

    #[tokio::test]
    async fn waiting_has_an_end_and_says_what_is_left() {
        let control = Scripted::start(([127, 0, 0, 1], 0).into(), 201).await;
        let (exit, out, _) = said(control.address, "n1 --reason disk --wait=300ms").await;
        assert_eq!(exit, Ok(Exit::Degraded));
        assert!(out.contains("not done within") && out.contains("1 session,"), "{out}");
        let (exit, out, _) = said(control.address, "n0 --reason disk --undo --wait=300ms").await;
        assert_eq!(exit, Ok(Exit::Healthy), "it is connected and drains no more: {out}");
    }
}
