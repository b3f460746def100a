//! A series: what is measured, and in which order. All ways to the upstream are measured in turn within each round,
//! so that what else the machine does meets them alike.

use crate::{
    generator::{self, Load, Outcome, Window},
    request::{Era, Operation, Target},
    upstream::Scope,
    usage::Usage,
};
use clap::Args;
use o1_tests::{ControlPlane, DataPlane, Http, Process, until, until_true};
use std::{io, net::SocketAddr, path::PathBuf, time::Duration};
use tokio::time::{Instant, sleep_until};

/// What to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// Rounds; the figures shown are medians over them
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,
    /// How long each measurement takes, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 8.0)]
    pub seconds: f64,
    /// Instead of --seconds and --warm: each measurement ends when each connection had as many answers
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// How long the same load goes on before, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub warm: f64,
    /// Connections at a time
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 16, 64])]
    pub connections: Vec<usize>,
    /// Ways to the upstream
    #[arg(long, value_name = "WAY,…", value_delimiter = ',', default_values = ["direct", "one", "all"])]
    pub ways: Vec<Way>,
    /// What is asked for
    #[arg(long, value_name = "WHAT", default_value = "read")]
    pub operation: Operation,
    /// In which era
    #[arg(long, value_name = "ERA", default_value = "modern")]
    pub era: Era,
    /// How long the upstream's answers hold, milliseconds; 0: nothing is kept of them
    #[arg(long, value_name = "MS", default_value_t = 3_600_000)]
    pub ttl_ms: u64,
    /// For whom they hold
    #[arg(long, value_name = "SCOPE", default_value = "public")]
    pub scope: Scope,
    /// Different resources or texts, in turn over the connections
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub resources: usize,
    /// Bytes of text in each
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
    /// Threads of the generator; 0: one for each CPU
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Also write all figures here
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Options {
    fn window(&self, now: Instant) -> Window {
        if self.requests.is_some() {
            return Window { from: now, until: now + COUNT_WITHIN, enough: self.requests };
        }
        let from = now + Duration::from_secs_f64(self.warm);
        Window { from, until: from + Duration::from_secs_f64(self.seconds), enough: None }
    }
}

/// A way to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// Without a gateway.
    Direct,
    /// `/u/<upstream>/mcp`: one upstream, nothing renamed.
    One,
    /// `/mcp`: every upstream, names prefixed.
    All,
}

impl Way {
    /// How the table names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::One => "/u/load/mcp",
            Self::All => "/mcp",
        }
    }
}

/// One way at one number of connections.
pub struct Row {
    /// Which way.
    pub way: Way,
    /// Connections at a time.
    pub connections: usize,
    /// What came of it, in order.
    pub rounds: Vec<Round>,
}

/// One measurement.
pub struct Round {
    /// Latencies and errors.
    pub outcome: Outcome,
    /// How long it took.
    pub time: Duration,
    /// CPU time of the process that was asked: the upstream when asked directly, else the data plane.
    pub asked: Duration,
    /// CPU time of the generator.
    pub generator: Duration,
    /// CPU time of the upstream.
    pub upstream: Duration,
    /// Requests that reached the upstream, warming up included.
    pub reached: u64,
    /// Resident memory of the process that was asked, at the end, bytes.
    pub resident: u64,
}

/// What runs while it is measured. Dropped, and with it every process, whatever happens.
struct Ground {
    data: DataPlane,
    _control: ControlPlane,
    upstream: Process,
    upstream_at: SocketAddr,
}

const START: Duration = Duration::from_secs(20);
/// How long a measurement by count may take.
const COUNT_WITHIN: Duration = Duration::from_secs(60);

/// Measures everything that is asked for.
///
/// # Errors
/// A process is gone before its figures could be read.
///
/// # Panics
/// A process does not start.
pub async fn run(options: &Options) -> io::Result<Vec<Row>> {
    let ground = Ground::start(options).await?;
    let each = |connections: &usize| {
        let row = |way: &Way| Row { way: *way, connections: *connections, rounds: Vec::new() };
        options.ways.iter().map(row).collect::<Vec<_>>()
    };
    let mut rows: Vec<Row> = options.connections.iter().flat_map(each).collect();
    for _ in 0..options.rounds {
        for row in &mut rows {
            let round = ground.measure(options, row.way, row.connections).await?;
            row.rounds.push(round);
        }
    }
    Ok(rows)
}

impl Ground {
    async fn start(options: &Options) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let upstream = Process::start("the upstream", &program, |command| {
            command.args(["upstream", "--ttl-ms", &options.ttl_ms.to_string()]);
            command.args(["--scope", options.scope.word(), "--resources", &options.resources.to_string()]);
            command.args(["--size", &options.size.to_string()]);
        });
        let address = || std::future::ready(upstream.stdout.find(|line| line.parse::<SocketAddr>().ok()));
        let upstream_at = until("the address of the upstream", START, address).await;
        let config = format!("upstreams:\n  load:\n    primary: [{{url: \"http://{upstream_at}/mcp\"}}]\n");
        let control = ControlPlane::start(&config).await;
        let data = DataPlane::start(control.listen, "load").await;
        let http = Http::new(data.listen);
        // Without a body it is no message; without a route it would be 404.
        until_true("a data plane that serves the upstream", START, || async {
            http.send("POST", "/u/load/mcp", &[("content-type", "application/json")], "").await.status == 400
        })
        .await;
        Ok(Self { data, _control: control, upstream, upstream_at })
    }

    fn target(&self, way: Way) -> Target {
        let (address, path, prefix) = match way {
            Way::Direct => (self.upstream_at, "/mcp", ""),
            Way::One => (self.data.listen, "/u/load/mcp", ""),
            Way::All => (self.data.listen, "/mcp", "load__"),
        };
        Target { address, path: path.to_owned(), prefix: prefix.to_owned() }
    }

    async fn measure(&self, options: &Options, way: Way, connections: usize) -> io::Result<Round> {
        let threads = match options.threads {
            0 => std::thread::available_parallelism()?.get(),
            threads => threads,
        };
        let load = Load {
            target: self.target(way),
            operation: options.operation,
            era: options.era,
            connections,
            resources: options.resources,
            size: options.size,
            threads,
        };
        let asked = if way == Way::Direct { &self.upstream } else { &self.data.process };
        let reached = self.reached().await?;
        let window = options.window(Instant::now());
        let mut running = tokio::task::spawn_blocking(move || generator::run(&load, window));
        sleep_until(window.from).await;
        let before = self.used(asked)?;
        let early = tokio::time::timeout_at(window.until, &mut running).await.ok();
        let (time, after) = (Instant::now() - window.from, self.used(asked)?);
        let outcome = match early {
            Some(outcome) => outcome,
            None => running.await,
        };
        Ok(Round {
            outcome: outcome.map_err(io::Error::other)?,
            time,
            asked: after[0].cpu - before[0].cpu,
            generator: after[1].cpu - before[1].cpu,
            upstream: after[2].cpu - before[2].cpu,
            reached: self.reached().await? - reached,
            resident: after[0].resident,
        })
    }

    /// What was used so far by the process that is asked, by us and by the upstream.
    fn used(&self, asked: &Process) -> io::Result<[Usage; 3]> {
        let of = |process: &Process| Usage::of(process.pid().as_raw_nonzero().get());
        let used = of(asked).zip(Usage::of_self()).zip(of(&self.upstream));
        let ((asked, ours), upstream) = used.ok_or_else(|| io::Error::other("a process is gone"))?;
        Ok([asked, ours, upstream])
    }

    /// Requests that the upstream has seen so far.
    async fn reached(&self) -> io::Result<u64> {
        let count = Http::new(self.upstream_at).get("/requests").await;
        count.text().parse().map_err(io::Error::other)
    }
}
