//! Where output goes: data to `out`, everything else to `err`, each with what it can show.
//!
//! The only place that knows about standard streams, colour and the size of a window; [`screen`] takes a terminal as a
//! whole. It must never decide what is said.

pub(crate) mod screen;

use rustix::termios::{isatty, tcgetwinsize};
use std::io::{self, Write};

/// Whether to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Colour {
    /// When the stream is a terminal and `NO_COLOR` is not set.
    #[default]
    Auto,
    /// Always, even into a pipe.
    Always,
    /// Never.
    Never,
}

/// One stream and what it can show.
pub struct Stream {
    writer: Box<dyn Write + Send>,
    tty: bool,
    colour: bool,
    /// A terminal that knows where its cursor is.
    draws: bool,
}

/// Columns and lines of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

/// The two streams of a command.
pub struct Terminal {
    /// For data.
    pub out: Stream,
    /// For everything else: errors, hints, logs, progress.
    pub err: Stream,
}

impl Terminal {
    /// The streams of this process. `NO_COLOR` (not empty) and `TERM=dumb` turn colour off.
    #[must_use]
    pub fn stdio() -> Self {
        let able = std::env::var_os("TERM").is_none_or(|value| value != "dumb");
        let wanted = able && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let (out, err) = (isatty(io::stdout()), isatty(io::stderr()));
        Self {
            out: Stream {
                writer: Box::new(io::stdout()),
                tty: out,
                colour: out && wanted,
                draws: out && able,
            },
            err: Stream {
                writer: Box::new(io::stderr()),
                tty: err,
                colour: err && wanted,
                draws: err && able,
            },
        }
    }

    /// Two plain writers that are no terminals.
    #[must_use]
    pub fn plain(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        let stream = |writer| Stream { writer, tty: false, colour: false, draws: false };
        Self { out: stream(out), err: stream(err) }
    }

    /// Applies what the caller asked for on the command line.
    pub fn set_colour(&mut self, colour: Colour) {
        for stream in [&mut self.out, &mut self.err] {
            match colour {
                Colour::Auto => {}
                Colour::Always => stream.colour = true,
                Colour::Never => stream.colour = false,
            }
        }
    }
}

impl Stream {
    /// True for a terminal: a person is watching and lines can be redrawn.
    #[must_use]
    pub fn is_tty(&self) -> bool {
        self.tty
    }

    /// True for a terminal of which every cell can be drawn on.
    #[must_use]
    pub fn draws(&self) -> bool {
        self.draws
    }

    /// True when colour may be used.
    #[must_use]
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// The size of the window behind standard output, asked anew each time because people resize windows.
    #[must_use]
    pub fn size(&self) -> Option<Size> {
        let size = self.tty.then(|| tcgetwinsize(io::stdout()).ok()).flatten()?;
        let known = size.ws_col > 0 && size.ws_row > 0;
        known.then(|| Size { columns: size.ws_col.into(), rows: size.ws_row.into() })
    }

    /// Writes and flushes.
    ///
    /// # Errors
    /// Those of the stream; a broken pipe is one of them.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())?;
        self.writer.flush()
    }
}

/// Output kept in memory, for tests; clones share it.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Captured(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
impl Captured {
    /// A terminal that writes into two of these.
    pub(crate) fn terminal() -> (Terminal, Self, Self) {
        let (out, err) = (Self::default(), Self::default());
        (Terminal::plain(Box::new(out.clone()), Box::new(err.clone())), out, err)
    }

    /// Everything so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Waits until `wanted` was written.
    pub(crate) async fn until(&self, wanted: &str) {
        let found = async {
            while !self.text().contains(wanted) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let limit = std::time::Duration::from_secs(20);
        assert!(
            tokio::time::timeout(limit, found).await.is_ok(),
            "`{wanted}` was not written, but:\n{}",
            self.text()
        );
    }
}

#[cfg(test)]
impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
