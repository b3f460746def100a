//! Server-sent events: cutting a byte stream into events, and writing one.
//!
//! The reader takes LF, CRLF and CR line ends, comments, `retry` and events without data, as the WHATWG
//! specification has them, and refuses an event larger than its limit.

use bytes::{Buf, Bytes, BytesMut};

/// One event. Comments and unknown fields are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// The `event` field; `None` means "message".
    pub name: Option<String>,
    /// The `data` lines, joined by LF; empty for priming events.
    pub data: Bytes,
    /// The `id` field.
    pub id: Option<String>,
    /// The `retry` field, milliseconds.
    pub retry_ms: Option<u64>,
}

/// An event is larger than the reader's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// Cuts bytes into events.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    /// How far `buffer` was searched for a line end.
    searched: usize,
    data: BytesMut,
    lines: usize,
    event: Event,
    touched: bool,
    limit: usize,
}

impl Reader {
    /// A reader that refuses events of more than `limit` bytes of data.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            data: BytesMut::new(),
            lines: 0,
            event: Event::default(),
            touched: false,
            limit,
        }
    }

    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete event, if there is one.
    ///
    /// # Errors
    /// [`TooLarge`]; the reader is of no use afterwards.
    pub fn next_event(&mut self) -> Result<Option<Event>, TooLarge> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                if std::mem::take(&mut self.touched) {
                    let mut event = std::mem::take(&mut self.event);
                    event.data = self.data.split().freeze();
                    self.lines = 0;
                    return Ok(Some(event));
                }
                continue;
            }
            self.field(&line);
            if self.data.len() > self.limit {
                return Err(TooLarge);
            }
        }
        if self.buffer.len() > self.limit.saturating_add(1024) { Err(TooLarge) } else { Ok(None) }
    }

    fn line(&mut self) -> Option<BytesMut> {
        let rest = self.buffer.get(self.searched..)?;
        let Some(found) = memchr::memchr2(b'\n', b'\r', rest) else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + found;
        // A CR at the very end may be half of a CRLF: wait for the byte after it.
        let width = match (self.buffer.get(end), self.buffer.get(end + 1)) {
            (Some(b'\r'), Some(b'\n')) => 2,
            (Some(b'\r'), None) => {
                self.searched = end;
                return None;
            }
            _ => 1,
        };
        let line = self.buffer.split_to(end);
        self.buffer.advance(width);
        self.searched = 0;
        Some(line)
    }

    fn field(&mut self, line: &[u8]) {
        let (name, value) = match memchr::memchr(b':', line) {
            Some(0) => return, // a comment
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        let text = || String::from_utf8_lossy(value).into_owned();
        match name {
            b"data" => {
                if self.lines > 0 {
                    self.data.extend_from_slice(b"\n");
                }
                self.lines += 1;
                self.data.extend_from_slice(value);
            }
            b"event" => self.event.name = Some(text()),
            b"id" if !value.contains(&0) => self.event.id = Some(text()),
            b"retry" => self.event.retry_ms = text().parse().ok().or(self.event.retry_ms),
            _ => return,
        }
        self.touched = true;
    }
}

/// A message as an event with an id, after which a client can take up the stream again.
#[must_use]
pub fn write_with_id(id: &str, data: &[u8]) -> Bytes {
    let event = write(data);
    let mut out = BytesMut::with_capacity(event.len() + id.len() + 8);
    out.extend_from_slice(b"id: ");
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(b"\n");
    out.extend_from_slice(&event);
    out.freeze()
}

/// An event without data: only the id (2025-11-25, Streamable HTTP, "priming").
#[must_use]
pub fn write_id(id: &str) -> Bytes {
    Bytes::from(format!("id: {id}\ndata: \n\n"))
}

/// A message as an event. A line end inside the data (white space of pretty-printed JSON) starts another
/// `data` line, which reads back as it was.
#[must_use]
pub fn write(data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 32);
    out.extend_from_slice(b"event: message\n");
    for line in data.split(|byte| *byte == b'\n') {
        // A CR ends a line for a reader of events, alone too.
        for line in line.strip_suffix(b"\r").unwrap_or(line).split(|byte| *byte == b'\r') {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(line);
            out.extend_from_slice(b"\n");
        }
    }
    out.extend_from_slice(b"\n");
    out.freeze()
}

/// A comment, to keep a quiet connection open.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> Vec<Event> {
        let mut reader = Reader::new(1024);
        let mut events = Vec::new();
        for chunk in chunks {
            reader.push(chunk);
            while let Some(event) = reader.next_event().unwrap() {
                events.push(event);
            }
        }
        events
    }

    #[test]
    fn line_ends_comments_and_priming_events_are_understood() {
        let stream = b": hello\r\nid: 7\r\nretry: 100\r\ndata: \r\n\r\nevent: message\ndata: {\"a\":\ndata: 1}\n\n\ndata:x\r\r";
        let mut expected = vec![
            Event { id: Some("7".into()), retry_ms: Some(100), ..Event::default() },
            Event {
                name: Some("message".into()),
                data: Bytes::from_static(b"{\"a\":\n1}"),
                ..Event::default()
            },
        ];
        // The last CR may be the first half of a CRLF, so its event waits for another byte.
        assert_eq!(read(&[stream]), expected);
        expected.push(Event { data: Bytes::from_static(b"x"), ..Event::default() });
        assert_eq!(read(&[stream, b":"]), expected);
    }

    #[test]
    fn pretty_printed_json_stays_one_event_whatever_ends_its_lines() {
        for text in ["{\n\"a\":1}", "{\r\n\"a\":1}", "{\r\"a\":1}", "{\r\r\"a\":1\r}"] {
            let events = read(&[&write(text.as_bytes())]);
            assert_eq!(events.len(), 1, "{text:?}");
            let data = String::from_utf8(events[0].data.to_vec()).unwrap();
            assert_eq!(data.replace('\n', ""), "{\"a\":1}", "{text:?}");
        }
    }

    #[test]
    fn ids_are_read_back_with_and_without_a_message() {
        let events = read(&[&write_id("a-1"), &write_with_id("a-2", b"{}")]);
        let expected = |id: &str, name: Option<&str>, data: &'static [u8]| Event {
            id: Some(id.into()),
            name: name.map(str::to_owned),
            data: Bytes::from_static(data),
            retry_ms: None,
        };
        assert_eq!(events, [expected("a-1", None, b""), expected("a-2", Some("message"), b"{}")]);
    }

    #[test]
    fn an_event_over_the_limit_is_refused_even_without_a_line_end() {
        let mut reader = Reader::new(16);
        reader.push(b"data: ");
        reader.push(&[b'x'; 4096]);
        assert_eq!(reader.next_event(), Err(TooLarge));
    }

    proptest::proptest! {
        #[test]
        fn cutting_the_stream_anywhere_changes_nothing(cut in 0_usize..60, data in "[ -~]{0,20}\n?[ -~]{0,20}") {
            let mut stream = write(data.as_bytes()).to_vec();
            stream.extend_from_slice(b"id: 1\r\ndata: second\r\n\r\n");
            let cut = cut.min(stream.len());
            let events = read(&[&stream[..cut], &stream[cut..]]);
            proptest::prop_assert_eq!(events.len(), 2);
            proptest::prop_assert_eq!(&events[0].data[..], data.as_bytes());
            proptest::prop_assert_eq!(events[1].id.as_deref(), Some("1"));
        }
    }
}
