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
//! It answers ARP requests for its address ([`arp`]) and ICMP echo requests to it ([`icmp`]). It keeps no state; it learns no
//! neighbours, for an answer goes to where its question came from. It does not route: there is no uplink, so every other
//! destination is [`DropReason::GatewayUnserved`].
pub mod arp;
pub mod icmp;

use core::net::Ipv4Addr;
use vswitch_switch::{DropReason, EtherType, FrameBuf, FrameMeta, Head, UnicastMac};

/// Who the gateway is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GatewayConfig {
    /// Its MAC.
    pub mac: UnicastMac,
    /// Its address in the subnet.
    pub address: Ipv4Addr,
    /// Bits of the subnet's prefix, 0 to 32; more counts as 32.
    pub prefix: u8,
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

/// The fate of a frame at the gateway.
#[derive(Debug)]
pub enum Routed {
    /// The buffer holds an answer, to be forwarded as a frame that the gateway sent. Untagged and complete; the switch tags it.
    Reply(FrameBuf),
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
}

impl Gateway {
    /// A gateway.
    #[must_use]
    pub const fn new(config: GatewayConfig) -> Self {
        Self { config }
    }

    /// Who it is.
    #[must_use]
    pub const fn config(&self) -> &GatewayConfig {
        &self.config
    }

    /// Takes a frame that the switch forwarded to the gateway; `head` was parsed from it.
    #[must_use]
    pub fn receive(&mut self, mut frame: FrameBuf, head: &Head) -> Routed {
        let is_ours = head.dst == self.config.mac.mac();
        // An unknown destination was flooded: some other station's.
        let verdict = if !is_ours && !head.dst.is_group() {
            Verdict::Consume
        } else {
            match head.ethertype {
                EtherType::ARP => arp::receive(&self.config, &mut frame, head),
                EtherType::IPV4 => icmp::receive(&self.config, &mut frame, head),
                _ => Verdict::unserved(head),
            }
        };
        match verdict {
            Verdict::Reply => {
                self.turn(&mut frame, head);
                Routed::Reply(frame)
            }
            Verdict::Consume => Routed::Consumed(frame),
            Verdict::Drop(reason) => Routed::Drop(frame, reason),
        }
    }

    /// Addresses the answer to where its question came from. What metadata the question had is settled in the octets.
    fn turn(&self, frame: &mut FrameBuf, head: &Head) {
        frame.meta = FrameMeta::default();
        if let Some([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]) = frame.bytes_mut().first_chunk_mut() {
            [*d0, *d1, *d2, *d3, *d4, *d5] = head.src.mac().0;
            [*s0, *s1, *s2, *s3, *s4, *s5] = self.config.mac.mac().0;
        }
    }
}

#[cfg(test)]
mod tests;
