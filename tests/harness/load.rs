//! Loads for the datapath on memory ports that keep nothing: a bench times them, a test counts their allocations.
//!
//! A round feeds frames and lets the datapath breathe until all of them are through. Feeding is apart, for a kernel does it in life.
use std::time::Duration;
use vswitch_io::datapath::{Datapath, Inhaled};
use vswitch_io::port::{MemoryPort, Port};
use vswitch_nat::checksum;
use vswitch_nat::flow::protocol;
use vswitch_nat::gateway::{Gateway, GatewayConfig};
use vswitch_nat::nat::NatConfig;
use vswitch_nat::packet::tcp;
use vswitch_nat::station::{AddressGuard, Limits, Station};
use vswitch_nat::wan::WanConfig;
use vswitch_switch::storm::StormLimits;
use vswitch_switch::{FdbLimits, Mac, PortConfig, PortId, Switch, SwitchConfig, Time, UnicastMac};

/// All that a TAP of Linux 6.2 takes (TUN_F_*).
const ALL_OFFLOADS: u32 = 0x67;
/// Between two breaths: so short that no address ages while a bench runs.
const BREATH: Duration = Duration::from_micros(1);
const GATEWAY: u32 = 1;
const SENDER: u32 = 2;
const RECEIVER: u32 = 3;
const MTU: u16 = 1_500;
/// Our address on the uplink, the router's there, and a host beyond it.
const EXTERNAL: [u8; 4] = [198, 51, 100, 2];
const ROUTER: [u8; 4] = [198, 51, 100, 1];
const REMOTE: [u8; 4] = [203, 0, 113, 9];
/// The sender's port, which the NAT keeps, and the remote's.
const PORTS: [u16; 2] = [5_000, 443];

/// A datapath and what is sent through it, over and over.
#[derive(Debug)]
pub struct Load {
    /// What it is called.
    pub name: &'static str,
    /// Frames that one round sends.
    pub copies: u64,
    datapath: Datapath,
    from: PortId,
    frame: Vec<u8>,
    /// Frames fed in one round.
    frames: usize,
    now: Time,
}

/// Which way a load goes through the NAT.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

fn inside(number: u32) -> [u8; 4] {
    (0x0a58_0000 | number).to_be_bytes()
}

fn station(number: u32) -> UnicastMac {
    UnicastMac::for_ipv4(inside(number))
}

/// A virtio_net_hdr of zeroes and a frame.
fn frame(dst: Mac, ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
    [&[0; 10][..], &dst.0, &station(SENDER).mac().0, &ethertype, packet].concat()
}

/// The same, on the uplink's link or towards it.
fn routed(way: Way, packet: &[u8]) -> Vec<u8> {
    match way {
        Way::Out => frame(station(GATEWAY).mac(), [8, 0], packet),
        Way::In => {
            let (own, router) = (UnicastMac::for_ipv4(EXTERNAL).mac(), UnicastMac::for_ipv4(ROUTER).mac());
            [&[0; 10][..], &own.0, &router.0, &[8, 0], packet].concat()
        }
    }
}

fn ipv4(src: [u8; 4], dst: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header =
        [0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0, src[0], src[1], src[2], src[3], dst[0], dst[1], dst[2], dst[3]];
    header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    let sum = checksum::checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], payload].concat()
}

/// A packet of the flow through the NAT, as it comes to us: `layer4` has its two ports, to be set, and its checksum at `checksum`.
fn of_flow(way: Way, number: u8, mut layer4: Vec<u8>, checksum: usize) -> Vec<u8> {
    let [own, remote] = PORTS;
    let (src, dst, ports) = match way {
        Way::Out => (inside(SENDER), REMOTE, [own, remote]),
        Way::In => (REMOTE, EXTERNAL, [remote, own]),
    };
    for (place, port) in layer4.chunks_exact_mut(2).zip(ports) {
        place.copy_from_slice(&port.to_be_bytes());
    }
    let pseudo = checksum::pseudo_v4(src, dst, number, layer4.len() as u16);
    let sum = !checksum::add(pseudo, checksum::sum(&layer4));
    layer4[checksum..checksum + 2].copy_from_slice(&checksum::non_zero(sum).to_be_bytes());
    routed(way, &ipv4(src, dst, number, &layer4))
}

/// UDP, 64 octets.
fn udp(way: Way) -> Vec<u8> {
    of_flow(way, protocol::UDP, [&[0, 0, 0, 0, 0, 30, 0, 0][..], &[7; 22]].concat(), 6)
}

/// TCP; the first octet of either side has the number 2.
fn tcp(way: Way, flags: u8, payload: &[u8]) -> Vec<u8> {
    let seq = if flags & tcp::SYN == 0 { 2 } else { 1 };
    let ack = if flags & tcp::ACK == 0 { 0 } else { 2 };
    let header = [0, 0, 0, 0, 0, 0, 0, seq, 0, 0, 0, ack, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
    of_flow(way, protocol::TCP, [&header[..], payload].concat(), 16)
}

impl Load {
    /// Every load that there is.
    #[must_use]
    pub fn all() -> Vec<Self> {
        vec![
            Self::unicast("unicast, 64 octets", ALL_OFFLOADS, frame(station(RECEIVER).mac(), [0x88, 0xb6], &[7; 50]), 64, 1),
            Self::unicast("unicast, GSO of 64 KB", ALL_OFFLOADS, gso(inside_gso()), 16, 1),
            Self::unicast("unicast, GSO of 64 KB cut into 46", 0, gso(inside_gso()), 16, 46),
            Self::unicast("unicast, IPv4, 64 octets", ALL_OFFLOADS, inside_packet(), 64, 1),
            Self::guarded("unicast, IPv4, 64 octets, guarded", inside_packet()),
            Self::guarded("ARP answered for another", arp_request()),
            Self::ping(),
            Self::name(),
            Self::flood("flood to 1,100 ports", 1_100),
            Self::through_nat("NAT out, UDP, 64 octets", Way::Out, udp(Way::Out), 64),
            Self::through_nat("NAT in, UDP, 64 octets", Way::In, udp(Way::In), 64),
            Self::through_nat("NAT out, TCP, GSO of 64 KB", Way::Out, gso(tcp(Way::Out, tcp::ACK, &GSO_PAYLOAD)), 16),
            Self::through_nat("NAT in, TCP, GSO of 64 KB", Way::In, gso(tcp(Way::In, tcp::ACK, &GSO_PAYLOAD)), 16),
        ]
    }

    /// Between ports of a container each; the receiver's takes what `mask` says.
    fn unicast(name: &'static str, mask: u32, frame: Vec<u8>, frames: usize, segments: u64) -> Self {
        let mut load = Self::with_ports(name, mask, 1, frame, frames);
        load.copies = frames as u64 * segments;
        // The receiver must have been heard: its first frame is to the sender.
        let hello = [&[0; 10][..], &station(SENDER).mac().0, &station(RECEIVER).mac().0, &[0x88, 0xb6], &[0; 46]].concat();
        let receiver = PortId::new(load.from.get() + 1).unwrap_or(PortId::GATEWAY);
        assert!(load.datapath.memory(receiver).is_some_and(|port| port.feed_copy(&hello)));
        while load.breath(receiver) != Inhaled::Idle {}
        load
    }

    /// The same where the gateway knows both, and judges what they send.
    fn guarded(name: &'static str, frame: Vec<u8>) -> Self {
        let mut load = Self::unicast(name, ALL_OFFLOADS, frame, 64, 1);
        for (port, number) in [(load.from.get(), SENDER), (load.from.get() + 1, RECEIVER)] {
            let (v4, limits, guard) = (Some(inside(number).into()), Limits::default(), AddressGuard::Bound);
            if let Some(gateway) = &mut load.datapath.gateway {
                gateway.stations.set(port, Station { mac: station(number), v4, v6: None, mtu: MTU, limits, guard });
            }
        }
        load
    }

    /// Echo requests to the gateway.
    fn ping() -> Self {
        let mut icmp = [0; 64];
        icmp[0] = 8;
        let sum = checksum::checksum(&icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let packet = ipv4(inside(SENDER), inside(GATEWAY), protocol::ICMP, &icmp);
        let mut load = Self::with_ports("ping to the gateway", ALL_OFFLOADS, 0, routed(Way::Out, &packet), 64);
        load.copies = 64;
        load
    }

    /// Questions for the address of a container, by UDP.
    fn name() -> Self {
        let question = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x03web\x07vswitch\x08internal\0\0\x01\0\x01";
        let len = question.len() as u16 + 8;
        let mut udp = [&[0x9c, 0x40, 0, 53][..], &len.to_be_bytes(), &[0, 0], question].concat();
        let pseudo = checksum::pseudo_v4(inside(SENDER), inside(GATEWAY), protocol::UDP, len);
        let sum = checksum::non_zero(!checksum::add(pseudo, checksum::sum(&udp)));
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        let packet = ipv4(inside(SENDER), inside(GATEWAY), protocol::UDP, &udp);
        let mut load = Self::with_ports("a container's name, UDP", ALL_OFFLOADS, 0, routed(Way::Out, &packet), 64);
        load.copies = 64;
        let (v4, limits, guard) = (Some(inside(SENDER).into()), Limits::default(), AddressGuard::default());
        if let Some(gateway) = &mut load.datapath.gateway {
            gateway.stations.set(load.from.get(), Station { mac: station(SENDER), v4, v6: None, mtu: MTU, limits, guard });
            gateway.stations.set_name(load.from.get(), "web");
        }
        load
    }

    /// Packets of a UDP flow and a TCP connection that are established, through gateway and NAT.
    fn through_nat(name: &'static str, way: Way, frame: Vec<u8>, frames: usize) -> Self {
        let mut load = Self::with_ports(name, ALL_OFFLOADS, 0, frame, frames);
        load.copies = frames as u64;
        let wan = WanConfig {
            mac: UnicastMac::for_ipv4(EXTERNAL),
            mtu: MTU,
            v4: vec![(EXTERNAL.into(), 24)],
            v6: Vec::new(),
            gateway_v4: Some(ROUTER.into()),
            gateway_v6: None,
        };
        let container = load.from;
        let v4 = Some(inside(SENDER).into());
        let station =
            Station { mac: station(SENDER), v4, v6: None, mtu: MTU, limits: Limits::default(), guard: AddressGuard::default() };
        if let Some(gateway) = &mut load.datapath.gateway {
            gateway.set_uplink(NatConfig { sessions_v6: 16, ..NatConfig::default() }, wan, load.now);
            gateway.stations.set(container.get(), station);
        }
        assert!(load.datapath.set_uplink(Some(Port::Memory(MemoryPort::new(ALL_OFFLOADS, false))), MTU).is_none());
        // The router says who it is when it is asked, and both announcements of our address are made.
        let (own, router) = (UnicastMac::for_ipv4(EXTERNAL).mac().0, UnicastMac::for_ipv4(ROUTER).mac().0);
        let answer = [&router[..], &ROUTER, &own, &EXTERNAL].concat();
        let arp = [&[0; 10][..], &own, &router, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &answer].concat();
        for (from, octets) in [
            (container, udp(Way::Out)),
            (PortId::UPLINK, arp),
            (PortId::UPLINK, udp(Way::In)),
            (container, tcp(Way::Out, tcp::SYN, &[])),
            (PortId::UPLINK, tcp(Way::In, tcp::SYN | tcp::ACK, &[])),
            (container, tcp(Way::Out, tcp::ACK, &[])),
        ] {
            assert!(load.datapath.memory(from).is_some_and(|port| port.feed_copy(&octets)));
            while load.breath(from) != Inhaled::Idle {}
            load.wait(Duration::from_secs(1));
        }
        load.from = match way {
            Way::Out => container,
            Way::In => PortId::UPLINK,
        };
        load
    }

    /// One broadcast to `ports` ports and the gateway.
    fn flood(name: &'static str, ports: u16) -> Self {
        let mut load = Self::with_ports(name, ALL_OFFLOADS, ports, frame(Mac::BROADCAST, [0x88, 0xb6], &[7; 50]), 1);
        load.copies = u64::from(ports);
        load
    }

    fn with_ports(name: &'static str, mask: u32, receivers: u16, frame: Vec<u8>, frames: usize) -> Self {
        let mac = station(GATEWAY);
        let switch =
            Switch::new(SwitchConfig { mac, fdb: FdbLimits::default(), group_forward: 0, flood_unregistered: true, seed: 42 });
        let gateway = Gateway::new(GatewayConfig { mac, address: [10, 88, 0, 1].into(), prefix: 16, v6: None }, [1, 2]);
        let mut datapath = Datapath::new(switch, Some(gateway));
        let mut plug = |mask| {
            let config =
                PortConfig { storm: StormLimits { broadcast: None, multicast: None, unknown: None }, ..PortConfig::default() };
            datapath
                .add_port(Port::Memory(MemoryPort::new(mask, false)), config, 1_500)
                .map_err(|(_, error)| error)
                .expect("a free number")
        };
        let from = plug(ALL_OFFLOADS);
        (0..receivers).for_each(|_| _ = plug(mask));
        Self { name, copies: 0, datapath, from, frame, frames, now: Time::from_secs(1) }
    }

    fn breath(&mut self, from: PortId) -> Inhaled {
        self.now = self.now.after(BREATH);
        self.datapath.begin(self.now);
        let end = self.datapath.inhale(from, self.now);
        self.datapath.drain_gateway(self.now);
        self.datapath.exhale();
        end
    }

    /// Puts a round's frames before the sender's port.
    pub fn feed(&mut self) {
        if let Some(port) = self.datapath.memory(self.from) {
            (0..self.frames).for_each(|_| assert!(port.feed_copy(&self.frame), "a round fits the queue"));
        }
    }

    /// Breathes until they are through.
    pub fn breathe(&mut self) {
        while self.breath(self.from) != Inhaled::Idle || self.datapath.is_flooding() {}
    }

    /// Lets time pass: the next flood is probed.
    pub fn wait(&mut self, span: Duration) {
        self.now = self.now.after(span);
    }

    /// Frames sent so far, to ports and to the uplink.
    #[must_use]
    pub fn sent(&self) -> u64 {
        let accounts = self.datapath.accounts();
        accounts.tx + accounts.to_uplink
    }
}

/// What makes an IPv4 TCP packet 65,535 octets long.
static GSO_PAYLOAD: [u8; 65_495] = [9; 65_495];

/// A small one between stations inside.
fn inside_packet() -> Vec<u8> {
    frame(station(RECEIVER).mac(), [8, 0], &ipv4(inside(SENDER), inside(RECEIVER), protocol::TCP, &[7; 30]))
}

/// Who has the receiver's address?
fn arp_request() -> Vec<u8> {
    let (own, fixed) = (station(SENDER).mac().0, [0, 1, 8, 0, 6, 4, 0, 1]);
    let packet = [&fixed[..], &own, &inside(SENDER), &[0; 6], &inside(RECEIVER)].concat();
    frame(Mac::BROADCAST, [8, 6], &packet)
}

/// Between stations inside.
fn inside_gso() -> Vec<u8> {
    let mut header = [0; 20];
    (header[12], header[13]) = (0x50, 0x18);
    let packet = ipv4(inside(SENDER), inside(RECEIVER), protocol::TCP, &[&header[..], &GSO_PAYLOAD].concat());
    frame(station(RECEIVER).mac(), [8, 0], &packet)
}

/// The same frame, its checksum partial, to be cut at 1,448 octets of payload.
fn gso(mut octets: Vec<u8>) -> Vec<u8> {
    (octets[0], octets[1]) = (1, 1);
    for (at, value) in [(2, 54u16), (4, 1_448), (6, 34), (8, 16)] {
        octets[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
    octets
}
