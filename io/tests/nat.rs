//! Gateway, NAT and uplink composed, on memory ports: literal packets from a container to the world and back.
#![allow(missing_docs, clippy::unwrap_used)]
use std::net::Ipv4Addr;
use std::time::Duration;
use vswitch_io::datapath::Datapath;
use vswitch_io::port::{MemoryPort, Port};
use vswitch_nat::checksum;
use vswitch_nat::forward::{Backend, Rule, RuleId};
use vswitch_nat::gateway::{Gateway, GatewayConfig};
use vswitch_nat::nat::NatConfig;
use vswitch_nat::station::{AddressGuard, Limits, Station};
use vswitch_nat::wan::WanConfig;
use vswitch_switch::port::Guard;
use vswitch_switch::{DropReason, FdbLimits, PortConfig, PortId, Switch, SwitchConfig, Time, UnicastMac};

const GATEWAY: [u8; 4] = [10, 88, 0, 1];
const A: [u8; 4] = [10, 88, 0, 2];
const E: [u8; 4] = [198, 51, 100, 2];
const ROUTER: [u8; 4] = [198, 51, 100, 1];
const X: [u8; 4] = [203, 0, 113, 9];
const OFFLOADS: u32 = 0x67;

fn mac(address: [u8; 4]) -> [u8; 6] {
    UnicastMac::for_ipv4(address).mac().0
}

struct World {
    datapath: Datapath,
    port: PortId,
    now: Time,
}

impl World {
    fn new(mtu: u16) -> Self {
        let address = UnicastMac::for_ipv4(GATEWAY);
        let config = SwitchConfig {
            mac: address,
            fdb: FdbLimits { ageing: Duration::from_secs(300), entries: 1_024 },
            group_forward: 0,
            flood_unregistered: true,
            seed: 1,
        };
        let mut gateway = Gateway::new(GatewayConfig { mac: address, address: GATEWAY.into(), prefix: 20, v6: None }, [1, 2]);
        let now = Time::from_secs(1);
        let wan = WanConfig {
            mac: UnicastMac::for_ipv4(E),
            mtu,
            v4: vec![(E.into(), 24)],
            v6: Vec::new(),
            gateway_v4: Some(ROUTER.into()),
            gateway_v6: None,
        };
        gateway.set_uplink(NatConfig { sessions_v4: 1_024, sessions_v6: 16, mappings: 1_024, ..NatConfig::default() }, wan, now);
        let mut datapath = Datapath::new(Switch::new(config), Some(gateway));
        let memory = || Port::Memory(MemoryPort::new(OFFLOADS, true));
        let guarded = PortConfig { guard: Guard::Bound(UnicastMac::for_ipv4(A)), ..PortConfig::default() };
        let port = datapath.add_port(memory(), guarded, 1_500).map_err(|(_, error)| error).unwrap();
        assert!(datapath.set_uplink(Some(memory()), mtu).is_none());
        let station = Station {
            mac: UnicastMac::for_ipv4(A),
            v4: Some(A.into()),
            v6: None,
            mtu: 1_500,
            limits: Limits::default(),
            guard: AddressGuard::Off,
        };
        datapath.gateway.as_mut().unwrap().stations.set(port.get(), station);
        let mut world = Self { datapath, port, now };
        // Our address is announced, and the router is asked for.
        assert_eq!(world.settle(PortId::UPLINK).len(), 2);
        world.now = Time::from_secs(4);
        assert_eq!(world.settle(PortId::UPLINK).len(), 2);
        world
    }

    fn settle(&mut self, port: PortId) -> Vec<Vec<u8>> {
        self.datapath.begin(self.now);
        for id in [self.port, PortId::UPLINK] {
            self.datapath.inhale(id, self.now);
        }
        self.datapath.drain_gateway(self.now);
        self.datapath.exhale();
        assert!(self.datapath.accounts().balanced(), "the law: {:?}", self.datapath.accounts());
        self.datapath.memory(port).unwrap().take_output().into_iter().map(|frame| frame[10..].to_vec()).collect()
    }

    fn feed(&mut self, port: PortId, frame: &[u8]) {
        assert!(self.datapath.memory(port).unwrap().feed([&[0; 10][..], frame].concat()));
    }

    fn out(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.feed(self.port, frame);
        self.settle(PortId::UPLINK)
    }

    fn back(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.feed(PortId::UPLINK, frame);
        self.settle(self.port)
    }

    fn drops(&mut self, reason: DropReason) -> u64 {
        self.datapath.stats().drops.get(reason)
    }

    /// The router says who it is.
    fn answer_arp(&mut self) -> Vec<Vec<u8>> {
        let reply = [&mac(E)[..], &mac(ROUTER), &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &mac(ROUTER), &ROUTER, &mac(E), &E].concat();
        self.feed(PortId::UPLINK, &reply);
        self.settle(PortId::UPLINK)
    }
}

fn ipv4(src: [u8; 4], dst: [u8; 4], protocol: u8, ttl: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [0x45, 0, 0, 0, 0, 7, 0, 0, ttl, protocol, 0, 0].to_vec();
    header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    header.extend(src.into_iter().chain(dst));
    let sum = checksum::checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], payload].concat()
}

fn udp(src: ([u8; 4], u16), dst: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let len = 8 + payload.len() as u16;
    let mut datagram = [&src.1.to_be_bytes()[..], &dst.1.to_be_bytes(), &len.to_be_bytes(), &[0, 0], payload].concat();
    let pseudo = checksum::pseudo_v4(src.0, dst.0, 17, len);
    let sum = !checksum::add(pseudo, checksum::sum(&datagram));
    datagram[6..8].copy_from_slice(&checksum::non_zero(sum).to_be_bytes());
    datagram
}

fn ethernet(dst: [u8; 4], src: [u8; 4], packet: &[u8]) -> Vec<u8> {
    [&mac(dst)[..], &mac(src), &[8, 0], packet].concat()
}

fn from_a(dst: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    ethernet(GATEWAY, A, &ipv4(A, dst.0, 17, 64, 0x4000, &udp((A, 5_000), dst, payload)))
}

fn to_e(src: ([u8; 4], u16), port: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(E, ROUTER, &ipv4(src.0, E, 17, 60, 0x4000, &udp(src, (E, port), payload)))
}

#[test]
fn a_packet_waits_for_the_router_and_its_answer_comes_back() {
    let mut world = World::new(1_500);
    assert!(world.out(&from_a((X, 53), b"query")).is_empty(), "the router is being asked for since the uplink was set");
    assert_eq!(world.datapath.accounts().held, 1);
    let sent = world.answer_arp();
    let expected = ethernet(ROUTER, E, &ipv4(E, X, 17, 63, 0x4000, &udp((E, 5_000), (X, 53), b"query")));
    assert_eq!(sent, [expected]);
    let received = world.back(&to_e((X, 53), 5_000, b"answer"));
    let expected = ethernet(A, GATEWAY, &ipv4(X, A, 17, 59, 0x4000, &udp((X, 53), (A, 5_000), b"answer")));
    assert_eq!(received, [expected]);
    assert_eq!((world.datapath.accounts().held, world.datapath.outstanding()), (0, 0));
}

#[test]
fn default_deny() {
    let mut world = World::new(1_500);
    assert!(world.back(&to_e((X, 9), 5_000, b"?")).is_empty());
    assert_eq!(world.drops(DropReason::Unsolicited), 1);
    // N63: to an inside address, past the NAT; and from one.
    let past = ethernet(E, ROUTER, &ipv4(X, A, 17, 60, 0, &udp((X, 9), (A, 80), b"?")));
    assert!(world.back(&past).is_empty());
    assert_eq!(world.drops(DropReason::Unsolicited), 2);
    assert!(world.back(&to_e((A, 9), 5_000, b"?")).is_empty());
    assert_eq!(world.drops(DropReason::Martian), 1);
    assert!(world.settle(PortId::UPLINK).is_empty(), "nobody is told");
}

#[test]
fn n62_a_published_port_keeps_the_clients_address() {
    let mut world = World::new(1_500);
    let backend = Backend { owner: world.port.get(), address: Ipv4Addr::from(A), port: 80, draining: false };
    let rule =
        Rule { id: RuleId(1), protocol: 17, address: None, first: 8_080, last: 8_080, from: vec![], backends: vec![backend] };
    world.datapath.gateway.as_mut().unwrap().uplink_mut().unwrap().0.nat.publish(rule).unwrap();
    let received = world.back(&to_e((X, 9), 8_080, b"hello"));
    assert_eq!(received, [ethernet(A, GATEWAY, &ipv4(X, A, 17, 59, 0x4000, &udp((X, 9), (A, 80), b"hello")))]);
    let answer = ethernet(GATEWAY, A, &ipv4(A, X, 17, 64, 0x4000, &udp((A, 80), (X, 9), b"hi")));
    world.out(&answer);
    let sent = world.answer_arp();
    assert_eq!(sent, [ethernet(ROUTER, E, &ipv4(E, X, 17, 63, 0x4000, &udp((E, 8_080), (X, 9), b"hi")))]);
}

#[test]
fn n17_too_big_with_df_is_told_with_the_original_header() {
    let mut world = World::new(1_000);
    let big = from_a((X, 53), &[7; 1_200]);
    world.feed(world.port, &big);
    let told = world.settle(world.port);
    assert_eq!(told.len(), 1);
    let icmp = &told[0][34..];
    assert_eq!((icmp[0], icmp[1]), (3, 4));
    assert_eq!(icmp[6..8], 1_000u16.to_be_bytes());
    assert!(checksum::is_valid(icmp));
    assert_eq!(icmp[8..36], big[14..42], "A's own header");
    assert_eq!(told[0][26..34], [GATEWAY, A].concat());
    assert_eq!(world.drops(DropReason::TooBig), 1);
}

#[test]
fn n18_too_big_without_df_is_cut() {
    let mut world = World::new(1_000);
    let payload: Vec<u8> = (0..1_200u32).map(|n| n as u8).collect();
    world.out(&ethernet(GATEWAY, A, &ipv4(A, X, 17, 64, 0, &udp((A, 5_000), (X, 53), &payload))));
    let mut sent = world.answer_arp();
    sent.extend(world.settle(PortId::UPLINK));
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert_eq!(sent[0][18..20], sent[1][18..20], "one identification");
    assert_eq!((sent[0][20], sent[0].len()), (0x20, 14 + 20 + 976));
    assert_eq!(u16::from_be_bytes([sent[1][20], sent[1][21]]), 976 / 8);
    let joined = [&sent[0][34..], &sent[1][34..]].concat();
    assert_eq!(joined, udp((E, 5_000), (X, 53), &payload));
    assert_eq!(world.datapath.outstanding(), 0);
}

#[test]
fn n19_fragments_out_of_order_are_both_delivered() {
    let mut world = World::new(1_500);
    world.out(&from_a((X, 53), b"query"));
    world.answer_arp();
    let answer = udp((X, 53), (E, 5_000), &[9; 1_000]);
    let first = ethernet(E, ROUTER, &ipv4(X, E, 17, 60, 0x2000, &answer[..800]));
    let second = ethernet(E, ROUTER, &ipv4(X, E, 17, 60, 100, &answer[800..]));
    assert!(world.back(&second).is_empty());
    assert_eq!(world.datapath.accounts().held, 1);
    let mut received = world.back(&first);
    received.extend(world.settle(world.port));
    assert_eq!(received.len(), 2);
    let joined = [&received[0][34..], &received[1][34..]].concat();
    assert_eq!(joined, udp((X, 53), (A, 5_000), &[9; 1_000]));
}

#[test]
fn traceroute_sees_the_gateway() {
    let mut world = World::new(1_500);
    let probe = ethernet(GATEWAY, A, &ipv4(A, X, 17, 1, 0, &udp((A, 5_000), (X, 33_434), b"")));
    world.feed(world.port, &probe);
    let told = world.settle(world.port);
    assert_eq!((told.len(), told[0][34], told[0][35]), (1, 11, 0));
    assert_eq!(told[0][26..30], GATEWAY);
    // RFC 1812 4.3.2.8: not without end.
    for _ in 0..100 {
        world.feed(world.port, &probe);
    }
    let mut errors = 0;
    for _ in 0..4 {
        errors += world.settle(world.port).len();
    }
    assert_eq!(errors, 49);
    assert_eq!(world.drops(DropReason::HopLimit), 101);
}

#[test]
fn a_router_that_does_not_answer_is_told_of() {
    let mut world = World::new(1_500);
    let query = from_a((X, 53), b"query");
    world.out(&query);
    for second in 5..9 {
        world.now = Time::from_secs(second);
        world.datapath.begin(world.now);
        world.datapath.drain_gateway(world.now);
        world.datapath.exhale();
    }
    let told = world.settle(world.port);
    assert_eq!((told.len(), told[0][34], told[0][35]), (1, 3, 1), "host unreachable");
    // One hop less: it was on its way already.
    assert_eq!((told[0][50], &told[0][54..62]), (63, &query[26..34]), "about the packet that was sent");
    assert_eq!(world.datapath.accounts().held, 0);
}

#[test]
fn nothing_untranslated_leaves() {
    let mut world = World::new(1_500);
    for (src, reason) in
        [([10, 88, 0, 9], None), ([10, 99, 0, 1], Some(DropReason::SourceSpoof)), (X, Some(DropReason::SourceSpoof))]
    {
        let frame = ethernet(GATEWAY, A, &ipv4(src, X, 17, 64, 0, &udp((src, 1), (X, 2), b"")));
        let before = reason.map_or(0, |reason| world.drops(reason));
        let sent = world.out(&frame);
        assert!(sent.iter().all(|frame| frame[12..14] == [8, 6]));
        if let Some(reason) = reason {
            assert_eq!(world.drops(reason), before + 1);
        }
    }
    // An ICMP error that quotes nothing we know, and a reply to nobody.
    for message in [&[3, 3, 0, 0, 0, 0, 0, 0][..], &[0, 0, 0, 0, 0, 1, 0, 1]] {
        let mut message = message.to_vec();
        let sum = checksum::checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        assert!(world.out(&ethernet(GATEWAY, A, &ipv4(A, X, 1, 64, 0, &message))).is_empty());
    }
}
