//! Replaying of committed corpora, and of what is near to them, by tests.

use std::path::Path;

use crate::Body;

/// A target's inputs by the names of their files.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder that can be read").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{name} has no corpus");
    let read = |file: &std::path::PathBuf| std::fs::read(file).expect("a file that can be read");
    files.iter().map(|file| (file.display().to_string(), read(file))).collect()
}

fn run(body: Body, data: &[u8], told: &str) {
    if let Err(panic) = std::panic::catch_unwind(|| body(data)) {
        eprintln!("{told}");
        std::panic::resume_unwind(panic);
    }
}

/// Runs each target's body with its committed inputs.
pub fn corpora(targets: &[(&str, Body)]) {
    for (name, body) in targets {
        for (file, data) in corpus(name) {
            run(*body, &data, &file);
        }
    }
}

/// Runs each body with bytes that no fuzzer has chosen, for a while: a body that panics on noise is broken.
pub fn noise(targets: &[(&str, Body)]) {
    let mut random = Random(0x1234_5678_9abc_def1);
    for round in 0..300 {
        let data: Vec<u8> = (0..round * 2).map(|_| random.byte()).collect();
        for (name, body) in targets {
            run(*body, &data, &format!("{name}: {data:?}"));
        }
    }
}

/// Runs each body with neighbours of its corpus, the same in every run. `FUZZ_MUTATIONS=N` takes N of each target,
/// `FUZZ_TARGET=NAME` one target.
pub fn mutations(targets: &[(&str, Body)]) {
    let count = std::env::var("FUZZ_MUTATIONS").map_or(100, |count| count.parse().expect("a number"));
    let only = std::env::var("FUZZ_TARGET").ok();
    for (name, body) in targets.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)) {
        let corpus: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, data)| data).collect();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..count {
            let data = mutated(&mut random, &corpus);
            run(*body, &data, &format!("{name}: {data:?}"));
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

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("less than a usize")
    }
}

fn mutated(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut data = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        match random.below(6) {
            0 => data.truncate(at),
            1 => data.insert(at, random.byte()),
            2 => drop(data.splice(at..at, corpus[random.below(corpus.len())].iter().copied())),
            _ => {
                if let Some(byte) = data.get_mut(at) {
                    *byte = if random.below(2) == 0 { random.byte() } else { *byte ^ 1 << random.below(8) };
                }
            }
        }
    }
    data.truncate(4096);
    data
}
