//! The requests that are sent, built once, and what a right answer to them looks like.

use memchr::memmem::{self, Finder};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Operation {
    /// `resources/read` of one of the upstream's resources.
    Read,
    /// `tools/call` of the tool that says what it is told.
    Call,
    /// `tools/list`.
    List,
}

/// Which shape of the protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Era {
    /// 2026-07-28: each request stands alone.
    Modern,
    /// 2025-11-25: requests of a session.
    Legacy,
}

/// The revision of each era.
pub const MODERN: &str = "2026-07-28";
pub const LEGACY: &str = "2025-11-25";

/// The first id. All have as many digits, so that they are changed in place.
const FIRST_ID: u64 = 1_000_000_000;

/// One connection's request, whose id changes in place.
pub struct Request {
    bytes: Vec<u8>,
    id_at: usize,
    id: u64,
    expected: Expected,
}

/// What a right answer holds.
struct Expected {
    id: Vec<u8>,
    content: Finder<'static>,
}

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where to connect to.
    pub address: SocketAddr,
    /// The path.
    pub path: String,
    /// What stands before names of tools there.
    pub prefix: String,
}

/// What the upstream says at this place, which the answer must hold.
pub fn text(of: usize, size: usize) -> String {
    let mut text = format!("resource {of} ");
    while text.len() < size {
        text.push((b'a' + u8::try_from(text.len() % 26).unwrap_or_default()) as char);
    }
    text
}

/// The URI of a resource.
pub fn uri(of: usize) -> String {
    format!("load://resources/{of}")
}

impl Request {
    /// The request of the connection `of`; `session`: what the server called the session, if it opened one.
    pub fn new(
        operation: Operation,
        era: Era,
        target: &Target,
        of: usize,
        size: usize,
        session: Option<&str>,
    ) -> Self {
        let (method, name, mut params, content) = match operation {
            Operation::Read => (
                "resources/read",
                Some(uri(of)),
                json!({ "uri": uri(of) }),
                format!("\"{}\"", text(of, size)),
            ),
            Operation::Call => {
                let tool = format!("{}echo", target.prefix);
                let arguments = json!({ "text": text(of, size) });
                let params = json!({ "name": tool, "arguments": arguments });
                ("tools/call", Some(tool), params, format!("\"{}\"", text(of, size)))
            }
            Operation::List => ("tools/list", None, json!({}), format!("\"{}echo\"", target.prefix)),
        };
        let mut headers = Vec::new();
        match era {
            Era::Modern => {
                params["_meta"] = envelope();
                headers.push(("mcp-protocol-version", MODERN.to_owned()));
                headers.push(("mcp-method", method.to_owned()));
                headers.extend(name.map(|name| ("mcp-name", name)));
            }
            Era::Legacy => {
                headers.push(("mcp-protocol-version", LEGACY.to_owned()));
                headers.extend(session.map(|session| ("mcp-session-id", session.to_owned())));
            }
        }
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{FIRST_ID},"method":"{method}","params":{}}}"#,
            serialized(&params)
        );
        let bytes = post(target, &headers, &body);
        let id_at = memmem::find(&bytes, b"\"id\":").expect("the body was written above") + 5;
        let expected = Expected {
            id: format!("\"id\":{FIRST_ID}").into_bytes(),
            content: Finder::new(&content).into_owned(),
        };
        Self { bytes, id_at, id: FIRST_ID, expected }
    }

    /// The next request, with an id that was never used on this connection.
    pub fn next(&mut self) -> &[u8] {
        self.id += 1;
        let digits = self.id.to_string();
        self.bytes[self.id_at..self.id_at + digits.len()].copy_from_slice(digits.as_bytes());
        self.expected.id[5..].copy_from_slice(digits.as_bytes());
        &self.bytes
    }

    /// What is wrong with the answer to the request that was sent last, if anything is.
    pub fn wrong(&self, status: u16, body: &[u8]) -> Option<&'static str> {
        if status != 200 {
            return Some("the status is not 200");
        }
        let after = memmem::find(body, &self.expected.id).map(|at| at + self.expected.id.len());
        if after.and_then(|after| body.get(after)).is_none_or(u8::is_ascii_digit) {
            return Some("the id is not that of the request");
        }
        if self.expected.content.find(body).is_none() {
            return Some("the content is not what the upstream says");
        }
        None
    }
}

/// The `initialize` of a session.
pub fn initialize(target: &Target) -> Vec<u8> {
    let params = json!({ "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client_info() });
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}}"#, serialized(&params));
    post(target, &[], &body)
}

/// What completes the handshake.
pub fn initialized(target: &Target, session: Option<&str>) -> Vec<u8> {
    let mut headers = vec![("mcp-protocol-version", LEGACY.to_owned())];
    headers.extend(session.map(|session| ("mcp-session-id", session.to_owned())));
    post(target, &headers, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
}

fn envelope() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": client_info(),
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

fn client_info() -> Value {
    json!({ "name": "o1-load", "version": env!("CARGO_PKG_VERSION") })
}

fn serialized(value: &Value) -> String {
    serde_json::to_string(value).expect("a JSON value serialises")
}

fn post(target: &Target, headers: &[(&str, String)], body: &str) -> Vec<u8> {
    let Target { address, path, .. } = target;
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\naccept: application/json, text/event-stream\r\n\
         content-type: application/json\r\nuser-agent: o1-load\r\n"
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(operation: Operation) -> Request {
        let address = "127.0.0.1:1".parse().unwrap();
        let target = Target { address, path: "/mcp".into(), prefix: "load__".into() };
        Request::new(operation, Era::Modern, &target, 3, 40, None)
    }

    #[test]
    fn only_the_id_changes_from_one_request_to_the_next() {
        let mut request = request(Operation::Call);
        let first = request.next().to_vec();
        let second = request.next().to_vec();
        let differ: Vec<_> = (0..first.len()).filter(|at| first[*at] != second[*at]).collect();
        assert_eq!(differ.len(), 1);
        let body = first.split(|byte| *byte == b'\n').next_back().unwrap();
        let body: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(body["id"], FIRST_ID + 1);
        assert_eq!(body["params"]["name"], "load__echo");
        let head = String::from_utf8(first).unwrap();
        assert!(
            head.contains("\r\nmcp-name: load__echo\r\n") && head.contains("\r\nmcp-method: tools/call\r\n")
        );
    }

    #[test]
    fn an_answer_to_another_request_is_noticed() {
        let mut request = request(Operation::Read);
        request.next();
        let answer =
            |id: u64, text: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"text":"{text}"}}}}"#);
        let right = answer(FIRST_ID + 1, &text(3, 40));
        assert_eq!(request.wrong(200, right.as_bytes()), None);
        let longer = answer((FIRST_ID + 1) * 10, &text(3, 40));
        let others =
            [answer(FIRST_ID, &text(3, 40)), longer, answer(FIRST_ID + 1, &text(4, 40)), String::new()];
        for other in others {
            assert!(request.wrong(200, other.as_bytes()).is_some(), "{other}");
        }
        assert!(request.wrong(500, right.as_bytes()).is_some());
    }
}
