//! What has to change of reserved addresses.
//!
//! What the file keeps for somebody else than is so now is kept for nobody before anything is detached, and reserved before anything is
//! attached: so a container of the file gets the one that is kept for it, and one that has it and may have another leaves it. A reservation
//! that is not in the file stays, unless `prune`, or its holder has another in the file.
use super::*;
use crate::api::leases::Leased;
use crate::config::reservations::{ReserveEntry, is_holder};
use crate::errors::NameProblem;
use vswitch_nat::ipam::RESERVATIONS;
use vswitch_switch::UnicastMac;

/// Reservations as they are to be, and the way there.
#[derive(Default)]
pub(super) struct Reservations<'a> {
    /// Before containers are detached.
    pub before: Vec<Change>,
    /// Those of the file that are not yet.
    new: Vec<&'a ReserveEntry>,
    all: BTreeMap<Ipv4Addr, &'a str>,
}

impl<'a> Reservations<'a> {
    pub fn of(config: &'a Config, running: Option<&'a Running>, prune: bool) -> Result<Self> {
        let mut reservations = Self::default();
        let wanted: BTreeMap<Ipv4Addr, &ReserveEntry> = config.reserved.iter().map(|entry| (entry.address, entry)).collect();
        let has_another: HashMap<&str, Ipv4Addr> =
            config.reserved.iter().map(|entry| (entry.holder.as_str(), entry.address)).collect();
        for (address, holder) in running.iter().flat_map(|running| &running.reserved) {
            let why = match (wanted.get(address), has_another.get(holder.as_str())) {
                (Some(entry), _) if entry.holder == *holder => None,
                (Some(_), _) => Some("other in the file".into()),
                (None, Some(other)) => Some(format!("{holder} has {other} in the file")),
                (None, None) => prune.then(|| "not in the file".into()),
            };
            match why {
                Some(why) => reservations.before.push(Change::Unreserve { address: *address, why }),
                None => drop(reservations.all.insert(*address, holder)),
            }
        }
        for entry in &config.reserved {
            if reservations.all.insert(entry.address, &entry.holder).is_none() {
                reservations.new.push(entry);
            }
            if reservations.all.len() > RESERVATIONS {
                return Err(config.error(entry.place, NameProblem::ReserveFull));
            }
        }
        Ok(reservations)
    }

    /// Who an address is kept for, if that is another than who has this name and hardware address.
    pub fn other(&self, address: Ipv4Addr, name: &str, mac: Option<UnicastMac>) -> Option<&'a str> {
        self.all.get(&address).copied().filter(|holder| !is_holder(holder, name, mac))
    }

    /// Before containers are attached.
    pub fn after(&self) -> impl Iterator<Item = Change> {
        self.new.iter().map(|entry| Change::Reserve { address: entry.address, holder: entry.holder.clone() })
    }

    /// Refuses what the daemon would refuse in the midst of the changes; `staying` is attached all the while.
    pub fn judge(&self, config: &Config, network: Option<Network>, staying: &[&Container], leased: &[Leased]) -> Result<()> {
        for entry in &self.new {
            if let Some(network) = network {
                network.check(entry.address).map_err(|error| config.error(entry.place, error))?;
            }
            let is_another = |container: &&&Container| {
                container.ip == entry.address && !is_holder(&entry.holder, &container.name, container.mac.parse().ok())
            };
            if let Some(other) = staying.iter().find(is_another) {
                return Err(config.error(entry.place, ConfigProblem::Attached { what: "address", other: other.name.clone() }));
            }
            let is_taken = |lease: &&Leased| {
                let is_behind = staying.iter().any(|container| container.name == lease.container);
                is_behind && lease.address == entry.address && lease.mac != entry.holder
            };
            if let Some(lease) = leased.iter().find(is_taken) {
                let problem = NameProblem::ReserveTaken { ip: entry.address, at: lease.mac.clone() };
                return Err(config.error(entry.place, problem));
            }
        }
        Ok(())
    }

    /// Refuses a container's address, which the file says, where it is kept for another.
    pub fn judge_attach(&self, config: &Config, entry: &Entry, wanted: &Wanted) -> Result<()> {
        if let Some(ip) = wanted.ip
            && let Some(holder) = self.other(ip, &wanted.name, wanted.mac)
        {
            return Err(config.error(entry.ip, NameProblem::IpReserved { ip, holder: holder.into() }));
        }
        Ok(())
    }
}
