//! The official reference servers, all at once behind one gateway, used through it by the official clients. What a
//! client must get is one table; every client gets the same one.

#[cfg(test)]
mod access;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod questions;
#[cfg(test)]
mod sse;

#[cfg(test)]
mod tests {
    use crate::clients::{self, Step};
    use o1_tests::{Gateway, Legacy, peers, peers::Server, until};
    use serde_json::{Value, json};
    use std::{path::Path, time::Duration};
    use tempfile::TempDir;

    /// Six servers: server-everything over stdio and over Streamable HTTP, filesystem, memory, time, git.
    struct Six {
        gateway: Gateway,
        _web: Server,
        files: TempDir,
    }

    async fn six() -> Six {
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("greeting.txt"), "hello from a file\n").unwrap();
        repository(&files.path().join("repository"));
        let web = Server::everything().await;
        let node = |program: &str| {
            format!("{}, {}", peers::node().display(), peers::node_program(program).display())
        };
        let python = |program: &str| peers::python(program).display().to_string();
        let folder = files.path().display();
        // Interpreters start slowly on a busy machine; what is slow is not broken.
        let process = |name: &str, command: String, more: String| {
            format!(
                "  {name}:\n    timeouts: {{connect: 90s}}\n    primary:\n      - command: [{command}]\n{more}"
            )
        };
        let memory = format!("        env: {{MEMORY_FILE_PATH: {folder}/memory.json}}\n");
        let upstreams = [
            process("everything", format!("{}, stdio", node("mcp-server-everything")), String::new()),
            format!("  web:\n    primary:\n      - url: {}\n", web.url),
            process("files", format!("{}, {folder}", node("mcp-server-filesystem")), String::new()),
            process("memory", node("mcp-server-memory"), memory),
            process("time", format!("{}, --local-timezone, UTC", python("mcp-server-time")), String::new()),
            process(
                "git",
                format!("{}, --repository, {folder}/repository", python("mcp-server-git")),
                String::new(),
            ),
        ];
        let clients = "clients: {catalogue: {wait: 20s}}\n";
        let gateway = Gateway::start(&format!("{clients}upstreams:\n{}", upstreams.concat())).await;
        // Processes start when somebody wants them. The wait ends before the patience of this client.
        let wanting = Legacy::open(gateway.address(), "/mcp").await;
        wanting.tools().await;
        until("all six servers", Duration::from_secs(120), || async {
            let status = gateway.control.o1ctl(&["status"]).await;
            let upstreams = status["upstreams"].as_array()?;
            (upstreams.len() == 6 && upstreams.iter().all(|one| one["state"] == "healthy")).then_some(())
        })
        .await;
        Six { gateway, _web: web, files }
    }

    fn repository(path: &Path) {
        let git = |arguments: &[&str]| {
            let ended =
                std::process::Command::new("git").arg("-C").arg(path).args(arguments).output().unwrap();
            assert!(ended.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
        };
        std::fs::create_dir(path).unwrap();
        git(&["init", "-q"]);
        let author = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
        git(&[&author[..], &["commit", "-q", "--allow-empty", "-m", "the first commit"]].concat());
    }

    /// What every client does, and a text that must be in the result. `who` tells the traces of two clients apart.
    fn table(files: &Path, who: &str) -> Vec<Step> {
        let step = |method: &'static str, params: Value, expect: &'static str| Step {
            method,
            params,
            expect,
            until: false,
        };
        let call = |tool: &str, arguments: Value, expect| {
            step("tools/call", json!({"name": tool, "arguments": arguments}), expect)
        };
        let repository = files.join("repository").display().to_string();
        let greeting = files.join("greeting.txt").display().to_string();
        let entity = json!({"name": format!("gateway of {who}"), "entityType": "program", "observations": ["stays up"]});
        vec![
            step("tools/list", json!({}), "everything__echo"),
            step("tools/list", json!({}), "web__echo"),
            step("tools/list", json!({}), "files__read_text_file"),
            step("tools/list", json!({}), "memory__read_graph"),
            step("tools/list", json!({}), "time__convert_time"),
            step("tools/list", json!({}), "git__git_log"),
            call("everything__echo", json!({"message": "over stdio"}), "Echo: over stdio"),
            call("everything__get-sum", json!({"a": 2, "b": 3}), "The sum of 2 and 3 is 5"),
            call("everything__get-tiny-image", json!({}), "image/png"),
            call("everything__get-structured-content", json!({"location": "New York"}), "structuredContent"),
            call("web__echo", json!({"message": "over http"}), "Echo: over http"),
            call("web__trigger-long-running-operation", json!({"duration": 1, "steps": 4}), "completed"),
            call("files__read_text_file", json!({"path": greeting}), "hello from a file"),
            call("memory__create_entities", json!({"entities": [entity]}), "stays up"),
            call("memory__read_graph", json!({}), "stays up"),
            call(
                "time__convert_time",
                json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}),
                "21:00",
            ),
            call("git__git_log", json!({"repo_path": repository}), "the first commit"),
            step("prompts/list", json!({}), "everything__args-prompt"),
            step("prompts/get", json!({"name": "everything__simple-prompt"}), "prompt"),
            step("prompts/get", json!({"name": "web__args-prompt", "arguments": {"city": "Bern"}}), "Bern"),
            step("resources/list", json!({}), "demo://resource/static/document/architecture.md"),
            step("resources/list", json!({}), "memory://knowledge-graph"),
            step("resources/templates/list", json!({}), "demo://resource/dynamic/text/{resourceId}"),
            step(
                "resources/read",
                json!({"uri": "demo://resource/static/document/architecture.md"}),
                "Everything",
            ),
            step(
                "resources/read",
                json!({"uri": "demo://resource/dynamic/text/1"}),
                "demo://resource/dynamic/text/1",
            ),
            step("resources/read", json!({"uri": "memory://knowledge-graph"}), "stays up"),
        ]
    }

    /// What went wrong for a client, step by step; nothing when every step gave what the table says.
    pub fn judge(client: &str, steps: &[Step], results: &[Value]) -> Vec<String> {
        assert_eq!(results.len(), steps.len(), "{client}: a result for every step");
        let right = |step: &Step, result: &Value| {
            let failed = result["result"].is_null() || result["result"]["isError"] == true;
            !failed && result.to_string().contains(step.expect)
        };
        let wrong: Vec<_> = steps
            .iter()
            .zip(results)
            .filter(|(step, result)| !right(step, result))
            .map(|(step, result)| {
                let result = result.to_string();
                format!("{client}: {} {} lacks {:?}: {result:.300}", step.method, step.params, step.expect)
            })
            .collect();
        println!("{client}: {} of {} steps", steps.len() - wrong.len(), steps.len());
        wrong
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_official_client_uses_six_servers_at_once() {
        let six = six().await;
        let url = six.gateway.url("/mcp");
        let mut wrong = Vec::new();
        for mode in ["auto", "legacy"] {
            let steps = table(six.files.path(), &format!("Python {mode}"));
            let (version, results) = clients::python(&url, mode, &steps).await;
            wrong.extend(judge(&format!("Python client, {mode}, {version}"), &steps, &results));

            let steps = table(six.files.path(), &format!("TypeScript {mode}"));
            let (version, results) = clients::typescript(&url, mode, &steps).await;
            wrong.extend(judge(&format!("TypeScript client, {mode}, {version}"), &steps, &results));
        }
        let steps = table(six.files.path(), "Rust");
        let (version, results) = clients::rust(&url, &steps).await;
        wrong.extend(judge(&format!("Rust client, {version}"), &steps, &results));
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_inspector_lists_and_calls_in_legacy_mode() {
        let six = six().await;
        let url = six.gateway.url("/mcp");
        let listed = clients::inspector(&url, &["--method", "tools/list"]).await;
        let tools = [
            "everything__echo",
            "web__echo",
            "files__read_text_file",
            "memory__read_graph",
            "time__convert_time",
            "git__git_log",
        ];
        for tool in tools {
            assert!(listed.contains(&format!("\"{tool}\"")), "{tool} in {listed}");
        }
        for (method, arguments, expect) in [
            (
                "tools/call",
                vec!["--tool-name", "everything__echo", "--tool-arg", "message=inspected"],
                "Echo: inspected",
            ),
            ("resources/read", vec!["--uri", "memory://knowledge-graph"], "entities"),
            ("prompts/get", vec!["--prompt-name", "web__args-prompt", "--prompt-args", "city=Bern"], "Bern"),
        ] {
            let said = clients::inspector(&url, &[&["--method", method], &arguments[..]].concat()).await;
            assert!(said.contains(expect), "{method}: {said}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_server_is_used_unrenamed_under_its_own_route() {
        let six = six().await;
        let whole = table(six.files.path(), "Python");
        let mut wrong = Vec::new();
        for upstream in ["everything", "web", "files", "memory", "time", "git"] {
            let prefix = format!("{upstream}__");
            let own =
                |step: &&Step| step.params["name"].as_str().is_some_and(|name| name.starts_with(&prefix));
            let steps: Vec<_> = whole
                .iter()
                .filter(own)
                .map(|step| {
                    let mut params = step.params.clone();
                    params["name"] = json!(params["name"].as_str().unwrap().trim_start_matches(&prefix));
                    Step { method: step.method, params, expect: step.expect, until: false }
                })
                .collect();
            assert!(!steps.is_empty(), "{upstream}");
            let url = six.gateway.url(&format!("/u/{upstream}/mcp"));
            let (version, results) = clients::python(&url, "auto", &steps).await;
            wrong.extend(judge(
                &format!("Python client, auto, {version}, /u/{upstream}/mcp"),
                &steps,
                &results,
            ));
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
