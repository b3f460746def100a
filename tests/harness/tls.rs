//! A certificate authority of the test's own: certificates for servers and clients on 127.0.0.1, as PEM files.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use std::{fs, path::Path, sync::Arc};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
};

/// An authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key in PEM.
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// The library cannot make certificates.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("keys can be made");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("an authority signs itself") }
    }

    /// Its own certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for 127.0.0.1.
    ///
    /// # Panics
    /// The library cannot make certificates.
    #[must_use]
    pub fn issue(&self) -> Pair {
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address is a name");
        let key = KeyPair::generate().expect("keys can be made");
        let cert = params.signed_by(&key, &self.issuer).expect("an authority signs");
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// A certificate for a URI, such as `only1://viewer/ann`, valid from the first day of a year to that of another.
    ///
    /// # Panics
    /// The library cannot make certificates.
    #[must_use]
    pub fn issue_for(&self, uri: &str, years: (i32, i32)) -> Pair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI is ASCII"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        let key = KeyPair::generate().expect("keys can be made");
        let cert = params.signed_by(&key, &self.issuer).expect("an authority signs");
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// A server with a certificate of this authority that wants one of it from each client.
    ///
    /// # Panics
    /// The certificates are not valid.
    #[must_use]
    pub fn server(&self, protocols: &[&str]) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority can be trusted");
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .expect("one authority is enough");
        let pair = self.issue();
        let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("just written");
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("just written");
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![cert], key)
            .expect("the key is that of the certificate");
        config.alpn_protocols = protocols.iter().map(|one| one.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Pair {
    /// Writes `cert.pem` and `key.pem`, each in one step.
    ///
    /// # Panics
    /// The disk refuses.
    pub fn write(&self, folder: &Path) {
        for (name, text) in [("cert.pem", &self.cert), ("key.pem", &self.key)] {
            replace(&folder.join(name), text);
        }
    }
}

/// Gives a file another content in one step, as secret stores do.
///
/// # Panics
/// The disk refuses.
pub fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).and_then(|()| fs::rename(&beside, path)).expect("the folder is writable");
}
