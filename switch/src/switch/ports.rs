//! Ports come, change and go: the sets that [`Switch::forward`] reads are kept here, and nowhere else.
//!
//! A port is in the set of each VLAN that it carries, in the set of each class of flood that it takes, in that of its
//! split-horizon group, and its address, where it is guarded, among the owners. A change that is refused changes nothing.
use super::{Port, PortError, Switch};
use crate::mac::{Mac, UnicastMac};
use crate::port::{Guard, MAX_PORTS, PortConfig, PortId, PortSet};
use crate::storm::Storm;
use crate::time::Time;
use crate::vlan::Vid;
use alloc::boxed::Box;

impl Switch {
    /// Adds a port under the lowest free number.
    ///
    /// # Errors
    /// [`PortError::NoPort`] or [`PortError::MacTaken`]; nothing has changed then.
    pub fn add_port(&mut self, config: PortConfig) -> Result<PortId, PortError> {
        let number = (1..MAX_PORTS)
            .find(|&number| self.ports.get(usize::from(number)).is_none_or(Option::is_none))
            .ok_or(PortError::NoPort)?;
        let id = PortId::new(number).ok_or(PortError::NoPort)?;
        self.insert_port(id, config)?;
        Ok(id)
    }

    /// Adds a port under a number that it had in another process.
    ///
    /// # Errors
    /// [`PortError::Number`] when it is taken or the gateway's, [`PortError::MacTaken`]; nothing has changed then.
    pub fn add_port_at(&mut self, id: PortId, config: PortConfig) -> Result<(), PortError> {
        if id == PortId::GATEWAY || self.port(id).is_some() {
            return Err(PortError::Number);
        }
        self.insert_port(id, config)
    }

    pub(super) fn insert_port(&mut self, id: PortId, config: PortConfig) -> Result<(), PortError> {
        if let Guard::Bound(mac) = config.guard {
            self.bind(mac, id)?;
        }
        if self.ports.len() <= id.index() {
            self.ports.resize_with(id.index() + 1, || None);
        }
        self.enlist(id, &config);
        if let Some(slot) = self.ports.get_mut(id.index()) {
            let storm = Storm::new(config.storm);
            let told = super::events::Told::default();
            *slot =
                Some(Box::new(Port { config, storm, blocked_until: None, interval: Time::ZERO, floods: 0, probed: false, told }));
        }
        Ok(())
    }

    /// Makes a port the owner of an address, and forgets who used it before.
    fn bind(&mut self, mac: UnicastMac, id: PortId) -> Result<(), PortError> {
        if !self.owners.bind(mac, id) {
            return Err(PortError::MacTaken(mac));
        }
        // Only a VLAN that had members can hold an entry.
        for (vid, _) in (0u16..).zip(&self.members).filter(|(_, members)| members.is_some()) {
            if let Some(vid) = Vid::new(vid) {
                self.fdb.unlearn(vid, mac.mac());
            }
        }
        Ok(())
    }

    /// Puts a port into the sets that its configuration says.
    fn enlist(&mut self, id: PortId, config: &PortConfig) {
        let members = &mut self.members;
        config.vlan.for_each(|vid| {
            let vid = usize::from(vid.get());
            if members.len() <= vid {
                members.resize_with(vid + 1, || None);
            }
            if let Some(set) = members.get_mut(vid) {
                set.get_or_insert_default().insert(id);
            }
        });
        let takes = config.flood;
        for (takes, set) in [
            (takes.unknown, &mut self.takers.unknown),
            (takes.broadcast, &mut self.takers.broadcast),
            (takes.multicast, &mut self.takers.multicast),
        ] {
            if takes { set.insert(id) } else { set.remove(id) }
        }
        if let Some(group) = usize::from(config.group).checked_sub(1) {
            if self.groups.len() <= group {
                self.groups.resize_with(group + 1, PortSet::default);
            }
            if let Some(set) = self.groups.get_mut(group) {
                set.insert(id);
            }
        }
    }

    fn delist(&mut self, id: PortId) {
        for set in self.members.iter_mut().flatten() {
            set.remove(id);
        }
        for set in self.groups.iter_mut().chain([&mut self.takers.unknown, &mut self.takers.broadcast, &mut self.takers.multicast])
        {
            set.remove(id);
        }
    }

    /// Takes a port out: its addresses are forgotten at once (L04). The gateway stays. Says whether there was one.
    pub fn remove_port(&mut self, id: PortId) -> bool {
        if id == PortId::GATEWAY {
            return false;
        }
        let Some(port) = self.ports.get_mut(id.index()).and_then(Option::take) else {
            return false;
        };
        if let Guard::Bound(mac) = port.config.guard {
            self.owners.release(mac, id);
        }
        self.delist(id);
        self.blocked.remove(id);
        self.probes.retain(|&(probed, _)| probed != id);
        self.fdb.forget_port(id);
        self.multicast.forget_port(id);
        true
    }

    /// Changes a port's configuration. Learned addresses stay unless VLANs or the guard change.
    ///
    /// # Errors
    /// [`PortError::Number`] or [`PortError::MacTaken`]; nothing has changed then.
    pub fn set_port(&mut self, id: PortId, config: PortConfig) -> Result<(), PortError> {
        let old = self.port(id).map(|port| port.config.clone()).ok_or(PortError::Number)?;
        if old.guard != config.guard {
            if let Guard::Bound(mac) = config.guard {
                self.bind(mac, id)?;
            }
            if let Guard::Bound(mac) = old.guard {
                self.owners.release(mac, id);
            }
        }
        if old.guard != config.guard || old.vlan != config.vlan {
            self.fdb.flush(id);
            self.multicast.forget_port(id);
        }
        self.delist(id);
        self.enlist(id, &config);
        if let Some(Some(port)) = self.ports.get_mut(id.index()) {
            if old.storm != config.storm {
                port.storm = Storm::new(config.storm);
            }
            port.config = config;
        }
        Ok(())
    }

    /// The port that an address is bound to. Whoever was told of it on its owner's behalf may be the first to use it.
    #[cold]
    pub(super) fn bound(&self, vid: Vid, dst: Mac) -> Option<PortId> {
        let owner = self.owners.owner(UnicastMac::new(dst)?)?;
        self.port(owner).filter(|port| port.config.vlan.carries(vid)).map(|_| owner)
    }

    /// A port's configuration.
    #[must_use]
    pub fn port_config(&self, id: PortId) -> Option<&PortConfig> {
        self.port(id).map(|port| &port.config)
    }
}
