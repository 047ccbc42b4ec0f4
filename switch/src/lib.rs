//! The layer 2 switch of vswitch, pure: no clock, no socket, no thread, no environment.
//!
//! Time and seeds are arguments, frames are bytes, every step takes a value and returns a verdict. The daemon on TAPs
//! and a test on literal frames run the same code.
//!
//! Start reading at [`Switch::forward`] in `switch.rs`: it is the heart. Around it:
//! - [`head`]: the 14 octets that a switch may judge, parsed once;
//! - [`frame`]: a frame's bytes, its metadata (VLAN tag, checksum state, GSO) and the pool that buffers come from;
//! - [`table`]: [`AgedMap`], the one structure for everything learned from the network;
//! - [`fdb`], [`vlan`], [`port`], [`storm`], [`guard`], [`groups`]: what `forward` consults, in that order of the frame's way;
//! - [`drop`]: every reason for which a frame ends here, counted.
//!
//! The switch knows ports only; [`PortId::GATEWAY`] is one of them. It never hears of IP, but for the addresses that IP's groups
//! have at layer 2.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod drop;
pub mod fdb;
pub mod frame;
pub mod groups;
pub mod guard;
pub mod head;
pub mod mac;
pub mod port;
pub mod storm;
pub mod switch;
pub mod table;
pub mod time;
pub mod vlan;

pub use drop::{DropCounts, DropReason};
pub use fdb::{Fdb, FdbLimits};
pub use frame::{Csum, FrameBuf, FrameMeta, FramePool, Gso, GsoKind, Tag, TagOp};
pub use head::{EtherType, Head};
pub use mac::{Mac, UnicastMac};
pub use port::{PortConfig, PortId, PortSet};
pub use switch::{Admitted, Egress, Flood, Forward, Switch, SwitchConfig, SwitchEvent};
pub use table::AgedMap;
pub use time::Time;
pub use vlan::{Tpid, Vid, VidSet, VlanMode};
