//! The one clock: CLOCK_MONOTONIC, read once a breath.
use nix::time::{ClockId, clock_gettime};
use vswitch_switch::Time;

/// Now.
#[must_use]
pub fn now() -> Time {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or_else(|_| std::time::Duration::ZERO, std::time::Duration::from);
    Time::from_nanos(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}
