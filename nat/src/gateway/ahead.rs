//! Looking ahead: what is known of a batch of frames is brought into the processor's cache before the first of them is judged.
//!
//! Theory. A table of a million sessions is in memory, not in the cache, and an entry is two dependent accesses away: one after another
//! they cost a packet half a microsecond. Those of several packets are independent of each other, but judging a packet is so long that
//! the processor does not see the next one's. So it is shown them first ([`Nat::fetch`]), by no more than the place where the addresses and ports
//! of nearly all packets lie. A guess that is wrong costs one access; nothing is decided here.
//!
//! A table that is in the cache anyway is left alone: then there is nothing to wait for.
use super::{Gateway, Side};
use crate::flow::{Address, Tuple, protocol};
use crate::nat::{Family, Nat};
use crate::session::AHEAD;
use crate::tcp_state::Direction;
use core::net::{Ipv4Addr, Ipv6Addr};
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{EtherType, FrameBuf};

impl Gateway {
    /// Looks ahead at frames that came from a side and are about to be received, [`AHEAD`] of them at the most.
    #[inline]
    pub fn look_ahead<'a>(&self, side: Side, frames: impl Iterator<Item = &'a FrameBuf> + Clone) {
        if let Some(uplink) = self.uplink.as_deref() {
            look_at::<Ipv4Addr>(&uplink.nat, side, frames.clone());
            look_at::<Ipv6Addr>(&uplink.nat, side, frames);
        }
    }
}

#[inline]
fn look_at<'a, A: Family>(nat: &Nat, side: Side, frames: impl Iterator<Item = &'a FrameBuf>) {
    if !nat.is_larger_than_cache::<A>() {
        return;
    }
    let likely = match side {
        Side::Inside => Direction::Original,
        Side::Uplink => Direction::Reply,
    };
    let mut tuples = [Tuple { src: A::of_bits(0), dst: A::of_bits(0), sport: 0, dport: 0, protocol: 0 }; AHEAD];
    let mut count = 0;
    for (place, tuple) in tuples.iter_mut().zip(frames.filter_map(|frame| guess(frame.bytes()))) {
        *place = tuple;
        count += 1;
    }
    nat.fetch(tuples.get(..count).unwrap_or_default(), likely);
}

/// The tuple of a frame's packet, if it is TCP or UDP and its IP header is of the common length.
#[inline]
fn guess<A: Address>(frame: &[u8]) -> Option<Tuple<A>> {
    let (l2, packet) = frame.split_at_checked(ETHERNET_HEADER)?;
    // The version and header length of IPv4 and where the protocol is named, RFC 791 3.1; of IPv6, RFC 8200 3.
    let (ethertype, protocol) = if A::IS_V6 {
        (EtherType::IPV6, packet.get(6))
    } else {
        (EtherType::IPV4, packet.get(9).filter(|_| packet.first() == Some(&0x45)))
    };
    let protocol = *protocol.filter(|protocol| matches!(**protocol, protocol::TCP | protocol::UDP))?;
    if !l2.ends_with(&ethertype.0.to_be_bytes()) {
        return None;
    }
    let (src, dst) = (packet.get(A::SOURCE..)?, packet.get(A::SOURCE + A::LEN..)?);
    let &[s0, s1, d0, d1, ..] = packet.get(A::HEADER..)? else { return None };
    let (sport, dport) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    Some(Tuple { src: A::read(src)?, dst: A::read(dst)?, sport, dport, protocol })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum;
    use crate::packet::Packet;
    use proptest::prelude::*;
    use std::vec::Vec;
    use vswitch_switch::FramePool;

    /// A frame that carries a whole header of layer 4 with the ports 1,000 and 443.
    fn frame<A: Address>(src: A, dst: A, number: u8) -> Vec<u8> {
        let mut octets = std::vec![0; ETHERNET_HEADER + A::HEADER + 20];
        let (l2, packet) = octets.split_at_mut(ETHERNET_HEADER);
        l2[12..].copy_from_slice(if A::IS_V6 { &[0x86, 0xdd] } else { &[8, 0] });
        src.write(&mut packet[A::SOURCE..]);
        dst.write(&mut packet[A::SOURCE + A::LEN..]);
        if A::IS_V6 {
            (packet[0], packet[5], packet[6], packet[7]) = (0x60, 20, number, 64);
        } else {
            (packet[0], packet[3], packet[8], packet[9]) = (0x45, 40, 64, number);
            let sum = checksum::checksum(&packet[..A::HEADER]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let l4 = &mut packet[A::HEADER..];
        l4[..4].copy_from_slice(&[0x03, 0xe8, 0x01, 0xbb]);
        // TCP's header length, UDP's length.
        (l4[5], l4[12]) = (20, 0x50);
        octets
    }

    fn as_parsed<A: Family>(src: A, dst: A) {
        let mut pool = FramePool::new(1);
        for number in [protocol::TCP, protocol::UDP] {
            let octets = frame(src, dst, number);
            let mut buffer = pool.take().unwrap();
            assert!(buffer.fill(&octets));
            let packet = Packet::<A>::parse(buffer, ETHERNET_HEADER).unwrap();
            assert_eq!(guess::<A>(&octets), Some(*packet.tuple()));
            pool.put(packet.into_frame());
        }
        assert_eq!(guess::<A>(&frame(src, dst, A::ICMP)), None);
    }

    #[test]
    fn a_guess_is_what_is_parsed() {
        as_parsed("10.88.0.2".parse::<Ipv4Addr>().unwrap(), "203.0.113.7".parse().unwrap());
        as_parsed("fd00::2".parse::<Ipv6Addr>().unwrap(), "2001:db8::7".parse().unwrap());
        let with_options = {
            let mut octets = frame(Ipv4Addr::new(10, 88, 0, 2), Ipv4Addr::new(203, 0, 113, 7), protocol::TCP);
            octets[ETHERNET_HEADER] = 0x46;
            octets
        };
        assert_eq!(guess::<Ipv4Addr>(&with_options), None);
    }

    proptest! {
        #[test]
        fn what_is_no_packet_is_no_guess(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            let is = |ethertype: [u8; 2]| octets.get(12..14) == Some(&ethertype[..]);
            prop_assert!(guess::<Ipv4Addr>(&octets).is_none() || is([8, 0]));
            prop_assert!(guess::<Ipv6Addr>(&octets).is_none() || is([0x86, 0xdd]));
        }
    }
}
