//! The bytes of one direction of a connection, to be read.

use super::cursor::Cursor;
use super::detail;
use crate::reassembly::{Direction, Stream};

/// The bytes of one direction of a connection, to be read.
#[derive(Debug)]
pub(super) struct StreamView {
    pub(super) flow: usize,
    pub(super) direction: Direction,
    pub(super) is_hex: bool,
    pub(super) cursor: Cursor,
    /// Or why the data cannot be put together.
    bytes: Result<Vec<u8>, String>,
    pub(super) lines: Vec<String>,
}

impl StreamView {
    pub(super) fn new(flow: usize, direction: Direction, stream: anyhow::Result<Stream>) -> Self {
        let bytes = stream.and_then(Stream::finish).map_err(|e| format!("{e:#}"));
        let mut view =
            Self { flow, direction, is_hex: false, cursor: Cursor::default(), bytes, lines: Vec::new() };
        view.show(false);
        view
    }

    /// Shows text, or hexadecimal numbers.
    pub(super) fn show(&mut self, is_hex: bool) {
        self.is_hex = is_hex;
        self.cursor = Cursor::default();
        self.lines = match &self.bytes {
            Err(message) => vec![message.clone()],
            Ok(bytes) if bytes.is_empty() => vec!["no data".to_owned()],
            Ok(bytes) if is_hex => detail::hex(bytes).collect(),
            Ok(bytes) => text(bytes),
        };
    }
}

/// Lines of at most a few hundred characters, without what a terminal would take for a command.
fn text(bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    for line in String::from_utf8_lossy(bytes).split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let shown: Vec<char> = line.chars().map(|c| if c.is_control() { '\u{b7}' } else { c }).collect();
        if shown.is_empty() {
            lines.push(String::new());
        }
        lines.extend(shown.chunks(WIDTH).map(|part| part.iter().collect::<String>()));
    }
    lines
}

/// Data without line ends is broken into lines of so many characters.
const WIDTH: usize = 120;
