//! Sessions: what is known of each flow, found by either of its two tuples.
//!
//! Theory. As in any connection tracking, a session is two tuples: the *original* one, of its first packet as it came, and the *reply*
//! one, of the packets against it as they come. Their difference is the translation: an original packet leaves as the reply tuple's
//! reverse, a reply packet as the original's. Source, destination, both (hairpin) or neither: one rule for all.
//!
//! One entry in an [`AgedMap`] by the original tuple, its position in a second index by the reply tuple. No two sessions share a
//! tuple in either role. Classes are the timers: an entry's class follows its [`Phase`], and the head of a class is what is given up first.
//! A stale one (its [`Owner`]'s generation is gone) is not found; it is taken out when met, or by the sweep.
use crate::flow::{Address, Endpoint, Tuple};
use crate::forward::RuleId;
use crate::station::{Owner, Stations};
use crate::tcp_state::{Direction, Phase, Sides};
use crate::timeouts::Timeouts;
use core::time::Duration;
use hashbrown::HashTable;
use vswitch_switch::{AgedMap, Time};

/// Looks for a half-open session of a station's own, a class: one that has so many that it is at its quota is soon met.
const OWN_LOOKS: u32 = 16;

/// Packets that [`Sessions::fetch`] takes at once at the most.
pub(crate) const AHEAD: usize = 64;

/// A timer, and a queue of what it ends. In the order in which a full table gives up: closed first, then half-open, the rest never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Class {
    /// After a RST.
    TcpReset,
    /// Both sides closed.
    TcpClosed,
    /// The handshake is not through.
    TcpOpening,
    /// UDP that nobody answered.
    UdpOpening,
    /// Echo.
    Icmp,
    /// UDP to a port that answers at once.
    UdpShort,
    /// UDP both ways.
    Udp,
    /// Another protocol.
    Other,
    /// TCP in use.
    TcpEstablished,
}

impl Class {
    /// All, in the order of the enum.
    pub const ALL: &'static [Self] = &[
        Self::TcpReset,
        Self::TcpClosed,
        Self::TcpOpening,
        Self::UdpOpening,
        Self::Icmp,
        Self::UdpShort,
        Self::Udp,
        Self::Other,
        Self::TcpEstablished,
    ];
    /// Those that a full table gives up, in this order.
    const RECLAIMED: usize = 6;
    /// How many of these are over: no quota counts them.
    const OVER: usize = 2;

    /// The class of a phase.
    #[must_use]
    pub const fn of(phase: Phase) -> Self {
        match phase {
            Phase::TcpOpening | Phase::TcpAnswered => Self::TcpOpening,
            Phase::TcpEstablished | Phase::TcpOriginalClosed | Phase::TcpReplyClosed => Self::TcpEstablished,
            Phase::TcpClosed => Self::TcpClosed,
            Phase::TcpReset => Self::TcpReset,
            Phase::UdpOpening => Self::UdpOpening,
            Phase::Udp => Self::Udp,
            Phase::UdpShort => Self::UdpShort,
            Phase::Icmp => Self::Icmp,
            Phase::Other => Self::Other,
        }
    }

    /// How long it may be idle.
    #[must_use]
    pub const fn timeout(self, timeouts: &Timeouts) -> Duration {
        match self {
            Self::TcpReset => timeouts.tcp_reset,
            Self::TcpClosed => timeouts.tcp_closing,
            Self::TcpOpening => timeouts.tcp_opening,
            Self::UdpOpening | Self::Udp => timeouts.udp,
            Self::UdpShort => timeouts.udp_short,
            Self::Icmp => timeouts.icmp,
            Self::Other => timeouts.other,
            Self::TcpEstablished => timeouts.tcp_established,
        }
    }
}

/// Packets and octets of layer 3 in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Packets; a GSO frame counts once.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

/// A session. Its original tuple is its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session<A> {
    /// The tuple of packets against it.
    pub reply: Tuple<A>,
    /// Whose it is: the container's.
    pub owner: Owner,
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether its first packet came from outside.
    pub from_outside: bool,
    /// Whether its external endpoint is one of [`crate::mapping`]'s, which counts it.
    pub is_mapped: bool,
    /// Seconds of the clock when it began.
    pub created: u32,
    /// The published port's rule, or 0.
    pub rule: RuleId,
    /// TCP's windows.
    pub sides: Sides,
    /// By [`Direction`].
    pub counts: [Count; 2],
}

impl<A: Address> Session<A> {
    /// The external endpoint that stands for the inside one.
    #[must_use]
    pub const fn external(&self, original: &Tuple<A>) -> Endpoint<A> {
        if self.from_outside { original.destination() } else { self.reply.destination() }
    }

    /// The address outside that it is with.
    #[must_use]
    pub const fn remote(&self, original: &Tuple<A>) -> A {
        if self.from_outside { original.src } else { self.reply.src }
    }
}

/// All sessions of one family.
#[derive(Debug)]
pub struct Sessions<A> {
    map: AgedMap<Tuple<A>, Session<A>>,
    replies: HashTable<u32>,
    /// Where a sweep goes on that is under way.
    sweep: Option<u32>,
}

impl<A: Address> Sessions<A> {
    /// Room for `capacity` of them.
    #[must_use]
    pub fn new(capacity: u32, seed: u64) -> Self {
        Self {
            map: AgedMap::new(capacity, Class::ALL.len() as u32, seed),
            replies: HashTable::with_capacity(capacity as usize),
            sweep: None,
        }
    }

    /// How many there are, stale ones included.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.map.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// How many there may be.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.map.capacity()
    }

    /// How many of a class.
    #[must_use]
    pub fn class_len(&self, class: Class) -> u32 {
        self.map.class_len(class as u32)
    }

    #[inline]
    pub(crate) fn original(&self, tuple: &Tuple<A>) -> Option<u32> {
        self.map.position(tuple)
    }

    #[inline]
    pub(crate) fn reply(&self, tuple: &Tuple<A>) -> Option<u32> {
        let is_it = |position: &u32| self.map.at(*position).is_some_and(|(_, session, _)| session.reply == *tuple);
        self.replies.find(self.map.hash(tuple), is_it).copied()
    }

    /// By either tuple, the likelier one first.
    #[inline]
    pub(crate) fn find(&self, tuple: &Tuple<A>, likely: Direction) -> Option<(u32, Direction)> {
        let original = || self.original(tuple).map(|position| (position, Direction::Original));
        let reply = || self.reply(tuple).map(|position| (position, Direction::Reply));
        match likely {
            Direction::Original => original().or_else(reply),
            Direction::Reply => reply().or_else(original),
        }
    }

    /// Brings what is known of packets into the processor's cache: first all places in the index, then all sessions. What is read in either
    /// round does not depend on the rest of it, so the processor waits for several at a time.
    pub(crate) fn fetch(&self, tuples: &[Tuple<A>], likely: Direction) {
        let mut positions = [u32::MAX; AHEAD];
        for (position, tuple) in positions.iter_mut().zip(tuples) {
            let hash = self.map.hash(tuple);
            let found = match likely {
                Direction::Original => self.map.likely_position(hash),
                Direction::Reply => self.replies.find(hash, |_| true).copied(),
            };
            *position = found.unwrap_or(u32::MAX);
        }
        for position in positions.iter().take(tuples.len()) {
            self.map.fetch(*position);
        }
    }

    /// Whether a packet with this tuple would be some session's.
    pub(crate) fn has(&self, tuple: &Tuple<A>) -> bool {
        self.original(tuple).is_some() || self.reply(tuple).is_some()
    }

    #[inline]
    pub(crate) fn at(&self, position: u32) -> Option<(&Tuple<A>, &Session<A>, Time)> {
        self.map.at(position)
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, position: u32) -> Option<(&Tuple<A>, &mut Session<A>, &mut Time)> {
        self.map.at_mut(position)
    }

    pub(crate) fn set_class(&mut self, position: u32, class: Class, now: Time) {
        self.map.set_class_at(position, class as u32, now);
    }

    /// Adds one; `None` when the table is full. Neither tuple may be known yet.
    pub(crate) fn insert(&mut self, original: Tuple<A>, session: Session<A>, now: Time) -> Option<u32> {
        let position = self.map.insert_new_at(original, session, Class::of(session.phase) as u32, now).ok()?;
        let map = &self.map;
        self.replies.insert_unique(map.hash(&session.reply), position, |position| {
            map.at(*position).map_or(0, |(_, session, _)| map.hash(&session.reply))
        });
        Some(position)
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, position: u32) -> Option<(Tuple<A>, Session<A>)> {
        let (original, session) = self.map.remove_at(position)?;
        self.unlink(position, &session);
        Some((original, session))
    }

    fn unlink(&mut self, position: u32, session: &Session<A>) {
        let hash = self.map.hash(&session.reply);
        if let Ok(entry) = self.replies.find_entry(hash, |other| *other == position) {
            entry.remove();
        }
    }

    /// The one to be given up for another: the longest idle of the first class that has any, over or half-open.
    pub(crate) fn reclaimable(&mut self, now: Time) -> Option<u32> {
        (0..Class::RECLAIMED as u32).find_map(|class| {
            let (tuple, _) = self.map.oldest(class, now)?;
            self.map.position(&tuple)
        })
    }

    /// The same, of a station's own half-open ones, among the [`OWN_LOOKS`] that were queued first of each class.
    pub(crate) fn reclaimable_of(&self, owner: Owner) -> Option<u32> {
        (Class::OVER as u32..Class::RECLAIMED as u32)
            .find_map(|class| self.map.seek(class, OWN_LOOKS, |_, session| session.owner == owner))
    }

    /// Takes out what has been idle for too long, at most `budget` looks a class; `ended` is told of each.
    pub(crate) fn expire(
        &mut self,
        timeouts: &Timeouts,
        now: Time,
        budget: u32,
        mut ended: impl FnMut(Tuple<A>, Session<A>),
    ) -> bool {
        let mut more = false;
        for class in Class::ALL {
            let (map, replies) = (&mut self.map, &mut self.replies);
            let hasher = map.hasher().clone();
            let looks = map.expire(*class as u32, class.timeout(timeouts), now, budget, |position, original, session| {
                use core::hash::BuildHasher;
                if let Ok(entry) = replies.find_entry(hasher.hash_one(session.reply), |other| *other == position) {
                    entry.remove();
                }
                ended(original, session);
            });
            more |= looks == budget;
        }
        more
    }

    /// Begins a sweep for stale ones.
    pub(crate) const fn begin_sweep(&mut self) {
        self.sweep = Some(0);
    }

    /// Whether a sweep is under way.
    pub(crate) const fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }

    /// Goes on with a sweep: takes out stale ones in `looks` places; `ended` is told of each.
    pub(crate) fn sweep(
        &mut self,
        looks: u32,
        is_stale: impl Fn(&Tuple<A>, &Session<A>) -> bool,
        mut ended: impl FnMut(Tuple<A>, Session<A>),
    ) {
        let Some(cursor) = self.sweep else { return };
        let end = cursor.saturating_add(looks);
        self.sweep = self.map.page(cursor, looks, |_, _, _| {});
        for position in cursor..end {
            if self.map.class_at(position).is_none() {
                continue;
            }
            let stale = self.map.at(position).is_some_and(|(original, session, _)| is_stale(original, session));
            if stale && let Some((original, session)) = self.remove(position) {
                ended(original, session);
            }
        }
    }

    /// A page for listing, see [`AgedMap::page`].
    pub fn page(
        &self,
        cursor: u32,
        looks: u32,
        stations: &Stations,
        mut each: impl FnMut(&Tuple<A>, &Session<A>, Time),
    ) -> Option<u32> {
        self.map.page(cursor, looks, |original, session, seen| {
            if stations.is_current(session.owner) {
                each(original, session, seen);
            }
        })
    }
}
