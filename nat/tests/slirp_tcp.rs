//! A connection translated between smoltcp, as the container, and a model of the host's socket: whatever the link between them loses,
//! doubles or reorders, and however the two ends stall, no octet is lost, added or out of order, and both ends end.
//!
//! Time is virtual and the schedule comes from one seed, so a failure can be replayed. The link's faults are bounded, in a row too: what
//! gives up after so many losses is no fault of its own.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use proptest::prelude::*;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State as GuestState};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};
use std::collections::VecDeque;
use std::time::Duration;
use vswitch_nat::ndp;
use vswitch_nat::offload::{Segments, finish_into};
use vswitch_nat::packet::{Packet, Segment, Transport, tcp};
use vswitch_nat::slirp::tcp::{Emit, Expired, State, Tcp};
use vswitch_nat::slirp::wire::{Link as Ethernet, longest, tcp_headers, write_tcp};
use vswitch_switch::{FrameBuf, FramePool, Time, UnicastMac};

const GUEST_PORT: u16 = 40_000;
const HOST_PORT: u16 = 80;
/// Turns until the end: each moves some frames, or time.
const TURN_LIMIT: u32 = 60_000;
/// Losses in a row that the link may have.
const IN_ROW: u32 = 2;
/// Frames that it carries in a turn.
const BURST: u64 = 8;

fn guest_mac() -> UnicastMac {
    UnicastMac::for_ipv4([10, 88, 0, 2])
}

fn gateway_mac() -> UnicastMac {
    UnicastMac::for_ipv4([10, 88, 0, 1])
}

/// Octet `at` of what an end sends.
fn octet(of_host: bool, at: usize) -> u8 {
    (at * 31 + at / 251 + usize::from(of_host) * 101) as u8
}

/// splitmix64.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// Who closes before the other has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum First {
    Both,
    Guest,
    Host,
}

#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    is_v6: bool,
    /// By the host.
    dial: bool,
    iss: u32,
    mtu: u16,
    /// In a hundred frames, and in all.
    fault_rate: u64,
    faults: u32,
    guest_total: usize,
    host_total: usize,
    guest_rx: usize,
    guest_tx: usize,
    /// Of the socket: received, to be sent; and what is kept beside it.
    socket_in: usize,
    socket_out: usize,
    spill: usize,
    first: First,
    /// Turns in a hundred in which an end does something.
    diligence: u64,
}

impl Plan {
    fn ends(&self) -> (SocketAddr, SocketAddr) {
        if self.is_v6 {
            let at = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
            ((at(2), GUEST_PORT).into(), (at(1), HOST_PORT).into())
        } else {
            let at = |last| Ipv4Addr::new(10, 88, 0, last);
            ((at(2), GUEST_PORT).into(), (at(1), HOST_PORT).into())
        }
    }
}

/// One direction of the link.
struct Link {
    queue: VecDeque<Vec<u8>>,
    rate: u64,
    faults: u32,
    in_row: u32,
}

impl Link {
    fn new(plan: &Plan) -> Self {
        Self { queue: VecDeque::new(), rate: plan.fault_rate, faults: plan.faults, in_row: 0 }
    }

    fn push(&mut self, frame: Vec<u8>, random: &mut Random) {
        let mut at = self.queue.len();
        if self.faults > 0 && random.percent(self.rate) {
            self.faults -= 1;
            match random.below(4) {
                0 | 1 if self.in_row < IN_ROW => {
                    self.in_row += 1;
                    return;
                }
                2 => self.queue.push_back(frame.clone()),
                _ => at -= random.below(at.min(6) as u64 + 1) as usize,
            }
        }
        self.in_row = 0;
        self.queue.insert(at, frame);
    }
}

/// The container's end of it.
struct Cable {
    rx: VecDeque<Vec<u8>>,
    tx: Vec<Vec<u8>>,
    mtu: u16,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Cable {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        self.rx.pop_front().map(|frame| (Rx(frame), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = usize::from(self.mtu) + 14;
        capabilities.checksum = ChecksumCapabilities::default();
        capabilities
    }
}

fn instant(now: Time) -> Instant {
    Instant::from_micros((now.nanos() / 1_000) as i64)
}

/// How far an application is.
#[derive(Debug, Default)]
struct Progress {
    was_open: bool,
    sent: usize,
    received: usize,
    has_closed: bool,
    saw_end: bool,
}

struct Guest {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    cable: Cable,
    at: Progress,
}

impl Guest {
    fn new(plan: &Plan, now: Time) -> Self {
        let mut cable = Cable { rx: VecDeque::new(), tx: vec![], mtu: plan.mtu };
        let mut config = Config::new(EthernetAddress(guest_mac().mac().0).into());
        config.random_seed = plan.seed;
        let mut interface = Interface::new(config, &mut cable, instant(now));
        let (local, remote) = plan.ends();
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(local.ip().into(), if plan.is_v6 { 64 } else { 16 })).expect("room for one");
        });
        let buffer = |len| SocketBuffer::new(vec![0; len]);
        let mut socket = Socket::new(buffer(plan.guest_rx), buffer(plan.guest_tx));
        if plan.dial {
            socket.listen(GUEST_PORT).expect("a port");
        } else {
            socket.connect(interface.context(), remote, GUEST_PORT).expect("a SYN");
        }
        let mut sockets = SocketSet::new(vec![]);
        let handle = sockets.add(socket);
        Self { interface, sockets, handle, cable, at: Progress::default() }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn is_done(&mut self) -> bool {
        let is_closed = matches!(self.socket().state(), GuestState::Closed | GuestState::TimeWait);
        is_closed && self.at.saw_end
    }

    /// The application does something; says whether anything moved.
    fn act(&mut self, plan: &Plan, random: &mut Random) -> bool {
        let mut at = core::mem::take(&mut self.at);
        let socket = self.socket();
        let (writes, reads) = (random.percent(plan.diligence), random.percent(plan.diligence));
        let before = (at.sent, at.received, at.has_closed, at.saw_end);
        if writes && socket.can_send() {
            let most = (plan.guest_total - at.sent).min(1 + random.below(20_000) as usize);
            let data: Vec<u8> = (at.sent..at.sent + most).map(|at| octet(false, at)).collect();
            at.sent += socket.send_slice(&data).expect("open");
        }
        // smoltcp forgets what was not read when the wait is over.
        let is_last = socket.state() == GuestState::TimeWait;
        if (reads || is_last) && socket.can_recv() {
            let mut data = vec![0; if is_last { plan.guest_rx } else { 1 + random.below(20_000) as usize }];
            let len = socket.recv_slice(&mut data).expect("data");
            let begin = at.received;
            assert!(
                data[..len].iter().enumerate().all(|(i, &data)| data == octet(true, begin + i)),
                "other octets from {begin} on"
            );
            at.received += len;
        }
        at.was_open |= socket.may_recv() || matches!(socket.state(), GuestState::CloseWait | GuestState::TimeWait);
        if at.was_open && !socket.may_recv() && !at.saw_end {
            assert_eq!(at.received, plan.host_total, "the end is before the end");
            at.saw_end = true;
        }
        // In LAST-ACK smoltcp hears no new window in an equal acknowledgement, so that must not be what it waits for.
        let is_heard = socket.state() != GuestState::CloseWait || socket.send_queue() == 0;
        let may_close = is_heard && (plan.first != First::Host || at.saw_end);
        if socket.may_send() && at.sent == plan.guest_total && may_close && !at.has_closed && random.percent(plan.diligence) {
            socket.close();
            at.has_closed = true;
        }
        let moved = before != (at.sent, at.received, at.has_closed, at.saw_end);
        self.at = at;
        moved
    }
}

/// The host's socket, and who speaks to it from afar.
struct Host {
    received: VecDeque<u8>,
    to_send: VecDeque<u8>,
    spill: VecDeque<u8>,
    at: Progress,
    /// No more data of the container's: shutdown() is due, or done.
    finish: bool,
    shut: bool,
    /// What is SO_PEEK_OFF.
    peek: usize,
}

impl Host {
    fn act(&mut self, plan: &Plan, random: &mut Random) -> bool {
        let mut moved = false;
        if random.percent(plan.diligence) {
            let room = (plan.socket_in - self.received.len()).min(1 + random.below(30_000) as usize);
            let end = (self.at.sent + room).min(plan.host_total);
            moved |= end > self.at.sent;
            self.received.extend((self.at.sent..end).map(|at| octet(true, at)));
            self.at.sent = end;
        }
        if random.percent(plan.diligence) {
            let len = self.to_send.len().min(1 + random.below(30_000) as usize);
            moved |= len > 0;
            for data in self.to_send.drain(..len) {
                assert_eq!(data, octet(false, self.at.received), "other octets from {} on", self.at.received);
                self.at.received += 1;
            }
            if self.shut && self.to_send.is_empty() && !self.at.saw_end {
                assert_eq!(self.at.received, plan.guest_total, "the end is before the end");
                (self.at.saw_end, moved) = (true, true);
            }
        }
        let may_close = plan.first != First::Guest || self.at.saw_end;
        if self.at.sent == plan.host_total && may_close && !self.at.has_closed && random.percent(plan.diligence) {
            (self.at.has_closed, moved) = (true, true);
        }
        moved
    }

    fn room(&self, plan: &Plan) -> usize {
        (plan.socket_out - self.to_send.len()) + plan.spill.saturating_sub(self.spill.len())
    }

    /// The socket can be written to.
    fn flush(&mut self, plan: &Plan) {
        let len = self.spill.len().min(plan.socket_out - self.to_send.len());
        self.to_send.extend(self.spill.drain(..len));
        self.shut |= self.finish && self.spill.is_empty();
    }
}

/// What drives the machine, as the io crate does.
struct Driver {
    tcp: Option<Tcp>,
    pool: FramePool,
    /// For the container.
    frames: Vec<Vec<u8>>,
}

impl Driver {
    fn emit(&mut self, plan: &Plan, emit: &Emit, payload: &[u8], mss: u16) {
        let (guest, host) = plan.ends();
        let link = Ethernet { dst: guest_mac(), src: gateway_mac() };
        let mut frame = self.pool.take().expect("a buffer");
        let headers = tcp_headers(plan.is_v6);
        assert!(frame.begin(headers + payload.len()));
        frame.bytes_mut()[headers..].copy_from_slice(payload);
        assert!(write_tcp(&mut frame, link, host, guest, emit, payload.len(), mss));
        let mut scratch = vec![0; frame.len()];
        if frame.meta.gso.is_some() {
            let mut segments = Segments::new(&frame).expect("segments");
            while let Some(len) = segments.next_into(&mut scratch) {
                self.frames.push(scratch[..len].to_vec());
            }
        } else {
            assert_eq!(finish_into(&frame, &mut scratch), Some(frame.len()));
            self.frames.push(scratch);
        }
        self.pool.put(frame);
    }

    /// A frame of the container's: an answer to its question where we are, or a segment.
    fn hears(&mut self, plan: &Plan, octets: &[u8], host: &mut Host, now: Time) {
        let (guest, _) = plan.ends();
        let mut frame = self.pool.take().expect("a buffer");
        assert!(frame.fill(octets));
        let (frame, segment) = match guest.ip() {
            IpAddr::V4(_) => read::<Ipv4Addr>(frame),
            IpAddr::V6(_) => read::<Ipv6Addr>(frame),
        };
        let payload = &frame.bytes()[frame.len() - segment.len as usize..];
        match &mut self.tcp {
            None if segment.flags == tcp::SYN => {
                let mss = plan.mtu - if plan.is_v6 { 60 } else { 40 };
                self.tcp = Some(Tcp::accept(&segment, plan.iss, mss, now));
            }
            Some(machine) if machine.state() != State::Over => {
                let taken = machine.segment(&segment, now);
                assert!(!taken.reset, "the container resets");
                let (skip, len) = (taken.skip as usize, taken.len as usize);
                host.spill.extend(&payload[skip..skip + len]);
                assert!(!host.finish || len == 0, "data behind the end");
                host.finish |= taken.finish;
                let consume = taken.consume as usize;
                host.received.drain(..consume);
                host.peek = host.peek.saturating_sub(consume);
                host.flush(plan);
                assert!(host.spill.len() <= plan.spill + 0xffff, "more than was granted");
            }
            // As one does who has no connection (RFC 9293 3.10.7.1).
            _ if segment.flags & (tcp::ACK | tcp::RST) == tcp::ACK => {
                let emit = Emit { seq: segment.ack, ack: 0, flags: tcp::RST, window: 0, offer: None };
                self.emit(plan, &emit, &[], 1);
            }
            _ => {}
        }
        self.pool.put(frame);
    }

    fn runs(&mut self, plan: &Plan, host: &mut Host, random: &mut Random, now: Time) {
        let Some(mut machine) = self.tcp.take() else { return };
        if machine.state() == State::Connecting && random.percent(plan.diligence) {
            machine.connected(now);
        }
        if machine.deadline().is_some_and(|due| due <= now) {
            assert_eq!(machine.expire(now), Expired::Goes);
        }
        host.flush(plan);
        machine.grant(host.room(plan) as u32);
        self.polls(plan, &mut machine, now);
        if machine.takes_data() {
            self.sends(plan, &mut machine, host, random, now);
            self.polls(plan, &mut machine, now);
        }
        self.tcp = Some(machine);
    }

    fn polls(&mut self, plan: &Plan, machine: &mut Tcp, now: Time) {
        for _ in 0..4 {
            let Some(emit) = machine.poll(now) else { return };
            self.emit(plan, &emit, &[], machine.mss());
        }
        assert_eq!(machine.poll(now), None, "it never ends");
    }

    fn sends(&mut self, plan: &Plan, machine: &mut Tcp, host: &mut Host, random: &mut Random, now: Time) {
        loop {
            if machine.take_seek() {
                host.peek = machine.in_flight() as usize;
            }
            assert_eq!(host.peek, machine.in_flight() as usize, "the peek is elsewhere");
            let left = host.received.len() - host.peek;
            let most = machine.may_send() as usize;
            if most == 0 {
                if left > 0 || (host.at.has_closed && !machine.is_ended()) {
                    machine.stall(now);
                }
                return;
            }
            let mut len = left.min(most).min(longest(plan.is_v6, machine.mss()));
            if len == 0 {
                if host.at.has_closed {
                    machine.end(now);
                }
                return;
            }
            if random.percent(20) {
                len = 1 + random.below(len as u64) as usize;
            }
            let payload: Vec<u8> = host.received.range(host.peek..host.peek + len).copied().collect();
            host.peek += len;
            let emit = machine.send(len as u32, now);
            self.emit(plan, &emit, &payload, machine.mss());
        }
    }
}

fn read<A: vswitch_nat::packet::Readable + std::fmt::Debug>(frame: FrameBuf) -> (FrameBuf, Segment) {
    let packet = Packet::<A>::parse(frame, 14).expect("a packet");
    let Transport::Tcp(segment) = packet.transport() else { panic!("not TCP: {packet:?}") };
    (packet.into_frame(), segment)
}

/// The answer to who asks where we are; `None` for anything else.
fn neighbour(frame: &[u8], pool: &mut FramePool) -> Option<Vec<u8>> {
    let (guest, us) = (guest_mac().mac().0, gateway_mac().mac().0);
    if frame[12..14] == [0x08, 0x06] {
        let answer = [&guest[..], &us, &frame[12..21], &[2], &us, &frame[38..42], &guest, &frame[28..32]];
        return Some(answer.concat());
    }
    let mut buffer = pool.take().expect("a buffer");
    assert!(buffer.fill(frame));
    let is_v6 = frame[12..14] == [0x86, 0xdd];
    let answer = (is_v6 && ndp::is_nd(&buffer)).then(|| {
        if let Ok((asks, _, ndp::Message::Solicitation { target, .. })) = ndp::read(&buffer) {
            assert!(ndp::write_advertisement(&mut buffer, target, asks, gateway_mac(), true));
            let octets = buffer.bytes_mut();
            octets[..6].copy_from_slice(&guest);
            octets[6..12].copy_from_slice(&us);
        }
        buffer.bytes().to_vec()
    });
    pool.put(buffer);
    answer
}

struct World<'a> {
    plan: &'a Plan,
    random: Random,
    now: Time,
    guest: Guest,
    host: Host,
    driver: Driver,
    to_guest: Link,
    to_us: Link,
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan) -> Self {
        let now = Time::from_secs(1_000);
        let mut driver = Driver { tcp: None, pool: FramePool::new(2), frames: vec![] };
        if plan.dial {
            driver.tcp = Some(Tcp::dial(plan.iss, plan.mtu - if plan.is_v6 { 60 } else { 40 }, now));
        }
        let host = Host {
            received: VecDeque::new(),
            to_send: VecDeque::new(),
            spill: VecDeque::new(),
            at: Progress::default(),
            finish: false,
            shut: false,
            peek: 0,
        };
        Self {
            plan,
            random: Random(plan.seed),
            now,
            guest: Guest::new(plan, now),
            host,
            driver,
            to_guest: Link::new(plan),
            to_us: Link::new(plan),
        }
    }

    /// What the container has sent goes on the link, questions apart.
    fn collect(&mut self) {
        self.guest.interface.poll(instant(self.now), &mut self.guest.cable, &mut self.guest.sockets);
        for frame in core::mem::take(&mut self.guest.cable.tx) {
            match neighbour(&frame, &mut self.driver.pool) {
                Some(answer) => self.guest.cable.rx.push_back(answer),
                None => self.to_us.push(frame, &mut self.random),
            }
        }
    }

    /// Says whether anything moved.
    fn turn(&mut self) -> bool {
        let mut moved = self.guest.act(self.plan, &mut self.random);
        moved |= self.host.act(self.plan, &mut self.random);
        self.collect();
        for _ in 0..=self.random.below(BURST) {
            let Some(frame) = self.to_us.queue.pop_front() else { break };
            self.driver.hears(self.plan, &frame, &mut self.host, self.now);
            moved = true;
        }
        self.driver.runs(self.plan, &mut self.host, &mut self.random, self.now);
        for frame in core::mem::take(&mut self.driver.frames) {
            self.to_guest.push(frame, &mut self.random);
            moved = true;
        }
        for _ in 0..=self.random.below(BURST) {
            let Some(frame) = self.to_guest.queue.pop_front() else { break };
            self.guest.cable.rx.push_back(frame);
            moved = true;
        }
        self.collect();
        moved
    }

    /// To the next timer of either end, or a little on.
    fn rest(&mut self) {
        let guest = self.guest.interface.poll_at(instant(self.now), &self.guest.sockets);
        let guest = guest.map(|due| Time::from_nanos(due.total_micros() as u64 * 1_000));
        let machine = self.driver.tcp.as_ref().and_then(Tcp::deadline);
        let latest = self.now.after(Duration::from_secs(10));
        let due = guest.into_iter().chain(machine).fold(latest, Time::min);
        self.now = due.max(self.now.after(Duration::from_millis(1)));
    }

    fn is_done(&mut self) -> bool {
        let is_over = self.driver.tcp.as_ref().is_some_and(|tcp| tcp.state() == State::Over);
        is_over && self.host.at.saw_end && self.guest.is_done()
    }

    fn run(mut self) {
        let mut turns = 0;
        while !self.is_done() {
            turns += 1;
            let ends = (&self.guest.at, &self.host.at, self.guest.sockets.get::<Socket>(self.guest.handle).state());
            assert!(turns < TURN_LIMIT, "it does not end: {ends:?} {:?}", self.driver.tcp);
            if self.turn() {
                self.now = self.now.after(Duration::from_micros(self.random.below(500)));
            } else {
                self.rest();
            }
        }
        assert_eq!((self.guest.at.sent, self.host.at.received), (self.plan.guest_total, self.plan.guest_total));
        assert_eq!((self.host.at.sent, self.guest.at.received), (self.plan.host_total, self.plan.host_total));
        assert_eq!(self.host.received.len(), 0, "all was consumed");
        assert_eq!(self.driver.tcp.and_then(|tcp| tcp.deadline()), None);
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    let first = prop_oneof![Just(First::Both), Just(First::Guest), Just(First::Host)];
    let total = || prop_oneof![1 => Just(0_usize), 2 => 1..3_000_usize, 3 => 3_000..60_000_usize, 1 => 60_000..200_000_usize];
    let buffer = || prop::sample::select(vec![300_usize, 2_000, 10_000, 70_000, 200_000]);
    // The socket and what is beside it have room for a segment at the least.
    let socket = || prop::sample::select(vec![2_000_usize, 20_000, 200_000]);
    let spill = prop::sample::select(vec![0_usize, 4_000, 100_000]);
    let iss = prop_oneof![any::<u32>(), (0..50_000_u32).prop_map(|before| u32::MAX - before)];
    (
        (any::<u64>(), any::<bool>(), any::<bool>(), iss, prop::sample::select(vec![1_280_u16, 1_500])),
        (0..30_u64, 0..60_u32, total(), total(), first),
        (buffer(), buffer(), socket(), socket(), spill, prop::sample::select(vec![3_u64, 30, 70, 100])),
    )
        .prop_map(|((seed, is_v6, dial, iss, mtu), (fault_rate, faults, guest_total, host_total, first), rest)| {
            let (guest_rx, guest_tx, socket_in, socket_out, spill, diligence) = rest;
            Plan {
                seed,
                is_v6,
                dial,
                iss,
                mtu,
                fault_rate,
                faults,
                guest_total,
                host_total,
                guest_rx,
                guest_tx,
                socket_in,
                socket_out,
                spill,
                first,
                diligence,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_octet_is_lost_added_or_reordered(plan in plan()) {
        World::new(&plan).run();
    }
}

#[test]
fn a_mebibyte_each_way_without_a_loss() {
    for (is_v6, dial) in [(false, false), (false, true), (true, false), (true, true)] {
        let plan = Plan {
            seed: 7,
            is_v6,
            dial,
            iss: u32::MAX - 500_000,
            mtu: 1_500,
            fault_rate: 0,
            faults: 0,
            guest_total: 1 << 20,
            host_total: 1 << 20,
            guest_rx: 1 << 18,
            guest_tx: 1 << 18,
            socket_in: 1 << 18,
            socket_out: 1 << 18,
            spill: 1 << 16,
            first: First::Both,
            diligence: 100,
        };
        World::new(&plan).run();
    }
}
