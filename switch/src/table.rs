//! [`AgedMap`]: the one structure for whatever is learned from the network. Bounded, ageing, counted, pageable, seeded.
//!
//! Theory. A hash index (hashbrown, seeded by the caller so that nobody outside can choose collisions) points into a slab of
//! entries. Each entry belongs to one *class*, a number below the count given at creation; a class is a FIFO of its entries,
//! linked through the slab. A touch only stamps `last_seen`: relinking on every touch would cost three more cache misses
//! (250 ns at a million entries, a stamp 86). So a FIFO is ordered by when entries were *queued*; whoever takes from its head
//! looks at the stamp first and requeues an entry that was touched since. Every walk is bounded by the caller.
//!
//! Capacity is reserved at creation as address space: no rehash and no allocation afterwards. Full is a normal answer
//! ([`AgedMap::insert`] gives the value back). What it deliberately does not do: decide who is evicted, know deadlines per
//! entry, or keep an order of use.
use crate::time::Time;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};
use core::time::Duration;
use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// "No entry" in a link.
const NONE: u32 = u32::MAX;
/// Touched entries that [`AgedMap::oldest`] requeues before it settles for one that was touched.
const REQUEUE_LIMIT: u32 = 8;

/// What a lookup and a touch need: small, so that a large table stays in the cache.
#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    last_seen: Time,
}

/// What queueing needs of the slot with the same number.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// When it was put at the tail of its class.
    queued: Time,
    prev: u32,
    next: u32,
    class: u32,
    live: bool,
}

#[derive(Clone, Copy, Debug)]
struct Class {
    head: u32,
    tail: u32,
    len: u32,
}

const EMPTY: Class = Class { head: NONE, tail: NONE, len: 0 };

/// See the module's theory. Keys and values are `Copy`: addresses and states, not buffers.
#[derive(Debug)]
pub struct AgedMap<K, V> {
    index: HashTable<u32>,
    slots: Vec<Slot<K, V>>,
    /// As long as `slots`.
    links: Vec<Link>,
    /// Freed slots, linked through `next`.
    free: u32,
    classes: Vec<Class>,
    hasher: FixedState,
    capacity: u32,
}

impl<K: Copy + Eq + Hash, V: Copy> AgedMap<K, V> {
    /// Room for `capacity` entries (at most 2^31) in classes `0..classes`.
    #[must_use]
    pub fn new(capacity: u32, classes: u32, seed: u64) -> Self {
        let capacity = capacity.min(1 << 31);
        Self {
            index: HashTable::with_capacity(capacity as usize),
            slots: Vec::with_capacity(capacity as usize),
            links: Vec::with_capacity(capacity as usize),
            free: NONE,
            classes: alloc::vec![EMPTY; classes as usize],
            hasher: FixedState::with_seed(seed),
            capacity,
        }
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.index.len() as u32
    }

    /// Whether none are held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The most it holds.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Entries of one class; zero for a class that does not exist.
    #[must_use]
    pub fn class_len(&self, class: u32) -> u32 {
        self.classes.get(class as usize).map_or(0, |class| class.len)
    }

    #[inline]
    fn find(&self, key: &K) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |&slot| self.slots.get(slot as usize).is_some_and(|slot| slot.key == *key)).copied()
    }

    /// The hash of `key` under this map's seed, for an index of the caller's own beside it.
    #[inline]
    #[must_use]
    pub fn hash<Q: Hash>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// What [`AgedMap::hash`] hashes with, for use while the map is borrowed.
    #[must_use]
    pub const fn hasher(&self) -> &FixedState {
        &self.hasher
    }

    /// Where the entry with a hash lies, most likely: no key is compared, and one of 128 is another's. For [`AgedMap::fetch`] only.
    #[inline]
    #[must_use]
    pub fn likely_position(&self, hash: u64) -> Option<u32> {
        self.index.find(hash, |_| true).copied()
    }

    /// Reads the entry at a position, if there is one, so that it is in the processor's cache: whoever is to look up many does not wait for
    /// the memory once for each, when nothing in between depends on what was read.
    #[inline]
    pub fn fetch(&self, position: u32) {
        if let Some(slot) = self.slots.get(position as usize) {
            core::hint::black_box((slot.key, slot.value, slot.last_seen));
        }
    }

    /// Where an entry lies: good until it is removed.
    #[inline]
    #[must_use]
    pub fn position(&self, key: &K) -> Option<u32> {
        self.find(key)
    }

    /// The entry at a position that [`AgedMap::position`] gave; what was there last when it has been removed.
    #[inline]
    #[must_use]
    pub fn at(&self, position: u32) -> Option<(&K, &V, Time)> {
        self.slots.get(position as usize).map(|slot| (&slot.key, &slot.value, slot.last_seen))
    }

    /// The same, value and stamp to be changed.
    #[inline]
    pub fn at_mut(&mut self, position: u32) -> Option<(&K, &mut V, &mut Time)> {
        self.slots.get_mut(position as usize).map(|slot| (&slot.key, &mut slot.value, &mut slot.last_seen))
    }

    /// The class of the entry at a position, `None` when it has been removed.
    #[must_use]
    pub fn class_at(&self, position: u32) -> Option<u32> {
        self.links.get(position as usize).filter(|link| link.live).map(|link| link.class)
    }

    /// Moves the entry at a position to the tail of another class; `false` where either does not exist.
    pub fn set_class_at(&mut self, position: u32, class: u32, now: Time) -> bool {
        let exists = (class as usize) < self.classes.len() && self.class_at(position).is_some();
        if exists {
            self.requeue(position, class, now);
        }
        exists
    }

    /// Takes the entry at a position out.
    pub fn remove_at(&mut self, position: u32) -> Option<(K, V)> {
        let key = self.slots.get(position as usize).filter(|_| self.class_at(position).is_some())?.key;
        self.remove(&key).map(|value| (key, value))
    }

    /// The value and when it was last seen.
    #[inline]
    #[must_use]
    pub fn get(&self, key: &K) -> Option<(&V, Time)> {
        let slot = self.slots.get(self.find(key)? as usize)?;
        Some((&slot.value, slot.last_seen))
    }

    /// The value, and its stamp to be read and set: a touch is `*last_seen = now`.
    #[inline]
    pub fn get_mut(&mut self, key: &K) -> Option<(&mut V, &mut Time)> {
        let slot = self.find(key)?;
        let slot = self.slots.get_mut(slot as usize)?;
        Some((&mut slot.value, &mut slot.last_seen))
    }

    /// Adds an entry at the tail of `class`, seen `now`. An entry that has the key already is replaced.
    ///
    /// # Errors
    /// Gives `value` back when the map is full or the class does not exist.
    pub fn insert(&mut self, key: K, value: V, class: u32, now: Time) -> Result<(), V> {
        self.insert_at(key, value, class, now).map(drop)
    }

    /// The same, and says where it lies.
    ///
    /// # Errors
    /// As [`AgedMap::insert`].
    pub fn insert_at(&mut self, key: K, value: V, class: u32, now: Time) -> Result<u32, V> {
        if (class as usize) < self.classes.len() {
            self.remove(&key);
        }
        self.insert_new_at(key, value, class, now)
    }

    /// The same for a key that is known not to be there, which is not looked for: a table that has it twice finds either.
    ///
    /// # Errors
    /// As [`AgedMap::insert`].
    pub fn insert_new_at(&mut self, key: K, value: V, class: u32, now: Time) -> Result<u32, V> {
        if class as usize >= self.classes.len() {
            return Err(value);
        }
        let fresh = Slot { key, value, last_seen: now };
        let link = Link { queued: now, prev: NONE, next: NONE, class, live: true };
        let position = if self.free != NONE {
            let position = self.free;
            let (Some(slot), Some(old)) = (self.slots.get_mut(position as usize), self.links.get_mut(position as usize)) else {
                return Err(fresh.value);
            };
            self.free = old.next;
            *slot = fresh;
            *old = link;
            position
        } else if self.slots.len() < self.capacity as usize {
            self.slots.push(fresh);
            self.links.push(link);
            self.slots.len() as u32 - 1
        } else {
            return Err(fresh.value);
        };
        let (hasher, slots) = (&self.hasher, &self.slots);
        self.index.insert_unique(hasher.hash_one(key), position, |&slot| {
            slots.get(slot as usize).map_or(0, |slot| hasher.hash_one(slot.key))
        });
        self.link_tail(position, class);
        Ok(position)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let slots = &self.slots;
        let entry = self.index.find_entry(hash, |&slot| slots.get(slot as usize).is_some_and(|slot| slot.key == *key)).ok()?;
        let (position, _) = entry.remove();
        self.unlink(position);
        let link = self.links.get_mut(position as usize)?;
        link.live = false;
        link.next = self.free;
        self.free = position;
        self.slots.get(position as usize).map(|slot| slot.value)
    }

    /// Moves an entry to the tail of another class; `false` where the key or the class does not exist.
    pub fn set_class(&mut self, key: &K, class: u32, now: Time) -> bool {
        if class as usize >= self.classes.len() {
            return false;
        }
        let Some(position) = self.find(key) else {
            return false;
        };
        self.requeue(position, class, now);
        true
    }

    /// The entry of a class that was not seen for longest, nearly: touched entries at the head are requeued, at most eight.
    pub fn oldest(&mut self, class: u32, now: Time) -> Option<(K, Time)> {
        for _ in 0..REQUEUE_LIMIT {
            let head = self.classes.get(class as usize)?.head;
            let slot = self.slots.get(head as usize)?;
            if slot.last_seen <= self.links.get(head as usize)?.queued {
                return Some((slot.key, slot.last_seen));
            }
            self.requeue(head, class, now);
        }
        let head = self.classes.get(class as usize)?.head;
        self.slots.get(head as usize).map(|slot| (slot.key, slot.last_seen))
    }

    /// Where the first entry of a class lies, of the `looks` that were queued first, that `is_it`.
    pub fn seek(&self, class: u32, looks: u32, mut is_it: impl FnMut(&K, &V) -> bool) -> Option<u32> {
        let mut position = self.classes.get(class as usize)?.head;
        for _ in 0..looks {
            let slot = self.slots.get(position as usize)?;
            if is_it(&slot.key, &slot.value) {
                return Some(position);
            }
            position = self.links.get(position as usize)?.next;
        }
        None
    }

    /// Takes entries of `class` out that were not seen for longer than `ttl`; looks at `budget` entries at the most.
    /// Says how many looks it needed: `budget` means that there may be more. `expired` is told where each lay.
    pub fn expire(&mut self, class: u32, ttl: Duration, now: Time, budget: u32, mut expired: impl FnMut(u32, K, V)) -> u32 {
        for look in 0..budget {
            let head = self.classes.get(class as usize).map_or(NONE, |list| list.head);
            let (Some(slot), Some(link)) = (self.slots.get(head as usize), self.links.get(head as usize)) else {
                return look;
            };
            if now.since(slot.last_seen) > ttl {
                let (key, value) = (slot.key, slot.value);
                self.remove(&key);
                expired(head, key, value);
            } else if now.since(link.queued) > ttl {
                self.requeue(head, class, now);
            } else {
                // Queued within the ttl, and all behind it were queued later.
                return look;
            }
        }
        budget
    }

    /// Takes all entries of a class out; says how many there were.
    pub fn clear_class(&mut self, class: u32) -> u32 {
        let len = self.class_len(class);
        for _ in 0..len {
            let Some(slot) = self.classes.get(class as usize).and_then(|list| self.slots.get(list.head as usize)) else {
                break;
            };
            let key = slot.key;
            self.remove(&key);
        }
        len
    }

    /// A page for listing: calls `each` for the entries in up to `looks` slots from `cursor` on; gives the next cursor, or
    /// `None` at the end. An entry that is there throughout a listing is listed once, whatever comes and goes meanwhile.
    pub fn page(&self, cursor: u32, looks: u32, mut each: impl FnMut(&K, &V, Time)) -> Option<u32> {
        let end = cursor.saturating_add(looks).min(self.slots.len() as u32);
        let range = cursor as usize..end as usize;
        let (slots, links) = (self.slots.get(range.clone()), self.links.get(range));
        for (slot, link) in slots.unwrap_or_default().iter().zip(links.unwrap_or_default()) {
            if link.live {
                each(&slot.key, &slot.value, slot.last_seen);
            }
        }
        (end < self.slots.len() as u32).then_some(end)
    }

    fn requeue(&mut self, position: u32, class: u32, now: Time) {
        self.unlink(position);
        self.link_tail(position, class);
        if let Some(link) = self.links.get_mut(position as usize) {
            link.queued = now;
        }
    }

    fn link_tail(&mut self, position: u32, class: u32) {
        let Some(list) = self.classes.get_mut(class as usize) else {
            return;
        };
        let tail = list.tail;
        list.tail = position;
        list.len += 1;
        if tail == NONE {
            list.head = position;
        } else if let Some(last) = self.links.get_mut(tail as usize) {
            last.next = position;
        }
        if let Some(link) = self.links.get_mut(position as usize) {
            link.prev = tail;
            link.next = NONE;
            link.class = class;
        }
    }

    fn unlink(&mut self, position: u32) {
        let Some(&Link { prev, next, class, .. }) = self.links.get(position as usize) else {
            return;
        };
        let Some(list) = self.classes.get_mut(class as usize) else {
            return;
        };
        list.len -= 1;
        if prev == NONE {
            list.head = next
        }
        if next == NONE {
            list.tail = prev
        }
        if let Some(link) = self.links.get_mut(prev as usize) {
            link.next = next;
        }
        if let Some(link) = self.links.get_mut(next as usize) {
            link.prev = prev;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const TTL: Duration = Duration::from_secs(300);

    #[test]
    fn full_is_an_answer() {
        let mut map = AgedMap::new(2, 1, 1);
        assert_eq!(map.insert(1u64, 'a', 0, Time::ZERO), Ok(()));
        assert_eq!(map.insert(2, 'b', 0, Time::ZERO), Ok(()));
        assert_eq!(map.insert(3, 'c', 0, Time::ZERO), Err('c'));
        assert_eq!(map.insert(2, 'd', 0, Time::ZERO), Ok(()));
        assert_eq!(map.insert(1, 'e', 1, Time::ZERO), Err('e'), "no such class");
        assert_eq!(map.remove(&1), Some('a'));
        assert_eq!(map.insert(3, 'c', 0, Time::ZERO), Ok(()));
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn a_touched_entry_outlives_its_place_in_the_queue() {
        let mut map = AgedMap::new(8, 1, 1);
        for key in 0..4u64 {
            map.insert(key, key, 0, Time::from_secs(key)).unwrap();
        }
        *map.get_mut(&0).unwrap().1 = Time::from_secs(200);
        assert_eq!(map.oldest(0, Time::from_secs(200)), Some((1, Time::from_secs(1))));
        let mut gone = std::vec::Vec::new();
        map.expire(0, TTL, Time::from_secs(302), 100, |_, key, _| gone.push(key));
        assert_eq!(gone, [1]);
        map.expire(0, TTL, Time::from_secs(501), 100, |_, key, _| gone.push(key));
        assert_eq!(gone, [1, 2, 3, 0]);
        assert!(map.is_empty());
    }

    #[test]
    fn seeking_is_bounded_and_begins_with_the_longest_queued() {
        let mut map = AgedMap::new(8, 2, 1);
        for key in 0..6u64 {
            map.insert(key, key % 3, u32::from(key == 0), Time::from_secs(key)).unwrap();
        }
        let found = |looks, class, value| {
            map.seek(class, looks, |_, found| *found == value).and_then(|at| map.at(at)).map(|(key, ..)| *key)
        };
        assert_eq!((found(5, 0, 2), found(2, 0, 2), found(1, 0, 2)), (Some(2), Some(2), None));
        assert_eq!((found(5, 0, 0), found(2, 0, 0)), (Some(3), None), "the other class has the first");
        assert_eq!((found(5, 1, 0), found(5, 1, 1), found(5, 2, 0)), (Some(0), None, None));
    }

    #[test]
    fn expiry_is_bounded_and_continues() {
        let mut map = AgedMap::new(100, 1, 1);
        for key in 0..100u64 {
            map.insert(key, (), 0, Time::ZERO).unwrap();
        }
        assert_eq!(map.expire(0, TTL, Time::from_secs(400), 64, |_, _, ()| {}), 64);
        assert_eq!(map.expire(0, TTL, Time::from_secs(400), 64, |_, _, ()| {}), 36);
    }

    proptest! {
        /// Against a plain map: the same contents after any sequence, classes counted right, pages complete.
        #[test]
        fn agrees_with_a_plain_map(steps in proptest::collection::vec((0u8..5, 0u64..40, 0u32..3), 1..400)) {
            let mut map = AgedMap::new(16, 3, 7);
            let mut model: HashMap<u64, (u32, u64)> = HashMap::new();
            for (now, (action, key, class)) in (0u64..).zip(steps) {
                let time = Time::from_secs(now);
                match action {
                    0 | 1 => {
                        let fits = model.contains_key(&key) || model.len() < 16;
                        prop_assert_eq!(map.insert(key, now, class, time).is_ok(), fits);
                        if fits { model.insert(key, (class, now)); }
                    }
                    2 => prop_assert_eq!(map.remove(&key).is_some(), model.remove(&key).is_some()),
                    3 => {
                        prop_assert_eq!(map.set_class(&key, class, time), model.contains_key(&key));
                        if let Some(entry) = model.get_mut(&key) { entry.0 = class; }
                    }
                    _ => {
                        if let Some((_, seen)) = map.get_mut(&key) { *seen = time; }
                    }
                }
                prop_assert_eq!(map.len() as usize, model.len());
                for class in 0..3 {
                    prop_assert_eq!(map.class_len(class) as usize, model.values().filter(|entry| entry.0 == class).count());
                }
            }
            let mut listed = HashMap::new();
            let mut cursor = Some(0);
            while let Some(at) = cursor {
                cursor = map.page(at, 5, |&key, &value, _| { listed.insert(key, value); });
            }
            prop_assert_eq!(listed, model.into_iter().map(|(key, (_, value))| (key, value)).collect::<HashMap<_, _>>());
        }
    }
}
