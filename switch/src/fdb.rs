//! The filtering database: (VLAN, address) -> port, learned, static or refused (802.1Q-2018 8.7, 8.8).
//!
//! Dynamic entries live in an [`AgedMap`] whose classes are the ports, so that the port that holds most can give way when the
//! table is full: 100,000 made-up addresses from one container push out each other, never another's entry (L10).
//!
//! An entry that moves between ports more than [`FLAP_MOVES`] times in [`FLAP_WINDOW`] is held where it is for
//! [`FLAP_HOLD`] (L07; 5 moves in 180 s is EVPN's duplicate address detection, RFC 7432 15.1). A static entry never moves and
//! never ages.
//!
//! An entry older than the ageing time counts as absent from that instant; [`Fdb::expire`] merely gives its memory back.
use crate::drop::DropReason;
use crate::mac::{Mac, UnicastMac};
use crate::port::{MAX_PORTS, PortId};
use crate::table::AgedMap;
use crate::time::Time;
use crate::vlan::Vid;
use core::time::Duration;

/// Ageing time by default, 802.1Q-2018 table 8-6.
pub const DEFAULT_AGEING: Duration = Duration::from_secs(300);
/// The range of ageing times (same table).
pub const AGEING_RANGE: core::ops::RangeInclusive<u64> = 10..=1_000_000;
/// Entries of the whole table by default, static ones included.
pub const DEFAULT_FDB_LIMIT: u32 = 65_536;
/// The largest table that can be asked for.
pub const MAX_FDB_LIMIT: u32 = 1 << 20;
/// Moves within [`FLAP_WINDOW`] that are taken for roaming.
pub const FLAP_MOVES: u8 = 5;
/// See [`FLAP_MOVES`].
pub const FLAP_WINDOW: Duration = Duration::from_secs(180);
/// How long an address that flaps stays where it is.
pub const FLAP_HOLD: Duration = Duration::from_secs(30);

/// Limits of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbLimits {
    /// How long a dynamic entry lives after its address was last seen.
    pub ageing: Duration,
    /// Entries in all, reserved at creation.
    pub entries: u32,
}

impl Default for FdbLimits {
    fn default() -> Self {
        Self { ageing: DEFAULT_AGEING, entries: DEFAULT_FDB_LIMIT }
    }
}

/// VLAN and address in one integer: one comparison, one hash of one word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key(u64);

impl Key {
    #[inline]
    const fn new(vid: Vid, mac: Mac) -> Self {
        Self((vid.get() as u64) << 48 | mac.to_u64())
    }

    fn split(self) -> (Option<Vid>, Mac) {
        (Vid::new((self.0 >> 48) as u16), Mac::from_u64(self.0))
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: PortId,
    is_static: bool,
    /// Moves since `window`.
    moves: u8,
    /// Second of the first of them; while the entry is held, second in which that ends.
    window: u32,
}

/// What learning an address did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// It was there, and was seen again.
    Refreshed,
    /// It is new.
    New,
    /// It came from this port before.
    Moved(PortId),
    /// It moved too often just now and is held where it was: an alarm, once for each hold.
    Flapping(PortId),
    /// Not learned, forwarded nevertheless: the table is full of static entries.
    Full,
}

/// An entry as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbRow {
    /// VLAN.
    pub vid: Vid,
    /// Address.
    pub mac: Mac,
    /// Where it is.
    pub port: PortId,
    /// Entered by hand: neither ages nor moves.
    pub is_static: bool,
    /// Time since it was seen last.
    pub age: Duration,
}

/// Why an entry could not be added by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdbError {
    /// All entries are static already.
    Full,
}

/// See the module's theory.
#[derive(Debug)]
pub struct Fdb {
    map: AgedMap<Key, Entry>,
    ageing: Duration,
    /// The class that [`Fdb::expire`] looks at next.
    next_class: u32,
    /// Dynamic entries pushed out by others.
    evicted: u64,
    /// The highest port that ever learned: [`Fdb::port_with_most`] looks no further.
    highest: u16,
}

/// Two classes a port: dynamic and static.
const CLASSES: u32 = MAX_PORTS as u32 * 2;

const fn dynamic(port: PortId) -> u32 {
    port.get() as u32 * 2
}

const fn fixed(port: PortId) -> u32 {
    dynamic(port) + 1
}

fn seconds(now: Time) -> u32 {
    u32::try_from(now.nanos() / 1_000_000_000).unwrap_or(u32::MAX)
}

impl Fdb {
    /// An empty table; `seed` keys its hash.
    #[must_use]
    pub fn new(limits: FdbLimits, seed: u64) -> Self {
        Self {
            map: AgedMap::new(limits.entries.clamp(1, MAX_FDB_LIMIT), CLASSES, seed),
            ageing: limits.ageing,
            next_class: 0,
            evicted: 0,
            highest: 0,
        }
    }

    /// Where frames for `mac` go, if that is known.
    #[inline]
    #[must_use]
    pub fn lookup(&self, vid: Vid, mac: Mac, now: Time) -> Option<PortId> {
        let (entry, seen) = self.map.get(&Key::new(vid, mac))?;
        (entry.is_static || now.since(seen) <= self.ageing).then_some(entry.port)
    }

    /// Stamps an address that was learned behind `port` before: nearly every frame's way. `false` when there is more to do,
    /// as for an address entered by hand.
    #[inline]
    pub fn refresh(&mut self, vid: Vid, mac: UnicastMac, port: PortId, now: Time) -> bool {
        match self.map.get_mut(&Key::new(vid, mac.mac())) {
            Some((entry, seen)) if entry.port == port && !entry.is_static => {
                *seen = now;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Learns that `mac` is behind `port`, which may hold `limit` dynamic entries.
    ///
    /// # Errors
    /// [`DropReason::Spoof`] when a static entry says otherwise, [`DropReason::Flap`] while the address is held elsewhere.
    #[inline]
    pub fn learn(&mut self, vid: Vid, mac: UnicastMac, port: PortId, limit: u32, now: Time) -> Result<Learned, DropReason> {
        let key = Key::new(vid, mac.mac());
        if let Some((entry, seen)) = self.map.get_mut(&key) {
            if entry.port == port {
                *seen = now;
                return Ok(Learned::Refreshed);
            }
            return self.relearn(key, port, limit, now);
        }
        Ok(self.learn_new(key, port, limit, now))
    }

    #[cold]
    #[inline(never)]
    fn learn_new(&mut self, key: Key, port: PortId, limit: u32, now: Time) -> Learned {
        if self.map.class_len(dynamic(port)) >= limit.max(1) {
            self.evict(port, now);
        } else if self.map.len() >= self.map.capacity() {
            let Some(most) = self.port_with_most() else {
                return Learned::Full;
            };
            self.evict(most, now);
        }
        self.highest = self.highest.max(port.get());
        let entry = Entry { port, is_static: false, moves: 0, window: 0 };
        match self.map.insert(key, entry, dynamic(port), now) {
            Ok(()) => Learned::New,
            Err(_) => Learned::Full,
        }
    }

    /// The address is known behind another port.
    #[cold]
    #[inline(never)]
    fn relearn(&mut self, key: Key, port: PortId, limit: u32, now: Time) -> Result<Learned, DropReason> {
        let ageing = self.ageing;
        let Some((entry, seen)) = self.map.get_mut(&key) else {
            return Ok(Learned::Full);
        };
        if entry.is_static {
            return Err(DropReason::Spoof);
        }
        let (old, second) = (entry.port, seconds(now));
        if now.since(*seen) > ageing {
            self.map.remove(&key);
            return Ok(self.learn_new(key, port, limit, now));
        }
        if entry.moves > FLAP_MOVES {
            if second < entry.window {
                return Err(DropReason::Flap);
            }
            entry.moves = 0;
        }
        if entry.moves == 0 || second.saturating_sub(entry.window) > FLAP_WINDOW.as_secs() as u32 {
            entry.moves = 0;
            entry.window = second;
        }
        entry.moves += 1;
        if entry.moves > FLAP_MOVES {
            entry.window = second.saturating_add(FLAP_HOLD.as_secs() as u32);
            return Ok(Learned::Flapping(old));
        }
        entry.port = port;
        *seen = now;
        self.highest = self.highest.max(port.get());
        if self.map.class_len(dynamic(port)) >= limit.max(1) {
            self.evict(port, now);
        }
        self.map.set_class(&key, dynamic(port), now);
        Ok(Learned::Moved(old))
    }

    fn port_with_most(&self) -> Option<PortId> {
        (0..=self.highest)
            .filter_map(PortId::new)
            .max_by_key(|&port| self.map.class_len(dynamic(port)))
            .filter(|&port| self.map.class_len(dynamic(port)) > 0)
    }

    fn evict(&mut self, port: PortId, now: Time) {
        if let Some((key, _)) = self.map.oldest(dynamic(port), now) {
            self.map.remove(&key);
            self.evicted += 1;
        }
    }

    /// Enters an address by hand; what was known of it is replaced.
    ///
    /// # Errors
    /// [`FdbError::Full`] when every entry is static.
    pub fn add_static(&mut self, vid: Vid, mac: Mac, port: PortId, now: Time) -> Result<(), FdbError> {
        let key = Key::new(vid, mac);
        if self.map.get(&key).is_none() && self.map.len() >= self.map.capacity() {
            let most = self.port_with_most().ok_or(FdbError::Full)?;
            self.evict(most, now);
        }
        let entry = Entry { port, is_static: true, moves: 0, window: 0 };
        self.map.insert(key, entry, fixed(port), now).map_err(|_| FdbError::Full)
    }

    /// Forgets one address, static or not; says whether it was known.
    pub fn remove(&mut self, vid: Vid, mac: Mac) -> bool {
        self.map.remove(&Key::new(vid, mac)).is_some()
    }

    /// Forgets one address unless it was entered by hand.
    pub fn unlearn(&mut self, vid: Vid, mac: Mac) {
        let key = Key::new(vid, mac);
        if self.map.get(&key).is_some_and(|(entry, _)| !entry.is_static) {
            self.map.remove(&key);
        }
    }

    /// Forgets the dynamic addresses of one port; says how many.
    pub fn flush(&mut self, port: PortId) -> u32 {
        self.map.clear_class(dynamic(port))
    }

    /// Forgets all that is behind a port, static entries too: it is gone.
    pub fn forget_port(&mut self, port: PortId) -> u32 {
        self.map.clear_class(dynamic(port)) + self.map.clear_class(fixed(port))
    }

    /// Gives memory of aged entries back: looks at `budget` entries and as many ports.
    pub fn expire(&mut self, now: Time, budget: u32) {
        for _ in 0..budget {
            let looks = self.map.expire(self.next_class, self.ageing, now, budget, |_, _, _| {});
            if looks >= budget {
                return;
            }
            self.next_class = (self.next_class + 2) % CLASSES;
        }
    }

    /// Sets the ageing time, from now on and for entries that are there.
    pub fn set_ageing(&mut self, ageing: Duration) {
        self.ageing = ageing;
    }

    /// The ageing time.
    #[must_use]
    pub const fn ageing(&self) -> Duration {
        self.ageing
    }

    /// Entries held, aged ones that were not yet expired included.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.map.len()
    }

    /// Whether none are held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The most entries it holds.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.map.capacity()
    }

    /// Dynamic entries of one port.
    #[must_use]
    pub fn port_len(&self, port: PortId) -> u32 {
        self.map.class_len(dynamic(port))
    }

    /// Dynamic entries that gave way to others since the start.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// A page of the list: up to `looks` slots from `cursor` on, see [`AgedMap::page`].
    pub fn page(&self, cursor: u32, looks: u32, now: Time, mut each: impl FnMut(FdbRow)) -> Option<u32> {
        self.map.page(cursor, looks, |key, entry, seen| {
            let age = now.since(seen);
            if let (Some(vid), mac) = key.split()
                && (entry.is_static || age <= self.ageing)
            {
                each(FdbRow { vid, mac, port: entry.port, is_static: entry.is_static, age });
            }
        })
    }
}
