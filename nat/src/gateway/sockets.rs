//! The way to the host's sockets: what is judged before a packet is given to them, and how its sender is told of a refusal.
use super::route::{Routable, refuse};
use super::{Gateway, Routed, Side};
use crate::icmp_error::IcmpError;
use crate::packet::{Fragment, Packet, Transport, address_frame};
use crate::slirp::exchange::{Exchange, ends, reset_of};
use crate::slirp::reassembly::Assembled;
use crate::slirp::wire::{Link, write_tcp};
use crate::station::Stations;
use alloc::boxed::Box;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{DropReason, EtherType, FrameBuf, Head, Time, UnicastMac};

/// A packet for a socket of the host.
#[derive(Debug)]
pub struct SocketPacket {
    /// The packet.
    pub packet: AnyPacket,
    /// The port that it came from.
    pub ingress: u16,
    /// Who sent it.
    pub mac: UnicastMac,
}

/// A packet of either family.
#[derive(Debug)]
pub enum AnyPacket {
    /// IPv4.
    V4(Packet<Ipv4Addr>),
    /// IPv6.
    V6(Packet<Ipv6Addr>),
}

impl AnyPacket {
    /// The frame.
    #[must_use]
    pub fn into_frame(self) -> FrameBuf {
        match self {
            Self::V4(p) => p.into_frame(),
            Self::V6(p) => p.into_frame(),
        }
    }
}

impl Gateway {
    /// A packet from a station, its source judged.
    pub(super) fn give_to_sockets<A: Routable>(&mut self, p: Packet<A>, mac: UnicastMac, ingress: u16, now: Time) -> Routed {
        let Self { config, limiters, .. } = self;
        let own = A::own(config);
        let dst = p.tuple().dst;
        if Some(dst) != own && A::is_inside(config, dst) {
            return Routed::Drop(p.into_frame(), DropReason::GatewayUnserved);
        }
        let Some(limiter) = limiters.get_mut(usize::from(ingress)) else {
            return Routed::Drop(p.into_frame(), DropReason::NatState);
        };
        if p.hops() <= 1 && Some(dst) != own {
            return refuse(p, (IcmpError::HopLimit, DropReason::HopLimit), own, limiter, (Side::Inside, config.mac), now);
        }
        if let Some(fragment) = p.fragment() {
            return self.assemble(p, fragment, mac, ingress, now);
        }
        if self.asks(&p) {
            return self.take_question(p, mac, ingress, now);
        }
        // What was summed already is judged here, for no one behind a socket can.
        if !p.is_intact() {
            return Routed::Drop(p.into_frame(), DropReason::PacketMalformed);
        }
        let Self { config, limiters, .. } = self;
        let Some(limiter) = limiters.get_mut(usize::from(ingress)) else {
            return Routed::Drop(p.into_frame(), DropReason::NatState);
        };
        match p.transport() {
            Transport::Tcp(_) | Transport::Udp | Transport::Echo { request: true } => {
                Routed::Socket(SocketPacket { packet: A::any(p), ingress, mac })
            }
            // What a container has to say of a packet that a socket sent, no socket can tell.
            Transport::Error | Transport::Echo { request: false } => Routed::Drop(p.into_frame(), DropReason::NatState),
            Transport::Absent => Routed::Drop(p.into_frame(), DropReason::Fragment),
            Transport::Other => {
                refuse(p, (IcmpError::Prohibited, DropReason::GatewayUnserved), own, limiter, (Side::Inside, config.mac), now)
            }
        }
    }

    fn assemble<A: Routable>(&mut self, p: Packet<A>, fragment: Fragment, mac: UnicastMac, ingress: u16, now: Time) -> Routed {
        let Some(exchange) = self.exchange.as_deref_mut() else {
            return Routed::Drop(p.into_frame(), DropReason::GatewayUnserved);
        };
        match exchange.reassembly.take(p, fragment, ingress, now) {
            Assembled::Whole(p) => self.give_to_sockets(p, mac, ingress, now),
            Assembled::Held => Routed::Held,
            Assembled::Added(frame) => Routed::Consumed(frame),
            Assembled::Drop(frame, reason) => Routed::Drop(frame, reason),
        }
    }

    /// Buffers that reassembly no longer needs, and datagrams that it gives up.
    pub(super) fn poll_reassembly(&mut self, now: Time) -> Option<Routed> {
        let reassembly = &mut self.exchange.as_deref_mut()?.reassembly;
        if let Some(frame) = reassembly.spare() {
            return Some(Routed::Consumed(frame));
        }
        reassembly.expire(now).map(|frame| Routed::Drop(frame, DropReason::Fragment))
    }

    /// What ends in sockets, if that is the uplink, with the stations and the gateway's own addresses.
    pub fn exchange_mut(&mut self) -> Option<(&mut Exchange, &mut Stations, &super::GatewayConfig)> {
        self.exchange.as_deref_mut().map(|exchange| (exchange, &mut self.stations, &self.config))
    }

    /// The same, to be looked at.
    #[must_use]
    pub fn exchange(&self) -> Option<&Exchange> {
        self.exchange.as_deref()
    }

    /// Makes sockets the uplink, or no longer. Flows are to be closed before.
    pub fn set_exchange(&mut self, on: bool) {
        let key = self.key;
        if on {
            self.exchange.get_or_insert_with(|| Box::new(Exchange::new(key)));
        } else {
            self.exchange = None;
        }
    }

    /// The host's resolvers, in the order in which they are to be asked.
    pub fn set_resolvers(&mut self, resolvers: &[SocketAddr]) {
        self.names.set_resolvers(resolvers);
    }

    /// Tells the sender of a packet that its socket cannot be, in the packet's buffer.
    pub fn refuse_packet(&mut self, packet: SocketPacket, error: (IcmpError, DropReason), now: Time) -> Routed {
        match packet.packet {
            AnyPacket::V4(p) => self.refuse_to(p, packet.ingress, error, now),
            AnyPacket::V6(p) => self.refuse_to(p, packet.ingress, error, now),
        }
    }

    pub(super) fn refuse_to<A: Routable>(
        &mut self,
        p: Packet<A>,
        ingress: u16,
        error: (IcmpError, DropReason),
        now: Time,
    ) -> Routed {
        let Self { config, limiters, .. } = self;
        match limiters.get_mut(usize::from(ingress)) {
            Some(limiter) => refuse(p, error, A::own(config), limiter, (Side::Inside, config.mac), now),
            None => Routed::Drop(p.into_frame(), error.1),
        }
    }

    /// Answers a TCP packet with a RST, in the packet's buffer.
    pub fn reset_packet(&mut self, packet: SocketPacket, reason: DropReason) -> Routed {
        let link = Link { dst: packet.mac, src: self.config.mac };
        match packet.packet {
            AnyPacket::V4(p) => reset_to(p, link, reason),
            AnyPacket::V6(p) => reset_to(p, link, reason),
        }
    }

    /// Makes of a packet that a container sent, written anew into `frame`, what it is told about it: `source` says so, the gateway
    /// where nobody else does.
    ///
    /// # Errors
    /// The frame, where nothing may be told.
    pub fn complain(
        &mut self,
        frame: FrameBuf,
        ingress: u16,
        error: IcmpError,
        source: Option<IpAddr>,
        now: Time,
    ) -> Result<FrameBuf, FrameBuf> {
        match Head::parse(frame.bytes(), None).map(|head| head.ethertype) {
            Ok(EtherType::IPV4) => self.complain_of::<Ipv4Addr>(frame, ingress, error, source, now),
            Ok(EtherType::IPV6) => self.complain_of::<Ipv6Addr>(frame, ingress, error, source, now),
            Ok(_) | Err(_) => Err(frame),
        }
    }

    fn complain_of<A: Routable>(
        &mut self,
        frame: FrameBuf,
        ingress: u16,
        error: IcmpError,
        source: Option<IpAddr>,
        now: Time,
    ) -> Result<FrameBuf, FrameBuf> {
        let Self { config, limiters, .. } = self;
        // It had a flow, and was let in.
        let mut p = Packet::<A>::parse_to(frame, ETHERNET_HEADER, true).map_err(|(frame, _)| frame)?;
        let may = limiters.get_mut(usize::from(ingress)).is_some_and(|limiter| limiter.take(now));
        let to = Head::parse(p.frame().bytes(), None).map(|head| head.src);
        let source = source.and_then(A::of).or(A::own(config)).filter(|_| may);
        let (Some(source), Ok(to)) = (source, to) else { return Err(p.into_frame()) };
        p.finish_checksum();
        let mut frame = crate::icmp_error::write_error(p, error, source);
        address_frame(&mut frame, to.mac(), config.mac);
        Ok(frame)
    }
}

pub(super) fn reset_to<A: Routable>(p: Packet<A>, link: Link, reason: DropReason) -> Routed {
    let Transport::Tcp(segment) = p.transport() else { return Routed::Drop(p.into_frame(), reason) };
    let (inside, remote) = ends(p.tuple());
    let mut frame = p.into_frame();
    if write_tcp(&mut frame, link, remote, inside, &reset_of(&segment), 0, u16::MAX) {
        Routed::Refuse(Side::Inside, frame, reason)
    } else {
        Routed::Drop(frame, reason)
    }
}
