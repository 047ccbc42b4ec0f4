//! Published ports: which endpoint outside stands for which inside, as `iptables -t nat -A PREROUTING ... -j DNAT` says it.
//!
//! Theory. A [`Rule`] is a range of ports of one protocol on one address or on all of ours, and the backends that answer it. It is one
//! entry however long the range is (N64): rules lie in a tree by (protocol, address, first port), and a lookup asks for the last
//! one that begins at or before the port. Rules with the same key space do not overlap, so there is at most one answer; a rule for one
//! address and one for all addresses may not overlap either.
//!
//! A backend's port is its own first port plus the distance from the range's start. A rule with several backends balances: a new session
//! goes to the backend that has the highest hash with it (rendezvous hashing), so taking one away moves no other's. A backend that
//! *drains* gets no new session and keeps those it has.
use crate::flow::{Address, Tuple};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::hash::BuildHasher;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Rules of one family at the most.
pub const RULES: usize = 65_535;
/// Backends of a rule at the most.
pub const BACKENDS: usize = 64;

/// Names a rule: never used again while the NAT lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct RuleId(pub u32);

/// Where a published port leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backend<A> {
    /// The container's number.
    pub owner: u16,
    /// Its address.
    pub address: A,
    /// Its port for the range's first.
    pub port: u16,
    /// No new sessions.
    pub draining: bool,
}

/// One published range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule<A> {
    /// Its name.
    pub id: RuleId,
    /// Protocol number: TCP or UDP.
    pub protocol: u8,
    /// On which of our addresses; `None` is all, the gateway's among them.
    pub address: Option<A>,
    /// First port, at least 1.
    pub first: u16,
    /// Last port, at least the first.
    pub last: u16,
    /// Whom it admits: an address and the bits of its prefix. Empty is everybody.
    pub from: Vec<(A, u8)>,
    /// Where it leads; never empty.
    pub backends: Vec<Backend<A>>,
}

/// What went through a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RuleCounts {
    /// Sessions begun.
    pub sessions: u64,
    /// Packets both ways.
    pub packets: u64,
    /// Octets of layer 3 both ways.
    pub bytes: u64,
    /// Packets refused by `from`.
    pub refused: u64,
}

/// Why a rule cannot be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ForwardError {
    /// A port of it is another rule's.
    Taken {
        /// That rule.
        by: RuleId,
        /// The first such port.
        port: u16,
    },
    /// The last port is before the first, or a backend's range passes 65535.
    Range,
    /// No backend, or more than [`BACKENDS`].
    Backends,
    /// More than [`RULES`].
    Full,
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { port, .. } => write!(f, "port {port} is published already"),
            Self::Range => f.write_str("the range of ports is empty or passes 65535"),
            Self::Backends => write!(f, "a published port has 1 to {BACKENDS} containers"),
            Self::Full => write!(f, "{RULES} rules are there already"),
        }
    }
}

impl core::error::Error for ForwardError {}

/// Where a rule begins: protocol, address (`None`: all), first port.
type Place = (u8, Option<u128>, u16);

/// All rules of one family.
#[derive(Debug)]
pub struct Forwards<A> {
    rules: BTreeMap<Place, Rule<A>>,
    places: BTreeMap<RuleId, Place>,
    /// Apart from the rules: a packet of a session finds them by the rule's name at once.
    counts: HashMap<u32, RuleCounts, FixedState>,
    hasher: FixedState,
}

impl<A: Address> Forwards<A> {
    /// None yet; `seed` keeps outsiders from choosing a backend.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self { rules: BTreeMap::new(), places: BTreeMap::new(), counts: HashMap::with_hasher(hasher.clone()), hasher }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Each rule with its counters.
    pub fn iter(&self) -> impl Iterator<Item = (&Rule<A>, RuleCounts)> {
        self.rules.values().map(|rule| (rule, self.counts.get(&rule.id.0).copied().unwrap_or_default()))
    }

    /// A rule by its name.
    #[must_use]
    pub fn get(&self, id: RuleId) -> Option<&Rule<A>> {
        self.rules.get(self.places.get(&id)?)
    }

    /// A rule's counters; `None` when it was taken away.
    #[inline]
    pub fn counts_mut(&mut self, id: RuleId) -> Option<&mut RuleCounts> {
        self.counts.get_mut(&id.0)
    }

    fn overlapping(&self, protocol: u8, address: Option<u128>, first: u16, last: u16) -> Option<(RuleId, u16)> {
        let space = (protocol, address, 0)..=(protocol, address, last);
        let rule = self.rules.range(space).next_back()?.1;
        (rule.last >= first).then(|| (rule.id, rule.first.max(first)))
    }

    /// Adds a rule, or replaces the one with its name (whose counters go on).
    ///
    /// # Errors
    /// See [`ForwardError`]; nothing has changed then.
    pub fn set(&mut self, rule: Rule<A>) -> Result<(), ForwardError> {
        let span = rule.last.checked_sub(rule.first).filter(|_| rule.first > 0).ok_or(ForwardError::Range)?;
        if rule.backends.is_empty() || rule.backends.len() > BACKENDS {
            return Err(ForwardError::Backends);
        }
        if rule.backends.iter().any(|backend| backend.port == 0 || backend.port.checked_add(span).is_none()) {
            return Err(ForwardError::Range);
        }
        let before = self.places.remove(&rule.id).and_then(|place| self.rules.remove(&place));
        let conflict = self.conflict(&rule);
        let error = conflict.or_else(|| (self.rules.len() >= RULES).then_some(ForwardError::Full));
        let (rule, result) = match (error, before) {
            (None, _) => (rule, Ok(())),
            (Some(error), Some(before)) => (before, Err(error)),
            (Some(error), None) => return Err(error),
        };
        let place = (rule.protocol, rule.address.map(A::bits), rule.first);
        self.places.insert(rule.id, place);
        self.counts.entry(rule.id.0).or_default();
        self.rules.insert(place, rule);
        result
    }

    /// The rule that has a port of `rule` already: on the same address, or one of them on all.
    fn conflict(&self, rule: &Rule<A>) -> Option<ForwardError> {
        let taken = |(by, port)| ForwardError::Taken { by, port };
        let same = self.overlapping(rule.protocol, rule.address.map(A::bits), rule.first, rule.last);
        let other = || match rule.address {
            Some(_) => self.overlapping(rule.protocol, None, rule.first, rule.last),
            None => {
                // Those on one address: by protocol they lie together, behind the ones on all.
                let placed = self.rules.range((rule.protocol, Some(0), 0)..=(rule.protocol, Some(u128::MAX), u16::MAX));
                let overlap = placed.map(|(_, other)| other).find(|other| other.first <= rule.last && rule.first <= other.last);
                overlap.map(|other| (other.id, other.first.max(rule.first)))
            }
        };
        same.or_else(other).map(taken)
    }

    /// Takes a rule away; its sessions stay.
    pub fn remove(&mut self, id: RuleId) -> Option<Rule<A>> {
        self.counts.remove(&id.0);
        self.rules.remove(&self.places.remove(&id)?)
    }

    /// The rule for an endpoint of ours.
    #[must_use]
    pub fn find(&self, protocol: u8, address: A, port: u16) -> Option<&Rule<A>> {
        if self.rules.is_empty() {
            return None;
        }
        let begun = |address: Option<u128>| {
            let rule = self.rules.range((protocol, address, 0)..=(protocol, address, port)).next_back()?.1;
            (rule.last >= port).then_some(rule)
        };
        begun(Some(address.bits())).or_else(|| begun(None))
    }

    /// The backend for a new session and its port, or `None` when all of them drain.
    #[must_use]
    pub fn choose(&self, rule: &Rule<A>, tuple: &Tuple<A>) -> Option<(Backend<A>, u16)> {
        let mut open = rule.backends.iter().filter(|backend| !backend.draining);
        let backend = if rule.backends.len() == 1 {
            open.next()
        } else {
            open.max_by_key(|backend| self.hasher.hash_one((tuple, backend.owner, backend.address.bits() as u64)))
        }?;
        Some((*backend, backend.port.saturating_add(tuple.dport - rule.first)))
    }
}

impl<A: Address> Rule<A> {
    /// Whether `client` may use it.
    #[must_use]
    pub fn admits(&self, client: A) -> bool {
        self.from.is_empty() || self.from.iter().any(|(net, prefix)| client.has_prefix(*net, *prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use std::vec;

    fn rule(id: u32, address: Option<[u8; 4]>, first: u16, last: u16) -> Rule<Ipv4Addr> {
        let backend = Backend { owner: 1, address: Ipv4Addr::new(10, 0, 0, 2), port: 80, draining: false };
        let address = address.map(Ipv4Addr::from);
        Rule { id: RuleId(id), protocol: 6, address, first, last, from: Vec::new(), backends: vec![backend] }
    }

    #[test]
    fn conflicts_are_refused_whole_and_named() {
        let mut rules = Forwards::new(1);
        rules.set(rule(1, None, 8_000, 8_010)).unwrap();
        for (wanted, port) in [
            (rule(2, None, 8_010, 8_020), 8_010),
            (rule(2, None, 7_000, 9_000), 8_000),
            (rule(2, None, 8_005, 8_005), 8_005),
            (rule(2, Some([192, 0, 2, 1]), 7_999, 8_000), 8_000),
        ] {
            assert_eq!(rules.set(wanted), Err(ForwardError::Taken { by: RuleId(1), port }));
        }
        assert_eq!(rules.len(), 1);
        rules.set(rule(2, Some([192, 0, 2, 1]), 9_000, 9_000)).unwrap();
        rules.set(rule(3, Some([192, 0, 2, 2]), 9_000, 9_000)).unwrap();
        assert_eq!(rules.set(rule(4, None, 8_999, 9_001)), Err(ForwardError::Taken { by: RuleId(2), port: 9_000 }));
        // A replacement that cannot be leaves what was.
        assert!(rules.set(rule(1, None, 8_999, 9_001)).is_err());
        assert_eq!(rules.find(6, Ipv4Addr::new(192, 0, 2, 9), 8_003).unwrap().id, RuleId(1));
        assert_eq!(rules.find(6, Ipv4Addr::new(192, 0, 2, 2), 9_000).unwrap().id, RuleId(3));
        assert!(rules.find(6, Ipv4Addr::new(192, 0, 2, 3), 9_000).is_none());
        assert!(rules.find(17, Ipv4Addr::new(192, 0, 2, 9), 8_003).is_none());
    }

    #[test]
    fn odd_ranges() {
        let mut rules = Forwards::new(1);
        assert_eq!(rules.set(rule(1, None, 0, 0)), Err(ForwardError::Range));
        assert_eq!(rules.set(rule(1, None, 2, 1)), Err(ForwardError::Range));
        let mut long = rule(1, None, 1, 65_535);
        assert_eq!(rules.set(long.clone()), Err(ForwardError::Range));
        long.backends[0].port = 1;
        rules.set(long).unwrap();
        assert_eq!(rules.set(Rule { backends: Vec::new(), ..rule(2, None, 1, 1) }), Err(ForwardError::Backends));
    }

    #[test]
    fn a_backend_that_drains_moves_no_other_flow() {
        let mut rules = Forwards::new(7);
        let mut three = rule(1, None, 80, 80);
        three.backends = (1..=3)
            .map(|owner| Backend { owner, address: Ipv4Addr::new(10, 0, 0, owner as u8), port: 80, draining: false })
            .collect();
        rules.set(three.clone()).unwrap();
        let tuple = |port| Tuple {
            src: Ipv4Addr::new(198, 51, 100, 1),
            dst: Ipv4Addr::new(192, 0, 2, 1),
            sport: port,
            dport: 80,
            protocol: 6,
        };
        let before: Vec<u16> = (0..3_000).map(|port| rules.choose(&three, &tuple(port)).unwrap().0.owner).collect();
        for owner in 1..=3 {
            let share = before.iter().filter(|chosen| **chosen == owner).count();
            assert!((800..1_200).contains(&share), "{share}");
        }
        three.backends[1].draining = true;
        for (port, before) in (0..3_000).zip(before) {
            let now = rules.choose(&three, &tuple(port)).unwrap().0.owner;
            assert!(now != 2 && (now == before || before == 2));
        }
        three.backends.iter_mut().for_each(|backend| backend.draining = true);
        assert!(rules.choose(&three, &tuple(1)).is_none());
    }
}
