//! `o1ctl events`: what happened, and with `--follow` what happens, through restarts of the control plane.

use super::{end::End, tools::connect};
use crate::{
    args::{Events, Global, Since},
    client::Client,
    connect::{Failure, Target},
    events::{Bounds, Event, Filter},
    output::{
        events, json,
        page::{Line, Page, Style},
        span,
    },
    report::{self, Error, Exit},
    terminal::Terminal,
};
use jiff::{Timestamp, tz::TimeZone};
use o1_process::backoff::Backoff;
use std::{convert::Infallible, pin::Pin, time::Duration};

/// Events of the past that are shown when nobody says how many: without and with `--since`.
const LIMITS: (u32, u32) = (50, 10_000);
/// Between two attempts to connect again, at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Shows events until there are no more, or with `--follow` until `stop`.
///
/// # Errors
/// No answer to the first question, or no reader.
pub async fn run(
    global: &Global,
    args: &Events,
    terminal: &mut Terminal,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
) -> Result<Exit, Error> {
    let (mut client, target) = connect(global).await?;
    let filter = filter(args, Timestamp::now())?;
    let mut reader = Reader { target, limit: global.timeout, args, filter, terminal, through: 0, lost: None };
    let told = async {
        reader.past(&mut client).await?;
        if args.follow { reader.follow(client).await.map(|never| match never {}) } else { Ok(()) }
    };
    tokio::select! {
        told = told => told.map(|()| Exit::Healthy),
        () = stop => Ok(Exit::Healthy),
    }
}

/// From when on.
pub(super) fn moment(since: Since, now: Timestamp) -> Result<Timestamp, Error> {
    match since {
        Since::At(moment) => Ok(moment),
        Since::Ago(span) => {
            now.checked_sub(span).map_err(|_| Error::usage("--since is too long ago", "24h is a day"))
        }
    }
}

fn filter(args: &Events, now: Timestamp) -> Result<Filter, Error> {
    let since = args.since.map(|since| moment(since, now)).transpose()?;
    Ok(Filter {
        upstream: args.upstream.clone().unwrap_or_default(),
        node_id: args.node.clone().unwrap_or_default(),
        kinds: args.kinds.clone(),
        since,
    })
}

struct Reader<'a> {
    target: Target,
    limit: Duration,
    args: &'a Events,
    filter: Filter,
    terminal: &'a mut Terminal,
    /// Everything up to this position was told.
    through: u64,
    /// Since when there is no connection.
    lost: Option<Timestamp>,
}

impl Reader<'_> {
    async fn past(&mut self, client: &mut Client) -> Result<(), Error> {
        let limit = match (self.args.limit, self.args.since) {
            (Some(limit), _) => limit,
            (None, None) => LIMITS.0,
            (None, Some(_)) => LIMITS.1,
        };
        let (found, bounds) = client
            .events(&self.filter, limit.try_into().unwrap_or(usize::MAX))
            .await
            .map_err(|failure| older(&self.target, failure))?;
        self.through = bounds.newest;
        if found.is_empty() && !self.args.follow && limit > 0 {
            let of = if bounds == Bounds::default() { "" } else { " of this kind" };
            self.notice(&format!("no events{of} are kept"))?;
        }
        self.tell(&found)
    }

    async fn follow(&mut self, mut client: Client) -> Result<Infallible, Error> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let mut failure = match self.next(&mut client, &mut backoff).await {
                Err(End::Failed(failure)) => failure,
                Err(End::Over(error)) => return Err(error),
                Ok(never) => match never {},
            };
            client = loop {
                if self.lost.is_none() {
                    self.lost = Some(Timestamp::now());
                    let why = report::short(&failure);
                    self.notice(&format!(
                        "no events from {}: {why}; trying again until Ctrl-C",
                        self.target
                    ))?;
                }
                tokio::time::sleep(backoff.next()).await;
                match Client::connect(&self.target, self.limit).await {
                    Ok(client) => break client,
                    Err(next) => failure = next,
                }
            };
        }
    }

    /// Tells what one connection delivers, until it breaks.
    async fn next(&mut self, client: &mut Client, backoff: &mut Backoff) -> Result<Infallible, End> {
        if self.lost.is_some() {
            self.rejoin(client).await?;
        }
        let mut following = client.follow_events(&self.filter, self.through).await?;
        if let Some(since) = self.lost.take() {
            let gap = span::words(span::since(since, Timestamp::now()));
            self.notice(&format!("connected to {} again after {gap}", self.target))?;
        }
        loop {
            let (events, through) = following.next().await?;
            backoff.reset();
            self.tell(&events)?;
            self.through = self.through.max(through);
        }
    }

    /// What was not told yet may be gone, or the control plane may have begun anew.
    async fn rejoin(&mut self, client: &mut Client) -> Result<(), End> {
        let (_, bounds) = client.events(&Filter::default(), 1).await?;
        if bounds.newest < self.through {
            self.notice("the control plane has a new event log: its events follow from the beginning")?;
            self.through = bounds.oldest.saturating_sub(1);
        } else if bounds.oldest > self.through.saturating_add(1) {
            let missed = bounds.oldest - self.through - 1;
            self.notice(&format!("{missed} events are lost: the control plane does not keep them any more"))?;
            self.through = bounds.oldest - 1;
        }
        Ok(())
    }

    fn tell(&mut self, found: &[Event]) -> Result<(), Error> {
        let out = &mut self.terminal.out;
        let text: String = if self.args.json {
            found.iter().map(json::line).collect()
        } else {
            events::page(found, &TimeZone::system()).paint(out.colour())
        };
        Ok(out.write(&text)?)
    }

    /// About the events, not one of them.
    fn notice(&mut self, text: &str) -> Result<(), Error> {
        let mut page = Page::default();
        page.push(Line::of(text, Style::Warning));
        let painted = page.paint(self.terminal.err.colour());
        Ok(self.terminal.err.write(&painted)?)
    }
}

/// Who answers other questions but not this one is of an older version.
pub(super) fn older(target: &Target, failure: Failure) -> Error {
    match failure {
        Failure::Broken { code: "unimplemented", message } => Error::local(
            format!("the control plane at {target} cannot do this: {message}"),
            "it is of an older version: update it",
        ),
        failure => Error::control(target, failure),
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
    use tokio::sync::oneshot;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    /// Reads events of `address` with more arguments, until the sender is used.
    fn reading(
        address: SocketAddr,
        more: &str,
    ) -> (impl Future<Output = Result<Exit, Error>>, oneshot::Sender<()>, Captured, Captured) {
        let line = format!("o1ctl --control http://{address} events {more}");
        let (mut terminal, out, err) = Captured::terminal();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = async move {
            let args = Args::read(line.split_whitespace().map(Into::into)).unwrap();
            let Command::Events(events) = &args.command else { panic!("events were asked for") };
            let stop = Box::pin(async { drop(stopped.await) });
            run(&args.global, events, &mut terminal, stop).await
        };
        (run, stop, out, err)
    }

    fn positions(out: &Captured) -> Vec<u64> {
        let position = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["position"].as_u64().unwrap()
        };
        out.text().lines().map(position).collect()
    }

    async fn listed(server: &Scripted, more: &str) -> Vec<u64> {
        let more = format!("--json {more}");
        let (run, _stop, out, err) = reading(server.address, &more);
        assert_eq!(run.await.unwrap(), Exit::Healthy, "{}", err.text());
        positions(&out)
    }

    #[tokio::test]
    async fn the_newest_events_are_told_oldest_first_from_as_many_pages_as_it_takes() {
        let server = Scripted::start(ANY, 7).await;
        server.events.send_replace(7);
        assert_eq!(listed(&server, "").await, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(listed(&server, "--limit 3").await, [5, 6, 7]);
        assert_eq!(listed(&server, "--since 1h --limit 1").await, [7]);
        assert_eq!(listed(&server, "--type failover-committed,restored").await, [2, 4, 6]);
        assert_eq!(listed(&server, "--node n1 --limit 2").await, [4, 6]);
        let (run, _stop, out, err) = reading(server.address, "--upstream nothing");
        assert_eq!((run.await.unwrap(), out.text().as_str()), (Exit::Healthy, ""));
        assert_eq!(err.text(), "no events of this kind are kept\n");
        let (run, _stop, out, _err) = reading(server.address, "--limit 1");
        run.await.unwrap();
        assert!(out.text().ends_with("  control plane  files: decided (term 4)\n"), "{}", out.text());
    }

    #[tokio::test]
    async fn following_goes_on_by_position_after_a_restart_and_says_so_once() {
        let first = Scripted::start(ANY, 7).await;
        let address = first.address;
        first.events.send_replace(3);
        let (run, stop, out, err) = reading(address, "--follow --limit 1 --json");
        let story = async {
            out.until("\"position\":3,").await;
            first.events.send(4).unwrap();
            out.until("\"position\":4,").await;
            let asked = first.heard();
            first.kill().await;
            err.until(&format!("no events from http://{address}: ")).await;
            let second = Scripted::start(address, 7).await;
            second.events.send_replace(6); // 5 and 6 happened meanwhile
            out.until("\"position\":6,").await;
            err.until("again after").await;
            stop.send(()).unwrap();
            (asked, second.heard())
        };
        let (exit, asked) = tokio::join!(run, story);
        assert_eq!(exit.unwrap(), Exit::Healthy, "Ctrl-C is no failure");
        assert_eq!(positions(&out), [3, 4, 5, 6], "each once");
        assert_eq!(asked.0, ["events after 3"]);
        assert_eq!(asked.1.last().unwrap(), "events after 4");
        assert_eq!(err.text().matches("trying again").count(), 1, "{}", err.text());
    }

    #[tokio::test]
    async fn a_new_event_log_is_told_and_read_from_its_beginning() {
        let first = Scripted::start(ANY, 7).await;
        let address = first.address;
        first.events.send_replace(9);
        let (run, stop, out, err) = reading(address, "--follow --limit 1 --json");
        let story = async {
            out.until("\"position\":9,").await;
            first.kill().await;
            err.until("trying again").await;
            let second = Scripted::start(address, 7).await;
            second.events.send_replace(2);
            out.until("\"position\":2,").await;
            stop.send(()).unwrap();
        };
        let (exit, ()) = tokio::join!(run, story);
        assert_eq!(exit.unwrap(), Exit::Healthy);
        assert_eq!(positions(&out), [9, 1, 2]);
        assert!(err.text().contains("has a new event log"), "{}", err.text());
    }

    #[tokio::test]
    async fn a_follower_that_never_connected_is_an_error() {
        let nobody = tokio::net::TcpListener::bind(ANY).await.unwrap();
        let address = nobody.local_addr().unwrap();
        drop(nobody);
        let (run, _stop, _out, _err) = reading(address, "--follow");
        assert!(matches!(run.await, Err(Error::Control { failure: Failure::Refused, .. })));
    }
}
