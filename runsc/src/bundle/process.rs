//! The process section of config.json.

use oci_spec::runtime::{Capabilities, LinuxSeccomp, PosixRlimitType, Process};
use sentry::boot::{CapabilitySets, ProcessConfig, ResourceLimit, UserConfig};
use sentry_hostio::caps::{CapSet, Capability};
use thiserror::Error;

use crate::bundle::seccomp::{self, SeccompError};
use crate::cli::Global;

/// Why a process section cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ProcessError {
    /// SELinux would have to be in the guest's kernel.
    #[error("process.selinuxLabel: SELinux is not supported")]
    SelinuxLabel,
    /// The working directory is not text.
    #[error("process.cwd: not valid UTF-8")]
    CwdEncoding,
    /// The section about system calls cannot be used.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
}

/// What the user says about containers beside the bundle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choices {
    /// Whether `CAP_NET_RAW` is kept, which is otherwise taken out.
    pub(crate) raw: NetRaw,
    /// Whether the section about system calls counts.
    pub(crate) has_seccomp: bool,
}

impl Choices {
    /// Those of the command line.
    pub(crate) fn of(global: &Global) -> Self {
        let raw = if global.net_raw { NetRaw::Keep } else { NetRaw::Drop };
        Self { raw, has_seccomp: global.oci_seccomp }
    }
}

/// Converts the section, with what the container says about system calls.
pub(crate) fn from_spec(
    process: &Process,
    seccomp: Option<&LinuxSeccomp>,
    choices: Choices,
) -> Result<ProcessConfig, ProcessError> {
    if process.selinux_label().as_ref().is_some_and(|label| !label.is_empty()) {
        return Err(ProcessError::SelinuxLabel);
    }
    let user = process.user();
    Ok(ProcessConfig {
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().to_str().ok_or(ProcessError::CwdEncoding)?.to_owned(),
        user: UserConfig {
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(0o022),
        },
        capabilities: capability_sets(process, choices.raw),
        limits: limits(process),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        filter: match seccomp.filter(|_| choices.has_seccomp) {
            Some(section) => seccomp::compile(section)?,
            None => None,
        },
        is_ordinary: false,
        oom_score_adj: process.oom_score_adj().unwrap_or(0),
        has_terminal: process.terminal().unwrap_or(false),
    })
}

/// Whether the container keeps `CAP_NET_RAW`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetRaw {
    /// As the specification says.
    Keep,
    /// Never.
    Drop,
}

impl NetRaw {
    fn filter(self, set: CapSet) -> u64 {
        match self {
            Self::Keep => set.bits(),
            Self::Drop => set.bits() & !CapSet::EMPTY.with(Capability::NET_RAW).bits(),
        }
    }
}

fn capability_sets(process: &Process, raw: NetRaw) -> CapabilitySets {
    let Some(sets) = process.capabilities() else {
        return CapabilitySets::default();
    };
    let mask = |set: &Option<Capabilities>| raw.filter(set.as_ref().map(cap_set).unwrap_or_default());
    CapabilitySets {
        bounding: mask(sets.bounding()),
        effective: mask(sets.effective()),
        permitted: mask(sets.permitted()),
        inheritable: mask(sets.inheritable()),
        ambient: mask(sets.ambient()),
    }
}

fn cap_set(set: &Capabilities) -> CapSet {
    // Both sides know every name of capabilities(7); one that only the specification knows is none that the sandbox
    // could honour.
    set.iter().filter_map(|capability| capability.to_string().parse::<Capability>().ok()).collect()
}

fn limits(process: &Process) -> Vec<ResourceLimit> {
    let limits = process.rlimits().as_deref().unwrap_or_default();
    limits
        .iter()
        .map(|limit| ResourceLimit {
            resource: resource_number(limit.typ()),
            soft: limit.soft(),
            hard: limit.hard(),
        })
        .collect()
}

/// Numbers of getrlimit(2) on x86-64.
fn resource_number(resource: PosixRlimitType) -> u32 {
    match resource {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(json: &str) -> Process {
        serde_json::from_str(json).unwrap()
    }

    fn choices(raw: NetRaw) -> Choices {
        Choices { raw, has_seccomp: true }
    }

    #[test]
    fn section_about_system_calls_counts_unless_it_is_switched_off() {
        let process = process(r#"{"cwd":"/","args":["a"],"user":{"uid":0,"gid":0}}"#);
        let seccomp: LinuxSeccomp = serde_json::from_str(r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#).unwrap();
        for has_seccomp in [false, true] {
            let choices = Choices { raw: NetRaw::Keep, has_seccomp };
            let config = from_spec(&process, Some(&seccomp), choices).unwrap();
            assert_eq!(config.filter.is_some(), has_seccomp);
        }
    }

    #[test]
    fn every_field_arrives() {
        let process = process(
            r#"{"terminal":true,"cwd":"/w","args":["a","b"],"env":["X=1"],"noNewPrivileges":true,"oomScoreAdj":7,
                "user":{"uid":1,"gid":2,"umask":63,"additionalGids":[3]},
                "rlimits":[{"type":"RLIMIT_NOFILE","soft":5,"hard":6}],
                "capabilities":{"effective":["CAP_KILL","CAP_NET_RAW"],"bounding":["CAP_CHOWN"]}}"#,
        );
        let config = from_spec(&process, None, choices(NetRaw::Drop)).unwrap();
        assert_eq!(config.args, ["a", "b"]);
        assert_eq!(config.env, ["X=1"]);
        assert_eq!(config.cwd, "/w");
        let user = UserConfig { uid: 1, gid: 2, additional_gids: vec![3], umask: 63 };
        assert_eq!(config.user, user);
        assert_eq!(config.limits, [ResourceLimit { resource: 7, soft: 5, hard: 6 }]);
        assert_eq!(config.capabilities.effective, 1 << 5);
        assert_eq!(config.capabilities.bounding, 1);
        assert!(config.no_new_privileges && config.has_terminal);
        assert_eq!(config.oom_score_adj, 7);
        let kept = from_spec(&process, None, choices(NetRaw::Keep)).unwrap();
        assert_eq!(kept.capabilities.effective, 1 << 5 | 1 << 13);
    }

    #[test]
    fn a_selinux_label_is_refused() {
        let process = process(r#"{"cwd":"/","args":["a"],"user":{"uid":0,"gid":0},"selinuxLabel":"x:y:z"}"#);
        assert!(matches!(from_spec(&process, None, choices(NetRaw::Keep)), Err(ProcessError::SelinuxLabel)));
    }
}
