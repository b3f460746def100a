//! A control plane on free ports over a directory of its own, and a node that says what it is told to say.

use o1_control_plane::{app::App, args::Args};
use o1_process::LogFormat;
use o1_proto::wire::{
    self, ConfigUpdate, ConfigVersion, FleetStatus, Goodbye, GoodbyeReason, Hello, NodeStatus, SyncRequest,
    SyncResponse, Welcome, config_service_client::ConfigServiceClient,
    node_service_client::NodeServiceClient, status_service_client::StatusServiceClient, sync_request,
    sync_response::Msg,
};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

/// How long anything may take that must happen. Generous: the machine may be busy.
pub const SOON: Duration = Duration::from_secs(20);

/// A document with one upstream on this port.
pub fn document(port: u16) -> String {
    format!("upstreams:\n  weather:\n    primary:\n      - url: http://127.0.0.1:{port}/mcp\n")
}

/// A document whose third line says something that does not exist.
pub const BROKEN: &str = "upstreams:\n  weather:\n    primry: []\n";

/// Waits until a question gets this kind of answer.
pub async fn eventually<T>(mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + SOON;
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(instead) if Instant::now() > end => panic!("never happened, instead: {instead}"),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A control plane inside this process.
pub struct Plane {
    pub dir: TempDir,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinSet<()>,
}

impl Plane {
    /// Over a fresh directory with this document in it.
    pub async fn with(document: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(config_in(dir.path()), document).unwrap();
        Self::over(dir).await
    }

    /// Over a fresh directory; the API says what runs.
    pub async fn without_file() -> Self {
        Self::without_file_over(tempfile::tempdir().unwrap()).await
    }

    /// The same over a directory that may have been used before.
    pub async fn without_file_over(dir: TempDir) -> Self {
        let args = Args { config: None, ..args(dir.path()) };
        Self::start(dir, args).await
    }

    /// Over a directory that may have been used before.
    pub async fn over(dir: TempDir) -> Self {
        let args = args(dir.path());
        Self::start(dir, args).await
    }

    /// One that goes by these tokens: a line for each name and role, the token of a name is `token_of(name)`.
    pub async fn asking(names: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tokens = dir.path().join("tokens");
        let line = |(name, role): &(&str, &str)| {
            fs::write(dir.path().join(name), token_of(name)).unwrap();
            format!("{name} {role} file:{}/{name}\n", dir.path().display())
        };
        fs::write(&tokens, names.iter().map(line).collect::<String>()).unwrap();
        let trust = o1_control_plane::args::Trust { tokens: Some(tokens), ..Default::default() };
        let args = Args { config: None, trust, ..args(dir.path()) };
        Self::start(dir, args).await
    }

    async fn start(dir: TempDir, args: Args) -> Self {
        let app = App::start(args).await.expect("it starts");
        let (listen, admin) = (app.listen(), app.admin());
        let (stop, stopped) = oneshot::channel();
        let mut running = JoinSet::new();
        running.spawn(async move {
            app.run(async { drop(stopped.await) }).await.expect("it stops in order");
        });
        Self { dir, listen, admin, stop: Some(stop), running }
    }

    /// Stops it and hands back its directory.
    pub async fn stop(mut self) -> TempDir {
        self.begin_stop();
        self.stopped().await;
        self.dir
    }

    pub fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    pub async fn stopped(&mut self) {
        timeout(SOON, self.running.join_next()).await.expect("it stops in time").unwrap().unwrap();
    }

    pub fn config(&self) -> PathBuf {
        config_in(self.dir.path())
    }

    pub fn write(&self, document: &str) {
        fs::write(self.config(), document).unwrap();
    }

    pub async fn channel(&self) -> Channel {
        channel(self.listen).await
    }

    pub async fn statuses(&self) -> StatusServiceClient<Channel> {
        StatusServiceClient::new(self.channel().await)
    }

    pub async fn configs(&self) -> ConfigServiceClient<Channel> {
        ConfigServiceClient::new(self.channel().await)
    }

    pub async fn status(&self) -> FleetStatus {
        let mut client = self.statuses().await;
        client.get_status(wire::GetStatusRequest::default()).await.unwrap().into_inner().status.unwrap()
    }

    pub async fn nodes(&self) -> Vec<NodeStatus> {
        let mut client = self.statuses().await;
        client.list_nodes(wire::ListNodesRequest::default()).await.unwrap().into_inner().nodes
    }

    pub async fn target(&self) -> Option<ConfigVersion> {
        self.status().await.control_plane.unwrap().target
    }

    /// Waits until nodes should run this revision.
    pub async fn reaches(&self, revision: u64) -> ConfigVersion {
        eventually(async || match self.target().await {
            Some(target) if target.revision == revision => Ok(target),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    /// Waits until the file is, or is no longer, refused.
    pub async fn refused(&self, expected: bool) -> wire::ConfigSource {
        eventually(async || {
            let source = self.status().await.control_plane.unwrap().source.unwrap();
            if source.refused == expected { Ok(source) } else { Err(format!("{source:?}")) }
        })
        .await
    }

    /// Waits until a node is seen like this.
    pub async fn sees(&self, uid: u8, expected: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
        eventually(async || {
            let nodes = self.nodes().await;
            let found = nodes.iter().find(|node| node.node.as_ref().unwrap().node_uid == [uid; 16]);
            found.filter(|node| expected(node)).cloned().ok_or_else(|| format!("{nodes:?}"))
        })
        .await
    }

    /// The whole answer of the admin server.
    pub async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }
}

pub fn args(dir: &Path) -> Args {
    let any = "127.0.0.1:0".parse().unwrap();
    Args {
        config: Some(config_in(dir)),
        listen: any,
        admin: any,
        state_dir: dir.join("state"),
        log_format: LogFormat::Text,
        trust: o1_control_plane::args::Trust::default(),
        insecure_listen: false,
        key_rotation: 24 * 3600,
        shadow: false,
    }
}

/// What somebody shows.
pub fn token_of(name: &str) -> String {
    format!("o1_a_long_token_of_{name}")
}

pub fn config_in(dir: &Path) -> PathBuf {
    dir.join("etc/only1.yaml")
}

pub async fn channel(listen: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{listen}")).unwrap().connect().await.expect("it listens")
}

/// Who a scripted node is.
pub fn identity(uid: u8) -> wire::NodeIdentity {
    wire::NodeIdentity {
        node_id: format!("n{uid}"),
        node_uid: vec![uid; 16],
        epoch: 1,
        build_version: "0.1.0".to_owned(),
        listen: "127.0.0.1:8080".to_owned(),
        ..Default::default()
    }
}

pub fn hello(uid: u8) -> Hello {
    Hello { node: Some(identity(uid)), ..Default::default() }
}

pub fn running(uid: u8, applied: &ConfigVersion) -> Hello {
    Hello { applied: Some(applied.clone()), ..hello(uid) }
}

/// One stream of a scripted node.
pub struct Node {
    say: mpsc::Sender<SyncRequest>,
    hear: Streaming<SyncResponse>,
    /// The keys that came last.
    pub keys: Option<wire::SealKeys>,
}

impl Node {
    /// Opens a stream and says this first.
    pub async fn open(listen: SocketAddr, first: sync_request::Msg) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(16);
        say.try_send(SyncRequest { msg: Some(first) }).unwrap();
        let mut client = NodeServiceClient::new(channel(listen).await);
        let hear = client.sync(ReceiverStream::new(said)).await?.into_inner();
        Ok(Self { say, hear, keys: None })
    }

    /// Opens a stream and is welcomed.
    pub async fn join(listen: SocketAddr, hello: Hello) -> (Self, Welcome) {
        let mut node = Self::open(listen, sync_request::Msg::Hello(hello)).await.expect("a stream");
        match node.next().await.expect("an answer to hello") {
            Some(Msg::Welcome(welcome)) => (node, welcome),
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub async fn say(&self, message: sync_request::Msg) {
        self.say.send(SyncRequest { msg: Some(message) }).await.expect("the stream is open");
    }

    /// The next message; `None`: the stream ended. Keys are set aside: nobody answers them.
    pub async fn next(&mut self) -> Result<Option<Msg>, Status> {
        loop {
            let message = timeout(SOON, self.hear.message()).await.expect("something in time")?;
            match message.map(|response| response.msg.expect("a message that this build knows")) {
                Some(Msg::SealKeys(keys)) => self.keys = Some(keys),
                other => return Ok(other),
            }
        }
    }

    pub async fn config(&mut self) -> ConfigUpdate {
        match self.next().await {
            Ok(Some(Msg::Config(update))) => update,
            other => panic!("no update: {other:?}"),
        }
    }

    /// The last message, and that it is the last.
    pub async fn goodbye(&mut self) -> Goodbye {
        let goodbye = match self.next().await {
            Ok(Some(Msg::Goodbye(goodbye))) => goodbye,
            other => panic!("no goodbye: {other:?}"),
        };
        assert_eq!(self.next().await.expect("an end in order"), None);
        goodbye
    }

    pub async fn goodbye_because(&mut self, reason: GoodbyeReason) -> Goodbye {
        let goodbye = self.goodbye().await;
        assert_eq!(goodbye.reason(), reason, "{goodbye:?}");
        goodbye
    }

    /// A heartbeat that is answered by its acknowledgement and nothing else: whatever the control plane had to say
    /// about what this node runs, it has said.
    pub async fn beat(&mut self, seq: u64, applied: Option<&ConfigVersion>) {
        let applied = applied.cloned();
        self.say(sync_request::Msg::Heartbeat(wire::Heartbeat { seq, applied, ..Default::default() })).await;
        match self.next().await {
            Ok(Some(Msg::HeartbeatAck(ack))) => assert_eq!(ack.seq, seq),
            other => panic!("no acknowledgement: {other:?}"),
        }
    }

    pub async fn ack(&self, update: &ConfigUpdate) {
        let (nonce, applied) = (update.nonce, update.to.clone());
        self.say(sync_request::Msg::ConfigAck(wire::ConfigAck { nonce, applied, apply_time: None })).await;
    }

    pub async fn nack(
        &self,
        update: &ConfigUpdate,
        running: Option<&ConfigVersion>,
        rejections: Vec<wire::Rejection>,
    ) {
        let (nonce, rejected, running) = (update.nonce, update.to.clone(), running.cloned());
        self.say(sync_request::Msg::ConfigNack(wire::ConfigNack { nonce, rejected, running, rejections }))
            .await;
    }
}
