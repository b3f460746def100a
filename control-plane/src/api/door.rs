//! Who comes in, and how far: a layer around every service. A call that gets through carries its [`Caller`].
//!
//! Certificates were verified when the connection was made; here it is decided what their names may, for each call anew,
//! so that a token that was taken back is good for no further call.

use super::errors;
use crate::access::{
    Access, Caller,
    audit::Audit,
    rights::{self, Need},
};
use o1_process::tls::{Connection, Peer};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::{Request, Status, body::Body, transport::server::Connected};
use tower_layer::Layer;
use tower_service::Service;

/// The layer.
#[derive(Clone)]
pub struct Door {
    access: Access,
    audit: Audit,
}

impl Door {
    pub(super) const fn new(access: Access, audit: Audit) -> Self {
        Self { access, audit }
    }

    /// Who calls this.
    fn admit<T>(&self, request: &http::Request<T>) -> Result<Caller, Status> {
        let path = request.uri().path();
        let Some(peer) = request.extensions().get::<Peer>() else {
            return Err(Status::internal("the connection has no other end"));
        };
        let stranger = Caller::local(Some(peer.address));
        let needed = match rights::needed(path) {
            Some(Need::Nothing) => return Ok(stranger),
            Some(Need::Role(needed)) => needed,
            // Offered by nobody, or by somebody who forgot to say to whom. Not audited: paths can be made up.
            None => return Err(Status::unimplemented("")),
        };
        let header = request.headers().get(http::header::AUTHORIZATION);
        let caller = self.access.caller(peer, header.map(http::HeaderValue::as_bytes)).map_err(|why| {
            self.audit.refused(&stranger, path, "", &why);
            errors::unknown_caller(why)
        })?;
        if caller.may(needed) {
            return Ok(caller);
        }
        let status = errors::denied(&caller, needed, rights::short(path));
        self.audit.refused(&caller, path, "", status.message());
        Err(status)
    }
}

impl<S> Layer<S> for Door {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { door: self.clone(), inner }
    }
}

/// A service behind the door.
#[derive(Clone)]
pub struct Guarded<S> {
    door: Door,
    inner: S,
}

impl<S, T> Service<http::Request<T>> for Guarded<S>
where
    S: Service<http::Request<T>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<T>) -> Self::Future {
        match self.door.admit(&request) {
            Ok(caller) => {
                // It has done its work, and nobody behind needs to see it.
                request.headers_mut().remove(http::header::AUTHORIZATION);
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

/// Who calls. Behind the door there always is one.
pub(super) fn caller<T>(request: &Request<T>) -> Caller {
    request.extensions().get::<Caller>().cloned().unwrap_or(Caller::local(None))
}

/// A connection that tells who is at its other end.
pub(super) struct Wire(pub Connection);

impl Connected for Wire {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.0.peer().clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The address of a caller, as far as it is known.
pub(super) fn address<T>(request: &Request<T>) -> Option<SocketAddr> {
    request.extensions().get::<Peer>().map(|peer| peer.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use prost::Message as _;

    #[test]
    fn every_call_of_the_contract_has_one_least_role() {
        let set = prost_types::FileDescriptorSet::decode(o1_proto::wire::DESCRIPTORS).unwrap();
        let mut calls = 0;
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let need =
                        rights::needed(&path).unwrap_or_else(|| panic!("{path} is in no row of the table"));
                    let node = service.name() == "NodeService";
                    assert_eq!(need == Need::Role(Role::Node), node, "{path}: {need:?}");
                    assert_ne!(need, Need::Nothing, "{path}");
                    calls += 1;
                }
            }
        }
        assert!(calls >= 22, "{calls} calls");
        assert_eq!(rights::needed("/o1.control.v1.AdminService/Reboot"), None);
        assert_eq!(rights::needed("/grpc.health.v1.Health/Check"), Some(Need::Nothing));
        assert_eq!(rights::needed("nonsense"), None);
    }
}
