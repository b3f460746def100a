//! BYTES ↔ CALLS: accepts connections, turns HTTP requests into calls and replies into HTTP responses.
//!
//! Owns sockets, HTTP, the checks that need nothing but the request itself, and the wording of failures. It
//! must never know sessions, names or upstreams.

mod auth;
mod events;
mod http;
mod ladder;
mod origin;
mod respond;
mod sse;
mod timer;
mod workers;

pub use workers::Workers;

use crate::{call::Handle, context::Context, metrics::Metrics};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use o1_process::OnExit;
use rustix::net::sockopt;
use std::{
    future::{Future as _, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Waker,
    time::Duration,
};
use timer::LazyTimer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

/// Client connections at a time; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 16_384;
/// The longest a client may take to send its request head.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The largest request head.
const HEAD_MAX: usize = 64 << 10;
/// How long a client may leave what it was sent unacknowledged: it is gone, or reads no more.
const UNREAD_WITHIN: Duration = Duration::from_secs(120);

/// Serves `listener` over `path` until the process stops, then lets open calls finish. Connections are spread over
/// `workers`.
pub async fn serve<H: Handle>(
    listener: TcpListener,
    bound: SocketAddr,
    path: Arc<H>,
    context: Context,
    workers: Arc<Workers>,
) {
    let service = Arc::new(http::Service::new(path, bound, &context));
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let stopping = context.tasks.stopping();
    // Closed when this function returns: then every connection ends after the call it is at.
    let (_serving, end) = watch::channel(());
    loop {
        let permit = tokio::select! {
            permit = permits.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
            () = stopping.cancelled() => return,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, mostly: some will be free again soon.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stopping.cancelled() => return,
        };
        if let Err(error) = options(&stream) {
            tracing::debug!(%error, "cannot set the options of a connection");
        }
        let (service, end, open) = (service.clone(), end.clone(), Open::count(&context));
        let place = workers.place();
        let there = place.enter();
        match moved(stream, there.is_some()) {
            Ok(stream) => {
                context.tasks.spawn("connection", OnExit::Quiet, async move {
                    connection(stream, service, end).await;
                    drop((permit, open, place));
                });
            }
            Err(error) => tracing::warn!(%error, "cannot hand a connection on"),
        }
    }
}

/// The connection, known to the runtime that was entered.
fn moved(stream: TcpStream, elsewhere: bool) -> io::Result<TcpStream> {
    if elsewhere { TcpStream::from_std(stream.into_std()?) } else { Ok(stream) }
}

/// Counts a connection for as long as it is held, however it ends.
struct Open(Arc<Metrics>);

impl Open {
    fn count(context: &Context) -> Self {
        context.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self(context.metrics.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is said is sent at once; a client that vanished without a word, or reads no more, is noticed.
fn options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(20))?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(UNREAD_WITHIN.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

async fn connection<H: Handle>(stream: TcpStream, service: Arc<http::Service<H>>, end: watch::Receiver<()>) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // At most 100 header lines: what hyper takes unless told; told so, it makes room for them anew with each request.
    builder
        .http1()
        .timer(LazyTimer::default())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_MAX)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_MAX).unwrap_or(u32::MAX))
        .max_concurrent_streams(256)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    let handler = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, std::convert::Infallible>(service.answer(request).await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), handler));
    let mut waited = end.clone();
    let mut ending = pin!(async move { while waited.changed().await.is_ok() {} });
    let (mut draining, mut registered) = (false, None::<Waker>);
    let ended = poll_fn(|cx| {
        // A connection is woken several times a request, and to wait for the end takes locks that all of them
        // share. So that is done once for each waker; afterwards to look is to read one number.
        if !draining {
            let known = registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            draining = end.has_changed().is_err() || (!known && ending.as_mut().poll(cx).is_ready());
            if draining {
                connection.as_mut().graceful_shutdown();
            } else if !known {
                registered = Some(cx.waker().clone());
            }
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = ended.await {
        // The client's doing, mostly: garbage, a reset, a head that never came.
        tracing::debug!(error = %error, "connection ended");
    }
}
