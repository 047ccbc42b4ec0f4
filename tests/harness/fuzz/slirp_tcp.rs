//! Flows of one container through the exchange, as `io/src/uplink/socket/tcp` drives it, between packets that a command describes, right
//! or mangled, and a model of the host's sockets: connections of both ways come up, are refused, written to in part, end, and break.
//!
//! A command is eight octets. Every octet has a content that tells which it is. What goes to a socket is the next of the container's, what
//! goes to the container is what was sent, no number is acknowledged before its octet was taken, no window taken back; every frame is
//! accounted for. At the end both sides behave and finish: every stream is whole, and nothing is left in any table.
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use vswitch_nat::checksum;
use vswitch_nat::flow::Address;
use vswitch_nat::forward::{Backend, Rule, RuleId};
use vswitch_nat::gateway::GatewayConfig;
use vswitch_nat::offload::{Segments, finish_into};
use vswitch_nat::packet::tcp::{ACK, FIN, RST, SYN};
use vswitch_nat::packet::{Packet, Segment, Transport};
use vswitch_nat::slirp::exchange::{Exchange, TcpFate, reset_of};
use vswitch_nat::slirp::tcp::{Expired, SCALE, State, Tcp};
use vswitch_nat::slirp::wire::{longest, tcp_headers, write_tcp};
use vswitch_nat::station::{AddressGuard, Limits, Station, Stations};
use vswitch_switch::{FramePool, Time, UnicastMac};

const STEP: usize = 8;
const ETHERNET: usize = 14;
const IP: usize = 20;
/// The container's port at the switch, and the rule that leads to it.
const INGRESS: u16 = 1;
const RULE: u32 = 1;
const GATEWAY: [u8; 4] = [10, 88, 0, 1];
const CONTAINER: [u8; 4] = [10, 88, 0, 2];
const SERVER: [u8; 4] = [203, 0, 113, 9];
const CONFIG: GatewayConfig =
    GatewayConfig { mac: UnicastMac::for_ipv4(GATEWAY), address: Ipv4Addr::new(10, 88, 0, 1), prefix: 16, v6: None };
/// What rounding a window down to its scale may take back of it.
const ROUNDED: u32 = (1 << SCALE) - 1;
/// Octets that are kept beside a socket, and that a host sends in all.
const SPILL: u32 = 1 << 16;
const ARRIVED_LIMIT: u32 = 1 << 20;
/// Frames of one flow in a turn, and turns until the end.
const BURST: usize = 64;
const TURN_LIMIT: usize = 4_000;
const WAITS: [u64; 8] = [0, 1, 250, 400, 1_000, 61_000, 76_000, 7_201_000];

fn word(a: u8, b: u8) -> u16 {
    u16::from_be_bytes([a, b])
}

/// A number near another one or far from it.
fn near(number: u32, how: u8, by: u8) -> u32 {
    let by = u32::from(by);
    match how % 8 {
        0..=2 => number,
        3 => number.wrapping_add(by),
        4 => number.wrapping_sub(by),
        5 => number.wrapping_add(by << 8),
        6 => number.wrapping_sub(by << 8),
        _ => number.wrapping_add(by << 24),
    }
}

/// The octet under a number, of the container's or the host's.
fn octet(of_host: bool, number: u32) -> u8 {
    (number.wrapping_mul(31) ^ (number >> 8).wrapping_mul(7)) as u8 ^ if of_host { 0x5a } else { 0 }
}

/// One connection: what is in its socket, and what its container knows.
#[derive(Debug)]
struct Line {
    /// The container's end, and the other.
    ends: (SocketAddr, SocketAddr),
    /// The numbers of the SYNs, once they are known.
    irs: Option<u32>,
    iss: Option<u32>,
    scale: u8,
    /// Octets of the container's: taken at all, and of these not yet in the socket, which has room for so many.
    taken: u32,
    spill: u32,
    room: u32,
    finish: bool,
    shut: bool,
    /// The highest edge of a window that the container was told, and the highest number that it used, counted from its first octet.
    edge: Option<u32>,
    high: u32,
    /// It ended before numbers that it had used.
    lies: bool,
    /// Octets of the host's: those there are, whether these are all, where the peek is, those taken out, those sent.
    arrived: u32,
    eof: bool,
    peek: u32,
    consumed: u32,
    sent: u32,
    /// What the container has, and whether that is all.
    got: u32,
    has_fin: bool,
    /// The socket is gone.
    gone: bool,
    packets: [u64; 2],
}

impl Line {
    fn new(ends: (SocketAddr, SocketAddr), irs: Option<u32>, scale: u8) -> Self {
        Self {
            ends,
            irs,
            iss: None,
            scale,
            taken: 0,
            spill: 0,
            room: 0,
            finish: false,
            shut: false,
            edge: None,
            high: 0,
            lies: false,
            arrived: 0,
            eof: false,
            peek: 0,
            consumed: 0,
            sent: 0,
            got: 0,
            has_fin: false,
            gone: false,
            packets: [0; 2],
        }
    }

    /// The number of the container's first octet, of the host's.
    fn theirs(&self) -> u32 {
        self.irs.unwrap_or(0).wrapping_add(1)
    }

    fn ours(&self) -> u32 {
        self.iss.unwrap_or(0).wrapping_add(1)
    }

    /// The next number of the container's that is not taken.
    fn expected(&self) -> u32 {
        self.theirs().wrapping_add(self.taken).wrapping_add(u32::from(self.finish))
    }

    /// What the container acknowledges when it tells the truth.
    fn has(&self) -> u32 {
        self.ours().wrapping_add(self.got).wrapping_add(u32::from(self.has_fin))
    }

    /// The socket takes what it has room for.
    fn drain(&mut self) {
        let len = self.spill.min(self.room);
        self.spill -= len;
        self.room -= len;
        self.shut |= self.finish && self.spill == 0;
    }

    /// A segment that came to the container.
    fn hears(&mut self, s: &Segment, payload: &[u8], state: State) {
        if s.has(SYN) {
            assert_eq!((*self.iss.get_or_insert(s.seq), s.len), (s.seq, 0));
            assert!(s.mss.is_some() && (s.scale.is_none() || s.scale == Some(SCALE)));
            assert!(!s.has(ACK) || s.ack == self.expected());
            return;
        }
        if s.has(RST) {
            assert!(!s.has(ACK) || s.ack == self.expected());
            return;
        }
        assert_eq!(s.ack, self.expected(), "what was not taken is acknowledged, or what was is not: {s:?}");
        let edge = s.ack.wrapping_add(u32::from(s.window) << self.scale);
        if let Some(told) = self.edge {
            let back = told.wrapping_sub(edge).cast_signed();
            // Its FIN is behind the last octet that a window can be for.
            assert!(self.finish || back <= ROUNDED.cast_signed(), "a window was taken back by {back}");
            self.edge = Some(if back > 0 { told } else { edge });
        } else {
            self.edge = Some(edge);
        }
        let at = s.seq.wrapping_sub(self.ours());
        let is_probe = at == u32::MAX && payload.is_empty() && s.flags == ACK;
        assert!(is_probe || at <= self.sent + 1, "beyond what was sent: {s:?}");
        assert!(payload.is_empty() || (state == State::Established && at + s.len <= self.arrived));
        let is_right = (s.seq..).zip(payload).all(|(number, &data)| data == octet(true, number));
        assert!(is_right || s.seq.checked_add(s.len).is_none(), "other octets: {s:?}");
        if !is_probe && at <= self.got {
            self.got = self.got.max(at + s.len);
        }
        if s.has(FIN) {
            assert!(self.eof && at + s.len == self.arrived, "the end is before the end");
            self.has_fin |= self.got == self.arrived;
        }
    }
}

struct World {
    exchange: Exchange,
    stations: Stations,
    pool: FramePool,
    lines: BTreeMap<u32, Line>,
    now: Time,
    /// There is no room for more to be spilled.
    is_full: bool,
    sequence: u32,
    /// Packets of connections of the published port that are over.
    through: [u64; 2],
}

impl World {
    fn new(sequence: u32) -> Self {
        let (mut exchange, mut stations) = (Exchange::new([1, u64::from(sequence)]), Stations::new(7));
        let (mac, v4, limits) = (UnicastMac::for_ipv4(CONTAINER), Some(CONTAINER.into()), Limits { sessions: 4, ports: 4 });
        stations.set(INGRESS, Station { mac, v4, v6: None, mtu: 1_500, limits, guard: AddressGuard::default() });
        let backend = Backend { owner: INGRESS, address: Ipv4Addr::from(CONTAINER), port: 80, draining: false };
        let rule =
            Rule { id: RuleId(RULE), protocol: 6, address: None, first: 80, last: 80, from: vec![], backends: vec![backend] };
        exchange.publish(Some(rule), None).expect("a rule");
        let pool = FramePool::new(4);
        Self {
            exchange,
            stations,
            pool,
            lines: BTreeMap::new(),
            now: Time::from_secs(1_000),
            is_full: false,
            sequence,
            through: [0; 2],
        }
    }

    fn tcp(&mut self, slot: u32) -> &mut Tcp {
        &mut self.exchange.flows.get_mut(slot).expect("a flow").tcp
    }

    fn line(&mut self, slot: u32) -> &mut Line {
        self.lines.get_mut(&slot).expect("a line")
    }

    fn pick(&self, octet: u8) -> Option<u32> {
        self.lines.keys().nth(usize::from(octet) % self.lines.len().max(1)).copied()
    }

    /// A segment of the container's as a packet; `mangle` is an octet of its TCP header and what is done to it.
    fn packet(&mut self, ends: (SocketAddr, SocketAddr), s: &Segment, mangle: (usize, u8)) -> Option<Packet<Ipv4Addr>> {
        let mut options = s.mss.map_or(vec![], |mss| [&[2, 4][..], &mss.to_be_bytes()].concat());
        options.extend(s.scale.iter().flat_map(|shift| [1, 3, 3, *shift]));
        let [s0, s1] = ends.0.port().to_be_bytes();
        let [d0, d1] = ends.1.port().to_be_bytes();
        let SocketAddr::V4(remote) = ends.1 else { return None };
        let payload: Vec<u8> = (0..s.len).map(|at| octet(false, s.seq.wrapping_add(at))).collect();
        let header = [
            &[s0, s1, d0, d1][..],
            &s.seq.to_be_bytes(),
            &s.ack.to_be_bytes(),
            &[(5 + options.len() as u8 / 4) << 4, s.flags],
            &s.window.to_be_bytes(),
            &[0; 4],
            &options,
        ];
        let mut l4 = header.concat();
        if mangle.1 != 0 {
            // Ports and numbers are as they are said to be.
            let at = 12 + mangle.0 % (l4.len() - 12);
            l4[at] ^= mangle.1;
        }
        l4.extend_from_slice(&payload);
        let mut ip = [0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 88, 0, 2, 0, 0, 0, 0];
        ip[2..4].copy_from_slice(&((IP + l4.len()) as u16).to_be_bytes());
        ip[16..].copy_from_slice(&remote.ip().octets());
        let sum = checksum::checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let octets = [&[2; 12][..], &[8, 0], &ip, &l4].concat();
        let mut frame = self.pool.take().expect("a buffer");
        assert!(frame.fill(&octets));
        match Packet::parse(frame, ETHERNET) {
            Ok(packet) => Some(packet),
            Err((frame, _)) => {
                self.pool.put(frame);
                None
            }
        }
    }

    fn segment(&mut self, ends: (SocketAddr, SocketAddr), s: &Segment, mangle: (usize, u8)) {
        let Some(packet) = self.packet(ends, s, mangle) else { return };
        let from = (INGRESS, UnicastMac::for_ipv4(CONTAINER));
        let fate = self.exchange.tcp(&mut self.stations, &CONFIG, &packet, from, self.now);
        let Transport::Tcp(segment) = packet.transport() else { panic!("not TCP: {packet:?}") };
        let frame = packet.into_frame();
        match fate {
            TcpFate::Flow(slot) => {
                assert_eq!(self.line(slot).ends, ends);
                let payload = frame.bytes()[frame.len() - segment.len as usize..].to_vec();
                self.takes(slot, &segment, &payload, frame.len() - ETHERNET);
            }
            TcpFate::Connect(slot, to) => {
                assert!(to == ends.1 && segment.has(SYN) && segment.flags & (ACK | RST) == 0);
                let line = Line::new(ends, Some(segment.seq), segment.scale.map_or(0, |_| SCALE));
                assert!(self.lines.insert(slot, line).is_none(), "the slot is in use");
            }
            TcpFate::Reset(_) => {
                let emit = reset_of(&segment);
                assert!(!segment.has(RST) && emit.flags & RST != 0, "a RST is answered with one");
            }
            TcpFate::Refuse(..) => assert!(self.lines.len() >= 4, "refused with {} flows", self.lines.len()),
            TcpFate::Drop(_) => assert!(segment.has(RST)),
        }
        self.pool.put(frame);
    }

    fn takes(&mut self, slot: u32, s: &Segment, payload: &[u8], octets: usize) {
        let (is_full, now) = (self.is_full, self.now);
        let flow = self.exchange.flows.get_mut(slot).expect("a flow");
        flow.count_out(octets);
        let before = flow.tcp.state();
        let window = flow.tcp.save().granted;
        flow.tcp.limit(if is_full { 0 } else { u32::MAX });
        let taken = flow.tcp.segment(s, now);
        let after = flow.tcp.save();
        let state = flow.tcp.state();
        let line = self.lines.get_mut(&slot).expect("a line");
        line.packets[0] += 1;
        if before == State::SynSent && state == State::Established {
            line.irs = Some(s.seq);
            line.scale = s.scale.map_or(0, |_| SCALE);
        }
        let granted = window.wrapping_sub(line.expected());
        assert!(!taken.reset || (s.has(RST) && state == State::Over));
        assert!(taken.len == 0 || !is_full, "more than there is room for");
        if taken.len > 0 || taken.finish {
            assert!(matches!(before, State::SynReceived | State::Established), "{taken:?} of {s:?} while {before:?}");
            assert_eq!(s.seq.wrapping_add(taken.skip), line.expected(), "{taken:?} of {s:?}");
            assert!(!line.finish && s.has(ACK) && s.flags & (SYN | RST) == 0 && taken.len <= granted);
            assert!(!taken.finish || (s.has(FIN) && taken.skip + taken.len == s.len));
            let data = payload.get(taken.skip as usize..(taken.skip + taken.len) as usize).expect("octets of the segment's");
            let first = line.expected();
            let is_right = (0..).zip(data).all(|(at, &data)| data == octet(false, first.wrapping_add(at)));
            assert!(is_right, "other octets: {taken:?} of {s:?}");
        }
        let ahead = s.seq.wrapping_sub(line.expected());
        if line.irs.is_some() && !line.finish && ahead <= granted && ahead < 1 << 31 {
            line.high = line.high.max(line.taken + (ahead + s.len).min(granted));
        }
        line.taken += taken.len;
        line.spill += taken.len;
        line.finish |= taken.finish;
        line.lies |= taken.finish && line.high > line.taken;
        line.consumed += taken.consume;
        assert!(line.consumed <= line.sent, "consumed before it was sent");
        if let Some(iss) = line.iss
            && state == State::Established
        {
            // What it has acknowledged it has, true or not.
            let acknowledged = after.una.wrapping_sub(iss).wrapping_sub(1);
            line.got = line.got.max(acknowledged.min(line.arrived));
            line.has_fin |= acknowledged > line.arrived;
            assert_eq!(acknowledged.min(line.arrived), line.consumed);
        }
        line.drain();
        self.exchange.flows.touched(slot);
        if taken.reset {
            return self.close(slot);
        }
        if taken.len > 0 {
            self.regrant(slot);
        }
        self.exchange.flows.is_due(slot);
    }

    fn regrant(&mut self, slot: u32) {
        let room = SPILL.saturating_sub(self.line(slot).spill);
        self.tcp(slot).grant(room);
        self.exchange.flows.is_due(slot);
    }

    fn close(&mut self, slot: u32) {
        let flow = self.exchange.close(&mut self.stations, slot).expect("a flow");
        let line = self.lines.remove(&slot).expect("a line");
        assert_eq!(flow.counts.map(|count| count.packets), line.packets);
        if flow.rule == RULE {
            self.through = [self.through[0] + line.packets[0], self.through[1] + line.packets[1]];
        }
    }

    /// The socket is gone: refused, or broken.
    fn breaks(&mut self, slot: u32) {
        self.tcp(slot).reset();
        self.line(slot).gone = true;
        self.line(slot).spill = 0;
        self.exchange.flows.is_due(slot);
    }

    /// A frame for the container.
    fn delivers(&mut self, slot: u32, frame: &vswitch_switch::FrameBuf, state: State) {
        let line = self.lines.get_mut(&slot).expect("a line");
        line.packets[1] += 1;
        let mut pieces = vec![];
        let mut scratch = vec![0; frame.len()];
        if frame.meta.gso.is_some() {
            let mut segments = Segments::new(frame).expect("segments");
            while let Some(len) = segments.next_into(&mut scratch) {
                pieces.push(scratch[..len].to_vec());
            }
        } else {
            assert_eq!(finish_into(frame, &mut scratch), Some(frame.len()));
            pieces.push(scratch);
        }
        for piece in pieces {
            let mut buffer = self.pool.take().expect("a buffer");
            assert!(buffer.fill(&piece) && piece.len() <= ETHERNET + 1_500);
            let packet = Packet::<Ipv4Addr>::parse(buffer, ETHERNET).expect("a packet");
            let l4 = &piece[ETHERNET + IP..];
            let tuple = packet.tuple();
            assert_eq!(checksum::add(checksum::sum(l4), tuple.src.pseudo(tuple.dst, 6, l4.len() as u32)), 0xffff);
            assert_eq!((tuple.dport, tuple.sport), (line.ends.0.port(), line.ends.1.port()));
            let Transport::Tcp(segment) = packet.transport() else { panic!("not TCP: {packet:?}") };
            line.hears(&segment, &piece[piece.len() - segment.len as usize..], state);
            self.pool.put(packet.into_frame());
        }
    }

    /// What is due, but data.
    fn polls(&mut self) {
        while let Some((slot, expired)) = self.exchange.flows.expire(self.now) {
            let deadline = self.tcp(slot).deadline();
            assert!(deadline.is_none_or(|due| due > self.now), "it is due at once again");
            if expired == Expired::Abort {
                self.line(slot).gone = true;
                self.line(slot).spill = 0;
            }
        }
        let mut frames = 0;
        while let Some((slot, frame)) = self.exchange.flows.poll(&mut self.pool, self.now) {
            frames += 1;
            assert!(frames < BURST, "it never ends");
            let state = self.tcp(slot).state();
            match frame {
                Some(frame) => {
                    self.delivers(slot, &frame, state);
                    self.pool.put(frame);
                }
                None if state == State::Over && self.line(slot).spill == 0 => self.close(slot),
                None => {}
            }
        }
    }

    /// One frame of what a socket has; says whether there was one.
    fn pumps(&mut self, slot: u32, most: u32) -> bool {
        let now = self.now;
        let Some(flow) = self.exchange.flows.get_mut(slot) else { return false };
        let line = self.lines.get_mut(&slot).expect("a line");
        if line.gone {
            return false;
        }
        if flow.tcp.take_seek() {
            line.peek = line.consumed + flow.tcp.in_flight();
        }
        if !flow.tcp.takes_data() {
            return false;
        }
        assert_eq!(line.peek, line.consumed + flow.tcp.in_flight(), "the peek is elsewhere: {:?}", flow.tcp);
        if line.peek == line.arrived && !line.eof {
            return false;
        }
        let mss = flow.tcp.mss();
        let wanted = flow.tcp.may_send().min(longest(false, mss) as u32).min(most);
        if wanted == 0 {
            flow.tcp.stall(now);
            self.exchange.flows.touched(slot);
            return false;
        }
        let len = wanted.min(line.arrived - line.peek);
        if len == 0 {
            flow.tcp.end(now);
            self.exchange.flows.touched(slot);
            self.exchange.flows.is_due(slot);
            return false;
        }
        let mut frame = self.pool.take().expect("a buffer");
        let headers = tcp_headers(false);
        assert!(frame.begin(headers + wanted as usize));
        let first = line.ours().wrapping_add(line.peek);
        for (at, data) in (0..len).zip(&mut frame.bytes_mut()[headers..]) {
            *data = octet(true, first.wrapping_add(at));
        }
        line.peek += len;
        line.sent = line.sent.max(line.peek);
        let is_last = len < wanted && line.eof;
        let emit = if is_last { flow.tcp.send_last(len, now) } else { flow.tcp.send(len, now) };
        assert_eq!(emit.seq, first);
        assert!(write_tcp(&mut frame, flow.link, flow.remote, flow.inside, &emit, len as usize, mss));
        flow.count_in(frame.len() - ETHERNET);
        self.exchange.flows.touched(slot);
        if is_last {
            self.exchange.flows.is_due(slot);
        }
        self.delivers(slot, &frame, State::Established);
        self.pool.put(frame);
        true
    }

    fn connects(&mut self, slot: u32) {
        let now = self.now;
        self.tcp(slot).connected(now);
        self.exchange.flows.touched(slot);
        self.exchange.flows.is_due(slot);
    }

    /// A container's SYN, of a new connection or one that there is.
    fn syn(&mut self, [a, b, c, d, e, f, g]: [u8; 7]) {
        let ends = ((CONTAINER, 40_000 + u16::from(a % 3)).into(), (SERVER, 80).into());
        let seq = u32::from(word(b, c)).wrapping_sub(0x4000);
        let mss = [Some(1_460), Some(536), None, Some(0), Some(u16::MAX)][usize::from(f) % 5];
        let scale = (g & 1 == 0).then_some(g >> 4);
        self.segment(ends, &Segment { seq, ack: 0, flags: SYN, window: word(d, e), len: 0, scale, mss }, (0, 0));
    }

    /// Any segment of a connection.
    fn any(&mut self, what: u8, [a, b, c, d, e, f, g]: [u8; 7]) {
        let Some(slot) = self.pick(a) else { return };
        let una = self.tcp(slot).save();
        let line = self.line(slot);
        let ack = match c >> 6 {
            0 => una.una,
            1 => line.has(),
            2 => una.max,
            _ => line.ours(),
        };
        let seq = if line.irs.is_some() { line.expected() } else { self.sequence };
        let line = self.line(slot);
        let flags = match what {
            ..=199 => ACK | (what & FIN),
            200..=215 => f,
            216..=223 if what & 1 == 0 => RST,
            216..=223 => RST | ACK,
            _ => SYN | ACK,
        };
        let len = if flags & SYN != 0 || b & 0x80 == 0 { 0 } else { u32::from(g) * if f & 1 == 0 { 1 } else { 5 } };
        let (mss, scale) = if flags & SYN != 0 { (Some(1_000), (f & 1 == 0).then_some(f >> 4)) } else { (None, None) };
        let window = if f & 2 == 0 { 0xffff } else { u16::from(g) << (f >> 5) };
        let (seq, ack, ends) = (near(seq, b, d), near(ack, c, e), line.ends);
        let mangle = if what == 223 { (usize::from(d), e) } else { (0, 0) };
        self.segment(ends, &Segment { seq, ack, flags, window, len, scale, mss }, mangle);
    }

    fn step(&mut self, &[what, a, b, c, d, e, f, g]: &[u8; STEP]) {
        let amount = u32::from(word(b, c));
        match (what, self.pick(a)) {
            (0..=15, _) => self.syn([a, b, c, d, e, f, g]),
            (16..=23, _) => {
                let client = ([198, 51, 100, 7], 5_000 + u16::from(a % 2)).into();
                let ends = (client, (GATEWAY, 80).into());
                if let Some(slot) = self.exchange.accepted(&mut self.stations, &CONFIG, RULE, ends, self.now) {
                    let flow = self.exchange.flows.get(slot).expect("a flow");
                    let line = Line::new((flow.inside, flow.remote), None, 0);
                    assert!(self.lines.insert(slot, line).is_none(), "the slot is in use");
                }
            }
            (24..=39, Some(slot)) => self.connects(slot),
            (40..=41, Some(slot)) => self.breaks(slot),
            (42, Some(slot)) if self.tcp(slot).state() == State::Connecting => self.close(slot),
            (43..=44, Some(slot)) => {
                let now = self.now;
                if let Some(restored) = Tcp::restore(&self.tcp(slot).save(), now) {
                    *self.tcp(slot) = restored;
                    self.exchange.flows.touched(slot);
                    self.exchange.flows.is_due(slot);
                }
            }
            (45..=60, Some(slot)) if !self.line(slot).eof => {
                let line = self.line(slot);
                line.arrived = (line.arrived + amount).min(ARRIVED_LIMIT);
                self.pumps(slot, u32::MAX);
            }
            (61..=68, Some(slot)) => {
                self.line(slot).eof = true;
                self.pumps(slot, u32::MAX);
            }
            (69..=84, Some(slot)) if !self.line(slot).gone => {
                self.line(slot).room = amount << (d % 8);
                self.line(slot).drain();
                self.regrant(slot);
            }
            (85, _) => self.is_full = a & 1 == 0,
            (86..=111, Some(slot)) => {
                let most = if b & 1 == 0 { u32::MAX } else { amount.max(1) };
                let _ = (0..=d % 16).all(|_| self.pumps(slot, most));
            }
            (112..=135, _) => {
                self.now = self.now.after(Duration::from_millis(WAITS[usize::from(a % 8)]));
            }
            (136..=143, _) => {
                if let Some(due) = self.exchange.flows.deadline() {
                    self.now = self.now.max(due);
                }
            }
            (144.., _) => self.any(what, [a, b, c, d, e, f, g]),
            _ => {}
        }
        self.polls();
        self.adds_up();
    }

    /// Every table knows the same flows, and every buffer is back.
    fn adds_up(&self) {
        let count = self.lines.len();
        assert_eq!((self.exchange.flows.len(), self.stations.usage(INGRESS).0 as usize), (count, count));
        assert_eq!(self.pool.outstanding(), 0, "a buffer is lost");
        for (slot, line) in &self.lines {
            let flow = self.exchange.flows.get(*slot).expect("a flow");
            assert_eq!(self.exchange.flows.find(line.ends.0, line.ends.1), Some(*slot));
            assert_eq!(flow.counts.map(|count| count.packets), line.packets);
            assert!(line.gone || line.shut == (line.finish && line.spill == 0));
        }
    }

    /// What a container says that has sent all up to its highest number and takes everything.
    fn behaves(&mut self, slot: u32) {
        let (saved, sequence, state) = (self.tcp(slot).save(), self.sequence, self.tcp(slot).state());
        let line = self.line(slot);
        let (ends, mss) = (line.ends, Some(1_000));
        let base = Segment { seq: line.expected(), ack: line.has(), flags: ACK, window: 0xffff, ..Segment::default() };
        let segment = match state {
            State::Connecting | State::Over => return,
            State::SynSent => Segment { seq: sequence, ack: line.ours(), flags: SYN | ACK, mss, scale: Some(0), ..base },
            State::SynReceived => Segment { ack: line.ours(), ..base },
            State::Established if line.lies => Segment { flags: RST, ..base },
            State::Established if line.finish => base,
            State::Established => {
                let granted = saved.granted.wrapping_sub(line.expected());
                let len = line.high.saturating_sub(line.taken).min(granted).min(1_000);
                let is_last = line.taken + len >= line.high;
                Segment { len, flags: if is_last { ACK | FIN } else { ACK }, ..base }
            }
        };
        self.segment(ends, &segment, (0, 0));
    }

    fn ends(&mut self) {
        self.is_full = false;
        let mut turns = 0;
        while !self.lines.is_empty() {
            turns += 1;
            assert!(turns < TURN_LIMIT, "it does not end: {:?} {:?}", self.lines, self.exchange.flows);
            for slot in self.lines.keys().copied().collect::<Vec<_>>() {
                self.connects(slot);
                let line = self.line(slot);
                (line.eof, line.room) = (true, u32::MAX >> 1);
                line.drain();
                self.regrant(slot);
                self.polls();
                while self.pumps(slot, u32::MAX) {}
                self.polls();
                if self.lines.contains_key(&slot) {
                    self.behaves(slot);
                }
                if let Some(line) = self.lines.get(&slot)
                    && self.exchange.flows.get(slot).is_some_and(|flow| flow.tcp.state() == State::Over)
                    && !line.gone
                {
                    let all = (line.arrived, line.arrived, line.arrived, true);
                    assert_eq!((line.sent, line.consumed, line.got, line.has_fin), all, "not all came: {line:?}");
                    assert!(line.shut && line.finish && line.taken >= line.high, "not all went: {line:?}");
                }
                self.polls();
                self.adds_up();
            }
            if let Some(due) = self.exchange.flows.deadline()
                && turns % 4 == 0
            {
                self.now = self.now.max(due);
            }
        }
        self.polls();
        assert!(self.exchange.flows.is_empty() && self.exchange.flows.deadline().is_none() && !self.exchange.flows.has_due());
        let through = self.exchange.through().get(&RULE).copied().unwrap_or_default();
        assert_eq!(through.packets, self.through.iter().sum::<u64>(), "packets of the published port's");
    }
}

/// One input, see the module.
///
/// # Panics
/// A property does not hold.
pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first_chunk::<2>() else { return };
    let (steps, _) = rest.as_chunks::<STEP>();
    let mut world = World::new(u32::from(word(first[0], first[1])).wrapping_sub(0x8000));
    steps.iter().for_each(|step| world.step(step));
    world.ends();
}
