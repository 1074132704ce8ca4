//! The process that builds frames with scapy.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A Python process that lives as long as the value.
pub(crate) struct Forge {
    child: Child,
    requests: ChildStdin,
    frames: BufReader<ChildStdout>,
}

impl Forge {
    pub(crate) fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/malformed/forge.py");
        // The one that has Debian's packages, whatever else is on the path.
        let mut child = Command::new("/usr/bin/python3")
            .args(["-I", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("start python3");
        let requests = child.stdin.take().expect("it is piped");
        let frames = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, requests, frames }
    }

    /// The frames of an expression.
    #[track_caller]
    pub(crate) fn frames(&mut self, expression: &str) -> Vec<Vec<u8>> {
        writeln!(self.requests, "{}", expression.replace('\n', " ")).expect("python3 reads");
        let mut line = String::new();
        self.frames.read_line(&mut line).expect("python3 answers");
        assert!(!line.is_empty(), "python3 cannot evaluate {expression}");
        line.split_whitespace().map(bytes_of).collect()
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map(|pair| byte(pair).expect("two hexadecimal digits")).collect()
}
