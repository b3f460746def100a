//! What the user reads once everything is ready: where clients connect, and what to try.

use super::sample::Sample;
use crate::output::page::{Line, Page, Style};
use std::{net::SocketAddr, path::Path};

const DEFAULT_CONTROL: &str = "127.0.0.1:7400";
const DEFAULT_CLIENTS: &str = "127.0.0.1:8080";

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
        if let Some(sample) = self.sample {
            page.push(Line::default());
            page.push("See a failover, with `status --watch` open:");
            page.push(Line::default());
            for line in self.failover(sample) {
                page.push(format!("  {line}"));
            }
        }
        page.push(Line::default());
        page.push("Ctrl-C stops everything.");
        page.push(Line::default());
        page
    }

    fn commands(&self) -> Vec<String> {
        let config = shell_word(&self.config.display().to_string());
        vec![
            format!("{} status --watch", self.o1ctl()),
            format!("{} nodes", self.o1ctl()),
            format!("{} config check {config}", shell_word(&self.command)),
        ]
    }

    /// From the first to the last act, to be pasted.
    fn failover(&self, sample: &Sample) -> Vec<String> {
        let (pid, address) = sample.primary;
        let command = shell_word(&self.command);
        let calls = match self.clients.to_string() {
            default if default == DEFAULT_CLIENTS => String::new(),
            other => format!(" http://{other}/mcp"),
        };
        let acts = [
            (
                "a client that calls all the while: who answers, and what fails",
                format!("{command} sample-calls{calls}"),
            ),
            (
                "in a third terminal: the primary dies, and within seconds the backup answers",
                format!("kill {pid}"),
            ),
            (
                "it is back: some ten seconds later it serves again",
                format!("{command} sample-server --name primary --listen {address}"),
            ),
            ("what happened", format!("{} events", self.o1ctl())),
        ];
        acts.into_iter().flat_map(|(what, command)| [format!("# {what}"), command]).collect()
    }

    /// This program, asking this control plane.
    fn o1ctl(&self) -> String {
        let control = match self.control.to_string() {
            default if default == DEFAULT_CONTROL => String::new(),
            other => format!(" --control http://{other}"),
        };
        format!("{}{control}", shell_word(&self.command))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_tells_how_to_see_a_failover() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let sample = Sample { primary: (4711, at(3101)), backup: (4712, at(3201)) };
        let mut welcome = Welcome {
            clients: at(8080),
            control: at(7400),
            admin: (at(7401), at(9090)),
            config: Path::new("/tmp/a b/only1.yaml"),
            sample: Some(&sample),
            command: "./target/release/o1ctl".to_owned(),
        };
        insta::assert_snapshot!(welcome.page().paint(false), @r#"
        only1 is up

          MCP clients    http://127.0.0.1:8080/mcp
          control plane  http://127.0.0.1:7400
          admin HTTP     http://127.0.0.1:7401 (control plane), http://127.0.0.1:9090 (data plane)
          configuration  /tmp/a b/only1.yaml
                         edit it while it runs: a change takes effect at once, a mistake changes nothing

        Client configuration:

          {"mcpServers":{"only1":{"type":"http","url":"http://127.0.0.1:8080/mcp"}}}

        In another terminal:

          ./target/release/o1ctl status --watch
          ./target/release/o1ctl nodes
          ./target/release/o1ctl config check '/tmp/a b/only1.yaml'

        See a failover, with `status --watch` open:

          # a client that calls all the while: who answers, and what fails
          ./target/release/o1ctl sample-calls
          # in a third terminal: the primary dies, and within seconds the backup answers
          kill 4711
          # it is back: some ten seconds later it serves again
          ./target/release/o1ctl sample-server --name primary --listen 127.0.0.1:3101
          # what happened
          ./target/release/o1ctl events

        Ctrl-C stops everything.
        "#);
        welcome.sample = None;
        welcome.control = at(7500);
        let own = welcome.page().paint(false);
        assert!(own.contains("  ./target/release/o1ctl --control http://127.0.0.1:7500 nodes\n"), "{own}");
        assert!(!own.contains("failover"), "{own}");
    }
}
