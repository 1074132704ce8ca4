//! `cargo xtask package`: what the registry would get.

use anyhow::bail;
use clap::Args;

use crate::run::{cargo, output, succeed};

/// Options of `cargo xtask package`.
#[derive(Args)]
pub(crate) struct Options {
    /// Build each package from its archive, too.
    #[arg(long)]
    verify: bool,
}

/// The packages that are meant for the registry, each after those that it needs.
pub(crate) const PUBLISHED: &[&str] = &[
    "netstack-wire",
    "netstack",
    "netstack-host-links",
    "netstack-usernet",
    "netstack-capi",
    "netstack-sim",
];

/// Packs the published packages, which find each other without a registry, and looks at what is in them.
///
/// # Errors
/// When a package cannot be packed, or has a file too many or too few.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut pack = cargo();
    pack.args(["package", "--allow-dirty", "--quiet"]);
    if !options.verify {
        pack.arg("--no-verify");
    }
    for package in PUBLISHED {
        check_content(package)?;
        pack.args(["--package", package]);
    }
    succeed(&mut pack)
}

fn check_content(package: &str) -> anyhow::Result<()> {
    let list = output(cargo().args(["package", "--list", "--allow-dirty", "--quiet", "--package", package]))?;
    let files: Vec<&str> = list.lines().collect();
    if let Some(missing) = REQUIRED.iter().find(|name| !files.contains(name)) {
        bail!("{package}: lacks {missing}");
    }
    match files.iter().find(|file| !is_expected(file)) {
        Some(file) => bail!("{package}: {file} does not belong into a package"),
        None => Ok(()),
    }
}

/// What every package has: the licence asks to be passed on, and the registry shows the page.
const REQUIRED: [&str; 4] = ["Cargo.toml", "LICENSE", "README.md", "src/lib.rs"];

fn is_expected(file: &str) -> bool {
    const FOLDERS: [&str; 4] = ["src/", "tests/", "examples/", "include/"];
    const KINDS: [&str; 7] = [".rs", ".md", ".c", ".h", ".txt", ".py", ".proptest-regressions"];
    const FILES: [&str; 7] = [
        "Cargo.toml",
        "Cargo.toml.orig",
        "Cargo.lock",
        ".cargo_vcs_info.json",
        "LICENSE",
        "README.md",
        "cbindgen.toml",
    ];
    let is_source =
        FOLDERS.iter().any(|f| file.starts_with(f)) && KINDS.iter().any(|kind| file.ends_with(kind));
    is_source || FILES.contains(&file)
}

#[cfg(test)]
mod tests {
    use super::is_expected;

    #[test]
    fn only_sources_and_metadata_belong_into_a_package() {
        for file in ["src/lib.rs", "src/tcp/README.md", "include/netstack.h", "LICENSE"] {
            assert!(is_expected(file), "{file}");
        }
        for file in ["src/.lib.rs.swp", "target/x", "notes.txt", "tests/capture.pcap", ".gitignore"] {
            assert!(!is_expected(file), "{file}");
        }
    }

    /// A registry may have packages of these names by others (the public one has a `netstack`): any but the exact version
    /// could be theirs. The versions move together.
    #[test]
    fn published_packages_name_exactly_one_another() {
        let manifest = include_str!("../../../Cargo.toml");
        let version = manifest.lines().find_map(|line| line.strip_prefix("version = ")).expect("a version");
        let exact = format!("version = \"={}", version.trim_start_matches('"'));
        for package in super::PUBLISHED.iter().filter(|package| **package != "netstack-capi") {
            let dependency = manifest.lines().find(|line| line.starts_with(&format!("{package} = ")));
            let dependency = dependency.expect("a dependency of the workspace");
            assert!(dependency.contains(&exact), "{dependency}");
        }
    }

    /// Without a registry: the packages find each other, in the versions that they name.
    #[test]
    fn published_packages_can_be_packed() {
        super::run(&super::Options { verify: false }).expect("archives");
    }
}
