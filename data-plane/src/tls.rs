//! What an upstream's `https` URLs are spoken to with, made from the PEM files that a configuration names. Pure:
//! the caller reads the files.
//!
//! It must never log or show what is in a file.

use hyper_rustls::ConfigBuilderExt as _;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use std::{fmt::Display, sync::Arc};

/// What is wrong, and with which key of `tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `ca`, `cert` or `key`.
    pub key: &'static str,
    /// Completes "file … ": holds no content.
    pub what: String,
}

/// A client that trusts `ca` (`None`: the system's authorities) and shows `identity`, a certificate with its
/// chain and its key. All in PEM.
///
/// # Errors
/// A file holds something else, or the key is not that of the certificate.
pub fn client(ca: Option<&[u8]>, identity: Option<(&[u8], &[u8])>) -> Result<ClientConfig, Fault> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| fault("ca", error))?;
    let builder = match ca {
        None => builder.with_native_roots().map_err(|error| {
            fault("ca", format!("is not given, and the system's cannot be read: {error}"))
        })?,
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("ca", pem)? {
                roots.add(certificate).map_err(|error| fault("ca", format!("is no authority: {error}")))?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let Some((cert, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates("cert", cert)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| fault("key", format!("holds no private key in PEM: {error}")))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| fault("key", format!("does not go with the certificate: {error}")))
}

fn certificates(key: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| fault(key, format!("is no PEM: {error}")))?;
    if found.is_empty() { Err(fault(key, "holds no certificate in PEM")) } else { Ok(found) }
}

fn fault(key: &'static str, what: impl Display) -> Fault {
    Fault { key, what: what.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_said_with_its_key_and_without_its_content() {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let (cert, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        let cert = cert.as_bytes();
        assert!(client(Some(cert), Some((cert, key.as_bytes()))).is_ok());
        for (ca, identity, expected) in [
            (&b"s3cret"[..], None, "ca: holds no certificate in PEM"),
            (cert, Some((&b""[..], key.as_bytes())), "cert: holds no certificate in PEM"),
            (cert, Some((cert, &b"s3cret"[..])), "key: holds no private key in PEM"),
            (cert, Some((cert, other.serialize_pem().as_bytes())), "key: does not go with the certificate"),
        ] {
            let fault = client(Some(ca), identity).unwrap_err();
            let said = format!("{}: {}", fault.key, fault.what);
            assert!(said.starts_with(expected) && !said.contains("s3cret"), "{said}");
        }
    }
}
