//! `packet-script`: runs scripts on netstack and on the Linux kernel.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use netstack_script::syntax::BackendName;
use netstack_script::{cases, deviations, find, run_all};

#[derive(Parser)]
#[command(about = "Runs packet scripts on netstack (virtual time) and on the Linux kernel (needs root)")]
struct Cli {
    /// What to run them on.
    #[arg(long, value_enum, default_value_t = On::Netstack)]
    on: On,
    /// How many to run at a time on Linux, where they mostly wait.
    #[arg(long, default_value_t = 24)]
    width: usize,
    /// How often a failure on Linux is tried again, alone.
    #[arg(long, default_value_t = 0)]
    retries: u32,
    /// List the deviations from Linux that the scripts explain, and run nothing.
    #[arg(long)]
    deviations: bool,
    /// Say how each run went, not only the failures.
    #[arg(long, short)]
    verbose: bool,
    /// Scripts, or folders with scripts.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    Netstack,
    Linux,
    Both,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let mut files = Vec::new();
    for path in &cli.paths {
        files.extend(find(path).with_context(|| path.display().to_string())?);
    }
    let cases = match cases(&files) {
        Ok(cases) => cases,
        Err(error) => {
            println!("{error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    if cli.deviations {
        let mut all: Vec<String> = cases
            .iter()
            .flat_map(|case| deviations(&case.script))
            .map(|why| format!("{}: {}", why.place, why.text))
            .collect();
        all.dedup();
        for line in all {
            println!("{line}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut has_failed = false;
    for backend in [BackendName::Netstack, BackendName::Linux] {
        let is_wanted = match cli.on {
            On::Both => true,
            On::Netstack => backend == BackendName::Netstack,
            On::Linux => backend == BackendName::Linux,
        };
        if !is_wanted {
            continue;
        }
        let (width, retries) = match backend {
            BackendName::Netstack => (1, 0),
            BackendName::Linux => (cli.width, cli.retries),
        };
        let verdicts = run_all(&cases, backend, width, retries);
        for verdict in &verdicts {
            if verdict.result.is_err() || cli.verbose {
                println!("{verdict}");
            }
        }
        let failed = verdicts.iter().filter(|verdict| verdict.result.is_err()).count();
        has_failed |= failed > 0;
        println!(
            "{backend}: {} scripts, {} runs, {failed} failed, {} are for the other backend",
            files.len(),
            verdicts.len(),
            cases.len() - verdicts.len()
        );
    }
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
