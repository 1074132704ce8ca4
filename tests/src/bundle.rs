//! OCI bundles, and the runtime as engines call it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::{Finished, Running, runsc};

/// No command of a runtime should take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// A state directory and a bundle with busybox, whose containers end with the value.
#[derive(Debug)]
pub struct Bundle {
    folder: tempfile::TempDir,
    /// The state directory.
    state: PathBuf,
    ids: Vec<String>,
}

impl Bundle {
    /// A bundle that runs `args`.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    #[track_caller]
    pub fn new(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let bundle = Self { folder, state, ids: Vec::new() };
        let bin = bundle.rootfs().join("bin");
        fs::create_dir_all(&bin).expect("bin");
        for name in ["tmp", "root", "etc"] {
            fs::create_dir(bundle.rootfs().join(name)).expect("a folder");
        }
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox");
        let list = Command::new("/bin/busybox").arg("--list").output().expect("busybox");
        for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", bin.join(applet)).expect("a link");
        }
        let _ = bundle.global(&["spec", "--bundle", text(bundle.dir())]).ok();
        bundle.change(|config| {
            config["process"]["terminal"] = false.into();
            config["process"]["args"] = args.into();
        });
        bundle
    }

    /// Another bundle, whose containers are known where those of `other` are. It has to go first.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    #[track_caller]
    pub fn beside(other: &Self, args: &[&str]) -> Self {
        let mut bundle = Self::new(args);
        bundle.state.clone_from(&other.state);
        bundle
    }

    /// The directory of config.json.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// The root of the containers.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.dir().join("rootfs")
    }

    /// Changes config.json.
    ///
    /// # Panics
    /// When it cannot be read or written.
    #[track_caller]
    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.dir().join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).expect("config.json")).expect("JSON");
        change(&mut config);
        fs::write(path, config.to_string()).expect("config.json");
    }

    /// Runs the runtime with the flags that containerd's shim puts before the verb, and `args`.
    #[must_use]
    #[track_caller]
    pub fn global(&self, args: &[&str]) -> Finished {
        Running::start(&mut self.command(args)).finish(LIMIT)
    }

    /// As [`Bundle::global`], without running it.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(runsc());
        command.arg("--root").arg(&self.state);
        command.arg("--log").arg(self.dir().join("log.json")).args(["--log-format", "json"]).args(args);
        command
    }

    /// Creates a container, with its standard streams at /dev/null, and has it deleted with this value.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn create(&mut self, id: &str, args: &[&str]) {
        self.ids.push(id.to_owned());
        let all = [&["create", "--bundle", text(self.dir())], args, &[id]].concat();
        let mut command = self.command(&all);
        let null = std::process::Stdio::null;
        let status = command.stdin(null()).stdout(null()).stderr(null()).status().expect("runsc");
        assert!(status.success(), "{}", self.log());
    }

    /// What the engine's log has.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log.json")).unwrap_or_default()
    }

    /// A container's state.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.global(&["state", id]).ok().out()).expect("JSON")
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for id in &self.ids {
            // Most are deleted already.
            let _ = self.command(&["delete", "--force", id]).output();
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
