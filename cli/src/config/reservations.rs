//! The reserved addresses of a file.
//!
//! ```toml
//! [reservations]                           # as "reserve" takes them; one holder has one
//! "10.88.0.9" = "web"                      # a container's name, in the file or not
//! "10.88.0.10" = "52:54:00:00:00:01"       # or a hardware address
//! ```
use super::*;
use crate::daemon::holder;
use vswitch_nat::ipam::RESERVATIONS;

/// A reserved address of a file.
#[derive(Clone, Debug)]
pub struct ReserveEntry {
    pub address: Ipv4Addr,
    pub place: Place,
    /// In one way of writing.
    pub holder: String,
}

/// Whether a holder is who has this name and, if it is known, this hardware address.
pub fn is_holder(holder: &str, name: &str, mac: Option<UnicastMac>) -> bool {
    holder == name || mac.is_some_and(|mac| holder == mac.to_string())
}

impl Source<'_> {
    pub(super) fn reservations(&self, table: &DeTable<'_>) -> Result<Vec<ReserveEntry>> {
        let mut entries: Vec<ReserveEntry> = Vec::new();
        let mut seen: HashMap<String, (Ipv4Addr, Place)> = HashMap::new();
        for (key, value) in table {
            let place = self.place(key);
            let address = key.get_ref().parse();
            let address =
                address.map_err(|_| self.error(place, ConfigProblem::NoReservation { key: key.get_ref().to_string() }))?;
            let holder = holder(self.string(value)?).map_err(|error| self.error(self.place(value), error))?.to_string();
            if let Some((other, other_place)) = seen.insert(holder.clone(), (address, place)) {
                // Keys come in the order of the alphabet, the error is about what is written later.
                let (other, place) = if place > other_place { (other, place) } else { (address, other_place) };
                return Err(self.error(place, ConfigProblem::ReservedTwice { holder, other }));
            }
            if entries.len() >= RESERVATIONS {
                return Err(self.error(place, NameProblem::ReserveFull));
            }
            entries.push(ReserveEntry { address, place, holder });
        }
        Ok(entries)
    }

    /// Refuses a container whose address the file keeps for another.
    pub(super) fn no_ones_reserved(&self, config: &Config) -> Result<()> {
        for Entry { wanted, ip: place, .. } in &config.containers {
            let reserved = config.reserved.iter().find(|entry| Some(entry.address) == wanted.ip);
            if let Some(entry) = reserved.filter(|entry| !is_holder(&entry.holder, &wanted.name, wanted.mac)) {
                return Err(self.error(*place, ConfigProblem::ReservedFor { holder: entry.holder.clone() }));
            }
        }
        Ok(())
    }
}

/// The table that [`Source::reservations`] reads; none where there is nothing.
pub(super) fn write(reserved: &[(Ipv4Addr, String)]) -> String {
    if reserved.is_empty() {
        return String::new();
    }
    let lines = reserved.iter().map(|(address, holder)| format!("{} = {}\n", quoted(&address.to_string()), quoted(holder)));
    format!("\n[reservations]\n{}", lines.collect::<String>())
}
