//! The side that connects.

use super::{
    H2,
    fault::Fault,
    files::{self, FileError, Pair},
};
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::ring, pki_types::ServerName};
use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Between two looks at files of which one may be new and the other not yet.
const AGAIN: Duration = Duration::from_millis(50);

/// Whom a client trusts and what it shows. Read anew for each connection, so that new files need no restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authorities of servers, a PEM file; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// What is shown to a server that asks.
    pub pair: Option<Pair>,
}

impl ClientFiles {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn load(&self) -> Result<Arc<ClientConfig>, FileError> {
        // A pair is renewed one file after the other: whoever looks in between looks again.
        self.read().or_else(|_| {
            thread::sleep(AGAIN);
            self.read()
        })
    }

    fn read(&self) -> Result<Arc<ClientConfig>, FileError> {
        let roots = match &self.ca {
            Some(file) => files::roots(file, &files::read(file)?)?,
            None => system()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| FileError { file: None, what: error.to_string() })?
            .with_root_certificates(roots);
        let mut config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some(Pair { cert, key }) => {
                let chain = files::certificates(cert, &files::read(cert)?)?;
                let private = files::key(key, &files::read(key)?)?;
                builder.with_client_auth_cert(chain, private).map_err(|error| {
                    FileError::new(key, format!("does not go with {}: {error}", cert.display()))
                })?
            }
        };
        config.alpn_protocols = vec![H2.to_vec()];
        // Each connection shows its certificate.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn system() -> Result<RootCertStore, FileError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good > 0 {
        return Ok(roots);
    }
    let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
    let what = format!("this system has no certificates of authorities{why}; name a file with them");
    Err(FileError { file: None, what })
}

/// Speaks TLS over a connection that stands, within `limit`. `host` is what the certificate of the server must be for.
///
/// # Errors
/// Why the other side is not the one that is meant, or does not want this one.
pub async fn connect(
    stream: TcpStream,
    host: &str,
    config: Arc<ClientConfig>,
    limit: Duration,
) -> Result<Told<TlsStream<TcpStream>>, Fault> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Fault::Other(format!("`{host}` is neither a DNS name nor an address")))?;
    match timeout(limit, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Told(stream)),
        Ok(Err(error)) => Err(Fault::of_handshake(&error)),
        Err(_) => Err(Fault::Silent(limit)),
    }
}

/// A stream whose errors of TLS are a [`Fault`], in its words: what a server has against a certificate comes with the
/// first bytes after the handshake.
#[derive(Debug)]
pub struct Told<S>(S);

fn told(error: io::Error) -> io::Error {
    match Fault::of(&error) {
        Some(fault) => io::Error::new(error.kind(), fault),
        None => error,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Told<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll_read(cx, buffer)).map_err(told))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Told<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll_write(cx, bytes)).map_err(told))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll_flush(cx)).map_err(told))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll_shutdown(cx)).map_err(told))
    }
}
