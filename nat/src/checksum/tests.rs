use super::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use pnet_packet::ip::IpNextHeaderProtocol;
use pnet_packet::util;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// No word at all is left out of pnet's sum.
const SKIP_NONE: usize = usize::MAX;

#[test]
fn rfc_1071_example() {
    // Section 3 of the RFC.
    assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    assert_eq!(sum(&[]), 0);
    assert_eq!(sum(&[0x12]), 0x1200);
}

#[test]
fn rfc_1624_example() {
    // Section 4: 0x5555 becomes 0x3285 under a checksum of 0xdd2f, and the answer is 0x0000, not 0xffff.
    assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0);
}

#[test]
fn every_length_and_the_longest_frame() {
    let octets: Vec<u8> = (0..65_600_u32).map(|i| (i * 7 + i / 251) as u8).collect();
    for len in (1..100).chain([1500, 65_599, 65_600]) {
        assert_eq!(checksum(&octets[..len]), util::checksum(&octets[..len], SKIP_NONE), "{len}");
    }
    assert_eq!(sum(&vec![0xff; 65_600]), 0xffff);
}

#[test]
fn finish_keeps_within_the_frame() {
    let mut frame = [1, 2, 3, 4, 5, 6];
    for (start, offset) in [(6, 0), (7, 0), (0, 5), (2, 3), (usize::MAX, 0), (0, usize::MAX), (usize::MAX, usize::MAX)] {
        assert!(!finish(&mut frame, start, offset), "{start} {offset}");
        assert_eq!(frame, [1, 2, 3, 4, 5, 6]);
    }
    assert!(finish(&mut frame, 2, 2));
    assert_eq!(frame[..4], [1, 2, 3, 4]);
}

#[test]
fn only_udp_never_sends_zero() {
    // The sum is 0xffff, the checksum 0.
    let octets = [0, 0, 0, 0, 0, 0, 0xff, 0xff];
    let mut udp = octets;
    assert!(finish(&mut udp, 0, UDP_CHECKSUM));
    assert_eq!(udp[6..], [0xff, 0xff]);
    let mut other = octets;
    assert!(finish(&mut other, 0, 2));
    assert_eq!(other[2..4], [0, 0]);
}

proptest! {
    #[test]
    fn agrees_with_pnet(octets in prop::collection::vec(any::<u8>(), 1..2000)) {
        prop_assert_eq!(checksum(&octets), util::checksum(&octets, SKIP_NONE));
    }

    #[test]
    fn pseudo_headers_agree_with_pnet(
        src in any::<[u8; 16]>(), dst in any::<[u8; 16]>(), protocol in any::<u8>(),
        octets in prop::collection::vec(any::<u8>(), 20..200),
    ) {
        let of = |pseudo: u16| !add(pseudo, sum(&octets));
        let next = IpNextHeaderProtocol(protocol);
        let v6 = util::ipv6_checksum(&octets, SKIP_NONE, &[], &Ipv6Addr::from(src), &Ipv6Addr::from(dst), next);
        prop_assert_eq!(of(pseudo_v6(src, dst, protocol, octets.len() as u32)), v6);
        let (src, dst) = ([src[0], src[1], src[2], src[3]], [dst[0], dst[1], dst[2], dst[3]]);
        let v4 = util::ipv4_checksum(&octets, SKIP_NONE, &[], &Ipv4Addr::from(src), &Ipv4Addr::from(dst), next);
        prop_assert_eq!(of(pseudo_v4(src, dst, protocol, octets.len() as u16)), v4);
    }

    #[test]
    fn updates_agree_with_a_whole_sum(mut octets in prop::collection::vec(any::<u8>(), 8..100), at in 0..2_usize, new in any::<u32>()) {
        let before = checksum(&octets);
        let at = at * 2;
        let old = u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
        octets[at..at + 4].copy_from_slice(&new.to_be_bytes());
        prop_assume!(octets.iter().any(|&octet| octet != 0));
        prop_assert_eq!(update_u32(before, old, new), checksum(&octets));
        let half = update_u16(before, (old >> 16) as u16, (new >> 16) as u16);
        prop_assert_eq!(update_u16(half, old as u16, new as u16), checksum(&octets));
    }

    #[test]
    fn finish_never_panics(mut octets in prop::collection::vec(any::<u8>(), 0..80), start in 0..90_usize, offset in 0..90_usize) {
        finish(&mut octets, start, offset);
    }
}
