//! An MCP server over Streamable HTTP in raw JSON: it answers what the test scripted, byte for byte, and keeps what
//! it was sent. [`serve`] is its side of the protocol.

mod array;
mod serve;
mod sse;
#[cfg(test)]
mod tests;

pub use array::Arrays;

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// What a backend speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// `initialize` and sessions; a modern request gets what servers of that time say.
    Legacy,
    /// Nothing but 2026-07-28.
    Modern,
    /// What the caller speaks.
    Both,
}

/// How it answers one request. The strings are JSON text and arrive as they are.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The bytes of `result`.
    Result(String),
    /// The bytes of `error`.
    Error(String),
    /// The bytes of a whole message; `ID` in it becomes the request's id.
    Message(String),
    /// A status and a body that is not JSON-RPC.
    Status(u16, String),
    /// A result whose text is the `arguments` of the request, byte for byte, as `structuredContent`.
    Echo,
    /// Messages on an event stream, a pause before each, then the answer. `TOKEN` becomes the progress token.
    Stream(Vec<(Duration, String)>, Box<Answer>),
    /// Each request gets the next of these; the last one stays.
    InTurn(Vec<Answer>),
    /// Nothing for a time, then the answer.
    Later(Duration, Box<Answer>),
    /// The connection is closed without an answer.
    Hangup,
}

impl Answer {
    /// A result with one line of text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Result(format!(
            r#"{{"content":[{{"type":"text","text":{}}}],"resultType":"complete"}}"#,
            Value::from(text)
        ))
    }
}

/// One HTTP request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// `POST`.
    pub http_method: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Every byte.
    pub body: String,
    /// The JSON-RPC method; empty when the body has none.
    pub method: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
}

impl Received {
    /// A header's value; empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// A member of the body, byte for byte.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn member(&self, name: &str) -> String {
        crate::http::member(&self.body, name).unwrap_or_else(|| panic!("no {name} in {}", self.body))
    }
}

/// How a backend treats a legacy session it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// With 404, as the specification has it.
    NotFound,
    /// With 400, as server-everything does.
    BadRequest,
    /// It has no sessions: it mints none and asks for none.
    Stateless,
}

struct State {
    era: Era,
    lost: Lost,
    /// The status of a GET; `None`: a stream.
    get: Option<u16>,
    /// What was not refused for its session: it ran.
    ran: Vec<Received>,
    /// Answers go out as event streams instead of JSON.
    sse: bool,
    arrays: Arrays,
    /// JSON text of each tool, by name.
    tools: BTreeMap<String, String>,
    /// By method, or by method and name: `tools/call echo`.
    answers: BTreeMap<String, Answer>,
    received: Vec<Received>,
    sessions: BTreeSet<String>,
    minted: u64,
    /// Answers whose caller went before their end.
    cut: u64,
    /// Calls of tools at work, and the most there ever were.
    at_work: (u64, u64),
    /// Open event streams of the transport of 2024-11-05, by session.
    streams: BTreeMap<String, mpsc::Sender<String>>,
    /// What the `endpoint` event says; `SESSION` becomes the session.
    endpoint: String,
    /// Nothing is answered.
    frozen: bool,
    /// What `/healthz` answers, and who asked for it.
    health: (u16, Vec<Received>),
}

struct Shared {
    state: Mutex<State>,
    /// Messages for every open GET stream and subscription.
    notifications: broadcast::Sender<String>,
    /// What goes on when a request is answered; ends with the backend.
    work: Mutex<JoinSet<()>>,
}

impl Shared {
    fn work(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut all = self.work.lock().expect("no holder of the work panics");
        while all.try_join_next().is_some() {}
        all.spawn(work);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the state panics")
    }
}

/// A running backend; it ends when dropped, with every connection.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinSet<()>>,
    tls: Option<TlsAcceptor>,
}

impl Backend {
    /// Starts one that speaks both eras, with a tool `echo`.
    pub async fn start() -> Self {
        Self::with(Era::Both).await
    }

    /// Starts one of an era, with a tool `echo`.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn with(era: Era) -> Self {
        Self::serving(era, None).await
    }

    /// Starts one that speaks both eras over TLS.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn over(tls: TlsAcceptor) -> Self {
        Self::serving(Era::Both, Some(tls)).await
    }

    async fn serving(era: Era, tls: Option<TlsAcceptor>) -> Self {
        let state = State {
            era,
            lost: Lost::NotFound,
            get: None,
            ran: Vec::new(),
            sse: false,
            arrays: Arrays::Refused,
            tools: BTreeMap::new(),
            answers: BTreeMap::new(),
            received: Vec::new(),
            sessions: BTreeSet::new(),
            minted: 0,
            cut: 0,
            at_work: (0, 0),
            streams: BTreeMap::new(),
            endpoint: "/message?sessionId=SESSION".to_owned(),
            frozen: false,
            health: (200, Vec::new()),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            notifications: broadcast::Sender::new(256),
            work: Mutex::default(),
        });
        let address = crate::ports::lasting();
        let listener = TcpListener::bind(address).await.expect("the port was free a moment ago");
        let mut this = Self { address, shared, server: None, tls };
        this.serve(listener);
        this.tool("echo", Answer::Echo);
        this
    }

    fn serve(&mut self, listener: TcpListener) {
        let mut server = JoinSet::new();
        server.spawn(serve::run(listener, Arc::clone(&self.shared), self.tls.clone()));
        self.server = Some(server);
    }

    /// The endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/mcp", self.address)
    }

    /// One upstream of a configuration, indented for `upstreams:`.
    #[must_use]
    pub fn upstream(&self, name: &str) -> String {
        format!("  {name}:\n    primary:\n      - url: {}\n", self.url())
    }

    /// The same upstream in the transport of 2024-11-05.
    #[must_use]
    pub fn sse_upstream(&self, name: &str) -> String {
        let address = self.address;
        format!("  {name}:\n    primary:\n      - {{url: http://{address}/sse, transport: sse}}\n")
    }

    /// What the `endpoint` event says from now on; `SESSION` in it becomes the session.
    pub fn sse_endpoint(&self, endpoint: &str) {
        self.shared.state().endpoint = endpoint.to_owned();
    }

    /// Open event streams of the transport of 2024-11-05.
    #[must_use]
    pub fn sse_streams(&self) -> usize {
        self.shared.state().streams.len()
    }

    /// Sends a message on every open event stream of the transport of 2024-11-05.
    pub fn sse_say(&self, message: &str) {
        for stream in self.shared.state().streams.values() {
            let _ = stream.try_send(message.to_owned());
        }
    }

    /// Ends every event stream of the transport of 2024-11-05, as a restart does.
    pub fn sse_cut(&self) {
        self.shared.state().streams.clear();
    }

    /// Answers go out as event streams from now on.
    pub fn answer_by_sse(&self) {
        self.shared.state().sse = true;
    }

    /// Says what becomes of JSON-RPC arrays, which are refused otherwise.
    pub fn take_arrays(&self, arrays: Arrays) {
        self.shared.state().arrays = arrays;
    }

    /// The JSON-RPC arrays received so far: the methods in each.
    ///
    /// # Panics
    /// One holds something that is no request.
    #[must_use]
    pub fn arrays(&self) -> Vec<Vec<String>> {
        let methods = |request: &Received| {
            let body: Value = serde_json::from_str(&request.body).ok()?;
            let method = |item: &Value| item["method"].as_str().expect("a request").to_owned();
            Some(body.as_array()?.iter().map(method).collect())
        };
        self.received().iter().filter_map(methods).collect()
    }

    /// Serves legacy clients without session ids from now on, as servers without state do.
    pub fn give_no_sessions(&self) {
        self.lose_by(Lost::Stateless);
    }

    /// Says how a session that it does not know is treated.
    pub fn lose_by(&self, lost: Lost) {
        self.shared.state().lost = lost;
    }

    /// Answers every GET with this status from now on.
    pub fn refuse_streams(&self, status: u16) {
        self.shared.state().get = Some(status);
    }

    /// Requests of one JSON-RPC method that were not refused for their session.
    #[must_use]
    pub fn ran(&self, method: &str) -> Vec<Received> {
        self.shared.state().ran.iter().filter(|request| request.method == method).cloned().collect()
    }

    /// Offers a tool and says how a call of it is answered.
    pub fn tool(&self, name: &str, answer: Answer) {
        let item =
            format!(r#"{{"name":"{name}","description":"a test tool","inputSchema":{{"type":"object"}}}}"#);
        self.tool_as(name, &item, answer);
    }

    /// The same with the bytes of its item in the list.
    pub fn tool_as(&self, name: &str, item: &str, answer: Answer) {
        self.shared.state().tools.insert(name.to_owned(), item.to_owned());
        self.answer(&format!("tools/call {name}"), answer);
    }

    /// Offers a tool no more.
    pub fn remove_tool(&self, name: &str) {
        self.shared.state().tools.remove(name);
    }

    /// Lists these tools to one legacy session alone: the bytes of `result`.
    pub fn session_tools(&self, session: &str, result: &str) {
        self.answer(&format!("tools/list@{session}"), Answer::Result(result.to_owned()));
    }

    /// Says how a method is answered, or a method and a name: `resources/read test://x`.
    pub fn answer(&self, key: &str, answer: Answer) {
        self.shared.state().answers.insert(key.to_owned(), answer);
    }

    /// Sends a message on every open GET stream, and on every subscription that asked for this kind.
    pub fn notify(&self, message: &str) {
        let _ = self.shared.notifications.send(message.to_owned());
    }

    /// Everything received so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.shared.state().received.clone()
    }

    /// Requests of one JSON-RPC method received so far.
    #[must_use]
    pub fn received_of(&self, method: &str) -> Vec<Received> {
        self.shared.state().received.iter().filter(|request| request.method == method).cloned().collect()
    }

    /// The last request of a method.
    ///
    /// # Panics
    /// There was none.
    #[must_use]
    pub fn last(&self, method: &str) -> Received {
        self.received_of(method).pop().unwrap_or_else(|| panic!("the backend received no {method}"))
    }

    /// Open legacy sessions.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.state().sessions.len()
    }

    /// Open GET streams and subscriptions, which [`Backend::notify`] reaches.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.shared.notifications.receiver_count()
    }

    /// Answers whose caller went before their end.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.shared.state().cut
    }

    /// The most calls of tools that it ever worked on at a time.
    #[must_use]
    pub fn most_at_once(&self) -> u64 {
        self.shared.state().at_work.1
    }

    /// Answers nothing until it is thawed, as a process that is stopped by SIGSTOP.
    pub fn freeze(&self) {
        self.shared.state().frozen = true;
    }

    /// Answers what it was asked meanwhile, and whatever comes.
    pub fn thaw(&self) {
        self.shared.state().frozen = false;
    }

    /// What it answers to GET on `/healthz`, from now on; 200 before.
    pub fn health(&self, status: u16) {
        self.shared.state().health.0 = status;
    }

    /// The requests for `/healthz` so far; they are in no other list.
    #[must_use]
    pub fn healths(&self) -> Vec<Received> {
        self.shared.state().health.1.clone()
    }

    /// Forgets every session, as a restart does.
    pub fn forget_sessions(&self) {
        self.shared.state().sessions.clear();
    }

    /// Closes the port and every connection.
    pub async fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.shutdown().await;
        }
    }

    /// Listens again where it did.
    ///
    /// # Panics
    /// The port was taken.
    pub async fn resume(&mut self) {
        self.serve(TcpListener::bind(self.address).await.expect("the port is still free"));
    }
}
