//! Stub.
use super::{Gateway, Routed, Side};
use vswitch_switch::{DropReason, FrameBuf, FramePool, Head, Time};

/// Stub.
#[derive(Debug)]
pub struct Uplink;

impl Gateway {
    pub(super) fn routes<A>(&self, _: &FrameBuf, _: &Head) -> bool {
        self.uplink.is_some()
    }
    pub(super) fn outward<A>(&mut self, frame: FrameBuf, _: &Head, _: u16, _: Time) -> Routed {
        let _ = (&self.key, &self.limiters);
        Routed::Drop(frame, DropReason::NoRoute)
    }
    /// Takes a frame from the uplink.
    #[must_use]
    pub fn from_uplink(&mut self, frame: FrameBuf, now: Time) -> Routed {
        let _ = now;
        Routed::Drop(frame, DropReason::NoRoute)
    }
    /// What waited.
    #[must_use]
    pub fn poll_output(&mut self, pool: &mut FramePool, now: Time) -> Option<Routed> {
        let _ = (pool, now, Side::Uplink);
        None
    }
    /// Frames that wait.
    #[must_use]
    pub fn held(&self) -> usize {
        0
    }
    /// A port is gone: its station and all that it had are dead.
    pub fn forget(&mut self, port: u16) {
        self.stations.remove(port);
    }
    /// Gives up a frame that waits.
    pub fn abandon(&mut self) -> Option<FrameBuf> {
        None
    }
    /// Whether anything ages.
    #[must_use]
    pub fn needs_tick(&self) -> bool {
        false
    }
    /// When it wants to be polled.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        None
    }
    /// Ends what is idle; says whether there may be more.
    pub fn tick(&mut self, now: Time, budget: u32) -> bool {
        self.stations.tick(now, budget);
        false
    }
}
