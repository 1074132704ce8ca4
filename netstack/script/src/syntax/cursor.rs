//! A position in a script's text, and the steps that all parts of the parser take.

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::syntax::Place;

/// Reads a text from front to back.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    pub(super) file: Arc<str>,
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &str, text: &'a str) -> Self {
        Self { file: file.into(), text, at: 0 }
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn place(&self) -> Place {
        let before = &self.text[..self.at];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1);
        Place {
            file: Arc::clone(&self.file),
            line: count(before.matches('\n').count()),
            column: count(before[line_start..].chars().count()),
        }
    }

    /// The line that the cursor is in.
    pub(super) fn line(&self) -> &'a str {
        let start = self.text[..self.at].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[self.at..].find('\n').map_or(self.text.len(), |at| self.at + at);
        &self.text[start..end]
    }

    pub(super) fn error<T>(&self, message: impl Into<String>) -> Result<T, Diagnostic> {
        Err(Diagnostic::new(&self.place(), message).with_text(self.line()))
    }

    /// Says what was expected here and what is here.
    pub(super) fn expected<T>(&self, what: &str) -> Result<T, Diagnostic> {
        let end = |c: char| c.is_whitespace();
        let found = match self.rest().split(end).next() {
            None | Some("") if self.is_at_end() => "the end of the file".to_owned(),
            None | Some("") => "the end of the line".to_owned(),
            Some(word) => format!("`{word}`"),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    /// Skips blanks and a comment, but not the end of the line.
    pub(super) fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\r']);
            self.at += rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if trimmed.starts_with("\\\n") {
                // A line goes on after a backslash.
                self.at += 2;
            } else {
                return;
            }
        }
    }

    /// Skips blanks, comments and ends of lines.
    pub(super) fn skip_lines(&mut self) {
        loop {
            self.skip_blanks();
            if !self.take_raw("\n") && !self.take_raw(";") {
                return;
            }
        }
    }

    fn take_raw(&mut self, token: &str) -> bool {
        let is_there = self.rest().starts_with(token);
        if is_there {
            self.at += token.len();
        }
        is_there
    }

    /// Takes `token` if it is next (blanks skipped).
    pub(super) fn take(&mut self, token: &str) -> bool {
        self.skip_blanks();
        self.take_raw(token)
    }

    /// Takes `token` if it is next without blanks before it.
    pub(super) fn take_adjacent(&mut self, token: &str) -> bool {
        self.take_raw(token)
    }

    pub(super) fn need(&mut self, token: &str) -> Result<(), Diagnostic> {
        if self.take(token) { Ok(()) } else { self.expected(&format!("`{token}`")) }
    }

    /// Takes the keyword `word` if it is next and not part of a longer one.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        self.skip_blanks();
        let is_word = self
            .rest()
            .strip_prefix(word)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        if is_word {
            self.at += word.len();
        }
        is_word
    }

    /// A name, if one is next: letters, digits and underscores, not beginning with a digit.
    pub(super) fn take_name(&mut self) -> Option<&'a str> {
        self.skip_blanks();
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return None;
        }
        Some(self.take_while(|c| c.is_alphanumeric() || c == '_'))
    }

    pub(super) fn need_name(&mut self, what: &str) -> Result<&'a str, Diagnostic> {
        match self.take_name() {
            Some(name) => Ok(name),
            None => self.expected(what),
        }
    }

    /// Takes characters as long as they fit.
    pub(super) fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// A text in double quotes.
    pub(super) fn need_string(&mut self) -> Result<String, Diagnostic> {
        self.skip_blanks();
        let place = self.place();
        if !self.take_raw("\"") {
            return self.expected("a text in quotes");
        }
        let text = self.take_while(|c| c != '"' && c != '\n').to_owned();
        if !self.take_raw("\"") {
            return Err(Diagnostic::new(&place, "the text has no closing quote").with_text(self.line()));
        }
        Ok(text)
    }

    /// Only blanks and a comment may follow in this line (or the end of a block).
    pub(super) fn need_end_of_statement(&mut self) -> Result<(), Diagnostic> {
        self.skip_blanks();
        match self.peek() {
            None | Some('\n' | '}' | ';') => Ok(()),
            Some(_) => self.expected("the end of the statement"),
        }
    }

    /// A way back.
    pub(super) fn mark(&self) -> usize {
        self.at
    }

    pub(super) fn go_back(&mut self, mark: usize) {
        self.at = mark;
    }
}
