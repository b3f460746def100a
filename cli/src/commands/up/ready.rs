//! Is a child ready? Its addresses are in its state directory; the rest is asked over its admin port.

use super::seconds;
use crate::{output::page::harmless, report::Error};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::{net::SocketAddr, path::Path, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// For one answer.
const ANSWER: Duration = Duration::from_secs(2);
const ANSWER_BYTES: usize = 64 << 10;

/// Where a plane listens.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Addresses {
    /// For its clients.
    pub listen: SocketAddr,
    /// For its operators.
    pub admin: SocketAddr,
}

/// Waits until a plane with this state directory is ready.
///
/// # Errors
/// It is not, within `limit`; what it waits for.
pub async fn wait(state: &Path, name: &str, limit: Duration) -> Result<Addresses, Error> {
    let deadline = Instant::now() + limit;
    let mut pending = "it has not said where it listens".to_owned();
    loop {
        if let Some(addresses) = addresses::<Addresses>(state) {
            match readyz(addresses.admin).await {
                Ok(()) => return Ok(addresses),
                Err(why) => pending = why,
            }
        }
        if Instant::now() >= deadline {
            let what = format!("{name} is not ready after {}: {}", seconds(limit), harmless(&pending));
            return Err(Error::local(what, "its log is above"));
        }
        sleep(PAUSE).await;
    }
}

/// Waits until a server with this state directory says where it listens.
///
/// # Errors
/// It does not, within `limit`.
pub async fn listening(state: &Path, name: &str, limit: Duration) -> Result<SocketAddr, Error> {
    #[derive(Deserialize)]
    struct Listen {
        listen: SocketAddr,
    }
    let deadline = Instant::now() + limit;
    loop {
        if let Some(Listen { listen }) = addresses(state) {
            return Ok(listen);
        }
        if Instant::now() >= deadline {
            let what = format!("{name} has not said within {} where it listens", seconds(limit));
            return Err(Error::local(what, "its log is above"));
        }
        sleep(PAUSE).await;
    }
}

/// The file is replaced as a whole, so what can be read is complete.
fn addresses<T: for<'a> Deserialize<'a>>(state: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(state.join("addresses.json")).ok()?).ok()
}

async fn readyz(admin: SocketAddr) -> Result<(), String> {
    match timeout(ANSWER, get(admin, "/readyz")).await {
        Ok(Ok((StatusCode::OK, _))) => Ok(()),
        Ok(Ok((_, said))) => Err(said.trim().to_owned()),
        Ok(Err(error)) => Err(format!("http://{admin}/readyz does not answer: {error}")),
        Err(_) => Err(format!("http://{admin}/readyz does not answer within {}", seconds(ANSWER))),
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn get(address: SocketAddr, path: &str) -> Result<(StatusCode, String), AnyError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = answer.as_mut() => answer,
        // The connection may end first, with the whole answer already here.
        ended = connection => { ended?; answer.await }
    }
}
