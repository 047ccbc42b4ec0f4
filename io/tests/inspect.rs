//! Source guard, suppression and snooping (L09, L16, L22) in the datapath, on memory ports: what goes where, and the law of accounting.
#![allow(missing_docs, clippy::unwrap_used)]
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use vswitch_io::datapath::{Datapath, Inhaled};
use vswitch_io::port::{MemoryPort, Port};
use vswitch_nat::gateway::{Gateway, GatewayConfig, GatewayV6};
use vswitch_nat::ndp::{group_mac, link_local, solicited_node};
use vswitch_nat::station::{AddressGuard, Limits, Station};
use vswitch_switch::port::Guard;
use vswitch_switch::storm::StormLimits;
use vswitch_switch::{DropReason, FdbLimits, PortConfig, PortId, Switch, SwitchConfig, Time, UnicastMac, VlanMode};

const VNET: [u8; 10] = [0; 10];
const ALL: [u8; 6] = [0xff; 6];

fn v4(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 88, high, low)
}

fn v6(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number)
}

fn mac(number: u16) -> UnicastMac {
    UnicastMac::for_ipv4(v4(number).octets())
}

/// A switch with containers .2, .3, ... at ports 1, 2, ...
struct Net {
    datapath: Datapath,
    now: Time,
}

impl Net {
    fn new(containers: u16) -> Self {
        let own = mac(1);
        let fdb = FdbLimits { ageing: Duration::from_secs(300), entries: 8_192 };
        let switch = Switch::new(SwitchConfig { mac: own, fdb, group_forward: 0, flood_unregistered: true, seed: 1 });
        let v6 = GatewayV6 { address: v6(1), prefix: 64, link_local: link_local(own) };
        let gateway = Gateway::new(GatewayConfig { mac: own, address: v4(1), prefix: 16, v6: Some(v6) }, [1, 2]);
        let mut net = Self { datapath: Datapath::new(switch, Some(gateway)), now: Time::from_secs(1_000) };
        for number in 2..2 + containers {
            net.plug(number, |_| {});
        }
        net
    }

    fn plug(&mut self, number: u16, change: impl FnOnce(&mut PortConfig)) -> PortId {
        // Nobody is told to be quiet: what is counted is what is asked.
        let storm = StormLimits { broadcast: None, multicast: None, unknown: None };
        let mut config = PortConfig { guard: Guard::Bound(mac(number)), storm, ..PortConfig::default() };
        change(&mut config);
        let port = Port::Memory(MemoryPort::new(0x67, true));
        let id = self.datapath.add_port(port, config, 1_500).map_err(|(_, error)| error).unwrap();
        let (limits, guard) = (Limits::default(), AddressGuard::Bound);
        let station = Station { mac: mac(number), v4: Some(v4(number)), v6: Some(v6(number)), mtu: 1_500, limits, guard };
        self.datapath.gateway.as_mut().unwrap().stations.set(id.get(), station);
        id
    }

    fn run(&mut self, id: PortId, frames: &[Vec<u8>]) {
        for frame in frames {
            assert!(self.datapath.memory(id).unwrap().feed([&VNET[..], frame].concat()));
        }
        loop {
            self.datapath.begin(self.now);
            let end = self.datapath.inhale(id, self.now);
            self.datapath.tend_groups(self.now);
            self.datapath.exhale();
            assert!(self.datapath.accounts().balanced(), "the law: {:?}", self.datapath.accounts());
            if end == Inhaled::Idle && !self.datapath.is_flooding() {
                break;
            }
        }
        assert_eq!(self.datapath.outstanding(), 0, "a buffer is lost");
    }

    fn output(&mut self, id: PortId) -> Vec<Vec<u8>> {
        self.datapath.memory(id).unwrap().take_output().into_iter().map(|frame| frame[VNET.len()..].to_vec()).collect()
    }

    fn drops(&mut self, reason: DropReason) -> u64 {
        self.datapath.stats().drops.get(reason)
    }
}

fn port(number: u16) -> PortId {
    PortId::new(number).unwrap()
}

fn arp(operation: u8, src: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let fixed = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
    let own = mac(src).mac().0;
    [&ALL[..], &own, &fixed, &own, &sender.octets(), &[0; 6], &target.octets()].concat()
}

fn request(src: u16, target: u16) -> Vec<u8> {
    arp(1, src, v4(src), v4(target))
}

fn with_checksum(source: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    use vswitch_nat::checksum;
    let pseudo = checksum::pseudo_v6(source.octets(), to.octets(), 58, message.len() as u32);
    let sum = !checksum::add(pseudo, checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn solicitation(src: u16, target: u16) -> Vec<u8> {
    let to = solicited_node(v6(target));
    let own = mac(src).mac().0;
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &v6(target).octets(), &[1, 1], &own].concat();
    let fixed = [0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255];
    let message = with_checksum(v6(src), to, message);
    [&group_mac(to).0[..], &own, &fixed, &v6(src).octets(), &to.octets(), &message].concat()
}

/// An IGMPv2 message, to whom it goes.
fn igmp(src: u16, kind: u8, group: [u8; 4]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], &group].concat();
    let sum = vswitch_nat::checksum::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let fixed = [8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 1, 2, 0, 0];
    let dst = [1, 0, 0x5e, group[1] & 0x7f, group[2], group[3]];
    [&dst[..], &mac(src).mac().0, &fixed, &v4(src).octets(), &group, &message].concat()
}

/// A datagram to a group.
fn datagram(src: u16, group: [u8; 4]) -> Vec<u8> {
    let fixed = [8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 8, 17, 0, 0];
    let dst = [1, 0, 0x5e, group[1] & 0x7f, group[2], group[3]];
    [&dst[..], &mac(src).mac().0, &fixed, &v4(src).octets(), &group, &[0x14, 0xe9, 0x14, 0xe9, 0, 8, 0, 0]].concat()
}

/// Each asks for the next `targets`: copies that others than the asker got, and answers to him.
fn resolve(containers: u16, targets: u16, suppress: bool, ask: impl Fn(u16, u16) -> Vec<u8>) -> (u64, u64) {
    let mut net = Net::new(containers);
    net.datapath.gateway.as_mut().unwrap().set_suppress(suppress);
    let (mut asked, mut answered) = (0, 0);
    for number in 2..2 + containers {
        let all: Vec<_> = (1..=targets).map(|by| ask(number, 2 + (number - 2 + by) % containers)).collect();
        // No more floods than may wait.
        for some in all.chunks(if suppress { 250 } else { 4 }) {
            net.run(port(number - 1), some);
            answered += net.output(port(number - 1)).len() as u64;
            for id in (1..=containers).map(port).filter(|id| *id != port(number - 1)) {
                asked += net.output(id).len() as u64;
            }
        }
    }
    assert!(net.datapath.accounts().balanced());
    (asked, answered)
}

#[test]
fn containers_that_resolve_each_other_at_once_bother_nobody() {
    for ask in [request, solicitation] {
        // Each of 500 asks for every other: 249,500 requests, and not one is seen by anybody else.
        assert_eq!(resolve(500, 499, true, ask), (0, 249_500));
        // Without: each is copied to 499, so these few alone make a million.
        assert_eq!(resolve(500, 4, false, ask), (500 * 4 * 499, 0));
    }
}

#[test]
fn l17_l11_nobody_is_answered_for_whom_he_cannot_reach() {
    let mut net = Net::new(1);
    let [a, b] = [3, 4].map(|number| net.plug(number, |config| config.group = 1));
    let other = net.plug(5, |config| config.vlan = VlanMode::Access("20".parse().unwrap()));
    net.run(a, &[request(3, 4), request(3, 5), request(3, 2), request(3, 1)]);
    // The first two flood, and are heard by whom they may be: by port 1.
    assert_eq!(net.output(port(1)).len(), 2);
    assert_eq!((net.output(b).len(), net.output(other).len()), (0, 0));
    let answers = net.output(a);
    assert_eq!(answers.iter().map(|frame| frame[6..12].to_vec()).collect::<Vec<_>>(), [mac(2).mac().0, mac(1).mac().0]);
    assert_eq!(net.datapath.accounts().consumed, 2 + 2, "two answered, two copies at the gateway");
    // L08 comes first: with another's hardware address nobody is answered.
    net.run(b, &[request(2, 1)]);
    assert_eq!((net.output(b).len(), net.drops(DropReason::Spoof)), (0, 1));
    // L03: who was answered is learned.
    assert_eq!(net.datapath.stats().fdb_entries, 1);
}

#[test]
fn l11_an_answer_has_the_tag_of_its_question() {
    let mut net = Net::new(0);
    let trunk = |config: &mut PortConfig| {
        config.vlan = VlanMode::Trunk { allowed: "20".parse().unwrap(), native: None };
    };
    let a = net.plug(2, trunk);
    net.plug(3, trunk);
    let mut tagged = request(2, 3);
    tagged.splice(12..12, [0x81, 0, 0x60, 20]);
    net.run(a, &[tagged]);
    let answer = net.output(a).remove(0);
    assert_eq!((&answer[6..12], &answer[12..18]), (&mac(3).mac().0[..], &[0x81, 0, 0x60, 20, 8, 6][..]));
}

#[test]
fn l09_claims_are_refused_told_and_counted() {
    let mut net = Net::new(3);
    let probe = arp(1, 2, Ipv4Addr::UNSPECIFIED, v4(3));
    net.run(port(1), &[probe, arp(1, 2, v4(3), v4(3)), arp(2, 2, v4(3), v4(4)), arp(1, 2, v4(2), v4(2))]);
    let answers = net.output(port(1));
    assert_eq!((answers.len(), &answers[0][28..32]), (1, &v4(3).octets()[..]), "who probes is told");
    assert_eq!(net.drops(DropReason::DuplicateClaim), 3);
    assert_eq!((net.output(port(2)).len(), net.output(port(3)).len()), (1, 1), "L22: the announcement of its own passes");
    let news = net.datapath.gateway.as_mut().unwrap().guard_news().unwrap();
    assert_eq!((news.port, news.owner, news.address), (1, Some(2), Some(v4(3).into())));
    assert!(net.datapath.gateway.as_mut().unwrap().guard_news().is_none(), "once a second");
}

#[test]
fn l16_mdns_and_ssdp_go_to_who_listens() {
    const SSDP: [u8; 4] = [239, 255, 255, 250];
    let mut net = Net::new(4);
    let quiet = |net: &mut Net| (1..=4).map(|id| net.output(port(id)).len()).collect::<Vec<_>>();
    // SSDP before anybody is known to listen, mDNS always: to everybody.
    net.run(port(1), &[datagram(2, SSDP), datagram(2, [224, 0, 0, 251])]);
    assert_eq!(quiet(&mut net), [0, 2, 2, 2]);
    net.run(port(2), &[igmp(3, 0x16, SSDP)]);
    // The report is nobody's; the query that follows is everybody's.
    let queries: Vec<_> = (1..=4).map(|id| net.output(port(id))).collect();
    assert!(queries.iter().all(|frames| frames.len() == 1 && frames[0][23] == 2 && frames[0][38] == 0x11), "{queries:02x?}");
    net.now = net.now.after(Duration::from_secs(10));
    net.run(port(1), &[datagram(2, SSDP), datagram(2, [224, 0, 0, 251]), datagram(2, [239, 1, 1, 1])]);
    assert_eq!(quiet(&mut net), [0, 3, 2, 2], "239.1.1.1 is unregistered");
    net.datapath.switch.set_flood_unregistered(false);
    net.run(port(1), &[datagram(2, [239, 1, 1, 1])]);
    assert_eq!(quiet(&mut net), [0; 4]);
    // Leaves: asked twice, a second apart, and only he.
    net.run(port(2), &[igmp(3, 0x17, SSDP)]);
    assert_eq!(quiet(&mut net), [0, 1, 0, 0]);
    for expected in [1, 0] {
        net.now = net.now.after(Duration::from_secs(1));
        net.run(port(1), &[]);
        assert_eq!(quiet(&mut net), [0, expected, 0, 0]);
    }
    net.run(port(1), &[datagram(2, SSDP)]);
    assert_eq!(quiet(&mut net), [0; 4]);
}

#[test]
fn a_report_where_there_is_no_router_is_consumed() {
    let mut net = Net::new(0);
    let vlan = |config: &mut PortConfig| config.vlan = VlanMode::Access("20".parse().unwrap());
    let (a, b) = (net.plug(2, vlan), net.plug(3, vlan));
    net.run(a, &[igmp(2, 0x16, [239, 1, 1, 1])]);
    assert_eq!((net.datapath.accounts().consumed, net.datapath.accounts().dropped), (1, 0));
    assert_eq!((net.output(a).len(), net.output(b).len()), (1, 1), "the query");
}
