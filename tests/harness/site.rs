//! Two stores as processes, of which one is the other's backup, and a gateway in front of them.

use crate::{
    binaries::binary,
    http::{Http, Reply},
    planes::{ControlPlane, DataPlane, Gateway, Options},
    ports,
    process::Process,
    wait::{in_time, until, until_true},
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

/// Longer than anything takes that should happen at all.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One store.
pub struct Store {
    pub name: &'static str,
    pub address: SocketAddr,
    file: PathBuf,
    process: Process,
}

impl Store {
    pub async fn start(dir: &TempDir, name: &'static str) -> Self {
        let (address, file) = (ports::lasting(), dir.path().join(name));
        let process = Self::run(address, &file, name);
        let this = Self { name, address, file, process };
        this.answers().await;
        this
    }

    fn run(address: SocketAddr, file: &Path, name: &str) -> Process {
        Process::start(name, &binary("o1-test-store"), |command| {
            command.arg(address.to_string()).arg(file).arg(name);
        })
    }

    async fn answers(&self) {
        let address = self.address;
        until_true("the store answers", PATIENCE, || async move {
            tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await;
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// `SIGSTOP`: it accepts and never answers.
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = Self::run(self.address, &self.file, self.name);
        self.answers().await;
    }

    /// How it behaves from now on; empty: well.
    pub fn behave(&self, mode: &str) {
        std::fs::write(self.file.with_extension("mode"), mode).expect("the directory is ours");
    }

    /// What took effect, and how often.
    pub fn written(&self) -> BTreeMap<String, u32> {
        let mut written = BTreeMap::new();
        for line in std::fs::read_to_string(&self.file).unwrap_or_default().lines() {
            let line: Value = serde_json::from_str(line).expect("lines of a store");
            *written.entry(line["id"].as_str().expect("an id").to_owned()).or_default() += 1;
        }
        written
    }
}

/// Everything.
pub struct Site {
    pub gateway: Gateway,
    pub primary: Store,
    pub backup: Store,
    _dir: TempDir,
}

/// What is said of failover in the configuration of a site.
pub const POLICY: &str = "writes: journal, journal_tools: [put], read_tools: [has, who, 'only_*'], fast_path: reads, \
                          min_hold: 2s, stable: 1s, autonomy_after: 3s, drain: 500ms";

impl Site {
    pub async fn start(policy: &str) -> Self {
        Self::start_with(policy, true).await
    }

    /// `endpoints`: the backup is a server of its own; otherwise the node's snapshot.
    pub async fn start_with(policy: &str, endpoints: bool) -> Self {
        Self::dying(policy, endpoints, "").await
    }

    /// The node dies at this point, once.
    pub async fn dying(policy: &str, endpoints: bool, failpoint: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (primary, backup) = (Store::start(&dir, "primary").await, Store::start(&dir, "backup").await);
        let config = config(&primary, endpoints.then_some(&backup), policy);
        let control = ControlPlane::start(&config).await;
        let environment = vec![("O1_FAILPOINT".to_owned(), failpoint.to_owned())];
        let environment = if failpoint.is_empty() { Vec::new() } else { environment };
        let options = Options { environment, ..Options::default() };
        let data = DataPlane::start_with(control.listen, "n1", options).await;
        control.synced("n1").await;
        let site = Self { gateway: Gateway { data, control }, primary, backup, _dir: dir };
        site.until("the primary is seen healthy", |failover| failover["primary"]["verdict"] == "healthy")
            .await;
        site
    }

    /// What the node itself says, on its admin port.
    pub async fn node(&self) -> Value {
        node(&self.gateway.data).await
    }

    /// Waits until the node says so.
    pub async fn until(&self, what: &str, question: impl Fn(&Value) -> bool) -> Value {
        let (question, data) = (&question, &self.gateway.data);
        until(what, PATIENCE, || async move { Some(node(data).await).filter(question) }).await
    }

    /// Waits for a phase that lasts a moment only.
    pub async fn at(&self, phase: &str) {
        in_time(phase, PATIENCE, async {
            while self.node().await["phase"] != phase {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    pub async fn until_on(&self, store: &str) -> Value {
        self.until(&format!("calls go to the {store}"), |failover| failover["phase"] == store).await
    }

    /// Waits until the control plane says so.
    pub async fn until_told(&self, what: &str, question: impl Fn(&Value) -> bool) -> Value {
        let (question, control) = (&question, &self.gateway.control);
        until(what, PATIENCE, || async move { failover(control).await.filter(question) }).await
    }
}

pub fn config(primary: &Store, backup: Option<&Store>, policy: &str) -> String {
    let backup = backup.map_or_else(
        || "    backup: snapshot\n".to_owned(),
        |backup| format!("    backup:\n      - url: http://{}/mcp\n", backup.address),
    );
    format!(
        "upstreams:\n  x:\n    primary:\n      - url: http://{}/mcp\n{backup}    health: {{every: 500ms, timeout: 300ms}}\n    \
         breaker: {{failures: 3, open: 500ms, open_max: 1s}}\n    failover: {{{policy}}}\n    timeouts: {{idle: 5s, connect: 1s}}\n",
        primary.address
    )
}

pub async fn failover(control: &ControlPlane) -> Option<Value> {
    let status = control.o1ctl(&["status"]).await;
    let upstreams = status["upstreams"].as_array()?;
    let found = upstreams.iter().find(|one| one["name"] == "x")?["failover"].clone();
    Some(found).filter(|found| !found.is_null())
}

/// What a node says of `x` on its admin port; null: nothing.
pub async fn node(data: &DataPlane) -> Value {
    let http = Http::new(data.admin);
    match http.try_send("GET", "/status", &[], "").await {
        Ok(reply) => {
            let reply = Reply::read(reply).await;
            let status: Value = serde_json::from_str(&reply.text()).unwrap_or_default();
            let upstreams = status["upstreams"].as_array().cloned().unwrap_or_default();
            upstreams
                .into_iter()
                .find(|one| one["name"] == "x")
                .map_or(Value::Null, |one| one["failover"].clone())
        }
        Err(_) => Value::Null,
    }
}
