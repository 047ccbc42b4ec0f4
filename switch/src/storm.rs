//! Storm control (L14): a token bucket for each ingress port and class of flood.
//!
//! A token is one *copy*: a frame flooded to 1,000 ports costs 1,000 times the work of one flooded to one, and 2 us of
//! the worker's time each, so frames would be the wrong unit. A flood is admitted whole or not at all; a full bucket
//! admits one whose copies exceed it, or a large switch could never broadcast.
use crate::time::Time;

/// The default budget: 20,000 copies a second, 4 % of one core.
pub const DEFAULT_COPIES_PER_SECOND: u32 = 20_000;
/// The highest budget that can be set, copies a second.
pub const MAX_COPIES_PER_SECOND: u32 = 100_000_000;
/// A bucket holds this part of a second's budget: what may come at once.
const BURST_DIVISOR: u64 = 4;
const NANOS: u64 = 1_000_000_000;

/// Why a frame goes to many ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FloodClass {
    /// To everybody.
    Broadcast,
    /// To a group; without snooping, everybody.
    Multicast,
    /// To one station whose port is not known.
    Unknown,
}

/// Budgets in copies a second; `None` means no limit, `Some(0)` that no such flood passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StormLimits {
    /// For broadcast.
    pub broadcast: Option<u32>,
    /// For multicast.
    pub multicast: Option<u32>,
    /// For unknown unicast.
    pub unknown: Option<u32>,
}

impl Default for StormLimits {
    fn default() -> Self {
        let limit = Some(DEFAULT_COPIES_PER_SECOND);
        Self { broadcast: limit, multicast: limit, unknown: limit }
    }
}

/// The three buckets of a port.
#[derive(Clone, Debug)]
pub struct Storm {
    broadcast: Bucket,
    multicast: Bucket,
    unknown: Bucket,
}

impl Storm {
    /// Full buckets.
    #[must_use]
    pub fn new(limits: StormLimits) -> Self {
        Self {
            broadcast: Bucket::new(limits.broadcast),
            multicast: Bucket::new(limits.multicast),
            unknown: Bucket::new(limits.unknown),
        }
    }

    /// Takes the tokens for a flood of `copies`, or none and says no.
    pub fn admit(&mut self, class: FloodClass, copies: u32, now: Time) -> bool {
        match class {
            FloodClass::Broadcast => &mut self.broadcast,
            FloodClass::Multicast => &mut self.multicast,
            FloodClass::Unknown => &mut self.unknown,
        }
        .admit(copies, now)
    }
}

#[derive(Clone, Debug)]
struct Bucket {
    /// Copies a second.
    rate: Option<u32>,
    /// In copies times 10^9, so that a nanosecond's refill is exact.
    tokens: u64,
    refilled: Time,
}

impl Bucket {
    fn new(rate: Option<u32>) -> Self {
        let rate = rate.map(|rate| rate.min(MAX_COPIES_PER_SECOND));
        let mut bucket = Self { rate, tokens: 0, refilled: Time::ZERO };
        bucket.tokens = bucket.depth();
        bucket
    }

    fn depth(&self) -> u64 {
        u64::from(self.rate.unwrap_or(0)).div_ceil(BURST_DIVISOR) * NANOS
    }

    fn admit(&mut self, copies: u32, now: Time) -> bool {
        let rate = match self.rate {
            None => return true,
            Some(0) => return false,
            Some(rate) => rate,
        };
        let elapsed = u64::try_from(now.since(self.refilled).as_nanos()).unwrap_or(u64::MAX);
        let depth = self.depth();
        self.tokens = self.tokens.saturating_add(elapsed.saturating_mul(u64::from(rate))).min(depth);
        self.refilled = now;
        let cost = u64::from(copies) * NANOS;
        let admitted = self.tokens >= cost || self.tokens == depth;
        if admitted {
            self.tokens = self.tokens.saturating_sub(cost);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_admits_the_rate() {
        let mut storm = Storm::new(StormLimits::default());
        // Drain the burst, then count over one second at 1 MHz of offered load.
        while storm.admit(FloodClass::Broadcast, 10, Time::from_secs(1)) {}
        let admitted =
            (1..=1_000_000u64).filter(|us| storm.admit(FloodClass::Broadcast, 10, Time::from_nanos(NANOS + us * 1_000))).count();
        assert_eq!(admitted, 2_000);
        assert!(storm.admit(FloodClass::Multicast, 10, Time::from_secs(2)), "classes are apart");
    }

    #[test]
    fn a_full_bucket_admits_a_flood_larger_than_itself() {
        let mut bucket = Bucket::new(Some(100));
        assert!(bucket.admit(1_100, Time::from_secs(1)));
        assert!(!bucket.admit(1, Time::from_secs(1)));
        assert!(bucket.admit(1_100, Time::from_secs(2)));
    }

    #[test]
    fn off_and_zero() {
        assert!((0..100_000).all(|_| Bucket::new(None).admit(4_000, Time::ZERO)));
        assert!(!Bucket::new(Some(0)).admit(1, Time::from_secs(100)));
    }
}
