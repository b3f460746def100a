//! A terminal as a whole: every cell is ours and every key comes at once, until it is given back.
//!
//! It is given back however the program ends: by [`Drop`], before a panic says anything, and while the process is
//! stopped. Only what cannot be seen coming (`kill -9`) leaves it as it is; `reset` helps then.

use super::Size;
use crate::tui::Key;
use crossterm::{
    cursor::Show,
    event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    execute,
    style::force_color_output,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use futures_util::StreamExt as _;
use ratatui::{Terminal, backend::CrosstermBackend, buffer::Buffer};
use rustix::process::{Signal, getpid, kill_process};
use std::{
    io::{self, BufWriter, Stdout, stdout},
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

/// Whether the terminal of this process is taken. Leaving twice would move the cursor of whoever has it by then.
static TAKEN: AtomicBool = AtomicBool::new(false);
static BEFORE_PANICS: Once = Once::new();

/// The terminal, taken.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes it.
    ///
    /// # Errors
    /// There is none, or it cannot be switched.
    pub(crate) fn open(colour: bool) -> io::Result<Self> {
        BEFORE_PANICS.call_once(|| {
            let others = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                give_back();
                others(info);
            }));
        });
        // What the command line says stands above what crossterm reads from the environment.
        force_color_output(colour);
        take()?;
        Ok(Self { terminal: blank().inspect_err(|_| give_back())? })
    }

    /// How large it is at present.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn size(&self) -> io::Result<Size> {
        let size = self.terminal.size()?;
        Ok(Size { columns: size.width.into(), rows: size.height.into() })
    }

    /// Shows what `paint` paints; only what changed is written.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn draw(&mut self, paint: impl FnOnce(&mut Buffer)) -> io::Result<()> {
        self.terminal.draw(|frame| paint(frame.buffer_mut())).map(drop)
    }

    /// Gives it back, stops the process until somebody lets it go on, and takes it again.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn suspend(&mut self) -> io::Result<()> {
        give_back();
        kill_process(getpid(), Signal::STOP)?;
        take()?;
        self.terminal = blank()?;
        Ok(())
    }
}

/// A terminal that was just taken: nothing of what is drawn is there yet. Clearing one would ask where its cursor is, and
/// the answer would come with what is typed.
fn blank() -> io::Result<Terminal<CrosstermBackend<BufWriter<Stdout>>>> {
    Terminal::new(CrosstermBackend::new(BufWriter::new(stdout())))
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    execute!(stdout(), EnterAlternateScreen)
}

fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // Whoever cannot be told has no terminal any more.
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    }
}

/// What happens at a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// A key that means something.
    Key(Key),
    /// Ctrl-Z.
    Suspend,
    /// Anything else, another size among it.
    Other,
}

/// What is typed, as it comes.
pub(crate) struct Keyboard(EventStream);

impl Keyboard {
    /// Of the terminal that is taken.
    pub(crate) fn new() -> Self {
        Self(EventStream::new())
    }

    /// The next input, whenever it comes.
    ///
    /// # Errors
    /// There will be none: the terminal is gone.
    pub(crate) async fn next(&mut self) -> io::Result<Input> {
        match self.0.next().await {
            Some(Ok(Event::Key(key))) => Ok(input(key)),
            Some(Ok(_)) => Ok(Input::Other),
            Some(Err(error)) => Err(error),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn input(event: KeyEvent) -> Input {
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    let key = match event.code {
        _ if event.kind == KeyEventKind::Release => return Input::Other,
        KeyCode::Char('c') if control => Key::Interrupt,
        KeyCode::Char('z') if control => return Input::Suspend,
        // Ctrl and Alt with other letters are not these letters.
        KeyCode::Char(_) if event.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
            return Input::Other;
        }
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Backspace => Key::Backspace,
        _ => return Input::Other,
    };
    Input::Key(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_with_ctrl_or_alt_are_not_those_letters() {
        let key = |code, modifiers| match input(KeyEvent::new(code, modifiers)) {
            Input::Key(key) => Some(key),
            Input::Suspend | Input::Other => None,
        };
        let none = KeyModifiers::NONE;
        assert_eq!(key(KeyCode::Char('q'), none), Some(Key::Char('q')));
        assert_eq!(key(KeyCode::Char('S'), KeyModifiers::SHIFT), Some(Key::Char('S')));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Interrupt));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::CONTROL), None);
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::ALT), None);
        assert_eq!(key(KeyCode::F(5), none), None);
    }
}
