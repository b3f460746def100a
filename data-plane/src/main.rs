//! `o1-data-plane`: arguments, runtimes, exit code.

use clap::{CommandFactory as _, Parser, builder::FalseyValueParser, error::ErrorKind};
use o1_data_plane::{
    app::{self, Options},
    backend::stdio,
    control::Reach,
    listener::Workers,
};
use o1_process::{
    telemetry::{self, LogFormat},
    tls::{ClientFiles, Pair},
};
use std::{
    collections::BTreeMap, io, net::SocketAddr, num::NonZero, path::PathBuf, process::ExitCode, thread,
    time::Duration,
};

/// glibc's allocator keeps what a burst of large bodies once cost; this one gives the pages back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The only1 data plane: stands between MCP clients and MCP servers.
#[derive(Debug, Parser)]
#[command(name = "o1-data-plane", version, about, max_term_width = 100)]
struct Arguments {
    /// Where the control plane answers, such as https://control:7400, or http://127.0.0.1:7400 on this machine.
    /// Without it the node serves the configuration it last applied.
    #[arg(long, env = "O1_CONTROL", value_name = "URL")]
    control: Option<http::Uri>,
    /// The authority of the control plane's certificate (PEM); without it the system's authorities count
    #[arg(long, env = "O1_CONTROL_CA", value_name = "FILE")]
    control_ca: Option<PathBuf>,
    /// The certificate that this node shows the control plane (PEM); it names only1://node/NODE_ID. Read again for
    /// each connection, as the other files are
    #[arg(long, env = "O1_CONTROL_CERT", value_name = "FILE", requires = "control_key")]
    control_cert: Option<PathBuf>,
    /// The key of --control-cert (PEM)
    #[arg(long, env = "O1_CONTROL_KEY", value_name = "FILE", requires = "control_cert")]
    control_key: Option<PathBuf>,
    /// A file with the bearer token of this node, for control planes that go by --tokens
    #[arg(long, env = "O1_CONTROL_TOKEN_FILE", value_name = "FILE")]
    control_token_file: Option<PathBuf>,
    /// Allow --control http:// on another machine: nothing is encrypted, and whoever answers there is obeyed
    #[arg(long, env = "O1_INSECURE_CONTROL", value_parser = FalseyValueParser::new())]
    insecure_control: bool,
    /// What people call this node: letters, digits, `.`, `_`, `-`
    #[arg(long, env = "O1_NODE_ID", value_name = "NAME", value_parser = node_id)]
    node_id: String,
    /// Where MCP clients connect (HTTP/1.1 and h2c)
    #[arg(long, env = "O1_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where /livez, /readyz, /health, /status, /stats, /state, /settings, /metrics and /version answer (HTTP)
    #[arg(long, env = "O1_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// Where the node keeps its identity and its last configuration
    #[arg(long, env = "O1_STATE_DIR", value_name = "DIR")]
    state_dir: PathBuf,
    /// Labels to select nodes by, `key=value`; may be given more than once
    #[arg(long = "label", env = "O1_LABELS", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    /// How long calls may take to finish after SIGTERM, in seconds
    #[arg(long, env = "O1_DRAIN", value_name = "SECONDS", default_value_t = 15)]
    drain: u64,
    /// How log lines look: text or json
    #[arg(long, env = "O1_LOG_FORMAT", value_name = "FORMAT", default_value_t)]
    log_format: LogFormat,
}

impl Arguments {
    fn reach(&self) -> Result<Option<Reach>, String> {
        let Some(uri) = self.control.clone() else { return Ok(None) };
        let pair = self.control_cert.clone().zip(self.control_key.clone());
        let tls =
            ClientFiles { ca: self.control_ca.clone(), pair: pair.map(|(cert, key)| Pair { cert, key }) };
        Reach::new(uri, tls, self.control_token_file.clone(), self.insecure_control).map(Some)
    }
}

fn main() -> ExitCode {
    let mut raw = std::env::args_os();
    if raw.nth(1).is_some_and(|first| first == stdio::EXEC_CHILD) {
        // Returns only when the command could not be run.
        let error = stdio::exec_child(raw);
        return ExitCode::from(stdio::exec_exit_code(&error));
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { 64 } else { 0 };
            return error.print().map_or(ExitCode::FAILURE, |()| ExitCode::from(code));
        }
    };
    let control = match arguments.reach() {
        Ok(control) => control,
        Err(what) => {
            let error = Arguments::command().error(ErrorKind::ValueValidation, what);
            return error.print().map_or(ExitCode::FAILURE, |()| ExitCode::from(64));
        }
    };
    // h2 words a client's misbehaviour as a warning of its own.
    telemetry::init(arguments.log_format, "info,h2=error");
    match run(arguments, control) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A thread with its own runtime on each CPU for connections and their calls, a runtime for what calls share, a thread
/// of its own for control and admin.
fn run(arguments: Arguments, control: Option<Reach>) -> io::Result<bool> {
    let aside = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("o1-control")
        .enable_all()
        .build()?;
    let shared = tokio::runtime::Builder::new_multi_thread().thread_name("o1-shared").enable_all().build()?;
    let options = Options {
        control,
        node_id: arguments.node_id,
        listen: arguments.listen,
        admin: arguments.admin,
        state_dir: arguments.state_dir,
        labels: arguments.labels.into_iter().collect::<BTreeMap<_, _>>(),
        drain: Duration::from_secs(arguments.drain),
    };
    // Listens for signals from here on, before anybody is told that the node runs.
    let asked = {
        let _shared = shared.enter();
        Box::pin(o1_process::signal::terminate())
    };
    let workers = Workers::start(thread::available_parallelism().map_or(1, NonZero::get))?;
    let ended = shared.block_on(app::run(options, aside.handle().clone(), workers, asked));
    shared.shutdown_timeout(Duration::from_secs(1));
    aside.shutdown_timeout(Duration::from_secs(1));
    ended
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form key=value")),
    }
}

fn node_id(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if plain && (1..=64).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err("1 to 64 letters, digits, `.`, `_` or `-`".to_owned())
}
