use super::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU16;
use pnet_packet::Packet as _;
use pnet_packet::icmp::{self, IcmpPacket};
use pnet_packet::icmpv6::{self, Icmpv6Packet};
use pnet_packet::ipv4::{self, Ipv4Packet};
use pnet_packet::tcp::{self as pnet_tcp, TcpPacket};
use pnet_packet::udp::{self, UdpPacket};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;
use vswitch_switch::{FrameMeta, FramePool, Gso, GsoKind};

const SRC: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
const DST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const SRC6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const DST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const EXTERNAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
const SPORT: u16 = 40_000;
const DPORT: u16 = 443;
/// Octets from the frame's start to an IPv4 packet's layer 4, without options, and to an IPv6 one's, without extensions.
const L4_V4: usize = 34;
const L4_V6: usize = 54;
const OFFSET: usize = 6;

fn frame_of(octets: &[u8], meta: FrameMeta) -> FrameBuf {
    let mut frame = FramePool::new(1).take().unwrap();
    assert!(frame.fill(octets));
    frame.meta = meta;
    frame
}

fn parse<A: Readable>(octets: &[u8]) -> Result<Packet<A>, DropReason> {
    parse_with(octets, FrameMeta::default())
}

fn parse_with<A: Readable>(octets: &[u8], meta: FrameMeta) -> Result<Packet<A>, DropReason> {
    Packet::parse(frame_of(octets, meta), 14).map_err(|(_, reason)| reason)
}

fn set(octets: &mut [u8], at: usize, value: u16) {
    octets[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn get(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

/// An IPv4 packet of one fragment field, from and to given addresses.
fn v4_between(src: Ipv4Addr, dst: Ipv4Addr, options: &[u8], fragment: u16, number: u8, l4: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut ip = vec![0x40 | (header / 4) as u8, 0, 0, 0, 0xbe, 0xef, 0, 0, 64, number, 0, 0];
    set(&mut ip, 2, (header + l4.len()) as u16);
    set(&mut ip, OFFSET, fragment);
    ip.extend(src.octets());
    ip.extend(dst.octets());
    ip.extend(options);
    let sum = checksum::checksum(&ip);
    set(&mut ip, 10, sum);
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0][..], &ip, l4].concat()
}

fn v4(number: u8, l4: &[u8]) -> Vec<u8> {
    v4_between(SRC, DST, &[], 0, number, l4)
}

/// An IPv6 packet; `next` is the kind of what follows the fixed header.
fn v6(next: u8, l4: &[u8]) -> Vec<u8> {
    let mut octets = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0];
    octets.extend((l4.len() as u16).to_be_bytes());
    octets.extend([next, 64]);
    octets.extend(SRC6.octets());
    octets.extend(DST6.octets());
    octets.extend(l4);
    octets
}

/// Makes the checksum in `l4` right for our two hosts of either family; with `None`, one without a pseudo-header.
fn summed(mut l4: Vec<u8>, at: usize, pseudo: Option<u16>) -> Vec<u8> {
    set(&mut l4, at, 0);
    let sum = !checksum::add(pseudo.unwrap_or(0), checksum::sum(&l4));
    // RFC 768: a UDP checksum that comes out zero is sent as 0xffff, for zero is none (N72).
    set(&mut l4, at, if at == 6 { checksum::non_zero(sum) } else { sum });
    l4
}

fn pseudo_v4(number: u8, l4: &[u8]) -> Option<u16> {
    Some(SRC.pseudo(DST, number, l4.len() as u32))
}

fn pseudo_v6(number: u8, l4: &[u8]) -> Option<u16> {
    Some(SRC6.pseudo(DST6, number, l4.len() as u32))
}

fn tcp_header(flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let mut l4 = vec![0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, ((20 + options.len()) / 4 * 16) as u8, flags, 1, 0xf5, 0, 0, 0, 0];
    set(&mut l4, 0, SPORT);
    set(&mut l4, 2, DPORT);
    l4.extend(options);
    l4.extend(data);
    l4
}

fn udp_header(data: &[u8]) -> Vec<u8> {
    let mut l4 = vec![0; 8];
    set(&mut l4, 0, SPORT);
    set(&mut l4, 2, DPORT);
    set(&mut l4, 4, 8 + data.len() as u16);
    l4.extend(data);
    l4
}

fn tcp_v4(flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let l4 = tcp_header(flags, options, data);
    let pseudo = pseudo_v4(protocol::TCP, &l4);
    v4(protocol::TCP, &summed(l4, 16, pseudo))
}

fn udp_v4(data: &[u8]) -> Vec<u8> {
    let l4 = udp_header(data);
    let pseudo = pseudo_v4(protocol::UDP, &l4);
    v4(protocol::UDP, &summed(l4, 6, pseudo))
}

fn tcp_v6(data: &[u8]) -> Vec<u8> {
    let l4 = tcp_header(tcp::ACK, &[], data);
    let pseudo = pseudo_v6(protocol::TCP, &l4);
    v6(protocol::TCP, &summed(l4, 16, pseudo))
}

fn udp_v6(data: &[u8]) -> Vec<u8> {
    let l4 = udp_header(data);
    let pseudo = pseudo_v6(protocol::UDP, &l4);
    v6(protocol::UDP, &summed(l4, 6, pseudo))
}

fn echo(kind: u8) -> Vec<u8> {
    vec![kind, 0, 0, 0, 0x12, 0x34, 0, 1, 9, 8, 7]
}

fn ipv4_sum_is_right(octets: &[u8]) -> bool {
    checksum::is_valid(&octets[14..14 + usize::from(octets[14] & 15) * 4])
}

/// Layer 4 sums up, with the pseudo-header of the addresses that the packet has now.
fn l4_sum_is_right<A: Address>(p: &Packet<A>, number: u8) -> bool {
    let tuple = p.tuple();
    checksum::add(tuple.src.pseudo(tuple.dst, number, p.payload().len() as u32), checksum::sum(p.payload())) == 0xffff
}

#[test]
fn tcp_over_ipv4() {
    let octets = tcp_v4(tcp::SYN | tcp::ACK, &[3, 3, 99, 1], b"data");
    let p: Packet<Ipv4Addr> = parse(&octets).unwrap();
    assert_eq!(*p.tuple(), Tuple { src: SRC, dst: DST, sport: SPORT, dport: DPORT, protocol: protocol::TCP });
    // RFC 7323 2.3: a shift of 14 at the most.
    let segment = Segment {
        seq: 0x0102_0304,
        ack: 0x0506_0708,
        flags: tcp::SYN | tcp::ACK,
        window: 0x1f5,
        len: 4,
        scale: Some(14),
        mss: None,
    };
    assert_eq!(p.transport(), Transport::Tcp(segment));
    assert_eq!((p.l3(), p.l4(), p.len(), p.hops(), p.fragment(), p.may_fragment()), (14, L4_V4, 48, 64, None, true));
    assert_eq!((p.payload(), p.mtu_len(), p.is_empty()), (&octets[L4_V4..], 48, false));
    assert_eq!(p.into_frame().bytes(), octets);
}

#[test]
fn n34_a_syn_with_data_keeps_it() {
    let mut p: Packet<Ipv4Addr> = parse(&tcp_v4(tcp::SYN, &[2, 4, 5, 180, 34, 2, 1, 1], b"GET / HTTP/1.0")).unwrap();
    p.rewrite_src(EXTERNAL, 50_000);
    let ip = Ipv4Packet::new(&p.frame().bytes()[14..]).unwrap();
    let tcp = TcpPacket::new(ip.payload()).unwrap();
    assert_eq!((tcp.payload(), tcp.get_source()), (&b"GET / HTTP/1.0"[..], 50_000));
    assert_eq!(tcp.get_checksum(), pnet_tcp::ipv4_checksum(&tcp, &EXTERNAL, &DST));
}

#[test]
fn n71_where_the_sum_comes_to_all_ones_or_none() {
    // Each value that the increment passes through, for a checksum of TCP: 0xffff and 0 are one number in two forms.
    for port in [0, 1, SPORT - 1, SPORT + 1, 0x7fff, 0x8000, 0xfffe, 0xffff] {
        for filler in [0, 1, 0x00ff, 0x7fff, 0xfffe, 0xffff_u16] {
            let octets = tcp_v4(tcp::ACK, &[], &filler.to_be_bytes());
            let mut p: Packet<Ipv4Addr> = parse(&octets).unwrap();
            p.rewrite_src(EXTERNAL, port);
            assert!(l4_sum_is_right(&p, protocol::TCP) && ipv4_sum_is_right(p.frame().bytes()));
        }
    }
    // The same address and port change nothing, not even the form of zero.
    let mut octets = tcp_v4(tcp::ACK, &[], b"");
    set(&mut octets, L4_V4 + 16, 0xffff);
    let mut p: Packet<Ipv4Addr> = parse(&octets).unwrap();
    p.rewrite_src(SRC, SPORT);
    p.rewrite_dst(DST, DPORT);
    assert_eq!(p.frame().bytes(), octets);
}

#[test]
fn n72_no_udp_checksum_stays_none_and_a_computed_zero_is_sent_as_ones() {
    let none = v4(protocol::UDP, &udp_header(b"data"));
    let mut p: Packet<Ipv4Addr> = parse(&none).unwrap();
    p.rewrite_src(EXTERNAL, 50_000);
    p.rewrite_dst(SRC, 53);
    assert_eq!(get(p.frame().bytes(), L4_V4 + 6), 0);
    assert!(ipv4_sum_is_right(p.frame().bytes()));
    // A port such that the checksum comes to zero: the old one plus what the checksum was.
    let octets = udp_v4(b"data");
    let port = checksum::add(SPORT, get(&octets, L4_V4 + 6));
    let mut p: Packet<Ipv4Addr> = parse(&octets).unwrap();
    p.rewrite_src(SRC, port);
    assert_eq!(get(p.frame().bytes(), L4_V4 + 6), 0xffff);
    assert!(l4_sum_is_right(&p, protocol::UDP));
    // And back.
    p.rewrite_src(SRC, SPORT);
    assert_eq!(p.frame().bytes(), octets);
}

#[test]
fn n73_a_tcp_checksum_of_zero_stays_zero() {
    let octets = tcp_v4(tcp::ACK, &[], b"data");
    let port = checksum::add(SPORT, get(&octets, L4_V4 + 16));
    let mut p: Packet<Ipv4Addr> = parse(&octets).unwrap();
    p.rewrite_src(SRC, port);
    assert_eq!(get(p.frame().bytes(), L4_V4 + 16), 0);
    assert!(l4_sum_is_right(&p, protocol::TCP));
}

#[test]
fn n74_each_checksum_follows_what_it_covers() {
    // A port changes layer 4 alone, an address both.
    let octets = udp_v4(b"data");
    let mut p: Packet<Ipv4Addr> = parse(&octets).unwrap();
    p.rewrite_dst(DST, 53);
    assert_eq!(get(p.frame().bytes(), 24), get(&octets, 24));
    assert!(l4_sum_is_right(&p, protocol::UDP));
    p.rewrite_dst(EXTERNAL, 53);
    assert_ne!(get(p.frame().bytes(), 24), get(&octets, 24));
    assert!(l4_sum_is_right(&p, protocol::UDP) && ipv4_sum_is_right(p.frame().bytes()));
    // ICMP has no pseudo-header: only the identifier counts.
    let octets = v4(protocol::ICMP, &summed(echo(8), 2, None));
    let mut p: Packet<Ipv4Addr> = parse(&octets).unwrap();
    assert_eq!((p.transport(), p.tuple().sport, p.tuple().dport), (Transport::Echo { request: true }, 0x1234, 0));
    p.rewrite_src(EXTERNAL, 0x1234);
    assert_eq!(get(p.frame().bytes(), L4_V4 + 2), get(&octets, L4_V4 + 2));
    p.rewrite_src(EXTERNAL, 7);
    let icmp = IcmpPacket::new(p.payload()).unwrap();
    assert_eq!((icmp.get_checksum(), get(p.payload(), 4)), (icmp::checksum(&icmp), 7));
    // ICMPv6 has one.
    let l4 = echo(129);
    let pseudo = pseudo_v6(protocol::ICMPV6, &l4);
    let mut p: Packet<Ipv6Addr> = parse(&v6(protocol::ICMPV6, &summed(l4, 2, pseudo))).unwrap();
    assert_eq!((p.transport(), p.tuple().sport, p.tuple().dport), (Transport::Echo { request: false }, 0, 0x1234));
    p.rewrite_dst(EXTERNAL6, 7);
    p.rewrite_src(DST6, 99);
    let icmp = Icmpv6Packet::new(p.payload()).unwrap();
    assert_eq!((icmp.get_checksum(), get(p.payload(), 4)), (icmpv6::checksum(&icmp, &DST6, &EXTERNAL6), 7));
    assert_eq!((p.tuple().sport, p.tuple().dport), (0, 7), "a reply has no source port to be changed");
}

#[test]
fn n75_a_partial_checksum_follows_addresses_only() {
    let mut l4 = udp_header(b"some data");
    let pseudo = SRC.pseudo(DST, protocol::UDP, l4.len() as u32);
    set(&mut l4, 6, pseudo);
    let meta = FrameMeta { csum: Csum::Partial { start: L4_V4 as u16, offset: 6 }, ..FrameMeta::default() };
    let mut p: Packet<Ipv4Addr> = parse_with(&v4(protocol::UDP, &l4), meta).unwrap();
    p.rewrite_src(SRC, 50_000);
    assert_eq!(get(p.frame().bytes(), L4_V4 + 6), pseudo, "a port is still to be summed");
    p.rewrite_src(EXTERNAL, 50_000);
    p.rewrite_dst(SRC, 53);
    assert_eq!(get(p.frame().bytes(), L4_V4 + 6), EXTERNAL.pseudo(SRC, protocol::UDP, l4.len() as u32));
    assert_eq!(p.frame().meta, meta);
    let mut scratch = [0; 200];
    let len = crate::offload::finish_into(p.frame(), &mut scratch).unwrap();
    let udp = UdpPacket::new(&scratch[L4_V4..len]).unwrap();
    assert_eq!(udp.get_checksum(), udp::ipv4_checksum(&udp, &EXTERNAL, &SRC));
}

#[test]
fn n75_a_partial_checksum_of_something_inside_is_not_ours() {
    // The datagram's own checksum is final; one of what it carries is not.
    let octets = udp_v4(&[7; 40]);
    let meta = FrameMeta { csum: Csum::Partial { start: 50, offset: 6 }, ..FrameMeta::default() };
    let mut p: Packet<Ipv4Addr> = parse_with(&octets, meta).unwrap();
    p.rewrite_src(EXTERNAL, 50_000);
    assert!(l4_sum_is_right(&p, protocol::UDP));
}

#[test]
fn a_partial_checksum_beyond_the_packet_is_refused() {
    // It lay in the padding, which is cut off.
    let mut octets = udp_v4(b"");
    octets.extend([0; 20]);
    for (start, offset) in [(L4_V4, 8), (L4_V4 + 8, 6), (L4_V4, 7)] {
        let csum = Csum::Partial { start: start as u16, offset: offset as u16 };
        let refused = parse_with::<Ipv4Addr>(&octets, FrameMeta { csum, ..FrameMeta::default() });
        assert_eq!(refused.err(), Some(DropReason::BadOffload), "{start} {offset}");
    }
}

fn gso(kind: GsoKind, l4: usize, headers: usize) -> FrameMeta {
    let gso = Gso { kind, ecn: false, size: NonZeroU16::new(100).unwrap(), l4: l4 as u16, headers: headers as u16 };
    let offset = if kind == GsoKind::UdpL4 { 6 } else { 16 };
    FrameMeta { tag: None, csum: Csum::Partial { start: l4 as u16, offset }, gso: Some(gso) }
}

#[test]
fn n76_segments_of_a_translated_gso_frame_are_valid() {
    let data: Vec<u8> = (0..1_234).map(|i| i as u8).collect();
    let mut l4 = tcp_header(tcp::ACK, &[], &data);
    let pseudo = pseudo_v4(protocol::TCP, &l4).unwrap();
    set(&mut l4, 16, pseudo);
    let mut p: Packet<Ipv4Addr> = parse_with(&v4(protocol::TCP, &l4), gso(GsoKind::TcpV4, L4_V4, L4_V4 + 20)).unwrap();
    assert_eq!(p.mtu_len(), 140);
    p.take_hop();
    p.rewrite_src(EXTERNAL, 50_000);
    assert_eq!(p.frame().meta, gso(GsoKind::TcpV4, L4_V4, L4_V4 + 20));
    let frame = p.into_frame();
    let mut segments = crate::offload::Segments::new(&frame).unwrap();
    let (mut scratch, mut all, mut count) = ([0; 200], Vec::new(), 0);
    while let Some(len) = segments.next_into(&mut scratch) {
        let ip = Ipv4Packet::new(&scratch[14..len]).unwrap();
        assert_eq!((ip.get_checksum(), ip.get_source(), ip.get_ttl()), (ipv4::checksum(&ip), EXTERNAL, 63));
        let tcp = TcpPacket::new(ip.payload()).unwrap();
        assert_eq!((tcp.get_checksum(), tcp.get_source()), (pnet_tcp::ipv4_checksum(&tcp, &EXTERNAL, &DST), 50_000));
        all.extend_from_slice(tcp.payload());
        count += 1;
    }
    assert_eq!((all, count), (data, 13));
    // The same for UDP over IPv6.
    let data = [5; 250];
    let mut l4 = udp_header(&data);
    let pseudo = pseudo_v6(protocol::UDP, &l4).unwrap();
    set(&mut l4, 6, pseudo);
    let mut p: Packet<Ipv6Addr> = parse_with(&v6(protocol::UDP, &l4), gso(GsoKind::UdpL4, L4_V6, L4_V6 + 8)).unwrap();
    p.rewrite_dst(EXTERNAL6, 53);
    let frame = p.into_frame();
    let mut segments = crate::offload::Segments::new(&frame).unwrap();
    while let Some(len) = segments.next_into(&mut scratch) {
        let udp = UdpPacket::new(&scratch[L4_V6..len]).unwrap();
        assert_eq!((udp.get_checksum(), udp.get_destination()), (udp::ipv6_checksum(&udp, &SRC6, &EXTERNAL6), 53));
    }
}

#[test]
fn gso_that_contradicts_the_packet_is_refused() {
    let octets = tcp_v4(tcp::ACK, &[], &[0; 300]);
    for (kind, l4, headers) in
        [(GsoKind::TcpV4, L4_V4 + 4, L4_V4 + 24), (GsoKind::TcpV6, L4_V4, L4_V4 + 20), (GsoKind::UdpL4, L4_V4, L4_V4 + 8)]
    {
        assert_eq!(parse_with::<Ipv4Addr>(&octets, gso(kind, l4, headers)).err(), Some(DropReason::BadOffload), "{kind:?}");
    }
    let fragment = v4_between(SRC, DST, &[], 0x2000, protocol::UDP, &udp_header(&[0; 296]));
    let refused = parse_with::<Ipv4Addr>(&fragment, gso(GsoKind::UdpL4, L4_V4, L4_V4 + 8));
    assert_eq!(refused.err(), Some(DropReason::BadOffload));
}

#[test]
fn n77_what_was_bad_stays_bad() {
    let octets = udp_v4(b"data");
    for wrong in [1, 0x8000, 0x1234] {
        let mut octets = octets.clone();
        let sum = get(&octets, L4_V4 + 6) ^ wrong;
        set(&mut octets, L4_V4 + 6, sum);
        let mut p: Packet<Ipv4Addr> = parse(&octets).unwrap();
        p.rewrite_src(EXTERNAL, 50_000);
        p.rewrite_dst(SRC, 53);
        assert!(!l4_sum_is_right(&p, protocol::UDP));
    }
}

#[test]
fn n78_the_mss_is_clamped_at_even_and_odd_places() {
    for options in [&[2, 4, 5, 180][..], &[1, 2, 4, 5, 180, 1, 1, 0], &[1, 1, 2, 4, 5, 180, 0, 0], &[3, 3, 7, 2, 4, 5, 180, 0]] {
        let octets = tcp_v4(tcp::SYN, options, b"odd");
        let mut p: Packet<Ipv4Addr> = parse(&octets).unwrap();
        assert!(!p.clamp_mss(1_460), "not raised, and not lowered without need");
        assert_eq!(p.frame().bytes(), octets);
        assert!(p.clamp_mss(1_200));
        let at = L4_V4 + 20 + options.windows(2).position(|pair| pair == [5, 180]).unwrap();
        assert_eq!(get(p.frame().bytes(), at), 1_200);
        assert!(l4_sum_is_right(&p, protocol::TCP), "{options:?}");
    }
    // Not on other segments, not where there is none, not where it is malformed.
    for (flags, options) in [
        (tcp::ACK, &[2, 4, 5, 180][..]),
        (tcp::SYN, &[]),
        (tcp::SYN, &[0, 2, 4, 5]),
        (tcp::SYN, &[2, 3, 5, 1]),
        (tcp::SYN, &[1, 1, 1, 2]),
        (tcp::SYN, &[1, 1, 2, 4]),
        (tcp::SYN, &[9, 0, 2, 4]),
    ] {
        let octets = tcp_v4(flags, options, b"");
        let mut p: Packet<Ipv4Addr> = parse(&octets).unwrap();
        assert!(!p.clamp_mss(100), "{options:?}");
        assert_eq!(p.frame().bytes(), octets);
    }
    // N75: while the checksum is partial, the field is still to be summed.
    let mut l4 = tcp_header(tcp::SYN, &[1, 2, 4, 5, 180, 0, 0, 0], b"");
    let pseudo = pseudo_v4(protocol::TCP, &l4).unwrap();
    set(&mut l4, 16, pseudo);
    let meta = FrameMeta { csum: Csum::Partial { start: L4_V4 as u16, offset: 16 }, ..FrameMeta::default() };
    let mut p: Packet<Ipv4Addr> = parse_with(&v4(protocol::TCP, &l4), meta).unwrap();
    assert!(p.clamp_mss(1_200));
    assert_eq!(get(p.frame().bytes(), L4_V4 + 16), pseudo);
}

#[test]
fn a_hop_is_taken() {
    for ttl in [255, 64, 2, 1] {
        let mut octets = udp_v4(b"data");
        octets[22] = ttl;
        set(&mut octets, 24, 0);
        let sum = checksum::checksum(&octets[14..34]);
        set(&mut octets, 24, sum);
        let mut p: Packet<Ipv4Addr> = parse(&octets).unwrap();
        p.take_hop();
        assert_eq!(p.hops(), ttl - 1);
        assert!(ipv4_sum_is_right(p.frame().bytes()));
    }
    let octets = udp_v6(b"data");
    let mut p: Packet<Ipv6Addr> = parse(&octets).unwrap();
    p.take_hop();
    assert_eq!(p.hops(), 63);
    assert!(l4_sum_is_right(&p, protocol::UDP));
    assert!(!p.may_fragment());
}

#[test]
fn the_identification_is_given_anew() {
    let mut p: Packet<Ipv4Addr> = parse(&udp_v4(b"data")).unwrap();
    p.set_id(0x1_0102);
    assert_eq!(get(p.frame().bytes(), 18), 0x0102);
    assert!(ipv4_sum_is_right(p.frame().bytes()));
    let octets = udp_v6(b"data");
    let mut p: Packet<Ipv6Addr> = parse(&octets).unwrap();
    p.set_id(7);
    assert_eq!(p.frame().bytes(), octets, "without a fragment header there is none");
    let mut p: Packet<Ipv6Addr> = parse(&v6(44, &[17, 0, 0, 9, 1, 2, 3, 4, 9, 9, 9, 9, 9, 9, 9, 9])).unwrap();
    assert_eq!(p.fragment(), Some(Fragment { id: 0x0102_0304, offset: 8, len: 8, more: true }));
    p.set_id(0xaabb_ccdd);
    assert_eq!(p.frame().bytes()[58..62], [0xaa, 0xbb, 0xcc, 0xdd]);
    assert_eq!(p.fragment().unwrap().id, 0xaabb_ccdd);
}

#[test]
fn only_a_first_fragment_has_ports() {
    let first = v4_between(SRC, DST, &[], 0x2000, protocol::UDP, &udp_header(&[0; 800])[..400]);
    let p: Packet<Ipv4Addr> = parse(&first).unwrap();
    assert_eq!((p.tuple().sport, p.transport(), p.is_later_fragment()), (SPORT, Transport::Udp, false));
    assert_eq!(p.fragment(), Some(Fragment { id: 0xbeef, offset: 0, len: 400, more: true }));
    let octets = v4_between(SRC, DST, &[], 50, protocol::UDP, &[0xff; 33]);
    let mut p: Packet<Ipv4Addr> = parse(&octets).unwrap();
    assert_eq!((p.tuple().sport, p.tuple().dport, p.transport(), p.is_later_fragment()), (0, 0, Transport::Absent, true));
    assert_eq!(p.fragment(), Some(Fragment { id: 0xbeef, offset: 400, len: 33, more: false }));
    p.rewrite_src(EXTERNAL, 50_000);
    assert_eq!((p.payload(), p.tuple().src, p.tuple().sport), (&[0xff; 33][..], EXTERNAL, 0));
    assert!(ipv4_sum_is_right(p.frame().bytes()));
}

#[test]
fn fragments_that_cannot_be_are_refused() {
    let refused = |fragment, number, l4: &[u8]| parse::<Ipv4Addr>(&v4_between(SRC, DST, &[], fragment, number, l4)).err();
    // Not a multiple of eight, empty, beyond the longest packet.
    assert_eq!(refused(0x2001, 17, &[0; 9]), Some(MALFORMED));
    assert_eq!(refused(0x2001, 17, &[]), Some(MALFORMED));
    assert_eq!(refused(0x0001, 17, &[]), Some(MALFORMED));
    assert_eq!(refused(0x1fff, 17, &[0; 8]), Some(MALFORMED));
    assert_eq!(refused(0x1fff - 3, 17, &[0; 8]), None);
    // RFC 1858 3: a first one too short for its header.
    assert_eq!(refused(0x2000, protocol::TCP, &tcp_header(tcp::SYN, &[], &[0; 8])[..16]), Some(MALFORMED));
    assert_eq!(refused(0x2000, protocol::TCP, &tcp_header(tcp::SYN, &[1; 8], &[0; 8])[..24]), Some(MALFORMED));
    assert_eq!(refused(0x2000, protocol::TCP, &tcp_header(tcp::SYN, &[], &[0; 8])[..24]), None);
}

#[test]
fn ipv6_extension_headers_are_passed() {
    let l4 = udp_header(b"data");
    let pseudo = pseudo_v6(protocol::UDP, &l4);
    let l4 = summed(l4, 6, pseudo);
    // Hop-by-hop, a routing header with no segment left, destination options, an atomic fragment (RFC 6946), authentication.
    let hop = [43, 0, 1, 4, 0, 0, 0, 0];
    let routing = [60, 0, 0, 0, 0, 0, 0, 0];
    let destination = [44, 0, 1, 4, 0, 0, 0, 0];
    let atomic = [51, 0, 0, 0, 0, 0, 0, 9];
    let auth = [17, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let octets = v6(0, &[&hop[..], &routing, &destination, &atomic, &auth, &l4].concat());
    let mut p: Packet<Ipv6Addr> = parse(&octets).unwrap();
    assert_eq!((p.l4(), p.transport(), p.fragment(), p.tuple().dport), (L4_V6 + 56, Transport::Udp, None, DPORT));
    p.rewrite_src(EXTERNAL6, 50_000);
    assert!(l4_sum_is_right(&p, protocol::UDP));
    p.set_id(8);
    assert_eq!(p.frame().bytes()[L4_V6 + 28..L4_V6 + 32], [0, 0, 0, 8]);
    // In the wrong place, twice, cut short, too many.
    let malformed = |next, headers: &[&[u8]]| {
        assert_eq!(parse::<Ipv6Addr>(&v6(next, &headers.concat())).err(), Some(MALFORMED), "{headers:?}");
    };
    malformed(60, &[&[0, 0, 1, 4, 0, 0, 0, 0], &[17, 0, 1, 4, 0, 0, 0, 0], &l4]);
    malformed(44, &[&[44, 0, 0, 0, 0, 0, 0, 1], &[17, 0, 0, 0, 0, 0, 0, 2], &l4]);
    malformed(44, &[&[44, 0, 0, 1, 0, 0, 0, 1], &[17, 0, 0, 9, 0, 0, 0, 2], &[0; 8]]);
    malformed(60, &[&[17, 1, 1, 4, 0, 0, 0, 0]]);
    malformed(60, &[&[17, 0, 1, 4]]);
    let mut many = [[60, 0, 1, 4, 0, 0, 0, 0]; EXTENSION_LIMIT];
    many[EXTENSION_LIMIT - 1][0] = 17;
    assert!(parse::<Ipv6Addr>(&v6(60, &[many.as_flattened(), &l4].concat())).is_ok());
    malformed(60, &[&[60, 0, 1, 4, 0, 0, 0, 0], many.as_flattened(), &l4]);
    // RFC 7112 5: a first fragment has all headers.
    malformed(44, &[&[60, 0, 0, 1, 0, 0, 0, 1], &[17, 1, 1, 4, 0, 0, 0, 0]]);
    // RFC 8200 4.7: nothing follows; translated by address alone.
    let p: Packet<Ipv6Addr> = parse(&v6(59, &[])).unwrap();
    assert_eq!((p.transport(), p.payload()), (Transport::Other, &[][..]));
}

#[test]
fn a_way_that_the_sender_chose_is_refused() {
    let l4 = udp_header(b"data");
    for options in [[131, 4, 4, 0], [137, 4, 4, 0]] {
        assert_eq!(parse::<Ipv4Addr>(&v4_between(SRC, DST, &options, 0, 17, &l4)).err(), Some(DropReason::SourceRoute));
        let behind = [&[1, 148, 4, 0, 0, 1, 1, 1][..], &options].concat();
        assert_eq!(parse::<Ipv4Addr>(&v4_between(SRC, DST, &behind, 0, 17, &l4)).err(), Some(DropReason::SourceRoute));
    }
    let routing = |left| [&[17, 2, 0, left, 0, 0, 0, 0][..], &[0; 16], &l4].concat();
    assert_eq!(parse::<Ipv6Addr>(&v6(43, &routing(1))).err(), Some(DropReason::SourceRoute));
    assert!(parse::<Ipv6Addr>(&v6(43, &routing(0))).is_ok());
}

#[test]
fn ipv4_options_are_passed_and_kept() {
    let l4 = udp_header(b"data");
    let pseudo = pseudo_v4(protocol::UDP, &l4);
    let l4 = summed(l4, 6, pseudo);
    // Behind the end of the list, nothing is an option.
    let options = [148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0, 131, 99, 0, 0];
    let mut p: Packet<Ipv4Addr> = parse(&v4_between(SRC, DST, &options, 0, 17, &l4)).unwrap();
    assert_eq!((p.l4(), p.tuple().dport), (L4_V4 + 16, DPORT));
    p.rewrite_src(EXTERNAL, 50_000);
    assert_eq!(p.frame().bytes()[34..50], options);
    assert!(ipv4_sum_is_right(p.frame().bytes()) && l4_sum_is_right(&p, protocol::UDP));
    for options in [[7, 0, 0, 0], [7, 1, 0, 0], [7, 5, 0, 0], [1, 1, 1, 7]] {
        assert_eq!(parse::<Ipv4Addr>(&v4_between(SRC, DST, &options, 0, 17, &l4)).err(), Some(MALFORMED), "{options:?}");
    }
}

#[test]
fn martians_are_refused() {
    let l4 = udp_header(b"");
    for address in [[127, 0, 0, 1], [0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255], [169, 254, 1, 1]].map(Ipv4Addr::from) {
        for (src, dst) in [(address, DST), (SRC, address)] {
            let refused = parse::<Ipv4Addr>(&v4_between(src, dst, &[], 0, 17, &l4)).err();
            assert_eq!(refused, Some(DropReason::Martian), "{src} {dst}");
        }
    }
    for address in ["::1", "::", "ff02::1", "fe80::1", "::ffff:1.2.3.4"].map(|text| text.parse::<Ipv6Addr>().unwrap()) {
        for at in [22, 38] {
            let mut octets = udp_v6(b"");
            octets[at..at + 16].copy_from_slice(&address.octets());
            assert_eq!(parse::<Ipv6Addr>(&octets).err(), Some(DropReason::Martian), "{address}");
        }
    }
}

#[test]
fn a_header_that_contradicts_itself_is_refused() {
    // RFC 1812 5.2.2: version, header length, checksum, total length.
    let octets = udp_v4(b"data");
    for (at, value) in [(14, 0x65), (14, 0x44), (14, 0x4f), (15, 1), (24, 0), (17, 19), (17, 200)] {
        let mut octets = octets.clone();
        octets[at] = value;
        if at == 17 {
            set(&mut octets, 24, 0);
            let sum = checksum::checksum(&octets[14..34]);
            set(&mut octets, 24, sum);
        }
        assert_eq!(parse::<Ipv4Addr>(&octets).err(), Some(MALFORMED), "octet {at}");
    }
    let mut octets = udp_v6(b"data");
    octets[14] = 0x40;
    assert_eq!(parse::<Ipv6Addr>(&octets).err(), Some(MALFORMED));
    // TCP: a data offset below five words or beyond the segment.
    for offset in [0x40, 0x60, 0xf0] {
        let mut octets = tcp_v4(tcp::ACK, &[], b"");
        octets[L4_V4 + 12] = offset;
        assert_eq!(parse::<Ipv4Addr>(&octets).err(), Some(MALFORMED));
    }
    assert_eq!(
        Packet::<Ipv4Addr>::parse(frame_of(&octets, FrameMeta::default()), 9_999).err().map(|(_, why)| why),
        Some(MALFORMED)
    );
}

#[test]
fn udp_may_be_shorter_than_ip_says_but_not_longer() {
    for (len, is_right) in [(0, false), (7, false), (8, true), (11, true), (12, true), (13, false), (0xffff, false)] {
        let mut l4 = udp_header(b"data");
        set(&mut l4, 4, len);
        assert_eq!(parse::<Ipv4Addr>(&v4(protocol::UDP, &l4)).is_ok(), is_right, "{len}");
        assert_eq!(parse::<Ipv6Addr>(&v6(protocol::UDP, &l4)).is_ok(), is_right, "{len}");
    }
}

#[test]
fn padding_is_cut() {
    let octets = udp_v4(b"");
    let padded = [&octets[..], &[0xff; 18]].concat();
    let p: Packet<Ipv4Addr> = parse(&padded).unwrap();
    assert_eq!((p.frame().bytes(), p.len()), (&octets[..], 28));
    let octets = tcp_v6(b"");
    let p: Packet<Ipv6Addr> = parse(&[&octets[..], &[0xff; 3]].concat()).unwrap();
    assert_eq!((p.frame().bytes(), p.len()), (&octets[..], 60));
}

#[test]
fn udp_lite_covers_what_it_says() {
    // RFC 3828 3.1: a coverage of 8: the header alone, and the pseudo-header with the length of all.
    let mut l4 = udp_header(b"not covered");
    set(&mut l4, 4, 8);
    let sum = |octets: &[u8], src: Ipv4Addr| checksum::add(src.pseudo(DST, 136, octets.len() as u32), checksum::sum(&octets[..8]));
    let right = !sum(&l4, SRC);
    set(&mut l4, 6, right);
    let mut p: Packet<Ipv4Addr> = parse(&v4(136, &l4)).unwrap();
    assert_eq!((p.transport(), p.tuple().dport), (Transport::Udp, DPORT));
    p.rewrite_src(EXTERNAL, 50_000);
    assert_eq!((sum(p.payload(), EXTERNAL), get(p.payload(), 0)), (0xffff, 50_000));
    assert_eq!(parse::<Ipv4Addr>(&v4(136, &l4[..7])).err(), Some(MALFORMED), "shorter than its header");
}

#[test]
fn sctp_is_translated_by_address_alone() {
    // N70: its CRC32c has no pseudo-header (RFC 9260 6.8).
    let l4 = [0x9c, 0x40, 0x0b, 0x59, 0, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef, 1, 0, 0, 4];
    let mut p: Packet<Ipv4Addr> = parse(&v4(132, &l4)).unwrap();
    assert_eq!((p.transport(), p.tuple().sport, p.tuple().dport), (Transport::Other, 0, 0));
    p.rewrite_src(EXTERNAL, 50_000);
    p.rewrite_dst(SRC, 50_000);
    assert_eq!(p.payload(), l4);
    assert!(ipv4_sum_is_right(p.frame().bytes()));
    assert_eq!((p.tuple().src, p.tuple().sport), (EXTERNAL, 0));
}

#[test]
fn dccp_has_a_pseudo_header() {
    let l4 = summed((0..16).collect(), 6, Some(SRC.pseudo(DST, protocol::DCCP, 16)));
    let mut p: Packet<Ipv4Addr> = parse(&v4(protocol::DCCP, &l4)).unwrap();
    p.rewrite_src(EXTERNAL, 1);
    assert!(l4_sum_is_right(&p, protocol::DCCP));
}

#[test]
fn errors_and_other_icmp_are_told_apart() {
    for (kind, transport) in [
        (3, Transport::Error),
        (4, Transport::Error),
        (11, Transport::Error),
        (12, Transport::Error),
        (5, Transport::Other),
        (13, Transport::Other),
    ] {
        assert_eq!(parse::<Ipv4Addr>(&v4(1, &echo(kind))).unwrap().transport(), transport, "{kind}");
    }
    for (kind, transport) in [(1, Transport::Error), (2, Transport::Error), (127, Transport::Error), (133, Transport::Other)] {
        assert_eq!(parse::<Ipv6Addr>(&v6(58, &echo(kind))).unwrap().transport(), transport, "{kind}");
    }
    // The other family's ICMP is a protocol like any.
    assert_eq!(parse::<Ipv4Addr>(&v4(58, &echo(128))).unwrap().transport(), Transport::Other);
    assert_eq!(parse::<Ipv6Addr>(&v6(1, &echo(8))).unwrap().transport(), Transport::Other);
}

fn all_v4() -> Vec<Vec<u8>> {
    let l4 = udp_header(b"data");
    vec![
        tcp_v4(tcp::SYN, &[2, 4, 5, 180, 3, 3, 7, 1], b"data"),
        udp_v4(b"odd"),
        v4(1, &summed(echo(8), 2, None)),
        v4(136, &l4),
        v4(33, &[7; 16]),
        v4(132, &[7; 16]),
        v4_between(SRC, DST, &[148, 4, 0, 0], 0, 17, &l4),
        v4_between(SRC, DST, &[], 0x2000, 17, &udp_header(&[0; 8])),
        v4_between(SRC, DST, &[], 9, 17, &l4),
    ]
}

fn all_v6() -> Vec<Vec<u8>> {
    let l4 = udp_header(b"data");
    vec![
        tcp_v6(b"data"),
        udp_v6(b"odd"),
        v6(58, &echo(128)),
        v6(0, &[&[60, 0, 1, 4, 0, 0, 0, 0][..], &[17, 0, 1, 4, 0, 0, 0, 0], &l4].concat()),
        v6(44, &[&[17, 0, 0, 1, 0, 0, 0, 1][..], &udp_header(&[0; 8])].concat()),
        v6(44, &[&[60, 0, 0, 9, 0, 0, 0, 1][..], &[0xff; 16]].concat()),
        v6(51, &[&[17, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2][..], &l4].concat()),
    ]
}

/// All that may be done to a packet, whatever it is.
fn exercise<A: Readable>(octets: &[u8], meta: FrameMeta, address: A) -> bool {
    let Ok(mut p) = parse_with::<A>(octets, meta) else { return false };
    p.take_hop();
    p.set_id(u32::MAX);
    p.rewrite_src(address, 1);
    p.rewrite_dst(address, 2);
    let _ = (p.clamp_mss(1), p.payload(), p.mtu_len(), p.may_fragment(), p.len());
    assert!(p.l3() + p.len() == p.frame().len() && p.l4() <= p.frame().len());
    true
}

#[test]
fn every_truncation_is_refused() {
    for octets in all_v4() {
        assert!(exercise(&octets, FrameMeta::default(), EXTERNAL));
        for len in 0..octets.len() {
            assert!(!exercise(&octets[..len], FrameMeta::default(), EXTERNAL), "{len} of {octets:?}");
        }
    }
    for octets in all_v6() {
        assert!(exercise(&octets, FrameMeta::default(), EXTERNAL6));
        for len in 0..octets.len() {
            assert!(!exercise(&octets[..len], FrameMeta::default(), EXTERNAL6), "{len} of {octets:?}");
        }
    }
}

/// Makes the lengths and the checksum right for `len` octets of layer 3, so that what is cut off is layer 4's.
fn shortened(octets: &[u8], len: usize) -> Vec<u8> {
    let mut octets = octets[..14 + len].to_vec();
    if octets[12] == 8 {
        set(&mut octets, 16, len as u16);
        set(&mut octets, 24, 0);
        let header = usize::from(octets[14] & 15) * 4;
        let sum = checksum::checksum(&octets[14..14 + header]);
        set(&mut octets, 24, sum);
    } else {
        set(&mut octets, 18, len as u16 - 40);
    }
    octets
}

#[test]
fn every_length_of_layer_4_is_judged() {
    for octets in all_v4() {
        let header = usize::from(octets[14] & 15) * 4;
        for len in header..octets.len() - 14 {
            exercise(&shortened(&octets, len), FrameMeta::default(), EXTERNAL);
        }
    }
    for octets in all_v6() {
        for len in 40..octets.len() - 14 {
            exercise(&shortened(&octets, len), FrameMeta::default(), EXTERNAL6);
        }
    }
}

fn meta() -> impl Strategy<Value = FrameMeta> {
    (any::<bool>(), 0..90_u16, 0..20_u16, 0..4_usize, 1..200_u16).prop_map(|(partial, start, offset, kind, size)| FrameMeta {
        tag: None,
        csum: if partial { Csum::Partial { start, offset } } else { Csum::Complete },
        gso: [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::UdpL4].get(kind).map(|&kind| Gso {
            kind,
            ecn: false,
            size: NonZeroU16::new(size).unwrap(),
            l4: start,
            headers: start + offset,
        }),
    })
}

proptest! {
    #[test]
    fn n71_increments_agree_with_a_whole_sum(
        src in any::<u32>(), dst in any::<u32>(), ports in any::<(u16, u16)>(), data in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        for (octets, number) in [(tcp_v4(tcp::ACK, &[], &data), protocol::TCP), (udp_v4(&data), protocol::UDP)] {
            let mut p: Packet<Ipv4Addr> = parse(&octets).unwrap();
            p.rewrite_src(src.into(), ports.0);
            p.rewrite_dst(dst.into(), ports.1);
            prop_assert!(l4_sum_is_right(&p, number) && ipv4_sum_is_right(p.frame().bytes()));
            prop_assert!(number != protocol::UDP || get(p.payload(), 6) != 0);
        }
    }

    #[test]
    fn n71_for_ipv6(src in any::<u128>(), dst in any::<u128>(), ports in any::<(u16, u16)>(), data in prop::collection::vec(any::<u8>(), 0..64)) {
        for (octets, number) in [(tcp_v6(&data), protocol::TCP), (udp_v6(&data), protocol::UDP)] {
            let mut p: Packet<Ipv6Addr> = parse(&octets).unwrap();
            p.rewrite_src(src.into(), ports.0);
            p.rewrite_dst(dst.into(), ports.1);
            prop_assert!(l4_sum_is_right(&p, number));
        }
    }

    /// There and back again is nothing, whatever the checksum was; but 0xffff, which is 0 written otherwise, may come back as 0.
    #[test]
    fn a_rewrite_can_be_undone(which in 0..9_usize, src in any::<u32>(), dst in any::<u32>(), ports in any::<(u16, u16)>(), sum in any::<u16>()) {
        let mut octets = all_v4()[which].clone();
        if which < 2 {
            set(&mut octets, L4_V4 + if which == 0 { 16 } else { 6 }, sum);
        }
        prop_assume!(which != 0 || sum != 0xffff);
        let mut p: Packet<Ipv4Addr> = parse(&octets).unwrap();
        let before = *p.tuple();
        p.rewrite_src(src.into(), ports.0);
        p.rewrite_dst(dst.into(), ports.1);
        p.rewrite_src(before.src, before.sport);
        p.rewrite_dst(before.dst, before.dport);
        prop_assert_eq!(*p.tuple(), before);
        prop_assert_eq!(p.frame().bytes(), octets);
    }

    #[test]
    fn a_rewrite_of_ipv6_can_be_undone(which in 0..7_usize, src in any::<u128>(), dst in any::<u128>(), ports in any::<(u16, u16)>()) {
        let octets = all_v6()[which].clone();
        let mut p: Packet<Ipv6Addr> = parse(&octets).unwrap();
        let before = *p.tuple();
        p.rewrite_src(src.into(), ports.0);
        p.rewrite_dst(dst.into(), ports.1);
        p.rewrite_src(before.src, before.sport);
        p.rewrite_dst(before.dst, before.dport);
        prop_assert_eq!(p.frame().bytes(), octets);
    }

    #[test]
    fn random_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..200), meta in meta(), l3 in 0..250_usize) {
        let _ = Packet::<Ipv4Addr>::parse(frame_of(&octets, meta), l3);
        let _ = Packet::<Ipv6Addr>::parse(frame_of(&octets, meta), l3);
    }

    /// Octets of valid packets changed, with the IPv4 header's checksum mended, so that more of it is reached.
    #[test]
    fn changed_octets_never_panic(which in 0..16_usize, changes in prop::collection::vec((14..90_usize, any::<u8>()), 0..6), meta in meta()) {
        let mut octets = [all_v4(), all_v6()].concat()[which].clone();
        for (at, value) in changes {
            octets.get_mut(at).into_iter().for_each(|octet| *octet = value);
        }
        if which >= 9 {
            exercise(&octets, meta, EXTERNAL6);
            return Ok(());
        }
        set(&mut octets, 24, 0);
        let header = (usize::from(octets[14] & 15) * 4).min(octets.len() - 14);
        let sum = checksum::checksum(&octets[14..14 + header]);
        set(&mut octets, 24, sum);
        exercise(&octets, meta, EXTERNAL);
    }
}
