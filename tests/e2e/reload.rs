//! Edits of the configuration file, as clients and operators see them.

use crate::config;
use o1_tests::{Answer, Backend, Gateway, Legacy, Modern, until};
use std::time::Duration;
use tokio::time::Instant;

/// What an edit may take on a busy machine. On a quiet one it takes less than two seconds; the tests print it.
const SOON: Duration = Duration::from_secs(8);

async fn gateway() -> (Gateway, Backend, Backend) {
    let (first, second) = (Backend::start().await, Backend::start().await);
    let gateway = Gateway::start(&config([first.upstream("first")])).await;
    (gateway, first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_reaches_connected_clients_and_disturbs_no_call() {
    let (gateway, first, second) = gateway().await;
    first.tool("slow", Answer::Later(Duration::from_secs(6), Box::new(Answer::text("finished"))));
    let client = Legacy::open(gateway.address(), "/mcp").await;
    assert_eq!(client.tools().await.first().map(String::as_str), Some("first__echo"));
    let mut stream = client.listen().await;
    until("the new tool of the first upstream", SOON, || async {
        first.notify(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
        client.tools().await.contains(&"first__slow".to_owned()).then_some(())
    })
    .await;

    let edits = async {
        // The stream may still carry what the line above caused.
        let mut was = client.tools().await.len();
        for (text, tool, there) in [
            (config([first.upstream("first"), second.upstream("second")]), "second__echo", true),
            (config([first.upstream("first")]), "second__echo", false),
        ] {
            let began = Instant::now();
            gateway.control.edit(&text);
            loop {
                stream.notification("notifications/tools/list_changed", SOON).await;
                let tools = client.tools().await;
                if tools.len() != was {
                    was = tools.len();
                    assert_eq!(tools.contains(&tool.to_owned()), there, "{tools:?}");
                    break;
                }
            }
            println!("an edit reached the client after {:?}", began.elapsed());
            assert!(began.elapsed() < SOON);
        }
    };
    let call = client.call("first__slow", "{}");
    let ((), reply) = tokio::join!(edits, call);
    assert_eq!(reply.result()["content"][0]["text"], "finished", "the call outlived two edits");
    assert_eq!(client.request("ping", "{}").await.status, 200, "the session outlived them too");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_edits_in_a_second_end_with_the_last_valid_one() {
    let (gateway, first, second) = gateway().await;
    let valid = config([first.upstream("first"), second.upstream("second")]);
    for n in 0..50 {
        match n % 3 {
            0 => gateway.control.edit("upstreams: {first: {primary: [{url: nonsense}]}}\n"),
            1 => gateway.control.edit(&config([first.upstream("first")])),
            _ => gateway
                .control
                .edit(&config([first.upstream("first"), second.upstream(&format!("second{n}"))])),
        }
        tokio::time::sleep(Duration::from_millis(18)).await;
    }
    gateway.control.edit(&valid);
    let modern = Modern::new(gateway.address(), "/mcp");
    until("the last edit to be served", SOON, || async {
        let mut tools = modern.tools().await;
        tools.sort();
        (tools == ["first__echo", "second__echo"]).then_some(())
    })
    .await;
    gateway.control.synced("n1").await;
    let status = gateway.control.o1ctl(&["status"]).await;
    assert_eq!(status["control_plane"]["source"]["refused"], false, "{status}");
    assert_eq!(status["upstreams"].as_array().map(Vec::len), Some(2), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_edit_changes_nothing_and_names_its_line() {
    let (gateway, first, _second) = gateway().await;
    let before = gateway.control.o1ctl(&["status"]).await;
    let good = config([first.upstream("first")]);
    let broken = format!("{good}    timeuots: {{idle: 5s}}\n");
    let line = broken.lines().count();
    gateway.control.edit(&broken);
    let status = until("the refusal in the status", SOON, || async {
        let status = gateway.control.o1ctl(&["status"]).await;
        (status["control_plane"]["source"]["refused"] == true).then_some(status)
    })
    .await;
    let problem = &status["control_plane"]["source"]["problems"][0];
    assert_eq!(problem["line"], line, "{problem}");
    assert!(problem.to_string().contains("timeouts"), "it says what was meant: {problem}");
    let target = |status: &serde_json::Value| status["control_plane"]["target"].clone();
    assert_eq!(target(&status), target(&before), "what should run has not changed");
    assert_eq!(Modern::new(gateway.address(), "/mcp").tools().await, ["first__echo"]);
    assert!(gateway.control.node("n1").await.is_some_and(|node| node["sync"] == "synced"));

    gateway.control.edit(&good);
    until("the refusal to be over", SOON, || async {
        let status = gateway.control.o1ctl(&["status"]).await;
        (status["control_plane"]["source"]["refused"] == false).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_replacing_the_file_is_noticed() {
    let (gateway, first, second) = gateway().await;
    let file = gateway.control.config();
    let folder = file.parent().unwrap().to_owned();
    let modern = Modern::new(gateway.address(), "/mcp");
    let upstream = |n: usize| config([first.upstream("first"), second.upstream(&format!("second{n}"))]);
    for (n, way) in ["rename", "delete and create", "link"].into_iter().enumerate() {
        let text = upstream(n);
        match way {
            "rename" => {
                std::fs::write(folder.join(".only1.yaml.swp"), text).unwrap();
                std::fs::rename(folder.join(".only1.yaml.swp"), &file).unwrap();
            }
            "delete and create" => {
                std::fs::remove_file(&file).unwrap();
                tokio::time::sleep(Duration::from_millis(700)).await;
                assert_eq!(modern.tools().await.len(), 2, "without a file the running configuration stays");
                std::fs::write(&file, text).unwrap();
            }
            // What Kubernetes does with a mounted ConfigMap.
            _ => {
                for version in ["..v1", "..v2"] {
                    std::fs::create_dir(folder.join(version)).unwrap();
                }
                std::fs::write(folder.join("..v1/only1.yaml"), upstream(1)).unwrap();
                std::fs::write(folder.join("..v2/only1.yaml"), text).unwrap();
                std::os::unix::fs::symlink("..v1", folder.join("..data")).unwrap();
                std::fs::remove_file(&file).unwrap();
                std::os::unix::fs::symlink("..data/only1.yaml", &file).unwrap();
                tokio::time::sleep(Duration::from_millis(700)).await;
                std::os::unix::fs::symlink("..v2", folder.join("..data_tmp")).unwrap();
                std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
            }
        }
        until(&format!("the edit by {way}"), SOON, || async {
            modern.tools().await.contains(&format!("second{n}__echo")).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_did_not_change_keeps_its_sessions() {
    let (gateway, first, second) = gateway().await;
    let client = Legacy::open(gateway.address(), "/u/first/mcp").await;
    assert_eq!(client.call("echo", "{}").await.status, 200);
    let deleted = || first.received().iter().filter(|request| request.http_method == "DELETE").count();
    let before = (first.received_of("initialize").len(), deleted());
    gateway.control.edit(&config([first.upstream("first"), second.upstream("second")]));
    until("the edit to be served", SOON, || async {
        (Modern::new(gateway.address(), "/mcp").tools().await.len() == 2).then_some(())
    })
    .await;
    assert_eq!(client.call("echo", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
    assert_eq!((first.received_of("initialize").len(), deleted()), before, "its session went on");
}
