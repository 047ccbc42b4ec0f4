//! Fragments: translated without being joined, and cut where a packet is too long for a link.
//!
//! Theory. Only a datagram's first fragment has ports (RFC 791 3.2, RFC 8200 4.5), so only it meets the NAT; what the NAT made of it is
//! *learned* here and done to the others. Nothing is reassembled: a later fragment is forwarded as soon as the first is known, and *held*
//! before (N19, RFC 4787 REQ-14). A datagram is named by what its fragments have in common as they arrive, and by where they arrive,
//! so that nobody's fragments reach another's datagram.
//!
//! A datagram is *waiting* (its first has not been translated), *known*, or *bad*. It turns bad by [`Fragments::refuse`] (the NAT has
//! dropped its first), by an overlap (RFC 5722 4; N20 for IPv4 too), by contradicting itself about its end, or by more than [`RANGES`]
//! pieces that do not touch. A bad one loses what is held and all that comes, for [`FRAGMENT`] from then on. A fragment whose octets
//! have all been seen is a duplicate (RFC 8200 4.5 lets it be; the same judgement as the kernel's, `net/ipv4/inet_fragment.c`): dropped,
//! and the others go on. When the last gap of a known datagram closes, its name is free: a 16-bit identification comes back soon.
//!
//! Limits: [`DATAGRAMS`], each remembered for [`FRAGMENT`] after its last fragment. Full, the oldest waiting one goes first, so that
//! fragments without a first push out only each other. [`HELD`] packets wait at once, [`HELD_PER_DATAGRAM`] of one datagram; beyond, the
//! one that has waited longest is dropped.
//!
//! What it does not do: choose identifications, translate, route, or send. [`Fragmenter`] is the other direction.
use crate::flow::Address;
use crate::packet::{Fragment, Packet};
use crate::timeouts::FRAGMENT;
use alloc::collections::VecDeque;
use core::hash::{Hash, Hasher};
use vswitch_switch::{AgedMap, DropReason, Time};

mod cut;
pub use cut::Fragmenter;

/// Datagrams of one family that are remembered at once.
pub const DATAGRAMS: u32 = 1_024;
/// Packets of one family that wait for their datagram's first fragment.
pub const HELD: usize = 64;
/// The same, of one datagram.
pub const HELD_PER_DATAGRAM: usize = 8;
/// Pieces of a datagram, with gaps between them, that are told apart.
pub const RANGES: usize = 16;
/// Datagrams that one call of [`Fragments::expire`] looks at, of each class.
const EXPIRE_LOOKS: u32 = 16;

const WAITING: u32 = 0;
const KNOWN: u32 = 1;
const BAD: u32 = 2;
const CLASSES: u32 = 3;
/// Who goes first when there is no room.
const EVICTION: [u32; 3] = [WAITING, BAD, KNOWN];

/// What the fragments of one datagram have in common as they arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<A> {
    src: A,
    dst: A,
    id: u32,
    /// Zero for IPv6: there it is not part of the name (RFC 8200 4.5), and another behind extension headers than in front of them.
    protocol: u8,
    ingress: u16,
}

impl<A: Address> Datagram<A> {
    /// The datagram of a packet that is a fragment, and its place in it. To be asked before the packet is rewritten. `ingress` is any number
    /// that tells apart where packets come from.
    #[must_use]
    pub fn of(p: &Packet<A>, ingress: u16) -> Option<(Self, Fragment)> {
        let fragment = p.fragment()?;
        let tuple = p.tuple();
        let protocol = if A::IS_V6 { 0 } else { tuple.protocol };
        Some((Self { src: tuple.src, dst: tuple.dst, id: fragment.id, protocol, ingress }, fragment))
    }

    /// Where its fragments come from.
    #[must_use]
    pub const fn ingress(&self) -> u16 {
        self.ingress
    }
}

// By whole words, as a tuple's.
impl<A: Address> Hash for Datagram<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if A::IS_V6 {
            state.write_u128(self.src.bits());
            state.write_u128(self.dst.bits());
        } else {
            state.write_u64((self.src.bits() as u64) << 32 | self.dst.bits() as u64);
        }
        state.write_u64(u64::from(self.id) << 32 | u64::from(self.ingress) << 8 | u64::from(self.protocol));
    }
}

/// What the first fragment has become, to be done to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Identification.
    pub id: u32,
}

impl<A: Address> Known<A> {
    /// What a first fragment is now; `None` when it is no fragment.
    #[must_use]
    pub fn of(p: &Packet<A>) -> Option<Self> {
        let (tuple, fragment) = (p.tuple(), p.fragment()?);
        Some(Self { src: tuple.src, dst: tuple.dst, id: fragment.id })
    }

    /// Does the same to a later fragment.
    pub fn apply(&self, p: &mut Packet<A>) {
        p.rewrite_src(self.src, 0);
        p.rewrite_dst(self.dst, 0);
        p.set_id(self.id);
    }
}

/// What is to be done with a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate<A> {
    /// The first: the NAT translates it; [`Fragments::learn`] or [`Fragments::refuse`] follows.
    First,
    /// A later one of a datagram that is known: [`Known::apply`].
    Later(Known<A>),
    /// A later one that came before its first: [`Fragments::hold`].
    Hold,
    /// Drop it.
    Drop(DropReason),
}

/// How a piece lies among those seen before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Placed {
    Fresh,
    Duplicate,
    Overlap,
    TooMany,
}

/// Octets of a datagram that were seen, `start..end`, merged where they touch.
#[derive(Clone, Copy, Debug, Default)]
struct Ranges([Option<(u16, u16)>; RANGES]);

impl Ranges {
    fn seen(&self) -> impl Iterator<Item = (u16, u16)> {
        self.0.iter().copied().flatten()
    }

    fn place(&mut self, start: u16, end: u16) -> Placed {
        if self.seen().any(|(s, e)| s <= start && end <= e) {
            return Placed::Duplicate;
        }
        if self.seen().any(|(s, e)| start < e && s < end) {
            return Placed::Overlap;
        }
        // What touches the new piece is taken out and put back with it as one.
        let (mut from, mut to) = (start, end);
        for slot in &mut self.0 {
            match *slot {
                Some((s, e)) if e == start => from = s,
                Some((s, e)) if s == end => to = e,
                Some(_) | None => continue,
            }
            *slot = None;
        }
        match self.0.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some((from, to)),
            None => return Placed::TooMany,
        }
        Placed::Fresh
    }

    fn highest(&self) -> u16 {
        self.seen().map(|(_, end)| end).max().unwrap_or(0)
    }

    fn is_exactly(&self, end: u16) -> bool {
        let mut seen = self.seen();
        seen.next() == Some((0, end)) && seen.next().is_none()
    }
}

/// A datagram.
#[derive(Clone, Copy, Debug)]
struct State<A> {
    ranges: Ranges,
    /// Its octets, once its last fragment was seen.
    total: Option<u16>,
    known: Option<Known<A>>,
    is_bad: bool,
    begun: Time,
}

impl<A: Address> State<A> {
    fn new(now: Time) -> Self {
        Self { ranges: Ranges::default(), total: None, known: None, is_bad: false, begun: now }
    }

    /// Whether nothing of it is missing any more.
    fn is_over(&self) -> bool {
        self.known.is_some() && self.total.is_some_and(|total| self.ranges.is_exactly(total))
    }

    /// Whether a piece ends where the datagram does, or before it when others follow.
    fn agrees(&self, end: u16, more: bool) -> bool {
        match self.total {
            Some(total) if more => end <= total,
            Some(total) => end == total,
            None => more || end >= self.ranges.highest(),
        }
    }

    fn take(&mut self, fragment: Fragment) -> Fate<A> {
        const DROP: DropReason = DropReason::Fragment;
        // The parser has seen that it fits.
        let end = fragment.offset.saturating_add(fragment.len);
        if self.is_bad || !self.agrees(end, fragment.more) {
            self.is_bad = true;
            return Fate::Drop(DROP);
        }
        match self.ranges.place(fragment.offset, end) {
            Placed::Fresh => {}
            Placed::Duplicate => return Fate::Drop(DROP),
            Placed::Overlap | Placed::TooMany => {
                self.is_bad = true;
                return Fate::Drop(DROP);
            }
        }
        if !fragment.more {
            self.total = Some(end);
        }
        match self.known {
            _ if fragment.offset == 0 => Fate::First,
            Some(known) => Fate::Later(known),
            None => Fate::Hold,
        }
    }
}

/// A packet that waits for its datagram's first fragment.
#[derive(Debug)]
struct Held<A> {
    packet: Packet<A>,
    datagram: Datagram<A>,
    since: Time,
}

/// See the module's theory. One for each family.
#[derive(Debug)]
pub struct Fragments<A> {
    datagrams: AgedMap<Datagram<A>, State<A>>,
    /// In the order of their coming.
    held: VecDeque<Held<A>>,
}

impl<A: Address> Fragments<A> {
    /// An empty table. Nobody outside may know `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { datagrams: AgedMap::new(DATAGRAMS, CLASSES, seed), held: VecDeque::with_capacity(HELD) }
    }

    /// Datagrams remembered, at most [`DATAGRAMS`]; some may be past their time.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.datagrams.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Packets held now, for the law of accounting; at most [`HELD`].
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// What is to be done with a fragment, as [`Datagram::of`] gave it. Each fragment is admitted once: a held one is not again.
    pub fn admit(&mut self, datagram: Datagram<A>, fragment: Fragment, now: Time) -> Fate<A> {
        if let Some((state, seen)) = self.datagrams.get_mut(&datagram)
            && now.since(*seen) <= FRAGMENT
            && !state.is_over()
        {
            let was_bad = state.is_bad;
            let fate = state.take(fragment);
            if !state.is_bad {
                *seen = now;
            } else if !was_bad {
                *seen = now;
                self.datagrams.set_class(&datagram, BAD, now);
            }
            return fate;
        }
        let mut state = State::new(now);
        let fate = state.take(fragment);
        self.datagrams.remove(&datagram);
        if self.datagrams.len() == self.datagrams.capacity() {
            let oldest = EVICTION.into_iter().find_map(|class| self.datagrams.oldest(class, now));
            if let Some((oldest, _)) = oldest {
                self.datagrams.remove(&oldest);
            }
        }
        match self.datagrams.insert(datagram, state, WAITING, now) {
            Ok(()) => fate,
            // Never: there is room now.
            Err(_) => Fate::Drop(DropReason::Fragment),
        }
    }

    /// The first fragment was translated. [`Fragments::release`] follows.
    pub fn learn(&mut self, datagram: &Datagram<A>, known: Known<A>, now: Time) {
        if let Some((state, seen)) = self.datagrams.get_mut(datagram)
            && !state.is_bad
        {
            state.known = Some(known);
            *seen = now;
            self.datagrams.set_class(datagram, KNOWN, now);
        }
    }

    /// The first fragment was dropped, and so the rest will be.
    pub fn refuse(&mut self, datagram: &Datagram<A>, now: Time) {
        if let Some((state, seen)) = self.datagrams.get_mut(datagram) {
            state.is_bad = true;
            *seen = now;
            self.datagrams.set_class(datagram, BAD, now);
        }
    }

    /// Keeps a packet whose fate was [`Fate::Hold`]; gives the one that has to be dropped for it, itself perhaps.
    pub fn hold(&mut self, packet: Packet<A>, datagram: Datagram<A>, now: Time) -> Option<Packet<A>> {
        if self.held.iter().filter(|held| held.datagram == datagram).count() >= HELD_PER_DATAGRAM {
            return Some(packet);
        }
        let displaced = if self.held.len() < HELD { None } else { self.held.pop_front() };
        self.held.push_back(Held { packet, datagram, since: now });
        displaced.map(|held| held.packet)
    }

    /// A packet that was held for a datagram which is known now, not yet rewritten: the one that came first.
    pub fn release(&mut self, datagram: &Datagram<A>) -> Option<(Packet<A>, Known<A>)> {
        let state = self.datagrams.get(datagram).map(|(state, _)| *state).filter(|state| !state.is_bad)?;
        let known = state.known?;
        let at = self.held.iter().position(|held| held.datagram == *datagram && held.since >= state.begun)?;
        self.held.remove(at).map(|held| (held.packet, known))
    }

    /// A packet that has waited for longer than [`FRAGMENT`], or waits in vain: its datagram is bad, or forgotten. To be called
    /// until there is none; it forgets datagrams too, some at a time.
    pub fn expire(&mut self, now: Time) -> Option<Packet<A>> {
        if self.held.is_empty() && self.datagrams.is_empty() {
            return None;
        }
        for class in [WAITING, KNOWN, BAD] {
            self.datagrams.expire(class, FRAGMENT, now, EXPIRE_LOOKS, |_, _, _| {});
        }
        let datagrams = &self.datagrams;
        let in_vain = |held: &Held<A>| {
            now.since(held.since) > FRAGMENT
                || datagrams.get(&held.datagram).is_none_or(|(state, _)| state.is_bad || held.since < state.begun)
        };
        let at = self.held.iter().position(in_vain)?;
        self.held.remove(at).map(|held| held.packet)
    }

    /// When [`Fragments::expire`] will have something to give, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.held.front().map(|held| held.since.after(FRAGMENT).after(core::time::Duration::from_nanos(1)))
    }
}

#[cfg(test)]
mod tests;
