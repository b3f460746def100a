//! The official reference servers, all at once behind one gateway, used through it by the official clients. What a
//! client must get is one table; every client gets the same one.

#[cfg(test)]
mod clients;

#[cfg(test)]
mod tests {
    use crate::clients::{self, Step};
    use o1_tests::{Gateway, peers, peers::Server};
    use serde_json::{Value, json};
    use std::path::Path;
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
        let process = |name: &str, command: String, more: String| {
            format!("  {name}:\n    primary:\n      - command: [{command}]\n{more}")
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
        let gateway = Gateway::start(&format!("upstreams:\n{}", upstreams.concat())).await;
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

    /// What every client does, and a text that must be in the result.
    fn table(files: &Path) -> Vec<Step> {
        let step =
            |method: &'static str, params: Value, expect: &'static str| Step { method, params, expect };
        let call = |tool: &str, arguments: Value, expect| {
            step("tools/call", json!({"name": tool, "arguments": arguments}), expect)
        };
        let repository = files.join("repository").display().to_string();
        let greeting = files.join("greeting.txt").display().to_string();
        let entity = json!({"name": "gateway", "entityType": "program", "observations": ["stays up"]});
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

    /// Every step of the table must have given what it says.
    fn judge(client: &str, steps: &[Step], results: &[Value]) {
        assert_eq!(results.len(), steps.len(), "{client}: a result for every step");
        let wrong: Vec<_> = steps
            .iter()
            .zip(results)
            .filter(|(step, result)| {
                result["result"].is_null()
                    || result["result"]["isError"] == true
                    || !result.to_string().contains(step.expect)
            })
            .map(|(step, result)| {
                format!(
                    "{} {} lacks {:?}: {:.300}",
                    step.method,
                    step.params,
                    step.expect,
                    result.to_string()
                )
            })
            .collect();
        assert!(wrong.is_empty(), "{client}: {} of {} steps: {wrong:#?}", wrong.len(), steps.len());
        println!("{client}: {} steps passed", steps.len());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_python_client_uses_six_servers_in_auto_and_in_legacy_mode() {
        let six = six().await;
        let steps = table(six.files.path());
        for mode in ["auto", "legacy"] {
            let (version, results) = clients::python(&six.gateway.url("/mcp"), mode, &steps).await;
            judge(&format!("Python client, {mode}, {version}"), &steps, &results);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_typescript_client_uses_six_servers_in_auto_and_in_legacy_mode() {
        let six = six().await;
        let steps = table(six.files.path());
        for mode in ["auto", "legacy"] {
            let (version, results) = clients::typescript(&six.gateway.url("/mcp"), mode, &steps).await;
            judge(&format!("TypeScript client, {mode}, {version}"), &steps, &results);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_rust_client_uses_six_servers() {
        let six = six().await;
        let steps = table(six.files.path());
        let (version, results) = clients::rust(&six.gateway.url("/mcp"), &steps).await;
        judge(&format!("Rust client, {version}"), &steps, &results);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_inspector_lists_and_calls_in_legacy_mode() {
        let six = six().await;
        let url = six.gateway.url("/mcp");
        let listed = clients::inspector(&url, &["--method", "tools/list"]).await;
        for tool in [
            "everything__echo",
            "web__echo",
            "files__read_text_file",
            "memory__read_graph",
            "time__convert_time",
            "git__git_log",
        ] {
            assert!(listed.contains(&format!("\"{tool}\"")), "{tool} in {listed}");
        }
        let called =
            ["--method", "tools/call", "--tool-name", "everything__echo", "--tool-arg", "message=inspected"];
        let said = clients::inspector(&url, &called).await;
        assert!(said.contains("Echo: inspected"), "{said}");
        let read = ["--method", "resources/read", "--uri", "memory://knowledge-graph"];
        let said = clients::inspector(&url, &read).await;
        assert!(said.contains("entities"), "{said}");
        let got =
            ["--method", "prompts/get", "--prompt-name", "web__args-prompt", "--prompt-args", "city=Bern"];
        let said = clients::inspector(&url, &got).await;
        assert!(said.contains("Bern"), "{said}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_server_is_used_unrenamed_under_its_own_route() {
        let six = six().await;
        let whole = table(six.files.path());
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
                    Step { method: step.method, params, expect: step.expect }
                })
                .collect();
            assert!(!steps.is_empty(), "{upstream}");
            let url = six.gateway.url(&format!("/u/{upstream}/mcp"));
            let (version, results) = clients::python(&url, "auto", &steps).await;
            judge(&format!("Python client, auto, {version}, /u/{upstream}/mcp"), &steps, &results);
        }
    }
}
