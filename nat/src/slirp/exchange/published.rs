//! Published ports: whose a connection or a datagram is that came to a bound socket, and what went through.
use super::*;

impl Exchange {
    /// Publishes a range, in both families or none.
    ///
    /// # Errors
    /// See [`ForwardError`]; nothing has changed then.
    pub fn publish(&mut self, v4: Option<Rule<Ipv4Addr>>, v6: Option<Rule<Ipv6Addr>>) -> Result<(), ForwardError> {
        let id = v4.as_ref().map(|rule| rule.id);
        if let Some(rule) = v4 {
            self.v4.set(rule)?;
        }
        let set = v6.map_or(Ok(()), |rule| self.v6.set(rule));
        if let (Err(_), Some(id)) = (&set, id) {
            self.v4.remove(id);
        }
        set
    }

    /// Publishes a range no longer.
    pub fn unpublish(&mut self, id: RuleId) {
        self.v4.remove(id);
        self.v6.remove(id);
        self.ended.remove(&id.0);
        self.datagrams.ended.remove(&id.0);
    }

    /// The container that a client of a published port gets, its endpoint and its link's MTU; `None`, counted, where the client may not, or
    /// nobody is there.
    fn backend<A: Address>(
        forwards: &mut Forwards<A>,
        stations: &Stations,
        id: RuleId,
        (client, local, number): (SocketAddr, SocketAddr, u8),
    ) -> Option<(u16, SocketAddr, UnicastMac, u16)> {
        let tuple = Tuple {
            src: A::of(client.ip())?,
            dst: A::of(local.ip())?,
            sport: client.port(),
            dport: local.port(),
            protocol: number,
        };
        let rule = forwards.get(id)?;
        let chosen = if rule.admits(tuple.src) { forwards.choose(rule, &tuple) } else { None };
        let found = chosen.and_then(|(backend, port)| {
            let way = stations.way(backend.address)?;
            Some((backend.owner, SocketAddr::new(backend.address.into(), port), way.mac, way.mtu))
        });
        if let Some(counts) = forwards.counts_mut(id) {
            match found {
                Some(_) => counts.sessions += 1,
                None => counts.refused += 1,
            }
        }
        found
    }

    /// A client for whom there was a container, and no room.
    fn turned_away(&mut self, rule: u32, is_v6: bool) {
        let counts = if is_v6 { self.v6.counts_mut(RuleId(rule)) } else { self.v4.counts_mut(RuleId(rule)) };
        if let Some(counts) = counts {
            counts.sessions = counts.sessions.saturating_sub(1);
            counts.refused += 1;
        }
    }

    fn backend_of(
        &mut self,
        stations: &Stations,
        rule: u32,
        ends: (SocketAddr, SocketAddr, u8),
    ) -> Option<(u16, SocketAddr, UnicastMac, u16)> {
        if ends.0.is_ipv4() {
            Self::backend(&mut self.v4, stations, RuleId(rule), ends)
        } else {
            Self::backend(&mut self.v6, stations, RuleId(rule), ends)
        }
    }

    /// A client's endpoint as its container is to see it: its own, or with another port where that is in use with the container's already.
    fn free(&mut self, client: SocketAddr, is_taken: impl Fn(&Self, SocketAddr) -> bool) -> Option<SocketAddr> {
        let mut seen = client;
        for _ in 0..DRAWS {
            if !is_taken(self, seen) {
                return Some(seen);
            }
            seen.set_port((self.random.bits() as u16) | 1 << 15);
        }
        None
    }

    /// The host accepted a connection to a published port: the flow that was made for it, or `None` where it is refused.
    pub fn accepted(
        &mut self,
        stations: &mut Stations,
        config: &GatewayConfig,
        rule: u32,
        (client, local): (SocketAddr, SocketAddr),
        now: Time,
    ) -> Option<u32> {
        let (port, inside, mac, mtu) = self.backend_of(stations, rule, (client, local, protocol::TCP))?;
        if self.make_room(stations, port, true, now).is_err() {
            self.turned_away(rule, client.is_ipv6());
            return None;
        }
        let seen = Self::seen_as(config, client);
        let remote = self.free(seen, |it, remote| it.flows.find(inside, remote).is_some())?;
        let leave_out = if inside.is_ipv6() { headers::<Ipv6Addr>() } else { headers::<Ipv4Addr>() };
        let mut machine = Tcp::dial(self.sequence(), mtu.saturating_sub(leave_out), now);
        machine.delay_acks(ACK_DELAY);
        let (owner, link) = (stations.owner(port), Link { dst: mac, src: config.mac });
        let mut flow = Flow::new(owner, link, (inside, remote, client), machine, now);
        (flow.from_outside, flow.rule) = (true, rule);
        let slot = self.flows.insert(flow)?;
        stations.count_session(owner, 1);
        self.flows.is_due(slot);
        Some(slot)
    }

    /// A datagram to a published port, which came through the socket `slot`: its session, a new one if need be.
    pub fn arrived_published(
        &mut self,
        stations: &mut Stations,
        config: &GatewayConfig,
        (slot, rule): (u32, u32),
        (client, local, to): (SocketAddr, SocketAddr, Option<IpAddr>),
        octets: usize,
        now: Time,
    ) -> Option<(Ends, DatagramSession)> {
        if let Some(ends) = self.clients.get(&(slot, client, to)).copied() {
            if let Some(session) = self.datagrams.inbound(&ends, octets, now) {
                return Some((ends, session));
            }
            self.clients.remove(&(slot, client, to));
        }
        let (port, inside, mac, _) = self.backend_of(stations, rule, (client, local, protocol::UDP))?;
        let seen = Self::seen_as(config, client);
        let of = |remote| Ends { kind: Kind::Udp, inside, remote };
        let remote = self.free(seen, |it, remote| it.datagrams.contains(&of(remote)))?;
        let (owner, link) = (stations.owner(port), Link { dst: mac, src: config.mac });
        let created = (now.nanos() / 1_000_000_000) as u32;
        let via = Via::Published(slot, to);
        let session = DatagramSession { owner, link, via, dialed: client, rule, created, counts: Default::default() };
        let ends = of(remote);
        if !self.datagrams.publish(stations, ends, session, now) {
            self.turned_away(rule, client.is_ipv6());
            return None;
        }
        // Those of sessions that are over are cleared away when there are many.
        if self.clients.len() >= CLIENTS {
            let Self { clients, datagrams, .. } = self;
            clients.retain(|_, ends| datagrams.contains(ends));
        }
        self.clients.insert((slot, client, to), ends);
        let session = self.datagrams.inbound(&ends, octets, now)?;
        Some((ends, session))
    }

    /// A client of a published UDP port that another process knew.
    pub fn adopt_client(&mut self, slot: u32, (client, to): (SocketAddr, Option<IpAddr>), ends: Ends) {
        self.clients.insert((slot, client, to), ends);
    }

    /// What went through published ports, both ways, by rule, in sessions that are over.
    #[must_use]
    pub fn ended(&self) -> BTreeMap<u32, Count> {
        let mut ended = self.ended.clone();
        for (rule, count) in &self.datagrams.ended {
            add_through(&mut ended, *rule, [*count, Count::default()]);
        }
        ended
    }

    /// Goes on with what went through a published port before, and ended.
    pub fn add_ended(&mut self, rule: u32, count: Count) {
        add_through(&mut self.ended, rule, [count, Count::default()]);
    }

    /// What went through published ports, both ways, by rule: in sessions that are over and in those that are not.
    #[must_use]
    pub fn through(&self) -> BTreeMap<u32, Count> {
        let mut through = self.ended();
        for (_, flow) in self.flows.iter() {
            add_through(&mut through, flow.rule, flow.counts);
        }
        self.datagrams
            .page(0, super::super::datagrams::SESSIONS, |_, session, _| add_through(&mut through, session.rule, session.counts));
        through
    }
}
