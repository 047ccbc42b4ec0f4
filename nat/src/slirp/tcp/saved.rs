//! A connection as it is handed to another process: plain numbers. Timers begin anew there.
use super::*;

/// See the module's text. What each is says [`Tcp`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the fields of Tcp under their names")]
pub struct Saved {
    /// 0 connecting, 1 SYN received, 2 SYN sent, 3 established, 4 over.
    pub state: u8,
    pub una: u32,
    pub next: u32,
    pub max: u32,
    pub window: u32,
    pub said: (u32, u32),
    pub shift: u8,
    pub mss: u16,
    pub fin: Option<u32>,
    pub rcv: u32,
    pub granted: u32,
    pub told: u32,
    pub scale: u8,
    pub offer_mss: u16,
    pub offer_scale: Option<u8>,
    pub finished: bool,
    pub ack_due: bool,
    pub syn_due: bool,
}

impl Tcp {
    /// As it is now.
    #[must_use]
    pub const fn save(&self) -> Saved {
        Saved {
            state: self.state as u8,
            una: self.una,
            next: self.next,
            max: self.max,
            window: self.window,
            said: self.said,
            shift: self.shift,
            mss: self.mss,
            fin: self.fin,
            rcv: self.rcv,
            granted: self.granted,
            told: self.told,
            scale: self.scale,
            offer_mss: self.offer.mss,
            offer_scale: self.offer.scale,
            finished: self.finished,
            ack_due: self.ack_due,
            syn_due: self.syn_due,
        }
    }

    /// As it was; `None` when that can be no connection.
    #[must_use]
    pub fn restore(saved: &Saved, now: Time) -> Option<Self> {
        let state = match saved.state {
            0 => State::Connecting,
            1 => State::SynReceived,
            2 => State::SynSent,
            3 => State::Established,
            _ => return None,
        };
        let mut it = Self::new(state, saved.una, saved.offer_mss, now);
        (it.next, it.max, it.window, it.said) = (saved.next, saved.max, saved.window, saved.said);
        (it.shift, it.mss, it.fin) = (saved.shift.min(MAX_SHIFT), saved.mss.max(LEAST_MSS), saved.fin);
        (it.rcv, it.granted, it.told, it.scale) = (saved.rcv, saved.granted, saved.told, saved.scale.min(SCALE));
        (it.offer.scale, it.finished) = (saved.offer_scale, saved.finished);
        it.delay_acks(ACK_DELAY);
        // What waited is said at once.
        it.ack_due = saved.ack_due || state == State::Established;
        (it.syn_due, it.seek) = (saved.syn_due, true);
        match state {
            State::SynReceived | State::SynSent => it.arm(Timer::Handshake, now),
            State::Connecting | State::Established | State::Over => it.rearm(now),
        }
        Some(it)
    }
}
