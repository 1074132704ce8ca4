//! TCP flags and their letters.

/// FIN.
pub const FIN: u16 = 0x001;
/// SYN.
pub const SYN: u16 = 0x002;
/// RST.
pub const RST: u16 = 0x004;
/// PSH.
pub const PSH: u16 = 0x008;
/// ACK.
pub const ACK: u16 = 0x010;
/// URG.
pub const URG: u16 = 0x020;
/// ECE.
pub const ECE: u16 = 0x040;
/// CWR.
pub const CWR: u16 = 0x080;
/// AE (accurate ECN, formerly NS).
pub const AE: u16 = 0x100;

const LETTERS: &[(char, u16)] = &[
    ('F', FIN),
    ('S', SYN),
    ('R', RST),
    ('P', PSH),
    ('U', URG),
    ('E', ECE),
    ('W', CWR),
    ('A', AE),
    ('.', ACK),
];

/// Reads flags as tcpdump writes them: `S.`, `P.`, `SEW`; `-` for none.
#[must_use]
pub fn parse(letters: &str) -> Option<u16> {
    if letters == "-" {
        return Some(0);
    }
    if letters.is_empty() {
        return None;
    }
    letters.chars().try_fold(0, |flags, letter| {
        LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, flag)| flags | flag)
    })
}

/// Writes flags.
#[must_use]
pub fn show(flags: u16) -> String {
    let letters: String =
        LETTERS.iter().filter(|(_, flag)| flags & flag != 0).map(|(letter, _)| *letter).collect();
    if letters.is_empty() { "-".to_owned() } else { letters }
}
