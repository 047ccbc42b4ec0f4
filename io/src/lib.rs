//! All system calls of vswitch: ports, the worker, namespaces, links, privileges.
//!
//! Start reading at [`datapath`]: switch, gateway and ports composed, with no fd in sight. [`worker`] is the thread that lets
//! it breathe. [`netns`] and [`link`] are what the command line does in a container's namespace; unsafe code is only in [`sys`].
#![deny(unsafe_code)]

pub mod asking;
pub mod capture;
pub mod clock;
pub mod counters;
pub mod datapath;
pub mod link;
pub mod netns;
pub mod port;
pub mod privilege;
pub mod relay;
pub mod sys;
pub mod uplink;
pub mod worker;
