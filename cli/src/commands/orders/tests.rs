use crate::{
    Terminal,
    args::Args,
    client::scripted::Scripted,
    report::{Error, Exit},
    terminal::Captured,
};
use std::net::SocketAddr;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Runs a command line, in which `_` stands for a blank within a word.
async fn run(address: SocketAddr, line: &str, terminal: &mut Terminal) -> Result<Exit, Error> {
    let words = line.split_whitespace().map(|word| word.replace('_', " ").into());
    let line = ["o1ctl".into(), "--control".into(), format!("http://{address}").into()];
    let args = Args::read(line.into_iter().chain(words)).unwrap();
    crate::perform(&args, terminal).await
}

/// Its exit code, and what it wrote to the two streams.
async fn said(address: SocketAddr, line: &str) -> (Exit, String, String) {
    let (mut terminal, out, err) = Captured::terminal();
    let exit = run(address, line, &mut terminal).await;
    let exit = exit.unwrap_or_else(|error| error.report(&mut terminal));
    (exit, out.text(), err.text())
}

#[tokio::test]
async fn an_order_goes_out_with_a_reason_and_an_id_of_its_own() {
    let server = Scripted::start(ANY, 100).await;
    let at = server.address;
    let (exit, out, err) = said(at, "failover files --reason the_disk --if-term 2").await;
    assert_eq!((exit, err.as_str()), (Exit::Healthy, ""));
    insta::assert_snapshot!(out, @"
        ordered the backup for files (term 3) at 3 nodes
          how it goes: o1ctl status files --watch
        ");
    said(at, "failover files --reason the_disk").await;
    said(at, "restore files --reason x --force --request-id mine").await;
    let heard = server.heard();
    let id = |at: usize| heard[at].rsplit(' ').next().unwrap();
    assert_eq!(
        heard[0],
        format!("Backup of files, if_term 2, force false, dry_run false, the disk, {}", id(0))
    );
    assert!(id(0).len() == 32 && id(0).chars().all(|c| c.is_ascii_hexdigit()) && id(0) != id(1), "{heard:?}");
    assert_eq!(heard[2], "Primary of files, if_term 0, force true, dry_run false, x, mine");
}

#[tokio::test]
async fn what_would_happen_and_what_is_so_already_is_told_as_such() {
    let server = Scripted::start(ANY, 100).await;
    let at = server.address;
    insta::assert_snapshot!(said(at, "failover files --reason x --dry-run --force").await.1, @"
        would order the backup for files (term 3) at 3 nodes; nothing was done
          ⚠️ forced
        ");
    insta::assert_snapshot!(said(at, "restore files --reason again").await.1, @"files is on the primary already (term 3): nothing to order");
    assert!(server.heard()[0].contains("dry_run true"));
    let (_, out, _) = said(at, "failover files --reason x --request-id r --json").await;
    insta::assert_snapshot!(out, @r#"
        {
          "upstream": "files",
          "target": "backup",
          "kind": "order",
          "request_id": "r",
          "term": 3,
          "decision_id": "d-3",
          "nodes": 3,
          "journal_pending": 0,
          "warnings": [],
          "no_op": false,
          "waited": null
        }
        "#);
}

#[tokio::test]
async fn an_order_that_is_not_carried_out_says_why_and_what_to_do() {
    let server = Scripted::start(ANY, 100).await;
    let mut told = Vec::new();
    for (line, code) in [
        ("failover fils --reason x", Exit::Usage),
        ("failover weather --reason x", Exit::Degraded),
        ("failover files --reason unusable", Exit::Degraded),
        ("restore files --reason late", Exit::Degraded),
        ("failover files --reason early", Exit::Degraded),
        ("pin files backup --reason unusable", Exit::Degraded),
        ("maintenance off --reason x --for 1h", Exit::Usage),
    ] {
        let (exit, out, err) = said(server.address, line).await;
        assert_eq!((exit, out.as_str()), (code, ""), "{line}: {err}");
        told.push(format!("{line}\n{}", err.replace(&server.address.to_string(), "HOST:PORT")));
    }
    insta::assert_snapshot!(told.join("\n"), @"
        failover fils --reason x
        error: no upstream is named `fils`

        hint: did you mean `files`?

        failover weather --reason x
        error: upstream `weather` has no backup: there is one store only

        hint: a `backup` in its configuration names one

        failover files --reason unusable
        error: no node sees the backup healthy

        hint: o1ctl explain files says what each node sees; --force orders it all the same

        restore files --reason late
        error: the term is 4, not 3

        hint: somebody decided meanwhile: look at o1ctl explain files, then order again

        failover files --reason early
        error: the control plane at http://HOST:PORT cannot do this: failover comes later

        hint: it is of an older version: update it

        pin files backup --reason unusable
        error: no node sees the backup healthy

        hint: o1ctl explain files says what each node sees

        maintenance off --reason x --for 1h
        error: --for goes with `on`

        hint: o1ctl maintenance on --for 1h --reason TEXT
        ");
    let (exit, _, err) =
        said(server.address, "failover files --reason crash --request-id r --timeout 200ms").await;
    assert_eq!(exit, Exit::Unreachable);
    assert!(
        err.starts_with("it is not known whether the order arrived; with --request-id r it can"),
        "{err}"
    );
}

#[tokio::test]
async fn waiting_tells_who_lags_until_every_node_is_there() {
    let server = Scripted::start(ANY, 100).await;
    let (mut terminal, out, err) = Captured::terminal();
    let story = async {
        err.until("0 of 3 nodes on the backup").await;
        server.revision.send(101).unwrap();
        err.until("1 of 3 nodes on the backup").await;
        server.revision.send(102).unwrap();
        err.until("2 of 3 nodes on the backup").await;
        server.revision.send(103).unwrap();
    };
    let waiting = run(server.address, "failover files --reason x --wait", &mut terminal);
    let (exit, ()) = tokio::join!(waiting, story);
    assert_eq!(exit.unwrap(), Exit::Healthy, "{}", err.text());
    insta::assert_snapshot!(err.text(), @"
        0 of 3 nodes on the backup; not yet: n1 (on the primary), n2 (on the primary), n3 (on the primary)
        1 of 3 nodes on the backup; not yet: n2 (draining the primary), n3 (draining the primary)
        2 of 3 nodes on the backup; not yet: n3 (draining the primary)
        ");
    assert!(out.text().contains("  3 of 3 nodes on the backup after "), "{}", out.text());
}

#[tokio::test]
async fn waiting_has_an_end_and_names_the_ones_that_lag() {
    let server = Scripted::start(ANY, 102).await;
    let (exit, out, _) = said(server.address, "failover files --reason x --wait=300ms").await;
    assert_eq!(exit, Exit::Degraded);
    insta::assert_snapshot!(out, @"
        ordered the backup for files (term 3) at 3 nodes
          ⚠️ not done after 300ms: 2 of 3 nodes on the backup; not yet: n3 (draining the primary); the order stands
        ");
    let (exit, out, _) = said(server.address, "restore files --reason x --wait=300ms --json").await;
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (exit, &report["waited"]["lagging"][0]["node_id"]),
        (Exit::Degraded, &"n1".into()),
        "{report}"
    );
}

#[tokio::test]
async fn pins_and_maintenance_end_when_they_should() {
    let server = Scripted::start(ANY, 100).await;
    let at = server.address;
    let mut told = Vec::new();
    for line in [
        "pin files backup --reason x",
        "unpin files --reason x",
        "maintenance on --reason x --for 90m",
        "maintenance on --reason x",
        "maintenance off --reason x",
    ] {
        let (exit, out, err) = said(at, line).await;
        assert_eq!((exit, err.as_str()), (Exit::Healthy, ""), "{line}");
        told.push(out);
    }
    insta::assert_snapshot!(told.concat(), @"
        files is pinned to the backup until somebody runs o1ctl unpin files --reason TEXT
          where it is: o1ctl explain files
        files is not pinned: the control plane decides
          where it is: o1ctl explain files
        maintenance: nothing happens by itself for 1h 30m; decisions are maintenance
        maintenance: nothing happens by itself until somebody runs o1ctl maintenance off --reason TEXT; decisions are maintenance
        maintenance is over; decisions are active
        ");
    let (_, out, _) = said(at, "pin files primary --reason x --for 1h").await;
    assert!(out.starts_with("files is pinned to the primary until 2096-10-0"), "{out}");
    let heard = server.heard();
    assert_eq!(heard[0], "PinBackup of files for None");
    assert_eq!(heard[1], "Auto of files for None");
    assert_eq!(heard[2], "maintenance true for Some(Duration { seconds: 5400, nanos: 0 })");
    assert_eq!(heard[5], "PinPrimary of files for Some(Duration { seconds: 3600, nanos: 0 })");
}

#[tokio::test]
async fn an_upstream_is_explained_by_its_name() {
    let server = Scripted::start(ANY, 103).await;
    server.events.send_replace(5);
    let (exit, out, err) = said(server.address, "explain files").await;
    assert_eq!((exit, err.as_str()), (Exit::FailoverActive, ""));
    assert!(out.starts_with("files\n  ⚠️ backup; store: backup"), "{out}");
    assert!(out.contains("decision  backup (term 3) since 2027-01-15"), "dated by the log: {out}");
    let (exit, out, _) = said(server.address, "explain files --json").await;
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(exit, Exit::FailoverActive);
    assert_eq!(
        (&answer["last_decision"]["position"], &answer["upstream"]["failover"]["nodes_on_backup"]),
        (&5.into(), &3.into())
    );
    // A question about a tool: this control plane does not answer such.
    let (exit, ..) = said(server.address, "explain files --server x").await;
    assert_eq!(exit, Exit::Unreachable);
}

#[tokio::test]
async fn status_exits_with_two_while_a_backup_serves() {
    let server = Scripted::start(ANY, 103).await;
    assert_eq!(said(server.address, "status").await.0, Exit::FailoverActive);
    assert_eq!(said(server.address, "status weather").await.0, Exit::Healthy);
    server.revision.send(100).unwrap();
    assert_eq!(said(server.address, "status").await.0, Exit::Healthy);
}
