//! What valid documents mean.

use super::said;
use crate::manifest::parse;
use crate::model::{
    Algorithm, Auth, Backup, Balance, Batching, CacheRules, Caching, Catalogue, ClaimRule, Clients,
    Concurrency, Endpoint, EndpointKind, Eviction, Failover, Fleet, Grant, HashKey, Health, Identity, Jwt,
    KeySource, Life, Outlier, Processes, Reference, Required, Retry, Selection, Server, Share, StaticToken,
    TierLimits, Timeouts, Tls, TokenHash, ToolTimeouts, Transport, UnreachableTools, Upstream, Writes,
};
use std::{fs, path::Path, time::Duration};

fn fleet(document: &str) -> Fleet {
    parse("t.yaml", document.as_bytes()).expect("the document is valid").fleet
}

fn http(url: &str, weight: u32) -> Endpoint {
    Endpoint {
        kind: EndpointKind::Http { url: url.parse().expect("a URL"), transport: Transport::Http },
        weight,
    }
}

#[test]
fn every_example_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for entry in fs::read_dir(&folder).expect("there are examples") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read(&path).expect("readable");
            if let Err(refused) = parse(&path.display().to_string(), &text) {
                let problems: Vec<_> = refused.problems.iter().map(ToString::to_string).collect();
                panic!("{}", problems.join("\n"));
            }
            seen += 1;
        }
    }
    assert!(seen >= 2, "only {seen} examples in {}", folder.display());
}

#[test]
fn the_full_example_means_what_it_says() {
    let text = include_str!("../../../../examples/full.yaml");
    let files = full_files();
    let weather = Upstream {
        name: "weather".into(),
        prefix: Some("weather".into()),
        primary: vec![http("http://127.0.0.1:3101/mcp", 1), http("http://127.0.0.1:3102/mcp", 2)],
        backup: Some(Backup::Endpoints(vec![http("http://127.0.0.1:3201/mcp", 1)])),
        headers: [("authorization".to_owned(), Reference::Env("WEATHER_TOKEN".into()))].into(),
        unreachable_tools: UnreachableTools::Hide,
        balance: Balance::LeastConnections,
        retry: Retry { tools: vec!["get_*".into()], ..Retry::default() },
        concurrency: Concurrency { max: Some(50), ..Concurrency::default() },
        ..Upstream::default()
    };
    let patterns = |patterns: &[&str]| patterns.iter().map(|one| String::from(*one)).collect();
    let identity = Identity { cert: "/etc/only1/node.pem".into(), key: "/etc/only1/node.key".into() };
    let mut old = http("https://old.example/sse", 1);
    if let EndpointKind::Http { transport, .. } = &mut old.kind {
        *transport = Transport::Sse;
    }
    let old = Upstream {
        name: "old".into(),
        prefix: Some("old".into()),
        primary: vec![old],
        tls: Tls { ca: Some("/etc/only1/ca.pem".into()), identity: Some(identity) },
        pool_idle: Some(20),
        balance: Balance::ConsistentHash { key: HashKey::Header("x-tenant".into()), virtual_nodes: 100 },
        ..Upstream::default()
    };
    let coding = Server {
        name: "coding".into(),
        upstreams: vec!["files".into()],
        tools: Selection { allow: patterns(&["read_*"]), deny: Vec::new() },
        prompts: Selection { deny: patterns(&["draft_*"]), ..Selection::default() },
        resources: Selection { allow: patterns(&["file:///srv/docs/*"]), deny: Vec::new() },
        rename: [("read_text_file".to_owned(), "read".to_owned())].into(),
        describe: [("read_text_file".to_owned(), "Reads a text file of the project.".to_owned())].into(),
    };
    let clients = Clients {
        origins: vec!["http://localhost:*".into()],
        catalogue: Catalogue { page: 200, ..Catalogue::default() },
        sse: true,
        ..Clients::default()
    };
    let found = fleet(text);
    assert_eq!(found.auth, full_auth());
    assert_eq!(
        found,
        Fleet {
            upstreams: vec![files, old, weather],
            servers: vec![coding],
            clients,
            auth: full_auth(),
            caching: full_caching(),
            batching: Batching { window: Duration::from_millis(5), max: 10 },
        }
    );
}

/// Where the full example is not the default.
fn full_caching() -> Caching {
    let default = Caching::default();
    let (bytes, stale_while_revalidate) = (256 << 20, Duration::from_secs(30));
    Caching { resources: TierLimits { bytes, stale_while_revalidate, ..default.resources }, ..default }
}

/// What of `files` the full example caches.
fn full_rules() -> CacheRules {
    let secs = |secs| Life::For(Duration::from_secs(secs));
    CacheRules {
        tools: [("read_text_file", secs(30)), ("list_*", Life::Tier), ("read_secret", secs(0))]
            .map(|(name, life)| (name.to_owned(), life))
            .into(),
        prompts: [("summary".to_owned(), secs(3600))].into(),
        resources: [("file:///srv/docs/*".to_owned(), secs(300))].into(),
        lists: Some(secs(600)),
        share: Share::Principal,
    }
}

/// `files` of the full example.
fn full_files() -> Upstream {
    Upstream {
        name: "files".into(),
        prefix: Some("files".into()),
        primary: vec![Endpoint {
            kind: EndpointKind::Stdio {
                command: ["npx", "-y", "@modelcontextprotocol/server-filesystem", "/srv/docs"]
                    .map(String::from)
                    .to_vec(),
                env: [("NODE_ENV".to_owned(), Reference::Literal("production".into()))].into(),
                processes: Processes::Shared,
                cwd: None,
                idle_stop: Some(Duration::from_secs(900)),
            },
            weight: 1,
        }],
        backup: Some(Backup::Snapshot),
        headers: [].into(),
        timeouts: Timeouts {
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
            tools: [(
                "search_*".to_owned(),
                ToolTimeouts { idle: None, total: Some(Duration::from_secs(1800)) },
            )]
            .into(),
            ..Timeouts::default()
        },
        unreachable_tools: UnreachableTools::Keep,
        resources: vec!["file:///srv/docs/".into()],
        cache: full_rules(),
        health: Health { path: Some("/health".into()), ..Health::default() },
        failover: Failover {
            writes: Writes::Journal(vec!["write_file".into()]),
            read_tools: vec!["list_*".into(), "search_*".into()],
            ..Failover::default()
        },
        ..Upstream::default()
    }
}

fn full_auth() -> Auth {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let rule = |claim: &str, value: &str, allow: &str| ClaimRule {
        claim: claim.into(),
        values: list(&[value]),
        grant: Grant { allow: list(&[allow]), ..Grant::default() },
    };
    Auth::Required(Box::new(Required {
        resource: Some("https://mcp.example".into()),
        tokens: vec![StaticToken {
            name: "ci".into(),
            hash: TokenHash::Blake3(*blake3::hash(b"test").as_bytes()),
            grant: Grant {
                servers: list(&["coding"]),
                upstreams: list(&["files"]),
                allow: list(&["read_*"]),
                deny: list(&["files__read_secret*"]),
            },
        }],
        jwt: Some(Jwt {
            issuer: "https://login.example/realms/agents".into(),
            audience: list(&["https://mcp.example/mcp"]),
            jwks: KeySource::Url("https://login.example/realms/agents/certs".parse().expect("a URL")),
            algorithms: vec![Algorithm::RS256, Algorithm::ES256],
            clock_skew: Duration::from_secs(60),
            rules: vec![rule("scope", "mcp:read", "read_*"), rule("groups", "platform", "*")],
        }),
    }))
}

#[test]
fn who_may_use_the_gateway_is_nobody_elses_guess() {
    assert_eq!(fleet("{}").auth, Auth::Loopback);
    assert_eq!(fleet("{clients: {auth: none}}").auth, Auth::Open);
    let hash = "ab".repeat(32);
    let Auth::Required(required) =
        fleet(&format!("{{clients: {{auth: {{tokens: [{{name: a, sha256: {hash}}}]}}}}}}")).auth
    else {
        panic!("tokens are required")
    };
    assert_eq!(required.tokens[0].hash, TokenHash::Sha256([0xab; 32]));
    assert_eq!(required.tokens[0].grant, Grant::default(), "no rules: everything");
    let jwt = "{clients: {auth: {resource: 'https://MCP.example/', jwt: {issuer: i, jwks: 'file:/k'}}}}";
    let Auth::Required(required) = fleet(jwt).auth else { panic!("tokens are required") };
    assert_eq!(required.resource.as_deref(), Some("https://mcp.example"));
    let expected = Jwt {
        issuer: "i".into(),
        audience: Vec::new(),
        jwks: KeySource::File("/k".into()),
        algorithms: Algorithm::USUAL.to_vec(),
        clock_skew: Duration::from_secs(60),
        rules: Vec::new(),
    };
    assert_eq!(required.jwt, Some(expected));
}

#[test]
fn what_is_cached_and_how_calls_spread_is_what_the_document_says() {
    let found = fleet(
        "upstreams:\n  a:\n    primary: [{url: 'http://x/', weight: 3}]\n    cache: {lists: default, share: everybody}\n    \
         balance: {algorithm: consistent_hash}\n    outlier: {failures: 0, eject: 1m, eject_max: 2m, max_percent: 10, panic_percent: 0}\n    \
         retry: {attempts: 1, budget_percent: 0, budget_min: 0}\n    concurrency: {max: 4, queue: 0, wait: 0s}\n\
         cache: {tools: {eviction: lru, entries: 2, stale_if_error: 1s}}\nbatching: {max: 3}\n",
    );
    let (upstream, default) = (&found.upstreams[0], Caching::default());
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let rules = CacheRules { lists: Some(Life::Tier), share: Share::Everybody, ..CacheRules::default() };
    assert_eq!(upstream.cache, rules);
    assert_eq!(upstream.balance, Balance::ConsistentHash { key: HashKey::Session, virtual_nodes: 150 });
    let (eject, eject_max) = (minutes(1), minutes(2));
    assert_eq!(
        upstream.outlier,
        Outlier { failures: 0, eject, eject_max, max_percent: 10, panic_percent: 0 }
    );
    assert_eq!(upstream.retry, Retry { attempts: 1, tools: Vec::new(), budget_percent: 0, budget_min: 0 });
    assert_eq!(upstream.concurrency, Concurrency { max: Some(4), queue: 0, wait: Duration::ZERO });
    let (eviction, stale_if_error) = (Eviction::Lru, Duration::from_secs(1));
    let tools = TierLimits { entries: 2, eviction, stale_if_error, ..default.tools.clone() };
    assert_eq!(found.caching, Caching { tools, ..default });
    assert_eq!(found.batching, Batching { max: 3, ..Batching::default() });
}

#[test]
fn json_is_a_document_too() {
    let json =
        r#"{"upstreams":{"a":{"primary":[{"url":"http://x/","weight":3}]}},"clients":{"max_body":"1MiB"}}"#;
    let found = fleet(json);
    assert_eq!(found.upstreams[0].primary, [http("http://x/", 3)]);
    assert_eq!(found.clients.max_body_bytes, 1 << 20);
}

#[test]
fn aliases_stand_for_whole_values() {
    let found = fleet(
        "upstreams:\n  a: {primary: [{url: http://x/}], headers: &h {X: &v y}}\n  b: {primary: [{url: http://z/}], headers: *h, prefix: *v}\n",
    );
    assert_eq!(found.upstreams[1].headers, found.upstreams[0].headers);
    assert_eq!(found.upstreams[1].prefix.as_deref(), Some("y"));
}

#[test]
fn origins_and_hosts_are_spelled_as_browsers_do() {
    let found = fleet(
        "clients: {origins: ['HTTPS://App.Example:443', 'http://a:80', 'http://a:8080', 'http://[::1]:*'], hosts: [MCP.Example, '[::1]']}",
    );
    assert_eq!(found.clients.origins, ["https://app.example", "http://a", "http://a:8080", "http://[::1]:*"]);
    assert_eq!(found.clients.hosts, ["mcp.example", "[::1]"]);
}

#[test]
fn upstreams_are_sorted_and_prefixes_follow_names() {
    let found = fleet(
        "upstreams:\n  z: {primary: [{url: http://x/}]}\n  a: {primary: [{url: http://x/}], prefix: none}\n  m: {primary: [{url: http://x/}], prefix: n}\n",
    );
    let names: Vec<_> =
        found.upstreams.iter().map(|one| (one.name.as_str(), one.prefix.as_deref())).collect();
    assert_eq!(names, [("a", None), ("m", Some("n")), ("z", Some("z"))]);
}

#[test]
fn durations_sizes_and_commands_keep_their_values() {
    let found = fleet(
        "upstreams:\n  a:\n    primary: [{command: [x, 8080, -y, ''], cwd: /srv, processes: per_session, env: {P: 1, Q: file:/q}}]\n    timeouts: {idle: 500ms, total: 2h, connect: 5m}\nclients: {max_body: 64KiB, session_idle: 90s, max_sessions: 7, session_lifetime: 8h}\n",
    );
    let upstream = &found.upstreams[0];
    let kind = EndpointKind::Stdio {
        command: ["x", "8080", "-y", ""].map(String::from).to_vec(),
        env: [("P".into(), Reference::Literal("1".into())), ("Q".into(), Reference::File("/q".into()))]
            .into(),
        processes: Processes::PerSession,
        cwd: Some("/srv".into()),
        idle_stop: None,
    };
    assert_eq!(upstream.primary, [Endpoint { kind, weight: 1 }]);
    let timeouts = Timeouts {
        idle: Duration::from_millis(500),
        total: Duration::from_secs(7200),
        connect: Duration::from_secs(300),
        ..Timeouts::default()
    };
    assert_eq!(upstream.timeouts, timeouts);
    let clients = Clients {
        max_body_bytes: 65_536,
        session_idle: Duration::from_secs(90),
        max_sessions: 7,
        session_lifetime: Duration::from_secs(8 * 3600),
        ..Clients::default()
    };
    assert_eq!(found.clients, clients);
}

#[test]
fn an_empty_document_is_valid_and_warned_about() {
    for document in ["", "# nothing\n", "---\n", "{}", "~", "upstreams:\n", "upstreams: {}"] {
        let manifest = parse("t.yaml", document.as_bytes()).expect("valid");
        assert_eq!(manifest.fleet, Fleet::default(), "{document:?}");
        let rules: Vec<_> = manifest.warnings.iter().map(|warning| warning.rule).collect();
        assert_eq!(rules, ["no-upstreams"], "{document:?}");
    }
}

#[test]
fn every_problem_is_said_at_once_in_the_order_of_the_document() {
    let document = "\
upstream: {}
upstreams:
  a__b:
    primry: [{url: 'http://x/'}]
  weather:
    primary:
      - url: ftp://x/mcp
        weight: 0
      - command: npx -y server
    timeouts: {idle: 10, total: 5m}
clients:
  origins: [localhost]
";
    let expected = [
        "t.yaml:1:1: unknown-key: upstream: unknown key `upstream` (did you mean `upstreams`?)",
        "t.yaml:3:3: upstream-name: upstreams.a__b: `__` separates prefixes from names and cannot be inside one (letters, digits, `-` and single `_`, such as `weather-eu`)",
        "t.yaml:3:3: missing-key: upstreams.a__b: the key `primary` is missing",
        "t.yaml:4:5: unknown-key: upstreams.a__b.primry: unknown key `primry` (did you mean `primary`?)",
        "t.yaml:7:14: endpoint-url: upstreams.weather.primary[0].url: `ftp://x/mcp`: the scheme is neither http nor https (such as `http://127.0.0.1:3101/mcp`)",
        "t.yaml:8:17: endpoint-weight: upstreams.weather.primary[0].weight: `0` is out of range (at least 1)",
        "t.yaml:9:18: value-type: upstreams.weather.primary[1].command: wants a list, found a word (write it as a list: `[npx, -y, server]`)",
        "t.yaml:10:22: duration-syntax: upstreams.weather.timeouts.idle: `10` is not a duration (add the unit: `10ms`, `10s`, `10m` or `10h`)",
        "t.yaml:12:13: client-origin: clients.origins[0]: `localhost` is not valid here (`scheme://host`, `scheme://host:port` or `scheme://host:*`)",
    ];
    let problems: Vec<_> = said(document).into_iter().filter(|line| !line.starts_with("warning: ")).collect();
    assert_eq!(problems, expected);
}
