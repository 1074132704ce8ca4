//! Where things are on the screen.

use ratatui::layout::{Constraint, Layout, Rect};

/// Where things are on the screen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panes {
    pub(super) title: Rect,
    /// Everything between the title and the lowest lines.
    pub(super) whole: Rect,
    pub(super) packets: Rect,
    /// The line between packets and details.
    pub(super) divider: Rect,
    pub(super) details: Rect,
    /// What is typed, or which keys there are.
    pub(super) prompt: Rect,
    /// What the last key led to.
    pub(super) status: Rect,
}

impl Panes {
    pub(super) fn of(area: Rect) -> Self {
        let line = Constraint::Length(1);
        let [title, whole, prompt, status] =
            Layout::vertical([line, Constraint::Min(0), line, line]).areas(area);
        let [packets, divider, details] =
            Layout::vertical([Constraint::Fill(3), line, Constraint::Fill(2)]).areas(whole);
        Self { title, whole, packets, divider, details, prompt, status }
    }
}
