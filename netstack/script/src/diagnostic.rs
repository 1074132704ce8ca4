//! Messages about scripts: where, what was expected, what came.

use std::fmt;

use crate::syntax::Place;

/// Why a script could not be read, or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub place: Place,
    /// The line of the script.
    pub text: String,
    /// What is wrong.
    pub message: String,
    /// Lines of context: expected, got, a trace of packets.
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// Makes one.
    #[must_use]
    pub fn new(place: &Place, message: impl Into<String>) -> Self {
        Self { place: place.clone(), text: String::new(), message: message.into(), notes: Vec::new() }
    }

    /// Adds a line of context.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Sets the script's line, unless it has one.
    #[must_use]
    pub fn with_text(mut self, text: &str) -> Self {
        if self.text.is_empty() {
            text.trim_end().clone_into(&mut self.text);
        }
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if !self.text.is_empty() {
            write!(f, "\n  | {}", self.text)?;
        }
        for note in &self.notes {
            write!(f, "\n  = {note}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}
