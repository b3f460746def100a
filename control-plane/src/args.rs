//! What was typed → what is true, before anything is touched.

use crate::fleet::ROTATION;
use clap::{Parser, builder::FalseyValueParser, error::ErrorKind};
use o1_process::LogFormat;
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
    /// Allow --listen on an address that other machines reach. Nothing is encrypted and nobody is asked who he is:
    /// whoever reaches the port can read the configuration and pose as a node.
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

impl Args {
    /// Reads a command line, the name of the program first.
    ///
    /// # Errors
    /// What is wrong with it; also the help text and the version, when those were asked for.
    pub fn read(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let args = Self::try_parse_from(line)?;
        if !args.listen.ip().is_loopback() && !args.insecure_listen {
            let what = format!(
                "--listen {} can be reached from other machines, and this port is neither encrypted nor \
                 authenticated: listen on 127.0.0.1, or accept that with --insecure-listen\n",
                args.listen
            );
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
    fn a_value_that_is_none_names_its_flag() {
        assert!(read("--listen nowhere").unwrap_err().contains("--listen"));
        assert!(read("--key-rotation 0").unwrap_err().contains("--key-rotation"));
    }
}
