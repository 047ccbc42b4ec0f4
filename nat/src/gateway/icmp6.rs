//! ICMPv6 to the gateway's own IPv6 addresses: neighbour discovery (RFC 4861) and echo (RFC 4443 4).
//!
//! The gateway answers solicitations for its two addresses, link-local and global, and defends them (RFC 4862 5.4.3). It sends no router
//! advertisements: attach sets address and route.
//!
//! exception: a fragmented echo request gets no answer, unlike in IPv4; nothing here joins fragments.
use super::{GatewayV6, Verdict};
use crate::checksum;
use crate::flow::Address;
use crate::ndp::{self, ALL_NODES, Message};
use crate::packet::{Packet, Transport};
use core::net::Ipv6Addr;
use vswitch_switch::{Csum, DropReason, FrameBuf, Head, UnicastMac};

const ECHO_REPLY: u8 = 129;

/// Answers neighbour discovery.
pub(super) fn receive_nd(v6: &GatewayV6, mac: UnicastMac, frame: &mut FrameBuf) -> Verdict {
    let (src, _, message) = match ndp::read(frame) {
        Ok(read) => read,
        Err(reason) => return Verdict::Drop(reason),
    };
    let Message::Solicitation { target, .. } = message else { return Verdict::Consume };
    if target != v6.address && target != v6.link_local {
        return Verdict::Consume;
    }
    let dst = if src.is_unspecified() { ALL_NODES } else { src };
    if ndp::write_advertisement(frame, target, dst, mac, true) { Verdict::Reply } else { Verdict::MALFORMED }
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
