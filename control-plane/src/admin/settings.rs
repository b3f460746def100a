//! What this process was told: flags, and the configuration in force with every default filled in. Nothing of it is a
//! secret; see `o1_proto::model::shown`.

use crate::{
    args::Args,
    config::{Revision, Version},
    status::time::rfc3339,
};
use o1_proto::model::Fleet;
use serde::Serialize;
use std::time::SystemTime;

#[derive(Serialize)]
pub(super) struct Settings<'a> {
    flags: &'a Args,
    /// Absent: nothing was ever accepted.
    config: Option<Config<'a>>,
}

#[derive(Serialize)]
struct Config<'a> {
    #[serde(flatten)]
    version: &'a Version,
    #[serde(serialize_with = "rfc3339")]
    accepted_at: SystemTime,
    source: &'a str,
    #[serde(flatten)]
    fleet: &'a Fleet,
}

impl<'a> Settings<'a> {
    pub(super) fn of(flags: &'a Args, running: Option<&'a Revision>) -> Self {
        let config = running.map(|revision| Config {
            version: &revision.version,
            accepted_at: revision.accepted_at,
            source: &revision.source,
            fleet: &revision.fleet,
        });
        Self { flags, config }
    }
}
