//! One gRPC call over one connection of its own, TLS and HTTP/2 in the open: what it takes to see each handshake.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

const LIMIT: Duration = Duration::from_secs(20);

/// What a call came to.
#[derive(Debug)]
pub struct Called {
    /// The status of gRPC: 0 is success.
    pub status: String,
    /// The certificate that the server showed.
    pub server: Vec<u8>,
}

/// A client that trusts `ca.pem` of a folder and shows a pair of it, read now.
///
/// # Errors
/// The files do not go together, at this moment.
pub fn client(folder: &Path, pair: &str) -> Result<Arc<ClientConfig>, String> {
    let read = |name: String| fs::read(folder.join(&name)).map_err(|error| format!("{name}: {error}"));
    let mut roots = RootCertStore::empty();
    let ca =
        CertificateDer::from_pem_slice(&read("ca.pem".to_owned())?).map_err(|error| error.to_string())?;
    roots.add(ca).map_err(|error| error.to_string())?;
    let cert =
        CertificateDer::from_pem_slice(&read(format!("{pair}.pem"))?).map_err(|error| error.to_string())?;
    let key =
        PrivateKeyDer::from_pem_slice(&read(format!("{pair}.key"))?).map_err(|error| error.to_string())?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![cert], key)
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Calls a method with an empty message.
///
/// # Errors
/// There is no connection, or no answer.
pub async fn call(address: SocketAddr, config: Arc<ClientConfig>, path: &str) -> Result<Called, String> {
    timeout(LIMIT, one(address, config, path)).await.map_err(|_| "no answer in time".to_owned())?
}

async fn one(address: SocketAddr, config: Arc<ClientConfig>, path: &str) -> Result<Called, String> {
    let say = |what: &'static str| move |error: String| format!("{what}: {error}");
    let stream = TcpStream::connect(address).await.map_err(|error| say("connect")(error.to_string()))?;
    let stream = TlsConnector::from(config)
        .connect(address.ip().into(), stream)
        .await
        .map_err(|error| say("handshake")(error.to_string()))?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let server = shown.map(|certificate| certificate.to_vec()).unwrap_or_default();
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| say("HTTP/2")(error.to_string()))?;
    let request = http::Request::post(format!("https://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(&[0; 5])))
        .map_err(|error| error.to_string())?;
    let asked = async {
        let response =
            send.send_request(request).await.map_err(|error| say("request")(format!("{error:?}")))?;
        let early = response.headers().get("grpc-status").cloned();
        let body =
            response.into_body().collect().await.map_err(|error| say("answer")(format!("{error:?}")))?;
        let status =
            early.or_else(|| body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned());
        let status = status.ok_or("an answer without a status")?;
        Ok::<_, String>(status.to_str().unwrap_or_default().to_owned())
    };
    let mut asked = std::pin::pin!(asked);
    let mut connection = std::pin::pin!(connection);
    let status = tokio::select! {
        biased;
        status = &mut asked => status?,
        over = &mut connection => match asked.await {
            Ok(status) => status,
            Err(error) => return Err(format!("{error} ({over:?})")),
        },
    };
    Ok(Called { status, server })
}
