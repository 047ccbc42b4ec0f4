//! The gateway's name service: containers that ask anything by UDP and TCP, resolvers that say anything, and between them what
//! `io/src/asking.rs` does.
//!
//! A command is an octet, who, and what it takes. Whatever comes: who asked is answered in his own words, once, and nobody else is; what is
//! ours goes to no resolver; nothing grows beyond its bound; and when all is quiet nothing is left.
mod asking;
mod client;
mod commands;
mod message;

use super::Commands;
use client::Client;
use message::{HEADER, Read, Wish, answer, mark, mark_of};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;
use vswitch_nat::checksum;
use vswitch_nat::dns::queries::{Answered, PER_CONTAINER, QUERIES};
use vswitch_nat::dns::{cache, streams};
use vswitch_nat::gateway::{Gateway, GatewayConfig, GatewayV6, Routed, Side};
use vswitch_nat::packet::{Packet, Readable, Segment, Transport};
use vswitch_nat::slirp::reassembly::DATAGRAMS;
use vswitch_nat::slirp::tcp::{Emit, Offer};
use vswitch_nat::slirp::wire::{Ip, Link, tcp_headers, udp_headers, write_tcp, write_udp};
use vswitch_nat::station::{AddressGuard, Limits, Owner, Station};
use vswitch_switch::{Csum, EtherType, FrameBuf, FramePool, Head, Time, UnicastMac};

const GATEWAY: [u8; 4] = [10, 88, 0, 1];
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd58, 0, 0, 0, 0, 0, 0, 1);
/// Those that commands name, and those that ask in bulk.
const PORTS: u16 = 4;
const CROWD: u16 = 20;
const ETHERNET: usize = 14;
const PORT: u16 = 53;
/// What the gateway asks without an answer, longest: two rounds of three resolvers; then two times what a connection may be idle.
const QUIET: Duration = Duration::from_secs(12 + 3 * 10 + 10);
/// More than wait for the rest of their datagrams: without one nobody is answered.
const BUFFERS: usize = 2 * DATAGRAMS + 4;
/// Bulks in one input, for they take long.
const BULKS: usize = 48;

fn address(port: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 0, 1 + port as u8)
}

/// Whether a message answers a query: its own, letter for letter.
fn answers(message: &[u8], query: &[u8]) -> bool {
    let (Some(asked), Some(read)) = (Read::of_query(query), Read::of(message)) else { return false };
    let is_same = message[..2] == query[..2] && message.get(HEADER..read.end) == query.get(HEADER..asked.end);
    let is_marked = match (mark(message, read.end), asked.essence) {
        (Some(mark), Some(essence)) => mark == mark_of(essence),
        (Some(_) | None, _) => true,
    };
    assert!(!is_same || is_marked, "another question's answer");
    is_same && message[2] & 0x80 != 0
}

/// A question by UDP that has no answer yet.
struct Pending {
    number: u64,
    owner: Owner,
    inside: SocketAddr,
    query: Vec<u8>,
    limit: usize,
    /// It was taken, so it will have one.
    is_taken: bool,
}

/// A socket to a resolver.
struct Line {
    message: Vec<u8>,
    by_tcp: bool,
}

struct World {
    gateway: Gateway,
    pool: FramePool,
    now: Time,
    numbers: u64,
    pending: Vec<Pending>,
    /// Of these the one that is heard now.
    heard: Option<u64>,
    lines: BTreeMap<u32, Line>,
    clients: BTreeMap<SocketAddr, Client>,
    /// Messages of those that are no more.
    said: usize,
    changes: u64,
    /// Resolvers, of eight in turns, to which there is no way.
    unreachable: u8,
    tries: u8,
    streams_first: bool,
    bulks: usize,
}

/// How a datagram leaves its container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sum {
    Partial,
    Right,
    Wrong,
}

impl World {
    fn new(exchange: bool) -> Self {
        let v6 = GatewayV6 { address: GATEWAY_V6, prefix: 64, link_local: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1) };
        let config =
            GatewayConfig { mac: UnicastMac::for_ipv4(GATEWAY), address: Ipv4Addr::from(GATEWAY), prefix: 20, v6: Some(v6) };
        let mut world = Self {
            gateway: Gateway::new(config, [1, 2]),
            pool: FramePool::new(BUFFERS),
            now: Time::from_secs(1_000),
            numbers: 0,
            pending: Vec::new(),
            heard: None,
            lines: BTreeMap::new(),
            clients: BTreeMap::new(),
            said: 0,
            changes: 0,
            unreachable: 0,
            tries: 0,
            streams_first: false,
            bulks: 0,
        };
        world.gateway.set_exchange(exchange);
        world.resolvers(2);
        (1..=CROWD).for_each(|port| world.attach(port, 0));
        world.gateway.stations.set_name(1, "web");
        world.gateway.stations.set_name(2, "Db");
        world.gateway.stations.set_aliases(2, &["api.example", "cache"]);
        world
    }

    fn resolvers(&mut self, count: u16) {
        let resolvers: Vec<_> = (0..count).map(|number| SocketAddr::from(([192, 0, 2, 1], PORT + number))).collect();
        self.gateway.set_resolvers(&resolvers);
    }

    fn attach(&mut self, port: u16, other: u8) {
        let (mac, v6) = (UnicastMac::for_ipv4(address(port).octets()), Ipv6Addr::new(0xfd58, 0, 0, 0, 0, 0, 0, 1 + port));
        let v4 = Some(if other == 0 { address(port) } else { Ipv4Addr::new(10, 88, 1, port as u8) });
        let (limits, guard) = (Limits::default(), AddressGuard::default());
        self.gateway.stations.set(port, Station { mac, v4, v6: Some(v6), mtu: 1_400, limits, guard });
        self.forget();
    }

    /// Nobody owes a station that went anything.
    fn forget(&mut self) {
        let stations = &self.gateway.stations;
        self.pending.retain(|pending| stations.is_current(pending.owner));
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Who sends: the container's end, and the gateway's.
    fn ends(port: u16, who: u8) -> (SocketAddr, SocketAddr) {
        let sport = 40_000 + u16::from(who >> 3 & 3);
        if who & 4 == 0 {
            let from = if who >> 5 == 7 { Ipv4Addr::new(10, 88, 0, 200 + port as u8) } else { address(port) };
            ((from, sport).into(), (Ipv4Addr::from(GATEWAY), PORT).into())
        } else {
            ((Ipv6Addr::new(0xfd58, 0, 0, 0, 0, 0, 0, 1 + port), sport).into(), (GATEWAY_V6, PORT).into())
        }
    }

    fn link(port: u16) -> Link {
        Link { dst: UnicastMac::for_ipv4(GATEWAY), src: UnicastMac::for_ipv4(address(port).octets()) }
    }

    fn buffer(&mut self) -> Option<FrameBuf> {
        self.pool.take()
    }

    /// A frame as the switch gives it; what it came to.
    fn hear(&mut self, port: u16, frame: FrameBuf) -> Fate {
        let Ok(head) = Head::parse(frame.bytes(), None) else {
            self.pool.put(frame);
            return Fate::Dropped;
        };
        match self.gateway.receive(frame, &head, port, self.now) {
            Routed::Reply(Side::Inside, frame) => {
                self.judge(frame, true);
                Fate::Answered
            }
            Routed::Refuse(Side::Inside, frame, _) => {
                self.judge(frame, true);
                Fate::Dropped
            }
            Routed::Consumed(frame) => {
                self.pool.put(frame);
                Fate::Taken
            }
            Routed::Drop(frame, _) => {
                self.pool.put(frame);
                Fate::Dropped
            }
            Routed::Socket(packet) => {
                self.pool.put(packet.packet.into_frame());
                Fate::Dropped
            }
            Routed::Held => Fate::Held,
            other @ (Routed::Reply(..) | Routed::Refuse(..) | Routed::Forward(..) | Routed::Generated(..)) => panic!("{other:?}"),
        }
    }

    /// The same of any octets, but for questions, of which there is nothing to be expected here.
    fn hear_any(&mut self, port: u16, frame: FrameBuf) {
        fn skips<A: Readable>(frame: FrameBuf) -> (FrameBuf, bool) {
            match Packet::<A>::parse(frame, ETHERNET) {
                Ok(p) => {
                    let skips = p.fragment().is_some() || p.transport() == Transport::Udp && p.tuple().dport == PORT;
                    (p.into_frame(), skips)
                }
                Err((frame, _)) => (frame, false),
            }
        }
        let (frame, v4) = skips::<Ipv4Addr>(frame);
        let (frame, v6) = skips::<Ipv6Addr>(frame);
        if v4 || v6 {
            return self.pool.put(frame);
        }
        self.hear(port, frame);
    }

    fn settle(frame: &mut FrameBuf, sum: Sum) {
        if let Csum::Partial { start, offset } = frame.meta.csum
            && sum != Sum::Partial
            && frame.meta.gso.is_none()
        {
            let (start, offset) = (usize::from(start), usize::from(offset));
            assert!(checksum::finish(frame.bytes_mut(), start, offset));
            frame.meta.csum = Csum::Complete;
            if sum == Sum::Wrong {
                frame.bytes_mut()[start + offset] ^= 0x55;
                // Zero would be none.
                frame.bytes_mut()[start + offset + 1] |= 1;
            }
        }
    }

    /// Messages in one datagram each, all in one frame.
    fn ask(&mut self, port: u16, who: u8, messages: &[Vec<u8>], sum: Sum) {
        let (inside, gateway) = Self::ends(port, who);
        let size = messages.first().map_or(0, Vec::len);
        let (payload, headers) = (messages.concat(), udp_headers(inside.is_ipv6()));
        let Some(mut frame) = self.buffer() else { return };
        if !frame.begin(headers + payload.len()) {
            return self.pool.put(frame);
        }
        frame.bytes_mut()[headers..].copy_from_slice(&payload);
        let segment = NonZeroU16::new(size as u16).filter(|_| messages.len() > 1);
        if !write_udp(&mut frame, Self::link(port), (inside, gateway), payload.len(), segment, Ip::WHOLE) {
            return self.pool.put(frame);
        }
        Self::settle(&mut frame, sum);
        // As it is cut, should the sizes be none that it says.
        let cut: Vec<_> = if segment.is_some() { payload.chunks(size).collect() } else { vec![&payload[..]] };
        self.send(port, inside, &cut, frame, sum);
    }

    fn send(&mut self, port: u16, inside: SocketAddr, messages: &[&[u8]], frame: FrameBuf, sum: Sum) {
        let owner = self.gateway.stations.owner(port);
        let queries = self.gateway.names.queries();
        let count = messages.len();
        let has_room = !self.gateway.names.has_answers()
            && queries.of(port) + count <= PER_CONTAINER
            && queries.len() + count <= QUERIES
            && count <= 64;
        let first = self.numbers + 1;
        let mut last = None;
        for message in messages {
            let number = self.number();
            let Some(read) = Read::of_query(message) else {
                last = None;
                continue;
            };
            last = Some((number, read.is_ours()));
            let (query, limit) = (message.to_vec(), read.limit);
            self.pending.push(Pending { number, owner, inside, query, limit, is_taken: false });
        }
        self.heard = last.filter(|_| count == 1).map(|(number, _)| number);
        let fate = self.hear(port, frame);
        self.heard = None;
        let is_wrong = sum == Sum::Wrong && count == 1;
        assert!(!is_wrong || matches!(fate, Fate::Dropped), "a wrong sum");
        match (last, fate) {
            (_, Fate::Held) => {}
            (None, fate) => assert!(matches!(fate, Fate::Dropped), "an answer to no question"),
            (Some((_, true)), Fate::Taken) if count == 1 => panic!("ours, and it waits for somebody"),
            (Some((last, _)), Fate::Taken) => {
                for pending in self.pending.iter_mut().filter(|pending| pending.number >= first) {
                    pending.is_taken |= pending.number == last || has_room && pending.query.len() <= 4_096;
                }
            }
            (Some((last, _)), Fate::Answered) => assert!(self.pending.iter().all(|pending| pending.number != last)),
            (Some((last, _)), Fate::Dropped) if count == 1 => self.pending.retain(|pending| pending.number != last),
            (Some(_), Fate::Dropped) => {}
        }
    }

    /// A datagram in two pieces, or three.
    fn ask_in_pieces(&mut self, port: u16, who: u8, query: &[u8], cut: usize) {
        let (inside, gateway) = Self::ends(port, who & !4);
        let number = self.number() as u16;
        let Some(mut frame) = self.buffer() else { return };
        let headers = udp_headers(false);
        if !frame.begin(headers + query.len()) {
            return self.pool.put(frame);
        }
        frame.bytes_mut()[headers..].copy_from_slice(query);
        let ip = Ip { id: Some(number), ..Ip::WHOLE };
        assert!(write_udp(&mut frame, Self::link(port), (inside, gateway), query.len(), None, ip));
        Self::settle(&mut frame, Sum::Right);
        let whole = frame.bytes().to_vec();
        self.pool.put(frame);
        let datagram = &whole[34..];
        let cut = (cut / 8 * 8).clamp(8, datagram.len().saturating_sub(1).max(8)).min(datagram.len());
        for (offset, piece, more) in [(0, &datagram[..cut], true), (cut, &datagram[cut..], false)] {
            let Some(mut frame) = self.buffer() else { return };
            let mut header = whole[..34].to_vec();
            header[16..18].copy_from_slice(&(20 + piece.len() as u16).to_be_bytes());
            header[20..22].copy_from_slice(&((offset / 8) as u16 | u16::from(more) << 13).to_be_bytes());
            header[24..26].copy_from_slice(&[0; 2]);
            let sum = checksum::checksum(&header[14..]);
            header[24..26].copy_from_slice(&sum.to_be_bytes());
            assert!(frame.fill(&[&header, piece].concat()));
            if more {
                self.hear(port, frame);
            } else if let Some(read) = Read::of_query(query) {
                // What there was before it may be too much or gone: an answer may come or not.
                let (number, owner) = (self.number(), self.gateway.stations.owner(port));
                self.pending.push(Pending { number, owner, inside, query: query.to_vec(), limit: read.limit, is_taken: false });
                self.heard = Some(number);
                if matches!(self.hear(port, frame), Fate::Dropped) {
                    self.pending.retain(|pending| pending.number != number);
                }
                self.heard = None;
            } else {
                assert!(!matches!(self.hear(port, frame), Fate::Answered));
            }
        }
    }

    /// Takes a frame to a container; `own` is whether what it says was not a resolver's just now.
    fn judge(&mut self, frame: FrameBuf, own: bool) {
        let Ok(head) = Head::parse(frame.bytes(), None) else { panic!("no frame") };
        match head.ethertype {
            EtherType::IPV4 => self.judge_packet::<Ipv4Addr>(frame, own),
            EtherType::IPV6 => self.judge_packet::<Ipv6Addr>(frame, own),
            _ => self.pool.put(frame),
        }
    }

    fn judge_packet<A: Readable>(&mut self, frame: FrameBuf, own: bool) {
        let p = match Packet::<A>::parse(frame, ETHERNET) {
            Ok(p) => p,
            Err((frame, reason)) => panic!("{reason:?}: {:02x?}", frame.bytes()),
        };
        let tuple = *p.tuple();
        let (inside, l4) = (SocketAddr::new(tuple.dst.into(), tuple.dport), p.payload().to_vec());
        if let Csum::Partial { start, offset } = p.frame().meta.csum {
            let pseudo = tuple.src.pseudo(tuple.dst, tuple.protocol, l4.len() as u32);
            assert_eq!(usize::from(start), p.l4());
            assert_eq!(message::word(&l4, offset.into()), Some(pseudo), "the sum of the pseudo-header");
        }
        let transport = p.transport();
        self.pool.put(p.into_frame());
        match transport {
            Transport::Udp if tuple.sport == PORT => self.judge_message(inside, &l4[8..], own),
            Transport::Tcp(segment) if tuple.sport == PORT => {
                let is_current = self.clients.get(&inside).is_some_and(|client| self.gateway.stations.is_current(client.owner));
                if let Some(client) = self.clients.get_mut(&inside) {
                    client.hear(&segment, &l4[l4.len() - segment.len as usize..], is_current);
                }
            }
            Transport::Udp
            | Transport::Tcp(_)
            | Transport::Echo { .. }
            | Transport::Error
            | Transport::Other
            | Transport::Absent => {}
        }
    }

    fn judge_message(&mut self, inside: SocketAddr, message: &[u8], own: bool) {
        // Who asks the same again may have either answer: that in the buffer of the question, then those that must come.
        let asked = self.pending.iter().enumerate().filter(|(_, of)| of.inside == inside && answers(message, &of.query));
        let limit = asked.clone().map(|(_, of)| of.limit).max().unwrap_or(0);
        let chosen = asked.max_by_key(|(_, of)| (self.heard == Some(of.number), of.is_taken)).map(|(index, _)| index);
        let Some(index) = chosen else { panic!("an answer to nothing that {inside} asks: {message:02x?}") };
        self.pending.remove(index);
        assert!(!own || message.len() <= limit, "{} octets, of {limit}", message.len());
    }

    fn bounds(&self) {
        let (names, counts) = (&self.gateway.names, self.gateway.names.counts());
        assert!(names.queries().len() <= QUERIES && names.streams.len() <= streams::STREAMS);
        assert!(counts.entries <= cache::ENTRIES && counts.octets <= cache::OCTETS);
        assert!((1..=CROWD).all(|port| names.queries().of(port) <= PER_CONTAINER));
        let mut open = [0; 1 + CROWD as usize];
        for (inside, client) in &self.clients {
            let is_current = self.gateway.stations.is_current(client.owner);
            open[usize::from(client.owner.port)] += usize::from(is_current && self.is_open(*inside));
        }
        assert!(open.into_iter().all(|open| open <= streams::PER_CONTAINER));
    }

    fn is_open(&self, inside: SocketAddr) -> bool {
        let gateway = if inside.is_ipv6() { (GATEWAY_V6, PORT).into() } else { (Ipv4Addr::from(GATEWAY), PORT).into() };
        self.gateway.names.streams.find(inside, gateway).is_some()
    }

    fn connect(&mut self, port: u16, inside: SocketAddr, gateway: SocketAddr, options: bool) {
        let is_open = self.is_open(inside);
        let (owner, ours) = (self.gateway.stations.owner(port), (self.number() as u32).wrapping_mul(0x0fff_fff1));
        let client = self.clients.entry(inside).or_insert_with(|| Client::new(owner, ours));
        if !is_open {
            self.said += client.messages().len();
            *client = Client::new(owner, ours);
        }
        let syn = client.syn(options);
        self.segment(port, (inside, gateway), &syn, &[], Sum::Partial);
    }

    fn segment(&mut self, port: u16, (inside, gateway): (SocketAddr, SocketAddr), s: &Segment, payload: &[u8], sum: Sum) {
        let Some(mut frame) = self.buffer() else { return };
        let headers = tcp_headers(inside.is_ipv6());
        if !frame.begin(headers + payload.len()) {
            return self.pool.put(frame);
        }
        frame.bytes_mut()[headers..].copy_from_slice(payload);
        let offer = s.mss.map(|mss| Offer { mss, scale: s.scale });
        let emit = Emit { seq: s.seq, ack: s.ack, flags: s.flags, window: s.window, offer };
        if !write_tcp(&mut frame, Self::link(port), inside, gateway, &emit, payload.len(), 1_360) {
            return self.pool.put(frame);
        }
        Self::settle(&mut frame, sum);
        let is_wrong = sum == Sum::Wrong && frame.meta.gso.is_none();
        let fate = self.hear(port, frame);
        assert!(!is_wrong || matches!(fate, Fate::Dropped), "a wrong sum");
    }

    /// Everybody falls silent: each question that was taken has its answer, and nothing is left.
    fn end(mut self) {
        self.turn();
        let until = self.now.after(QUIET);
        while let Some(deadline) = self.gateway.names.deadline() {
            assert!(deadline > self.now, "it is due, and nothing was done");
            assert!(deadline <= until, "it does not end");
            self.now = deadline;
            self.turn();
            self.bounds();
        }
        assert!(self.pending.iter().all(|pending| !pending.is_taken), "a question without an answer");
        let said = self.said + self.clients.values().map(|client| client.messages().len()).sum::<usize>();
        assert!(self.gateway.names.counts().by_tcp <= said as u64, "more than anybody said");
        assert!(self.lines.is_empty() && self.gateway.names.queries().is_empty() && self.gateway.names.streams.is_empty());
        assert!((1..=CROWD).all(|port| self.gateway.names.queries().of(port) == 0));
        // Of fragments that wait for others.
        self.now = self.now.after(Duration::from_secs(3_600));
        self.turn();
        assert!(!self.gateway.names.has_work() && self.gateway.names.deadline().is_none());
        assert_eq!(self.pool.outstanding(), 0);
    }
}

enum Fate {
    Answered,
    Taken,
    Dropped,
    Held,
}

/// One input, see the module.
///
/// # Panics
/// A property does not hold.
pub fn run(data: &[u8]) {
    let mut commands = Commands(data);
    let Some([setup]) = commands.octets() else { return };
    let mut world = World::new(setup & 1 == 1);
    while let Some([command, who]) = commands.octets() {
        if commands::step(&mut world, command, who, &mut commands).is_none() {
            break;
        }
        world.bounds();
    }
    world.end();
}
