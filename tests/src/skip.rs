//! What a test needs and this machine may lack.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Something that a test cannot do without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Effective user id 0 (namespaces, interfaces).
    Root,
    /// A program on `PATH`.
    Program(&'static str),
    /// A device node or other file.
    File(&'static str),
}

impl Need {
    fn is_met(&self) -> bool {
        match self {
            Self::Root => nix::unistd::geteuid().is_root(),
            Self::Program(name) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
            }
            Self::File(path) => Path::new(path).exists(),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Program(name) => write!(f, "program {name}"),
            Self::File(path) => write!(f, "file {path}"),
        }
    }
}

/// True, said on stderr and counted by `cargo xtask test`, when `need` is not met.
#[must_use]
pub fn is_missing(need: &Need, module: &str, line: u32) -> bool {
    if need.is_met() {
        return false;
    }
    let reason = format!("{module}:{line} needs {need}");
    eprintln!("skipped: {reason}");
    if let Some(list) = std::env::var_os("TEST_SKIP_LIST") {
        let file = OpenOptions::new().append(true).create(true).open(&list);
        if let Err(e) = file.and_then(|mut f| writeln!(f, "{reason}")) {
            panic!("cannot count the skipped test in {}: {e}", list.display());
        }
    }
    true
}
