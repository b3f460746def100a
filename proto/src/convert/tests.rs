use super::*;
use crate::model::{
    Algorithm, Auth, Backup, Balance, Batching, Breaker, CacheRules, Caching, Catalogue, ClaimRule, Clients,
    Concurrency, Endpoint, EndpointKind, Eviction, Failover, FailoverMetadata, FastPath, Grant, HashKey,
    Health, Identity, Jwt, KeySource, Life, Outlier, Processes, Reference, Required, Retry, Selection,
    Server, Share, StaticToken, TierLimits, Timeouts, Tls, TokenHash, ToolTimeouts, Transport,
    UnreachableTools, Upstream, Writes,
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

fn millis() -> impl Strategy<Value = Duration> {
    (0_u64..10_000_000).prop_map(Duration::from_millis)
}

fn tier() -> impl Strategy<Value = TierLimits> {
    let eviction = prop_oneof![Just(Eviction::TinyLfu), Just(Eviction::Lru)];
    (millis(), 1_u32.., 1_u64.., eviction, millis(), millis()).prop_map(
        |(ttl, entries, bytes, eviction, stale_if_error, stale_while_revalidate)| TierLimits {
            ttl: ttl + Duration::from_millis(1),
            entries,
            bytes,
            eviction,
            stale_if_error,
            stale_while_revalidate,
        },
    )
}

/// The defaults too: they stay off the wire.
fn caching() -> impl Strategy<Value = Caching> {
    let own = (tier(), tier(), tier()).prop_map(|(tools, resources, catalogue)| Caching {
        tools,
        resources,
        catalogue,
    });
    prop_oneof![Just(Caching::default()), own]
}

fn batching() -> impl Strategy<Value = Batching> {
    (0_u64..=100, 1_u32..).prop_map(|(window, max)| Batching { window: Duration::from_millis(window), max })
}

fn rules() -> impl Strategy<Value = CacheRules> {
    let life = || prop_oneof![Just(Life::Tier), millis().prop_map(Life::For)];
    let lives = || proptest::collection::btree_map("[a-z*]{1,6}", life(), 0..3);
    let share = prop_oneof![Just(Share::Principal), Just(Share::Session), Just(Share::Everybody)];
    (lives(), lives(), lives(), proptest::option::of(life()), share).prop_map(
        |(tools, prompts, resources, lists, share)| CacheRules { tools, prompts, resources, lists, share },
    )
}

fn balance() -> impl Strategy<Value = Balance> {
    let header = "[a-z]{1,9}(-[a-z]{1,9})?".prop_map(HashKey::Header);
    let key = prop_oneof![Just(HashKey::Session), Just(HashKey::Principal), Just(HashKey::Tool), header];
    let hash =
        (key, 1_u32..=10_000).prop_map(|(key, virtual_nodes)| Balance::ConsistentHash { key, virtual_nodes });
    prop_oneof![
        Just(Balance::RoundRobin),
        Just(Balance::LeastConnections),
        Just(Balance::Random),
        Just(Balance::WeightedRandom),
        hash,
    ]
}

/// Defaults and others.
fn limits() -> impl Strategy<Value = (Outlier, Retry, Concurrency)> {
    let outlier = (any::<u32>(), 1_u64..1000, 0_u64..1000, 0_u32..=100, 0_u32..=100).prop_map(
        |(failures, eject, more, max_percent, panic_percent)| Outlier {
            failures,
            eject: Duration::from_millis(eject),
            eject_max: Duration::from_millis(eject + more),
            max_percent,
            panic_percent,
        },
    );
    let tools = proptest::collection::vec("[a-z*]{1,6}", 0..3);
    let retry = (1_u32..=5, tools, 0_u32..=100, any::<u32>()).prop_map(
        |(attempts, tools, budget_percent, budget_min)| Retry { attempts, tools, budget_percent, budget_min },
    );
    let concurrency = (proptest::option::of(1_u32..), any::<u32>(), millis())
        .prop_map(|(max, queue, wait)| Concurrency { max, queue, wait });
    let defaults = (Outlier::default(), Retry::default(), Concurrency::default());
    prop_oneof![1 => Just(defaults), 3 => (outlier, retry, concurrency)]
}

/// Also what is not the default everywhere, so that each field is seen to travel.
fn care() -> impl Strategy<Value = (Health, Breaker, Failover)> {
    let millis = || (1_u64..1_000_000).prop_map(Duration::from_millis);
    let path = proptest::option::of("/[a-z]{0,5}");
    let health = (millis(), 1_u32.., 1_u32.., path).prop_map(|(timeout, healthy, unhealthy, path)| Health {
        every: timeout * 2,
        timeout,
        healthy,
        unhealthy,
        path,
    });
    let breaker =
        (1_u32.., millis()).prop_map(|(failures, open)| Breaker { failures, open, open_max: open * 3 });
    let tools = || proptest::collection::vec("[a-z*]{1,6}", 1..3);
    let writes =
        prop_oneof![Just(Writes::Reject), Just(Writes::PassThrough), tools().prop_map(Writes::Journal)];
    let fast_path = prop_oneof![Just(FastPath::None), Just(FastPath::Reads), Just(FastPath::Full)];
    let failover =
        (writes, tools(), fast_path, 0_u64..1_000_000).prop_map(|(writes, read_tools, fast_path, time)| {
            Failover {
                writes,
                read_tools,
                fast_path,
                min_hold: Duration::from_millis(time),
                stable: Duration::from_millis(time / 2),
                autonomy_after: Duration::from_millis(time / 3),
                drain: Duration::from_millis(time / 5),
                snapshot_every: Duration::from_millis(time + 1000),
            }
        });
    let defaults = (Health::default(), Breaker::default(), Failover::default());
    prop_oneof![1 => Just(defaults), 3 => (health, breaker, failover)]
}

/// Without a name.
fn upstream() -> impl Strategy<Value = Upstream> {
    let endpoints = || proptest::collection::vec(endpoint(), 1..3);
    let backup =
        proptest::option::of(prop_oneof![Just(Backup::Snapshot), endpoints().prop_map(Backup::Endpoints)]);
    let settings = (rules(), balance(), limits(), care());
    (endpoints(), backup, proptest::option::of("[a-z]{1,6}"), 1_u64..100_000, settings).prop_map(
        |(primary, backup, prefix, idle, settings)| {
            let (cache, balance, (outlier, retry, concurrency), (health, breaker, failover)) = settings;
            Upstream {
                name: String::new(),
                prefix,
                primary,
                backup,
                headers: [("authorization".to_owned(), Reference::Env("TOKEN".into()))].into(),
                unreachable_tools: if idle % 2 == 0 {
                    UnreachableTools::Keep
                } else {
                    UnreachableTools::Hide
                },
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
                cache,
                balance,
                outlier,
                retry,
                concurrency,
                health,
                breaker,
                failover,
            }
        },
    )
}

fn fleet() -> impl Strategy<Value = Fleet> {
    let server = (proptest::collection::vec("[a-z*]{1,6}", 1..3), "[a-z]{1,6}", any::<bool>());
    let servers = proptest::collection::btree_map("[a-z][a-z0-9]{0,8}", server, 0..3);
    let upstreams = proptest::collection::btree_map("[a-z][a-z0-9]{0,8}", upstream(), 0..5);
    let whole = (upstreams, servers, 1_u64..1 << 40, caching(), batching());
    whole.prop_map(|(upstreams, servers, max_body_bytes, caching, batching)| {
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
                failover_metadata: match max_body_bytes % 3 {
                    0 => FailoverMetadata::DuringFailover,
                    1 => FailoverMetadata::Always,
                    _ => FailoverMetadata::Never,
                },
                catalogue: Catalogue { page: 7, wait: Duration::ZERO, ..Catalogue::default() },
                ..Clients::default()
            },
            upstreams,
            auth: auth(max_body_bytes),
            caching,
            batching,
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

#[test]
fn settings_that_are_the_default_add_nothing_to_the_wire() {
    let kinds: Vec<_> = encode(&Fleet::default()).into_iter().filter_map(|one| Some(one.key?.kind)).collect();
    assert_eq!(kinds, [i32::from(ResourceKind::Clients)], "a node of an older build goes on");
}

#[test]
fn values_that_no_rule_allows_are_refused_and_none_is_guessed() {
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    let upstream = crate::wire::Upstream {
        name: "a".into(),
        primary: vec![crate::wire::Endpoint {
            kind: Some(crate::wire::endpoint::Kind::Http(crate::wire::HttpEndpoint {
                url: "http://x/".into(),
                ..Default::default()
            })),
            weight: 0,
        }],
        cache: Some(crate::wire::CacheRules {
            tools: [("t".to_owned(), crate::wire::CacheLife { life: Some(negative) })].into(),
            share: 9,
            ..Default::default()
        }),
        balance: Some(crate::wire::Balance { algorithm: 9, ..Default::default() }),
        outlier: Some(crate::wire::Outlier {
            eject: Some(from_duration(Duration::from_secs(3600))),
            max_percent: Some(101),
            ..Default::default()
        }),
        retry: Some(crate::wire::Retry { attempts: 6, ..Default::default() }),
        concurrency: Some(crate::wire::Concurrency { max: Some(0), ..Default::default() }),
        ..Default::default()
    };
    let caching = crate::wire::CacheSettings {
        tools: Some(crate::wire::CacheTier { eviction: 9, ..Default::default() }),
        ..Default::default()
    };
    let batching = crate::wire::BatchingSettings {
        window: Some(from_duration(Duration::from_millis(101))),
        ..Default::default()
    };
    let resources = [
        resource(ResourceKind::Upstream, "a", &upstream),
        resource(ResourceKind::Cache, "cache", &caching),
        resource(ResourceKind::Batching, "batching", &batching),
    ];
    let said: Vec<_> = decode(&resources)
        .expect_err("nothing of it is valid")
        .into_iter()
        .map(|one| format!("{}: {}", one.field_path, one.message))
        .collect();
    let expected = [
        "cache.share: a way of sharing that this build does not know",
        "cache.tools.t: a life is not negative",
        "balance.algorithm: an algorithm that this build does not know",
        "outlier.max_percent: 101 is not within 0 and 100",
        "outlier.eject: longer than `eject_max`",
        "retry.attempts: 6 is not within 1 and 5",
        "concurrency.max: 0 is not within 1 and 4294967295",
        "tools.eviction: an eviction that this build does not know",
        "window: the window is wider than 100ms",
    ];
    assert_eq!(said, expected);
}
