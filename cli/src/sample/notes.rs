//! What was noted? In memory, in this instance alone: what the backup knows and the primary does not is what
//! sync-back is for.

use jiff::Timestamp;
use serde::Serialize;
use std::sync::{Mutex, PoisonError};

/// The most notes, and the longest note in bytes.
const MOST: usize = 1000;
const LONGEST: usize = 4096;

/// One note.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Note {
    pub(super) at: Timestamp,
    pub(super) text: String,
}

/// Notes in the order they came.
#[derive(Default)]
pub(super) struct Notes(Mutex<Vec<Note>>);

impl Notes {
    /// Adds a note and returns how many there are, or says why not.
    pub(super) fn add(&self, text: &str) -> Result<usize, String> {
        if text.len() > LONGEST {
            return Err(format!("a note has at most {LONGEST} bytes, this one has {}", text.len()));
        }
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() >= MOST {
            return Err(format!("there are {MOST} notes, and no room for more"));
        }
        notes.push(Note { at: Timestamp::now(), text: text.to_owned() });
        Ok(notes.len())
    }

    pub(super) fn all(&self) -> Vec<Note> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
