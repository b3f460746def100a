//! `o1ctl events`: what happened, and with `--follow` what happens, through restarts of the control plane.

use super::tools::connect;
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

fn filter(args: &Events, now: Timestamp) -> Result<Filter, Error> {
    let ago = |span: Duration| {
        now.checked_sub(span).map_err(|_| Error::usage("--since is too long ago", "24h is a day"))
    };
    let since = match args.since {
        Some(Since::At(moment)) => Some(moment),
        Some(Since::Ago(span)) => Some(ago(span)?),
        None => None,
    };
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

/// Why following ended.
enum End {
    Failed(Failure),
    Unwritable(Error),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Unwritable(error)
    }
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
                Err(End::Unwritable(error)) => return Err(error),
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
