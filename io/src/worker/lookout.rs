//! Looking out: a worker that has nothing to do waits awake for a while before it sleeps.
//!
//! Theory. To be woken takes a worker far longer than what it is woken for: the processor's idle state is left first, and in a virtual machine
//! that is the hypervisor's business. So it looks for more before it sleeps, as the halt polling of KVM does
//! (Documentation/virt/kvm/halt-polling.rst) and net.core.busy_poll: a glance ([`GLANCE`]) always, for what answers at once; a long look
//! ([`LOOK`]) as long as one of [`PATIENCE`] long ones finds something that a glance would not have, else at one wait of [`SELDOM`], so that it
//! is noticed when that begins to pay. Traffic of another rhythm costs some 20 us a wait then, and no traffic nothing.
//!
//! Where others want the processor that a look takes, they need it more. They are noticed by the scheduler's taking it away ([`CROWDED`]); then it
//! sleeps at once for [`BARRED`], and tries again.
use super::{Time, Worker, clock};
use mio::{Events, Poll};
use nix::sys::resource::{UsageWho, getrusage};
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
/// Times in a millisecond that the processor is taken away from a worker that looks out, from which on others wait for it: 5 to 8 where four
/// threads besides share two processors, below 1 where two do.
const CROWDED: u64 = 4;
const BARRED: Duration = Duration::from_millis(50);
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
    /// How often the processor had been taken away then.
    taken: u64,
    /// Not to look before.
    barred: Option<Time>,
    patience: u8,
    waits: u8,
}

impl Lookout {
    /// How long to look now, after a breath in which so many octets came. `taken` tells how often the processor was taken away so far.
    fn span(&mut self, inhaled: usize, now: Time, taken: impl FnOnce() -> u64) -> Duration {
        let age = now.since(self.since);
        let was_barred = self.barred.is_some();
        if self.barred.is_some_and(|barred| now < barred) {
            return Duration::ZERO;
        }
        self.barred = None;
        if age >= MILLISECOND {
            self.before = if age < 2 * MILLISECOND { self.octets } else { 0 };
            let taken = taken();
            let often = taken.saturating_sub(std::mem::replace(&mut self.taken, taken));
            (self.since, self.octets) = (now, 0);
            // What happened while nothing was looked for says nothing.
            if !was_barred && u128::from(often) >= u128::from(CROWDED) * age.as_millis() {
                self.barred = Some(now.after(BARRED));
                return Duration::ZERO;
            }
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
        let span = if self.paused { Duration::ZERO } else { self.lookout.span(self.datapath.inhaled(), begin, taken_away) };
        if !span.is_zero() && timeout.is_none_or(|timeout| timeout > span) {
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

/// How often the scheduler has taken the processor from this thread (getrusage(2): ru_nivcsw).
fn taken_away() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD);
    usage.map_or(0, |usage| usage.involuntary_context_switches().unsigned_abs())
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
            let span = lookout.span(64, now, || 0);
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
        assert_eq!(lookout.span(65_536, at, || 0), Duration::ZERO, "data");
        assert_eq!(lookout.span(66, at.after(MILLISECOND), || 0), Duration::ZERO, "its acknowledgement");
        assert_eq!(lookout.span(66, at.after(MILLISECOND * 2), || 0), LOOK, "it is over");
        let frames =
            (0..100).map(|number| lookout.span(1_442, at.after(MILLISECOND * 9 + Duration::from_micros(10) * number), || 0));
        assert_eq!(frames.filter(|span| *span == LOOK).count(), 22, "datagrams, one at a time, until they are 32 KiB");
    }

    #[test]
    fn others_come_first() {
        let mut lookout = Lookout::default();
        looked(&mut lookout, 100, &[40]);
        let at = lookout.since;
        assert_eq!(lookout.span(64, at.after(MILLISECOND * 2), || 7), LOOK, "3.5 times a millisecond");
        assert_eq!(lookout.span(64, at.after(MILLISECOND * 3), || 11), Duration::ZERO, "4 times");
        assert_eq!(lookout.span(64, at.after(MILLISECOND * 52), || 900), Duration::ZERO);
        assert_eq!(lookout.span(64, at.after(MILLISECOND * 53), || 1_000), LOOK, "tried again, whatever happened meanwhile");
        assert_eq!(lookout.span(64, at.after(MILLISECOND * 54), || 1_001), LOOK);
    }
}
