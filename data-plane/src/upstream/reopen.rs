//! Another upstream session in place of one that is lost, where exchanges pass through: the client's handshake
//! once more, and what it had asked for since. Whoever waits meanwhile shares the outcome.
//!
//! It must never leave a client with a session that is none: either the new one does what the old one did, or
//! the client hears that its session is over and opens another.

use super::{relay::Passing, runtime::Runtime};
use crate::{
    call::{Ask, Backend, Call, JSON, Remote, Reply, Session, read_response},
    failure::{Failure, Kind},
    mcp::{Era, Message, header as mcp_header, json, method, rpc},
};
use http::{HeaderMap, HeaderValue, header};
use std::sync::Arc;

const ACCEPT_BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// The upstream session that takes the place of `lost`; `None`: the one that another node opened did not travel.
///
/// # Errors
/// `UnknownSession`: there is none to be had. Anything else: not now.
pub(super) async fn another<B: Backend>(
    runtime: &Arc<Runtime<B>>,
    call: &Call,
    session: &Session,
    lost: Option<&Arc<Remote>>,
) -> Result<Arc<Remote>, Failure> {
    let store = runtime.upstream.store;
    let is_other = |one: &Arc<Remote>| one.store == store && lost.is_none_or(|lost| !Arc::ptr_eq(lost, one));
    let opened = async {
        let mut order = runtime.store.order(call);
        // Where it was, if it is still there: what a client left behind may be there, too.
        if let Some(was) = lost.and_then(|lost| order.iter().position(|at| *at == lost.endpoint)) {
            order[..=was].rotate_right(1);
        }
        let mut last = None;
        for endpoint in order {
            let pass = match runtime.store.attempt(endpoint) {
                Ok(pass) => pass,
                Err(failure) => {
                    last = last.or(Some(failure));
                    continue;
                }
            };
            match open_at(runtime, call, session, endpoint).await {
                Ok(id) => {
                    pass.answered();
                    tracing::info!(upstream = runtime.upstream.name, "upstream session lost, opened another");
                    session.set_remote(Remote { store, endpoint, id });
                    return Ok(session.remote().expect("it was set a moment ago"));
                }
                Err(failure) => {
                    pass.failed(&failure);
                    last = Some(failure);
                }
            }
        }
        Err(last.unwrap_or_else(|| Failure::new(Kind::Unreachable, "the upstream has no endpoint")))
    };
    session.upstream_state::<Passing>().reopened.get(is_other, opened).await.inspect_err(|f| runtime.note(f))
}

/// Whether the server still knows a session.
///
/// # Errors
/// It cannot be asked.
pub(super) async fn is_known<B: Backend>(
    runtime: &Runtime<B>,
    call: &Call,
    remote: &Remote,
) -> Result<bool, Failure> {
    let ping = Message::parse(&rpc::request(b"\"o1-ping\"", method::PING, b"{}"));
    let ping = ping.expect("a request of our own is a message");
    let version = call.headers.get(mcp_header::PROTOCOL_VERSION);
    let asked = send(runtime, &ping, version, remote);
    match tokio::time::timeout(runtime.upstream.timeouts.connect, asked).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(failure)) if failure.kind == Kind::SessionLost => Ok(false),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::new(Kind::Unreachable, "the upstream does not answer")),
    }
}

/// The failure after which a client opens another session.
pub(super) fn over(what: &'static str) -> Failure {
    Failure::new(Kind::UnknownSession, format!("{what}: send `initialize` without Mcp-Session-Id"))
}

/// Opens a session at one endpoint: the id it minted, `None` if it has no sessions any more.
async fn open_at<B: Backend>(
    runtime: &Runtime<B>,
    call: &Call,
    session: &Session,
    endpoint: usize,
) -> Result<Option<String>, Failure> {
    let limit = runtime.upstream.timeouts.connect;
    // What the client was told at first; it says so with each request.
    let version = call.headers.get(mcp_header::PROTOCOL_VERSION);
    let store = runtime.upstream.store;
    let handshake = async {
        let nobody = Remote { store, endpoint, id: None };
        let reply = send(runtime, &session.initialize, None, &nobody).await?;
        let id = reply.headers.get(mcp_header::SESSION_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let given = negotiated(reply).await?;
        if version.is_some_and(|version| version.as_bytes() != given.as_bytes()) {
            return Err(over("the upstream lost this session and speaks another revision now"));
        }
        let remote = Remote { store, endpoint, id };
        let note = Message::parse(&rpc::notification(method::INITIALIZED, None));
        send(runtime, &note.expect("a notification of our own is a message"), version, &remote).await?;
        Ok(remote)
    };
    let remote = match tokio::time::timeout(limit, handshake).await {
        Ok(Ok(remote)) => remote,
        Ok(Err(failure)) if matches!(failure.kind, Kind::Protocol | Kind::WrongEra | Kind::SessionLost) => {
            return Err(over("the upstream lost this session and opens no other").because(failure));
        }
        Ok(Err(failure)) => return Err(failure),
        Err(_) => {
            let what = "the upstream lost this session and did not open another in time";
            return Err(Failure::new(Kind::Unreachable, what));
        }
    };
    runtime.reached();
    runtime.metrics.spoke(Era::Legacy);
    let ask = |request: Message| {
        let remote = &remote;
        async move {
            if let Ok(reply) = send(runtime, &request, version, remote).await {
                let _ = read_response(reply).await;
            }
        }
    };
    session.upstream_state::<Passing>().remembered.replay(session, limit, ask).await;
    Ok(remote.id)
}

/// The revision in the answer to `initialize`.
async fn negotiated(reply: Reply) -> Result<String, Failure> {
    let status = reply.status;
    // Trouble with the server, our credentials or our pace will pass.
    if status.is_server_error() || matches!(status.as_u16(), 403 | 408 | 429) {
        let what = format!("the upstream answered `initialize` with HTTP {status}");
        return Err(Failure::new(Kind::Unreachable, what).with_status(status));
    }
    let answer = read_response(reply).await?;
    let version = answer
        .result()
        .and_then(|result| json::find(answer.bytes(), &result, &["protocolVersion"]).ok().flatten())
        .and_then(|at| json::string(answer.bytes(), &at).map(std::borrow::Cow::into_owned));
    version.ok_or_else(|| Failure::new(Kind::Protocol, "the upstream refused `initialize`"))
}

async fn send<B: Backend>(
    runtime: &Runtime<B>,
    message: &Message,
    version: Option<&HeaderValue>,
    remote: &Remote,
) -> Result<Reply, Failure> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(header::ACCEPT, ACCEPT_BOTH);
    headers.insert(header::CONTENT_TYPE, JSON);
    if let Some(version) = version {
        headers.insert(mcp_header::PROTOCOL_VERSION, version.clone());
    }
    let ask = Ask::Message(message.clone());
    runtime.endpoint_at(remote.endpoint).relay(&ask, &headers, remote.id.as_deref()).await
}
