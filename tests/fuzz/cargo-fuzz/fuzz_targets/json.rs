#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| agentwrit_fuzz_targets::json::run(input));
