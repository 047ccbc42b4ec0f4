//! See `tests/harness/fuzz/slirp_tcp.rs`, which the tests run on the corpus too.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| vswitch_tests::fuzz::slirp_tcp::run(data));
