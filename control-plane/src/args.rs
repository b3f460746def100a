//! What was typed → what is true, before anything is touched.

use crate::fleet::ROTATION;
use clap::{Parser, builder::FalseyValueParser, error::ErrorKind};
use o1_process::{
    LogFormat,
    tls::{Clients, Pair, ServerFiles},
};
use serde::Serialize;
use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

/// The only1 control plane: owns the configuration of a fleet of gateways and shows its state.
#[derive(Debug, Clone, Parser, Serialize)]
#[command(name = "o1-control-plane", version = o1_process::VERSION)]
pub struct Args {
    /// The file that says what the fleet runs. May appear, change and disappear later. Without one the API does:
    /// o1ctl config apply; what was accepted last is in the state directory.
    #[arg(long, value_name = "FILE", env = "O1_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where nodes and o1ctl connect (gRPC). Port 0 lets the system choose.
    #[arg(long, value_name = "ADDR", env = "O1_LISTEN", default_value = "127.0.0.1:7400")]
    pub listen: SocketAddr,
    /// Where /livez, /readyz, /health, /status, /stats, /state, /settings, /metrics and /version answer (HTTP).
    #[arg(long, value_name = "ADDR", env = "O1_ADMIN", default_value = "127.0.0.1:7401")]
    pub admin: SocketAddr,
    /// What outlives the process: the history of the configuration, the nodes that were seen.
    #[arg(long, value_name = "DIR", env = "O1_STATE_DIR")]
    pub state_dir: PathBuf,
    /// How log lines look: text or json.
    #[arg(long, value_name = "FORMAT", env = "O1_LOG_FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// By what nodes and people are known.
    #[command(flatten)]
    #[serde(flatten)]
    pub trust: Trust,
    /// Allow --listen on an address that other machines reach without TLS. Nothing is encrypted, and without --tokens
    /// nobody is asked who he is: whoever reaches the port can change everything and pose as a node.
    #[arg(long, env = "O1_INSECURE_LISTEN", value_parser = FalseyValueParser::new())]
    pub insecure_listen: bool,
    /// How often nodes seal session ids and other tokens with another key, in seconds.
    #[arg(long, value_name = "SECONDS", env = "O1_KEY_ROTATION", default_value_t = ROTATION.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub key_rotation: u64,
    /// Decide about failovers and write the decisions into the log, but tell no node. What is ordered by hand is sent.
    #[arg(long, env = "O1_SHADOW", value_parser = FalseyValueParser::new())]
    pub shadow: bool,
}

/// By what nodes and people are known.
#[derive(Debug, Clone, Default, clap::Args, Serialize)]
pub struct Trust {
    /// The certificate of this control plane and its chain (PEM): gRPC is served over TLS. Read again when it changes;
    /// o1ctl certs init makes one.
    #[arg(long, value_name = "FILE", env = "O1_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of --tls-cert (PEM).
    #[arg(long, value_name = "FILE", env = "O1_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The authority whose certificates let nodes and people in (PEM). A certificate says who it is for by a URI:
    /// only1://node/NODE_ID, or only1://viewer/NAME, editor or operator. Without --tokens nobody comes in without one.
    #[arg(long, value_name = "FILE", env = "O1_CLIENT_CA", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,
    /// Bearer tokens that let nodes and people in: lines of NAME ROLE blake3:HASH, or file:PATH for the hash. Read again
    /// when it changes; o1ctl token new --role makes a line.
    #[arg(long, value_name = "FILE", env = "O1_TOKENS")]
    pub tokens: Option<PathBuf>,
}

impl Trust {
    /// The files that TLS is made of; `None`: plaintext.
    #[must_use]
    pub fn server(&self) -> Option<ServerFiles> {
        let pair = Pair { cert: self.tls_cert.clone()?, key: self.tls_key.clone()? };
        let required = self.tokens.is_none();
        Some(ServerFiles { pair, clients: self.client_ca.clone().map(|ca| Clients { ca, required }) })
    }

    /// Why nobody could come in, or anybody.
    fn problem(&self, listen: SocketAddr, insecure: bool) -> Option<String> {
        if self.tls_cert.is_some() {
            let closed = self.client_ca.is_none() && self.tokens.is_none();
            return closed.then(|| {
                "--tls-cert alone lets nobody in: say with --client-ca whose certificates count, or with --tokens which \
                 tokens do\n"
                    .to_owned()
            });
        }
        (!listen.ip().is_loopback() && !insecure).then(|| {
            format!(
                "--listen {listen} can be reached from other machines, and this port is not encrypted: give it a \
                 certificate with --tls-cert, --tls-key and --client-ca (o1ctl certs init makes them), listen on \
                 127.0.0.1, or accept that with --insecure-listen\n"
            )
        })
    }
}

impl Args {
    /// Reads a command line, the name of the program first.
    ///
    /// # Errors
    /// What is wrong with it; also the help text and the version, when those were asked for.
    pub fn read(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let args = Self::try_parse_from(line)?;
        if let Some(what) = args.trust.problem(args.listen, args.insecure_listen) {
            return Err(clap::Error::raw(ErrorKind::ValueValidation, what));
        }
        Ok(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Args, String> {
        let line = format!("o1-control-plane --state-dir /tmp/x {line}");
        Args::read(line.split_whitespace()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let args = read("").unwrap();
        assert_eq!(args.listen, "127.0.0.1:7400".parse().unwrap());
        assert_eq!(args.admin, "127.0.0.1:7401".parse().unwrap());
        assert_eq!(args.config, None, "the API says what runs");
        assert_eq!(args.key_rotation, 24 * 3600);
        assert!(!args.shadow && read("--shadow").unwrap().shadow);
    }

    #[test]
    fn plaintext_off_the_machine_has_to_be_asked_for_by_name() {
        for open in ["0.0.0.0:7400", "192.168.1.2:0", "[::]:7400"] {
            let error = read(&format!("--listen {open}")).unwrap_err();
            assert!(error.contains("--insecure-listen") && error.contains(open), "{error}");
            assert!(read(&format!("--listen {open} --insecure-listen")).is_ok(), "{open}");
        }
        for loopback in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:7400"] {
            assert!(read(&format!("--listen {loopback}")).is_ok(), "{loopback}");
        }
    }

    #[test]
    fn with_a_certificate_any_address_is_fine_and_somebody_has_to_count() {
        let tls = "--listen 0.0.0.0:0 --tls-cert c --tls-key k";
        assert!(read(tls).unwrap_err().contains("lets nobody in"));
        let by_certificate = read(&format!("{tls} --client-ca a")).unwrap().trust.server().unwrap();
        assert!(by_certificate.clients.unwrap().required);
        let by_both = read(&format!("{tls} --client-ca a --tokens t")).unwrap().trust.server().unwrap();
        assert!(!by_both.clients.unwrap().required, "a token will do");
        assert_eq!(read(&format!("{tls} --tokens t")).unwrap().trust.server().unwrap().clients, None);
        assert_eq!(read("--tokens t").unwrap().trust.server(), None);
        for half in ["--tls-cert c", "--tls-key k", "--client-ca a"] {
            assert!(read(half).unwrap_err().contains("--tls-"), "{half}");
        }
    }

    #[test]
    fn a_value_that_is_none_names_its_flag() {
        assert!(read("--listen nowhere").unwrap_err().contains("--listen"));
        assert!(read("--key-rotation 0").unwrap_err().contains("--key-rotation"));
    }
}
