//! One TCP connection between a container and a socket of the host: *translated*, not terminated twice.
//!
//! Theory. The kernel's socket is the other half of this machine. What the host sent stays in the socket until the container has
//! acknowledged it: it is read by peeking, at the offset [`Tcp::in_flight`], so that sending again is peeking again. What the
//! container sent goes to the socket at once and is acknowledged then (RFC 9293 3.8.6.3 does not ask for more: any proxy answers for what its
//! own kernel holds). So there is no second send buffer, no second receive queue and no congestion control: between us and the
//! container is a link without loss, of microseconds.
//!
//! ```text
//! container SYN -> Connecting -- host connected --> SynReceived -- its ACK ---+
//! host accepted -> SynSent ------------------------- its SYN|ACK -------------+--> Established -- both FINs acknowledged --> Over
//! any of them   -- RST of either, or nobody answers ----------------------------------------------------------------> Over
//! ```
//! Each direction closes alone: the container's FIN is a shutdown() of the socket, the host's end of data a FIN (RFC 9293 3.6).
//!
//! Loss is rare (a queue of the container's that is full) and mended simply: what arrives out of order is not kept, so the container sends it
//! again; three equal acknowledgements or a timer make us go back to what is not acknowledged (RFC 9293 3.8.1 with the timer of RFC 6298,
//! no selective acknowledgements, as none are announced). A window of zero is probed, for ever, as long as the probes are answered
//! (RFC 9293 3.8.6.1). A peer that says nothing for long is asked whether it is there (RFC 9293 3.8.4): so a container's half of a
//! connection whose process is gone ends by its own RST, and one that lives may be half closed for days.
//!
//! Not done: urgent data is data like any other (RFC 6093 advises against its use); timestamps, SACK and ECN are not negotiated;
//! simultaneous open is not possible with a socket on the other side.
use crate::packet::{Segment, tcp};
use core::time::Duration;
use vswitch_switch::Time;

mod receive;
mod saved;
mod timer;
pub use saved::Saved;

/// Shift of the windows that we announce (RFC 7323 2.3): up to 16 MiB.
pub const SCALE: u8 = 8;
/// The largest window that we announce, octets.
pub const MAX_WINDOW: u32 = 0xffff << SCALE;
/// The largest shift that counts (RFC 7323 2.3).
const MAX_SHIFT: u8 = 14;
/// Payload octets where nobody says more (RFC 9293 3.7.1: 536 for IPv4, 1220 for IPv6, of which the smaller is always safe).
pub const DEFAULT_MSS: u16 = 536;
/// The least payload that we send in one segment, whatever is announced.
const LEAST_MSS: u16 = 64;
/// First wait for the answer to a SYN or SYN|ACK (RFC 6298 2.1).
pub const HANDSHAKE: Duration = Duration::from_secs(1);
/// Times that a SYN or SYN|ACK is sent again: 63 s until the end.
const HANDSHAKES: u8 = 5;
/// First wait for an acknowledgement: longer than Linux waits with its own (200 ms). RFC 6298 2.4 asks for 1 s on the Internet; this is a
/// virtual link.
pub const RETRANSMIT: Duration = Duration::from_millis(300);
/// Longest wait of those that double (RFC 6298 2.5).
const LONGEST: Duration = Duration::from_secs(60);
/// Times that data is sent again: some 4 minutes until the end (RFC 9293 3.8.3: R2 at least 100 s).
const RETRANSMITS: u8 = 11;
/// First wait before a window of zero is probed.
pub const PERSIST: Duration = Duration::from_millis(300);
/// Silence after which a peer is asked whether it is there (RFC 9293 3.8.4: at least 2 hours).
pub const KEEPALIVE: Duration = Duration::from_secs(7_200);
/// The same once one direction has closed: a container's kernel keeps a connection that no process holds for 60 s only.
pub const HALF_CLOSED: Duration = Duration::from_secs(60);
/// Between two questions that were not answered, and how many may be.
const KEEPALIVE_AGAIN: Duration = Duration::from_secs(75);
const KEEPALIVES: u8 = 9;
/// Equal acknowledgements that mean a loss (RFC 5681 3.2).
const DUPLICATES: u8 = 3;

/// How long the acknowledgement of less than two segments may wait for data to go with (RFC 9293 3.8.6.3: less than 500 ms): as long as a
/// server nearby needs to answer, for it saves a system call.
pub const ACK_DELAY: Duration = Duration::from_millis(1);

/// Where a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// The container's SYN waits for the host's connect().
    Connecting,
    /// It was answered.
    SynReceived,
    /// The host's connection was accepted and the container asked.
    SynSent,
    /// Both ends are there; each direction may have closed.
    Established,
    /// It is over: acknowledged to both ends, or reset.
    Over,
}

/// What a SYN offers, and what ours does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Maximum segment size.
    pub mss: u16,
    /// Shift of the window, if windows scale.
    pub scale: Option<u8>,
}

/// A segment to be sent to the container, payload apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Emit {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; zero without the flag.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window as on the wire.
    pub window: u16,
    /// Options, on a SYN.
    pub offer: Option<Offer>,
}

/// What a segment of the container asks of the host's socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// Octets of its payload to be left out, for they came before.
    pub skip: u32,
    /// Octets of its payload that go to the socket.
    pub len: u32,
    /// Octets of the socket's that the container has: they can be taken out of it.
    pub consume: u32,
    /// The container will send no more: shutdown() after what it sent.
    pub finish: bool,
    /// The container has reset the connection: so is the host's.
    pub reset: bool,
}

/// What a timer came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expired {
    /// Something is to be sent, or nothing; [`Tcp::poll`] knows.
    Goes,
    /// The container does not answer: the host's connection is to be reset.
    Abort,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Timer {
    None,
    Handshake,
    Retransmit,
    Persist,
    Idle,
}

/// See the module's theory.
#[derive(Clone, Debug)]
pub struct Tcp {
    state: State,
    /// The oldest octet that the container has not acknowledged, the next to be sent, and one beyond the highest that was.
    una: u32,
    next: u32,
    max: u32,
    /// The container's window in octets, and the segment that said it (RFC 9293 3.10.7.4: SND.WL1, SND.WL2).
    window: u32,
    said: (u32, u32),
    shift: u8,
    mss: u16,
    /// Where our FIN is, once the host has ended.
    fin: Option<u32>,
    duplicates: u8,
    /// Until more than this is acknowledged, equal acknowledgements are about the same loss, or about what was sent twice for it
    /// (RFC 6582 3.2 and 4).
    recover: Option<u32>,
    /// The socket is to be peeked at [`Tcp::in_flight`] anew.
    seek: bool,
    /// The next octet of the container's, the edge of the window granted to it, and the edge that it was told.
    rcv: u32,
    granted: u32,
    told: u32,
    /// Our shift; zero where windows do not scale.
    scale: u8,
    offer: Offer,
    most: u32,
    finished: bool,
    ack_due: bool,
    /// How long an acknowledgement may wait, and until when one does.
    patience: Duration,
    ack_by: Option<Time>,
    syn_due: bool,
    probe_due: bool,
    /// Number and flags of a RST to be sent.
    rst: Option<(u32, u8)>,
    /// There is data of the host's for which there is no window.
    stalled: bool,
    timer: Timer,
    due: Time,
    /// How often the wait has doubled, and how many of what was sent in vain in a row.
    tries: u8,
    silent: u8,
    heard: Time,
}

/// Whether `a` comes after `b` in sequence space (RFC 9293 3.4).
#[inline]
const fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

impl Tcp {
    fn new(state: State, iss: u32, mss: u16, now: Time) -> Self {
        Self {
            state,
            una: iss,
            next: iss,
            max: iss,
            window: 0,
            said: (0, 0),
            shift: 0,
            mss: DEFAULT_MSS,
            fin: None,
            duplicates: 0,
            recover: None,
            seek: false,
            rcv: 0,
            granted: 0,
            told: 0,
            scale: 0,
            offer: Offer { mss, scale: Some(SCALE) },
            most: u32::MAX,
            finished: false,
            ack_due: false,
            patience: Duration::ZERO,
            ack_by: None,
            syn_due: false,
            probe_due: false,
            rst: None,
            stalled: false,
            timer: Timer::None,
            due: now,
            tries: 0,
            silent: 0,
            heard: now,
        }
    }

    /// A container's SYN: the host is to be connected now. `iss` is our initial sequence number (RFC 6528), `mss` the largest
    /// payload of the container's link, which limits both directions.
    #[must_use]
    pub fn accept(syn: &Segment, iss: u32, mss: u16, now: Time) -> Self {
        let mut it = Self::new(State::Connecting, iss, mss, now);
        it.synchronise(syn);
        it
    }

    /// The host has accepted a connection: the container is to be asked.
    #[must_use]
    pub fn dial(iss: u32, mss: u16, now: Time) -> Self {
        let mut it = Self::new(State::SynSent, iss, mss, now);
        it.syn_due = true;
        it.arm(Timer::Handshake, now);
        it
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Payload octets of a segment to the container.
    #[inline]
    #[must_use]
    pub const fn mss(&self) -> u16 {
        self.mss
    }

    /// The sequence number of the container's SYN, while nothing else came.
    #[must_use]
    pub const fn first(&self) -> u32 {
        self.rcv.wrapping_sub(1)
    }

    /// Acknowledgements of little data may wait so long from now on, see [`ACK_DELAY`].
    pub const fn delay_acks(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// At most so many octets of the next segment are taken, what is more is as if it were lost.
    pub const fn limit(&mut self, most: u32) {
        self.most = most;
    }

    /// Octets of the host's that were sent and not acknowledged: the offset at which the socket is peeked.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        // Our SYN has a number, and our FIN, and neither is an octet of the socket's.
        if matches!(self.state, State::Connecting | State::SynReceived | State::SynSent) {
            return 0;
        }
        let fin = self.fin.is_some_and(|fin| after(self.next, fin) && !after(self.una, fin));
        self.next.wrapping_sub(self.una) - u32::from(fin)
    }

    /// Whether the peek offset has to be set anew; says it once.
    pub fn take_seek(&mut self) -> bool {
        core::mem::take(&mut self.seek)
    }

    /// Whether the container has sent its FIN.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the host has ended.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.fin.is_some()
    }

    /// Whether data may go to the container at all.
    #[must_use]
    pub fn takes_data(&self) -> bool {
        self.state == State::Established && self.fin.is_none_or(|fin| after(fin, self.next))
    }

    /// The host's connect() succeeded.
    pub fn connected(&mut self, now: Time) {
        if self.state == State::Connecting {
            self.state = State::SynReceived;
            self.syn_due = true;
            self.arm(Timer::Handshake, now);
        }
    }

    /// Octets of the host's that may be sent now. Less than a segment goes only when nothing is on the way (RFC 9293 3.8.6.2.1).
    #[inline]
    #[must_use]
    pub fn may_send(&self) -> u32 {
        if !self.takes_data() {
            return 0;
        }
        let room = self.room();
        if room < u32::from(self.mss) && self.next != self.una { 0 } else { room }
    }

    /// What is left of the container's window.
    #[inline]
    fn room(&self) -> u32 {
        self.window.saturating_sub(self.next.wrapping_sub(self.una))
    }

    /// There is data of the host's that [`Tcp::may_send`] does not let go.
    pub fn stall(&mut self, now: Time) {
        self.stalled = true;
        self.rearm(now);
    }

    /// Data of the host's is being sent: the header of its segment.
    #[inline]
    pub fn send(&mut self, len: u32, now: Time) -> Emit {
        let emit = self.emit(self.next, tcp::ACK | tcp::PSH);
        self.next = self.next.wrapping_add(len);
        if after(self.next, self.max) {
            self.max = self.next;
        }
        self.stalled = false;
        self.rearm(now);
        emit
    }

    /// The same of the last data, the host has ended: the end goes with it, if the container has room for both.
    pub fn send_last(&mut self, len: u32, now: Time) -> Emit {
        let fits = self.may_send() > len;
        let mut emit = self.send(len, now);
        self.end(now);
        if fits && self.fin == Some(self.next) {
            emit.flags |= tcp::FIN;
            self.next = self.next.wrapping_add(1);
            if after(self.next, self.max) {
                self.max = self.next;
            }
        }
        emit
    }

    /// The host has ended, behind what was peeked last.
    pub fn end(&mut self, now: Time) {
        if self.fin.is_none() && self.state == State::Established {
            self.fin = Some(self.next);
            self.stalled = false;
            self.rearm(now);
        }
    }

    /// Ends the connection with a RST to the container.
    pub fn reset(&mut self) {
        self.rst = match self.state {
            State::Connecting | State::SynReceived | State::Established => Some((self.number(), tcp::RST | tcp::ACK)),
            // Nothing of the container's is known that could be acknowledged.
            State::SynSent => Some((self.max, tcp::RST)),
            State::Over => self.rst,
        };
        self.state = State::Over;
        self.timer = Timer::None;
    }

    /// The host's side can take `room` octets beyond those that the container has sent. A window that was granted stays granted
    /// (RFC 9293 3.8.6: shrinking is discouraged), a smaller one than a segment is not.
    pub fn grant(&mut self, room: u32) {
        let room = room.min(if self.scale == 0 { 0xffff } else { MAX_WINDOW });
        let edge = self.rcv.wrapping_add(room);
        if room < u32::from(self.mss) || !after(edge, self.granted) {
            return;
        }
        self.granted = edge;
        let was_closed = self.told.wrapping_sub(self.rcv) < u32::from(self.mss);
        let more = edge.wrapping_sub(self.told);
        // RFC 9293 3.8.6.2.2; what is told with every acknowledgement anyway is not worth a segment.
        if was_closed && more >= u32::from(self.mss) && self.state == State::Established && !self.finished {
            self.ack_due = true;
        }
    }

    /// What is to be sent besides data; `None` when nothing is.
    pub fn poll(&mut self, now: Time) -> Option<Emit> {
        if let Some((seq, flags)) = self.rst.take() {
            let emit = self.emit(seq, flags);
            return Some(Emit { ack: if flags & tcp::ACK == 0 { 0 } else { emit.ack }, ..emit });
        }
        match self.state {
            State::SynReceived if self.syn_due => Some(self.synchronised(tcp::SYN | tcp::ACK)),
            State::SynSent if self.syn_due => Some(self.synchronised(tcp::SYN)),
            State::SynReceived => self.ack_due.then(|| self.emit(self.number(), tcp::ACK)),
            State::Connecting | State::SynSent => None,
            State::Established | State::Over => self.poll_open(now),
        }
    }

    fn poll_open(&mut self, now: Time) -> Option<Emit> {
        if self.fin == Some(self.next) && self.state == State::Established && self.room() > 0 {
            let emit = self.emit(self.next, tcp::FIN | tcp::ACK);
            self.next = self.next.wrapping_add(1);
            if after(self.next, self.max) {
                self.max = self.next;
            }
            self.rearm(now);
            return Some(emit);
        }
        if core::mem::take(&mut self.probe_due) {
            // An octet that the container has already: it must answer, and says its window with it.
            return Some(self.emit(self.una.wrapping_sub(1), tcp::ACK));
        }
        self.ack_due.then(|| self.emit(self.number(), tcp::ACK))
    }

    /// The number of a segment without data: one that the container's window has, whatever of the data has come. Before it, all that the
    /// segment says would be dropped (RFC 9293 3.10.7.4), of a RST even without an answer (RFC 5961 3.2).
    fn number(&self) -> u32 {
        let edge = self.una.wrapping_add(self.window);
        if self.state == State::Established && after(self.max, edge) { edge } else { self.max }
    }

    fn synchronised(&mut self, flags: u8) -> Emit {
        self.syn_due = false;
        if self.state == State::SynReceived {
            // The window of a SYN is never scaled (RFC 7323 2.2).
            self.told = self.rcv.wrapping_add(0xffff);
            if after(self.told, self.granted) {
                self.granted = self.told;
            }
        }
        self.max = self.una.wrapping_add(1);
        self.next = self.max;
        let ack = if flags & tcp::ACK == 0 { 0 } else { self.rcv };
        Emit { seq: self.una, ack, flags, window: 0xffff, offer: Some(self.offer) }
    }

    fn emit(&mut self, seq: u32, flags: u8) -> Emit {
        self.ack_due = false;
        self.ack_by = None;
        let window = self.granted.wrapping_sub(self.rcv) >> self.scale;
        self.told = self.rcv.wrapping_add(window << self.scale);
        Emit { seq, ack: self.rcv, flags, window: window.min(0xffff) as u16, offer: None }
    }
}

#[cfg(test)]
mod tests;
