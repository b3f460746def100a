//! The last words of the processes of one endpoint, for people who ask why it does not work.

use super::line::{self, Line};
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};
use tokio::io::{AsyncRead, BufReader};

const LINES_MAX: usize = 200;
const LINE_BYTES_MAX: usize = 4096;

/// A ring of lines.
#[derive(Default)]
pub(super) struct Stderr {
    lines: Mutex<VecDeque<String>>,
}

impl Stderr {
    /// Reads until the pipe closes. A line that is too long is cut; what is no UTF-8 is replaced.
    pub(super) async fn read(&self, pipe: impl AsyncRead + Unpin) {
        let mut reader = BufReader::new(pipe);
        loop {
            match line::next(&mut reader, LINE_BYTES_MAX).await {
                Ok(Some(Line::Whole(line))) => self.push(&line),
                Ok(Some(Line::Cut(line))) => {
                    self.push(&line);
                    if line::skip(&mut reader).await.is_err() {
                        return;
                    }
                }
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The lines, oldest first.
    pub(super) fn tail(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_last_lines_and_cuts_long_ones() {
        let stderr = Stderr::default();
        let mut text: String = (0..250).map(|n| format!("line {n}\r\n")).collect();
        text.push_str(&"x".repeat(10_000));
        text.push_str("\nlast, without an end");
        stderr.read(text.as_bytes()).await;
        let tail = stderr.tail();
        assert_eq!(tail.len(), LINES_MAX);
        assert_eq!(tail[0], "line 52");
        assert_eq!(tail[198], "x".repeat(LINE_BYTES_MAX));
        assert_eq!(tail[199], "last, without an end");
    }
}
