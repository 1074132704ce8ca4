//! What the stack that captured a packet wrote about it: comments of `key: value` lines.

use serde::Serialize;

/// The known keys of a packet's comments, and the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Remarks {
    /// Why the stack discarded the packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drop: Option<String>,
    /// The owner of the socket that the packet is for, or from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<Process>,
    /// Who sent it, where both ends are in the same sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sender: Option<Process>,
    /// The state of the connection after the packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
    /// Lines without one of these keys.
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "comments")]
    pub(crate) other: Vec<String>,
}

/// A process as `PID name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
}

impl Remarks {
    pub(crate) fn parse(comments: &[String]) -> Self {
        let mut remarks = Self::default();
        for line in comments.iter().flat_map(|comment| comment.lines()).filter(|line| !line.is_empty()) {
            match line.split_once(": ") {
                Some(("drop", reason)) => remarks.drop = Some(reason.trim().to_owned()),
                Some(("state", state)) => remarks.state = Some(state.trim().to_owned()),
                Some(("process", owners)) => {
                    // `OWNER`, `OWNER, from SENDER` or `none, from SENDER`.
                    let (owner, sender) = owners.rsplit_once(", from ").unwrap_or((owners, ""));
                    (remarks.process, remarks.sender) = (Process::parse(owner), Process::parse(sender));
                    if remarks.processes().next().is_none() {
                        remarks.other.push(line.to_owned());
                    }
                }
                _ => remarks.other.push(line.to_owned()),
            }
        }
        remarks
    }

    /// Those whose sockets the packet concerns.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        let sender = self.sender.iter().filter(|sender| self.process.as_ref() != Some(sender));
        self.process.iter().chain(sender)
    }

    /// As a suffix of the packet's line.
    pub(crate) fn text(&self) -> String {
        let Self { drop, process, sender, state, other } = self;
        let known = [
            drop.as_ref().map(|reason| format!("drop: {reason}")),
            process.as_ref().map(|process| format!("process: {process}")),
            sender.as_ref().map(|sender| format!("sender: {sender}")),
            state.as_ref().map(|state| format!("state: {state}")),
        ];
        let all: Vec<String> = known.into_iter().flatten().chain(other.iter().cloned()).collect();
        all.join("; ")
    }
}

impl Process {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (pid, name) = text.split_once(' ').unwrap_or((text, ""));
        Some(Self { pid: pid.parse().ok()?, name: name.to_owned() })
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.pid, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::{Process, Remarks};

    #[test]
    fn keys_are_parsed_and_the_rest_is_kept() {
        let comments =
            ["drop: no listener\nprocess: 12 redis server\nstate: SYN-RCVD".to_owned(), "by hand".into()];
        let remarks = Remarks::parse(&comments);
        assert_eq!(remarks.drop.as_deref(), Some("no listener"));
        assert_eq!(remarks.process, Some(Process { pid: 12, name: "redis server".into() }));
        assert_eq!(remarks.state.as_deref(), Some("SYN-RCVD"));
        assert_eq!(remarks.other, ["by hand"]);
        assert_eq!(remarks.text(), "drop: no listener; process: 12 redis server; state: SYN-RCVD; by hand");
    }

    #[test]
    fn both_ends_can_be_in_the_same_sandbox() {
        let both = Remarks::parse(&["process: 7 server, from 8 client".into()]);
        let text = |remarks: &Remarks| remarks.processes().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&both), ["7 server", "8 client"]);
        let nobody = Remarks::parse(&["process: none, from 8 client".into()]);
        assert_eq!((nobody.process.is_none(), text(&nobody)), (true, vec!["8 client".to_owned()]));
        assert_eq!(text(&Remarks::parse(&["process: 7 a, from 7 a".into()])), ["7 a"]);
    }

    #[test]
    fn a_process_without_a_number_is_a_remark() {
        assert_eq!(Remarks::parse(&["process: somebody".into()]).other, ["process: somebody"]);
    }
}
