//! Sessions to be begun: which external endpoint, which backend, and room for one more.
use super::*;

/// A session to be begun.
pub(super) struct Plan<A> {
    pub(super) reply: Tuple<A>,
    pub(super) phase: Phase,
    pub(super) owner: Owner,
    from_outside: bool,
    is_mapped: bool,
    pub(super) rule: RuleId,
}

impl Nat {
    /// The phase of a session that a packet from inside begins.
    pub(super) fn opening<A: Address>(&self, p: &Packet<A>) -> Result<Phase, DropReason> {
        match p.transport() {
            Transport::Tcp(segment) if segment.has(tcp::SYN) && !segment.has(tcp::ACK) && !segment.has(tcp::RST) => {
                Ok(Phase::TcpOpening)
            }
            // N33: after a loss of state, in their midst.
            Transport::Tcp(segment) if self.config.loose && !segment.has(tcp::SYN) && !segment.has(tcp::RST) => {
                Ok(midstream(&segment))
            }
            Transport::Udp => Ok(if SHORT_PORTS.contains(&p.tuple().dport) { Phase::UdpShort } else { Phase::UdpOpening }),
            Transport::Echo { request: true } => Ok(Phase::Icmp),
            // ICMP that is neither query nor error has no business beyond its link (N50: neighbour discovery, redirects).
            Transport::Other if p.tuple().protocol != A::ICMP => Ok(Phase::Other),
            Transport::Tcp(_) | Transport::Echo { request: false } | Transport::Other | Transport::Error | Transport::Absent => {
                Err(DropReason::NatState)
            }
        }
    }

    pub(super) fn plan_outbound<A: Family>(
        &mut self,
        stations: &mut Stations,
        tuple: &Tuple<A>,
        phase: Phase,
        port: u16,
        now: Time,
    ) -> Result<Plan<A>, DropReason> {
        let mode = self.config.mapping(tuple.protocol);
        let owner = stations.owner(port);
        let (external, is_mapped) = match mode {
            Some(MappingMode::EndpointIndependent) => (self.map_endpoint(stations, tuple.source(), owner, now)?, true),
            Some(MappingMode::AddressAndPortDependent) | None => (self.share_endpoint(stations, tuple, now)?, false),
        };
        let reply =
            Tuple { src: tuple.dst, sport: tuple.dport, dst: external.address, dport: external.port, protocol: tuple.protocol };
        if is_mapped {
            match A::table(self).occupancy(stations, &reply) {
                Occupancy::Free => {}
                Occupancy::Over => A::table_mut(self).vacate(stations, &reply, now),
                Occupancy::Taken => return Err(DropReason::NatPorts),
            }
        }
        Ok(Plan { reply, phase, owner, from_outside: false, is_mapped, rule: NO_RULE })
    }

    /// The external endpoint that stands for an inside one towards everybody.
    fn map_endpoint<A: Family>(
        &mut self,
        stations: &Stations,
        inside: Endpoint<A>,
        owner: Owner,
        now: Time,
    ) -> Result<Endpoint<A>, DropReason> {
        let policy = self.config.ports;
        let mut random = self.random;
        let table = A::table_mut(self);
        if let Some(external) = table.mappings.of_inside(&inside) {
            if table.externals.contains(&external.address)
                && table.forwards.find(external.protocol, external.address, external.port).is_none()
            {
                return Ok(external);
            }
            table.mappings.retire(&external);
        }
        if !stations.may_have_port(owner.port) {
            return Err(DropReason::NatQuota);
        }
        let address = table.pool_address(inside.address).ok_or(DropReason::NoRoute)?;
        let chosen = ports::choose(&mut random, inside.port, policy, |port| {
            let external = Endpoint { address, port, protocol: inside.protocol };
            if table.forwards.find(external.protocol, address, port).is_some() {
                Occupancy::Taken
            } else if table.mappings.get(&external).is_none() {
                Occupancy::Free
            } else if table.mappings.is_held(&external) {
                Occupancy::Over
            } else {
                Occupancy::Taken
            }
        });
        let external = chosen.map(|Chosen { port, .. }| Endpoint { address, port, protocol: inside.protocol });
        let inserted = external.map(|external| table.mappings.insert(external, inside, owner, now));
        self.random = random;
        match (external, inserted) {
            (Some(external), Some(true)) => Ok(external),
            (Some(_), _) => Err(DropReason::NatFull),
            (None, _) => Err(DropReason::NatPorts),
        }
    }

    /// An external endpoint for one flow: others may have it too, towards other remotes (RFC 7857 3).
    fn share_endpoint<A: Family>(
        &mut self,
        stations: &mut Stations,
        tuple: &Tuple<A>,
        now: Time,
    ) -> Result<Endpoint<A>, DropReason> {
        let policy = self.config.ports;
        let mut random = self.random;
        let table = A::table_mut(self);
        let address = table.pool_address(tuple.src).ok_or(DropReason::NoRoute)?;
        let reply = |port| Tuple { src: tuple.dst, sport: tuple.dport, dst: address, dport: port, protocol: tuple.protocol };
        let occupancy = |port| {
            if table.forwards.find(tuple.protocol, address, port).is_some() {
                Occupancy::Taken
            } else {
                table.occupancy(stations, &reply(port))
            }
        };
        let chosen = if tuple.sport == 0 {
            // No port to tell two of them apart.
            match occupancy(0) {
                Occupancy::Free => Some(Chosen { port: 0, is_over: false }),
                Occupancy::Over => Some(Chosen { port: 0, is_over: true }),
                Occupancy::Taken => None,
            }
        } else {
            ports::choose(&mut random, tuple.sport, policy, occupancy)
        };
        if let Some(Chosen { port, is_over: true }) = chosen {
            table.vacate(stations, &reply(port), now);
        }
        self.random = random;
        chosen.map(|Chosen { port, .. }| Endpoint { address, port, protocol: tuple.protocol }).ok_or(DropReason::NatPorts)
    }

    pub(super) fn plan_inbound<A: Family>(
        &mut self,
        stations: &mut Stations,
        tuple: &Tuple<A>,
        p: &Packet<A>,
        now: Time,
    ) -> Result<Plan<A>, DropReason> {
        let phase = match p.transport() {
            Transport::Tcp(segment) if segment.has(tcp::SYN) && !segment.has(tcp::ACK) && !segment.has(tcp::RST) => {
                Phase::TcpOpening
            }
            Transport::Udp => Phase::UdpOpening,
            Transport::Echo { request: true } => Phase::Icmp,
            Transport::Tcp(_) | Transport::Echo { .. } | Transport::Error | Transport::Other | Transport::Absent => {
                return Err(DropReason::Unsolicited);
            }
        };
        let table = A::table_mut(self);
        if let Some(rule) = table.forwards.find(tuple.protocol, tuple.dst, tuple.dport) {
            let id = rule.id;
            if !rule.admits(tuple.src) {
                if let Some(counts) = table.forwards.counts_mut(id) {
                    counts.refused += 1;
                }
                return Err(DropReason::PublishFrom);
            }
            let backend = table.forwards.choose(rule, tuple).ok_or(DropReason::Unsolicited)?;
            // N66: a session to a container that is not there, or has another address now, would keep its client from the next one.
            if stations.way(backend.0.address).is_none_or(|way| way.owner != backend.0.owner) {
                return Err(DropReason::NoNeighbour);
            }
            return self.plan_published(stations, tuple, phase, id, backend, now);
        }
        let external = tuple.destination();
        let mapping =
            table.mappings.get(&external).filter(|mapping| mapping.sessions > 0).copied().ok_or(DropReason::Unsolicited)?;
        let admitted = match self.config.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => A::table(self).permits.contains_key(&permit(external, tuple.src)),
            Filtering::AddressAndPortDependent => false,
        };
        if !admitted || !stations.is_current(mapping.owner) {
            return Err(DropReason::Unsolicited);
        }
        let Endpoint { address, port, .. } = mapping.inside;
        let reply = Tuple { src: address, sport: port, dst: tuple.src, dport: tuple.sport, protocol: tuple.protocol };
        if A::table(self).sessions.has(&reply) {
            return Err(DropReason::NatPorts);
        }
        Ok(Plan { reply, phase, owner: mapping.owner, from_outside: true, is_mapped: true, rule: NO_RULE })
    }

    /// A session to a published port: the client keeps its address, and its port too unless another session has it.
    fn plan_published<A: Family>(
        &mut self,
        stations: &mut Stations,
        tuple: &Tuple<A>,
        phase: Phase,
        rule: RuleId,
        (backend, port): (Backend<A>, u16),
        now: Time,
    ) -> Result<Plan<A>, DropReason> {
        let mut random = self.random;
        let table = A::table_mut(self);
        let reply = |client| Tuple { src: backend.address, sport: port, dst: tuple.src, dport: client, protocol: tuple.protocol };
        let policy = PortPolicy { preserve: true, keep_class: false, keep_parity: false };
        let chosen = ports::choose(&mut random, tuple.sport, policy, |client| table.occupancy(stations, &reply(client)));
        if let Some(Chosen { port, is_over: true }) = chosen {
            table.vacate(stations, &reply(port), now);
        }
        self.random = random;
        let reply = reply(chosen.ok_or(DropReason::NatPorts)?.port);
        Ok(Plan { reply, phase, owner: stations.owner(backend.owner), from_outside: true, is_mapped: false, rule })
    }

    /// Makes room for one more session of an owner where there is none.
    pub(super) fn make_room<A: Family>(&mut self, stations: &mut Stations, owner: Owner, now: Time) -> Result<(), DropReason> {
        for _ in 0..OWN_RECLAIMED {
            if stations.may_have_session(owner.port) {
                break;
            }
            let table = A::table_mut(self);
            let Some(position) = table.sessions.reclaimable_of(owner) else { break };
            table.take_out(stations, position, now);
            self.counts.reclaimed += 1;
        }
        if !stations.may_have_session(owner.port) {
            return Err(DropReason::NatQuota);
        }
        if A::table(self).sessions.len() == A::table(self).sessions.capacity() {
            let position = A::table_mut(self).sessions.reclaimable(now).ok_or(DropReason::NatFull)?;
            A::table_mut(self).take_out(stations, position, now);
            self.counts.reclaimed += 1;
        }
        Ok(())
    }

    /// Enters a session, for which there is room.
    pub(super) fn begin<A: Family>(
        &mut self,
        stations: &mut Stations,
        original: Tuple<A>,
        plan: Plan<A>,
        now: Time,
    ) -> Result<u32, DropReason> {
        let Plan { reply, phase, owner, from_outside, is_mapped, rule } = plan;
        let session = Session {
            reply,
            owner,
            phase,
            from_outside,
            is_mapped,
            created: (now.nanos() / 1_000_000_000) as u32,
            rule,
            sides: Sides::default(),
            counts: [Count::default(); 2],
        };
        self.enter(stations, original, session, now).ok_or(DropReason::NatFull)
    }

    /// Puts a session into all tables it belongs to.
    pub(super) fn enter<A: Family>(
        &mut self,
        stations: &mut Stations,
        original: Tuple<A>,
        session: Session<A>,
        now: Time,
    ) -> Option<u32> {
        let remembers = self.config.filtering == Filtering::AddressDependent;
        let table = A::table_mut(self);
        let position = table.sessions.insert(original, session, now)?;
        if !session.phase.is_over() {
            stations.count_session(session.owner, 1);
        }
        if session.is_mapped {
            let external = session.external(&original);
            let before = table.mappings.hold(&external, session.owner, now);
            if before != Some(session.owner) {
                before.into_iter().for_each(|before| stations.count_port(before, -1));
                stations.count_port(session.owner, 1);
            }
            if remembers {
                *table.permits.entry(permit(external, session.remote(&original))).or_default() += 1;
            }
        }
        self.counts.begun += 1;
        Some(position)
    }
}
