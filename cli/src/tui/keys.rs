//! What a key does.

use super::{
    state::{State, TABS, Tab},
    view,
};

/// A key, whatever terminal it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// A character.
    Char(char),
    /// Arrows and their like.
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Tab,
    BackTab,
    Enter,
    Esc,
    Backspace,
    /// Ctrl-C, which ends it whatever is open.
    Interrupt,
}

/// Characters of a filter.
const FILTER: usize = 64;

impl State {
    pub(super) fn press(&mut self, key: Key) {
        if key == Key::Interrupt {
            self.over = true;
        } else if self.typing {
            self.type_filter(key);
        } else if self.help && key != Key::Char('q') {
            self.help = false;
        } else {
            self.command(key);
        }
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Char(c) if !c.is_control() && self.filter.chars().count() < FILTER => self.filter.push(c),
            Key::Backspace => drop(self.filter.pop()),
            Key::Enter => self.typing = false,
            Key::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            _ => {}
        }
    }

    fn command(&mut self, key: Key) {
        match key {
            Key::Char('q') => self.over = true,
            Key::Char('?') => self.help = true,
            Key::Char('/') => self.typing = true,
            Key::Char('p' | ' ') => self.pause(),
            Key::Char('s') => self.sort_next(),
            Key::Char('S') => self.sort_reversed(),
            Key::Char(c @ '1'..='6') => self.go_to(TABS[c as usize - '1' as usize]),
            Key::Tab => self.go_to(self.tab.neighbour(1)),
            Key::BackTab => self.go_to(self.tab.neighbour(TABS.len() - 1)),
            Key::Esc => self.filter.clear(),
            Key::Up | Key::Char('k') => self.move_by(-1),
            Key::Down | Key::Char('j') => self.move_by(1),
            Key::PageUp => self.move_by(-page(self)),
            Key::PageDown => self.move_by(page(self)),
            Key::Home | Key::Char('g') => self.move_by(-FAR),
            Key::End | Key::Char('G') => self.move_by(FAR),
            Key::Left | Key::Char('h') if self.tab == Tab::Logs => self.other_log(-1),
            Key::Right | Key::Char('l') if self.tab == Tab::Logs => self.other_log(1),
            _ => {}
        }
    }
}

/// Farther than any list is long.
const FAR: isize = 1 << 40;

fn page(state: &State) -> isize {
    view::body_rows(state).max(2).cast_signed() - 1
}
