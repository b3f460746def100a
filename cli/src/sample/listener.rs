//! Bytes ↔ messages: connections, limits, who may ask at all, and which era's rules apply.

use super::{
    Sample,
    envelope::{self, MODERN},
    legacy, modern,
    reply::{Body, Reply},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use o1_process::{OnExit, Tasks};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

const CONNECTIONS: usize = 512;
const BODY_BYTES: usize = 1 << 20;
/// For the head of a request, and for its body.
const PATIENCE: Duration = Duration::from_secs(15);
/// The pause after `accept` failed: out of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Every revision that had sessions, the first of which we do not speak.
const HAD_SESSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// Serves until the process stops.
pub(super) async fn serve(sample: Arc<Sample>, listener: TcpListener, tasks: Tasks) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let stopping = tasks.stopping();
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await.expect("nobody closes the semaphore");
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            () = stopping.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(sample.clone(), stream, stopping.clone(), slot);
                let _detached = tasks.spawn("connection", OnExit::Quiet, connection);
            }
            Err(error) => {
                tracing::warn!(%error, "the sample server cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    sample: Arc<Sample>,
    stream: TcpStream,
    stopping: CancellationToken,
    slot: OwnedSemaphorePermit,
) {
    let local = stream.local_addr().map(|address| address.ip().to_string()).unwrap_or_default();
    let service = service_fn(|request| {
        let (sample, stopping, local) = (sample.clone(), stopping.clone(), local.clone());
        async move { Ok::<_, Infallible>(answer(&sample, request, &local, stopping).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
    drop(slot);
}

async fn answer(
    sample: &Sample,
    request: Request<Incoming>,
    local: &str,
    stopping: CancellationToken,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    reply(sample, &head, body, local, stopping).await.unwrap_or_else(|refused| refused).response()
}

async fn reply(
    sample: &Sample,
    head: &http::request::Parts,
    body: Incoming,
    local: &str,
    stopping: CancellationToken,
) -> Result<Reply, Reply> {
    let headers = &head.headers;
    neighbour(headers, local)?;
    if head.uri.path() != "/mcp" {
        return Err(Reply::Refused(StatusCode::NOT_FOUND, "MCP is served at /mcp".to_owned()));
    }
    let named = headers.get("mcp-protocol-version").map(|version| version.to_str().unwrap_or("?"));
    let modern = named.is_some_and(|named| named == MODERN || !HAD_SESSIONS.contains(&named));
    match head.method {
        Method::POST => {
            accepts(headers, &["application/json", "text/event-stream"])?;
            json(headers)?;
            let body = envelope::read(&read(body).await?)
                .map_err(|fault| Reply::Json(StatusCode::BAD_REQUEST, fault.message(None)))?;
            if modern || modern::claims(&body) {
                Ok(modern::post(sample, headers, body))
            } else {
                Ok(legacy::post(sample, headers, body))
            }
        }
        Method::GET | Method::DELETE if modern => Err(Reply::Verb("POST")),
        Method::GET => {
            accepts(headers, &["text/event-stream"])?;
            Ok(legacy::get(sample, headers, stopping))
        }
        Method::DELETE => Ok(legacy::delete(sample, headers)),
        _ => Err(Reply::Verb("GET, POST, DELETE")),
    }
}

/// Only this machine is let in by name, so that a web page cannot reach the server through the user's browser.
fn neighbour(headers: &HeaderMap, local: &str) -> Result<(), Reply> {
    let refused = |what: &str| {
        Err(Reply::Refused(StatusCode::FORBIDDEN, format!("requests for or from `{what}` are not served")))
    };
    let known = |host: &str| {
        let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        name == "localhost" || name == local || name == "::1" || name == "127.0.0.1"
    };
    let said = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    match said(header::HOST) {
        Some(host) if known(host) => {}
        Some(host) => return refused(host),
        None => return refused("no host"),
    }
    match said(header::ORIGIN) {
        None => Ok(()),
        Some(origin) if origin.split_once("://").is_some_and(|(_, host)| known(host)) => Ok(()),
        Some(origin) => refused(origin),
    }
}

fn accepts(headers: &HeaderMap, wanted: &[&str]) -> Result<(), Reply> {
    let said: Vec<_> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let ranges: Vec<_> = said
        .iter()
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .map(|range| range.trim().to_ascii_lowercase())
        .collect();
    let covers = |wanted: &&str| {
        ranges.iter().any(|range| {
            range == "*/*"
                || range == wanted
                || range.strip_suffix('*').is_some_and(|kind| wanted.starts_with(kind))
        })
    };
    match wanted.iter().all(covers) {
        true => Ok(()),
        false => {
            let what = format!("the client must accept {}", wanted.join(" and "));
            Err(Reply::Refused(StatusCode::NOT_ACCEPTABLE, what))
        }
    }
}

fn json(headers: &HeaderMap) -> Result<(), Reply> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim();
    match kind.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(Reply::Refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content type must be application/json".to_owned(),
        )),
    }
}

async fn read(body: Incoming) -> Result<Bytes, Reply> {
    match timeout(PATIENCE, Limited::new(body, BODY_BYTES).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Reply::Refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a body has at most {BODY_BYTES} bytes"),
        )),
        Ok(Err(error)) => {
            Err(Reply::Refused(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}")))
        }
        Err(_) => {
            Err(Reply::Refused(StatusCode::REQUEST_TIMEOUT, "the body did not come in time".to_owned()))
        }
    }
}
