//! What a certificate says: names, and until when. Reads only what was verified, or what lies in our own files.

use super::files::{self, FileError};
use rustls::pki_types::CertificateDer;
use std::{
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
    time::ASN1Time,
};

/// A certificate, as far as anybody here asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// URIs among its alternative names, in its order.
    pub uris: Vec<String>,
    /// DNS names and addresses among them: what a server may be called.
    pub hosts: Vec<String>,
    /// Hexadecimal, with colons.
    pub serial: String,
    /// From when on it is valid.
    pub begins: SystemTime,
    /// Until when.
    pub expires: SystemTime,
    /// It may make others.
    pub authority: bool,
}

impl Certificate {
    /// Reads the encoded form.
    ///
    /// # Errors
    /// Why it is no certificate.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|error| format!("cannot be read: {error}"))?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| format!("has unreadable alternative names: {error}"))?;
        let (mut uris, mut hosts) = (Vec::new(), Vec::new());
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => hosts.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => hosts.extend(address(bytes).map(|ip| ip.to_string())),
                _ => {}
            }
        }
        Ok(Self {
            uris,
            hosts,
            serial: parsed.raw_serial_as_string(),
            begins: moment(parsed.validity().not_before),
            expires: moment(parsed.validity().not_after),
            authority: parsed.is_ca(),
        })
    }

    /// The first certificate of a PEM file.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(file: &Path) -> Result<Self, FileError> {
        let chain = files::certificates(file, &files::read(file)?)?;
        Self::read(&chain[0]).map_err(|what| FileError::new(file, what))
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn moment(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}
