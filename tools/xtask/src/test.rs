//! `cargo xtask test`: everything the tests need, then every test, then the count.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, bail};
use clap::Args;

use crate::packages;
use crate::run::{cargo, succeed};

/// Options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Options {
    /// Do not install missing Debian packages.
    #[arg(long)]
    no_packages: bool,
    /// Only test this package.
    #[arg(short, long)]
    package: Option<String>,
    /// Passed on to the test programs.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// What the skip reasons may name without failing CI: no machine of the reference kind has these.
/// A Docker engine is a large package for one test.
const OPTIONAL: &[&str] = &["kvm", "program dockerd"];

/// Runs the tests and prints `N passed, N failed, N skipped` as the last line.
///
/// # Errors
/// When a test failed, or in CI when a test was skipped that this machine should have run.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if !options.no_packages {
        packages::install()?;
    }
    // The integration tests sandbox real programs with the runtime that users run.
    succeed(cargo().args(["build", "--release", "--package", "runsc"]))?;
    let skips = SkipList::create()?;
    let mut counts = Counts::default();
    let status_ok = run_cargo_test(options, &skips, &mut counts)?;
    let skipped = skips.read()?;
    for reason in &skipped {
        println!("skipped: {reason}");
    }
    let required =
        skipped.iter().filter(|r| !OPTIONAL.iter().any(|o| r.contains(&format!("needs {o}")))).count();
    // A skipped test returns early, so the test program counted it as passed.
    let passed = counts.passed.saturating_sub(skipped.len());
    let failed = counts.failed.max(usize::from(!status_ok));
    println!("{passed} passed, {failed} failed, {} skipped", skipped.len() + counts.ignored);
    if failed > 0 {
        bail!("tests failed");
    }
    if passed == 0 {
        bail!("no test ran");
    }
    if required > 0 && std::env::var_os("CI").is_some() {
        bail!("{required} tests were skipped that must run in CI");
    }
    Ok(())
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Counts {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

fn run_cargo_test(options: &Options, skips: &SkipList, counts: &mut Counts) -> anyhow::Result<bool> {
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]);
    match &options.package {
        Some(package) => command.args(["--package", package]),
        None => command.arg("--workspace"),
    };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let runsc = std::path::absolute(target.join("release/runsc"))?;
    command.env("RUNSC", runsc).env("TEST_SKIP_LIST", &skips.path).arg("--").args(&options.rest);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let stdout = child.stdout.take().context("cargo test has no standard output")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        counts.add(&line);
    }
    Ok(child.wait()?.success())
}

/// The file in which tests that cannot run here say what they lacked, a line each.
struct SkipList {
    path: PathBuf,
}

impl SkipList {
    fn create() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("test-skips-{}", std::process::id()));
        std::fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path })
    }

    fn read(&self) -> anyhow::Result<Vec<String>> {
        Ok(std::fs::read_to_string(&self.path)?.lines().map(str::to_owned).collect())
    }
}

impl Drop for SkipList {
    fn drop(&mut self) {
        // Left behind in the temporary directory at worst.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn result_lines_add_up() {
        let mut counts = Counts::default();
        counts.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        counts.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        counts.add("test some::name ... ok");
        assert_eq!((counts.passed, counts.failed, counts.ignored), (15, 2, 1));
    }
}
