//! How the control plane is reached: where, by which certificates, with which token. Files are read anew for each
//! connection, so that new ones need no restart.
//!
//! It must never show a token.

use super::stream::Ended;
use o1_process::tls::{
    ClientFiles,
    client::{self, Told},
};
use std::{
    fmt, fs,
    future::Future,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{net::TcpStream, task::spawn_blocking};
use tonic::{
    Request, Status,
    codegen::Service,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Uri},
};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The control plane, as this node is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    uri: http::Uri,
    tls: Option<ClientFiles>,
    token: Option<PathBuf>,
}

impl Reach {
    /// `tls` and `token` as far as they were given; `insecure`: it was said that plaintext will do.
    ///
    /// # Errors
    /// What makes no sense, with the flags that say so.
    pub fn new(
        uri: http::Uri,
        tls: ClientFiles,
        token: Option<PathBuf>,
        insecure: bool,
    ) -> Result<Self, String> {
        // Before anything repeats the address: it is shown in logs and at /status.
        if uri.to_string().contains('@') {
            return Err(
                "--control holds a user or a password before an `@`, which has no meaning there and would be shown: \
                 write https://host:port; --control-cert or --control-token-file says who this node is"
                    .to_owned(),
            );
        }
        let host = uri.host().unwrap_or_default();
        let tls = match uri.scheme_str() {
            Some("https") if !host.is_empty() => Some(tls),
            Some("http") if !host.is_empty() => {
                if tls != ClientFiles::default() {
                    return Err(format!(
                        "--control {uri} is not encrypted: --control-ca and --control-cert need https://"
                    ));
                }
                if !is_loopback(host) && !insecure {
                    return Err(format!(
                        "--control {uri} is another machine, and http:// is neither encrypted nor authenticated: use \
                         https:// with --control-ca, --control-cert and --control-key, or accept that with \
                         --insecure-control"
                    ));
                }
                None
            }
            _ => {
                return Err(format!(
                    "the control plane's address `{uri}` is not of the form http://host:port or https://host:port"
                ));
            }
        };
        Ok(Self { uri, tls, token })
    }

    /// A control plane on this machine, in plaintext.
    #[cfg(test)]
    pub fn local(address: std::net::SocketAddr) -> Self {
        let uri = format!("http://{address}").parse().unwrap();
        Self::new(uri, ClientFiles::default(), None, false).unwrap()
    }

    /// Where.
    #[must_use]
    pub const fn uri(&self) -> &http::Uri {
        &self.uri
    }

    /// A connector over TLS; `None`: plaintext.
    pub(super) async fn connector(&self) -> Result<Option<Connector>, Ended> {
        let Some(files) = self.tls.clone() else { return Ok(None) };
        let config = spawn_blocking(move || files.load()).await;
        let config = config.map_err(|_| Ended::Lost("the certificates could not be read".to_owned()))?;
        let config =
            config.map_err(|error| Ended::Lost(format!("the certificates of this node: {error}")))?;
        Ok(Some(Connector { config }))
    }

    /// What each call shows.
    pub(super) async fn bearer(&self) -> Result<Bearer, Ended> {
        let Some(file) = self.token.clone() else { return Ok(Bearer(None)) };
        let read = spawn_blocking(move || token(&file)).await;
        let read = read.map_err(|_| Ended::Lost("the token could not be read".to_owned()))?;
        read.map(|value| Bearer(Some(value))).map_err(Ended::Lost)
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

fn token(file: &Path) -> Result<MetadataValue<Ascii>, String> {
    let shown = file.display();
    let content = fs::read_to_string(file)
        .map_err(|error| format!("the token file {shown} cannot be read: {error}"))?;
    let mut value = MetadataValue::try_from(format!("Bearer {}", content.trim()))
        .map_err(|_| format!("the token file {shown} holds no token: one line of visible characters"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What the calls of a node go through.
pub(super) type Api = InterceptedService<Channel, Bearer>;

/// Shows a token with each call, if there is one.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// Connects and speaks TLS.
pub(super) struct Connector {
    config: Arc<rustls::ClientConfig>,
}

type Stream = hyper_util::rt::TokioIo<Told<tokio_rustls::client::TlsStream<TcpStream>>>;

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let config = self.config.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
            stream.set_nodelay(true)?;
            let told = client::connect(stream, host, config, HANDSHAKE).await;
            let told = told.map_err(|fault| io::Error::other(format!("no TLS with {uri}: {fault}")))?;
            Ok(hyper_util::rt::TokioIo::new(told))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(uri: &str, ca: bool, insecure: bool) -> Result<Reach, String> {
        let tls = ClientFiles { ca: ca.then(|| "ca.pem".into()), pair: None };
        Reach::new(uri.parse().unwrap(), tls, None, insecure)
    }

    #[test]
    fn plaintext_is_for_this_machine_unless_asked_for_by_name() {
        for local in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "http://127.1.2.3:1"] {
            assert_eq!(reach(local, false, false).unwrap().tls, None, "{local}");
        }
        for far in ["http://10.0.0.1:1", "http://control:1", "http://localhost.evil:1"] {
            assert!(reach(far, false, false).unwrap_err().contains("--insecure-control"), "{far}");
            assert!(reach(far, false, true).is_ok(), "{far}");
        }
        assert!(reach("https://control:1", true, false).unwrap().tls.unwrap().ca.is_some());
        assert!(reach("http://127.0.0.1:1", true, false).unwrap_err().contains("need https://"));
        for none in ["127.0.0.1:7400", "/path", "ftp://x:1"] {
            assert!(
                reach(none, false, false).unwrap_err().contains("is not of the form http://host:port"),
                "{none}"
            );
        }
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_repeated() {
        for uri in ["http://ann:s3cret@127.0.0.1:1", "https://s3cret@control:1", "ftp://ann:s3cret@x:1"] {
            for insecure in [false, true] {
                let error = reach(uri, false, insecure).unwrap_err();
                assert!(error.contains("a user or a password") && !error.contains("s3cret"), "{error}");
            }
        }
    }

    #[test]
    fn a_token_file_is_a_line_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "o1_s3cret\n").unwrap();
        let value = token(&file).unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer o1_s3cret");
        assert!(!format!("{value:?}").contains("s3cret"));
        fs::write(&file, "s3c\nret").unwrap();
        let error = token(&file).unwrap_err();
        assert!(error.contains("holds no token") && !error.contains("s3c"), "{error}");
        assert!(token(Path::new("/none")).unwrap_err().contains("/none cannot be read"));
    }
}
