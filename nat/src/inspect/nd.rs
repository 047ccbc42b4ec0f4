//! Neighbour discovery between containers (RFC 4861, RFC 4862): whose the addresses in it are (L09), and answers on behalf of who is known.
//!
//! Answers say override, as the owner's would, and that the owner is no router, unless it is the gateway: no container is one to others.
use super::{Asked, Inspected, Seen};
use crate::gateway::Gateway;
use crate::ndp::{self, ALL_NODES, Message, group_mac};
use crate::packet::address_frame;
use core::net::{IpAddr, Ipv6Addr};
use vswitch_switch::{DropReason, FrameBuf, Head};

/// Octets of a solicitation or an advertisement without options.
const LEN: usize = 24;
/// Options that give the sender's hardware address in a solicitation, and the target's in an advertisement.
const SOURCE: u8 = 1;
const TARGET: u8 = 2;
/// Options that are looked at in one message.
const OPTIONS: usize = 16;

/// The address that a message is about, and its options.
fn read(message: &[u8]) -> Option<(Ipv6Addr, &[u8])> {
    let (fixed, options) = message.split_first_chunk::<LEN>()?;
    Some((Ipv6Addr::from_octets(*fixed.last_chunk()?), options))
}

/// Whether each hardware address of that kind in the options is `mac`. So it is not where they cannot be read to their end.
fn names_only(mut options: &[u8], kind: u8, mac: [u8; 6]) -> bool {
    for _ in 0..OPTIONS {
        let &[this, len, ..] = options else { return options.is_empty() };
        let Some((option, rest)) = options.split_at_checked(usize::from(len) * 8).filter(|_| len > 0) else { return false };
        if this == kind && option.get(2..) != Some(&mac[..]) {
            return false;
        }
        options = rest;
    }
    options.is_empty()
}

impl Gateway {
    pub(super) fn inspect_solicitation(&mut self, seen: &Seen<'_>, src: Ipv6Addr, at: usize) -> Inspected {
        let Some((target, options)) = message(seen, at).and_then(read) else { return self.unreadable(seen) };
        if seen.guarded && !names_only(options, SOURCE, seen.head.src.mac().0) {
            return self.refuse(seen, DropReason::NdSpoof, Some(src.into()), None);
        }
        // A question to one is whether he is still there: that only he can answer. And only what its receivers would take is answered.
        if !seen.head.dst.is_group() || !matches!(ndp::read(seen.frame), Ok((_, _, Message::Solicitation { .. }))) {
            return Inspected::Pass;
        }
        let target = IpAddr::V6(target);
        if src.is_unspecified() {
            return if seen.guarded { self.probes(seen, target) } else { Inspected::Pass };
        }
        self.find(seen, target).map_or(Inspected::Pass, Inspected::Asked)
    }

    pub(super) fn inspect_advertisement(&mut self, seen: &Seen<'_>, at: usize) -> Inspected {
        let Some((target, options)) = message(seen, at).and_then(read) else { return self.unreadable(seen) };
        let is_its = names_only(options, TARGET, seen.head.src.mac().0);
        if !seen.guarded {
            if is_its && (target.is_unicast_link_local() || self.is_inside_v6(target)) && !self.is_own(target.into()) {
                self.stations.observe(seen.port, seen.head.src, target.into(), seen.now);
            }
            return Inspected::Pass;
        }
        if !is_its {
            return self.refuse(seen, DropReason::NdSpoof, Some(target.into()), None);
        }
        self.claims(seen, target.into(), DropReason::NdSpoof).map_or(Inspected::Pass, Inspected::Drop)
    }

    fn unreadable(&mut self, seen: &Seen<'_>) -> Inspected {
        if seen.guarded { self.refuse(seen, DropReason::NdSpoof, None, None) } else { Inspected::Pass }
    }

    fn is_inside_v6(&self, address: Ipv6Addr) -> bool {
        use crate::flow::Address;
        self.config().v6.is_some_and(|v6| v6.address.has_prefix(address, v6.prefix))
    }
}

/// From the ICMPv6 header to the end that the IPv6 header gives: behind that lies Ethernet's padding.
fn message<'a>(seen: &Seen<'a>, at: usize) -> Option<&'a [u8]> {
    let &[high, low] = seen.packet.get(4..)?.first_chunk()?;
    seen.packet.get(at..40 + usize::from(u16::from_be_bytes([high, low])))
}

/// The advertisement, over the solicitation.
pub(super) fn answer(frame: &mut FrameBuf, head: &Head, asked: &Asked) -> bool {
    let Ok((src, _, Message::Solicitation { target, .. })) = ndp::read(frame) else { return false };
    // RFC 4861 7.2.4.
    let (dst, mac) = if src.is_unspecified() { (ALL_NODES, group_mac(ALL_NODES)) } else { (src, head.src.mac()) };
    if !ndp::write_advertisement(frame, target, dst, asked.mac, asked.owner == 0) {
        return false;
    }
    address_frame(frame, mac, asked.mac);
    true
}
