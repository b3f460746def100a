//! What only a real process can show: signals, exit codes, sudden death.

use crate::harness::*;
use o1_proto::wire::{self, GoodbyeReason, status_service_client::StatusServiceClient};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

/// A running program; killed when the test is over, however it ends.
struct Program {
    child: Child,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// The state directory is `state` in `dir` unless `more` says otherwise.
    fn start(dir: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_o1-control-plane"));
        command
            .env_clear()
            .env("O1_STATE_DIR", dir.join("state"))
            .arg("--config")
            .arg(config_in(dir))
            .args(["--admin", "127.0.0.1:0"])
            .args(more)
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("log")).unwrap());
        Self { child: command.spawn().unwrap() }
    }

    /// On a port of its own, and where that is.
    async fn serving(dir: &Path) -> (Self, SocketAddr) {
        let _ = fs::remove_file(dir.join("state/addresses.json"));
        let program = Self::start(dir, &["--listen", "127.0.0.1:0"]);
        let listen = eventually(async || {
            let text = fs::read_to_string(dir.join("state/addresses.json"))
                .map_err(|_| fs::read_to_string(dir.join("log")).unwrap())?;
            let addresses: serde_json::Value =
                serde_json::from_str(&text).map_err(|error| error.to_string())?;
            Ok(addresses["listen"].as_str().expect("it listens").parse().unwrap())
        })
        .await;
        (program, listen)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process has a pid");
        kill_process(pid, signal).expect("it is alive");
    }

    async fn ended(&mut self) -> ExitStatus {
        eventually(async || self.child.try_wait().unwrap().ok_or_else(|| "it still runs".to_owned())).await
    }
}

fn directory(document: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("etc")).unwrap();
    fs::write(config_in(dir.path()), document).unwrap();
    dir
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("log")).unwrap()
}

#[tokio::test]
async fn sigterm_ends_it_in_order_even_with_a_connection_that_hangs() {
    let dir = directory(&document(3101));
    let (mut program, listen) = Program::serving(dir.path()).await;
    let (mut node, _) = Node::join(listen, hello(1)).await;
    node.config().await;
    // One that says nothing, one that stops in the middle of a handshake.
    let _silent = TcpStream::connect(listen).await.unwrap();
    let mut torn = TcpStream::connect(listen).await.unwrap();
    torn.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let asked = Instant::now();
    program.signal(Signal::TERM);
    node.goodbye_because(GoodbyeReason::Shutdown).await;
    let status = program.ended().await;
    assert!(status.success(), "{status}: {}", log(dir.path()));
    assert!(asked.elapsed() <= Duration::from_secs(6), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_decision_that_was_kept_and_not_sent_survives_kill_minus_nine() {
    use crate::failing_over::{backed, backup, directive, ready, sees};
    use o1_proto::wire::{Store, Verdict, admin_service_client::AdminServiceClient};
    let dir = directory(&backed());
    let (mut program, listen) = Program::serving(dir.path()).await;
    // Nobody is there to be told.
    let mut client = AdminServiceClient::new(channel(listen).await);
    let ordered = client.order_store(backup()).await.unwrap().into_inner();
    program.child.kill().unwrap();
    program.ended().await;
    let (mut program, listen) = Program::serving(dir.path()).await;
    let mut node = ready(listen, 1).await;
    let found = directive(&mut node).await;
    assert_eq!((found.term, found.target()), (1, Store::Backup));
    assert_eq!(found.decision_id, ordered.decision_id);
    // Nor does the next process use the term for anything else.
    program.child.kill().unwrap();
    program.ended().await;
    let (_program, listen) = Program::serving(dir.path()).await;
    let mut node = ready(listen, 1).await;
    sees(&node, Verdict::Healthy, Verdict::Healthy).await;
    let again = directive(&mut node).await;
    assert_eq!(again, found);
}

#[tokio::test]
async fn what_was_accepted_survives_kill_minus_nine() {
    let dir = directory(&document(3101));
    let (mut program, listen) = Program::serving(dir.path()).await;
    let (mut node, _) = Node::join(listen, hello(1)).await;
    let update = node.config().await;
    node.ack(&update).await;
    fs::write(config_in(dir.path()), document(3102)).unwrap();
    let update = node.config().await;
    // It was sent, so it was stored: the next process must know it.
    program.child.kill().unwrap();
    program.ended().await;
    let (_program, listen) = Program::serving(dir.path()).await;
    let (mut node, welcome) = Node::join(listen, running(1, update.to.as_ref().unwrap())).await;
    assert_eq!(welcome.target, update.to);
    node.beat(1, update.to.as_ref()).await;
    let mut client = StatusServiceClient::new(channel(listen).await);
    let status =
        client.get_status(wire::GetStatusRequest::default()).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.nodes.unwrap().synced, 1);
}

#[tokio::test]
async fn a_wrong_command_line_ends_with_64_and_says_why() {
    let dir = directory(&document(3101));
    let cases: [(&[&str], &str); 4] = [
        (&["--listen", "nowhere"], "--listen"),
        (&["--listen", "0.0.0.0:0"], "--insecure-listen"),
        (&["--log-format", "xml"], "text or json"),
        (&["--no-such-flag"], "--no-such-flag"),
    ];
    for (more, expected) in cases {
        let mut program = Program::start(dir.path(), more);
        let status = program.ended().await;
        assert_eq!(status.code(), Some(64), "{more:?}");
        assert!(log(dir.path()).contains(expected), "{more:?}: {}", log(dir.path()));
    }
}

#[tokio::test]
async fn every_flag_is_an_environment_variable_too() {
    let dir = directory(&document(3101));
    let mut command = Command::new(env!("CARGO_BIN_EXE_o1-control-plane"));
    command
        .env_clear()
        .env("O1_CONFIG", config_in(dir.path()))
        .env("O1_LISTEN", "0.0.0.0:0")
        .env("O1_INSECURE_LISTEN", "1")
        .env("O1_ADMIN", "127.0.0.1:0")
        .env("O1_STATE_DIR", dir.path().join("state"))
        .env("O1_LOG_FORMAT", "json")
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.path().join("log")).unwrap());
    let _program = Program { child: command.spawn().unwrap() };
    let started = eventually(async || {
        let log = log(dir.path());
        let line = log.lines().find(|line| line.contains("control plane started"));
        line.map(str::to_owned).ok_or_else(|| log.clone())
    })
    .await;
    let line: serde_json::Value = serde_json::from_str(&started).expect("a line of JSON");
    assert!(line["listen"].as_str().unwrap().starts_with("0.0.0.0:"), "{line}");
    assert_eq!(line["config"], config_in(dir.path()).to_str().unwrap());
}

#[tokio::test]
async fn what_cannot_start_ends_with_1_and_says_what_to_do() {
    let dir = directory(&document(3101));
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut program = Program::start(dir.path(), &["--listen", &address]);
    assert_eq!(program.ended().await.code(), Some(1));
    assert!(
        log(dir.path()).contains(&address) && log(dir.path()).contains("--listen"),
        "{}",
        log(dir.path())
    );

    fs::write(dir.path().join("state/store.db"), "garbage".repeat(1000)).unwrap();
    let mut program = Program::start(dir.path(), &["--listen", "127.0.0.1:0"]);
    assert_eq!(program.ended().await.code(), Some(1));
    assert!(log(dir.path()).contains("store.db is damaged"), "{}", log(dir.path()));
    fs::remove_file(dir.path().join("state/store.db")).unwrap();

    let (_first, _) = Program::serving(dir.path()).await;
    let other = directory(&document(3101));
    let state = dir.path().join("state");
    let mut second =
        Program::start(other.path(), &["--listen", "127.0.0.1:0", "--state-dir", state.to_str().unwrap()]);
    assert_eq!(second.ended().await.code(), Some(1));
    assert!(log(other.path()).contains("in use by process"), "{}", log(other.path()));
}
