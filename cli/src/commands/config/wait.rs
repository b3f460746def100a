//! `--wait`: pictures of a rollout until it is over. A bar on a terminal, lines otherwise.

use super::{
    super::{end::End, teller::Teller},
    Desk,
};
use crate::{
    args::Global,
    client::Client,
    configs::Rollout,
    output::config::{Waited, progress},
    report,
};
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

impl Wait {
    /// Tells how it goes, until it is over or time is up.
    pub(super) async fn run(&self, desk: &mut Desk<'_>, global: &Global) -> Result<Waited, report::Error> {
        let began = Instant::now();
        let deadline = began + self.limit;
        let (mut last, mut teller) = (Rollout::default(), Teller::new(desk.terminal));
        let took = loop {
            let look = self.look(desk, &mut last, &mut teller);
            let failure = match timeout_at(deadline, look).await {
                Err(_) => break None,
                Ok(Err(End::Over(error))) => return Err(error),
                Ok(Ok(())) => break Some(began.elapsed()),
                Ok(Err(End::Failed(failure))) => failure,
            };
            let text = format!("no picture from {}: {}; trying again", desk.target, report::short(&failure));
            teller.say(desk.terminal, &text)?;
            sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now()))).await;
            if Instant::now() >= deadline {
                break None;
            }
            if let Ok(client) = Client::connect(&desk.target, global.timeout).await {
                desk.client = client;
            }
        };
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
            teller.at(last.applied.into(), last.nodes().into());
            teller.say(desk.terminal, &progress(last))?;
        }
    }
}
