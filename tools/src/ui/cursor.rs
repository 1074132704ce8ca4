//! Moving through rows.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// The chosen row, and the row at the top of the screen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) row: usize,
    pub(super) top: usize,
}

/// A movement that a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Motion {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

impl Cursor {
    /// Goes to a row of `len`, `height` of which are visible.
    pub(super) fn go(&mut self, row: usize, len: usize, height: usize) {
        self.row = row.min(len.saturating_sub(1));
        let last_top = len.saturating_sub(height);
        self.top = self.top.min(last_top).clamp((self.row + 1).saturating_sub(height.max(1)), self.row);
    }

    /// Moves the chosen row.
    pub(super) fn step(&mut self, motion: Motion, len: usize, height: usize) {
        self.go(motion.from(self.row, len, height), len, height);
    }

    /// Moves what is visible, where no row is chosen.
    pub(super) fn scroll(&mut self, motion: Motion, len: usize, height: usize) {
        self.top = motion.from(self.top, len, height).min(len.saturating_sub(height));
        self.row = self.top;
    }
}

impl Motion {
    /// As `less` and arrows have it.
    pub(super) fn of(key: KeyEvent) -> Option<Self> {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        Some(match key.code {
            KeyCode::Up | KeyCode::Char('k') if !is_control => Self::Up,
            KeyCode::Down | KeyCode::Char('j') if !is_control => Self::Down,
            KeyCode::PageUp => Self::PageUp,
            KeyCode::PageDown | KeyCode::Char(' ') => Self::PageDown,
            KeyCode::Char('b') if is_control => Self::PageUp,
            KeyCode::Char('f') if is_control => Self::PageDown,
            KeyCode::Home | KeyCode::Char('g') => Self::Home,
            KeyCode::End | KeyCode::Char('G') => Self::End,
            _ => return None,
        })
    }

    fn from(self, row: usize, len: usize, height: usize) -> usize {
        match self {
            Self::Up => row.saturating_sub(1),
            Self::Down => row + 1,
            Self::PageUp => row.saturating_sub(height.max(1)),
            Self::PageDown => row + height.max(1),
            Self::Home => 0,
            Self::End => len.saturating_sub(1),
        }
    }
}
