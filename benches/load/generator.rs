//! The closed loop: each connection sends its next request once the answer to the last is there and was checked.
//!
//! It shares the machine with what it measures, so it does as little as it can: requests are built beforehand, on a
//! single-threaded runtime for each thread, and nothing is locked while it measures.

use crate::{
    connection::Connection,
    histogram::Histogram,
    request::{self, Era, Operation, Request, Target},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// How long the last answers may take.
const LAST_WITHIN: Duration = Duration::from_secs(10);
/// A server that refuses connections is not asked in a tight loop.
const PAUSE: Duration = Duration::from_millis(50);

/// What to send.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where.
    pub target: Target,
    /// What.
    pub operation: Operation,
    /// In which era.
    pub era: Era,
    /// At a time.
    pub connections: usize,
    /// Different resources or texts, in turn over the connections.
    pub resources: usize,
    /// Bytes of text in a request or its answer.
    pub size: usize,
    /// Threads to send from.
    pub threads: usize,
}

/// From when to when answers count.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// What was answered before only warmed up.
    pub from: Instant,
    /// Nothing is sent after.
    pub until: Instant,
    /// Answers that count after which a connection is done before that.
    pub enough: Option<u64>,
}

/// What came of it.
#[derive(Default, Clone)]
pub struct Outcome {
    /// Of right answers.
    pub latencies: Histogram,
    /// Wrong answers and broken connections, also while warming up.
    pub errors: u64,
    /// What the first one was.
    pub first_error: Option<String>,
}

impl Outcome {
    fn fail(&mut self, what: &dyn ToString) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| what.to_string());
    }

    fn is_enough(&self, window: Window) -> bool {
        window.enough.is_some_and(|enough| self.latencies.total() >= enough)
    }

    /// Adds what came of another part.
    pub fn merge(&mut self, other: Self) {
        self.latencies.merge(&other.latencies);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// Sends until the window is over. Blocks.
pub fn run(load: &Load, window: Window) -> Outcome {
    let load = Arc::new(load.clone());
    let threads = load.threads.clamp(1, load.connections.max(1));
    let running: Vec<_> = (0..threads)
        .map(|thread| {
            let load = load.clone();
            std::thread::spawn(move || share(&load, window, (thread..load.connections).step_by(threads)))
        })
        .collect();
    let mut whole = Outcome::default();
    for thread in running {
        match thread.join() {
            Ok(outcome) => whole.merge(outcome),
            Err(_) => whole.fail(&"a thread of the generator panicked"),
        }
    }
    whole
}

/// One thread's connections.
fn share(load: &Arc<Load>, window: Window, connections: impl Iterator<Item = usize>) -> Outcome {
    let mut whole = Outcome::default();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            whole.fail(&format!("no runtime: {error}"));
            return whole;
        }
    };
    runtime.block_on(async {
        let mut running = JoinSet::new();
        for of in connections {
            let load = load.clone();
            running.spawn(async move { one(&load, window, of).await });
        }
        let all = async {
            while let Some(ended) = running.join_next().await {
                match ended {
                    Ok(outcome) => whole.merge(outcome),
                    Err(error) => whole.fail(&error),
                }
            }
        };
        if tokio::time::timeout_at(window.until + LAST_WITHIN, all).await.is_err() {
            whole.fail(&format!("an answer did not come within {LAST_WITHIN:?}"));
        }
    });
    whole
}

/// One connection, opened again whenever it breaks.
async fn one(load: &Load, window: Window, of: usize) -> Outcome {
    let mut outcome = Outcome::default();
    while Instant::now() < window.until && !outcome.is_enough(window) {
        if let Err(error) = until_broken(load, window, of, &mut outcome).await {
            outcome.fail(&error);
            tokio::time::sleep(PAUSE).await;
        }
    }
    if window.enough.is_some() && !outcome.is_enough(window) {
        outcome.fail(&"a connection did not get as many answers as were asked for in time");
    }
    outcome
}

async fn until_broken(load: &Load, window: Window, of: usize, outcome: &mut Outcome) -> io::Result<()> {
    let Load { target, operation, era, resources, size, .. } = load;
    let mut connection = Connection::open(target.address).await?;
    let session = match era {
        Era::Modern => None,
        Era::Legacy => handshake(&mut connection, target).await?,
    };
    let of = of % (*resources).max(1);
    let mut request = Request::new(*operation, *era, target, of, *size, session.as_deref());
    loop {
        let sent = Instant::now();
        if sent >= window.until || outcome.is_enough(window) {
            return Ok(());
        }
        let reply = connection.exchange(request.next()).await?;
        let (status, answered) = (reply.status, Instant::now());
        if let Some(wrong) = request.wrong(status, reply.body) {
            let body = String::from_utf8_lossy(&reply.body[..reply.body.len().min(300)]);
            outcome.fail(&format!("{wrong}: HTTP {status} {body}"));
        } else if sent >= window.from && answered <= window.until {
            outcome.latencies.record(answered - sent);
        }
    }
}

async fn handshake(connection: &mut Connection, target: &Target) -> io::Result<Option<String>> {
    let reply = connection.exchange(&request::initialize(target)).await?;
    if reply.status != 200 {
        return Err(io::Error::other(format!("HTTP {} to `initialize`", reply.status)));
    }
    let session = reply.header("mcp-session-id").map(str::to_owned);
    let reply = connection.exchange(&request::initialized(target, session.as_deref())).await?;
    if reply.status != 202 {
        return Err(io::Error::other(format!("HTTP {} to `notifications/initialized`", reply.status)));
    }
    Ok(session)
}
