//! One kept connection: bytes out, one answer in. Reads no more of HTTP/1.1 than servers of MCP write: a length, or
//! chunks.

use memchr::memmem;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The longest that anything is waited for: no healthy server needs it.
const PATIENCE: Duration = Duration::from_secs(10);
const HEAD_MAX: usize = 64 << 10;

/// A connection and what was read of it.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The body of an answer that came in chunks.
    whole: Vec<u8>,
}

/// One answer.
pub struct Reply<'c> {
    /// The HTTP status.
    pub status: u16,
    head: &'c [u8],
    /// All of it.
    pub body: &'c [u8],
}

impl Reply<'_> {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 << 10), whole: Vec::new() })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// The connection ends before the answer does, or what comes is not HTTP/1.1.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Reply<'_>> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            self.more().await?;
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if self.buffer.len() > HEAD_MAX {
                return Err(bad("a head without an end"));
            }
        };
        let status = status(&self.buffer)?;
        if let Some(length) = header(&self.buffer[..head], "content-length") {
            let length: usize = length.parse().map_err(|_| bad("a length that is no number"))?;
            while self.buffer.len() < head + length {
                self.more().await?;
            }
            let (head, body) = self.buffer.split_at(head);
            return Ok(Reply { status, head, body: &body[..length] });
        }
        if header(&self.buffer[..head], "transfer-encoding").is_some() {
            while !dechunked(&self.buffer[head..], &mut self.whole)? {
                self.more().await?;
            }
            return Ok(Reply { status, head: &self.buffer[..head], body: &self.whole });
        }
        Ok(Reply { status, head: &self.buffer[..head], body: &[] })
    }

    async fn more(&mut self) -> io::Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn status(head: &[u8]) -> io::Result<u16> {
    let digits = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| bad("an answer that is not HTTP/1.1"))
}

/// The value of a header in a head.
fn header<'h>(head: &'h [u8], name: &str) -> Option<&'h str> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (before, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":").filter(|_| before.eq_ignore_ascii_case(name.as_bytes()))?;
        std::str::from_utf8(value.trim_ascii()).ok()
    })
}

/// Puts a body together from its chunks. `false`: some are still to come.
fn dechunked(mut rest: &[u8], whole: &mut Vec<u8>) -> io::Result<bool> {
    whole.clear();
    loop {
        let Some(line) = memmem::find(rest, b"\r\n") else { return Ok(false) };
        let size = std::str::from_utf8(&rest[..line]).ok().and_then(|size| {
            usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).ok()
        });
        let size = size.ok_or_else(|| bad("a chunk without a size"))?;
        let start = line + 2;
        let Some(chunk) = rest.get(start..start + size + 2) else { return Ok(false) };
        if size == 0 {
            return Ok(true);
        }
        whole.extend_from_slice(&chunk[..size]);
        rest = &rest[start + size + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_whatever_their_case_and_place() {
        let head = b"HTTP/1.1 200 OK\r\nx-content-length: 9\r\nContent-Length:  12\r\n\r\n";
        assert_eq!(header(head, "content-length"), Some("12"));
        assert_eq!(header(head, "transfer-encoding"), None);
        assert_eq!(status(head).unwrap(), 200);
        assert!(status(b"HTTP/2 200").is_err());
    }

    #[test]
    fn chunks_make_a_body_once_the_last_is_there() {
        let stream = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        let mut whole = Vec::new();
        for cut in 0..stream.len() {
            assert!(!dechunked(&stream[..cut], &mut whole).unwrap(), "{cut} bytes are not all");
        }
        assert!(dechunked(stream, &mut whole).unwrap());
        assert_eq!(whole, b"abcde");
        assert!(dechunked(b"x\r\n", &mut whole).is_err());
    }
}
