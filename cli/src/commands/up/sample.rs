//! The two servers of the sample.

use super::{
    START,
    child::Role,
    crew::{Crew, Over},
    place::Place,
    programs::Programs,
    ready,
};
use crate::terminal::Terminal;
use std::{ffi::OsString, net::SocketAddr};

/// Process id and address of each.
pub struct Sample {
    /// The one that answers.
    pub primary: (u32, SocketAddr),
    /// The other one.
    pub backup: (u32, SocketAddr),
}

/// Starts both.
///
/// # Errors
/// One of them does not come up, or the work is over before.
pub async fn start(
    programs: &Programs,
    place: &Place,
    crew: &mut Crew,
    terminal: &mut Terminal,
) -> Result<Sample, Over> {
    let primary = one(Role::Primary, "primary", programs, place, crew, terminal).await?;
    let backup = one(Role::Backup, "backup", programs, place, crew, terminal).await?;
    Ok(Sample { primary, backup })
}

async fn one(
    role: Role,
    name: &str,
    programs: &Programs,
    place: &Place,
    crew: &mut Crew,
    terminal: &mut Terminal,
) -> Result<(u32, SocketAddr), Over> {
    let state = place.room(&format!("sample-{name}"))?;
    let flags: [(&str, OsString); 3] =
        [("--name", name.into()), ("--listen", "127.0.0.1:0".into()), ("--state-dir", state.clone().into())];
    let pid = crew.start(role, programs.sample_server(&flags))?;
    let listening = ready::listening(&state, role.name(), START);
    let address = crew.during(listening, terminal).await?.map_err(Over::Failed)?;
    Ok((pid, address))
}
