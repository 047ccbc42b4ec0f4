//! The NAT: what `iptables -t nat` and nf_conntrack do for docker0.
//!
//! Theory. Two steps, each of which takes a packet and either rewrites it or says why not. [`Nat::outbound`] takes one from a station to
//! the outside and gives it one of our external addresses (masquerade); [`Nat::inbound`] takes one that has reached an external address and
//! gives it an inside one, by the session that waits for it, by a published port ([`crate::forward`]), or by a mapping that lets
//! strangers in where filtering is set so. Hairpin is both, one after the other: what leaves for an address of our own comes back in.
//!
//! Mapping is endpoint-independent for UDP and ICMP ([`crate::mapping`]; RFC 4787 REQ-1, RFC 5508 REQ-1). For TCP it depends on the
//! remote endpoint. exception: RFC 5382 REQ-1. A closed connection holds its port for 240 s (REQ-5), so 64,512 ports of one
//! address would carry 270 new connections a second; per remote endpoint they carry that many to each. Each can be set.
//! Filtering is address-and-port-dependent, and can be set.
//!
//! Full is a normal outcome, and ordered: sessions that are over go first, then half-open ones, never one in use ([`Class`]). A
//! container at its quota ([`crate::station::Limits`]) gives up its own half-open ones, then is refused; nobody else notices.
//!
//! What it does not do: hold frames, send any, know hardware addresses, or edit payloads (RFC 4787 REQ-10, RFC 5382 REQ-6: no
//! application gateways).
use crate::flow::{Address, Endpoint, Tuple, protocol};
use crate::forward::{Backend, ForwardError, Rule, RuleCounts, RuleId};
use crate::packet::{Packet, Transport, tcp};
use crate::ports::{self, Chosen, Occupancy, PortPolicy, Random};
use crate::session::{Class, Count, Session};
use crate::station::{Owner, Stations};
use crate::tcp_state::{Direction, Phase, Sides, midstream};
use crate::timeouts::{SHORT_PORTS, Timeouts};
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use vswitch_switch::{DropReason, Time};

/// IPv4 sessions at the most, as nf_conntrack_max is on most machines.
pub const SESSIONS_V4: u32 = 262_144;
/// IPv6 sessions at the most.
pub const SESSIONS_V6: u32 = 131_072;
/// Mappings of one family at the most: as many as two external addresses have ports for UDP.
pub const MAPPINGS: u32 = 131_072;
/// Sessions of one family, from which on they do not fit into a processor's own cache (136 octets each, in IPv4).
const CACHED: u32 = 8_192;
/// Sessions of one turn that a station at its quota gives up of its own.
const OWN_RECLAIMED: u32 = 1;

mod plan;
mod table;

pub use table::{Family, Table};
use table::{Ledger, permit};

/// Whether an inside endpoint has one external endpoint or one for each remote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MappingMode {
    /// One for all remotes (RFC 4787 REQ-1).
    EndpointIndependent,
    /// One for each remote endpoint; it may be shared with others for other remotes.
    AddressAndPortDependent,
}

/// Whom an endpoint-independent mapping lets in (RFC 4787 5; REQ-8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filtering {
    /// Everybody.
    EndpointIndependent,
    /// Every port of an address that was sent to.
    AddressDependent,
    /// Only endpoints that were sent to.
    AddressAndPortDependent,
}

/// How the NAT behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NatConfig {
    /// Mapping of UDP, and whatever has its ports.
    pub udp: MappingMode,
    /// Mapping of TCP.
    pub tcp: MappingMode,
    /// Mapping of echo identifiers.
    pub icmp: MappingMode,
    /// Filtering of all of them.
    pub filtering: Filtering,
    /// External ports.
    pub ports: PortPolicy,
    /// Take up TCP connections in their midst, from inside (N33).
    pub loose: bool,
    /// Drop segments outside the window instead of letting them pass (N35).
    pub strict_windows: bool,
    /// Packets from outside keep a UDP session alive too (RFC 4787 REQ-6; N09).
    pub inbound_refresh: bool,
    /// Timers.
    pub timeouts: Timeouts,
    /// Room for IPv4 sessions.
    pub sessions_v4: u32,
    /// Room for IPv6 sessions.
    pub sessions_v6: u32,
    /// Room for mappings, each family.
    pub mappings: u32,
}

impl Default for NatConfig {
    fn default() -> Self {
        Self {
            udp: MappingMode::EndpointIndependent,
            tcp: MappingMode::AddressAndPortDependent,
            icmp: MappingMode::EndpointIndependent,
            filtering: Filtering::AddressAndPortDependent,
            ports: PortPolicy::default(),
            loose: true,
            strict_windows: false,
            inbound_refresh: true,
            timeouts: Timeouts::default(),
            sessions_v4: SESSIONS_V4,
            sessions_v6: SESSIONS_V6,
            mappings: MAPPINGS,
        }
    }
}

impl NatConfig {
    const fn mapping(&self, number: u8) -> Option<MappingMode> {
        match number {
            protocol::TCP => Some(self.tcp),
            protocol::UDP | protocol::UDP_LITE => Some(self.udp),
            protocol::ICMP | protocol::ICMPV6 => Some(self.icmp),
            _ => None,
        }
    }
}

/// What happened to sessions since the NAT began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NatCounts {
    /// Begun.
    pub begun: u64,
    /// Ended by their timer, their station's end or another connection in their place.
    pub ended: u64,
    /// Given up for others, table or quota being full.
    pub reclaimed: u64,
    /// TCP segments outside their window.
    pub invalid: u64,
}

/// See the module's theory.
#[derive(Debug)]
pub struct Nat {
    config: NatConfig,
    random: Random,
    counts: NatCounts,
    v4: Table<Ipv4Addr>,
    v6: Table<Ipv6Addr>,
}

/// Masquerade is no rule of its own.
const NO_RULE: RuleId = RuleId(0);

impl Nat {
    /// A NAT without external addresses. `key` is 128 bits that nobody outside knows.
    #[must_use]
    pub fn new(config: NatConfig, key: [u64; 2]) -> Self {
        let random = Random::new(key);
        Self {
            config,
            random,
            counts: NatCounts::default(),
            v4: Table::new(config.sessions_v4, config.mappings, key[0]),
            v6: Table::new(config.sessions_v6, config.mappings, key[1]),
        }
    }

    /// How it behaves.
    #[must_use]
    pub const fn config(&self) -> &NatConfig {
        &self.config
    }

    /// What happened to sessions.
    #[must_use]
    pub const fn counts(&self) -> NatCounts {
        let NatCounts { begun, ended, reclaimed, invalid } = self.counts;
        NatCounts { begun, ended: ended + self.v4.ended + self.v6.ended, reclaimed, invalid }
    }

    /// Goes on counting from what another process has counted.
    pub const fn set_counts(&mut self, counts: NatCounts) {
        (self.counts, self.v4.ended, self.v6.ended) = (counts, 0, 0);
    }

    /// A family's tables.
    #[must_use]
    pub fn table<A: Family>(&self) -> &Table<A> {
        A::table(self)
    }

    /// Sets a family's external addresses. Sessions of an address that went are dead at once; `aliases` are further addresses that are
    /// ours, at which published ports answer.
    pub fn set_addresses<A: Family>(&mut self, stations: &mut Stations, externals: Vec<A>, aliases: Vec<A>, now: Time) {
        let gone: Vec<A> = A::table(self).externals.iter().filter(|address| !externals.contains(address)).copied().collect();
        let table = A::table_mut(self);
        (table.externals, table.aliases) = (externals, aliases);
        if !gone.is_empty() {
            self.end_where::<A>(stations, now, |original, session| gone.contains(&session.external(original).address));
        }
    }

    /// Publishes a range, or changes the rule of that name. A dynamic mapping that has one of its ports finishes its sessions.
    ///
    /// # Errors
    /// See [`ForwardError`]; nothing has changed then.
    pub fn publish<A: Family>(&mut self, rule: Rule<A>) -> Result<(), ForwardError> {
        A::table_mut(self).forwards.set(rule)
    }

    /// Takes a rule away; its sessions go on until they end.
    pub fn unpublish<A: Family>(&mut self, id: RuleId) -> bool {
        A::table_mut(self).forwards.remove(id).is_some()
    }

    /// What went out under our addresses of a family.
    pub fn masquerade_mut<A: Family>(&mut self) -> &mut RuleCounts {
        &mut A::table_mut(self).masquerade
    }

    /// A published range's counters; `None` when there is none of that name.
    pub fn rule_counts_mut<A: Family>(&mut self, id: RuleId) -> Option<&mut RuleCounts> {
        A::table_mut(self).forwards.counts_mut(id)
    }

    /// Begins to take out what belonged to stations that are gone. It is dead already; this frees its room.
    pub const fn begin_sweep(&mut self) {
        self.v4.sessions.begin_sweep();
        self.v6.sessions.begin_sweep();
    }

    /// Ends every session that `which` says, at once: a walk over all, for the control plane. Says how many.
    pub fn end_where<A: Family>(
        &mut self,
        stations: &mut Stations,
        now: Time,
        which: impl Fn(&Tuple<A>, &Session<A>) -> bool,
    ) -> u64 {
        let table = A::table_mut(self);
        let mut ended = Vec::new();
        // A sweep for what is stale that is under way begins anew afterwards.
        let was_sweeping = table.sessions.is_sweeping();
        table.sessions.begin_sweep();
        while table.sessions.is_sweeping() {
            table.sessions.sweep(8_192, &which, |original, session| ended.push((original, session)));
        }
        if was_sweeping {
            table.sessions.begin_sweep();
        }
        for (original, session) in &ended {
            Ledger { mappings: &mut table.mappings, permits: &mut table.permits, stations }.ended(original, session, now);
        }
        self.counts.ended += ended.len() as u64;
        ended.len() as u64
    }

    /// Whether a family has so many sessions that to [`Nat::fetch`] them pays.
    #[inline]
    #[must_use]
    pub fn is_larger_than_cache<A: Family>(&self) -> bool {
        A::table(self).sessions.len() > CACHED
    }

    /// Brings the sessions of a batch of packets into the processor's cache, 64 of them at the most; `likely` is by which of its tuples each
    /// session is known. Nothing changes by it.
    #[inline]
    pub fn fetch<A: Family>(&self, tuples: &[Tuple<A>], likely: Direction) {
        A::table(self).sessions.fetch(tuples, likely);
    }

    /// Translates a packet that a station sends to the outside, from the port `port`.
    ///
    /// # Errors
    /// The reason for which it must not leave: [`DropReason::NatQuota`], [`DropReason::NatFull`], [`DropReason::NatPorts`] (RFC 5508 REQ-8:
    /// its sender is to be told, ICMP 3/13), [`DropReason::Reach`] (the same), [`DropReason::NatState`], [`DropReason::SourceSpoof`], [`DropReason::NoRoute`],
    /// [`DropReason::TcpWindow`].
    #[inline]
    pub fn outbound<A: Family>(
        &mut self,
        stations: &mut Stations,
        p: &mut Packet<A>,
        port: u16,
        now: Time,
    ) -> Result<(), DropReason> {
        if p.transport() == Transport::Error {
            return self.error_outbound(stations, p, port);
        }
        let tuple = *p.tuple();
        // Again after one that reopens: another may be known by the other tuple.
        while let Some((position, direction)) = A::table_mut(self).live(stations, &tuple, Direction::Original, now) {
            let (_, session, _) = A::table(self).sessions.at(position).ok_or(DropReason::NatState)?;
            if session.owner.port != port {
                return Err(DropReason::SourceSpoof);
            }
            if !reopens(session.phase, p) {
                return self.pass(stations, position, direction, p, now);
            }
            A::table_mut(self).end(stations, position, now);
        }
        let phase = self.opening(p)?;
        // Who begins is judged, not what is under way. What our own addresses have was published.
        if let Some(reach) = stations.reach(port)
            && !A::table(self).is_ours(tuple.dst)
            && !reach.rules_admit(tuple.dst.into(), tuple.dport, tuple.protocol)
        {
            return Err(DropReason::Reach);
        }
        // Before a mapping is made, which a refused session would leave behind.
        self.make_room::<A>(stations, stations.owner(port), now)?;
        let plan = self.plan_outbound(stations, &tuple, phase, port, now)?;
        let position = self.begin(stations, tuple, plan, now)?;
        A::table_mut(self).masquerade.sessions += 1;
        self.pass(stations, position, Direction::Original, p, now)
    }

    /// Translates a packet that has come to one of our external addresses.
    ///
    /// # Errors
    /// [`DropReason::Unsolicited`] above all (default deny); [`DropReason::PublishFrom`], [`DropReason::NatQuota`],
    /// [`DropReason::NatFull`], [`DropReason::NatPorts`], [`DropReason::TcpWindow`]. No sender is told (RFC 5382 REQ-4a).
    #[inline]
    pub fn inbound<A: Family>(&mut self, stations: &mut Stations, p: &mut Packet<A>, now: Time) -> Result<(), DropReason> {
        if p.transport() == Transport::Error {
            return self.error_inbound(stations, p);
        }
        let tuple = *p.tuple();
        while let Some((position, direction)) = A::table_mut(self).live(stations, &tuple, Direction::Reply, now) {
            let (_, session, _) = A::table(self).sessions.at(position).ok_or(DropReason::Unsolicited)?;
            if direction == Direction::Original && !session.from_outside {
                return Err(DropReason::Martian);
            }
            if !reopens(session.phase, p) {
                return self.pass(stations, position, direction, p, now);
            }
            A::table_mut(self).end(stations, position, now);
        }
        let plan = self.plan_inbound(stations, &tuple, p, now)?;
        let rule = plan.rule;
        self.make_room::<A>(stations, plan.owner, now)?;
        let position = self.begin(stations, tuple, plan, now)?;
        if let Some(counts) = A::table_mut(self).forwards.counts_mut(rule) {
            counts.sessions += 1;
        }
        self.pass(stations, position, Direction::Original, p, now)
    }

    /// A packet of a known session: its life goes on, its addresses are rewritten.
    #[inline]
    fn pass<A: Family>(
        &mut self,
        stations: &mut Stations,
        position: u32,
        direction: Direction,
        p: &mut Packet<A>,
        now: Time,
    ) -> Result<(), DropReason> {
        let (strict, inbound_refresh) = (self.config.strict_windows, self.config.inbound_refresh);
        let mut invalid = false;
        let table = A::table_mut(self);
        let Some((original, session, seen)) = table.sessions.at_mut(position) else { return Err(DropReason::NatState) };
        let (original, before) = (*original, session.phase);
        let from_outside = session.from_outside != (direction == Direction::Reply);
        let refreshes = match p.transport() {
            Transport::Tcp(segment) => {
                let step = session.sides.step(before, direction, &segment);
                session.phase = step.phase;
                invalid = !step.is_valid;
                // RFC 7857 8 (N53): a RST refreshes nothing.
                step.is_valid && !segment.has(tcp::RST)
            }
            Transport::Udp => {
                if direction == Direction::Reply && before == Phase::UdpOpening {
                    session.phase = Phase::Udp;
                }
                inbound_refresh || !from_outside
            }
            Transport::Echo { .. } | Transport::Error | Transport::Other | Transport::Absent => true,
        };
        if refreshes {
            *seen = now;
        }
        let bytes = p.len() as u64;
        if let Some(count) = session.counts.get_mut(direction as usize) {
            count.packets += 1;
            count.bytes += bytes;
        }
        let (reply, owner, after, rule) = (session.reply, session.owner, session.phase, session.rule);
        if after != before {
            table.sessions.set_class(position, Class::of(after), now);
            if after == Phase::TcpReset {
                self.end_by_reset::<A>(position, before, now);
            }
            match (before.is_over(), after.is_over()) {
                (false, true) => stations.count_session(owner, -1),
                (true, false) => stations.count_session(owner, 1),
                (false, false) | (true, true) => {}
            }
        }
        if invalid {
            self.counts.invalid += 1;
            if strict {
                return Err(DropReason::TcpWindow);
            }
        }
        let table = A::table_mut(self);
        match direction {
            Direction::Original => {
                p.rewrite_src(reply.dst, reply.dport);
                p.rewrite_dst(reply.src, reply.sport);
            }
            Direction::Reply => {
                p.rewrite_src(original.dst, original.dport);
                p.rewrite_dst(original.src, original.sport);
            }
        }
        if rule == NO_RULE {
            table.masquerade.packets += 1;
            table.masquerade.bytes += bytes;
        } else if let Some(counts) = table.forwards.counts_mut(rule) {
            counts.packets += 1;
            counts.bytes += bytes;
        }
        Ok(())
    }

    /// N36: RFC 7857 2.2, a session that was reset lives four minutes from then on; but no longer than it would have anyway (N53).
    fn end_by_reset<A: Family>(&mut self, position: u32, before: Phase, now: Time) {
        let timeouts = self.config.timeouts;
        if let Some((_, _, seen)) = A::table_mut(self).sessions.at_mut(position) {
            let end = seen.after(Class::of(before).timeout(&timeouts)).nanos();
            let reset = u64::try_from(timeouts.tcp_reset.as_nanos()).unwrap_or(u64::MAX);
            *seen = now.min(Time::from_nanos(end.saturating_sub(reset)));
        }
    }

    /// Whether there is anything that ages.
    #[must_use]
    pub fn is_ageing(&self) -> bool {
        let (four, six) = (&self.v4, &self.v6);
        !(four.sessions.is_empty() && six.sessions.is_empty() && four.mappings.is_empty() && six.mappings.is_empty())
    }

    /// Takes up a session of another process, as [`crate::session::Sessions::page`] gave it there. `false` when it cannot be: a tuple is known, or the table is full.
    pub fn adopt<A: Family>(&mut self, stations: &mut Stations, original: Tuple<A>, session: Session<A>, seen: Time) -> bool {
        let table = A::table_mut(self);
        for tuple in [&original, &session.reply] {
            table.vacate(stations, tuple, seen);
        }
        if table.sessions.len() == table.sessions.capacity() {
            return false;
        }
        if session.is_mapped {
            let external = session.external(&original);
            let inside = if session.from_outside { session.reply.source() } else { original.source() };
            if table.mappings.get(&external).is_none_or(|mapping| mapping.inside != inside)
                && !table.mappings.insert(external, inside, session.owner, seen)
            {
                return false;
            }
        }
        self.enter(stations, original, session, seen).is_some()
    }

    /// Ends what has been idle for too long and frees what is dead; `budget` looks of each kind. Says whether there may be more.
    pub fn tick(&mut self, stations: &mut Stations, now: Time, budget: u32) -> bool {
        let four = self.tick_family::<Ipv4Addr>(stations, now, budget);
        let six = self.tick_family::<Ipv6Addr>(stations, now, budget);
        four || six
    }

    fn tick_family<A: Family>(&mut self, stations: &mut Stations, now: Time, budget: u32) -> bool {
        let timeouts = self.config.timeouts;
        let Table { sessions, mappings, permits, .. } = A::table_mut(self);
        let mut ended = 0;
        let mut ledger = Ledger { mappings: &mut *mappings, permits, stations };
        let mut more = sessions.expire(&timeouts, now, budget, |original, session| {
            ended += 1;
            ledger.ended(&original, &session, now);
        });
        if sessions.is_sweeping() {
            let mut stale = Vec::new();
            sessions.sweep(
                budget,
                |_, session| !ledger.stations.is_current(session.owner),
                |original, session| stale.push((original, session)),
            );
            ended += stale.len() as u64;
            for (original, session) in &stale {
                ledger.ended(original, session, now);
            }
        }
        more |= sessions.is_sweeping();
        more |= mappings.expire(timeouts.port_hold, now, budget);
        self.counts.ended += ended;
        more
    }
}

/// N37, N38: a SYN on a connection that is over begins another.
fn reopens<A: Address>(phase: Phase, p: &Packet<A>) -> bool {
    phase.is_over() && matches!(p.transport(), Transport::Tcp(segment) if segment.has(tcp::SYN) && !segment.has(tcp::ACK))
}
