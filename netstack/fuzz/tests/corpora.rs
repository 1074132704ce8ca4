//! The committed corpora pass.

use std::path::Path;

use netstack_fuzz::TARGETS;

#[test]
fn corpora_are_replayed() {
    // What needs no network of its own is replayed in any case; the gateway's corpus would pass without being looked at.
    let can_all = netstack_fuzz::usernet_is_possible();
    if !can_all {
        let _ = integration_tests::is_missing(&integration_tests::Need::Root, module_path!(), line!());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, body) in TARGETS {
        let folder = root.join(name);
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let data = std::fs::read(&file).unwrap();
            if let Err(panic) = std::panic::catch_unwind(|| body(&data)) {
                eprintln!("{}", file.display());
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Bytes that no fuzzer has chosen, for a while: a body that panics on noise is broken.
#[test]
fn noise_is_harmless() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    for round in 0..300 {
        let data: Vec<u8> = (0..round * 2)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        for (name, body) in TARGETS {
            if std::panic::catch_unwind(|| body(&data)).is_err() {
                panic!("{name}: {data:?}");
            }
        }
    }
}
