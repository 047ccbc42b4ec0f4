//! Clients of port 53 that come by TCP (RFC 7766).
//!
//! Theory. A connection is one of [`Tcp`]'s, as those to sockets of the host are; in place of the socket there are two buffers: what came and is
//! no whole message yet, and what was answered and is not acknowledged. The second begins where [`Tcp::in_flight`] counts from, so that sending
//! again is reading it again. Messages have their length before them (RFC 1035 4.2.2) and may come one behind another without waiting; each is
//! answered when its answer is there (RFC 7766 6.2.1.1, 7).
//!
//! Bounds: connections in all ([`STREAMS`]) and of a container ([`PER_CONTAINER`]), questions under way of a connection ([`UNDER_WAY`]), answers
//! that it has not taken ([`BACKLOG`]; what is asked behind that stays in its window), octets of all ([`OCTETS`]). When all connections are
//! taken, the one that has been idle for the longest gives way. Who says nothing for [`IDLE`] is hung up on (RFC 7766 6.2.3), and whoever then
//! does not hang up himself for as long is reset. A restart ends them all: clients connect again.
use super::queries::LONGEST;
use crate::flow::Address;
use crate::packet::Segment;
use crate::slirp::exchange::headers;
use crate::slirp::flows::{Flow, Flows};
use crate::slirp::tcp::{ACK_DELAY, State, Tcp};
use crate::slirp::wire::{Link, longest, tcp_headers, write_tcp};
use crate::station::{Owner, Stations};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use vswitch_switch::{FrameBuf, FramePool, Time};

/// Connections at the most.
pub const STREAMS: usize = 512;
/// Those of one container.
pub const PER_CONTAINER: usize = 32;
/// Questions of one connection that wait for a resolver.
pub const UNDER_WAY: usize = 32;
/// Octets of answers behind which no more questions of a connection are taken.
pub const BACKLOG: usize = 65_536;
/// Octets of the answers of all connections: whoever would pass it is reset.
pub const OCTETS: usize = 16 << 20;
/// For how long a connection may have nothing to say (RFC 7766 6.2.3: "on the order of a few seconds").
pub const IDLE: Duration = Duration::from_secs(10);
/// Octets that may come and wait.
const WINDOW: u32 = 0xffff;
/// Octets of a message's length before it (RFC 1035 4.2.2).
const LENGTH: usize = 2;

/// A connection: its slot, and which of those that had it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamId {
    slot: u32,
    serial: u32,
}

/// Why a connection is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The container has [`PER_CONTAINER`].
    Quota,
    /// All are in use.
    Full,
}

/// What a connection has for whoever answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asks {
    /// A message.
    Message(Vec<u8>),
    /// The length of a message that is none of a client's: nothing behind it can be understood.
    Senseless,
}

#[derive(Debug)]
struct Stream {
    serial: u32,
    /// What came, from the length of the next message on.
    input: Vec<u8>,
    /// Answers, from the first octet that is not acknowledged.
    output: Vec<u8>,
    under_way: usize,
    /// When it last asked, or took, something.
    last: Time,
    /// It will ask no more, or nobody listens any more.
    finishing: bool,
    is_listed: bool,
}

impl Stream {
    /// Octets of the next message with its length, once all are there.
    fn whole(&self) -> Option<usize> {
        let len = LENGTH + usize::from(u16::from_be_bytes(*self.input.first_chunk()?));
        (self.input.len() >= len).then_some(len)
    }

    /// Whether its next message may be taken.
    fn may_ask(&self) -> bool {
        self.under_way < UNDER_WAY && self.output.len() < BACKLOG
    }

    /// Nothing is to come of it but its end.
    fn has_said_all(&self) -> bool {
        self.finishing && self.under_way == 0 && self.whole().is_none()
    }
}

/// See the module's theory.
#[derive(Debug)]
pub struct Streams {
    flows: Flows,
    streams: BTreeMap<u32, Stream>,
    /// Those with a whole message.
    asking: VecDeque<u32>,
    /// Those that may have something to send.
    ready: VecDeque<u32>,
    /// Octets of all answers.
    octets: usize,
    serial: u32,
    /// When somebody may have been idle for too long.
    look: Option<Time>,
    /// Changes of the stations at the last look.
    changes: u64,
}

impl Streams {
    /// None yet; `seed` is nobody's business.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (asking, ready) = (VecDeque::new(), VecDeque::new());
        Self { flows: Flows::new(seed), streams: BTreeMap::new(), asking, ready, octets: 0, serial: 0, look: None, changes: 0 }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The connection between a container's end and the gateway's.
    #[must_use]
    pub fn find(&self, inside: SocketAddr, gateway: SocketAddr) -> Option<StreamId> {
        let slot = self.flows.find(inside, gateway)?;
        self.streams.get(&slot).map(|stream| StreamId { slot, serial: stream.serial })
    }

    /// A connection's container, hardware addresses and ends.
    #[must_use]
    pub fn ends(&self, id: StreamId) -> Option<(Owner, Link, SocketAddr, SocketAddr)> {
        self.get(id)?;
        self.flows.get(id.slot).map(|flow| (flow.owner, flow.link, flow.inside, flow.remote))
    }

    fn get(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(&id.slot).filter(|stream| stream.serial == id.serial)
    }

    fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.get_mut(&id.slot).filter(|stream| stream.serial == id.serial)
    }

    /// Takes a connection: the SYN `syn`, `sequence` a number that is not to be guessed (RFC 9293 3.4.1), `mtu` that of the container's link.
    ///
    /// # Errors
    /// There are too many.
    pub fn accept<A: Address>(
        &mut self,
        (owner, link): (Owner, Link),
        (inside, gateway): (SocketAddr, SocketAddr),
        syn: &Segment,
        (sequence, mtu): (u32, u16),
        now: Time,
    ) -> Result<StreamId, Refusal> {
        if self.flows.iter().filter(|(_, flow)| flow.owner == owner).count() >= PER_CONTAINER {
            return Err(Refusal::Quota);
        }
        if self.streams.len() >= STREAMS {
            self.give_way().ok_or(Refusal::Full)?;
        }
        let mut tcp = Tcp::accept(syn, sequence, mtu.saturating_sub(headers::<A>()), now);
        tcp.delay_acks(ACK_DELAY);
        tcp.connected(now);
        let slot = self.flows.insert(Flow::new(owner, link, (inside, gateway, gateway), tcp, now)).ok_or(Refusal::Full)?;
        self.serial = self.serial.wrapping_add(1);
        let (input, output) = (Vec::new(), Vec::new());
        let stream = Stream { serial: self.serial, input, output, under_way: 0, last: now, finishing: false, is_listed: false };
        self.streams.insert(slot, stream);
        self.flows.is_due(slot);
        self.look.get_or_insert(now.after(IDLE));
        Ok(StreamId { slot, serial: self.serial })
    }

    /// Ends the one that has been idle for the longest.
    fn give_way(&mut self) -> Option<()> {
        let idle = self.streams.iter().filter(|(_, stream)| stream.under_way == 0);
        let slot = idle.min_by_key(|(_, stream)| stream.last).map(|(slot, _)| *slot)?;
        self.remove(slot);
        Some(())
    }

    /// A segment of a connection's; `payload` is behind its header.
    pub fn segment(&mut self, id: StreamId, segment: &Segment, payload: &[u8], now: Time) {
        let (Some(flow), Some(stream)) =
            (self.flows.get_mut(id.slot), self.streams.get_mut(&id.slot).filter(|stream| stream.serial == id.serial))
        else {
            return;
        };
        let taken = flow.tcp.segment(segment, now);
        if taken.reset {
            self.remove(id.slot);
            return;
        }
        if flow.tcp.is_ended() && taken.len > 0 {
            // RFC 1122 4.2.2.13: nobody reads it any more.
            return self.abort(id);
        }
        let acknowledged = (taken.consume as usize).min(stream.output.len());
        stream.output.drain(..acknowledged);
        self.octets -= acknowledged;
        let (start, len) = (taken.skip as usize, taken.len as usize);
        stream.input.extend_from_slice(payload.get(start..start + len).unwrap_or_default());
        stream.finishing |= taken.finish;
        if acknowledged > 0 || stream.whole().is_some() {
            stream.last = now;
        }
        self.asking.push_back(id.slot);
        self.flows.touched(id.slot);
        self.flows.is_due(id.slot);
        self.list(id.slot);
    }

    /// A connection may have something to send.
    fn list(&mut self, slot: u32) {
        if let Some(stream) = self.streams.get_mut(&slot)
            && !core::mem::replace(&mut stream.is_listed, true)
        {
            self.ready.push_back(slot);
        }
    }

    /// The next message that somebody asks; it is under way until [`Streams::answer`] or [`Streams::abort`].
    pub fn ask(&mut self) -> Option<(StreamId, Asks)> {
        while let Some(slot) = self.asking.front().copied() {
            if let Some(stream) = self.streams.get_mut(&slot).filter(|stream| stream.may_ask()) {
                let id = StreamId { slot, serial: stream.serial };
                let len = stream.input.first_chunk().map_or(0, |len| usize::from(u16::from_be_bytes(*len)));
                if len > LONGEST {
                    return Some((id, Asks::Senseless));
                }
                if let Some(whole) = stream.whole() {
                    let message = stream.input.get(LENGTH..whole).unwrap_or_default().to_vec();
                    stream.input.drain(..whole);
                    stream.under_way += 1;
                    self.grant(slot);
                    return Some((id, Asks::Message(message)));
                }
            }
            self.asking.pop_front();
        }
        None
    }

    /// Lets a connection send on into the place that there is.
    fn grant(&mut self, slot: u32) {
        if let (Some(flow), Some(stream)) = (self.flows.get_mut(slot), self.streams.get(&slot)) {
            flow.tcp.grant(WINDOW.saturating_sub(u32::try_from(stream.input.len()).unwrap_or(WINDOW)));
            self.flows.is_due(slot);
        }
    }

    /// The answer to a question that is under way. Who is gone has none.
    pub fn answer(&mut self, id: StreamId, message: &[u8], now: Time) {
        let Ok(len) = u16::try_from(message.len()) else { return self.abort(id) };
        if self.octets + LENGTH + message.len() > OCTETS {
            return self.abort(id);
        }
        let Some(stream) = self.get_mut(id) else { return };
        stream.under_way = stream.under_way.saturating_sub(1);
        stream.last = now;
        stream.output.extend_from_slice(&len.to_be_bytes());
        stream.output.extend_from_slice(message);
        self.octets += LENGTH + message.len();
        self.asking.push_back(id.slot);
        self.list(id.slot);
    }

    /// Resets a connection: nobody hears what it asks behind.
    pub fn abort(&mut self, id: StreamId) {
        if let Some(stream) = self.get_mut(id) {
            stream.input.clear();
            if let Some(flow) = self.flows.get_mut(id.slot) {
                flow.tcp.reset();
            }
            self.flows.is_due(id.slot);
        }
    }

    fn remove(&mut self, slot: u32) {
        self.flows.remove(slot);
        if let Some(stream) = self.streams.remove(&slot) {
            self.octets -= stream.output.len();
        }
    }

    /// Forgets connections of stations that went, before anything else is said to them.
    pub fn end(&mut self, stations: &Stations) {
        if core::mem::replace(&mut self.changes, stations.changes()) == stations.changes() {
            return;
        }
        let gone: Vec<u32> = self.flows.iter().filter(|(_, flow)| !stations.is_current(flow.owner)).map(|(slot, _)| slot).collect();
        for slot in gone {
            self.remove(slot);
        }
    }

    /// Hangs up on who has been idle for too long.
    fn look(&mut self, now: Time) {
        if self.look.is_none_or(|look| look > now) {
            return;
        }
        let idle: Vec<u32> =
            self.streams.iter().filter(|(_, s)| s.under_way == 0 && now.since(s.last) >= IDLE).map(|(slot, _)| *slot).collect();
        for slot in idle {
            let Some(stream) = self.streams.get_mut(&slot) else { continue };
            stream.last = now;
            // Nothing was taken for as long, or not even the end.
            if core::mem::replace(&mut stream.finishing, true) || !stream.output.is_empty() {
                if let Some(flow) = self.flows.get_mut(slot) {
                    flow.tcp.reset();
                }
                self.flows.is_due(slot);
            }
            self.list(slot);
        }
        let next = self.streams.values().filter(|stream| stream.under_way == 0).map(|stream| stream.last.after(IDLE)).min();
        // Those with questions under way are looked at when they may be idle at the earliest.
        self.look = next.or((!self.streams.is_empty()).then(|| now.after(IDLE)));
    }

    /// Whether there is something to do at once.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.asking.is_empty() || !self.ready.is_empty() || self.flows.has_due()
    }

    /// When there is, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        [self.look, self.flows.deadline()].into_iter().flatten().min()
    }

    /// The next frame for a container.
    pub fn poll(&mut self, pool: &mut FramePool, now: Time) -> Option<FrameBuf> {
        self.look(now);
        while let Some((slot, _)) = self.flows.expire(now) {
            self.list(slot);
        }
        // Answers first: what they acknowledge need not be said again.
        while let Some(slot) = self.ready.front().copied() {
            let frame = pool.take()?;
            match self.send(slot, frame, now) {
                Ok(frame) => {
                    // Its turn is over: the next frame is another's.
                    self.ready.rotate_left(1);
                    return Some(frame);
                }
                Err(frame) => {
                    pool.put(frame);
                    self.ready.pop_front();
                    if let Some(stream) = self.streams.get_mut(&slot) {
                        stream.is_listed = false;
                    }
                }
            }
        }
        while let Some((slot, frame)) = self.flows.poll(pool, now) {
            if frame.is_some() {
                return frame;
            }
            if self.flows.get(slot).is_some_and(|flow| flow.tcp.state() == State::Over) {
                self.remove(slot);
            }
        }
        None
    }

    /// What a connection has to send now, in `frame`; the frame again when that is nothing.
    fn send(&mut self, slot: u32, mut frame: FrameBuf, now: Time) -> Result<FrameBuf, FrameBuf> {
        let (Some(flow), Some(stream)) = (self.flows.get_mut(slot), self.streams.get_mut(&slot)) else { return Err(frame) };
        let rest = stream.output.get(flow.tcp.in_flight() as usize..).unwrap_or_default();
        if rest.is_empty() {
            if stream.has_said_all() {
                flow.tcp.end(now);
            }
            self.flows.touched(slot);
            self.flows.is_due(slot);
            return Err(frame);
        }
        let mss = flow.tcp.mss();
        let len = rest.len().min(flow.tcp.may_send() as usize).min(longest(flow.inside.is_ipv6(), mss));
        if len == 0 {
            flow.tcp.stall(now);
            self.flows.touched(slot);
            return Err(frame);
        }
        let headers = tcp_headers(flow.inside.is_ipv6());
        let (Some(octets), true) = (rest.get(..len), frame.begin(headers + len)) else { return Err(frame) };
        if let Some(place) = frame.bytes_mut().get_mut(headers..) {
            place.copy_from_slice(octets);
        }
        let is_last = len == rest.len() && stream.has_said_all();
        let emit = if is_last { flow.tcp.send_last(len as u32, now) } else { flow.tcp.send(len as u32, now) };
        let is_written = write_tcp(&mut frame, flow.link, flow.remote, flow.inside, &emit, len, mss);
        self.flows.touched(slot);
        if is_written { Ok(frame) } else { Err(frame) }
    }
}

#[cfg(test)]
mod tests;
