//! What was typed for every command.

use crate::{output::span, terminal::Colour};
use std::{path::PathBuf, time::Duration};

/// For every command.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// Where the control plane serves gRPC, https://HOST:PORT or http:// [default: that of the profile, or
    /// http://127.0.0.1:7400]
    #[arg(long, global = true, value_name = "URL", env = "O1_CONTROL")]
    pub control: Option<String>,
    /// The authority of its certificate (PEM) [default: the system's]
    #[arg(long, global = true, value_name = "FILE", env = "O1_CA")]
    pub ca: Option<PathBuf>,
    /// The certificate that says who you are (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "O1_CERT", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The key of --cert (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "O1_KEY", requires = "cert")]
    pub key: Option<PathBuf>,
    /// A file with the token that says who you are; the variable O1_TOKEN holds the token itself
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Which of the control planes in ~/.config/only1/o1ctl.toml
    #[arg(long, global = true, value_name = "NAME", env = "O1_PROFILE")]
    pub profile: Option<String>,
    /// Speak plaintext with another machine: everybody on the way reads it
    #[arg(long, global = true)]
    pub insecure_control: bool,
    /// The longest wait for a connection, and for an answer
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = span::parse)]
    pub timeout: Duration,
    /// Colour: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value = "auto",
        hide_possible_values = true
    )]
    pub color: Colour,
    /// Which of these stand on the command line, rather than in the environment.
    #[arg(skip)]
    pub typed: Typed,
}

/// What stands on the command line, rather than in the environment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Typed {
    /// `--control`.
    pub control: bool,
    /// `--profile`.
    pub profile: bool,
    /// `--ca`.
    pub ca: bool,
    /// `--cert` or `--key`.
    pub pair: bool,
}
