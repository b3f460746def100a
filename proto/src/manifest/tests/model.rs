//! What valid documents mean.

use super::said;
use crate::manifest::parse;
use crate::model::{
    Backup, Clients, Endpoint, EndpointKind, Fleet, Processes, Reference, Timeouts, Upstream,
};
use std::{fs, path::Path, time::Duration};

fn fleet(document: &str) -> Fleet {
    parse("t.yaml", document.as_bytes()).expect("the document is valid").fleet
}

fn http(url: &str, weight: u32) -> Endpoint {
    Endpoint { kind: EndpointKind::Http { url: url.parse().expect("a URL") }, weight }
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
    let files = Upstream {
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
            },
            weight: 1,
        }],
        backup: Some(Backup::Snapshot),
        headers: [].into(),
        timeouts: Timeouts {
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
            ..Timeouts::default()
        },
    };
    let weather = Upstream {
        name: "weather".into(),
        prefix: Some("weather".into()),
        primary: vec![http("http://127.0.0.1:3101/mcp", 1), http("http://127.0.0.1:3102/mcp", 2)],
        backup: Some(Backup::Endpoints(vec![http("http://127.0.0.1:3201/mcp", 1)])),
        headers: [("authorization".to_owned(), Reference::Env("WEATHER_TOKEN".into()))].into(),
        timeouts: Timeouts::default(),
    };
    let clients = Clients { origins: vec!["http://localhost:*".into()], ..Clients::default() };
    assert_eq!(fleet(text), Fleet { upstreams: vec![files, weather], clients });
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
        "t.yaml:8:17: endpoint-weight: upstreams.weather.primary[0].weight: `0` is out of range (1 to 1000000)",
        "t.yaml:9:18: value-type: upstreams.weather.primary[1].command: wants a list, found a word (write it as a list: `[npx, -y, server]`)",
        "t.yaml:10:22: duration-syntax: upstreams.weather.timeouts.idle: `10` is not a duration (add the unit: `10ms`, `10s`, `10m` or `10h`)",
        "t.yaml:12:13: client-origin: clients.origins[0]: `localhost` is not valid here (`scheme://host`, `scheme://host:port` or `scheme://host:*`)",
    ];
    assert_eq!(said(document), expected);
}
