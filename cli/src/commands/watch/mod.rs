//! `o1ctl status --watch`: pictures as they come, through restarts of the control plane, until Ctrl-C.

use crate::commands::{
    end::End,
    status::{Picture, Shown, known},
};
use crate::{
    args::{self, Global},
    client::Client,
    connect::{Failure, Target},
    output::{
        json,
        page::{Line, Page, Style},
        span,
    },
    report::{self, Error, Exit},
    terminal::{Size, Stream, Terminal},
};
use jiff::{Timestamp, tz::TimeZone};
use o1_process::backoff::Backoff;
use std::{convert::Infallible, time::Duration};

/// Between two attempts to connect again, at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A watch without even a heartbeat for longer than its interval and this is dead.
const SILENCE: Duration = Duration::from_secs(30);

/// Follows the fleet until `stop`.
///
/// # Errors
/// The first connection fails, no such upstream, or no reader.
pub async fn run(
    global: &Global,
    args: &args::Status,
    terminal: &mut Terminal,
    stop: impl Future<Output = ()>,
) -> Result<Exit, Error> {
    let mut follower = Follower {
        target: Target::of(global)?,
        limit: global.timeout,
        args,
        terminal,
        screen: Screen::default(),
        picture: None,
        lost: None,
    };
    let over = tokio::select! {
        over = follower.follow() => Some(over),
        () = stop => None,
    };
    match over {
        Some(Err(error)) => Err(error),
        None => Ok(follower.exit(Timestamp::now())),
    }
}

struct Follower<'a> {
    target: Target,
    limit: Duration,
    args: &'a args::Status,
    terminal: &'a mut Terminal,
    screen: Screen,
    picture: Option<Picture>,
    /// Since when there is no connection, and why.
    lost: Option<(Timestamp, Failure)>,
}

impl Follower<'_> {
    async fn follow(&mut self) -> Result<Infallible, Error> {
        let mut client = Client::connect(&self.target, self.limit)
            .await
            .map_err(|failure| Error::control(&self.target, failure))?;
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let mut failure = match self.pictures(&mut client, &mut backoff).await {
                Err(End::Failed(failure)) if self.picture.is_none() => {
                    return Err(Error::control(&self.target, failure));
                }
                Err(End::Failed(failure)) => failure,
                Err(End::Over(error)) => return Err(error),
            };
            client = loop {
                let wait = backoff.next();
                self.lost(failure, wait)?;
                tokio::time::sleep(wait).await;
                match Client::connect(&self.target, self.limit).await {
                    Ok(client) => break client,
                    Err(next) => failure = next,
                }
            };
        }
    }

    /// Shows what one connection delivers, until it breaks.
    async fn pictures(&mut self, client: &mut Client, backoff: &mut Backoff) -> Result<Infallible, End> {
        let mut watch = client.watch(self.args.interval).await?;
        loop {
            let status = match watch.next(self.args.interval + SILENCE).await? {
                Some(status) => status,
                None => client.status().await?, // nothing new, but older: ages and rates move
            };
            let nodes = if self.args.verbose { Some(client.nodes().await?) } else { None };
            if self.picture.is_none() {
                known(self.args.upstream.as_deref(), &status)?;
            }
            self.picture = Some((status, nodes));
            backoff.reset();
            self.regained()?;
            self.show(None)?;
        }
    }

    fn lost(&mut self, failure: Failure, wait: Duration) -> Result<(), Error> {
        let news = self.lost.as_ref().is_none_or(|(_, before)| *before != failure);
        let since = self.lost.as_ref().map_or_else(Timestamp::now, |(since, _)| *since);
        let what = format!("no picture from {}: {}", self.target, report::short(&failure));
        self.lost = Some((since, failure));
        if self.in_place() {
            let next = if wait < Duration::from_secs(1) {
                "now".to_owned()
            } else {
                format!("in {}", span::words(wait))
            };
            let zone = TimeZone::system();
            let at = span::clock(since, Timestamp::now(), &zone);
            self.show(Some(format!("⚠️ since {at} {what}; trying again {next}")))
        } else if news {
            self.notice(&format!("{what}; trying again until Ctrl-C"))
        } else {
            Ok(())
        }
    }

    fn regained(&mut self) -> Result<(), Error> {
        match self.lost.take() {
            Some((since, _)) if !self.in_place() => {
                let gap = span::words(span::since(since, Timestamp::now()));
                self.notice(&format!("connected to {} again after {gap}", self.target))
            }
            _ => Ok(()),
        }
    }

    /// One line for people, beside the data.
    fn notice(&mut self, text: &str) -> Result<(), Error> {
        let mut page = Page::default();
        page.push(Line::of(text, Style::Warning));
        let painted = page.paint(self.terminal.err.colour());
        Ok(self.terminal.err.write(&painted)?)
    }

    /// True when pictures replace each other on a terminal.
    fn in_place(&self) -> bool {
        self.terminal.out.is_tty() && !self.args.json
    }

    fn show(&mut self, warning: Option<String>) -> Result<(), Error> {
        let in_place = self.in_place();
        let Some(picture) = &self.picture else { return Ok(()) };
        let shown = Shown::of(picture, self.args, Timestamp::now());
        let out = &mut self.terminal.out;
        if self.args.json {
            return Ok(out.write(&json::line(&shown.json()))?);
        }
        let mut page = shown.page(out.size().map(|size| size.columns));
        page.gap();
        if !in_place {
            return Ok(out.write(&page.paint(out.colour()))?);
        }
        page.push(match warning {
            Some(warning) => Line::of(warning, Style::Warning),
            None => Line::of(following(picture), Style::Dim),
        });
        self.screen.draw(&page, out)
    }

    fn exit(&self, now: Timestamp) -> Exit {
        match &self.picture {
            Some(picture) if self.lost.is_none() => Shown::of(picture, self.args, now).verdict.into(),
            _ => Exit::Unreachable,
        }
    }
}

fn following(picture: &Picture) -> String {
    match picture.0.as_of {
        Some(as_of) => {
            let zone = TimeZone::system();
            format!("as of {} · Ctrl-C ends", span::clock(as_of, Timestamp::now(), &zone))
        }
        None => "Ctrl-C ends".to_owned(),
    }
}

/// The part of the terminal that pictures are drawn on, over and over.
#[derive(Default)]
struct Screen {
    drawn: usize,
    size: Option<Size>,
}

impl Screen {
    fn draw(&mut self, page: &Page, out: &mut Stream) -> Result<(), Error> {
        let size = out.size().unwrap_or(Size { columns: 80, rows: 24 });
        let page = page.cropped(size.columns, size.rows.saturating_sub(1));
        let back = match self.size.replace(size) {
            None => String::new(),
            // Lines that the terminal wrapped anew cannot be counted: start on a clean window.
            Some(before) if before != size => "\x1b[2J\x1b[H".to_owned(),
            Some(_) if self.drawn == 0 => String::new(),
            Some(_) => format!("\x1b[{}A\r\x1b[J", self.drawn),
        };
        self.drawn = page.len();
        Ok(out.write(&format!("{back}{}", page.paint(out.colour())))?)
    }
}

#[cfg(test)]
mod tests;
