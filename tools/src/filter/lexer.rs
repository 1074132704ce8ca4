//! From a text to words and signs.

use super::Fault;

/// A word or sign, and the byte at which it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

/// The kinds of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Word(String),
    /// Between quotation marks.
    Quoted(String),
    Open,
    Close,
    And,
    Or,
    Not,
    Compare(Comparison),
}

/// How numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
    Different,
}

/// Longer signs before those that they start with.
const SIGNS: [(&str, Kind); 14] = [
    ("(", Kind::Open),
    (")", Kind::Close),
    ("&&", Kind::And),
    ("||", Kind::Or),
    ("<=", Kind::Compare(Comparison::AtMost)),
    (">=", Kind::Compare(Comparison::AtLeast)),
    ("==", Kind::Compare(Comparison::Equal)),
    ("!=", Kind::Compare(Comparison::Different)),
    ("<", Kind::Compare(Comparison::Less)),
    (">", Kind::Compare(Comparison::More)),
    ("=", Kind::Compare(Comparison::Equal)),
    ("!", Kind::Not),
    ("&", Kind::And),
    ("|", Kind::Or),
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let at = text.len() - rest.len();
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        if let Some((sign, kind)) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
            tokens.push(Token { at, kind: kind.clone() });
            rest = rest.strip_prefix(sign).unwrap_or_default();
        } else if first == '"' {
            let inside = rest.strip_prefix('"').unwrap_or_default();
            let Some((quoted, after)) = inside.split_once('"') else {
                return Err(Fault::new(at, "a quotation mark without its other"));
            };
            tokens.push(Token { at, kind: Kind::Quoted(quoted.to_owned()) });
            rest = after;
        } else {
            let end = rest.find(|c: char| !is_of_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if word.is_empty() {
                return Err(Fault::new(at, format!("unexpected {first:?}")));
            }
            let kind = match word {
                "and" => Kind::And,
                "or" => Kind::Or,
                "not" => Kind::Not,
                _ => Kind::Word(word.to_owned()),
            };
            tokens.push(Token { at, kind });
            rest = after;
        }
    }
}

/// Addresses of both kinds, prefixes, ranges, lists and names.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || ".:/-_,+%*@".contains(c)
}
