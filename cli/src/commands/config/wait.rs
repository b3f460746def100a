//! `--wait`: pictures of a rollout until it is over. A bar on a terminal, lines otherwise.

use super::{super::end::End, Desk};
use crate::{
    args::Global,
    client::Client,
    configs::Rollout,
    output::config::{Waited, progress},
    report,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// The shortest time between two pictures.
const INTERVAL: Duration = Duration::from_millis(200);
/// Before the next attempt to connect.
const PAUSE: Duration = Duration::from_millis(500);

/// What is waited for.
pub(super) struct Wait {
    pub(super) revision: u64,
    pub(super) limit: Duration,
}

/// How far it is, for those who wait.
struct Teller {
    bar: Option<ProgressBar>,
    told: String,
}

impl Wait {
    /// Tells how it goes, until it is over or time is up.
    pub(super) async fn run(&self, desk: &mut Desk<'_>, global: &Global) -> Result<Waited, report::Error> {
        let began = Instant::now();
        let deadline = began + self.limit;
        let (mut last, mut teller) = (Rollout::default(), Teller::new(desk.terminal.err.is_tty()));
        let took = loop {
            let look = self.look(desk, &mut last, &mut teller);
            let failure = match timeout_at(deadline, look).await {
                Err(_) => break None,
                Ok(Err(End::Over(error))) => return Err(error),
                Ok(Ok(())) => break Some(began.elapsed()),
                Ok(Err(End::Failed(failure))) => failure,
            };
            let text = format!("no picture from {}: {}; trying again", desk.target, report::short(&failure));
            teller.say(desk, &text)?;
            sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now()))).await;
            if Instant::now() >= deadline {
                break None;
            }
            if let Ok(client) = Client::connect(&desk.target, global.timeout).await {
                desk.client = client;
            }
        };
        teller.end();
        Ok(Waited { rollout: last, took, limit: self.limit })
    }

    /// Follows one connection until it is over.
    async fn look(&self, desk: &mut Desk<'_>, last: &mut Rollout, teller: &mut Teller) -> Result<(), End> {
        let mut watch = desk.client.watch_rollout(self.revision, INTERVAL).await?;
        loop {
            *last = watch.next(self.limit).await?;
            if last.state.is_over() {
                return Ok(());
            }
            teller.tell(desk, last)?;
        }
    }
}

impl Teller {
    fn new(is_tty: bool) -> Self {
        let bar = is_tty.then(|| {
            let style = ProgressStyle::with_template("{bar:24} {msg}");
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, told: String::new() }
    }

    fn tell(&mut self, desk: &mut Desk<'_>, rollout: &Rollout) -> Result<(), report::Error> {
        if let Some(bar) = &self.bar {
            bar.set_length(rollout.nodes().max(1).into());
            bar.set_position(rollout.applied.into());
        }
        self.say(desk, &progress(rollout))
    }

    /// The same is not said twice.
    fn say(&mut self, desk: &mut Desk<'_>, text: &str) -> Result<(), report::Error> {
        if self.told == text {
            return Ok(());
        }
        text.clone_into(&mut self.told);
        match &self.bar {
            Some(bar) => bar.set_message(crate::output::page::harmless(text)),
            None => desk.notice(text)?,
        }
        Ok(())
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
