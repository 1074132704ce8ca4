//! Resource limits as the files of a control group, version 1 or 2.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

/// One file to write in a group.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: &'static str,
    pub(super) file: &'static str,
    pub(super) value: String,
}

impl Setting {
    fn new(controller: &'static str, file: &'static str, value: impl ToString) -> Self {
        Self { controller, file, value: value.to_string() }
    }
}

/// The files of version 2.
pub(super) fn unified(resources: &LinuxResources) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(memory) = resources.memory() {
        settings.extend(unified_memory(memory));
    }
    if let Some(pids) = resources.pids() {
        settings.push(Setting::new("pids", "pids.max", or_max(pids_limit(pids.limit()))));
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(quota) = cpu.quota() {
            let period = cpu.period().unwrap_or(100_000);
            settings.push(Setting::new("cpu", "cpu.max", format!("{} {period}", or_max(quota))));
        }
        if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
            // The ranges are 2..=262144 and 1..=10000; this is the conversion that the kernel's documentation and
            // other runtimes use.
            let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
            settings.push(Setting::new("cpu", "cpu.weight", weight));
        }
        settings.extend(processors(cpu));
    }
    settings
}

fn unified_memory(memory: &LinuxMemory) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(limit) = memory.limit() {
        settings.push(Setting::new("memory", "memory.max", or_max(limit)));
    }
    if let Some(reservation) = memory.reservation() {
        settings.push(Setting::new("memory", "memory.low", or_max(reservation)));
    }
    // The specification's is memory and swap together; here they are apart.
    let swap = match (memory.swap(), memory.limit()) {
        (Some(swap), _) if swap < 0 => Some(-1),
        (Some(swap), Some(limit)) if limit > 0 => Some(swap.saturating_sub(limit).max(0)),
        _ => None,
    };
    settings.extend(swap.map(|swap| Setting::new("memory", "memory.swap.max", or_max(swap))));
    settings
}

/// The files of version 1.
pub(super) fn legacy(resources: &LinuxResources) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(memory) = resources.memory() {
        for (file, value) in [
            ("memory.limit_in_bytes", memory.limit()),
            ("memory.soft_limit_in_bytes", memory.reservation()),
            ("memory.memsw.limit_in_bytes", memory.swap()),
        ] {
            settings.extend(value.map(|value| Setting::new("memory", file, value)));
        }
    }
    if let Some(pids) = resources.pids() {
        settings.push(Setting::new("pids", "pids.max", or_max(pids_limit(pids.limit()))));
    }
    if let Some(cpu) = resources.cpu() {
        settings.extend(cpu.period().map(|period| Setting::new("cpu", "cpu.cfs_period_us", period)));
        settings.extend(cpu.quota().map(|quota| Setting::new("cpu", "cpu.cfs_quota_us", quota)));
        let shares = cpu.shares().filter(|shares| *shares > 0);
        settings.extend(shares.map(|shares| Setting::new("cpu", "cpu.shares", shares)));
        settings.extend(processors(cpu));
    }
    settings
}

/// The same in both versions.
fn processors(cpu: &LinuxCpu) -> Vec<Setting> {
    let named = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let cpus = named(cpu.cpus()).map(|cpus| Setting::new("cpuset", "cpuset.cpus", cpus));
    let mems = named(cpu.mems()).map(|mems| Setting::new("cpuset", "cpuset.mems", mems));
    cpus.into_iter().chain(mems).collect()
}

/// The sandbox needs host threads of its own beside the one per guest thread.
const OWN_THREADS: i64 = 64;

/// Host threads for `limit` guest threads: each has one in the sandbox and one that runs its code.
fn pids_limit(limit: i64) -> i64 {
    if limit <= 0 { -1 } else { limit.saturating_mul(2).saturating_add(OWN_THREADS) }
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_settings_of_each_version() {
        let resources: LinuxResources = serde_json::from_str(
            r#"{"memory":{"limit":1048576,"reservation":4096,"swap":1050000},"pids":{"limit":10},
                "cpu":{"quota":50000,"period":100000,"shares":1024,"cpus":"0"}}"#,
        )
        .unwrap();
        let lines = |settings: Vec<Setting>| -> Vec<String> {
            settings.iter().map(|s| format!("{}={}", s.file, s.value)).collect()
        };
        assert_eq!(
            lines(unified(&resources)),
            [
                "memory.max=1048576",
                "memory.low=4096",
                "memory.swap.max=1424",
                "pids.max=84",
                "cpu.max=50000 100000",
                "cpu.weight=39",
                "cpuset.cpus=0"
            ]
        );
        assert_eq!(
            lines(legacy(&resources)),
            [
                "memory.limit_in_bytes=1048576",
                "memory.soft_limit_in_bytes=4096",
                "memory.memsw.limit_in_bytes=1050000",
                "pids.max=84",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "cpu.shares=1024",
                "cpuset.cpus=0"
            ]
        );
    }
}
