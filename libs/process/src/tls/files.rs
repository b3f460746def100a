//! PEM files → certificates and keys. Each problem is said with its file, and without its content.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use std::{
    fmt::{self, Display},
    fs,
    path::{Path, PathBuf},
};

/// A certificate with its chain, and its key; both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, then those that lead to the authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A file cannot be used; says which and why, never what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// Which; `None`: no single one.
    pub file: Option<PathBuf>,
    /// Completes "file … ".
    pub what: String,
}

impl FileError {
    pub(super) fn new(file: &Path, what: impl Display) -> Self {
        Self { file: Some(file.to_owned()), what: what.to_string() }
    }
}

impl Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "file {} {}", file.display(), self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for FileError {}

/// What is in a file.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(file).map_err(|error| FileError::new(file, format!("cannot be read: {error}")))
}

/// The certificates of a PEM file, in its order.
///
/// # Errors
/// There is none.
pub(super) fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| FileError::new(file, format!("is no PEM: {error}")))?;
    if found.is_empty() { Err(FileError::new(file, "holds no certificate in PEM")) } else { Ok(found) }
}

/// The key of a PEM file.
///
/// # Errors
/// There is none.
pub(super) fn key(file: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| FileError::new(file, format!("holds no private key in PEM: {error}")))
}

/// The authorities of a PEM file.
///
/// # Errors
/// There is none, or something else.
pub(super) fn roots(file: &Path, pem: &[u8]) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, pem)? {
        roots
            .add(certificate)
            .map_err(|error| FileError::new(file, format!("holds a certificate of no authority: {error}")))?;
    }
    Ok(roots)
}
