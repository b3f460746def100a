//! What the node was told: flags, and the configuration in force with every default filled in. Nothing of it is a
//! secret; see `o1_proto::model::shown`.

use super::super::Options;
use o1_proto::model::Fleet;
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Settings<'a> {
    flags: &'a Options,
    /// Absent: nothing was ever applied.
    config: Option<&'a Fleet>,
}

impl<'a> Settings<'a> {
    pub(super) fn of(flags: &'a Options, config: Option<&'a Fleet>) -> Self {
        Self { flags, config }
    }
}
