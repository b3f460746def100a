//! [`Server`] ↔ wire.

use super::At;
use crate::{
    model::{Selection, Server},
    wire::{self, RejectionReason},
};

pub(super) fn encode(server: &Server) -> wire::Server {
    wire::Server {
        name: server.name.clone(),
        upstreams: server.upstreams.clone(),
        tools: Some(encode_selection(&server.tools)),
        prompts: Some(encode_selection(&server.prompts)),
        resources: Some(encode_selection(&server.resources)),
        rename: server.rename.clone(),
        describe: server.describe.clone(),
    }
}

fn encode_selection(selection: &Selection) -> wire::Selection {
    wire::Selection { allow: selection.allow.clone(), deny: selection.deny.clone() }
}

pub(super) fn decode(at: &mut At<'_>, payload: &[u8]) -> Option<Server> {
    let wire: wire::Server = at.message(payload)?;
    if wire.name != at.key.name || wire.name.is_empty() {
        let what = format!("the server calls itself `{}`, its key says `{}`", wire.name, at.key.name);
        at.reject(RejectionReason::InvalidField, "name", what);
    }
    if wire.upstreams.is_empty() {
        at.reject(RejectionReason::InvalidField, "upstreams", "a server needs at least one upstream");
    }
    Some(Server {
        name: wire.name,
        upstreams: wire.upstreams,
        tools: decode_selection(wire.tools),
        prompts: decode_selection(wire.prompts),
        resources: decode_selection(wire.resources),
        rename: wire.rename,
        describe: wire.describe,
    })
}

fn decode_selection(wire: Option<wire::Selection>) -> Selection {
    let wire = wire.unwrap_or_default();
    let default = Selection::default();
    Selection { allow: if wire.allow.is_empty() { default.allow } else { wire.allow }, deny: wire.deny }
}
