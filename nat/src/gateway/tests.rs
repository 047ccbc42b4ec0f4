use super::*;
use crate::checksum;
use crate::station::{AddressGuard, Limits, Station};
use core::num::NonZeroU16;
use pnet_packet::Packet;
use pnet_packet::icmp::{self, IcmpPacket};
use pnet_packet::ipv4::{self, Ipv4Packet};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;
use vswitch_switch::{Csum, FramePool, Gso, GsoKind, Mac, Tag, Tpid};

const GATEWAY: [u8; 6] = [0x02, 0x58, 10, 88, 0, 1];
const STATION: [u8; 6] = [0x02, 0x58, 10, 88, 0, 2];
const BROADCAST: [u8; 6] = [0xff; 6];

const ARP_REQUEST: [u8; 42] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x58, 10, 88, 0, 2, 0x08, 0x06, //
    0, 1, 0x08, 0, 6, 4, 0, 1, 0x02, 0x58, 10, 88, 0, 2, 10, 88, 0, 2, 0, 0, 0, 0, 0, 0, 10, 88, 0, 1,
];
const ARP_REPLY: [u8; 42] = [
    0x02, 0x58, 10, 88, 0, 2, 0x02, 0x58, 10, 88, 0, 1, 0x08, 0x06, //
    0, 1, 0x08, 0, 6, 4, 0, 2, 0x02, 0x58, 10, 88, 0, 1, 10, 88, 0, 1, 0x02, 0x58, 10, 88, 0, 2, 10, 88, 0, 2,
];

const CONFIG: GatewayConfig =
    GatewayConfig { mac: UnicastMac::for_ipv4([10, 88, 0, 1]), address: Ipv4Addr::new(10, 88, 0, 1), prefix: 20, v6: None };

#[derive(Debug, PartialEq)]
enum Fate {
    Reply(Vec<u8>),
    Consumed,
    Drop(DropReason),
}
const MALFORMED: Fate = Fate::Drop(DropReason::GatewayMalformed);
const UNSERVED: Fate = Fate::Drop(DropReason::GatewayUnserved);

fn receive_with(octets: &[u8], meta: FrameMeta) -> Fate {
    let mut frame = FramePool::new(1).take().unwrap();
    assert!(frame.fill(octets));
    frame.meta = meta;
    // The head may tell of more octets than there are: the gateway must not rely on it.
    let mut padded = [0; 14];
    for (to, from) in padded.iter_mut().zip(octets) {
        *to = *from;
    }
    let Ok(head) = Head::parse(&padded, meta.tag) else {
        return Fate::Consumed;
    };
    match Gateway::new(CONFIG, [1, 2]).receive(frame, &head, 1, Time::ZERO) {
        Routed::Reply(Side::Inside, frame) => {
            assert_eq!(frame.meta, FrameMeta::default());
            Fate::Reply(frame.bytes().to_vec())
        }
        Routed::Consumed(_) => Fate::Consumed,
        // Its sender is told, where he may be.
        Routed::Drop(_, reason) | Routed::Refuse(Side::Inside, _, reason) => Fate::Drop(reason),
        other @ (Routed::Reply(..)
        | Routed::Refuse(..)
        | Routed::Forward(..)
        | Routed::Generated(..)
        | Routed::Held
        | Routed::Socket(_)) => {
            panic!("{other:?} without an uplink")
        }
    }
}

fn receive(octets: &[u8]) -> Fate {
    receive_with(octets, FrameMeta::default())
}

fn changed(octets: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    let mut octets = octets.to_vec();
    octets[at..at + new.len()].copy_from_slice(new);
    octets
}

/// Sets the IP header's checksum right.
fn sealed(mut octets: Vec<u8>) -> Vec<u8> {
    octets[24..26].copy_from_slice(&[0, 0]);
    let header = usize::from(octets[14] & 15) * 4;
    let sum = checksum::checksum(&octets[14..14 + header]);
    octets[24..26].copy_from_slice(&sum.to_be_bytes());
    octets
}

fn packet(dst: [u8; 6], options: &[u8], fragment: u16, message: &[u8]) -> Vec<u8> {
    let [len, fragment] = [(20 + options.len() + message.len()) as u16, fragment].map(u16::to_be_bytes);
    let ihl = 0x45 + (options.len() / 4) as u8;
    let ip = [ihl, 0x10, len[0], len[1], 0x12, 0x34, fragment[0], fragment[1], 17, 1, 0, 0, 10, 88, 0, 2, 10, 88, 0, 1];
    sealed([&dst[..], &STATION, &[8, 0], &ip, options, message].concat())
}

fn echo(payload: &[u8]) -> Vec<u8> {
    let mut message = [&[8, 0, 0, 0, 0xab, 0xcd, 0, 1], payload].concat();
    let sum = checksum::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn ping(payload: &[u8]) -> Vec<u8> {
    packet(GATEWAY, &[], 0x4000, &echo(payload))
}

fn reply_of(fate: Fate) -> Vec<u8> {
    match fate {
        Fate::Reply(octets) => octets,
        Fate::Consumed | Fate::Drop(_) => panic!("no reply but {fate:?}"),
    }
}

/// Checks all of a reply's IP header, and returns its payload.
fn check_ip(reply: &[u8]) -> Vec<u8> {
    assert_eq!(reply[..14], [&STATION[..], &GATEWAY, &[8, 0]].concat());
    let ip = Ipv4Packet::new(&reply[14..]).unwrap();
    assert_eq!(ip.get_source(), Ipv4Addr::new(10, 88, 0, 1));
    assert_eq!(ip.get_destination(), Ipv4Addr::new(10, 88, 0, 2));
    assert_eq!((ip.get_ttl(), ip.get_identification()), (64, 0x1234));
    assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
    ip.payload().to_vec()
}

#[test]
fn arp_request_is_answered() {
    assert_eq!(receive(&ARP_REQUEST), Fate::Reply(ARP_REPLY.to_vec()));
    // By unicast (a neighbour's check), and padded to Ethernet's minimum.
    assert_eq!(receive(&changed(&ARP_REQUEST, 0, &GATEWAY)), Fate::Reply(ARP_REPLY.to_vec()));
    let padded = [&ARP_REQUEST[..], &[0; 18]].concat();
    assert_eq!(receive(&padded), Fate::Reply([&ARP_REPLY[..], &[0; 18]].concat()));
}

#[test]
fn arp_probe_and_claim_are_told_that_the_address_is_taken() {
    let probe = changed(&ARP_REQUEST, 28, &[0; 4]);
    assert_eq!(receive(&probe), Fate::Reply(changed(&ARP_REPLY, 38, &[0; 4])));
    let announcement = changed(&ARP_REQUEST, 28, &[10, 88, 0, 1]);
    assert_eq!(receive(&announcement), Fate::Reply(changed(&ARP_REPLY, 38, &[10, 88, 0, 1])));
    // A claim that asks for another.
    assert_eq!(receive(&changed(&announcement, 38, &[10, 88, 0, 3])), MALFORMED);
}

#[test]
fn arp_of_others_is_consumed() {
    assert_eq!(receive(&changed(&ARP_REQUEST, 38, &[10, 88, 0, 3])), Fate::Consumed);
    assert_eq!(receive(&changed(&ARP_REQUEST, 21, &[2])), Fate::Consumed);
    assert_eq!(receive(&changed(&ARP_REQUEST, 21, &[3])), Fate::Consumed);
    assert_eq!(receive(&changed(&changed(&ARP_REQUEST, 21, &[3]), 0, &GATEWAY)), UNSERVED);
}

#[test]
fn malformed_arp_is_dropped() {
    // Hardware type, protocol type, both lengths; sender: a group, zero, a multicast address.
    for (at, value) in [(15, 2), (16, 9), (18, 5), (18, 7), (18, 255), (19, 3), (19, 16), (22, 1), (28, 224)] {
        assert_eq!(receive(&changed(&ARP_REQUEST, at, &[value])), MALFORMED, "octet {at}");
    }
    assert_eq!(receive(&changed(&ARP_REQUEST, 22, &[0; 6])), MALFORMED);
}

#[test]
fn ping_byte_for_byte() {
    let request = [
        0x02, 0x58, 10, 88, 0, 1, 0x02, 0x58, 10, 88, 0, 2, 0x08, 0, //
        0x45, 0, 0, 30, 0, 1, 0x40, 0, 64, 1, 0x26, 0x2c, 10, 88, 0, 2, 10, 88, 0, 1, //
        8, 0, 0xa6, 0xf8, 0, 1, 0, 2, 0x51, 0x04,
    ];
    let reply = [
        0x02, 0x58, 10, 88, 0, 2, 0x02, 0x58, 10, 88, 0, 1, 0x08, 0, //
        0x45, 0, 0, 30, 0, 1, 0x40, 0, 64, 1, 0x26, 0x2c, 10, 88, 0, 1, 10, 88, 0, 2, //
        0, 0, 0xae, 0xf8, 0, 1, 0, 2, 0x51, 0x04,
    ];
    assert_eq!(receive(&request), Fate::Reply(reply.to_vec()));
}

#[test]
fn ping_of_odd_and_long_sizes() {
    for len in [0, 1, 2, 3, 7, 55, 56, 57, 1471, 1472, 65_507] {
        let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let message = check_ip(&reply_of(receive(&ping(&payload))));
        let icmp = IcmpPacket::new(&message).unwrap();
        assert_eq!(message[..2], [0, 0]);
        assert_eq!(icmp.get_checksum(), icmp::checksum(&icmp));
        assert_eq!(message[4..], [&[0xab, 0xcd, 0, 1], &payload[..]].concat());
    }
}

#[test]
fn a_reply_of_zeros_verifies() {
    let message = check_ip(&reply_of(receive(&packet(GATEWAY, &[], 0, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0, 0, 0]))));
    assert_eq!(message, [0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
    assert!(checksum::is_valid(&message));
}

#[test]
fn a_partial_checksum_is_finished_first() {
    let partial = changed(&ping(b"abc"), 36, &[0, 0]);
    let tag = Some(Tag { tpid: Tpid::Dot1q, tci: 7 });
    let meta = FrameMeta { tag, csum: Csum::Partial { start: 34, offset: 2 }, gso: None };
    assert_eq!(receive_with(&partial, meta), receive(&ping(b"abc")));
    let meta = FrameMeta { csum: Csum::Partial { start: 60_000, offset: 2 }, ..meta };
    assert_eq!(receive_with(&partial, meta), MALFORMED);
}

#[test]
fn padding_is_no_part_of_the_packet() {
    let padded = [&ping(b"abc")[..], &[0xee; 13]].concat();
    let reply = reply_of(receive(&padded));
    assert_eq!(reply.len(), padded.len());
    assert_eq!(check_ip(&reply)[8..], *b"abc");
}

#[test]
fn fragments_are_mirrored_one_by_one() {
    let whole = echo(&[7; 100]);
    let (first, later) = whole.split_at(64);
    let first = check_ip(&reply_of(receive(&packet(GATEWAY, &[], 0x2000, first))));
    let later_reply = reply_of(receive(&packet(GATEWAY, &[], 8, later)));
    assert_eq!(later_reply[20..22], [0, 8]);
    let message = [first, check_ip(&later_reply)].concat();
    let icmp = IcmpPacket::new(&message).unwrap();
    assert_eq!(icmp.get_checksum(), icmp::checksum(&icmp));
    assert_eq!(message[..2], [0, 0]);
    assert_eq!(message[4..], whole[4..]);
    // A first fragment of 7 octets or of no multiple of 8; one past 65,535.
    assert_eq!(receive(&packet(GATEWAY, &[], 0x2000, &whole[..7])), MALFORMED);
    assert_eq!(receive(&packet(GATEWAY, &[], 0x2000, &whole[..63])), MALFORMED);
    assert_eq!(receive(&packet(GATEWAY, &[], 0x1fff, &whole[..64])), MALFORMED);
    // Nor another type than echo request.
    assert_eq!(receive(&packet(GATEWAY, &[], 0x2000, &changed(&whole[..64], 0, &[0]))), UNSERVED);
}

#[test]
fn options_come_back_but_a_source_route_is_refused() {
    // Record route with room for one address, end.
    let record = [7, 7, 4, 0, 0, 0, 0, 0];
    let reply = reply_of(receive(&packet(GATEWAY, &record, 0, &echo(b"x"))));
    check_ip(&reply);
    assert_eq!(reply[34..42], record);
    for kind in [131, 137] {
        assert_eq!(receive(&packet(GATEWAY, &[1, kind, 7, 8, 10, 88, 0, 3], 0, &echo(b"x"))), UNSERVED);
    }
    for options in [[7, 0, 0, 0], [7, 1, 0, 0], [7, 5, 0, 0], [1, 1, 1, 7]] {
        assert_eq!(receive(&packet(GATEWAY, &options, 0, &echo(b"x"))), MALFORMED, "{options:?}");
    }
}

#[test]
fn wrong_checksums_and_lengths_are_malformed() {
    let good = ping(b"abcdef");
    for at in [14, 15, 22, 24, 36, 38, good.len() - 1] {
        assert_eq!(receive(&changed(&good, at, &[good[at] ^ 0x10])), MALFORMED, "octet {at}");
    }
    // Total length: below the header, past the frame.
    for len in [19, good.len() as u8 - 13] {
        assert_eq!(receive(&sealed(changed(&good, 16, &[0, len]))), MALFORMED);
    }
}

#[test]
fn only_a_neighbour_is_answered() {
    for source in [
        [10, 88, 0, 1],
        [10, 88, 0, 0],
        [10, 88, 15, 255],
        [10, 88, 16, 2],
        [127, 0, 0, 1],
        [0, 0, 0, 0],
        [224, 0, 0, 1],
        [255, 255, 255, 255],
    ] {
        assert_eq!(receive(&sealed(changed(&ping(b"x"), 26, &source))), MALFORMED, "{source:?}");
    }
}

#[test]
fn a_group_is_never_answered() {
    for dst in [[10, 88, 15, 255], [255, 255, 255, 255], [224, 0, 0, 1]] {
        for mac in [GATEWAY, BROADCAST] {
            assert_eq!(receive(&sealed(changed(&changed(&ping(b"x"), 30, &dst), 0, &mac))), Fate::Consumed);
        }
    }
    // Our address in a broadcast frame (RFC 1122 3.3.6).
    assert_eq!(receive(&changed(&ping(b"x"), 0, &BROADCAST)), Fate::Consumed);
}

#[test]
fn what_is_not_served_is_dropped_or_consumed() {
    let good = ping(b"x");
    // Another destination, UDP to us, an echo reply, code 1, IPv6, a tag left in the octets.
    assert_eq!(receive(&sealed(changed(&good, 30, &[10, 88, 0, 9]))), UNSERVED);
    assert_eq!(receive(&sealed(changed(&good, 30, &[9, 9, 9, 9]))), UNSERVED);
    assert_eq!(receive(&sealed(changed(&good, 23, &[17]))), UNSERVED);
    let resealed = |kind: u8, code: u8| {
        let mut message = changed(&echo(b"x"), 0, &[kind, code, 0, 0]);
        let sum = checksum::checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        packet(GATEWAY, &[], 0, &message)
    };
    assert_eq!(receive(&resealed(0, 0)), UNSERVED);
    assert_eq!(receive(&resealed(8, 1)), UNSERVED);
    for ethertype in [[0x86, 0xdd], [0x81, 0], [0, 46]] {
        let other = changed(&good, 12, &ethertype);
        assert_eq!(receive(&other), UNSERVED);
        assert_eq!(receive(&changed(&other, 0, &BROADCAST)), Fate::Consumed);
    }
    // Flooded: another station's.
    assert_eq!(receive(&changed(&good, 0, &[0x02, 0x58, 10, 88, 0, 9])), Fate::Consumed);
    let gso = Gso { kind: GsoKind::TcpV4, ecn: false, size: NonZeroU16::MIN, l4: 34, headers: 54 };
    let meta = FrameMeta { csum: Csum::Partial { start: 34, offset: 16 }, gso: Some(gso), tag: None };
    assert_eq!(receive_with(&sealed(changed(&good, 23, &[6])), meta), UNSERVED);
}

#[test]
fn every_truncation_is_survived() {
    let fragment = packet(GATEWAY, &[], 0x2000, &echo(&[1; 56]));
    let options = packet(GATEWAY, &[7, 7, 4, 0, 0, 0, 0, 0], 0, &echo(b"x"));
    for whole in [ARP_REQUEST.to_vec(), ping(b"abc"), fragment, options] {
        for len in 0..whole.len() {
            let fate = receive(&whole[..len]);
            assert!(len < 14 || fate == MALFORMED, "{len} octets: {fate:?}");
        }
        reply_of(receive(&whole));
    }
}

#[test]
fn rfc1122_a_question_with_a_wrong_sum_is_dropped_without_an_uplink_too() {
    let question = [
        0x9c, 0x40, 0, 53, 0, 33, 0x6f, 0xe9, // UDP
        0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7, b'g', b'a', b't', b'e', b'w', b'a', b'y', 0, 0, 1, 0, 1,
    ];
    let right = sealed(changed(&packet(GATEWAY, &[], 0x4000, &question), 23, &[17]));
    let is_answered = |octets: &[u8], csum| {
        let mut frame = FramePool::new(1).take().unwrap();
        assert!(frame.fill(octets));
        frame.meta.csum = csum;
        let head = Head::parse(octets, None).unwrap();
        let fate = Gateway::new(CONFIG, [1, 2]).receive(frame, &head, 1, Time::ZERO);
        assert!(matches!(fate, Routed::Reply(Side::Inside, _) | Routed::Drop(_, DropReason::PacketMalformed)), "{fate:?}");
        matches!(fate, Routed::Reply(_, frame) if frame.bytes()[42..46] == [0xab, 0xcd, 0x85, 0x80])
    };
    assert!(is_answered(&right, Csum::Complete));
    for wrong in [41, 42, 60] {
        assert!(!is_answered(&changed(&right, wrong, &[0xff]), Csum::Complete));
    }
    // Zero is none (RFC 768), and what is left to the receiver is none yet.
    assert!(is_answered(&changed(&right, 40, &[0, 0]), Csum::Complete));
    assert!(is_answered(&changed(&right, 41, &[0xff]), Csum::Partial { start: 34, offset: 6 }));
}

#[test]
fn a_connection_to_port_53_of_one_that_went_says_nothing_more() {
    let syn = [0x9c, 0x40, 0, 53, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
    let octets = sealed(changed(&packet(GATEWAY, &[], 0x4000, &syn), 23, &[6]));
    let head = Head::parse(&octets, None).unwrap();
    for goes in [false, true] {
        let (mut gateway, mut pool) = (Gateway::new(CONFIG, [1, 2]), FramePool::new(1));
        let (mac, limits, guard) = (head.src, Limits::default(), AddressGuard::default());
        gateway.stations.set(1, Station { mac, v4: Some(Ipv4Addr::new(10, 88, 0, 2)), v6: None, mtu: 1_500, limits, guard });
        let mut frame = pool.take().unwrap();
        assert!(frame.fill(&octets));
        frame.meta.csum = Csum::Partial { start: 34, offset: 16 };
        let Routed::Consumed(frame) = gateway.receive(frame, &head, 1, Time::ZERO) else { panic!("no connection") };
        pool.put(frame);
        if goes {
            gateway.forget(1);
        }
        assert_eq!(gateway.poll_streams(&mut pool, Time::ZERO).is_some(), !goes);
        assert_eq!(gateway.names.streams.is_empty(), goes);
    }
}

#[test]
fn subnets_of_every_prefix() {
    let address = Ipv4Addr::new(10, 0, 0, 2);
    let of = |prefix| GatewayConfig { address, prefix, ..CONFIG };
    assert!(of(31).is_neighbour(Ipv4Addr::new(10, 0, 0, 3)));
    assert!(!of(31).is_neighbour(Ipv4Addr::new(10, 0, 0, 1)));
    assert!(!of(30).is_neighbour(Ipv4Addr::new(10, 0, 0, 3)));
    assert!(of(30).is_subnet_broadcast(Ipv4Addr::new(10, 0, 0, 3)));
    assert!(!of(32).is_neighbour(Ipv4Addr::new(10, 0, 0, 3)));
    assert!(!of(255).is_neighbour(Ipv4Addr::new(10, 0, 0, 3)));
    assert!(of(0).is_neighbour(Ipv4Addr::new(9, 9, 9, 9)));
    assert!(Mac(GATEWAY) == CONFIG.mac.mac());
}

proptest! {
    #[test]
    fn random_octets_never_panic(mut octets in prop::collection::vec(any::<u8>(), 14..200), kind in 0..3_usize, ours in any::<bool>()) {
        octets[..12].copy_from_slice(&[if ours { GATEWAY } else { BROADCAST }, STATION].concat());
        octets[12..14].copy_from_slice(&[[8, 0], [8, 6], [0x86, 0xdd]][kind]);
        receive(&octets);
    }

    #[test]
    fn damaged_packets_never_panic(at in 14..60_usize, value in any::<u8>(), start in 0..80_u16, offset in 0..80_u16, options in 0..3_usize) {
        let whole = packet(GATEWAY, &vec![1; options * 4], 0, &echo(&[3; 30]));
        let damaged = sealed_if_possible(changed(&whole, at, &[value]));
        receive(&damaged);
        receive_with(&damaged, FrameMeta { csum: Csum::Partial { start, offset }, ..FrameMeta::default() });
    }
}

fn sealed_if_possible(octets: Vec<u8>) -> Vec<u8> {
    if octets[14] & 15 >= 5 && 14 + usize::from(octets[14] & 15) * 4 <= octets.len() { sealed(octets) } else { octets }
}
