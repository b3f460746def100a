//! The ports that the planes use if nothing is said: free, or taken, and by whom.

use super::Check;
use crate::{
    client::Client,
    connect::{Failure, Target},
};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use o1_process::tls::ClientFiles;
use serde_json::Value;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

const CHECK: &str = "ports";
/// For whoever listens to say who it is.
const LIMIT: Duration = Duration::from_secs(2);
/// Larger answers say nothing about who it is.
const ANSWER_BYTES: usize = 64 << 10;
/// The ports, and what they are for.
const USUAL: [(&str, &str); 4] = [
    ("127.0.0.1:7400", "gRPC of the control plane"),
    ("127.0.0.1:7401", "admin port of the control plane"),
    ("127.0.0.1:8080", "clients of the data plane"),
    ("127.0.0.1:9090", "admin port of the data plane"),
];

/// What a look at a port came to.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Free,
    /// A program of ours, by its own word.
    Ours(String),
    /// Somebody who speaks TLS, as a control plane with certificates does.
    Encrypted,
    /// Something else, as far as it shows.
    Other(&'static str),
    Unusable(String),
}

pub(super) async fn look(named: &[SocketAddr]) -> Vec<Check> {
    let usual = USUAL.into_iter().filter_map(|(address, what)| Some((address.parse().ok()?, what)));
    let wanted: Vec<(SocketAddr, &str)> =
        if named.is_empty() { usual.collect() } else { named.iter().map(|one| (*one, "named")).collect() };
    let mut checks = Vec::new();
    for (address, what) in wanted {
        checks.push(judge(address, what, seen(address).await));
    }
    checks
}

fn judge(address: SocketAddr, what: &str, seen: Seen) -> Check {
    match seen {
        Seen::Free => Check::ok(CHECK, format!("{address} is free ({what})")),
        Seen::Ours(who) => Check::ok(CHECK, format!("{address} is taken by {who} ({what})")),
        Seen::Encrypted => Check::ok(
            CHECK,
            format!(
                "{address} is taken by something that speaks TLS, as a control plane with certificates does ({what})"
            ),
        ),
        Seen::Other(who) => Check::warn(
            CHECK,
            format!("{address} is taken by {who} ({what})"),
            "free it, or let the plane listen elsewhere: --listen, --admin; `o1ctl up` takes any free port as :0",
        ),
        Seen::Unusable(why) => Check::fail(
            CHECK,
            format!("{address} cannot be listened on: {why} ({what})"),
            "choose an address of this machine, and a port above 1023 or a user who may use it",
        ),
    }
}

async fn seen(address: SocketAddr) -> Seen {
    match TcpListener::bind(address) {
        Ok(_) => return Seen::Free,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        Err(error) => return Seen::Unusable(error.to_string()),
    }
    match timeout(LIMIT, ask(address)).await {
        Ok(Ok(body)) => who(&body),
        Ok(Err(_)) | Err(_) => control_plane(address).await,
    }
}

/// `/version` is a route of our admin ports; the port for clients answers it with an error of MCP.
fn who(body: &[u8]) -> Seen {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    match (answer["name"].as_str(), answer["version"].as_str(), answer["jsonrpc"].as_str()) {
        (Some(name), Some(version), _) if name.starts_with("o1-") => Seen::Ours(format!("{name} {version}")),
        (_, _, Some("2.0")) => Seen::Ours("an MCP server or gateway".to_owned()),
        _ => Seen::Other("an HTTP server of another kind"),
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Whoever speaks HTTP/2 alone may be a control plane.
async fn control_plane(address: SocketAddr) -> Seen {
    let asked = async {
        let target = Target::new(&format!("http://{address}"), ClientFiles::default(), None, true).ok()?;
        Some(match Client::connect(&target, LIMIT).await {
            Ok(mut client) => client.status().await,
            Err(failure) => Err(failure),
        })
    };
    match asked.await {
        Some(Ok(status)) => Seen::Ours(format!("a control plane, version {}", status.control_plane.version)),
        Some(Err(Failure::Unauthorised(_))) => {
            Seen::Ours("a control plane that does not know you".to_owned())
        }
        Some(Err(Failure::Encrypted)) => Seen::Encrypted,
        Some(Err(_)) | None => Seen::Other("something that does not say who it is"),
    }
}

async fn ask(address: SocketAddr) -> Result<Bytes, AnyError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request =
        Request::get("/version").header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        Ok(Limited::new(response.into_body(), ANSWER_BYTES).collect().await?.to_bytes())
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = answer.as_mut() => answer,
        // The connection may end first, with the whole answer already here.
        _ended = connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};
    use crate::client::scripted::Scripted;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn who_listens_is_told_by_what_it_says() {
        let ours = br#"{"name":"o1-data-plane","version":"0.1.0"}"#;
        assert_eq!(who(ours), Seen::Ours("o1-data-plane 0.1.0".to_owned()));
        let gateway = br#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"no such route"}}"#;
        assert_eq!(who(gateway), Seen::Ours("an MCP server or gateway".to_owned()));
        for other in [&b"<html>"[..], b"{}", b"", br#"{"name":"nginx","version":"1"}"#] {
            assert!(matches!(who(other), Seen::Other(_)), "{other:?}");
        }
    }

    #[tokio::test]
    async fn who_speaks_tls_is_not_to_be_freed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // What a TLS server answers to plaintext: a fatal alert, and the end.
        let answers = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _heard = stream.read(&mut [0; 1 << 10]).await.unwrap();
                stream.write_all(&[0x15, 3, 3, 0, 2, 2, 70]).await.unwrap();
                // Closed with something unread it would be reset, and the alert lost on the way.
                stream.shutdown().await.unwrap();
                while stream.read(&mut [0; 1 << 10]).await.is_ok_and(|count| count > 0) {}
            }
        };
        let found = tokio::select! {
            found = seen(address) => found,
            () = answers => unreachable!("it answers for ever"),
        };
        assert_eq!(found, Seen::Encrypted);
        let check = judge(address, "named", found);
        assert!(check.state == State::Ok && check.what.contains("speaks TLS"), "{check:?}");
    }

    #[tokio::test]
    async fn a_port_is_free_or_taken_by_somebody() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(seen(address).await, Seen::Free);
        let control = Scripted::start(([127, 0, 0, 1], 0).into(), 7).await;
        assert_eq!(seen(control.address).await, Seen::Ours("a control plane, version 0.1.0".to_owned()));
        let elsewhere = "192.0.2.1:7400".parse().unwrap(); // a network that no machine has
        let found = judge(elsewhere, "named", seen(elsewhere).await);
        assert_eq!(found.state, State::Fail, "{found:?}");
    }
}
