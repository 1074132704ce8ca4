//! `cargo xtask api`: what the libraries offer, as text, so that a review sees what changes.
//!
//! The text is taken from the pages that rustdoc writes: what is public is what the documentation shows. That has every
//! macro expanded and every re-export in its place, and needs no nightly toolchain.

mod page;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use crate::run::{cargo, succeed};

/// Options of `cargo xtask api`.
#[derive(Args)]
pub(crate) struct Options {
    /// Replace the committed text.
    #[arg(long)]
    write: bool,
}

/// The libraries whose interface is recorded. That of `netstack-capi` is its header.
const LIBRARIES: [&str; 5] =
    ["netstack", "netstack-wire", "netstack-host-links", "netstack-usernet", "netstack-sim"];

const FOLDER: &str = "docs/api";

/// Writes the documentation of the libraries, and compares what it shows with what is committed, or replaces that.
///
/// # Errors
/// When rustdoc fails, or something differs.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut doc = cargo();
    doc.args(["doc", "--quiet", "--no-deps", "--all-features"]);
    doc.args(LIBRARIES.iter().flat_map(|library| ["--package", library]));
    succeed(&mut doc)?;
    if options.write {
        std::fs::create_dir_all(FOLDER)?;
        for library in LIBRARIES {
            std::fs::write(committed(library), listing(library)?)?;
        }
        return Ok(());
    }
    check()
}

/// Compares what pages that are written already show with what is committed.
///
/// # Errors
/// When something differs.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut differing = Vec::new();
    for library in LIBRARIES {
        let path = committed(library);
        let expected = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let differences = differences(&expected, &listing(library)?);
        if !differences.is_empty() {
            eprintln!("{}:\n{}", path.display(), differences.join("\n"));
            differing.push(library);
        }
    }
    if !differing.is_empty() {
        bail!(
            "the interface of {differing:?} is not the recorded one: `cargo xtask api --write`, and CHANGELOG.md"
        );
    }
    Ok(())
}

fn committed(library: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{library}.txt"))
}

/// The lines that are only in one of two texts, with their items.
fn differences(expected: &str, found: &str) -> Vec<String> {
    let (old, new) = (qualified(expected), qualified(found));
    let gone = old.iter().filter(|line| !new.contains(*line)).map(|line| format!("- {line}"));
    let added = new.iter().filter(|line| !old.contains(*line)).map(|line| format!("+ {line}"));
    gone.chain(added).collect()
}

/// Each line behind the name of its item: the same method may be in many.
fn qualified(listing: &str) -> std::collections::BTreeSet<String> {
    let mut item = "";
    let mut lines = std::collections::BTreeSet::new();
    for line in listing.lines().filter(|line| !line.is_empty()) {
        if line.starts_with(' ') {
            lines.insert(format!("{item}: {}", line.trim()));
        } else {
            item = line;
            lines.insert(line.to_owned());
        }
    }
    lines
}

fn listing(library: &str) -> anyhow::Result<String> {
    let name = library.replace('-', "_");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let mut items = Vec::new();
    module(&target.join("doc").join(&name), &name, &mut items)?;
    items.sort();
    Ok(items.join("\n"))
}

/// Adds the items of a module, and of those in it. Only what an index names is read: pages of what is gone stay on disk.
fn module(folder: &Path, path: &str, items: &mut Vec<String>) -> anyhow::Result<()> {
    let read = |name: &str| {
        let file = folder.join(name);
        std::fs::read_to_string(&file).with_context(|| file.display().to_string())
    };
    let index = page::index(&read("index.html")?);
    let reexports: String = index.reexports.iter().map(|line| format!("    {line}\n")).collect();
    items.push(format!("mod {path}\n{reexports}"));
    for link in index.links {
        match (link.strip_suffix("/index.html"), link.split_once('.')) {
            (Some(name), _) => module(&folder.join(name), &format!("{path}::{name}"), items)?,
            (None, Some((kind, rest))) => {
                let name = rest.trim_end_matches(".html");
                let lines: String =
                    page::item(kind, &read(&link)?).iter().map(|line| format!("    {line}\n")).collect();
                items.push(format!("{kind} {path}::{name}\n{lines}"));
            }
            (None, None) => bail!("{path}: what is {link}?"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::differences;

    #[test]
    fn differences_name_their_item() {
        let old = "struct a::X\n    pub fn len(&self)\n\nstruct a::Y\n    pub fn len(&self)\n";
        let new = "struct a::X\n    pub fn len(&self)\n\nstruct a::Y\n    pub fn len(&mut self)\n";
        assert_eq!(
            differences(old, new),
            ["- struct a::Y: pub fn len(&self)", "+ struct a::Y: pub fn len(&mut self)"]
        );
        assert!(differences(old, old).is_empty());
    }
}
