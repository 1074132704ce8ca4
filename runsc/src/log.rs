//! The log of one command: `--log FILE` in the form that engines read, `--debug-log` for people.
//!
//! Engines (containerd, Docker) show the user the last line with level "error" of the JSON log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use clap::ValueEnum;

use crate::state::{now_secs, rfc3339};

/// Form of the lines of `--log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// `time level message`.
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Debug)]
struct Log {
    format: Format,
    file: Option<Mutex<File>>,
    debug: Option<Mutex<File>>,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Opens the log files. Called once, before anything is logged; a file that cannot be opened is left out, because
/// the command matters more than its log.
pub(crate) fn open(file: Option<&Path>, format: Format, debug: Option<&Path>) {
    let append = |path: &Path| OpenOptions::new().append(true).create(true).open(path).ok().map(Mutex::new);
    // `LOG` is set only here; a second call would keep the first.
    let _ = LOG.set(Log { format, file: file.and_then(append), debug: debug.and_then(append) });
}

/// Where the debug log of `command` goes: a name that ends in a slash is a directory, and the placeholders of the
/// reference runtime are filled in.
pub(crate) fn debug_log_path(pattern: &str, command: &str) -> PathBuf {
    let time = now_secs().to_string();
    let filled = pattern.replace("%COMMAND%", command).replace("%TIMESTAMP%", &time);
    if filled.ends_with('/') {
        return PathBuf::from(format!("{filled}runsc.log.{time}.{command}.txt"));
    }
    PathBuf::from(filled)
}

/// A copy of the debug log's file for another process, if there is one.
pub(crate) fn debug_file() -> Option<File> {
    LOG.get()?.debug.as_ref()?.lock().ok()?.try_clone().ok()
}

/// Logs what ended the command.
pub(crate) fn error(message: &str) {
    write("error", message);
}

/// Logs something that the command can live with.
pub(crate) fn warning(message: &str) {
    write("warning", message);
}

/// Logs a step, for people who look for a fault.
pub(crate) fn debug(message: &str) {
    let Some(log) = LOG.get() else { return };
    append(log.debug.as_ref(), &text_line("debug", message));
}

fn write(level: &str, message: &str) {
    let Some(log) = LOG.get() else { return };
    let line = match log.format {
        Format::Text => text_line(level, message),
        Format::Json => {
            let time = rfc3339(now_secs());
            let object = serde_json::json!({ "level": level, "msg": message, "time": time });
            format!("{object}\n")
        }
    };
    append(log.file.as_ref(), &line);
    append(log.debug.as_ref(), &text_line(level, message));
}

fn text_line(level: &str, message: &str) -> String {
    format!("{} {level} {message}\n", rfc3339(now_secs()))
}

fn append(file: Option<&Mutex<File>>, line: &str) {
    if let Some(mut file) = file.and_then(|file| file.lock().ok()) {
        // A full disk must not end the command.
        let _ = file.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gets_one_file_per_command() {
        let path = debug_log_path("/tmp/logs/", "create");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("runsc.log.") && name.ends_with(".create.txt"), "{name}");
        assert_eq!(debug_log_path("/tmp/x.%COMMAND%", "run"), PathBuf::from("/tmp/x.run"));
    }
}
