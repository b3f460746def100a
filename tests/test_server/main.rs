//! A small MCP server on standard input and output, revision 2025-11-25, for upstreams that are processes. It echoes
//! arguments byte for byte, tells about itself, and misbehaves on request. Raw JSON, like the rest of the harness. With
//! the argument `modern` it is another one, see [`modern`].

mod modern;

use o1_tests::http::member;
use std::{
    fs::OpenOptions,
    io::{BufRead as _, Write as _},
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("modern") {
        modern::serve();
        return ExitCode::SUCCESS;
    }
    // A file without which the server crashes at its start; each start leaves a line beside it.
    if let Some(needed) = std::env::var_os("O1_TEST_NEEDS") {
        let starts = Path::new(&needed).with_extension("starts");
        if let Ok(mut starts) = OpenOptions::new().create(true).append(true).open(starts) {
            let _ = writeln!(starts, "{}", std::process::id());
        }
        if !Path::new(&needed).exists() {
            let _ = writeln!(std::io::stderr(), "not configured");
            return ExitCode::from(7);
        }
    }
    let mut heard = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let method = text(&line, "method");
        if HEARD.contains(&method.as_str()) {
            heard.push(
                member(&line, "params").map_or_else(|| method.clone(), |params| format!("{method} {params}")),
            );
        }
        let Some(id) = member(&line, "id") else { continue };
        let called = member(&line, "params").map(|params| text(&params, "name")).unwrap_or_default();
        if method == "tools/call" && called == "hold" {
            continue;
        }
        let answered = match (method.as_str(), called.as_str()) {
            ("tools/call", "heard") => Some(Ok(format!(
                r#"{{"content":[{{"type":"text","text":{}}}]}}"#,
                serde_json::Value::from(serde_json::Value::from(heard.clone()).to_string())
            ))),
            _ => answer(&line),
        };
        let reply = match answered {
            Some(Ok(result)) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
            Some(Err(error)) => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#),
            None => return ExitCode::from(3),
        };
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{reply}").and_then(|()| out.flush()).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// What the tool `heard` tells about.
const HEARD: [&str; 4] =
    ["resources/subscribe", "resources/unsubscribe", "logging/setLevel", "notifications/cancelled"];

/// `None`: the process ends without an answer.
fn answer(line: &str) -> Option<Result<String, String>> {
    let method = text(line, "method");
    Some(Ok(match method.as_str() {
        "initialize" => {
            let info = r#""serverInfo":{"name":"o1-test-server","version":"1"}"#;
            format!(
                r#"{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}},"resources":{{"subscribe":true}},"logging":{{}}}},{info}}}"#
            )
        }
        "ping" | "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel" => "{}".to_owned(),
        "resources/list" => r#"{"resources":[]}"#.to_owned(),
        "resources/templates/list" => r#"{"resourceTemplates":[]}"#.to_owned(),
        "tools/list" => {
            let tool =
                |name| format!(r#"{{"name":"{name}","description":"","inputSchema":{{"type":"object"}}}}"#);
            let names =
                ["echo", "pid", "environment", "sleep", "child", "log", "exit", "say", "heard", "hold"];
            format!(r#"{{"tools":[{}]}}"#, names.map(tool).join(","))
        }
        "tools/call" => return call(&member(line, "params")?),
        _ => return Some(Err(format!(r#"{{"code":-32601,"message":"no method {method}"}}"#))),
    }))
}

fn call(params: &str) -> Option<Result<String, String>> {
    let arguments = member(params, "arguments").unwrap_or_else(|| "{}".to_owned());
    let said = match text(params, "name").as_str() {
        "echo" => return Some(Ok(format!(r#"{{"content":[],"structuredContent":{arguments}}}"#))),
        "pid" => std::process::id().to_string(),
        "environment" => std::env::var(text(&arguments, "name")).unwrap_or_default(),
        "sleep" => {
            let time = member(&arguments, "ms").and_then(|ms| ms.parse().ok()).unwrap_or(100);
            std::thread::sleep(Duration::from_millis(time));
            "slept".to_owned()
        }
        // A process below this one, in its group: it must go when this one is told to.
        "child" => {
            let child = Command::new("sleep").arg("1000").spawn();
            child.map_or_else(|error| error.to_string(), |child| child.id().to_string())
        }
        "log" => {
            let _ = writeln!(std::io::stderr(), "{}", text(&arguments, "line"));
            "logged".to_owned()
        }
        // Writes a message of the test's own to standard output.
        "say" => {
            let _ = writeln!(std::io::stdout(), "{}", text(&arguments, "line"));
            "said".to_owned()
        }
        "exit" => return None,
        name => return Some(Err(format!(r#"{{"code":-32602,"message":"no tool {name}"}}"#))),
    };
    Some(Ok(format!(r#"{{"content":[{{"type":"text","text":{}}}]}}"#, serde_json::Value::from(said))))
}

/// A member that is a string; empty when it is not.
fn text(object: &str, name: &str) -> String {
    member(object, name).and_then(|raw| serde_json::from_str(&raw).ok()).unwrap_or_default()
}
