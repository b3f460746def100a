//! The side that listens: a configuration made of files, and made again when they change. What cannot be used is said
//! and changes nothing.

use super::{
    H2,
    certificate::Certificate,
    files::{self, FileError, Pair},
};
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long before its end a certificate is spoken of, and how often.
const NEAR_END: Duration = Duration::from_secs(14 * 24 * 3600);
const REMIND_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Where a server's certificate comes from, and whom it lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// What it shows.
    pub pair: Pair,
    /// `None`: no client is asked for a certificate.
    pub clients: Option<Clients>,
}

/// Which certificates of clients count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// The authorities that make them, a PEM file.
    pub ca: PathBuf,
    /// A client without one is not let in.
    pub required: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Server {
    files: ServerFiles,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    certificate: Certificate,
    /// What was read last, used or not: what has not changed is not judged again.
    seen: Vec<Vec<u8>>,
}

/// What a look at the files found.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// What was there before.
    Same,
    /// Something new, which counts from now on.
    Changed,
    /// Something that cannot be used: what was before goes on.
    Refused(FileError),
}

impl Server {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn open(files: ServerFiles) -> Result<Arc<Self>, FileError> {
        let seen = files.read()?;
        let (config, certificate) = files.make(&seen)?;
        Ok(Arc::new(Self { files, current: ArcSwap::from_pointee(Loaded { config, certificate, seen }) }))
    }

    /// What the next connection is spoken to with.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load().config.clone()
    }

    /// What it shows.
    #[must_use]
    pub fn certificate(&self) -> Certificate {
        self.current.load().certificate.clone()
    }

    /// Looks at the files. Blocks; one caller at a time.
    pub fn look(&self) -> Look {
        let seen = match self.files.read() {
            Ok(seen) => seen,
            Err(error) => return Look::Refused(error),
        };
        let before = self.current.load_full();
        if before.seen == seen {
            return Look::Same;
        }
        match self.files.make(&seen) {
            Ok((config, certificate)) => {
                self.current.store(Arc::new(Loaded { config, certificate, seen }));
                Look::Changed
            }
            Err(error) => Look::Refused(error),
        }
    }

    /// Looks at the files each second, and says in the log what came of it, until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut refused, mut reminded) = (None, None::<SystemTime>);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let this = self.clone();
            match tokio::task::spawn_blocking(move || this.look()).await.unwrap_or(Look::Same) {
                Look::Same => refused = None,
                Look::Changed => {
                    (refused, reminded) = (None, None);
                    let certificate = self.certificate();
                    let serial = certificate.serial;
                    tracing::info!(serial, "the certificates changed: new connections get the new ones");
                }
                Look::Refused(error) => {
                    if refused.as_ref() != Some(&error) {
                        tracing::warn!(%error, "changed certificates cannot be used: the old ones go on");
                    }
                    refused = Some(error);
                }
            }
            let now = SystemTime::now();
            if reminded.is_none_or(|then| now.duration_since(then).is_ok_and(|age| age > REMIND_EVERY)) {
                reminded = Some(now);
                self.remind(now);
            }
        }
    }

    fn remind(&self, now: SystemTime) {
        let left = self.certificate().expires.duration_since(now).unwrap_or_default();
        let cert = self.files.pair.cert.display();
        if left.is_zero() {
            tracing::error!(%cert, "the certificate has expired: nobody who looks at it connects any more");
        } else if left < NEAR_END {
            tracing::warn!(%cert, days = left.as_secs() / 86_400, "the certificate expires soon");
        }
    }
}

impl ServerFiles {
    fn read(&self) -> Result<Vec<Vec<u8>>, FileError> {
        let ca = self.clients.as_ref().map(|clients| &clients.ca);
        [&self.pair.cert, &self.pair.key].into_iter().chain(ca).map(|file| files::read(file)).collect()
    }

    fn make(&self, read: &[Vec<u8>]) -> Result<(Arc<ServerConfig>, Certificate), FileError> {
        let Pair { cert, key } = &self.pair;
        let [chain, private, ca @ ..] = read else { unreachable!("two files are always read") };
        let chain = files::certificates(cert, chain)?;
        let certificate = Certificate::read(&chain[0]).map_err(|what| FileError::new(cert, what))?;
        if certificate.expires <= SystemTime::now() {
            return Err(FileError::new(cert, "holds a certificate that has expired"));
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| FileError { file: None, what: error.to_string() })?;
        let builder = match (&self.clients, ca) {
            (Some(clients), [pem, ..]) => {
                let roots = files::roots(&clients.ca, pem)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = if clients.required { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|error| FileError::new(&clients.ca, error))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, files::key(key, private)?)
            .map_err(|error| FileError::new(key, format!("does not go with {}: {error}", cert.display())))?;
        config.alpn_protocols = vec![H2.to_vec()];
        // Nobody comes back without showing his certificate: it may have expired meanwhile.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok((Arc::new(config), certificate))
    }
}
