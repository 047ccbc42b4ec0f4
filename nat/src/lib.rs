//! The pure half of everything above layer 2: the gateway's own services, checksums and software offload. The NAT comes here.
//!
//! As in `vswitch-switch`, time and randomness are arguments and nothing here knows a system call.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod checksum;
pub mod gateway;
pub mod offload;
