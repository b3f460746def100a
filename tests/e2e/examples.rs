//! What stands in `examples/` works: configurations, the schema for editors, units, alert rules, the dashboard, and the
//! program in Rust (`tests/peers` runs the one in Python).

use crate::{
    config,
    observed::{self, Series},
};
use o1_tests::{
    Backend, Gateway, Legacy,
    binaries::{binary, example, root},
    process::Process,
    tour::Tour,
    until,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
    time::Duration,
};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_in_rust_does_what_it_says() {
    Tour::start().await.is_taken(&example("tour"), |_| {}).await;
}

/// The files of a folder in `examples/` with this extension.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = root().join("examples").join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|one| one == extension)).collect();
    found.sort();
    found
}

#[test]
fn each_configuration_is_valid_and_editors_find_its_schema() {
    let files = files("", "yaml");
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        let check = Command::new(binary("o1ctl")).args(["config", "check", "--strict"]).arg(&file).output();
        let check = check.unwrap();
        let said = String::from_utf8_lossy(&check.stderr);
        assert!(check.status.success(), "{}: {said}", file.display());
        let text = fs::read_to_string(&file).unwrap();
        let schema = text.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=");
        let schema = schema.unwrap_or_else(|| panic!("{}: its first line names no schema", file.display()));
        assert!(file.with_file_name(schema).is_file(), "{}: {schema}", file.display());
    }
}

#[test]
fn the_schema_is_the_one_that_o1ctl_writes() {
    let path = root().join("examples/only1.schema.json");
    let written = Command::new(binary("o1ctl")).args(["config", "schema"]).output().unwrap();
    assert!(written.status.success());
    if std::env::var_os("O1_BLESS").is_some() {
        fs::write(&path, &written.stdout).unwrap();
    }
    let kept = fs::read(&path).unwrap_or_default();
    let how = "is stale: O1_BLESS=1 cargo nextest run -p o1-tests --test e2e the_schema";
    assert!(kept == written.stdout, "{} {how}", path.display());
}

/// The value of a key of a unit, once.
fn setting<'a>(unit: &'a str, key: &str) -> &'a str {
    let mut found = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = found.next().unwrap_or_else(|| panic!("{key} is missing"));
    assert_eq!(found.next(), None, "{key} stands there twice");
    value
}

#[tokio::test]
async fn each_unit_starts_its_program_as_it_says() {
    let units = files("systemd", "service");
    assert_eq!(units.len(), 2);
    for path in units {
        let unit = fs::read_to_string(&path).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().to_str().unwrap();
        fs::copy(root().join("examples/journal.yaml"), dir.path().join("only1.yaml")).unwrap();
        let line = setting(&unit, "ExecStart").replace("%l", "n1").replace("/etc/only1", here);
        let mut words = line.split_whitespace();
        let program = words.next().unwrap().strip_prefix("/usr/local/bin/").unwrap();
        let state = format!("/var/lib/{}", setting(&unit, "StateDirectory"));
        let arguments: Vec<_> = words.map(|word| word.replace(&state, &format!("{here}/state"))).collect();
        assert!(
            arguments.iter().any(|word| word.ends_with("/state")),
            "it keeps its state where systemd made a place"
        );
        let mut process = Process::start(program, &binary(program), |command| {
            let set = unit.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
            command.args(&arguments).envs(set).env("O1_LISTEN", "127.0.0.1:0").env("O1_ADMIN", "127.0.0.1:0");
        });
        for variable in ["O1_CONTROL", "O1_LISTEN", "O1_ADMIN"] {
            // The files of the environment are for what differs: a flag would beat them.
            let flag = format!("--{}", variable[3..].to_lowercase());
            assert!(!line.contains(&format!("{flag} ")), "{}: {flag} in ExecStart", path.display());
        }
        until(&format!("{program} to serve"), SOON, || {
            assert!(process.is_running(), "{}: {}", path.display(), process.stderr.text());
            std::future::ready(dir.path().join("state/addresses.json").is_file().then_some(()))
        })
        .await;
        process.signal(rustix::process::Signal::TERM);
        assert!(process.exit(SOON).await.success());
        // A call may take as long as it was told, and the processes of servers a moment more.
        let limit: u64 = setting(&unit, "TimeoutStopSec").parse().unwrap();
        let drain = arguments.iter().skip_while(|word| *word != "--drain").nth(1);
        assert!(limit > drain.map_or(0, |seconds| seconds.parse().unwrap()), "{}", path.display());
    }
}

/// Where there is no systemd, the test before this one is all that can be said.
#[test]
fn systemd_takes_each_unit() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for path in files("systemd", "service") {
        let programs = binary("o1ctl").parent().unwrap().to_str().unwrap().to_owned() + "/";
        let unit = fs::read_to_string(&path).unwrap().replace("/usr/local/bin/", &programs);
        let copy = dir.path().join(path.file_name().unwrap());
        fs::write(&copy, unit).unwrap();
        let verified =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && said.is_empty(), "{}: {said}", path.display());
    }
}

/// What asks for what: expressions of rules and panels, each with the labels that its texts name.
fn asked() -> Vec<(String, String, BTreeSet<String>)> {
    let rules = fs::read_to_string(root().join("examples/prometheus/only1.rules.yml")).unwrap();
    let mut asked = Vec::new();
    for rule in rules.split("      - alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        let expression = rule.split_once("expr: ").unwrap().1;
        // Folded, it ends where the next key of the rule begins.
        let lines = expression
            .lines()
            .enumerate()
            .take_while(|(at, line)| *at == 0 || line.starts_with("          "));
        let expression: String =
            lines.map(|(_, line)| line.trim_start_matches(">-").trim().to_owned() + " ").collect();
        let named = rule.split("$labels.").skip(1).map(|rest| observed::word(rest).to_owned()).collect();
        asked.push((name.to_owned(), expression, named));
    }
    assert!(asked.len() >= 14);
    let board = fs::read_to_string(root().join("examples/grafana/only1.json")).unwrap();
    let board: Value = serde_json::from_str(&board).unwrap();
    for panel in board["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().unwrap() {
            let legend = target["legendFormat"].as_str().unwrap();
            let named = legend.split("{{").skip(1).map(|rest| observed::word(rest).to_owned()).collect();
            let (title, expression) = (panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap());
            asked.push((title.to_owned(), expression.to_owned(), named));
        }
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_dashboard_ask_for_what_is_served() {
    let served = served().await;
    let mut wrong = Vec::new();
    for (who, expression, named) in asked() {
        let query = observed::query(&expression);
        assert!(!query.series.is_empty(), "{who} asks for nothing: {expression}");
        let mut labels: BTreeSet<&str> = ["instance", "job"].into();
        for Series { name, labels: asked } in &query.series {
            let Some(there) = served.get(name) else {
                wrong.push(format!("{who}: {name} is not served"));
                continue;
            };
            labels.extend(there.iter().map(String::as_str));
            wrong.extend(
                asked
                    .iter()
                    .filter(|label| !there.contains(*label))
                    .map(|label| format!("{who}: {name} has no {label}")),
            );
        }
        let unknown = query.grouped.iter().chain(&named).filter(|label| !labels.contains(label.as_str()));
        wrong.extend(unknown.map(|label| format!("{who}: nothing it asks for has {label}")));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// What both planes serve, with an upstream that has a backup and clients of which one asks for what is not there.
async fn served() -> BTreeMap<String, BTreeSet<String>> {
    let (primary, backup) = (Backend::start().await, Backend::start().await);
    let upstream = format!("{}    backup:\n      - url: {}\n", primary.upstream("weather"), backup.url());
    let gateway = Gateway::start(&config([
        upstream,
        "  gone:\n    primary:\n      - url: http://127.0.0.1:1/mcp\n".to_owned(),
    ]))
    .await;
    Legacy::open(gateway.address(), "/u/weather/mcp").await.call("echo", "{}").await;
    let gone = o1_tests::Modern::new(gateway.address(), "/u/gone/mcp");
    gone.request("tools/list", "{}").await;
    until("every metric that examples ask for", SOON, || async {
        let mut served = BTreeMap::new();
        for admin in [gateway.data.admin, gateway.control.admin] {
            let text = observed::scrape(admin).await;
            served.extend(observed::served(&text));
        }
        let probed = served.contains_key("o1_endpoint_healthy") && served.contains_key("o1_failures_total");
        probed.then_some(served)
    })
    .await
}

#[test]
fn a_rule_that_asks_for_nothing_is_caught() {
    let query = observed::query(
        r#"sum by (upstream, le) (rate(o1_a_bucket{x="o1_b",y=~".*"}[5m])) > 0 unless ignoring (z) o1_c"#,
    );
    let series = |name: &str, labels: &[&str]| Series {
        name: name.to_owned(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
    };
    assert_eq!(query.series, [series("o1_a_bucket", &["x", "y"]), series("o1_c", &[])]);
    assert_eq!(query.grouped, ["upstream", "le", "z"]);
    let text = "# TYPE o1_a histogram\no1_a_bucket{x=\"1,}\",le=\"+Inf\"} 3\no1_c 4\n";
    let served = observed::served(text);
    assert_eq!(served["o1_a_bucket"], ["le", "x"].map(str::to_owned).into());
    assert!(served["o1_c"].is_empty() && served.len() == 2);
}
