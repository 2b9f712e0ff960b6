#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| agentwrit_fuzz_targets::audit_query::run(input));
