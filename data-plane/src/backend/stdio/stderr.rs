//! Reads what a process writes to stderr, line by line, into the log of its upstream.

use crate::{
    backend::channel::line::{self, Line},
    logs::{LINE_BYTES_MAX, Log},
};
use tokio::io::{AsyncRead, BufReader};

/// Reads until the pipe closes. A line that is too long is cut; what is no UTF-8 is replaced.
pub(super) async fn read(log: &Log, pid: u32, pipe: impl AsyncRead + Unpin) {
    let mut reader = BufReader::new(pipe);
    let push = |line: &[u8]| {
        log.push(pid, String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned());
    };
    loop {
        match line::next(&mut reader, LINE_BYTES_MAX).await {
            Ok(Some(Line::Whole(line))) => push(&line),
            Ok(Some(Line::Cut(line))) => {
                push(&line);
                if line::skip(&mut reader).await.is_err() {
                    return;
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_lines_are_cut_and_an_unfinished_one_counts() {
        let log = Log::default();
        let mut text = String::from("first\r\n");
        text.push_str(&"x".repeat(10_000));
        text.push_str("\nlast, without an end");
        read(&log, 7, text.as_bytes()).await;
        let lines: Vec<_> = log.tail().into_iter().map(|line| line.text).collect();
        assert_eq!(lines, ["first", &"x".repeat(LINE_BYTES_MAX), "last, without an end"]);
    }
}
