//! The socket uplink: containers' flows end in sockets of the host.
//!
//! Theory. What a packet is and what is to be said to a container is decided in [`vswitch_nat::slirp`]; here are the sockets, one a flow
//! under the flow's slot, and the three turns of a breath:
//! - [`Sockets::take`], for each packet: payloads are *held*, in the buffers in which they came;
//! - [`Sockets::flush`], after each port's turn: a flow's held payloads go to its socket in one call, what it does not take is spilled, and
//!   all is acknowledged at once. What containers acknowledged is taken out of the sockets;
//! - [`Sockets::poll`], until it has nothing: acknowledgements and the like first, then what sockets have to say, a frame of up to
//!   64 KiB at a time, flow after flow.
//!
//! *Spill*: octets that a container sent within the window granted to it and that the socket did not take. It is bounded by the window,
//! [`SPILL`] a flow, and by [`SPILL_ALL`] together: beyond that nothing is taken, and the container sends it again.
//!
//! Edge-triggered readiness: a socket is *readable* from its event on until a peek finds less than it asked for; a socket whose other
//! end has closed stays so until the end was read, for no other event comes.
mod batch;
mod carry;
mod datagram;
mod listen;
mod tcp;

pub use carry::{CarriedBound, CarriedMapping, CarriedSession, CarriedStream};

use super::fit::Fitter;
use crate::sys::socket;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;
use vswitch_nat::Gateway;
use vswitch_nat::gateway::Routed;
use vswitch_nat::gateway::sockets::{AnyPacket, SocketPacket};
use vswitch_nat::icmp_error::IcmpError;
use vswitch_nat::slirp::flows::Flow;
use vswitch_switch::{FrameBuf, FramePool, Time};

/// Octets that one flow may have spilled: the window while nothing is.
pub const SPILL: u32 = 2 << 20;
/// Octets that the flows in use may send ahead together, as far as [`LEAST_ROOM`] each allows: half of what a TAP's queue of 256 frames
/// holds. What does not fit there is lost, and sent again only after a while.
const AHEAD: u32 = 8 << 20;
/// The same for one whose socket is full time and again.
const LEAST_ROOM: u32 = 128 << 10;
/// Octets that all flows together may.
pub const SPILL_ALL: usize = 64 << 20;
/// Payloads held at the most: a quarter of a worker's buffers.
const HELD: usize = 64;
/// Acknowledged octets that are left in a socket for a while, to be taken out together.
const LAZY: u32 = 256 << 10;
/// The same when nothing is on the way: a socket takes several times as many.
const LEFT: u32 = 8 << 10;
/// And so many exchanges at the most.
const LEFT_TIMES: u8 = 8;
/// And no longer than this. Few octets may be all that is left of a buffer of the kernel's that fills the socket: its sender is told of no
/// window then, and nothing else would come to take them out for.
const LEFT_FOR: Duration = Duration::from_millis(5);

/// Where tokens of flows begin: above those of ports.
const TCP_TOKENS: usize = 1 << 28;
/// The same of mappings, and of published ports.
const UDP_TOKENS: usize = 2 << 28;
const PUBLISHED_TOKENS: usize = 3 << 28;
/// Slots behind each.
const SLOTS: usize = (1 << 28) - 1;

/// What epoll said of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Something may be read.
    pub readable: bool,
    /// Something may be written, or a connection stands.
    pub writable: bool,
    /// The other end sends no more, or there is an error.
    pub closed: bool,
    /// There is an error.
    pub failed: bool,
}

/// A payload that waits for its flow's socket.
#[derive(Debug)]
struct Held {
    slot: u32,
    frame: FrameBuf,
    start: usize,
    len: usize,
}

/// See the module's theory.
#[derive(Debug)]
pub struct Sockets {
    registry: Registry,
    tcp: Vec<Option<tcp::Stream>>,
    held: Vec<Held>,
    /// Datagrams that wait likewise, and what became of those that were refused.
    waiting: Vec<batch::Waiting>,
    routed: VecDeque<Routed>,
    /// Flows whose socket may have something for the container.
    ready: VecDeque<u32>,
    /// Flows from whose socket octets are to be taken out.
    lazy: Vec<u32>,
    /// Flows in whose socket octets were left, and when they are to be taken out.
    left: Vec<u32>,
    left_until: Option<Time>,
    spilled: usize,
    /// Flows that sent in one turn, lately.
    crowd: u32,
    /// Frames that sockets have taken since this was asked for.
    done: u64,
    /// Changes of the stations at the last look.
    changes: u64,
    /// Flows that could not be, what their containers are told, and by whom.
    told: VecDeque<(Box<Flow>, IcmpError, Option<IpAddr>)>,
    udp: Vec<Option<datagram::Datagrams>>,
    datagrams_ready: VecDeque<datagram::Place>,
    datagrams_first: bool,
    listeners: listen::Listeners,
    /// Control messages are received here.
    control: Vec<u8>,
    /// Slots of published ports' sockets, and of mappings, in the process before, and here.
    adopted: HashMap<u32, u32>,
    adopted_mappings: HashMap<u32, u32>,
    /// An echo socket was refused, and that was told.
    ping_forbidden: bool,
    ping_told: bool,
    fitter: Fitter,
    /// Octets read to be left out, where the kernel cannot peek at an offset.
    waste: Vec<u8>,
}

impl Sockets {
    /// None yet; they will be waited for with `registry`.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            tcp: Vec::new(),
            held: Vec::with_capacity(HELD),
            waiting: Vec::with_capacity(HELD),
            routed: VecDeque::new(),
            ready: VecDeque::new(),
            lazy: Vec::new(),
            left: Vec::new(),
            left_until: None,
            spilled: 0,
            crowd: 1,
            done: 0,
            changes: 0,
            told: VecDeque::new(),
            udp: Vec::new(),
            datagrams_ready: VecDeque::new(),
            datagrams_first: false,
            listeners: listen::Listeners::default(),
            control: vec![0; socket::CONTROL],
            adopted: HashMap::new(),
            adopted_mappings: HashMap::new(),
            ping_forbidden: false,
            ping_told: false,
            fitter: Fitter::default(),
            waste: Vec::new(),
        }
    }

    /// Whether a token is one of ours.
    #[must_use]
    pub const fn is_token(token: Token) -> bool {
        token.0 >= TCP_TOKENS && token.0 < 4 << 28
    }

    /// Frames that sockets have taken since the last call.
    pub fn take_done(&mut self) -> u64 {
        std::mem::take(&mut self.done)
    }

    /// Frames held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len() + self.waiting.len()
    }

    /// When octets that were left in sockets are to be taken out; [`Sockets::flush`] does it.
    #[must_use]
    pub const fn deadline(&self) -> Option<Time> {
        self.left_until
    }

    /// Whether a turn would do something.
    #[must_use]
    pub fn has_work(&self, gateway: &Gateway) -> bool {
        !self.held.is_empty()
            || !self.waiting.is_empty()
            || !self.ready.is_empty()
            || !self.datagrams_ready.is_empty()
            || self.fitter.has_work()
            || self.listeners.has_work()
            || gateway.exchange().is_some_and(|exchange| exchange.flows.has_due())
    }

    /// A socket's event.
    pub fn event(&mut self, gateway: &mut Gateway, token: Token, event: Event, now: Time) {
        let slot = (token.0 & SLOTS) as u32;
        match token.0 & !SLOTS {
            TCP_TOKENS => self.stream_event(gateway, slot, event, now),
            UDP_TOKENS => self.datagram_event(datagram::Place::Mapping(slot), event),
            PUBLISHED_TOKENS => self.published_event(slot, event),
            _ => {}
        }
    }

    /// Takes a packet of a container's.
    pub fn take(&mut self, gateway: &mut Gateway, packet: SocketPacket, pool: &mut FramePool, now: Time) -> Routed {
        let is_tcp = match &packet.packet {
            AnyPacket::V4(p) => p.tuple().protocol == vswitch_nat::flow::protocol::TCP,
            AnyPacket::V6(p) => p.tuple().protocol == vswitch_nat::flow::protocol::TCP,
        };
        if is_tcp {
            return self.take_tcp(gateway, packet, pool, now);
        }
        self.take_datagram(gateway, packet, pool, now)
    }

    /// The next frame for a container; `None` when there is none now, or no buffer for it.
    pub fn poll(&mut self, gateway: &mut Gateway, pool: &mut FramePool, now: Time) -> Option<FrameBuf> {
        let changes = gateway.stations.changes();
        if std::mem::replace(&mut self.changes, changes) != changes {
            self.sweep(gateway);
        }
        if let Some(frame) = self.fitter.poll(pool) {
            return Some(frame);
        }
        self.accept(gateway, now);
        // In turn, so that neither waits for the other to have nothing.
        self.datagrams_first = !self.datagrams_first;
        if self.datagrams_first {
            self.poll_datagrams(gateway, pool, now).or_else(|| self.poll_tcp(gateway, pool, now))
        } else {
            self.poll_tcp(gateway, pool, now).or_else(|| self.poll_datagrams(gateway, pool, now))
        }
    }

    fn wait_for(&self, fd: &impl AsRawFd, token: Token, interest: Interest) -> io::Result<()> {
        self.registry.register(&mut SourceFd(&fd.as_raw_fd()), token, interest)
    }
}
