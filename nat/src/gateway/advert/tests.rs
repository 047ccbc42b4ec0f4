use super::*;
use crate::flow::Address;
use crate::gateway::GatewayConfig;
use crate::station::{AddressGuard, Limits, Station};
use core::net::Ipv4Addr;
use pnet_packet::icmpv6::{self, Icmpv6Packet};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv6Packet as SmolPacket, Icmpv6Repr};
use std::vec;
use std::vec::Vec;
use vswitch_switch::Head;

const MAC: UnicastMac = UnicastMac::for_ipv4([10, 88, 0, 1]);
const ASKER: UnicastMac = UnicastMac::for_ipv4([10, 88, 0, 2]);
const LINK_LOCAL: Ipv6Addr = ndp::link_local(MAC);
const ASKER_LOCAL: Ipv6Addr = ndp::link_local(ASKER);
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd58, 1, 2, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// The whole of an advertisement without names: what is on the wire behind the Ethernet addresses, by hand.
const LITERAL: [u8; 2 + 40 + 64] = [
    0x86, 0xdd, 0x60, 0, 0, 0, 0, 64, 58, 255, // version, length 64, ICMPv6, hop limit 255
    0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x58, 0x0a, 0xff, 0xfe, 0x58, 0, 1, // from fe80::58:aff:fe58:1
    0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // to ff02::1
    134, 0, 0xb1, 0xb3, 64, 0x40, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, // hop limit 64, O, 1800 s
    1, 1, 0x02, 0x58, 0x0a, 0x58, 0, 1, // source link-layer address
    5, 1, 0, 0, 0, 0, 5, 0xdc, // MTU 1500
    3, 4, 64, 0xc0, 0, 0, 0x15, 0x18, 0, 0, 0x0a, 0x8c, 0, 0, 0, 0, // /64, L and A, 5400 s, 2700 s
    0xfd, 0x58, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // fd58:1:2::
];

fn gateway() -> Gateway {
    let v6 = GatewayV6 { address: ADDRESS, prefix: 64, link_local: LINK_LOCAL };
    let config = GatewayConfig { mac: MAC, address: Ipv4Addr::new(10, 88, 0, 1), prefix: 20, v6: Some(v6) };
    let mut gateway = Gateway::new(config, [1, 2]);
    gateway.stations.set(1, station(2, 1_500));
    gateway
}

fn station(last: u8, mtu: u16) -> Station {
    let v4 = Ipv4Addr::new(10, 88, 0, last);
    Station {
        mac: UnicastMac::for_ipv4(v4.octets()),
        v4: Some(v4),
        v6: None,
        mtu,
        limits: Limits::default(),
        guard: AddressGuard::default(),
    }
}

fn secs(secs: u64) -> Time {
    Time::from_secs(1_000 + secs)
}

fn poll(gateway: &mut Gateway, now: Time) -> Option<Vec<u8>> {
    let mut pool = FramePool::new(1);
    let routed = gateway.poll_output(&mut pool, now)?;
    let Routed::Generated(Side::Inside, frame) = routed else { panic!("{routed:?}") };
    Some(frame.bytes().to_vec())
}

fn solicitation(src: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let mut message = [&[133, 0, 0, 0, 0, 0, 0, 0], options].concat();
    let sum = icmpv6::checksum(&Icmpv6Packet::new(&message).unwrap(), &src, &ALL_ROUTERS);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [&[0x33, 0x33, 0, 0, 0, 2][..], &ASKER.mac().0].concat();
    frame.resize(54, 0);
    ndp::write_header(&mut frame, (src, ALL_ROUTERS), 58, 255, message.len() as u16);
    frame.extend(message);
    frame
}

fn source_option() -> Vec<u8> {
    [&[1, 1][..], &ASKER.mac().0].concat()
}

fn ask(gateway: &mut Gateway, octets: &[u8], now: Time) -> Result<Vec<u8>, DropReason> {
    let mut frame = FramePool::new(1).take().unwrap();
    assert!(frame.fill(octets));
    let head = Head::parse(frame.bytes(), None).unwrap();
    match gateway.receive(frame, &head, 1, now) {
        Routed::Reply(Side::Inside, frame) => Ok(frame.bytes().to_vec()),
        Routed::Drop(_, reason) => Err(reason),
        other @ (Routed::Reply(..)
        | Routed::Refuse(..)
        | Routed::Forward(..)
        | Routed::Socket(_)
        | Routed::Generated(..)
        | Routed::Held
        | Routed::Consumed(_)) => panic!("{other:?}"),
    }
}

/// What another stack reads of it: its lifetime and MTU, and the octets of RDNSS and DNSSL.
fn read(frame: &[u8]) -> (u64, u32, Vec<u8>) {
    let [src, dst] = [22, 38].map(|at| Ipv6Addr::read(&frame[at..at + 16]).unwrap());
    let message = &frame[54..];
    assert_eq!(icmpv6::checksum(&Icmpv6Packet::new(message).unwrap(), &src, &dst), u16::from_be_bytes([message[2], message[3]]));
    assert_eq!((src, frame[21]), (LINK_LOCAL, 255), "RFC 4861 6.1.2");
    let packet = SmolPacket::new_checked(message).unwrap();
    let Ok(Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert { flags, router_lifetime, lladdr, mtu, prefix_info, .. })) =
        Icmpv6Repr::parse(&src, &dst, &packet, &ChecksumCapabilities::default())
    else {
        panic!("no advertisement")
    };
    let prefix = prefix_info.unwrap();
    assert!(prefix.is_valid_prefix_info() && prefix.prefix_len == 64 && prefix.prefix == "fd58:1:2::".parse::<Ipv6Addr>().unwrap());
    assert_eq!((flags, lladdr.unwrap().as_bytes()), (NdiscRouterFlags::OTHER, &MAC.mac().0[..]));
    (router_lifetime.secs(), mtu.unwrap(), message[64..].to_vec())
}

#[test]
fn octet_for_octet() {
    let mut gateway = gateway();
    gateway.advertise(true, secs(0));
    let frame = poll(&mut gateway, secs(0)).unwrap();
    // RFC 2464 7: to all nodes' group, from us.
    assert_eq!(frame[..12], [&ALL_NODES_MAC[..], &MAC.mac().0].concat());
    assert_eq!(frame[12..], LITERAL);
    assert_eq!(read(&frame), (1_800, 1_500, vec![]));
}

#[test]
fn names_are_told_where_they_are_answered() {
    let mut gateway = gateway();
    gateway.set_exchange(true);
    gateway.advertise(true, secs(0));
    let (.., options) = read(&poll(&mut gateway, secs(0)).unwrap());
    // RFC 8106 5.1: type 25, 24 octets, lifetime, address; 5.2: type 31, 32 octets, lifetime, the domain, zeros.
    let rdnss = [&[25, 3, 0, 0, 0, 0, 7, 8][..], &ADDRESS.octets()].concat();
    let dnssl = [&[31, 4, 0, 0, 0, 0, 7, 8][..], b"\x07vswitch\x08internal\x00", &[0; 6]].concat();
    assert_eq!(options, [rdnss, dnssl].concat());
}

#[test]
fn rfc8106_5_1_names_that_are_no_longer_answered_have_a_lifetime_of_0() {
    let mut gateway = gateway();
    gateway.set_exchange(true);
    gateway.advertise(true, secs(0));
    assert!(poll(&mut gateway, secs(0)).is_some());
    gateway.set_exchange(false);
    gateway.advertise(true, secs(5));
    let (lifetime, _, options) = read(&poll(&mut gateway, secs(5)).expect("told at once"));
    assert_eq!((lifetime, &options[4..8], &options[28..32]), (1_800, &[0; 4][..], &[0; 4][..]));
}

#[test]
fn rfc4861_6_2_4_three_soon_and_then_at_random() {
    let mut gateway = gateway();
    assert_eq!((gateway.deadline(), gateway.advertises()), (None, None), "not asked to");
    gateway.advertise(true, secs(0));
    let mut at = Vec::new();
    let mut now = secs(0);
    for _ in 0..40 {
        assert!(poll(&mut gateway, now).is_some());
        assert!(poll(&mut gateway, now).is_none());
        at.push(now);
        now = gateway.deadline().unwrap();
        assert!(poll(&mut gateway, Time::from_nanos(now.nanos() - 1)).is_none(), "not before");
    }
    let gaps: Vec<Duration> = at.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert_eq!(gaps[..2], [INITIAL_INTERVAL; 2]);
    assert!(gaps[2..].iter().all(|gap| (MIN_INTERVAL..=MAX_INTERVAL).contains(gap)), "{gaps:?}");
    assert!(gaps[2..].iter().any(|gap| *gap < Duration::from_secs(300)) && gaps.iter().any(|gap| *gap > Duration::from_secs(500)));
    assert!(gaps[2..].windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn rfc4861_6_2_4_a_change_is_told_at_once_but_min_delay_apart() {
    let mut gateway = gateway();
    gateway.advertise(true, secs(0));
    for after in [0, 16, 32] {
        assert!(poll(&mut gateway, secs(after)).is_some());
    }
    gateway.advertise(true, secs(40));
    assert!(poll(&mut gateway, secs(40)).is_none(), "nothing changed");
    // A host that loses its IPv6 default route: RFC 4861 6.2.5, lifetime 0 says that we are no default router, the prefix stays.
    gateway.advertise(false, secs(41));
    assert_eq!(read(&poll(&mut gateway, secs(41)).unwrap()).0, 0);
    assert_eq!(gateway.advertises(), Some(false));
    gateway.advertise(true, secs(42));
    assert!(poll(&mut gateway, secs(43)).is_none(), "RFC 4861 6.2.6: MIN_DELAY_BETWEEN_RAS");
    assert_eq!(read(&poll(&mut gateway, secs(44)).unwrap()).0, 1_800);
    assert_eq!(gateway.deadline(), Some(secs(60)), "as the first ones were");
}

#[test]
fn rfc4861_6_2_5_the_last_one_says_that_nobody_is_there() {
    let mut gateway = gateway();
    gateway.set_exchange(true);
    assert!(gateway.cease(&mut FramePool::new(1)).is_none());
    gateway.advertise(true, secs(0));
    let Some(Routed::Generated(Side::Inside, frame)) = gateway.cease(&mut FramePool::new(1)) else { panic!("none") };
    let (lifetime, _, options) = read(frame.bytes());
    assert_eq!(lifetime, 0);
    assert_eq!((&options[4..8], &options[28..32]), (&[0; 4][..], &[0; 4][..]), "RFC 8106 5.1: names are not answered either");
    assert!(poll(&mut gateway, secs(9_999)).is_none());
}

#[test]
fn rfc4861_6_2_6_a_solicitation_is_answered_at_once_to_the_asker() {
    let mut gateway = gateway();
    gateway.advertise(true, secs(0));
    let answer = ask(&mut gateway, &solicitation(ASKER_LOCAL, &source_option()), secs(0)).unwrap();
    assert_eq!(answer[..12], [ASKER.mac().0, MAC.mac().0].concat());
    assert_eq!(Ipv6Addr::read(&answer[38..54]), Some(ASKER_LOCAL));
    assert_eq!(read(&answer).0, 1_800);
    // RFC 6085: without an address, to all nodes, in a frame to him.
    let answer = ask(&mut gateway, &solicitation(Ipv6Addr::UNSPECIFIED, &[]), secs(0)).unwrap();
    assert_eq!(answer[..6], ASKER.mac().0);
    assert_eq!(Ipv6Addr::read(&answer[38..54]), Some(ALL_NODES));
    assert!(poll(&mut gateway, secs(0)).is_some(), "which is no reason to say nothing to the others");
}

#[test]
fn a_flood_of_solicitations_is_limited_and_counted() {
    let mut gateway = gateway();
    gateway.advertise(true, secs(0));
    let frame = solicitation(ASKER_LOCAL, &source_option());
    let answered = (0..1_000).filter(|_| ask(&mut gateway, &frame, secs(1)) != Err(DropReason::ServiceLimit)).count();
    assert_eq!(answered, 50);
    assert!(ask(&mut gateway, &frame, secs(2)).is_ok(), "a second later it is forgotten");
}

#[test]
fn rfc4861_6_1_1_what_is_no_solicitation() {
    let mut gateway = gateway();
    gateway.advertise(true, secs(0));
    let good = solicitation(ASKER_LOCAL, &source_option());
    let broken = |at: usize, octet: u8| {
        let mut frame = good.clone();
        frame[at] = octet;
        frame
    };
    let mut short = good[..58].to_vec();
    short[19] = 4;
    let cases = [
        ("hop limit not 255", broken(21, 64)),
        ("checksum", broken(56, !good[56])),
        ("code", broken(55, 1)),
        ("shorter than 8 octets", short),
        ("an option of length 0", solicitation(ASKER_LOCAL, &[1, 0, 2, 0x58, 0, 0, 0, 2])),
        ("an option beyond the end", solicitation(ASKER_LOCAL, &[1, 2, 2, 0x58, 0, 0, 0, 2])),
        ("from :: with a source link-layer address", solicitation(Ipv6Addr::UNSPECIFIED, &source_option())),
    ];
    for (what, frame) in cases {
        assert_eq!(ask(&mut gateway, &frame, secs(0)), Err(DropReason::GatewayMalformed), "{what}");
    }
    // Unknown options are ignored (RFC 4861 6.1.1).
    let unknown = [&source_option()[..], &[200, 1, 0, 0, 0, 0, 0, 0]].concat();
    assert!(ask(&mut gateway, &solicitation(ASKER_LOCAL, &unknown), secs(0)).is_ok());
    for len in 14..good.len() {
        assert!(ask_any(&mut gateway, &good[..len]).is_none(), "cut to {len}");
    }
}

fn ask_any(gateway: &mut Gateway, octets: &[u8]) -> Option<Vec<u8>> {
    let mut frame = FramePool::new(1).take().unwrap();
    assert!(frame.fill(octets));
    let head = Head::parse(frame.bytes(), None).ok()?;
    let Routed::Reply(_, frame) = gateway.receive(frame, &head, 1, secs(0)) else { return None };
    Some(frame.bytes().to_vec())
}

#[test]
fn nobody_is_told_where_nobody_is() {
    let mut gateway = gateway();
    gateway.stations.remove(1);
    gateway.advertise(true, secs(0));
    assert!(poll(&mut gateway, secs(0)).is_none());
    assert_eq!(gateway.deadline(), Some(secs(16)), "but the timers go on");
    assert!(gateway.cease(&mut FramePool::new(1)).is_none());
}

#[test]
fn others_advertisements_are_nothing_to_us() {
    let mut gateway = gateway();
    gateway.advertise(true, secs(0));
    let mut frame = poll(&mut gateway, secs(0)).unwrap();
    frame[6..12].copy_from_slice(&ASKER.mac().0);
    assert!(ask_any(&mut gateway, &frame).is_none());
    assert_eq!(gateway.advertises(), Some(true));
}

#[test]
fn without_ipv6_there_is_no_router_and_that_is_counted() {
    let config = GatewayConfig { v6: None, ..*gateway().config() };
    let mut gateway = Gateway::new(config, [1, 2]);
    gateway.advertise(true, secs(0));
    assert_eq!((gateway.advertises(), gateway.deadline()), (None, None));
    assert!(poll(&mut gateway, secs(0)).is_none());
    let frame = solicitation(ASKER_LOCAL, &source_option());
    assert_eq!(ask(&mut gateway, &frame, secs(0)), Err(DropReason::GatewayUnserved));
}

#[test]
fn rfc4861_7_2_4_who_tries_our_addresses_is_told_so_with_all_others() {
    let mut gateway = gateway();
    for target in [ADDRESS, LINK_LOCAL] {
        // RFC 4862 5.4.2: from ::, to the target's group, without a source link-layer address.
        let group = ndp::solicited_node(target);
        let mut message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
        let sum = icmpv6::checksum(&Icmpv6Packet::new(&message).unwrap(), &Ipv6Addr::UNSPECIFIED, &group);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut frame = [&ndp::group_mac(group).0[..], &ASKER.mac().0].concat();
        frame.resize(54, 0);
        ndp::write_header(&mut frame, (Ipv6Addr::UNSPECIFIED, group), 58, 255, 24);
        frame.extend(message);
        let answer = ask(&mut gateway, &frame, secs(0)).unwrap();
        assert_eq!(Ipv6Addr::read(&answer[38..54]), Some(ALL_NODES));
        // Router and override, not solicited; with where we are.
        assert_eq!((answer[54], answer[58]), (136, 0xa0));
        assert_eq!(answer[62..], [&target.octets()[..], &[2, 1], &MAC.mac().0].concat());
    }
}

#[test]
fn the_mtu_is_the_smallest_of_those_who_speak_ipv6() {
    let mut gateway = gateway();
    gateway.advertise(true, secs(0));
    for (port, mtu, expected) in [(1, 9_000, 9_000), (2, 68, 9_000), (3, 1_400, 1_400), (4, 1_500, 1_400)] {
        gateway.stations.set(port, station(port as u8 + 1, mtu));
        let answer = ask(&mut gateway, &solicitation(ASKER_LOCAL, &source_option()), secs(0)).unwrap();
        assert_eq!(read(&answer).1, expected);
    }
}

/// It is written twice: as text for DHCP and names, as labels here.
#[test]
fn the_domain_is_that_of_dhcp_and_names() {
    let labels = crate::gateway::dhcp::DOMAIN.split('.').flat_map(|label| core::iter::once(label.len() as u8).chain(label.bytes()));
    assert_eq!(DOMAIN.to_vec(), labels.chain([0]).collect::<std::vec::Vec<_>>());
}
