//! The addresses of one subnet: who has which, who had it last, and who is to have it.
//!
//! Theory. An address is *fresh* until it is given away for the first time, then *held*, then *kept*: nobody has it, but it is known whose
//! it was. Who comes back gets the last one again as long as it is kept. For [`QUARANTINE`] after its holder went nobody else gets it, for
//! peers, caches and connections still mean the one who had it; but an address in quarantine is better than none, so when nothing else is
//! free the one that was freed first goes. One that a client declined (RFC 2131 3.1.5: somebody else answers there) rests for
//! [`DECLINED`], and goes to nobody meanwhile.
//!
//! A *reserved* address goes to its holder only, and its holder gets no other unless it asks for one.
//!
//! The order: the reserved one, the last one, a fresh one (the lowest), a kept one out of quarantine (freed first), one in quarantine. So
//! while a subnet has fresh addresses none is used twice.
//!
//! Limits: [`KEPT`] addresses are remembered, [`RESERVATIONS`] reserved; a subnet may have as many as IPv4 has, for nothing here is made
//! for each address. Nothing here knows of time but what it is told.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;
use vswitch_switch::{Time, UnicastMac};

/// How long an address is nobody else's after its holder went.
pub const QUARANTINE: Duration = Duration::from_secs(60);
/// How long one that is in use by somebody unknown is let be.
pub const DECLINED: Duration = Duration::from_secs(600);
/// Addresses at the most whose last holder is remembered.
pub const KEPT: usize = 4_096;
/// Reserved addresses at the most.
pub const RESERVATIONS: usize = 4_096;

/// Who has an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Holder {
    /// A container.
    Name(String),
    /// A further station behind a container's port.
    Mac(UnicastMac),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Mac(mac) => mac.fmt(f),
        }
    }
}

/// What an address is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Had, until then or until it is released.
    Held {
        /// The end of its lease.
        until: Option<Time>,
    },
    /// Nobody has it.
    Kept {
        /// Since when.
        since: Time,
    },
    /// A client said that somebody else has it.
    Declined {
        /// When.
        since: Time,
    },
}

/// Addresses by what they are in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// There are so many of hosts, the gateway's not counted.
    pub hosts: u32,
    /// Had.
    pub held: u32,
    /// Reserved for somebody who does not have it.
    pub reserved: u32,
    /// Declined.
    pub declined: u32,
}

/// Why an address cannot be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IpamError {
    /// It is another one's.
    Taken(Holder),
    /// It is reserved for another one.
    Reserved(Holder),
    /// It is no host's of this subnet, or the gateway's.
    NoHost,
    /// There is none left.
    Exhausted(Usage),
    /// There are [`RESERVATIONS`] already.
    Full,
}

#[derive(Debug)]
struct Entry {
    holder: Holder,
    r#use: Use,
}

/// See the module's theory.
#[derive(Debug)]
pub struct Ipam {
    gateway: u32,
    first: u32,
    last: u32,
    entries: BTreeMap<u32, Entry>,
    /// The address that each holder has or had last.
    of: BTreeMap<Holder, u32>,
    /// Those that are kept, the first freed first.
    kept: BTreeSet<(Time, u32)>,
    /// Ends of leases.
    ends: BTreeSet<(Time, u32)>,
    reserved: BTreeMap<u32, Holder>,
    /// No address below it is fresh.
    fresh: u32,
}

impl Ipam {
    /// The hosts of `gateway`'s subnet of `prefix` bits (at most 30 are good for anything), the gateway's own address aside.
    #[must_use]
    pub fn new(gateway: Ipv4Addr, prefix: u8) -> Self {
        let mask = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        let base = gateway.to_bits() & !mask;
        let (first, last) = (base.saturating_add(1), (base | mask).saturating_sub(1));
        Self {
            gateway: gateway.to_bits(),
            first,
            last,
            entries: BTreeMap::new(),
            of: BTreeMap::new(),
            kept: BTreeSet::new(),
            ends: BTreeSet::new(),
            reserved: BTreeMap::new(),
            fresh: first,
        }
    }

    fn is_host(&self, bits: u32) -> bool {
        (self.first..=self.last).contains(&bits) && bits != self.gateway
    }

    /// The address that one of `holders`, who are one and the same, is to have.
    ///
    /// # Errors
    /// [`IpamError::Exhausted`].
    pub fn choose(&mut self, holders: &[Holder]) -> Result<Ipv4Addr, IpamError> {
        let reserved = self.reserved.iter().find(|(bits, holder)| holders.contains(holder) && self.is_free_for(**bits, holders));
        if let Some((bits, _)) = reserved {
            return Ok(Ipv4Addr::from_bits(*bits));
        }
        let before = holders.iter().filter_map(|holder| self.of.get(holder)).find(|bits| self.is_free_for(**bits, holders));
        if let Some(bits) = before {
            return Ok(Ipv4Addr::from_bits(*bits));
        }
        while self.fresh <= self.last {
            if self.is_host(self.fresh) && !self.entries.contains_key(&self.fresh) && !self.reserved.contains_key(&self.fresh) {
                return Ok(Ipv4Addr::from_bits(self.fresh));
            }
            self.fresh += 1;
        }
        // Of a reserved address that became free nobody else has the use.
        let mut kept = self.kept.iter().filter(|(_, bits)| self.is_free_for(*bits, holders));
        kept.next().map(|(_, bits)| Ipv4Addr::from_bits(*bits)).ok_or_else(|| IpamError::Exhausted(self.usage()))
    }

    /// The address for one of `holders` who asks for `requested`, or for any: nobody gets by asking what others are kept from.
    ///
    /// # Errors
    /// [`IpamError::Exhausted`].
    pub fn offer(&mut self, holders: &[Holder], requested: Option<Ipv4Addr>, now: Time) -> Result<Ipv4Addr, IpamError> {
        let rests = |address| match self.get(address) {
            Some((holder, Use::Kept { since })) => !holders.contains(holder) && now.since(since) < QUARANTINE,
            Some((_, Use::Declined { .. })) => true,
            Some((_, Use::Held { .. })) | None => false,
        };
        match requested.filter(|address| self.check(*address, holders).is_ok() && !rests(*address)) {
            Some(address) => Ok(address),
            None => self.choose(holders),
        }
    }

    /// Whether an address that was given away once can be had by one of `holders`.
    fn is_free_for(&self, bits: u32, holders: &[Holder]) -> bool {
        let is_free = match self.entries.get(&bits) {
            None | Some(Entry { r#use: Use::Kept { .. }, .. }) => true,
            // A station that moved to another port.
            Some(Entry { r#use: Use::Held { .. }, holder }) => holders.contains(holder),
            Some(Entry { r#use: Use::Declined { .. }, .. }) => false,
        };
        is_free && self.reserved.get(&bits).is_none_or(|holder| holders.contains(holder))
    }

    /// Whether one of `holders` may have an address that it asks for: in quarantine or not.
    ///
    /// # Errors
    /// Any of [`IpamError`] but the last two.
    pub fn check(&self, address: Ipv4Addr, holders: &[Holder]) -> Result<(), IpamError> {
        let bits = address.to_bits();
        if !self.is_host(bits) {
            return Err(IpamError::NoHost);
        }
        if let Some(Entry { holder, r#use: Use::Held { .. } }) = self.entries.get(&bits)
            && !holders.contains(holder)
        {
            return Err(IpamError::Taken(holder.clone()));
        }
        match self.reserved.get(&bits) {
            Some(holder) if !holders.contains(holder) => Err(IpamError::Reserved(holder.clone())),
            Some(_) | None => Ok(()),
        }
    }

    /// Enters an address that [`Ipam::choose`] gave, or [`Ipam::check`] found good, as `holder`'s. What else it had last is kept no longer for it.
    pub fn hold(&mut self, address: Ipv4Addr, holder: Holder, until: Option<Time>) {
        self.put(address.to_bits(), holder, Use::Held { until });
    }

    /// Another end for a lease; `false` when nobody has the address.
    pub fn extend(&mut self, address: Ipv4Addr, until: Option<Time>) -> bool {
        let bits = address.to_bits();
        let Some(Entry { r#use: Use::Held { .. }, holder }) = self.entries.get(&bits) else { return false };
        let holder = holder.clone();
        self.put(bits, holder, Use::Held { until });
        true
    }

    /// Nobody has an address any longer; `false` when nobody had it.
    pub fn release(&mut self, address: Ipv4Addr, now: Time) -> bool {
        self.end(address.to_bits(), Use::Kept { since: now })
    }

    /// Its holder found it in use by somebody else; `false` when nobody had it.
    pub fn decline(&mut self, address: Ipv4Addr, now: Time) -> bool {
        self.end(address.to_bits(), Use::Declined { since: now })
    }

    fn end(&mut self, bits: u32, r#use: Use) -> bool {
        let Some(Entry { holder, r#use: Use::Held { .. } }) = self.entries.get(&bits) else { return false };
        let holder = holder.clone();
        self.put(bits, holder, r#use);
        self.forget_surplus();
        true
    }

    /// Enters what another process knew: an address that nobody has.
    pub fn remember(&mut self, address: Ipv4Addr, holder: Holder, r#use: Use) {
        let bits = address.to_bits();
        if self.is_host(bits) && !self.entries.contains_key(&bits) && !self.of.contains_key(&holder) {
            self.put(bits, holder, r#use);
            self.forget_surplus();
        }
    }

    fn put(&mut self, bits: u32, holder: Holder, r#use: Use) {
        self.take(bits);
        self.order(bits, r#use, true);
        self.of.insert(holder.clone(), bits);
        self.entries.insert(bits, Entry { holder, r#use });
    }

    /// Takes an entry out of all that it is in.
    fn take(&mut self, bits: u32) -> Option<Entry> {
        let entry = self.entries.remove(&bits)?;
        self.order(bits, entry.r#use, false);
        if self.of.get(&entry.holder) == Some(&bits) {
            self.of.remove(&entry.holder);
        }
        Some(entry)
    }

    fn order(&mut self, bits: u32, r#use: Use, enter: bool) {
        let (set, at) = match r#use {
            Use::Held { until: None } => return,
            Use::Held { until: Some(until) } => (&mut self.ends, until),
            Use::Kept { since } => (&mut self.kept, since),
            Use::Declined { since } => (&mut self.ends, since.after(DECLINED)),
        };
        if enter {
            set.insert((at, bits));
        } else {
            set.remove(&(at, bits));
        }
    }

    fn forget_surplus(&mut self) {
        while self.kept.len() > KEPT
            && let Some((_, bits)) = self.kept.first().copied()
        {
            self.take(bits);
            self.fresh = self.fresh.min(bits);
        }
    }

    /// Ends leases whose time is over, and rests of declined addresses; says which addresses nobody has now.
    pub fn expire(&mut self, now: Time) -> Vec<Ipv4Addr> {
        let mut ended = Vec::new();
        while let Some((at, bits)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            if let Some(entry) = self.take(bits) {
                self.put(bits, entry.holder, Use::Kept { since: at });
                ended.push(Ipv4Addr::from_bits(bits));
            }
        }
        self.forget_surplus();
        ended
    }

    /// When the next lease ends.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Reserves an address for the first of `holders`, who are one and the same, or for another than before. Who has it now keeps it.
    ///
    /// # Errors
    /// [`IpamError::NoHost`], [`IpamError::Full`]; [`IpamError::Taken`] when another one has it, [`IpamError::Reserved`] when it is reserved.
    pub fn reserve(&mut self, address: Ipv4Addr, holders: &[Holder]) -> Result<(), IpamError> {
        self.check(address, holders)?;
        let Some(holder) = holders.first() else { return Ok(()) };
        if self.reserved.len() >= RESERVATIONS && !self.reserved.contains_key(&address.to_bits()) {
            return Err(IpamError::Full);
        }
        let before = self.reserved.iter().find(|(_, other)| *other == holder).map(|(bits, _)| *bits);
        if let Some(before) = before {
            self.unreserve(Ipv4Addr::from_bits(before));
        }
        self.reserved.insert(address.to_bits(), holder.clone());
        Ok(())
    }

    /// Ends a reservation; says whose it was.
    pub fn unreserve(&mut self, address: Ipv4Addr) -> Option<Holder> {
        let holder = self.reserved.remove(&address.to_bits());
        if holder.is_some() {
            self.fresh = self.fresh.min(address.to_bits());
        }
        holder
    }

    /// Reserved addresses, in their order.
    pub fn reservations(&self) -> impl Iterator<Item = (Ipv4Addr, &Holder)> {
        self.reserved.iter().map(|(bits, holder)| (Ipv4Addr::from_bits(*bits), holder))
    }

    /// Who has an address, or had it last, and what it is in.
    #[must_use]
    pub fn get(&self, address: Ipv4Addr) -> Option<(&Holder, Use)> {
        self.entries.get(&address.to_bits()).map(|entry| (&entry.holder, entry.r#use))
    }

    /// The address that a holder has or had last.
    #[must_use]
    pub fn of(&self, holder: &Holder) -> Option<Ipv4Addr> {
        self.of.get(holder).map(|bits| Ipv4Addr::from_bits(*bits))
    }

    /// All that is not fresh, from after an address on.
    pub fn after(&self, address: Option<Ipv4Addr>) -> impl Iterator<Item = (Ipv4Addr, &Holder, Use)> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = address.map_or(Unbounded, |address| Excluded(address.to_bits()));
        let entries = self.entries.range((from, Unbounded));
        entries.map(|(bits, entry)| (Ipv4Addr::from_bits(*bits), &entry.holder, entry.r#use))
    }

    /// How much there is, and how much of it is in use.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let gateway = u32::from((self.first..=self.last).contains(&self.gateway));
        let hosts = (self.last + 1).saturating_sub(self.first) - gateway;
        let mut usage = Usage { hosts, ..Usage::default() };
        for entry in self.entries.values() {
            match entry.r#use {
                Use::Held { .. } => usage.held += 1,
                Use::Declined { .. } => usage.declined += 1,
                Use::Kept { .. } => {}
            }
        }
        let is_held = |bits| matches!(self.entries.get(bits), Some(Entry { r#use: Use::Held { .. }, .. }));
        usage.reserved = self.reserved.keys().filter(|bits| !is_held(bits)).count() as u32;
        usage
    }
}

#[cfg(test)]
mod tests;
