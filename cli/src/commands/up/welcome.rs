//! What the user reads once everything is ready: where clients connect, and what to try.

use super::sample::Sample;
use crate::output::page::{Line, Page, Style};
use std::{net::SocketAddr, path::Path};

const DEFAULT_CONTROL: &str = "127.0.0.1:7400";

/// Everything there is to say.
pub struct Welcome<'a> {
    /// Where MCP clients connect.
    pub clients: SocketAddr,
    /// Where the control plane serves gRPC.
    pub control: SocketAddr,
    /// Admin HTTP of the control plane and of the data plane.
    pub admin: (SocketAddr, SocketAddr),
    /// The file that runs.
    pub config: &'a Path,
    /// Absent with a configuration of the user's own.
    pub sample: Option<&'a Sample>,
    /// How this program was called.
    pub command: String,
}

impl Welcome<'_> {
    /// The page.
    pub fn page(&self) -> Page {
        let url = format!("http://{}/mcp", self.clients);
        let mut page = Page::default();
        page.push(Line::default());
        page.push(Line::of("only1 is up", Style::Good));
        page.push(Line::default());
        let mut fact = |name: &str, value: String| {
            page.push(Line::of(format!("  {name:<15}"), Style::Plain).and(value, Style::Bold));
        };
        fact("MCP clients", url.clone());
        fact("control plane", format!("http://{}", self.control));
        fact(
            "admin HTTP",
            format!("http://{} (control plane), http://{} (data plane)", self.admin.0, self.admin.1),
        );
        fact("configuration", self.config.display().to_string());
        page.push("                 edit it while it runs: a change takes effect at once, a mistake changes nothing");
        page.push(Line::default());
        page.push("Client configuration:");
        page.push(Line::default());
        let client = serde_json::json!({ "mcpServers": { "only1": { "type": "http", "url": url } } });
        page.push(format!("  {client}"));
        page.push(Line::default());
        page.push("In another terminal:");
        page.push(Line::default());
        for line in self.commands() {
            page.push(format!("  {line}"));
        }
        page.push(Line::default());
        page.push("Ctrl-C stops everything.");
        page.push(Line::default());
        page
    }

    fn commands(&self) -> Vec<String> {
        let command = shell_word(&self.command);
        let control = match self.control.to_string() {
            default if default == DEFAULT_CONTROL => String::new(),
            other => format!(" --control http://{other}"),
        };
        let config = shell_word(&self.config.display().to_string());
        let mut lines = vec![
            format!("{command}{control} status --watch"),
            format!("{command}{control} nodes"),
            format!("{command} config check {config}"),
        ];
        if let Some(sample) = self.sample {
            let (pid, address) = sample.primary;
            lines.push(format!(
                "kill {pid}    # the sample's primary: status then says so, and calls to it fail;"
            ));
            lines.push("# the backup is configured, and takes over from a later release".to_owned());
            lines.push(format!(
                "{command} sample-server --name primary --listen {address}    # brings it back"
            ));
        }
        lines
    }
}

/// Quoted where a shell would read it otherwise.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
