use super::*;
use core::net::Ipv4Addr;
use core::num::NonZeroU16;
use pnet_packet::Packet as _;
use pnet_packet::ipv4::{self, Ipv4Packet};
use pnet_packet::tcp::{self, TcpPacket};
use pnet_packet::udp::{self, UdpPacket};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;
use vswitch_switch::{FrameMeta, FramePool, Gso, GsoKind};

const ETHERNET: [u8; 14] = [0x02, 0x58, 10, 88, 0, 3, 0x02, 0x58, 10, 88, 0, 2, 8, 0];
const SRC: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
const DST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 256) as u8).collect()
}

/// A packet with options, flags and offset as given, behind an Ethernet header.
fn ipv4(options: &[u8], fragment: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0);
    let header = 20 + options.len();
    let mut octets = vec![0x40 | (header / 4) as u8, 0, 0, 0, 0xbe, 0xef, 0, 0, 64, protocol, 0, 0];
    octets[2..4].copy_from_slice(&((header + payload.len()) as u16).to_be_bytes());
    octets[6..8].copy_from_slice(&fragment.to_be_bytes());
    octets.extend(SRC.octets());
    octets.extend(DST.octets());
    octets.extend(options);
    let sum = checksum::checksum(&octets);
    octets[10..12].copy_from_slice(&sum.to_be_bytes());
    [&ETHERNET[..], &octets, payload].concat()
}

fn frame_of(octets: &[u8]) -> FrameBuf {
    let mut frame = FramePool::new(1).take().unwrap();
    assert!(frame.fill(octets));
    frame
}

/// All fragments, each judged by itself: metadata, lengths, checksum, MTU.
fn cut(frame: FrameBuf, mtu: usize) -> Vec<Vec<u8>> {
    let mut fragmenter = Fragmenter::new(frame, 14, mtu).map_err(|(_, reason)| reason).unwrap();
    let mut out = frame_of(&[0xaa; 100]);
    out.meta.csum = Csum::Partial { start: 34, offset: 6 };
    let mut all = Vec::new();
    while fragmenter.next_into(&mut out) {
        assert_eq!(out.meta, FrameMeta::default());
        let octets = out.bytes().to_vec();
        assert_eq!(octets[..14], ETHERNET);
        assert!(octets.len() - 14 <= mtu, "{} > {mtu}", octets.len() - 14);
        let ip = Ipv4Packet::new(&octets[14..]).unwrap();
        assert_eq!(usize::from(ip.get_total_length()), octets.len() - 14);
        assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
        all.push(octets);
    }
    assert!(!fragmenter.next_into(&mut out), "nothing after the last");
    all
}

/// Puts fragments together that come in order and belong to one datagram; says where it begins, in units, and whether its end is missing.
fn reassemble(fragments: &[Vec<u8>]) -> (Vec<u8>, u16, bool) {
    let ip = |octets: &'_ [u8]| Ipv4Packet::owned(octets[14..].to_vec()).unwrap();
    let first = ip(&fragments[0]);
    let mut all: Vec<u8> = Vec::new();
    for (i, octets) in fragments.iter().enumerate() {
        let ip = ip(octets);
        assert_eq!(ip.get_identification(), first.get_identification(), "N18: one identification");
        assert_eq!(usize::from(ip.get_fragment_offset() - first.get_fragment_offset()) * 8, all.len());
        if i + 1 < fragments.len() {
            assert_eq!(ip.get_flags(), 1);
            assert_eq!(ip.payload().len() % 8, 0);
        }
        all.extend(&octets[14 + usize::from(ip.get_header_length()) * 4..]);
    }
    (all, first.get_fragment_offset(), ip(fragments.last().unwrap()).get_flags() & 1 != 0)
}

#[test]
fn n18_in_order_with_one_identification_and_ports_in_the_first_only() {
    let fragments = cut(frame_of(&ipv4(&[], 0, 17, &payload(3_000))), 1_500);
    assert_eq!(fragments.iter().map(Vec::len).collect::<Vec<_>>(), [1_514, 1_514, 14 + 20 + 40]);
    // RFC 791 3.2: flags and offset.
    assert_eq!(fragments.iter().map(|octets| [octets[20], octets[21]]).collect::<Vec<_>>(), [[0x20, 0], [0x20, 185], [1, 114]]);
    assert_eq!(reassemble(&fragments), (payload(3_000), 0, false));
}

#[test]
fn what_fits_comes_out_as_it_was() {
    let octets = ipv4(&[], 0, 17, &payload(1_480));
    assert_eq!(cut(frame_of(&octets), 1_500), [octets]);
    let empty = ipv4(&[], 0, 17, &[]);
    assert_eq!(cut(frame_of(&empty), 1_500), [empty]);
}

#[test]
fn padding_is_no_payload() {
    let mut octets = ipv4(&[], 0, 17, &payload(100));
    octets.extend([0xff; 9]);
    assert_eq!(reassemble(&cut(frame_of(&octets), 68)), (payload(100), 0, false));
}

#[test]
fn options_with_the_copied_flag_are_in_every_fragment() {
    // No operation; record route (7, not copied) of 7 octets; router alert (148, copied) of 4; end.
    let options = [1, 7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0, 0, 0, 0];
    let fragments = cut(frame_of(&ipv4(&options, 0, 17, &payload(200))), 100);
    assert_eq!(fragments[0][14], 0x49);
    assert_eq!(fragments[0][34..50], options);
    assert!(fragments.len() > 2);
    for later in &fragments[1..] {
        assert_eq!(later[14], 0x46);
        assert_eq!(later[34..38], [148, 4, 0, 0]);
    }
    assert_eq!(reassemble(&fragments), (payload(200), 0, false));
}

#[test]
fn a_fragment_is_cut_further() {
    for more in [0x2000, 0] {
        let fragments = cut(frame_of(&ipv4(&[], more | 100, 17, &payload(1_200))), 576);
        assert_eq!(fragments.len(), 3);
        assert_eq!(reassemble(&fragments), (payload(1_200), 100, more != 0));
    }
}

#[test]
fn a_partial_checksum_is_completed_before_the_cut() {
    let mut datagram = [&[0x9c, 0x40, 0, 53, 0, 0, 0, 0][..], &payload(2_001)].concat();
    let len = datagram.len() as u16;
    datagram[4..6].copy_from_slice(&len.to_be_bytes());
    datagram[6..8].copy_from_slice(&checksum::pseudo_v4(SRC.octets(), DST.octets(), 17, len).to_be_bytes());
    let mut octets = ipv4(&[], 0, 17, &datagram);
    octets.extend([0xff; 4]);
    let mut frame = frame_of(&octets);
    frame.meta.csum = Csum::Partial { start: 34, offset: 6 };
    let (whole, ..) = reassemble(&cut(frame, 1_000));
    let udp = UdpPacket::new(&whole).unwrap();
    assert_eq!(udp.get_checksum(), udp::ipv4_checksum(&udp, &SRC, &DST));
    assert_eq!(udp.payload(), payload(2_001));
}

fn gso(kind: GsoKind, size: u16, headers: usize) -> FrameMeta {
    let offset = if kind == GsoKind::UdpL4 { 6 } else { 16 };
    let gso = Gso { kind, ecn: false, size: NonZeroU16::new(size).unwrap(), l4: 34, headers: headers as u16 };
    FrameMeta { tag: None, csum: Csum::Partial { start: 34, offset }, gso: Some(gso) }
}

/// The segments of a GSO frame, each joined from its fragments.
fn segments(fragments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut groups: Vec<Vec<Vec<u8>>> = Vec::new();
    for octets in fragments {
        if octets[20] & 0x1f == 0 && octets[21] == 0 {
            groups.push(Vec::new());
        }
        groups.last_mut().unwrap().push(octets.clone());
    }
    groups.iter().map(|group| reassemble(group).0).collect()
}

#[test]
fn a_segment_longer_than_the_mtu_is_cut_in_turn() {
    for (len, size, mtu) in
        [(5_000, 1_448, 576), (10, 2, 68), (1_448, 1_448, 1_499), (100, 1, 68), (0, 9, 68), (64_000, 60_000, 1_280)]
    {
        let header = [0x9c, 0x40, 0x14, 0x51, 0xff, 0xff, 0xff, 0, 1, 2, 3, 4, 0x50, 0x18, 1, 0xf5, 0xde, 0xad, 0, 0];
        let mut frame = frame_of(&ipv4(&[], 0, 6, &[&header[..], &payload(len)].concat()));
        frame.meta = gso(GsoKind::TcpV4, size, 54);
        let (mut all, mut count) = (Vec::<u8>::new(), 0);
        for segment in segments(&cut(frame, mtu)) {
            let tcp = TcpPacket::new(&segment).unwrap();
            assert_eq!(tcp.get_checksum(), tcp::ipv4_checksum(&tcp, &SRC, &DST));
            assert_eq!(tcp.get_sequence(), 0xffff_ff00_u32.wrapping_add(all.len() as u32));
            all.extend(tcp.payload());
            count += 1;
        }
        assert_eq!((all, count), (payload(len), len.div_ceil(usize::from(size)).max(1)));

        let mut frame = frame_of(&ipv4(&[], 0, 17, &[&header[..8], &payload(len)].concat()));
        frame.meta = gso(GsoKind::UdpL4, size, 42);
        let mut all: Vec<u8> = Vec::new();
        for segment in segments(&cut(frame, mtu)) {
            let udp = UdpPacket::new(&segment).unwrap();
            assert_eq!(usize::from(udp.get_length()), segment.len());
            let sum = udp::ipv4_checksum(&udp, &SRC, &DST);
            assert_eq!(udp.get_checksum(), checksum::non_zero(sum));
            all.extend(udp.payload());
        }
        assert_eq!(all, payload(len));
    }
}

/// A UDP datagram of our own over IPv6, its checksum left to be finished.
fn ipv6(payload: &[u8]) -> FrameBuf {
    let (src, dst) = ([0xfd; 16], [0xfe; 16]);
    let len = (8 + payload.len()) as u16;
    let sum = checksum::pseudo_v6(src, dst, 17, u32::from(len));
    let header = [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[17, 64], &src, &dst].concat();
    let udp = [&[0, 53, 0x9c, 0x40][..], &len.to_be_bytes(), &sum.to_be_bytes(), payload].concat();
    let mut frame = frame_of(&[&ETHERNET[..12], &[0x86, 0xdd], &header, &udp].concat());
    frame.meta.csum = Csum::Partial { start: 54, offset: 6 };
    frame
}

/// Cuts and joins again, datagram by datagram; each with the identification of its fragments, if it was cut.
fn through_v6(frame: FrameBuf, mtu: usize) -> Vec<(Option<u32>, Vec<u8>)> {
    let mut fragmenter = Fragmenter::originate(frame, 14, mtu, u32::MAX).map_err(|(_, reason)| reason).unwrap();
    let mut out = frame_of(&[0xaa; 100]);
    let mut all: Vec<(Option<u32>, Vec<u8>)> = Vec::new();
    let mut ends = true;
    while fragmenter.next_into(&mut out) {
        let packet = &out.bytes()[14..];
        assert!(packet.len() <= mtu && out.meta == FrameMeta::default());
        assert_eq!(usize::from(u16::from_be_bytes([packet[4], packet[5]])), packet.len() - 40);
        if packet[6] == 17 {
            assert!(ends);
            all.push((None, packet[40..].to_vec()));
            continue;
        }
        // RFC 8200 4.5: next header, reserved, offset and M, identification.
        assert_eq!((packet[6], packet[40], packet[41]), (44, 17, 0));
        let place = u16::from_be_bytes([packet[42], packet[43]]);
        let id = u32::from_be_bytes(packet[44..48].try_into().unwrap());
        if ends {
            all.push((Some(id), Vec::new()));
        }
        let (of, joined) = all.last_mut().unwrap();
        assert_eq!((*of, usize::from(place & !7)), (Some(id), joined.len()));
        joined.extend(&packet[48..]);
        ends = place & 1 == 0;
        assert!(place & 6 == 0 && (ends || packet.len().is_multiple_of(8)));
    }
    assert!(ends, "the last is there");
    for (_, udp) in &all {
        let sum = checksum::add(checksum::pseudo_v6([0xfd; 16], [0xfe; 16], 17, udp.len() as u32), checksum::sum(udp));
        assert_eq!(sum, 0xffff);
    }
    all
}

#[test]
fn our_own_ipv6_is_cut_at_its_source() {
    for len in [1_233, 1_453, 8_000, 65_000] {
        let all = through_v6(ipv6(&payload(len)), 1_280);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].0, &all[0].1[8..]), (Some(u32::MAX), &payload(len)[..]));
    }
    // RFC 8021: nothing that fits has a fragment header.
    assert_eq!(through_v6(ipv6(&payload(1_232)), 1_280)[0].0, None);
    let mut frame = ipv6(&payload(5_000));
    frame.meta.gso = Some(Gso { kind: GsoKind::UdpL4, ecn: false, size: NonZeroU16::new(2_000).unwrap(), l4: 54, headers: 62 });
    let all = through_v6(frame, 1_280);
    assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [Some(0), Some(1), None]);
    assert_eq!(all.iter().flat_map(|(_, udp)| udp[8..].to_vec()).collect::<Vec<_>>(), payload(5_000));
    // Another's is not, and no link has room for less than the headers.
    assert!(matches!(Fragmenter::new(ipv6(&payload(2_000)), 14, 1_280), Err((_, DropReason::TooBig))));
    assert!(matches!(Fragmenter::originate(ipv6(&payload(2_000)), 14, 55, 1), Err((_, DropReason::TooBig))));
}

#[test]
fn what_may_not_be_cut_comes_back() {
    let refused =
        |octets: &[u8], mtu| Fragmenter::new(frame_of(octets), 14, mtu).map_err(|(frame, reason)| (frame.len(), reason)).err();
    let octets = ipv4(&[], 0, 17, &payload(1_000));
    let with = |at: usize, value: u8| {
        let mut octets = octets.clone();
        octets[at] = value;
        octets
    };
    let len = octets.len();
    assert_eq!(refused(&ipv4(&[], 0x4000, 17, &payload(1_000)), 576), Some((len, DropReason::TooBig)), "DF");
    assert_eq!(refused(&with(14, 0x60), 576), Some((len, DropReason::TooBig)), "IPv6");
    assert_eq!(refused(&octets, 27), Some((len, DropReason::TooBig)), "no room");
    for (at, value) in [(14, 0x44), (14, 0x35), (16, 0xff), (16, 0)] {
        let wrong = if at == 16 && value == 0 { ipv4(&[], 0, 17, &[])[..30].to_vec() } else { with(at, value) };
        assert!(matches!(refused(&wrong, 576), Some((_, DropReason::PacketMalformed))), "{at} {value}");
    }
    assert!(matches!(refused(&ipv4(&[], 0x1fff, 17, &payload(8)), 576), Some((_, DropReason::PacketMalformed))), "beyond 65,535");
    assert!(matches!(refused(&octets[..14], 576), Some((14, DropReason::PacketMalformed))));
    let mut frame = frame_of(&octets);
    frame.meta.csum = Csum::Partial { start: 34, offset: 2_000 };
    assert!(matches!(Fragmenter::new(frame, 14, 576), Err((_, DropReason::BadOffload))));
    let mut frame = frame_of(&octets);
    frame.meta = gso(GsoKind::TcpV4, 100, 54);
    assert!(matches!(Fragmenter::new(frame, 14, 576), Err((_, DropReason::GsoUnsupported))));
}

/// Options of up to 40 octets, each well-formed.
fn options() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec((2_u8..=255, prop::collection::vec(any::<u8>(), 0..8)), 0..6).prop_map(|options| {
        let mut octets = Vec::new();
        for (kind, data) in options {
            let option = if data.len() == 7 { vec![1] } else { [&[kind, data.len() as u8 + 2][..], &data].concat() };
            if octets.len() + option.len() <= 40 {
                octets.extend(option);
            }
        }
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    })
}

proptest! {
    #[test]
    fn joined_again_it_is_what_it_was(
        len in 0..9_000_usize, mtu in 68..1_500_usize, options in options(), offset in 0..6_000_u16, more in any::<bool>(),
    ) {
        let len = if more { len & !7 } else { len };
        let fragment = offset | if more { MORE } else { 0 };
        let fragments = cut(frame_of(&ipv4(&options, fragment, 17, &payload(len))), mtu);
        prop_assert_eq!(reassemble(&fragments), (payload(len), offset, more));
    }

    #[test]
    fn never_panics(
        mut octets in prop::collection::vec(any::<u8>(), 0..300), mtu in 0..200_usize, csum in any::<(u8, u8)>(),
        size in 0..200_u16, l3 in 0..40_usize, l4 in 0..120_u16, headers in 0..120_u16, udp in any::<bool>(),
    ) {
        if let Some(first) = octets.get_mut(14..16) {
            first.copy_from_slice(&[0x45 | first[0] & 7, 0]);
            octets.get_mut(20).into_iter().for_each(|flags| *flags &= 0x3f);
        }
        let mut frame = frame_of(&octets);
        frame.meta.csum = Csum::Partial { start: csum.0.into(), offset: csum.1.into() };
        let kind = if udp { GsoKind::UdpL4 } else { GsoKind::TcpV4 };
        frame.meta.gso = NonZeroU16::new(size).map(|size| Gso { kind, ecn: false, size, l4, headers });
        let l3 = if l3 < 30 { 14 } else { l3 };
        if let Ok(mut fragmenter) = Fragmenter::new(frame, l3, mtu) {
            let mut out = frame_of(&[]);
            for _ in 0..1_000 {
                if !fragmenter.next_into(&mut out) {
                    break;
                }
            }
            prop_assert!(!fragmenter.next_into(&mut out), "it ends");
        }
    }
}
