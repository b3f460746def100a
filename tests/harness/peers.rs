//! The official peers that `tests/run` installs into `target/peers`: Python servers and client, Node and what runs
//! on it, and our fixture on the Python SDK.

use crate::{
    binaries::{root, target_dir},
    process::Process,
    wait::until,
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// How long a peer may take to start on a busy machine: imports of the Python SDK alone take seconds.
const START: Duration = Duration::from_secs(60);

fn installed(path: &str) -> PathBuf {
    let path = target_dir().join("peers").join(path);
    assert!(
        path.exists(),
        "{} is missing: run `./tests/run peers`, which installs the official peers once",
        path.display()
    );
    path
}

/// A program of the Python peers: `python`, `mcp-server-time`.
#[must_use]
pub fn python(program: &str) -> PathBuf {
    installed("python/bin").join(program)
}

/// Node.
#[must_use]
pub fn node() -> PathBuf {
    installed("node/bin/node")
}

/// A program of the Node peers: `mcp-server-everything`.
#[must_use]
pub fn node_program(program: &str) -> PathBuf {
    installed("node/node_modules/.bin").join(program)
}

/// A file in tests/peers.
#[must_use]
pub fn source(file: &str) -> PathBuf {
    root().join("tests/peers").join(file)
}

/// A server among the peers that serves HTTP.
pub struct Server {
    /// The process.
    pub process: Process,
    /// Its endpoint.
    pub url: String,
}

impl Server {
    /// Our fixture on the Python SDK; `era` is `both`, `legacy` or `modern`.
    ///
    /// # Panics
    /// It does not start.
    pub async fn fixture(era: &str) -> Self {
        let process = Process::start("fixture.py", &python("python"), |command| {
            command.arg(source("fixture.py")).args(["--era", era]);
        });
        let url = until("the fixture's address", START, || {
            let line = process.stdout.find(|line| serde_json::from_str::<Value>(line).ok());
            std::future::ready(line.and_then(|line| line["url"].as_str().map(str::to_owned)))
        })
        .await;
        Self { process, url }
    }

    /// server-everything over Streamable HTTP.
    ///
    /// # Panics
    /// It does not start.
    pub async fn everything() -> Self {
        Self::everything_as("streamableHttp", "mcp").await
    }

    /// server-everything over HTTP+SSE of 2024-11-05.
    ///
    /// # Panics
    /// It does not start.
    pub async fn everything_by_sse() -> Self {
        Self::everything_as("sse", "sse").await
    }

    async fn everything_as(mode: &str, path: &str) -> Self {
        // It cannot choose a port itself.
        let address = crate::ports::lasting();
        let mut process = Process::start("server-everything", &node(), |command| {
            command.arg(node_program("mcp-server-everything")).arg(mode);
            command.env("PORT", address.port().to_string());
        });
        until("server-everything to listen", START, || {
            assert!(process.is_running(), "server-everything ended at its start");
            std::future::ready(std::net::TcpStream::connect(address).ok())
        })
        .await;
        Self { process, url: format!("http://{address}/{path}") }
    }
}

/// Runs a peer to its end, with `input` on its standard input; its output.
///
/// # Panics
/// It fails, or does not end in time.
pub async fn run(
    program: &Path,
    input: &str,
    within: Duration,
    configure: impl FnOnce(&mut Command),
) -> String {
    let name = program.display().to_string();
    let mut process = Process::start(&name, program, configure);
    let mut stdin = process.stdin().expect("stdin is piped");
    let input = input.to_owned();
    let writing =
        tokio::task::spawn_blocking(move || std::io::Write::write_all(&mut stdin, input.as_bytes()));
    let status = process.exit(within).await;
    // A program that reads nothing may end before it was written to.
    let _ = writing.await;
    assert!(status.success(), "{name}: {status}\n{}", process.output().await.1);
    process.output().await.0
}
