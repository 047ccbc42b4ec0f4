use super::*;
use core::num::NonZeroU16;
use pnet_packet::Packet;
use pnet_packet::ipv4::{self, Ipv4Packet};
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::tcp::{self, TcpPacket};
use pnet_packet::udp::{self, UdpPacket};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;
use vswitch_switch::{FrameMeta, FramePool};

const MACS: [u8; 12] = [0x02, 0x58, 10, 88, 0, 3, 0x02, 0x58, 10, 88, 0, 2];
// 10.88.0.2 -> 10.88.0.3, id 0xfffe, DF, TTL 64; total length and checksum to be corrected.
const V4: [u8; 20] = [0x45, 0x02, 0, 0, 0xff, 0xfe, 0x40, 0, 64, 6, 0, 0, 10, 88, 0, 2, 10, 88, 0, 3];
// fd00::2 -> fd00::3, flow label 0x12345.
const V6: [u8; 40] = [
    0x60, 0x01, 0x23, 0x45, 0, 0, 6, 64, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 3,
];
// 40000 -> 5201, seq 0xffffff00 (wraps), ack, 32 octets with a timestamp option, CWR|ACK|PSH|FIN.
const TCP_HEADER: [u8; 32] = [
    0x9c, 0x40, 0x14, 0x51, 0xff, 0xff, 0xff, 0, 1, 2, 3, 4, 0x80, 0x99, 1, 0xf5, 0xde, 0xad, 0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0,
    0, 2,
];
const UDP_HEADER: [u8; 8] = [0x9c, 0x40, 0x14, 0x51, 0, 0, 0xde, 0xad];

fn octets_of(ethertype: u16, parts: &[&[u8]]) -> Vec<u8> {
    [&MACS[..], &ethertype.to_be_bytes(), &parts.concat()].concat()
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 256) as u8).collect()
}

fn frame_of(octets: &[u8], meta: FrameMeta) -> FrameBuf {
    let mut frame = FramePool::new(1).take().unwrap();
    assert!(frame.fill(octets));
    frame.meta = meta;
    frame
}

fn gso(kind: GsoKind, size: u16, l4: usize, headers: usize) -> FrameMeta {
    let offset = if kind == GsoKind::UdpL4 { 6 } else { 16 };
    FrameMeta {
        tag: None,
        csum: Csum::Partial { start: l4 as u16, offset },
        gso: Some(Gso { kind, ecn: false, size: NonZeroU16::new(size).unwrap(), l4: l4 as u16, headers: headers as u16 }),
    }
}

fn tcp_v4(len: usize, size: u16) -> FrameBuf {
    frame_of(&octets_of(0x0800, &[&V4, &TCP_HEADER, &payload(len)]), gso(GsoKind::TcpV4, size, 34, 66))
}

fn udp_v4(len: usize, size: u16) -> FrameBuf {
    let mut ip = V4;
    ip[9] = 17;
    frame_of(&octets_of(0x0800, &[&ip, &UDP_HEADER, &payload(len)]), gso(GsoKind::UdpL4, size, 34, 42))
}

fn tcp_v6(len: usize, size: u16) -> FrameBuf {
    frame_of(&octets_of(0x86dd, &[&V6, &TCP_HEADER, &payload(len)]), gso(GsoKind::TcpV6, size, 54, 86))
}

fn cut(frame: &FrameBuf) -> Vec<Vec<u8>> {
    let mut segments = Segments::new(frame).unwrap();
    let mut scratch = vec![0xaa; 65_600];
    let mut out = Vec::new();
    while let Some(len) = segments.next_into(&mut scratch) {
        out.push(scratch[..len].to_vec());
    }
    assert_eq!(out.len(), segments.count());
    out
}

fn check_tcp(tcp: &TcpPacket<'_>, checksum: u16, i: usize, count: usize, size: usize) {
    assert_eq!(tcp.get_checksum(), checksum);
    assert_eq!(tcp.get_sequence(), 0xffff_ff00_u32.wrapping_add((i * size) as u32));
    let flags = match (i, i + 1 == count) {
        (0, true) => 0x99,
        (0, false) => 0x90,
        (_, true) => 0x19,
        (_, false) => 0x10,
    };
    assert_eq!(tcp.get_flags(), flags, "segment {i} of {count}");
    assert_eq!(tcp.get_acknowledgement(), 0x0102_0304);
}

fn check_tcp_v4(len: usize, size: u16) {
    let segments = cut(&tcp_v4(len, size));
    let mut all = Vec::new();
    for (i, segment) in segments.iter().enumerate() {
        let ip = Ipv4Packet::new(&segment[14..]).unwrap();
        assert_eq!(usize::from(ip.get_total_length()), segment.len() - 14);
        assert_eq!(ip.get_identification(), 0xfffe_u16.wrapping_add(i as u16));
        assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
        let tcp = TcpPacket::new(ip.payload()).unwrap();
        let checksum = tcp::ipv4_checksum(&tcp, &ip.get_source(), &ip.get_destination());
        check_tcp(&tcp, checksum, i, segments.len(), usize::from(size));
        all.extend_from_slice(tcp.payload());
    }
    assert_eq!(all, payload(len));
}

fn check_tcp_v6(len: usize, size: u16) {
    let segments = cut(&tcp_v6(len, size));
    let mut all = Vec::new();
    for (i, segment) in segments.iter().enumerate() {
        let ip = Ipv6Packet::new(&segment[14..]).unwrap();
        assert_eq!(usize::from(ip.get_payload_length()), segment.len() - 54);
        let tcp = TcpPacket::new(ip.payload()).unwrap();
        let checksum = tcp::ipv6_checksum(&tcp, &ip.get_source(), &ip.get_destination());
        check_tcp(&tcp, checksum, i, segments.len(), usize::from(size));
        all.extend_from_slice(tcp.payload());
    }
    assert_eq!(all, payload(len));
}

fn check_udp_v4(len: usize, size: u16) {
    let mut all = Vec::new();
    for segment in cut(&udp_v4(len, size)) {
        let ip = Ipv4Packet::new(&segment[14..]).unwrap();
        assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
        let udp = UdpPacket::new(ip.payload()).unwrap();
        assert_eq!(usize::from(udp.get_length()), ip.payload().len());
        let checksum = udp::ipv4_checksum(&udp, &ip.get_source(), &ip.get_destination());
        assert_eq!(udp.get_checksum(), if checksum == 0 { 0xffff } else { checksum });
        all.extend_from_slice(udp.payload());
    }
    assert_eq!(all, payload(len));
}

#[test]
fn tcp_v4_first_segment_byte_for_byte() {
    let segments = cut(&tcp_v4(5, 2));
    assert_eq!(segments.len(), 3);
    let expected = octets_of(
        0x0800,
        &[
            &[0x45, 0x02, 0, 54, 0xff, 0xfe, 0x40, 0, 64, 6, 0x26, 0x0d, 10, 88, 0, 2, 10, 88, 0, 3],
            &[0x9c, 0x40, 0x14, 0x51, 0xff, 0xff, 0xff, 0, 1, 2, 3, 4, 0x80, 0x90, 1, 0xf5],
        ],
    );
    assert_eq!(segments[0][..expected.len()], expected);
    assert_eq!(segments[0][52..], [0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 0, 31]);
}

#[test]
fn all_kinds_agree_with_pnet() {
    for (len, size) in [(0, 1448), (1, 1448), (1448, 1448), (1449, 1448), (5, 2), (7, 1), (65_000, 1448), (65_000, 1447)] {
        check_tcp_v4(len, size);
        check_tcp_v6(len, size);
        check_udp_v4(len, size);
    }
}

#[test]
fn udp_over_v6_behind_extension_headers() {
    let mut ip = V6;
    ip[6] = 0;
    // Hop-by-hop of 8 octets, then destination options of 16, each filled with PadN.
    let hop = [60, 0, 1, 4, 0, 0, 0, 0];
    let destination = [17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let octets = octets_of(0x86dd, &[&ip, &hop, &destination, &UDP_HEADER, &payload(250)]);
    let frame = frame_of(&octets, gso(GsoKind::UdpL4, 100, 78, 86));
    let segments = cut(&frame);
    assert_eq!(segments.iter().map(Vec::len).collect::<Vec<_>>(), [186, 186, 136]);
    for segment in &segments {
        let ip = Ipv6Packet::new(&segment[14..]).unwrap();
        assert_eq!(usize::from(ip.get_payload_length()), segment.len() - 54);
        let udp = UdpPacket::new(&segment[78..]).unwrap();
        assert_eq!(usize::from(udp.get_length()), segment.len() - 78);
        assert_eq!(udp.get_checksum(), udp::ipv6_checksum(&udp, &ip.get_source(), &ip.get_destination()));
    }
    // A routing header with a segment left changes the pseudo-header; a fragment header makes it no datagram.
    for (kind, left) in [(43, 1), (44, 0)] {
        let mut octets = octets.clone();
        octets[20] = kind;
        octets[57] = left;
        assert!(Segments::new(&frame_of(&octets, frame.meta)).is_err());
    }
}

#[test]
fn a_tag_left_in_the_octets_is_skipped() {
    let mut octets = tcp_v4(100, 40).bytes().to_vec();
    octets.splice(12..12, [0x81, 0, 0, 7]);
    let segments = cut(&frame_of(&octets, gso(GsoKind::TcpV4, 40, 38, 70)));
    assert_eq!(segments.len(), 3);
    for segment in segments {
        assert_eq!(segment[..18], octets[..18]);
        let ip = Ipv4Packet::new(&segment[18..]).unwrap();
        let tcp = TcpPacket::new(ip.payload()).unwrap();
        assert_eq!(tcp.get_checksum(), tcp::ipv4_checksum(&tcp, &ip.get_source(), &ip.get_destination()));
    }
}

#[test]
fn headers_that_contradict_the_metadata_are_refused() {
    // Octet, value: EtherType, version, IHL, fragment offset, more fragments, protocol, TCP data offset.
    for (at, value) in [(13, 0x06), (14, 0x65), (14, 0x44), (14, 0x46), (21, 1), (20, 0x60), (23, 17), (46, 0x70), (46, 0x40)] {
        let mut frame = tcp_v4(100, 40);
        frame.bytes_mut()[at] = value;
        assert_eq!(Segments::new(&frame).err(), Some(DropReason::GsoUnsupported), "octet {at}");
    }
    let mut frame = tcp_v4(100, 40);
    frame.meta.gso = None;
    assert_eq!(Segments::new(&frame).err(), Some(DropReason::GsoUnsupported));
    for (l4, headers) in [(0, 0), (34, 54), (34, 9999), (u16::MAX as usize, u16::MAX as usize), (33, 66), (86, 66)] {
        frame.meta = gso(GsoKind::TcpV4, 40, l4, headers);
        assert!(Segments::new(&frame).is_err(), "{l4} {headers}");
    }
}

#[test]
fn a_segment_longer_than_ip_can_tell_is_refused() {
    assert!(Segments::new(&tcp_v4(65_535 - 52, u16::MAX)).is_ok());
    assert!(Segments::new(&tcp_v4(65_535 - 51, u16::MAX)).is_err());
}

#[test]
fn a_short_scratch_ends_it() {
    let frame = tcp_v4(100, 40);
    let mut segments = Segments::new(&frame).unwrap();
    assert_eq!(segments.next_into(&mut [0; 105]), None);
    assert_eq!(segments.next_into(&mut [0; 106]), Some(106));
}

#[test]
fn finish_into_completes_a_copy() {
    let mut octets = octets_of(0x0800, &[&V4, &UDP_HEADER, &payload(11)]);
    octets[23] = 17;
    octets[39] = 19;
    let pseudo = checksum::pseudo_v4([10, 88, 0, 2], [10, 88, 0, 3], 17, 19);
    octets[40..42].copy_from_slice(&pseudo.to_be_bytes());
    let meta = FrameMeta { csum: Csum::Partial { start: 34, offset: 6 }, ..FrameMeta::default() };
    let frame = frame_of(&octets, meta);
    let mut scratch = [0; 100];
    assert_eq!(finish_into(&frame, &mut scratch), Some(octets.len()));
    let udp = UdpPacket::new(&scratch[34..octets.len()]).unwrap();
    assert_eq!(udp.get_checksum(), udp::ipv4_checksum(&udp, &[10, 88, 0, 2].into(), &[10, 88, 0, 3].into()));
    assert_eq!(scratch[..40], octets[..40]);
    assert_eq!(scratch[42..octets.len()], octets[42..]);
    assert_eq!(frame.bytes(), octets);
    assert_eq!(finish_into(&frame, &mut [0; 52]), None);
    assert_eq!(finish_into(&tcp_v4(100, 40), &mut scratch), None);
    let complete = frame_of(&octets, FrameMeta::default());
    assert_eq!(finish_into(&complete, &mut scratch), Some(octets.len()));
    assert_eq!(scratch[..octets.len()], octets);
}

proptest! {
    #[test]
    fn payloads_concatenate_to_the_original(len in 0..5000_usize, size in 1..1600_u16) {
        check_tcp_v4(len, size);
        check_tcp_v6(len, size);
        check_udp_v4(len, size);
    }

    #[test]
    fn never_panics(
        mut octets in prop::collection::vec(any::<u8>(), 14..200), kind in 0..3_usize, size in 1..200_u16,
        l4 in 0..220_u16, headers in 0..220_u16, v6 in any::<bool>(),
    ) {
        octets[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
        let kind = [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::UdpL4][kind];
        let frame = frame_of(&octets, gso(kind, size, usize::from(l4), usize::from(headers)));
        if let Ok(mut segments) = Segments::new(&frame) {
            let mut count = 0;
            while segments.next_into(&mut [0; 400]).is_some() {
                count += 1;
            }
            prop_assert_eq!(count, segments.count());
        }
    }
}
