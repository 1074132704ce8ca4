//! All scripts on netstack, in virtual time.

use std::path::Path;

use netstack_script::syntax::BackendName;
use netstack_script::{cases, find, run_all};

#[test]
fn netstack_does_what_the_scripts_say() {
    let files = find(Path::new("scripts")).unwrap();
    let cases = cases(&files).unwrap_or_else(|error| panic!("{error}"));
    let verdicts = run_all(&cases, BackendName::Netstack, 2, 0);
    let failed: Vec<String> =
        verdicts.iter().filter(|verdict| verdict.result.is_err()).map(ToString::to_string).collect();
    println!("{} scripts, {} runs", files.len(), verdicts.len());
    assert!(failed.is_empty(), "{} of {} runs failed:\n{}", failed.len(), verdicts.len(), failed.join("\n"));
}
