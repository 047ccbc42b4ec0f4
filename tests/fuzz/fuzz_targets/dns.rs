//! See `tests/harness/fuzz/dns.rs`, which the tests run on the corpus too.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| vswitch_tests::fuzz::dns::run(data));
