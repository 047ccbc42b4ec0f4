//! ICMPv6 to the gateway's own IPv6 addresses: neighbour discovery (RFC 4861) and echo (RFC 4443 4).
//!
//! The gateway answers solicitations for its two addresses, link-local and global, and defends them (RFC 4862 5.4.3). It does not speak for
//! others: an address of a container that is silent is claimed by nobody. Router solicitations are [`super::advert`]'s.
//!
//! exception: a fragmented echo request gets no answer, unlike in IPv4; nothing here joins fragments.
use super::{Gateway, GatewayV6, Verdict};
use crate::checksum;
use crate::flow::Address;
use crate::ndp::{self, ALL_NODES, Message};
use crate::packet::{Packet, Transport};
use core::net::Ipv6Addr;
use vswitch_switch::{Csum, DropReason, FrameBuf, Head, Time};

const ECHO_REPLY: u8 = 129;

impl Gateway {
    /// Answers neighbour discovery that came in through the port `ingress`.
    pub(super) fn receive_nd(&mut self, v6: &GatewayV6, frame: &mut FrameBuf, ingress: u16, now: Time) -> Verdict {
        let (src, _, message) = match ndp::read(frame) {
            Ok(read) => read,
            Err(reason) => return Verdict::Drop(reason),
        };
        match message {
            Message::Solicitation { target, .. } if target == v6.address || target == v6.link_local => {
                // RFC 4861 7.2.4: who has no address yet, and tries one of ours, hears it with all others.
                let dst = if src.is_unspecified() { ALL_NODES } else { src };
                let written = ndp::write_advertisement(frame, target, dst, self.config.mac, true);
                if written { Verdict::Reply } else { Verdict::MALFORMED }
            }
            Message::RouterSolicitation { .. } => self.solicited(frame, src, ingress, now),
            // No container is a router of this link, and what they tell each other is theirs.
            Message::Solicitation { .. } | Message::Advertisement { .. } | Message::Router { .. } | Message::Other => {
                Verdict::Consume
            }
        }
    }
}

/// Answers an echo request to one of our addresses.
pub(super) fn receive(v6: &GatewayV6, frame: &mut FrameBuf, head: &Head) -> Verdict {
    let l3 = usize::from(head.l3);
    let packet = frame.bytes().get(l3..).unwrap_or_default();
    let ends = packet.get(8..).and_then(Ipv6Addr::read).zip(packet.get(24..).and_then(Ipv6Addr::read));
    let Some((src, dst)) = ends else { return Verdict::MALFORMED };
    if head.dst.is_group() || dst.is_multicast() {
        return Verdict::Consume;
    }
    let is_neighbour = src.has_prefix(v6.address, v6.prefix) || src.is_unicast_link_local();
    if (dst != v6.address && dst != v6.link_local) || !is_neighbour {
        return Verdict::Drop(DropReason::GatewayUnserved);
    }
    match answer(frame, l3, src, dst) {
        Ok(()) => Verdict::Reply,
        Err(reason) => Verdict::Drop(reason),
    }
}

fn answer(frame: &mut FrameBuf, l3: usize, src: Ipv6Addr, dst: Ipv6Addr) -> Result<(), DropReason> {
    const MALFORMED: DropReason = DropReason::GatewayMalformed;
    if let Csum::Partial { start, offset } = frame.meta.csum {
        if frame.meta.gso.is_some() || !checksum::finish(frame.bytes_mut(), usize::from(start), usize::from(offset)) {
            return Err(MALFORMED);
        }
        frame.meta.csum = Csum::Complete;
    }
    let (transport, l4, end) = Packet::<Ipv6Addr>::peek(frame, l3)?;
    if transport != (Transport::Echo { request: true }) {
        return Err(DropReason::GatewayUnserved);
    }
    let message = frame.bytes().get(l4..end).ok_or(MALFORMED)?;
    let sum = checksum::add(checksum::sum(message), src.pseudo(dst, Ipv6Addr::ICMP, message.len() as u32));
    if sum != 0xffff {
        return Err(MALFORMED);
    }
    let packet = frame.bytes_mut().get_mut(l3..).ok_or(MALFORMED)?;
    if let Some(place) = packet.get_mut(8..24) {
        dst.write(place);
    }
    if let Some(place) = packet.get_mut(24..40) {
        src.write(place);
    }
    if let Some(hops) = packet.get_mut(7) {
        *hops = super::icmp::REPLY_TTL;
    }
    // The pseudo-header's sum does not care which of the two is the source.
    let [kind, code, high, low, ..] = packet.get_mut(l4 - l3..).ok_or(MALFORMED)? else { return Err(MALFORMED) };
    let (before, after) = (u16::from_be_bytes([*kind, *code]), u16::from_be_bytes([ECHO_REPLY, *code]));
    *kind = ECHO_REPLY;
    [*high, *low] = checksum::update_u16(u16::from_be_bytes([*high, *low]), before, after).to_be_bytes();
    Ok(())
}
