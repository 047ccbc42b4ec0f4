//! The exchange: all flows that end in sockets, and who may have one.
//!
//! Theory. The io crate has a packet of a container's and asks here what it is: one of a flow, the first of one (and where its socket is to
//! go), or to be refused, and what its sender is told. It has a connection that the host accepted, and asks whose it is. Nothing here knows
//! an fd.
//!
//! The gateway's own address stands for services of the host: a published port for itself, and its loopback where the container may
//! ([`super::reach::Reach::host_loopback`]). Whatever else is asked of it is refused as by a host without that service; its port 53 is
//! [`crate::dns`]'s, and does not come here unless it is published.
//!
//! Who has a socket when there are not enough: [`super::pressure`].
mod published;

use super::datagrams::{DatagramSession, Datagrams, Ends, Kind, MAPPINGS, Outbound, Via, add_through};
use super::flows::{FLOWS, Flow, Flows};
use super::reach::{Class, Reach};
use super::reassembly::Reassembly;
use super::tcp::{ACK_DELAY, Tcp};
use super::wire::Link;
use crate::flow::{Address, Tuple, protocol};
use crate::forward::{ForwardError, Forwards, Rule, RuleId};
use crate::gateway::GatewayConfig;
use crate::icmp_error::IcmpError;
use crate::packet::{Packet, Segment, Transport, tcp};
use crate::ports::Random;
use crate::session::Count;
use crate::station::{Owner, Stations};
use alloc::collections::BTreeMap;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use vswitch_switch::{DropReason, Time, UnicastMac};

/// Ports drawn for a client whose own is in use with a container's.
const DRAWS: u32 = 64;
/// Clients of published UDP ports that are remembered before those whose sessions are over are cleared away.
const CLIENTS: usize = super::datagrams::SESSIONS as usize;

/// Where a socket is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dial {
    /// There.
    To(SocketAddr),
    /// Nowhere: there is no such service.
    Absent,
    /// Nowhere: the container may not.
    Denied,
}

/// What a TCP packet of a container's is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcpFate {
    /// One of this flow's.
    Flow(u32),
    /// The first: a flow was made, whose socket is to go there.
    Connect(u32, SocketAddr),
    /// It is answered with a RST.
    Reset(DropReason),
    /// Its sender is told.
    Refuse(IcmpError, DropReason),
    /// It ends here.
    Drop(DropReason),
}

/// What a datagram, or an echo request, of a container's is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DatagramFate {
    /// It goes there through that socket.
    Send(Via, SocketAddr),
    /// The same; the socket is to be made.
    Open(u32, SocketAddr),
    /// Its sender is told.
    Refuse(IcmpError, DropReason),
}

/// See the module's theory.
#[derive(Debug)]
pub struct Exchange {
    /// TCP.
    pub flows: Flows,
    /// UDP and echo.
    pub datagrams: Datagrams,
    /// Datagrams that come in fragments.
    pub reassembly: Reassembly,
    /// What is published, IPv4.
    pub v4: Forwards<Ipv4Addr>,
    /// What is published, IPv6.
    pub v6: Forwards<Ipv6Addr>,
    /// Sockets that flows and mappings may have together.
    pub(super) limit: usize,
    /// Clients of published UDP ports, by the socket and the address of ours that each came to: a client who comes to two is answered from
    /// either (N67).
    clients: BTreeMap<(u32, SocketAddr, Option<IpAddr>), Ends>,
    /// What went through published ports in connections that are over, by rule.
    ended: BTreeMap<u32, Count>,
    random: Random,
}

/// The local address of a family's loopback.
const fn loopback(is_v6: bool) -> IpAddr {
    if is_v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) }
}

impl Exchange {
    /// Empty. `key` is 128 bits that nobody outside knows.
    #[must_use]
    pub fn new(key: [u64; 2]) -> Self {
        Self {
            flows: Flows::new(key[0]),
            datagrams: Datagrams::new(key[0]),
            reassembly: Reassembly::default(),
            v4: Forwards::new(key[1]),
            v6: Forwards::new(key[1]),
            limit: FLOWS + MAPPINGS,
            clients: BTreeMap::new(),
            ended: BTreeMap::new(),
            random: Random::new(key),
        }
    }

    /// Where a socket for `to` is to go.
    #[must_use]
    pub fn dial(&self, stations: &Stations, config: &GatewayConfig, ingress: u16, to: SocketAddr, number: u8) -> Dial {
        let default = Reach::default();
        let reach = stations.reach(ingress).unwrap_or(&default);
        let is_own = match to.ip() {
            IpAddr::V4(address) => address == config.address,
            IpAddr::V6(address) => config.v6.is_some_and(|v6| v6.address == address),
        };
        if is_own {
            return self.dial_own(reach, to, number);
        }
        if reach.admits(to.ip(), to.port(), number) { Dial::To(to) } else { Dial::Denied }
    }

    fn dial_own(&self, reach: &Reach, to: SocketAddr, number: u8) -> Dial {
        let port = to.port();
        let published = match to.ip() {
            IpAddr::V4(_) => published(&self.v4, number, port),
            IpAddr::V6(_) => published(&self.v6, number, port),
        };
        if let Some(address) = published {
            Dial::To(SocketAddr::new(address.unwrap_or(loopback(to.is_ipv6())), port))
        } else if reach.host_loopback {
            Dial::To(SocketAddr::new(loopback(to.is_ipv6()), port))
        } else {
            Dial::Absent
        }
    }

    /// An initial sequence number (RFC 9293 3.4.1): not to be guessed.
    fn sequence(&mut self) -> u32 {
        self.random.bits() as u32
    }

    /// A TCP packet of a container's.
    pub fn tcp<A: Address>(
        &mut self,
        stations: &mut Stations,
        config: &GatewayConfig,
        p: &Packet<A>,
        (ingress, mac): (u16, UnicastMac),
        now: Time,
    ) -> TcpFate {
        let Transport::Tcp(segment) = p.transport() else { return TcpFate::Drop(DropReason::GatewayUnserved) };
        let tuple = p.tuple();
        let (inside, remote) = ends(tuple);
        if let Some(slot) = self.flows.find(inside, remote) {
            return TcpFate::Flow(slot);
        }
        if segment.has(tcp::RST) {
            return TcpFate::Drop(DropReason::NatState);
        }
        if !segment.has(tcp::SYN) || segment.has(tcp::ACK) {
            return TcpFate::Reset(DropReason::NatState);
        }
        let to = match self.dial(stations, config, ingress, remote, protocol::TCP) {
            Dial::To(to) => to,
            Dial::Absent => return TcpFate::Reset(DropReason::GatewayUnserved),
            Dial::Denied => return TcpFate::Refuse(IcmpError::Prohibited, DropReason::Reach),
        };
        if let Err(reason) = self.make_room(stations, ingress, true, now) {
            return TcpFate::Refuse(IcmpError::Prohibited, reason);
        }
        let owner = stations.owner(ingress);
        let mss = stations.station(ingress).map_or(1_500, |station| station.mtu).saturating_sub(headers::<A>());
        let mut machine = Tcp::accept(&segment, self.sequence(), mss, now);
        machine.delay_acks(ACK_DELAY);
        let link = Link { dst: mac, src: config.mac };
        match self.flows.insert(Flow::new(owner, link, (inside, remote, to), machine, now)) {
            Some(slot) => {
                stations.count_session(owner, 1);
                TcpFate::Connect(slot, to)
            }
            None => TcpFate::Refuse(IcmpError::Prohibited, DropReason::NatFull),
        }
    }

    /// A datagram, or an echo request, of a container's.
    pub fn datagram<A: Address>(
        &mut self,
        stations: &mut Stations,
        config: &GatewayConfig,
        p: &Packet<A>,
        (ingress, mac): (u16, UnicastMac),
        now: Time,
    ) -> DatagramFate {
        let kind = if p.transport() == Transport::Udp { Kind::Udp } else { Kind::Echo };
        let (inside, remote) = ends(p.tuple());
        let ends = Ends { kind, inside, remote };
        let owner = stations.owner(ingress);
        if let Some((via, to)) = self.datagrams.known(&ends, owner, p.len(), now) {
            return DatagramFate::Send(via, to);
        }
        let to = match self.dial(stations, config, ingress, remote, kind.number(A::IS_V6)) {
            Dial::To(to) => to,
            Dial::Absent => return DatagramFate::Refuse(IcmpError::Port, DropReason::GatewayUnserved),
            Dial::Denied => return DatagramFate::Refuse(IcmpError::Prohibited, DropReason::Reach),
        };
        if !self.datagrams.has_mapping(&ends)
            && let Err(reason) = self.make_room(stations, ingress, false, now)
        {
            return DatagramFate::Refuse(IcmpError::Prohibited, reason);
        }
        let link = Link { dst: mac, src: config.mac };
        match self.datagrams.outbound(stations, ends, (owner, link), to, p.len(), now) {
            Outbound::Send(via, to) => DatagramFate::Send(via, to),
            Outbound::Open(slot, to) => DatagramFate::Open(slot, to),
            Outbound::Quota => DatagramFate::Refuse(IcmpError::Prohibited, DropReason::NatQuota),
            Outbound::Full => DatagramFate::Refuse(IcmpError::Prohibited, DropReason::NatFull),
        }
    }

    /// Who a peer of a socket is to a container: what is not to be seen inside is the gateway.
    #[must_use]
    pub fn seen_as(config: &GatewayConfig, peer: SocketAddr) -> SocketAddr {
        let own = own_of(config, peer.is_ipv6());
        let is_inside = match peer.ip() {
            IpAddr::V4(address) => config.is_inside(address),
            IpAddr::V6(address) => config.v6.is_some_and(|v6| v6.address.has_prefix(address, v6.prefix)),
        };
        let shows = !is_inside && matches!(Class::of(peer.ip()), Class::Global | Class::LinkLocal);
        SocketAddr::new(own.filter(|_| !shows).unwrap_or(peer.ip()), peer.port())
    }

    /// A datagram that a mapping's socket got: its session, if it is not refused. `octets` are its payload's.
    pub fn arrived(
        &mut self,
        config: &GatewayConfig,
        slot: u32,
        peer: SocketAddr,
        octets: usize,
        now: Time,
    ) -> Option<(Ends, DatagramSession)> {
        let ends = self.ends_with(config, slot, peer)?;
        let session = self.datagrams.inbound(&ends, octets, now)?;
        Some((ends, session))
    }

    /// Which session of a mapping's a peer has: under its own address, or as the gateway where a container asked that and the gateway's
    /// address stands for the peer.
    #[must_use]
    pub fn ends_with(&mut self, config: &GatewayConfig, slot: u32, peer: SocketAddr) -> Option<Ends> {
        let mapping = *self.datagrams.mapping(slot)?;
        let port = if mapping.kind == Kind::Echo { 0 } else { peer.port() };
        let of = |address| Ends { kind: mapping.kind, inside: mapping.inside, remote: SocketAddr::new(address, port) };
        let seen = of(Self::seen_as(config, peer).ip());
        if self.datagrams.contains(&seen) {
            return Some(seen);
        }
        let own = of(own_of(config, peer.is_ipv6())?);
        (self.datagrams.session_mut(&own)?.dialed == peer).then_some(own)
    }

    /// A session of a published UDP port's client.
    #[must_use]
    pub fn client(&self, slot: u32, client: SocketAddr) -> Option<Ends> {
        let (at, ends) = self.clients.range((slot, client, None)..).next()?;
        ((at.0, at.1) == (slot, client)).then_some(*ends)
    }

    /// A flow that another process had; its slot, or `None` when there is no room: there may be fewer sockets here than there.
    pub fn adopt(&mut self, stations: &mut Stations, flow: Flow) -> Option<u32> {
        if self.free_sockets() == 0 {
            return None;
        }
        let owner = flow.owner;
        let slot = self.flows.insert(flow)?;
        stations.count_session(owner, 1);
        self.flows.is_due(slot);
        Some(slot)
    }

    /// A mapping that another process had, likewise.
    pub fn adopt_mapping(&mut self, stations: &mut Stations, owner: Owner, kind: Kind, inside: SocketAddr) -> Option<u32> {
        if self.free_sockets() == 0 {
            return None;
        }
        self.datagrams.adopt_mapping(stations, owner, kind, inside)
    }

    /// A flow is over; its slot is free.
    pub fn close(&mut self, stations: &mut Stations, slot: u32) -> Option<Flow> {
        let flow = self.flows.remove(slot)?;
        stations.count_session(flow.owner, -1);
        add_through(&mut self.ended, flow.rule, flow.counts);
        Some(flow)
    }
}

/// The gateway's address of a family.
fn own_of(config: &GatewayConfig, is_v6: bool) -> Option<IpAddr> {
    if is_v6 { config.v6.map(|v6| IpAddr::V6(v6.address)) } else { Some(IpAddr::V4(config.address)) }
}

/// Whether a port is published, and on which address.
pub(crate) fn published<A: Address>(forwards: &Forwards<A>, number: u8, port: u16) -> Option<Option<IpAddr>> {
    let is_of = |first: u16, last: u16| (first..=last).contains(&port);
    let mut rules = forwards.iter().map(|(rule, _)| rule).filter(|rule| rule.protocol == number && is_of(rule.first, rule.last));
    rules.next().map(|rule| rule.address.map(Into::into))
}

/// Octets that a maximum segment size leaves out.
pub(crate) const fn headers<A: Address>() -> u16 {
    A::HEADER as u16 + 20
}

/// The two ends of a packet from a container.
pub(crate) fn ends<A: Address>(tuple: &Tuple<A>) -> (SocketAddr, SocketAddr) {
    (SocketAddr::new(tuple.src.into(), tuple.sport), SocketAddr::new(tuple.dst.into(), tuple.dport))
}

/// The RST that answers a segment of no connection (RFC 9293 3.10.7.1).
#[must_use]
pub fn reset_of(s: &Segment) -> super::tcp::Emit {
    if s.has(tcp::ACK) {
        return super::tcp::Emit { seq: s.ack, ack: 0, flags: tcp::RST, window: 0, offer: None };
    }
    let len = s.len + u32::from(s.has(tcp::SYN)) + u32::from(s.has(tcp::FIN));
    super::tcp::Emit { seq: 0, ack: s.seq.wrapping_add(len), flags: tcp::RST | tcp::ACK, window: 0, offer: None }
}
