//! Values that a configuration only refers to, as this node finds them; what it lacks is noted, by names alone.

use super::{Endpoint, Missing};
use crate::tls;
use http::{HeaderMap, HeaderName, HeaderValue};
use o1_proto::model::{self, EndpointKind, Reference};
use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

/// Resolves what one upstream refers to.
pub(super) struct Resolver<'a> {
    upstream: &'a str,
    missing: &'a mut Vec<Missing>,
    hasher: blake3::Hasher,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(upstream: &'a str, missing: &'a mut Vec<Missing>) -> Self {
        Self { upstream, missing, hasher: blake3::Hasher::new() }
    }

    /// A hash over every value that was found.
    pub(super) fn into_hash(self) -> blake3::Hasher {
        self.hasher
    }

    pub(super) fn endpoint(
        &mut self,
        endpoint: &model::Endpoint,
        headers: &HeaderMap,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Endpoint {
        match &endpoint.kind {
            EndpointKind::Http { url, transport } => Endpoint::Http {
                url: url.clone(),
                transport: *transport,
                headers: headers.clone(),
                tls: tls.cloned(),
            },
            EndpointKind::Stdio { command, env, processes, cwd, idle_stop } => Endpoint::Stdio {
                command: command.clone(),
                env: env
                    .iter()
                    .filter_map(|(name, value)| {
                        Some((name.clone(), self.value(&format!("env.{name}"), value)?))
                    })
                    .collect(),
                cwd: cwd.as_ref().map(PathBuf::from),
                processes: *processes,
                idle_stop: *idle_stop,
            },
        }
    }

    /// `None` where nothing is said, and where something is wrong.
    pub(super) fn tls(&mut self, model: &model::Tls) -> Option<Arc<rustls::ClientConfig>> {
        if *model == model::Tls::default() {
            return None;
        }
        let lacking = self.missing.len();
        let ca = model.ca.as_ref().and_then(|path| self.file("tls.ca", path));
        let identity = model.identity.as_ref().and_then(|one| {
            let (cert, key) = (self.file("tls.cert", &one.cert), self.file("tls.key", &one.key));
            cert.zip(key)
        });
        if self.missing.len() > lacking {
            return None;
        }
        let identity = identity.as_ref().map(|(cert, key)| (&cert[..], &key[..]));
        match tls::client(ca.as_deref(), identity) {
            Ok(config) => Some(Arc::new(config)),
            Err(tls::Fault { key, what }) => {
                let path = match (key, &model.identity) {
                    ("cert", Some(one)) => &one.cert,
                    ("key", Some(one)) => &one.key,
                    _ => model.ca.as_deref().unwrap_or_default(),
                };
                self.lack(format!("tls.{key}"), format!("file {path} {what}"));
                None
            }
        }
    }

    fn file(&mut self, field: &str, path: &str) -> Option<Vec<u8>> {
        match fs::read(path) {
            Ok(content) => {
                self.hash(&content);
                Some(content)
            }
            Err(error) => {
                self.lack(field.to_owned(), format!("file {path} cannot be read on this node: {error}"));
                None
            }
        }
    }

    pub(super) fn headers(&mut self, headers: &BTreeMap<String, Reference>) -> HeaderMap {
        let mut resolved = HeaderMap::new();
        for (name, reference) in headers {
            let field = format!("headers.{name}");
            let Some(value) = self.value(&field, reference) else { continue };
            match (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value)) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    resolved.insert(name, value);
                }
                (Err(_), _) => self.lack(field, format!("`{name}` is not a header name")),
                (_, Err(_)) => self.lack(
                    field,
                    "the value cannot stand in a header (line end or control character)".to_owned(),
                ),
            }
        }
        resolved
    }

    fn value(&mut self, field: &str, reference: &Reference) -> Option<String> {
        let found = match reference {
            Reference::Literal(value) => Ok(value.clone()),
            Reference::Env(name) => std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => {
                    format!("environment variable {name} is not set on this node")
                }
                std::env::VarError::NotUnicode(_) => format!("environment variable {name} is not UTF-8"),
            }),
            Reference::File(path) => fs::read_to_string(path)
                .map(|text| text.strip_suffix('\n').map_or(text.clone(), str::to_owned))
                .map_err(|error| format!("file {path} cannot be read on this node: {error}")),
        };
        match found {
            Ok(value) => {
                self.hash(value.as_bytes());
                Some(value)
            }
            Err(what) => {
                self.lack(field.to_owned(), what);
                None
            }
        }
    }

    fn hash(&mut self, value: &[u8]) {
        self.hasher.update(&(value.len() as u64).to_be_bytes());
        self.hasher.update(value);
    }

    fn lack(&mut self, field: String, what: String) {
        self.missing.push(Missing { upstream: self.upstream.to_owned(), field, what });
    }
}
