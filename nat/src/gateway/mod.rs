//! The gateway: the station behind [`vswitch_switch::PortId::GATEWAY`], one MAC and one IPv4 address.
//!
//! Theory. The switch forwards to the gateway what it forwards to any port: frames to its MAC, and copies of what is
//! broadcast or flooded. [`Gateway::receive`] takes each and ends it in one of the ways of [`Routed`]. An answer is written
//! over its question, in the same buffer, and goes back to the switch as a frame that the gateway's port sent: no allocation,
//! and no more frames out than in. So nobody can use the gateway to amplify.
//!
//! What is a drop and what is not: a copy of a broadcast that concerns somebody else is *consumed*, as a network card does
//! with a frame that is not for it. A frame meant for the gateway that it cannot serve is *dropped* and counted, for somebody
//! waits for an answer.
//!
//! It answers ARP requests for its address ([`arp`]) and ICMP echo requests to it ([`icmp`]); in IPv6 neighbour and router solicitations
//! ([`advert`]), echo requests, and what DHCPv6 is asked ([`dhcp6`]). With an uplink it routes ([`route`]), through
//! the NAT. Without one, every other destination is [`DropReason::GatewayUnserved`].
pub mod advert;
mod ahead;
pub mod arp;
pub mod dhcp;
pub mod dhcp6;
pub mod icmp;
mod icmp6;
mod names;
pub mod route;
pub mod sockets;

use crate::dns::Names;
use crate::icmp_error::Limiter;
use crate::inspect::Watch;
use crate::ndp;
use crate::packet::address_frame;
use crate::slirp::exchange::Exchange;
use crate::station::Stations;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use dhcp::message::is_for_server;
use route::Uplink;
use sockets::SocketPacket;
use vswitch_switch::{DropReason, EtherType, FrameBuf, FrameMeta, Head, Time, UnicastMac};

/// Who the gateway is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GatewayConfig {
    /// Its MAC.
    pub mac: UnicastMac,
    /// Its address in the subnet.
    pub address: Ipv4Addr,
    /// Bits of the subnet's prefix, 0 to 32; more counts as 32.
    pub prefix: u8,
    /// Who it is in IPv6, if it speaks that.
    pub v6: Option<GatewayV6>,
}

/// Who the gateway is in IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GatewayV6 {
    /// Its address in the subnet, a unique local one (RFC 4193) unless another was given.
    pub address: Ipv6Addr,
    /// Bits of the subnet's prefix, 0 to 128.
    pub prefix: u8,
    /// Its link-local address: the router that stations know.
    pub link_local: Ipv6Addr,
}

impl GatewayV6 {
    /// The prefix, without what names a host.
    #[must_use]
    pub const fn network(&self) -> Ipv6Addr {
        let host = match u128::MAX.checked_shr(self.prefix as u32) {
            Some(host) => host,
            None => 0,
        };
        Ipv6Addr::from_bits(self.address.to_bits() & !host)
    }
}

impl GatewayConfig {
    /// The bits of an address that name a host.
    const fn host_mask(&self) -> u32 {
        match u32::MAX.checked_shr(self.prefix as u32) {
            Some(mask) => mask,
            None => 0,
        }
    }

    /// Whether `address` has the subnet's prefix.
    #[must_use]
    pub const fn is_inside(&self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & !self.host_mask() == 0
    }

    /// Whether `address` is the subnet's broadcast address, all ones; there is none with a prefix of 31 (RFC 3021) or 32.
    #[must_use]
    pub const fn is_subnet_broadcast(&self, address: Ipv4Addr) -> bool {
        let host = self.host_mask();
        host > 1 && self.is_inside(address) && address.to_bits() & host == host
    }

    /// Whether `address` may stand for another host of the subnet: RFC 1122 3.2.1.3 allows neither the network's own number,
    /// broadcast, multicast, loopback nor zero as a source; our own is nobody else's.
    #[must_use]
    pub const fn is_neighbour(&self, address: Ipv4Addr) -> bool {
        let host = self.host_mask();
        let is_network = host > 1 && address.to_bits() & host == 0;
        self.is_inside(address)
            && address.to_bits() != self.address.to_bits()
            && !is_network
            && !self.is_subnet_broadcast(address)
            && !is_group(address)
            && !address.is_loopback()
            && !address.is_unspecified()
    }
}

/// Multicast, limited broadcast, and the reserved class E beside it (RFC 1112 4): never one host.
const fn is_group(address: Ipv4Addr) -> bool {
    address.to_bits() >= 0xe000_0000
}

/// Where a frame goes on to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// To the switch, as a frame that the gateway sent: untagged, for the switch tags it.
    Inside,
    /// To the uplink.
    Uplink,
}

/// The fate of a frame at the gateway.
#[derive(Debug)]
pub enum Routed {
    /// The frame ended here, and its buffer holds an answer.
    Reply(Side, FrameBuf),
    /// It was refused and counts as dropped; its buffer holds what its sender is told.
    Refuse(Side, FrameBuf, DropReason),
    /// It goes on, translated.
    Forward(Side, FrameBuf),
    /// Its flow ends in a socket of the host.
    Socket(SocketPacket),
    /// Another frame than any that came: only from [`Gateway::poll_output`].
    Generated(Side, FrameBuf),
    /// It waits here, and comes out of [`Gateway::poll_output`].
    Held,
    /// It was not for us, or needs no answer.
    Consumed(FrameBuf),
    /// It was for us and cannot be served.
    Drop(FrameBuf, DropReason),
}

/// What is to be done with a frame whose octets are already as they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Reply,
    Consume,
    Drop(DropReason),
}

impl Verdict {
    /// The end of what nothing here serves: a drop, but a copy of what went to a group was not for us in particular.
    const fn unserved(head: &Head) -> Self {
        if head.dst.is_group() { Self::Consume } else { Self::Drop(DropReason::GatewayUnserved) }
    }

    const MALFORMED: Self = Self::Drop(DropReason::GatewayMalformed);
}

/// The gateway.
#[derive(Debug)]
pub struct Gateway {
    config: GatewayConfig,
    /// 128 bits that nobody outside knows.
    key: [u64; 2],
    /// Who is inside.
    pub stations: Stations,
    uplink: Option<Box<Uplink>>,
    /// What there is with a socket uplink, in place of the other.
    exchange: Option<Box<Exchange>>,
    /// Gives stations their addresses.
    pub dhcp: dhcp::DhcpServer,
    /// Answers what they ask for by name.
    pub names: Names,
    /// Errors, and answers to what nobody needs often, that a port may still be given, by its number.
    limiters: Vec<Limiter>,
    /// Tells of the router, where it is to.
    advert: Option<advert::Advert>,
    /// Of frames between stations.
    pub(crate) watch: Watch,
}

impl Gateway {
    /// What a port may still be told.
    fn limiter(&mut self, ingress: u16, now: Time) -> Option<&mut Limiter> {
        if self.limiters.len() <= usize::from(ingress) {
            self.limiters.resize(usize::from(ingress) + 1, Limiter::new(now));
        }
        self.limiters.get_mut(usize::from(ingress))
    }

    /// Whether a port may be answered once more.
    fn may_ask(&mut self, ingress: u16, now: Time) -> bool {
        self.limiter(ingress, now).is_some_and(|limiter| limiter.take(now))
    }

    /// A gateway without an uplink. `key` is 128 bits that nobody outside knows.
    #[must_use]
    pub fn new(config: GatewayConfig, key: [u64; 2]) -> Self {
        Self {
            config,
            key,
            stations: Stations::new(key[0]),
            uplink: None,
            exchange: None,
            dhcp: dhcp::DhcpServer::default(),
            names: Names::new(key),
            limiters: Vec::new(),
            advert: None,
            watch: Watch::default(),
        }
    }

    /// Who it is.
    #[must_use]
    pub const fn config(&self) -> &GatewayConfig {
        &self.config
    }

    /// Takes a frame that the switch forwarded to the gateway; `head` was parsed from it, and it came in through the port `ingress`.
    #[must_use]
    pub fn receive(&mut self, mut frame: FrameBuf, head: &Head, ingress: u16, now: Time) -> Routed {
        let is_ours = head.dst == self.config.mac.mac();
        // An unknown destination was flooded: some other station's.
        let verdict = if !is_ours && !head.dst.is_group() {
            Verdict::Consume
        } else {
            match head.ethertype {
                EtherType::ARP => arp::receive(&self.config, &mut frame, head),
                EtherType::IPV6 if self.config.v6.is_none() => without_ipv6(&frame, head),
                EtherType::IPV4 if is_for_server(&frame, head, self.config.address) => {
                    return self.serve_dhcp(frame, head, ingress, now);
                }
                EtherType::IPV4 if self.routes::<Ipv4Addr>(&frame, head, ingress) => {
                    return self.outward::<Ipv4Addr>(frame, head, ingress, now);
                }
                EtherType::IPV6 if self.routes::<Ipv6Addr>(&frame, head, ingress) => {
                    return self.outward::<Ipv6Addr>(frame, head, ingress, now);
                }
                EtherType::IPV4 => icmp::receive(&self.config, &mut frame, head),
                EtherType::IPV6 => match self.config.v6 {
                    Some(v6) if ndp::is_nd(&frame) => self.receive_nd(&v6, &mut frame, ingress, now),
                    Some(v6) if dhcp6::is_for(&frame) => self.dhcp6(&v6, &mut frame, ingress, now),
                    Some(v6) => icmp6::receive(&v6, &mut frame, head),
                    None => Verdict::unserved(head),
                },
                _ => Verdict::unserved(head),
            }
        };
        match verdict {
            Verdict::Reply => {
                turn(&mut frame, head, self.config.mac);
                Routed::Reply(Side::Inside, frame)
            }
            Verdict::Consume => Routed::Consumed(frame),
            Verdict::Drop(reason) => Routed::Drop(frame, reason),
        }
    }
}

/// What a network without IPv6 does with it. Who asks for a router waits for an answer, so his question is no copy that concerns nobody.
fn without_ipv6(frame: &FrameBuf, head: &Head) -> Verdict {
    let asks = matches!(ndp::read(frame), Ok((.., ndp::Message::RouterSolicitation { .. })));
    if asks { Verdict::Drop(DropReason::GatewayUnserved) } else { Verdict::unserved(head) }
}

/// Addresses the answer to where its question came from. What metadata the question had is settled in the octets.
fn turn(frame: &mut FrameBuf, head: &Head, source: UnicastMac) {
    frame.meta = FrameMeta::default();
    address_frame(frame, head.src.mac(), source);
}

#[cfg(test)]
mod tests;
