//! Many data planes on one control plane, and what operators see of them.

use crate::config;
use o1_tests::{Backend, ControlPlane, DataPlane, Gateway, Http, Modern, until};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn two_data_planes_show_side_by_side_and_run_the_same() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let second = DataPlane::start(gateway.control.listen, "n2").await;
    gateway.control.synced("n2").await;
    let nodes = gateway.control.o1ctl(&["nodes"]).await;
    let nodes = nodes["nodes"].as_array().unwrap();
    let ids: Vec<_> = nodes.iter().map(|node| node["node_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["n1", "n2"]);
    assert_eq!(nodes[0]["applied"], nodes[1]["applied"]);
    assert_ne!(nodes[0]["node_uid"], nodes[1]["node_uid"]);
    assert_eq!(nodes[1]["listen"], second.listen.to_string());
    assert_eq!(nodes[1]["admin"], second.admin.to_string());
    for address in [gateway.address(), second.listen] {
        assert_eq!(Modern::new(address, "/mcp").tools().await, ["only__echo"]);
    }
    let status = gateway.control.o1ctl(&["status"]).await;
    assert_eq!(
        (&status["nodes"]["connected"], &status["nodes"]["synced"]),
        (&2.into(), &2.into()),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_cannot_run_is_taken_back_from_all_and_the_reasons_are_said() {
    let backend = Backend::start().await;
    let control = ControlPlane::start(&config([backend.upstream("only")])).await;
    let with = o1_tests::planes::Options {
        environment: vec![("O1_TEST_TOKEN".into(), "secret-of-the-test".into())],
        ..Default::default()
    };
    let able = DataPlane::start_with(control.listen, "able", with).await;
    let mut unable = DataPlane::start(control.listen, "unable").await;
    control.synced("able").await;
    control.synced("unable").await;

    let headers = "    headers: {Authorization: \"env:O1_TEST_TOKEN\"}\n";
    let edit = config([backend.upstream("only") + headers, backend.upstream("more")]);
    control.edit(&edit);
    let refused = async |control: &ControlPlane, expected: bool| {
        until("the file to be refused or not", Duration::from_secs(20), || async {
            let status = control.o1ctl(&["status"]).await;
            (status["control_plane"]["source"]["refused"] == expected).then_some(status)
        })
        .await
    };
    let status = refused(&control, true).await;
    let problem = &status["control_plane"]["source"]["problems"][0];
    assert_eq!(problem["rule"], "config-rolled-back", "{problem}");
    let what = problem["what"].as_str().unwrap();
    for word in ["unable", "only", "authorization", "O1_TEST_TOKEN"] {
        assert!(what.contains(word), "{what}");
    }
    for (node, address) in [("able", able.listen), ("unable", unable.listen)] {
        control.synced(node).await;
        assert_eq!(Modern::new(address, "/mcp").tools().await, ["only__echo"], "{node} has what it had");
    }
    let history = control.o1ctl(&["config", "history"]).await;
    let states: Vec<_> = history["revisions"].as_array().unwrap().iter().map(|one| &one["rollout"]).collect();
    assert_eq!(states, ["succeeded", "rolled_back", "succeeded"], "{history}");
    assert_eq!(history["revisions"][1]["refused"][0]["node_id"], "unable", "{history}");
    assert_eq!(history["revisions"][1]["refused"][0]["rejections"][0]["reason"], "local_dependency");
    let said = control.process.stderr.text() + &able.process.stderr.text() + &unable.process.stderr.text();
    assert!(!said.contains("secret-of-the-test"), "no log holds the secret");

    // The reasons outlive the control plane, which does not try again by itself.
    let mut control = control;
    control.restart().await;
    let again = refused(&control, true).await;
    assert_eq!(again["control_plane"]["source"]["problems"][0]["what"], what);
    control.synced("able").await;
    assert_eq!(control.o1ctl(&["config", "history"]).await["revisions"].as_array().unwrap().len(), 3);

    // Without the node that cannot, any edit is another try.
    unable.process.kill();
    control.edit(&(edit + "# again\n"));
    refused(&control, false).await;
    until("the edit to be served", Duration::from_secs(20), || async {
        (Modern::new(able.listen, "/mcp").tools().await.len() == 2).then_some(())
    })
    .await;
    assert_eq!(Modern::new(able.listen, "/mcp").call("only__echo", "{}").await.status, 200);
    assert_eq!(backend.last("tools/call").header("authorization"), "secret-of-the-test");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_becomes_unreachable_and_one_that_leaves_has_left() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let mut second = DataPlane::start(gateway.control.listen, "n2").await;
    gateway.control.synced("n2").await;
    second.process.signal(rustix::process::Signal::TERM);
    second.process.exit(Duration::from_secs(30)).await;
    gateway.control.node_until("n2", "left", |node| node["state"] == "left").await;
    gateway.data.process.kill();
    until("n1 to be unreachable", Duration::from_secs(60), || async {
        gateway.control.node("n1").await.filter(|node| node["state"] == "unreachable")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_which_upstream_works() {
    let (up, mut down) = (Backend::start().await, Backend::start().await);
    let text = config([up.upstream("up"), down.upstream("down")]);
    down.stop().await;
    let gateway = Gateway::start(&text).await;
    let modern = Modern::new(gateway.address(), "/mcp");
    for _ in 0..20 {
        assert_eq!(modern.call("up__echo", "{}").await.status, 200);
    }
    let status = until("figures of both upstreams", Duration::from_secs(40), || async {
        let status = gateway.control.o1ctl(&["status"]).await;
        let upstreams = status["upstreams"].as_array()?;
        let state = |name: &str| upstreams.iter().find(|upstream| upstream["name"] == name);
        let right = state("up")?["state"] == "healthy"
            && state("down")?["state"] == "unreachable"
            && state("up")?["totals"]["requests"].as_u64()? >= 20;
        right.then(|| status.clone())
    })
    .await;
    let down =
        status["upstreams"].as_array().unwrap().iter().find(|upstream| upstream["name"] == "down").unwrap();
    assert!(!down["errors"].as_array().unwrap().is_empty(), "it says why: {down}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_admin_ports_answer() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    for (who, admin) in [("data plane", gateway.data.admin), ("control plane", gateway.control.admin)] {
        let http = Http::new(admin);
        for path in ["/livez", "/readyz", "/version", "/health", "/status", "/metrics"] {
            let reply = http.get(path).await;
            assert_eq!(reply.status, 200, "{who} {path}: {}", reply.text());
            assert!(!reply.text().is_empty(), "{who} {path}");
        }
        let metrics = http.get("/metrics").await.text();
        let samples: Vec<_> =
            metrics.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert!(!samples.is_empty(), "{who}");
        for sample in samples {
            let value = sample.rsplit(' ').next().unwrap();
            assert!(sample.starts_with("o1_") && value.parse::<f64>().is_ok(), "{who}: {sample}");
        }
        assert_eq!(http.get("/nothing").await.status, 404, "{who}");
        assert_eq!(http.send("POST", "/status", &[], "{}").await.status, 405, "{who}");
    }
}
