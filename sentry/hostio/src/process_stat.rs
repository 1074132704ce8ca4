//! Identity of a process beyond its pid: when it was started.

use std::fs;
use std::io;

/// Start time of `pid` in clock ticks since boot (field 22 of proc_pid_stat(5)).
///
/// A pid with the same start time is the same process; that is how records on disk tell a process
/// they made from a later one with the same number.
///
/// # Errors
/// `NotFound` when there is no such process, `InvalidData` when the kernel's line cannot be read.
pub fn start_time(pid: i32) -> io::Result<u64> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_start_time(&line).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The command name in the line may itself hold spaces and parentheses: fields count from the last
/// closing one.
fn parse_start_time(line: &str) -> Option<u64> {
    let (_, rest) = line.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_names_with_parentheses_do_not_shift_fields() {
        let line = "12 (a) b)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        assert_eq!(parse_start_time(line), Some(777));
    }

    #[test]
    fn own_start_time_is_stable() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(start_time(pid).unwrap(), start_time(pid).unwrap());
    }
}
