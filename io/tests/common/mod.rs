//! What the tests of this crate share, beside the harness.
#![allow(dead_code, unused_imports)] // each test file uses its part

pub mod single;

pub use vswitch_tests::netns::{TestNs, ip, privileged, skip};
