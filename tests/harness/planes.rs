//! The two planes as processes, with temporary state and any free port.

use crate::{
    binaries::binary,
    http::Http,
    ports,
    process::Process,
    wait::{in_time, until, until_true},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};
use tempfile::TempDir;

/// How long a process may take to be ready on a busy machine.
const START: Duration = Duration::from_secs(20);

/// The addresses that a process says it is bound to.
async fn addresses(process: &mut Process, state: &Path) -> BTreeMap<String, SocketAddr> {
    let file = state.join("addresses.json");
    until("addresses.json, or the end of the process", START, || {
        assert!(process.is_running(), "the process ended at its start");
        let read = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        std::future::ready(read)
    })
    .await
}

/// Waits until `/readyz` on the admin port says yes.
async fn ready(what: &str, admin: SocketAddr) {
    let http = Http::new(admin);
    until_true(what, START, || async {
        matches!(http.try_send("GET", "/readyz", &[], "").await, Ok(reply) if reply.status() == 200)
    })
    .await;
}

/// A control plane.
pub struct ControlPlane {
    /// The process.
    pub process: Process,
    /// Where it serves gRPC.
    pub listen: SocketAddr,
    /// Where it serves HTTP for operators.
    pub admin: SocketAddr,
    dir: TempDir,
    /// Whether it is told where the file is; if not, the API says what runs.
    has_file: bool,
    flags: Vec<String>,
}

impl ControlPlane {
    /// Starts one with a configuration, and waits until it is ready.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start(config: &str) -> Self {
        Self::start_with(config, &[]).await
    }

    /// The same with more flags.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_with(config: &str, flags: &[&str]) -> Self {
        Self::begin(config, true, flags).await
    }

    /// Starts one without a file: `o1ctl config apply` says what runs. The document is there for it, as [`Self::config`].
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_without_file(document: &str) -> Self {
        Self::begin(document, false, &[]).await
    }

    /// The same with flags.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_without_file_with(document: &str, flags: &[&str]) -> Self {
        Self::begin(document, false, flags).await
    }

    async fn begin(config: &str, has_file: bool, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("etc")).expect("the directory is ours");
        std::fs::write(dir.path().join("etc/only1.yaml"), config).expect("the directory is ours");
        let any = "127.0.0.1:0".parse().expect("an address");
        let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (process, listen, admin) = Self::run(dir.path(), ports::lasting(), any, has_file, &flags).await;
        Self { process, listen, admin, dir, has_file, flags }
    }

    async fn run(
        dir: &Path,
        listen: SocketAddr,
        admin: SocketAddr,
        has_file: bool,
        flags: &[String],
    ) -> (Process, SocketAddr, SocketAddr) {
        let state = dir.join("state");
        let _ = std::fs::remove_file(state.join("addresses.json"));
        let mut process = Process::start("o1-control-plane", &binary("o1-control-plane"), |command| {
            if has_file {
                command.arg("--config").arg(dir.join("etc/only1.yaml"));
            }
            command.args(["--listen", &listen.to_string(), "--admin", &admin.to_string()]);
            command.arg("--state-dir").arg(&state).args(flags);
        });
        let bound = addresses(&mut process, &state).await;
        ready("a control plane that is ready", bound["admin"]).await;
        (process, bound["listen"], bound["admin"])
    }

    /// Starts it again where nodes look for it, after its process ended.
    ///
    /// # Panics
    /// It does not start.
    pub async fn restart(&mut self) {
        self.process.kill();
        let any = "127.0.0.1:0".parse().expect("an address");
        (self.process, self.listen, self.admin) =
            Self::run(self.dir.path(), self.listen, any, self.has_file, &self.flags).await;
    }

    /// The file it watches.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("etc/only1.yaml")
    }

    /// Edits the file in place, as an editor that writes through does.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn edit(&self, config: &str) {
        std::fs::write(self.config(), config).expect("the directory is ours");
    }

    /// What `o1ctl` says as JSON, whatever its exit code: `["nodes"]`, `["status"]`.
    ///
    /// # Panics
    /// It does not print JSON.
    pub async fn o1ctl(&self, arguments: &[&str]) -> Value {
        let mut values = self.o1ctl_lines(arguments).await;
        assert_eq!(values.len(), 1, "o1ctl {arguments:?} says one thing");
        values.remove(0)
    }

    /// How `o1ctl` ends, with what it wrote.
    ///
    /// # Panics
    /// It does not end.
    pub async fn o1ctl_ends(&self, arguments: &[&str]) -> Output {
        let run = tokio::process::Command::new(binary("o1ctl"))
            .args(arguments)
            .args(["--control", &format!("http://{}", self.listen)])
            .kill_on_drop(true)
            .output();
        in_time("o1ctl", START, run).await.expect("o1ctl starts")
    }

    /// The same of a command that prints an object a line.
    ///
    /// # Panics
    /// It does not print JSON.
    pub async fn o1ctl_lines(&self, arguments: &[&str]) -> Vec<Value> {
        let run = tokio::process::Command::new(binary("o1ctl"))
            .args(arguments)
            .args(["--json", "--control", &format!("http://{}", self.listen)])
            .kill_on_drop(true)
            .output();
        let output = in_time("o1ctl", START, run).await.expect("o1ctl starts");
        let values = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
        values.collect::<Result<_, _>>().unwrap_or_else(|error| {
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            panic!("o1ctl {arguments:?}: {error}: {} {out} {err}", output.status)
        })
    }

    /// One node as `o1ctl nodes` shows it.
    pub async fn node(&self, id: &str) -> Option<Value> {
        let nodes = self.o1ctl(&["nodes"]).await;
        nodes["nodes"].as_array()?.iter().find(|node| node["node_id"] == id).cloned()
    }

    /// Waits until a node satisfies the question.
    ///
    /// # Panics
    /// It does not in time.
    pub async fn node_until(&self, id: &str, what: &str, question: impl Fn(&Value) -> bool) -> Value {
        let question = &question;
        until(&format!("node {id}: {what}"), START, || async move { self.node(id).await.filter(question) })
            .await
    }

    /// Waits until a node runs the newest configuration.
    ///
    /// # Panics
    /// It does not in time.
    pub async fn synced(&self, id: &str) {
        self.node_until(id, "synced", |node| node["sync"] == "synced" && node["state"] == "connected").await;
    }
}

/// How a data plane differs from the usual one.
#[derive(Default)]
pub struct Options {
    /// Flags beside the usual ones.
    pub arguments: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// Do not wait until it is ready.
    pub not_ready: bool,
    /// Listen on every address of the machine.
    pub exposed: bool,
    /// The control plane by another URL than `http://` and its address.
    pub control: Option<String>,
}

/// A data plane.
pub struct DataPlane {
    /// The process.
    pub process: Process,
    /// Where clients reach it.
    pub listen: SocketAddr,
    /// Where it serves HTTP for operators.
    pub admin: SocketAddr,
    /// What it is called.
    pub node_id: String,
    control: String,
    state: TempDir,
    environment: Vec<(String, String)>,
}

impl DataPlane {
    /// Starts one and waits until it is ready.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start(control: SocketAddr, node_id: &str) -> Self {
        Self::start_with(control, node_id, Options::default()).await
    }

    /// The same with options.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_with(control: SocketAddr, node_id: &str, options: Options) -> Self {
        let state = tempfile::tempdir().expect("a temporary directory");
        let control = options.control.clone().unwrap_or_else(|| format!("http://{control}"));
        let mut listen = ports::lasting();
        if options.exposed {
            listen.set_ip(std::net::Ipv4Addr::UNSPECIFIED.into());
        }
        let (process, mut listen, admin) = Self::run(state.path(), &control, node_id, listen, &options).await;
        if options.exposed {
            listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        // It dies on demand once.
        let lasting = options.environment.into_iter().filter(|(name, _)| name != "O1_FAILPOINT");
        let environment = lasting.collect();
        Self { process, listen, admin, node_id: node_id.to_owned(), control, state, environment }
    }

    async fn run(
        state: &Path,
        control: &str,
        node_id: &str,
        listen: SocketAddr,
        options: &Options,
    ) -> (Process, SocketAddr, SocketAddr) {
        let _ = std::fs::remove_file(state.join("addresses.json"));
        let mut process = Process::start("o1-data-plane", &binary("o1-data-plane"), |command| {
            command.args(["--control", control, "--node-id", node_id]);
            command.args(["--listen", &listen.to_string(), "--admin", "127.0.0.1:0"]);
            command.arg("--state-dir").arg(state).args(&options.arguments);
            command.envs(options.environment.iter().map(|(name, value)| (name, value)));
        });
        let bound = addresses(&mut process, state).await;
        if !options.not_ready {
            ready("a data plane that is ready", bound["admin"]).await;
        }
        (process, bound["listen"], bound["admin"])
    }

    /// Starts it again, on the same port and with the same state, after its process ended.
    ///
    /// # Panics
    /// It does not start.
    pub async fn restart(&mut self) {
        self.process.kill();
        let options = Options { environment: self.environment.clone(), ..Options::default() };
        (self.process, self.listen, self.admin) =
            Self::run(self.state.path(), &self.control, &self.node_id, self.listen, &options).await;
    }
}

/// A control plane and a data plane that runs its configuration.
pub struct Gateway {
    /// The data plane; dropped first.
    pub data: DataPlane,
    /// The control plane.
    pub control: ControlPlane,
}

impl Gateway {
    /// Starts both and waits until the configuration is served.
    ///
    /// # Panics
    /// Either does not start.
    pub async fn start(config: &str) -> Self {
        let control = ControlPlane::start(config).await;
        let data = DataPlane::start(control.listen, "n1").await;
        control.synced("n1").await;
        Self { data, control }
    }

    /// Where clients go.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.data.listen
    }

    /// The URL of a route.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }
}

/// A control plane and two data planes that run its configuration.
pub struct Pair {
    /// One node; nodes are dropped first.
    pub a: DataPlane,
    /// The other.
    pub b: DataPlane,
    /// The control plane.
    pub control: ControlPlane,
}

impl Pair {
    /// Starts all three and waits until the configuration is served. `flags` are the control plane's.
    ///
    /// # Panics
    /// One does not start.
    pub async fn start(config: &str, flags: &[&str]) -> Self {
        let control = ControlPlane::start_with(config, flags).await;
        let a = DataPlane::start(control.listen, "n1").await;
        let b = DataPlane::start(control.listen, "n2").await;
        for node in ["n1", "n2"] {
            control.synced(node).await;
        }
        Self { a, b, control }
    }
}
