//! Who may what between the planes, from the files that `o1ctl certs init` makes, and what becomes of everybody else.

use crate::config;
use o1_tests::{
    Backend, ControlPlane, DataPlane, Modern, binaries::binary, planes::Options, tls::Authority, until,
    until_true,
};
use serde_json::Value;
use std::{fs, net::SocketAddr, path::Path, process::Output, time::Duration};

pub const SOON: Duration = Duration::from_secs(20);

/// What a command came to.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs `o1ctl` without anything of the environment that says where and as whom.
pub async fn o1ctl(arguments: &[&str], environment: &[(&str, &str)]) -> Done {
    let mut command = tokio::process::Command::new(binary("o1ctl"));
    command.args(arguments).env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME").kill_on_drop(true);
    command.envs(environment.iter().copied());
    let run = tokio::time::timeout(SOON, command.output());
    let Output { status, stdout, stderr } = run.await.expect("o1ctl ends").expect("o1ctl starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Done { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// A folder with an authority, the control plane on 127.0.0.1, nodes n1 and n2, and three people.
pub struct Certs {
    folder: tempfile::TempDir,
}

impl Certs {
    pub async fn init() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certs = Self { folder };
        let dir = certs.dir();
        let people = ["viewer/eve", "editor/ed", "operator/ann"].into_iter().flat_map(|one| ["--user", one]);
        let mut line = vec!["certs", "init", &dir, "--host", "127.0.0.1", "--node", "n1", "--node", "n2"];
        line.extend(people);
        let done = o1ctl(&line, &[]).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        certs
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join("certs").join(name).display().to_string()
    }

    pub fn dir(&self) -> String {
        self.folder.path().join("certs").display().to_string()
    }

    /// Flags of the control plane.
    pub fn plane(&self) -> Vec<String> {
        let files =
            ["--tls-cert", "control-plane.pem", "--tls-key", "control-plane.key", "--client-ca", "ca.pem"];
        self.flags(&files)
    }

    /// How a node reaches it, with the certificate of this node.
    pub fn node(&self, control: SocketAddr, id: &str) -> Options {
        let (cert, key) = (format!("node-{id}.pem"), format!("node-{id}.key"));
        let files = ["--control-ca", "ca.pem", "--control-cert", &cert, "--control-key", &key];
        Options {
            arguments: self.flags(&files),
            control: Some(format!("https://{control}")),
            ..Options::default()
        }
    }

    fn flags(&self, files: &[&str]) -> Vec<String> {
        let value =
            |(at, word): (usize, &&str)| if at % 2 == 0 { (*word).to_owned() } else { self.path(word) };
        files.iter().enumerate().map(value).collect()
    }

    /// `o1ctl` as one of the people.
    pub async fn as_one(&self, who: &str, control: SocketAddr, arguments: &[&str]) -> Done {
        let (url, ca) = (format!("https://{control}"), self.path("ca.pem"));
        let (cert, key) = (self.path(&format!("{who}.pem")), self.path(&format!("{who}.key")));
        let who = ["--control", &url, "--ca", &ca, "--cert", &cert, "--key", &key];
        o1ctl(&[arguments, &who].concat(), &[]).await
    }

    /// The audit as the viewer sees it, the oldest entry first.
    pub async fn audit(&self, control: SocketAddr) -> Vec<Value> {
        let done = self.as_one("viewer-eve", control, &["audit", "--json"]).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub async fn synced(&self, control: SocketAddr, id: &str) {
        until_true(&format!("{id} runs the configuration"), SOON, || async {
            let done = self.as_one("viewer-eve", control, &["nodes", "--json"]).await;
            let Ok(nodes) = serde_json::from_str::<Value>(&done.out) else { return false };
            let nodes = nodes["nodes"].as_array().cloned().unwrap_or_default();
            nodes
                .iter()
                .any(|node| node["node_id"] == id && node["sync"] == "synced" && node["state"] == "connected")
        })
        .await;
    }
}

pub fn strs(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

/// Waits for an entry of the audit.
async fn noted(certs: &Certs, control: SocketAddr, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let wanted = &wanted;
    until(what, SOON, || async move { certs.audit(control).await.into_iter().find(wanted) }).await
}

fn has(entry: &Value, field: &str, text: &str) -> bool {
    entry[field].as_str().is_some_and(|found| found.contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_out_of_certs_init_serves_and_everybody_may_what_his_role_says() {
    let certs = Certs::init().await;
    let backend = Backend::start().await;
    let mut control =
        ControlPlane::start_without_file_with(&config([backend.upstream("only")]), &strs(&certs.plane()))
            .await;
    let document = control.config().display().to_string();
    let ask = async |who: &str, line: &[&str]| certs.as_one(who, control.listen, line).await;

    let refused = ask("viewer-eve", &["config", "apply", &document, "--comment", "me too"]).await;
    assert_eq!(refused.code, Some(5), "{refused:?}");
    for words in ["needs the role editor", "`eve`", "viewer", "does not allow that"] {
        assert!(refused.err.contains(words), "{words}: {}", refused.err);
    }
    let applied = ask("editor-ed", &["config", "apply", &document, "--comment", "the first"]).await;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let history: Value =
        serde_json::from_str(&ask("viewer-eve", &["config", "history", "--json"]).await.out).unwrap();
    assert!(history.to_string().contains("\"actor\":\"ed\""), "the name, not the address: {history}");

    let data = DataPlane::start_with(control.listen, "n1", certs.node(control.listen, "n1")).await;
    certs.synced(control.listen, "n1").await;
    let reply = Modern::new(data.listen, "/mcp").call("only__echo", r#"{"n":1}"#).await;
    assert_eq!(reply.result()["structuredContent"]["n"], 1);

    assert_eq!(ask("editor-ed", &["cache", "purge"]).await.code, Some(5), "an editor orders nothing");
    assert_eq!(ask("operator-ann", &["cache", "purge"]).await.code, Some(0));
    assert_eq!(ask("operator-ann", &["maintenance", "on", "--reason", "a new disk"]).await.code, Some(0));
    let node = ask("node-n1", &["status"]).await;
    assert_eq!(node.code, Some(5), "a node is nobody's viewer: {node:?}");

    let eve = noted(&certs, control.listen, "the refusal", |one| one["who"] == "eve").await;
    assert!(
        eve["outcome"] == "refused" && has(&eve, "action", "ApplyConfig") && has(&eve, "from", "127.0.0.1")
    );
    noted(&certs, control.listen, "the node", |one| one["who"] == "n1" && one["outcome"] == "refused").await;
    let ed =
        noted(&certs, control.listen, "the change", |one| one["who"] == "ed" && one["outcome"] == "done")
            .await;
    assert!(
        has(&ed, "why", "the first") && has(&ed, "detail", "version") && has(&ed, "subject", "only1.yaml"),
        "{ed}"
    );
    assert_ne!(ed["request_id"], "");
    noted(&certs, control.listen, "the purge", |one| has(one, "action", "PurgeCache") && one["who"] == "ann")
        .await;
    let order =
        noted(&certs, control.listen, "maintenance", |one| has(one, "action", "SetMaintenance")).await;
    assert!(order["who"] == "ann" && has(&order, "why", "a new disk"), "{order}");
    let before = certs.audit(control.listen).await;
    control.restart().await;
    assert_eq!(certs.audit(control.listen).await, before, "it outlives the process");
    let people = certs.as_one("viewer-eve", control.listen, &["audit", "--kind", "refusal"]).await.out;
    assert!(people.contains("eve (viewer), 127.0.0.1") && !people.contains("a new disk"), "{people}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_is_refused_said_and_noted() {
    let certs = Certs::init().await;
    let (ours, foreign) = (Authority::new(), Authority::new());
    // The authority of the test may make certificates for people, too.
    let both = fs::read_to_string(certs.path("ca.pem")).unwrap() + &ours.pem();
    fs::write(certs.path("clients.pem"), both).unwrap();
    let mut flags = certs.plane();
    flags[5] = certs.path("clients.pem");
    let control = ControlPlane::start_with("upstreams: {}\n", &strs(&flags)).await;
    let url = format!("https://{}", control.listen);
    let keep = |name: &str, pair: o1_tests::tls::Pair| {
        fs::write(certs.path(&format!("{name}.pem")), pair.cert).unwrap();
        fs::write(certs.path(&format!("{name}.key")), pair.key).unwrap();
    };
    keep("good", ours.issue_for("only1://operator/ann", (2020, 2090)));
    keep("expired", ours.issue_for("only1://operator/ann", (2020, 2021)));
    keep("foreign", foreign.issue_for("only1://operator/ann", (2020, 2090)));
    keep("nobody", ours.issue_for("spiffe://x/y", (2020, 2090)));
    assert_eq!(certs.as_one("good", control.listen, &["audit"]).await.code, Some(0));
    for (who, words, entry) in [
        ("expired", "the certificate that it was shown has expired", "its certificate has expired"),
        ("foreign", "does not trust the authority", "authority that is not trusted here"),
        ("nobody", "names nobody", "names nobody"),
    ] {
        let done = certs.as_one(who, control.listen, &["audit"]).await;
        assert_eq!(done.code, Some(5), "{who}: {done:?}");
        assert!(done.err.contains(words) && done.err.contains("hint:"), "{who}: {}", done.err);
        noted(&certs, control.listen, who, |one| has(one, "detail", entry) && one["outcome"] == "refused")
            .await;
    }
    let ca = certs.path("ca.pem");
    let none = o1ctl(&["audit", "--control", &url, "--ca", &ca], &[]).await;
    assert_eq!(none.code, Some(5), "{none:?}");
    assert!(none.err.contains("wants a certificate and was shown none"), "{}", none.err);
    noted(&certs, control.listen, "nobody at all", |one| has(one, "detail", "it showed no certificate"))
        .await;

    let plain = o1ctl(&["audit", "--control", &format!("http://{}", control.listen)], &[]).await;
    assert_eq!(plain.code, Some(3), "{plain:?}");
    assert!(plain.err.contains("speaks TLS only") && plain.err.contains("https://"), "{}", plain.err);
    noted(&certs, control.listen, "plaintext", |one| has(one, "detail", "does not speak TLS")).await;
    let strange = o1ctl(&["audit", "--control", &url], &[]).await;
    assert_eq!(strange.code, Some(3), "the authority is not the system's: {strange:?}");
    let port = control.listen.port();
    let named = o1ctl(&["audit", "--control", &format!("https://[::1]:{port}"), "--ca", &ca], &[]).await;
    assert_eq!(named.code, Some(3), "nothing listens there: {named:?}");
    let open = ControlPlane::start("upstreams: {}\n").await;
    let reverse = certs.as_one("viewer-eve", open.listen, &["audit"]).await;
    assert_eq!(reverse.code, Some(3), "{reverse:?}");
    assert!(reverse.err.contains("does not speak TLS") && reverse.err.contains("http://"), "{}", reverse.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_claims_the_id_of_another_is_refused_said_and_noted() {
    let certs = Certs::init().await;
    let backend = Backend::start().await;
    let control = ControlPlane::start_with(&config([backend.upstream("only")]), &strs(&certs.plane())).await;
    let with = Options { not_ready: true, ..certs.node(control.listen, "n2") };
    let liar = DataPlane::start_with(control.listen, "n1", with).await;
    let words = "this node calls itself `n1`, and its certificate or token is that of the node `n2`";
    until_true("the node says why", SOON, || async { liar.process.stderr.text().contains(words) }).await;
    let entry = noted(&certs, control.listen, "the claim", |one| has(one, "detail", words)).await;
    assert!(entry["who"] == "n2" && entry["role"] == "node" && has(&entry, "subject", "n1"), "{entry}");
    let nodes = certs.as_one("viewer-eve", control.listen, &["nodes", "--json"]).await;
    assert!(!nodes.out.contains("\"n1\""), "{}", nodes.out);
    drop(liar);
    // A person is no node either, and a node without a certificate is nobody.
    let mut with = Options { not_ready: true, ..certs.node(control.listen, "n1") };
    (with.arguments[3], with.arguments[5]) = (certs.path("operator-ann.pem"), certs.path("operator-ann.key"));
    let person = DataPlane::start_with(control.listen, "ann", with).await;
    until_true("the person is refused", SOON, || async {
        person.process.stderr.text().contains("NodeService/Sync needs the role node")
    })
    .await;
    noted(&certs, control.listen, "the person", |one| one["who"] == "ann" && has(one, "action", "Sync"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_until_it_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut lines = Vec::new();
    for (name, role) in [("eve", "viewer"), ("n1", "node"), ("ann", "operator")] {
        let done = o1ctl(&["token", "new", "--name", name, "--role", role], &[]).await;
        let mut said = done.out.lines().filter(|line| !line.is_empty());
        fs::write(path(name), said.next().unwrap()).unwrap();
        lines.push(said.next().unwrap().to_owned());
    }
    fs::write(path("tokens"), lines.join("\n")).unwrap();
    let backend = Backend::start().await;
    let control =
        ControlPlane::start_with(&config([backend.upstream("only")]), &["--tokens", &path("tokens")]).await;
    let url = format!("http://{}", control.listen);
    let as_one = async |who: &str, line: &[&str]| {
        o1ctl(&[line, &["--control", &url, "--token-file", &path(who)]].concat(), &[]).await
    };
    let absent = o1ctl(&["audit", "--control", &url], &[]).await;
    assert_eq!(absent.code, Some(5), "{absent:?}");
    assert!(absent.err.contains("show a token") && absent.err.contains("O1_TOKEN"), "{}", absent.err);
    let wrong = o1ctl(&["audit", "--control", &url], &[("O1_TOKEN", "o1_wrong_wrong_wrong_wrong")]).await;
    assert_eq!(wrong.code, Some(5), "{wrong:?}");
    assert!(wrong.err.contains("none that counts") && !wrong.err.contains("o1_wrong"), "{}", wrong.err);
    let eve = fs::read_to_string(path("eve")).unwrap();
    assert_eq!(o1ctl(&["audit", "--control", &url], &[("O1_TOKEN", &eve)]).await.code, Some(0));
    assert_eq!(as_one("eve", &["cache", "purge"]).await.code, Some(5));

    let arguments = vec!["--control-token-file".to_owned(), path("n1")];
    let _data =
        DataPlane::start_with(control.listen, "n1", Options { arguments, ..Options::default() }).await;
    until_true("the node is there", SOON, || async {
        as_one("eve", &["nodes", "--json"]).await.out.contains("\"connected\"")
    })
    .await;
    assert_eq!(as_one("ann", &["cache", "purge"]).await.code, Some(0));

    fs::write(path("tokens"), lines[1..].join("\n")).unwrap();
    until_true("the token counts no more", SOON, || async {
        as_one("eve", &["audit"]).await.code == Some(5)
    })
    .await;
    let audit = as_one("ann", &["audit", "--json"]).await.out;
    for words in ["\"who\":\"ann\"", "none that counts", "show a token", "needs the role operator"] {
        assert!(audit.contains(words), "{words}: {audit}");
    }
    for secret in ["o1_wrong", eve.trim()] {
        let log = control.process.stderr.text();
        assert!(!audit.contains(secret) && !log.contains(secret), "a token is never shown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_say_where_and_as_whom() {
    let certs = Certs::init().await;
    let control = ControlPlane::start_with("upstreams: {}\n", &strs(&certs.plane())).await;
    let open = ControlPlane::start("upstreams: {}\n").await;
    let home = certs.folder().display().to_string();
    let etc = certs.folder().join(".config/only1");
    fs::create_dir_all(&etc).unwrap();
    let profiles = format!(
        "default = \"prod\"\n[profiles.prod]\ncontrol = \"https://{}\"\nca = \"~/certs/ca.pem\"\n\
         cert = \"../../certs/viewer-eve.pem\"\nkey = \"{}\"\n[profiles.dev]\ncontrol = \"http://{}\"\n",
        control.listen,
        certs.path("viewer-eve.key"),
        open.listen,
    );
    fs::write(etc.join("o1ctl.toml"), profiles).unwrap();
    let run = async |line: &[&str], environment: &[(&str, &str)]| {
        let home = [("HOME", home.as_str())];
        o1ctl(line, &[&home[..], environment].concat()).await
    };
    let page = |done: Done| (done.code, done.out + &done.err);
    let (code, text) = page(run(&["audit"], &[]).await);
    assert_eq!(code, Some(0), "the default, over TLS: {text}");
    let (code, text) = page(run(&["cache", "purge"], &[]).await);
    assert!(code == Some(5) && text.contains("`eve`"), "{text}");
    let (code, text) = page(run(&["maintenance", "off", "--reason", "x", "--profile", "dev"], &[]).await);
    assert_eq!(code, Some(0), "everybody here may everything: {text}");
    let (code, text) = page(run(&["maintenance", "off", "--reason", "x"], &[("O1_PROFILE", "dev")]).await);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = page(run(&["audit"], &[("O1_PROFILE", "none")]).await);
    assert!(code == Some(64) && text.contains("it has: dev, prod"), "{text}");
    let there = format!("https://{}", control.listen);
    let (code, text) = page(run(&["audit", "--control", &there], &[]).await);
    assert_eq!(code, Some(3), "an address by itself brings no authority along: {text}");
}
