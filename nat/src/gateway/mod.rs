//! The gateway: a port of the switch that answers for one IPv4 address. ARP in `arp.rs`, ICMP echo in `icmp.rs`.
//!
//! [`Gateway::receive`] takes a frame and gives a verdict; an answer is written into the buffer that the question came in. What is
//! addressed to a group and is not for us is consumed; what is addressed to us and not served is a drop.
mod arp;
mod icmp;

use core::net::Ipv4Addr;
use vswitch_switch::{DropReason, EtherType, FrameBuf, FrameMeta, Head, UnicastMac};

/// Who the gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Its (stable) MAC address.
    pub mac: UnicastMac,
    /// Its address.
    pub address: Ipv4Addr,
    /// The subnet's prefix length, 0 to 32.
    pub prefix: u8,
}

impl GatewayConfig {
    /// Whether `address` is one station's address in the subnet.
    #[must_use]
    pub fn is_host(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0);
        let (host, own) = (address.to_bits(), self.address.to_bits());
        host & mask == own & mask && (self.prefix > 30 || (host & !mask != 0 && host & !mask != !mask))
    }
}

/// What became of a frame.
#[derive(Debug)]
pub enum Routed {
    /// This is the answer: switch it.
    Reply(FrameBuf),
    /// It ended here as it should.
    Consumed(FrameBuf),
    /// It ended here for a reason.
    Drop(FrameBuf, DropReason),
}

/// What a protocol makes of a frame that it may have rewritten.
enum Answer {
    Reply,
    Consumed,
    Drop(DropReason),
}

/// See the module's theory.
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

    /// One frame that the switch sent here.
    pub fn receive(&mut self, mut frame: FrameBuf, head: &Head) -> Routed {
        let answer = match head.ethertype {
            EtherType::ARP => arp::receive(&self.config, &mut frame),
            EtherType::IPV4 => icmp::receive(&self.config, &mut frame),
            _ => Answer::Drop(DropReason::GatewayUnserved),
        };
        match answer {
            Answer::Reply => {
                let addresses = [head.src.mac().0, self.config.mac.mac().0];
                for (place, octet) in frame.bytes_mut().iter_mut().zip(addresses.into_iter().flatten()) {
                    *place = octet;
                }
                // An answer keeps the VLAN and priority it was asked in.
                frame.meta = FrameMeta { tag: frame.meta.tag, ..FrameMeta::default() };
                Routed::Reply(frame)
            }
            Answer::Consumed => Routed::Consumed(frame),
            Answer::Drop(DropReason::GatewayUnserved) if head.dst.is_group() => Routed::Consumed(frame),
            Answer::Drop(reason) => Routed::Drop(frame, reason),
        }
    }
}

#[cfg(test)]
mod tests;
