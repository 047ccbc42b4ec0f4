//! A question at the gateway's port 53 and its answer, nanoseconds each, with as many containers as there are ports.
#![allow(missing_docs)]
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use vswitch_nat::gateway::{Gateway, GatewayConfig, Routed, Side};
use vswitch_nat::packet::tcp::{ACK, PSH, SYN};
use vswitch_nat::packet::{Packet, Transport};
use vswitch_nat::slirp::tcp::{Emit, Offer};
use vswitch_nat::slirp::wire::{Ip, Link, tcp_headers, udp_headers, write_tcp, write_udp};
use vswitch_nat::station::{AddressGuard, Limits, Station};
use vswitch_switch::{FrameBuf, FrameMeta, FramePool, Head, Time, UnicastMac};

const GATEWAY: [u8; 4] = [10, 88, 0, 1];
const PORTS: u16 = 4_095;
/// Who asks.
const PORT: u16 = PORTS / 2;
const ETHERNET: usize = 14;
const A: u16 = 1;
const PTR: u16 = 12;

fn address(port: u16) -> [u8; 4] {
    let [high, low] = (port + 1).to_be_bytes();
    [10, 88, high, low]
}

fn ends() -> (SocketAddr, SocketAddr) {
    (SocketAddr::from((address(PORT), 40_000)), SocketAddr::from((GATEWAY, 53)))
}

fn link() -> Link {
    Link { dst: UnicastMac::for_ipv4(GATEWAY), src: UnicastMac::for_ipv4(address(PORT)) }
}

/// As a resolver asks that knows EDNS.
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    message
}

/// Octets of a frame, and what is known of it besides: a container leaves its sum to us.
struct Asked {
    octets: Vec<u8>,
    meta: FrameMeta,
    head: Head,
}

impl Asked {
    fn of(frame: &FrameBuf) -> Self {
        let head = Head::parse(frame.bytes(), None).expect("a frame");
        Self { octets: frame.bytes().to_vec(), meta: frame.meta, head }
    }
}

struct World {
    gateway: Gateway,
    pool: FramePool,
    now: Time,
}

impl World {
    fn new() -> Self {
        let config = GatewayConfig { mac: UnicastMac::for_ipv4(GATEWAY), address: Ipv4Addr::from(GATEWAY), prefix: 16, v6: None };
        let mut gateway = Gateway::new(config, [1, 2]);
        for port in 1..=PORTS {
            let (v4, mac) = (Some(address(port).into()), UnicastMac::for_ipv4(address(port)));
            let (limits, guard) = (Limits::default(), AddressGuard::default());
            gateway.stations.set(port, Station { mac, v4, v6: None, mtu: 1_500, limits, guard });
            gateway.stations.set_name(port, &format!("container-{port}"));
        }
        gateway.set_exchange(true);
        gateway.set_resolvers(&[SocketAddr::from(([192, 0, 2, 1], 53))]);
        Self { gateway, pool: FramePool::new(2), now: Time::from_secs(1) }
    }

    fn datagram(&mut self, message: &[u8]) -> Asked {
        let mut frame = self.pool.take().expect("a buffer");
        let headers = udp_headers(false);
        assert!(frame.begin(headers + message.len()));
        frame.bytes_mut()[headers..].copy_from_slice(message);
        assert!(write_udp(&mut frame, link(), ends(), message.len(), None, Ip::WHOLE));
        let asked = Asked::of(&frame);
        self.pool.put(frame);
        asked
    }

    fn segment(&mut self, (seq, ack, flags): (u32, u32, u8), payload: &[u8]) -> Asked {
        let mut frame = self.pool.take().expect("a buffer");
        let headers = tcp_headers(false);
        assert!(frame.begin(headers + payload.len()));
        frame.bytes_mut()[headers..].copy_from_slice(payload);
        let offer = (flags == SYN).then_some(Offer { mss: 1_460, scale: Some(7) });
        let emit = Emit { seq, ack, flags, window: 0xffff, offer };
        assert!(write_tcp(&mut frame, link(), ends().0, ends().1, &emit, payload.len(), 1_460));
        let asked = Asked::of(&frame);
        self.pool.put(frame);
        asked
    }

    fn receive(&mut self, asked: &Asked) -> Routed {
        let mut frame = self.pool.take().expect("a buffer");
        assert!(frame.fill(&asked.octets));
        frame.meta = asked.meta;
        self.gateway.receive(frame, &asked.head, PORT, black_box(self.now))
    }

    fn consume(&mut self, asked: &Asked) {
        let Routed::Consumed(frame) = self.receive(asked) else { panic!("an answer, or none") };
        self.pool.put(frame);
    }

    fn reply(&mut self, asked: &Asked) {
        let Routed::Reply(Side::Inside, frame) = self.receive(asked) else { panic!("no answer") };
        self.pool.put(frame);
    }

    /// The answer of a resolver to a question that waits for it.
    fn resolve(&mut self) {
        let slot = self.gateway.names.expire(self.now).expect("a question");
        let asked = self.gateway.names.next(slot, self.now).expect("a resolver").message.to_vec();
        let mut answer = asked[..asked.len() - 11].to_vec();
        (answer[2], answer[3], answer[7], answer[11]) = (0x81, 0x80, 2, 0);
        for last in [1, 2] {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, last]);
        }
        self.gateway.names.answered(slot, &mut answer, self.now);
    }

    /// What a connection is sent, until there is no more: octets of payload, and the number of the last SYN.
    fn read(&mut self) -> (u32, u32) {
        let (mut len, mut syn) = (0, 0);
        while let Some(frame) = self.gateway.poll_streams(&mut self.pool, self.now) {
            let packet = Packet::<Ipv4Addr>::parse(frame, ETHERNET).expect("a packet");
            let Transport::Tcp(segment) = packet.transport() else { panic!("no segment") };
            (len, syn) = (len + segment.len, if segment.has(SYN) { segment.seq } else { syn });
            self.pool.put(packet.into_frame());
        }
        (len, syn)
    }
}

fn datagrams(c: &mut Criterion) {
    let mut world = World::new();
    let [_, _, high, low] = address(7);
    let cached = world.datagram(&question("www.example.com", A));
    world.consume(&cached);
    world.resolve();
    for (name, asked) in [
        ("internal", world.datagram(&question("container-7.vswitch.internal", A))),
        ("pointer", world.datagram(&question(&format!("{low}.{high}.88.10.in-addr.arpa"), PTR))),
        ("nobody", world.datagram(&question("nobody.vswitch.internal", A))),
        ("cached", cached),
    ] {
        c.bench_function(&format!("names/{name}"), |b| b.iter(|| world.reply(&asked)));
    }
}

/// A question by a connection that is there, and its answer's frame: the next question acknowledges the last answer.
fn streams(c: &mut Criterion) {
    const FIRST: u32 = 1_000;
    let mut world = World::new();
    let syn = world.segment((FIRST, 0, SYN), &[]);
    world.consume(&syn);
    let (_, first) = world.read();
    let (mut seq, mut ack) = (FIRST + 1, first.wrapping_add(1));
    let message = question("container-7.vswitch.internal", A);
    let payload = [&(message.len() as u16).to_be_bytes(), &message[..]].concat();
    let mut asked = world.segment((seq, ack, ACK | PSH), &payload);
    let place = ETHERNET + 20 + 4;
    c.bench_function("names/stream", |b| {
        b.iter(|| {
            asked.octets[place..place + 4].copy_from_slice(&seq.to_be_bytes());
            asked.octets[place + 4..place + 8].copy_from_slice(&ack.to_be_bytes());
            world.consume(&asked);
            let (len, _) = world.read();
            assert!(len > 0, "an answer");
            (seq, ack) = (seq.wrapping_add(payload.len() as u32), ack.wrapping_add(len));
        });
    });
}

criterion_group!(benches, datagrams, streams);
criterion_main!(benches);
