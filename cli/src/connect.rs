//! One connection to a control plane, opened step by step, so that each way to fail is told from the others:
//! the name, the port, the protocol, the permission, the server itself.
//!
//! Knows nothing of messages; `report` puts the failures into words.

use crate::report::Error;
use http::{HeaderValue, StatusCode, header::AUTHORIZATION};
use o1_process::tls::{ClientFiles, Fault, Told, client};
use std::{
    fmt,
    future::{Ready, ready},
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tonic::{
    Code,
    body::Body,
    codegen::Service,
    transport::{Channel, Endpoint, Uri},
};

/// How often a watched connection is tested while nothing is said, and how long an answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Where a control plane is, and who one is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    uri: Uri,
    /// `None`: plaintext.
    files: Option<ClientFiles>,
    token: Option<Token>,
}

/// What says who one is.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(HeaderValue);

impl Token {
    /// Reads it.
    ///
    /// # Errors
    /// Completes "the token … ": without what it is.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        let visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let value = HeaderValue::try_from(format!("Bearer {text}")).ok().filter(|_| visible);
        let mut value = value.ok_or("is no token: one line of visible characters is needed")?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Target {
    /// Reads `https://host:port` or `http://host:port`; without a scheme it is `https` where there are `files`.
    /// `insecure`: plaintext will do also with another machine.
    ///
    /// # Errors
    /// Usage: not a URL of that form, or it does not go with the rest.
    pub fn new(text: &str, files: ClientFiles, token: Option<Token>, insecure: bool) -> Result<Self, Error> {
        let uri = Self::address(text, files != ClientFiles::default())?;
        let (encrypted, alone) = (uri.scheme_str() == Some("https"), files == ClientFiles::default());
        let target = Self { files: encrypted.then_some(files), uri, token };
        if encrypted {
            return Ok(target);
        }
        if !alone {
            return Err(Error::usage(
                format!("{target} is not encrypted, so an authority or a certificate has no meaning there"),
                "write https://, or leave --ca, --cert and --key out",
            ));
        }
        if !target.is_here() && !insecure {
            return Err(Error::usage(
                format!("{target} is another machine, and http:// is neither encrypted nor authenticated"),
                "write https://, with --ca and --cert as docs/security.md has it; --insecure-control speaks plaintext \
                 all the same",
            ));
        }
        Ok(target)
    }

    fn is_here(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    fn address(text: &str, encrypted: bool) -> Result<Uri, Error> {
        // Before anything repeats it: an address is shown.
        if text.contains('@') {
            return Err(Error::usage(
                "the address of the control plane holds a user or a password before an `@`, which has no meaning there",
                "write it as https://HOST:PORT; --cert and --key or --token-file say who you are",
            ));
        }
        let wrong = |why: &str| {
            Error::usage(
                format!("`{text}` is no address of a control plane: {why}"),
                "write it as https://HOST:PORT or http://HOST:PORT, such as http://127.0.0.1:7400",
            )
        };
        let scheme = if encrypted { "https" } else { "http" };
        let full = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") };
        let uri: Uri = full.parse().map_err(|_| wrong("not a URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("the scheme is neither https nor http"));
        }
        if uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none_or(|port| port == 0) {
            return Err(wrong("it needs a host and a port"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("a path has no meaning here"));
        }
        Ok(uri)
    }

    /// The files that TLS is made of; `None`: plaintext.
    #[cfg(test)]
    pub(crate) const fn files(&self) -> Option<&ClientFiles> {
        self.files.as_ref()
    }

    #[cfg(test)]
    pub(crate) const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// A control plane on this machine.
    #[cfg(test)]
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        Self::new(text, ClientFiles::default(), None, false)
    }

    fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.uri.to_string().trim_end_matches('/'))
    }
}

/// Why a control plane did not answer as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The host name leads nowhere.
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// Nothing listens.
    Refused,
    /// The machine or network cannot be reached.
    Unroutable(String),
    /// No connection in time.
    NoConnection(Duration),
    /// A connection, but no answer in time.
    NoAnswer(Duration),
    /// Something listens that is no control plane; how one can tell.
    Foreign(String),
    /// A certificate, a key or an authority of this side cannot be used; which and why.
    Files(String),
    /// There is no TLS with it.
    Tls(Fault),
    /// It was spoken to in plaintext, and speaks TLS.
    Encrypted,
    /// It does not know the caller.
    Unauthorised(String),
    /// It does not let the caller do this.
    Denied(String),
    /// The connection broke in the middle.
    Lost(String),
    /// It answered with an error.
    Broken {
        /// The gRPC code, in words.
        code: &'static str,
        /// What it said.
        message: String,
    },
}

/// A connection, and what came over it.
#[derive(Debug, Clone)]
pub struct Link {
    channel: Channel,
    heard: Heard,
    token: Option<Token>,
    limit: Duration,
}

/// Connects within `limit`. One link is one TCP connection: when it breaks, open another.
///
/// # Errors
/// Every failure up to the connection; what speaks at the other end shows with the first call.
pub async fn open(target: &Target, limit: Duration) -> Result<Link, Failure> {
    let stream = timeout(limit, dial(target)).await.unwrap_or(Err(Failure::NoConnection(limit)))?;
    let heard = Heard::default();
    let stream = match &target.files {
        None => Stream::Plain(stream),
        Some(files) => {
            let config = files.load().map_err(|error| Failure::Files(error.to_string()))?;
            let encrypted = client::connect(stream, target.host(), config, limit).await;
            Stream::Tls(Box::new(encrypted.map_err(Failure::Tls)?))
        }
    };
    let only = Only(Some(Overheard { stream, heard: heard.clone() }));
    let endpoint = Endpoint::from(target.uri.clone())
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .keep_alive_while_idle(true);
    let channel = endpoint
        .connect_with_connector(only)
        .await
        .map_err(|error| heard.foreign().unwrap_or_else(|| Failure::Lost(causes(&error))))?;
    Ok(Link { channel, heard, token: target.token.clone(), limit })
}

async fn dial(target: &Target) -> Result<TcpStream, Failure> {
    let host = target.host();
    let port = target.uri.port_u16().unwrap_or_default();
    let addresses: Vec<_> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| Failure::Unresolved { host: host.to_owned(), why: error.to_string() })?
        .collect();
    let mut failure = Failure::Unresolved { host: host.to_owned(), why: "it has no address".to_owned() };
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Without it each small question waits 40 ms for the acknowledgement of the one before.
                let _slower = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => failure = Failure::Refused,
            Err(error) => failure = Failure::Unroutable(error.to_string()),
        }
    }
    Err(failure)
}

impl Link {
    /// Waits for an answer within the limit of the link, and tells the ways to fail apart.
    ///
    /// # Errors
    /// Every failure after the connection.
    pub async fn answer<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Failure> {
        match timeout(self.limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failure(&status)),
            Err(_) if self.heard.nothing() => Err(Failure::NoAnswer(self.limit)),
            Err(_) => Err(self.heard.foreign().unwrap_or(Failure::NoAnswer(self.limit))),
        }
    }

    /// What an error of gRPC means here.
    #[must_use]
    pub fn failure(&self, status: &tonic::Status) -> Failure {
        if let Some(source) = std::error::Error::source(status) {
            // The error arose on this side: the transport failed, the server said nothing.
            return self.heard.foreign().unwrap_or_else(|| Failure::Lost(causes(source)));
        }
        if let Some(answer) = self.heard.without_grpc() {
            return without_grpc(answer);
        }
        let message = status.message().to_owned();
        match status.code() {
            Code::Unauthenticated => Failure::Unauthorised(message),
            Code::PermissionDenied => Failure::Denied(message),
            // Whoever says why it cannot do this knows what it was asked; others know nothing of us.
            Code::Unimplemented if message.is_empty() => {
                Failure::Foreign("it speaks gRPC, but does not offer o1.control.v1.StatusService".to_owned())
            }
            code => Failure::Broken { code: word(code), message },
        }
    }
}

/// What an answer means that is HTTP, but not gRPC.
fn without_grpc(status: StatusCode) -> Failure {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Failure::Unauthorised(format!("a proxy answers with HTTP status {status}"))
        }
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            let message = format!("a proxy answers with HTTP status {status}");
            Failure::Broken { code: word(Code::Unavailable), message }
        }
        _ => {
            Failure::Foreign(format!("it speaks HTTP/2, but not gRPC: it answered with HTTP status {status}"))
        }
    }
}

/// Clients are made of this. It remembers an answer that is not gRPC, of which tonic would only say that it
/// cannot read it.
impl Service<http::Request<Body>> for Link {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(Token(value)) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        let (answer, heard) = (self.channel.call(request), self.heard.clone());
        Box::pin(async move {
            let answer = answer.await?;
            let content_type = answer.headers().get(http::header::CONTENT_TYPE);
            if !content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
                heard.lock().without_grpc = Some(answer.status());
            }
            Ok(answer)
        })
    }
}

/// What the other side sent, as far as it shows who it is.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Words>>);

#[derive(Debug, Default)]
struct Words {
    /// A server that speaks HTTP/2 opens with the header of a SETTINGS frame.
    first: Vec<u8>,
    /// The status of an answer that was not gRPC.
    without_grpc: Option<StatusCode>,
    /// What it had against this side once the handshake was over.
    fault: Option<Fault>,
}

/// Length of an HTTP/2 frame header; the type is its fourth byte, and SETTINGS is 4.
const FRAME_HEADER: usize = 9;

impl Heard {
    fn lock(&self) -> MutexGuard<'_, Words> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, bytes: &[u8]) {
        let first = &mut self.lock().first;
        let missing = FRAME_HEADER.saturating_sub(first.len());
        first.extend_from_slice(&bytes[..missing.min(bytes.len())]);
    }

    fn nothing(&self) -> bool {
        self.lock().first.is_empty()
    }

    fn without_grpc(&self) -> Option<StatusCode> {
        self.lock().without_grpc
    }

    /// How one can tell that it is no control plane; `None` when it may well be one.
    fn foreign(&self) -> Option<Failure> {
        let words = self.lock();
        if let Some(fault) = &words.fault {
            return Some(Failure::Tls(fault.clone()));
        }
        let clue = match words.first.as_slice() {
            // The alert with which TLS answers what is none.
            [0x15, 3, ..] => return Some(Failure::Encrypted),
            [] => "it closed the connection without a word of HTTP/2",
            [b'H', b'T', b'T', b'P', ..] => "it speaks HTTP/1.1, not gRPC",
            [_, _, _, 4, ..] => return None,
            _ => "it does not speak HTTP/2",
        };
        Some(Failure::Foreign(clue.to_owned()))
    }
}

/// Hands out the stream that is already connected, once: a broken link must show, not heal in secret.
struct Only(Option<Overheard>);

impl Service<Uri> for Only {
    type Response = hyper_util::rt::TokioIo<Overheard>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.take().map(hyper_util::rt::TokioIo::new);
        ready(stream.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the connection was closed")))
    }
}

/// With TLS or without.
enum Stream {
    Plain(TcpStream),
    Tls(Box<Told<tokio_rustls::client::TlsStream<TcpStream>>>),
}

impl Stream {
    fn pinned(&mut self) -> Pin<&mut dyn Duplex> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Duplex for S {}

/// A stream that remembers the first bytes it delivered, and what the other side has against this one.
struct Overheard {
    stream: Stream,
    heard: Heard,
}

impl AsyncRead for Overheard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = self.stream.pinned().poll_read(cx, buffer);
        if let Poll::Ready(Err(error)) = &polled {
            self.heard.lock().fault = Fault::of(error);
        }
        self.heard.hear(buffer.filled().get(before..).unwrap_or_default());
        polled
    }
}

impl AsyncWrite for Overheard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.pinned().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.pinned().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.pinned().poll_shutdown(cx)
    }
}

/// The innermost cause says what happened; the layers around it only that something did.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid argument",
        Code::DeadlineExceeded => "deadline exceeded",
        Code::NotFound => "not found",
        Code::AlreadyExists => "already exists",
        Code::PermissionDenied => "permission denied",
        Code::ResourceExhausted => "resource exhausted",
        Code::FailedPrecondition => "failed precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out of range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data loss",
        Code::Unauthenticated => "unauthenticated",
    }
}
