//! UDP and echo: mappings, each with one unconnected socket, and the sessions that filter what comes back.
//!
//! Theory. A *mapping* is a container's endpoint and its socket, whoever it talks to: endpoint-independent (RFC 4787 REQ-1), because
//! the socket is not connected. A *session* is an endpoint and one other: what arrives from an endpoint of no session is refused
//! (address-and-port-dependent filtering, RFC 4787 5). A mapping lives as long as a session of it. An echo's identifier is its port
//! (RFC 5508 REQ-1).
//!
//! A published port's socket is shared: it belongs to no mapping, and each client is a session through it. What the container sends to that
//! client from that port goes back through it (RFC 4787 REQ-9 for the rest).
use super::wire::Link;
use crate::flow::protocol;
use crate::session::Count;
use crate::station::{Owner, Stations};
use crate::timeouts::SHORT_PORTS;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;
use vswitch_switch::{AgedMap, Time};

/// Sessions at the most.
pub const SESSIONS: u32 = 65_536;
/// Mappings at the most: a socket each.
pub const MAPPINGS: usize = 32_768;
/// RFC 4787 REQ-5: at least 2 minutes; for what nobody answered.
pub const UNANSWERED: Duration = Duration::from_secs(120);
/// RFC 4787 REQ-5c: 5 minutes recommended.
pub const ANSWERED: Duration = Duration::from_secs(300);
/// An answered session that is idle for this long gives way to a new one where there is no room.
pub const IDLE: Duration = Duration::from_secs(30);
/// Sessions of one class that a tick looks at.
const CLASSES: u32 = 4;

/// Which of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// UDP.
    Udp,
    /// ICMP or ICMPv6 echo.
    Echo,
}

impl Kind {
    /// The protocol's number.
    #[must_use]
    pub const fn number(self, is_v6: bool) -> u8 {
        match (self, is_v6) {
            (Self::Udp, _) => protocol::UDP,
            (Self::Echo, false) => protocol::ICMP,
            (Self::Echo, true) => protocol::ICMPV6,
        }
    }
}

/// What a session is found by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Ends {
    /// Which protocol.
    pub kind: Kind,
    /// The container's end.
    pub inside: SocketAddr,
    /// The other end, as the container sees it.
    pub remote: SocketAddr,
}

impl Ends {
    /// Octets of the headers that a container gets before a payload, from layer 3 on; of an echo its own is payload.
    const fn headers(&self) -> usize {
        let ip = if self.inside.is_ipv6() { 40 } else { 20 };
        match self.kind {
            Kind::Udp => ip + super::wire::UDP_HEADER,
            Kind::Echo => ip,
        }
    }
}

/// The socket of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// A mapping's.
    Mapping(u32),
    /// A published port's, and the address of the host that the client used.
    Published(u32, Option<core::net::IpAddr>),
}

/// See the module's theory.
#[derive(Clone, Copy, Debug)]
pub struct DatagramSession {
    /// Whose it is.
    pub owner: Owner,
    /// Hardware addresses.
    pub link: Link,
    /// Its socket.
    pub via: Via,
    /// The other end, as the socket sees it.
    pub dialed: SocketAddr,
    /// The published port's rule, or 0.
    pub rule: u32,
    /// Seconds of the clock when it began.
    pub created: u32,
    /// From and to the container.
    pub counts: [Count; 2],
}

/// A container's endpoint with a socket.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// Whose it is.
    pub owner: Owner,
    /// Which protocol.
    pub kind: Kind,
    /// The endpoint.
    pub inside: SocketAddr,
    sessions: u32,
}

/// What a datagram of a container's is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outbound {
    /// It goes there, through that socket.
    Send(Via, SocketAddr),
    /// The same; the mapping is new, and so is its socket to be.
    Open(u32, SocketAddr),
    /// The container has as many as it may.
    Quota,
    /// There are as many as may be.
    Full,
}

/// See the module's theory.
#[derive(Debug)]
pub struct Datagrams {
    sessions: AgedMap<Ends, DatagramSession>,
    mappings: Slab<Mapping>,
    by_inside: HashMap<(Kind, SocketAddr), u32, FixedState>,
    /// What went through published ports in sessions that are over, by rule.
    pub(super) ended: BTreeMap<u32, Count>,
    /// Mappings that gave way; their sockets are to be closed.
    given_way: Vec<u32>,
    /// Timeouts of the classes: unanswered, answered, short, echo.
    pub timeouts: [Duration; CLASSES as usize],
}

const SHORT: u32 = 2;
const ECHO: u32 = 3;
/// Sessions of a class that are looked at for one that nobody answered.
const LOOKS: u32 = 16;

fn class_of(ends: &Ends, answered: bool) -> u32 {
    match ends.kind {
        Kind::Echo => ECHO,
        Kind::Udp if SHORT_PORTS.contains(&ends.remote.port()) => SHORT,
        Kind::Udp => u32::from(answered),
    }
}

impl Datagrams {
    /// None yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: AgedMap::new(SESSIONS, CLASSES, seed),
            mappings: Slab::new(),
            by_inside: HashMap::with_hasher(FixedState::with_seed(seed)),
            ended: BTreeMap::new(),
            given_way: Vec::new(),
            timeouts: [UNANSWERED, ANSWERED, crate::timeouts::UDP_SHORT, crate::timeouts::ICMP],
        }
    }

    /// Sessions there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.sessions.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// A mapping.
    #[must_use]
    pub fn mapping(&self, slot: u32) -> Option<&Mapping> {
        self.mappings.get(slot as usize)
    }

    /// A session.
    pub fn session_mut(&mut self, ends: &Ends) -> Option<&mut DatagramSession> {
        self.sessions.get_mut(ends).map(|(session, _)| session)
    }

    /// A datagram of a container's in a session that there is: its socket, and where it goes.
    #[inline]
    pub fn known(&mut self, ends: &Ends, owner: Owner, octets: usize, now: Time) -> Option<(Via, SocketAddr)> {
        let (session, seen) = self.sessions.get_mut(ends).filter(|(session, _)| session.owner == owner)?;
        *seen = now;
        session.counts[0].packets += 1;
        session.counts[0].bytes += octets as u64;
        Some((session.via, session.dialed))
    }

    /// The first datagram of a session of a container's to `dialed`, `octets` of layer 3.
    pub fn outbound(
        &mut self,
        stations: &mut Stations,
        ends: Ends,
        (owner, link): (Owner, Link),
        dialed: SocketAddr,
        octets: usize,
        now: Time,
    ) -> Outbound {
        if !stations.may_have_session(owner.port) {
            return Outbound::Quota;
        }
        if self.sessions.len() == self.sessions.capacity() {
            self.give_way(stations, now);
        }
        let (slot, is_new) = match self.by_inside.get(&(ends.kind, ends.inside)) {
            Some(slot) => (*slot, false),
            None if self.mappings.len() >= MAPPINGS => return Outbound::Full,
            None if !stations.may_have_port(owner.port) => return Outbound::Quota,
            None => {
                let slot = self.mappings.insert(Mapping { owner, kind: ends.kind, inside: ends.inside, sessions: 0 }) as u32;
                self.by_inside.insert((ends.kind, ends.inside), slot);
                stations.count_port(owner, 1);
                (slot, true)
            }
        };
        let first = Count { packets: 1, bytes: octets as u64 };
        let counts = [first, Count::default()];
        let session = DatagramSession { owner, link, via: Via::Mapping(slot), dialed, rule: 0, created: secs(now), counts };
        if !self.enter(stations, ends, session, now) {
            if is_new {
                self.remove_mapping(stations, slot);
            }
            return Outbound::Full;
        }
        if is_new { Outbound::Open(slot, dialed) } else { Outbound::Send(Via::Mapping(slot), dialed) }
    }

    fn enter(&mut self, stations: &mut Stations, ends: Ends, session: DatagramSession, now: Time) -> bool {
        if self.sessions.insert(ends, session, class_of(&ends, false), now).is_err() {
            return false;
        }
        stations.count_session(session.owner, 1);
        if let Via::Mapping(slot) = session.via
            && let Some(mapping) = self.mappings.get_mut(slot as usize)
        {
            mapping.sessions += 1;
        }
        true
    }

    /// Begins a session through a published port's socket. `false` when there are as many as may be, or one with these ends.
    pub fn publish(&mut self, stations: &mut Stations, ends: Ends, session: DatagramSession, now: Time) -> bool {
        if self.contains(&ends) || !stations.may_have_session(session.owner.port) {
            return false;
        }
        if self.sessions.len() == self.sessions.capacity() {
            self.give_way(stations, now);
        }
        self.enter(stations, ends, session, now)
    }

    /// A mapping that another process had, without sessions yet; `None` when there is no room.
    pub(super) fn adopt_mapping(&mut self, stations: &mut Stations, owner: Owner, kind: Kind, inside: SocketAddr) -> Option<u32> {
        if self.mappings.len() >= MAPPINGS || self.by_inside.contains_key(&(kind, inside)) {
            return None;
        }
        let slot = self.mappings.insert(Mapping { owner, kind, inside, sessions: 0 }) as u32;
        self.by_inside.insert((kind, inside), slot);
        stations.count_port(owner, 1);
        Some(slot)
    }

    /// A session that another process had.
    pub fn adopt(&mut self, stations: &mut Stations, ends: Ends, session: DatagramSession, seen: Time) {
        let answered = session.counts.iter().all(|count| count.packets > 0);
        if self.enter(stations, ends, session, seen) && answered {
            self.sessions.set_class(&ends, class_of(&ends, true), seen);
        }
    }

    /// Mappings with their slots.
    pub fn mappings(&self) -> impl ExactSizeIterator<Item = (u32, &Mapping)> {
        self.mappings.iter().map(|(slot, mapping)| (slot as u32, mapping))
    }

    /// Whether an endpoint has a mapping.
    #[must_use]
    pub fn has_mapping(&self, ends: &Ends) -> bool {
        self.by_inside.contains_key(&(ends.kind, ends.inside))
    }

    /// Ends the session that gives way first, if any does: one that nobody answered, then an answered one that is idle for [`IDLE`].
    pub fn give_way(&mut self, stations: &mut Stations, now: Time) -> bool {
        let Some(ends) = self.first_to_go(now) else { return false };
        let mut closed = Vec::new();
        if let Some(session) = self.sessions.remove(&ends) {
            self.ended(stations, &session, &mut closed);
        }
        self.given_way.append(&mut closed);
        true
    }

    fn first_to_go(&mut self, now: Time) -> Option<Ends> {
        if let Some((ends, _)) = self.sessions.oldest(0, now) {
            return Some(ends);
        }
        // Classes of their own for other reasons, in which there are both.
        for class in [SHORT, ECHO] {
            let position = self.sessions.seek(class, LOOKS, |_, session| session.counts[1].packets == 0);
            if let Some((ends, ..)) = position.and_then(|position| self.sessions.at(position)) {
                return Some(*ends);
            }
        }
        [SHORT, ECHO, 1].into_iter().find_map(|class| {
            let (ends, seen) = self.sessions.oldest(class, now)?;
            (now.since(seen) >= IDLE).then_some(ends)
        })
    }

    /// Mappings that gave way since the last call; their sockets are to be closed before another is made.
    pub fn take_given_way(&mut self) -> Vec<u32> {
        core::mem::take(&mut self.given_way)
    }

    /// Whether there is such a session.
    #[must_use]
    pub fn contains(&self, ends: &Ends) -> bool {
        self.sessions.get(ends).is_some()
    }

    /// A datagram for a container, `octets` of its payload: its session, if it is not refused.
    pub fn inbound(&mut self, ends: &Ends, octets: usize, now: Time) -> Option<DatagramSession> {
        let position = self.sessions.position(ends)?;
        let (_, session, seen) = self.sessions.at_mut(position)?;
        *seen = now;
        session.counts[1].packets += 1;
        session.counts[1].bytes += (octets + ends.headers()) as u64;
        let session = *session;
        let class = class_of(ends, true);
        if self.sessions.class_at(position) != Some(class) {
            self.sessions.set_class_at(position, class, now);
        }
        Some(session)
    }

    fn remove_mapping(&mut self, stations: &mut Stations, slot: u32) {
        if let Some(mapping) = self.mappings.try_remove(slot as usize) {
            self.by_inside.remove(&(mapping.kind, mapping.inside));
            stations.count_port(mapping.owner, -1);
        }
    }

    /// One session is gone; pushes its mapping's slot where that was the last.
    fn ended(&mut self, stations: &mut Stations, session: &DatagramSession, closed: &mut Vec<u32>) {
        stations.count_session(session.owner, -1);
        add_through(&mut self.ended, session.rule, session.counts);
        if let Via::Mapping(slot) = session.via
            && let Some(mapping) = self.mappings.get_mut(slot as usize)
        {
            mapping.sessions = mapping.sessions.saturating_sub(1);
            if mapping.sessions == 0 {
                self.remove_mapping(stations, slot);
                closed.push(slot);
            }
        }
    }

    /// Ends a mapping with all its sessions: its socket could not be made, or is broken.
    pub fn close(&mut self, stations: &mut Stations, slot: u32) {
        self.end(stations, |_, session| session.via == Via::Mapping(slot));
        self.remove_mapping(stations, slot);
    }

    /// Ends all sessions that `is` names; gives the mappings whose sockets are to be closed.
    pub fn end(&mut self, stations: &mut Stations, is: impl Fn(&Stations, &DatagramSession) -> bool) -> Vec<u32> {
        let (mut gone, mut closed) = (Vec::new(), Vec::new());
        self.sessions.page(0, SESSIONS, |ends, session, _| {
            if is(stations, session) {
                gone.push(*ends);
            }
        });
        for ends in gone {
            if let Some(session) = self.sessions.remove(&ends) {
                self.ended(stations, &session, &mut closed);
            }
        }
        closed
    }

    /// Ends what is idle for too long, `budget` looks of each class; gives the mappings whose sockets are to be closed.
    pub fn expire(&mut self, stations: &mut Stations, now: Time, budget: u32) -> Vec<u32> {
        let (mut gone, mut closed) = (Vec::new(), Vec::new());
        for (class, timeout) in (0..).zip(self.timeouts) {
            self.sessions.expire(class, timeout, now, budget, |_, _, session| gone.push(session));
        }
        for session in gone {
            self.ended(stations, &session, &mut closed);
        }
        closed
    }

    /// A page of sessions and the next cursor, for views.
    pub fn page(&self, cursor: u32, looks: u32, each: impl FnMut(&Ends, &DatagramSession, Time)) -> Option<u32> {
        self.sessions.page(cursor, looks, each)
    }

    /// The timeout of a session.
    #[must_use]
    pub fn timeout(&self, ends: &Ends, answered: bool) -> Duration {
        self.timeouts.get(class_of(ends, answered) as usize).copied().unwrap_or(UNANSWERED)
    }
}

/// Adds what went through a published port's rule, if it is one's.
pub(super) fn add_through(through: &mut BTreeMap<u32, Count>, rule: u32, counts: [Count; 2]) {
    if rule != 0 {
        let sum = through.entry(rule).or_default();
        for count in counts {
            sum.packets += count.packets;
            sum.bytes += count.bytes;
        }
    }
}

const fn secs(now: Time) -> u32 {
    (now.nanos() / 1_000_000_000) as u32
}
