//! The gateway's DHCP server with clients that say anything, and a daemon that answers it from the table of addresses.
//!
//! A command is an octet and what it takes: a message with fields of choice, options as they come, octets as a message or as a frame, time,
//! the daemon's turn, a port that goes. Whatever comes: an answer is well formed and goes to who asked; an address is acknowledged to one
//! hardware address at a time, and only while the table has it so; nothing grows beyond its bound.
use super::Commands;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;
use vswitch_nat::checksum;
use vswitch_nat::gateway::dhcp::{BINDINGS, LEASE, LeaseNews, WAITING};
use vswitch_nat::gateway::{Gateway, GatewayConfig, Routed, Side};
use vswitch_nat::ipam::{Holder, Ipam, Use};
use vswitch_nat::station::{AddressGuard, Limits, Station};
use vswitch_switch::{FramePool, Head, Time, UnicastMac};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// The subnet has room for fewer than ask.
const PREFIX: u8 = 28;
const PORTS: u16 = 3;
const ETHERNET: usize = 14;
const HEADERS: usize = ETHERNET + 20 + 8;
const FIXED: usize = 240;
const OFFERED: Duration = Duration::from_secs(120);

fn address(last: u8) -> Ipv4Addr {
    if last == 0xff { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::new(10, 88, 0, last & 0x1f) }
}

fn container(port: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 0, 1 + port as u8)
}

/// The container's own, or one of those behind it.
fn mac(port: u16, number: u8) -> UnicastMac {
    match number & 7 {
        0..=2 => UnicastMac::for_ipv4(container(port).octets()),
        other => UnicastMac::for_ipv4([1, 1, 1, other]),
    }
}

struct World {
    gateway: Gateway,
    ipam: Ipam,
    pool: FramePool,
    now: Time,
    /// Who was told that he has which, and until when.
    given: BTreeMap<Ipv4Addr, (UnicastMac, Time)>,
}

impl World {
    fn new() -> Self {
        let config = GatewayConfig { mac: UnicastMac::for_ipv4(GATEWAY.octets()), address: GATEWAY, prefix: PREFIX, v6: None };
        let (ipam, now) = (Ipam::new(GATEWAY, PREFIX), Time::from_secs(1_000));
        let mut world = Self { gateway: Gateway::new(config, [1, 2]), ipam, pool: FramePool::new(2), now, given: BTreeMap::new() };
        for port in 1..=PORTS {
            world.attach(port);
        }
        world
    }

    fn attach(&mut self, port: u16) {
        let v4 = container(port);
        let station = Station {
            mac: mac(port, 0),
            v4: Some(v4),
            v6: None,
            mtu: 1_400,
            limits: Limits::default(),
            guard: AddressGuard::default(),
        };
        if self.ipam.check(v4, &[Holder::Name(format!("c{port}"))]).is_ok() {
            self.ipam.hold(v4, Holder::Name(format!("c{port}")), None);
            self.gateway.stations.set(port, station);
            self.gateway.stations.set_name(port, "web");
        }
    }

    fn detach(&mut self, port: u16) {
        let bound: Vec<_> = self.gateway.dhcp.bindings().filter(|(of, ..)| *of == port).map(|(_, _, address, _)| address).collect();
        self.gateway.forget(port);
        for address in bound.into_iter().chain([container(port)]) {
            self.ipam.release(address, self.now);
            self.given.remove(&address);
        }
    }

    /// What `cli/src/daemon/leases.rs` does.
    fn daemon(&mut self) {
        while let Some(news) = self.gateway.dhcp.news() {
            match news {
                LeaseNews::Wanted { port, mac, requested } => {
                    let holders = [Holder::Mac(mac)];
                    let wanted = requested.filter(|address| self.ipam.check(*address, &holders).is_ok());
                    let Ok(address) = wanted.map_or_else(|| self.ipam.choose(&holders), Ok) else { continue };
                    let until = self.now.after(OFFERED);
                    if self.gateway.dhcp.bind(port, mac, address, until) {
                        self.ipam.hold(address, Holder::Mac(mac), Some(until));
                    }
                }
                LeaseNews::Renewed { address, until } => drop(self.ipam.extend(address, Some(until))),
                LeaseNews::Released { address } => {
                    self.ipam.release(address, self.now);
                    self.given.remove(&address);
                }
                LeaseNews::Declined { address, .. } => {
                    if matches!(self.ipam.get(address), Some((Holder::Mac(_), Use::Held { .. }))) {
                        self.ipam.decline(address, self.now);
                        self.given.remove(&address);
                    }
                }
            }
        }
        for address in self.ipam.expire(self.now) {
            self.gateway.dhcp.unbind(address);
        }
        while let Some(routed) = self.gateway.poll_output(&mut self.pool, self.now) {
            let Routed::Generated(Side::Inside, frame) = routed else { panic!("{routed:?}") };
            self.judge(frame.bytes(), None);
            self.pool.put(frame);
        }
        self.bounds();
    }

    fn bounds(&self) {
        assert!(self.gateway.dhcp.bindings().count() <= BINDINGS && self.pool.outstanding() == 0);
        let held = self.ipam.usage().held + self.ipam.usage().declined;
        assert!(held <= self.ipam.usage().hosts);
    }

    fn hear(&mut self, port: u16, octets: &[u8]) {
        let Ok(head) = Head::parse(octets, None) else { return };
        let Some(mut frame) = self.pool.take() else { unreachable!("all buffers are back") };
        if !frame.fill(octets) {
            return self.pool.put(frame);
        }
        match self.gateway.receive(frame, &head, port, self.now) {
            Routed::Reply(Side::Inside, frame) => {
                if frame.bytes().get(23) == Some(&17) {
                    self.judge(frame.bytes(), Some((port, head.src)));
                }
                self.pool.put(frame);
            }
            Routed::Consumed(frame) | Routed::Drop(frame, _) | Routed::Refuse(Side::Inside, frame, _) => self.pool.put(frame),
            other @ (Routed::Reply(..)
            | Routed::Refuse(..)
            | Routed::Forward(..)
            | Routed::Socket(_)
            | Routed::Generated(..)
            | Routed::Held) => {
                panic!("{other:?}")
            }
        }
    }

    /// An answer, to who asked if that is known.
    fn judge(&mut self, frame: &[u8], asked: Option<(u16, UnicastMac)>) {
        assert!((HEADERS + 300..=HEADERS + 548).contains(&frame.len()));
        assert!(checksum::is_valid(&frame[ETHERNET..ETHERNET + 20]));
        let udp = &frame[ETHERNET + 20..];
        let pseudo = checksum::pseudo_v4(four(frame, 26), four(frame, 30), 17, udp.len() as u16);
        assert_eq!(checksum::add(pseudo, checksum::sum(udp)), 0xffff);
        let message = &frame[HEADERS..];
        assert_eq!((message[0], &message[28..34], &frame[12..14]), (2, &frame[..6], &[8, 0][..]));
        if let Some((_, mac)) = asked {
            assert_eq!(frame[..6], mac.mac().0);
        }
        let (mut options, mut seen) = (&message[FIXED..], BTreeMap::new());
        while options[0] != 255 {
            let end = 2 + usize::from(options[1]);
            assert!(seen.insert(options[0], &options[2..end]).is_none(), "told twice");
            options = &options[end..];
        }
        assert_eq!(seen[&54], GATEWAY.octets());
        let (kind, yours) = (seen[&53][0], Ipv4Addr::from(four(message, 16)));
        match (kind, yours.is_unspecified()) {
            (2, false) => {}
            (5, false) => self.acknowledged(yours, UnicastMac::new(vswitch_switch::Mac(frame[..6].try_into().unwrap_or_default()))),
            (5, true) => assert!(!seen.contains_key(&51), "INFORM gives no lease"),
            (6, true) => assert!(seen.keys().all(|option| [53, 54, 61].contains(option)), "{seen:?}"),
            other => panic!("{other:?}"),
        }
    }

    fn acknowledged(&mut self, yours: Ipv4Addr, mac: Option<UnicastMac>) {
        let Some(mac) = mac else { panic!("to nobody") };
        let until = self.now.after(Duration::from_secs(LEASE.into()));
        if let Some((other, _)) = self.given.insert(yours, (mac, until)).filter(|(_, until)| *until > self.now) {
            assert_eq!(other, mac, "{yours} is told to two");
        }
        assert!(yours != GATEWAY && yours.octets()[3] < 15 && yours.octets()[3] > 0);
    }
}

fn four(octets: &[u8], at: usize) -> [u8; 4] {
    octets.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default()
}

/// A client's message in a frame; `relay` and `flags` are what they are.
fn frame(mac: UnicastMac, client: Ipv4Addr, [flags, relay]: [u8; 2], options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; FIXED];
    message[..8].copy_from_slice(&[1, 1, 6, 0, 1, 2, 3, 4]);
    message[10] = flags;
    message[12..16].copy_from_slice(&client.octets());
    message[24] = relay;
    message[28..34].copy_from_slice(&mac.mac().0);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend_from_slice(options);
    carry(mac, client, &message)
}

fn carry(mac: UnicastMac, client: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let len = message.len() as u16;
    let (to_mac, to) = if client.is_unspecified() {
        ([0xff; 6], [0xff; 4])
    } else {
        (UnicastMac::for_ipv4(GATEWAY.octets()).mac().0, GATEWAY.octets())
    };
    let mut ip = [&[0x45, 0][..], &(len + 28).to_be_bytes(), &[0, 0, 0, 0, 64, 17, 0, 0], &client.octets(), &to].concat();
    let sum = checksum::checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = [&[0, 68, 0, 67][..], &(len + 8).to_be_bytes(), &[0, 0], message].concat();
    let sum = checksum::add(checksum::pseudo_v4(client.octets(), to, 17, len + 8), checksum::sum(&udp));
    udp[6..8].copy_from_slice(&checksum::non_zero(!sum).to_be_bytes());
    [&to_mac[..], &mac.mac().0, &[8, 0], &ip, &udp].concat()
}

/// Message types, the server's among them and one that is none.
const KINDS: [u8; 8] = [1, 3, 3, 3, 4, 7, 8, 2];

/// One input, see the module.
///
/// # Panics
/// A property does not hold.
pub fn run(data: &[u8]) {
    let mut commands = Commands(data);
    let mut world = World::new();
    while let Some([command, who]) = commands.octets() {
        let port = 1 + u16::from(who >> 3) % PORTS;
        let mac = mac(port, who);
        match command >> 5 {
            // A message: its kind; the address that it has, asks for (none: 255), and the server.
            0..=2 => {
                let Some([client, requested, server, flags]) = commands.octets() else { break };
                let mut options = vec![53, 1, KINDS[usize::from(command & 7)]];
                if requested != 0xff {
                    options.extend([50, 4]);
                    options.extend(address(requested).octets());
                }
                if server & 3 != 0 {
                    options.extend([54, 4]);
                    options.extend(address(server & 3).octets());
                }
                if flags & 1 != 0 {
                    options.extend([55, 4, flags, 3, 1, 26]);
                }
                options.extend(commands.slice(if flags & 2 != 0 { flags } else { 0 }));
                options.push(255);
                let relay = u8::from(command & 24 == 24);
                world.hear(port, &frame(mac, address(client), [flags & 0x80, relay], &options));
            }
            // Options, or a whole message, or a frame, as they come.
            3 => {
                let options = commands.slice(command << 3 | 7).to_vec();
                world.hear(port, &frame(mac, address(0xff), [0; 2], &options));
            }
            4 => {
                let message = commands.slice(0xff).to_vec();
                world.hear(port, &carry(mac, address(0xff), &message));
            }
            5 => {
                let octets = commands.slice(command << 3 | 7).to_vec();
                world.hear(port, &octets);
            }
            6 => {
                let seconds = [0, 1, 30, 59, 119, 121, 1_800, 3_600][usize::from(command & 7)];
                world.now = world.now.after(Duration::from_secs(seconds));
                if command & 8 != 0 {
                    world.daemon();
                }
            }
            _ => match command & 3 {
                0 => world.detach(port),
                1 => world.attach(port),
                _ => world.daemon(),
            },
        }
        world.bounds();
    }
    assert!(std::iter::from_fn(|| world.gateway.dhcp.news()).count() <= WAITING);
}
