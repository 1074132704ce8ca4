//! The line discipline as a plain machine: bytes from the keyboard and from programs in, bytes for programs and for the
//! screen out (`termios(3)`).

use std::collections::VecDeque;

use sentry_abi::fs::{Termios, Winsize};

// Bits of c_iflag, c_oflag, c_cflag, c_lflag and indices of c_cc (asm-generic/termbits.h).
pub(super) const ISTRIP: u32 = 0o40;
pub(super) const INLCR: u32 = 0o100;
pub(super) const IGNCR: u32 = 0o200;
pub(super) const ICRNL: u32 = 0o400;
pub(super) const IXON: u32 = 0o2000;
pub(super) const IXANY: u32 = 0o4000;
pub(super) const IMAXBEL: u32 = 0o20000;
pub(super) const IUTF8: u32 = 0o40000;
pub(super) const OPOST: u32 = 0o1;
pub(super) const ONLCR: u32 = 0o4;
pub(super) const OCRNL: u32 = 0o10;
pub(super) const ONOCR: u32 = 0o20;
pub(super) const ONLRET: u32 = 0o40;
pub(super) const XTABS: u32 = 0o14000;
pub(super) const ISIG: u32 = 0o1;
pub(super) const ICANON: u32 = 0o2;
pub(super) const ECHO: u32 = 0o10;
pub(super) const ECHOE: u32 = 0o20;
pub(super) const ECHOK: u32 = 0o40;
pub(super) const ECHONL: u32 = 0o100;
pub(super) const NOFLSH: u32 = 0o200;
pub(super) const ECHOCTL: u32 = 0o1000;
pub(super) const ECHOKE: u32 = 0o4000;
pub(super) const IEXTEN: u32 = 0o100_000;
const VINTR: usize = 0;
const VQUIT: usize = 1;
const VERASE: usize = 2;
const VKILL: usize = 3;
const VEOF: usize = 4;
pub(super) const VMIN: usize = 6;
const VSTART: usize = 8;
const VSTOP: usize = 9;
const VSUSP: usize = 10;
const VEOL: usize = 11;
const VREPRINT: usize = 12;
const VWERASE: usize = 14;
const VLNEXT: usize = 15;
const VEOL2: usize = 16;

/// A signal that a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeySignal {
    Interrupt,
    Quit,
    Suspend,
}

/// The state of a terminal.
#[derive(Debug)]
pub(super) struct Discipline {
    pub(super) termios: Termios,
    pub(super) size: Winsize,
    /// What programs can read: in canonical mode whole lines, the end of each marked.
    ready: VecDeque<Unit>,
    /// How many lines are in `ready`.
    lines: usize,
    /// The line that is being typed.
    line: Vec<u8>,
    /// What the screen has not taken yet.
    output: VecDeque<u8>,
    /// The screen's column, for erasing and tabs.
    column: usize,
    /// The next key is taken literally (`VLNEXT`).
    is_literal: bool,
    /// Output is stopped (`VSTOP`).
    is_stopped: bool,
}

/// A readable byte, and whether a line ends with it or right before it (`VEOF`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Byte(u8),
    /// The last byte of a line.
    End(u8),
    /// A line ends here without a byte.
    Eof,
}

/// The most bytes that wait to be read (`N_TTY_BUF_SIZE`).
const MAX_INPUT: usize = 4096;
/// The most bytes that wait to be shown.
pub(super) const MAX_OUTPUT: usize = 64 * 1024;
/// The longest line that can be typed; one byte is kept for its end.
const MAX_LINE: usize = MAX_INPUT - 1;

impl Default for Discipline {
    fn default() -> Self {
        let mut c_cc = [0; 19];
        // The kernel's INIT_C_CC.
        for (at, key) in [
            (VINTR, 3),
            (VQUIT, 28),
            (VERASE, 127),
            (VKILL, 21),
            (VEOF, 4),
            (VMIN, 1),
            (VSTART, 17),
            (VSTOP, 19),
            (VSUSP, 26),
            (VREPRINT, 18),
            (13, 15),
            (VWERASE, 23),
            (VLNEXT, 22),
        ] {
            c_cc[at] = key;
        }
        Self {
            termios: Termios {
                c_iflag: ICRNL | IXON,
                c_oflag: OPOST | ONLCR,
                // B38400 | CS8 | CREAD (unix98_pty_init)
                c_cflag: 0o17 | 0o60 | 0o200,
                c_lflag: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
                c_line: 0,
                c_cc,
            },
            size: Winsize::default(),
            ready: VecDeque::new(),
            lines: 0,
            line: Vec::new(),
            output: VecDeque::new(),
            column: 0,
            is_literal: false,
            is_stopped: false,
        }
    }
}

impl Discipline {
    fn has(&self, local: u32) -> bool {
        self.termios.c_lflag & local != 0
    }

    fn input_has(&self, flag: u32) -> bool {
        self.termios.c_iflag & flag != 0
    }

    /// True where `byte` is the key of function `at`; 0 switches a function off.
    fn is_key(&self, at: usize, byte: u8) -> bool {
        self.termios.c_cc[at] != 0 && self.termios.c_cc[at] == byte
    }

    /// Takes typed bytes and returns the signals that they ask for.
    pub(super) fn on_typed(&mut self, bytes: &[u8]) -> Vec<KeySignal> {
        bytes.iter().filter_map(|byte| self.on_key(*byte)).collect()
    }

    /// How many typed bytes fit.
    pub(super) fn input_room(&self) -> usize {
        if self.has(ICANON) && self.lines == 0 {
            // Keys that edit must always get through.
            return MAX_INPUT;
        }
        MAX_INPUT.saturating_sub(self.ready.len() + self.line.len())
    }

    fn on_key(&mut self, mut byte: u8) -> Option<KeySignal> {
        if self.input_has(ISTRIP) {
            byte &= 0x7f;
        }
        if std::mem::take(&mut self.is_literal) {
            self.add(byte);
            return None;
        }
        if self.input_has(IXON) {
            if self.is_key(VSTOP, byte) {
                self.is_stopped = true;
                return None;
            }
            let restarts = self.is_key(VSTART, byte) || self.is_stopped && self.input_has(IXANY);
            if restarts {
                self.is_stopped = false;
            }
            if self.is_key(VSTART, byte) {
                return None;
            }
        }
        if self.has(ISIG)
            && let Some(signal) = self.signal_of(byte)
        {
            if !self.has(NOFLSH) {
                self.flush_input();
                self.output.clear();
            }
            if self.has(ECHO) {
                self.echo(byte);
            }
            return Some(signal);
        }
        match byte {
            b'\r' if self.input_has(IGNCR) => return None,
            b'\r' if self.input_has(ICRNL) => byte = b'\n',
            b'\n' if self.input_has(INLCR) => byte = b'\r',
            _ => {}
        }
        if self.has(ICANON) && self.on_edit_key(byte) {
            return None;
        }
        self.add(byte);
        None
    }

    fn signal_of(&self, byte: u8) -> Option<KeySignal> {
        let keys = [(VINTR, KeySignal::Interrupt), (VQUIT, KeySignal::Quit), (VSUSP, KeySignal::Suspend)];
        keys.into_iter().find(|(at, _)| self.is_key(*at, byte)).map(|(_, signal)| signal)
    }

    /// Handles the keys of canonical mode; false for a byte that is part of the line.
    fn on_edit_key(&mut self, byte: u8) -> bool {
        let extended = self.has(IEXTEN);
        if self.is_key(VERASE, byte) {
            self.erase_char();
        } else if self.is_key(VKILL, byte) {
            self.kill_line(byte);
        } else if extended && self.is_key(VWERASE, byte) {
            self.erase_word();
        } else if extended && self.is_key(VLNEXT, byte) {
            self.is_literal = true;
            if self.has(ECHO) && self.has(ECHOCTL) {
                self.show(b"^\x08");
            }
        } else if extended && self.is_key(VREPRINT, byte) && self.has(ECHO) {
            self.echo(byte);
            self.show(b"\n");
            let line = self.line.clone();
            line.iter().for_each(|b| self.echo(*b));
        } else if self.is_key(VEOF, byte) {
            self.end_line(None);
        } else if byte == b'\n' {
            if self.has(ECHO) || self.has(ECHONL) {
                self.show(b"\n");
            }
            self.end_line(Some(byte));
        } else if self.is_key(VEOL, byte) || extended && self.is_key(VEOL2, byte) {
            if self.has(ECHO) {
                self.echo(byte);
            }
            self.end_line(Some(byte));
        } else {
            return false;
        }
        true
    }

    /// Adds a byte of data.
    fn add(&mut self, byte: u8) {
        if self.has(ICANON) {
            if self.line.len() >= MAX_LINE {
                if self.input_has(IMAXBEL) {
                    self.output.push_back(7);
                }
                return;
            }
            self.line.push(byte);
        } else if self.ready.len() < MAX_INPUT {
            self.ready.push_back(Unit::Byte(byte));
        }
        if self.has(ECHO) {
            self.echo(byte);
        }
    }

    /// Makes the typed line readable; its end is `last`, or nothing for `VEOF`.
    fn end_line(&mut self, last: Option<u8>) {
        self.ready.extend(self.line.drain(..).map(Unit::Byte));
        self.ready.push_back(last.map_or(Unit::Eof, Unit::End));
        self.lines += 1;
    }

    /// Takes the last character away; the bytes of a UTF-8 sequence go together with `IUTF8`.
    fn erase_char(&mut self) {
        let Some(mut byte) = self.line.pop() else { return };
        let mut width = char_width(byte);
        if self.input_has(IUTF8) {
            while byte & 0xc0 == 0x80 {
                let Some(before) = self.line.pop() else { break };
                byte = before;
            }
            width = if byte >= 0xc0 { 1 } else { char_width(byte) };
        }
        self.unshow(width);
    }

    fn erase_word(&mut self) {
        while self.line.last().is_some_and(|b| !is_word(*b)) {
            self.erase_char();
        }
        while self.line.last().is_some_and(|b| is_word(*b)) {
            self.erase_char();
        }
    }

    fn kill_line(&mut self, key: u8) {
        if self.has(ECHO) && self.has(ECHOK) && self.has(ECHOKE) && self.has(ECHOE) {
            while !self.line.is_empty() {
                self.erase_char();
            }
            return;
        }
        self.line.clear();
        if self.has(ECHO) {
            self.echo(key);
            if self.has(ECHOK) {
                self.show(b"\n");
            }
        }
    }

    /// Wipes `width` columns off the screen.
    fn unshow(&mut self, width: usize) {
        if self.has(ECHO) && self.has(ECHOE) {
            for _ in 0..width {
                self.output.extend(b"\x08 \x08");
                self.column = self.column.saturating_sub(1);
            }
        }
    }

    /// Shows a typed byte, control characters as `^X`.
    fn echo(&mut self, byte: u8) {
        let control = byte < 0x20 && byte != b'\t' && byte != b'\n' || byte == 0x7f;
        if control && self.has(ECHOCTL) {
            self.output.extend([b'^', byte ^ 0x40]);
            self.column += 2;
        } else {
            self.show(&[byte]);
        }
    }

    /// Shows bytes that a program wrote; returns how many were taken.
    pub(super) fn on_written(&mut self, bytes: &[u8]) -> usize {
        if self.is_stopped {
            return 0;
        }
        let mut taken = 0;
        for byte in bytes {
            // A byte becomes at most eight (a tab).
            if self.output.len() + 8 > MAX_OUTPUT {
                break;
            }
            self.show(&[*byte]);
            taken += 1;
        }
        taken
    }

    fn show(&mut self, bytes: &[u8]) {
        let flags = self.termios.c_oflag;
        for byte in bytes {
            if flags & OPOST == 0 {
                self.output.push_back(*byte);
                continue;
            }
            match byte {
                b'\n' => {
                    if flags & ONLCR != 0 {
                        self.output.extend(b"\r\n");
                        self.column = 0;
                    } else {
                        self.output.push_back(b'\n');
                        if flags & ONLRET != 0 {
                            self.column = 0;
                        }
                    }
                }
                b'\r' if flags & ONOCR != 0 && self.column == 0 => {}
                b'\r' if flags & OCRNL != 0 => self.output.push_back(b'\n'),
                b'\r' => {
                    self.output.push_back(b'\r');
                    self.column = 0;
                }
                b'\t' => {
                    let width = 8 - self.column % 8;
                    if flags & XTABS == XTABS {
                        self.output.extend(std::iter::repeat_n(b' ', width));
                    } else {
                        self.output.push_back(b'\t');
                    }
                    self.column += width;
                }
                8 => {
                    self.output.push_back(8);
                    self.column = self.column.saturating_sub(1);
                }
                other => {
                    self.output.push_back(*other);
                    self.column += usize::from(*other >= 0x20);
                }
            }
        }
    }

    /// True where a read by a program would give something, if only the end.
    pub(super) fn can_read(&self) -> bool {
        if self.has(ICANON) { self.lines > 0 } else { !self.ready.is_empty() }
    }

    /// Reads up to `max` bytes, in canonical mode of one line. `None` while there is nothing.
    pub(super) fn read(&mut self, max: usize) -> Option<Vec<u8>> {
        if !self.has(ICANON) {
            // `VMIN` of 0 never waits. `VTIME` is not honoured: what is there is returned.
            if self.ready.is_empty() {
                return (self.termios.c_cc[VMIN] == 0).then(Vec::new);
            }
            let mut out = Vec::new();
            while out.len() < max {
                match self.ready.pop_front() {
                    Some(Unit::Byte(byte)) => out.push(byte),
                    Some(Unit::End(byte)) => {
                        self.lines -= 1;
                        out.push(byte);
                    }
                    Some(Unit::Eof) => self.lines -= 1,
                    None => break,
                }
            }
            return Some(out);
        }
        if self.lines == 0 {
            return None;
        }
        let mut out = Vec::new();
        while out.len() < max {
            match self.ready.pop_front() {
                Some(Unit::Byte(byte)) => out.push(byte),
                Some(Unit::End(byte)) => {
                    self.lines -= 1;
                    out.push(byte);
                    break;
                }
                Some(Unit::Eof) => {
                    self.lines -= 1;
                    break;
                }
                None => break,
            }
        }
        // A line that was read up to its VEOF exactly is over; the mark must not read as the end of the file.
        if !out.is_empty() && self.ready.front() == Some(&Unit::Eof) {
            self.ready.pop_front();
            self.lines -= 1;
        }
        Some(out)
    }

    /// How many bytes can be read.
    pub(super) fn readable(&self) -> usize {
        if self.can_read() { self.ready.iter().filter(|u| !matches!(u, Unit::Eof)).count() } else { 0 }
    }

    /// What the screen takes, up to `max` bytes.
    pub(super) fn take_output(&mut self, max: usize) -> Vec<u8> {
        let n = max.min(self.output.len());
        if self.is_stopped { Vec::new() } else { self.output.drain(..n).collect() }
    }

    /// How many bytes wait for the screen.
    pub(super) fn output_len(&self) -> usize {
        if self.is_stopped { 0 } else { self.output.len() }
    }

    /// True where a program can write.
    pub(super) fn can_write(&self) -> bool {
        !self.is_stopped && self.output.len() + 8 <= MAX_OUTPUT
    }

    /// Forgets what was typed (`TCIFLUSH`).
    pub(super) fn flush_input(&mut self) {
        self.ready.clear();
        self.line.clear();
        self.lines = 0;
    }

    /// Forgets what was written (`TCOFLUSH`).
    pub(super) fn flush_output(&mut self) {
        self.output.clear();
    }

    /// Stops or restarts output (`TCXONC`).
    pub(super) fn set_stopped(&mut self, stopped: bool) {
        self.is_stopped = stopped;
    }

    /// Changes the attributes. Leaving canonical mode makes the typed part of a line readable; entering it turns what
    /// is there into a line.
    pub(super) fn set_termios(&mut self, new: Termios) {
        let was = self.has(ICANON);
        self.termios = new;
        match (was, self.has(ICANON)) {
            (true, false) => self.ready.extend(self.line.drain(..).map(Unit::Byte)),
            (false, true) if !self.ready.is_empty() && self.lines == 0 => {
                self.ready.push_back(Unit::Eof);
                self.lines = 1;
            }
            _ => {}
        }
    }
}

/// How many columns the echo of a byte takes.
fn char_width(byte: u8) -> usize {
    if byte < 0x20 && byte != b'\t' || byte == 0x7f { 2 } else { 1 }
}

/// Letters, digits and underscore make a word (`VWERASE`).
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
#[path = "discipline_tests.rs"]
mod tests;
