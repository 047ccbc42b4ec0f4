//! The layer 3 half of vswitch, pure: no clock, no socket, no thread, no environment.
//!
//! Frames come in as octets with their metadata and go out the same way; the daemon on TAPs and a test on literal frames
//! run the same code. Nothing here allocates: an answer is written into the buffer that the question came in.
//!
//! Start reading at [`gateway::Gateway::receive`]. Beside it:
//! - [`checksum`]: the Internet checksum, whole and by increments;
//! - [`offload`]: what the kernel was promised it need not do, done in software for a port that cannot take it.
//!
//! The gateway is a port of the switch like any other; the switch never hears of IP, this crate never hears of ports.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

extern crate alloc;

pub mod checksum;
pub mod flow;
pub mod forward;
pub mod fragment;
pub mod gateway;
pub mod icmp_error;
pub mod mapping;
pub mod nat;
pub mod ndp;
pub mod offload;
pub mod packet;
pub mod ports;
pub mod session;
pub mod station;
pub mod tcp_state;
pub mod timeouts;
pub mod wan;

pub use gateway::{Gateway, GatewayConfig, Routed};
