//! Test harness.

pub mod netns;
