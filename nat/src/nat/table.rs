//! One family's tables, and what must be kept in step between them.
use super::Nat;
use crate::flow::{Address, Endpoint, Tuple};
use crate::forward::{Forwards, RuleCounts};
use crate::mapping::Mappings;
use crate::packet::Readable;
use crate::ports::Occupancy;
use crate::session::{Session, Sessions};
use crate::station::Stations;
use crate::tcp_state::Direction;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use vswitch_switch::Time;

/// One family's tables.
#[derive(Debug)]
pub struct Table<A> {
    /// Sessions.
    pub sessions: Sessions<A>,
    /// Endpoint-independent mappings.
    pub mappings: Mappings<A>,
    /// Published ports.
    pub forwards: Forwards<A>,
    /// What went out under our address.
    pub masquerade: RuleCounts,
    pub(super) externals: Vec<A>,
    /// Addresses that are ours besides: published ports answer there, nothing leaves from there.
    pub(super) aliases: Vec<A>,
    /// With address-dependent filtering: sessions from an external endpoint to an address, by that tuple without the remote port.
    pub(super) permits: HashMap<Tuple<A>, u32, FixedState>,
    /// Sessions that were taken out one by one, their time being over: see [`super::NatCounts`].
    pub(super) ended: u64,
    hasher: FixedState,
}

/// A family that has a table.
pub trait Family: Readable {
    /// Its table.
    fn table(nat: &Nat) -> &Table<Self>;
    /// Its table.
    fn table_mut(nat: &mut Nat) -> &mut Table<Self>;
}

impl Family for Ipv4Addr {
    fn table(nat: &Nat) -> &Table<Self> {
        &nat.v4
    }

    fn table_mut(nat: &mut Nat) -> &mut Table<Self> {
        &mut nat.v4
    }
}

impl Family for Ipv6Addr {
    fn table(nat: &Nat) -> &Table<Self> {
        &nat.v6
    }

    fn table_mut(nat: &mut Nat) -> &mut Table<Self> {
        &mut nat.v6
    }
}

impl<A: Address> Table<A> {
    pub(super) fn new(sessions: u32, mappings: u32, seed: u64) -> Self {
        Self {
            sessions: Sessions::new(sessions, seed),
            mappings: Mappings::new(mappings, seed),
            forwards: Forwards::new(seed),
            masquerade: RuleCounts::default(),
            externals: Vec::new(),
            aliases: Vec::new(),
            permits: HashMap::with_hasher(FixedState::with_seed(seed)),
            ended: 0,
            hasher: FixedState::with_seed(seed),
        }
    }

    /// The addresses that stand for those inside.
    #[must_use]
    pub fn externals(&self) -> &[A] {
        &self.externals
    }

    /// Whether a packet to `address` is for us.
    #[inline]
    #[must_use]
    pub fn is_ours(&self, address: A) -> bool {
        self.externals.contains(&address) || self.aliases.contains(&address)
    }

    /// RFC 4787 REQ-2: the same external address for all of an inside address's sessions.
    pub(super) fn pool_address(&self, inside: A) -> Option<A> {
        use core::hash::BuildHasher;
        match self.externals[..] {
            [] => None,
            [only] => Some(only),
            ref many => {
                let number = self.hasher.hash_one(inside.bits()) % many.len() as u64;
                many.get(number as usize).copied()
            }
        }
    }

    /// Ends a session.
    pub(super) fn end(&mut self, stations: &mut Stations, position: u32, now: Time) {
        self.ended += 1;
        self.take_out(stations, position, now);
    }

    /// Takes a session out; the caller counts why.
    pub(super) fn take_out(&mut self, stations: &mut Stations, position: u32, now: Time) {
        if let Some((original, session)) = self.sessions.remove(position) {
            Ledger { mappings: &mut self.mappings, permits: &mut self.permits, stations }.ended(&original, &session, now);
        }
    }

    /// The live session of a packet; a stale one is taken out.
    #[inline]
    pub(super) fn live(
        &mut self,
        stations: &mut Stations,
        tuple: &Tuple<A>,
        likely: Direction,
        now: Time,
    ) -> Option<(u32, Direction)> {
        // Both tuples may be known, of a stale session and a live one: three looks find either.
        for _ in 0..3 {
            let (position, direction) = self.sessions.find(tuple, likely)?;
            let (_, session, _) = self.sessions.at(position)?;
            if stations.is_current(session.owner) {
                return Some((position, direction));
            }
            self.end(stations, position, now);
        }
        None
    }

    /// Whether a tuple can be had for a new session.
    pub(super) fn occupancy(&self, stations: &Stations, tuple: &Tuple<A>) -> Occupancy {
        let is_over = |position: Option<u32>| {
            position
                .and_then(|position| self.sessions.at(position))
                .map(|(_, session, _)| session.phase.is_over() || !stations.is_current(session.owner))
        };
        match (is_over(self.sessions.reply(tuple)), is_over(self.sessions.original(tuple))) {
            (None, None) => Occupancy::Free,
            (Some(false), _) | (_, Some(false)) => Occupancy::Taken,
            (Some(true), _) | (_, Some(true)) => Occupancy::Over,
        }
    }

    /// Ends whatever has a tuple that a new session is to have: it is over.
    pub(super) fn vacate(&mut self, stations: &mut Stations, tuple: &Tuple<A>, now: Time) {
        for position in [self.sessions.reply(tuple), self.sessions.original(tuple)].into_iter().flatten() {
            self.end(stations, position, now);
        }
    }
}

/// What counts a table's sessions, apart from the sessions themselves.
pub(super) struct Ledger<'a, A> {
    pub(super) mappings: &'a mut Mappings<A>,
    pub(super) permits: &'a mut HashMap<Tuple<A>, u32, FixedState>,
    pub(super) stations: &'a mut Stations,
}

impl<A: Address> Ledger<'_, A> {
    /// Keeps the accounts of a session that was taken out.
    pub(super) fn ended(&mut self, original: &Tuple<A>, session: &Session<A>, now: Time) {
        if !session.phase.is_over() {
            self.stations.count_session(session.owner, -1);
        }
        if session.is_mapped {
            let external = session.external(original);
            if let Some(owner) = self.mappings.release(&external, now) {
                self.stations.count_port(owner, -1);
            }
            if let Entry::Occupied(mut entry) = self.permits.entry(permit(external, session.remote(original))) {
                *entry.get_mut() -= 1;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }
}

/// What address-dependent filtering remembers.
pub(super) const fn permit<A: Address>(external: Endpoint<A>, remote: A) -> Tuple<A> {
    Tuple { src: remote, dst: external.address, sport: 0, dport: external.port, protocol: external.protocol }
}
