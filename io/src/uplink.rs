//! Uplinks that are no port: the host's sockets. (The packet uplink is a [`crate::port::Port`] beside the switch's.)
pub(crate) mod fit;
mod socket;

pub use socket::{CarriedBound, CarriedMapping, CarriedSession, CarriedStream, Event, Sockets};
