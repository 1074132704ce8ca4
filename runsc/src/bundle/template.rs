//! The config.json that `runsc spec` writes.

use serde_json::{Value, json};

/// Capabilities of a container that may serve on low ports and write an audit log.
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// A specification that runs `args` in `cwd` on the directory `rootfs` of the bundle.
pub(crate) fn template(args: &[String], cwd: &str, network_namespace: Option<&str>) -> Value {
    let mut network = json!({ "type": "network" });
    if let Some(path) = network_namespace {
        network["path"] = json!(path);
    }
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": cwd,
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "runsc",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            {
                "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, network, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_follows_the_specification() {
        let value = template(&["sh".to_owned()], "/", Some("/run/netns/x"));
        let spec: oci_spec::runtime::Spec = serde_json::from_value(value).unwrap();
        assert_eq!(spec.process().as_ref().unwrap().args().as_ref().unwrap(), &["sh"]);
        assert!(spec.root().as_ref().unwrap().readonly().unwrap());
    }
}
