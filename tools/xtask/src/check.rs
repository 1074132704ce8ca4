//! `cargo xtask check`: what must hold on every commit besides the tests.

use std::path::Path;

use anyhow::bail;

use crate::api;
use crate::run::{cargo, succeed};

/// The crates that may contain unsafe code (ARCHITECTURE.md).
const UNSAFE_CRATES: &[&str] = &["sentry/platform", "sentry/hostio", "netstack/host-links", "netstack/capi"];

/// Runs every check.
///
/// # Errors
/// At the first that fails.
pub(crate) fn run() -> anyhow::Result<()> {
    succeed(cargo().args(["fmt", "--check"]))?;
    succeed(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    succeed(
        cargo()
            .args(["doc", "--workspace", "--no-deps", "--all-features"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    api::check()?;
    unsafe_code_is_forbidden_elsewhere()
}

/// Each crate root outside [`UNSAFE_CRATES`] says `forbid(unsafe_code)`.
fn unsafe_code_is_forbidden_elsewhere() -> anyhow::Result<()> {
    for manifest in manifests(Path::new("."), 0)? {
        let folder = manifest.parent().unwrap_or(Path::new("."));
        if UNSAFE_CRATES.iter().any(|c| folder.ends_with(c)) {
            continue;
        }
        for root in ["src/lib.rs", "src/main.rs"] {
            let root = folder.join(root);
            let Ok(text) = std::fs::read_to_string(&root) else { continue };
            if !text.contains("#![forbid(unsafe_code)]") {
                bail!("{}: lacks #![forbid(unsafe_code)]", root.display());
            }
        }
    }
    Ok(())
}

fn manifests(folder: &Path, depth: usize) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let is_source = !name.to_string_lossy().starts_with('.') && name != "target";
        if entry.file_type()?.is_dir() && is_source && depth < 4 {
            found.extend(manifests(&path, depth + 1)?);
        } else if name == "Cargo.toml" && depth > 0 {
            found.push(path);
        }
    }
    Ok(found)
}
