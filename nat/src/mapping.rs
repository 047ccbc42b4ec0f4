//! Endpoint-independent mappings: an inside endpoint and the external one that stands for it, whoever it talks to (RFC 4787 REQ-1).
//!
//! Theory. A mapping lives as long as one session uses it (RFC 7857 12). After its last it is *held* for
//! [`crate::timeouts::PORT_HOLD`]: its own inside endpoint gets it again, another host only when nothing else is free (RFC 6888 REQ-8).
//! The key is the external endpoint, so no two mappings share one (RFC 4787 REQ-3); a second index finds the inside one's. A mapping
//! whose port has been published meanwhile is *retired*: its sessions go on, new ones get another.
use crate::flow::{Address, Endpoint};
use crate::station::Owner;
use core::time::Duration;
use hashbrown::HashTable;
use vswitch_switch::{AgedMap, Time};

const LIVE: u32 = 0;
const HELD: u32 = 1;

/// What an external endpoint stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping<A> {
    /// The inside endpoint.
    pub inside: Endpoint<A>,
    /// Whose it is.
    pub owner: Owner,
    /// Sessions that use it.
    pub sessions: u32,
    retired: bool,
}

/// All of one family.
#[derive(Debug)]
pub struct Mappings<A> {
    map: AgedMap<Endpoint<A>, Mapping<A>>,
    by_inside: HashTable<u32>,
}

impl<A: Address> Mappings<A> {
    /// Room for `capacity` of them.
    #[must_use]
    pub fn new(capacity: u32, seed: u64) -> Self {
        Self { map: AgedMap::new(capacity, 2, seed), by_inside: HashTable::with_capacity(capacity as usize) }
    }

    /// How many there are, held ones included.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.map.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The external endpoint of an inside one.
    #[inline]
    #[must_use]
    pub fn of_inside(&self, inside: &Endpoint<A>) -> Option<Endpoint<A>> {
        let position = self.by_inside.find(self.map.hash(inside), |position| {
            self.map.at(*position).is_some_and(|(_, mapping, _)| mapping.inside == *inside)
        })?;
        self.map.at(*position).map(|(external, _, _)| *external)
    }

    /// What an external endpoint stands for.
    #[inline]
    #[must_use]
    pub fn get(&self, external: &Endpoint<A>) -> Option<&Mapping<A>> {
        self.map.get(external).map(|(mapping, _)| mapping)
    }

    /// Whether an external endpoint is only held for its last inside one.
    #[must_use]
    pub fn is_held(&self, external: &Endpoint<A>) -> bool {
        self.map.position(external).and_then(|position| self.map.class_at(position)) == Some(HELD)
    }

    /// Adds a mapping with no session yet. When there is no room, the longest held one goes; `false` when there is none.
    pub(crate) fn insert(&mut self, external: Endpoint<A>, inside: Endpoint<A>, owner: Owner, now: Time) -> bool {
        self.remove(&external);
        if self.map.len() == self.map.capacity() {
            let Some((oldest, _)) = self.map.oldest(HELD, now) else { return false };
            self.remove(&oldest);
        }
        let mapping = Mapping { inside, owner, sessions: 0, retired: false };
        let Ok(position) = self.map.insert_at(external, mapping, HELD, now) else { return false };
        let map = &self.map;
        self.by_inside.insert_unique(map.hash(&inside), position, |position| {
            map.at(*position).map_or(0, |(_, mapping, _)| map.hash(&mapping.inside))
        });
        true
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, external: &Endpoint<A>) {
        self.retire(external);
        self.map.remove(external);
    }

    /// Lets an inside endpoint get another mapping; this one goes on for the sessions it has.
    pub(crate) fn retire(&mut self, external: &Endpoint<A>) {
        let Some(position) = self.map.position(external) else { return };
        let Some((_, mapping, _)) = self.map.at_mut(position) else { return };
        if !core::mem::replace(&mut mapping.retired, true) {
            let hash = self.map.hash(&self.map.at(position).map_or(Endpoint { ..*external }, |(_, mapping, _)| mapping.inside));
            if let Ok(entry) = self.by_inside.find_entry(hash, |other| *other == position) {
                entry.remove();
            }
        }
    }

    /// One more session uses it, of `owner`. Says whose it was until now, `None` when nobody used it.
    pub(crate) fn hold(&mut self, external: &Endpoint<A>, owner: Owner, now: Time) -> Option<Owner> {
        let position = self.map.position(external)?;
        let (_, mapping, _) = self.map.at_mut(position)?;
        mapping.sessions += 1;
        // Held over a station's end, it is the next one's.
        let before = core::mem::replace(&mut mapping.owner, owner);
        if mapping.sessions > 1 {
            return Some(before);
        }
        self.map.set_class_at(position, LIVE, now);
        None
    }

    /// One less. Says whose it was when that was the last.
    pub(crate) fn release(&mut self, external: &Endpoint<A>, now: Time) -> Option<Owner> {
        let position = self.map.position(external)?;
        let (_, mapping, seen) = self.map.at_mut(position)?;
        mapping.sessions = mapping.sessions.saturating_sub(1);
        *seen = now;
        let owner = mapping.owner;
        if mapping.sessions > 0 {
            return None;
        }
        self.map.set_class_at(position, HELD, now);
        Some(owner)
    }

    /// Ends what has been held for longer than `hold`; looks at `budget` at the most, and says whether there may be more.
    pub(crate) fn expire(&mut self, hold: Duration, now: Time, budget: u32) -> bool {
        let by_inside = &mut self.by_inside;
        let hasher = self.map.hasher().clone();
        let looks = self.map.expire(HELD, hold, now, budget, |position, _, mapping| {
            use core::hash::BuildHasher;
            if let Ok(entry) = by_inside.find_entry(hasher.hash_one(mapping.inside), |other| *other == position) {
                entry.remove();
            }
        });
        looks == budget
    }

    /// A page for listing, see [`AgedMap::page`].
    pub fn page(&self, cursor: u32, looks: u32, mut each: impl FnMut(&Endpoint<A>, &Mapping<A>)) -> Option<u32> {
        self.map.page(cursor, looks, |external, mapping, _| each(external, mapping))
    }
}
