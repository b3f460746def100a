//! [`Clients`] ↔ wire. Zero and absent mean the default.

use super::{At, duration, duration_or, failover, from_duration};
use crate::{
    model::{Catalogue, Clients},
    wire,
};

pub(super) fn encode(clients: &Clients) -> wire::Clients {
    wire::Clients {
        origins: clients.origins.clone(),
        hosts: clients.hosts.clone(),
        max_body_bytes: clients.max_body_bytes,
        session_idle: Some(from_duration(clients.session_idle)),
        max_sessions: clients.max_sessions,
        catalogue: Some(wire::CatalogueSettings {
            page: clients.catalogue.page,
            refresh: Some(from_duration(clients.catalogue.refresh)),
            wait: Some(from_duration(clients.catalogue.wait)),
        }),
        session_lifetime: Some(from_duration(clients.session_lifetime)),
        sse: clients.sse,
        failover_metadata: failover::encode_metadata(clients.failover_metadata),
    }
}

pub(super) fn decode(at: &mut At<'_>, payload: &[u8]) -> Option<Clients> {
    let wire: wire::Clients = at.message(payload)?;
    let default = Clients::default();
    Some(Clients {
        origins: wire.origins,
        hosts: wire.hosts,
        max_body_bytes: if wire.max_body_bytes == 0 { default.max_body_bytes } else { wire.max_body_bytes },
        session_idle: duration_or(wire.session_idle.as_ref(), default.session_idle),
        max_sessions: if wire.max_sessions == 0 { default.max_sessions } else { wire.max_sessions },
        catalogue: decode_catalogue(&wire.catalogue.unwrap_or_default()),
        session_lifetime: duration_or(wire.session_lifetime.as_ref(), default.session_lifetime),
        sse: wire.sse,
        failover_metadata: failover::decode_metadata(at, wire.failover_metadata),
    })
}

fn decode_catalogue(wire: &wire::CatalogueSettings) -> Catalogue {
    let default = Catalogue::default();
    Catalogue {
        page: if wire.page == 0 { default.page } else { wire.page },
        refresh: duration_or(wire.refresh.as_ref(), default.refresh),
        wait: duration(wire.wait.as_ref()).unwrap_or(default.wait),
    }
}
