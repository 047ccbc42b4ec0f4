use super::*;
use crate::gateway::{GatewayConfig, GatewayV6};
use crate::ndp::{self, ALL_NODES, group_mac, link_local, solicited_node};
use crate::station::{Limits, Station};
use alloc::vec::Vec;
use std::prelude::rust_2024::*;
use vswitch_switch::groups::{Change, Family, Group};
use vswitch_switch::{FramePool, Mac};

const GATEWAY: [u8; 4] = [10, 88, 0, 1];
const ALL: [u8; 6] = [0xff; 6];
/// A stranger's hardware address.
const X: [u8; 6] = [2, 0, 0, 0, 0, 0x66];

fn v4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 0, last)
}

fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

fn mac(last: u8) -> UnicastMac {
    UnicastMac::for_ipv4(v4(last).octets())
}

fn raw(last: u8) -> [u8; 6] {
    mac(last).mac().0
}

/// Ports 2 and 3 with stations .2 and .3, guarded; 4 with .4 and none; 5 with .5 whose hardware address is not bound.
struct Bench {
    gateway: Gateway,
    pool: FramePool,
    now: Time,
}

impl Bench {
    fn new() -> Self {
        let own = GatewayV6 { address: v6(1), prefix: 64, link_local: link_local(mac(1)) };
        let config = GatewayConfig { mac: mac(1), address: GATEWAY.into(), prefix: 24, v6: Some(own) };
        let mut gateway = Gateway::new(config, [1, 2]);
        for (port, guard) in
            [(2, AddressGuard::Bound), (3, AddressGuard::Bound), (4, AddressGuard::Off), (5, AddressGuard::Addresses)]
        {
            let (v4, v6) = (Some(v4(port)), Some(v6(port.into())));
            let station = Station { mac: mac(port), v4, v6, mtu: 1_500, limits: Limits::default(), guard };
            gateway.stations.set(port.into(), station);
        }
        Self { gateway, pool: FramePool::new(2), now: Time::from_secs(1_000) }
    }

    fn frame(&mut self, octets: &[u8]) -> (FrameBuf, Head) {
        let mut frame = self.pool.take().unwrap();
        assert!(frame.fill(octets));
        let head = Head::parse(frame.bytes(), None).unwrap();
        (frame, head)
    }

    fn inspect(&mut self, port: u16, octets: &[u8]) -> Inspected {
        let (frame, head) = self.frame(octets);
        let inspected = self.gateway.inspect(&frame, &head, port, self.now);
        self.pool.put(frame);
        inspected
    }

    /// The answer that a frame gets.
    fn answered(&mut self, port: u16, octets: &[u8]) -> Option<Vec<u8>> {
        let (mut frame, head) = self.frame(octets);
        let asked = match self.gateway.inspect(&frame, &head, port, self.now) {
            Inspected::Asked(asked) | Inspected::Claimed(asked) => Some(asked),
            Inspected::Pass | Inspected::Drop(_) | Inspected::Report => None,
        };
        let octets = asked.filter(|asked| answer(&mut frame, &head, asked)).map(|_| frame.bytes().to_vec());
        self.pool.put(frame);
        octets
    }

    fn report(&mut self, port: u16, octets: &[u8]) -> Vec<Change> {
        let (frame, head) = self.frame(octets);
        let inspected = self.gateway.inspect(&frame, &head, port, self.now);
        let changes: Vec<_> = membership::changes(&frame, &head).collect();
        assert!(inspected == Inspected::Report || changes.is_empty(), "{inspected:?} {changes:?}");
        self.pool.put(frame);
        changes
    }
}

fn arp(dst: [u8; 6], src: [u8; 6], operation: u8, sender: ([u8; 6], [u8; 4]), target: [u8; 4]) -> Vec<u8> {
    let fixed = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
    [&dst[..], &src, &fixed, &sender.0, &sender.1, &[0; 6], &target].concat()
}

fn request(last: u8, sender: u8, target: u8) -> Vec<u8> {
    arp(ALL, raw(last), 1, (raw(last), v4(sender).octets()), v4(target).octets())
}

fn ip4(dst: [u8; 6], src: [u8; 6], source: Ipv4Addr, number: u8, payload: &[u8]) -> Vec<u8> {
    let fixed = [8, 0, 0x45, 0, 0, 20 + payload.len() as u8, 0, 0, 0, 0, 1, number, 0, 0];
    [&dst[..], &src, &fixed, &source.octets(), &[224, 0, 0, 22], payload].concat()
}

fn udp(sport: u16, dport: u16) -> Vec<u8> {
    [&sport.to_be_bytes()[..], &dport.to_be_bytes(), &[0, 8, 0, 0]].concat()
}

fn ip6(dst: Mac, src: [u8; 6], source: Ipv6Addr, to: Ipv6Addr, (next, hops): (u8, u8), payload: &[u8]) -> Vec<u8> {
    let fixed = [0x86, 0xdd, 0x60, 0, 0, 0, 0, payload.len() as u8, next, hops];
    [&dst.0[..], &src, &fixed, &source.octets(), &to.octets(), payload].concat()
}

/// With the checksum that it should have.
fn icmp6(source: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    use crate::checksum;
    let mut message = message.to_vec();
    let pseudo = checksum::pseudo_v6(source.octets(), to.octets(), 58, message.len() as u32);
    let sum = !checksum::add(pseudo, checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// A solicitation of `target` from `source`, with the hardware address `names`.
fn solicit(last: u8, source: Ipv6Addr, target: Ipv6Addr, names: Option<[u8; 6]>) -> Vec<u8> {
    let to = solicited_node(target);
    let options = names.map(|mac| [&[1, 1][..], &mac].concat()).unwrap_or_default();
    let message = icmp6(source, to, &[&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &options].concat());
    ip6(group_mac(to), raw(last), source, to, (58, 255), &message)
}

fn advertise(last: u8, source: Ipv6Addr, target: Ipv6Addr, names: [u8; 6]) -> Vec<u8> {
    let message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets(), &[2, 1], &names].concat();
    ip6(group_mac(ALL_NODES), raw(last), source, ALL_NODES, (58, 255), &icmp6(source, ALL_NODES, &message))
}

#[test]
fn l09_ipv4_sources_belong_to_the_port() {
    let mut bench = Bench::new();
    for (source, expected) in [
        (v4(2), Inspected::Pass),
        (v4(77), Inspected::Pass),
        (v4(3), Inspected::Drop(DropReason::SourceTaken)),
        (v4(1), Inspected::Drop(DropReason::SourceTaken)),
        (v4(255), Inspected::Drop(DropReason::SourceTaken)),
        (Ipv4Addr::new(192, 0, 2, 1), Inspected::Drop(DropReason::SourceOutside)),
        (Ipv4Addr::UNSPECIFIED, Inspected::Drop(DropReason::SourceOutside)),
    ] {
        assert_eq!(bench.inspect(2, &ip4(raw(3), raw(2), source, 6, &[0; 20])), expected, "{source}");
        assert_eq!(bench.inspect(4, &ip4(raw(3), raw(4), source, 6, &[0; 20])), Inspected::Pass, "off: {source}");
        assert_eq!(bench.inspect(9, &ip4(raw(3), X, source, 6, &[0; 20])), Inspected::Pass, "no station: {source}");
    }
    let taken = Inspected::Drop(DropReason::SourceTaken);
    assert_eq!(bench.inspect(3, &ip4(raw(2), raw(3), v4(77), 6, &[])), taken, "another was the first to use it");
    // A host without an address asks for one.
    assert_eq!(bench.inspect(2, &ip4(ALL, raw(2), Ipv4Addr::UNSPECIFIED, 17, &udp(68, 67))), Inspected::Pass);
    assert_eq!(
        bench.inspect(2, &ip4(ALL, raw(2), Ipv4Addr::UNSPECIFIED, 17, &udp(68, 69))),
        Inspected::Drop(DropReason::SourceOutside)
    );
    // Told once a second, with who has it.
    let told = bench.gateway.guard_news().unwrap();
    assert_eq!((told.port, told.reason, told.address, told.owner), (2, DropReason::SourceTaken, Some(v4(3).into()), Some(3)));
    assert_eq!(bench.gateway.guard_news().unwrap().port, 3);
    assert_eq!(bench.gateway.guard_news(), None);
    // No receiver takes it for IPv4.
    assert_eq!(bench.inspect(2, &ip4(raw(3), raw(2), v4(3), 6, &[])[..33]), Inspected::Pass);
}

#[test]
fn l09_ipv6_sources_belong_to_the_port() {
    let mut bench = Bench::new();
    let stable: Ipv6Addr = "fe80::1234:5678:9abc:def0".parse().unwrap();
    for (source, expected) in [
        (v6(2), Inspected::Pass),
        (v6(0x999), Inspected::Pass),
        (link_local(mac(2)), Inspected::Pass),
        (stable, Inspected::Pass),
        (v6(3), Inspected::Drop(DropReason::SourceTaken)),
        (link_local(mac(3)), Inspected::Drop(DropReason::SourceTaken)),
        (link_local(mac(1)), Inspected::Drop(DropReason::SourceTaken)),
        (v6(1), Inspected::Drop(DropReason::SourceTaken)),
        ("2001:db8::1".parse().unwrap(), Inspected::Drop(DropReason::SourceOutside)),
        (Ipv6Addr::UNSPECIFIED, Inspected::Drop(DropReason::SourceOutside)),
    ] {
        for (next, payload) in [(6, vec![0; 20]), (17, udp(1, 2)), (58, vec![128, 0, 0, 0])] {
            let frame = ip6(mac(3).mac(), raw(2), source, v6(3), (next, 64), &payload);
            assert_eq!(bench.inspect(2, &frame), expected, "{source} {next}");
        }
    }
    let frame = ip6(mac(2).mac(), raw(3), stable, v6(2), (6, 64), &[]);
    assert_eq!(bench.inspect(3, &frame), Inspected::Drop(DropReason::SourceTaken));
    // Behind a fragment header, later fragments too.
    let frame = ip6(mac(2).mac(), raw(3), v6(2), v6(2), (44, 64), &[6, 0, 0, 8, 0, 0, 0, 1]);
    assert_eq!(bench.inspect(3, &frame), Inspected::Drop(DropReason::SourceTaken));
}

#[test]
fn l09_arp_names_its_sender() {
    let mut bench = Bench::new();
    let (spoof, claim) = (Inspected::Drop(DropReason::ArpSpoof), Inspected::Drop(DropReason::DuplicateClaim));
    let of = |mac, last| (mac, v4(last).octets());
    assert_eq!(bench.inspect(2, &arp(ALL, raw(2), 1, of(raw(3), 2), [10, 88, 0, 99])), spoof, "hardware address");
    assert_eq!(bench.inspect(2, &arp(ALL, raw(2), 2, of(raw(3), 3), [10, 88, 0, 99])), spoof);
    assert_eq!(bench.inspect(2, &arp(ALL, raw(2), 1, (raw(2), [192, 0, 2, 1]), [10, 88, 0, 99])), spoof, "outside");
    assert_eq!(bench.inspect(2, &arp(ALL, raw(2), 2, (raw(2), [0; 4]), [10, 88, 0, 99])), spoof, "a reply from nobody");
    for operation in [1, 2] {
        assert_eq!(bench.inspect(2, &arp(ALL, raw(2), operation, of(raw(2), 3), v4(3).octets())), claim);
        assert_eq!(bench.inspect(2, &arp(ALL, raw(2), operation, of(raw(2), 1), v4(1).octets())), claim, "the gateway's");
        assert_eq!(bench.inspect(4, &arp(ALL, raw(4), operation, of(raw(4), 3), v4(3).octets())), Inspected::Pass, "off");
    }
    // Type 6 is taken for Ethernet by Linux; of other lengths and protocols it is no ARP to an IPv4 host.
    let mut other = request(2, 3, 3);
    other[15] = 6;
    assert_eq!(bench.inspect(2, &other), claim);
    other[18] = 8;
    assert_eq!(bench.inspect(2, &other), Inspected::Pass);
    let told = core::iter::from_fn(|| bench.gateway.guard_news()).map(|news| news.reason).collect::<Vec<_>>();
    assert_eq!(told, [DropReason::ArpSpoof]);
}

#[test]
fn l22_announcements_pass_and_teach() {
    let mut bench = Bench::new();
    assert_eq!(bench.inspect(2, &request(2, 2, 2)), Inspected::Pass);
    assert_eq!(bench.inspect(2, &request(2, 66, 66)), Inspected::Pass, "a further one");
    assert_eq!(bench.inspect(2, &advertise(2, v6(2), v6(2), raw(2))), Inspected::Pass);
    assert_eq!(bench.inspect(2, &advertise(2, v6(2), v6(0x66), raw(2))), Inspected::Pass);
    assert_eq!(bench.answered(3, &request(3, 3, 66)).unwrap()[6..12], raw(2));
    assert!(bench.answered(3, &solicit(3, v6(3), v6(0x66), Some(raw(3)))).is_some());
    // Of a port that may use any: what was only learned moves there, what was given does not.
    assert_eq!(bench.inspect(4, &arp(ALL, raw(4), 2, (raw(4), v4(66).octets()), v4(66).octets())), Inspected::Pass);
    assert_eq!(bench.answered(3, &request(3, 3, 66)), None, "and is not answered for");
    assert_eq!(bench.inspect(4, &arp(ALL, raw(4), 2, (raw(4), v4(2).octets()), v4(2).octets())), Inspected::Pass);
    assert_eq!(bench.answered(3, &request(3, 3, 2)).unwrap()[6..12], raw(2));
    // What was used long ago floods.
    assert_eq!(bench.inspect(2, &request(2, 67, 67)), Inspected::Pass);
    bench.now = bench.now.after(crate::station::LEARNED_FRESH);
    assert_eq!(bench.answered(3, &request(3, 3, 67)), None);
}

#[test]
fn l09_neighbour_discovery_names_its_sender() {
    let mut bench = Bench::new();
    let (spoof, claim) = (Inspected::Drop(DropReason::NdSpoof), Inspected::Drop(DropReason::DuplicateClaim));
    assert_eq!(bench.inspect(2, &solicit(2, v6(2), v6(0x99), Some(raw(3)))), spoof);
    assert_eq!(bench.inspect(2, &solicit(2, v6(3), v6(0x99), Some(raw(2)))), Inspected::Drop(DropReason::SourceTaken));
    assert_eq!(bench.inspect(2, &advertise(2, v6(2), v6(2), raw(3))), spoof);
    assert_eq!(bench.inspect(2, &advertise(2, v6(2), v6(3), raw(2))), claim);
    assert_eq!(bench.inspect(2, &advertise(2, v6(2), v6(1), raw(2))), claim, "the gateway's");
    assert_eq!(bench.inspect(2, &advertise(2, link_local(mac(2)), link_local(mac(3)), raw(2))), claim);
    assert_eq!(bench.inspect(2, &advertise(2, v6(2), "2001:db8::1".parse().unwrap(), raw(2))), spoof);
    assert_eq!(bench.inspect(4, &advertise(4, v6(4), v6(3), raw(4))), Inspected::Pass, "off");
    // Options that do not end, and a message that is too short to be judged.
    let mut cut = advertise(2, v6(2), v6(2), raw(2));
    cut[14 + 40 + 24 + 1] = 0;
    assert_eq!(bench.inspect(2, &cut), spoof);
    let short = ip6(group_mac(ALL_NODES), raw(2), v6(2), ALL_NODES, (58, 255), &[136, 0, 0, 0]);
    assert_eq!(bench.inspect(2, &short), spoof);
    // RFC 6980: in fragments.
    let message = advertise(2, v6(2), v6(2), raw(2)).split_off(54);
    let first = [&[58, 0, 0, 0, 0, 0, 0, 1][..], &message].concat();
    let frame = ip6(group_mac(ALL_NODES), raw(2), v6(2), ALL_NODES, (44, 255), &first);
    assert_eq!(bench.inspect(2, &frame), Inspected::Drop(DropReason::NdHidden));
}

#[test]
fn rfc6105_rfc7113_router_advertisements_come_from_no_container() {
    let mut bench = Bench::new();
    let own = link_local(mac(2));
    let rogue = Inspected::Drop(DropReason::RogueRa);
    let ra = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let send = |bench: &mut Bench, port, next, payload: &[u8]| {
        let frame = ip6(group_mac(ALL_NODES), raw(port), link_local(mac(port)), ALL_NODES, (next, 255), payload);
        bench.inspect(port.into(), &frame)
    };
    assert_eq!(send(&mut bench, 2, 58, &icmp6(own, ALL_NODES, &ra)), rogue);
    assert_eq!(send(&mut bench, 2, 58, &[137; 40]), rogue, "redirect");
    assert_eq!(send(&mut bench, 2, 60, &[&[58, 0, 1, 4, 0, 0, 0, 0][..], &ra].concat()), rogue, "RFC 7113 2.1");
    assert_eq!(send(&mut bench, 2, 44, &[&[58, 0, 0, 1, 0, 0, 0, 9][..], &ra].concat()), rogue, "first fragment");
    assert_eq!(send(&mut bench, 2, 44, &[60, 0, 0, 1, 0, 0, 0, 9, 58, 9]), Inspected::Drop(DropReason::NdHidden), "RFC 7113 2.2");
    assert_eq!(send(&mut bench, 2, 44, &[58, 0, 0, 9, 0, 0, 0, 9, 1, 2]), Inspected::Pass, "later fragment");
    assert_eq!(send(&mut bench, 4, 58, &icmp6(link_local(mac(4)), ALL_NODES, &ra)), Inspected::Pass, "off");
    assert_eq!(send(&mut bench, 2, 58, &[133, 0, 0, 0, 0, 0, 0, 0]), Inspected::Pass, "solicitation");
}

#[test]
fn l09_dhcp_servers_are_no_containers() {
    let mut bench = Bench::new();
    let rogue = Inspected::Drop(DropReason::RogueDhcp);
    assert_eq!(bench.inspect(2, &ip4(ALL, raw(2), v4(2), 17, &udp(67, 68))), rogue);
    assert_eq!(bench.inspect(2, &ip4(raw(3), raw(2), v4(2), 17, &udp(9, 68))), rogue, "clients do not look at the source port");
    assert_eq!(bench.inspect(2, &ip4(raw(3), raw(2), v4(2), 17, &udp(68, 67))), Inspected::Pass);
    assert_eq!(bench.inspect(4, &ip4(ALL, raw(4), v4(4), 17, &udp(67, 68))), Inspected::Pass, "off");
    let mut later = ip4(ALL, raw(2), v4(2), 17, &udp(67, 68));
    later[21] = 1;
    assert_eq!(bench.inspect(2, &later), Inspected::Pass, "a later fragment has no ports");
    let mut options = ip4(ALL, raw(2), v4(2), 17, &[&[0; 4][..], &udp(67, 68)].concat());
    options[14] = 0x46;
    assert_eq!(bench.inspect(2, &options), rogue);
    let to = v6(3);
    assert_eq!(bench.inspect(2, &ip6(mac(3).mac(), raw(2), v6(2), to, (17, 64), &udp(547, 546))), rogue);
    let hidden = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp(547, 546)].concat();
    assert_eq!(bench.inspect(2, &ip6(mac(3).mac(), raw(2), v6(2), to, (60, 64), &hidden)), rogue);
    assert_eq!(bench.inspect(2, &ip6(mac(3).mac(), raw(2), v6(2), to, (17, 64), &udp(546, 547))), Inspected::Pass);
}

#[test]
fn a_priority_tag_hides_nothing_and_the_rest_is_carried() {
    let mut bench = Bench::new();
    let within = request(2, 3, 3).split_off(12);
    for tpid in [[0x81, 0], [0x88, 0xa8]] {
        let frame = [&ALL[..], &raw(2), &tpid, &[0xe0, 0], &within].concat();
        assert_eq!(bench.inspect(2, &frame), Inspected::Drop(DropReason::Vlan));
        assert_eq!(bench.inspect(4, &frame), Inspected::Pass);
        let frame = [&ALL[..], &raw(2), &tpid, &[0, 7], &within].concat();
        assert_eq!(bench.inspect(2, &frame), Inspected::Pass, "another network");
    }
    assert_eq!(bench.inspect(2, &[&ALL[..], &raw(2), &[0x88, 0xb6, 1, 2, 3]].concat()), Inspected::Pass);
}

#[test]
fn arp_for_known_addresses_is_answered_by_the_owners_hardware_address() {
    let mut bench = Bench::new();
    let answer = bench.answered(2, &request(2, 2, 3)).unwrap();
    // RFC 826: it is a reply, from the owner, to who asked.
    let expected = arp(raw(2), raw(3), 2, (raw(3), v4(3).octets()), v4(2).octets());
    assert_eq!(answer[..32], expected[..32]);
    assert_eq!((&answer[32..38], &answer[38..42]), (&raw(2)[..], &v4(2).octets()[..]));
    assert_eq!(bench.answered(2, &request(2, 2, 1)).unwrap()[6..12], raw(1), "the gateway's");
    for (why, frame) in [
        ("unicast: is he still there?", arp(raw(3), raw(2), 1, (raw(2), v4(2).octets()), v4(3).octets())),
        ("unknown", request(2, 2, 99)),
        ("its own", request(2, 2, 2)),
        ("not guarded", request(2, 2, 4)),
        ("not bound", request(2, 2, 5)),
    ] {
        assert_eq!(bench.inspect(2, &frame), Inspected::Pass, "{why}");
    }
    assert!(matches!(bench.inspect(4, &request(4, 4, 3)), Inspected::Asked(_)), "whoever asks");
    bench.gateway.set_suppress(false);
    assert_eq!(bench.inspect(2, &request(2, 2, 3)), Inspected::Pass);
}

#[test]
fn rfc5227_rfc4862_who_probes_for_anothers_address_is_told() {
    let mut bench = Bench::new();
    let probe = |target| arp(ALL, raw(2), 1, (raw(2), [0; 4]), target);
    let claimed = Inspected::Claimed(Asked { owner: 3, mac: mac(3) });
    assert_eq!(bench.inspect(2, &probe(v4(3).octets())), claimed);
    let told = bench.gateway.guard_news().unwrap();
    assert_eq!((told.reason, told.owner, told.address), (DropReason::DuplicateClaim, Some(3), Some(v4(3).into())));
    let answer = bench.answered(2, &probe(v4(3).octets())).unwrap();
    assert_eq!((&answer[20..22], &answer[28..32], &answer[38..42]), (&[0, 2][..], &v4(3).octets()[..], &[0; 4][..]));
    for free in [v4(2), v4(99), v4(4)] {
        assert_eq!(bench.inspect(2, &probe(free.octets())), Inspected::Pass, "its own, nobody's, one that defends itself: {free}");
    }
    let dad = |target| solicit(2, Ipv6Addr::UNSPECIFIED, target, None);
    assert_eq!(bench.inspect(2, &dad(v6(3))), claimed);
    assert_eq!(bench.inspect(2, &dad(link_local(mac(3)))), claimed);
    assert_eq!(bench.inspect(2, &dad(v6(2))), Inspected::Pass);
    assert_eq!(bench.inspect(2, &dad(link_local(mac(2)))), Inspected::Pass);
    assert_eq!(bench.inspect(2, &dad(v6(0x99))), Inspected::Pass);
    assert_eq!(bench.inspect(2, &dad(v6(1))), Inspected::Claimed(Asked { owner: 0, mac: mac(1) }));
    // RFC 4861 7.2.4: to all nodes, unsolicited.
    let octets = bench.answered(2, &dad(v6(3))).unwrap();
    let (frame, _) = bench.frame(&octets);
    let (src, dst, message) = ndp::read(&frame).unwrap();
    assert_eq!((src, dst), (v6(3), ALL_NODES));
    assert_eq!(message, ndp::Message::Advertisement { target: v6(3), mac: Some(mac(3)), solicited: false, overrides: true });
    bench.pool.put(frame);
}

#[test]
fn rfc4861_solicitations_for_known_addresses_are_answered() {
    let mut bench = Bench::new();
    let octets = bench.answered(2, &solicit(2, v6(2), v6(3), Some(raw(2)))).unwrap();
    assert_eq!((&octets[..6], &octets[6..12]), (&raw(2)[..], &raw(3)[..]));
    let (frame, _) = bench.frame(&octets);
    let (src, dst, message) = ndp::read(&frame).unwrap();
    assert_eq!((src, dst), (v6(3), v6(2)));
    assert_eq!(message, ndp::Message::Advertisement { target: v6(3), mac: Some(mac(3)), solicited: true, overrides: true });
    bench.pool.put(frame);
    assert!(bench.answered(2, &solicit(2, v6(2), link_local(mac(3)), Some(raw(2)))).is_some());
    // Unicast, from beyond the link, with a wrong checksum: its owner's affair.
    let good = solicit(2, v6(2), v6(3), Some(raw(2)));
    for (at, octet) in [(21, 254), (56, 0xee), (0, 2)] {
        let mut frame = good.clone();
        frame[at] = octet;
        assert_eq!(bench.inspect(2, &frame), Inspected::Pass, "{at}");
    }
}

fn igmp(last: u8, mut message: Vec<u8>) -> Vec<u8> {
    let sum = crate::checksum::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip4([1, 0, 0x5e, 0, 0, 22], raw(last), v4(last), 2, &message)
}

fn group4(address: [u8; 4], mac: [u8; 6]) -> Group {
    Group { name: u128::from(u32::from_be_bytes(address)) | 0xffff << 32, mac: Mac(mac), family: Family::V4 }
}

#[test]
fn l16_igmp_of_all_versions_is_read() {
    let mut bench = Bench::new();
    let g = group4([239, 129, 2, 3], [1, 0, 0x5e, 1, 2, 3]);
    let message = |kind: u8, address: [u8; 4]| igmp(2, [&[kind, 0, 0, 0][..], &address].concat());
    assert_eq!(bench.report(2, &message(0x12, [239, 129, 2, 3])), [Change::Join(g)], "RFC 1112");
    assert_eq!(bench.report(2, &message(0x16, [239, 129, 2, 3])), [Change::Join(g)], "RFC 2236");
    assert_eq!(bench.report(2, &message(0x17, [239, 129, 2, 3])), [Change::Leave(g)]);
    assert_eq!(bench.report(2, &message(0x11, [0; 4])), [Change::Query(Family::V4)]);
    assert_eq!(bench.report(2, &message(0x16, [224, 0, 0, 251])), [], "everybody's (RFC 4541 2.1.2)");
    assert_eq!(bench.report(2, &message(0x16, [10, 88, 0, 3])), [], "no group");
    // RFC 3376 4.2: each kind of record, with sources and auxiliary data.
    let source = [192, 0, 2, 1];
    let record = |kind: u8, aux: u8, sources: u8| {
        let more = [&source.repeat(usize::from(sources))[..], &[0; 4].repeat(usize::from(aux))].concat();
        [&[kind, aux, 0, sources, 239, 129, 2, 3][..], &more].concat()
    };
    for (records, expected) in [
        (vec![record(4, 0, 0)], vec![Change::Join(g)]),
        (vec![record(2, 0, 3)], vec![Change::Join(g)]),
        (vec![record(3, 0, 0)], vec![Change::Leave(g)]),
        (vec![record(1, 1, 0), record(3, 2, 1)], vec![Change::Leave(g), Change::Join(g)]),
        (vec![record(5, 0, 1), record(6, 0, 1), record(4, 0, 0)], vec![Change::Join(g), Change::Join(g)]),
    ] {
        let message = [&[0x22, 0, 0, 0, 0, 0, 0, records.len() as u8][..], &records.concat()].concat();
        assert_eq!(bench.report(2, &igmp(2, message)), expected);
    }
    // Records that are said to be longer than the message end it.
    let short = [&[0x22, 0, 0, 0, 0, 0, 0, 2][..], &record(4, 0, 0), &[4, 0, 0, 9, 239, 1, 1, 1]].concat();
    assert_eq!(bench.report(2, &igmp(2, short)), [Change::Join(g)]);
    // RFC 4541 2.1.1: what does not count.
    let good = message(0x16, [239, 129, 2, 3]);
    for (at, octet, why) in
        [(36, 0xff, "checksum"), (22, 2, "from beyond the link"), (20, 0x20, "a fragment"), (34, 0x99, "unknown")]
    {
        let mut frame = good.clone();
        frame[at] = octet;
        assert_eq!((bench.inspect(2, &frame), bench.report(2, &frame)), (Inspected::Pass, vec![]), "{why}");
    }
    // RFC 4541 2.1.1 (1) b: a proxy's query makes no router port.
    let mut proxy = message(0x11, [0; 4]);
    proxy[26..30].fill(0);
    assert_eq!(bench.report(2, &proxy), []);
    // L09 holds for it too.
    assert_eq!(bench.inspect(3, &message(0x16, [239, 1, 1, 1])), Inspected::Drop(DropReason::SourceTaken));
}

#[test]
fn l16_mld_of_both_versions_is_read() {
    let mut bench = Bench::new();
    let address: Ipv6Addr = "ff05::1:3".parse().unwrap();
    let g = Group { name: address.to_bits(), mac: Mac([0x33, 0x33, 0, 1, 0, 3]), family: Family::V6 };
    let own = link_local(mac(2));
    let alert = [58, 0, 5, 2, 0, 0, 1, 0];
    let to: Ipv6Addr = "ff02::16".parse().unwrap();
    let frame = |source: Ipv6Addr, hops: u8, options: [u8; 8], message: &[u8]| {
        ip6(group_mac(to), raw(2), source, to, (0, hops), &[&options[..], &icmp6(source, to, message)].concat())
    };
    let v1 = |kind: u8, address: Ipv6Addr| [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &address.octets()].concat();
    let join = v1(131, address);
    assert_eq!(bench.report(2, &frame(own, 1, alert, &join)), [Change::Join(g)], "RFC 2710");
    assert_eq!(bench.report(2, &frame(Ipv6Addr::UNSPECIFIED, 1, alert, &join)), [Change::Join(g)], "RFC 3590");
    assert_eq!(bench.report(2, &frame(own, 1, alert, &v1(132, address))), [Change::Leave(g)]);
    assert_eq!(bench.report(2, &frame(own, 1, alert, &v1(130, Ipv6Addr::UNSPECIFIED))), [Change::Query(Family::V6)]);
    for nobody in ["ff02::1", "ff01::5", "fd00::1"] {
        assert_eq!(bench.report(2, &frame(own, 1, alert, &v1(131, nobody.parse().unwrap()))), [], "{nobody}");
    }
    let record = |kind: u8, sources: u8| [&[kind, 0, 0, sources][..], &address.octets(), &[7; 16].repeat(sources.into())].concat();
    let message = [&[143, 0, 0, 0, 0, 0, 0, 3][..], &record(4, 1), &record(3, 0), &record(6, 2)].concat();
    assert_eq!(bench.report(2, &frame(own, 1, alert, &message)), [Change::Join(g), Change::Leave(g)], "RFC 3810 5.2");
    // RFC 3810 6.2: hop limit, router alert, source.
    for (why, octets) in [
        ("hop limit", frame(own, 2, alert, &join)),
        ("another alert", frame(own, 1, [58, 0, 5, 2, 0, 1, 1, 0], &join)),
        ("no alert", frame(own, 1, [58, 0, 1, 4, 0, 0, 0, 0], &join)),
        ("source", frame(v6(2), 1, alert, &join)),
    ] {
        assert_eq!((bench.inspect(2, &octets), bench.report(2, &octets)), (Inspected::Pass, vec![]), "{why}");
    }
    let mut wrong = frame(own, 1, alert, &join);
    wrong[64] ^= 1;
    assert_eq!(bench.report(2, &wrong), []);
}

#[test]
fn l16_queries_are_such_as_hosts_answer() {
    let mut bench = Bench::new();
    let own = link_local(mac(1));
    let (g, address) = (group4([239, 129, 2, 3], [1, 0, 0x5e, 1, 2, 3]), "ff05::1:3".parse::<Ipv6Addr>().unwrap());
    let g6 = Group { name: address.to_bits(), mac: Mac([0x33, 0x33, 0, 1, 0, 3]), family: Family::V6 };
    let mut frame = bench.pool.take().unwrap();
    assert!(membership::write_query(&mut frame, Family::V4, None, mac(1), own));
    let general = frame.bytes().to_vec();
    // RFC 3376 4.1, 4: to all systems, TTL 1, router alert, 10 s, version 3 with QRV 2 and QQIC 125.
    assert_eq!(general[..12], [&[1, 0, 0x5e, 0, 0, 1][..], &raw(1)].concat());
    assert_eq!((general[22], &general[26..38]), (1, &[0, 0, 0, 0, 224, 0, 0, 1, 0x94, 4, 0, 0][..]));
    assert_eq!((general[38], general[39], &general[42..]), (0x11, 100, &[0, 0, 0, 0, 2, 125, 0, 0][..]));
    assert!(crate::checksum::is_valid(&general[14..38]) && crate::checksum::is_valid(&general[38..]));
    assert!(membership::write_query(&mut frame, Family::V4, Some(g), mac(1), own));
    assert_eq!((&frame.bytes()[..6], &frame.bytes()[30..34], frame.bytes()[39]), (&g.mac.0[..], &[239, 129, 2, 3][..], 10));
    // MLD's is one that we would count ourselves.
    for (group, dst) in [(None, ALL_NODES), (Some(g6), address)] {
        assert!(membership::write_query(&mut frame, Family::V6, group, mac(1), own));
        let octets = frame.bytes().to_vec();
        assert_eq!((&octets[..6], &octets[38..54]), (&group_mac(dst).0[..], &dst.octets()[..]));
        let mut heard = octets.clone();
        heard[6..12].copy_from_slice(&raw(4));
        assert_eq!(bench.report(4, &heard), [Change::Query(Family::V6)], "{group:?}");
    }
    bench.pool.put(frame);
}

proptest::proptest! {
    /// Whatever comes of it, no IPv4 packet and no ARP with an address that another station was given gets past the guard.
    #[test]
    fn l09_no_source_passes_that_another_station_owns(
        frames in proptest::collection::vec((2u16..=5, 0u8..=8, proptest::bool::ANY, 0u8..=255, 0u16..=600), 1..60),
    ) {
        let mut bench = Bench::new();
        for (port, source, is_arp, number, later) in frames {
            bench.now = bench.now.after(Duration::from_secs(later.into()));
            let own = port as u8;
            let frame = if is_arp {
                request(own, source, number)
            } else {
                ip4(raw(9), raw(own), v4(source), number, &udp(later, 53))
            };
            let inspected = bench.inspect(port, &frame);
            let passes = !matches!(inspected, Inspected::Drop(_));
            let is_anothers = (1..=5).contains(&source) && source != own;
            proptest::prop_assert!(!(passes && is_anothers && port != 4), "{port} {source} {inspected:?}");
            proptest::prop_assert!(passes || (is_anothers || source == 0 || source > 5), "{port} {source} {inspected:?}");
        }
    }
}
