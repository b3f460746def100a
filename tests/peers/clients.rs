//! The official clients, each behind the same question: take these steps at that address, what came back?

use o1_tests::{binaries::target_dir, peers, wait::in_time};
use rmcp::{
    ClientHandler, RoleClient, ServiceExt as _,
    model::{CallToolRequestParams, GetPromptRequestParams, ReadResourceRequestParams},
    service::{NotificationContext, RunningService},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A busy machine starts an interpreter, imports an SDK and takes every step in this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// One request, and a text that must be in its result.
pub struct Step {
    pub method: &'static str,
    pub params: Value,
    pub expect: &'static str,
    /// It is taken again until the text is there.
    pub until: bool,
}

/// The negotiated revision, and for each step `{"result": …}` or `{"error": …}`.
type Results = (String, Vec<Value>);

/// `mode` with a `+` at its end: the client answers what it is asked.
fn order(url: &str, mode: &str, steps: &[Step]) -> String {
    let steps: Vec<_> = steps
        .iter()
        .map(|step| {
            let until = step.until.then_some(step.expect);
            json!({"method": step.method, "params": step.params, "until": until})
        })
        .collect();
    let answers = mode.ends_with('+');
    let mode = mode.trim_end_matches('+');
    json!({"url": url, "mode": mode, "steps": steps, "seconds": PATIENCE.as_secs(), "answers": answers})
        .to_string()
}

fn results(output: &str) -> Results {
    let last = output.lines().last().unwrap_or_default();
    let parsed: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {output}"));
    (
        parsed["protocolVersion"].as_str().unwrap_or_default().to_owned(),
        parsed["results"].as_array().unwrap().clone(),
    )
}

/// `mcp` on Python.
pub async fn python(url: &str, mode: &str, steps: &[Step]) -> Results {
    let output = peers::run(&peers::python("python"), &order(url, mode, steps), PATIENCE, |command| {
        command.arg(peers::source("client.py"));
    })
    .await;
    results(&output)
}

/// `mcp` on Python, with a bearer token.
pub async fn python_bearing(token: &str, url: &str, mode: &str, steps: &[Step]) -> Results {
    let mut order: Value = serde_json::from_str(&order(url, mode, steps)).unwrap();
    order["token"] = token.into();
    let output = peers::run(&peers::python("python"), &order.to_string(), PATIENCE, |command| {
        command.arg(peers::source("client.py"));
    })
    .await;
    results(&output)
}

/// `@modelcontextprotocol/client` on Node.
pub async fn typescript(url: &str, mode: &str, steps: &[Step]) -> Results {
    let output = peers::run(&peers::node(), &order(url, mode, steps), PATIENCE, |command| {
        command.arg(peers::source("client.mjs")).current_dir(target_dir().join("peers/node"));
    })
    .await;
    results(&output)
}

/// The inspector's command line in legacy mode; what it printed.
pub async fn inspector(url: &str, arguments: &[&str]) -> String {
    let catalogue = tempfile::tempdir().unwrap();
    peers::run(&peers::node(), "", PATIENCE, |command| {
        command.arg(peers::node_program("mcp-inspector"));
        command.args(["--cli", url, "--transport", "http", "--protocol-era", "legacy"]).args(arguments);
        command.env("MCP_CATALOG_PATH", catalogue.path().join("catalogue.json"));
    })
    .await
}

/// rmcp.
pub async fn rust(url: &str, steps: &[Step]) -> Results {
    let transport = StreamableHttpClientTransport::from_uri(url.to_owned());
    let client = in_time("rmcp to connect", PATIENCE, Heard::default().serve(transport)).await.unwrap();
    let version = client.peer_info().map(|info| info.protocol_version.to_string()).unwrap_or_default();
    let mut results = Vec::new();
    for step in steps {
        let taken = async {
            loop {
                let result = take(&client, step).await;
                if !step.until || result.as_ref().is_ok_and(|result| result.to_string().contains(step.expect))
                {
                    return result;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let result = in_time(step.method, PATIENCE, taken).await;
        results.push(result.map_or_else(|error| json!({"error": error}), |result| json!({"result": result})));
    }
    client.cancel().await.unwrap();
    (version, results)
}

/// What came as log messages.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Value>>>);

// Clients of today listen so, whatever becomes of it.
#[expect(deprecated, reason = "the SDK deprecates what the revisions with sessions have")]
impl ClientHandler for Heard {
    async fn on_logging_message(
        &self,
        message: rmcp::model::LoggingMessageNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.0.lock().unwrap().push(json!(message));
    }
}

async fn take(client: &RunningService<RoleClient, Heard>, step: &Step) -> Result<Value, String> {
    let params = &step.params;
    if step.method == "heard" {
        return Ok(json!({"heard": *client.service().0.lock().unwrap()}));
    }
    let name = params["name"].as_str().unwrap_or_default().to_owned();
    let arguments = params["arguments"].as_object().cloned().unwrap_or_default();
    let result = match step.method {
        "tools/list" => client.list_all_tools().await.map(|tools| json!({"tools": tools})),
        "tools/call" => client
            .call_tool(CallToolRequestParams::new(name).with_arguments(arguments))
            .await
            .map(|result| json!(result)),
        "resources/list" => {
            client.list_all_resources().await.map(|resources| json!({"resources": resources}))
        }
        "resources/templates/list" => client
            .list_all_resource_templates()
            .await
            .map(|templates| json!({"resourceTemplates": templates})),
        "resources/read" => {
            let uri = params["uri"].as_str().unwrap();
            client.read_resource(ReadResourceRequestParams::new(uri)).await.map(|result| json!(result))
        }
        "prompts/list" => client.list_all_prompts().await.map(|prompts| json!({"prompts": prompts})),
        "prompts/get" => client
            .get_prompt(GetPromptRequestParams::new(name).with_arguments(arguments))
            .await
            .map(|result| json!(result)),
        method => panic!("no step for {method}"),
    };
    result.map_err(|error| error.to_string())
}
