//! Writes the state file when something changed: see [`crate::state`]. A file that cannot be written is logged once and tried again.
use super::outside::{Outside, Publication};
use super::registry::{Container, Registry};
use crate::api::leases::Addresses;
use crate::rundir::RunDir;
use crate::settings;
use crate::state::{self, INTERVAL, State};
use std::time::Instant;

pub struct Saver {
    dir: RunDir,
    network: state::Network,
    changed: bool,
    /// When it was written last, or could not be.
    tried: Option<Instant>,
    failing: bool,
    discarded: bool,
}

impl Saver {
    /// What has not been written once has changed: a daemon that was killed may have left its file.
    pub const fn new(dir: RunDir, network: state::Network) -> Self {
        Self { dir, network, changed: true, tried: None, failing: false, discarded: false }
    }

    /// Containers changed.
    pub const fn mark(&mut self) {
        self.changed = true;
    }

    /// The switch was set.
    pub fn set_switch(&mut self, set: &settings::SwitchSettings) {
        self.changed = true;
        self.network.spread = self.network.spread.set(set);
        if let Some(ageing) = set.ageing {
            self.network.ageing = ageing.as_secs();
        }
        if let Some(mask) = set.group_forward {
            self.network.group_forward = settings::group_list(mask);
        }
    }

    /// As it was set last.
    pub const fn spread(&self) -> settings::Spread {
        self.network.spread
    }

    /// How many workers there are.
    pub const fn workers(&self) -> settings::Workers {
        self.network.workers
    }

    /// When [`Saver::save`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.tried.filter(|_| self.changed).map(|tried| tried + INTERVAL)
    }

    /// Whether something is to be written.
    pub const fn has_changed(&self) -> bool {
        self.changed && !self.discarded
    }

    /// Whether it is to be written now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.has_changed() && self.deadline().is_none_or(|deadline| deadline <= now)
    }

    /// Writes what there is.
    pub fn save(&mut self, registry: &Registry, outside: &Outside, addresses: Addresses, now: Instant) {
        self.tried = Some(now);
        let mut state = State::new(self.network.clone());
        state.containers = registry.ready().map(container).collect();
        (state.uplink, state.sockets) = (outside.uplink.clone(), outside.sockets);
        state.published = outside.published.values().map(publish).collect();
        state.addresses = addresses;
        match state.write(&self.dir) {
            Ok(()) => (self.changed, self.failing) = (false, false),
            Err(error) => {
                if !self.failing {
                    tracing::warn!("cannot write {} ({error:#}): free space in its directory", self.dir.state().display());
                }
                self.failing = true;
            }
        }
    }

    /// Nothing is to be restored: the daemon was told to end.
    pub fn discard(&mut self) {
        self.discarded = true;
        let _ = std::fs::remove_file(self.dir.state());
    }
}

fn publish(publication: &Publication) -> state::Publish {
    state::Publish { spec: publication.spec.to_string(), names: publication.names.clone(), from: publication.from.clone() }
}

fn container(container: &Container) -> state::Container {
    state::Container {
        name: container.name.clone(),
        namespace: container.reach.spec().to_string(),
        started: container.reach.started(),
        r#type: container.kind,
        ip: container.ip,
        mac: container.mac.to_string(),
        mtu: container.mtu,
        ifname: container.ifname.to_string(),
        settings: settings::describe(&container.config),
    }
}

#[cfg(test)]
mod tests {
    use super::super::network::Network;
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    #[test]
    fn at_once_when_idle_and_then_once_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let dir = RunDir::at(dir.path().into());
        let registry = Registry::new(Network::parse("10.88.0.0/20", None).unwrap());
        let network = state::Network {
            subnet: "10.88.0.0/20".into(),
            gateway: Ipv4Addr::new(10, 88, 0, 1),
            ageing: 300,
            fdb_limit: 65_536,
            group_forward: "off".into(),
            ipv6: Default::default(),
            spread: settings::Spread::default(),
            workers: settings::Workers::default(),
        };
        let outside = Outside::default();
        let save = |saver: &mut Saver, now| {
            if saver.is_due(now) {
                saver.save(&registry, &outside, Addresses::default(), now);
            }
        };
        let mut saver = Saver::new(dir.clone(), network);
        let start = Instant::now();
        save(&mut saver, start);
        assert!(dir.state().exists() && saver.deadline().is_none());
        std::fs::remove_file(dir.state()).unwrap();
        save(&mut saver, start + INTERVAL * 2);
        assert!(!dir.state().exists(), "nothing changed");
        let set = settings::SwitchSettings {
            ageing: Some(Duration::from_secs(60)),
            group_forward: Some(0b101),
            suppress: Some(false),
            unregistered: None,
        };
        saver.set_switch(&set);
        assert_eq!(saver.deadline(), Some(start + INTERVAL));
        save(&mut saver, start + INTERVAL / 2);
        assert!(!dir.state().exists(), "too early");
        save(&mut saver, start + INTERVAL);
        let read = State::read(&dir).unwrap().unwrap();
        assert_eq!((read.network.ageing, read.network.group_forward.as_str()), (60, "0,2"));
        assert!(!read.network.spread.suppress);
        saver.discard();
        saver.mark();
        save(&mut saver, start + INTERVAL * 2);
        assert!(!dir.state().exists());
        // A directory that is gone is tried again, later.
        let mut saver = Saver::new(RunDir::at(dir.path().join("gone")), read.network);
        save(&mut saver, start);
        assert_eq!(saver.deadline(), Some(start + INTERVAL));
    }
}
