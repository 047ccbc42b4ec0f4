//! The one timer of a connection: what it waits for, how long, and what is done when nothing came.
use super::*;

impl Tcp {
    /// When [`Tcp::expire`] is to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let timer = (self.timer != Timer::None).then_some(self.due);
        timer.into_iter().chain(self.ack_by).min()
    }

    pub(super) fn rearm(&mut self, now: Time) {
        let has_fin = self.fin.is_some_and(|fin| !after(self.una, fin));
        let timer = if self.state != State::Established {
            return;
        } else if self.window == 0 && (self.stalled || has_fin || self.max != self.una) {
            // RFC 9293 3.8.6: a window that shrank to nothing under what was sent is probed too (MUST-35), and no reason to give up.
            Timer::Persist
        } else if self.max != self.una {
            Timer::Retransmit
        } else if self.stalled && self.window < u32::from(self.mss) {
            Timer::Persist
        } else {
            Timer::Idle
        };
        if timer != self.timer {
            (self.tries, self.silent) = (0, 0);
            self.arm(timer, now);
        }
    }

    pub(super) fn arm(&mut self, timer: Timer, now: Time) {
        self.timer = timer;
        self.due = now.after(self.wait());
    }

    pub(super) fn wait(&self) -> Duration {
        let doubled = |first: Duration| (first * (1 << self.tries.min(10))).min(LONGEST);
        match self.timer {
            Timer::None => LONGEST,
            Timer::Handshake => doubled(HANDSHAKE),
            Timer::Retransmit => doubled(RETRANSMIT),
            Timer::Persist => doubled(PERSIST),
            Timer::Idle if self.tries > 0 => KEEPALIVE_AGAIN,
            Timer::Idle if self.finished || self.fin.is_some() => HALF_CLOSED,
            Timer::Idle => KEEPALIVE,
        }
    }

    /// The deadline has come.
    pub fn expire(&mut self, now: Time) -> Expired {
        if self.ack_by.take_if(|by| *by <= now).is_some() {
            self.ack_due = true;
        }
        if self.timer == Timer::None || self.due > now {
            return Expired::Goes;
        }
        let most = match self.timer {
            Timer::None => 0,
            Timer::Handshake => HANDSHAKES,
            Timer::Retransmit => RETRANSMITS,
            Timer::Persist => RETRANSMITS,
            Timer::Idle => KEEPALIVES,
        };
        // In the same instant counts: the clock may be read once for both.
        let answered = self.due.since(self.heard) <= self.wait();
        match self.timer {
            // A window of zero is no reason to give up, a container that is silent is.
            Timer::Persist | Timer::Idle if answered => {
                self.silent = 0;
                if self.timer == Timer::Idle {
                    self.tries = 0;
                    self.due = self.heard.after(self.wait());
                    if self.due > now {
                        return Expired::Goes;
                    }
                }
            }
            Timer::None | Timer::Handshake | Timer::Retransmit | Timer::Persist | Timer::Idle => {
                if self.silent >= most {
                    self.reset();
                    return Expired::Abort;
                }
            }
        }
        match self.timer {
            Timer::None => {}
            Timer::Handshake => self.syn_due = true,
            Timer::Retransmit => {
                self.go_back();
                self.duplicates = 0;
            }
            Timer::Persist => {
                self.probe_due = true;
                if self.max != self.una {
                    self.go_back();
                }
            }
            Timer::Idle => self.probe_due = true,
        }
        (self.tries, self.silent) = (self.tries.saturating_add(1), self.silent.saturating_add(1));
        self.arm(self.timer, now);
        Expired::Goes
    }
}
