//! A small HTTP/1.1 server for operators and their tools: GET only, one request a connection, bounded in
//! connections, header size and time, so that it can be left open to a whole network of scrapers.
//!
//! It must never show a secret and never change anything.

use crate::{OnExit, Readiness, Tasks, VERSION, metrics};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::{collections::BTreeMap, convert::Infallible, fmt, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

const MAX_REQUEST_BYTES: usize = 16 << 10;
/// The pause after `accept` failed: it is out of file descriptors, and trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Handler = Box<dyn Fn() -> AdminReply + Send + Sync>;

/// The routes of a process. `/`, `/livez`, `/readyz` and `/version` are built in.
pub struct Admin {
    process: &'static str,
    readiness: Readiness,
    routes: BTreeMap<&'static str, Handler>,
    limits: Limits,
}

/// What a client may use.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections at one time; more wait in the backlog of the listener.
    connections: usize,
    /// For the client to send its request.
    header: Duration,
    /// For the whole connection: a client may not read its answer.
    connection: Duration,
}

const LIMITS: Limits =
    Limits { connections: 64, header: Duration::from_secs(10), connection: Duration::from_secs(30) };

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("process", &self.process).field("routes", &self.routes.keys()).finish()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct AdminReply {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl AdminReply {
    /// An answer for programs.
    #[must_use]
    pub fn json(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(body) => Self { status, content_type: "application/json", body: body + "\n" },
            Err(error) => {
                tracing::error!(%error, "an admin answer cannot be written as JSON");
                Self::text(StatusCode::INTERNAL_SERVER_ERROR, format!("no JSON for this answer: {error}\n"))
            }
        }
    }

    /// An answer for people.
    #[must_use]
    pub fn text(status: StatusCode, body: String) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body }
    }

    /// An answer for Prometheus; see [`metrics`].
    #[must_use]
    pub fn metrics(exposition: metrics::Exposition) -> Self {
        Self { status: StatusCode::OK, content_type: metrics::CONTENT_TYPE, body: exposition.finish() }
    }
}

impl Admin {
    /// The built-in routes. `process` is the name of the program.
    #[must_use]
    pub fn new(process: &'static str, readiness: Readiness) -> Self {
        let ready = readiness.clone();
        let version = serde_json::json!({ "name": process, "version": VERSION });
        Self { process, readiness, routes: BTreeMap::new(), limits: LIMITS }
            .route("/livez", || AdminReply::text(StatusCode::OK, "ok\n".to_owned()))
            .route("/readyz", move || readyz(&ready))
            .route("/version", move || AdminReply::json(StatusCode::OK, &version))
    }

    /// Adds a route. The handler answers from what is in memory: it must not block.
    #[must_use]
    pub fn route(
        mut self,
        path: &'static str,
        handler: impl Fn() -> AdminReply + Send + Sync + 'static,
    ) -> Self {
        debug_assert!(path.starts_with('/'), "a route starts with a slash");
        self.routes.insert(path, Box::new(handler));
        self
    }

    /// Serves until the process stops. The future returns when the drain begins; the server itself goes on
    /// until every other task has ended, so that `/readyz` can say `draining` and `/status` can show it. To drop
    /// the future before that ends the server.
    pub async fn serve(self, listener: TcpListener, tasks: Tasks) {
        let stopping = tasks.stopping();
        let server =
            tasks.spawn_last("admin-accept", OnExit::Shutdown, accept(self, listener, tasks.clone()));
        let server = server.abort_on_drop();
        stopping.cancelled().await;
        server.detach();
    }

    fn answer(&self, method: &Method, path: &str) -> AdminReply {
        if method != Method::GET {
            let what = format!("{method} is not allowed here: use GET\n");
            return AdminReply::text(StatusCode::METHOD_NOT_ALLOWED, what);
        }
        match self.routes.get(path) {
            Some(handler) => handler(),
            None if path == "/" => AdminReply::text(StatusCode::OK, self.list()),
            None => {
                AdminReply::text(StatusCode::NOT_FOUND, format!("there is no such route\n{}", self.list()))
            }
        }
    }

    fn list(&self) -> String {
        let ready = if self.readiness.is_ready() { "ready" } else { "not ready" };
        let mut text = format!("{} {VERSION}, {ready}. Routes:\n", self.process);
        for path in self.routes.keys() {
            text.push_str(path);
            text.push('\n');
        }
        text
    }
}

fn readyz(readiness: &Readiness) -> AdminReply {
    if readiness.is_draining() {
        AdminReply::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned())
    } else if readiness.is_ready() {
        AdminReply::text(StatusCode::OK, "ready\n".to_owned())
    } else {
        let pending = readiness.pending().join(", ");
        AdminReply::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready, waiting for: {pending}\n"))
    }
}

async fn accept(admin: Admin, listener: TcpListener, tasks: Tasks) {
    let admin = Arc::new(admin);
    let slots = Arc::new(Semaphore::new(admin.limits.connections));
    loop {
        let slot = slots.clone().acquire_owned().await.expect("nobody closes the semaphore");
        match listener.accept().await {
            Ok((stream, _)) => {
                // Detached: it ends by its own limits, and nobody misses it in a drain.
                let _detached = tasks.spawn_last(
                    "admin-connection",
                    OnExit::Quiet,
                    connection(admin.clone(), stream, slot),
                );
            }
            Err(error) => {
                tracing::warn!(%error, "the admin server cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(admin: Arc<Admin>, stream: TcpStream, slot: OwnedSemaphorePermit) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let reply = admin.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response(reply)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(admin.limits.header)
        .max_buf_size(MAX_REQUEST_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(admin.limits.connection, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection broke"),
        Err(_) => tracing::debug!("an admin connection took too long"),
    }
    drop(slot);
}

fn response(reply: AdminReply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(reply.body));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(reply.content_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    if reply.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, header::HeaderValue::from_static("GET"));
    }
    response
}

#[cfg(test)]
mod tests;
