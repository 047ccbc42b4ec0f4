//! vswitch-io: all system calls, ports and the worker.
#![deny(unsafe_code)]

pub mod link;
pub mod netns;
pub mod privilege;
pub mod relay;
pub mod sys;
