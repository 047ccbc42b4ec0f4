//! Looking out: a worker that has nothing to do waits awake for a while before it sleeps.
//!
//! Theory. To be woken takes a worker far longer than what it is woken for: the processor's idle state is left first, and in a virtual machine
//! that is the hypervisor's business. So it looks for more before it sleeps, as the halt polling of KVM does
//! (Documentation/virt/kvm/halt-polling.rst) and net.core.busy_poll: a glance ([`GLANCE`]) always, for what answers at once; a long look
//! ([`LOOK`]) as long as one of [`PATIENCE`] long ones finds something that a glance would not have, else at one wait of [`SELDOM`], so that it
//! is noticed when that begins to pay. Traffic of another rhythm costs some 20 us a wait then, and no traffic nothing.
use super::{Time, Worker, clock};
use mio::{Events, Poll};
use std::io;
use std::time::Duration;

/// A long look: somewhat more than it takes to be woken.
const LOOK: Duration = Duration::from_micros(60);
/// A short one.
const GLANCE: Duration = Duration::from_micros(6);
/// Octets of a millisecond from which on data is moved in bulk: then whoever sends or takes it needs the processor more, nobody waits for a
/// single frame, and those that come while a worker is woken go on together. 32 MiB/s are 270 Mbit/s.
const BULK: usize = 32 << 10;
const MILLISECOND: Duration = Duration::from_millis(1);
/// Long looks in vain until they are rare.
const PATIENCE: u8 = 16;
/// Waits of which one begins with a long look then.
const SELDOM: u8 = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// When the present millisecond began, its octets so far, and those of the one before.
    since: Time,
    octets: usize,
    before: usize,
    patience: u8,
    waits: u8,
}

impl Lookout {
    /// How long to look now, after a breath in which so many octets came.
    fn span(&mut self, inhaled: usize, now: Time) -> Duration {
        let age = now.since(self.since);
        if age >= MILLISECOND {
            self.before = if age < 2 * MILLISECOND { self.octets } else { 0 };
            (self.since, self.octets) = (now, 0);
        }
        self.octets += inhaled;
        if self.octets.max(self.before) >= BULK {
            return Duration::ZERO;
        }
        self.waits = (self.waits + 1) % SELDOM;
        if self.patience > 0 || self.waits == 0 { LOOK } else { GLANCE }
    }

    /// A look has found something, after so long; or nothing.
    fn ended(&mut self, found: Option<Duration>) {
        match found {
            Some(after) if after > GLANCE => self.patience = PATIENCE,
            Some(_) => {}
            None => self.patience = self.patience.saturating_sub(1),
        }
    }
}

impl Worker {
    /// Waits for events: while nothing else is to be done until something is due, first awake.
    pub(super) fn wait(&mut self, events: &mut Events, idle: bool) -> io::Result<()> {
        if !idle {
            return poll(&mut self.poll, events, Some(Duration::ZERO));
        }
        let begin = clock::now();
        let timeout = self.until_deadline(begin);
        let span = self.lookout.span(self.datapath.inhaled(), begin);
        if !self.paused && !span.is_zero() && timeout.is_none_or(|timeout| timeout > span) {
            loop {
                poll(&mut self.poll, events, Some(Duration::ZERO))?;
                let after = clock::now().since(begin);
                if !events.is_empty() {
                    self.lookout.ended(Some(after));
                    return Ok(());
                }
                if after >= span {
                    self.lookout.ended(None);
                    break;
                }
                std::hint::spin_loop();
            }
        }
        poll(&mut self.poll, events, timeout)
    }
}

fn poll(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Microseconds looked for in vain, of so many waits that end after the times given, in turn; and how many were met.
    fn looked(lookout: &mut Lookout, waits: usize, ends: &[u64]) -> (u64, usize) {
        let (mut vain, mut met, mut now) = (Duration::ZERO, 0, lookout.since.after(MILLISECOND));
        for end in ends.iter().cycle().take(waits).copied().map(Duration::from_micros) {
            let span = lookout.span(64, now);
            now = now.after(end);
            let found = Some(end).filter(|end| *end <= span);
            met += usize::from(found.is_some());
            vain += if found.is_some() { Duration::ZERO } else { span };
            lookout.ended(found);
        }
        (vain.as_micros() as u64, met)
    }

    #[test]
    fn what_does_not_pay_costs_little() {
        let mut lookout = Lookout::default();
        looked(&mut lookout, 100, &[40]);
        let (vain, _) = looked(&mut lookout, 1_000, &[1_000]);
        assert!(vain < 22_000, "a packet in a millisecond: {vain} us of a second");
        let (vain, met) = looked(&mut lookout, 2_000, &[4, 1_000]);
        assert!(vain < 40_000 && met == 1_000, "one that is passed on and answered at once: {vain} us of a second");
    }

    #[test]
    fn what_pays_is_met() {
        for ends in [&[40][..], &[4, 45], &[20, 20, 50]] {
            let mut lookout = Lookout::default();
            looked(&mut lookout, 60, ends);
            assert_eq!(looked(&mut lookout, 999, ends), (0, 999), "{ends:?}");
        }
        let (_, met) = looked(&mut Lookout::default(), 1_000, &[500, 500, 500, 500, 500, 500, 500, 40]);
        assert!(met > 100, "one of eight, and sooner the next time");
    }

    #[test]
    fn bulk_is_slept_for() {
        let mut lookout = Lookout::default();
        looked(&mut lookout, 100, &[40]);
        let at = Time::from_secs(2);
        assert_eq!(lookout.span(65_536, at), Duration::ZERO, "data");
        assert_eq!(lookout.span(66, at.after(MILLISECOND)), Duration::ZERO, "its acknowledgement");
        assert_eq!(lookout.span(66, at.after(MILLISECOND * 2)), LOOK, "it is over");
        let frames = (0..100).map(|number| lookout.span(1_442, at.after(MILLISECOND * 9 + Duration::from_micros(10) * number)));
        assert_eq!(frames.filter(|span| *span == LOOK).count(), 22, "datagrams, one at a time, until they are 32 KiB");
    }
}
