//! The exchange: all flows that end in sockets, and who may have one.
//!
//! Theory. The io crate has a packet of a container's and asks here what it is: one of a flow, the first of one (and where its socket is to
//! go), or to be refused, and what its sender is told. It has a connection that the host accepted, and asks whose it is. Nothing here knows
//! an fd.
//!
//! The gateway's own address stands for services of the host: port 53 for its resolvers, a published port for itself, and its loopback
//! where the container may ([`super::reach::Reach::host_loopback`]). Whatever else is asked of it is refused as by a host without that service.
use super::flows::{Flow, Flows};
use super::reach::Reach;
use super::tcp::Tcp;
use super::wire::Link;
use crate::flow::{Address, Tuple, protocol};
use crate::forward::Forwards;
use crate::gateway::GatewayConfig;
use crate::icmp_error::IcmpError;
use crate::packet::{Packet, Segment, Transport, tcp};
use crate::ports::Random;
use crate::station::Stations;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use vswitch_switch::{DropReason, Time, UnicastMac};

/// The port of the gateway's address behind which the host's resolvers are (RFC 1035 4.2).
pub const DOMAIN: u16 = 53;

/// Where a socket is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dial {
    /// There.
    To(SocketAddr),
    /// To one of the host's resolvers.
    Resolver,
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

/// See the module's theory.
#[derive(Debug)]
pub struct Exchange {
    /// TCP.
    pub flows: Flows,
    /// What is published, IPv4.
    pub v4: Forwards<Ipv4Addr>,
    /// What is published, IPv6.
    pub v6: Forwards<Ipv6Addr>,
    /// The host's resolvers, in their order.
    pub resolvers: Vec<SocketAddr>,
    reach: BTreeMap<u16, Reach>,
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
            v4: Forwards::new(key[1]),
            v6: Forwards::new(key[1]),
            resolvers: Vec::new(),
            reach: BTreeMap::new(),
            random: Random::new(key),
        }
    }

    /// What a port's container may reach.
    pub fn set_reach(&mut self, port: u16, reach: Reach) {
        if reach == Reach::default() {
            self.reach.remove(&port)
        } else {
            self.reach.insert(port, reach)
        };
    }

    /// Where a socket for `to` is to go.
    #[must_use]
    pub fn dial(&self, config: &GatewayConfig, ingress: u16, to: SocketAddr, number: u8) -> Dial {
        let default = Reach::default();
        let reach = self.reach.get(&ingress).unwrap_or(&default);
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
        } else if port == DOMAIN {
            Dial::Resolver
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
        let to = match self.dial(config, ingress, remote, protocol::TCP) {
            Dial::To(to) => to,
            Dial::Resolver => match self.resolvers.iter().find(|resolver| resolver.port() != 0) {
                Some(resolver) => *resolver,
                None => return TcpFate::Reset(DropReason::GatewayUnserved),
            },
            Dial::Absent => return TcpFate::Reset(DropReason::GatewayUnserved),
            Dial::Denied => return TcpFate::Refuse(IcmpError::Prohibited, DropReason::Reach),
        };
        if !stations.may_have_session(ingress) {
            return TcpFate::Refuse(IcmpError::Prohibited, DropReason::NatQuota);
        }
        let owner = stations.owner(ingress);
        let mss = stations.station(ingress).map_or(1_500, |station| station.mtu).saturating_sub(headers::<A>());
        let machine = Tcp::accept(&segment, self.sequence(), mss, now);
        let link = Link { dst: mac, src: config.mac };
        match self.flows.insert(Flow::new(owner, link, (inside, remote, to), machine, now)) {
            Some(slot) => {
                stations.count_session(owner, 1);
                TcpFate::Connect(slot, to)
            }
            None => TcpFate::Refuse(IcmpError::Prohibited, DropReason::NatFull),
        }
    }

    /// A flow is over; its slot is free.
    pub fn close(&mut self, stations: &mut Stations, slot: u32) -> Option<Flow> {
        let flow = self.flows.remove(slot)?;
        stations.count_session(flow.owner, -1);
        Some(flow)
    }
}

/// Whether a port is published, and on which address.
fn published<A: Address>(forwards: &Forwards<A>, number: u8, port: u16) -> Option<Option<IpAddr>> {
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
