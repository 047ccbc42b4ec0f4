use super::neighbor::{HELD, HELD_PER_HOP, INCOMPLETE, INTERVAL, REACHABLE, TRIES};
use super::*;
use crate::checksum;
use pnet_packet::Packet;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperation as Operation, ArpOperations, ArpPacket as Arp, MutableArpPacket};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv6Packet, Icmpv6Repr, Ipv6Packet, NdiscNeighborFlags, NdiscRepr};
use std::vec;

const OWN: [u8; 6] = [0x02, 0x58, 192, 0, 2, 9];
const PEER: [u8; 6] = [0x02, 0x11, 0, 0, 0, 1];
const OTHER: [u8; 6] = [0x02, 0x11, 0, 0, 0, 2];
const BROADCAST: [u8; 6] = [0xff; 6];
const OWN_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OWN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const MALFORMED: Fate = Fate::Drop(DropReason::GatewayMalformed);

/// 192.0.2.1 asks for 192.0.2.9.
const ARP_REQUEST: [u8; 42] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x11, 0, 0, 0, 1, 0x08, 0x06, //
    0, 1, 0x08, 0, 6, 4, 0, 1, 0x02, 0x11, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 9,
];
const ARP_REPLY: [u8; 42] = [
    0x02, 0x11, 0, 0, 0, 1, 0x02, 0x58, 192, 0, 2, 9, 0x08, 0x06, //
    0, 1, 0x08, 0, 6, 4, 0, 2, 0x02, 0x58, 192, 0, 2, 9, 192, 0, 2, 9, 0x02, 0x11, 0, 0, 0, 1, 192, 0, 2, 1,
];
/// 2001:db8::1 asks for 2001:db8::9 with its hardware address.
const SOLICITATION: [u8; 86] = [
    0x33, 0x33, 0xff, 0, 0, 9, 0x02, 0x11, 0, 0, 0, 1, 0x86, 0xdd, //
    0x60, 0, 0, 0, 0, 32, 58, 255, //
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, //
    0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 9, //
    135, 0, 0x1c, 0x08, 0, 0, 0, 0, //
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, //
    1, 1, 0x02, 0x11, 0, 0, 0, 1,
];

#[derive(Debug, PartialEq)]
enum Fate {
    Ip,
    Reply(Vec<u8>),
    Consumed,
    Drop(DropReason),
}

fn mac(octets: [u8; 6]) -> UnicastMac {
    UnicastMac::new(Mac(octets)).unwrap()
}

fn at(millis: u64) -> Time {
    Time::from_nanos(1_000_000_000_000 + millis * 1_000_000)
}

fn config() -> WanConfig {
    WanConfig {
        mac: mac(OWN),
        mtu: 1_500,
        v4: vec![(OWN_V4, 24)],
        v6: vec![(OWN_V6, 64)],
        gateway_v4: Some(ROUTER_V4),
        gateway_v6: None,
    }
}

/// One that has announced itself.
fn quiet() -> (Wan, FramePool) {
    let (mut wan, mut pool) = (Wan::new(config(), 1), FramePool::new(128));
    for millis in [0, 2_000] {
        assert_eq!(drain(&mut wan, &mut pool, at(millis)).len(), 2, "both addresses, twice");
    }
    assert_eq!(wan.deadline(), None);
    (wan, pool)
}

#[derive(Debug, PartialEq)]
enum Output {
    Generated(Vec<u8>),
    Waited(Vec<u8>),
    Failed(Vec<u8>),
}

fn drain(wan: &mut Wan, pool: &mut FramePool, now: Time) -> Vec<Output> {
    let mut all = vec![];
    while let Some(output) = wan.poll(pool, now) {
        let (frame, made): (_, fn(Vec<u8>) -> Output) = match output {
            WanOutput::Send { frame, generated: true } => (frame, Output::Generated),
            WanOutput::Send { frame, generated: false } => (frame, Output::Waited),
            WanOutput::Failed(frame) => (frame, Output::Failed),
        };
        all.push(made(frame.bytes().to_vec()));
        pool.put(frame);
        assert!(all.len() < 2_000);
    }
    all
}

fn receive(wan: &mut Wan, octets: &[u8], now: Time) -> Fate {
    let mut pool = FramePool::new(1);
    let mut frame = pool.take().unwrap();
    assert!(frame.fill(octets));
    // As much as fits: what follows the header is this module's to judge.
    let mut padded = octets.to_vec();
    padded.resize(octets.len().max(14), 0);
    let Ok(head) = Head::parse(&padded, None) else { return Fate::Consumed };
    match wan.receive(frame, &head, now) {
        Received::Ip(frame) => {
            assert_eq!(frame.bytes(), octets);
            Fate::Ip
        }
        Received::Reply(frame) => Fate::Reply(frame.bytes().to_vec()),
        Received::Consumed(_) => Fate::Consumed,
        Received::Drop(_, reason) => Fate::Drop(reason),
    }
}

fn packet(pool: &mut FramePool, number: u8) -> FrameBuf {
    let mut frame = pool.take().unwrap();
    assert!(frame.fill(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, number]));
    frame
}

fn changed(octets: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    let mut octets = octets.to_vec();
    octets[at..at + new.len()].copy_from_slice(new);
    octets
}

/// By pnet.
fn arp(operation: Operation, from: ([u8; 6], Ipv4Addr), dst: [u8; 6], wanted: Ipv4Addr) -> Vec<u8> {
    let mut octets = vec![0; 42];
    octets[..6].copy_from_slice(&dst);
    octets[6..12].copy_from_slice(&from.0);
    octets[12..14].copy_from_slice(&[8, 6]);
    let mut arp = MutableArpPacket::new(&mut octets[14..]).unwrap();
    arp.set_hardware_type(ArpHardwareTypes::Ethernet);
    arp.set_protocol_type(EtherTypes::Ipv4);
    arp.set_hw_addr_len(6);
    arp.set_proto_addr_len(4);
    arp.set_operation(operation);
    arp.set_sender_hw_addr(from.0.into());
    arp.set_sender_proto_addr(from.1);
    arp.set_target_hw_addr(dst.into());
    arp.set_target_proto_addr(wanted);
    octets
}

fn reply_from(from: ([u8; 6], Ipv4Addr)) -> Vec<u8> {
    arp(ArpOperations::Reply, from, OWN, OWN_V4)
}

/// Read by pnet: Ethernet destination, operation, sender, target.
fn read_arp(octets: &[u8]) -> ([u8; 6], Operation, ([u8; 6], Ipv4Addr), Ipv4Addr) {
    let ethernet = EthernetPacket::new(octets).unwrap();
    assert_eq!((ethernet.get_ethertype(), ethernet.get_source().octets()), (EtherTypes::Arp, OWN));
    let arp = Arp::new(ethernet.payload()).unwrap();
    let sender = (arp.get_sender_hw_addr().octets(), arp.get_sender_proto_addr());
    (ethernet.get_destination().octets(), arp.get_operation(), sender, arp.get_target_proto_addr())
}

/// An ICMPv6 message by hand, its checksum right.
fn icmp6(src: Ipv6Addr, dst: Ipv6Addr, to: [u8; 6], message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[2..4].copy_from_slice(&[0, 0]);
    let pseudo = checksum::pseudo_v6(src.octets(), dst.octets(), 58, message.len() as u32);
    let sum = !checksum::add(pseudo, checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let ip = [0x60, 0, 0, 0, 0, message.len() as u8, 58, 255];
    [&to[..], &PEER, &[0x86, 0xdd], &ip, &src.octets(), &dst.octets(), &message].concat()
}

fn advertisement(flags: u8, mac: Option<[u8; 6]>) -> Vec<u8> {
    let option = mac.map_or(vec![], |mac| [&[2, 1][..], &mac].concat());
    let message = [&[136, 0, 0, 0, flags, 0, 0, 0][..], &PEER_V6.octets(), &option].concat();
    icmp6(PEER_V6, OWN_V6, OWN, &message)
}

fn router(src: Ipv6Addr, lifetime: u16) -> Vec<u8> {
    let [high, low] = lifetime.to_be_bytes();
    let message = [&[134, 0, 0, 0, 64, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1][..], &PEER].concat();
    icmp6(src, crate::ndp::ALL_NODES, [0x33, 0x33, 0, 0, 0, 1], &message)
}

/// Read by smoltcp: Ethernet destination, source, destination, message.
fn read_nd(octets: &[u8]) -> ([u8; 6], Ipv6Addr, Ipv6Addr, NdiscRepr<'_>) {
    assert_eq!(octets[6..14], [&OWN[..], &[0x86, 0xdd]].concat());
    let ip = Ipv6Packet::new_checked(&octets[14..]).unwrap();
    // RFC 4861 7.1: from the link itself.
    assert_eq!(ip.hop_limit(), 255);
    let (src, dst) = (ip.src_addr(), ip.dst_addr());
    let icmp = Icmpv6Packet::new_checked(&octets[54..54 + usize::from(ip.payload_len())]).unwrap();
    let Ok(Icmpv6Repr::Ndisc(nd)) = Icmpv6Repr::parse(&src, &dst, &icmp, &ChecksumCapabilities::default()) else {
        panic!("{octets:?}")
    };
    (octets[..6].try_into().unwrap(), src, dst, nd)
}

fn state(wan: &Wan, address: IpAddr, now: Time) -> Option<(Option<UnicastMac>, &'static str)> {
    let mut found = None;
    wan.neighbors(now, |each, mac, state, _| {
        if each == address {
            found = Some((mac, state));
        }
    });
    found
}

#[test]
fn the_next_hop_is_on_the_link_or_the_gateway() {
    let (mut wan, _) = quiet();
    let far = Ipv4Addr::new(198, 51, 100, 1);
    assert_eq!(wan.next_hop(Ipv4Addr::new(192, 0, 2, 77)), Some(Ipv4Addr::new(192, 0, 2, 77)));
    assert_eq!(wan.next_hop(far), Some(ROUTER_V4));
    assert_eq!(wan.next_hop(PEER_V6), Some(PEER_V6));
    let far_v6: Ipv6Addr = "2001:db8:1::1".parse().unwrap();
    assert_eq!(wan.next_hop(far_v6), None, "nobody has advertised itself");
    wan.set_config(WanConfig { gateway_v4: None, gateway_v6: Some(ROUTER_V6), ..config() }, at(0));
    assert_eq!((wan.next_hop(far), wan.next_hop(far_v6)), (None, Some(ROUTER_V6)));
    // Without an address of the family there is no way, whatever the gateway.
    wan.set_config(WanConfig { v4: vec![], ..config() }, at(0));
    assert_eq!(wan.next_hop(far), None);
}

#[test]
fn arp_for_our_address_is_answered() {
    let (mut wan, _) = quiet();
    assert_eq!(receive(&mut wan, &ARP_REQUEST, at(0)), Fate::Reply(ARP_REPLY.to_vec()));
    // RFC 1122 2.3.2.1 (2): a unicast poll. RFC 5227 2.1.1: a probe, from 0.0.0.0.
    assert_eq!(receive(&mut wan, &changed(&ARP_REQUEST, 0, &OWN), at(0)), Fate::Reply(ARP_REPLY.to_vec()));
    let probe = changed(&ARP_REQUEST, 28, &[0; 4]);
    assert_eq!(receive(&mut wan, &probe, at(0)), Fate::Reply(changed(&ARP_REPLY, 38, &[0; 4])));
    assert_eq!(receive(&mut wan, &changed(&ARP_REQUEST, 41, &[8]), at(0)), Fate::Consumed, "another's address");
    assert_eq!((wan.conflicts(), wan.held()), (0, 0));
    assert_eq!(state(&wan, ROUTER_V4.into(), at(0)), None, "who asks makes no entry");
}

#[test]
fn malformed_arp_is_dropped() {
    let (mut wan, _) = quiet();
    // RFC 826: hardware type, protocol type, lengths; a sender that is a group.
    for (place, octet) in [(15, 2), (16, 9), (18, 5), (19, 16), (22, 1)] {
        assert_eq!(receive(&mut wan, &changed(&ARP_REQUEST, place, &[octet]), at(0)), MALFORMED, "{place}");
    }
    assert_eq!(receive(&mut wan, &changed(&ARP_REQUEST, 22, &[0; 6]), at(0)), MALFORMED);
    assert_eq!(receive(&mut wan, &ARP_REQUEST[..41], at(0)), MALFORMED);
}

#[test]
fn only_what_was_sent_to_us_is_ours() {
    let (mut wan, _) = quiet();
    let ip = |dst: [u8; 6], ethertype: [u8; 2]| [&dst[..], &PEER, &ethertype, &[0; 46]].concat();
    for ethertype in [[8, 0], [0x86, 0xdd]] {
        assert_eq!(receive(&mut wan, &ip(OWN, ethertype), at(0)), Fate::Ip);
        assert_eq!(receive(&mut wan, &ip(BROADCAST, ethertype), at(0)), Fate::Ip);
        assert_eq!(receive(&mut wan, &ip(OTHER, ethertype), at(0)), Fate::Consumed);
    }
    assert_eq!(receive(&mut wan, &ip(OWN, [0x88, 0xb5]), at(0)), Fate::Consumed);
    assert_eq!(receive(&mut wan, &changed(&ARP_REQUEST, 0, &OTHER), at(0)), Fate::Consumed);
}

#[test]
fn another_who_claims_our_address_is_counted_and_answered() {
    let (mut wan, mut pool) = quiet();
    // RFC 5227 2.4: an announcement, as a request and as a reply.
    let claim = changed(&ARP_REQUEST, 28, &OWN_V4.octets());
    assert!(matches!(receive(&mut wan, &claim, at(0)), Fate::Reply(_)));
    assert_eq!(receive(&mut wan, &changed(&claim, 21, &[2]), at(0)), Fate::Consumed);
    assert_eq!(wan.conflicts(), 2);
    // Our own, come back.
    let own = changed(&changed(&claim, 22, &OWN), 6, &OWN);
    assert_eq!((receive(&mut wan, &own, at(0)), wan.conflicts()), (Fate::Consumed, 2));
    assert_eq!(wan.config().v4, [(OWN_V4, 24)], "it is kept");
    // RFC 4862 5.4.4: an advertisement of our address is a conflict too.
    let message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &OWN_V6.octets(), &[2, 1], &OTHER].concat();
    let claim = icmp6(OWN_V6, crate::ndp::ALL_NODES, [0x33, 0x33, 0, 0, 0, 1], &message);
    assert_eq!((receive(&mut wan, &claim, at(0)), wan.conflicts()), (Fate::Consumed, 3));
    assert!(drain(&mut wan, &mut pool, at(0)).is_empty());
}

#[test]
fn frames_wait_for_an_answer_and_go_in_order() {
    let (mut wan, mut pool) = quiet();
    for number in 0..2 {
        assert!(matches!(wan.resolve(ROUTER_V4, packet(&mut pool, number), at(0)), Resolved::Held));
    }
    assert_eq!((wan.held(), wan.deadline()), (2, Some(at(0))));
    let asked = drain(&mut wan, &mut pool, at(0));
    let [Output::Generated(request)] = &asked[..] else { panic!("one request: {asked:?}") };
    assert_eq!(read_arp(request), (BROADCAST, ArpOperations::Request, (OWN, OWN_V4), ROUTER_V4));
    assert_eq!(state(&wan, ROUTER_V4.into(), at(1)), Some((None, "incomplete")));
    assert_eq!(receive(&mut wan, &reply_from((PEER, ROUTER_V4)), at(1)), Fate::Consumed);
    let sent = drain(&mut wan, &mut pool, at(1));
    let waited = |number: u8| Output::Waited([&PEER[..], &OWN, &[8, 0, number]].concat());
    assert_eq!(sent, [waited(0), waited(1)]);
    let Resolved::Send(frame) = wan.resolve(ROUTER_V4, packet(&mut pool, 2), at(2)) else { panic!("it is known") };
    assert_eq!(frame.bytes(), [&PEER[..], &OWN, &[8, 0, 2]].concat());
    assert_eq!(state(&wan, ROUTER_V4.into(), at(2)), Some((Some(mac(PEER)), "reachable")));
    assert_eq!((wan.held(), wan.deadline()), (0, None));
}

/// RFC 4861 7.2.2 and 10, RFC 1122 2.3.2.1: three requests, one a second; then what waited has failed.
#[test]
fn a_hop_that_does_not_answer_is_given_up() {
    let (mut wan, mut pool) = quiet();
    assert!(matches!(wan.resolve(ROUTER_V4, packet(&mut pool, 7), at(0)), Resolved::Held));
    let mut requests = vec![];
    for millis in (0..=4_000).step_by(100) {
        for output in drain(&mut wan, &mut pool, at(millis)) {
            match output {
                Output::Generated(_) => requests.push(millis),
                Output::Failed(octets) => assert_eq!((octets[14], millis), (7, 3_000)),
                Output::Waited(_) => panic!("nobody answered"),
            }
        }
    }
    assert_eq!(requests, [0, 1_000, 2_000]);
    // A router is asked for again by and by.
    let again = Some(at(3_000).after(super::reach::RETRY));
    assert_eq!((wan.held(), wan.deadline(), state(&wan, ROUTER_V4.into(), at(4_000))), (0, again, None));
    assert!(matches!(wan.resolve(ROUTER_V4, packet(&mut pool, 8), at(5_000)), Resolved::Held), "asked for anew");
}

/// RFC 4861 7.3.2, RFC 1122 2.3.2.1 (2): stale ones are used, and asked by name.
#[test]
fn a_stale_hop_is_used_while_it_is_asked() {
    let (mut wan, mut pool) = quiet();
    assert!(matches!(wan.resolve(ROUTER_V4, packet(&mut pool, 0), at(0)), Resolved::Held));
    receive(&mut wan, &reply_from((PEER, ROUTER_V4)), at(0));
    drain(&mut wan, &mut pool, at(0));
    let stale = REACHABLE.as_millis() as u64 + 1;
    assert_eq!(state(&wan, ROUTER_V4.into(), at(stale)), Some((Some(mac(PEER)), "stale")));
    assert!(drain(&mut wan, &mut pool, at(stale)).is_empty(), "not before it is used");
    let mut probes = 0;
    for try_ in 0..u64::from(TRIES) {
        let now = at(stale + try_ * INTERVAL.as_millis() as u64);
        assert!(matches!(wan.resolve(ROUTER_V4, packet(&mut pool, 1), now), Resolved::Send(_)));
        for output in drain(&mut wan, &mut pool, now) {
            let Output::Generated(probe) = output else { panic!("{output:?}") };
            assert_eq!(read_arp(&probe), (PEER, ArpOperations::Request, (OWN, OWN_V4), ROUTER_V4));
            probes += 1;
        }
        assert_eq!(state(&wan, ROUTER_V4.into(), now).unwrap().1, "probe");
    }
    assert_eq!(probes, 3);
    let late = at(stale + 2_500);
    receive(&mut wan, &reply_from((PEER, ROUTER_V4)), late);
    assert_eq!(state(&wan, ROUTER_V4.into(), late).unwrap().1, "reachable");
    // The same again, and no answer.
    let mut now = at(stale + 2_500 + stale);
    for _ in 0..=TRIES {
        drain(&mut wan, &mut pool, now);
        let _ = wan.resolve(ROUTER_V4, packet(&mut pool, 1), now);
        drain(&mut wan, &mut pool, now);
        now = now.after(INTERVAL);
    }
    assert_eq!(state(&wan, ROUTER_V4.into(), now).unwrap(), (None, "incomplete"), "gone, and asked of all");
}

/// RFC 826, RFC 5227: only what is known already is changed by what nobody asked for, and it is not believed for long.
#[test]
fn another_link_is_known_by_nobody() {
    let (mut wan, mut pool) = quiet();
    let router = IpAddr::V4(ROUTER_V4);
    assert!(matches!(wan.resolve(ROUTER_V4, packet(&mut pool, 1), at(3_000)), Resolved::Held));
    drain(&mut wan, &mut pool, at(3_000));
    receive(&mut wan, &reply_from((PEER, ROUTER_V4)), at(3_001));
    drain(&mut wan, &mut pool, at(3_001));
    assert_eq!(state(&wan, router, at(3_002)), Some((Some(mac(PEER)), "reachable")));
    wan.forget_link(at(0));
    assert_eq!(state(&wan, router, at(3_003)), None);
    assert!(matches!(wan.resolve(ROUTER_V4, packet(&mut pool, 2), at(3_004)), Resolved::Held));
}

#[test]
fn gratuitous_arp_moves_a_hop_and_makes_none() {
    let (mut wan, mut pool) = quiet();
    let gratuitous = |operation, from| arp(operation, (from, ROUTER_V4), BROADCAST, ROUTER_V4);
    for operation in [ArpOperations::Request, ArpOperations::Reply] {
        assert_eq!(receive(&mut wan, &gratuitous(operation, OTHER), at(0)), Fate::Consumed);
    }
    assert_eq!(state(&wan, ROUTER_V4.into(), at(0)), None);
    assert!(matches!(wan.resolve(ROUTER_V4, packet(&mut pool, 0), at(0)), Resolved::Held));
    receive(&mut wan, &reply_from((PEER, ROUTER_V4)), at(0));
    drain(&mut wan, &mut pool, at(0));
    receive(&mut wan, &gratuitous(ArpOperations::Request, PEER), at(1));
    assert_eq!(state(&wan, ROUTER_V4.into(), at(1)), Some((Some(mac(PEER)), "reachable")), "nothing new");
    receive(&mut wan, &gratuitous(ArpOperations::Reply, OTHER), at(2));
    assert_eq!(state(&wan, ROUTER_V4.into(), at(2)), Some((Some(mac(OTHER)), "stale")));
    let Resolved::Send(frame) = wan.resolve(ROUTER_V4, packet(&mut pool, 0), at(3)) else { panic!("failover") };
    assert_eq!(frame.bytes()[..6], OTHER);
    let [Output::Generated(probe)] = &drain(&mut wan, &mut pool, at(3))[..] else { panic!("it is asked") };
    assert_eq!(read_arp(probe).0, OTHER);
}

#[test]
fn a_scan_of_the_link_is_bounded_and_does_not_shut_out_the_gateway() {
    let (mut wan, mut pool) = quiet();
    let mut drops = 0;
    for number in 0..1_000u32 {
        let hop = Ipv4Addr::from_bits(0x0a00_0000 + number);
        if let Resolved::Drop(frame, reason) = wan.resolve(hop, packet(&mut pool, 1), at(0)) {
            assert_eq!(reason, DropReason::NoNeighbour);
            pool.put(frame);
            drops += 1;
        }
    }
    assert_eq!((wan.held(), drops), (HELD, 1_000 - HELD));
    assert_eq!(drain(&mut wan, &mut pool, at(0)).len(), INCOMPLETE as usize, "requests");
    // Its frame finds no room to wait, but it is asked, and the next one goes.
    assert!(matches!(wan.resolve(ROUTER_V4, packet(&mut pool, 1), at(1)), Resolved::Drop(..)));
    assert_eq!(drain(&mut wan, &mut pool, at(1)).len(), 1);
    receive(&mut wan, &reply_from((PEER, ROUTER_V4)), at(2));
    assert!(matches!(wan.resolve(ROUTER_V4, packet(&mut pool, 1), at(2)), Resolved::Send(_)));
    let mut abandoned = 0;
    while let Some(frame) = wan.abandon() {
        pool.put(frame);
        abandoned += 1;
    }
    assert_eq!((abandoned, wan.held()), (HELD, 0));
}

/// RFC 1122 2.3.2.2: the latest are kept.
#[test]
fn of_one_hop_the_latest_frames_wait() {
    let (mut wan, mut pool) = quiet();
    for number in 0..HELD_PER_HOP as u8 + 5 {
        match wan.resolve(ROUTER_V4, packet(&mut pool, number), at(0)) {
            Resolved::Drop(frame, _) => assert_eq!(usize::from(frame.bytes()[14]) + HELD_PER_HOP, usize::from(number)),
            Resolved::Held => assert!(usize::from(number) < HELD_PER_HOP),
            Resolved::Send(_) => panic!("unknown"),
        }
    }
    assert_eq!(wan.held(), HELD_PER_HOP);
}

#[test]
fn new_addresses_are_announced_twice() {
    // RFC 5227 2.3: two seconds apart. RFC 4861 7.2.6.
    let (mut wan, mut pool) = (Wan::new(config(), 1), FramePool::new(4));
    for millis in [0, 2_000] {
        assert_eq!(wan.deadline().unwrap().max(at(0)), at(millis));
        let announced = drain(&mut wan, &mut pool, at(millis));
        let [Output::Generated(v4), Output::Generated(v6)] = &announced[..] else { panic!("{announced:?}") };
        assert_eq!(read_arp(v4), (BROADCAST, ArpOperations::Request, (OWN, OWN_V4), OWN_V4));
        let (to, src, dst, nd) = read_nd(v6);
        assert_eq!((to, src, dst), ([0x33, 0x33, 0, 0, 0, 1], OWN_V6, crate::ndp::ALL_NODES));
        let NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } = nd else { panic!("{nd:?}") };
        assert_eq!((flags, target_addr), (NdiscNeighborFlags::OVERRIDE, OWN_V6));
        assert_eq!(lladdr.unwrap().as_bytes(), OWN);
        assert!(drain(&mut wan, &mut pool, at(millis + 1_999)).is_empty());
    }
    wan.set_config(config(), at(5_000));
    assert_eq!(wan.deadline(), None, "nothing new");
    let second = Ipv4Addr::new(192, 0, 2, 10);
    wan.set_config(WanConfig { v4: vec![(OWN_V4, 24), (second, 24)], ..config() }, at(6_000));
    let announced = drain(&mut wan, &mut pool, at(6_000));
    let [Output::Generated(v4)] = &announced[..] else { panic!("{announced:?}") };
    assert_eq!(read_arp(v4).3, second);
    // What goes is announced no more; what is announced and moves begins anew, once.
    wan.set_config(config(), at(6_001));
    assert!(drain(&mut wan, &mut pool, at(9_000)).is_empty());
    for last in [1, 2] {
        wan.set_config(WanConfig { mac: mac([2, 0, 0, 0, 0, last]), ..config() }, at(10_000));
    }
    // And its router is asked for.
    assert_eq!(drain(&mut wan, &mut pool, at(10_000)).len(), 3);
}

#[test]
fn a_solicitation_is_answered() {
    let (mut wan, _) = quiet();
    let Fate::Reply(answer) = receive(&mut wan, &SOLICITATION, at(0)) else { panic!("no answer") };
    let (to, src, dst, nd) = read_nd(&answer);
    assert_eq!((to, src, dst), (PEER, OWN_V6, PEER_V6));
    // RFC 4861 7.2.4: solicited, override, with our hardware address; we are a host there.
    let NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } = nd else { panic!("{nd:?}") };
    assert_eq!((flags, target_addr), (NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE, OWN_V6));
    assert_eq!(lladdr.unwrap().as_bytes(), OWN);
    assert_eq!(state(&wan, PEER_V6.into(), at(0)), None, "who asks makes no entry");
    // Our link-local address (RFC 4291 2.5.6) is ours as well; 2001:db8::8 is not.
    let ask = |target: Ipv6Addr| {
        let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1], &PEER].concat();
        icmp6(PEER_V6, crate::ndp::solicited_node(target), [0x33, 0x33, 0xff, 0, 0, 1], &message)
    };
    let Fate::Reply(answer) = receive(&mut wan, &ask(link_local_of(OWN)), at(0)) else { panic!("no answer") };
    assert_eq!(read_nd(&answer).1, link_local_of(OWN));
    assert_eq!(receive(&mut wan, &ask("2001:db8::8".parse().unwrap()), at(0)), Fate::Consumed);
}

fn link_local_of(octets: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = octets.map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

/// RFC 4861 7.2.4, RFC 4862 5.4.3: one who probes our address hears, with all nodes, that it is taken.
#[test]
fn duplicate_address_detection_is_told() {
    let (mut wan, _) = quiet();
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &OWN_V6.octets()].concat();
    let group = crate::ndp::solicited_node(OWN_V6);
    let probe = icmp6(Ipv6Addr::UNSPECIFIED, group, [0x33, 0x33, 0xff, 0, 0, 9], &message);
    let Fate::Reply(answer) = receive(&mut wan, &probe, at(0)) else { panic!("no answer") };
    let (to, src, dst, nd) = read_nd(&answer);
    assert_eq!((to, src, dst), ([0x33, 0x33, 0, 0, 0, 1], OWN_V6, crate::ndp::ALL_NODES));
    let NdiscRepr::NeighborAdvert { flags, .. } = nd else { panic!("{nd:?}") };
    assert_eq!((flags, wan.conflicts()), (NdiscNeighborFlags::OVERRIDE, 1));
    // RFC 4861 7.1.1: to the group only, and without a hardware address.
    let direct = icmp6(Ipv6Addr::UNSPECIFIED, OWN_V6, OWN, &message);
    let with_mac = [&message[..], &[1, 1], &PEER].concat();
    let with_mac = icmp6(Ipv6Addr::UNSPECIFIED, group, [0x33, 0x33, 0xff, 0, 0, 9], &with_mac);
    assert_eq!([receive(&mut wan, &direct, at(0)), receive(&mut wan, &with_mac, at(0))], [MALFORMED, MALFORMED]);
}

/// RFC 4861 7.1.1, 7.1.2.
#[test]
fn neighbour_discovery_from_beyond_the_link_is_dropped() {
    let (mut wan, _) = quiet();
    let sealed =
        |at: usize, octet: u8| icmp6(PEER_V6, crate::ndp::solicited_node(OWN_V6), OWN, &changed(&SOLICITATION[54..], at, &[octet]));
    let bad = [
        changed(&SOLICITATION, 21, &[254]),
        changed(&SOLICITATION, 56, &[0]),
        sealed(1, 1),
        // A target that is a group; an option without length, and one past the end.
        sealed(8, 0xff),
        sealed(25, 0),
        sealed(25, 2),
    ];
    for (number, octets) in bad.iter().enumerate() {
        assert_eq!(receive(&mut wan, octets, at(0)), MALFORMED, "{number}");
    }
    for len in 55..SOLICITATION.len() {
        assert_eq!(receive(&mut wan, &SOLICITATION[..len], at(0)), MALFORMED, "{len}");
    }
    // An answer to a group cannot have been asked for.
    let message = [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &PEER_V6.octets(), &[2, 1], &PEER].concat();
    let answer = icmp6(PEER_V6, crate::ndp::ALL_NODES, [0x33, 0x33, 0, 0, 0, 1], &message);
    assert_eq!(receive(&mut wan, &answer, at(0)), MALFORMED);
}

#[test]
fn a_hop_of_ipv6_is_asked_for_and_confirmed() {
    let (mut wan, mut pool) = quiet();
    assert!(matches!(wan.resolve(PEER_V6, packet(&mut pool, 1), at(0)), Resolved::Held));
    let asked = drain(&mut wan, &mut pool, at(0));
    let [Output::Generated(request)] = &asked[..] else { panic!("{asked:?}") };
    let (to, src, dst, nd) = read_nd(request);
    // RFC 4291 2.7.1, RFC 2464 7.
    assert_eq!((to, src, dst), ([0x33, 0x33, 0xff, 0, 0, 1], link_local_of(OWN), "ff02::1:ff00:1".parse().unwrap()));
    let NdiscRepr::NeighborSolicit { target_addr, lladdr } = nd else { panic!("{nd:?}") };
    assert_eq!((target_addr, lladdr.unwrap().as_bytes()), (PEER_V6, &OWN[..]));
    // RFC 4861 7.2.5: without a hardware address it helps nobody who has none.
    receive(&mut wan, &advertisement(0x60, None), at(1));
    assert_eq!(state(&wan, PEER_V6.into(), at(1)), Some((None, "incomplete")));
    receive(&mut wan, &advertisement(0x60, Some(PEER)), at(2));
    assert_eq!(drain(&mut wan, &mut pool, at(2)).len(), 1);
    assert_eq!(state(&wan, PEER_V6.into(), at(2)), Some((Some(mac(PEER)), "reachable")));
    // RFC 4861 7.2.5: another hardware address counts with the override flag only, and is asked about.
    receive(&mut wan, &advertisement(0x00, Some(OTHER)), at(3));
    assert_eq!(state(&wan, PEER_V6.into(), at(3)), Some((Some(mac(PEER)), "reachable")));
    receive(&mut wan, &advertisement(0x20, Some(OTHER)), at(3));
    assert_eq!(state(&wan, PEER_V6.into(), at(3)), Some((Some(mac(OTHER)), "stale")));
    assert!(matches!(wan.resolve(PEER_V6, packet(&mut pool, 1), at(4)), Resolved::Send(_)));
    let asked = drain(&mut wan, &mut pool, at(4));
    let [Output::Generated(probe)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((read_nd(probe).0, read_nd(probe).2), (OTHER, PEER_V6), "by name");
    // RFC 4861 4.4: the answer to that may leave the hardware address out.
    receive(&mut wan, &advertisement(0x40, None), at(5));
    assert_eq!(state(&wan, PEER_V6.into(), at(5)), Some((Some(mac(OTHER)), "reachable")));
}

#[test]
fn a_router_that_advertises_itself_is_the_way_for_its_lifetime() {
    let (mut wan, mut pool) = quiet();
    let far: Ipv6Addr = "2001:db8:1::1".parse().unwrap();
    // RFC 4861 6.1.2: from a link-local address; 6.3.4: a lifetime of zero is no default router.
    assert_eq!(receive(&mut wan, &router(PEER_V6, 30), at(0)), MALFORMED);
    assert_eq!((receive(&mut wan, &router(ROUTER_V6, 0), at(0)), wan.next_hop(far)), (Fate::Consumed, None));
    assert_eq!((receive(&mut wan, &router(ROUTER_V6, 30), at(0)), wan.next_hop(far)), (Fate::Consumed, Some(ROUTER_V6)));
    let second: Ipv6Addr = "fe80::2".parse().unwrap();
    receive(&mut wan, &router(second, 30), at(0));
    assert_eq!((wan.next_hop(far), wan.deadline()), (Some(ROUTER_V6), Some(at(30_000))), "the first stays");
    receive(&mut wan, &router(ROUTER_V6, 40), at(20_000));
    assert!(drain(&mut wan, &mut pool, at(59_999)).is_empty() && wan.next_hop(far).is_some());
    // RFC 4861 6.3.5.
    assert!(drain(&mut wan, &mut pool, at(60_000)).is_empty());
    assert_eq!((wan.next_hop(far), wan.deadline()), (None, None));
    receive(&mut wan, &router(second, 30), at(61_000));
    receive(&mut wan, &router(second, 0), at(61_000));
    assert_eq!(wan.next_hop(far), None, "it said that it is none any more");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever comes: no panic, no entry that nobody asked for, and no answer longer than a question and an option.
    #[test]
    fn any_octets(which in 0..4u8, changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..6), len in 0usize..120,
        noise in proptest::collection::vec(any::<u8>(), 14..120)) {
        let (mut wan, mut pool) = quiet();
        let mut octets = match which {
            0 => ARP_REQUEST.to_vec(),
            1 => SOLICITATION.to_vec(),
            2 => router(ROUTER_V6, 30),
            _ => noise,
        };
        for (place, octet) in changes {
            let place = usize::from(place) % octets.len();
            octets[place] = octet;
        }
        octets.truncate(len.max(1));
        if let Fate::Reply(answer) = receive(&mut wan, &octets, at(0)) {
            prop_assert!(answer.len() <= octets.len().max(86));
            prop_assert_eq!(&answer[6..12], OWN);
        }
        let mut known = 0;
        wan.neighbors(at(0), |_, _, _, _| known += 1);
        prop_assert_eq!((known, wan.held()), (0, 0));
        prop_assert!(drain(&mut wan, &mut pool, at(1)).is_empty());
    }

    /// Every frame that goes in comes out once, whatever happens meanwhile.
    #[test]
    fn frames_are_conserved(steps in proptest::collection::vec((0u8..4, 0u8..100, 0u64..1_500), 1..200)) {
        let (mut wan, mut pool) = quiet();
        let mut millis = 3_000;
        for (action, host, pause) in steps {
            let hop = Ipv4Addr::new(192, 0, 2, host);
            match action {
                0 | 1 => match wan.resolve(hop, packet(&mut pool, host), at(millis)) {
                    Resolved::Send(frame) | Resolved::Drop(frame, _) => pool.put(frame),
                    Resolved::Held => {}
                },
                2 => { receive(&mut wan, &reply_from(([2, 0, 0, 0, 0, host], hop)), at(millis)); }
                _ => millis += pause,
            }
            for output in drain(&mut wan, &mut pool, at(millis)) {
                if let Output::Waited(octets) = output {
                    prop_assert_eq!(octets[14], octets[5], "to the hop that it waited for");
                }
            }
            prop_assert_eq!(pool.outstanding(), wan.held());
            prop_assert!(wan.held() <= HELD);
            if let Some(due) = wan.deadline() {
                prop_assert!(due > at(millis), "all that was due is done");
            }
        }
        for _ in 0..=TRIES {
            millis += 1_000;
            drain(&mut wan, &mut pool, at(millis));
        }
        prop_assert_eq!((wan.held(), pool.outstanding()), (0, 0), "nothing waits for ever");
    }
}
