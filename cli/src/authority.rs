//! A small private authority: makes certificates for the planes and for those who ask them. Pure, but for keys, which
//! are random: the caller reads and writes files.
//!
//! A control plane's certificate is for hosts and for the server's side alone; that of a node or a person names one URI
//! `only1://ROLE/NAME` and is for the client's side alone, so that neither can stand in for the other.

use jiff::{ToSpan as _, civil::Date};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, Error,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

/// How long an authority is for.
const AUTHORITY_YEARS: i32 = 10;

/// A certificate and its key, PEM.
pub struct Made {
    /// For everybody.
    pub cert: String,
    /// For its owner.
    pub key: String,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A control plane, as those who connect call it.
    Hosts(Vec<String>),
    /// A node or a person, by URI.
    Uri(String),
}

impl Subject {
    /// A control plane is called so too; a node or a person has no host.
    pub fn with(self, more: &[String]) -> Self {
        match self {
            Self::Hosts(mut hosts) => {
                for host in more {
                    if !hosts.contains(host) {
                        hosts.push(host.clone());
                    }
                }
                Self::Hosts(hosts)
            }
            Self::Uri(uri) => Self::Uri(uri),
        }
    }

    /// For people.
    pub fn shown(&self) -> String {
        match self {
            Self::Uri(uri) => uri.clone(),
            Self::Hosts(hosts) => hosts.join(", "),
        }
    }
}

/// An authority that can make certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one: its certificate and its key.
    ///
    /// # Errors
    /// The library cannot make it.
    pub fn make(today: Date) -> Result<(Self, Made), Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        // Two of them are told apart by name too, so that who compares files sees which made what.
        let mark = blake3::hash(key.public_key_raw()).to_hex();
        params.distinguished_name = called(&format!("only1 authority {}", &mark.as_str()[..8]));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut params, today, today.saturating_add(AUTHORITY_YEARS.years()));
        let pem = key.serialize_pem();
        let cert = CertifiedIssuer::self_signed(params, key)?.pem();
        let authority = Self::open(&cert, &pem)?;
        Ok((authority, Made { cert, key: pem }))
    }

    /// The one of this certificate and key.
    ///
    /// # Errors
    /// They are none, or do not belong together.
    pub fn open(cert: &str, key: &str) -> Result<Self, Error> {
        let issuer = Issuer::from_ca_cert_pem(cert, KeyPair::from_pem(key)?)?;
        Ok(Self { issuer })
    }

    /// A certificate for so many days from today on.
    ///
    /// # Errors
    /// The library cannot make it.
    pub fn issue(&self, subject: &Subject, today: Date, days: u16) -> Result<Made, Error> {
        let mut params = match subject {
            Subject::Hosts(hosts) => {
                let mut params = CertificateParams::new(hosts.clone())?;
                params.distinguished_name = called("only1 control plane");
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                params
            }
            Subject::Uri(uri) => {
                let mut params = CertificateParams::default();
                params.distinguished_name = called(uri.rsplit('/').next().unwrap_or_default());
                params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                params
            }
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, today, today.saturating_add(i64::from(days).days()));
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Made { cert, key: key.serialize_pem() })
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

/// From the day before on, because clocks differ.
fn valid(params: &mut CertificateParams, today: Date, until: Date) {
    let moment = |date: Date| {
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        date_time_ymd(i32::from(date.year()), month, day)
    };
    params.not_before = moment(today.saturating_sub(1.day()));
    params.not_after = moment(until);
}

/// What a URI names, as a file is called: `node-n1`, `operator-ann`.
#[must_use]
pub fn file_name(subject: &Subject) -> String {
    match subject {
        Subject::Hosts(_) => "control-plane".to_owned(),
        Subject::Uri(uri) => uri.trim_start_matches("only1://").replace('/', "-"),
    }
}
