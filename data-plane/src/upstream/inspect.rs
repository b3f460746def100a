//! Whether an answer that passes through as bytes says that the call failed: a JSON-RPC error, or a tool
//! result with `isError`. Looks at answers of up to 64 KiB; larger ones pass unread and count as successes.

use crate::mcp::{Kind, Message, json, sse};
use bytes::{Bytes, BytesMut};

const LOOK_MAX: usize = 64 << 10;

pub(super) struct Inspect(State);

enum State {
    Json(BytesMut),
    Events(Box<sse::Reader>),
    Decided(bool),
}

impl Inspect {
    pub(super) fn new(events: bool) -> Self {
        Self(if events {
            State::Events(Box::new(sse::Reader::new(LOOK_MAX)))
        } else {
            State::Json(BytesMut::new())
        })
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Json(whole) if whole.len() + bytes.len() <= LOOK_MAX => whole.extend_from_slice(bytes),
            State::Json(_) => self.0 = State::Decided(false),
            State::Events(reader) => {
                reader.push(bytes);
                loop {
                    match reader.next_event() {
                        Ok(Some(event)) if failed(&event.data) => {
                            self.0 = State::Decided(true);
                            return;
                        }
                        Ok(Some(_)) => {}
                        Ok(None) => return,
                        Err(sse::TooLarge) => {
                            self.0 = State::Decided(false);
                            return;
                        }
                    }
                }
            }
            State::Decided(_) => {}
        }
    }

    pub(super) fn finish(&mut self) -> bool {
        match &mut self.0 {
            State::Json(whole) => failed(&whole.split().freeze()),
            State::Events(_) => false,
            State::Decided(failed) => *failed,
        }
    }
}

fn failed(bytes: &Bytes) -> bool {
    bytes.len() <= LOOK_MAX && Message::parse(bytes).is_ok_and(|message| is_failure(&message))
}

/// True for an error response and for a tool result with `isError: true`.
pub(super) fn is_failure(message: &Message) -> bool {
    if message.kind() != Kind::Response {
        return false;
    }
    let Some(result) = message.result() else { return true };
    if result.len() > LOOK_MAX {
        return false;
    }
    matches!(json::find(message.bytes(), &result, &["isError"]), Ok(Some(at)) if &message.bytes()[at.clone()] == b"true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(events: bool, chunks: &[&str]) -> bool {
        let mut inspect = Inspect::new(events);
        for chunk in chunks {
            inspect.push(chunk.as_bytes());
        }
        inspect.finish()
    }

    #[test]
    fn failures_are_seen_in_json_and_in_events() {
        let error = r#"{"error":{"code":-1,"message":"x"},"id":1,"jsonrpc":"2.0"}"#;
        let tool = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#;
        let fine = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false,"x":{"error":1}}}"#;
        assert!(look(false, &[&error[..10], &error[10..]]) && look(false, &[tool]));
        assert!(!look(false, &[fine]));
        assert!(look(true, &["event: message\nda", &format!("ta: {tool}\n\n")]));
        assert!(!look(true, &[&format!("data: {fine}\n\n")]));
        assert!(!look(false, &[&format!("{}{}", " ".repeat(LOOK_MAX), error)]), "large answers pass unread");
    }
}
