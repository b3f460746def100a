//! The protocol: HTTP in, scripted answers out.

use super::{Answer, Era, Lost, Received, Shared, State, array, sse};
use crate::http::member;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::Value;
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, sync::broadcast, task::JoinSet};
use tokio_rustls::TlsAcceptor;

const MODERN: &str = "2026-07-28";
const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;
/// `None` closes the connection.
pub(super) type Reply = Option<Response<Body>>;

/// Accepts connections for ever; dropping the future closes them all.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { exchange(request, shared).await.ok_or("hung up") }
        });
        let tls = tls.clone();
        connections.spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = match tls {
                None => builder.serve_connection(TokioIo::new(socket), service).await,
                Some(tls) => match tls.accept(socket).await {
                    Ok(socket) => builder.serve_connection(TokioIo::new(socket), service).await,
                    Err(_) => return,
                },
            };
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn exchange(request: Request<Incoming>, shared: Arc<Shared>) -> Reply {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    let parsed: Value = serde_json::from_str(&body).unwrap_or_default();
    let headers = parts.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let received = Received {
        http_method: parts.method.to_string(),
        headers: headers.collect(),
        method: parsed["method"].as_str().unwrap_or_default().to_owned(),
        body,
        version: format!("{:?}", parts.version),
    };
    if parts.uri.path() == "/healthz" {
        let (code, asked) = &mut shared.state().health;
        asked.push(received);
        return Some(status(*code, ""));
    }
    shared.state().received.push(received.clone());
    while shared.state().frozen {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    match (parts.method.as_str(), parts.uri.path()) {
        ("GET", "/sse") => return sse::open(&shared),
        ("POST", "/message") => {
            return sse::post(&received, &parsed, &shared, parts.uri.query().unwrap_or_default());
        }
        _ => {}
    }
    match parts.method.as_str() {
        "POST" => post(received, parsed, shared).await,
        "GET" => get(&received, &shared),
        "DELETE" => Some(delete(&received, &shared)),
        _ => Some(status(405, "")),
    }
}

async fn post(received: Received, parsed: Value, shared: Arc<Shared>) -> Reply {
    let modern = received.header("mcp-protocol-version") == MODERN;
    let era = shared.state().era;
    let id = member(&received.body, "id");
    if modern && era == Era::Legacy {
        let error = r#"{"code":-32000,"message":"Bad Request: Unsupported protocol version"}"#;
        return Some(json(
            400,
            "application/json",
            &format!(r#"{{"jsonrpc":"2.0","id":null,"error":{error}}}"#),
        ));
    }
    if !modern && era == Era::Modern {
        let error =
            r#"{"code":-32022,"message":"unsupported","data":{"supported":["2026-07-28"],"requested":""}}"#;
        let id = id.as_deref().unwrap_or("null");
        return Some(json(
            400,
            "application/json",
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#),
        ));
    }
    let first = !modern && received.method == "initialize";
    if first && !shared.state().answers.contains_key("initialize") {
        return Some(initialize(&parsed, id.as_deref().unwrap_or("null"), &shared));
    }
    let strict = !modern && !first && shared.state().lost != Lost::Stateless;
    if strict && let Some(refusal) = unknown_session(&received, &shared) {
        return Some(refusal);
    }
    if parsed.is_array() {
        return array::answered(&received, &shared);
    }
    shared.state().ran.push(received.clone());
    let (Some(id), true) = (id, parsed["method"].is_string()) else {
        return Some(status(202, ""));
    };
    let listens = modern && received.method == "subscriptions/listen";
    if listens && !shared.state().answers.contains_key("subscriptions/listen") {
        return Some(listen(&id, &parsed, &shared));
    }
    let _at_work = (received.method == "tools/call").then(|| AtWork::begin(&shared));
    let answer = scripted(&received, &parsed, &mut shared.state());
    let sse = shared.state().sse;
    let unfinished = Unfinished(Some(Arc::clone(&shared)));
    let asked =
        Asked { id, body: &received.body, parsed: &parsed, sse, unfinished: Mutex::new(Some(unfinished)) };
    let reply = respond(answer, &asked).await;
    if let Some(unfinished) = asked.unfinished() {
        unfinished.finish();
    }
    reply
}

/// What a request gets that names no session, or one that is not there.
fn unknown_session(received: &Received, shared: &Shared) -> Option<Response<Body>> {
    let (session, state) = (received.header("mcp-session-id"), shared.state());
    let (code, error) = match state.lost {
        _ if session.is_empty() => (400, r#"{"code":-32000,"message":"no session"}"#),
        _ if state.sessions.contains(session) => return None,
        Lost::BadRequest => (400, r#"{"code":-32000,"message":"Bad Request: No valid session ID provided"}"#),
        _ => (404, r#"{"code":-32001,"message":"session not found"}"#),
    };
    Some(json(code, "application/json", &format!(r#"{{"jsonrpc":"2.0","id":null,"error":{error}}}"#)))
}

pub(super) fn initialize_result(parsed: &Value) -> String {
    let version = match parsed["params"]["protocolVersion"].as_str() {
        Some(version) if LEGACY.contains(&version) => version,
        _ => "2025-11-25",
    };
    format!(
        r#"{{"protocolVersion":"{version}","capabilities":{CAPABILITIES},"serverInfo":{{"name":"raw","version":"1"}}}}"#
    )
}

fn initialize(parsed: &Value, id: &str, shared: &Shared) -> Response<Body> {
    let session = {
        let mut state = shared.state();
        state.minted += 1;
        let session = format!("backend-session-{}", state.minted);
        let keeps = state.lost != Lost::Stateless;
        if keeps {
            state.sessions.insert(session.clone());
        }
        keeps.then_some(session)
    };
    let result = initialize_result(parsed);
    let mut response =
        json(200, "application/json", &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
    if let Some(session) = session {
        let value = session.parse().expect("the name is a header value");
        response.headers_mut().insert("mcp-session-id", value);
    }
    response
}

const CAPABILITIES: &str = r#"{"tools":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"prompts":{"listChanged":true},"logging":{},"completions":{}}"#;

/// What the script says; what every server says where it is silent.
pub(super) fn scripted(received: &Received, parsed: &Value, state: &mut State) -> Answer {
    let params = &parsed["params"];
    let name = params["name"].as_str().or_else(|| params["uri"].as_str()).unwrap_or_default();
    let by_session = format!("{}@{}", received.method, received.header("mcp-session-id"));
    let by_name = format!("{} {name}", received.method);
    let known = [&by_session, &by_name].into_iter().find(|key| state.answers.contains_key(*key));
    let key = known.unwrap_or(&received.method);
    match state.answers.get_mut(key) {
        Some(Answer::InTurn(turns)) if turns.len() > 1 => return turns.remove(0),
        Some(Answer::InTurn(turns)) => return turns[0].clone(),
        Some(answer) => return answer.clone(),
        None => {}
    }
    let rest = r#","resultType":"complete","ttlMs":0,"cacheScope":"private"}"#;
    match received.method.as_str() {
        "tools/list" => {
            let tools = state.tools.values().map(String::as_str).collect::<Vec<_>>().join(",");
            Answer::Result(format!(r#"{{"tools":[{tools}]{rest}"#))
        }
        "resources/list" => Answer::Result(format!(r#"{{"resources":[]{rest}"#)),
        "resources/templates/list" => Answer::Result(format!(r#"{{"resourceTemplates":[]{rest}"#)),
        "prompts/list" => Answer::Result(format!(r#"{{"prompts":[]{rest}"#)),
        "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => {
            Answer::Result("{}".into())
        }
        "server/discover" => {
            let discovered =
                format!(r#"{{"supportedVersions":["{MODERN}"],"capabilities":{CAPABILITIES}{rest}"#);
            Answer::Result(discovered)
        }
        "tools/call" => Answer::Error(format!(r#"{{"code":-32602,"message":"unknown tool {name}"}}"#)),
        method => Answer::Error(format!(r#"{{"code":-32601,"message":"no method {method}"}}"#)),
    }
}

/// Counts a call as at work until it is dropped.
struct AtWork(Arc<Shared>);

impl AtWork {
    fn begin(shared: &Arc<Shared>) -> Self {
        let (now, most) = &mut shared.state().at_work;
        *now += 1;
        *most = (*most).max(*now);
        Self(Arc::clone(shared))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.state().at_work.0 -= 1;
    }
}

/// Counts an answer as cut when it is dropped before its end.
struct Unfinished(Option<Arc<Shared>>);

impl Unfinished {
    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.state().cut += 1;
        }
    }
}

struct Asked<'a> {
    id: String,
    body: &'a str,
    parsed: &'a Value,
    sse: bool,
    /// Until an answer that is a stream takes it along.
    unfinished: Mutex<Option<Unfinished>>,
}

impl Asked<'_> {
    fn unfinished(&self) -> Option<Unfinished> {
        self.unfinished.lock().expect("no holder panics").take()
    }

    fn message(&self, answer: &Answer) -> String {
        message(answer, &self.id, self.body)
    }
}

/// The bytes of a message that ends a request.
pub(super) fn message(answer: &Answer, id: &str, body: &str) -> String {
    match answer {
        Answer::Result(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
        Answer::Error(error) => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#),
        Answer::Message(message) => message.replace("ID", id),
        Answer::Echo => {
            let arguments = member(body, "params").and_then(|params| member(&params, "arguments"));
            let arguments = arguments.unwrap_or_else(|| "null".to_owned());
            let result =
                format!(r#"{{"content":[],"structuredContent":{arguments},"resultType":"complete"}}"#);
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
        }
        other => panic!("{other:?} cannot end a stream"),
    }
}

fn respond<'a>(answer: Answer, asked: &'a Asked<'a>) -> Pin<Box<dyn Future<Output = Reply> + Send + 'a>> {
    Box::pin(async move {
        match answer {
            Answer::Hangup => None,
            Answer::Status(code, body) => Some(status(code, &body)),
            Answer::Later(time, answer) => {
                tokio::time::sleep(time).await;
                respond(*answer, asked).await
            }
            Answer::Stream(steps, last) => {
                let token = asked.parsed["params"]["_meta"]["progressToken"].to_string();
                let mut steps: Vec<_> = steps
                    .into_iter()
                    .map(|(pause, message)| (pause, message.replace("TOKEN", &token)))
                    .collect();
                let (pause, last) = match *last {
                    Answer::Later(pause, last) => (pause, asked.message(&last)),
                    last => (Duration::ZERO, asked.message(&last)),
                };
                steps.push((pause, last));
                let unfinished = asked.unfinished();
                let events =
                    stream::unfold((steps.into_iter(), unfinished), |(mut steps, unfinished)| async {
                        let Some((pause, message)) = steps.next() else {
                            if let Some(unfinished) = unfinished {
                                unfinished.finish();
                            }
                            return None;
                        };
                        tokio::time::sleep(pause).await;
                        Some((Ok(event(&message)), (steps, unfinished)))
                    });
                Some(events_response(Body::new(StreamBody::new(events))))
            }
            last if asked.sse => {
                let frame = event(&asked.message(&last));
                Some(events_response(Body::new(StreamBody::new(stream::iter([Ok(frame)])))))
            }
            last => Some(json(200, "application/json", &asked.message(&last))),
        }
    })
}

/// The stream of a session that carries notifications; one client at a time is not enforced.
fn get(received: &Received, shared: &Shared) -> Reply {
    let state = shared.state();
    match (state.get, state.lost) {
        (Some(code), _) => return Some(status(code, "")),
        (None, Lost::Stateless) => return Some(status(405, "")),
        (None, Lost::BadRequest) if !state.sessions.contains(received.header("mcp-session-id")) => {
            return Some(status(400, "Invalid or missing session ID"));
        }
        (None, Lost::NotFound) if !state.sessions.contains(received.header("mcp-session-id")) => {
            return Some(status(404, ""));
        }
        _ => {}
    }
    drop(state);
    let notifications = notifications(shared.notifications.subscribe()).map(|message| Ok(event(&message)));
    Some(events_response(Body::new(StreamBody::new(notifications))))
}

fn notifications(
    receiver: broadcast::Receiver<String>,
) -> impl futures_util::Stream<Item = String> + Send + Sync {
    stream::unfold(receiver, |mut receiver| async move {
        let message = receiver.recv().await.ok()?;
        Some((message, receiver))
    })
}

/// `subscriptions/listen`: acknowledged first, then what was asked for, tagged with the id of the request.
fn listen(id: &str, parsed: &Value, shared: &Shared) -> Response<Body> {
    let filter = parsed["params"]["notifications"].clone();
    let tag = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
    let acknowledged = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{{tag},"notifications":{filter}}}}}"#
    );
    let wanted = move |message: &str| {
        let message: Value = serde_json::from_str(message).unwrap_or_default();
        let flag = match message["method"].as_str().unwrap_or_default() {
            "notifications/tools/list_changed" => "toolsListChanged",
            "notifications/prompts/list_changed" => "promptsListChanged",
            "notifications/resources/list_changed" => "resourcesListChanged",
            "notifications/resources/updated" => {
                let uris = filter["resourceSubscriptions"].as_array();
                return uris.is_some_and(|uris| uris.contains(&message["params"]["uri"]));
            }
            _ => return false,
        };
        filter[flag] == true
    };
    let rest = notifications(shared.notifications.subscribe()).filter_map(move |message| {
        let tagged = wanted(&message).then(|| {
            let method = member(&message, "method").expect("it has one, or it were not wanted");
            let params = member(&message, "params").unwrap_or_else(|| "{}".to_owned());
            let rest = params.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
            let comma = if rest.is_empty() { "" } else { "," };
            format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{{{rest}{comma}{tag}}}}}"#)
        });
        std::future::ready(tagged)
    });
    let all = stream::iter([acknowledged]).chain(rest).map(|message| Ok(event(&message)));
    events_response(Body::new(StreamBody::new(all)))
}

fn delete(received: &Received, shared: &Shared) -> Response<Body> {
    let known = shared.state().sessions.remove(received.header("mcp-session-id"));
    status(if known { 200 } else { 404 }, "")
}

pub(super) fn event(message: &str) -> Frame<Bytes> {
    Frame::data(Bytes::from(format!("event: message\ndata: {message}\n\n")))
}

pub(super) fn events_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", "text/event-stream".parse().expect("a header value"));
    response
}

pub(super) fn json(code: u16, content_type: &str, body: &str) -> Response<Body> {
    let mut response = status(code, body);
    response.headers_mut().insert("content-type", content_type.parse().expect("a header value"));
    response
}

pub(super) fn status(code: u16, body: &str) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(body.to_owned()))));
    *response.status_mut() = StatusCode::from_u16(code).expect("the script names a status");
    response
}
