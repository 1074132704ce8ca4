//! All scripts on the Linux kernel, each in a network namespace of its own, many at a time since they mostly wait.

use std::path::Path;

use integration_tests::{Need, require};
use netstack_script::syntax::BackendName;
use netstack_script::{cases, find, run_all};

#[test]
fn linux_does_what_the_scripts_say() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let files = find(Path::new("scripts")).unwrap();
    let cases = cases(&files).unwrap_or_else(|error| panic!("{error}"));
    let verdicts = run_all(&cases, BackendName::Linux, SIDE_BY_SIDE, RETRIES);
    let failed: Vec<String> =
        verdicts.iter().filter(|verdict| verdict.result.is_err()).map(ToString::to_string).collect();
    println!("{} scripts, {} runs", files.len(), verdicts.len());
    assert!(failed.is_empty(), "{} of {} runs failed:\n{}", failed.len(), verdicts.len(), failed.join("\n"));
}

/// Enough that the waiting overlaps, few enough that two processors keep the time.
const SIDE_BY_SIDE: usize = 24;
/// A busy machine is late; what is late three times, alone, is wrong.
const RETRIES: u32 = 3;
