//! Who is inside: a *station* is a container with its hardware address, its IP addresses and its limits.
//!
//! Theory. The daemon enters each container under its port's number, which is the *owner* of what comes through that port. A source
//! address that is another station's is spoofed; one that is nobody's and in the subnet belongs to whoever used it first (a container
//! may have further addresses), which is *learned*, bounded and aged. So nobody takes over an address that the daemon gave away. A port
//! that has learned as many as one may gives up its own oldest, so one container neither fills the table nor ends at the bound.
//! Link-local IPv6 addresses are handled alike; the one that is made from a station's hardware address is its own from the beginning.
//!
//! A station that goes, or gets other addresses, begins another *generation*: sessions remember theirs, and what is of an older one is
//! dead at once, whoever finds it (N66), without a walk over the table.
use crate::flow::Address;
use crate::ndp::link_local;
use crate::slirp::reach::Reach;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use vswitch_switch::port::MAX_PORTS;
use vswitch_switch::{AgedMap, Time, UnicastMac};

/// Learned addresses at the most.
pub const LEARNED: u32 = 16_384;
/// Learned addresses of one port at the most.
pub const LEARNED_PER_PORT: u32 = 64;
/// How long after its last packet others are told where a learned address is ([`Stations::find`]).
pub const LEARNED_FRESH: Duration = Duration::from_secs(60);
/// How long a learned address is kept after its last packet.
pub const LEARNED_AGE: Duration = Duration::from_secs(600);
/// Sessions of one station at the most, those that are over not counted.
pub const SESSIONS: u32 = 65_536;
/// External ports of one station at the most, of UDP and ICMP together.
pub const PORTS: u32 = 16_384;

/// Names that one station has beside its own, at the most.
pub const ALIASES: usize = 16;

/// What one container may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// See [`SESSIONS`].
    pub sessions: u32,
    /// See [`PORTS`].
    pub ports: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sessions: SESSIONS, ports: PORTS }
    }
}

/// How far a port is trusted with addresses (L09).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AddressGuard {
    /// Any source passes: of containers that route or bridge themselves.
    Off,
    /// What it sends must be from addresses that are its own; its hardware address is not bound.
    Addresses,
    /// The same, and its hardware address is bound: so others may be told where its addresses are without asking it.
    #[default]
    Bound,
}

/// Whose an address is, for a port that uses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// The port's.
    Own,
    /// The other port's.
    Taken(u16),
    /// Nobody's, but there is no room to learn it.
    Full,
}

/// A container, as the gateway knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Station {
    /// Its hardware address.
    pub mac: UnicastMac,
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// The MTU of its interface, octets of layer 3.
    pub mtu: u16,
    /// What it may have.
    pub limits: Limits,
    /// Whether its sources are judged.
    pub guard: AddressGuard,
}

impl Station {
    /// The addresses that it was given, and the link-local one that its hardware address makes.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let local = IpAddr::V6(link_local(self.mac));
        [self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6), Some(local)].into_iter().flatten()
    }
}

/// Whose something is, and since when: good as long as that station has not gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The port's number.
    pub port: u16,
    /// See the module's theory.
    pub generation: u16,
}

/// A place for one port's station, and what it has.
#[derive(Clone, Debug, Default)]
struct Slot {
    station: Option<Station>,
    generation: u16,
    sessions: u32,
    ports: u32,
    /// Where it may go; anywhere without.
    reach: Option<Box<Reach>>,
    /// What it is called.
    name: Option<Box<str>>,
    /// What else.
    aliases: Vec<Box<str>>,
}

/// Where a packet to an inside address goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// Hardware address.
    pub mac: UnicastMac,
    /// MTU.
    pub mtu: u16,
    /// Whose it is.
    pub owner: u16,
}

/// All of them.
#[derive(Debug)]
pub struct Stations {
    slots: Vec<Slot>,
    /// Generations begun.
    changes: u64,
    by_address: HashMap<IpAddr, u16, FixedState>,
    /// By name and alias, in lower case (RFC 4343).
    by_name: HashMap<Box<str>, u16, FixedState>,
    /// A class a port.
    learned: AgedMap<u128, (UnicastMac, u16)>,
}

/// One number for either family: a v4 address never equals a v6 one that a router forwards.
fn key<A: Address>(address: A) -> u128 {
    if A::IS_V6 { address.bits() } else { address.bits() | 0xffff << 32 }
}

fn any_key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => key(address),
        IpAddr::V6(address) => key(address),
    }
}

impl Stations {
    /// Nobody yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            changes: 0,
            by_address: HashMap::with_hasher(FixedState::with_seed(seed)),
            by_name: HashMap::with_hasher(FixedState::with_seed(seed)),
            learned: AgedMap::new(LEARNED, u32::from(MAX_PORTS), seed),
        }
    }

    /// Enters a station under its port's number, or changes it. With other addresses it is another one: its sessions are dead.
    pub fn set(&mut self, port: u16, station: Station) {
        let index = usize::from(port);
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::default());
        }
        let before = self.station(port).copied();
        if before.is_some_and(|before| (before.mac, before.v4, before.v6) != (station.mac, station.v4, station.v6)) {
            self.remove(port);
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.station = Some(station);
        }
        for address in station.addresses() {
            self.by_address.insert(address, port);
            // Whoever used it before it was given away uses it no longer.
            match address {
                IpAddr::V4(address) => self.learned.remove(&key(address)),
                IpAddr::V6(address) => self.learned.remove(&key(address)),
            };
        }
    }

    /// Forgets a station: what it had is dead.
    pub fn remove(&mut self, port: u16) {
        let Some(slot) = self.slots.get_mut(usize::from(port)) else { return };
        let (station, name, aliases) = (slot.station.take(), slot.name.take(), core::mem::take(&mut slot.aliases));
        self.changes = self.changes.wrapping_add(1);
        *slot = Slot { generation: slot.generation.wrapping_add(1), ..Slot::default() };
        for address in station.iter().flat_map(Station::addresses) {
            if self.by_address.get(&address) == Some(&port) {
                self.by_address.remove(&address);
            }
        }
        name.iter().chain(&aliases).for_each(|name| self.forget_name(port, name));
        self.learned.clear_class(u32::from(port));
    }

    /// Makes all that a station has dead, and leaves the station.
    pub fn flush(&mut self, port: u16) {
        self.changes = self.changes.wrapping_add(1);
        if let Some(slot) = self.slots.get_mut(usize::from(port)) {
            (slot.generation, slot.sessions, slot.ports) = (slot.generation.wrapping_add(1), 0, 0);
        }
    }

    /// Where a port's station may go, until it is removed or has other addresses.
    pub fn set_reach(&mut self, port: u16, reach: Reach) {
        if let Some(slot) = self.slots.get_mut(usize::from(port)).filter(|slot| slot.station.is_some()) {
            slot.reach = (reach != Reach::default()).then(|| Box::new(reach));
        }
    }

    /// The same, as far as anything was set.
    #[inline]
    #[must_use]
    pub fn reach(&self, port: u16) -> Option<&Reach> {
        self.slots.get(usize::from(port))?.reach.as_deref()
    }

    /// What a port's station is called, until it is removed or has other addresses. A name that another has stays that one's.
    pub fn set_name(&mut self, port: u16, name: &str) {
        let Some(slot) = self.slots.get_mut(usize::from(port)).filter(|slot| slot.station.is_some()) else { return };
        if let Some(before) = slot.name.replace(name.into()) {
            self.forget_name(port, &before);
        }
        self.by_name.entry(name.to_ascii_lowercase().into()).or_insert(port);
    }

    /// What else it is called, likewise: [`ALIASES`] of them at the most.
    pub fn set_aliases(&mut self, port: u16, aliases: &[impl AsRef<str>]) {
        let Some(slot) = self.slots.get_mut(usize::from(port)).filter(|slot| slot.station.is_some()) else { return };
        let aliases: Vec<Box<str>> = aliases.iter().take(ALIASES).map(|alias| alias.as_ref().into()).collect();
        let before = core::mem::replace(&mut slot.aliases, aliases.clone());
        let name = slot.name.clone();
        before.iter().for_each(|alias| self.forget_name(port, alias));
        for name in name.iter().chain(&aliases) {
            self.by_name.entry(name.to_ascii_lowercase().into()).or_insert(port);
        }
    }

    fn forget_name(&mut self, port: u16, name: &str) {
        let name = name.to_ascii_lowercase();
        if self.by_name.get(name.as_str()) == Some(&port) {
            self.by_name.remove(name.as_str());
        }
    }

    /// Whose a name or alias is; it is to be in lower case.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<u16> {
        self.by_name.get(name).copied()
    }

    /// Each name and alias with its port.
    pub fn names(&self) -> impl Iterator<Item = (&str, u16)> {
        self.by_name.iter().map(|(name, port)| (&**name, *port))
    }

    /// The same, as far as it was set.
    #[must_use]
    pub fn name(&self, port: u16) -> Option<&str> {
        self.slots.get(usize::from(port))?.name.as_deref()
    }

    /// A port's station.
    #[must_use]
    pub fn station(&self, port: u16) -> Option<&Station> {
        self.slots.get(usize::from(port))?.station.as_ref()
    }

    /// Each port with its station.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Station)> {
        (0..).zip(&self.slots).filter_map(|(port, slot)| Some((port, slot.station.as_ref()?)))
    }

    /// The owner of what comes from a port now.
    #[inline]
    #[must_use]
    pub fn owner(&self, port: u16) -> Owner {
        Owner { port, generation: self.slots.get(usize::from(port)).map_or(0, |slot| slot.generation) }
    }

    /// How often anybody's generation ended.
    #[inline]
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether a station of that generation is still there.
    #[inline]
    #[must_use]
    pub fn is_current(&self, owner: Owner) -> bool {
        self.owner(owner.port) == owner
    }

    /// Sessions and external ports that a port has.
    #[must_use]
    pub fn usage(&self, port: u16) -> (u32, u32) {
        self.slots.get(usize::from(port)).map_or((0, 0), |slot| (slot.sessions, slot.ports))
    }

    fn limits(&self, port: u16) -> Limits {
        self.station(port).map_or_else(Limits::default, |station| station.limits)
    }

    pub(crate) fn may_have_session(&self, port: u16) -> bool {
        self.usage(port).0 < self.limits(port).sessions
    }

    pub(crate) fn may_have_port(&self, port: u16) -> bool {
        self.usage(port).1 < self.limits(port).ports
    }

    fn current(&mut self, owner: Owner) -> Option<&mut Slot> {
        if self.slots.len() <= usize::from(owner.port) && owner.generation == 0 {
            self.slots.resize(usize::from(owner.port) + 1, Slot::default());
        }
        self.slots.get_mut(usize::from(owner.port)).filter(|slot| slot.generation == owner.generation)
    }

    pub(crate) fn count_session(&mut self, owner: Owner, by: i32) {
        if let Some(slot) = self.current(owner) {
            slot.sessions = slot.sessions.saturating_add_signed(by);
        }
    }

    pub(crate) fn count_port(&mut self, owner: Owner, by: i32) {
        if let Some(slot) = self.current(owner) {
            slot.ports = slot.ports.saturating_add_signed(by);
        }
    }

    /// Whether a packet from `port` with hardware address `mac` may have the source `address`, which is in the subnet: its own, or nobody's.
    #[inline]
    pub fn may_send<A: Address>(&mut self, port: u16, mac: UnicastMac, address: A, now: Time) -> bool {
        self.claim(port, mac, address, now) == Claim::Own
    }

    /// Whose `address` is, now that `port` with hardware address `mac` uses it: what is nobody's is learned.
    #[inline]
    pub fn claim<A: Address>(&mut self, port: u16, mac: UnicastMac, address: A, now: Time) -> Claim {
        let address: IpAddr = address.into();
        if let Some(station) = self.station(port)
            && [station.v4.map(IpAddr::V4), station.v6.map(IpAddr::V6)].contains(&Some(address))
        {
            return Claim::Own;
        }
        self.claim_further(port, mac, address, now)
    }

    fn claim_further(&mut self, port: u16, mac: UnicastMac, address: IpAddr, now: Time) -> Claim {
        if let Some(owner) = self.by_address.get(&address) {
            return if *owner == port { Claim::Own } else { Claim::Taken(*owner) };
        }
        match self.learned.get_mut(&any_key(address)) {
            Some(((known, owner), seen)) if *owner == port && *known == mac => {
                *seen = now;
                Claim::Own
            }
            Some(((_, owner), seen)) if *owner != port && now.since(*seen) < LEARNED_AGE => Claim::Taken(*owner),
            Some(_) | None => self.learn(port, mac, address, now),
        }
    }

    fn learn(&mut self, port: u16, mac: UnicastMac, address: IpAddr, now: Time) -> Claim {
        let class = u32::from(port);
        if self.learned.class_len(class) >= LEARNED_PER_PORT
            && let Some((oldest, _)) = self.learned.oldest(class, now)
        {
            self.learned.remove(&oldest);
        }
        self.learned.insert(any_key(address), (mac, port), class, now).map_or(Claim::Full, |()| Claim::Own)
    }

    /// A port whose sources are not judged says that it has `address`: if that was only learned, it is there from now on.
    pub fn observe(&mut self, port: u16, mac: UnicastMac, address: IpAddr, now: Time) {
        if !self.by_address.contains_key(&address) {
            self.learn(port, mac, address, now);
        }
    }

    /// Where an address is, if that is known for sure: that of a station whose hardware address is bound, given or used just now.
    #[must_use]
    pub fn find(&self, address: IpAddr, now: Time) -> Option<(u16, UnicastMac)> {
        let owner = match self.by_address.get(&address) {
            Some(owner) => *owner,
            None => {
                let ((_, owner), seen) = self.learned.get(&any_key(address))?;
                (now.since(seen) < LEARNED_FRESH).then_some(*owner)?
            }
        };
        let station = self.station(owner)?;
        (station.guard == AddressGuard::Bound).then_some((owner, station.mac))
    }

    /// Who has an address that `port` asks for as if to take it, other than itself.
    #[must_use]
    pub fn holder(&self, port: u16, address: IpAddr, now: Time) -> Option<u16> {
        let learned = || self.learned.get(&any_key(address)).filter(|(_, seen)| now.since(*seen) < LEARNED_AGE);
        let owner = self.by_address.get(&address).copied().or_else(|| learned().map(|((_, owner), _)| *owner));
        owner.filter(|owner| *owner != port)
    }

    /// The way to an inside address.
    #[inline]
    #[must_use]
    pub fn way<A: Address>(&self, address: A) -> Option<Way> {
        let owner = match self.by_address.get(&address.into()) {
            Some(owner) => *owner,
            None => {
                let ((mac, owner), _) = self.learned.get(&key(address))?;
                let mtu = self.station(*owner).map_or(u16::MAX, |station| station.mtu);
                return Some(Way { mac: *mac, mtu, owner: *owner });
            }
        };
        let station = self.station(owner)?;
        Some(Way { mac: station.mac, mtu: station.mtu, owner })
    }

    /// Forgets what was learned long ago; looks at `budget` of a port at the most.
    pub fn tick(&mut self, now: Time, budget: u32) {
        for class in 0..self.slots.len() as u32 {
            if self.learned.class_len(class) > 0 {
                self.learned.expire(class, LEARNED_AGE, now, budget, |_, _, _| {});
            }
        }
    }

    /// Learned addresses with their hardware address, owner and age, for views.
    pub fn learned(&self, now: Time, mut each: impl FnMut(IpAddr, UnicastMac, u16, Duration)) {
        self.learned.page(0, LEARNED, |key, (mac, owner), seen| {
            let address = if key >> 32 == 0xffff {
                IpAddr::V4(Ipv4Addr::from_bits(*key as u32))
            } else {
                IpAddr::V6(Ipv6Addr::from_bits(*key))
            };
            each(address, *mac, *owner, now.since(seen));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn station(last: u8) -> Station {
        let v4 = Ipv4Addr::new(10, 0, 0, last);
        Station {
            mac: UnicastMac::for_ipv4(v4.octets()),
            v4: Some(v4),
            v6: None,
            mtu: 1_500,
            limits: Limits::default(),
            guard: AddressGuard::Bound,
        }
    }

    #[test]
    fn an_address_given_away_is_nobody_elses() {
        let mut stations = Stations::new(1);
        let now = Time::from_secs(1);
        stations.set(1, station(2));
        let (own, other) = (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 9));
        let (mac, thief) = (station(2).mac, station(3).mac);
        assert!(stations.may_send(1, mac, own, now));
        assert!(!stations.may_send(2, thief, own, now));
        assert!(stations.may_send(1, mac, other, now), "a further address of its own");
        assert!(!stations.may_send(2, thief, other, now), "learned by another");
        assert_eq!(stations.way(other), Some(Way { mac, mtu: 1_500, owner: 1 }));
        stations.set(3, station(9));
        assert_eq!(stations.way(other).unwrap().owner, 3);
        assert!(!stations.may_send(1, mac, other, now));
    }

    #[test]
    fn one_port_fills_no_table() {
        let mut stations = Stations::new(1);
        stations.set(1, station(2));
        let mac = station(2).mac;
        let address = |number: u32| Ipv4Addr::from_bits(0x0a01_0000 + number);
        for number in 0..LEARNED {
            assert_eq!(stations.claim(1, mac, address(number), Time::from_secs(number.into())), Claim::Own);
        }
        let now = Time::from_secs(LEARNED.into());
        assert_eq!(stations.learned.len(), LEARNED_PER_PORT);
        assert_eq!(stations.claim(2, mac, address(0), now), Claim::Own, "given up long ago");
        assert_eq!(stations.claim(2, mac, address(LEARNED - 1), now), Claim::Taken(1));
        stations.observe(2, mac, address(LEARNED - 1).into(), now);
        assert_eq!(stations.claim(1, mac, address(LEARNED - 1), now), Claim::Taken(2));
        assert_eq!(stations.claim(2, mac, link_local(mac), now), Claim::Taken(1), "its own from the beginning");
        stations.remove(1);
        assert_eq!(stations.learned.len(), 2);
    }

    #[test]
    fn who_goes_or_gets_other_addresses_is_another_one() {
        let mut stations = Stations::new(1);
        stations.set(1, station(2));
        let owner = stations.owner(1);
        stations.count_session(owner, 1);
        stations.set(1, Station { mtu: 1_400, ..station(2) });
        assert!(stations.is_current(owner));
        assert_eq!(stations.usage(1), (1, 0));
        stations.set(1, station(4));
        assert!(!stations.is_current(owner));
        assert_eq!(stations.way(Ipv4Addr::new(10, 0, 0, 2)), None);
        stations.count_session(owner, -1);
        assert_eq!(stations.usage(1), (0, 0), "what is dead is counted nowhere");
        let owner = stations.owner(1);
        stations.remove(1);
        assert!(!stations.is_current(owner) && stations.way(Ipv4Addr::new(10, 0, 0, 4)).is_none());
    }

    #[test]
    fn a_name_goes_with_its_station() {
        let mut stations = Stations::new(1);
        stations.set_name(1, "web");
        assert_eq!(stations.named("web"), None, "nobody is there");
        stations.set(1, station(2));
        stations.set(2, station(3));
        stations.set_name(1, "Web");
        stations.set_aliases(1, &["www", "api"]);
        stations.set_name(2, "db");
        stations.set_aliases(2, &["www"]);
        assert_eq!(["web", "www", "api", "db"].map(|name| stations.named(name)), [Some(1), Some(1), Some(1), Some(2)]);
        stations.set_aliases(1, &["web", "api"]);
        stations.set_aliases(1, &["api"]);
        assert_eq!(["web", "www", "api"].map(|name| stations.named(name)), [Some(1), None, Some(1)]);
        stations.set(1, station(4));
        assert_eq!(["web", "api", "db"].map(|name| stations.named(name)), [None, None, Some(2)]);
        stations.set_name(2, "web");
        assert_eq!(["web", "db"].map(|name| stations.named(name)), [Some(2), None]);
    }

    #[test]
    fn reach_is_of_a_station_and_goes_with_it() {
        let mut stations = Stations::new(1);
        let reach = Reach { host_loopback: true, ..Reach::default() };
        stations.set_reach(1, reach.clone());
        assert_eq!(stations.reach(1), None, "nobody is there");
        stations.set(1, station(2));
        stations.set_reach(1, reach.clone());
        stations.set(1, Station { mtu: 1_400, ..station(2) });
        stations.flush(1);
        assert_eq!(stations.reach(1), Some(&reach));
        stations.remove(1);
        stations.set(1, station(3));
        assert_eq!(stations.reach(1), None, "the next one is not given what another was");
    }
}
