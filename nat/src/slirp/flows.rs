//! TCP flows: a table by both ends, and the one timer that each has.
//!
//! Theory. A flow's *slot* is its number here and its socket's in the io crate. A flow has always one deadline (the next retransmission, or
//! the day when it is asked whether it is still there); they lie in one ordered set, an entry a flow. An entry is moved only when the deadline
//! comes *nearer*: one that has moved away is found when its entry comes up, and put back. So a flow in use costs the set nothing.
use super::tcp::{Expired, Tcp};
use super::wire::{Link, write_tcp};
use crate::session::Count;
use crate::station::Owner;
use alloc::collections::{BTreeSet, VecDeque};
use core::net::SocketAddr;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;
use vswitch_switch::{FrameBuf, FramePool, Time};

/// Flows of TCP at the most.
pub const FLOWS: usize = 65_536;

/// A connection and all that is known of it but its socket.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Whose it is.
    pub owner: Owner,
    /// The container's and the gateway's hardware addresses.
    pub link: Link,
    /// The container's end.
    pub inside: SocketAddr,
    /// The other end, as the container sees it.
    pub remote: SocketAddr,
    /// The other end, as the socket sees it.
    pub dialed: SocketAddr,
    /// Whether the other end began.
    pub from_outside: bool,
    /// The published port's rule, or 0.
    pub rule: u32,
    /// Seconds of the clock when it began.
    pub created: u32,
    /// From and to the container.
    pub counts: [Count; 2],
    /// The translation.
    pub tcp: Tcp,
    /// Where its entry lies in the order of deadlines.
    queued: Option<Time>,
    /// Whether it waits to say something.
    is_due: bool,
}

impl Flow {
    /// A flow that begins now.
    #[must_use]
    pub fn new(
        owner: Owner,
        link: Link,
        (inside, remote, dialed): (SocketAddr, SocketAddr, SocketAddr),
        tcp: Tcp,
        now: Time,
    ) -> Self {
        let created = (now.nanos() / 1_000_000_000) as u32;
        let (from_outside, rule, counts) = (false, 0, [Count::default(); 2]);
        Self { owner, link, inside, remote, dialed, from_outside, rule, created, counts, tcp, queued: None, is_due: false }
    }

    fn count(&mut self, direction: usize, octets: usize) {
        if let Some(count) = self.counts.get_mut(direction) {
            count.packets += 1;
            count.bytes += octets as u64;
        }
    }

    /// Counts a packet from the container.
    pub fn count_out(&mut self, octets: usize) {
        self.count(0, octets);
    }

    /// Counts a packet to the container.
    pub fn count_in(&mut self, octets: usize) {
        self.count(1, octets);
    }
}

/// See the module's theory.
#[derive(Debug)]
pub struct Flows {
    flows: Slab<Flow>,
    by_ends: HashMap<(SocketAddr, SocketAddr), u32, FixedState>,
    deadlines: BTreeSet<(Time, u32)>,
    due: VecDeque<u32>,
}

impl Flows {
    /// None yet; `seed` is nobody's business.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            flows: Slab::new(),
            by_ends: HashMap::with_hasher(FixedState::with_seed(seed)),
            deadlines: BTreeSet::new(),
            due: VecDeque::new(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// The flow between a container's end and another.
    #[inline]
    #[must_use]
    pub fn find(&self, inside: SocketAddr, remote: SocketAddr) -> Option<u32> {
        self.by_ends.get(&(inside, remote)).copied()
    }

    /// A flow.
    #[inline]
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<&Flow> {
        self.flows.get(slot as usize)
    }

    /// A flow, to be changed. [`Flows::touched`] is to be told of it.
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Flow> {
        self.flows.get_mut(slot as usize)
    }

    /// Each with its slot.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Flow)> {
        self.flows.iter().map(|(slot, flow)| (slot as u32, flow))
    }

    /// Enters a flow; `None` when there are [`FLOWS`], or one with these ends.
    pub fn insert(&mut self, flow: Flow) -> Option<u32> {
        let ends = (flow.inside, flow.remote);
        if self.flows.len() >= FLOWS || self.by_ends.contains_key(&ends) {
            return None;
        }
        let slot = self.flows.insert(Flow { queued: None, is_due: false, ..flow }) as u32;
        self.by_ends.insert(ends, slot);
        self.touched(slot);
        Some(slot)
    }

    /// Takes a flow out.
    pub fn remove(&mut self, slot: u32) -> Option<Flow> {
        let flow = self.flows.try_remove(slot as usize)?;
        self.by_ends.remove(&(flow.inside, flow.remote));
        if let Some(at) = flow.queued {
            self.deadlines.remove(&(at, slot));
        }
        Some(flow)
    }

    /// A flow was changed: its deadline may be another.
    #[inline]
    pub fn touched(&mut self, slot: u32) {
        let Some(flow) = self.flows.get_mut(slot as usize) else { return };
        let Some(deadline) = flow.tcp.deadline() else { return };
        match flow.queued {
            Some(queued) if queued <= deadline => {}
            Some(queued) => {
                self.deadlines.remove(&(queued, slot));
                flow.queued = Some(deadline);
                self.deadlines.insert((deadline, slot));
            }
            None => {
                flow.queued = Some(deadline);
                self.deadlines.insert((deadline, slot));
            }
        }
    }

    /// When [`Flows::expire`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Ends one deadline that is over: the flow, and whether its socket is to be reset. `None` when there is none.
    pub fn expire(&mut self, now: Time) -> Option<(u32, Expired)> {
        loop {
            let (at, slot) = self.deadlines.first().copied().filter(|(at, _)| *at <= now)?;
            self.deadlines.remove(&(at, slot));
            let Some(flow) = self.flows.get_mut(slot as usize) else { continue };
            flow.queued = None;
            let is_over = flow.tcp.deadline().is_some_and(|deadline| deadline <= now);
            let expired = if is_over { flow.tcp.expire(now) } else { Expired::Goes };
            self.touched(slot);
            if is_over {
                self.is_due(slot);
                return Some((slot, expired));
            }
        }
    }

    /// The flow may have something to say.
    #[inline]
    pub fn is_due(&mut self, slot: u32) {
        if let Some(flow) = self.flows.get_mut(slot as usize)
            && !core::mem::replace(&mut flow.is_due, true)
        {
            self.due.push_back(slot);
        }
    }

    /// Whether any has.
    #[must_use]
    pub fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// The next that may have something to say, and what it has: `None` in place of a frame when that was all, for its end is to be looked at.
    pub fn poll(&mut self, pool: &mut FramePool, now: Time) -> Option<(u32, Option<FrameBuf>)> {
        loop {
            let slot = *self.due.front()?;
            let Some(flow) = self.flows.get_mut(slot as usize) else {
                self.due.pop_front();
                continue;
            };
            let mut frame = pool.take()?;
            if let Some(emit) = flow.tcp.poll(now)
                && write_tcp(&mut frame, flow.link, flow.remote, flow.inside, &emit, 0, flow.tcp.mss())
            {
                flow.count_in(frame.len() - vswitch_switch::head::ETHERNET_HEADER);
                self.touched(slot);
                return Some((slot, Some(frame)));
            }
            pool.put(frame);
            flow.is_due = false;
            self.due.pop_front();
            self.touched(slot);
            return Some((slot, None));
        }
    }
}
