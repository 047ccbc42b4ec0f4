//! Routing: between the stations inside and the uplink, through the NAT.
//!
//! Theory. One way out, one way in, and what they share:
//! ```text
//! from a station: parse -> source its own? -> hops, MTU -> fragment? -> outbound -> ours again? -- inbound -> deliver (hairpin)
//!                                                                               \-> next hop -> uplink
//! from the uplink: ARP, ND, DHCP -> parse -> to us? -> fragment? -> inbound -> hops, MTU -> deliver
//! ```
//! A packet that is refused is dropped and counted, and where the RFCs let us, its sender is told in the very buffer ([`Routed::Refuse`]):
//! so no packet makes two. Whatever is judged after a rewrite is told about the packet as it came: the rewrite is taken back first.
//!
//! Whatever is not one frame in, one frame out (held for a neighbour, held for its first fragment, cut, asked for) waits in bounded queues
//! and comes out of [`Gateway::poll_output`].
//!
//! Inside to inside is not routed: stations of one subnet talk through the switch, which knows who is isolated from whom.
use super::sockets::AnyPacket;
use super::{Gateway, GatewayConfig, Routed, Side, turn};
use crate::checksum;
use crate::flow::{Address, Tuple};
use crate::fragment::{Datagram, Fate, Fragmenter, Fragments, Known};
use crate::icmp_error::{IcmpError, Limiter, deserves_error, write_error};
use crate::nat::{Family, Nat, NatConfig};
use crate::packet::Packet;
use crate::ports::Random;
use crate::slirp::reach::is_link_local_v4;
use crate::wan::dhcp::is_for_dhcp;
use crate::wan::{Linked, Received, Resolved, Wan, WanConfig, WanOutput};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use vswitch_switch::{Csum, DropReason, EtherType, FrameBuf, FramePool, Head, PortId, Time};

mod control;
mod dhcp;
mod output;

use dhcp::Dhcp;
pub use dhcp::DhcpNews;

/// Packets that wait to be cut at the most.
const CUTTING: usize = 64;
/// Datagrams whose held fragments wait to go on at the most.
const RELEASING: usize = 256;
/// Octets of the TCP and IP headers that a maximum segment size leaves out (RFC 9293 3.7.1, RFC 6691 2).
const HEADERS_V4: u16 = 40;
const HEADERS_V6: u16 = 60;

/// What there is with an uplink and not without one.
#[derive(Debug)]
pub struct Uplink {
    /// The NAT.
    pub nat: Nat,
    /// Our end of the uplink's link.
    pub wan: Wan,
    v4: Fragments<Ipv4Addr>,
    v6: Fragments<Ipv6Addr>,
    releasing: VecDeque<Releasing>,
    cutting: VecDeque<(Side, Fragmenter)>,
    limiter: Limiter,
    /// Asks for our IPv4 address there, if that is to be had by DHCP.
    dhcp: Option<Box<Dhcp>>,
    /// The next identification of an IPv4 packet that may be cut.
    id: u16,
}

/// A datagram whose held fragments may go on.
#[derive(Debug)]
pub(super) enum Releasing {
    V4(Datagram<Ipv4Addr>),
    V6(Datagram<Ipv6Addr>),
}

/// A family in which the gateway routes.
pub(super) trait Routable: Family + Linked {
    /// What a maximum segment size leaves out.
    const HEADERS: u16;
    /// Its fragments.
    fn fragments(uplink: &mut Uplink) -> &mut Fragments<Self>;
    /// Keeps in mind that a datagram's held fragments may go on.
    fn release(datagram: Datagram<Self>) -> Releasing;
    /// Whether an address is of the subnet inside.
    fn is_inside(config: &GatewayConfig, address: Self) -> bool;
    /// The gateway's own address.
    fn own(config: &GatewayConfig) -> Option<Self>;
    /// A packet, of whichever family.
    fn any(packet: Packet<Self>) -> AnyPacket;
}

impl Routable for Ipv4Addr {
    const HEADERS: u16 = HEADERS_V4;

    fn fragments(uplink: &mut Uplink) -> &mut Fragments<Self> {
        &mut uplink.v4
    }

    fn release(datagram: Datagram<Self>) -> Releasing {
        Releasing::V4(datagram)
    }

    #[inline]
    fn is_inside(config: &GatewayConfig, address: Self) -> bool {
        config.is_inside(address)
    }

    fn own(config: &GatewayConfig) -> Option<Self> {
        Some(config.address)
    }

    fn any(packet: Packet<Self>) -> AnyPacket {
        AnyPacket::V4(packet)
    }
}

impl Routable for Ipv6Addr {
    const HEADERS: u16 = HEADERS_V6;

    fn fragments(uplink: &mut Uplink) -> &mut Fragments<Self> {
        &mut uplink.v6
    }

    fn release(datagram: Datagram<Self>) -> Releasing {
        Releasing::V6(datagram)
    }

    #[inline]
    fn is_inside(config: &GatewayConfig, address: Self) -> bool {
        config.v6.is_some_and(|v6| v6.address.has_prefix(address, v6.prefix))
    }

    fn own(config: &GatewayConfig) -> Option<Self> {
        config.v6.map(|v6| v6.address)
    }

    fn any(packet: Packet<Self>) -> AnyPacket {
        AnyPacket::V6(packet)
    }
}

impl Uplink {
    fn new(nat: NatConfig, wan: WanConfig, key: [u64; 2], now: Time) -> Self {
        let id = Random::new([key[1], key[0]]).bits() as u16;
        Self {
            nat: Nat::new(nat, key),
            wan: Wan::new(wan, key[0]),
            v4: Fragments::new(key[0]),
            v6: Fragments::new(key[1]),
            releasing: VecDeque::new(),
            cutting: VecDeque::with_capacity(CUTTING),
            limiter: Limiter::new(now),
            dhcp: None,
            id,
        }
    }

    /// Sends a packet to its next hop.
    fn leave<A: Routable>(&mut self, p: Packet<A>, now: Time) -> Routed {
        let Some(hop) = self.wan.next_hop(p.tuple().dst) else { return Routed::Drop(p.into_frame(), DropReason::NoRoute) };
        match self.wan.resolve(hop, p.into_frame(), now) {
            Resolved::Send(frame) => {
                let mtu = usize::from(self.wan.config().mtu);
                self.depart(Side::Uplink, frame, mtu)
            }
            Resolved::Held => Routed::Held,
            Resolved::Drop(frame, reason) => Routed::Drop(frame, reason),
        }
    }

    /// A frame is complete: it goes, or is cut first.
    fn depart(&mut self, side: Side, frame: FrameBuf, mtu: usize) -> Routed {
        if frame.mtu_len() <= mtu {
            return Routed::Forward(side, frame);
        }
        if self.cutting.len() >= CUTTING {
            return Routed::Drop(frame, DropReason::EgressFull);
        }
        match Fragmenter::new(frame, vswitch_switch::head::ETHERNET_HEADER, mtu) {
            Ok(fragmenter) => {
                self.cutting.push_back((side, fragmenter));
                Routed::Held
            }
            Err((frame, reason)) => Routed::Drop(frame, reason),
        }
    }

    /// N56, RFC 6864 5.3.1: packets of several stations that may be cut leave under one address, so their identifications must not meet.
    fn renumber<A: Routable>(&mut self, p: &mut Packet<A>) {
        if p.may_fragment() {
            p.set_id(u32::from(self.id));
            // Each segment of a GSO frame takes one.
            let segments = p.frame().meta.gso.map_or(1, |gso| p.len() / usize::from(gso.size.get()) + 1);
            self.id = self.id.wrapping_add(segments as u16);
        }
    }

    fn held(&self) -> usize {
        self.v4.held() + self.v6.held() + self.wan.held() + self.cutting.len()
    }
}

/// Tells a packet's sender why it goes no further, where that may be, in its own buffer.
pub(super) fn refuse<A: Routable>(
    p: Packet<A>,
    (error, reason): (IcmpError, DropReason),
    source: Option<A>,
    limiter: &mut Limiter,
    (side, mac): (Side, vswitch_switch::UnicastMac),
    now: Time,
) -> Routed {
    let head = Head::parse(p.frame().bytes(), None);
    let (Some(source), Ok(head)) = (source, head) else { return Routed::Drop(p.into_frame(), reason) };
    if !deserves_error(&p) || !limiter.take(now) {
        return Routed::Drop(p.into_frame(), reason);
    }
    let mut frame = write_error(p, error, source);
    turn(&mut frame, &head, mac);
    Routed::Refuse(side, frame, reason)
}

/// What the sender of a packet from inside is told of a drop, if anything.
fn told(reason: DropReason) -> Option<IcmpError> {
    // N47: RFC 5508 REQ-8.
    if [DropReason::NatFull, DropReason::NatPorts, DropReason::NatQuota, DropReason::Reach].contains(&reason) {
        Some(IcmpError::Prohibited)
    } else {
        (reason == DropReason::NoRoute).then_some(IcmpError::NoRoute)
    }
}

/// The maximum segment size for two links.
fn mss<A: Routable>(a: u16, b: u16) -> u16 {
    a.min(b).saturating_sub(A::HEADERS)
}

impl Gateway {
    /// Whether a packet to us is to be routed, instead of answered.
    pub(super) fn routes<A: Routable>(&self, frame: &FrameBuf, head: &Head, ingress: u16) -> bool {
        if head.dst != self.config.mac.mac() {
            return false;
        }
        let packet = frame.bytes().get(usize::from(head.l3)..).unwrap_or_default();
        let Some(dst) = packet.get(A::SOURCE + A::LEN..).and_then(A::read) else { return false };
        if Some(dst) != A::own(&self.config) {
            let may_go = dst.is_routable() || (is_link_local_v4(dst) && self.admits_link_local(ingress));
            return may_go && !(A::is_inside(&self.config, dst) && self.is_broadcast(dst.into()));
        }
        // Ports are published at the gateway's address too.
        let number = packet.get(if A::IS_V6 { 6 } else { 9 }).copied();
        let has_ports = matches!(number, Some(crate::flow::protocol::TCP | crate::flow::protocol::UDP));
        has_ports
            && (Self::is_question::<A>(packet)
                || self.exchange.is_some()
                || self.uplink.as_deref().is_some_and(|uplink| !uplink.nat.table::<A>().forwards.is_empty()))
    }

    /// Whether a container may go to link-local addresses: through sockets of the host only, which are on that link.
    fn admits_link_local(&self, ingress: u16) -> bool {
        self.exchange.is_some() && self.stations.reach(ingress).is_some_and(|reach| reach.link_local)
    }

    fn is_broadcast(&self, address: core::net::IpAddr) -> bool {
        matches!(address, core::net::IpAddr::V4(address) if self.config.is_subnet_broadcast(address))
    }

    /// A packet from a station to the world.
    pub(super) fn outward<A: Routable>(&mut self, frame: FrameBuf, head: &Head, ingress: u16, now: Time) -> Routed {
        let mut p = match Packet::<A>::parse_to(frame, usize::from(head.l3), self.admits_link_local(ingress)) {
            Ok(p) => p,
            Err((frame, reason)) => return Routed::Drop(frame, reason),
        };
        let Self { config, stations, limiters, .. } = self;
        let before = *p.tuple();
        if !A::is_inside(config, before.src) || !stations.may_send(ingress, head.src, before.src, now) {
            return Routed::Drop(p.into_frame(), DropReason::SourceSpoof);
        }
        if limiters.len() <= usize::from(ingress) {
            limiters.resize(usize::from(ingress) + 1, Limiter::new(now));
        }
        if self.exchange.is_some() {
            return self.give_to_sockets(p, head.src, ingress, now);
        }
        if self.asks(&p) {
            return self.take_question(p, head.src, ingress, now);
        }
        let Self { config, stations, uplink, limiters, .. } = self;
        let Some(limiter) = limiters.get_mut(usize::from(ingress)) else {
            return Routed::Drop(p.into_frame(), DropReason::NatState);
        };
        let (own, back) = (A::own(config), (Side::Inside, config.mac));
        let Some(uplink) = uplink.as_deref_mut() else {
            // Better than letting it wait: there is nothing to wait for.
            return refuse(p, (IcmpError::NoRoute, DropReason::GatewayUnserved), own, limiter, back, now);
        };
        let is_ours = uplink.nat.table::<A>().is_ours(before.dst);
        if !is_ours && A::is_inside(config, before.dst) {
            return Routed::Drop(p.into_frame(), DropReason::GatewayUnserved);
        }
        let mtu = uplink.wan.config().mtu;
        if p.hops() <= 1 {
            return refuse(p, (IcmpError::HopLimit, DropReason::HopLimit), own, limiter, back, now);
        }
        if !is_ours && uplink.wan.next_hop(before.dst).is_none() {
            return refuse(p, (IcmpError::NoRoute, DropReason::NoRoute), own, limiter, back, now);
        }
        if !is_ours && p.mtu_len() > usize::from(mtu) && !p.may_fragment() {
            return refuse(p, (IcmpError::TooBig { mtu }, DropReason::TooBig), own, limiter, back, now);
        }
        let named = Datagram::of(&p, ingress);
        if let Some((datagram, fragment)) = named {
            match A::fragments(uplink).admit(datagram, fragment, now) {
                Fate::First => {}
                Fate::Later(known) => {
                    known.apply(&mut p);
                    p.take_hop();
                    return self.onward(p, before, Side::Inside, now);
                }
                Fate::Hold => return hold(A::fragments(uplink), p, datagram, now),
                Fate::Drop(reason) => return Routed::Drop(p.into_frame(), reason),
            }
        }
        let mut result = uplink.nat.outbound(stations, &mut p, ingress, now);
        let may_tell = result.is_err();
        if result.is_ok() {
            uplink.renumber(&mut p);
            if uplink.nat.table::<A>().is_ours(p.tuple().dst) {
                result = uplink.nat.inbound(stations, &mut p, now);
            }
        }
        match result {
            Ok(()) => {
                p.take_hop();
                if let Some((datagram, _)) = named {
                    uplink.learn(&p, datagram, now);
                }
                self.onward(p, before, Side::Inside, now)
            }
            Err(reason) => {
                if let Some((datagram, _)) = named {
                    A::fragments(uplink).refuse(&datagram, now);
                }
                match told(reason).filter(|_| may_tell) {
                    Some(error) => refuse(p, (error, reason), own, limiter, back, now),
                    None => Routed::Drop(p.into_frame(), reason),
                }
            }
        }
    }

    /// Takes a frame that came in through the uplink.
    #[must_use]
    pub fn from_uplink(&mut self, mut frame: FrameBuf, now: Time) -> Routed {
        let Some(uplink) = self.uplink.as_deref_mut() else { return Routed::Drop(frame, DropReason::GatewayUnserved) };
        let head = match Head::parse(frame.bytes(), frame.meta.tag) {
            Ok(head) if head.tag.is_none() => head,
            // Another network's, on the same wire.
            Ok(_) => return Routed::Consumed(frame),
            Err(reason) => return Routed::Drop(frame, reason),
        };
        if let Some(dhcp) = &mut uplink.dhcp
            && is_for_dhcp(frame.bytes())
        {
            // From a server on this host it is still to be made.
            if let Csum::Partial { start, offset } = frame.meta.csum {
                let _ = checksum::finish(frame.bytes_mut(), usize::from(start), usize::from(offset));
            }
            dhcp.client.receive(frame.bytes(), now);
            dhcp.due = Time::ZERO;
            return Routed::Consumed(frame);
        }
        let frame = match uplink.wan.receive(frame, &head, now) {
            Received::Ip(frame) => frame,
            Received::Reply(frame) => return Routed::Reply(Side::Uplink, frame),
            Received::Consumed(frame) => return Routed::Consumed(frame),
            Received::Drop(frame, reason) => return Routed::Drop(frame, reason),
        };
        match head.ethertype {
            EtherType::IPV4 => self.inward::<Ipv4Addr>(frame, &head, now),
            EtherType::IPV6 => self.inward::<Ipv6Addr>(frame, &head, now),
            _ => Routed::Consumed(frame),
        }
    }

    /// A packet from the world. Nobody is told of what is refused before it was translated: default deny.
    fn inward<A: Routable>(&mut self, frame: FrameBuf, head: &Head, now: Time) -> Routed {
        if head.dst.is_group() {
            return Routed::Consumed(frame);
        }
        let mut p = match Packet::<A>::parse(frame, usize::from(head.l3)) {
            Ok(p) => p,
            Err((frame, reason)) => return Routed::Drop(frame, reason),
        };
        let Self { config, stations, uplink, .. } = self;
        let Some(uplink) = uplink.as_deref_mut() else { return Routed::Drop(p.into_frame(), DropReason::GatewayUnserved) };
        let before = *p.tuple();
        let table = uplink.nat.table::<A>();
        // N63: neither an inside nor our own address comes from outside, and only external addresses are reached from there.
        if A::is_inside(config, before.src) || table.is_ours(before.src) {
            return Routed::Drop(p.into_frame(), DropReason::Martian);
        }
        if !table.externals().contains(&before.dst) {
            return Routed::Drop(p.into_frame(), DropReason::Unsolicited);
        }
        let named = Datagram::of(&p, PortId::UPLINK.get());
        if let Some((datagram, fragment)) = named {
            match A::fragments(uplink).admit(datagram, fragment, now) {
                Fate::First => {}
                Fate::Later(known) => {
                    known.apply(&mut p);
                    return self.onward(p, before, Side::Uplink, now);
                }
                Fate::Hold => return hold(A::fragments(uplink), p, datagram, now),
                Fate::Drop(reason) => return Routed::Drop(p.into_frame(), reason),
            }
        }
        match uplink.nat.inbound(stations, &mut p, now) {
            Ok(()) => {
                if let Some((datagram, _)) = named {
                    uplink.learn(&p, datagram, now);
                }
                self.onward(p, before, Side::Uplink, now)
            }
            Err(reason) => {
                if let Some((datagram, _)) = named {
                    A::fragments(uplink).refuse(&datagram, now);
                }
                Routed::Drop(p.into_frame(), reason)
            }
        }
    }

    /// A translated packet, to wherever it goes now. `before` is what it was, for its sender `from` may have to be told.
    fn onward<A: Routable>(&mut self, mut p: Packet<A>, before: Tuple<A>, from: Side, now: Time) -> Routed {
        let Self { config, stations, uplink, limiters, .. } = self;
        let Some(uplink) = uplink.as_deref_mut() else { return Routed::Drop(p.into_frame(), DropReason::GatewayUnserved) };
        let mtu = uplink.wan.config().mtu;
        if !A::is_inside(config, p.tuple().dst) {
            if from == Side::Uplink {
                return Routed::Drop(p.into_frame(), DropReason::Martian);
            }
            let station = stations.way(before.src).map_or(u16::MAX, |way| way.mtu);
            p.clamp_mss(mss::<A>(mtu, station));
            return uplink.leave(p, now);
        }
        let Some(way) = stations.way(p.tuple().dst) else { return Routed::Drop(p.into_frame(), DropReason::NoNeighbour) };
        let error = if from == Side::Uplink && p.hops() <= 1 {
            Some((IcmpError::HopLimit, DropReason::HopLimit))
        } else if p.mtu_len() > usize::from(way.mtu) && !p.may_fragment() {
            Some((IcmpError::TooBig { mtu: way.mtu }, DropReason::TooBig))
        } else {
            None
        };
        if let Some(error) = error {
            // He is told about the packet that he sent.
            p.rewrite_src(before.src, before.sport);
            p.rewrite_dst(before.dst, before.dport);
            return match from {
                Side::Uplink => {
                    let mac = uplink.wan.config().mac;
                    refuse(p, error, Some(before.dst), &mut uplink.limiter, (Side::Uplink, mac), now)
                }
                Side::Inside => {
                    let owner = stations.way(before.src).map_or(0, |way| way.owner);
                    let own = A::own(config);
                    match limiters.get_mut(usize::from(owner)) {
                        Some(limiter) => refuse(p, error, own, limiter, (Side::Inside, config.mac), now),
                        None => Routed::Drop(p.into_frame(), error.1),
                    }
                }
            };
        }
        if from == Side::Uplink {
            p.take_hop();
            p.clamp_mss(mss::<A>(mtu, way.mtu));
        }
        p.address(way.mac, config.mac);
        uplink.depart(Side::Inside, p.into_frame(), usize::from(way.mtu))
    }
}

impl Uplink {
    fn learn<A: Routable>(&mut self, p: &Packet<A>, datagram: Datagram<A>, now: Time) {
        if let Some(known) = Known::of(p) {
            A::fragments(self).learn(&datagram, known, now);
            if A::fragments(self).held() > 0 && self.releasing.len() < RELEASING {
                self.releasing.push_back(A::release(datagram));
            }
        }
    }
}

fn hold<A: Routable>(fragments: &mut Fragments<A>, p: Packet<A>, datagram: Datagram<A>, now: Time) -> Routed {
    match fragments.hold(p, datagram, now) {
        None => Routed::Held,
        Some(displaced) => Routed::Drop(displaced.into_frame(), DropReason::Fragment),
    }
}
