//! Connections that come in. Handshakes run beside each other, each with a limit and all of them with one, so that
//! whoever is slow, or says nothing, delays nobody.

use super::{certificate::Certificate, fault::Fault, server::Server};
use crate::tasks::{OnExit, Tasks};
use futures_util::{Stream, stream};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long whoever was refused may take to read why.
const LINGER: Duration = Duration::from_secs(1);
/// Handshakes at once.
const HANDSHAKES: usize = 1024;
/// Connections that wait to be served.
const WAITING: usize = 16;
/// After an error of the system, such as no more files.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest that a timer is set for.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where from.
    pub address: SocketAddr,
    /// What it showed, verified; `None`: nothing, or the connection is plaintext.
    pub certificate: Option<Arc<Certificate>>,
}

/// Somebody with whom there was no handshake.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Where from.
    pub address: SocketAddr,
    /// Why not.
    pub why: Fault,
}

/// A connection that stands. It ends with the certificate that was shown on it.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    peer: Peer,
    until: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Who is there.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

/// Every connection that comes in until the process stops; without `tls` as plaintext. Those that fail are told to
/// `refused`, as long as it keeps up.
pub fn listen(
    listener: TcpListener,
    tls: Option<Arc<Server>>,
    tasks: &Tasks,
    refused: mpsc::Sender<Refused>,
) -> impl Stream<Item = io::Result<Connection>> + Send + use<> {
    let (ready, connections) = mpsc::channel(WAITING);
    let (stop, with) = (tasks.stopping(), tasks.clone());
    tasks.spawn("accept", OnExit::Shutdown, async move {
        let door = Door { tls, tasks: with, ready, refused, places: Arc::new(Semaphore::new(HANDSHAKES)) };
        tokio::select! {
            () = door.open(listener) => {}
            () = stop.cancelled() => {}
        }
    });
    stream::unfold(connections, |mut connections| async move {
        connections.recv().await.map(|connection| (Ok(connection), connections))
    })
}

struct Door {
    tls: Option<Arc<Server>>,
    tasks: Tasks,
    ready: mpsc::Sender<Connection>,
    refused: mpsc::Sender<Refused>,
    places: Arc<Semaphore>,
}

impl Door {
    /// Returns when nobody takes connections any more.
    async fn open(self, listener: TcpListener) {
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            // Without it small answers wait for an acknowledgement.
            let _slower = stream.set_nodelay(true);
            let Some(server) = &self.tls else {
                let peer = Peer { address, certificate: None };
                if self.ready.send(Connection { io: Io::Plain(stream), peer, until: None }).await.is_err() {
                    return;
                }
                continue;
            };
            let Ok(place) = self.places.clone().try_acquire_owned() else {
                tracing::warn!(%address, limit = HANDSHAKES, "too many handshakes at once: a connection was closed");
                continue;
            };
            let acceptor = TlsAcceptor::from(server.config());
            let (ready, refused) = (self.ready.clone(), self.refused.clone());
            let (handshake, stop) =
                (handshake(stream, address, acceptor, place, ready, refused), self.tasks.stopping());
            self.tasks.spawn("handshake", OnExit::Quiet, async move {
                tokio::select! {
                    () = handshake => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    place: OwnedSemaphorePermit,
    ready: mpsc::Sender<Connection>,
    refused: mpsc::Sender<Refused>,
) {
    let done = match timeout(HANDSHAKE, acceptor.accept(stream).into_fallible()).await {
        Ok(Ok(stream)) => established(stream, address),
        Ok(Err((error, stream))) => {
            let _late = timeout(LINGER, linger(stream)).await;
            Err(Fault::of_handshake(&error))
        }
        Err(_) => Err(Fault::Silent(HANDSHAKE)),
    };
    drop(place);
    match done {
        Ok(connection) => {
            // Nobody takes it: the process stops.
            let _ = ready.send(connection).await;
        }
        // Whoever looks whether the port is open is not worth a word.
        Err(Fault::Gone) => tracing::debug!(%address, "a connection ended during the handshake"),
        Err(why) => {
            tracing::warn!(%address, %why, "a connection was refused");
            let _full = refused.try_send(Refused { address, why });
        }
    }
}

/// Lets the other side read why: a connection that is closed with something unread in it takes the alert along.
async fn linger(mut stream: TcpStream) {
    let mut rest = [0; 1024];
    if stream.shutdown().await.is_ok() {
        for _ in 0..64 {
            if !matches!(stream.read(&mut rest).await, Ok(1..)) {
                return;
            }
        }
    }
}

fn established(stream: TlsStream<TcpStream>, address: SocketAddr) -> Result<Connection, Fault> {
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = shown.map(Certificate::read).transpose();
    let certificate =
        certificate.map_err(|what| Fault::Other(format!("its certificate {what}")))?.map(Arc::new);
    let until = certificate.as_ref().map(|certificate| {
        let left = certificate.expires.duration_since(SystemTime::now()).unwrap_or_default();
        Box::pin(sleep(left.min(LONGEST)))
    });
    Ok(Connection { io: Io::Tls(Box::new(stream)), peer: Peer { address, certificate }, until })
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready()) {
            let address = self.peer.address;
            tracing::info!(%address, "a connection ended with the certificate that was shown on it");
            let why = "the certificate of this connection has expired";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)));
        }
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
