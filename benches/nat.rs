//! The NAT alone: packets of established connections and new sessions, nanoseconds each; the memory of a million sessions, which lie in
//! large pages, as the daemon's do. What it costs with everything around it, `datapath` times.
#![allow(missing_docs)]
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use vswitch_io::sys::tables::Tables;
use vswitch_nat::checksum;
use vswitch_nat::flow::protocol;
use vswitch_nat::nat::{Nat, NatConfig, SESSIONS_V4};
use vswitch_nat::packet::{Packet, tcp};
use vswitch_nat::station::{AddressGuard, Limits, Station, Stations};
use vswitch_nat::tcp_state::Direction;
use vswitch_switch::{FrameBuf, FramePool, Time, UnicastMac};

#[global_allocator]
static ALLOCATOR: Tables = Tables;

const INSIDE: [u8; 4] = [10, 88, 0, 2];
const EXTERNAL: [u8; 4] = [198, 51, 100, 2];
const ETHERNET: usize = 14;
/// The container's port of the switch.
const PORT: u16 = 1;
/// Packets timed at once: as many as a packet socket is read at a time. They are made before, not timed.
const BATCH: u64 = 32;
/// Connections to each remote host; the next ones go to the next host.
const TO_ONE_HOST: u64 = 60_000;
const MILLION: u64 = 1 << 20;
/// New sessions until the table is emptied again, not timed. Each has an inside port of its own.
const NEW: u64 = 32_768;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

/// The session of that number: the container's port, and the remote host's address.
fn flow(number: u64) -> (u16, [u8; 4]) {
    (1_024 + (number % TO_ONE_HOST) as u16, [203, 0, 113, (number / TO_ONE_HOST) as u8])
}

/// What of a batch is timed besides its translation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    Nothing,
    /// As from a TAP: one packet is known at a time.
    Parsing,
    /// As from a packet socket: all of the batch are looked up ahead, by the tuples that parsing has found (there they are guessed from the
    /// octets, which is not timed here).
    LookingAhead,
}

/// A frame of a session. TCP: no payload, each side's first octet has the number 2. UDP: 20 octets.
fn frame(number: u64, way: Way, number_of_protocol: u8, flags: u8) -> [u8; 54] {
    const REMOTE_PORT: u16 = 443;
    let (own, remote) = flow(number);
    let (src, dst, sport, dport) = match way {
        Way::Out => (INSIDE, remote, own, REMOTE_PORT),
        Way::In => (remote, EXTERNAL, REMOTE_PORT, own),
    };
    let mut octets = [0; 54];
    (octets[12], octets[14], octets[17], octets[22]) = (8, 0x45, 40, 64);
    octets[23] = number_of_protocol;
    octets[26..30].copy_from_slice(&src);
    octets[30..34].copy_from_slice(&dst);
    let sum = checksum::checksum(&octets[ETHERNET..34]);
    octets[24..26].copy_from_slice(&sum.to_be_bytes());
    octets[34..36].copy_from_slice(&sport.to_be_bytes());
    octets[36..38].copy_from_slice(&dport.to_be_bytes());
    if number_of_protocol == protocol::UDP {
        // An increment does not ask whether the checksum is right, only whether there is one.
        (octets[39], octets[41]) = (20, 1);
        return octets;
    }
    octets[41] = if flags & tcp::SYN == 0 { 2 } else { 1 };
    octets[45] = if flags & tcp::ACK == 0 { 0 } else { 2 };
    (octets[46], octets[47], octets[48], octets[49]) = (0x50, flags, 0xff, 0xff);
    octets
}

/// A NAT, the container behind it, and buffers for a batch.
struct World {
    nat: Nat,
    stations: Stations,
    pool: FramePool,
    packets: Vec<Packet<Ipv4Addr>>,
    now: Time,
    random: u64,
}

impl World {
    fn new(sessions: u32) -> Self {
        let mut nat = Nat::new(NatConfig { sessions_v4: sessions, sessions_v6: 16, ..NatConfig::default() }, [1, 2]);
        let mut stations = Stations::new(1);
        let limits = Limits { sessions: u32::MAX, ports: u32::MAX };
        let mac = UnicastMac::for_ipv4(INSIDE);
        stations.set(PORT, Station { mac, v4: Some(INSIDE.into()), v6: None, mtu: 1_500, limits, guard: AddressGuard::default() });
        let now = Time::from_secs(1);
        nat.set_addresses::<Ipv4Addr>(&mut stations, vec![EXTERNAL.into()], Vec::new(), now);
        let pool = FramePool::new(BATCH as usize);
        let random = 0x9e37_79b9_7f4a_7c15;
        Self { nat, stations, pool, packets: Vec::with_capacity(BATCH as usize), now, random }
    }

    /// With so many established TCP connections.
    fn established(count: u64) -> Self {
        let mut world = Self::new(SESSIONS_V4.max(count as u32));
        for number in 0..count {
            world.one(Way::Out, &frame(number, Way::Out, protocol::TCP, tcp::SYN));
            world.one(Way::In, &frame(number, Way::In, protocol::TCP, tcp::SYN | tcp::ACK));
            world.one(Way::Out, &frame(number, Way::Out, protocol::TCP, tcp::ACK));
        }
        assert_eq!(u64::from(world.nat.table::<Ipv4Addr>().sessions.len()), count);
        world
    }

    fn one(&mut self, way: Way, octets: &[u8]) {
        let mut packet = parsed(self.filled(octets));
        self.translate(way, &mut packet);
        self.pool.put(packet.into_frame());
    }

    fn filled(&mut self, octets: &[u8]) -> FrameBuf {
        let mut frame = self.pool.take().expect("as many buffers as a batch has packets");
        assert!(frame.fill(octets));
        frame
    }

    #[inline]
    fn translate(&mut self, way: Way, packet: &mut Packet<Ipv4Addr>) {
        let result = match way {
            Way::Out => self.nat.outbound(&mut self.stations, packet, PORT, self.now),
            Way::In => self.nat.inbound(&mut self.stations, packet, self.now),
        };
        assert!(result.is_ok(), "{result:?}");
    }

    /// xorshift64: any spread will do.
    fn random(&mut self, count: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % count
    }

    /// Translates a batch of packets; says how long that takes.
    fn batch(&mut self, way: Way, with: With, frames: &mut Vec<FrameBuf>) -> Duration {
        let mut packets = std::mem::take(&mut self.packets);
        if with != With::Parsing {
            packets.extend(frames.drain(..).map(parsed));
        }
        let start = Instant::now();
        packets.extend(frames.drain(..).map(parsed));
        if with == With::LookingAhead && self.nat.is_larger_than_cache::<Ipv4Addr>() {
            let likely = if way == Way::Out { Direction::Original } else { Direction::Reply };
            let tuples: [_; BATCH as usize] = std::array::from_fn(|at| *packets[at].tuple());
            self.nat.fetch(&tuples, likely);
        }
        for packet in &mut packets {
            self.translate(way, black_box(packet));
        }
        let elapsed = start.elapsed();
        packets.drain(..).for_each(|packet| self.pool.put(packet.into_frame()));
        self.packets = packets;
        elapsed
    }

    /// `count` packets at least, of random ones of `sessions`; the time of just so many.
    fn packets(&mut self, way: Way, with: With, sessions: u64, count: u64) -> Duration {
        let batches = count.div_ceil(BATCH);
        let mut frames = Vec::with_capacity(BATCH as usize);
        let mut elapsed = Duration::ZERO;
        for _ in 0..batches {
            for _ in 0..BATCH {
                let number = self.random(sessions);
                frames.push(self.filled(&frame(number, way, protocol::TCP, tcp::ACK)));
            }
            elapsed += self.batch(way, with, &mut frames);
        }
        elapsed.mul_f64(count as f64 / (batches * BATCH) as f64)
    }

    /// First packets of `count` sessions at least, likewise.
    fn first_packets(&mut self, protocol: u8, count: u64) -> Duration {
        let batches = count.div_ceil(BATCH);
        let mut frames = Vec::with_capacity(BATCH as usize);
        let mut elapsed = Duration::ZERO;
        for batch in 0..batches {
            let first = batch * BATCH % NEW;
            if first == 0 {
                self.empty();
            }
            for number in first..first + BATCH {
                frames.push(self.filled(&frame(number, Way::Out, protocol, tcp::SYN)));
            }
            elapsed += self.batch(Way::Out, With::Nothing, &mut frames);
        }
        elapsed.mul_f64(count as f64 / (batches * BATCH) as f64)
    }

    /// Ends all sessions, and the mappings that are held after them.
    fn empty(&mut self) {
        self.nat.end_where::<Ipv4Addr>(&mut self.stations, self.now, |_, _| true);
        self.now = self.now.after(self.nat.config().timeouts.port_hold * 2);
        self.nat.tick(&mut self.stations, self.now, u32::MAX);
        let table = self.nat.table::<Ipv4Addr>();
        assert!(table.sessions.is_empty() && table.mappings.is_empty());
    }
}

fn parsed(frame: FrameBuf) -> Packet<Ipv4Addr> {
    Packet::parse(frame, ETHERNET).map_err(|(_, reason)| reason).expect("a good packet")
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn packets(c: &mut Criterion) {
    let before = resident();
    let million = World::established(MILLION);
    let grown = resident().saturating_sub(before) as f64 * 1_024.0 / 1e6;
    println!("nat: resident memory of {MILLION} IPv4 sessions: {grown:.0} MB (bar: at most 200)\n");
    let mut group = c.benchmark_group("nat");
    for (sessions, mut world) in [(1_024, World::established(1_024)), (65_536, World::established(65_536)), (MILLION, million)] {
        for (way, name) in [(Way::Out, "outbound"), (Way::In, "inbound")] {
            for (with, said) in [(With::Nothing, ""), (With::Parsing, ", parsed too"), (With::LookingAhead, ", looking ahead")] {
                group.bench_function(format!("{name}, {sessions} sessions{said}"), |b| {
                    b.iter_custom(|count| world.packets(way, with, sessions, count));
                });
            }
        }
    }
    group.finish();
}

fn sessions(c: &mut Criterion) {
    let mut group = c.benchmark_group("nat");
    let mut world = World::new(SESSIONS_V4);
    for (protocol, name) in [(protocol::UDP, "new session, UDP and its mapping"), (protocol::TCP, "new session, TCP")] {
        // Once through all of the memory.
        world.first_packets(protocol, NEW);
        group.bench_function(name, |b| b.iter_custom(|count| world.first_packets(protocol, count)));
        world.empty();
    }
    group.finish();
}

criterion_group!(benches, packets, sessions);
criterion_main!(benches);
