//! What a segment of the container's does: handshake, acknowledgements, data, and resets.
use super::*;

impl Tcp {
    pub(super) fn synchronise(&mut self, syn: &Segment) {
        self.rcv = syn.seq.wrapping_add(1);
        (self.granted, self.told) = (self.rcv, self.rcv);
        self.window = u32::from(syn.window);
        self.said = (syn.seq, syn.ack);
        // RFC 7323 2.2: windows scale only where both say so.
        match syn.scale {
            Some(shift) => (self.shift, self.scale) = (shift.min(MAX_SHIFT), SCALE),
            None => (self.offer.scale, self.scale) = (None, 0),
        }
        self.mss = syn.mss.unwrap_or(DEFAULT_MSS).min(self.offer.mss).max(LEAST_MSS);
    }

    /// Takes a segment of the container's.
    pub fn segment(&mut self, s: &Segment, now: Time) -> Taken {
        self.heard = now;
        match self.state {
            State::Connecting => self.while_connecting(s),
            State::SynSent => self.while_asked(s, now),
            State::SynReceived | State::Established => self.while_open(s, now),
            State::Over => Taken::default(),
        }
    }

    pub(super) fn while_connecting(&mut self, s: &Segment) -> Taken {
        // It gave up, or its port is another's now.
        let gone = s.has(tcp::RST) && (s.seq == self.rcv || s.seq == self.rcv.wrapping_sub(1));
        self.gone(gone)
    }

    pub(super) fn gone(&mut self, gone: bool) -> Taken {
        if gone {
            self.state = State::Over;
            self.timer = Timer::None;
        }
        Taken { reset: gone, ..Taken::default() }
    }

    pub(super) fn while_asked(&mut self, s: &Segment, now: Time) -> Taken {
        let ours = s.has(tcp::ACK) && s.ack == self.max && self.max != self.una;
        if s.has(tcp::RST) {
            return self.gone(ours);
        }
        if s.has(tcp::ACK) && !ours {
            // It has a connection of before, which ends by this (RFC 9293 3.5.1, 3.10.7.3); then our SYN again is news.
            self.rst = Some((s.ack, tcp::RST));
            return Taken::default();
        }
        if ours && s.has(tcp::SYN) {
            self.synchronise(s);
            (self.una, self.next) = (s.ack, s.ack);
            self.granted = self.rcv.wrapping_add(0xffff);
            self.establish(now);
            self.ack_due = true;
        }
        Taken::default()
    }

    pub(super) fn establish(&mut self, now: Time) {
        self.state = State::Established;
        self.syn_due = false;
        self.timer = Timer::None;
        self.rearm(now);
    }

    pub(super) fn while_open(&mut self, s: &Segment, now: Time) -> Taken {
        if s.has(tcp::RST) {
            // RFC 5961 3.2: only the exact number is believed, one in the window is asked back.
            let exact = s.seq == self.rcv;
            self.ack_due |= !exact && !after(self.rcv, s.seq) && after(self.granted, s.seq);
            return self.gone(exact);
        }
        if s.has(tcp::SYN) {
            // RFC 5961 4.2; before our SYN|ACK arrived it is the same SYN again.
            if self.state == State::SynReceived {
                self.syn_due = true
            } else {
                self.ack_due = true
            }
            return Taken::default();
        }
        if !s.has(tcp::ACK) {
            return Taken::default();
        }
        // RFC 9293 3.10.7.4, first: nothing of a segment beyond the window is believed. Its number would be the newest, and so the window that
        // it says the last.
        if after(s.seq, if self.finished { self.rcv } else { self.granted }) {
            self.ack_due = true;
            return Taken::default();
        }
        if self.state == State::SynReceived {
            if s.ack != self.max || self.max == self.una {
                // RFC 9293 3.10.7.4, fifth: it is of another connection.
                self.rst = Some((s.ack, tcp::RST));
                return Taken::default();
            }
            (self.una, self.next) = (s.ack, s.ack);
            self.establish(now);
            self.window_of(s);
            self.duplicates = 0;
        }
        // Not by after() alone: a number half of sequence space on comes after none.
        if !after(self.una, s.ack) && s.ack.wrapping_sub(self.una) > self.max.wrapping_sub(self.una) {
            self.ack_due = true;
            return Taken::default();
        }
        let consume = self.acknowledged(s, now);
        let mut taken = self.data(s, now);
        taken.consume = consume;
        if taken.finish && self.timer == Timer::Idle {
            // From now on it is asked sooner.
            self.timer = Timer::None;
        }
        if self.finished && self.fin.is_some_and(|fin| after(self.una, fin)) {
            self.state = State::Over;
            self.timer = Timer::None;
        } else {
            self.rearm(now);
        }
        taken
    }

    pub(super) fn window_of(&mut self, s: &Segment) -> bool {
        let (seq, ack) = self.said;
        if after(s.seq, seq) || (s.seq == seq && !after(ack, s.ack)) {
            let window = u32::from(s.window) << self.shift;
            let changed = window != self.window;
            self.window = window;
            self.said = (s.seq, s.ack);
            return changed;
        }
        false
    }

    /// The acknowledgement of a segment; says how many octets of the host's it covers for the first time.
    #[inline]
    pub(super) fn acknowledged(&mut self, s: &Segment, now: Time) -> u32 {
        if after(self.una, s.ack) {
            return 0;
        }
        let changed = self.window_of(s);
        let count = s.ack.wrapping_sub(self.una);
        if count == 0 {
            let equal = s.len == 0 && !changed && !s.has(tcp::FIN) && self.max != self.una;
            self.duplicates = if equal { self.duplicates.saturating_add(1) } else { self.duplicates };
            if equal && self.duplicates == DUPLICATES && self.recover.is_none() {
                self.go_back();
            }
            return 0;
        }
        let fin = self.fin.is_some_and(|fin| after(s.ack, fin));
        self.una = s.ack;
        if after(self.una, self.next) {
            // What was sent before we went back has arrived after all.
            self.next = self.una;
            self.seek = true;
        }
        self.duplicates = 0;
        if self.recover.is_some_and(|recover| after(self.una, recover)) {
            self.recover = None;
        }
        // Progress: the timer begins anew.
        self.timer = Timer::None;
        self.rearm(now);
        count - u32::from(fin)
    }

    /// Sends again from what is not acknowledged.
    pub(super) fn go_back(&mut self) {
        self.recover = Some(self.max);
        self.next = self.una;
        self.seek = true;
    }

    #[inline]
    pub(super) fn data(&mut self, s: &Segment, now: Time) -> Taken {
        let fin = u32::from(s.has(tcp::FIN));
        let none = Taken::default();
        if s.len + fin == 0 {
            // RFC 9293 3.10.7.4: what lies outside the window is answered; a keepalive (RFC 9293 3.8.4) does.
            self.ack_due |= after(self.rcv, s.seq);
            return none;
        }
        let skip = self.rcv.wrapping_sub(s.seq);
        if self.finished || after(s.seq, self.rcv) || skip > s.len {
            // RFC 5681 4.2: at once, for its sender has lost something.
            self.ack_due = true;
            return none;
        }
        let room = self.granted.wrapping_sub(self.rcv);
        let len = (s.len - skip).min(room).min(self.most);
        self.rcv = self.rcv.wrapping_add(len);
        let finish = fin == 1 && skip + len == s.len;
        if finish {
            self.finished = true;
            self.rcv = self.rcv.wrapping_add(1);
            // Nothing comes any more, so nothing need be granted.
            if after(self.rcv, self.granted) {
                self.granted = self.rcv;
            }
        }
        let waits = self.ack_by.is_some() || self.patience == Duration::ZERO;
        // Our own end may go with the acknowledgement of theirs, if it is still to come.
        let is_last = fin == 1 && self.fin.is_some();
        if waits || skip > 0 || is_last || len < s.len || len >= 2 * u32::from(self.mss) {
            // RFC 9293 3.8.6.3: every second segment at the least.
            self.ack_due = true;
        } else {
            self.ack_by = Some(now.after(self.patience));
        }
        Taken { skip, len, finish, ..none }
    }
}
