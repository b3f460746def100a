//! A small real MCP server, so that a newcomer has something behind the gateway: Streamable HTTP in both
//! protocol eras, a handful of tools, a resource and a prompt. Two instances of it are the sample's primary
//! and backup.
//!
//! `listener` turns bytes into messages, `envelope` reads them, `legacy` (with `sessions`) and `modern` hold
//! the rules of their era, `answer` finds who answers: `tools` (with `notes`), `resources`, `prompts`. It must
//! never know the gateway: to the gateway it is an upstream like any other.

mod answer;
mod envelope;
mod legacy;
mod listener;
mod modern;
mod notes;
mod prompts;
mod reply;
mod resources;
mod sessions;
mod tools;

use crate::{
    args::SampleServer,
    report::{Error, Exit},
    terminal::Terminal,
};
use jiff::Timestamp;
use notes::Notes;
use o1_process::{OnExit, StateDir, Tasks};
use serde_json::{Value, json};
use sessions::Sessions;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// For calls in flight when the server is asked to stop. They take microseconds; clients are slower.
const DRAIN: Duration = Duration::from_secs(3);

/// One running instance.
struct Sample {
    name: String,
    started: Timestamp,
    notes: Notes,
    sessions: Sessions,
}

impl Sample {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            started: Timestamp::now(),
            notes: Notes::default(),
            sessions: Sessions::default(),
        }
    }

    /// What it calls itself on the wire.
    fn info(&self) -> Value {
        json!({
            "name": "only1-sample",
            "title": format!("only1 sample ({})", self.name),
            "version": o1_process::VERSION,
        })
    }
}

/// Serves until SIGINT or SIGTERM. Says where on standard output, and in `addresses.json` when asked to.
///
/// # Errors
/// The address or the state directory is not free.
pub async fn run(args: &SampleServer, terminal: &mut Terminal) -> Result<Exit, Error> {
    let asked = o1_process::signal::terminate();
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        Error::local(format!("cannot listen on {}: {error}", args.listen), "choose another with --listen")
    })?;
    let address = listener.local_addr()?;
    let tasks = Tasks::new();
    let sample = Arc::new(Sample::new(&args.name));
    let _detached =
        tasks.spawn("listener", OnExit::Shutdown, listener::serve(sample, listener, tasks.clone()));
    let state = args.state_dir.as_ref().map(StateDir::open).transpose();
    let state = state.map_err(|error| Error::local(error.to_string(), ""))?;
    if let Some(state) = &state {
        let addresses = BTreeMap::from([("listen", address)]);
        state.write_addresses(&addresses).map_err(|error| Error::local(error.to_string(), ""))?;
    }
    terminal.out.write(&format!("sample server {} serves MCP at http://{address}/mcp\n", args.name))?;
    let stopping = tasks.stopping();
    tokio::select! {
        () = asked => {}
        () = stopping.cancelled() => {}
    }
    tasks.begin_stop();
    tasks.stopped_within(DRAIN).await;
    Ok(if tasks.fault().is_some() { Exit::Degraded } else { Exit::Healthy })
}

#[cfg(test)]
mod tests;
