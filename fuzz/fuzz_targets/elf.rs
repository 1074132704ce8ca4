#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sentry_fuzz::elf(data));
