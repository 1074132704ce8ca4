//! Scripts: the `#!` line (`execve(2)`, "Interpreter scripts").

/// What a `#!` line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shebang {
    pub(crate) interpreter: Vec<u8>,
    pub(crate) argument: Option<Vec<u8>>,
}

/// How much of the file counts (`BINPRM_BUF_SIZE`).
pub(crate) const HEAD_SIZE: usize = 256;

impl Shebang {
    /// Reads the line at the start of `head`; `None` where it is no script, or a broken one.
    ///
    /// The text after the interpreter's name is one argument, whatever spaces it has. A line that is cut off by the
    /// end of the buffer is accepted only if the interpreter's name surely ends in it.
    pub(crate) fn parse(head: &[u8]) -> Option<Self> {
        let head = &head[..head.len().min(HEAD_SIZE)];
        let rest = head.strip_prefix(b"#!")?;
        let end = rest.iter().position(|b| *b == b'\n' || *b == 0);
        let is_cut = end.is_none() && head.len() == HEAD_SIZE;
        let line = trim(&rest[..end.unwrap_or(rest.len())]);
        let name_end = line.iter().position(|b| is_blank(*b));
        if line.is_empty() || (is_cut && name_end.is_none()) {
            return None;
        }
        let (name, argument) = line.split_at(name_end.unwrap_or(line.len()));
        let argument = trim(argument);
        let argument = (!argument.is_empty()).then(|| argument.to_vec());
        Some(Self { interpreter: name.to_vec(), argument })
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        type Expected = Option<(&'static str, Option<&'static str>)>;
        let long = [b"#!/".to_vec(), vec![b'a'; 300]].concat();
        let rows: [(&[u8], Expected); 9] = [
            (b"#!/bin/sh\necho", Some(("/bin/sh", None))),
            (b"#! /bin/sh -e -x \n", Some(("/bin/sh", Some("-e -x")))),
            (b"#!/usr/bin/env\tpython3\n", Some(("/usr/bin/env", Some("python3")))),
            (b"#!/bin/sh", Some(("/bin/sh", None))),
            (b"#!\n", None),
            (b"#!  \t\n", None),
            (b"#", None),
            (b"\x7fELF", None),
            (&long, None),
        ];
        for (head, expected) in rows {
            let got = Shebang::parse(head);
            let expected =
                expected.map(|(i, a)| Shebang { interpreter: i.into(), argument: a.map(Into::into) });
            assert_eq!(got, expected, "{:?}", String::from_utf8_lossy(head));
        }
    }
}
