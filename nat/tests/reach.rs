//! Where a container may go, and who gives way when there is no room: of both uplinks, without a socket.
mod common;
use common::*;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use vswitch_nat::Gateway;
use vswitch_nat::gateway::sockets::{AnyPacket, SocketPacket};
use vswitch_nat::gateway::{GatewayConfig, Routed};
use vswitch_nat::icmp_error::IcmpError;
use vswitch_nat::packet::Packet;
use vswitch_nat::slirp::datagrams::{IDLE, Kind, Via};
use vswitch_nat::slirp::exchange::{DatagramFate, Exchange, TcpFate};
use vswitch_nat::slirp::reach::{Reach, ReachRule};
use vswitch_nat::station::{Limits, Stations};
use vswitch_switch::{DropReason, FramePool, Head, Time, UnicastMac};

const QUOTA: DatagramFate = DatagramFate::Refuse(IcmpError::Prohibited, DropReason::NatQuota);
const FULL: DatagramFate = DatagramFate::Refuse(IcmpError::Prohibited, DropReason::NatFull);

const CONFIG: GatewayConfig =
    GatewayConfig { mac: UnicastMac::for_ipv4([10, 0, 0, 1]), address: Ipv4Addr::new(10, 0, 0, 1), prefix: 16, v6: None };

fn deny(net: IpAddr, port: Option<u16>) -> Reach {
    let prefix = if net.is_ipv4() { 32 } else { 128 };
    Reach { rules: vec![ReachRule { allow: false, net, prefix, port, protocol: None }], ..Reach::default() }
}

/// The rules hold for the NAT of packets too: for who begins, not for what is under way or came in.
#[test]
fn the_nat_of_packets_obeys_the_rules() {
    for n in BOTH {
        let mut w = World::new();
        w.out(&udp((n.a, 5_000), (n.x, 53), b"")).unwrap();
        w.stations.set_reach(1, deny(n.x, Some(53)));
        w.out(&udp((n.a, 5_000), (n.x, 53), b"")).unwrap();
        assert_eq!(w.out(&udp((n.a, 5_001), (n.x, 53), b"")), Err(DropReason::Reach));
        assert_eq!(w.out(&tcp((n.a, 5_001), (n.x, 53), SYN)), Err(DropReason::Reach));
        assert!(w.out(&udp((n.a, 5_001), (n.x, 54), b"")).is_ok() && w.out(&ping((n.a, 53), n.x)).is_ok());
        assert!(w.out(&udp((n.b, 5_001), (n.x, 53), b"")).is_ok(), "another container's");
        w.stations.flush(1);
        assert_eq!(w.out(&udp((n.a, 5_000), (n.x, 53), b"")), Err(DropReason::Reach), "what was under way has ended");
    }
}

/// What a gateway makes of a container's packet.
fn route(gateway: &mut Gateway, from: u8, to: Ipv4Addr) -> Routed {
    let src = IpAddr::V4(Ipv4Addr::new(10, 0, 0, from));
    let mut octets = udp((src, 5_000), (to.into(), 80), b"?");
    octets[..6].copy_from_slice(&CONFIG.mac.mac().0);
    octets[6..12].copy_from_slice(&UnicastMac::for_ipv4([10, 0, 0, from]).mac().0);
    let mut frame = FramePool::new(1).take().unwrap();
    assert!(frame.fill(&octets));
    let head = Head::parse(frame.bytes(), None).unwrap();
    gateway.receive(frame, &head, u16::from(from) - 1, START)
}

#[test]
fn link_local_destinations_are_let_through_to_sockets_for_whom_it_is_allowed() {
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    let mut gateway = Gateway::new(CONFIG, [1, 2]);
    gateway.stations.set(1, station(2, Limits::default()));
    gateway.stations.set(2, station(3, Limits::default()));
    gateway.stations.set_reach(1, Reach { link_local: true, ..Reach::default() });
    let refused = |routed| matches!(routed, Routed::Drop(..) | Routed::Refuse(..));
    assert!(refused(route(&mut gateway, 2, metadata)), "without sockets");
    gateway.set_exchange(true);
    assert!(matches!(route(&mut gateway, 2, metadata), Routed::Socket(_)));
    assert!(refused(route(&mut gateway, 3, metadata)), "of another container");
    for address in [[127, 0, 0, 1], [0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255]] {
        assert!(!matches!(route(&mut gateway, 2, address.into()), Routed::Socket(_)), "{address:?}");
    }
}

/// An exchange with so many sockets, and containers on ports 1 (A), 2 (B), ...
struct Bench {
    exchange: Exchange,
    stations: Stations,
    now: Time,
}

impl Bench {
    fn new(sockets: usize) -> Self {
        let (mut exchange, mut stations) = (Exchange::new([1, 2]), Stations::new(7));
        exchange.set_limit(sockets);
        for port in 1..8 {
            stations.set(port, station(port + 1, Limits::default()));
        }
        Self { exchange, stations, now: START }
    }

    fn packet(octets: &[u8]) -> Packet<Ipv4Addr> {
        let mut frame = FramePool::new(1).take().unwrap();
        assert!(frame.fill(octets));
        Packet::parse(frame, L3).unwrap()
    }

    fn from(src: IpAddr) -> (u16, UnicastMac) {
        let IpAddr::V4(address) = src else { panic!("{src}") };
        (u16::from(address.octets()[3]) - 1, UnicastMac::for_ipv4(address.octets()))
    }

    fn udp(&mut self, src: IpAddr, sport: u16, dport: u16) -> DatagramFate {
        let p = Self::packet(&udp((src, sport), (V4.x, dport), b"?"));
        self.exchange.datagram(&mut self.stations, &CONFIG, &p, Self::from(src), self.now)
    }

    fn tcp(&mut self, src: IpAddr, sport: u16) -> TcpFate {
        let p = Self::packet(&tcp((src, sport), (V4.x, 80), SYN));
        self.exchange.tcp(&mut self.stations, &CONFIG, &p, Self::from(src), self.now)
    }

    /// From the container on a port.
    fn udp_of(&mut self, container: u16, sport: u16) -> DatagramFate {
        self.udp(IpAddr::V4(Ipv4Addr::new(10, 0, 0, container as u8 + 1)), sport, 7)
    }

    /// The same, and an answer to it.
    fn answered(&mut self, container: u16, sport: u16) {
        let fate = self.udp_of(container, sport);
        let DatagramFate::Open(slot, to) = fate else { panic!("{sport}: {fate:?}") };
        assert!(self.exchange.arrived(&CONFIG, slot, to, 1, self.now).is_some());
    }

    fn has(&self, port: u16) -> bool {
        self.exchange.datagrams.mappings().any(|(_, mapping)| mapping.kind == Kind::Udp && mapping.inside.port() == port)
    }
}

/// Who is handed over is held to what there may be here: the rest ends.
#[test]
fn what_is_adopted_is_held_to_the_limit() {
    let mut there = Bench::new(64);
    let flows: Vec<_> = (0..3).map(|number| there.tcp(V4.a, 5_000 + number)).collect();
    let mut here = Bench::new(3);
    let mut kept = 0;
    for fate in flows {
        let TcpFate::Connect(slot, _) = fate else { panic!("{fate:?}") };
        let flow = there.exchange.flows.get(slot).unwrap().clone();
        kept += usize::from(here.exchange.adopt(&mut here.stations, flow).is_some());
    }
    assert_eq!(kept, 3);
    let owner = here.stations.owner(2);
    let inside = std::net::SocketAddr::new(V4.b, 6_000);
    assert_eq!(here.exchange.adopt_mapping(&mut here.stations, owner, Kind::Udp, inside), None);
    here.exchange.set_limit(4);
    assert!(here.exchange.adopt_mapping(&mut here.stations, owner, Kind::Udp, inside).is_some());
    let mut another = there.exchange.flows.iter().next().unwrap().1.clone();
    another.inside = std::net::SocketAddr::new(V4.a, 7_000);
    assert_eq!(here.exchange.adopt(&mut here.stations, another.clone()), None);
    here.exchange.set_limit(5);
    assert!(here.exchange.adopt(&mut here.stations, another).is_some());
    // What is there goes on, whatever the limit becomes.
    here.exchange.set_limit(1);
    assert_eq!(here.exchange.flows.len(), 4);
}

#[test]
fn one_container_leaves_a_quarter_of_the_sockets_to_the_others() {
    let mut bench = Bench::new(64);
    let taken = (0..64).take_while(|port| matches!(bench.tcp(V4.a, 1_000 + port), TcpFate::Connect(..))).count();
    assert_eq!(taken, 48);
    assert_eq!(bench.tcp(V4.a, 2_000), TcpFate::Refuse(IcmpError::Prohibited, DropReason::NatQuota));
    assert_eq!(bench.udp(V4.a, 2_000, 7), QUOTA);
    assert!(matches!(bench.tcp(V4.b, 1_000), TcpFate::Connect(..)) && matches!(bench.udp(V4.b, 1_000, 7), DatagramFate::Open(..)));
}

/// First what nobody answered, longest idle first; then what is idle; never a TCP flow.
#[test]
fn idle_datagram_sessions_give_way_to_new_sockets_in_their_order() {
    let mut bench = Bench::new(64);
    for port in 0..40 {
        assert!(matches!(bench.tcp(V4.a, 1_000 + port), TcpFate::Connect(..)));
    }
    for port in 100..112 {
        bench.answered(2, port);
    }
    for port in 200..212 {
        assert!(matches!(bench.udp_of(3 + port % 2, port), DatagramFate::Open(..)));
        bench.now = bench.now.after(Duration::from_millis(1));
    }
    // Of those that nobody answered, the first is in use again.
    assert!(matches!(bench.udp_of(3, 200), DatagramFate::Send(Via::Mapping(_), _)));
    bench.answered(5, 1);
    assert!(bench.has(200) && !bench.has(201) && bench.has(202));
    assert_eq!(bench.exchange.datagrams.take_given_way().len(), 1, "its socket is to be closed");
    for port in 2..12 {
        bench.answered(5, port);
    }
    assert!(bench.has(200) && !bench.has(211));
    bench.answered(6, 12);
    assert!(!bench.has(200) && (100..112).all(|port| bench.has(port)));
    assert_eq!(bench.exchange.flows.len(), 40);
}

#[test]
fn what_is_answered_and_in_use_does_not_give_way() {
    let mut bench = Bench::new(8);
    for port in 0..3 {
        assert!(matches!(bench.tcp(V4.a, 1_000 + port), TcpFate::Connect(..)));
    }
    for (container, port) in [(2, 100), (2, 101), (2, 102), (3, 1), (3, 2)] {
        bench.answered(container, port);
    }
    assert_eq!(bench.udp_of(4, 1), FULL);
    assert_eq!(bench.tcp(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)), 1), TcpFate::Refuse(IcmpError::Prohibited, DropReason::NatFull));
    bench.now = bench.now.after(IDLE);
    assert!(matches!(bench.udp_of(4, 1), DatagramFate::Open(..)) && !bench.has(100) && bench.has(101));
    assert_eq!(bench.exchange.flows.len(), 3);
}

/// The gateway gives a packet to the sockets in the shape in which it came.
#[test]
fn a_packet_for_a_socket_is_whole() {
    let mut gateway = Gateway::new(CONFIG, [1, 2]);
    gateway.stations.set(1, station(2, Limits::default()));
    gateway.set_exchange(true);
    let Routed::Socket(SocketPacket { packet: AnyPacket::V4(p), ingress: 1, .. }) =
        route(&mut gateway, 2, Ipv4Addr::new(203, 0, 113, 5))
    else {
        panic!("not for a socket")
    };
    assert_eq!(SocketAddr::new(p.tuple().dst.into(), p.tuple().dport), "203.0.113.5:80".parse().unwrap());
}
