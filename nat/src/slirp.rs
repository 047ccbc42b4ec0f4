//! The pure half of the socket uplink: what containers' packets ask of the host's sockets, and what sockets say as frames.
//!
//! Theory. With this uplink no packet leaves: a container's flow ends in a socket of the host, which needs no privilege and passes the
//! host's firewall like any program's. The sockets are in the io crate; here is all that can be decided without one:
//! - [`tcp`]: one connection, translated between segments and a socket;
//! - [`reach`]: where containers may go;
//! - [`wire`]: writing frames.
pub mod reach;
pub mod tcp;
pub mod wire;
