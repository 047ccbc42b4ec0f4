//! The layer 3 half of vswitch, pure: no clock, no socket, no thread, no environment.
//!
//! Frames come in as octets with their metadata and go out the same way; the daemon on TAPs and a test on literal frames
//! run the same code. No packet allocates: an answer is written into the buffer that the question came in. Tables are reserved when
//! an uplink is set; what the control plane asks for, and DHCP a few times a lease, may allocate.
//!
//! Start reading at [`gateway::Gateway::receive`], and [`gateway::route`] for what goes further. Beside it:
//! - [`packet`], [`flow`]: layers 3 and 4, parsed once and rewritten in place;
//! - [`nat`], with [`session`], [`mapping`], [`forward`], [`station`], [`tcp_state`], [`ports`], [`timeouts`]: connection tracking and translation;
//! - [`icmp_error`], [`fragment`]: errors with what they quote, and datagrams in pieces;
//! - [`dns`]: the containers' names, and questions for others;
//! - [`inspect`]: what is judged, answered and read of frames between stations;
//! - [`wan`], [`ndp`]: our end of the uplink's link;
//! - [`checksum`]: the Internet checksum, whole and by increments;
//! - [`offload`]: what the kernel was promised it need not do, done in software for a port that cannot take it.
//!
//! The gateway is a port of the switch like any other; the switch never hears of IP, this crate knows a port by its number only.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

extern crate alloc;

pub mod checksum;
pub mod dns;
pub mod flow;
pub mod forward;
pub mod fragment;
pub mod gateway;
pub mod icmp_error;
pub mod inspect;
pub mod ipam;
pub mod mapping;
pub mod nat;
pub mod ndp;
pub mod offload;
pub mod packet;
pub mod ports;
pub mod session;
pub mod slirp;
pub mod station;
pub mod tcp_state;
pub mod timeouts;
pub mod wan;

pub use gateway::{Gateway, GatewayConfig, Routed};
