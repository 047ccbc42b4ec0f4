//! Ports come and go, and what is counted: for the control plane, between breaths.
//!
//! A port that goes takes its waiting frames and floods with it, each a counted drop, and leaves its counters in the totals.
use super::*;
use crate::counters::Carried;
use vswitch_nat::Gateway;

/// Breaths that settling takes at the most: all floods that may wait, to all ports.
const SETTLE_BREATHS: usize = 8_192;

impl Datapath {
    /// Plugs a port in.
    ///
    /// # Errors
    /// See [`Switch::add_port`]; the port is given back.
    pub fn add_port(&mut self, port: Port, config: PortConfig, mtu: u16) -> Result<PortId, (Port, PortError)> {
        let id = match self.switch.add_port(config) {
            Ok(id) => id,
            Err(error) => return Err((port, error)),
        };
        self.plug(id, port, mtu);
        Ok(id)
    }

    /// Plugs a port in that another process had, under its number. Its counters come with
    /// [`Datapath::adopt`].
    ///
    /// # Errors
    /// See [`Switch::add_port_at`]; the port is given back.
    pub fn adopt_port(&mut self, id: PortId, port: Port, config: PortConfig, mtu: u16) -> Result<(), (Port, PortError)> {
        if let Err(error) = self.switch.add_port_at(id, config) {
            return Err((port, error));
        }
        self.plug(id, port, mtu);
        Ok(())
    }

    fn plug(&mut self, id: PortId, port: Port, mtu: u16) {
        if self.ports.len() <= id.index() {
            self.ports.resize_with(id.index() + 1, || None);
        }
        if let Some(slot) = self.ports.get_mut(id.index()) {
            let counters = PortCounters::default();
            // Reserved here: nothing is allocated while frames move.
            let backlog = VecDeque::with_capacity(BATCH);
            *slot = Some(Box::new(Attached { port, mtu, counters, backlog, place: None, floods: 0, unknown: 0, capture: None }));
        }
    }

    /// Plugs the uplink in, in place of the one there was, which is given back to be closed. `mtu` is its interface's.
    pub fn set_uplink(&mut self, port: Option<Port>, mtu: u16) -> Option<Port> {
        let before = self.remove_uplink();
        if let Some(port) = port {
            self.plug(PortId::UPLINK, port, mtu);
        }
        before
    }

    /// Whether there is an uplink whose interface is down or gone.
    #[must_use]
    pub fn uplink_is_down(&self) -> bool {
        self.attached(PortId::UPLINK).is_some_and(|attached| attached.port.is_down())
    }

    /// Looks whether the uplink's interface is back; if so it is told our addresses. Says whether it is.
    pub fn revive_uplink(&mut self, now: Time) -> bool {
        let is_back = match self.ports.get_mut(PortId::UPLINK.index()) {
            Some(Some(attached)) => match &mut attached.port {
                Port::Packet(socket) => socket.revive(),
                Port::Tap(_) | Port::Memory(_) => false,
            },
            Some(None) | None => false,
        };
        if is_back && let Some((uplink, _)) = self.gateway.as_mut().and_then(Gateway::uplink_mut) {
            uplink.link_is_back(now);
        }
        is_back
    }

    fn remove_uplink(&mut self) -> Option<Port> {
        let before = (self.closed.rx_frames, self.closed.tx_frames);
        let port = self.remove_port(PortId::UPLINK);
        // Among the ports' totals it would count as one of them.
        self.closed_uplinks.0 += self.closed.rx_frames - before.0;
        self.closed_uplinks.1 += self.closed.tx_frames - before.1;
        (self.closed.rx_frames, self.closed.tx_frames) = before;
        port
    }

    /// Gives up what waits in the gateway, each a counted drop: for a gateway that loses its uplink, or a process that ends.
    pub fn abandon_held(&mut self) {
        while let Some(frame) = self.gateway.as_mut().and_then(Gateway::abandon) {
            self.drop_frame(PortId::GATEWAY, frame, DropReason::PortGone);
        }
    }

    /// Lets all frames that wait go where they are to go; what waits for others in the gateway is given up. Reads nothing.
    pub fn settle(&mut self, now: Time) {
        // Bounded: what waits can make floods, but nothing that waits longer than these.
        for _ in 0..SETTLE_BREATHS {
            self.begin(now);
            self.flush_sockets(now);
            let mut waits = self.is_flooding();
            for id in (0..MAX_PORTS).filter_map(PortId::new) {
                while let Some(frame) = self.ports.get_mut(id.index()).and_then(|port| {
                    let attached = port.as_mut().filter(|attached| attached.unknown == 0)?;
                    attached.backlog.pop_front()
                }) {
                    self.from_port(id, frame, now);
                }
                waits |= self.attached(id).is_some_and(|attached| !attached.backlog.is_empty());
            }
            waits |= self.drain_gateway(now);
            self.exhale();
            if !waits && !self.is_flooding() {
                break;
            }
        }
        self.abandon_held();
    }

    /// Has the gateway say its last, to all ports.
    pub fn cease(&mut self, now: Time) {
        let last = self.gateway.as_mut().and_then(|gateway| gateway.cease(&mut self.pool));
        if let Some(routed) = last {
            self.begin(now);
            self.routed(PortId::GATEWAY, routed, now);
            // Bounded: each breath sends its copies.
            for _ in 0..SETTLE_BREATHS {
                self.exhale();
                if !self.is_flooding() {
                    break;
                }
                self.begin(now);
            }
        }
    }

    /// What another process is to go on with.
    #[must_use]
    pub fn carried(&self) -> Carried {
        let (generated, copied, consumed) = (self.generated, self.copied, self.consumed);
        Carried { closed: self.closed, gateway: self.gateway_counters, uplinks: self.closed_uplinks, generated, copied, consumed }
    }

    /// Goes on where another process ended: its counters, and those of its ports.
    pub fn adopt(&mut self, carried: &Carried, ports: &[(PortId, PortCounters)]) {
        (self.closed, self.gateway_counters, self.closed_uplinks) = (carried.closed, carried.gateway, carried.uplinks);
        (self.generated, self.copied, self.consumed) = (carried.generated, carried.copied, carried.consumed);
        for (id, counters) in ports {
            match self.ports.get_mut(id.index()) {
                Some(Some(attached)) => attached.counters = *counters,
                // It went meanwhile.
                Some(None) | None => merge(&mut self.closed, counters),
            }
        }
    }

    /// Unplugs a port and gives it back to be closed; its counters go on in the totals.
    pub fn remove_port(&mut self, id: PortId) -> Option<Port> {
        self.flush(id);
        self.dirty.retain(|&dirty| dirty != id);
        let mut attached = self.ports.get_mut(id.index())?.take()?;
        self.switch.remove_port(id);
        if let Port::Packet(PacketSocket { queue, .. }) = &mut attached.port {
            for (frame, _) in queue.drain(..) {
                attached.counters.drops.count(DropReason::PortGone);
                release_slot(&mut self.arena, &mut self.arena_free, &mut self.pool, frame);
            }
        }
        for frame in attached.backlog.drain(..) {
            attached.counters.drops.count(DropReason::PortGone);
            self.pool.put(frame);
        }
        // Its number may be given to another: a flood of it that waits ends here.
        for _ in 0..self.floods.len() {
            if let Some(waiting) = self.floods.pop_front() {
                if waiting.flood.ingress() == id { self.end_flood(&waiting) } else { self.floods.push_back(waiting) }
            }
        }
        merge(&mut self.closed, &attached.counters);
        Some(attached.port)
    }

    /// Changes a port's configuration and MTU.
    ///
    /// # Errors
    /// See [`Switch::set_port`].
    pub fn set_port(&mut self, id: PortId, config: PortConfig, mtu: u16) -> Result<(), PortError> {
        self.switch.set_port(id, config)?;
        if let Some(Some(attached)) = self.ports.get_mut(id.index()) {
            attached.mtu = mtu;
        }
        Ok(())
    }

    /// Starts a mirror; gives it back where there is no such port, or one that has a mirror.
    ///
    /// # Errors
    /// The mirror, unused.
    pub fn start_capture(&mut self, id: PortId, capture: Capture) -> Result<(), Capture> {
        match self.ports.get_mut(id.index()) {
            Some(Some(attached)) if attached.capture.is_none() => {
                attached.capture = Some(capture);
                Ok(())
            }
            Some(_) | None => Err(capture),
        }
    }

    /// Ends a port's mirror, if it has one.
    pub fn end_capture(&mut self, id: PortId) -> Option<Capture> {
        self.ports.get_mut(id.index())?.as_mut()?.capture.take()
    }

    /// All ports but the gateway's.
    pub fn port_ids(&self) -> impl Iterator<Item = PortId> + '_ {
        (0..MAX_PORTS).filter_map(PortId::new).zip(&self.ports).filter(|(_, port)| port.is_some()).map(|(id, _)| id)
    }

    /// A port, to wait for it.
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.attached(id).map(|attached| &attached.port)
    }

    /// A memory port's queues.
    pub fn memory(&mut self, id: PortId) -> Option<&mut MemoryPort> {
        match &mut self.ports.get_mut(id.index())?.as_mut()?.port {
            Port::Memory(memory) => Some(memory),
            Port::Tap(_) | Port::Packet(_) => None,
        }
    }

    /// Buffers that are out; zero between breaths unless frames are held.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.pool.outstanding()
    }

    /// Of ports, the gateway's drops and the uplink's included.
    fn totals(&self) -> PortCounters {
        let mut all = self.closed;
        for attached in self.ports.iter().flatten() {
            merge(&mut all, &attached.counters);
        }
        all.drops.merge(&self.gateway_counters.drops);
        all
    }

    /// The law's terms, now.
    #[must_use]
    pub fn accounts(&self) -> Accounts {
        let all = self.totals();
        let queued: u64 = self.ports.iter().flatten().map(|attached| attached.backlog.len() as u64 + attached.queued()).sum();
        let floods: u64 = self.floods.iter().map(|waiting| u64::from(waiting.flood.copies().saturating_sub(waiting.sent))).sum();
        let over: u64 = self.floods.iter().map(|waiting| u64::from(waiting.sent.saturating_sub(waiting.flood.copies()))).sum();
        let uplink = self.attached(PortId::UPLINK).map(|attached| attached.counters).unwrap_or_default();
        let gateway = self.gateway.as_ref().map_or(0, Gateway::held) as u64;
        Accounts {
            rx: all.rx_frames - uplink.rx_frames,
            from_uplink: self.closed_uplinks.0 + uplink.rx_frames,
            generated: self.generated,
            copied: self.copied + over,
            tx: all.tx_frames - uplink.tx_frames,
            to_uplink: self.closed_uplinks.1 + uplink.tx_frames,
            consumed: self.consumed,
            held: queued + floods + gateway + self.sockets.as_ref().map_or(0, |sockets| sockets.held()) as u64,
            dropped: all.drops.total(),
        }
    }

    /// A snapshot of everything counted.
    pub fn stats(&mut self) -> Stats {
        let (accounts, drops): (Accounts, DropCounts) = (self.accounts(), self.totals().drops);
        let gateway = PortStats {
            kind: "gateway",
            mtu: u16::MAX,
            counters: self.gateway_counters,
            kernel_drops: 0,
            fdb_entries: self.switch.fdb().port_len(PortId::GATEWAY),
            blocked: false,
            offload: 0,
        };
        let mut ports = vec![(PortId::GATEWAY, gateway)];
        let ids = (0..MAX_PORTS).filter_map(PortId::new).chain([PortId::UPLINK]);
        for (id, attached) in ids.zip(&mut self.ports) {
            let Some(attached) = attached else { continue };
            let kernel_drops = match &mut attached.port {
                Port::Packet(socket) => socket.kernel_drops(),
                Port::Tap(_) | Port::Memory(_) => 0,
            };
            let stats = PortStats {
                kind: if id == PortId::UPLINK { "uplink" } else { attached.port.kind() },
                mtu: attached.mtu,
                counters: attached.counters,
                kernel_drops,
                fdb_entries: self.switch.fdb().port_len(id),
                blocked: self.switch.is_blocked(id),
                offload: attached.port.offload(),
            };
            ports.push((id, stats));
        }
        let fdb = self.switch.fdb();
        Stats {
            accounts,
            ports,
            drops,
            fdb_entries: fdb.len(),
            fdb_capacity: fdb.capacity(),
            fdb_evicted: fdb.evicted(),
            ageing: fdb.ageing(),
            group_forward: self.switch.config().group_forward,
            groups: self.switch.groups().len(),
            groups_full: self.switch.groups().full(),
            events_lost: self.switch.events_lost(),
            read: Vec::new(),
        }
    }
}

fn merge(into: &mut PortCounters, from: &PortCounters) {
    into.rx_frames += from.rx_frames;
    into.rx_bytes += from.rx_bytes;
    into.tx_frames += from.tx_frames;
    into.tx_bytes += from.tx_bytes;
    into.drops.merge(&from.drops);
}
