//! The pure half of the socket uplink: what containers' packets ask of the host's sockets, and what sockets say as frames.
//!
//! Theory. With this uplink no packet leaves: a container's flow ends in a socket of the host, which needs no privilege and passes the
//! host's firewall like any program's. The sockets are in the io crate; here is all that can be decided without one:
//! - [`exchange`]: what a packet is, where its socket is to go, and who may have one;
//! - [`tcp`], [`flows`]: one connection, translated between segments and a socket, and the table of them;
//! - [`datagrams`]: UDP and echo, mappings and sessions; [`reassembly`]: what comes in fragments;
//! - [`reach`]: where containers may go; [`pressure`]: who has a socket when there are not enough;
//! - [`wire`]: writing frames.
pub mod datagrams;
pub mod exchange;
pub mod flows;
pub mod pressure;
pub mod reach;
pub mod reassembly;
pub mod tcp;
pub mod wire;
