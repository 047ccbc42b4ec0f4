//! Datapath, gateway, NAT and uplink on memory ports, under a sequence of commands: two containers and the world send packets made well and
//! then damaged, or anything; what left comes back turned round; containers, published ports and the uplink's address come and go; time jumps.
//!
//! After each breath every frame has one fate and no buffer is lost, nothing leaves the uplink with an address of the inside (an ICMP
//! error's quote included) or longer than its MTU. At the end nothing waits any more.
use super::Commands;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use vswitch_io::datapath::Datapath;
use vswitch_io::port::{MemoryPort, Port};
use vswitch_nat::checksum;
use vswitch_nat::forward::{Backend, Rule, RuleId};
use vswitch_nat::gateway::{Gateway, GatewayConfig, GatewayV6};
use vswitch_nat::nat::NatConfig;
use vswitch_nat::ndp::link_local;
use vswitch_nat::ports::PortPolicy;
use vswitch_nat::station::{AddressGuard, Limits, Station};
use vswitch_nat::wan::WanConfig;
use vswitch_switch::frame::{MAX_FRAME, VNET_HEADER};
use vswitch_switch::port::Guard;
use vswitch_switch::{FdbLimits, Mac, PortConfig, PortId, Switch, SwitchConfig, Time, UnicastMac};

/// Frames that one input may feed, answers included.
const FED_LIMIT: usize = 1_024;
/// Seconds until nothing waits: three requests for a neighbour, then fragments without a first.
const DRAIN_LIMIT: usize = 120;
/// Sessions that a tick looks at: more than there are.
const TICK: u32 = 1_024;
const ETHERNET: usize = 14;
const GATEWAY: [u8; 4] = [10, 88, 0, 1];
const CONTAINERS: [[u8; 4]; 2] = [[10, 88, 0, 2], [10, 88, 0, 3]];
const OUTSIDE: [u8; 4] = [198, 51, 100, 2];
const ROUTER: [u8; 4] = [198, 51, 100, 1];
const PREFIX: u8 = 20;
const MTUS: [u16; 4] = [1_500, 1_280, 576, 68];
const MASKS: [u32; 2] = [0x67, 0];
const TCP: u8 = 6;
const UDP: u8 = 17;

fn mac(address: [u8; 4]) -> UnicastMac {
    UnicastMac::for_ipv4(address)
}

/// The IPv6 address that stands beside an IPv4 one: inside a unique local one.
fn beside(address: [u8; 4]) -> [u8; 16] {
    let mut octets = if is_inside(&address) { 0xfd58 << 112 } else { 0x2001_0db8_u128 << 96 }.to_be_bytes();
    // The uplink's prefix is its own.
    octets[7] = u8::from(address[0] == OUTSIDE[0]);
    octets[12..].copy_from_slice(&address);
    octets
}

fn is_inside(address: &[u8]) -> bool {
    match *address {
        [a, b, c, _] => [a, b, c & 0xf0] == [10, 88, 0],
        _ => address.starts_with(&[0xfd, 0x58, 0, 0, 0, 0, 0, 0]),
    }
}

/// All that a command can name: containers, the gateway, our address, the router, others in the world, and nonsense.
fn address(octet: u8) -> [u8; 4] {
    match octet % 16 {
        n @ 0..=1 => CONTAINERS[usize::from(n)],
        2 => GATEWAY,
        3..=5 => OUTSIDE,
        6 => ROUTER,
        7 => [198, 51, 100, 9],
        8 => [10, 88, 0, 9],
        9 => [10, 88, 15, 255],
        10 => [127, 0, 0, 1],
        n => [203, 0, 113, n],
    }
}

fn port(octet: u8) -> u16 {
    [80, 8_080, 8_081, 5_000, 53, 40_000, 0, 65_535][usize::from(octet % 8)]
}

fn set(octets: &mut [u8], at: usize, value: u16) {
    octets[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// A packet as a command describes it.
#[derive(Clone, Copy)]
struct Made {
    /// Low four bits: what it is; then IPv6, a first and a later fragment.
    kind: u8,
    src: [u8; 4],
    dst: [u8; 4],
    ports: [u16; 2],
    /// TCP flags, or an ICMP code.
    flags: u8,
    len: usize,
}

impl Made {
    /// The virtio_net_hdr and the packet.
    fn write(&self, hops: u8) -> ([u8; VNET_HEADER], Vec<u8>) {
        let v6 = self.kind & 0x10 != 0;
        let (l3, own) = (ETHERNET as u16, if v6 { 40u16 } else { 20 });
        let payload = vec![7; self.len];
        let [[s0, s1], [d0, d1]] = self.ports.map(u16::to_be_bytes);
        let icmp = if v6 { 58 } else { 1 };
        let echo = if v6 { [128, 129] } else { [8, 0] };
        let (protocol, header, field): (u8, Vec<u8>, usize) = match self.kind & 15 {
            0..=3 => (UDP, vec![s0, s1, d0, d1, 0, 0, 0, 0], 6),
            4..=7 => (
                TCP,
                [&[s0, s1, d0, d1, 0, 0, 0, 1, 0, 0, 0, 1, 0x60, self.flags, 255, 255, 0, 0, 0, 0][..], &[2, 4, 5, 0xb4]].concat(),
                16,
            ),
            8 => (icmp, vec![echo[0], 0, 0, 0, s0, s1, 0, 1], 2),
            9 => (icmp, vec![echo[1], 0, 0, 0, d0, d1, 0, 1], 2),
            // An error about what it would be if it had gone the other way.
            10..=12 => (icmp, vec![if v6 { 1 } else { 3 }, self.flags & 15, 0, 0, 0, 0, 5, 0], 2),
            13 => (136, vec![s0, s1, d0, d1, 0, 8, 0, 0], 6),
            n => (n, vec![], 0),
        };
        let quote = if (10..=12).contains(&(self.kind & 15)) {
            let kind = [0, 4, 8][usize::from(self.kind & 15) - 10] | self.kind & 0x10;
            let (_, mut quoted) =
                Self { kind, src: self.dst, dst: self.src, ports: [self.ports[1], self.ports[0]], flags: 0x10, len: 8 }.write(1);
            quoted.truncate(usize::from(own) + 8 + self.len % 20);
            quoted
        } else {
            payload
        };
        let mut l4 = [header.clone(), quote].concat();
        let whole = l4.len() as u16;
        if protocol == UDP && !l4.is_empty() {
            set(&mut l4, 4, whole);
        }
        let pseudo = if v6 {
            checksum::pseudo_v6(beside(self.src), beside(self.dst), protocol, u32::from(whole))
        } else {
            checksum::pseudo_v4(self.src, self.dst, protocol, whole)
        };
        let partial = self.kind & 0x81 == 0x81 && matches!(protocol, TCP | UDP) && self.kind & 0x60 == 0;
        if field > 0 {
            let pseudo = if protocol == 1 { 0 } else { pseudo };
            let sum = if partial { pseudo } else { checksum::non_zero(!checksum::add(checksum::sum(&l4), pseudo)) };
            set(&mut l4, field, sum);
        }
        let mut vnet = [0; VNET_HEADER];
        if partial {
            // Every other one is to be cut.
            let gso = match (protocol, v6) {
                (TCP, false) => 1,
                (TCP, true) => 4,
                _ => 5,
            };
            let gso = if self.len > 64 { gso } else { 0 };
            (vnet[0], vnet[1]) = (1, gso);
            let size = if gso == 0 { 0 } else { 536.min(self.len as u16) };
            for (at, value) in [(2, l3 + own + header.len() as u16), (4, size), (6, l3 + own), (8, field as u16)] {
                vnet[at..at + 2].copy_from_slice(&value.to_ne_bytes());
            }
        }
        // A first fragment of 64 octets and more, and the rest.
        let split = l4.len().min(64) & !7;
        let (offset, more, part) = match self.kind & 0x60 {
            0x20 => (0, true, &l4[..split]),
            0x40 => (split / 8, false, &l4[split..]),
            _ => (0, false, &l4[..]),
        };
        let is_fragment = self.kind & 0x60 == 0x20 || self.kind & 0x60 == 0x40;
        let packet = if v6 {
            let fragment = [&[protocol, 0][..], &((offset as u16) << 3 | u16::from(more)).to_be_bytes(), &[0, 0, 0, 7]].concat();
            let (next, extension) = if is_fragment { (44, &fragment[..]) } else { (protocol, &[][..]) };
            let len = ((extension.len() + part.len()) as u16).to_be_bytes();
            [&[0x60, 0, 0, 0][..], &len, &[next, hops], &beside(self.src), &beside(self.dst), extension, part].concat()
        } else {
            let mut ip = [&[0x45, 0, 0, 0, 0, 7, 0, 0, hops, protocol, 0, 0][..], &self.src, &self.dst].concat();
            set(&mut ip, 2, 20 + part.len() as u16);
            // DF now and then.
            set(&mut ip, 6, offset as u16 | u16::from(more) << 13 | u16::from(!is_fragment && self.flags & 0x20 != 0) << 14);
            let sum = checksum::checksum(&ip);
            set(&mut ip, 10, sum);
            [&ip[..], part].concat()
        };
        (vnet, packet)
    }

    fn frame(&self, dst: UnicastMac, src: UnicastMac, hops: u8) -> Vec<u8> {
        let (vnet, packet) = self.write(hops);
        let ethertype = if self.kind & 0x10 == 0 { [8, 0] } else { [0x86, 0xdd] };
        [&vnet[..], &dst.mac().0, &src.mac().0, &ethertype, &packet].concat()
    }
}

struct World {
    datapath: Datapath,
    inside: [PortId; 2],
    wan: WanConfig,
    mtu: u16,
    /// The router answers requests by itself.
    answers: bool,
    /// The last packet that left.
    left: Vec<u8>,
    fed: usize,
    rules: u32,
    now: Time,
}

impl World {
    fn new(&[buffers, mtus, room]: &[u8; 3]) -> Self {
        let fdb = FdbLimits { entries: 16, ageing: Duration::from_secs(300) };
        let own = mac(GATEWAY);
        let switch = Switch::new(SwitchConfig { mac: own, fdb, group_forward: 0, flood_unregistered: true, seed: 7 });
        let v6 = GatewayV6 { address: beside(GATEWAY).into(), prefix: 64, link_local: link_local(own) };
        let config = GatewayConfig { mac: own, address: GATEWAY.into(), prefix: PREFIX, v6: Some(v6) };
        let mut gateway = Gateway::new(config, [1, 2]);
        let now = Time::from_secs(1_000);
        let mtu = MTUS[usize::from(mtus % 4)];
        let wan = WanConfig {
            mac: mac(OUTSIDE),
            mtu,
            v4: vec![(OUTSIDE.into(), 24)],
            v6: vec![(beside(OUTSIDE).into(), 64)],
            gateway_v4: Some(ROUTER.into()),
            gateway_v6: Some(beside(ROUTER).into()),
        };
        let sessions = u32::from(room % 32) + 1;
        let nat = NatConfig {
            sessions_v4: sessions,
            sessions_v6: sessions,
            mappings: sessions,
            strict_windows: room & 32 != 0,
            loose: room & 64 == 0,
            ports: PortPolicy::default(),
            ..NatConfig::default()
        };
        gateway.set_uplink(nat, wan.clone(), now);
        let mut datapath = Datapath::with_buffers(switch, Some(gateway), usize::from(buffers % 16) + 1);
        let memory = |bit: u8| Port::Memory(MemoryPort::new(MASKS[usize::from(buffers >> bit & 1)], true));
        let inside = CONTAINERS.map(|address| {
            let guarded = PortConfig { guard: Guard::Bound(mac(address)), ..PortConfig::default() };
            datapath.add_port(memory(4), guarded, 1_500).map_err(|(_, error)| error).expect("a port")
        });
        assert!(datapath.set_uplink(Some(memory(5)), mtu).is_none());
        let answers = buffers & 0x40 == 0;
        let mut world = Self { datapath, inside, wan, mtu, answers, left: vec![], fed: 0, rules: 0, now };
        world.enter(0, MTUS[usize::from(mtus >> 2 & 3)]);
        world.enter(1, 1_500);
        world
    }

    fn gateway(&mut self) -> &mut Gateway {
        self.datapath.gateway.as_mut().expect("a gateway")
    }

    fn enter(&mut self, which: usize, mtu: u16) {
        let address = CONTAINERS[which];
        let limits = Limits { sessions: 16, ports: 8 };
        let station = Station {
            mac: mac(address),
            v4: Some(address.into()),
            v6: Some(beside(address).into()),
            mtu,
            limits,
            guard: AddressGuard::default(),
        };
        let port = self.inside[which].get();
        self.gateway().stations.set(port, station);
    }

    fn command(&mut self, commands: &mut Commands<'_>) -> Option<()> {
        let [what] = commands.octets()?;
        match what {
            0..=47 => {
                let [span] = commands.octets()?;
                // To a minute, or to four hours: sessions of every kind end.
                let unit = if what < 40 { Duration::from_millis(1) } else { Duration::from_millis(250) };
                self.breathe(unit * u32::from(span) * u32::from(span));
            }
            48..=63 => {
                let [length] = commands.octets()?;
                let frame = commands.slice(length).to_vec();
                self.feed(usize::from(what % 3), frame);
            }
            64..=191 => self.made(what, &commands.octets()?, &commands.octets()?),
            192..=231 => self.turn_round(&commands.octets()?),
            232..=255 => self.by_hand(&commands.octets()?),
        }
        Some(())
    }

    /// Ports 0 and 1 are the containers', 2 is the uplink.
    fn feed(&mut self, which: usize, frame: Vec<u8>) {
        let id = self.inside.get(which).copied().unwrap_or(PortId::UPLINK);
        if self.fed < FED_LIMIT
            && let Some(memory) = self.datapath.memory(id)
        {
            self.fed += usize::from(memory.feed(frame));
        }
    }

    fn made(&mut self, what: u8, &[kind, src, dst, ports, flags, len]: &[u8; 6], &[at, xor]: &[u8; 2]) {
        let which = usize::from(what % 3);
        let from = CONTAINERS.get(which).copied();
        let packet = Made {
            kind,
            src: if src & 0xf0 == 0 { from.unwrap_or([203, 0, 113, 15]) } else { address(src) },
            dst: if from.is_none() && dst & 0xf0 == 0 { OUTSIDE } else { address(dst) },
            ports: [port(ports), port(ports >> 4)],
            flags,
            // Some that are cut.
            len: usize::from(len) * if what & 32 == 0 { 1 } else { 8 },
        };
        let (to, by) = from.map_or((mac(OUTSIDE), mac(ROUTER)), |from| (mac(GATEWAY), mac(from)));
        let hops = if what & 16 == 0 { 64 } else { 1 + flags % 2 };
        let mut frame = packet.frame(to, by, hops);
        if let Some(octet) = frame.get_mut(usize::from(at)) {
            *octet ^= xor;
        }
        self.feed(which, frame);
    }

    /// The last packet that left comes back as its answer.
    fn turn_round(&mut self, &[at, xor]: &[u8; 2]) {
        let mut frame = self.left.clone();
        let l3 = VNET_HEADER + ETHERNET;
        let (source, len, own) = if frame.get(VNET_HEADER + 12) == Some(&8) { (12, 4, 20) } else { (8, 16, 40) };
        if frame.len() < l3 + own + 8 {
            return;
        }
        let mut swap = |a: usize, b: usize, len: usize| (0..len).for_each(|n| frame.swap(a + n, b + n));
        swap(VNET_HEADER, VNET_HEADER + 6, 6);
        swap(l3 + source, l3 + source + len, len);
        // Echo has no two ports to be exchanged, and its answer is another type: the checksum stays that of the request.
        let protocol = frame[l3 + if own == 20 { 9 } else { 6 }];
        if matches!(protocol, TCP | UDP) {
            (0..2).for_each(|n| frame.swap(l3 + own + n, l3 + own + 2 + n));
        } else if matches!(protocol, 1 | 58) {
            let before = u16::from_be_bytes([frame[l3 + own], frame[l3 + own + 1]]);
            frame[l3 + own] = if own == 20 { 0 } else { 129 };
            let after = u16::from_be_bytes([frame[l3 + own], frame[l3 + own + 1]]);
            let sum = u16::from_be_bytes([frame[l3 + own + 2], frame[l3 + own + 3]]);
            set(&mut frame, l3 + own + 2, checksum::update_u16(sum, before, after));
        }
        if let Some(octet) = frame.get_mut(usize::from(at)) {
            *octet ^= xor;
        }
        self.feed(2, frame);
    }

    fn by_hand(&mut self, &[what, a, b]: &[u8; 3]) {
        let which = usize::from(a & 1);
        let owner = self.inside[which].get();
        match what % 8 {
            0 => self.gateway().forget(owner),
            1 => self.enter(which, MTUS[usize::from(b % 4)]),
            2 => self.gateway().flush(owner),
            3 | 4 => self.publish(what, owner, which, b),
            5 => {
                let id = RuleId(u32::from(b) % (self.rules + 1));
                let uplink = self.gateway().uplink_mut().expect("an uplink").0;
                let _ = uplink.nat.unpublish::<Ipv4Addr>(id) || uplink.nat.unpublish::<Ipv6Addr>(id);
            }
            6 => {
                // Another address, and back.
                let address = if b & 1 == 0 { OUTSIDE } else { [198, 51, 100, 3] };
                self.wan.v4 = vec![(address.into(), 24)];
                self.wan.v6 = vec![(beside(address).into(), 64)];
                let (wan, now) = (self.wan.clone(), self.now);
                self.gateway().set_uplink(NatConfig::default(), wan, now);
            }
            _ => {
                // Somebody on the uplink's link says who he is, asked or not.
                let (address, operation) = (address(a), 1 + (b & 1));
                self.arp(address, operation);
            }
        }
    }

    fn publish(&mut self, what: u8, owner: u16, which: usize, octet: u8) {
        let (protocol, first) = (if octet & 8 == 0 { UDP } else { TCP }, port(octet).max(1));
        let last = first.saturating_add(u16::from(octet >> 4 & 1));
        self.rules += 1;
        let id = RuleId(self.rules);
        let address = CONTAINERS[which];
        let uplink = self.gateway().uplink_mut().expect("an uplink").0;
        // What is published already is refused.
        let _ = if what % 8 == 3 {
            let backend = Backend { owner, address: Ipv4Addr::from(address), port: 80, draining: octet & 0x20 != 0 };
            uplink.nat.publish(Rule { id, protocol, address: None, first, last, from: vec![], backends: vec![backend] })
        } else {
            let backend = Backend { owner, address: Ipv6Addr::from(beside(address)), port: 80, draining: octet & 0x20 != 0 };
            uplink.nat.publish(Rule { id, protocol, address: None, first, last, from: vec![], backends: vec![backend] })
        };
    }

    fn arp(&mut self, from: [u8; 4], operation: u8) {
        let (own, sender) = (mac(OUTSIDE).mac().0, mac(from).mac().0);
        let packet = [&[0, 1, 8, 0, 6, 4, 0, operation][..], &sender, &from, &own, &OUTSIDE].concat();
        self.feed(2, [&[0; VNET_HEADER][..], &own, &sender, &[8, 6], &packet].concat());
    }

    /// Says whether anything waits.
    fn breathe(&mut self, span: Duration) -> bool {
        self.now = self.now.after(span);
        self.datapath.begin(self.now);
        for id in [self.inside[0], self.inside[1], PortId::UPLINK] {
            let _ = self.datapath.inhale(id, self.now);
        }
        self.datapath.drain_gateway(self.now);
        self.datapath.exhale();
        let now = self.now;
        self.gateway().tick(now, TICK);
        let accounts = self.datapath.accounts();
        assert!(accounts.balanced(), "{accounts:?}");
        assert_eq!(self.datapath.stats().drops.total(), accounts.dropped);
        if !self.datapath.is_flooding() {
            assert_eq!(self.datapath.outstanding() as u64, accounts.held, "a buffer is lost: {accounts:?}");
        }
        self.check_inside();
        self.check_uplink();
        accounts.held > 0
    }

    fn check_inside(&mut self) {
        for id in self.inside {
            let frames = self.datapath.memory(id).map(MemoryPort::take_output).unwrap_or_default();
            for frame in frames {
                assert!(frame.len() >= VNET_HEADER + ETHERNET && frame.len() <= VNET_HEADER + MAX_FRAME, "{}", frame.len());
                assert_ne!(frame[VNET_HEADER + 6..VNET_HEADER + 12], mac(OUTSIDE).mac().0, "from the uplink past the gateway");
            }
        }
    }

    fn check_uplink(&mut self) {
        let frames = self.datapath.memory(PortId::UPLINK).map(MemoryPort::take_output).unwrap_or_default();
        for frame in frames {
            let packet = &frame[VNET_HEADER + ETHERNET..];
            assert_eq!(frame[VNET_HEADER + 6..VNET_HEADER + 12], self.wan.mac.mac().0, "from another station");
            // A GSO frame is judged by its segments, and those by the datapath.
            assert!(frame[1] != 0 || packet.len() <= usize::from(self.mtu), "{} octets for an MTU of {}", packet.len(), self.mtu);
            match frame[VNET_HEADER + 12..VNET_HEADER + ETHERNET] {
                [8, 6] => self.check_arp(packet),
                [8, 0] => {
                    let icmp = usize::from(packet[0] & 15) * 4;
                    let is_error =
                        packet[9] == 1 && packet[6] & 0x1f == 0 && packet[7] == 0 && matches!(packet[icmp], 3 | 4 | 11 | 12);
                    assert!(checksum::is_valid(&packet[..icmp]), "the IPv4 header's checksum");
                    check_addresses(packet, 12, 4);
                    if is_error {
                        check_addresses(&packet[icmp + 8..], 12, 4);
                    }
                    self.left = frame;
                }
                [0x86, 0xdd] => {
                    check_addresses(packet, 8, 16);
                    if packet[6] == 58 && packet[40] < 128 {
                        check_addresses(&packet[48..], 8, 16);
                    }
                    if packet[6] == 58 && packet[40] == 135 {
                        self.answer_solicitation(packet.to_vec());
                    } else {
                        self.left = frame;
                    }
                }
                ref other => panic!("{other:?} leaves the uplink"),
            }
        }
    }

    fn check_arp(&mut self, packet: &[u8]) {
        assert!(!is_inside(&packet[14..18]), "an inside address is asked from");
        let wanted = [packet[24], packet[25], packet[26], packet[27]];
        if self.answers && packet[7] == 1 && wanted == ROUTER {
            self.arp(ROUTER, 2);
        }
    }

    /// The router says who it is.
    fn answer_solicitation(&mut self, packet: Vec<u8>) {
        let router = beside(ROUTER);
        if !self.answers || packet.get(48..64) != Some(&router[..]) {
            return;
        }
        let (own, sender) = (mac(OUTSIDE).mac().0, mac(ROUTER).mac().0);
        let (src, mut asker) = (router, [0; 16]);
        asker.copy_from_slice(&packet[8..24]);
        let mut message = [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &router, &[2, 1], &sender].concat();
        let sum = !checksum::add(checksum::sum(&message), checksum::pseudo_v6(src, asker, 58, 32));
        set(&mut message, 2, sum);
        let ip = [&[0x60, 0, 0, 0, 0, 32, 58, 255][..], &src, &asker].concat();
        self.feed(2, [&[0; VNET_HEADER][..], &own, &Mac(sender).0, &[0x86, 0xdd], &ip, &message].concat());
    }
}

/// N63: nothing untranslated leaves, and nothing tells of the inside.
fn check_addresses(packet: &[u8], source: usize, len: usize) {
    for at in [source, source + len] {
        if let Some(address) = packet.get(at..at + len) {
            assert!(!is_inside(address), "an inside address leaves: {packet:02x?}");
        }
    }
}

/// One input, see the module.
///
/// # Panics
/// A property does not hold.
pub fn run(data: &[u8]) {
    let mut commands = Commands(data);
    let Some(setup) = commands.octets() else { return };
    let mut world = World::new(&setup);
    while world.command(&mut commands).is_some() {}
    let mut seconds = 0;
    // What is not read yet may wait afterwards.
    while world.breathe(Duration::from_secs(1)) || seconds < 3 {
        seconds += 1;
        assert!(seconds < DRAIN_LIMIT, "it does not drain: {:?}", world.datapath.accounts());
    }
    assert_eq!((world.datapath.accounts().held, world.datapath.outstanding()), (0, 0));
}
