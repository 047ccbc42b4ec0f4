//! A port as the switch sees it: a number and a configuration. What is behind it (TAP, veth, memory, the gateway) is
//! nobody's business here.
use crate::mac::UnicastMac;
use crate::storm::StormLimits;
use crate::vlan::{Tpid, VlanMode};
use alloc::vec::Vec;
use core::fmt;

/// The most ports of one switch, the gateway included. The kernel bridge stops at 1,023.
pub const MAX_PORTS: u16 = 4_096;

/// A port's number, below [`MAX_PORTS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(u16);

impl PortId {
    /// The gateway: address resolution, echo and later NAT. A port like any other, always there.
    pub const GATEWAY: Self = Self(0);

    /// No port of any switch: the number under which a datapath keeps its uplink beside the ports.
    pub const UPLINK: Self = Self(MAX_PORTS);

    /// `None` from [`MAX_PORTS`] on.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number < MAX_PORTS { Some(Self(number)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The number as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A set of ports: one bit each, grown as needed.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct PortSet(Vec<u64>);

impl PortSet {
    /// Adds one.
    pub fn insert(&mut self, port: PortId) {
        let word = port.index() >> 6;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << (port.0 & 63);
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, port: PortId) {
        if let Some(bits) = self.0.get_mut(port.index() >> 6) {
            *bits &= !(1 << (port.0 & 63));
        }
    }

    /// Whether it is in.
    #[must_use]
    pub fn contains(&self, port: PortId) -> bool {
        self.word(port.index() >> 6) >> (port.0 & 63) & 1 == 1
    }

    /// 64 ports at once, for set arithmetic; zero beyond the end.
    #[inline]
    #[must_use]
    pub fn word(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// How many words are in use.
    #[must_use]
    pub fn words(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&bits| bits == 0)
    }

    /// All members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = PortId> + '_ {
        (0u16..)
            .zip(&self.0)
            .flat_map(|(word, &bits)| (0..64u16).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| PortId(word * 64 + bit)))
    }
}

/// Which source addresses a port may use (L08).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Guard {
    /// Any that is not bound to another port: for containers that bridge or route at layer 2 themselves.
    #[default]
    Off,
    /// This one only; everything else is dropped as [`crate::DropReason::Spoof`], and no other port may use it.
    Bound(UnicastMac),
}

/// What a port takes of the floods of its VLANs (L06).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FloodTakes {
    /// Unicast to an address that the switch has not learned.
    pub unknown: bool,
    /// Broadcast.
    pub broadcast: bool,
    /// Multicast.
    pub multicast: bool,
}

impl Default for FloodTakes {
    fn default() -> Self {
        Self { unknown: true, broadcast: true, multicast: true }
    }
}

/// The dynamic addresses that one port may hold by default.
pub const DEFAULT_FDB_PORT_LIMIT: u32 = 4_096;

/// A port's configuration. The default is an unguarded access port of VLAN 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConfig {
    /// VLANs admitted and how frames are tagged.
    pub vlan: VlanMode,
    /// The kind of tag spoken here.
    pub tpid: Tpid,
    /// Split-horizon group: ports of one group never reach each other, whatever the EtherType (L17). 0 is free.
    pub group: u8,
    /// Source addresses allowed.
    pub guard: Guard,
    /// Whether a frame may leave through the port it came from (L05).
    pub hairpin: bool,
    /// Whether source addresses are learned.
    pub learn: bool,
    /// Floods taken.
    pub flood: FloodTakes,
    /// Storm budgets of what comes in here.
    pub storm: StormLimits,
    /// Dynamic addresses this port may hold, 1 or more.
    pub fdb_limit: u32,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            vlan: VlanMode::default(),
            tpid: Tpid::default(),
            group: 0,
            guard: Guard::Off,
            hairpin: false,
            learn: true,
            flood: FloodTakes::default(),
            storm: StormLimits::default(),
            fdb_limit: DEFAULT_FDB_PORT_LIMIT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_sets() {
        let mut set = PortSet::default();
        for number in [0, 63, 64, 1_099, 4_095] {
            set.insert(PortId::new(number).unwrap());
        }
        set.remove(PortId::new(64).unwrap());
        let members: Vec<u16> = set.iter().map(PortId::get).collect();
        assert_eq!(members, [0, 63, 1_099, 4_095]);
        assert!(!set.contains(PortId::new(64).unwrap()) && set.contains(PortId::GATEWAY));
        assert_eq!(PortId::new(MAX_PORTS), None);
    }
}
