//! The committed corpora pass, and so does what is near to them.

use std::path::Path;

use netstack_fuzz::{Body, TARGETS};

/// A target's inputs by the names of their files.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{name} has no corpus");
    files.iter().map(|file| (file.display().to_string(), std::fs::read(file).unwrap())).collect()
}

#[track_caller]
fn run(body: Body, data: &[u8], told: &str) {
    if let Err(panic) = std::panic::catch_unwind(|| body(data)) {
        eprintln!("{told}");
        std::panic::resume_unwind(panic);
    }
}

/// What needs no network of its own is replayed in any case; the gateway's corpus would pass without being looked at.
fn note_what_is_not_possible() {
    if !netstack_fuzz::usernet_is_possible() {
        let _ = integration_tests::is_missing(&integration_tests::Need::Root, module_path!(), line!());
    }
}

#[test]
fn corpora_are_replayed() {
    note_what_is_not_possible();
    for (name, body) in TARGETS {
        for (file, data) in corpus(name) {
            run(body, &data, &file);
        }
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }
}

/// Bytes that no fuzzer has chosen, for a while: a body that panics on noise is broken.
#[test]
fn noise_is_harmless() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for round in 0..300 {
        let data: Vec<u8> = (0..round * 2).map(|_| random.next() as u8).collect();
        for (name, body) in TARGETS {
            run(body, &data, &format!("{name}: {data:?}"));
        }
    }
}

/// Neighbours of the corpora, the same in every run. `FUZZ_MUTATIONS=N` takes N of each target, `FUZZ_TARGET=NAME` one target.
#[test]
fn mutated_corpora_are_harmless() {
    note_what_is_not_possible();
    let count = std::env::var("FUZZ_MUTATIONS").map_or(100, |count| count.parse().unwrap());
    let only = std::env::var("FUZZ_TARGET").ok();
    for (name, body) in TARGETS.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name))
    {
        let corpus: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, data)| data).collect();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..count {
            let data = mutated(&mut random, &corpus);
            run(body, &data, &format!("{name}: {data:?}"));
        }
    }
}

fn mutated(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut data = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        match random.below(6) {
            0 => data.truncate(at),
            1 => data.insert(at, random.next() as u8),
            2 => drop(data.splice(at..at, corpus[random.below(corpus.len())].iter().copied())),
            _ => {
                if let Some(byte) = data.get_mut(at) {
                    *byte =
                        if random.below(2) == 0 { random.next() as u8 } else { *byte ^ 1 << random.below(8) };
                }
            }
        }
    }
    data.truncate(4096);
    data
}
