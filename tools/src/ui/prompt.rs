//! A line that is being typed.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What the line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Filter,
    Search,
    /// The name of a pcapng file.
    Write,
}

/// A line that is being typed.
#[derive(Debug, Clone)]
pub(super) struct Prompt {
    pub(super) purpose: Purpose,
    pub(super) text: String,
    /// In characters.
    pub(super) cursor: usize,
    /// What is wrong with it, and at which character if that is known.
    pub(super) fault: Option<(Option<usize>, String)>,
}

/// What a key did to the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edit {
    Edited,
    Accepted,
    Left,
}

impl Purpose {
    /// What stands before the line.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Filter => "filter: ",
            Self::Search => "search: ",
            Self::Write => "write shown packets to: ",
        }
    }
}

impl Prompt {
    pub(super) fn new(purpose: Purpose, text: &str) -> Self {
        Self { purpose, text: text.to_owned(), cursor: text.chars().count(), fault: None }
    }

    pub(super) fn on_key(&mut self, key: KeyEvent) -> Edit {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        let len = self.text.chars().count();
        match key.code {
            KeyCode::Enter => return Edit::Accepted,
            KeyCode::Esc => return Edit::Left,
            KeyCode::Char('c' | 'g') if is_control => return Edit::Left,
            KeyCode::Left => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Right => self.cursor = (self.cursor + 1).min(len),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = len,
            KeyCode::Char('a') if is_control => self.cursor = 0,
            KeyCode::Char('e') if is_control => self.cursor = len,
            KeyCode::Char('u') if is_control => {
                self.text = self.text.chars().skip(self.cursor).collect();
                self.cursor = 0;
            }
            KeyCode::Char('k') if is_control => self.text = self.text.chars().take(self.cursor).collect(),
            KeyCode::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.remove();
            }
            KeyCode::Delete => self.remove(),
            KeyCode::Char(c) if !is_control && !c.is_control() => {
                let at = self.byte();
                self.text.insert(at, c);
                self.cursor += 1;
            }
            _ => {}
        }
        Edit::Edited
    }

    /// Takes the character under the cursor away.
    fn remove(&mut self) {
        let at = self.byte();
        if at < self.text.len() {
            self.text.remove(at);
        }
    }

    fn byte(&self) -> usize {
        self.text.char_indices().nth(self.cursor).map_or(self.text.len(), |(at, _)| at)
    }
}
