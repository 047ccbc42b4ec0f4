//! A NAT on the bench: octets in on one side, octets out on the other, nothing in between that is not the product's. Packets are made
//! here, not by the product; their checksums, made and checked, are pnet's.
#![allow(dead_code, reason = "each test file uses its part")]
use pnet_packet::ip::IpNextHeaderProtocol;
use pnet_packet::util::{checksum, ipv4_checksum, ipv6_checksum};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;
use vswitch_nat::flow::Tuple;
use vswitch_nat::forward::{Backend, ForwardError, Rule, RuleId};
use vswitch_nat::nat::{Family, Nat, NatConfig};
use vswitch_nat::packet::Packet;
use vswitch_nat::session::Session;
use vswitch_nat::station::{AddressGuard, Limits, Station, Stations};
use vswitch_nat::tcp_state::Phase;
use vswitch_switch::{DropReason, FramePool, Time, UnicastMac};

pub use vswitch_nat::flow::protocol::{ICMP, ICMPV6, TCP, UDP};

/// When tests begin.
pub const START: Time = Time::from_secs(1_000);
/// Octets of an Ethernet header.
pub const L3: usize = 14;
/// Looks of a page: as many as there is to look at.
const EVERYTHING: u32 = u32::MAX;
/// Looks of a tick.
const TICK: u32 = 4_096;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// Who there is: containers A and B, external addresses, hosts outside and a router between.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    pub a: IpAddr,
    pub b: IpAddr,
    pub e: IpAddr,
    pub e2: IpAddr,
    pub x: IpAddr,
    pub y: IpAddr,
    pub router: IpAddr,
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(a: u16, b: u16, c: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last))
}

pub const V4: Net = Net {
    a: v4(10, 0, 0, 2),
    b: v4(10, 0, 0, 3),
    e: v4(198, 51, 100, 1),
    e2: v4(198, 51, 100, 2),
    x: v4(203, 0, 113, 5),
    y: v4(203, 0, 113, 6),
    router: v4(192, 0, 2, 1),
};
pub const V6: Net = Net {
    a: v6(0xfd00, 0, 0, 2),
    b: v6(0xfd00, 0, 0, 3),
    e: v6(0x2001, 0xdb8, 0, 1),
    e2: v6(0x2001, 0xdb8, 0, 2),
    x: v6(0x2001, 0xdb8, 1, 5),
    y: v6(0x2001, 0xdb8, 1, 6),
    router: v6(0x2001, 0xdb8, 0xff, 1),
};
pub const BOTH: [Net; 2] = [V4, V6];

impl Net {
    pub const fn icmp(&self) -> u8 {
        if self.a.is_ipv4() { ICMP } else { ICMPV6 }
    }

    /// Type and code of "port unreachable" (RFC 792; RFC 4443 3.1).
    pub const fn port_unreachable(&self) -> [u8; 2] {
        if self.a.is_ipv4() { [3, 3] } else { [1, 4] }
    }

    /// Type and code of "time exceeded".
    pub const fn time_exceeded(&self) -> [u8; 2] {
        if self.a.is_ipv4() { [11, 0] } else { [3, 0] }
    }

    /// The first eight octets of "too big, the MTU is `mtu`", checksum zero.
    pub fn too_big(&self, mtu: u16) -> [u8; 8] {
        let [m0, m1] = mtu.to_be_bytes();
        if self.a.is_ipv4() { [3, 4, 0, 0, 0, 0, m0, m1] } else { [2, 0, 0, 0, 0, 0, m0, m1] }
    }
}

pub fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// The checksum of a layer 4 message whose field lies at `field`, by pnet.
fn l4_checksum(src: IpAddr, dst: IpAddr, protocol: u8, message: &[u8], field: usize) -> u16 {
    let next = IpNextHeaderProtocol::new(protocol);
    match (src, dst) {
        (IpAddr::V4(_), IpAddr::V4(_)) if protocol == ICMP => checksum(message, field / 2),
        (IpAddr::V4(src), IpAddr::V4(dst)) => ipv4_checksum(message, field / 2, &[], &src, &dst, next),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ipv6_checksum(message, field / 2, &[], &src, &dst, next),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => panic!("of two families"),
    }
}

fn checksum_field(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(16),
        UDP => Some(6),
        ICMP | ICMPV6 => Some(2),
        _ => None,
    }
}

/// An IP packet, layer 4 as it is. `options` are IPv4's, a multiple of four octets.
pub fn ip_packet(src: IpAddr, dst: IpAddr, protocol: u8, options: &[u8], message: &[u8]) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let [l0, l1] = ((20 + options.len() + message.len()) as u16).to_be_bytes();
            let ihl = 0x45 + (options.len() / 4) as u8;
            // DF, 64 hops.
            let header = [ihl, 0, l0, l1, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
            let mut packet = [&header[..], &src.octets(), &dst.octets(), options].concat();
            let sum = checksum(&packet, 5).to_be_bytes();
            packet[10..12].copy_from_slice(&sum);
            packet.extend_from_slice(message);
            packet
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let [l0, l1] = (message.len() as u16).to_be_bytes();
            let header = [0x60, 0, 0, 0, l0, l1, protocol, 64];
            [&header[..], &src.octets(), &dst.octets(), message].concat()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => panic!("of two families"),
    }
}

/// A frame from somewhere to somewhere with an IP packet in it.
pub fn eth(packet: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&[0x02, 0x58, 10, 0, 0, 1, 0x02, 0x58, 10, 0, 0, 2][..], &ethertype, packet].concat()
}

/// A frame whose layer 4 checksum is made right.
pub fn frame(src: IpAddr, dst: IpAddr, protocol: u8, mut message: Vec<u8>) -> Vec<u8> {
    if let Some(field) = checksum_field(protocol) {
        let mut sum = l4_checksum(src, dst, protocol, &message, field);
        if protocol == UDP && sum == 0 {
            sum = 0xffff;
        }
        message[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    eth(&ip_packet(src, dst, protocol, &[], &message))
}

type Host = (IpAddr, u16);

pub fn udp((src, sport): Host, (dst, dport): Host, payload: &[u8]) -> Vec<u8> {
    let [[s0, s1], [d0, d1], [l0, l1]] = [sport, dport, 8 + payload.len() as u16].map(u16::to_be_bytes);
    frame(src, dst, UDP, [&[s0, s1, d0, d1, l0, l1, 0, 0], payload].concat())
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub options: &'a [u8],
    pub payload: &'a [u8],
}

impl Default for Tcp<'_> {
    fn default() -> Self {
        Self { flags: ACK, seq: 0, ack: 0, window: 1_000, options: &[], payload: &[] }
    }
}

impl Tcp<'_> {
    pub fn from(&self, (src, sport): Host, (dst, dport): Host) -> Vec<u8> {
        let offset = ((20 + self.options.len()) as u8 / 4) << 4;
        let message = [
            &sport.to_be_bytes()[..],
            &dport.to_be_bytes(),
            &self.seq.to_be_bytes(),
            &self.ack.to_be_bytes(),
            &[offset, self.flags],
            &self.window.to_be_bytes(),
            &[0; 4],
            self.options,
            self.payload,
        ];
        frame(src, dst, TCP, message.concat())
    }
}

/// A segment with flags alone.
pub fn tcp(src: Host, dst: Host, flags: u8) -> Vec<u8> {
    Tcp { flags, ..Tcp::default() }.from(src, dst)
}

/// A segment with numbers.
pub fn segment(src: Host, dst: Host, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    Tcp { flags, seq, ack, payload, ..Tcp::default() }.from(src, dst)
}

fn echo(src: IpAddr, dst: IpAddr, kind: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let [i0, i1] = id.to_be_bytes();
    let protocol = if src.is_ipv4() { ICMP } else { ICMPV6 };
    frame(src, dst, protocol, [&[kind, 0, 0, 0, i0, i1, 0, 1], payload].concat())
}

pub fn ping((src, id): Host, dst: IpAddr) -> Vec<u8> {
    echo(src, dst, if src.is_ipv4() { 8 } else { 128 }, id, b"abcdefgh")
}

pub fn pong(src: IpAddr, (dst, id): Host) -> Vec<u8> {
    echo(src, dst, if src.is_ipv4() { 0 } else { 129 }, id, b"abcdefgh")
}

/// An ICMP error with the 8 octets of its header (checksum zero), about a packet as it looked there: `quote` begins with its IP header.
pub fn icmp_error_with(src: IpAddr, dst: IpAddr, header: [u8; 8], quote: &[u8]) -> Vec<u8> {
    frame(src, dst, if src.is_ipv4() { ICMP } else { ICMPV6 }, [&header[..], quote].concat())
}

/// The same, by type and code, about a whole frame.
pub fn icmp_error(src: IpAddr, dst: IpAddr, [kind, code]: [u8; 2], about: &[u8]) -> Vec<u8> {
    icmp_error_with(src, dst, [kind, code, 0, 0, 0, 0, 0, 0], &about[L3..])
}

/// An IP packet taken apart, leniently: it may be cut off behind the ports.
fn take_apart(packet: &[u8]) -> (SocketAddr, SocketAddr, u8, usize) {
    let (src, dst, protocol, header): (IpAddr, IpAddr, u8, usize) = if packet[0] >> 4 == 4 {
        let header = usize::from(packet[0] & 15) * 4;
        assert_eq!(checksum(&packet[..header], 5).to_be_bytes(), packet[10..12], "IPv4 header checksum");
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
        (address(12), address(16), packet[9], header)
    } else {
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
        (address(8), address(24), packet[6], 40)
    };
    let word = |at: usize| u16::from_be_bytes([packet[header + at], packet[header + at + 1]]);
    let (sport, dport) = match (protocol, packet.get(header)) {
        (TCP | UDP, _) => (word(0), word(2)),
        (ICMP, Some(8)) | (ICMPV6, Some(128)) => (word(4), 0),
        (ICMP, Some(0)) | (ICMPV6, Some(129)) => (0, word(4)),
        _ => (0, 0),
    };
    (at(src, sport), at(dst, dport), protocol, header)
}

/// A frame that came out, its checksums found right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The sender; an echo request's identifier is its port.
    pub src: SocketAddr,
    /// The receiver; an echo reply's identifier is its port.
    pub dst: SocketAddr,
    pub protocol: u8,
    pub frame: Vec<u8>,
    l4: usize,
}

impl Seen {
    pub fn read(frame: &[u8]) -> Self {
        let packet = &frame[L3..];
        let (src, dst, protocol, header) = take_apart(packet);
        let message = &packet[header..];
        if let Some(field) = checksum_field(protocol) {
            let found = u16::from_be_bytes([message[field], message[field + 1]]);
            let right = l4_checksum(src.ip(), dst.ip(), protocol, message, field);
            let is_right = found == right || (protocol == UDP && (found == 0xffff && right == 0 || found == 0 && src.is_ipv4()));
            assert!(is_right, "layer 4 checksum: {found:#06x}, should be {right:#06x}");
        }
        Self { src, dst, protocol, frame: frame.to_vec(), l4: L3 + header }
    }

    pub fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.src, self.dst)
    }

    /// Layer 4 with its header.
    pub fn message(&self) -> &[u8] {
        &self.frame[self.l4..]
    }

    /// What the application said.
    pub fn payload(&self) -> &[u8] {
        let message = self.message();
        match self.protocol {
            TCP => &message[usize::from(message[12] >> 4) * 4..],
            _ => &message[8..],
        }
    }

    /// Whom the packet that an ICMP error quotes is from and to, its IPv4 header checksum found right.
    pub fn quoted(&self) -> (SocketAddr, SocketAddr) {
        let (src, dst, ..) = take_apart(&self.message()[8..]);
        (src, dst)
    }

    /// What an ICMP error quotes, as a frame whose checksums are found right.
    pub fn quoted_whole(&self) -> Self {
        Self::read(&eth(&self.message()[8..]))
    }
}

pub fn ends(src: Host, dst: Host) -> (SocketAddr, SocketAddr) {
    (src.into(), dst.into())
}

pub type Out = Result<Seen, DropReason>;

pub struct World {
    pub nat: Nat,
    pub stations: Stations,
    /// What the clock says.
    pub now: Time,
    pool: FramePool,
}

pub fn station(last: u16, limits: Limits) -> Station {
    let v4 = Ipv4Addr::new(10, 0, (last >> 8) as u8, last as u8);
    let v6 = Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
    Station { mac: UnicastMac::for_ipv4(v4.octets()), v4: Some(v4), v6, mtu: 1_500, limits, guard: AddressGuard::default() }
}

impl World {
    pub fn new() -> Self {
        Self::with(NatConfig::default())
    }

    /// A is port 1, B is port 2.
    pub fn with(config: NatConfig) -> Self {
        let (mut nat, mut stations) = (Nat::new(config, [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]), Stations::new(7));
        stations.set(1, station(2, Limits::default()));
        stations.set(2, station(3, Limits::default()));
        let IpAddr::V4(four) = V4.e else { unreachable!() };
        let IpAddr::V6(six) = V6.e else { unreachable!() };
        nat.set_addresses(&mut stations, vec![four], vec![], START);
        nat.set_addresses(&mut stations, vec![six], vec![], START);
        Self { nat, stations, now: START, pool: FramePool::new(1) }
    }

    /// Makes `e` and `e2` external addresses.
    pub fn two_addresses(&mut self) {
        let [IpAddr::V4(one), IpAddr::V4(two)] = [V4.e, V4.e2] else { unreachable!() };
        self.nat.set_addresses(&mut self.stations, vec![one, two], vec![], self.now);
        let [IpAddr::V6(one), IpAddr::V6(two)] = [V6.e, V6.e2] else { unreachable!() };
        self.nat.set_addresses(&mut self.stations, vec![one, two], vec![], self.now);
    }

    fn translate<A: Family>(&mut self, octets: &[u8], from: Option<u16>) -> Result<Vec<u8>, DropReason> {
        let mut frame = self.pool.take().unwrap();
        assert!(frame.fill(octets));
        let (frame, result) = match Packet::<A>::parse(frame, L3) {
            Ok(mut p) => {
                let result = match from {
                    Some(port) => self.nat.outbound(&mut self.stations, &mut p, port, self.now),
                    None => self.nat.inbound(&mut self.stations, &mut p, self.now),
                };
                (p.into_frame(), result)
            }
            Err((frame, reason)) => (frame, Err(reason)),
        };
        let out = frame.bytes().to_vec();
        self.pool.put(frame);
        result.map(|_| out)
    }

    /// As it comes out, checksums not looked at.
    pub fn raw(&mut self, octets: &[u8], from: Option<u16>) -> Result<Vec<u8>, DropReason> {
        if octets[12..14] == [0x08, 0x00] {
            self.translate::<Ipv4Addr>(octets, from)
        } else {
            self.translate::<Ipv6Addr>(octets, from)
        }
    }

    /// To the outside, from a port.
    pub fn out_from(&mut self, port: u16, octets: &[u8]) -> Out {
        self.raw(octets, Some(port)).map(|out| Seen::read(&out))
    }

    /// To the outside, from whose address it is.
    pub fn out(&mut self, octets: &[u8]) -> Out {
        let src = take_apart(&octets[L3..]).0.ip();
        let way = match src {
            IpAddr::V4(src) => self.stations.way(src),
            IpAddr::V6(src) => self.stations.way(src),
        };
        self.out_from(way.expect("a station's address").owner, octets)
    }

    /// From the outside.
    pub fn in_(&mut self, octets: &[u8]) -> Out {
        self.raw(octets, None).map(|out| Seen::read(&out))
    }

    /// To the outside, and in again where that is one of our own addresses, as the gateway does it.
    pub fn hairpin(&mut self, octets: &[u8]) -> Out {
        let out = self.out(octets)?;
        let is_ours = match out.dst.ip() {
            IpAddr::V4(dst) => self.nat.table().is_ours(dst),
            IpAddr::V6(dst) => self.nat.table().is_ours(dst),
        };
        if is_ours { self.in_(&out.frame) } else { Ok(out) }
    }

    /// Lets time pass; the daemon ticks more often than once a second.
    pub fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.jump(1);
        }
    }

    /// Lets time pass at once.
    pub fn jump(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        while self.nat.tick(&mut self.stations, self.now, TICK) {}
    }

    /// Publishes a range at an address, or all, for backends (port, address, first port).
    pub fn publish(
        &mut self,
        id: u32,
        protocol: u8,
        address: Option<IpAddr>,
        ports: RangeInclusive<u16>,
        backends: &[(u16, IpAddr, u16)],
    ) -> Result<(), ForwardError> {
        self.publish_from(id, protocol, address, ports, &[], backends)
    }

    /// The same, for clients of some networks only.
    pub fn publish_from(
        &mut self,
        id: u32,
        protocol: u8,
        address: Option<IpAddr>,
        ports: RangeInclusive<u16>,
        from: &[(IpAddr, u8)],
        backends: &[(u16, IpAddr, u16)],
    ) -> Result<(), ForwardError> {
        if backends[0].1.is_ipv4() {
            self.nat.publish(rule::<Ipv4Addr>(id, protocol, address, ports, from, backends))
        } else {
            self.nat.publish(rule::<Ipv6Addr>(id, protocol, address, ports, from, backends))
        }
    }

    /// All sessions of a family that are alive.
    pub fn sessions<A: Family>(&self) -> Vec<(Tuple<A>, Session<A>)> {
        let mut all = vec![];
        let table = self.nat.table::<A>();
        table.sessions.page(0, EVERYTHING, &self.stations, |original, session, _| all.push((*original, *session)));
        all
    }

    /// The phases of all sessions.
    pub fn phases(&self) -> Vec<Phase> {
        let four = self.sessions::<Ipv4Addr>().into_iter().map(|(_, session)| session.phase);
        let six = self.sessions::<Ipv6Addr>().into_iter().map(|(_, session)| session.phase);
        four.chain(six).collect()
    }

    /// How many sessions there are.
    pub fn len(&self) -> u32 {
        self.nat.table::<Ipv4Addr>().sessions.len() + self.nat.table::<Ipv6Addr>().sessions.len()
    }

    /// How many mappings there are.
    pub fn mappings(&self) -> u32 {
        self.nat.table::<Ipv4Addr>().mappings.len() + self.nat.table::<Ipv6Addr>().mappings.len()
    }

    /// The handshake of a connection from inside that keeps its port; its numbers begin at 100 there and at 5,000 here, plus the SYN.
    pub fn connect(&mut self, src: Host, dst: Host) -> SocketAddr {
        let external = self.out(&segment(src, dst, SYN, 100, 0, b"")).unwrap().src;
        let outside = (external.ip(), external.port());
        assert_eq!(self.in_(&segment(dst, outside, SYN | ACK, 5_000, 101, b"")).unwrap().dst, src.into());
        assert_eq!(self.out(&segment(src, dst, ACK, 101, 5_001, b"")).unwrap().src, external);
        external
    }
}

fn of<A: Family>(address: IpAddr) -> A {
    A::of(address).expect("of this family")
}

fn rule<A: Family>(
    id: u32,
    protocol: u8,
    address: Option<IpAddr>,
    ports: RangeInclusive<u16>,
    from: &[(IpAddr, u8)],
    backends: &[(u16, IpAddr, u16)],
) -> Rule<A> {
    let backends = backends.iter().map(|(owner, address, port)| Backend {
        owner: *owner,
        address: of(*address),
        port: *port,
        draining: false,
    });
    Rule {
        id: RuleId(id),
        protocol,
        address: address.map(of),
        first: *ports.start(),
        last: *ports.end(),
        from: from.iter().map(|(net, prefix)| (of(*net), *prefix)).collect(),
        backends: backends.collect(),
    }
}

/// An address and a port, for who gives them back.
pub fn host(end: SocketAddr) -> Host {
    (end.ip(), end.port())
}
