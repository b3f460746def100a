//! How far it is, for those who wait: a bar on a terminal, lines otherwise, both on standard error.

use crate::{
    output::page::{Line, Page, Style, harmless},
    report::Error,
    terminal::Terminal,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// See the module. The same is not said twice.
pub(super) struct Teller {
    bar: Option<ProgressBar>,
    told: String,
}

impl Teller {
    pub(super) fn new(terminal: &Terminal) -> Self {
        let bar = terminal.err.is_tty().then(|| {
            let style = ProgressStyle::with_template("{bar:24} {msg}");
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, told: String::new() }
    }

    /// So many of so many are done; on a terminal only.
    pub(super) fn at(&self, done: u64, all: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(all.max(1));
            bar.set_position(done.min(all));
        }
    }

    pub(super) fn say(&mut self, terminal: &mut Terminal, text: &str) -> Result<(), Error> {
        if self.told == text {
            return Ok(());
        }
        text.clone_into(&mut self.told);
        match &self.bar {
            Some(bar) => bar.set_message(harmless(text)),
            None => notice(terminal, text)?,
        }
        Ok(())
    }
}

/// The bar goes when nobody waits any more, however the wait ended.
impl Drop for Teller {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// About the answer, not part of it.
pub(super) fn notice(terminal: &mut Terminal, text: &str) -> Result<(), Error> {
    let mut page = Page::default();
    page.push(Line::of(text, Style::Warning));
    let painted = page.paint(terminal.err.colour());
    Ok(terminal.err.write(&painted)?)
}
