//! `o1ctl sample-calls`: calls the sample's tool `who` through the gateway, again and again, and says who answers and
//! what failed, so that a newcomer sees a failover as a client does. One call at a time, each on a connection of its own.

use crate::{
    args::SampleCalls,
    output::{
        page::{Line, Page, Style, harmless},
        span,
    },
    report::{Error, Exit},
    terminal::Terminal,
};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use std::{pin::Pin, time::Duration};
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};

/// For one call.
const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_BYTES: usize = 64 << 10;
const REVISION: &str = "2026-07-28";
const TOOL: &str = "sample__who";

/// Calls until `stop`.
///
/// # Errors
/// The URL makes no sense, or no reader.
pub async fn run(
    args: &SampleCalls,
    terminal: &mut Terminal,
    mut stop: Pin<Box<dyn Future<Output = ()> + Send>>,
) -> Result<Exit, Error> {
    let url = &args.url;
    if url.scheme_str() != Some("http") || url.host().is_none() {
        return Err(Error::usage(format!("`{url}` is no http URL"), "such as http://127.0.0.1:8080/mcp"));
    }
    let mut ticks = interval(args.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tally = Tally::default();
    loop {
        let call = async {
            ticks.tick().await;
            match timeout(PATIENCE, call(url)).await {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {}", span::words(PATIENCE))),
            }
        };
        let answer = tokio::select! {
            answer = call => answer,
            () = &mut stop => break,
        };
        if let Some((text, style)) = tally.take(answer) {
            say(&text, style, terminal)?;
        }
    }
    say(&tally.sum(), Style::Plain, terminal)?;
    Ok(if tally.failed == 0 { Exit::Healthy } else { Exit::Degraded })
}

/// What was answered so far.
#[derive(Default)]
struct Tally {
    calls: u64,
    failed: u64,
    last: Option<Result<String, String>>,
}

impl Tally {
    /// A line, when it is not what was answered before.
    fn take(&mut self, answer: Result<String, String>) -> Option<(String, Style)> {
        self.calls += 1;
        self.failed += u64::from(answer.is_err());
        if self.last.as_ref() == Some(&answer) {
            return None;
        }
        let told = match &answer {
            Ok(who) => (format!("{who} answers ({})", self.sum()), Style::Good),
            Err(why) => (format!("a call failed: {}", harmless(why)), Style::Bad),
        };
        self.last = Some(answer);
        Some(told)
    }

    fn sum(&self) -> String {
        format!("{} {}, {} failed", self.calls, if self.calls == 1 { "call" } else { "calls" }, self.failed)
    }
}

fn say(text: &str, style: Style, terminal: &mut Terminal) -> Result<(), Error> {
    let now = Timestamp::now();
    let mut page = Page::default();
    page.push(
        Line::of(format!("{}  ", span::clock(now, now, &TimeZone::system())), Style::Dim).and(text, style),
    );
    let painted = page.paint(terminal.out.colour());
    Ok(terminal.out.write(&painted)?)
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// What the tool says.
async fn call(url: &Uri) -> Result<String, AnyError> {
    let (host, port) = (url.host().unwrap_or_default(), url.port_u16().unwrap_or(80));
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request(url)?).await?;
        Ok(Limited::new(response.into_body(), ANSWER_BYTES).collect().await?.to_bytes())
    };
    let mut answer = std::pin::pin!(answer);
    let body: Result<Bytes, AnyError> = tokio::select! {
        answer = answer.as_mut() => answer,
        // The connection may end first, with the whole answer already here.
        ended = connection => { ended?; answer.await }
    };
    said(&body?)
}

fn request(url: &Uri) -> Result<Request<Full<Bytes>>, AnyError> {
    let body = json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": TOOL,
            "arguments": {},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": REVISION,
                "io.modelcontextprotocol/clientInfo": { "name": "o1ctl", "version": o1_process::VERSION },
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    });
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    Ok(Request::post(path)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header("mcp-protocol-version", REVISION)
        .header("mcp-method", "tools/call")
        .header("mcp-name", TOOL)
        .body(Full::new(Bytes::from(body.to_string())))?)
}

/// The text of a result; everything else is a failed call.
fn said(body: &[u8]) -> Result<String, AnyError> {
    let text = String::from_utf8_lossy(body);
    // The last message of an event stream is the answer.
    let event = text.lines().rev().find_map(|line| line.strip_prefix("data:"));
    let answer: Value = serde_json::from_str(event.unwrap_or(&text))?;
    let result = &answer["result"];
    match (result["content"][0]["text"].as_str(), result["isError"].as_bool()) {
        (Some(text), Some(false) | None) => Ok(text.to_owned()),
        (Some(text), Some(true)) => Err(text.into()),
        (None, _) => Err(answer["error"]["message"].as_str().unwrap_or("no result").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_is_told_when_it_changes() {
        let mut tally = Tally::default();
        let answers = [Ok("primary"), Ok("primary"), Err("refused"), Err("refused"), Ok("backup")];
        let told: Vec<_> = answers
            .into_iter()
            .filter_map(|answer| tally.take(answer.map(str::to_owned).map_err(str::to_owned)))
            .map(|(text, _)| text)
            .collect();
        assert_eq!(
            told,
            [
                "primary answers (1 call, 0 failed)",
                "a call failed: refused",
                "backup answers (5 calls, 2 failed)"
            ]
        );
    }

    #[test]
    fn an_answer_is_read_from_json_and_from_an_event_stream() {
        let result = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"primary"}]}}"#;
        assert_eq!(said(result.as_bytes()).unwrap(), "primary");
        let stream = format!("event: message\ndata: {{\"method\":\"x\"}}\n\ndata: {result}\n\n");
        assert_eq!(said(stream.as_bytes()).unwrap(), "primary");
        let error = said(br#"{"error":{"code":-33001,"message":"sample does not answer"}}"#).unwrap_err();
        assert_eq!(error.to_string(), "sample does not answer");
        assert!(said(b"<html>").is_err());
    }
}
