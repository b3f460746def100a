//! The framing of stdio: one message, one line.

use bytes::Bytes;
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::backend) enum Line {
    /// All of it.
    Whole(Vec<u8>),
    /// Its first bytes: it is longer than allowed, and [`skip`] finds its end.
    Cut(Vec<u8>),
}

/// The next line of at most `max` bytes; `None` at the end of the stream. Not cancel safe.
///
/// # Errors
/// Those of the reader.
pub(in crate::backend) async fn next(
    reader: &mut (impl AsyncBufRead + Unpin),
    max: usize,
) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut seen = false;
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(seen.then_some(Line::Whole(line)));
        }
        seen = true;
        let end = memchr::memchr(b'\n', chunk);
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = max - line.len();
        if part.len() > room {
            line.extend_from_slice(&part[..room]);
            reader.consume(room);
            return Ok(Some(Line::Cut(line)));
        }
        line.extend_from_slice(part);
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(Line::Whole(line)));
        }
    }
}

/// Reads to the end of the line and keeps nothing of it. Not cancel safe.
///
/// # Errors
/// Those of the reader.
pub(in crate::backend) async fn skip(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<()> {
    loop {
        let chunk = reader.fill_buf().await?;
        let end = memchr::memchr(b'\n', chunk);
        let used = end.map_or(chunk.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() || used == 0 {
            return Ok(());
        }
    }
}

/// `message` without line breaks. A JSON string cannot hold a raw one, so each is insignificant white space and
/// a space in its place changes nothing.
pub(in crate::backend) fn one(message: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &message).is_none() {
        return message;
    }
    let mut line = Vec::from(message);
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    #[tokio::test]
    async fn lines_are_found_across_any_chunking() {
        let text = b"one\n\ntwo two\nlast";
        for capacity in 1..=text.len() {
            let mut reader = BufReader::with_capacity(capacity, &text[..]);
            let mut lines = Vec::new();
            while let Some(line) = next(&mut reader, 7).await.unwrap() {
                lines.push(line);
            }
            let expected = ["one", "", "two two", "last"].map(|line| Line::Whole(line.into()));
            assert_eq!(lines, expected, "buffer of {capacity}");
        }
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_cut_and_the_next_one_is_whole() {
        for capacity in [1, 3, 64] {
            let mut reader = BufReader::with_capacity(capacity, &b"123456789\nabc\n"[..]);
            assert_eq!(next(&mut reader, 4).await.unwrap(), Some(Line::Cut(b"1234".to_vec())));
            skip(&mut reader).await.unwrap();
            assert_eq!(next(&mut reader, 4).await.unwrap(), Some(Line::Whole(b"abc".to_vec())));
            assert_eq!(next(&mut reader, 4).await.unwrap(), None);
        }
    }

    #[test]
    fn a_pretty_printed_message_becomes_one_line_with_the_same_meaning() {
        let pretty = "{\r\n  \"a\": [1.10,\n 2],\n  \"s\": \"x\\ny\"\n}";
        let line = one(Bytes::from(pretty));
        assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
        assert_eq!(line.len(), pretty.len());
        let (before, after): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(pretty).unwrap(), serde_json::from_slice(&line).unwrap());
        assert_eq!(before, after);
        let flat = Bytes::from_static(b"{\"a\":1}");
        assert_eq!(one(flat.clone()).as_ptr(), flat.as_ptr(), "a line that is one already is not copied");
    }
}
