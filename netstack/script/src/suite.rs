//! Many scripts: finding them, their parameters, running them side by side, and the report.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::diagnostic::Diagnostic;
use crate::evaluate::{NoFigures, Variables, evaluate};
use crate::linux::LinuxBackend;
use crate::netstack::NetstackBackend;
use crate::run::run;
use crate::syntax::{BackendName, Script, read};

/// A script with one value of each parameter.
#[derive(Debug, Clone)]
pub struct Case {
    /// The script.
    pub script: Script,
    /// The parameters.
    pub params: Variables,
    /// The file and the parameters, for people.
    pub name: String,
}

/// How a case went.
#[derive(Debug)]
pub struct Verdict {
    /// Which.
    pub name: String,
    /// What went wrong.
    pub result: Result<(), Diagnostic>,
    /// How long it took on a real clock.
    pub took: Duration,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(()) => write!(f, "ok    {} ({} ms)", self.name, self.took.as_millis()),
            Err(error) => write!(f, "FAIL  {}\n{error}\n", self.name),
        }
    }
}

/// All scripts (`*.pkt`) in a folder and below, in order; a file is itself.
///
/// # Errors
/// Folders that cannot be read.
pub fn find(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut entries = std::fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            found.extend(find(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "pkt") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Reads scripts and makes a case of each combination of their parameters.
///
/// # Errors
/// The first script that cannot be read.
pub fn cases(paths: &[PathBuf]) -> Result<Vec<Case>, Diagnostic> {
    let mut cases = Vec::new();
    for path in paths {
        let script = read(path)?;
        let mut combinations = vec![(Variables::new(), Vec::new())];
        for param in &script.params {
            let mut next = Vec::new();
            for (vars, names) in &combinations {
                for value in &param.values {
                    let value = evaluate(value, vars, &mut NoFigures)?;
                    let mut names: Vec<String> = names.clone();
                    names.push(format!("{}={value}", param.name));
                    let mut vars = vars.clone();
                    vars.insert(param.name.clone(), value);
                    next.push((vars, names));
                }
            }
            combinations = next;
        }
        for (params, names) in combinations {
            let suffix = if names.is_empty() { String::new() } else { format!(" [{}]", names.join(" ")) };
            let name = format!("{}{suffix}", path.display());
            cases.push(Case { script: script.clone(), params, name });
        }
    }
    Ok(cases)
}

impl Case {
    /// Whether it says that it is for the other backend.
    #[must_use]
    pub fn is_excluded(&self, backend: BackendName) -> bool {
        self.script.only.as_ref().is_some_and(|(only, _)| *only != backend)
    }

    /// Runs it.
    #[must_use]
    pub fn run(&self, backend: BackendName) -> Verdict {
        let begin = Instant::now();
        let result = match backend {
            BackendName::Netstack => run(&self.script, &self.params, backend, &|setup| {
                NetstackBackend::new(setup).map(|backend| Box::new(backend) as _)
            }),
            // A namespace belongs to a thread.
            BackendName::Linux => std::thread::scope(|scope| {
                let work = || {
                    run(&self.script, &self.params, backend, &|setup| {
                        LinuxBackend::new(setup).map(|backend| Box::new(backend) as _)
                    })
                };
                scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }),
        };
        Verdict { name: self.name.clone(), result, took: begin.elapsed() }
    }
}

/// Runs cases with `width` of them at a time. What fails on a real clock is tried again alone, up to `retries` times:
/// a busy machine makes everything late.
#[must_use]
pub fn run_all(cases: &[Case], backend: BackendName, width: usize, retries: u32) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..width.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if case.is_excluded(backend) {
                        continue;
                    }
                    let verdict = case.run(backend);
                    if let Ok(mut verdicts) = verdicts.lock() {
                        verdicts.push((case, verdict));
                    }
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().unwrap_or_default();
    for _ in 0..retries {
        for (case, verdict) in verdicts.iter_mut().filter(|(_, verdict)| verdict.result.is_err()) {
            *verdict = case.run(backend);
        }
    }
    let mut verdicts: Vec<Verdict> = verdicts.into_iter().map(|(_, verdict)| verdict).collect();
    verdicts.sort_by(|a, b| a.name.cmp(&b.name));
    verdicts
}
