//! The same kind of server in revision 2026-07-28 and no other: it asks for input in its results, hangs until it is
//! told to stop, and says what was subscribed to.

use crate::text;
use o1_tests::http::member;
use std::io::{BufRead as _, Write as _};

/// What it remembers.
#[derive(Default)]
struct Server {
    /// Raw ids of subscriptions.
    listening: Vec<String>,
    cancelled: u32,
}

pub fn serve() {
    let mut server = Server::default();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let mut out = std::io::stdout().lock();
        for reply in server.replies(&line) {
            if writeln!(out, "{reply}").and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    }
}

impl Server {
    fn replies(&mut self, line: &str) -> Vec<String> {
        let method = text(line, "method");
        let Some(id) = member(line, "id") else {
            self.cancelled += u32::from(method == "notifications/cancelled");
            return Vec::new();
        };
        let params = member(line, "params").unwrap_or_default();
        let result = |result: &str| vec![format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)];
        let error = |error: &str| vec![format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)];
        if !params.contains("io.modelcontextprotocol/protocolVersion") {
            return error(
                r#"{"code":-32022,"message":"m","data":{"supported":["2026-07-28"],"requested":""}}"#,
            );
        }
        let tagged = |id: &str| format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
        match method.as_str() {
            "server/discover" => result(
                r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"resources":{"subscribe":true}},"ttlMs":0,"cacheScope":"private"}"#,
            ),
            "tools/list" => {
                let tool = |name| format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
                let tools = ["ask", "hang", "cancelled", "change"].map(tool).join(",");
                result(&format!(
                    r#"{{"resultType":"complete","tools":[{tools}],"ttlMs":0,"cacheScope":"private"}}"#
                ))
            }
            "subscriptions/listen" => {
                let filter = member(&params, "notifications").unwrap_or_default();
                let params = format!(r#"{{{},"notifications":{filter}}}"#, tagged(&id));
                self.listening.push(id);
                vec![notification("notifications/subscriptions/acknowledged", &params)]
            }
            "tools/call" => match text(&params, "name").as_str() {
                "hang" => {
                    let token = member(&params, "_meta").and_then(|meta| member(&meta, "progressToken"));
                    let progress =
                        format!(r#"{{"progressToken":{},"progress":1}}"#, token.unwrap_or_default());
                    vec![notification("notifications/progress", &progress)]
                }
                "ask" => match member(&params, "inputResponses") {
                    Some(responses) => result(&said(&responses)),
                    None => result(
                        r#"{"resultType":"input_required","inputRequests":{"where":{"method":"roots/list"}},"requestState":"s"}"#,
                    ),
                },
                "cancelled" => result(&said(&self.cancelled.to_string())),
                "change" => {
                    let tell = |id: &String| {
                        let params = format!(r#"{{"uri":"x:y",{}}}"#, tagged(id));
                        notification("notifications/resources/updated", &params)
                    };
                    self.listening.iter().map(tell).chain(result(&said("changed"))).collect()
                }
                name => error(&format!(r#"{{"code":-32602,"message":"no tool {name}"}}"#)),
            },
            method => error(&format!(r#"{{"code":-32601,"message":"no method {method}"}}"#)),
        }
    }
}

fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

fn said(text: &str) -> String {
    let text = serde_json::Value::from(text);
    format!(r#"{{"resultType":"complete","content":[{{"type":"text","text":{text}}}]}}"#)
}
