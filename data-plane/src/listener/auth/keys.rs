//! The issuer's public keys (RFC 7517), from a file or a URL: read when first needed, again when they changed,
//! and kept for as long as nothing better can be had.
//!
//! Whoever sends tokens with made-up key ids must not make us ask the issuer more often than [`REFRESH_EVERY`].

use http::Uri;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use o1_proto::model::KeySource;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, timeout};

/// The shortest time between two attempts to read a URL.
pub(super) const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// Keys from a URL are read again after this long even when nothing seems to be missing: one may be withdrawn.
pub(super) const MAX_AGE: Duration = Duration::from_secs(3600);
/// The shortest time between two looks at a file.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const FETCH_WITHIN: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 1 << 20;

/// There are no keys, and none can be had now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotHad;

/// The keys of one issuer. A configuration that names another place begins anew.
#[derive(Default)]
pub(super) struct Keys(Mutex<Option<Arc<Source>>>);

struct Source {
    place: KeySource,
    held: Mutex<Option<Arc<Vec<Key>>>>,
    /// Locked by whoever reads; others wait for it, or do with what is there.
    reading: tokio::sync::Mutex<Attempt>,
}

#[derive(Default)]
struct Attempt {
    at: Option<Instant>,
    /// What the file was like when it was read.
    stamp: Option<Stamp>,
    failing: bool,
}

/// Changes with a file.
type Stamp = (Option<SystemTime>, u64, u64);

/// One public key.
struct Key {
    id: Option<String>,
    /// Named by the issuer; `None`: any that fits.
    only: Option<Algorithm>,
    key: DecodingKey,
}

impl Keys {
    /// The keys that may have signed a token with this header. Reads them where that may help.
    pub(super) async fn find(
        &self,
        place: &KeySource,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<DecodingKey>, NotHad> {
        let source = self.source(place);
        let mut keys = source.current().await;
        let mut found = keys.as_deref().map(|keys| fitting(keys, id, algorithm)).unwrap_or_default();
        if found.is_empty() {
            keys = source.refresh(REFRESH_EVERY).await;
            found = keys.as_deref().map(|keys| fitting(keys, id, algorithm)).unwrap_or_default();
        }
        if keys.is_none() { Err(NotHad) } else { Ok(found) }
    }

    fn source(&self, place: &KeySource) -> Arc<Source> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_ref().filter(|source| source.place == *place) {
            Some(source) => source.clone(),
            None => held.insert(Arc::new(Source::new(place.clone()))).clone(),
        }
    }
}

impl Source {
    fn new(place: KeySource) -> Self {
        Self { place, held: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    fn held(&self) -> Option<Arc<Vec<Key>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys at hand, as fresh as they should be.
    async fn current(&self) -> Option<Arc<Vec<Key>>> {
        let stale = match &self.place {
            KeySource::File(_) => LOOK_EVERY,
            KeySource::Url(_) => MAX_AGE,
        };
        let held = self.held();
        // Somebody reads already: what is there is good enough.
        if held.is_some() && self.reading.try_lock().is_err() {
            return held;
        }
        self.refresh(stale).await
    }

    /// Reads, unless somebody did less than `every` ago; the keys then.
    async fn refresh(&self, every: Duration) -> Option<Arc<Vec<Key>>> {
        let mut attempt = self.reading.lock().await;
        let every = match &self.place {
            KeySource::File(_) => LOOK_EVERY.min(every),
            // What has never been had is tried as often as may be.
            KeySource::Url(_) if self.held().is_none() => REFRESH_EVERY.min(every),
            KeySource::Url(_) => every,
        };
        if attempt.at.is_some_and(|at| at.elapsed() < every) {
            return self.held();
        }
        let read = match &self.place {
            KeySource::File(path) => read_file(path, &mut attempt.stamp).await,
            KeySource::Url(url) => fetch(url).await.map(Some),
        };
        // Only now, so that a caller who gives up half-way has not tried.
        attempt.at = Some(Instant::now());
        let parsed = read.and_then(|read| read.map(|bytes| parse(&bytes)).transpose());
        match parsed {
            Ok(None) => {}
            Ok(Some(keys)) => {
                tracing::info!(
                    keys = keys.len(),
                    place = self.word(),
                    "read the keys that tokens are signed with"
                );
                attempt.failing = false;
                *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
            }
            Err(error) if attempt.failing => tracing::debug!(error, "still no keys"),
            Err(error) => {
                attempt.failing = true;
                let kept = self.held().map_or(0, |keys| keys.len());
                tracing::warn!(
                    error,
                    kept,
                    place = self.word(),
                    "cannot read the keys that tokens are signed with"
                );
            }
        }
        self.held()
    }

    fn word(&self) -> String {
        match &self.place {
            KeySource::File(path) => path.clone(),
            // A query may hold a secret.
            KeySource::Url(url) => {
                format!("{}{}", url.authority().map_or("", |one| one.as_str()), url.path())
            }
        }
    }
}

/// The keys with this id, or all when the token names none; of the kind that signs like this.
fn fitting(keys: &[Key], id: Option<&str>, algorithm: Algorithm) -> Vec<DecodingKey> {
    let named = |key: &&Key| id.is_none() || key.id.as_deref() == id;
    let kind =
        |key: &&Key| key.key.family() == family(algorithm) && key.only.is_none_or(|only| only == algorithm);
    keys.iter().filter(named).filter(kind).map(|key| key.key.clone()).collect()
}

fn family(algorithm: Algorithm) -> AlgorithmFamily {
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => AlgorithmFamily::Ec,
        Algorithm::EdDSA => AlgorithmFamily::Ed,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => AlgorithmFamily::Hmac,
        _ => AlgorithmFamily::Rsa,
    }
}

/// Every key of a set that may sign; what this build does not know is passed over.
fn parse(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set: JwkSet =
        serde_json::from_slice(bytes).map_err(|error| format!("not a set of keys (RFC 7517): {error}"))?;
    let keys: Vec<_> = set.keys.iter().filter_map(key).collect();
    if keys.is_empty() {
        return Err("the set has no public key for signatures".to_owned());
    }
    Ok(keys)
}

fn key(jwk: &Jwk) -> Option<Key> {
    if matches!(&jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok().filter(|key| key.family() != AlgorithmFamily::Hmac)?;
    // An algorithm that signs nothing: a key for encryption.
    let only = jwk.common.key_algorithm.map(|named| named.to_string().parse()).transpose().ok()?;
    Some(Key { id: jwk.common.key_id.clone(), only, key })
}

/// `None`: as it was.
async fn read_file(path: &str, last: &mut Option<Stamp>) -> Result<Option<Vec<u8>>, String> {
    let read = async {
        let metadata = tokio::fs::metadata(path).await?;
        let stamp = (metadata.modified().ok(), metadata.len(), inode(&metadata));
        if *last == Some(stamp) {
            return Ok(None);
        }
        if metadata.len() > MAX_BYTES as u64 {
            return Err(io::Error::other("larger than 1 MiB"));
        }
        let bytes = tokio::fs::read(path).await?;
        *last = Some(stamp);
        Ok(Some(bytes))
    };
    read.await.map_err(|error: io::Error| error.to_string())
}

fn inode(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

async fn fetch(url: &Uri) -> Result<Vec<u8>, String> {
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(|error| format!("the system's certificate store cannot be read: {error}"))?
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .build();
    let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let fetched = async {
        let response = client.get(url.clone()).await.map_err(|error| chain(&error))?;
        if !response.status().is_success() {
            return Err(format!("HTTP {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
        body.map(|body| body.to_bytes().to_vec()).map_err(|error| chain(error.as_ref()))
    };
    timeout(FETCH_WITHIN, fetched).await.unwrap_or_else(|_| Err(format!("no answer within {FETCH_WITHIN:?}")))
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
