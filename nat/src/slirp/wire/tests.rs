use super::*;
use crate::slirp::tcp::Offer;
use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec::Vec;
use vswitch_switch::FramePool;

const LINK: Link = Link { dst: UnicastMac::for_ipv4([10, 88, 0, 2]), src: UnicastMac::for_ipv4([10, 88, 0, 1]) };
const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 2));
const REMOTE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9));
const INSIDE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd58, 0, 0, 0, 0, 0, 0, 2));
/// The Ethernet header before each family's packets.
const ETHERNET: [u8; 14] = [0x02, 0x58, 10, 88, 0, 2, 0x02, 0x58, 10, 88, 0, 1, 0x08, 0x00];
const ETHERNET_V6: [u8; 14] = [0x02, 0x58, 10, 88, 0, 2, 0x02, 0x58, 10, 88, 0, 1, 0x86, 0xdd];
/// Addresses of an IPv6 header.
const ADDRESSES_V6: [u8; 32] =
    [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0xfd, 0x58, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const FROM: SocketAddr = SocketAddr::new(REMOTE, 80);
const TO: SocketAddr = SocketAddr::new(INSIDE, 40_000);
const FROM_V6: SocketAddr = SocketAddr::new(REMOTE_V6, 80);
const TO_V6: SocketAddr = SocketAddr::new(INSIDE_V6, 40_000);

/// A buffer that had other things in it, with `payload` where it is to lie.
fn frame(at: usize, payload: &[u8]) -> FrameBuf {
    let mut frame = FramePool::new(1).take().expect("a buffer");
    assert!(frame.fill(&[0xee; 200]) && frame.begin(at + payload.len()));
    frame.bytes_mut()[at..].copy_from_slice(payload);
    frame
}

fn emit(flags: u8, offer: Option<Offer>) -> Emit {
    Emit { seq: 0x0102_0304, ack: 0xa0b0_c0d0, flags, window: 0x1234, offer }
}

fn size(octets: u16) -> NonZeroU16 {
    NonZeroU16::new(octets).expect("not zero")
}

#[test]
fn headers_have_their_lengths() {
    assert_eq!([false, true].map(ip_headers), [34, 54]);
    assert_eq!([false, true].map(tcp_headers), [54, 74]);
    assert_eq!([false, true].map(udp_headers), [42, 62]);
}

#[test]
fn a_frame_carries_as_many_whole_segments_as_a_packet_holds() {
    // Of 65,535 less 40, less 60.
    assert_eq!((longest(false, 1_460), longest(true, 1_440)), (64_240, 64_800));
    assert_eq!((longest(false, 536), longest(false, 1)), (65_392, 65_495));
    // Not even one; and nobody has said how long one is.
    assert_eq!((longest(false, u16::MAX), longest(true, u16::MAX), longest(true, 0)), (65_495, 65_475, 65_475));
}

#[test]
fn rfc9293_3_1_a_segment_without_data() {
    let mut frame = frame(54, b"");
    assert!(write_tcp(&mut frame, LINK, FROM, TO, &emit(0x11, None), 0, 1_460));
    let ip = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0xf4, 0x6c, 203, 0, 113, 9, 10, 88, 0, 2];
    // The checksum is the sum of the pseudo-header: cb00 + 7109 + 0a58 + 0002 + 0006 + 0014.
    let tcp = [0, 80, 0x9c, 0x40, 1, 2, 3, 4, 0xa0, 0xb0, 0xc0, 0xd0, 0x50, 0x11, 0x12, 0x34, 0x46, 0x7e, 0, 0];
    assert_eq!(frame.bytes(), [&ETHERNET[..], &ip, &tcp].concat());
    assert_eq!((frame.meta.csum, frame.meta.gso), (Csum::Partial { start: 34, offset: 16 }, None));
}

#[test]
fn rfc9293_3_2_a_syn_says_its_segment_size_and_its_scale() {
    let mut whole = frame(54, b"");
    let offer = Some(Offer { mss: 1_460, scale: Some(8) });
    assert!(write_tcp(&mut whole, LINK, FROM, TO, &emit(0x12, offer), 0, 1_460));
    let ip = [0x45, 0, 0, 48, 0, 0, 0x40, 0, 64, 6, 0xf4, 0x64, 203, 0, 113, 9, 10, 88, 0, 2];
    let tcp = [0, 80, 0x9c, 0x40, 1, 2, 3, 4, 0xa0, 0xb0, 0xc0, 0xd0, 0x70, 0x12, 0x12, 0x34, 0x46, 0x86, 0, 0];
    let options = [2, 4, 0x05, 0xb4, 1, 3, 3, 8];
    assert_eq!(whole.bytes(), [&ETHERNET[..], &ip, &tcp, &options].concat());
    // RFC 7323 2.2: of one that does not scale, no option either.
    let mut bare = frame(74, b"");
    assert!(write_tcp(&mut bare, LINK, FROM_V6, TO_V6, &emit(0x02, Some(Offer { mss: 1_440, scale: None })), 0, 1_440));
    let ip = [0x60, 0, 0, 0, 0, 24, 6, 64];
    let tcp = [0, 80, 0x9c, 0x40, 1, 2, 3, 4, 0xa0, 0xb0, 0xc0, 0xd0, 0x60, 0x02, 0x12, 0x34, 0x2b, 0x3b, 0, 0];
    assert_eq!(bare.bytes(), [&ETHERNET_V6[..], &ip, &ADDRESSES_V6, &tcp, &[2, 4, 0x05, 0xa0]].concat());
    assert_eq!(bare.meta.csum, Csum::Partial { start: 54, offset: 16 });
}

#[test]
fn a_segment_is_written_around_its_data() {
    let mut frame = frame(74, b"hello");
    assert!(write_tcp(&mut frame, LINK, FROM_V6, TO_V6, &emit(0x18, None), 5, 1_440));
    let ip = [0x60, 0, 0, 0, 0, 25, 6, 64];
    let tcp = [0, 80, 0x9c, 0x40, 1, 2, 3, 4, 0xa0, 0xb0, 0xc0, 0xd0, 0x50, 0x18, 0x12, 0x34, 0x2b, 0x3c, 0, 0];
    assert_eq!(frame.bytes(), [&ETHERNET_V6[..], &ip, &ADDRESSES_V6, &tcp, b"hello"].concat());
    assert_eq!(frame.meta.gso, None);
}

#[test]
fn more_than_a_segment_is_to_be_cut_and_exactly_one_is_not() {
    let data: Vec<u8> = (0..3_000_u16).map(|at| at as u8).collect();
    let mut long = frame(54, &data);
    assert!(write_tcp(&mut long, LINK, FROM, TO, &emit(0x10, None), 3_000, 1_460));
    let gso = Gso { kind: GsoKind::TcpV4, ecn: false, size: size(1_460), l4: 34, headers: 54 };
    assert_eq!((long.len(), long.meta.gso), (3_054, Some(gso)));
    let ip = [0x45, 0, 0x0b, 0xe0, 0, 0, 0x40, 0, 64, 6, 0xe8, 0xb4, 203, 0, 113, 9, 10, 88, 0, 2];
    assert_eq!(long.bytes()[14..34], ip);
    assert_eq!((&long.bytes()[50..54], &long.bytes()[54..]), (&[0x52, 0x36, 0, 0][..], &data[..]));
    let mut v6 = frame(74, &data);
    assert!(write_tcp(&mut v6, LINK, FROM_V6, TO_V6, &emit(0x10, None), 3_000, 1_440));
    let gso = Gso { kind: GsoKind::TcpV6, ecn: false, size: size(1_440), l4: 54, headers: 74 };
    assert_eq!(v6.meta.gso, Some(gso));
    let mut exact = frame(54, &data[..1_460]);
    assert!(write_tcp(&mut exact, LINK, FROM, TO, &emit(0x10, None), 1_460, 1_460));
    assert_eq!(exact.meta.gso, None);
}

#[test]
fn what_a_packet_cannot_hold_is_not_written() {
    let mut frame = frame(74, b"");
    for (from, to, most) in [(FROM, TO, 65_495), (FROM_V6, TO_V6, 65_475)] {
        assert!(write_tcp(&mut frame, LINK, from, to, &emit(0x10, None), most, 1_460));
        assert!(!write_tcp(&mut frame, LINK, from, to, &emit(0x10, None), most + 1, 1_460));
        assert!(write_udp(&mut frame, LINK, (from, to), most + 12, None, Ip::WHOLE));
        assert!(!write_udp(&mut frame, LINK, (from, to), most + 13, None, Ip::WHOLE));
        assert!(write_icmp(&mut frame, LINK, (from.ip(), to.ip()), most + 20, Ip::WHOLE));
        assert!(!write_icmp(&mut frame, LINK, (from.ip(), to.ip()), most + 21, Ip::WHOLE));
    }
}

#[test]
fn the_ends_are_of_one_family() {
    let mut frame = frame(74, b"");
    for (from, to) in [(FROM, TO_V6), (FROM_V6, TO)] {
        assert!(!write_tcp(&mut frame, LINK, from, to, &emit(0x10, None), 0, 1_460));
        assert!(!write_udp(&mut frame, LINK, (from, to), 0, None, Ip::WHOLE));
        assert!(!write_icmp(&mut frame, LINK, (from.ip(), to.ip()), 8, Ip::WHOLE));
    }
}

#[test]
fn rfc768_a_datagram_that_may_be_cut_has_an_identification() {
    let mut v4 = frame(42, b"hello");
    assert!(write_udp(&mut v4, LINK, (FROM, TO), 5, None, Ip { hops: 3, id: Some(0x1234) }));
    let ip = [0x45, 0, 0, 33, 0x12, 0x34, 0, 0, 3, 17, 0x5f, 0x35, 203, 0, 113, 9, 10, 88, 0, 2];
    assert_eq!(v4.bytes(), [&ETHERNET[..], &ip, &[0, 80, 0x9c, 0x40, 0, 13, 0x46, 0x82], b"hello"].concat());
    assert_eq!((v4.meta.csum, v4.meta.gso), (Csum::Partial { start: 34, offset: 6 }, None));
    // IPv6 has none.
    let mut v6 = frame(62, b"hello");
    assert!(write_udp(&mut v6, LINK, (FROM_V6, TO_V6), 5, None, Ip { hops: 3, id: Some(0x1234) }));
    let ip = [0x60, 0, 0, 0, 0, 13, 17, 3];
    assert_eq!(v6.bytes(), [&ETHERNET_V6[..], &ip, &ADDRESSES_V6, &[0, 80, 0x9c, 0x40, 0, 13, 0x2b, 0x3b], b"hello"].concat());
    assert_eq!(v6.meta.csum, Csum::Partial { start: 54, offset: 6 });
}

#[test]
fn datagrams_of_one_size_go_in_one_frame() {
    for (from, to, at, l4) in [(FROM, TO, 42, 34), (FROM_V6, TO_V6, 62, 54)] {
        let mut many = frame(at, &[7; 2_500]);
        assert!(write_udp(&mut many, LINK, (from, to), 2_500, Some(size(1_000)), Ip::WHOLE));
        let gso = Gso { kind: GsoKind::UdpL4, ecn: false, size: size(1_000), l4, headers: at as u16 };
        assert_eq!((many.len(), many.meta.gso), (at + 2_500, Some(gso)));
        // The lengths and the sum are those of the whole; who cuts makes each its own.
        assert_eq!(many.bytes()[at - 4..at - 2], [0x09, 0xcc]);
        let mut one = frame(at, &[7; 1_000]);
        assert!(write_udp(&mut one, LINK, (from, to), 1_000, Some(size(1_000)), Ip::WHOLE));
        assert_eq!(one.meta.gso, None);
    }
}

#[test]
fn rfc792_an_echo_reply_is_summed_here() {
    // What stands in the checksum's place counts as zero.
    let mut v4 = frame(34, b"\x00\x00\xee\xee\x12\x34\x00\x07hello");
    assert!(write_icmp(&mut v4, LINK, (REMOTE, INSIDE), 13, Ip::WHOLE));
    let ip = [0x45, 0, 0, 33, 0, 0, 0x40, 0, 64, 1, 0xf4, 0x78, 203, 0, 113, 9, 10, 88, 0, 2];
    assert_eq!(v4.bytes(), [&ETHERNET[..], &ip, &[0, 0, 0xa9, 0xf2, 0x12, 0x34, 0, 7], b"hello"].concat());
    assert_eq!((v4.meta.csum, v4.meta.gso), (frame(34, b"").meta.csum, None));
    // RFC 4443 2.3: with the pseudo-header.
    let mut v6 = frame(54, b"\x81\x00\xee\xee\x12\x34\x00\x07hello");
    assert!(write_icmp(&mut v6, LINK, (REMOTE_V6, INSIDE_V6), 13, Ip::WHOLE));
    let ip = [0x60, 0, 0, 0, 0, 13, 58, 64];
    assert_eq!(v6.bytes(), [&ETHERNET_V6[..], &ip, &ADDRESSES_V6, &[129, 0, 0xfd, 0x8d, 0x12, 0x34, 0, 7], b"hello"].concat());
}
