//! The tests that docs/rfc8504.md and docs/rfc-tcp.md name exist.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The names in backticks in the last column of the document's tables.
fn names(document: &str) -> Vec<String> {
    let rows = document.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Section"));
    let columns = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    // Every second part is between backticks.
    columns.flat_map(|column| column.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Rust files at or below a place.
fn sources(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    let mut found: Vec<_> = entries.flat_map(|entry| sources(&entry.unwrap().path())).collect();
    found.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    found
}

/// The files in which a module's tests can be: its own, one beside it, those below it.
fn files_of(module: &[&str]) -> Vec<PathBuf> {
    let Some((last, parents)) = module.split_last() else { return Vec::new() };
    let mut files = Vec::new();
    for folder in [
        "netstack",
        "netstack/tests",
        "netstack/wire/tests",
        "netstack/src",
        "netstack/wire/src",
        "netstack/host-links/tests",
    ] {
        let parent = parents.iter().fold(root().join(folder), |path, part| path.join(part));
        for place in
            [format!("{last}.rs"), format!("{last}_tests.rs"), (*last).to_owned(), format!("tests/{last}.rs")]
        {
            files.extend(sources(&parent.join(place)));
        }
    }
    files
}

/// Whether a file has that function; as a test, unless it is one of a type.
fn has(text: &str, function: &str, is_test: bool) -> bool {
    let start = format!("fn {function}(");
    text.match_indices(&start).any(|(at, _)| {
        let before = &text[..at];
        // The attribute is on one of the lines right above; proptest's are in a macro.
        let above = before.rsplit_once("\n\n").map_or(before, |(_, above)| above);
        !is_test || above.contains("#[test]")
    })
}

/// What is wrong with a name, if anything is.
fn problem(name: &str) -> Option<String> {
    if let ["sentry"] | ["socket_multicast"] = [name] {
        let place = if name == "sentry" { "sentry/src".to_owned() } else { format!("tests/guest/{name}.c") };
        return (!root().join(&place).exists()).then(|| format!("{name}: no {place}"));
    }
    if name.ends_with(".pkt") {
        let script = root().join("netstack/script/scripts").join(name);
        return (!script.is_file()).then(|| format!("{name}: no such script"));
    }
    let parts: Vec<&str> = name.split("::").filter(|part| *part != "tests").collect();
    // A module alone, or with all its tests.
    let module = parts.strip_suffix(&["*"]).unwrap_or(&parts);
    let files = files_of(module);
    if !files.is_empty() {
        let has_tests = files.iter().any(|file| fs::read_to_string(file).unwrap().contains("#[test]"));
        let names_tests = parts.len() > module.len();
        return (names_tests && !has_tests).then(|| format!("{name}: no tests there"));
    }
    let (function, module) = module.split_last()?;
    // `module::Type::function` is no test.
    let (module, is_test) = match module.split_last() {
        Some((kind, module)) if kind.starts_with(char::is_uppercase) => (module, false),
        _ => (module, true),
    };
    let files = files_of(module);
    if files.is_empty() {
        return Some(format!("{name}: no such file"));
    }
    let is_there = files.iter().any(|file| has(&fs::read_to_string(file).unwrap(), function, is_test));
    (!is_there).then(|| format!("{name}: not found in {files:?}"))
}

#[test]
fn the_tests_of_the_checklists_exist() {
    for (page, least) in [("docs/rfc8504.md", 40), ("docs/rfc-tcp.md", 150)] {
        let document = fs::read_to_string(root().join(page)).unwrap();
        let names = names(&document);
        assert!(names.len() > least, "{page}: {names:?}");
        let problems: Vec<_> = names.iter().filter_map(|name| problem(name)).collect();
        assert!(problems.is_empty(), "{page}: {problems:#?}");
    }
}

#[test]
fn a_name_that_leads_nowhere_is_found_out() {
    for name in [
        "datagram::no_such_test",
        "close/no-such.pkt",
        "tcp::tests::rows::nothing",
        "nowhere::*",
        "neighbour::nud::no_such_test",
        "stack::Core::nothing",
    ] {
        assert!(problem(name).is_some(), "{name}");
    }
}
