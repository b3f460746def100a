//! What the control plane says → messages, through its restarts.

use crate::{
    client::Client,
    connect::{Failure, Target},
    events::Filter,
    report,
    tui::{EVENTS, Message, of_each},
};
use o1_process::backoff::Backoff;
use std::{convert::Infallible, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

/// Nodes are asked for their calls so often.
const CALLS_EVERY: Duration = Duration::from_secs(1);
/// Between two attempts, at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Without news it is asked for a picture after this long: rates and ages move all the same.
const QUIET: Duration = Duration::from_secs(5);
/// Lines of the past that are asked for, of each node.
const TAIL: u32 = 200;

/// Where messages go. The other end is read as long as this is.
#[derive(Clone)]
pub(super) struct To(mpsc::Sender<Message>);

impl To {
    pub(super) fn new(to: mpsc::Sender<Message>) -> Self {
        Self(to)
    }

    async fn say(&self, message: Message) {
        // Whoever reads no more has ended, and ends this with it.
        let _over = self.0.send(message).await;
    }
}

/// What is asked for.
pub(super) struct Feed {
    pub target: Target,
    /// The longest wait for a connection, and for an answer.
    pub limit: Duration,
    /// The shortest time between two pictures.
    pub interval: Duration,
    pub to: To,
    /// Whose log is to be read.
    pub log: watch::Receiver<Option<String>>,
    /// Whether nodes are to be asked for their calls.
    pub calls: watch::Receiver<bool>,
}

impl Feed {
    /// Tells what comes over one connection after the other, the first of which is there already.
    pub(super) async fn run(mut self, first: Client) -> Infallible {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut client = first;
        loop {
            let mut failure = Box::pin(self.one(client, &mut backoff)).await;
            client = loop {
                let again = backoff.next();
                self.to.say(Message::Lost { why: report::short(&failure), again }).await;
                sleep(again).await;
                match Client::connect(&self.target, self.limit).await {
                    Ok(client) => break client,
                    Err(next) => failure = next,
                }
            };
        }
    }

    /// Tells what one connection delivers, until it breaks: pictures say when that is. Events and logs may be refused
    /// by a control plane that answers otherwise.
    async fn one(&mut self, client: Client, backoff: &mut Backoff) -> Failure {
        tokio::select! {
            failure = pictures(client.clone(), self.interval, backoff, &self.to) => failure,
            never = events(client.clone(), &self.to) => match never {},
            never = logs(client.clone(), &mut self.log, &self.to) => match never {},
            never = calls(client, &mut self.calls, &self.to) => match never {},
        }
    }
}

async fn pictures(mut client: Client, interval: Duration, backoff: &mut Backoff, to: &To) -> Failure {
    let mut watch = match client.watch(interval).await {
        Ok(watch) => watch,
        Err(failure) => return failure,
    };
    loop {
        // The watch itself never times out here: whether the connection lives, the question says.
        let news = match timeout(QUIET, watch.next(QUIET * 2)).await {
            Ok(Ok(Some(status))) => Ok(status),
            Ok(Ok(None)) | Err(_) => client.status().await,
            Ok(Err(failure)) => Err(failure),
        };
        match news {
            Ok(status) => {
                backoff.reset();
                to.say(Message::Picture(Box::new(status))).await;
            }
            Err(failure) => return failure,
        }
    }
}

async fn events(mut client: Client, to: &To) -> Infallible {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let failure = match follow(&mut client, &mut backoff, to).await {
            Err(failure) => failure,
            Ok(never) => match never {},
        };
        to.say(Message::NoEvents(report::short(&failure))).await;
        sleep(backoff.next()).await;
    }
}

/// The newest events, then whatever comes.
async fn follow(client: &mut Client, backoff: &mut Backoff, to: &To) -> Result<Infallible, Failure> {
    let (past, bounds) = client.events(&Filter::default(), EVENTS).await?;
    let mut following = client.follow_events(&Filter::default(), bounds.newest).await?;
    to.say(Message::Past(past)).await;
    loop {
        let (events, _) = following.next().await?;
        backoff.reset();
        if !events.is_empty() {
            to.say(Message::Happened(events)).await;
        }
    }
}

async fn logs(client: Client, wanted: &mut watch::Receiver<Option<String>>, to: &To) -> Infallible {
    loop {
        let upstream = wanted.borrow_and_update().clone();
        tokio::select! {
            never = log(client.clone(), upstream, to) => match never {},
            changed = wanted.changed() => if changed.is_err() { std::future::pending().await },
        }
    }
}

/// What nodes tell of their calls, again and again while somebody looks.
async fn calls(mut client: Client, wanted: &mut watch::Receiver<bool>, to: &To) -> Infallible {
    let mut nodes = 0;
    loop {
        if wanted.wait_for(|wanted| *wanted).await.is_err() {
            return std::future::pending().await;
        }
        to.say(match client.calls(of_each(nodes)).await {
            Ok(told) => {
                nodes = told.len();
                Message::Calls(told)
            }
            Err(failure) => Message::NoCalls(report::short(&failure)),
        })
        .await;
        sleep(CALLS_EVERY).await;
    }
}

/// The log of one upstream, for as long as it is wanted.
async fn log(mut client: Client, upstream: Option<String>, to: &To) -> Infallible {
    let Some(upstream) = upstream else { return std::future::pending().await };
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let why = match tail(&mut client, &upstream, &mut backoff, to).await {
            // Every node has said all that it will ever say.
            Ok(()) => return std::future::pending().await,
            Err(failure) => report::short(&failure),
        };
        to.say(Message::LogEnded(upstream.clone(), why)).await;
        sleep(backoff.next()).await;
    }
}

async fn tail(client: &mut Client, upstream: &str, backoff: &mut Backoff, to: &To) -> Result<(), Failure> {
    let mut tail = client.logs("", upstream, TAIL, true).await?;
    to.say(Message::LogOpened(upstream.to_owned())).await;
    while let Some(part) = tail.next().await? {
        backoff.reset();
        to.say(Message::Log(upstream.to_owned(), part)).await;
    }
    Ok(())
}
