//! Much of everything: what a NAT on a busy machine must bear, in virtual time.
mod common;
use common::*;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use vswitch_nat::nat::{Nat, NatConfig, SESSIONS_V4};
use vswitch_nat::packet::Packet;
use vswitch_nat::station::{Limits, Stations};
use vswitch_nat::tcp_state::Phase;
use vswitch_switch::{DropReason, FramePool, Time};

/// Connections that begin in a second.
const RATE: u32 = 2_000;
/// Remotes that they go to by turns.
const REMOTES: u32 = 200;
/// The container's ports are the ephemeral ones of Linux, by turns.
const FIRST_PORT: u32 = 32_768;
const PORTS: u32 = 28_232;

fn remote(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, (number % REMOTES) as u8 + 1))
}

/// A bench without copies: a frame is a template with ports, flags and numbers written into it. Its TCP checksum is wrong then, which a
/// NAT leaves as it is (N77).
struct Bench {
    nat: Nat,
    stations: Stations,
    pool: FramePool,
    there: Vec<Vec<u8>>,
    back: Vec<Vec<u8>>,
}

impl Bench {
    fn new() -> Self {
        let World { nat, stations, .. } = World::new();
        let syn = |src, dst| tcp((src, 0), (dst, 0), 0);
        let there = (0..REMOTES).map(|number| syn(V4.a, remote(number))).collect();
        let back = (0..REMOTES).map(|number| syn(remote(number), V4.e)).collect();
        Self { nat, stations, pool: FramePool::new(1), there, back }
    }

    /// Sends a segment, out or in, and gives its source port as it is then, or its destination port.
    fn send(
        &mut self,
        number: u32,
        out: bool,
        ports: [u16; 2],
        flags: u8,
        [seq, ack]: [u32; 2],
        now: Time,
    ) -> Result<u16, DropReason> {
        let templates = if out { &mut self.there } else { &mut self.back };
        let template = &mut templates[(number % REMOTES) as usize];
        let l4 = &mut template[L3 + 20..];
        l4[..2].copy_from_slice(&ports[0].to_be_bytes());
        l4[2..4].copy_from_slice(&ports[1].to_be_bytes());
        l4[4..8].copy_from_slice(&seq.to_be_bytes());
        l4[8..12].copy_from_slice(&ack.to_be_bytes());
        l4[13] = flags;
        let mut frame = self.pool.take().unwrap();
        assert!(frame.fill(template));
        let mut p = Packet::<Ipv4Addr>::parse(frame, L3).unwrap();
        let result = if out {
            self.nat.outbound(&mut self.stations, &mut p, 1, now).map(|_| p.tuple().sport)
        } else {
            self.nat.inbound(&mut self.stations, &mut p, now).map(|_| p.tuple().dport)
        };
        self.pool.put(p.into_frame());
        result
    }

    /// A whole connection: handshake, and closed by both sides.
    fn connect(&mut self, number: u32, now: Time) {
        let port = (FIRST_PORT + number % PORTS) as u16;
        let out = [port, 80];
        let external = self.send(number, true, out, SYN, [100, 0], now).unwrap_or_else(|reason| panic!("{number}: {reason:?}"));
        let back = [80, external];
        assert_eq!(self.send(number, false, back, SYN | ACK, [5_000, 101], now), Ok(port), "{number}");
        self.send(number, true, out, ACK, [101, 5_001], now).unwrap();
        self.send(number, false, back, FIN | ACK, [5_001, 101], now).unwrap();
        self.send(number, true, out, FIN | ACK, [101, 5_002], now).unwrap();
        self.send(number, false, back, ACK, [5_002, 102], now).unwrap();
    }
}

/// What is over lives for 240 s, which is 480,000 sessions: the table is full of it and gives it up, the oldest first. Each pair of port and
/// remote is used again after 353 s.
#[test]
fn one_container_begins_2_000_connections_a_second_for_ten_minutes_and_none_is_refused() {
    const SECONDS: u32 = 600;
    let mut bench = Bench::new();
    for number in 0..SECONDS * RATE {
        let now = START.after(Duration::from_secs(1) / RATE * number);
        bench.connect(number, now);
        if number % 20 == 0 {
            bench.nat.tick(&mut bench.stations, now, 64);
        }
    }
    let counts = bench.nat.counts();
    assert_eq!((counts.begun, counts.invalid), (1_200_000, 0));
    assert_eq!((counts.reclaimed, counts.ended), (1_200_000 - u64::from(SESSIONS_V4), 0));
    assert_eq!(bench.stations.usage(1), (0, 0), "what is over counts for no quota");
}

#[test]
fn n58_a_container_with_100_000_flows_is_refused_and_another_is_not() {
    let mut w = World::new();
    let (mut begun, mut refused) = (0, 0);
    // In use, not half-open: nothing to give up.
    for number in 0..100_000_u32 {
        let src = (V4.a, (1_024 + number / REMOTES) as u16);
        let to = (remote(number), 80);
        match w.out(&tcp(src, to, ACK)) {
            Ok(_) => begun += 1,
            Err(reason) => {
                assert_eq!(reason, DropReason::NatQuota);
                refused += 1;
            }
        }
    }
    assert_eq!((begun, refused), (65_536, 34_464));
    assert_eq!(w.stations.usage(1), (65_536, 0));
    for number in 0..1_000 {
        let e = host(w.connect((V4.b, 5_000 + number), (V4.x, 80)));
        assert_eq!(w.in_(&segment((V4.x, 80), e, ACK, 5_001, 101, b"")).unwrap().dst, at(V4.b, 5_000 + number));
        assert!(w.out(&udp((V4.b, 5_000 + number), (V4.y, 7), b"")).is_ok());
    }
    assert_eq!(w.nat.counts().reclaimed, 0);
}

#[test]
fn n58_a_container_that_scans_fills_its_own_quota_with_the_last_it_sent() {
    let mut w = World::new();
    w.stations.set(1, station(2, Limits { sessions: 1_000, ..Limits::default() }));
    let e = host(w.connect((V4.a, 40_000), (V4.x, 443)));
    for number in 0..20_000_u32 {
        assert!(w.out(&tcp((V4.a, (1_024 + number / REMOTES) as u16), (remote(number), 22), SYN)).is_ok());
    }
    assert_eq!((w.stations.usage(1).0, w.nat.counts().reclaimed), (1_000, 19_001));
    assert_eq!(w.phases().iter().filter(|phase| **phase == Phase::TcpEstablished).count(), 1);
    assert!(w.in_(&segment((V4.x, 443), e, ACK, 5_001, 101, b"")).is_ok(), "what is in use stays");
}

#[test]
fn n47_a_table_full_of_connections_in_use_refuses_and_keeps_them() {
    let mut w = World::with(NatConfig { sessions_v4: 5_000, ..NatConfig::default() });
    for number in 0..5_000_u32 {
        w.out(&tcp((V4.a, (1_024 + number / REMOTES) as u16), (remote(number), 80), ACK)).unwrap();
    }
    for number in 0..1_000 {
        assert_eq!(w.out(&tcp((V4.b, 5_000 + number), (V4.x, 80), SYN)), Err(DropReason::NatFull));
    }
    for number in 0..5_000_u32 {
        assert!(w.in_(&tcp((remote(number), 80), (V4.e, (1_024 + number / REMOTES) as u16), ACK)).is_ok());
    }
    assert_eq!((w.len(), w.nat.counts().reclaimed), (5_000, 0));
}
