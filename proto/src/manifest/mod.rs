//! The document that operators write (`only1.yaml`) → the model, with every problem at once.
//!
//! Bytes become a tree that knows its places (`document`), the tree is read section by section against one table
//! of keys (`keys`), and every problem is collected on the way (`report`). Touches no disk, no clock; never
//! panics, whatever the bytes; never puts a value of `headers` or `env` into a message.

mod auth;
mod balance;
mod cache;
mod clients;
mod connections;
mod document;
mod endpoint;
mod failover;
mod health;
mod keys;
mod names;
mod node;
mod path;
mod reader;
mod redact;
mod reference_page;
mod report;
pub mod rules;
mod schema;
mod servers;
mod spread;
mod suggest;
mod units;
mod upstream;
mod url;
mod values;

pub use self::{redact::redact, reference_page::reference_page, schema::json_schema, suggest::closest};

use self::{node::At, reader::Field, report::Report};
use crate::{model::Fleet, problem::Problem};

/// A valid document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What it means.
    pub fleet: Fleet,
    /// What its author should know although it is valid.
    pub warnings: Vec<Problem>,
}

/// An invalid document: every problem, in the order of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// At least one.
    pub problems: Vec<Problem>,
    /// As in [`Manifest::warnings`].
    pub warnings: Vec<Problem>,
}

/// Reads a document. `file` is its name in messages. Touches no disk, no clock.
///
/// # Errors
/// Every problem of the document.
pub fn parse(file: &str, text: &[u8]) -> Result<Manifest, Refused> {
    let report = Report::new(file);
    let fleet =
        document::read(text, &report).map(|node| fleet(&Field::root(&report, &node))).unwrap_or_default();
    let warnings = report.finish()?;
    Ok(Manifest { fleet, warnings })
}

fn fleet(root: &Field<'_>) -> Fleet {
    let map = root.clone().section(&keys::DOCUMENT);
    let upstreams = map.get("upstreams");
    let names: Vec<_> = upstreams.iter().flat_map(Field::keys).collect();
    if names.is_empty() {
        let place = upstreams.as_ref().map_or(At::default(), |field| field.key);
        let hint = "such as `upstreams: {weather: {primary: [{url: …}]}}`";
        root.report.warning(&rules::NO_UPSTREAMS, place, "upstreams", "nothing is served", hint);
    }
    let server_names: Vec<_> = map.get("servers").iter().flat_map(Field::keys).collect();
    let servers = map.get("servers").map(|field| servers::read(&field, &names)).unwrap_or_default();
    let caching = map.get("cache").map(cache::read).unwrap_or_default();
    let batching = map.get("batching").map(cache::read_batching).unwrap_or_default();
    let known = auth::Names { servers: &server_names, upstreams: &names };
    let (clients, auth) = map.get("clients").map(|field| clients::read(field, known)).unwrap_or_default();
    let upstreams = upstreams.map(|field| upstream::read(&field)).unwrap_or_default();
    Fleet { upstreams, servers, clients, auth, caching, batching }
}

#[cfg(test)]
mod tests;
