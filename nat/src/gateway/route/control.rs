//! What the control plane and the clock ask of a gateway that routes: the uplink set and taken away, stations that go, timers.
use super::*;

impl Gateway {
    /// Gives up one frame of those that wait.
    pub fn abandon(&mut self) -> Option<FrameBuf> {
        if let Some(exchange) = &mut self.exchange {
            let reassembly = &mut exchange.reassembly;
            return reassembly.spare().or_else(|| reassembly.expire(Time::from_nanos(u64::MAX)));
        }
        let uplink = self.uplink.as_deref_mut()?;
        let forever = Time::from_nanos(u64::MAX);
        let cutting = uplink.cutting.pop_front().map(|(_, fragmenter)| fragmenter.into_frame());
        cutting
            .or_else(|| uplink.v4.expire(forever).map(Packet::into_frame))
            .or_else(|| uplink.v6.expire(forever).map(Packet::into_frame))
            .or_else(|| uplink.wan.abandon())
    }

    /// Frames that wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.uplink.as_deref().map_or(0, Uplink::held) + self.exchange.as_deref().map_or(0, |exchange| exchange.reassembly.held())
    }

    /// What became of the uplink's default routers since the last call.
    pub fn router_news(&mut self) -> Option<crate::wan::reach::RouterNews> {
        self.uplink.as_deref_mut()?.wan.router_news()
    }

    /// When [`Gateway::poll_output`], or the sockets, will have something, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        if self.dhcp.has_answers() {
            return Some(Time::ZERO);
        }
        [self.advert_deadline(), self.uplink_deadline()].into_iter().flatten().min()
    }

    fn uplink_deadline(&self) -> Option<Time> {
        let asked = if self.names.has_work() { Some(Time::ZERO) } else { self.names.deadline() };
        if let Some(exchange) = &self.exchange {
            let deadlines = [exchange.flows.deadline(), exchange.reassembly.deadline(), asked];
            return deadlines.into_iter().flatten().min();
        }
        let Some(uplink) = self.uplink.as_deref() else { return asked };
        // What is ready and waits for buffers only.
        let ready = (!uplink.cutting.is_empty() || !uplink.releasing.is_empty()).then_some(Time::ZERO);
        let dhcp = uplink.dhcp.as_ref().map(|dhcp| dhcp.due);
        [ready, dhcp, asked, uplink.v4.deadline(), uplink.v6.deadline(), uplink.wan.deadline()].into_iter().flatten().min()
    }

    /// Ends what has been idle for too long, `budget` looks of each kind; says whether there may be more.
    pub fn tick(&mut self, now: Time, budget: u32) -> bool {
        self.stations.tick(now, budget);
        self.uplink.as_deref_mut().is_some_and(|uplink| uplink.nat.tick(&mut self.stations, now, budget))
    }

    /// Whether there is anything that ages.
    #[must_use]
    pub fn needs_tick(&self) -> bool {
        self.uplink.as_deref().is_some_and(|uplink| uplink.nat.is_ageing())
            || self.exchange.as_deref().is_some_and(|exchange| !exchange.datagrams.is_empty())
    }

    /// A port is gone: its station and all that it had are dead.
    pub fn forget(&mut self, port: u16) {
        self.stations.remove(port);
        self.dhcp.forget(port);
        if let Some(uplink) = &mut self.uplink {
            uplink.nat.begin_sweep();
        }
    }

    /// Ends a station's sessions, at once.
    pub fn flush(&mut self, port: u16) {
        self.stations.flush(port);
        if let Some(uplink) = &mut self.uplink {
            uplink.nat.begin_sweep();
        }
    }

    /// The uplink, if there is one.
    #[must_use]
    pub fn uplink(&self) -> Option<&Uplink> {
        self.uplink.as_deref()
    }

    /// The uplink, to be changed, and the stations with it.
    pub fn uplink_mut(&mut self) -> Option<(&mut Uplink, &mut crate::station::Stations)> {
        self.uplink.as_deref_mut().map(|uplink| (uplink, &mut self.stations))
    }

    /// Sets the uplink, or its addresses: sessions of addresses that stay go on. `nat` counts only where there was none.
    pub fn set_uplink(&mut self, nat: NatConfig, wan: WanConfig, now: Time) {
        let key = self.key;
        let uplink = self.uplink.get_or_insert_with(|| Box::new(Uplink::new(nat, wan.clone(), key, now)));
        uplink.wan.forget_link(now);
        self.readdress(wan, now);
    }

    /// Gives the uplink that there is other addresses.
    pub(super) fn readdress(&mut self, wan: WanConfig, now: Time) {
        let Some(uplink) = self.uplink.as_deref_mut() else { return };
        let externals =
            (wan.v4.iter().map(|(address, _)| *address).collect(), wan.v6.iter().map(|(address, _)| *address).collect());
        uplink.wan.set_config(wan, now);
        let aliases = self.config.v6.map(|v6| v6.address);
        uplink.nat.set_addresses::<Ipv4Addr>(&mut self.stations, externals.0, vec![self.config.address], now);
        uplink.nat.set_addresses::<Ipv6Addr>(&mut self.stations, externals.1, aliases.into_iter().collect(), now);
    }

    /// Takes the uplink away with all its sessions and published ports. Frames that wait have to be given up before
    /// ([`Gateway::abandon`]).
    pub fn clear_uplink(&mut self) {
        self.flush_all();
        self.uplink = None;
    }

    /// Makes all that stations have dead.
    pub fn flush_all(&mut self) {
        let ports: vec::Vec<u16> = self.stations.iter().map(|(port, _)| port).collect();
        for port in ports {
            self.stations.flush(port);
        }
    }
}
