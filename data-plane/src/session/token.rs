//! What a session id says to another node that holds the keys: enough to go on with the session. Plain functions
//! of their input.
//!
//! An id is a header of every request, so it must stay small: what a client says of itself beyond its name and
//! capabilities does not travel when there is no room for it.

use crate::{
    call::Serial,
    failure::{Failure, Kind},
    mcp::{Message, era, json, method, rpc},
    principal::Principal,
    seal::{Keyring, Purpose},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most bytes inside an id, which is then below 6 KiB.
const INSIDE_MAX: usize = 4400;

/// What stands in an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inside {
    pub(super) serial: Serial,
    /// To the second.
    pub(super) began: SystemTime,
    /// See [`crate::call::Route::name`].
    pub(super) route: String,
    pub(super) version: &'static str,
    /// `params` of the client's `initialize`, shortened if need be.
    pub(super) params: Bytes,
    /// Set when exchanges pass through.
    pub(super) remote: Option<RemoteMark>,
}

/// The upstream's side of a session that passes through, on any node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RemoteMark {
    /// See [`crate::plan::Upstream::endpoint_mark`].
    #[serde(rename = "e")]
    pub(super) endpoint: u64,
    /// `None`: too long to travel.
    #[serde(rename = "i")]
    pub(super) id: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(rename = "s")]
    serial: u128,
    #[serde(rename = "t")]
    began: u64,
    #[serde(rename = "r")]
    route: String,
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "p", borrow)]
    params: &'a RawValue,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    remote: Option<RemoteMark>,
}

impl Inside {
    /// The id, for `principal` alone.
    ///
    /// # Errors
    /// The client says so much of its capabilities that no id can carry it.
    pub(super) fn seal(mut self, keyring: &Keyring, principal: &Principal) -> Result<String, Failure> {
        let params = match self.params_that_fit() {
            // With an endless id of an upstream's session in it. Another node opens one anew.
            Err(_) if self.remote.as_mut().and_then(|remote| remote.id.take()).is_some() => {
                self.params_that_fit()
            }
            params => params,
        }?;
        let params = serde_json::from_slice(&params).expect("the params of a message are JSON");
        Ok(keyring.seal(Purpose::Session, principal, &self.bytes(params)))
    }

    /// What an id says; `None` for anything that is not one of ours for `principal`.
    pub(super) fn open(keyring: &Keyring, principal: &Principal, id: &str) -> Option<Self> {
        let inside = keyring.open(Purpose::Session, principal, id)?;
        let wire: Wire<'_> = serde_json::from_slice(&inside).ok()?;
        let version = era::LEGACY.into_iter().find(|known| *known == wire.version)?;
        Some(Self {
            serial: wire.serial.to_be_bytes(),
            began: UNIX_EPOCH + Duration::from_secs(wire.began),
            route: wire.route,
            version,
            params: Bytes::copy_from_slice(wire.params.get().as_bytes()),
            remote: wire.remote,
        })
    }

    /// The client's `initialize`, as far as it travelled; `None` if it is none.
    pub(super) fn initialize(&self) -> Option<Message> {
        Message::parse(&rpc::request(b"0", method::INITIALIZE, &self.params)).ok()
    }

    fn params_that_fit(&self) -> Result<Bytes, Failure> {
        let rest = self.bytes(RawValue::NULL).len();
        shortened(&self.params, INSIDE_MAX.saturating_sub(rest))
    }

    fn bytes(&self, params: &RawValue) -> Vec<u8> {
        let wire = Wire {
            serial: u128::from_be_bytes(self.serial),
            began: self.began.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            route: self.route.clone(),
            version: self.version.to_owned(),
            params,
            remote: self.remote.clone(),
        };
        serde_json::to_vec(&wire).expect("plain values serialise")
    }
}

/// `params` in at most `room` bytes: as they are; else without what the client adds to its name and version; else
/// only what a server needs to know.
fn shortened(params: &Bytes, room: usize) -> Result<Bytes, Failure> {
    if params.len() <= room {
        return Ok(params.clone());
    }
    let all = 0..params.len();
    let find = |path: &[&str]| {
        let found = json::find(params, &all, path).ok().flatten();
        found.map_or("null", |at| std::str::from_utf8(&params[at]).unwrap_or("null"))
    };
    let client = format!(
        r#"{{"name":{},"version":{}}}"#,
        find(&["clientInfo", "name"]),
        find(&["clientInfo", "version"])
    );
    if let Ok(Some(at)) = json::find(params, &all, &["clientInfo"]) {
        let less = json::splice(params, vec![(at, client.clone().into_bytes())]);
        if less.len() <= room {
            return Ok(less);
        }
    }
    let least = format!(
        r#"{{"protocolVersion":{},"capabilities":{},"clientInfo":{client}}}"#,
        find(&["protocolVersion"]),
        find(&["capabilities"]),
    );
    if least.len() <= room {
        return Ok(least.into());
    }
    let what =
        format!("`initialize` is too large: capabilities and the client's name have {room} bytes together");
    Err(Failure::new(Kind::InvalidRequest, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Access;
    use proptest::prelude::*;

    fn principal(id: &str) -> Principal {
        Principal { id: id.into(), access: Access::everything() }
    }

    fn inside(params: &str) -> Inside {
        Inside {
            serial: [7; 16],
            began: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            route: "/u/weather".into(),
            version: era::LEGACY[0],
            params: Bytes::copy_from_slice(params.as_bytes()),
            remote: Some(RemoteMark { endpoint: u64::MAX, id: Some("theirs".into()) }),
        }
    }

    #[test]
    fn another_node_reads_what_this_one_wrote_and_another_principal_reads_nothing() {
        let (here, there) = (Keyring::local(), Keyring::local());
        let key = [crate::seal::Key { id: [1; 4], secret: [2; 32] }];
        here.replace(&key);
        there.replace(&key);
        // Unknown members, spellings of numbers and order survive.
        let written = inside(r#"{ "z":1.10,"protocolVersion":"2025-11-25","capabilities":{"x":1e5}}"#);
        let id = written.clone().seal(&here, &principal("token:a")).unwrap();
        assert!(id.len() < 400, "{}", id.len());
        assert_eq!(Inside::open(&there, &principal("token:a"), &id), Some(written.clone()));
        assert_eq!(Inside::open(&there, &principal("token:b"), &id), None);
        assert_eq!(Inside::open(&Keyring::local(), &principal("token:a"), &id), None);
        assert_eq!(written.initialize().unwrap().params(), Some(&written.params[..]));
    }

    #[test]
    fn what_a_client_says_beside_its_name_goes_first_when_there_is_no_room() {
        let ring = Keyring::local();
        let opened = |params: String| {
            let id = inside(&params).seal(&ring, &principal("")).map_err(|failure| failure.kind)?;
            assert!(id.len() < 6 << 10, "{}", id.len());
            let params = Inside::open(&ring, &principal(""), &id).unwrap().params;
            Ok::<_, Kind>(String::from_utf8(params.to_vec()).unwrap())
        };
        let params = |client: &str, more: &str, capabilities: &str| {
            format!(
                r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"clientInfo":{{"name":"n","version":"1"{client}}}{more}}}"#
            )
        };
        let long = "x".repeat(5000);
        let plain = params("", "", "{}");
        assert_eq!(opened(plain.clone()).unwrap(), plain);
        let icon = format!(r#","icons":[{{"src":"{long}"}}]"#);
        assert_eq!(opened(params(&icon, r#","kept":1"#, "{}")).unwrap(), params("", r#","kept":1"#, "{}"));
        let meta = format!(r#","_meta":{{"x":"{long}"}}"#);
        assert_eq!(
            opened(params(&icon, &meta, r#"{"roots":{}}"#)).unwrap(),
            params("", "", r#"{"roots":{}}"#)
        );
        assert_eq!(opened(params("", "", &format!(r#"{{"x":"{long}"}}"#))), Err(Kind::InvalidRequest));
    }

    #[test]
    fn an_upstream_with_endless_session_ids_costs_only_its_own_part() {
        let ring = Keyring::local();
        let remote = Some(RemoteMark { endpoint: 1, id: Some("x".repeat(5000)) });
        let id = Inside { remote, ..inside("{}") }.seal(&ring, &principal("")).unwrap();
        let opened = Inside::open(&ring, &principal(""), &id).unwrap();
        assert_eq!(opened.remote, Some(RemoteMark { endpoint: 1, id: None }));
    }

    proptest! {
        #[test]
        fn every_id_opens_to_what_was_sealed(
            serial in any::<[u8; 16]>(),
            secs in 0_u64..1 << 40,
            route in "/[a-z/]{1,40}",
            version in 0_usize..era::LEGACY.len(),
            name in "\\PC{0,300}",
            remote in proptest::option::of((any::<u64>(), proptest::option::of("[!-~]{1,200}"))),
        ) {
            let params = serde_json::json!({"clientInfo": {"name": name}, "capabilities": {}}).to_string();
            let written = Inside {
                serial,
                began: UNIX_EPOCH + Duration::from_secs(secs),
                route,
                version: era::LEGACY[version],
                params: params.into(),
                remote: remote.map(|(endpoint, id)| RemoteMark { endpoint, id }),
            };
            let ring = Keyring::local();
            let id = written.clone().seal(&ring, &principal("a")).unwrap();
            prop_assert!(id.len() < 6 << 10);
            prop_assert_eq!(Inside::open(&ring, &principal("a"), &id), Some(written));
            prop_assert_eq!(Inside::open(&ring, &principal("b"), &id), None);
        }

        #[test]
        fn a_tampered_id_is_none(at in 0_usize..200, to in proptest::char::range('!', '~')) {
            let ring = Keyring::local();
            let id = inside("{}").seal(&ring, &principal("")).unwrap();
            let mut tampered: Vec<char> = id.chars().collect();
            let at = at % tampered.len();
            prop_assume!(tampered[at] != to);
            tampered[at] = to;
            prop_assert_eq!(Inside::open(&ring, &principal(""), &tampered.iter().collect::<String>()), None);
        }
    }
}
