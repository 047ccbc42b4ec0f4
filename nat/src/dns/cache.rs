//! Answers that are kept for as long as their TTLs say.
//!
//! Theory. An entry's life is the least TTL of its records; that of a denial what its SOA says (RFC 2308 5), none without one. What a TTL says is
//! counted down by the time that an entry has been kept. Failures and truncated answers are not kept. The cache has [`ENTRIES`] of [`OCTETS`]
//! together; who ends next gives way first. It is emptied when other resolvers are asked: theirs may be another world.
//!
//! The key has all of a query that changes the answer: name, type, class, and the bits DO, CD and AD. Queries for somebody else's network
//! (RFC 7871) have none.
use super::Key;
use super::stored::Stored;
use alloc::collections::BTreeSet;
use core::time::Duration;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;
use vswitch_switch::Time;

/// Entries at the most.
pub const ENTRIES: usize = 4_096;
/// Octets of all of them at the most, keys and bookkeeping too.
pub const OCTETS: usize = 4 << 20;
/// What one entry takes up beside its octets.
const OVERHEAD: usize = 192;
/// Seconds for which anything is kept at the most (RFC 8767 4 recommends up to a week; a day is what others do).
pub const LONGEST: u32 = 86_400;
/// The same for a denial (RFC 2308 5: one to three hours).
pub const LONGEST_NEGATIVE: u32 = 3_600;

#[derive(Debug)]
struct Entry {
    key: Key,
    stored: Stored,
    since: Time,
    until: Time,
}

impl Entry {
    fn size(&self) -> usize {
        self.key.len() * 2 + self.stored.size() + OVERHEAD
    }
}

/// What was counted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct CacheCounts {
    /// Entries made.
    pub stored: u64,
    /// Questions answered.
    pub hits: u64,
    /// Entries that gave way before their time.
    pub evicted: u64,
}

/// See the module's theory.
#[derive(Debug)]
pub struct Cache {
    entries: Slab<Entry>,
    by_key: HashMap<Key, u32, FixedState>,
    ends: BTreeSet<(Time, u32)>,
    octets: usize,
    /// See there.
    pub counts: CacheCounts,
}

impl Cache {
    /// Empty.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            entries: Slab::new(),
            by_key: HashMap::with_hasher(FixedState::with_seed(seed)),
            ends: BTreeSet::new(),
            octets: 0,
            counts: CacheCounts::default(),
        }
    }

    /// How many there are, and the octets of all.
    #[must_use]
    pub fn usage(&self) -> (usize, usize) {
        (self.entries.len(), self.octets)
    }

    /// Keeps an answer, if it may be kept.
    pub fn insert(&mut self, key: Key, stored: &Stored, now: Time) {
        let longest = if stored.is_denial() { LONGEST_NEGATIVE } else { LONGEST };
        let lifetime = stored.lifetime().min(longest);
        if lifetime == 0 {
            return;
        }
        if let Some(slot) = self.by_key.get(&key).copied() {
            self.remove(slot);
        }
        self.expire(now);
        let until = now.after(Duration::from_secs(lifetime.into()));
        let entry = Entry { key, stored: stored.clone(), since: now, until };
        while self.entries.len() >= ENTRIES || self.octets + entry.size() > OCTETS {
            let Some((_, slot)) = self.ends.first().copied() else { return };
            self.remove(slot);
            self.counts.evicted += 1;
        }
        self.octets += entry.size();
        self.counts.stored += 1;
        let key = entry.key.clone();
        let slot = self.entries.insert(entry) as u32;
        self.by_key.insert(key, slot);
        self.ends.insert((until, slot));
    }

    /// The answer under a key, and its age.
    #[must_use]
    pub fn get(&self, key: &[u8], now: Time) -> Option<(&Stored, Duration)> {
        let entry = self.entries.get(*self.by_key.get(key)? as usize)?;
        (now < entry.until).then(|| (&entry.stored, now.since(entry.since)))
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now: Time) {
        while let Some((until, slot)) = self.ends.first().copied()
            && until <= now
        {
            self.remove(slot);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.by_key.clear();
        self.ends.clear();
        self.octets = 0;
    }

    fn remove(&mut self, slot: u32) {
        let Some(entry) = self.entries.try_remove(slot as usize) else { return };
        self.octets = self.octets.saturating_sub(entry.size());
        self.by_key.remove(&entry.key);
        self.ends.remove(&(entry.until, slot));
    }
}

#[cfg(test)]
mod tests;
