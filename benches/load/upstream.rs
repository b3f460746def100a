//! The yardstick and the upstream in one: an MCP server of both eras on plain hyper that does what any must, reads
//! the envelope and answers the request that it finds there, and nothing else. No session, no list that changes,
//! no check of headers.

use crate::request::{LEGACY, MODERN, text, uri};
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    collections::HashMap,
    convert::Infallible,
    io::{self, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::{net::TcpListener, task::JoinSet};

/// The largest body that is read.
const BODY_MAX: usize = 16 << 20;

/// What the server offers and says about how long it holds.
#[derive(Debug, Clone, Args)]
pub struct Offer {
    /// Where it listens; port 0: any. The address is the first line that it writes
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// How long its answers hold, milliseconds (`ttlMs`)
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub ttl_ms: u64,
    /// For whom they hold (`cacheScope`)
    #[arg(long, value_name = "SCOPE", default_value = "private")]
    pub scope: Scope,
    /// Resources it has
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub resources: usize,
    /// Bytes of text in a resource
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub size: usize,
}

/// For whom an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scope {
    /// For everybody.
    Public,
    /// For who asked.
    Private,
}

impl Scope {
    /// As the protocol spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

struct Server {
    /// What ends a cacheable result of the modern era.
    hints: String,
    resources: HashMap<String, String>,
    requests: AtomicU64,
}

/// Serves until the process is ended.
///
/// # Errors
/// The address cannot be had.
pub async fn serve(offer: &Offer) -> io::Result<()> {
    let listener = TcpListener::bind(offer.listen).await?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    let resources = (0..offer.resources).map(|of| (uri(of), text(of, offer.size))).collect();
    let hints = format!(
        r#","resultType":"complete","ttlMs":{},"cacheScope":"{}"}}"#,
        offer.ttl_ms,
        offer.scope.word()
    );
    let server = Arc::new(Server { hints, resources, requests: AtomicU64::new(0) });
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let server = server.clone();
        let answer = service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        // What ends a connection early is the client's business.
        connections.spawn(async move {
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await
        });
        while connections.try_join_next().is_some() {}
    }
}

#[derive(Deserialize)]
struct Envelope<'b> {
    #[serde(borrow)]
    id: Option<&'b RawValue>,
    #[serde(borrow)]
    method: Cow<'b, str>,
    #[serde(borrow)]
    params: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Read<'b> {
    #[serde(borrow)]
    uri: Cow<'b, str>,
}

#[derive(Deserialize)]
struct Call<'b> {
    #[serde(borrow)]
    name: Cow<'b, str>,
    #[serde(borrow)]
    arguments: Echo<'b>,
}

#[derive(Deserialize)]
struct Echo<'b> {
    #[serde(borrow)]
    text: &'b RawValue,
}

const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;

/// A JSON-RPC error: code and message.
type Refused = (i32, &'static str);

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/mcp") => {}
            (&Method::GET, "/requests") => return plain(self.requests.load(Relaxed).to_string()),
            (_, "/mcp") => return bare(StatusCode::METHOD_NOT_ALLOWED),
            _ => return bare(StatusCode::NOT_FOUND),
        }
        let modern = is_modern(request.headers());
        let Ok(body) = Limited::new(request.into_body(), BODY_MAX).collect().await else {
            return bare(StatusCode::BAD_REQUEST);
        };
        let body = body.to_bytes();
        let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(&body) else {
            return bare(StatusCode::BAD_REQUEST);
        };
        let Some(id) = envelope.id else { return bare(StatusCode::ACCEPTED) };
        self.requests.fetch_add(1, Relaxed);
        let mut out = String::with_capacity(512);
        out.push_str(r#"{"jsonrpc":"2.0","id":"#);
        out.push_str(id.get());
        let begun = out.len();
        out.push_str(r#","result":"#);
        if let Err((code, message)) = self.result(&envelope, modern, &mut out) {
            out.truncate(begun);
            out.push_str(&format!(r#","error":{{"code":{code},"message":"{message}"}}}}"#));
            let unknown = modern && code == METHOD_NOT_FOUND;
            return json(if unknown { StatusCode::NOT_FOUND } else { StatusCode::OK }, out);
        }
        out.push('}');
        json(StatusCode::OK, out)
    }

    /// Writes the result of a request.
    fn result(&self, request: &Envelope<'_>, modern: bool, out: &mut String) -> Result<(), Refused> {
        let params = request.params.map_or("{}", RawValue::get);
        let hints = if modern { self.hints.as_str() } else { "}" };
        match (&*request.method, modern) {
            ("resources/read", _) => {
                let read: Read<'_> = serde_json::from_str(params).map_err(|_| (INVALID_PARAMS, "no uri"))?;
                let text = self.resources.get(&*read.uri).ok_or((INVALID_PARAMS, "Resource not found"))?;
                out.push_str(r#"{"contents":[{"uri":""#);
                out.push_str(&read.uri);
                out.push_str(r#"","mimeType":"text/plain","text":""#);
                out.push_str(text);
                out.push_str(r#""}]"#);
                out.push_str(hints);
            }
            ("tools/call", _) => {
                let call: Call<'_> = serde_json::from_str(params).map_err(|_| (INVALID_PARAMS, "no name or text"))?;
                if call.name != "echo" {
                    return Err((INVALID_PARAMS, "Unknown tool"));
                }
                out.push_str(r#"{"content":[{"type":"text","text":"#);
                out.push_str(call.arguments.text.get());
                out.push_str(r#"}],"isError":false"#);
                out.push_str(if modern { r#","resultType":"complete"}"# } else { "}" });
            }
            ("tools/list", _) => {
                out.push_str(r#"{"tools":[{"name":"echo","description":"Says what it is told","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}}]"#);
                out.push_str(hints);
            }
            ("prompts/list", _) => {
                out.push_str(r#"{"prompts":[]"#);
                out.push_str(hints);
            }
            ("resources/templates/list", _) => {
                out.push_str(r#"{"resourceTemplates":[]"#);
                out.push_str(hints);
            }
            ("resources/list", _) => {
                let items: Vec<_> = (0..self.resources.len())
                    .map(|of| format!(r#"{{"uri":"{}","name":"{of}","mimeType":"text/plain"}}"#, uri(of)))
                    .collect();
                out.push_str(&format!(r#"{{"resources":[{}]"#, items.join(",")));
                out.push_str(hints);
            }
            ("server/discover", true) => {
                out.push_str(&format!(
                    r#"{{"supportedVersions":["{MODERN}"],"capabilities":{{"tools":{{}},"resources":{{}},"prompts":{{}}}},"_meta":{{"io.modelcontextprotocol/serverInfo":{INFO}}}"#
                ));
                out.push_str(hints);
            }
            ("initialize", false) => out.push_str(&format!(
                r#"{{"protocolVersion":"{LEGACY}","capabilities":{{"tools":{{}},"resources":{{}},"prompts":{{}}}},"serverInfo":{INFO}}}"#
            )),
            ("ping", false) => out.push_str("{}"),
            _ => return Err((METHOD_NOT_FOUND, "Method not found")),
        }
        Ok(())
    }
}

const INFO: &str = concat!(r#"{"name":"o1-load-upstream","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

fn is_modern(headers: &HeaderMap) -> bool {
    headers.get("mcp-protocol-version").is_some_and(|version| version == MODERN)
}

fn json(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = plain(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn plain(body: String) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from(body)))
}

fn bare(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = plain(String::new());
    *response.status_mut() = status;
    response
}
