use super::*;
use crate::model::{
    Algorithm, Auth, Backup, Catalogue, ClaimRule, Clients, Endpoint, EndpointKind, Grant, Identity, Jwt,
    KeySource, Processes, Reference, Required, Selection, Server, StaticToken, Timeouts, Tls, TokenHash,
    ToolTimeouts, Transport, UnreachableTools, Upstream,
};
use proptest::prelude::*;
use std::time::Duration;

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let http = ("[a-z]{1,9}", any::<bool>()).prop_map(|(host, sse)| EndpointKind::Http {
        url: format!("http://{host}.example/mcp").parse().expect("a valid URL"),
        transport: if sse { Transport::Sse } else { Transport::Http },
    });
    let env = proptest::collection::btree_map("[A-Z]{1,4}", "(env:|file:|)[a-z]{1,5}", 0..4)
        .prop_map(|env| env.into_iter().map(|(name, value)| (name, Reference::parse(&value))).collect());
    let stdio = (proptest::collection::vec("[ -~]{1,8}", 1..4), env, any::<bool>()).prop_map(
        |(command, env, shared)| EndpointKind::Stdio {
            command,
            env,
            processes: if shared { Processes::Shared } else { Processes::PerSession },
            cwd: None,
            idle_stop: shared.then_some(Duration::from_secs(60)),
        },
    );
    (prop_oneof![http, stdio], 1_u32..9).prop_map(|(kind, weight)| Endpoint { kind, weight })
}

/// One of each kind, by chance.
fn auth(chance: u64) -> Auth {
    let rule = ClaimRule {
        claim: "scope".into(),
        values: vec!["read".into()],
        grant: Grant { deny: vec!["rm_*".into()], ..Grant::default() },
    };
    let jwt = |jwks| Jwt {
        issuer: "https://login.example".into(),
        audience: vec!["a".into()],
        jwks,
        algorithms: Algorithm::USUAL.to_vec(),
        clock_skew: Duration::from_secs(chance % 3),
        rules: vec![rule],
    };
    let byte = u8::try_from(chance % 256).unwrap();
    let tokens = [TokenHash::Blake3([byte; 32]), TokenHash::Sha256([byte; 32])];
    let tokens = tokens.map(|hash| StaticToken { name: format!("t{byte}"), hash, grant: Grant::default() });
    let required = match chance % 4 {
        0 => return Auth::Loopback,
        1 => return Auth::Open,
        2 => Required { tokens: tokens.to_vec(), ..Required::default() },
        _ => Required {
            resource: Some("https://mcp.example".into()),
            tokens: Vec::new(),
            jwt: Some(jwt(KeySource::File("/jwks".into()))),
        },
    };
    Auth::Required(Box::new(required))
}

fn fleet() -> impl Strategy<Value = Fleet> {
    let endpoints = || proptest::collection::vec(endpoint(), 1..3);
    let backup =
        proptest::option::of(prop_oneof![Just(Backup::Snapshot), endpoints().prop_map(Backup::Endpoints)]);
    let upstream = (endpoints(), backup, proptest::option::of("[a-z]{1,6}"), 1_u64..100_000).prop_map(
        |(primary, backup, prefix, idle)| Upstream {
            name: String::new(),
            prefix,
            primary,
            backup,
            headers: [("authorization".to_owned(), Reference::Env("TOKEN".into()))].into(),
            unreachable_tools: if idle % 2 == 0 { UnreachableTools::Keep } else { UnreachableTools::Hide },
            resources: vec![format!("test://{idle}/")],
            timeouts: Timeouts {
                idle: Duration::from_millis(idle),
                tools: [(
                    "a*".to_owned(),
                    ToolTimeouts { idle: None, total: Some(Duration::from_millis(idle)) },
                )]
                .into(),
                ..Timeouts::default()
            },
            tls: Tls {
                ca: (idle % 2 == 0).then(|| "/ca".to_owned()),
                identity: (idle % 3 == 0).then(|| Identity { cert: "/c".into(), key: "/k".into() }),
            },
            pool_idle: u32::try_from(idle).ok().filter(|idle| idle % 5 == 0),
            ..Upstream::default()
        },
    );
    let server = (proptest::collection::vec("[a-z*]{1,6}", 1..3), "[a-z]{1,6}", any::<bool>());
    let servers = proptest::collection::btree_map("[a-z][a-z0-9]{0,8}", server, 0..3);
    let upstreams = proptest::collection::btree_map("[a-z][a-z0-9]{0,8}", upstream, 0..5);
    (upstreams, servers, 1_u64..1 << 40).prop_map(|(upstreams, servers, max_body_bytes)| {
        let upstreams: Vec<_> = upstreams.into_iter().map(|(name, one)| Upstream { name, ..one }).collect();
        let server = |(name, (patterns, word, deny)): (String, (Vec<String>, String, bool))| {
            let first = upstreams.first()?.name.clone();
            let tools = if deny {
                Selection { deny: patterns, ..Selection::default() }
            } else {
                Selection { allow: patterns, ..Selection::default() }
            };
            let rename = [(word.clone(), format!("new_{word}"))].into();
            let describe = [(word, "text".to_owned())].into();
            Some(Server { name, upstreams: vec![first], tools, rename, describe, ..Server::default() })
        };
        Fleet {
            servers: servers.into_iter().filter_map(server).collect(),
            clients: Clients {
                max_body_bytes,
                session_lifetime: Duration::from_millis(max_body_bytes),
                catalogue: Catalogue { page: 7, wait: Duration::ZERO, ..Catalogue::default() },
                ..Clients::default()
            },
            upstreams,
            auth: auth(max_body_bytes),
            ..Fleet::default()
        }
    })
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded(fleet in fleet()) {
        let resources = encode(&fleet);
        prop_assert_eq!(decode(&resources).expect("what we encode is valid"), fleet);
    }

    #[test]
    fn the_root_digest_ignores_order_and_sees_every_change(fleet in fleet()) {
        let mut resources = encode(&fleet);
        let digest = digest::root(&resources);
        resources.reverse();
        prop_assert_eq!(&digest::root(&resources), &digest);
        resources[0].digest[0] ^= 1;
        prop_assert_ne!(&digest::root(&resources), &digest);
    }
}

#[test]
fn every_problem_is_reported_at_once() {
    let good = encode(&Fleet::default());
    let key = |kind, name: &str| Some(ResourceKey { kind, name: name.into() });
    let broken = |kind, name: &str, payload: &[u8]| Resource {
        key: key(kind, name),
        digest: digest::payload(payload),
        payload: payload.to_vec().into(),
    };
    let url = crate::wire::Upstream {
        name: "b".into(),
        primary: vec![crate::wire::Endpoint {
            kind: Some(crate::wire::endpoint::Kind::Http(crate::wire::HttpEndpoint {
                url: "ftp://x".into(),
                ..Default::default()
            })),
            weight: 0,
        }],
        ..Default::default()
    };
    let mut resources = vec![
        broken(77, "future", b""),
        broken(1, "a", &[0xff, 0xff]),
        broken(1, "b", &url.encode_to_vec()),
        Resource { key: key(1, "c"), digest: vec![0; 32], payload: vec![1].into() },
    ];
    resources.extend(good);
    let said: Vec<_> = decode(&resources)
        .expect_err("four are broken")
        .into_iter()
        .map(|one| format!("{} {} {}", one.resource.unwrap_or_default().name, one.field_path, one.message))
        .collect();
    let expected = [
        "future  this build does not know resources of kind 77",
        "a  the payload does not decode: failed to decode Protobuf message: invalid varint",
        "b primary[0].url `ftp://x` is not an absolute http or https URL",
        "b primary an upstream needs at least one endpoint",
        "c  the digest does not match the payload",
    ];
    assert_eq!(said, expected);
}
